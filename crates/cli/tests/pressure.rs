//! Memtables under pressure, on the real binary: stalled writes with each `memtable-wait-timeout`,
//! FLUSHMEMTABLE while everyone works, and clean ends under load.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "another process lives in the real world: its time, its threads"
)]

mod common;

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::client::{Client, Reply, encode};
use common::{Sluice, files, number};

const SMALL: [&str; 8] = [
    "--memtable-bytes",
    "64kb",
    "--memtable-count",
    "2",
    "--wal-segment-bytes",
    "1mb",
    "--wal-max-bytes",
    "8mb",
];

/// Four connections write 600 values of 8 KiB each, in pipelines: (written keys, stalled keys).
fn press(address: &str) -> (Vec<String>, Vec<(String, String)>) {
    let value = vec![b'v'; 8192];
    let (mut written, mut stalled) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let value = &value;
                scope.spawn(move || {
                    let mut client = Client::connect(address).unwrap();
                    let mut replies = Vec::new();
                    for group in 0..30 {
                        let mut bytes = Vec::new();
                        let keys: Vec<_> =
                            (0..20).map(|at| format!("{writer}:{group}:{at}")).collect();
                        for key in &keys {
                            encode(&mut bytes, &[b"SET", key.as_bytes(), value]);
                        }
                        client.socket.write_all(&bytes).unwrap();
                        replies.extend(keys.into_iter().map(|key| (key, client.reply().unwrap())));
                    }
                    replies
                })
            })
            .collect();
        for (key, reply) in writers.into_iter().flat_map(|writer| writer.join().unwrap()) {
            match reply {
                Reply::Error(error) => stalled.push((key, error)),
                reply => {
                    assert_eq!(reply, Reply::ok());
                    written.push(key);
                }
            }
        }
    });
    (written, stalled)
}

#[test]
fn p04_a_stalled_write_waits_as_told_and_leaves_no_trace() {
    for timeout in ["0", "100", "-1"] {
        let directory = tempfile::tempdir().unwrap();
        let mut arguments = SMALL.to_vec();
        arguments.extend(["--memtable-wait-timeout", timeout]);
        let server = Sluice::start(directory.path(), &arguments);
        let (written, stalled) = press(&server.address);
        println!("timeout {timeout}: {} written, {} stalled", written.len(), stalled.len());
        for (_, error) in &stalled {
            // What is full, in the engine's words, and what to do.
            let causes = ["memtable of column family '", "memtables hold ", "level 0 of column "];
            let is_cause = |cause: &&str| error.starts_with(&format!("STALLED {cause}"));
            assert!(causes.iter().any(is_cause), "{error}");
            assert!(error.contains("; retry"), "{error}");
        }
        match timeout {
            "0" => assert!(!stalled.is_empty(), "the pressure was too low to stall a write"),
            "-1" => assert!(stalled.is_empty()),
            _ => {}
        }
        server.kill();
        // After the replay too.
        let server = Sluice::start(directory.path(), &[]);
        let mut client = server.client();
        assert_eq!(client.ask(&["DBSIZE"]).unwrap().integer(), written.len() as i64);
        for (key, _) in &stalled {
            assert_eq!(client.ask(&["GET", key]).unwrap(), Reply::Nil);
        }
        for key in &written {
            assert_eq!(client.ask(&["STRLEN", key]).unwrap(), Reply::Integer(8192));
        }
    }
}

/// One reader's latencies in microseconds, in order of size, while `stop` is not set.
fn read_until(stop: &AtomicBool, address: &str) -> Vec<u64> {
    let mut client = Client::connect(address).unwrap();
    let mut latencies = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let key = format!("key:{}", latencies.len() % 2000);
        let began = Instant::now();
        client.ask(&["GET", &key]).unwrap();
        latencies.push(began.elapsed().as_micros() as u64);
    }
    latencies.sort_unstable();
    latencies
}

