//! Histories of concurrent clients of the real binary, judged: strict serializability of what they
//! saw, while the gate between memory and disk is worked, and across `kill -9`.
//!
//! ```text
//! round        a new directory, one history
//!   life       start ─ 8 connections work, a nemesis disturbs ─ kill -9, or the clients stop
//!   …          what had no reply when the process died may have happened before it died, or never
//!   end        every key is read once more; the whole history is judged
//! ```
//!
//! Half of the connections work on registers (GET, SET, SETNX, GETSET, GETDEL, DEL, INCRBY, EXISTS,
//! WATCH … EXEC), half on lists (APPEND, GET, MGET, MSET, MULTI … EXEC, WATCH … EXEC). The server has
//! two event loops with connections all the time. The nemesis flushes, compacts, saves, changes
//! `appendfsync` and memtable sizes, turns the log off and on where nothing is killed, and closes the
//! connections of the others.
//!
//! Across kills every write is logged, so that whatever was acknowledged or read stays. In a life
//! without a kill some connections write without the log.
//!
//! `SLUICE_SECONDS` makes it longer, `SLUICE_SEED` repeats the choices (not the timing).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "another process lives in the real world: its time, its threads"
)]

mod common;

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::client::{Client, Reply};
use common::{Sluice, number, seed};
use sluice_histories::linear::Verdict;
use sluice_histories::list_load::{ListClient, Pool, SLOW};
use sluice_histories::lists::{self, Outcome, Transaction};
use sluice_histories::record::End;
use sluice_histories::register::{self, KeyOperation, Op};
use sluice_histories::register_load::RegisterClient;
use sluicedb::env::Rng;

/// Connections of each kind.
const CLIENTS: usize = 4;
const REGISTERS: u64 = 4;
/// Steps of all clients in one life: a few thousand operations on each key.
const STEPS_MAX: u64 = 6000;

/// What the kinds of connections ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acks {
    /// Everything is in the log: the history goes on after a kill.
    Logged,
    Any,
}

/// The history of a round.
#[derive(Default)]
struct History {
    registers: Mutex<Vec<KeyOperation>>,
    lists: Mutex<Vec<Transaction>>,
}

/// What a run has seen: a test that never meets a conflict shows nothing.
#[derive(Debug, Default)]
struct Seen {
    rounds: u64,
    lives: u64,
    register_operations: u64,
    transactions: u64,
    unknown: u64,
    swapped: u64,
    not_swapped: u64,
    aborted: u64,
}

struct Round<'a> {
    pool: &'a Pool,
    history: &'a History,
    processes: &'a AtomicU32,
    acks: Acks,
}

#[test]
fn p01_concurrent_histories_are_strictly_serializable() {
    run("alive", 1, Acks::Any);
}

#[test]
fn p02_histories_go_on_across_kill_9() {
    run("across kills", 4, Acks::Logged);
}

fn run(name: &str, lives_max: u64, acks: Acks) {
    let mut rng = Rng::new(seed());
    let began = Instant::now();
    let limit = Duration::from_secs(number("SLUICE_SECONDS", 4));
    let mut seen = Seen::default();
    while seen.rounds == 0 || began.elapsed() < limit {
        let lives = lives_max.min(1 + rng.below(lives_max + 1));
        round(lives, acks, &mut rng, &mut seen);
    }
    println!("{name}: {seen:?}");
    let met = seen.swapped > 0 && seen.not_swapped > 0 && seen.aborted > 0;
    assert!(met, "the load met no conflict");
    assert!(seen.unknown > 0, "no operation was interrupted");
}

