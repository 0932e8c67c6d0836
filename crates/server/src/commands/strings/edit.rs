//! APPEND and SETRANGE: change part of a value. The row is rewritten whole; a value that was edited
//! in place is `raw` to OBJECT ENCODING ever after, as in Redis.

use crate::{
    command::{Args, CmdError, CmdResult, Ctx},
    commands::args::{STRING_BYTES_MAX, engine, integer, string},
};
use sluice_keyspace::{Head, Repr};

const TOO_LONG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";

fn check_length(total: Option<usize>) -> Result<usize, CmdError> {
    total.filter(|&total| total <= STRING_BYTES_MAX).ok_or(CmdError::new(TOO_LONG))
}

pub(super) fn append(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    let (key, suffix) = (args[1], args[2]);
    let mut value = ctx.txn.take_buffer();
    let Some(row) = string(ctx.txn, ctx.db, key)? else {
        ctx.txn.give_buffer(value);
        ctx.txn.put(ctx.db, key, Head::string(None), &[suffix]).map_err(engine)?;
        ctx.reply.integer(suffix.len() as i64);
        return Ok(());
    };
    let total = check_length(row.payload().len().checked_add(suffix.len()))?;
    let head = Head { repr: Repr::Raw, ..*row.head() };
    value.extend_from_slice(row.payload());
    ctx.txn.put(ctx.db, key, head, &[&value, suffix]).map_err(engine)?;
    ctx.txn.give_buffer(value);
    ctx.reply.integer(total as i64);
    Ok(())
}

pub(super) fn setrange(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    let (key, patch) = (args[1], args[3]);
    let offset = usize::try_from(integer(args[2])?)
        .map_err(|_| CmdError::new("ERR offset is out of range"))?;
    let mut value = ctx.txn.take_buffer();
    let mut head = Head::string(None);
    if let Some(row) = string(ctx.txn, ctx.db, key)? {
        head = *row.head();
        if patch.is_empty() {
            ctx.reply.integer(row.payload().len() as i64);
            return Ok(());
        }
        check_length(offset.checked_add(patch.len()))?;
        value.extend_from_slice(row.payload());
    }
    if patch.is_empty() {
        ctx.reply.integer(0);
        return Ok(());
    }
    let end = check_length(offset.checked_add(patch.len()))?;
    if value.len() < end {
        value.resize(end, 0);
    }
    value[offset..end].copy_from_slice(patch);
    head.repr = Repr::Raw;
    ctx.txn.put(ctx.db, key, head, &[&value]).map_err(engine)?;
    ctx.reply.integer(value.len() as i64);
    ctx.txn.give_buffer(value);
    Ok(())
}
