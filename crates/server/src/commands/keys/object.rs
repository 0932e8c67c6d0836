//! OBJECT: how a value is represented. The names are Redis's, because clients and tools read them;
//! what is on disk has nothing to do with them.

use crate::{
    command::{Args, CmdError, CmdResult, Ctx},
    commands::args::{engine, parse_i64, wrong_arity},
};
use sluice_keyspace::{Repr, Row, ValueType};

/// Longest string that Redis keeps beside its object header.
const EMBSTR_BYTES_MAX: usize = 44;
/// Integers below this are shared objects in Redis, with a reference count that stands for "many".
const SHARED_INTEGERS: i64 = 10_000;
const SHARED_REFCOUNT: i64 = i32::MAX as i64;

const HELP: &[&str] = &[
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Prints this help.",
];

const NO_FREQUENCY: &str = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.";

#[derive(Debug, Clone, Copy)]
enum Question {
    Encoding,
    Frequency,
    IdleTime,
    ReferenceCount,
}

pub(super) fn object(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    let name = args[1].to_ascii_lowercase();
    let question = match &name[..] {
        b"help" if args.len() == 2 => {
            ctx.reply.array(HELP.len());
            HELP.iter().for_each(|line| ctx.reply.simple(line));
            return Ok(());
        }
        b"help" => return Err(wrong_arity("object|help")),
        b"encoding" => Question::Encoding,
        b"freq" => Question::Frequency,
        b"idletime" => Question::IdleTime,
        b"refcount" => Question::ReferenceCount,
        _ => {
            // Redis prints at most 128 bytes of what it does not know.
            let shown = &args[1][..args[1].len().min(128)];
            let shown = String::from_utf8_lossy(shown);
            return Err(CmdError::new(format!(
                "ERR unknown subcommand '{shown}'. Try OBJECT HELP."
            )));
        }
    };
    if args.len() != 3 {
        return Err(wrong_arity(&format!("object|{}", String::from_utf8_lossy(&name))));
    }
    let Some(row) = ctx.txn.lookup(ctx.db, args[2]).map_err(engine)? else {
        ctx.reply.null();
        return Ok(());
    };
    match question {
        Question::Encoding => ctx.reply.bulk(encoding(&row).as_bytes()),
        Question::Frequency => return Err(CmdError::new(NO_FREQUENCY)),
        // Access times are not kept.
        Question::IdleTime => ctx.reply.integer(0),
        Question::ReferenceCount => {
            let shared = as_integer(&row).is_some_and(|n| (0..SHARED_INTEGERS).contains(&n));
            ctx.reply.integer(if shared { SHARED_REFCOUNT } else { 1 });
        }
    }
    Ok(())
}

/// The value, when Redis would keep it as an integer.
fn as_integer(row: &Row<'_>) -> Option<i64> {
    let candidate = row.kind() == ValueType::String && row.head().repr == Repr::Auto;
    candidate.then(|| parse_i64(row.payload())).flatten()
}

fn encoding(row: &Row<'_>) -> &'static str {
    match row.kind() {
        ValueType::String if as_integer(row).is_some() => "int",
        ValueType::String if row.head().repr == Repr::Raw => "raw",
        ValueType::String if row.payload().len() <= EMBSTR_BYTES_MAX => "embstr",
        ValueType::String => "raw",
        ValueType::Hash | ValueType::ZSet => "listpack",
        ValueType::List => "quicklist",
        ValueType::Set => "hashtable",
        ValueType::Stream => "stream",
    }
}
