//! EXPIRE and its relatives set, TTL and its relatives read, PERSIST removes the moment at which a
//! key goes away.

use crate::{
    command::{Args, CmdError, CmdResult, Ctx},
    commands::args::{engine, integer, invalid_expire},
};

/// Under which circumstances EXPIRE changes anything.
#[derive(Debug, Default)]
struct Conditions {
    if_none: bool,
    if_some: bool,
    if_later: bool,
    if_earlier: bool,
}

impl Conditions {
    fn parse(options: &[&[u8]]) -> Result<Conditions, CmdError> {
        let mut parsed = Conditions::default();
        for option in options {
            match &option.to_ascii_lowercase()[..] {
                b"nx" => parsed.if_none = true,
                b"xx" => parsed.if_some = true,
                b"gt" => parsed.if_later = true,
                b"lt" => parsed.if_earlier = true,
                _ => {
                    let option = String::from_utf8_lossy(option);
                    return Err(CmdError::new(format!("ERR Unsupported option {option}")));
                }
            }
        }
        if parsed.if_none && (parsed.if_some || parsed.if_later || parsed.if_earlier) {
            return Err(CmdError::new(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if parsed.if_later && parsed.if_earlier {
            return Err(CmdError::new("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(parsed)
    }

    /// Whether a key that expires at `old` (`None`: never) may get `new`.
    fn allow(&self, old: Option<u64>, new: i64) -> bool {
        // A stored moment is at most i64::MAX; what is damaged beyond saturates.
        let old = old.map(|old| i64::try_from(old).unwrap_or(i64::MAX));
        !(self.if_none && old.is_some()
            || self.if_some && old.is_none()
            || self.if_later && old.is_none_or(|old| new <= old)
            || self.if_earlier && old.is_some_and(|old| new >= old))
    }
}

#[derive(Debug, Clone, Copy)]
struct Form {
    name: &'static str,
    seconds: bool,
    absolute: bool,
}

pub(super) fn expire(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    set_moment(ctx, args, Form { name: "expire", seconds: true, absolute: false })
}

pub(super) fn pexpire(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    set_moment(ctx, args, Form { name: "pexpire", seconds: false, absolute: false })
}

pub(super) fn expireat(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    set_moment(ctx, args, Form { name: "expireat", seconds: true, absolute: true })
}

pub(super) fn pexpireat(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    set_moment(ctx, args, Form { name: "pexpireat", seconds: false, absolute: true })
}

fn set_moment(ctx: &mut Ctx<'_>, args: &Args<'_>, form: Form) -> CmdResult {
    let key = args[1];
    let conditions = Conditions::parse(&args[3..])?;
    let scale = if form.seconds { 1000 } else { 1 };
    let base = if form.absolute { 0 } else { ctx.now_ms as i64 };
    let moment = integer(args[2])?
        .checked_mul(scale)
        .and_then(|moment| moment.checked_add(base))
        .ok_or_else(|| invalid_expire(form.name))?;
    let old = ctx.txn.lookup(ctx.db, key).map_err(engine)?.map(|row| row.expire_at());
    let allowed = old.is_some_and(|old| conditions.allow(old, moment));
    if allowed {
        match u64::try_from(moment) {
            Ok(moment) if moment > ctx.now_ms => {
                ctx.txn.set_expiry(ctx.db, key, Some(moment)).map_err(engine)?;
            }
            // Over already: the key goes now.
            _ => {
                ctx.txn.delete(ctx.db, key).map_err(engine)?;
            }
        }
    }
    ctx.reply.integer(i64::from(allowed));
    Ok(())
}

pub(super) fn ttl(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    reply_moment(ctx, args, true, false)
}

pub(super) fn pttl(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    reply_moment(ctx, args, false, false)
}

pub(super) fn expiretime(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    reply_moment(ctx, args, true, true)
}

pub(super) fn pexpiretime(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    reply_moment(ctx, args, false, true)
}

/// -2 for no key, -1 for no expiry; seconds are rounded to nearest.
fn reply_moment(ctx: &mut Ctx<'_>, args: &Args<'_>, seconds: bool, absolute: bool) -> CmdResult {
    let answer = match ctx.txn.lookup(ctx.db, args[1]).map_err(engine)? {
        None => -2,
        Some(row) => row.expire_at().map_or(-1, |at| {
            let ms = if absolute { at } else { at.saturating_sub(ctx.now_ms) };
            let value = if seconds { ms / 1000 + u64::from(ms % 1000 >= 500) } else { ms };
            i64::try_from(value).unwrap_or(i64::MAX)
        }),
    };
    ctx.reply.integer(answer);
    Ok(())
}

pub(super) fn persist(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    let row = ctx.txn.lookup(ctx.db, args[1]).map_err(engine)?;
    let expires = row.is_some_and(|row| row.expire_at().is_some());
    if expires {
        ctx.txn.set_expiry(ctx.db, args[1], None).map_err(engine)?;
    }
    ctx.reply.integer(i64::from(expires));
    Ok(())
}
