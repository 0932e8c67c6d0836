//! What an operator and a hostile client can do wrong, on the real binary: each ends in a sentence
//! or an error reply, never in a panic, and what is not damaged stays readable.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "another process lives in the real world: its time, its threads"
)]

mod common;

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::client::{Client, Reply};
use common::{Sluice, files, seed};
use sluicedb::env::Rng;

/// Keys of a round; round 0 and 1 are in a table each, round 2 is in the log.
const ROUND: usize = 2000;

fn value(round: usize, at: usize) -> String {
    format!("{round}/{at}/").repeat(12)
}

/// A directory with two tables and a log, as a kill leaves it.
fn directory_with_data() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let server = Sluice::start(directory.path(), &["--wal-segment-bytes", "1mb"]);
    let mut client = server.client();
    for round in 0..3 {
        for start in (0..ROUND).step_by(100) {
            let mut args = vec!["MSET".to_owned()];
            for at in start..start + 100 {
                args.extend([format!("key:{round}:{at}"), value(round, at)]);
            }
            assert_eq!(client.ask(&args).unwrap(), Reply::ok());
        }
        if round < 2 {
            assert_eq!(client.ask(&["FLUSHMEMTABLE"]).unwrap(), Reply::ok());
        }
    }
    server.kill();
    directory
}

fn get(client: &mut Client, round: usize, at: usize) -> Reply {
    client.ask(&["GET", &format!("key:{round}:{at}")]).unwrap()
}

fn assert_round_is_there(client: &mut Client, round: usize) {
    for at in 0..ROUND {
        assert_eq!(get(client, round, at), Reply::Bulk(value(round, at).into_bytes()));
    }
}

fn flip(path: &Path, offset: u64) {
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(&[!byte[0]]).unwrap();
}

fn cut(path: &Path, length: u64) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

fn manifest(directory: &Path) -> PathBuf {
    let name = std::fs::read_to_string(directory.join("db/CURRENT")).unwrap();
    directory.join("db").join(name.lines().next().unwrap())
}

/// The sentence with which a start is refused.
fn refusal(directory: &Path) -> String {
    match Sluice::try_start(directory, &[]) {
        Ok(_) => panic!("the server started"),
        Err((status, stderr)) => {
            assert_eq!(status.code(), Some(1), "{stderr}");
            assert!(stderr.starts_with("sluice: cannot open the database in "), "{stderr}");
            assert!(!stderr.contains("panicked"), "{stderr}");
            stderr
        }
    }
}

/// Damages a fresh copy; the start must be refused with this text, and leave every table as it was.
/// (An open that gets as far as the log has switched to a fresh manifest and prepared a segment.)
fn assert_refused(damage: impl FnOnce(&Path), text: &str) {
    let directory = directory_with_data();
    damage(directory.path());
    let snapshot = || -> Vec<(PathBuf, Vec<u8>)> {
        let all = files(directory.path(), ".sst");
        all.into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
    };
    let before = snapshot();
    let sentence = refusal(directory.path());
    assert!(sentence.contains(text), "{sentence:?} lacks {text:?}");
    let after = snapshot();
    for (old, new) in before.iter().zip(&after) {
        assert!(old == new, "a refused start changed {:?}", old.0);
    }
    assert_eq!(before.len(), after.len());
}

#[test]
fn p08_a_damaged_current_or_manifest_is_refused_with_file_and_offset() {
    assert_refused(
        |directory| cut(&directory.join("db/CURRENT"), 0),
        "CURRENT is damaged at offset 0: expected the name of a manifest and its checksum, found \"\"",
    );
    assert_refused(
        |directory| std::fs::remove_file(directory.join("db/CURRENT")).unwrap(),
        "CURRENT is damaged at offset 0: expected the name of the live manifest, found no such file",
    );
    assert_refused(
        |directory| flip(&manifest(directory), 60),
        "MANIFEST-000001 is damaged at offset 52: expected frame header crc32c ",
    );
    assert_refused(
        |directory| std::fs::remove_file(manifest(directory)).unwrap(),
        "found MANIFEST-000001, which does not exist",
    );
}

#[test]
fn p08_a_damaged_log_is_refused_with_file_and_offset() {
    let first = |directory: &Path| files(directory, ".wal").remove(0);
    assert_refused(
        |directory| flip(&first(directory), 2),
        ".wal is damaged at offset 0: expected a segment header, found ",
    );
    assert_refused(
        |directory| std::fs::remove_file(first(directory)).unwrap(),
        ".wal is damaged at offset 0: expected the oldest log segment that the manifest needs, found \
         no file",
    );
}

