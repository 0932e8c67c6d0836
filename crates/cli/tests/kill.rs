//! `kill -9` on the real binary, again and again on one directory: what was acknowledged is there.
//!
//! ```text
//! each cycle   start ─ check what the last one left ─ writers of every level, and the gate worked
//!              by hand ─ the end, at a random moment
//! each writer  its own keys, a pipeline of operations, every reply recorded
//! each check   the state of a writer's keys is explained by operations that may have survived, all
//!              among them that must have (kill_model)
//! ```
//!
//! The ledger of acknowledgements is here, outside the process that is killed. By level: what was
//! logged (`CLIENT ACK OS`, `DISK`, and the default with `appendonly yes`) must be there when it was
//! acknowledged; what was not (`MEMORY`, `appendonly no`) when a flush that began later returned, by
//! whatever command. `kill -9` leaves the system's memory alone: it cannot tell `DISK` from `OS`. The
//! simulated power cuts can (`crates/engine/tests/crash.rs`).
//!
//! Ends: killed under load; SIGTERM; SIGTERM and killed while it stops. After some, the next start is
//! killed once or twice while it recovers. A save that was made is opened by a second server, and
//! must hold one moment of what was sent.
//!
//! After 20 cycles comes a new directory. Every second one has writers with and without a log side
//! by side, and there DBSIZE is not compared: it may be off then (docs/guide/operations.md).
//!
//! `SLUICE_KILLS=500` or `SLUICE_MINUTES=60` makes it longer, `SLUICE_SEED` repeats the choices (not
//! the timing). The last line printed sums up.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "another process lives in the real world: its time, its threads"
)]

mod common;
mod kill_model;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::client::Client;
use common::{Sluice, number, seed, sluice};
use kill_model::{Ack, Checked, Gate, Model, Progress, Shared};
use sluicedb::env::Rng;

const WRITERS: usize = 5;
const CYCLES_OF_A_DIRECTORY: u64 = 20;

/// How a cycle ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Kill,
    Term,
    /// SIGTERM, and killed so many microseconds later.
    TermThenKill(u64),
}

/// A cycle's choices.
#[derive(Debug)]
struct Plan {
    arguments: Vec<String>,
    log: bool,
    /// What each writer asks for at first, and whether it asks for something else at times.
    acks: [(Ack, bool); WRITERS],
    mixed: bool,
    /// Whether the gate's first work is a save.
    saves: bool,
    end: End,
    /// The end begins when this many operations were acknowledged, and a moment later.
    operations: u64,
    moment_us: u64,
    /// Kills of the next start while it recovers, before the start that counts.
    kills_in_recovery: u64,
}

impl Plan {
    /// Each short run has cycles without a log and every kind of end; the rest is drawn.
    fn new(cycle: u64, rng: &mut Rng) -> Plan {
        let log = cycle % 4 != 2;
        let mixed = cycle / CYCLES_OF_A_DIRECTORY % 2 == 1;
        let pick = |rng: &mut Rng, of: &[&str]| of[rng.below(of.len() as u64) as usize].to_owned();
        let arguments = [
            format!("--appendonly {}", if log { "yes" } else { "no" }),
            format!("--appendfsync {}", pick(rng, &["always", "everysec", "everysec", "no"])),
            format!("--memtable-bytes {}", pick(rng, &["64kb", "256kb", "4mb", "64mb"])),
            format!("--memtable-count {}", pick(rng, &["2", "3", "5"])),
            format!("--wal-segment-bytes {}", pick(rng, &["1mb", "4mb"])),
            format!("--wal-max-bytes {}", pick(rng, &["8mb", "64mb"])),
            format!("--flush-threads {}", pick(rng, &["1", "2"])),
            "--memory-budget 64mb --memtable-wait-timeout -1 --workers 2".to_owned(),
        ];
        let acks = match (mixed, log) {
            (true, _) => [
                (Ack::Default, false),
                (Ack::Memory, false),
                (Ack::Os, false),
                (Ack::Disk, false),
                (Ack::Memory, true),
            ],
            (false, true) => {
                [Ack::Default, Ack::Default, Ack::Os, Ack::Disk, Ack::Disk].map(|ack| (ack, false))
            }
            (false, false) => [Ack::Default, Ack::Default, Ack::Memory, Ack::Memory, Ack::Default]
                .map(|ack| (ack, false)),
        };
        Plan {
            arguments: arguments.join(" ").split(' ').map(str::to_owned).collect(),
            log,
            acks,
            mixed,
            saves: cycle % 3 == 1,
            end: match cycle % 7 {
                5 => End::Term,
                2 | 4 => End::TermThenKill(rng.below(20_000)),
                _ => End::Kill,
            },
            operations: 16 << rng.below(10),
            moment_us: rng.below(3000),
            kills_in_recovery: rng.below(4).saturating_sub(1),
        }
    }

