//! The gate over real sockets: flushes that report, time out and have tickets, waits for positions, the
//! log's commands, acknowledgements that a connection chooses, and what nonsense gets.
//!
//! Where a flush or a sync must be seen unfinished, the disk stands still at a `Gate` until the test
//! opens it; no test sleeps.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Client, start, start_faulty};
use sluicedb::env::{FaultFs, Gate, Op, Rule};

/// The value behind a key of a map, in RESP2 or RESP3: integer or text, null as `nil`.
fn field(reply: &str, name: &str) -> String {
    let key = format!("${}\r\n{name}\r\n", name.len());
    let at = reply.find(&key).unwrap_or_else(|| panic!("no {name} in {reply:?}")) + key.len();
    let mut lines = reply[at..].split("\r\n");
    match lines.next().unwrap() {
        "$-1" | "_" => "nil".to_owned(),
        head if head.starts_with(':') => head[1..].to_owned(),
        head if head.starts_with('$') => lines.next().unwrap().to_owned(),
        head => head.to_owned(),
    }
}

fn number(reply: &str, name: &str) -> u64 {
    field(reply, name).parse().unwrap()
}

/// A table's sync, hence its flush, stands at the gate.
fn hold_tables(fs: &FaultFs) -> Gate {
    let gate = Gate::new();
    fs.add(Rule::on(Op::SyncData).path_ends_with(".sst").hold(&gate));
    gate
}

/// The log's sync stands at the gate.
fn hold_log(fs: &FaultFs) -> Gate {
    let gate = Gate::new();
    fs.add(Rule::on(Op::SyncData).path_ends_with(".wal").hold(&gate));
    gate
}

fn visible(client: &mut Client) -> String {
    field(&client.ask(&["MEMTABLE", "INFO"]), "visible")
}

/// Until the server knows of as many connections: one that has gone is noticed in its turn.
fn wait_for_clients(client: &mut Client, count: usize) {
    while client.ask(&["CLIENT", "LIST"]).matches("id=").count() != count {
        std::thread::yield_now();
    }
}

#[test]
fn a_flush_reports_what_it_wrote() {
    let server = start(&[]);
    let mut client = server.client();
    client.ask(&["MSET", "a", "1", "b", "2"]);
    let before = visible(&mut client);
    let report = client.ask(&["FLUSHMEMTABLE", "REPORT"]);
    assert!(report.starts_with("*22\r\n"), "{report:?}");
    assert_eq!(field(&report, "reason"), "manual");
    assert_eq!(field(&report, "position"), before);
    assert!(number(&report, "bytes_out") > 0 && number(&report, "bytes_in") > 0, "{report:?}");
    assert!(field(&report, "column_families").starts_with('*'), "{report:?}");
    assert!(report.contains("$4\r\nmeta\r\n"), "{report:?}");
    for name in ["entries_dropped", "wal_bytes_released", "queued_us", "took_us"] {
        number(&report, name);
    }
    // Two rows of the keys at least; the report counts what the tables hold.
    assert!(number(&report, "entries") >= 2, "{report:?}");
    // The same in RESP3, from the other command; nothing is left to write.
    client.ask(&["HELLO", "3"]);
    let report = client.ask(&["memtable", "flush"]);
    assert!(report.starts_with("%11\r\n"), "{report:?}");
    assert_eq!((number(&report, "entries"), field(&report, "position")), (0, before));
    assert_eq!(field(&report, "files"), "*0");
    assert_eq!(client.ask(&["FLUSHMEMTABLE"]), "+OK\r\n");
}

#[test]
fn one_column_family_is_flushed_and_an_unknown_one_flushes_nothing() {
    let server = start(&[]);
    let mut client = server.client();
    client.ask(&["SET", "a", "1", "EX", "1000"]);
    let entries = |client: &mut Client, cf: &str| {
        number(&client.ask(&["MEMTABLE", "INFO", cf]), "active_entries")
    };
    let (meta, expire) = (entries(&mut client, "meta"), entries(&mut client, "expire"));
    assert!(meta > 0 && expire > 0);
    let refused = client.ask(&["FLUSHMEMTABLE", "CF", "expire", "nosuch"]);
    assert!(
        refused.starts_with("-ERR there is no column family 'nosuch'; there are: default, "),
        "{refused}"
    );
    assert_eq!((entries(&mut client, "meta"), entries(&mut client, "expire")), (meta, expire));
    let report = client.ask(&["FLUSHMEMTABLE", "CF", "expire", "REPORT"]);
    assert!(report.contains("*1\r\n$6\r\nexpire\r\n"), "{report:?}");
    assert_eq!((entries(&mut client, "meta"), entries(&mut client, "expire")), (meta, 0));
    let refused = client.ask(&["MEMTABLE", "INFO", "nosuch"]);
    assert!(refused.starts_with("-ERR there is no column family 'nosuch'; there are: "));
}

