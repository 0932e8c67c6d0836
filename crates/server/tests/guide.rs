//! Runs the sessions of docs/guide/key-schemas.md against a server and compares what it replies with
//! what the guide shows.
//!
//! ```text
//! UPDATE_EXPECT=1 cargo test -p sluice-server --test guide     writes the replies into the guide
//! ```
//! Sizes in bytes may differ: they belong to a build. A command that asks for the STATUS of a drain is
//! asked again until the drain is done, as a reader would.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::PathBuf;

use common::value::Value;
use common::{Client, start};

/// The words of a line as redis-cli reads them: in double quotes, `\xNN` is a byte.
fn words(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').expect("a closing quote"),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        let mut bytes = Vec::new();
        let mut parts = word.split("\\x");
        bytes.extend_from_slice(parts.next().unwrap().as_bytes());
        for part in parts {
            let (hex, text) = part.split_at(2);
            bytes.push(u8::from_str_radix(hex, 16).unwrap());
            bytes.extend_from_slice(text.as_bytes());
        }
        words.push(bytes);
        rest = behind.trim_start();
    }
    words
}

fn run(client: &mut Client, line: &str) -> String {
    let words = words(line);
    let args: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    loop {
        let reply = client.value(&args);
        if line.ends_with(" STATUS") {
            let is_done = |drain: &Value| drain.get("state").text() == "done";
            if !reply.items().iter().all(is_done) {
                std::thread::yield_now();
                continue;
            }
        }
        return match &reply {
            Value::Bulk(text) if line.starts_with("INFO") => {
                String::from_utf8_lossy(text).replace('\r', "")
            }
            reply => reply.shown(),
        };
    }
}

/// A line without what a build may change: sizes, and how far a drain is when it is begun.
fn masked(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("bytes") {
        let (before, behind) = rest.split_at(at);
        out.push_str(before);
        let digits = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let end = behind[digits..].find(|c: char| !c.is_ascii_digit());
        out.push_str(&behind[..digits]);
        rest = end.map_or("", |end| &behind[digits + end..]);
    }
    out + rest
}

#[test]
fn the_guide_shows_what_a_server_replies() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/key-schemas.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let server = start(&[]);
    let mut client = server.client();
    client.ask(&["HELLO", "3"]);
    for n in 0..2000 {
        client.command(&["SET", &format!("s:{:08}:k{n}", n % 100), &format!("value{n}")]);
    }
    (0..2000).for_each(|_| assert_eq!(client.reply(), "+OK\r\n"));
    assert_eq!(client.ask(&["FLUSHMEMTABLE"]), "+OK\r\n");

    let (mut wanted, mut rest, mut sessions) = (String::new(), text.as_str(), 0);
    while let Some(at) = rest.find("<!-- session ") {
        let begin = at + rest[at..].find("```text\n").expect("a block") + "```text\n".len();
        let end = begin + rest[begin..].find("```\n").expect("the block's end");
        wanted.push_str(&rest[..begin]);
        for line in rest[begin..end].lines().filter_map(|line| line.strip_prefix("> ")) {
            wanted.push_str(&format!("> {line}\n{}", run(&mut client, line)));
        }
        rest = &rest[end..];
        sessions += 1;
    }
    wanted.push_str(rest);
    assert!(sessions >= 6, "{sessions} sessions in the guide");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &wanted).unwrap();
        return;
    }
    let differ = text.lines().map(masked).zip(wanted.lines().map(masked)).find(|(a, b)| a != b);
    assert_eq!(differ, None, "(guide, server): UPDATE_EXPECT=1 writes the replies into the guide");
    assert_eq!(text.lines().count(), wanted.lines().count());
}