    fn arguments(&self) -> Vec<&str> {
        self.arguments.iter().map(String::as_str).collect()
    }
}

/// What a run adds up.
#[derive(Debug, Default)]
struct Sums {
    cycles: u64,
    ended_by_themselves: u64,
    kills_in_recovery: u64,
    operations: u64,
    saves: u64,
    checked: Checked,
    slowest: Duration,
}

impl Sums {
    fn print(&self, took: Duration) {
        let by_ack: Vec<String> = Ack::ALL
            .iter()
            .map(|ack| format!("{} {}", ack.name(), self.checked.by_ack[*ack as usize]))
            .collect();
        println!(
            "kill soak: {} cycles ({} kills, {} stops), {} kills of starts, {} operations \
             acknowledged; found again, all of: {}; unlogged and not flushed: {} ({} found); {} \
             saves opened; slowest start to PING {:?}; {:?} in all",
            self.cycles,
            self.cycles - self.ended_by_themselves,
            self.ended_by_themselves,
            self.kills_in_recovery,
            self.operations,
            by_ack.join(", "),
            self.checked.at_risk,
            self.checked.lucky,
            self.saves,
            self.slowest,
            took
        );
    }
}

/// A directory and the ledger of what is in it.
struct Ledger {
    directory: tempfile::TempDir,
    models: Vec<Model>,
    shared: Shared,
    mixed: bool,
}

#[test]
fn p02_every_acknowledged_write_survives_kill_9() {
    let mut rng = Rng::new(seed());
    let began = Instant::now();
    let minutes = std::env::var("SLUICE_MINUTES").ok().map(|text| text.parse::<f64>().unwrap());
    let limit = minutes.map(|minutes| Duration::from_secs_f64(60.0 * minutes));
    let cycles = number("SLUICE_KILLS", if limit.is_some() { u64::MAX } else { 60 });
    let mut sums = Sums::default();
    let mut ledger = Ledger::new(false);
    for cycle in 0..cycles {
        if limit.is_some_and(|limit| began.elapsed() > limit) {
            break;
        }
        let plan = Plan::new(cycle, &mut rng);
        if cycle > 0 && cycle % CYCLES_OF_A_DIRECTORY == 0 {
            ledger.close(&mut sums);
            ledger = Ledger::new(plan.mixed);
        }
        println!("cycle {cycle}: {plan:?}");
        let server = Sluice::start(ledger.directory.path(), &plan.arguments());
        ledger.check(&server, &mut sums);
        ledger.run(server, &plan, &mut rng, &mut sums);
        for _ in 0..plan.kills_in_recovery {
            kill_in_recovery(ledger.directory.path(), &plan, &mut rng);
            sums.kills_in_recovery += 1;
        }
        ledger.check_save(&mut sums);
        sums.cycles += 1;
    }
    ledger.close(&mut sums);
    sums.print(began.elapsed());
}

impl Ledger {
    fn new(mixed: bool) -> Ledger {
        Ledger {
            directory: tempfile::tempdir().unwrap(),
            models: (0..WRITERS).map(Model::new).collect(),
            shared: Shared::default(),
            mixed,
        }
    }

    /// A last check, and a clean end.
    fn close(&mut self, sums: &mut Sums) {
        let server = Sluice::start(self.directory.path(), &["--appendonly", "yes"]);
        self.check(&server, sums);
        assert_eq!(server.stop("-TERM").0.code(), Some(0));
    }