#[test]
fn p05_p06_a_flush_that_does_not_end_keeps_nobody_but_who_waits_for_it() {
    let (server, fs) = start_faulty(&["--workers", "1"]);
    let (mut waiter, mut other) = (server.client(), server.client());
    waiter.ask(&["SET", "a", "1"]);
    let gate = hold_tables(&fs);
    waiter.command(&["FLUSHMEMTABLE", "REPORT"]);
    waiter.command(&["GET", "a"]);
    gate.wait_until_reached();
    for round in 0..50 {
        assert_eq!(other.ask(&["GET", "a"]), "$1\r\n1\r\n");
        assert_eq!(other.ask(&["SET", "b", &round.to_string()]), "+OK\r\n");
    }
    assert!(other.ask(&["CLIENT", "LIST"]).contains("flags=b"), "the waiter is blocked");
    // A second wait, with an end.
    let late = other.ask(&["FLUSHMEMTABLE", "TIMEOUT", "20"]);
    let start = "-TIMEOUT the flush has not finished within 20 ms; it goes on (MEMTABLE WAIT ";
    let position = late.strip_prefix(start).unwrap_or_else(|| panic!("{late}"));
    let position = position.trim_end_matches(")\r\n").to_owned();
    // The connection goes on, the flush too, and it can be waited for again.
    assert_eq!(other.ask(&["GET", "b"]), "$2\r\n49\r\n");
    let again = other.ask(&["MEMTABLE", "WAIT", &position, "TIMEOUT", "5"]);
    let text = format!(
        "-TIMEOUT the flush has not finished within 5 ms; it goes on (MEMTABLE WAIT {position})\r\n"
    );
    assert_eq!(again, text);
    other.command(&["MEMTABLE", "WAIT", &position]);
    gate.open();
    let done = other.reply();
    assert!(done.starts_with('$'), "{done}");
    assert!(number(&waiter.reply(), "entries") >= 1);
    assert_eq!(waiter.reply(), "$1\r\n1\r\n");
    // Late answers of waits that timed out found nobody.
    assert_eq!(other.ask(&["PING"]), "+PONG\r\n");
}

#[test]
fn a_flush_with_nothing_to_write_does_not_sync_on_the_event_loop() {
    let (server, fs) = start_faulty(&["--workers", "1", "--appendfsync", "no"]);
    let (mut waiter, mut other) = (server.client(), server.client());
    waiter.ask(&["SET", "a", "1"]);
    let gate = hold_log(&fs);
    waiter.command(&["FLUSHMEMTABLE", "CF", "default"]);
    gate.wait_until_reached();
    assert_eq!(other.ask(&["GET", "a"]), "$1\r\n1\r\n", "the only worker stands at the gate");
    gate.open();
    assert_eq!(waiter.reply(), "+OK\r\n");
}

#[test]
fn tickets_answer_until_they_are_forgotten() {
    let (server, fs) = start_faulty(&[]);
    let mut client = server.client();
    client.ask(&["SET", "a", "1"]);
    let gate = hold_tables(&fs);
    let ticket = client.ask(&["FLUSHMEMTABLE", "ASYNC", "REPORT"]);
    assert!(ticket.starts_with("*4\r\n"), "{ticket:?}");
    assert_eq!((number(&ticket, "ticket"), field(&ticket, "position")), (1, visible(&mut client)));
    let late = client.ask(&["MEMTABLE", "WAIT", "1", "TIMEOUT", "1"]);
    assert!(late.ends_with("(MEMTABLE WAIT 1)\r\n"), "{late}");
    client.command(&["MEMTABLE", "WAIT", "1"]);
    gate.open();
    let report = client.reply();
    assert_eq!(field(&report, "position"), field(&ticket, "position"));
    // As often as one likes, from any connection, in its own protocol.
    let mut other = server.client();
    other.ask(&["HELLO", "3"]);
    assert!(other.ask(&["MEMTABLE", "WAIT", "1"]).starts_with("%11\r\n"));
    assert_eq!(number(&other.ask(&["MEMTABLE", "FLUSH", "ASYNC"]), "ticket"), 2);
    for (wrong, text) in [
        ("0", "ERR ticket 0 was not given out"),
        ("3", "ERR ticket 3 was not given out"),
        ("-1", "ERR give the number of a ticket"),
        ("x", "ERR give the number of a ticket"),
        ("1:x", "ERR a position is written epoch:seq"),
        (":", "ERR a position is written epoch:seq"),
    ] {
        let reply = client.ask(&["MEMTABLE", "WAIT", wrong]);
        assert!(reply.starts_with(&format!("-{text}")), "{wrong}: {reply}");
    }
    for _ in 0..1024 {
        client.ask(&["MEMTABLE", "FLUSH", "ASYNC"]);
    }
    let reply = client.ask(&["MEMTABLE", "WAIT", "1"]);
    assert!(reply.starts_with("-ERR ticket 1 has ended and its report is forgotten"), "{reply}");
}

