//! `kill -9` on the real binary, again and again on one directory: what was acknowledged is there.
//!
//! ```text
//! each cycle   start ─ check what the last one left ─ N writers and a flusher ─ kill at a random moment
//! each writer  its own keys, a pipeline of operations, every reply recorded
//! each check   state of a writer's keys = its state after its first n operations, n ≥ must
//! ```
//!
//! `must` counts the acknowledged operations; with `appendonly no` those that were acknowledged
//! before the last FLUSHMEMTABLE that returned. One connection's operations are committed in the order
//! in which they were sent, and a recovery keeps a prefix of the commit order (P1, P2, P3): so some n
//! explains all keys of a writer at once. That finds lost operations, half of an MSET or of a
//! MULTI/EXEC, reordered ones and deleted keys that came back, all with one comparison.
//!
//! `SLUICE_KILLS=50` makes it longer, `SLUICE_SEED` repeats the choices (not the timing).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "another process lives in the real world: its time, its threads"
)]

mod common;
mod kill_model;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::client::{Client, Reply};
use common::{Sluice, number, seed, sluice};
use kill_model::Model;
use sluicedb::env::Rng;

const WRITERS: usize = 4;
/// Every writer increments it; it is the one key they share.
const SHARED: &str = "shared";

/// How a cycle ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Kill,
    Term,
}

/// A cycle's choices.
#[derive(Debug)]
struct Plan {
    arguments: Vec<String>,
    log: bool,
    end: End,
    /// The server is killed when this many operations were acknowledged, and a moment later.
    operations: u64,
    moment_us: u64,
    /// Kills of the next start while it recovers, before the start that counts.
    kills_in_recovery: u64,
}

impl Plan {
    /// Each short run has cycles without a log and a clean end; the rest is drawn.
    fn new(cycle: u64, rng: &mut Rng) -> Plan {
        let log = cycle % 4 != 2;
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
        Plan {
            arguments: arguments.join(" ").split(' ').map(str::to_owned).collect(),
            log,
            end: if cycle % 7 == 5 { End::Term } else { End::Kill },
            operations: 16 << rng.below(10),
            moment_us: rng.below(3000),
            kills_in_recovery: rng.below(4).saturating_sub(1),
        }
    }

    fn arguments(&self) -> Vec<&str> {
        self.arguments.iter().map(String::as_str).collect()
    }
}

#[test]
fn p02_every_acknowledged_write_survives_kill_9() {
    let seed = seed();
    let mut rng = Rng::new(seed);
    let directory = tempfile::tempdir().unwrap();
    let mut models: Vec<Model> = (0..WRITERS).map(Model::new).collect();
    let mut shared = Shared::default();
    let (mut slowest, mut operations) = (Duration::ZERO, 0);
    let cycles = number("SLUICE_KILLS", 10);
    for cycle in 0..cycles {
        let plan = Plan::new(cycle, &mut rng);
        println!("cycle {cycle}: {plan:?}");
        let server = Sluice::start(directory.path(), &plan.arguments());
        slowest = slowest.max(server.ready_after);
        check(&server, &mut models, &mut shared);
        operations += run(server, &plan, &mut models, &mut shared, &mut rng);
        for _ in 0..plan.kills_in_recovery {
            kill_in_recovery(directory.path(), &plan, &mut rng);
        }
    }
    let server = Sluice::start(directory.path(), &["--appendonly", "yes"]);
    slowest = slowest.max(server.ready_after);
    check(&server, &mut models, &mut shared);
    assert_eq!(server.stop("-TERM").0.code(), Some(0));
    println!("{cycles} kills, {operations} operations, slowest start to PING {slowest:?}");
}

/// The key that all writers increment.
#[derive(Debug, Default)]
struct Shared {
    /// It is at least this.
    floor: i64,
    /// Increments that were sent since.
    sent: AtomicU64,
    /// The highest reply.
    acked: AtomicU64,
    /// As `acked`, at the begin of the last flush that returned.
    flushed: AtomicU64,
}

