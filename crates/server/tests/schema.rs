//! SCHEMA and INFO schema as an operator meets them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::value::Value;
use common::{Client, start, start_faulty};
use sluicedb::env::{Gate, Op, Rule};

fn ask(client: &mut Client, line: &str) -> Value {
    let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    client.value(&args)
}

/// The rows of SCHEMA LIST of a family, `name version: ranges, tables`.
fn list(client: &mut Client, family: &str) -> Vec<String> {
    let rows = ask(client, "SCHEMA LIST");
    let own = rows.items().iter().filter(|row| row.get("column_family").text() == family);
    own.map(|row| {
        let number = |name| row.get(name).number();
        let (ranges, tables) = (number("ranges"), number("tables"));
        format!("{} {}: {ranges}, {tables}", row.get("name").text(), number("version"))
    })
    .collect()
}

/// Asks until every drain of `name` has ended, and returns the last answer; empty where there was
/// nothing to drain.
fn wait_for_drain(client: &mut Client, name: &str) -> Value {
    loop {
        let status = ask(client, &format!("SCHEMA DRAIN {name} STATUS"));
        let is_done = |drain: &Value| drain.get("state").text() == "done";
        if status.items().iter().all(is_done) {
            return status;
        }
        std::thread::yield_now();
    }
}

fn fill(client: &mut Client, count: u32) {
    for n in 0..count {
        client.command(&["SET", &format!("key:{n}"), &format!("value {n}")]);
    }
    (0..count).for_each(|_| assert_eq!(client.reply(), "+OK\r\n"));
    assert_eq!(client.ask(&["FLUSHMEMTABLE"]), "+OK\r\n");
}

#[test]
fn a_change_and_a_drain_step_by_step() {
    let server = start(&[]);
    let mut client = server.client();
    fill(&mut client, 300);
    assert_eq!(list(&mut client, "meta"), ["redis-meta 1: 1, 1"]);

    let set = ask(&mut client, "SCHEMA SET meta - + keys ns u16, slot u16, kind fixed 4, rest");
    assert_eq!(set.get("name").text(), "keys");
    assert_eq!(set.get("version").number(), 1);
    assert_eq!(set.get("fields").text(), "ns u16, slot u16, kind fixed 4, rest");
    assert_eq!(list(&mut client, "meta"), ["redis-meta 1: 0, 1", "keys 1: 1, 0"]);
    let tables = ask(&mut client, "SCHEMA TABLES redis-meta");
    let [table] = tables.items() else { panic!("{tables:?}") };
    assert_eq!(table.get("entries").number(), 300);
    assert_eq!(&table.get("smallest").bytes()[..2], [0, 0], "keys are whole");
    assert!(table.get("bytes").number() > 1000 && table.get("level").number() == 0);

    // Back to rest: begun, done, nothing left, and said so as often as one asks.
    let begun = ask(&mut client, "SCHEMA DRAIN redis-meta");
    assert_eq!(begun.items().len(), 1);
    let done = wait_for_drain(&mut client, "redis-meta");
    let [drain] = done.items() else { panic!("{done:?}") };
    let numbers = ["tables_left", "bytes_left", "tables_done"].map(|name| drain.get(name).number());
    assert_eq!(numbers, [0, 0, 1]);
    assert!(drain.get("bytes_done").number() > 1000);
    assert_eq!(ask(&mut client, "SCHEMA TABLES redis-meta"), Value::Array(vec![]));
    assert_eq!(list(&mut client, "meta"), ["keys 1: 1, 1"]);
    assert_eq!(client.ask(&["GET", "key:299"]), "$9\r\nvalue 299\r\n");

    // What is written now cannot be drained: that would never end.
    let error = ask(&mut client, "SCHEMA DRAIN keys");
    assert!(error.error().contains("is written under keys v1 ("), "{error:?}");
    let error = ask(&mut client, "SCHEMA DRAIN keys PAUSE");
    assert_eq!(error.error(), "ERR no drain of 'keys' is under way");
}