#[test]
fn a_position_is_waited_for_and_the_wait_starts_no_flush() {
    let server = start(&[]);
    let (mut client, mut other) = (server.client(), server.client());
    client.ask(&["SET", "a", "1"]);
    let position = visible(&mut client);
    let late = client.ask(&["MEMTABLE", "WAIT", &position, "TIMEOUT", "10"]);
    assert!(late.starts_with("-TIMEOUT "), "{late}");
    client.command(&["MEMTABLE", "WAIT", &position]);
    client.command(&["PING"]);
    while !other.ask(&["CLIENT", "LIST"]).contains("flags=b") {
        std::thread::yield_now();
    }
    other.ask(&["SET", "b", "1"]);
    assert_eq!(other.ask(&["FLUSHMEMTABLE"]), "+OK\r\n");
    let reached = client.reply();
    assert!(reached.lines().nth(1).unwrap().starts_with("1:"), "{reached}");
    assert_eq!(client.reply(), "+PONG\r\n");
    // It is there already: at once, with how far tables reach.
    assert!(client.ask(&["MEMTABLE", "WAIT", &position]).starts_with('$'));
    let ahead = client.ask(&["MEMTABLE", "WAIT", "1:999999", "TIMEOUT", "1"]);
    assert!(ahead.starts_with("-ERR position 1:999999 is not written yet; the last one is 1:"));
    let stray = client.ask(&["MEMTABLE", "WAIT", "7:1"]);
    assert!(stray.starts_with("-ERR position 7:1 is of another opening"), "{stray}");
    for wrong in [&["TIMEOUT"][..], &["TIMEOUT", "x"], &["TIMEOUT", "-1"], &["NOW"]] {
        let reply = client.ask(&[&["MEMTABLE", "WAIT", &position], wrong].concat());
        assert!(reply.starts_with("-ERR "), "{wrong:?}: {reply}");
    }
}

#[test]
fn a_connection_that_goes_while_it_waits_leaves_nothing() {
    let (server, fs) = start_faulty(&["--workers", "1"]);
    let mut client = server.client();
    client.ask(&["SET", "a", "1"]);
    let position = visible(&mut client);
    // A wait that only an operator would end.
    let mut gone = server.client();
    gone.command(&["MEMTABLE", "WAIT", &position]);
    wait_for_clients(&mut client, 2);
    drop(gone);
    wait_for_clients(&mut client, 1);
    // One for a flush ends with it; the answers find their connections dead, and no other one.
    let gate = hold_tables(&fs);
    let mut gone: Vec<Client> = (0..5).map(|_| server.client()).collect();
    gone.iter_mut().for_each(|gone| gone.command(&["FLUSHMEMTABLE", "REPORT"]));
    gate.wait_until_reached();
    let list = client.ask(&["CLIENT", "LIST"]);
    for id in list.lines().filter_map(|line| line.split(' ').next()?.strip_prefix("id=")) {
        client.ask(&["CLIENT", "KILL", "SKIPME", "yes", "ID", id]);
    }
    wait_for_clients(&mut client, 1);
    let mut heirs: Vec<Client> = (0..5).map(|_| server.client()).collect();
    heirs.iter_mut().for_each(|heir| heir.command(&["PING"]));
    gate.open();
    assert_eq!(client.ask(&["FLUSHMEMTABLE"]), "+OK\r\n");
    for heir in &mut heirs {
        assert_eq!(heir.reply(), "+PONG\r\n");
        assert_eq!(heir.ask(&["ECHO", "x"]), "$1\r\nx\r\n");
    }
}

