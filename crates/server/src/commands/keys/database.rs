//! DBSIZE, FLUSHDB, FLUSHALL, SWAPDB: whole databases, each in constant time.

use crate::{
    command::{Args, CmdError, CmdResult, Ctx},
    commands::args::{database, engine, int32},
};

pub(super) fn dbsize(ctx: &mut Ctx<'_>, _args: &Args<'_>) -> CmdResult {
    let count = ctx.txn.key_count(ctx.db).map_err(engine)?;
    ctx.reply.integer(count as i64);
    Ok(())
}

pub(super) fn flushdb(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    check_mode(args)?;
    ctx.txn.flush_database(ctx.db).map_err(engine)?;
    ctx.reply.ok();
    Ok(())
}

pub(super) fn flushall(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    check_mode(args)?;
    for db in 0..ctx.txn.database_count() {
        ctx.txn.flush_database(db).map_err(engine)?;
    }
    ctx.reply.ok();
    Ok(())
}

/// ASYNC or SYNC may be said. Either way the keys are gone at once and their space comes back in
/// the background.
fn check_mode(args: &Args<'_>) -> CmdResult {
    match args {
        [_] => Ok(()),
        [_, mode] if mode.eq_ignore_ascii_case(b"sync") => Ok(()),
        [_, mode] if mode.eq_ignore_ascii_case(b"async") => Ok(()),
        _ => Err(CmdError::SYNTAX),
    }
}

pub(super) fn swapdb(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    let number = |text: &[u8], error: &'static str| int32(text).map_err(|_| CmdError::new(error));
    let one = number(args[1], "ERR invalid first DB index")?;
    let other = number(args[2], "ERR invalid second DB index")?;
    let (one, other) = (database(ctx.txn, one)?, database(ctx.txn, other)?);
    ctx.txn.swap_databases(one, other).map_err(engine)?;
    ctx.reply.ok();
    Ok(())
}
