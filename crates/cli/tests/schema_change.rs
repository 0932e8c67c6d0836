//! A change of key schema under load, on the real binary: 50 connections read and write while the schema of
//! `meta` changes back and forth and what is left of the old one is drained. No command may fail, and
//! every drain ends with nothing left. How long the slowest commands took, before, during and after, is
//! printed and not asserted: it belongs to a machine.
//!
//! ```text
//! cargo build --release -p sluice
//! SLUICE_BIN=target/release/sluice SLUICE_SECONDS=10 SLUICE_KEYS=300000 \
//!     cargo test -p sluice --test schema_change -- --nocapture
//! ```
//! `SLUICE_THINK_US`: how long a connection waits between two commands. 0 keeps every core busy, so that
//! commands wait for each other; a few milliseconds show the pauses of the server alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "another process lives in the real world: its time, its threads"
)]

mod common;

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::client::{Client, Reply, encode};
use common::{Sluice, number, seed};
use sluicedb::env::Rng;

const CONNECTIONS: usize = 50;
const PHASES: [&str; 3] = ["before", "during", "after"];
const END: usize = PHASES.len();

fn key(n: u64) -> String {
    format!("s:{:08}:{n}", n % 1000)
}

fn load(client: &mut Client, keys: u64) {
    let value = [b'v'; 100];
    let all: Vec<u64> = (0..keys).collect();
    for some in all.chunks(1000) {
        let mut bytes = Vec::new();
        some.iter().for_each(|n| encode(&mut bytes, &[b"SET", key(*n).as_bytes(), &value]));
        client.socket.write_all(&bytes).unwrap();
        some.iter().for_each(|_| assert_eq!(client.reply().unwrap(), Reply::ok()));
    }
    assert_eq!(client.ask(&["FLUSHMEMTABLE"]).unwrap(), Reply::ok());
}

/// Reads and writes until the end; the microseconds that each command took, by phase.
fn work(address: &str, keys: u64, seed: u64, phase: &AtomicUsize) -> [Vec<u64>; 3] {
    let think = Duration::from_micros(number("SLUICE_THINK_US", 0));
    let mut client = Client::connect(address).unwrap();
    let mut rng = Rng::new(seed);
    let mut took = [const { Vec::new() }; 3];
    loop {
        let key = key(rng.below(keys));
        let began_in = phase.load(Ordering::Relaxed);
        if began_in == END {
            return took;
        }
        let began = Instant::now();
        match rng.below(2) {
            0 => {
                let reply = client.ask(&["SET", &key, &"w".repeat(100)]).unwrap();
                assert_eq!(reply, Reply::ok());
            }
            _ => assert_eq!(client.ask(&["GET", &key]).unwrap().bulk().map(<[u8]>::len), Some(100)),
        }
        took[began_in].push(began.elapsed().as_micros() as u64);
        if !think.is_zero() {
            std::thread::sleep(think);
        }
    }
}

/// One change with its drain; how long the drain took.
fn change(client: &mut Client, fields: &str, before: &str) -> Duration {
    let text = format!("sessions {fields}");
    let set = client.ask(&["SCHEMA", "SET", "meta", "-", "+", &text]).unwrap();
    assert_eq!(set.array().len(), 10, "{set:?}");
    let began = Instant::now();
    let words: Vec<&str> = ["SCHEMA", "DRAIN"].into_iter().chain(before.split(' ')).collect();
    // Empty where compactions have left nothing to it.
    let begun = client.ask(&words).unwrap();
    println!("{} drains of {before}", begun.array().len());
    loop {
        let status = client.ask(&[&words[..], &["STATUS"]].concat()).unwrap();
        if status.array().iter().all(|drain| drain.array()[7].text() == "done") {
            let left: Vec<i64> =
                status.array().iter().map(|drain| drain.array()[9].integer()).collect();
            assert!(left.iter().all(|left| *left == 0), "{left:?}");
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let tables: Vec<&str> = ["SCHEMA", "TABLES"].into_iter().chain(before.split(' ')).collect();
    assert_eq!(client.ask(&tables).unwrap().array(), []);
    began.elapsed()
}

#[test]
fn a_change_under_load_fails_no_command_and_drains_to_nothing() {
    let seed = seed();
    let directory = tempfile::tempdir().unwrap();
    let server = Sluice::start(directory.path(), &["--memtable-bytes", "4mb"]);
    let (keys, quiet) = (number("SLUICE_KEYS", 20_000), number("SLUICE_SECONDS", 1));
    let mut client = server.client();
    load(&mut client, keys);
    let phase = AtomicUsize::new(0);
    let (address, phase) = (&server.address, &phase);
    let mut drains = Vec::new();
    let all: Vec<[Vec<u64>; 3]> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CONNECTIONS as u64)
            .map(|n| scope.spawn(move || work(address, keys, seed.wrapping_add(n), phase)))
            .collect();
        // The end of the load comes first whatever fails: no thread is left behind.
        let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            std::thread::sleep(Duration::from_secs(quiet));
            phase.store(1, Ordering::Relaxed);
            let two = "ns u16, slot u16, kind fixed 2, user fixed 8, rest";
            drains.push(change(&mut client, two, "redis-meta"));
            drains.push(change(&mut client, "ns u16, slot u16, rest", "sessions 1"));
            phase.store(2, Ordering::Relaxed);
            std::thread::sleep(Duration::from_secs(quiet));
        }));
        phase.store(END, Ordering::Relaxed);
        let all = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        changed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        all
    });
    println!("{keys} keys, {CONNECTIONS} connections, drains took {drains:?}");
    for (index, name) in PHASES.into_iter().enumerate() {
        let mut took: Vec<u64> = all.iter().flat_map(|phases| phases[index].clone()).collect();
        took.sort_unstable();
        assert!(!took.is_empty(), "{name}");
        let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
        let (p50, p99, p999, max) = (at(0.5), at(0.99), at(0.999), at(1.0));
        let count = took.len();
        println!("{name:<7} {count:>8} commands: p50 {p50} us, p99 {p99}, p99.9 {p999}, max {max}");
    }
}