#[test]
fn a_reply_that_is_not_wanted_does_not_come_later() {
    let (server, fs) = start_faulty(&[]);
    let mut client = server.client();
    client.ask(&["SET", "a", "1"]);
    let gate = hold_tables(&fs);
    client.send(b"CLIENT REPLY SKIP\r\nFLUSHMEMTABLE\r\nPING\r\n");
    client.send(b"CLIENT REPLY OFF\r\nFLUSHMEMTABLE\r\nPING\r\nCLIENT REPLY ON\r\n");
    gate.wait_until_reached();
    gate.open();
    assert_eq!(client.reply(), "+PONG\r\n");
    assert_eq!(client.reply(), "+OK\r\n");
    assert_eq!(client.ask(&["ECHO", "x"]), "$1\r\nx\r\n");
}

#[test]
fn memtables_are_listed_and_automatic_flushes_paused() {
    let server = start(&["--memtable-bytes", "64kb", "--memtable-count", "3"]);
    let mut client = server.client();
    assert_eq!(client.ask(&["MEMTABLE", "PAUSE"]), "+OK\r\n");
    assert_eq!(client.ask(&["MEMTABLE", "PAUSE"]), "+OK\r\n");
    assert_eq!(number(&client.ask(&["MEMTABLE", "INFO"]), "flushes_paused"), 1);
    let value = "v".repeat(1000);
    while !client.ask(&["MEMTABLE", "LIST"]).contains("sealed") {
        client.ask(&["SET", "k", &value]);
    }
    let list = client.ask(&["MEMTABLE", "LIST"]);
    assert!(list.contains("$6\r\nreason\r\n$14\r\nmemtable-bytes\r\n"), "{list:?}");
    assert!(list.contains("$6\r\nreason\r\n$-1\r\n"), "the active ones: {list:?}");
    let info = client.ask(&["MEMTABLE", "INFO", "meta"]);
    assert_eq!(number(&info, "sealed_memtables"), 1);
    assert_eq!(field(&info, "flushed"), "1:0");
    assert_eq!(field(&info, "oldest_unflushed"), "1:1");
    number(&info, "oldest_unflushed_ms");
    // One that is asked for is written nevertheless.
    assert_eq!(client.ask(&["FLUSHMEMTABLE"]), "+OK\r\n");
    assert!(!client.ask(&["MEMTABLE", "LIST"]).contains("sealed"));
    while !client.ask(&["MEMTABLE", "LIST"]).contains("sealed") {
        client.ask(&["SET", "k", &value]);
    }
    let position = visible(&mut client);
    assert_eq!(client.ask(&["MEMTABLE", "RESUME"]), "+OK\r\n");
    assert_eq!(number(&client.ask(&["MEMTABLE", "INFO"]), "flushes_paused"), 0);
    while client.ask(&["MEMTABLE", "LIST"]).contains("sealed") {
        std::thread::yield_now();
    }
    let info = client.ask(&["MEMTABLE", "INFO", "meta"]);
    assert!(number(&info, "active_entries") > 0, "{info:?}, at {position}");
}

#[test]
fn p04_a_stalled_write_says_what_is_full() {
    let (server, fs) = start_faulty(&[
        "--memtable-bytes",
        "64kb",
        "--memtable-count",
        "2",
        "--memtable-wait-timeout",
        "20",
    ]);
    let mut client = server.client();
    let gate = hold_tables(&fs);
    let value = "v".repeat(4000);
    let mut refusal = String::new();
    for number in 0..100 {
        refusal = client.ask(&["SET", &format!("key{number}"), &value]);
        if refusal != "+OK\r\n" {
            assert_eq!(client.ask(&["GET", &format!("key{number}")]), "$-1\r\n", "no trace");
            break;
        }
    }
    let text = "-STALLED memtable of column family 'meta' is full (2 of 2 waiting to flush); retry, or \
                raise memtable-count or memtable-wait-timeout";
    assert!(refusal.starts_with(text), "{refusal}");
    gate.open();
}

/// Beginning a log flushes what has none; that must not wait for room on the event loop.
#[test]
fn a_log_begins_while_writes_are_stalled() {
    let arguments = ["--workers", "1", "--appendonly", "no"];
    let memtables = ["--memtable-bytes", "64kb", "--memtable-count", "2"];
    let waits = ["--memtable-wait-timeout", "20"];
    let (server, fs) = start_faulty(&[&arguments[..], &memtables, &waits].concat());
    let mut client = server.client();
    let gate = hold_tables(&fs);
    let value = "v".repeat(4000);
    while !client.ask(&["SET", "key", &value]).starts_with("-STALLED") {}
    client.command(&["CONFIG", "SET", "appendonly", "yes"]);
    let mut other = server.client();
    other.command(&["PING"]);
    let mut piece = [0; 7];
    let answered = std::io::Read::read_exact(&mut other.socket, &mut piece);
    gate.open();
    answered.expect("the event loop stands still");
    assert_eq!(client.reply(), "+OK\r\n");
}

