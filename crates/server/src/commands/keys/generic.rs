//! DEL, EXISTS, TYPE, RENAME, COPY, MOVE and their variants. Rows are moved and copied as they are,
//! expiry and representation included.

use crate::{
    command::{Args, CmdError, CmdResult, Ctx},
    commands::args::{database, engine, int32},
};

const SAME_OBJECT: CmdError =
    CmdError(std::borrow::Cow::Borrowed("ERR source and destination objects are the same"));

/// DEL and UNLINK: the engine reclaims space in the background either way.
pub(super) fn del(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    let mut count = 0;
    for key in &args[1..] {
        count += i64::from(ctx.txn.delete(ctx.db, key).map_err(engine)?);
    }
    ctx.reply.integer(count);
    Ok(())
}

/// EXISTS and TOUCH: no access time is kept that TOUCH could change. A key named twice counts
/// twice.
pub(super) fn exists(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    let mut count = 0;
    for key in &args[1..] {
        count += i64::from(ctx.txn.exists(ctx.db, key).map_err(engine)?);
    }
    ctx.reply.integer(count);
    Ok(())
}

pub(super) fn type_of(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    let row = ctx.txn.lookup(ctx.db, args[1]).map_err(engine)?;
    ctx.reply.simple(row.map_or("none", |row| row.kind().name()));
    Ok(())
}

pub(super) fn rename(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    rename_unless(ctx, args, false)?;
    ctx.reply.ok();
    Ok(())
}

pub(super) fn renamenx(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    let renamed = rename_unless(ctx, args, true)?;
    ctx.reply.integer(i64::from(renamed));
    Ok(())
}

/// Renames, unless `only_if_missing` and the target is there.
fn rename_unless(
    ctx: &mut Ctx<'_>,
    args: &Args<'_>,
    only_if_missing: bool,
) -> Result<bool, CmdError> {
    let (from, to) = (args[1], args[2]);
    if !ctx.txn.exists(ctx.db, from).map_err(engine)? {
        return Err(CmdError::new("ERR no such key"));
    }
    if from == to {
        return Ok(!only_if_missing);
    }
    if only_if_missing && ctx.txn.exists(ctx.db, to).map_err(engine)? {
        return Ok(false);
    }
    duplicate(ctx, from, ctx.db, to)?;
    ctx.txn.delete(ctx.db, from).map_err(engine)?;
    Ok(true)
}

/// Copies the row of `from`, if there is one, over that of `to` in database `to_db`.
fn duplicate(ctx: &mut Ctx<'_>, from: &[u8], to_db: u32, to: &[u8]) -> Result<bool, CmdError> {
    let mut payload = ctx.txn.take_buffer();
    let head = ctx.txn.lookup(ctx.db, from).map_err(engine)?.map(|row| {
        payload.extend_from_slice(row.payload());
        *row.head()
    });
    if let Some(head) = head {
        ctx.txn.put(to_db, to, head, &[&payload]).map_err(engine)?;
    }
    ctx.txn.give_buffer(payload);
    Ok(head.is_some())
}

pub(super) fn copy(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    let (from, to) = (args[1], args[2]);
    let (mut to_db, mut replace) = (ctx.db, false);
    let mut options = args[3..].iter();
    while let Some(option) = options.next() {
        if option.eq_ignore_ascii_case(b"replace") {
            replace = true;
        } else if option.eq_ignore_ascii_case(b"db") {
            let number = options.next().ok_or(CmdError::SYNTAX)?;
            to_db = database(ctx.txn, int32(number)?)?;
        } else {
            return Err(CmdError::SYNTAX);
        }
    }
    if to_db == ctx.db && from == to {
        return Err(SAME_OBJECT);
    }
    let blocked = !replace && ctx.txn.exists(to_db, to).map_err(engine)?;
    let copied = !blocked && duplicate(ctx, from, to_db, to)?;
    ctx.reply.integer(i64::from(copied));
    Ok(())
}

pub(super) fn move_key(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    let key = args[1];
    let to_db = database(ctx.txn, int32(args[2])?)?;
    if to_db == ctx.db {
        return Err(SAME_OBJECT);
    }
    let blocked = ctx.txn.exists(to_db, key).map_err(engine)?;
    let moved = !blocked && duplicate(ctx, key, to_db, key)?;
    if moved {
        ctx.txn.delete(ctx.db, key).map_err(engine)?;
    }
    ctx.reply.integer(i64::from(moved));
    Ok(())
}
