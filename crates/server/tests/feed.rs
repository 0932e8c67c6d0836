//! Events of the engine on ordinary channels.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::{Client, start_faulty};
use sluice_server::{Config, Server};
use sluicedb::env::{Env, Gate, JoinHandle, Op, OsThreads, Rule, Threads};

/// The payload of the next message, which must be of `channel`.
fn message(client: &mut Client, channel: &str) -> String {
    let reply = client.reply();
    let lines: Vec<&str> = reply.split("\r\n").collect();
    assert_eq!((lines[0], lines[2], lines[4]), ("*3", "message", channel), "{reply:?}");
    lines[6].to_owned()
}

fn subscribed(server: &common::Running, channel: &str) -> Client {
    let mut client = server.client();
    assert!(client.ask(&["SUBSCRIBE", channel]).contains("subscribe"));
    client
}

#[test]
fn a_flush_is_told_from_seal_to_end() {
    let (server, _fs) = start_faulty(&[]);
    let mut listener = subscribed(&server, "__sluice__:flush");
    let mut client = server.client();
    client.ask(&["SET", "key", "value"]);
    client.ask(&["FLUSHMEMTABLE"]);
    for name in ["memtable-sealed", "flush-begin", "flush-end"] {
        let text = message(&mut listener, "__sluice__:flush");
        assert!(text.starts_with(&format!("{name} ")), "{text}");
        assert!(text.contains("reason=manual"), "{text}");
        assert!(text.contains("at_unix_ms="), "{text}");
    }
}

#[test]
fn a_stall_is_told_with_its_cause() {
    let (server, fs) = start_faulty(&[
        "--memtable-bytes",
        "64kb",
        "--memtable-count",
        "2",
        "--memtable-wait-timeout",
        "0",
    ]);
    let mut listener = subscribed(&server, "__sluice__:stall");
    let mut client = server.client();
    let gate = Gate::new();
    fs.add(Rule::on(Op::SyncData).path_ends_with(".sst").hold(&gate));
    let value = "v".repeat(10_000);
    while client.ask_or_refusal(&["SET", "key", &value]) == "+OK\r\n" {}
    gate.open();
    let mut texts = Vec::new();
    loop {
        let text = message(&mut listener, "__sluice__:stall");
        let name = text.split(' ').next().unwrap().to_owned();
        texts.push(text);
        if name == "stall-end" {
            break;
        }
    }
    let begin = texts.iter().find(|text| text.starts_with("stall-begin ")).unwrap();
    assert!(begin.contains("cause=memtables") && begin.contains("cf=meta"), "{begin}");
}

#[test]
fn an_error_of_a_background_job_is_told_and_its_end_too() {
    let (server, fs) = start_faulty(&[]);
    let mut listener = subscribed(&server, "__sluice__:error");
    let mut client = server.client();
    client.ask(&["SET", "key", "value"]);
    let rule = Rule::on(Op::Create).path_ends_with(".sst");
    fs.add(rule.fail(std::io::ErrorKind::PermissionDenied));
    assert!(client.ask(&["FLUSHMEMTABLE"]).starts_with("-ERR"));
    let text = message(&mut listener, "__sluice__:error");
    assert!(text.starts_with("background-error ") && text.contains("job=flush"), "{text}");
    assert_eq!(client.ask(&["FLUSHMEMTABLE"]), "+OK\r\n");
    assert!(message(&mut listener, "__sluice__:error").starts_with("recovered job=flush"));
}

/// Threads of the system's, but for workers behind the first one.
#[derive(Debug)]
struct OneWorker;

impl Threads for OneWorker {
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> std::io::Result<JoinHandle> {
        if name == "worker-1" {
            return Err(std::io::Error::other("no more threads"));
        }
        OsThreads.spawn(name, body)
    }
}

/// The thread of the events and the workers that run already hold the engine.
#[test]
fn a_start_that_fails_at_its_last_step_lets_go_of_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().display().to_string();
    let arguments = ["--port", "0", "--bind", "127.0.0.1", "--workers", "2", "--dir", &dir];
    let config = || Config::from_arguments(arguments.map(str::to_owned)).unwrap();
    let env = Env { threads: Arc::new(OneWorker), ..Env::os() };
    let error = Server::start_in(config(), env).unwrap_err();
    assert_eq!(error.0, "cannot start a worker: no more threads");
    let server = Server::start(config()).unwrap();
    server.stop_handle().stop();
    server.wait().unwrap();
}
