//! What was read survives `kill -9`, even before it was acknowledged to who wrote it.
//!
//! ```text
//! writer   SET k n, then a long command in the same turn: its replies and the log wait for the end
//! reader   on the other event loop: GET k until it is n, and then the process is killed
//! restart  k is n: the reader's own turn has handed the log over before its reply left
//! ```
//!
//! Random load meets that window too seldom (`histories.rs` looks for it, too). A round in which
//! the writer was answered before the kill shows nothing; most of them do not end so.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "another process lives in the real world: its time, its threads"
)]

mod common;

use std::io::Write as _;

use common::Sluice;
use common::client::{Reply, encode};

const ROUNDS: usize = 8;

#[test]
fn p02_what_was_read_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["--workers", "2", "--appendfsync", "no", "--wal-segment-bytes", "1mb"];
    let mut unacknowledged = 0;
    for round in 0..ROUNDS {
        let server = Sluice::start(directory.path(), &arguments);
        // Connections go to the loop that has fewer: these two are apart.
        let (mut writer, mut reader) = (server.client(), server.client());
        let long = "ab".repeat(1000);
        assert_eq!(reader.ask(&["SET", "long", &long]).unwrap(), Reply::ok());
        let value = round.to_string();
        let mut bytes = Vec::new();
        encode(&mut bytes, &["SET", "k", &value]);
        encode(&mut bytes, &["LCS", "long", "long", "LEN"]);
        writer.socket.write_all(&bytes).unwrap();
        while reader.ask(&["GET", "k"]).unwrap().bulk() != Some(value.as_bytes()) {}
        server.kill();
        unacknowledged += usize::from(writer.reply().is_err());
        let server = Sluice::start(directory.path(), &arguments);
        let found = server.client().ask(&["GET", "k"]).unwrap();
        assert_eq!(found.bulk(), Some(value.as_bytes()), "round {round}: it was read");
        server.kill();
    }
    println!("{unacknowledged} of {ROUNDS} were read before they were acknowledged");
    assert!(unacknowledged > 0, "every write was acknowledged before it was read");
}