/// A span under load, with flushes or without: (GET latencies, writes, flushes).
fn span(server: &Sluice, with_flushes: bool, length: Duration) -> (Vec<u64>, u64, u64) {
    let stop = AtomicBool::new(false);
    let address = &server.address;
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_until(&stop, address));
        let writer = scope.spawn(|| {
            let mut client = Client::connect(address).unwrap();
            let mut count = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let key = format!("key:{}", count % 2000);
                assert_eq!(client.ask(&["SET", &key, &"v".repeat(500)]).unwrap(), Reply::ok());
                count += 1;
            }
            count
        });
        let mut client = server.client();
        let (end, mut flushes) = (Instant::now() + length, 0);
        while Instant::now() < end {
            if with_flushes {
                assert_eq!(client.ask(&["FLUSHMEMTABLE"]).unwrap(), Reply::ok());
                flushes += 1;
            }
            std::thread::sleep(length / 20);
        }
        stop.store(true, Ordering::Relaxed);
        (reader.join().unwrap(), writer.join().unwrap(), flushes)
    })
}

fn bytes_of_log(client: &mut Client) -> u64 {
    client.info("wal_bytes").parse().unwrap()
}

#[test]
fn p05_a_flush_under_load_makes_a_table_frees_the_log_and_stops_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let server = Sluice::start(directory.path(), &["--wal-segment-bytes", "1mb"]);
    let length = Duration::from_millis(number("SLUICE_SPAN_MS", 400));
    for round in 0..number("SLUICE_SPANS", 2) {
        for with_flushes in [false, true] {
            let (latencies, writes, flushes) = span(&server, with_flushes, length);
            let at = |part: usize| latencies[(latencies.len() - 1) * part / 1000];
            println!(
                "round {round}: {flushes} flushes, {writes} SETs, {} GETs: p50 {} us, p99 {} us, \
                 p99.9 {} us, max {} us",
                latencies.len(),
                at(500),
                at(990),
                at(999),
                at(1000)
            );
        }
    }
    let mut client = server.client();
    // Several segments of log, then one flush and nobody who writes.
    for at in 0..40 {
        client.ask(&["SET", &format!("large:{at}"), &"x".repeat(100_000)]).unwrap();
    }
    let (before, segments) = (bytes_of_log(&mut client), files(directory.path(), ".wal").len());
    assert!(before > 3 << 20, "{before}");
    assert_eq!(client.ask(&["FLUSHMEMTABLE"]).unwrap(), Reply::ok());
    let after = bytes_of_log(&mut client);
    println!("log before the flush {before} bytes in {segments} files, after {after}");
    assert!(after < before / 2, "{before} bytes of log before the flush, {after} after");
    assert!(!files(directory.path(), ".sst").is_empty());
    assert_eq!(client.info("position_flushed"), client.info("position_visible"));
}

#[test]
fn p02_signals_under_load_end_with_status_0_and_everything() {
    for (signal, log) in [("-TERM", "yes"), ("-INT", "yes"), ("-TERM", "no"), ("-INT", "no")] {
        let directory = tempfile::tempdir().unwrap();
        let server = Sluice::start(directory.path(), &["--appendonly", log]);
        let address = server.address.clone();
        let (tell, told) = std::sync::mpsc::channel();
        let writer = std::thread::spawn(move || {
            let mut client = Client::connect(&address).unwrap();
            let mut acknowledged = 0;
            while client.ask(&["SET", &format!("key:{acknowledged}"), "v"]).is_ok() {
                acknowledged += 1;
                if acknowledged == 300 {
                    tell.send(()).unwrap();
                }
            }
            acknowledged
        });
        told.recv().unwrap();
        let (status, printed) = server.stop(signal);
        assert_eq!(status.code(), Some(0), "{printed}");
        let acknowledged: i64 = writer.join().unwrap();
        let server = Sluice::start(directory.path(), &["--appendonly", log]);
        let found = server.client().ask(&["DBSIZE"]).unwrap().integer();
        assert!(
            (acknowledged..=acknowledged + 1).contains(&found),
            "{acknowledged}, {found} found"
        );
    }
}
