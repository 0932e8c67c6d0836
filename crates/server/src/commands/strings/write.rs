//! SET and its relatives: the value is replaced as a whole, or read and given an expiry.

use crate::{
    command::{Args, CmdError, CmdResult, Ctx},
    commands::args::{engine, integer, invalid_expire, string, wrong_arity},
};
use sluice_keyspace::Head;

/// When a key is to expire, as the options say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expiry<'a> {
    /// No option.
    Unsaid,
    Keep,
    Persist,
    At {
        raw: &'a [u8],
        seconds: bool,
        absolute: bool,
    },
}

#[derive(Debug)]
struct Options<'a> {
    if_missing: bool,
    if_exists: bool,
    get: bool,
    expiry: Expiry<'a>,
}

/// Parses the options of SET (`for_set`) or GETEX. As in Redis, an option may come twice (the last
/// value counts), and two different ones that speak of expiry are a syntax error.
fn parse_options<'a>(options: &[&'a [u8]], for_set: bool) -> Result<Options<'a>, CmdError> {
    let mut parsed =
        Options { if_missing: false, if_exists: false, get: false, expiry: Expiry::Unsaid };
    let mut rest = options.iter().copied();
    while let Some(option) = rest.next() {
        let is = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
        let unit = [
            ("ex", true, false),
            ("px", false, false),
            ("exat", true, true),
            ("pxat", false, true),
        ]
        .into_iter()
        .find(|(name, _, _)| is(name));
        if for_set && is("nx") && !parsed.if_exists {
            parsed.if_missing = true;
        } else if for_set && is("xx") && !parsed.if_missing {
            parsed.if_exists = true;
        } else if for_set && is("get") {
            parsed.get = true;
        } else if for_set && is("keepttl") && matches!(parsed.expiry, Expiry::Unsaid | Expiry::Keep)
        {
            parsed.expiry = Expiry::Keep;
        } else if !for_set
            && is("persist")
            && matches!(parsed.expiry, Expiry::Unsaid | Expiry::Persist)
        {
            parsed.expiry = Expiry::Persist;
        } else if let Some((_, seconds, absolute)) = unit {
            let fits = match parsed.expiry {
                Expiry::Unsaid => true,
                Expiry::At { seconds: s, absolute: a, .. } => (s, a) == (seconds, absolute),
                Expiry::Keep | Expiry::Persist => false,
            };
            let raw = rest.next().filter(|_| fits).ok_or(CmdError::SYNTAX)?;
            parsed.expiry = Expiry::At { raw, seconds, absolute };
        } else {
            return Err(CmdError::SYNTAX);
        }
    }
    Ok(parsed)
}

/// The moment in Unix milliseconds; positive, and below 2^63.
fn moment(
    raw: &[u8],
    seconds: bool,
    absolute: bool,
    now_ms: u64,
    command: &str,
) -> Result<u64, CmdError> {
    let value = integer(raw)?;
    let scale = if seconds { 1000 } else { 1 };
    let base = if absolute { 0 } else { now_ms };
    u64::try_from(value)
        .ok()
        .filter(|&value| value > 0)
        .and_then(|value| value.checked_mul(scale)?.checked_add(base))
        .filter(|&moment| moment <= i64::MAX as u64)
        .ok_or_else(|| invalid_expire(command))
}

pub(super) fn set(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    let (key, value) = (args[1], args[2]);
    if args.len() == 3 {
        ctx.txn.put(ctx.db, key, Head::string(None), &[value]).map_err(engine)?;
        ctx.reply.ok();
        return Ok(());
    }
    let options = parse_options(&args[3..], true)?;
    let expire_at = match options.expiry {
        Expiry::At { raw, seconds, absolute } => {
            Some(moment(raw, seconds, absolute, ctx.now_ms, "set")?)
        }
        _ => None,
    };
    let (found, old_expire_at) = if options.get {
        // The old value is the reply, whether the new one is stored or not.
        match string(ctx.txn, ctx.db, key)? {
            Some(row) => {
                ctx.reply.bulk(row.payload());
                (true, row.expire_at())
            }
            None => {
                ctx.reply.null();
                (false, None)
            }
        }
    } else {
        let row = ctx.txn.lookup(ctx.db, key).map_err(engine)?;
        (row.is_some(), row.and_then(|row| row.expire_at()))
    };
    if (options.if_missing && found) || (options.if_exists && !found) {
        if !options.get {
            ctx.reply.null();
        }
        return Ok(());
    }
    let expire_at = if options.expiry == Expiry::Keep { old_expire_at } else { expire_at };
    ctx.txn.put(ctx.db, key, Head::string(expire_at), &[value]).map_err(engine)?;
    if !options.get {
        ctx.reply.ok();
    }
    Ok(())
}

