//! GET, MGET, STRLEN, GETRANGE, SUBSTR: read a string, change nothing. Values go from the engine's
//! memory straight into the reply.

use crate::{
    command::{Args, CmdResult, Ctx},
    commands::args::{engine, integer, string},
};
use sluice_keyspace::ValueType;

pub(super) fn get(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    match string(ctx.txn, ctx.db, args[1])? {
        Some(row) => ctx.reply.bulk(row.payload()),
        None => ctx.reply.null(),
    }
    Ok(())
}

pub(super) fn mget(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    ctx.reply.array(args.len() - 1);
    for key in &args[1..] {
        match ctx.txn.lookup(ctx.db, key).map_err(engine)? {
            Some(row) if row.kind() == ValueType::String => ctx.reply.bulk(row.payload()),
            _ => ctx.reply.null(),
        }
    }
    Ok(())
}

pub(super) fn strlen(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    let row = string(ctx.txn, ctx.db, args[1])?;
    ctx.reply.integer(row.map_or(0, |row| row.payload().len() as i64));
    Ok(())
}

pub(super) fn getrange(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    let (start, end) = (integer(args[2])?, integer(args[3])?);
    match string(ctx.txn, ctx.db, args[1])? {
        Some(row) => ctx.reply.bulk(range(row.payload(), start, end)),
        None => ctx.reply.bulk(b""),
    }
    Ok(())
}

/// The bytes from `start` to `end`, both included, negative ones counted from the end.
fn range(value: &[u8], start: i64, end: i64) -> &[u8] {
    if start < 0 && end < 0 && start > end {
        return b"";
    }
    let len = value.len() as i64;
    let resolve = |at: i64| if at < 0 { at.saturating_add(len).max(0) } else { at };
    let (start, end) = (resolve(start), resolve(end).min(len - 1));
    if start > end {
        return b"";
    }
    // 0 ≤ start ≤ end < len.
    value.get(start as usize..=end as usize).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_clamp_to_the_value() {
        for (start, end, expected) in [
            (0, -1, "hello"),
            (1, 3, "ell"),
            (-3, -1, "llo"),
            (-1, -3, ""),
            (3, 1, ""),
            (-100, 1, "he"),
            (0, 100, "hello"),
            (5, 9, ""),
            (i64::MIN, i64::MAX, "hello"),
            (i64::MIN, i64::MIN, "h"),
        ] {
            assert_eq!(range(b"hello", start, end), expected.as_bytes(), "{start} {end}");
        }
        assert_eq!(range(b"", 0, -1), b"");
    }
}
