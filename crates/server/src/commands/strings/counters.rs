//! INCR, DECR, INCRBY, DECRBY, INCRBYFLOAT: a string that is a number.

use super::long_double::LongDouble;
use crate::{
    command::{Args, CmdError, CmdResult, Ctx},
    commands::args::{I64_BYTES_MAX, decimal, engine, integer, string},
};
use sluice_keyspace::{Head, Repr};

pub(super) fn incr(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    add(ctx, args[1], 1)
}

pub(super) fn decr(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    add(ctx, args[1], -1)
}

pub(super) fn incrby(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    add(ctx, args[1], integer(args[2])?)
}

pub(super) fn decrby(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    let amount = integer(args[2])?;
    // The one number whose negation does not fit.
    let negated = amount.checked_neg().ok_or(CmdError::new("ERR decrement would overflow"))?;
    add(ctx, args[1], negated)
}

fn add(ctx: &mut Ctx<'_>, key: &[u8], amount: i64) -> CmdResult {
    let (old, expire_at) = match string(ctx.txn, ctx.db, key)? {
        Some(row) => (integer(row.payload())?, row.expire_at()),
        None => (0, None),
    };
    let new = old
        .checked_add(amount)
        .ok_or(CmdError::new("ERR increment or decrement would overflow"))?;
    let mut buffer = [0; I64_BYTES_MAX];
    let digits = decimal(new, &mut buffer);
    ctx.txn.put(ctx.db, key, Head::string(expire_at), &[digits]).map_err(engine)?;
    ctx.reply.integer(new);
    Ok(())
}

pub(super) fn incrbyfloat(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    let key = args[1];
    let (old, expire_at) = match string(ctx.txn, ctx.db, key)? {
        Some(row) => {
            (LongDouble::parse(row.payload()).ok_or(CmdError::NOT_FLOAT)?, row.expire_at())
        }
        None => (LongDouble::ZERO, None),
    };
    let amount = LongDouble::parse(args[2]).ok_or(CmdError::NOT_FLOAT)?;
    let text = old
        .add(amount)
        .and_then(|sum| sum.to_text())
        .ok_or(CmdError::new("ERR increment would produce NaN or Infinity"))?;
    let head = Head { repr: Repr::Text, ..Head::string(expire_at) };
    ctx.txn.put(ctx.db, key, head, &[text.as_bytes()]).map_err(engine)?;
    ctx.reply.bulk(text.as_bytes());
    Ok(())
}