#[test]
fn a_drain_pauses_goes_on_and_is_given_up_also_over_a_restart() {
    let server = start(&[]);
    let mut client = server.client();
    // While compactions stand still no drain ends.
    fill(&mut client, 100);
    ask(&mut client, "SCHEMA SET meta - + keys ns u16, rest").get("hash");
    let (server, mut client) = {
        // Paused before anything can be rewritten would be a race: so first the pause is what counts.
        ask(&mut client, "SCHEMA DRAIN redis-meta");
        let paused = ask(&mut client, "SCHEMA DRAIN redis-meta PAUSE");
        let state = paused.items()[0].get("state").text();
        assert!(state == "paused" || state == "done", "{state}");
        client.ask_or_refusal(&["SHUTDOWN"]);
        drop(client);
        let server = server.restart(&[]);
        let client = server.client();
        (server, client)
    };
    let found = ask(&mut client, "SCHEMA DRAIN redis-meta STATUS");
    if let [drain] = found.items() {
        assert_eq!(drain.get("state").text(), "paused", "as before the restart");
        ask(&mut client, "SCHEMA DRAIN redis-meta RESUME");
        wait_for_drain(&mut client, "redis-meta");
    }
    assert_eq!(list(&mut client, "meta"), ["keys 1: 1, 1"], "not undone by the start either");
    ask(&mut client, "SCHEMA DRAIN redis-meta");
    drop(server);
}

#[test]
fn ranges_are_set_one_by_one_with_keys_of_any_bytes() {
    let server = start(&[]);
    let mut client = server.client();
    let mut set = |start: &[u8], end: &[u8], text: &str| {
        client.value(&[b"SCHEMA", b"SET", b"meta", start, end, text.as_bytes()])
    };
    assert_eq!(set(b"\0\x01", b"\0\x02", "one ns u16, rest").get("version").number(), 1);
    assert_eq!(set(b"\xff\0\r\n", b"", "one ns u16, slot u16, rest").get("version").number(), 2);
    assert_eq!(set(b"", b"\0\0\x01", "one 1").get("version").number(), 1);
    assert_eq!(set(b"\0\x02", b"\0\x03", "one").get("version").number(), 2);
    assert!(set(b"b", b"b", "one").error().contains("the range has no keys"));

    client.command(&["HELLO", "3"]);
    client.reply();
    let info = ask(&mut client, "SCHEMA INFO one");
    assert_eq!(info.get("built_in").number(), 0);
    let ranges = |version: &Value| -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let ranges = version.get("column_families").get("meta").get("ranges");
        let end = |range: &Value| match range.get("end") {
            Value::Null => None,
            end => Some(end.bytes().to_vec()),
        };
        let ranges = ranges.items().iter();
        ranges.map(|range| (range.get("start").bytes().to_vec(), end(range))).collect()
    };
    let [v1, v2] = info.get("versions").items() else { panic!("{info:?}") };
    let own = |start: &[u8], end: Option<&[u8]>| (start.to_vec(), end.map(<[u8]>::to_vec));
    assert_eq!(ranges(v1), [own(b"", Some(b"\0\0\x01")), own(b"\0\x01", Some(b"\0\x02"))]);
    assert_eq!(ranges(v2), [own(b"\0\x02", Some(b"\0\x03")), own(b"\xff\0\r\n", None)]);
    let between = ask(&mut client, "SCHEMA INFO redis-meta 1");
    assert_eq!(between.get("built_in").number(), 1);
    let between = ranges(&between.get("versions").items()[0]);
    assert_eq!(between, [own(b"\0\0\x01", Some(b"\0\x01")), own(b"\0\x03", Some(b"\xff\0\r\n")),]);
}