#[test]
fn the_log_is_synced_described_and_rotated() {
    let server = start(&["--appendfsync", "no"]);
    let mut client = server.client();
    client.ask(&["SET", "a", "1"]);
    let info = client.ask(&["WAL", "INFO"]);
    assert!(number(&info, "unsynced_bytes") > 0, "{info:?}");
    number(&info, "unsynced_age_ms");
    let (visible, syncs) = (visible(&mut client), number(&info, "syncs"));
    assert_ne!(field(&info, "durable"), visible);
    assert_eq!(client.ask(&["WAL", "SYNC"]), format!("${}\r\n{visible}\r\n", visible.len()));
    let info = client.ask(&["WAL", "INFO"]);
    assert_eq!((number(&info, "unsynced_bytes"), field(&info, "durable")), (0, visible.clone()));
    assert_eq!(field(&info, "unsynced_age_ms"), "nil");
    assert!(number(&info, "syncs") > syncs);
    assert!(number(&info, "sync_p99_us") >= number(&info, "sync_p50_us"));
    assert_eq!(client.ask(&["FLUSHWAL"]), format!("${}\r\n{visible}\r\n", visible.len()));
    let segments = number(&info, "segments");
    let rotated = client.ask(&["WAL", "ROTATE"]);
    assert_eq!(field(&rotated, "sealed_to"), visible);
    let info = client.ask(&["WAL", "INFO"]);
    assert_eq!(number(&info, "segments"), segments + 1);
    assert!(info.contains(&format!("$6\r\nnumber\r\n:{}\r\n", number(&rotated, "segment"))));
    // Nothing to end: the segment in use has no batch yet.
    client.ask(&["WAL", "ROTATE"]);
    assert_eq!(number(&client.ask(&["WAL", "INFO"]), "segments"), segments + 1);
    // The writes of before are in tables now, and their segment can go.
    assert_eq!(client.ask(&["FLUSHMEMTABLE"]), "+OK\r\n");
    assert!(number(&client.ask(&["WAL", "INFO"]), "segments") <= segments);
}

#[test]
fn a_sync_of_the_log_keeps_nobody_but_who_asked() {
    let (server, fs) = start_faulty(&["--workers", "1", "--appendfsync", "no"]);
    let (mut waiter, mut other) = (server.client(), server.client());
    waiter.ask(&["SET", "a", "1"]);
    let gate = hold_log(&fs);
    waiter.command(&["FLUSHWAL"]);
    gate.wait_until_reached();
    assert_eq!(other.ask(&["SET", "b", "2"]), "+OK\r\n");
    assert_eq!(other.ask(&["GET", "b"]), "$1\r\n2\r\n");
    gate.open();
    assert!(waiter.reply().starts_with('$'));
}

