//! `kill -9` at random moments of one long pipelined load, as `redis-cli --pipe` makes it.
//!
//! Each cycle goes on where the last one ended, on the same directory, and starts anew on an empty
//! one when the load is complete. After each restart: every acknowledged record is there byte for
//! byte, what came on top is a run of the records sent next, DBSIZE agrees with a full SCAN.
//!
//! The short form makes its records up. `examples/kill_load.sh` gives real ones: `SLUICE_LOAD` names
//! a file of SET commands in RESP, `SLUICE_KILLS` the number of kills.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "another process lives in the real world: its time, its threads"
)]

mod common;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::mpsc;
use std::time::Duration;

use common::client::{Client, Reply, encode};
use common::{Sluice, number, seed};
use sluicedb::env::Rng;

/// Unanswered commands at most; keys of one check command.
const WINDOW: usize = 500;

type Record = (Vec<u8>, Vec<u8>);

#[test]
fn p02_a_load_killed_at_any_moment_keeps_what_it_acknowledged() {
    let mut rng = Rng::new(seed());
    let records = records(&mut rng);
    let kills = number("SLUICE_KILLS", 6);
    let settings = [
        &["--appendfsync", "everysec"][..],
        &["--appendfsync", "everysec", "--memtable-bytes", "1mb"],
        &["--appendfsync", "always"],
        &["--appendfsync", "always", "--memtable-bytes", "256kb", "--wal-segment-bytes", "1mb"],
    ];
    let mut directory = tempfile::tempdir().unwrap();
    let (mut done, mut complete, mut slowest) = (0, 0, Duration::ZERO);
    for kill in 0..kills {
        let mut arguments = settings[rng.below(settings.len() as u64) as usize].to_vec();
        // A small memtable may be full for longer than the default wait: no refusals here.
        arguments.extend(["--memtable-wait-timeout", "-1"]);
        let server = Sluice::start(directory.path(), &arguments);
        let left = (records.len() - done) as u64;
        // Half of the cycles may run to the end of the load.
        let range = if rng.one_in(2) { left } else { left / 4 + 1 };
        let count = 1 + rng.below(range);
        let (acknowledged, sent) = load(server, &records[done..], count as usize, &mut rng);
        let server = Sluice::start(directory.path(), &arguments);
        slowest = slowest.max(server.ready_after);
        let found = check(&server, &records, done + acknowledged, done + sent);
        println!(
            "kill {kill}: {arguments:?}, {} acknowledged, {} sent, {found} found, PING after {:?}",
            done + acknowledged,
            done + sent,
            server.ready_after
        );
        server.kill();
        done = found;
        if done == records.len() {
            complete += 1;
            done = 0;
            directory = tempfile::tempdir().unwrap();
        }
    }
    println!("{kills} kills in {complete} whole loads, slowest start to PING {slowest:?}");
}

/// Loads until `count` replies have come, then kills: (acknowledged, sent) records.
fn load(server: Sluice, records: &[Record], count: usize, rng: &mut Rng) -> (usize, usize) {
    let moment = Duration::from_micros(rng.below(2000));
    let address = server.address.clone();
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        let loader = scope.spawn(move || {
            let mut client = Client::connect(&address).unwrap();
            let (mut acknowledged, mut sent) = (0, 0);
            'load: while acknowledged < records.len() {
                let mut bytes = Vec::new();
                let end = (acknowledged + WINDOW).min(records.len());
                for (key, value) in &records[sent..end] {
                    encode(&mut bytes, &[b"SET", &key[..], value]);
                }
                sent = end;
                if client.socket.write_all(&bytes).is_err() {
                    break;
                }
                // Half a window is always on its way.
                while acknowledged < sent && sent - acknowledged > WINDOW / 2
                    || sent == records.len()
                {
                    match client.reply() {
                        Ok(reply) => assert_eq!(reply, Reply::ok()),
                        Err(_) => break 'load,
                    }
                    acknowledged += 1;
                    if acknowledged == count {
                        tell.send(()).unwrap();
                    }
                    if acknowledged == records.len() {
                        break;
                    }
                }
            }
            (acknowledged, sent)
        });
        let waited = told.recv_timeout(Duration::from_secs(120));
        std::thread::sleep(moment);
        server.kill();
        waited.expect("the load stopped");
        loader.join().unwrap()
    })
}

/// The server has the state after the first n records, `acknowledged` ≤ n ≤ `sent`: returns n.
fn check(server: &Sluice, records: &[Record], acknowledged: usize, sent: usize) -> usize {
    let mut client = server.client();
    let mut expected: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
    for (key, value) in &records[..acknowledged] {
        expected.insert(key, value);
    }
    let mut found = acknowledged;
    // Further records came whole and in order, or not at all.
    for (key, value) in &records[acknowledged..sent] {
        let reply = client.ask(&[b"GET", &key[..]]).unwrap();
        if reply.bulk() != Some(value) {
            break;
        }
        expected.insert(key, value);
        found += 1;
    }
    let keys: Vec<&[u8]> = expected.keys().copied().collect();
    for keys in keys.chunks(WINDOW) {
        let mut args = vec![&b"MGET"[..]];
        args.extend(keys);
        let reply = client.ask(&args).unwrap();
        for (key, value) in keys.iter().zip(reply.array()) {
            let key_text = String::from_utf8_lossy(key);
            assert!(value.bulk() == Some(expected[key]), "{key_text} is lost or differs");
        }
    }
    assert_eq!(client.ask(&["DBSIZE"]).unwrap().integer(), expected.len() as i64);
    assert!(client.scan_all().unwrap() == keys, "SCAN differs from the load");
    found
}

/// The records of the file that `SLUICE_LOAD` names, or some of our own.
fn records(rng: &mut Rng) -> Vec<Record> {
    let Some(path) = std::env::var_os("SLUICE_LOAD") else {
        return (0..8000)
            .map(|at| {
                let mut value = vec![0; rng.below(1000) as usize];
                rng.fill(&mut value);
                (format!("record:{at}").into_bytes(), value)
            })
            .collect();
    };
    let bytes = std::fs::read(path).unwrap();
    let mut rest = &bytes[..];
    let mut records = Vec::new();
    while !rest.is_empty() {
        rest = rest.strip_prefix(b"*3\r\n$3\r\nSET\r\n").expect("SET commands only");
        let key = take_bulk(&mut rest);
        records.push((key, take_bulk(&mut rest)));
    }
    records
}

fn take_bulk(rest: &mut &[u8]) -> Vec<u8> {
    let end = rest.iter().position(|byte| *byte == b'\r').unwrap();
    let length: usize = std::str::from_utf8(&rest[1..end]).unwrap().parse().unwrap();
    let bulk = rest[end + 2..][..length].to_vec();
    *rest = &rest[end + 2 + length + 2..];
    bulk
}