#[test]
fn what_was_set_is_there_after_a_restart_and_the_default_stays_when_it_was_chosen() {
    let server = start(&[]);
    let mut client = server.client();
    assert_eq!(list(&mut client, "meta"), ["redis-meta 1: 1, 0"]);
    ask(&mut client, "SCHEMA SET meta - + default").get("hash");
    ask(&mut client, "SCHEMA SET expire - + mine at u64, rest").get("hash");
    client.ask_or_refusal(&["SHUTDOWN"]);
    drop(client);
    let server = server.restart(&[]);
    let mut client = server.client();
    assert_eq!(list(&mut client, "meta"), ["default 1: 1, 0"]);
    assert_eq!(list(&mut client, "expire"), ["mine 1: 1, 0"]);
    assert_eq!(list(&mut client, "data"), ["redis-data 1: 1, 0"]);
}

#[test]
fn nonsense_is_refused_with_the_way_out_and_changes_nothing() {
    let server = start(&[]);
    let mut client = server.client();
    let before = ask(&mut client, "SCHEMA LIST");
    for (line, wanted) in [
        ("SCHEMA", "ERR wrong number of arguments for 'schema' command"),
        ("SCHEMA NONE", "ERR unknown subcommand 'NONE'. Try SCHEMA HELP."),
        ("SCHEMA LIST x", "ERR wrong number of arguments for 'schema|list' command"),
        ("SCHEMA INFO", "ERR wrong number of arguments for 'schema|info' command"),
        (
            "SCHEMA INFO none",
            "ERR there is no key schema 'none'; there are: default, mvcc, redis-data, redis-expire, \
             redis-meta, redis-score",
        ),
        ("SCHEMA INFO mvcc x", "ERR 'x' is not a version: give a number"),
        ("SCHEMA INFO mvcc 7", "ERR there is no version 7 of key schema 'mvcc'; there are: 1"),
        ("SCHEMA INFO mvcc 1 2", "ERR syntax error"),
        ("SCHEMA TABLES mvcc 99999999999", "ERR '99999999999' is not a version: give a number"),
        ("SCHEMA TABLES", "ERR wrong number of arguments for 'schema|tables' command"),
        ("SCHEMA SET meta - +", "ERR wrong number of arguments for 'schema|set' command"),
        (
            "SCHEMA SET none - + default",
            "ERR there is no column family 'none'; there are: default, meta, expire, data, score, \
             stream",
        ),
        (
            "SCHEMA SET meta + - default",
            "ERR a range cannot start at +, behind the last key: - is the first",
        ),
        (
            "SCHEMA SET meta b a default",
            "ERR the range has no keys: its start must sort before its end",
        ),
        (
            "SCHEMA SET meta - + x a u24",
            "ERR field 1 at byte 0: \"a\" has type \"u24\"; use one of u8, u16, u32, u64 (asc or desc), fixed N, escaped, counted u8, counted u16, counted u32, rest",
        ),
        (
            "SCHEMA SET meta - + redis-meta key rest",
            "ERR key schema 'redis-meta' is built in as version 1 with the fields ns u16, slot u16, key rest: give yours another name",
        ),
        (
            "SCHEMA DRAIN none",
            "ERR there is no key schema 'none'; there are: default, mvcc, redis-data, redis-expire, redis-meta, redis-score",
        ),
        (
            "SCHEMA DRAIN mvcc STOP",
            "ERR unknown option 'STOP': there are a version, PAUSE, RESUME, CANCEL and STATUS",
        ),
        ("SCHEMA DRAIN mvcc CANCEL", "ERR no drain of 'mvcc' is under way"),
        ("SCHEMA HELP x", "ERR wrong number of arguments for 'schema|help' command"),
    ] {
        assert_eq!(ask(&mut client, line), Value::Error(wanted.to_owned()), "{line}");
    }
    // Nothing is under it: nothing to drain.
    assert_eq!(ask(&mut client, "SCHEMA DRAIN mvcc"), Value::Array(vec![]));
    for args in [
        &[&b"SCHEMA"[..], b"SET", b"meta", b"-", b"+", b""][..],
        &[b"SCHEMA", b"SET", b"meta", b"-", b"+", b"\xff\xfe a u8"],
        &[b"SCHEMA", b"SET", b"\xff", b"-", b"+", b"default"],
        &[b"SCHEMA", b"INFO", b""],
        &[b"SCHEMA", b"DRAIN", b"\0\r\n"],
        &[b"SCHEMA", b"SET", b"meta", &[0; 2 << 20], b"+", b"default"],
    ] {
        let reply = client.value(args);
        assert!(reply.error().starts_with("ERR "), "{reply:?}");
    }
    // A reply that comes later has no place in a transaction; one that comes at once has.
    ask(&mut client, "MULTI");
    let error = ask(&mut client, "SCHEMA SET meta - + default");
    assert_eq!(error.error(), "ERR Command not allowed inside a transaction");
    ask(&mut client, "DISCARD");
    ask(&mut client, "MULTI");
    ask(&mut client, "SCHEMA LIST");
    assert_eq!(ask(&mut client, "EXEC").items()[0], before);
    assert_eq!(ask(&mut client, "SCHEMA LIST"), before);
}

