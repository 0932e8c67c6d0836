//! Everything that strangers and operators type, as one total function over bytes: for the fuzz
//! target and for the test that replays its seeds. Not part of the API.

use sluice_keyspace::{Keyspace, KeyspaceOptions, LatchSet, Txn, glob};
use sluice_resp::{Proto, ReplyBuf, split_inline};
use sluicedb::{
    Background, Db, Options, WriteOptions,
    env::{Env, ManualClock, MemFs, OsThreads},
};
use std::sync::Arc;

use crate::{
    command::{Ctx, Flags, HandlerKind},
    config::Config,
    registry::table,
};

/// Most commands and lines of one input.
const LINES_MAX: usize = 64;

/// The first byte chooses who reads the rest.
pub fn text(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    match first % 6 {
        0 => crate::config::fuzz_file(&String::from_utf8_lossy(rest)),
        1 => command_line(&String::from_utf8_lossy(rest)),
        2 => crate::config::fuzz_value(rest),
        3 => pattern(rest),
        4 => crate::commands::fuzz_arguments(&words(rest)),
        _ => commands(rest),
    }
}

fn words(line: &[u8]) -> Vec<Vec<u8>> {
    split_inline(line).unwrap_or_else(|_| line.split(|&b| b == b' ').map(<[u8]>::to_vec).collect())
}

/// Arguments of the program, one on a line.
fn command_line(text: &str) {
    // A first word without dashes would be a file of this machine.
    let arguments = text.lines().map(str::to_owned).skip_while(|word| !word.starts_with("--"));
    if let Err(error) = Config::from_arguments(arguments) {
        assert!(!error.to_string().is_empty());
    }
}

/// A pattern, a zero byte, a text: the answer is that of the plain definition where the pattern is
/// one word.
fn pattern(bytes: &[u8]) {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let (pattern, text) = (&bytes[..end], bytes.get(end + 1..).unwrap_or_default());
    for ignore_case in [false, true] {
        let found = glob::matches(pattern, text, ignore_case);
        if glob::is_literal(pattern) && !ignore_case {
            assert_eq!(found, pattern == text);
        }
    }
}

/// Commands as lines, run one after the other on an empty server's data.
fn commands(bytes: &[u8]) {
    let env = Env {
        fs: Arc::new(MemFs::new()),
        clock: Arc::new(ManualClock::new(1)),
        threads: Arc::new(OsThreads),
    };
    let options = Options {
        env,
        background: Background::Stepped,
        memtable_bytes: 4 << 20,
        memory_budget: 16 << 20,
        wal_segment_bytes: 64 << 10,
        reserve_bytes: Some(0),
        ..Options::default()
    };
    let Ok(db) = Db::open("/db", options) else { return };
    let Ok(keyspace) = Keyspace::open(db, KeyspaceOptions::default()) else { return };
    let mut txn = keyspace.transaction();
    for (number, line) in bytes.split(|&byte| byte == b'\n').take(LINES_MAX).enumerate() {
        let words = words(line);
        let args: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        command(&mut txn, 1_000_000 + number as u64 * 500, &args);
    }
}

fn command(txn: &mut Txn, now_ms: u64, args: &[&[u8]]) {
    let Some(entry) = args.first().and_then(|name| table().find(name)) else { return };
    let entry = args.get(1).and_then(|name| table().find_subcommand(entry, name)).unwrap_or(entry);
    let (row, count) = (entry.row, args.len() as i64);
    let arity = i64::from(row.arity);
    let HandlerKind::Data(handler) = row.handler else { return };
    if if arity < 0 { count < -arity } else { count != arity } {
        return;
    }
    if row.flags.has(Flags::WRITE) {
        let mut latches = LatchSet::new();
        if row.flags.has(Flags::WHOLE_DB) {
            latches.add_all();
        }
        row.keys.positions(args.len()).for_each(|at| latches.add_key(args[at]));
        txn.begin_write(now_ms, &latches);
    } else {
        txn.begin_read(now_ms);
    }
    let mut reply = ReplyBuf::new(Proto::Resp3);
    let result = handler(&mut Ctx { txn, db: 0, now_ms, reply: &mut reply }, args);
    match result {
        Ok(()) => {
            assert!(!reply.bytes().is_empty(), "a command without a reply");
            let _ = txn.commit(&WriteOptions::default());
        }
        Err(error) => assert!(!error.0.is_empty()),
    }
    txn.end();
}