/// Runs a cycle on a checked server, and returns the number of acknowledged operations.
fn run(
    server: Sluice,
    plan: &Plan,
    models: &mut [Model],
    shared: &mut Shared,
    rng: &mut Rng,
) -> u64 {
    let (done, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let (enough, reached) = mpsc::sync_channel::<()>(1);
    let address = server.address.clone();
    // The flusher reads how far every writer is; a writer alone touches the rest of its model.
    let progress: Vec<Mutex<(u64, u64)>> = models.iter().map(|_| Mutex::default()).collect();
    let mut status = None;
    let shared_ref = &*shared;
    std::thread::scope(|scope| {
        for (model, progress) in models.iter_mut().zip(&progress) {
            let mut rng = Rng::new(rng.next_u64());
            let (address, enough, acknowledged) = (&address, enough.clone(), &acknowledged);
            scope.spawn(move || {
                let Ok(mut client) = Client::connect(address) else { return };
                while let Ok(acks) = model.pipeline(&mut client, &mut rng, progress) {
                    let Ok(()) = increment(&mut client, shared_ref) else { return };
                    let before = acknowledged.fetch_add(acks, Ordering::Relaxed);
                    if before < plan.operations && before + acks >= plan.operations {
                        let _ = enough.try_send(());
                    }
                }
            });
        }
        let mut flush_rng = Rng::new(rng.next_u64());
        let (progress, done, address) = (&progress, &done, &address);
        scope.spawn(move || {
            let Ok(mut client) = Client::connect(address) else { return };
            while !done.load(Ordering::Relaxed) {
                let Ok(()) = flush(&mut client, progress, shared_ref) else { return };
                std::thread::sleep(Duration::from_micros(flush_rng.below(100_000)));
            }
        });
        // A hanging server ends the test here.
        let waited = reached.recv_timeout(Duration::from_secs(60));
        std::thread::sleep(Duration::from_micros(plan.moment_us));
        done.store(true, Ordering::Relaxed);
        match plan.end {
            End::Kill => server.kill(),
            End::Term => status = Some(server.stop("-TERM")),
        }
        waited.expect("the server stopped answering");
    });
    if let Some((status, printed)) = &status {
        assert_eq!(status.code(), Some(0), "{printed}");
    }
    // A clean end keeps everything, with the log or without.
    let keeps_all = plan.log || plan.end == End::Term;
    for (model, progress) in models.iter_mut().zip(&progress) {
        model.must(if keeps_all { u64::MAX } else { progress.lock().unwrap().1 });
    }
    if keeps_all {
        shared.flushed.fetch_max(shared.acked.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    acknowledged.into_inner()
}

fn increment(client: &mut Client, shared: &Shared) -> std::io::Result<()> {
    shared.sent.fetch_add(1, Ordering::Relaxed);
    let value = client.ask(&["INCR", SHARED])?.integer();
    shared.acked.fetch_max(value as u64, Ordering::Relaxed);
    Ok(())
}

/// FLUSHMEMTABLE: what was acknowledged before it was sent is in tables when it returns.
fn flush(
    client: &mut Client,
    progress: &[Mutex<(u64, u64)>],
    shared: &Shared,
) -> std::io::Result<()> {
    let acked: Vec<u64> = progress.iter().map(|progress| progress.lock().unwrap().0).collect();
    let shared_acked = shared.acked.load(Ordering::Relaxed);
    let reply = client.ask(&["FLUSHMEMTABLE"])?;
    assert_eq!(reply, Reply::ok());
    for (progress, acked) in progress.iter().zip(acked) {
        progress.lock().unwrap().1 = acked;
    }
    shared.flushed.fetch_max(shared_acked, Ordering::Relaxed);
    Ok(())
}

/// What the server has must be explained by what the writers sent.
fn check(server: &Sluice, models: &mut [Model], shared: &mut Shared) {
    let mut client = server.client();
    let mut expected = Vec::new();
    for model in models {
        model.check(&mut client);
        expected.extend(model.live_keys());
    }
    let reply = client.ask(&["GET", SHARED]).unwrap();
    let found: i64 = reply.bulk().map_or(0, |text| String::from_utf8_lossy(text).parse().unwrap());
    let floor = shared.floor.max(*shared.flushed.get_mut() as i64);
    let ceiling = shared.floor + *shared.sent.get_mut() as i64;
    assert!((floor..=ceiling).contains(&found), "{SHARED} is {found}, not {floor}..={ceiling}");
    *shared = Shared { floor: found, ..Shared::default() };
    if found > 0 {
        expected.push(SHARED.as_bytes().to_vec());
    }
    expected.sort();
    assert_eq!(client.ask(&["DBSIZE"]).unwrap().integer(), expected.len() as i64);
    assert!(client.scan_all().unwrap() == expected, "SCAN differs from what the writers left");
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
