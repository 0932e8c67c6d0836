//! What INFO says of the gate, and the parameters that move it while the server runs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Client, start, start_faulty};
use sluicedb::env::{Gate, Op, Rule};

/// One line of a section.
fn line(client: &mut Client, section: &str, name: &str) -> String {
    let info = client.ask(&["INFO", section]);
    let head = format!("\r\n{name}:");
    let at = info.find(&head).unwrap_or_else(|| panic!("no {name} in {info:?}")) + head.len();
    info[at..].split("\r\n").next().unwrap().to_owned()
}

fn number(client: &mut Client, section: &str, name: &str) -> u64 {
    line(client, section, name).parse().unwrap()
}

/// `name=value` of a line with several.
fn part(line: &str, name: &str) -> String {
    let found = line.split(',').find_map(|part| part.strip_prefix(&format!("{name}=")));
    found.unwrap_or_else(|| panic!("no {name} in {line:?}")).to_owned()
}

#[test]
fn info_shows_what_is_only_in_memory_family_by_family() {
    let server = start(&[]);
    let mut client = server.client();
    client.ask(&["SET", "key", "value"]);
    let meta = line(&mut client, "memtable", "cf_meta");
    assert!(part(&meta, "active_entries").parse::<u64>().unwrap() >= 1, "{meta}");
    assert!(part(&meta, "pinned_wal_bytes").parse::<u64>().unwrap() > 0, "{meta}");
    assert!(part(&meta, "oldest_unflushed").starts_with("1:"), "{meta}");
    assert_eq!(part(&meta, "flushes"), "0");
    assert_eq!(number(&mut client, "memtable", "at_risk_bytes"), 0, "everything is logged");
    client.ask(&["FLUSHMEMTABLE"]);
    let meta = line(&mut client, "memtable", "cf_meta");
    assert_eq!((part(&meta, "active_bytes").as_str(), part(&meta, "flushes").as_str()), ("0", "1"));
    assert_eq!(part(&meta, "oldest_unflushed"), "-");
    assert_eq!(part(&meta, "level0_tables"), "1");
    assert_eq!(part(&meta, "last_flush_reason"), "manual");
    assert!(part(&meta, "last_flush_bytes").parse::<u64>().unwrap() > 0, "{meta}");
    assert_eq!(number(&mut client, "memtable", "flushes_manual"), 1);
    assert_eq!(line(&mut client, "memtable", "last_flush_reason"), "manual");
    client.ask(&["MEMTABLE", "PAUSE"]);
    assert_eq!(number(&mut client, "memtable", "flushes_paused"), 1);
}

#[test]
fn info_counts_what_reads_of_key_fields_spare() {
    let server = start(&[]);
    let mut client = server.client();
    for name in ["predicate_blocks_skipped", "predicate_rows_skipped", "prefix_tables_skipped"] {
        // No command of a server that was just started asks for fields of keys.
        assert_eq!(number(&mut client, "stats", name), 0, "{name}");
    }
}

#[test]
fn info_shows_how_much_is_at_risk_and_since_when() {
    let server = start(&["--appendonly", "no"]);
    let mut client = server.client();
    assert_eq!(number(&mut client, "memtable", "at_risk_since"), 0);
    client.ask(&["SET", "key", "value"]);
    assert!(number(&mut client, "memtable", "at_risk_bytes") > 0);
    assert!(number(&mut client, "memtable", "at_risk_since") > 1_600_000_000);
    client.ask(&["FLUSHMEMTABLE"]);
    for name in ["at_risk_bytes", "at_risk_since", "at_risk_seconds"] {
        assert_eq!(number(&mut client, "memtable", name), 0, "{name}");
    }
}