fn round(lives: u64, acks: Acks, rng: &mut Rng, seen: &mut Seen) {
    let directory = tempfile::tempdir().unwrap();
    let (pool, history, processes) = (Pool::new(CLIENTS), History::default(), AtomicU32::new(1));
    let round = Round { pool: &pool, history: &history, processes: &processes, acks };
    for life in 0..lives {
        let arguments = arguments(rng);
        println!("round {} life {life}: {arguments:?}", seen.rounds);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let server = Sluice::start(directory.path(), &arguments);
        let mut client = server.client();
        assert_eq!(client.info("workers_active"), "2");
        assert_eq!(client.ask(&["SET", SLOW, &"ab".repeat(400)]).unwrap(), Reply::ok());
        let kills = life + 1 < lives;
        round.live(&server, kills, rng);
        if kills {
            server.kill();
            round.all_ended();
        } else {
            round.read_all(&server);
            assert_eq!(server.stop("-TERM").0.code(), Some(0));
        }
        seen.lives += 1;
    }
    seen.rounds += 1;
    judge(history, seen);
}

fn arguments(rng: &mut Rng) -> Vec<String> {
    let pick = |rng: &mut Rng, of: &[&str]| of[rng.below(of.len() as u64) as usize].to_owned();
    let line = format!(
        "--appendfsync {} --memtable-bytes {} --memtable-count {} --wal-segment-bytes 1mb \
         --memory-budget 64mb --memtable-wait-timeout -1 --workers 2",
        pick(rng, &["always", "everysec", "everysec", "no"]),
        pick(rng, &["64kb", "256kb", "64mb"]),
        pick(rng, &["2", "5"]),
    );
    line.split(' ').map(str::to_owned).collect()
}

impl Round<'_> {
    /// Everybody works until enough was done, and the server may be killed under them.
    fn live(&self, server: &Sluice, kills: bool, rng: &mut Rng) {
        let (steps, done) = (AtomicU64::new(0), AtomicBool::new(false));
        let target = 200 + rng.below(STEPS_MAX);
        // A life that ends with a kill ends under load: the clients go on until their connections die.
        let (enough, reached) = mpsc::sync_channel::<()>(1);
        let step = |outcome: io::Result<()>| {
            if steps.fetch_add(1, Ordering::Relaxed) + 1 == target {
                let _ = enough.try_send(());
            }
            outcome.is_ok()
        };
        let (address, step, done) = (&server.address, &step, &done);
        std::thread::scope(|scope| {
            for slot in 0..CLIENTS {
                let mut own = Rng::new(rng.next_u64());
                scope.spawn(move || {
                    while let (false, Some((client, process))) =
                        (done.load(Ordering::Relaxed), self.connect(address, &mut own))
                    {
                        let timeline = self.pool.timeline();
                        let mut client = RegisterClient::new(client, process, timeline, REGISTERS);
                        while !done.load(Ordering::Relaxed) && step(client.step(&mut own)) {}
                        self.history.registers.lock().unwrap().append(&mut client.history);
                    }
                });
                let mut own = Rng::new(rng.next_u64());
                scope.spawn(move || {
                    while let (false, Some((client, process))) =
                        (done.load(Ordering::Relaxed), self.connect(address, &mut own))
                    {
                        let mut client = ListClient::new(client, process, slot, self.pool);
                        while !done.load(Ordering::Relaxed) && step(client.step(&mut own)) {}
                        self.history.lists.lock().unwrap().append(&mut client.history);
                    }
                });
            }
            let mut rng = Rng::new(rng.next_u64());
            let acks = self.acks;
            scope.spawn(move || disturb(address, acks, done, &mut rng));
            // A hanging server ends the test here.
            let waited = reached.recv_timeout(Duration::from_secs(120));
            if kills {
                server.signal("-KILL");
            }
            done.store(true, Ordering::Relaxed);
            waited.expect("the server stopped answering");
        });
    }

    fn connect(&self, address: &str, rng: &mut Rng) -> Option<(Client, u32)> {
        let mut client = Client::connect(address).ok()?;
        let levels = match self.acks {
            Acks::Logged => &["DEFAULT", "OS", "DISK"][..],
            Acks::Any => &["DEFAULT", "OS", "DISK", "MEMORY"],
        };
        let level = levels[rng.below(levels.len() as u64) as usize];
        client.ask(&["CLIENT", "ACK", level]).ok()?;
        Some((client, self.processes.fetch_add(1, Ordering::Relaxed)))
    }

    /// The process is gone: what it has not done by now it will not do.
    fn all_ended(&self) {
        let moment = self.pool.timeline().now();
        let mut registers = self.history.registers.lock().unwrap();
        registers.iter_mut().for_each(|operation| operation.end.close(moment));
        let mut lists = self.history.lists.lock().unwrap();
        lists.iter_mut().for_each(|transaction| transaction.end.close(moment));
    }

    fn read_all(&self, server: &Sluice) {
        let process = || self.processes.fetch_add(1, Ordering::Relaxed);
        let timeline = self.pool.timeline();
        let mut client = RegisterClient::new(server.client(), process(), timeline, REGISTERS);
        client.read_all().unwrap();
        self.history.registers.lock().unwrap().append(&mut client.history);
        let mut client = ListClient::new(server.client(), process(), 0, self.pool);
        client.read_all().unwrap();
        self.history.lists.lock().unwrap().append(&mut client.history);
    }
}