#[test]
fn waitaof_is_about_the_connections_own_writes() {
    let (server, fs) = start_faulty(&["--appendfsync", "no"]);
    let (mut client, mut other) = (server.client(), server.client());
    assert_eq!(client.ask(&["WAITAOF", "1", "0", "0"]), "*2\r\n:1\r\n:0\r\n", "wrote nothing");
    client.ask(&["SET", "a", "1"]);
    assert_eq!(client.ask(&["WAITAOF", "0", "0", "0"]), "*2\r\n:0\r\n:0\r\n", "asks for nothing");
    // Inside a transaction it says what is so.
    client.send(b"MULTI\r\nWAITAOF 1 0 0\r\nWAITAOF 1 1 0\r\nEXEC\r\n");
    let replies: Vec<String> = (0..4).map(|_| client.reply()).collect();
    assert_eq!(replies[3], "*2\r\n*2\r\n:0\r\n:0\r\n*2\r\n:0\r\n:0\r\n");
    let gate = hold_log(&fs);
    client.command(&["WAITAOF", "1", "0", "0"]);
    gate.wait_until_reached();
    assert_eq!(other.ask(&["WAITAOF", "1", "0", "0"]), "*2\r\n:1\r\n:0\r\n", "wrote nothing");
    other.ask(&["SET", "b", "1"]);
    assert_eq!(other.ask(&["WAITAOF", "1", "0", "20"]), "*2\r\n:0\r\n:0\r\n", "its time is over");
    gate.open();
    assert_eq!(client.reply(), "*2\r\n:1\r\n:0\r\n");
    assert_eq!(other.ask(&["WAITAOF", "1", "0", "0"]), "*2\r\n:1\r\n:0\r\n");
    // No replica ever answers.
    assert_eq!(client.ask(&["WAITAOF", "1", "1", "10"]), "*2\r\n:1\r\n:0\r\n");
    for (args, text) in [
        (["2", "0", "0"], "ERR value is out of range, value must between 0 and 1"),
        (["-1", "0", "0"], "ERR value is out of range, value must between 0 and 1"),
        (["x", "0", "0"], "ERR value is not an integer or out of range"),
        (["1", "-1", "0"], "ERR value is out of range, must be positive"),
        (["1", "x", "0"], "ERR value is out of range, must be positive"),
        (["1", "0", "-1"], "ERR timeout is negative"),
        (["1", "0", "x"], "ERR timeout is not an integer or out of range"),
    ] {
        let command = [&["WAITAOF"][..], &args].concat();
        assert_eq!(client.ask(&command), format!("-{text}\r\n"), "{args:?}");
    }
    client.ask(&["CONFIG", "SET", "appendonly", "no"]);
    assert_eq!(
        client.ask(&["WAITAOF", "1", "0", "0"]),
        "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.\r\n"
    );
    assert_eq!(client.ask(&["WAITAOF", "0", "0", "0"]), "*2\r\n:1\r\n:0\r\n");
}

#[test]
fn compact_runs_once_at_a_time_and_the_block_cache_is_emptied() {
    let (server, fs) = start_faulty(&[]);
    let mut client = server.client();
    for _ in 0..3 {
        client.ask(&["SET", "a", "1"]);
        client.ask(&["FLUSHMEMTABLE"]);
    }
    client.ask(&["SET", "b", "2"]);
    let gate = hold_tables(&fs);
    assert_eq!(client.ask(&["COMPACT"]), "+OK\r\n");
    gate.wait_until_reached();
    assert_eq!(client.ask(&["COMPACT"]), "-ERR compact in-progress\r\n");
    assert_eq!(client.ask(&["GET", "a"]), "$1\r\n1\r\n");
    gate.open();
    while client.ask(&["COMPACT"]) != "+OK\r\n" {
        std::thread::yield_now();
    }
    // What was only in memory is in a table now, and all of it in one.
    while !server.log().contains("compacted everything") {
        std::thread::yield_now();
    }
    assert_eq!(number(&client.ask(&["MEMTABLE", "INFO", "meta"]), "active_entries"), 0);
    client.ask(&["GET", "a"]);
    assert_eq!(client.ask(&["FLUSHBLOCKCACHE"]), "+OK\r\n");
    assert_eq!(client.ask(&["GET", "b"]), "$1\r\n2\r\n");
}

#[test]
fn a_stop_ends_every_wait_and_a_compaction() {
    let (server, fs) = start_faulty(&[]);
    let mut client = server.client();
    client.ask(&["SET", "a", "1"]);
    let gate = hold_tables(&fs);
    assert_eq!(client.ask(&["COMPACT"]), "+OK\r\n");
    gate.wait_until_reached();
    let mut waiters: Vec<Client> = (0..3).map(|_| server.client()).collect();
    waiters[0].command(&["FLUSHMEMTABLE"]);
    waiters[1].command(&["MEMTABLE", "WAIT", "1:1"]);
    waiters[2].command(&["WAITAOF", "0", "1", "0"]);
    while client.ask(&["CLIENT", "LIST"]).matches("flags=b").count() < 3 {
        std::thread::yield_now();
    }
    client.command(&["SHUTDOWN", "NOSAVE"]);
    assert_eq!(client.rest(), "");
    gate.open();
    waiters.iter_mut().for_each(|waiter| assert_eq!(waiter.rest(), ""));
    server.wait();
}