#[test]
fn info_shows_the_log_and_what_a_power_cut_could_take() {
    let (server, fs) = start_faulty(&["--appendfsync", "no"]);
    let mut client = server.client();
    client.ask(&["SET", "key", "value"]);
    assert!(number(&mut client, "wal", "wal_unsynced_bytes") > 0);
    client.ask(&["WAL", "SYNC"]);
    assert_eq!(number(&mut client, "wal", "wal_unsynced_bytes"), 0);
    assert!(number(&mut client, "wal", "wal_syncs") >= 1);
    let appended = line(&mut client, "wal", "wal_appended");
    assert_eq!(line(&mut client, "wal", "wal_durable"), appended);
    assert_eq!(line(&mut client, "wal", "wal_status"), "ok");
    client.ask(&["WAL", "ROTATE"]);
    assert_eq!(number(&mut client, "wal", "wal_segments"), 2);
    drop(fs);
}

#[test]
fn a_full_memtable_refuses_with_the_engines_words_and_info_says_why() {
    let (server, fs) = start_faulty(&[
        "--memtable-bytes",
        "64kb",
        "--memtable-count",
        "3",
        "--memtable-wait-timeout",
        "0",
    ]);
    let mut client = server.client();
    let gate = Gate::new();
    fs.add(Rule::on(Op::SyncData).path_ends_with(".sst").hold(&gate));
    let value = "v".repeat(10_000);
    let refused = (0..100).find_map(|key| {
        let reply = client.ask_or_refusal(&["SET", &format!("key{key}"), &value]);
        (reply != "+OK\r\n").then_some(reply)
    });
    let stalled = line(&mut client, "stall", "stalled");
    let refusals = number(&mut client, "stall", "refused_commits");
    let cause = line(&mut client, "stall", "stall_memtables");
    // Reads go on.
    let read = client.ask(&["STRLEN", "key0"]);
    // Before anything is asserted: a failure must not wait for the gate.
    gate.open();
    assert_eq!(
        refused.as_deref(),
        Some(
            "-STALLED memtable of column family 'meta' is full (3 of 3 waiting to flush); retry, \
             or raise memtable-count or memtable-wait-timeout\r\n"
        )
    );
    assert_eq!((stalled.as_str(), refusals), ("memtables", 1));
    assert_eq!(part(&cause, "stops"), "1");
    assert_eq!(read, ":10000\r\n");
    client.ask(&["FLUSHMEMTABLE"]);
    assert_eq!(client.ask(&["SET", "again", &value]), "+OK\r\n");
    assert_eq!(line(&mut client, "stall", "stalled"), "no");
}

#[test]
fn the_gates_parameters_change_while_the_server_runs() {
    let server = start(&[]);
    let mut client = server.client();
    for (name, value) in [
        ("memtable-bytes", "1048576"),
        ("memtable-count", "7"),
        ("memory-budget", "100mb"),
        ("memtable-wait-timeout", "-1"),
        ("flush-age", "60"),
        ("flush-idle", "10"),
        ("flush-tombstones", "5000"),
        ("flush-threads", "3"),
        ("recovery-time-target", "2"),
        ("wal-segment-bytes", "4mb"),
        ("wal-max-bytes", "64mb"),
        ("appendfsync", "no"),
        ("appendfsync", "always"),
        ("appendonly", "no"),
        ("appendonly", "yes"),
    ] {
        assert_eq!(client.ask(&["CONFIG", "SET", name, value]), "+OK\r\n", "{name} {value}");
        assert_eq!(client.ask(&["SET", name, value]), "+OK\r\n", "after {name} {value}");
    }
    assert_eq!(number(&mut client, "memtable", "memtable_budget_bytes"), 50 << 20);
    assert_eq!(number(&mut client, "wal", "wal_max_bytes"), 64 << 20);
    // A combination that cannot work is refused whole.
    let refused = client.ask(&["CONFIG", "SET", "flush-age", "7", "wal-max-bytes", "1mb"]);
    assert!(refused.starts_with("-ERR CONFIG SET failed") && refused.contains("wal_max_bytes"));
    assert!(client.ask(&["CONFIG", "GET", "flush-age"]).ends_with("$2\r\n60\r\n"));
}
