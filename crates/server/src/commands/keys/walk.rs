//! KEYS, SCAN, RANDOMKEY: look over the keys of a database.

use crate::{
    command::{Args, CmdError, CmdResult, Ctx},
    commands::args::{I64_BYTES_MAX, decimal, engine, integer},
};
use sluice_keyspace::{ValueType, glob};
use sluice_resp::ReplyBuf;

/// Keys one SCAN looks at when COUNT is not given, as in Redis.
const SCAN_COUNT: usize = 10;

/// An array whose length is known only after its elements: they are written first and the head is
/// put in front of them.
struct LateArray {
    at: usize,
    count: usize,
}

impl LateArray {
    fn begin(reply: &ReplyBuf) -> LateArray {
        LateArray { at: reply.len(), count: 0 }
    }

    fn push(&mut self, reply: &mut ReplyBuf, element: &[u8]) {
        reply.bulk(element);
        self.count += 1;
    }

    fn end(self, reply: &mut ReplyBuf) {
        let mut buffer = [0; I64_BYTES_MAX];
        let digits = decimal(self.count as i64, &mut buffer);
        let head = [b"*", digits, b"\r\n"].concat();
        reply.buffer_mut().splice(self.at..self.at, head);
    }
}

pub(super) fn keys(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    let pattern = args[1];
    let mut found = LateArray::begin(ctx.reply);
    if glob::is_literal(pattern) {
        if ctx.txn.exists(ctx.db, pattern).map_err(engine)? {
            found.push(ctx.reply, pattern);
        }
    } else {
        let (txn, reply) = (&mut *ctx.txn, &mut *ctx.reply);
        txn.for_each_key(ctx.db, |key, _| {
            if pattern == b"*" || glob::matches(pattern, key, false) {
                found.push(reply, key);
            }
        })
        .map_err(engine)?;
    }
    found.end(ctx.reply);
    Ok(())
}

#[derive(Debug)]
struct ScanOptions<'a> {
    count: usize,
    pattern: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
}

impl ScanOptions<'_> {
    fn parse<'a>(args: &[&'a [u8]]) -> Result<ScanOptions<'a>, CmdError> {
        let mut parsed = ScanOptions { count: SCAN_COUNT, pattern: None, kind: None };
        for pair in args.chunks(2) {
            let &[name, value] = pair else { return Err(CmdError::SYNTAX) };
            if name.eq_ignore_ascii_case(b"count") {
                let count = integer(value)?;
                let count = usize::try_from(count).ok().filter(|&count| count > 0);
                parsed.count = count.ok_or(CmdError::SYNTAX)?;
            } else if name.eq_ignore_ascii_case(b"match") {
                parsed.pattern = Some(value).filter(|&pattern| pattern != b"*");
            } else if name.eq_ignore_ascii_case(b"type") {
                parsed.kind = Some(value);
            } else {
                return Err(CmdError::SYNTAX);
            }
        }
        Ok(parsed)
    }

    fn wants(&self, key: &[u8], kind: ValueType) -> bool {
        self.kind.is_none_or(|wanted| wanted.eq_ignore_ascii_case(kind.name().as_bytes()))
            && self.pattern.is_none_or(|pattern| glob::matches(pattern, key, false))
    }
}

pub(super) fn scan(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    let cursor = parse_cursor(args[1]).ok_or(CmdError::new("ERR invalid cursor"))?;
    let options = ScanOptions::parse(&args[2..])?;
    // The cursor comes before the keys in the reply and is known after them.
    let start = ctx.reply.len();
    let mut found = LateArray::begin(ctx.reply);
    let (txn, reply) = (&mut *ctx.txn, &mut *ctx.reply);
    let next = txn
        .scan(ctx.db, cursor, options.count, |key, kind| {
            if options.wants(key, kind) {
                found.push(reply, key);
            }
        })
        .map_err(engine)?;
    found.end(ctx.reply);
    let mut buffer = [0; I64_BYTES_MAX];
    // Cursors have 62 bits.
    let digits = decimal(next as i64, &mut buffer);
    let head = format!("*2\r\n${}\r\n", digits.len());
    let head = [head.as_bytes(), digits, b"\r\n"].concat();
    ctx.reply.buffer_mut().splice(start..start, head);
    Ok(())
}

/// What `strtoul` takes to the last byte: an optional sign and digits; nothing is zero.
fn parse_cursor(text: &[u8]) -> Option<u64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] if !digits.is_empty() => (true, digits),
        [b'+', digits @ ..] if !digits.is_empty() => (false, digits),
        digits => (false, digits),
    };
    let mut value = 0u64;
    for digit in digits {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value = value.checked_mul(10)?.checked_add(digit)?;
    }
    Some(if negative { value.wrapping_neg() } else { value })
}

pub(super) fn randomkey(ctx: &mut Ctx<'_>, _args: &Args<'_>) -> CmdResult {
    let mut key = ctx.txn.take_buffer();
    if ctx.txn.random_key(ctx.db, &mut key).map_err(engine)? {
        ctx.reply.bulk(&key);
    } else {
        ctx.reply.null();
    }
    ctx.txn.give_buffer(key);
    Ok(())
}