#[test]
fn info_has_a_section_with_a_line_for_each_schema_and_each_drain() {
    let server = start(&[]);
    let mut client = server.client();
    fill(&mut client, 50);
    ask(&mut client, "SCHEMA SET meta - + keys ns u16, rest").get("hash");
    let section = |client: &mut Client| -> BTreeMap<String, String> {
        let text = ask(client, "INFO schema").text();
        assert!(text.starts_with("# Schema\r\n"), "{text}");
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let lines = section(&mut client);
    assert_eq!((lines["schema_drains"].as_str(), lines["schema_old_tables"].as_str()), ("0", "1"));
    assert!(lines["schema_old_bytes"].parse::<u64>().unwrap() > 500);
    let has = |lines: &BTreeMap<String, String>, start: &str| {
        lines.values().any(|line| line.starts_with(start))
    };
    assert!(has(
        &lines,
        "column_family=meta,name=redis-meta,version=1,hash=05df45109cd866c2,ranges=0,tables=1,bytes="
    ));
    assert!(has(&lines, "column_family=meta,name=keys,version=1,hash="));
    ask(&mut client, "SCHEMA DRAIN redis-meta");
    wait_for_drain(&mut client, "redis-meta");
    let lines = section(&mut client);
    assert_eq!((lines["schema_drains"].as_str(), lines["schema_old_tables"].as_str()), ("0", "0"));
    let drain = &lines["drain0"];
    assert!(drain.contains(",state=done,tables_left=0,bytes_left=0,tables_done=1,"), "{drain}");
    // Part of INFO without arguments, too.
    assert!(ask(&mut client, "INFO").text().contains("\r\n# Schema\r\n"));
}

struct OpenOnDrop<'a>(&'a Gate);

impl Drop for OpenOnDrop<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

#[test]
fn p05_nobody_else_waits_for_a_manifest_that_stands_still() {
    let (server, fs) = start_faulty(&["--workers", "1"]);
    let (mut operator, mut client) = (server.client(), server.client());
    let gate = Gate::new();
    // Also when this fails: the server's end would wait for the gate.
    let opened = OpenOnDrop(&gate);
    let is_manifest = |path: &Path| path.to_string_lossy().contains("MANIFEST");
    fs.add(Rule::on(Op::SyncData).path(is_manifest).hold(&gate));
    operator.command(&["SCHEMA", "SET", "meta", "-", "+", "keys ns u16, rest"]);
    // The only worker goes on, and so does what looks at schemas.
    gate.wait_until_reached();
    let replies = [client.ask(&["SET", "key", "value"]), client.ask(&["GET", "key"])];
    let looks = [
        ask(&mut client, "SCHEMA LIST").items().len() as i64,
        ask(&mut client, "INFO schema").text().len() as i64,
        ask(&mut client, "SCHEMA INFO redis-meta").get("built_in").number(),
        ask(&mut client, "SCHEMA TABLES default").items().len() as i64 + 1,
    ];
    drop(opened);
    assert_eq!(replies, ["+OK\r\n", "$5\r\nvalue\r\n"]);
    assert!(looks.iter().all(|number| *number > 0), "{looks:?}");
    assert!(operator.reply().contains("keys"));
}

