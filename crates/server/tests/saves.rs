//! SAVE, BGSAVE, LASTSAVE over sockets: what a save holds, one at a time, and that nobody else waits.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Client, start, start_config, start_faulty};
use sluice_server::Config;
use sluicedb::env::{Gate, Op, Rule};
use std::path::Path;

fn info(client: &mut Client, name: &str) -> String {
    let info = client.ask(&["INFO", "persistence"]);
    let head = format!("\r\n{name}:");
    let at = info.find(&head).unwrap() + head.len();
    info[at..].split("\r\n").next().unwrap().to_owned()
}

/// A server on a copy of a save.
fn start_on(save: &Path) -> common::Running {
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("db");
    std::fs::create_dir(&db).unwrap();
    for entry in std::fs::read_dir(save).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), db.join(entry.file_name())).unwrap();
    }
    let arguments = ["--port", "0", "--dir", directory.path().to_str().unwrap()];
    let config = Config::from_arguments(arguments.map(str::to_owned)).unwrap();
    start_config(config, directory)
}

#[test]
fn a_save_is_a_database_of_its_own_as_of_its_moment() {
    let server = start(&["--appendonly", "no"]);
    let mut client = server.client();
    let directory = client.ask(&["CONFIG", "GET", "dir"]);
    let directory = directory.split("\r\n").nth(4).unwrap().to_owned();
    let started = client.ask(&["LASTSAVE"]);
    assert!(started.starts_with(":1"), "the start of the server: {started:?}");
    client.ask(&["MSET", "a", "1", "b", "2"]);
    assert_ne!(info(&mut client, "rdb_changes_since_last_save"), "0");
    assert_eq!(client.ask(&["SAVE"]), "+OK\r\n");
    assert_eq!(info(&mut client, "rdb_changes_since_last_save"), "0");
    assert_eq!(info(&mut client, "rdb_saves"), "1");
    client.ask(&["SET", "a", "later"]);
    let backup = Path::new(&directory).join("backup");
    let copy = start_on(&backup);
    let mut other = copy.client();
    assert_eq!(other.ask(&["MGET", "a", "b"]), "*2\r\n$1\r\n1\r\n$1\r\n2\r\n");
    assert_eq!(other.ask(&["DBSIZE"]), ":2\r\n");
    // The next one takes its place.
    assert_eq!(client.ask(&["SAVE"]), "+OK\r\n");
    let copy = start_on(&backup);
    let mut other = copy.client();
    assert_eq!(other.ask(&["GET", "a"]), "$5\r\nlater\r\n");
    assert!(!Path::new(&directory).join("backup.old").exists());
    assert!(!Path::new(&directory).join("backup.new").exists());
}

#[test]
fn one_save_at_a_time_and_everything_else_goes_on() {
    let (server, fs) = start_faulty(&[]);
    let (mut saver, mut client) = (server.client(), server.client());
    client.ask(&["SET", "key", "value"]);
    let gate = Gate::new();
    fs.add(Rule::on(Op::SyncData).path_ends_with(".sst").hold(&gate));
    saver.command(&["SAVE"]);
    gate.wait_until_reached();
    assert_eq!(
        client.ask(&["BGSAVE"]),
        "-ERR Background save already in progress\r\n",
        "one at a time"
    );
    let running = info(&mut client, "rdb_bgsave_in_progress");
    let read = client.ask(&["GET", "key"]);
    gate.open();
    assert_eq!((running.as_str(), read.as_str()), ("1", "$5\r\nvalue\r\n"));
    assert_eq!(saver.reply(), "+OK\r\n");
    assert_eq!(client.ask(&["BGSAVE", "SCHEDULE"]), "+Background saving started\r\n");
    while info(&mut client, "rdb_saves") != "2" {
        std::thread::yield_now();
    }
    assert_eq!(info(&mut client, "rdb_last_bgsave_status"), "ok");
}

#[test]
fn nonsense_is_refused_and_a_failed_save_leaves_the_one_before() {
    let (server, fs) = start_faulty(&[]);
    let mut client = server.client();
    assert_eq!(client.ask(&["BGSAVE", "NOW"]), "-ERR syntax error\r\n");
    assert!(client.ask(&["SAVE", "x"]).starts_with("-ERR wrong number of arguments"));
    client.ask(&["SET", "key", "1"]);
    assert_eq!(client.ask(&["SAVE"]), "+OK\r\n");
    client.ask(&["SET", "key", "2"]);
    let rule = fs.add(Rule::on(Op::HardLink).fail(std::io::ErrorKind::StorageFull));
    let failed = client.ask(&["SAVE"]);
    assert!(failed.starts_with("-ERR"), "{failed:?}");
    assert_eq!(info(&mut client, "rdb_last_bgsave_status"), "err");
    fs.remove(rule);
    assert_eq!(client.ask(&["SAVE"]), "+OK\r\n");
    assert_eq!(info(&mut client, "rdb_last_bgsave_status"), "ok");
}

#[test]
fn a_save_is_under_way_from_its_reply_on_and_over_with_its_reply() {
    let (server, fs) = start_faulty(&[]);
    let mut client = server.client();
    client.ask(&["SET", "key", "value"]);
    let gate = Gate::new();
    fs.add(Rule::on(Op::SyncData).path_ends_with(".sst").hold(&gate));
    // In one piece: no thread of the save has run in between.
    client.send(b"BGSAVE\r\nINFO persistence\r\n");
    assert_eq!(client.reply(), "+Background saving started\r\n");
    let running = client.reply();
    gate.open();
    assert!(running.contains("\r\nrdb_bgsave_in_progress:1\r\n"), "{running}");
    while info(&mut client, "rdb_bgsave_in_progress") != "0" {
        std::thread::yield_now();
    }
    assert_eq!(info(&mut client, "rdb_saves"), "1");
    // Each begins at once when the one before has answered.
    client.send("SAVE\r\n".repeat(50).as_bytes());
    for number in 0..50 {
        assert_eq!(client.reply(), "+OK\r\n", "save {number}");
    }
}
