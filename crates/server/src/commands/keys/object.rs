//! OBJECT: how a value is represented. The names are Redis's, because clients and tools read them;
//! what is on disk has nothing to do with them.

use crate::{
    command::{Args, CmdError, CmdResult, Ctx},
    commands::args::{engine, parse_i64, wrong_arity},
};
use sluice_keyspace::{Repr, Row, ValueType};
use sluice_resp::ReplyBuf;

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

/// The row of a container is never run: a subcommand is found or refused first.
pub(super) fn refuse(_: &mut Ctx<'_>, _: &Args<'_>) -> CmdResult {
    Err(wrong_arity("object"))
}

pub(super) fn help(ctx: &mut Ctx<'_>, _: &Args<'_>) -> CmdResult {
    ctx.reply.array(HELP.len());
    HELP.iter().for_each(|line| ctx.reply.simple(line));
    Ok(())
}

pub(super) fn encoding(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    answer(ctx, args, |row, reply| reply.bulk(encoding_of(row).as_bytes()))
}

pub(super) fn freq(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    if ctx.txn.exists(ctx.db, args[2]).map_err(engine)? {
        return Err(CmdError::new(NO_FREQUENCY));
    }
    ctx.reply.null();
    Ok(())
}

/// Access times are not kept: always 0.
pub(super) fn idletime(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    answer(ctx, args, |_, reply| reply.integer(0))
}

pub(super) fn refcount(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    answer(ctx, args, |row, reply| {
        let shared = as_integer(row).is_some_and(|n| (0..SHARED_INTEGERS).contains(&n));
        reply.integer(if shared { SHARED_REFCOUNT } else { 1 });
    })
}

/// Null for a key that is not there.
fn answer(
    ctx: &mut Ctx<'_>,
    args: &Args<'_>,
    write: impl FnOnce(&Row<'_>, &mut ReplyBuf),
) -> CmdResult {
    match ctx.txn.lookup(ctx.db, args[2]).map_err(engine)? {
        Some(row) => write(&row, ctx.reply),
        None => ctx.reply.null(),
    }
    Ok(())
}

/// The value, when Redis would keep it as an integer.
fn as_integer(row: &Row<'_>) -> Option<i64> {
    let candidate = row.kind() == ValueType::String && row.head().repr == Repr::Auto;
    candidate.then(|| parse_i64(row.payload())).flatten()
}

fn encoding_of(row: &Row<'_>) -> &'static str {
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
