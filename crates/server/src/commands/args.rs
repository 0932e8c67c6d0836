//! Reading arguments as Redis reads them, and writing integers back.

use crate::command::CmdError;
use sluice_keyspace::{Row, Txn, ValueType};

/// Longest string value, Redis's `proto-max-bulk-len` default. A value that an edit would make
/// longer is refused.
pub(crate) const STRING_BYTES_MAX: usize = 512 << 20;

/// Most bytes a decimal `i64` takes: sign and 19 digits.
pub(crate) const I64_BYTES_MAX: usize = 20;

/// The error reply for what the engine refused.
pub(crate) fn engine(error: sluicedb::Error) -> CmdError {
    crate::exec::engine_error(&error)
}

/// Parses an integer in its canonical form only: no sign but `-`, no leading zero, no space.
pub(crate) fn parse_i64(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes {
        [b'0'] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if !matches!(digits.first(), Some(b'1'..=b'9')) || digits.len() >= I64_BYTES_MAX {
        return None;
    }
    // 19 digits at most: below 10^19, which fits a u64.
    let mut magnitude = 0u64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        magnitude = magnitude * 10 + u64::from(digit - b'0');
    }
    let signed = if negative { -i128::from(magnitude) } else { i128::from(magnitude) };
    i64::try_from(signed).ok()
}

/// Parses an integer argument, with Redis's error text.
pub(crate) fn integer(bytes: &[u8]) -> Result<i64, CmdError> {
    parse_i64(bytes).ok_or(CmdError::NOT_INTEGER)
}

/// Parses a C `int` argument, with Redis's error texts.
pub(crate) fn int32(bytes: &[u8]) -> Result<i32, CmdError> {
    i32::try_from(integer(bytes)?).map_err(|_| {
        CmdError::new(format!(
            "ERR value is out of range, value must between {} and {}",
            i32::MIN,
            i32::MAX
        ))
    })
}

/// Checks a database number.
pub(crate) fn database(txn: &Txn, number: i32) -> Result<u32, CmdError> {
    u32::try_from(number)
        .ok()
        .filter(|&db| db < txn.database_count())
        .ok_or(CmdError::new("ERR DB index is out of range"))
}

/// The string under a key; `None` when there is no key, WRONGTYPE when it is no string.
#[inline]
pub(crate) fn string<'t>(
    txn: &'t mut Txn,
    db: u32,
    key: &[u8],
) -> Result<Option<Row<'t>>, CmdError> {
    match txn.lookup(db, key).map_err(engine)? {
        Some(row) if row.kind() != ValueType::String => Err(CmdError::WRONG_TYPE),
        other => Ok(other),
    }
}

/// The error of a command that checks its own argument count.
pub(crate) fn wrong_arity(command: &str) -> CmdError {
    crate::exec::wrong_arity(command)
}

/// The error of an expiry that cannot be.
pub(crate) fn invalid_expire(command: &str) -> CmdError {
    CmdError::new(format!("ERR invalid expire time in '{command}' command"))
}

/// Writes `value` in decimal to the end of `buffer`; the digits.
pub(crate) fn decimal(value: i64, buffer: &mut [u8; I64_BYTES_MAX]) -> &[u8] {
    let mut at = buffer.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    &buffer[at..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_integers_parse() {
        for value in [0, 1, -1, 10, i64::MAX, i64::MIN, i64::MIN + 1] {
            let mut buffer = [0; I64_BYTES_MAX];
            let digits = decimal(value, &mut buffer);
            assert_eq!(digits, value.to_string().as_bytes());
            assert_eq!(parse_i64(digits), Some(value));
        }
        for text in [
            "",
            "-",
            "-0",
            "+1",
            "01",
            " 1",
            "1 ",
            "1a",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
            "--1",
        ] {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text:?}");
        }
    }
}