    /// Runs a cycle on a checked server.
    fn run(&mut self, server: Sluice, plan: &Plan, rng: &mut Rng, sums: &mut Sums) {
        let (done, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
        let (enough, reached) = mpsc::sync_channel::<()>(1);
        let address = server.address.clone();
        // The gate reads how far every writer is; a writer alone touches the rest of its model.
        let progress: Vec<Progress> = (0..WRITERS).map(|_| Progress::default()).collect();
        let (mut status, shared) = (None, &self.shared);
        std::thread::scope(|scope| {
            for (model, progress) in self.models.iter_mut().zip(&progress) {
                let (mut ack, changes) = plan.acks[model.writer()];
                let mut rng = Rng::new(rng.next_u64());
                let (address, enough, acknowledged) = (&address, enough.clone(), &acknowledged);
                scope.spawn(move || {
                    let Ok(mut client) = Client::connect(address) else { return };
                    let Ok(_) = client.ask(&["CLIENT", "ACK", ack.name()]) else { return };
                    loop {
                        if changes && rng.one_in(3) {
                            ack = Ack::ALL[rng.below(4) as usize];
                            let Ok(_) = client.ask(&["CLIENT", "ACK", ack.name()]) else { return };
                        }
                        let how = (ack, plan.log);
                        let Ok(acks) = model.pipeline(&mut client, &mut rng, how, progress) else {
                            return;
                        };
                        let logged = ack.is_logged(plan.log);
                        let Ok(()) = shared.increment(&mut client, logged) else { return };
                        let before = acknowledged.fetch_add(acks, Ordering::Relaxed);
                        if before < plan.operations && before + acks >= plan.operations {
                            let _ = enough.try_send(());
                        }
                    }
                });
            }
            let mut gate_rng = Rng::new(rng.next_u64());
            let (progress, done, address) = (&progress, &done, &address);
            scope.spawn(move || {
                let Ok(client) = Client::connect(address) else { return };
                let mut gate = Gate { client, progress, shared };
                if plan.saves {
                    let Ok(()) = gate.save(&["SAVE"]) else { return };
                }
                while !done.load(Ordering::Relaxed) {
                    let Ok(()) = gate.work(&mut gate_rng) else { return };
                    std::thread::sleep(Duration::from_micros(gate_rng.below(50_000)));
                }
            });
            // A hanging server ends the test here.
            let waited = reached.recv_timeout(Duration::from_secs(60));
            std::thread::sleep(Duration::from_micros(plan.moment_us));
            done.store(true, Ordering::Relaxed);
            match plan.end {
                End::Kill => server.kill(),
                End::Term => status = Some(server.stop("-TERM")),
                End::TermThenKill(us) => {
                    server.signal("-TERM");
                    std::thread::sleep(Duration::from_micros(us));
                    server.signal("-KILL");
                    let ended = server.wait_to_end();
                    // It may have been faster.
                    status = Some(ended).filter(|(status, _)| status.code().is_some());
                }
            }
            waited.expect("the server stopped answering");
        });
        if let Some((status, printed)) = &status {
            assert_eq!(status.code(), Some(0), "{printed}");
            sums.ended_by_themselves += 1;
        }
        // A clean end keeps everything, with the log or without.
        for (model, progress) in self.models.iter_mut().zip(&progress) {
            model.ended(progress, status.is_some());
        }
        self.shared.ended(status.is_some());
        sums.operations += acknowledged.into_inner();
    }

    /// What the server has must be explained by what the writers sent.
    fn check(&mut self, server: &Sluice, sums: &mut Sums) {
        sums.slowest = sums.slowest.max(server.ready_after);
        let mut client = server.client();
        let mut expected = Vec::new();
        for model in &mut self.models {
            model.check(&mut client, &mut sums.checked);
            expected.extend(model.live_keys());
        }
        expected.extend(self.shared.check(&mut client));
        expected.sort();
        if !self.mixed {
            assert_eq!(client.ask(&["DBSIZE"]).unwrap().integer(), expected.len() as i64);
        }
        assert!(client.scan_all().unwrap() == expected, "SCAN differs from what the writers left");
    }

    /// Opens the save of the life that has ended, if one was made in it, with a server of its own.
    /// It needs no look at the database that it was made from.
    fn check_save(&self, sums: &mut Sums) {
        let Some(saved) = newest_save(self.directory.path()) else { return };
        // What is there may be from a save that was not acknowledged, but then it is newer.
        if !self.shared.was_saved() {
            return;
        }
        let directory = tempfile::tempdir_in(self.directory.path()).unwrap();
        std::fs::rename(saved, directory.path().join("db")).unwrap();
        let server = Sluice::start(directory.path(), &["--workers", "1"]);
        let mut client = server.client();
        for model in &self.models {
            model.check_save(&mut client);
        }
        self.shared.check_save(&mut client);
        server.kill();
        sums.saves += 1;
    }
}

/// A kill between the renames of a save leaves the newest whole one under another name
/// (`crates/server/src/saves.rs`): the next start would put that right.
fn newest_save(directory: &Path) -> Option<std::path::PathBuf> {
    let names = ["backup", "backup.new", "backup.old"];
    names.into_iter().map(|name| directory.join(name)).find(|path| path.exists())
}

/// Starts the server and kills it while it recovers, or a moment after.
fn kill_in_recovery(directory: &Path, plan: &Plan, rng: &mut Rng) {
    let began = Instant::now();
    let mut child = sluice(directory, &plan.arguments()).spawn().unwrap();
    std::thread::sleep(Duration::from_micros(rng.below(30_000)));
    child.kill().unwrap();
    child.wait().unwrap();
    println!("killed in recovery after {:?}", began.elapsed());
}
