//! Integers as the protocol writes them: decimal, canonical, signed 64 bit.

/// Reads a canonical decimal integer: optional `-`, no `+`, no leading zeros, no spaces, nothing
/// after it, no overflow; `-0` is refused. The rule of Redis's `string2ll`.
///
/// ```
/// assert_eq!(sluice_resp::parse_i64(b"-12"), Some(-12));
/// assert_eq!(sluice_resp::parse_i64(b"012"), None);
/// ```
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    match digits {
        [] => return None,
        [b'0'] => return (!negative).then_some(0),
        [b'0', ..] => return None,
        // 19 digits hold i64::MAX; 20 cannot fit.
        _ if digits.len() > 19 => return None,
        _ => {}
    }
    let mut value: u64 = 0;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // 19 nines are below 2^64, so this cannot overflow.
        value = value * 10 + u64::from(digit);
    }
    if negative { 0i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() }
}

/// A decimal number on the stack: the digits of an `i64` without an allocation.
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    text: [u8; 20],
    at: u8,
}

impl Decimal {
    #[inline]
    pub fn new(number: i64) -> Decimal {
        let mut text = [0u8; 20];
        let mut at = text.len();
        let mut rest = number.unsigned_abs();
        loop {
            at -= 1;
            text[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            at -= 1;
            text[at] = b'-';
        }
        Decimal { text, at: at as u8 }
    }

    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.text[usize::from(self.at)..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_integers_are_read() {
        for (text, value) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("99999999999999999999", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("+1", None),
            ("01", None),
            (" 1", None),
            ("1 ", None),
            ("1x", None),
        ] {
            assert_eq!(parse_i64(text.as_bytes()), value, "{text:?}");
        }
    }

    #[test]
    fn decimals_round_trip() {
        for value in [0, 1, -1, 10, 12345, i64::MAX, i64::MIN] {
            assert_eq!(Decimal::new(value).bytes(), value.to_string().as_bytes());
        }
    }
}