#[test]
fn p08_a_damaged_table_fails_its_own_reads_and_nothing_else() {
    for (length, text) in [
        (Some(1000), ".sst is damaged at offset 920: expected the magic SLUICSST"),
        (Some(0), ".sst is damaged at offset 0: expected a table of at least 80 bytes, found 0"),
        (None, ".sst is damaged at offset "),
    ] {
        let directory = directory_with_data();
        let table = files(directory.path(), ".sst").remove(0);
        match length {
            Some(length) => cut(&table, length),
            // In the first data block.
            None => flip(&table, 100),
        }
        let server = Sluice::start(directory.path(), &[]);
        let mut client = server.client();
        assert_round_is_there(&mut client, 1);
        assert_round_is_there(&mut client, 2);
        let (mut refused, mut there) = (0, 0);
        for at in 0..ROUND {
            match get(&mut client, 0, at) {
                Reply::Bulk(found) => {
                    assert_eq!(found, value(0, at).into_bytes());
                    there += 1;
                }
                Reply::Error(error) => {
                    assert!(error.starts_with("CORRUPT ") && error.contains(text), "{error}");
                    refused += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(refused > 0, "the damage was not seen");
        assert!(length.is_some() || there > refused, "one damaged block took {refused} keys");
        // A database whose keys the damaged table does not hold.
        assert_eq!(client.ask(&["SELECT", "1"]).unwrap(), Reply::ok());
        assert_eq!(client.ask(&["SET", "new", "1"]).unwrap(), Reply::ok());
        assert_eq!(client.ask(&["FLUSHMEMTABLE"]).unwrap(), Reply::ok());
        assert_eq!(server.stop("-TERM").0.code(), Some(0));
    }
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn p12_a_newer_format_is_refused_and_left_alone() {
    // A manifest header as a later build would write it: docs/format/manifest.md.
    let newer = |directory: &Path| {
        let path = manifest(directory);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[8] = 200;
        let crc = crc32c(&bytes[..20]);
        bytes[20..24].copy_from_slice(&crc.to_le_bytes());
        std::fs::write(path, bytes).unwrap();
    };
    assert_refused(newer, "(the data was written by a newer version: start that version)");
    assert_refused(newer, "MANIFEST-000001 has format 200, this build reads up to 1");
}

#[test]
fn a_directory_in_use_and_a_port_in_use_are_sentences() {
    let directory = tempfile::tempdir().unwrap();
    let server = Sluice::start(directory.path(), &[]);
    let sentence = refusal(directory.path());
    assert!(
        sentence.contains("(another server uses this directory: stop it, or choose another --dir)"),
        "{sentence}"
    );
    let port = server.address.rsplit(':').next().unwrap().to_owned();
    let other = tempfile::tempdir().unwrap();
    let (status, stderr) = Sluice::try_start(other.path(), &["--port", &port]).err().unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(
        stderr.starts_with(&format!("sluice: cannot listen on 127.0.0.1:{port}: ")),
        "{stderr}"
    );
    // The first one never noticed.
    assert_eq!(server.client().ask(&["SET", "a", "b"]).unwrap(), Reply::ok());
}

#[test]
fn nonsense_options_are_refused_and_unknown_ones_reported() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, text) in [
        (
            &["--memtable-bytes", "1"][..],
            "bad value for --memtable-bytes '1': argument must be between 65536 and 2147483648 inclusive",
        ),
        (
            &["--memtable-count", "1"],
            "bad value for --memtable-count '1': argument must be between 2 and 64 inclusive",
        ),
        (
            &["--memory-budget", "much"],
            "bad value for --memory-budget 'much': argument must be a memory value",
        ),
        (
            &["--port", "99999"],
            "bad value for --port '99999': argument must be between 0 and 65535",
        ),
        (
            &["--appendfsync", "sometimes"],
            "bad value for --appendfsync 'sometimes': argument(s) must be one of the following: \
             everysec, always, no",
        ),
        (
            &["--appendonly", "maybe"],
            "bad value for --appendonly 'maybe': argument must be 'yes' or 'no'",
        ),
        (&["--flush-threads"], "bad value for --flush-threads '': wrong number of arguments"),
        (&["--bind", "nonsense"], "bind: 'nonsense' is not an IP address"),
        (&["--wal-max-bytes", "1mb"], "(change the parameter of that name, with - for _)"),
    ] {
        let (status, stderr) = Sluice::try_start(directory.path(), arguments).err().unwrap();
        assert_eq!(status.code(), Some(1), "{stderr}");
        assert!(stderr.starts_with("sluice: ") && stderr.contains(text), "{stderr}");
    }
    let server = Sluice::start(directory.path(), &["--no-such-thing", "1"]);
    let (status, printed) = server.stop("-INT");
    assert_eq!(status.code(), Some(0));
    assert!(
        printed.contains("unknown configuration parameter 'no-such-thing' is ignored"),
        "{printed}"
    );
}

#[test]
fn wrong_commands_are_answered_in_redis_words() {
    let directory = tempfile::tempdir().unwrap();
    let server = Sluice::start(directory.path(), &[]);
    let mut client = server.client();
    for (args, text) in [
        (&["GET"][..], "ERR wrong number of arguments for 'get' command"),
        (&["SET", "a"], "ERR wrong number of arguments for 'set' command"),
        (&["MSET", "a", "b", "c"], "ERR wrong number of arguments for 'mset' command"),
        (&["NOSUCH", "x"], "ERR unknown command 'NOSUCH', with args beginning with: 'x' "),
        (&["CLIENT", "NOSUCH"], "ERR unknown subcommand 'NOSUCH'. Try CLIENT HELP."),
        (&["SET", "a", "b", "EX", "0"], "ERR invalid expire time in 'set' command"),
        (&["SET", "a", "b", "NX", "XX"], "ERR syntax error"),
        (&["SELECT", "99"], "ERR DB index is out of range"),
        (&["EXEC"], "ERR EXEC without MULTI"),
        (&["FLUSHMEMTABLE", "NOW"], "ERR parameter must be 'ASYNC'"),
    ] {
        assert_eq!(client.ask(args).unwrap(), Reply::Error(text.into()), "{args:?}");
    }
    client.ask(&["SET", "text", "abc"]).unwrap();
    let reply = client.ask(&["INCR", "text"]).unwrap();
    assert_eq!(reply, Reply::Error("ERR value is not an integer or out of range".into()));
}

#[test]
fn p12_random_bytes_never_stop_the_server_or_change_data() {
    let mut rng = Rng::new(seed());
    let directory = tempfile::tempdir().unwrap();
    let server = Sluice::start(directory.path(), &["--proto-max-bulk-len", "1mb"]);
    let mut client = server.client();
    client.ask(&["SET", "witness", "here"]).unwrap();
    let end = Instant::now() + Duration::from_secs(2);
    let mut rounds = 0;
    while Instant::now() < end {
        let mut socket = TcpStream::connect(&server.address).unwrap();
        // Broken on purpose: the server may close at any byte.
        let _ = socket.write_all(&junk(&mut rng));
        if rng.one_in(2) {
            let _ = socket.shutdown(std::net::Shutdown::Write);
            socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            // Every half-closed connection is answered and ended, or reset.
            let mut rest = Vec::new();
            if let Err(error) = socket.read_to_end(&mut rest) {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            }
        }
        rounds += 1;
    }
    println!("{rounds} connections of junk");
    assert_eq!(client.ask(&["GET", "witness"]).unwrap(), Reply::Bulk(b"here".to_vec()));
    let (status, printed) = server.stop("-TERM");
    assert_eq!(status.code(), Some(0), "{printed}");
    assert!(!printed.contains("panicked"), "{printed}");
}

/// Random bytes, or nearly right frames with hostile lengths.
fn junk(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![0; rng.below(2000) as usize];
    rng.fill(&mut bytes);
    if rng.one_in(3) {
        return bytes;
    }
    const PARTS: [&str; 14] = [
        "*3\r\n",
        "$3\r\n",
        "GET\r\n",
        "*-1\r\n",
        "$-1\r\n",
        "*1048576\r\n",
        "$1048576\r\n",
        "\r\n",
        "*2147483648\r\n",
        "$99999999999999999999\r\n",
        "MULTI\r\n",
        "EXEC\r\n",
        "PING\r\n",
        "\"",
    ];
    let mut out = Vec::new();
    for _ in 0..rng.below(30) {
        let part = PARTS[rng.below(PARTS.len() as u64) as usize];
        out.extend_from_slice(part.as_bytes());
        if rng.one_in(8) {
            let from = rng.below(bytes.len() as u64 + 1) as usize;
            out.extend_from_slice(&bytes[from..(from + 20).min(bytes.len())]);
        }
    }
    out
}