const CONNECTIONS: usize = 50;

/// What a connection writes and reads back while the schemas change under it.
fn load(client: &mut Client, number: usize, round: u64) -> Result<(), String> {
    let key = format!("load:{number}:{}", round % 40);
    let value = format!("{number}-{round}-{}", "x".repeat(200));
    let set = client.ask(&["SET", &key, &value, "EX", "10000"]);
    if set != "+OK\r\n" {
        return Err(format!("SET: {set}"));
    }
    let get = client.ask(&["GET", &key]);
    if get != format!("${}\r\n{value}\r\n", value.len()) {
        return Err(format!("GET {key}: {get}"));
    }
    Ok(())
}

#[test]
fn under_load_of_50_connections_no_command_fails_and_drains_reach_zero() {
    // Small memtables: flushes and compactions run all the time.
    let server = start(&["--memtable-bytes", "256kb", "--memtable-wait-timeout", "-1"]);
    let stop = AtomicBool::new(false);
    let commands = AtomicU64::new(0);
    let address = server.address;
    let (stop, commands) = (&stop, &commands);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                scope.spawn(move || -> Result<u64, String> {
                    let mut client = Client::connect(address);
                    let mut round = 0;
                    while !stop.load(Ordering::Relaxed) {
                        load(&mut client, number, round)?;
                        round += 1;
                        commands.fetch_add(2, Ordering::Relaxed);
                    }
                    Ok(round)
                })
            })
            .collect();
        let mut client = server.client();
        let wait_for_commands = |more: u64| {
            let until = commands.load(Ordering::Relaxed) + more;
            while commands.load(Ordering::Relaxed) < until {
                std::thread::yield_now();
            }
        };
        // The end of the load comes first whatever fails: no thread is left behind.
        let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut before = "redis-meta".to_owned();
            for (version, fields) in [
                "ns u16, slot u16, kind fixed 5, rest",
                "ns u16, slot u16, rest",
                "ns u16, slot u16, kind fixed 5, connection fixed 1, rest",
            ]
            .into_iter()
            .enumerate()
            {
                wait_for_commands(2000);
                ask(&mut client, "FLUSHMEMTABLE");
                let set = ask(&mut client, &format!("SCHEMA SET meta - + load {fields}"));
                assert_eq!(set.get("version").number(), version as i64 + 1);
                // Compactions may have left nothing to it by now.
                ask(&mut client, &format!("SCHEMA DRAIN {before}")).items();
                wait_for_commands(1000);
                let done = wait_for_drain(&mut client, &before);
                let left = done.items().iter().map(|drain| drain.get("tables_left").number());
                assert_eq!(left.sum::<i64>(), 0);
                let tables = ask(&mut client, &format!("SCHEMA TABLES {before}"));
                assert_eq!(tables, Value::Array(vec![]), "and none comes back");
                before = format!("load {}", version + 1);
            }
            // A part of the keys under something else: tables are cut at its ends.
            let args: [&[u8]; 6] =
                [b"SCHEMA", b"SET", b"meta", b"\0\0\x20", b"\0\0\x30", b"default"];
            client.value(&args).get("hash");
            wait_for_commands(2000);
            ask(&mut client, "FLUSHMEMTABLE");
            for before in ["load 1", "load 2"] {
                assert_eq!(
                    ask(&mut client, &format!("SCHEMA TABLES {before}")),
                    Value::Array(vec![])
                );
            }
        }));
        stop.store(true, Ordering::Relaxed);
        let rounds: Vec<u64> =
            workers.into_iter().map(|worker| worker.join().unwrap().unwrap()).collect();
        changed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert!(rounds.iter().all(|rounds| *rounds > 0), "{rounds:?}");
    });
}