/// Works the gate, and once in a while closes everybody's connection.
fn disturb(address: &str, acks: Acks, done: &AtomicBool, rng: &mut Rng) {
    let Ok(mut client) = Client::connect(address) else { return };
    while !done.load(Ordering::Relaxed) {
        // Across kills the log stays on.
        let kinds = if acks == Acks::Any { 16 } else { 14 };
        let command: &[&str] = match rng.below(kinds) {
            0..3 => &["FLUSHMEMTABLE"],
            3 => &["FLUSHMEMTABLE", "CF", "meta", "REPORT"],
            4 => &["COMPACT"],
            5 => &["BGSAVE"],
            6 => &["CONFIG", "SET", "appendfsync", "always"],
            7 => &["CONFIG", "SET", "appendfsync", "everysec"],
            8 => &["CONFIG", "SET", "appendfsync", "no"],
            9 => &["CONFIG", "SET", "memtable-bytes", "64kb"],
            10 => &["CONFIG", "SET", "memtable-bytes", "4mb"],
            11 => &["WAL", "SYNC"],
            12 => &["WAL", "ROTATE"],
            13 => &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"],
            14 => &["CONFIG", "SET", "appendonly", "no"],
            _ => &["CONFIG", "SET", "appendonly", "yes"],
        };
        let Ok(reply) = client.ask(command) else { return };
        // A second BGSAVE or COMPACT beside the first one is refused.
        let is_busy = matches!(command[0], "BGSAVE" | "COMPACT");
        assert!(is_busy || !matches!(reply, Reply::Error(_)), "{command:?}: {reply:?}");
        std::thread::sleep(Duration::from_micros(rng.below(30_000)));
    }
}

fn judge(history: History, seen: &mut Seen) {
    let registers = history.registers.into_inner().unwrap();
    let lists = history.lists.into_inner().unwrap();
    seen.register_operations += registers.len() as u64;
    seen.transactions += lists.len() as u64;
    for operation in &registers {
        match (operation.op.1, &operation.end) {
            (_, End::Unknown { .. }) => seen.unknown += 1,
            (Op::Cas { .. }, End::Known { reply: register::Reply::Flag(true), .. }) => {
                seen.swapped += 1;
            }
            (Op::Cas { .. }, _) => seen.not_swapped += 1,
            _ => {}
        }
    }
    for transaction in &lists {
        match transaction.end {
            End::Unknown { .. } => seen.unknown += 1,
            End::Known { reply: Outcome::Aborted, .. } => seen.aborted += 1,
            End::Known { .. } => {}
        }
    }
    let found = lists::check(&lists);
    let texts: Vec<String> = found.iter().take(3).map(ToString::to_string).collect();
    assert!(found.is_empty(), "{} contradictions:\n{}", found.len(), texts.join("\n"));
    // Undecided is a failure, too: the load must be one that can be judged.
    let refused: Vec<String> = register::check_keys(registers)
        .into_iter()
        .map(|(key, verdict)| match verdict {
            Verdict::Not(text) => format!("register:{key}: {text}"),
            other => format!("register:{key}: {other:?}"),
        })
        .collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}