#[test]
fn p02_a_connection_chooses_what_its_replies_promise() {
    let (server, fs) = start_faulty(&["--workers", "1"]);
    let (mut client, mut other) = (server.client(), server.client());
    let batches = |client: &mut Client| number(&client.ask(&["WAL", "INFO"]), "batches");
    client.ask(&["SET", "a", "1"]);
    let logged = batches(&mut client);
    assert!(logged > 0);
    assert_eq!(client.ask(&["CLIENT", "ACK", "memory"]), "+OK\r\n");
    client.ask(&["SET", "a", "2"]);
    client.send(b"MULTI\r\nSET a 3\r\nSET b 3\r\nEXEC\r\n");
    (0..4).for_each(|_| drop(client.reply()));
    assert_eq!(batches(&mut client), logged, "its writes are not logged");
    assert_eq!(other.ask(&["GET", "a"]), "$1\r\n3\r\n");
    other.ask(&["SET", "c", "1"]);
    assert_eq!(batches(&mut client), logged + 1, "those of others are");
    let list = other.ask(&["CLIENT", "LIST"]);
    assert!(list.contains(" ack=memory\n") && list.contains(" ack=default\n"), "{list}");
    let refused = client.ask(&["WAITAOF", "1", "0", "0"]);
    assert!(refused.contains("the connection's last write was not logged"), "{refused}");
    // At DISK the reply waits for the sync, and nobody else does.
    assert_eq!(client.ask(&["CLIENT", "ACK", "DISK"]), "+OK\r\n");
    assert!(client.ask(&["CLIENT", "INFO"]).contains(" ack=disk\n"));
    let gate = hold_log(&fs);
    client.command(&["SET", "a", "4"]);
    gate.wait_until_reached();
    assert_eq!(other.ask(&["SET", "c", "2"]), "+OK\r\n");
    assert_eq!(other.ask(&["GET", "a"]), "$1\r\n4\r\n");
    client.socket.set_nonblocking(true).unwrap();
    let early = std::io::Read::read(&mut client.socket, &mut [0]).unwrap_err();
    assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
    client.socket.set_nonblocking(false).unwrap();
    gate.open();
    assert_eq!(client.reply(), "+OK\r\n");
    // RESET takes the choice back; other words change nothing.
    assert_eq!(client.ask(&["RESET"]), "+RESET\r\n");
    assert!(client.ask(&["CLIENT", "INFO"]).contains(" ack=default\n"));
    let refused = client.ask(&["CLIENT", "ACK", "always"]);
    assert_eq!(refused, "-ERR acknowledgement must be DEFAULT, MEMORY, OS or DISK\r\n");
    client.ask(&["MULTI"]);
    assert!(client.ask(&["CLIENT", "ACK", "DISK"]).starts_with("-ERR "), "not inside MULTI");
}

#[test]
fn p02_logged_writes_of_a_connection_survive_on_a_server_without_a_log() {
    let server = start(&["--appendonly", "no"]);
    let (mut client, mut other) = (server.client(), server.client());
    assert_eq!(client.ask(&["CLIENT", "ACK", "OS"]), "+OK\r\n");
    other.ask(&["SET", "unlogged", "1"]);
    client.ask(&["SET", "logged", "1"]);
    let info = client.ask(&["WAL", "INFO"]);
    assert_eq!(number(&info, "batches"), 1);
    assert_eq!(field(&info, "written"), field(&info, "appended"), "the system has it");
    // Stopped without a flush, as a kill would: the log is what is left.
    client.command(&["SHUTDOWN", "NOSAVE"]);
    let server = server.restart(&["--appendonly", "no"]);
    let mut client = server.client();
    assert_eq!(client.ask(&["GET", "logged"]), "$1\r\n1\r\n");
    assert_eq!(client.ask(&["GET", "unlogged"]), "$-1\r\n");
}

const COMMANDS: [&[&str]; 21] = [
    &["FLUSHMEMTABLE"],
    &["MEMTABLE", "FLUSH"],
    &["MEMTABLE", "WAIT", "1"],
    &["MEMTABLE", "LIST"],
    &["MEMTABLE", "INFO"],
    &["MEMTABLE", "PAUSE"],
    &["MEMTABLE", "RESUME"],
    &["MEMTABLE", "HELP"],
    &["WAL", "SYNC"],
    &["WAL", "INFO"],
    &["WAL", "ROTATE"],
    &["WAL", "HELP"],
    &["FLUSHWAL"],
    &["WAITAOF", "0", "0", "0"],
    &["COMPACT"],
    &["FLUSHBLOCKCACHE"],
    &["CLIENT", "ACK", "OS"],
    &["MEMTABLE"],
    &["WAL"],
    &["MEMTABLE", "NOSUCH"],
    &["WAL", "NOSUCH"],
];