pub(super) fn setnx(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    let missing = !ctx.txn.exists(ctx.db, args[1]).map_err(engine)?;
    if missing {
        ctx.txn.put(ctx.db, args[1], Head::string(None), &[args[2]]).map_err(engine)?;
    }
    ctx.reply.integer(i64::from(missing));
    Ok(())
}

pub(super) fn setex(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    set_expiring(ctx, args, true, "setex")
}

pub(super) fn psetex(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    set_expiring(ctx, args, false, "psetex")
}

fn set_expiring(ctx: &mut Ctx<'_>, args: &Args<'_>, seconds: bool, name: &str) -> CmdResult {
    let expire_at = moment(args[2], seconds, false, ctx.now_ms, name)?;
    ctx.txn.put(ctx.db, args[1], Head::string(Some(expire_at)), &[args[3]]).map_err(engine)?;
    ctx.reply.ok();
    Ok(())
}

pub(super) fn getset(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    match string(ctx.txn, ctx.db, args[1])? {
        Some(row) => ctx.reply.bulk(row.payload()),
        None => ctx.reply.null(),
    }
    ctx.txn.put(ctx.db, args[1], Head::string(None), &[args[2]]).map_err(engine)
}

pub(super) fn getdel(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    match string(ctx.txn, ctx.db, args[1])? {
        Some(row) => ctx.reply.bulk(row.payload()),
        None => {
            ctx.reply.null();
            return Ok(());
        }
    }
    ctx.txn.delete(ctx.db, args[1]).map_err(engine).map(drop)
}

pub(super) fn getex(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    let options = parse_options(&args[2..], false)?;
    let key = args[1];
    let had_expiry = {
        let Some(row) = string(ctx.txn, ctx.db, key)? else {
            ctx.reply.null();
            return Ok(());
        };
        ctx.reply.bulk(row.payload());
        row.expire_at().is_some()
    };
    match options.expiry {
        Expiry::At { raw, seconds, absolute } => {
            let at = moment(raw, seconds, absolute, ctx.now_ms, "getex")?;
            if absolute && at <= ctx.now_ms {
                ctx.txn.delete(ctx.db, key).map_err(engine)?;
            } else {
                ctx.txn.set_expiry(ctx.db, key, Some(at)).map_err(engine)?;
            }
        }
        Expiry::Persist if had_expiry => {
            ctx.txn.set_expiry(ctx.db, key, None).map_err(engine)?;
        }
        _ => {}
    }
    Ok(())
}

pub(super) fn mset(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    put_pairs(ctx, args, "mset")?;
    ctx.reply.ok();
    Ok(())
}

pub(super) fn msetnx(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    if args.len().is_multiple_of(2) {
        return Err(wrong_arity("msetnx"));
    }
    for key in args[1..].iter().step_by(2) {
        if ctx.txn.exists(ctx.db, key).map_err(engine)? {
            ctx.reply.integer(0);
            return Ok(());
        }
    }
    put_pairs(ctx, args, "msetnx")?;
    ctx.reply.integer(1);
    Ok(())
}

fn put_pairs(ctx: &mut Ctx<'_>, args: &Args<'_>, name: &str) -> CmdResult {
    if args.len().is_multiple_of(2) {
        return Err(wrong_arity(name));
    }
    for pair in args[1..].chunks_exact(2) {
        ctx.txn.put(ctx.db, pair[0], Head::string(None), &[pair[1]]).map_err(engine)?;
    }
    Ok(())
}