#[test]
fn without_a_password_nothing_is_run() {
    let server = start(&["--requirepass", "secret"]);
    for command in &COMMANDS[..17] {
        let reply = server.client().ask(command);
        assert_eq!(reply, "-NOAUTH Authentication required.\r\n", "{command:?}");
    }
    let mut client = server.client();
    client.ask(&["AUTH", "secret"]);
    assert!(client.ask(&["INFO", "stats"]).contains("total_commands_processed:1\r\n"));
}

#[test]
fn the_gates_commands_are_for_administrators_and_say_so() {
    let server = start(&[]);
    let mut client = server.client();
    for command in &COMMANDS[..19] {
        let name = match command {
            ["CLIENT" | "MEMTABLE" | "WAL", sub, ..] => format!("{}|{sub}", command[0]),
            _ => command[0].to_owned(),
        };
        let info = client.ask(&["COMMAND", "INFO", &name]);
        if name == "WAITAOF" {
            assert!(info.contains("+blocking\r\n") && info.contains("+@connection\r\n"), "{info}");
            assert!(!info.contains("+admin\r\n"), "{info}");
        } else {
            for word in ["admin", "noscript", "@admin", "@dangerous", "@slow"] {
                assert!(info.contains(&format!("+{word}\r\n")), "{name} is not {word}: {info:?}");
            }
        }
        let docs = client.ask(&["COMMAND", "DOCS", &name]);
        assert!(field(&docs, "summary").len() > 10, "{docs:?}");
    }
    for (command, text) in [
        (&["MEMTABLE", "LIST", "x"][..], "wrong number of arguments for 'memtable|list' command"),
        (&["MEMTABLE", "INFO", "a", "b"], "wrong number of arguments for 'memtable|info' command"),
        (&["MEMTABLE", "WAIT"], "wrong number of arguments for 'memtable|wait' command"),
        (&["MEMTABLE"], "wrong number of arguments for 'memtable' command"),
        (&["MEMTABLE", "NOSUCH"], "unknown subcommand 'NOSUCH'. Try MEMTABLE HELP."),
        (&["WAL", "SYNC", "x"], "wrong number of arguments for 'wal|sync' command"),
        (&["WAL", "NOSUCH"], "unknown subcommand 'NOSUCH'. Try WAL HELP."),
        (&["FLUSHWAL", "x"], "wrong number of arguments for 'flushwal' command"),
        (&["COMPACT", "x"], "wrong number of arguments for 'compact' command"),
        (&["FLUSHBLOCKCACHE", "x"], "wrong number of arguments for 'flushblockcache' command"),
        (&["WAITAOF", "1", "0"], "wrong number of arguments for 'waitaof' command"),
        (&["CLIENT", "ACK"], "wrong number of arguments for 'client|ack' command"),
    ] {
        assert_eq!(client.ask(command), format!("-ERR {text}\r\n"));
    }
    for container in ["MEMTABLE", "WAL"] {
        let help = client.ask(&[container, "HELP"]);
        assert!(help.contains(&format!("+{container} <subcommand> ")), "{help}");
    }
}

#[test]
fn any_words_get_one_reply_each() {
    let server = start(&[]);
    let words = [
        "ASYNC",
        "CF",
        "TIMEOUT",
        "REPORT",
        "meta",
        "expire",
        "0",
        "1",
        "7",
        "-1",
        "1:1",
        "1:0",
        ":",
        "x",
        "",
        "99999999999999999999",
        "FLUSH",
        "WAIT",
        "LIST",
        "INFO",
        "SYNC",
        "ROTATE",
        "ACK",
        "DISK",
        "MEMORY",
    ];
    let seed = std::env::var("SLUICE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut rng = sluicedb::env::Rng::new(seed);
    let mut client = server.client();
    // Everything is in tables, so that no position has to be waited for.
    client.send(b"SET a 1\r\nFLUSHMEMTABLE\r\n");
    assert_eq!([client.reply(), client.reply()], ["+OK\r\n", "+OK\r\n"]);
    for round in 0..600 {
        let command = COMMANDS[rng.below(COMMANDS.len() as u64) as usize];
        let mut args = command[..1].to_vec();
        for _ in 0..rng.below(5) {
            args.push(words[rng.below(words.len() as u64) as usize]);
        }
        // Waits for replicas, for ever.
        if args[0] == "WAITAOF" && args.get(3) == Some(&"0") {
            continue;
        }
        client.command(&args);
        client.command(&["ECHO", &round.to_string()]);
        let (reply, echoed) = (client.reply(), client.reply());
        let expected = format!("${}\r\n{round}\r\n", round.to_string().len());
        assert_eq!(echoed, expected, "seed {seed}: {args:?} got {reply:?}");
    }
}
