//! The number type of INCRBYFLOAT. Redis computes in C's `long double`, which on x86-64 has a
//! 64-bit significand, and prints with 17 decimals; an `f64` would print `10.299999999999999` where
//! Redis prints `10.3`. This is that type in software: parse, add, print, each correctly rounded
//! (to nearest, ties to even).
//!
//! Exponents are not limited to the x87 range downwards: what would be a denormal there keeps all
//! its bits here. Both print as 0.

use std::cmp::Ordering;

/// Longest text Redis parses as a float.
const TEXT_BYTES_MAX: usize = 5 * 1024 - 1;
/// Largest finite: below 2^16384.
const EXPONENT_MAX: i64 = 16384;
/// Decimal exponents beyond this are zero or infinite whatever the (at most 5119) digits are.
const DECIMAL_EXPONENT_MAX: i64 = 12_000;

/// `significand × 2^exponent`, the significand's highest bit set unless the number is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LongDouble {
    Finite { negative: bool, significand: u64, exponent: i64 },
    Infinite { negative: bool },
}

impl LongDouble {
    pub(super) const ZERO: LongDouble =
        LongDouble::Finite { negative: false, significand: 0, exponent: 0 };

    /// Parses what `strtold` takes to the last byte: decimal or hexadecimal with an optional
    /// exponent, or infinity. No space, no NaN, nothing out of range.
    pub(super) fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let (negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        if text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity") {
            return Some(LongDouble::Infinite { negative });
        }
        let (digits, radix, marker) = match text {
            [b'0', b'x' | b'X', rest @ ..] => (rest, 16, b'p'),
            rest => (rest, 10, b'e'),
        };
        let at = digits.iter().position(|byte| byte.to_ascii_lowercase() == marker);
        let (number, mut exponent) = match at {
            Some(at) => (&digits[..at], parse_exponent(&digits[at + 1..])?),
            None => (digits, 0),
        };
        let mut big = Big::default();
        let (mut any, mut point) = (false, false);
        for &byte in number {
            if byte == b'.' && !point {
                point = true;
                continue;
            }
            big.multiply_add(radix, char::from(byte).to_digit(radix)?);
            any = true;
            if point {
                exponent -= if radix == 16 { 4 } else { 1 };
            }
        }
        if !any {
            return None;
        }
        if big.is_zero() {
            return Some(LongDouble::Finite { negative, significand: 0, exponent: 0 });
        }
        let rounded = match radix {
            16 => round_big(negative, &big, &Big::from(1), exponent),
            _ => round_decimal(negative, big, exponent)?,
        };
        // Out of range is ERANGE to strtold, and no float to Redis.
        matches!(rounded, LongDouble::Finite { .. }).then_some(rounded)
    }

    /// The sum; `None` for infinity minus infinity.
    pub(super) fn add(self, other: LongDouble) -> Option<LongDouble> {
        use LongDouble::{Finite, Infinite};
        match (self, other) {
            (Infinite { negative: a }, Infinite { negative: b }) => (a == b).then_some(self),
            (Infinite { .. }, _) => Some(self),
            (_, Infinite { .. }) => Some(other),
            (Finite { significand: 0, .. }, _) => Some(other),
            (_, Finite { significand: 0, .. }) => Some(self),
            (
                Finite { negative: n1, significand: s1, exponent: e1 },
                Finite { negative: n2, significand: s2, exponent: e2 },
            ) => {
                let larger_first = (e1, s1) >= (e2, s2);
                let (n1, s1, e1, n2, s2, e2) =
                    if larger_first { (n1, s1, e1, n2, s2, e2) } else { (n2, s2, e2, n1, s1, e1) };
                // 62 guard bits below, one free above for the carry. Bits shifted out leave a
                // sticky one in the lowest place, which is enough to round by.
                let x = u128::from(s1) << 62;
                let y = u128::from(s2) << 62;
                let shift = (e1 - e2).min(127) as u32;
                let lost = y & ((1u128 << shift) - 1) != 0;
                let y = (y >> shift) | u128::from(lost);
                let sum = if n1 == n2 { x + y } else { x - y };
                Some(round(n1, sum, false, e1 - 62))
            }
        }
    }

    /// The text Redis stores: at most 17 decimals, no exponent, no trailing zero. `None` for
    /// infinity.
    pub(super) fn to_text(self) -> Option<String> {
        let LongDouble::Finite { negative, significand, exponent } = self else { return None };
        const DECIMALS: usize = 17;
        const SCALE: u128 = 100_000_000_000_000_000; // 10^17, below 2^57
        let (whole, fraction) = if exponent >= 0 {
            let mut big = Big::from(significand);
            big.shift_left(exponent as usize);
            (big.to_decimal(), 0)
        } else if exponent > -64 {
            let shift = -exponent as u32;
            let whole = significand >> shift;
            let bits = u128::from(significand & ((1 << shift) - 1));
            let fraction = divide_rounded(bits * SCALE, shift);
            // A fraction that rounds up to 1 carries over.
            let carry = fraction / SCALE;
            ((u128::from(whole) + carry).to_string(), fraction % SCALE)
        } else {
            let fraction = divide_rounded(
                u128::from(significand) * SCALE,
                (-exponent).min(i64::from(u32::MAX)) as u32,
            );
            ((fraction / SCALE).to_string(), fraction % SCALE)
        };
        let mut text = String::with_capacity(whole.len() + DECIMALS + 2);
        if negative && (whole != "0" || fraction != 0) {
            text.push('-');
        }
        text.push_str(&whole);
        if fraction != 0 {
            text.push('.');
            text.push_str(format!("{fraction:0DECIMALS$}").trim_end_matches('0'));
        }
        Some(text)
    }
}

/// `value / 2^shift`, to nearest, ties to even.
fn divide_rounded(value: u128, shift: u32) -> u128 {
    if shift > 127 {
        return 0; // below a half, since no value here reaches 2^122
    }
    let quotient = value >> shift;
    let rest = value & ((1u128 << shift) - 1);
    let half = if shift == 0 { return value } else { 1u128 << (shift - 1) };
    match rest.cmp(&half) {
        Ordering::Less => quotient,
        Ordering::Greater => quotient + 1,
        Ordering::Equal => quotient + (quotient & 1),
    }
}

/// Rounds `value × 2^exponent`, a little more when `sticky`, to 64 bits.
fn round(negative: bool, value: u128, sticky: bool, exponent: i64) -> LongDouble {
    if value == 0 {
        return LongDouble::Finite { negative: false, significand: 0, exponent: 0 };
    }
    let width = 128 - value.leading_zeros();
    let (mut significand, mut exponent) = if width <= 64 {
        let shift = 64 - width;
        (value << shift, exponent - i64::from(shift))
    } else {
        let shift = width - 64;
        let kept = value >> shift;
        let rest = value & ((1u128 << shift) - 1);
        let half = 1u128 << (shift - 1);
        let up = rest > half || rest == half && (sticky || kept & 1 == 1);
        (kept + u128::from(up), exponent + i64::from(shift))
    };
    if significand == 1 << 64 {
        significand >>= 1;
        exponent += 1;
    }
    if exponent + 64 > EXPONENT_MAX {
        return LongDouble::Infinite { negative };
    }
    LongDouble::Finite { negative, significand: significand as u64, exponent }
}

/// An exponent: an optional sign and digits. Saturates far outside every range.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let magnitude = digits
        .iter()
        .fold(0i64, |value, digit| (value * 10 + i64::from(digit - b'0')).min(1_000_000));
    Some(if negative { -magnitude } else { magnitude })
}

/// Rounds `digits × 10^exponent`; `None` when it is far out of range.
fn round_decimal(negative: bool, mut digits: Big, exponent: i64) -> Option<LongDouble> {
    if exponent.abs() > DECIMAL_EXPONENT_MAX {
        return None;
    }
    let mut divisor = Big::from(1);
    let scaled = if exponent >= 0 { &mut digits } else { &mut divisor };
    (0..exponent.abs()).for_each(|_| scaled.multiply_add(10, 0));
    Some(round_big(negative, &digits, &divisor, 0))
}

/// Rounds `dividend / divisor × 2^exponent`; neither is zero.
fn round_big(negative: bool, dividend: &Big, divisor: &Big, exponent: i64) -> LongDouble {
    // Scale so that the quotient has 66 or 67 bits: two more than are kept, and the rest sticky.
    let scale = divisor.bits() as i64 - dividend.bits() as i64 + 66;
    let (mut rest, mut divisor) = (dividend.clone(), divisor.clone());
    if scale >= 0 {
        rest.shift_left(scale as usize);
    } else {
        divisor.shift_left(-scale as usize);
    }
    divisor.shift_left(67);
    let mut quotient = 0u128;
    for _ in 0..=67 {
        quotient <<= 1;
        if rest.compare(&divisor) != Ordering::Less {
            rest.subtract(&divisor);
            quotient |= 1;
        }
        divisor.halve();
    }
    round(negative, quotient, !rest.is_zero(), exponent - scale)
}

/// A natural number of any size: 32-bit digits, lowest first, none of the highest zero.
#[derive(Debug, Clone, Default)]
struct Big(Vec<u32>);

impl From<u64> for Big {
    fn from(value: u64) -> Big {
        let mut big = Big(vec![value as u32, (value >> 32) as u32]);
        big.trim();
        big
    }
}

impl Big {
    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn bits(&self) -> usize {
        self.0.last().map_or(0, |top| self.0.len() * 32 - top.leading_zeros() as usize)
    }

    fn multiply_add(&mut self, factor: u32, addend: u32) {
        let mut carry = u64::from(addend);
        for digit in &mut self.0 {
            carry += u64::from(*digit) * u64::from(factor);
            *digit = carry as u32;
            carry >>= 32;
        }
        if carry != 0 {
            self.0.push(carry as u32);
        }
    }

    fn shift_left(&mut self, bits: usize) {
        self.multiply_add(1 << (bits % 32), 0);
        if !self.is_zero() {
            self.0.splice(0..0, std::iter::repeat_n(0, bits / 32));
        }
    }

    fn halve(&mut self) {
        let mut carry = 0;
        for digit in self.0.iter_mut().rev() {
            let low = *digit & 1;
            *digit = *digit >> 1 | carry << 31;
            carry = low;
        }
        self.trim();
    }

    fn compare(&self, other: &Big) -> Ordering {
        let by_length = self.0.len().cmp(&other.0.len());
        by_length.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    /// Subtracts `other`, which is not larger.
    fn subtract(&mut self, other: &Big) {
        let mut borrow = false;
        for (index, digit) in self.0.iter_mut().enumerate() {
            let take = other.0.get(index).copied().unwrap_or(0);
            let (value, b1) = digit.overflowing_sub(take);
            let (value, b2) = value.overflowing_sub(u32::from(borrow));
            *digit = value;
            borrow = b1 || b2;
        }
        self.trim();
    }

    fn to_decimal(mut self: Big) -> String {
        const CHUNK: u64 = 1_000_000_000;
        let mut chunks = Vec::new();
        while !self.is_zero() {
            let mut rest = 0u64;
            for digit in self.0.iter_mut().rev() {
                let value = rest << 32 | u64::from(*digit);
                *digit = (value / CHUNK) as u32;
                rest = value % CHUNK;
            }
            self.trim();
            chunks.push(rest);
        }
        let Some(first) = chunks.pop() else { return "0".into() };
        let mut text = first.to_string();
        chunks.iter().rev().for_each(|chunk| text.push_str(&format!("{chunk:09}")));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> String {
        let parse = |text: &str| LongDouble::parse(text.as_bytes()).unwrap();
        parse(a).add(parse(b)).unwrap().to_text().unwrap()
    }

    #[test]
    fn sums_print_as_redis_prints_them() {
        for (a, b, expected) in [
            ("10.50", "0.1", "10.6"),
            ("10.1", "0.2", "10.3"),
            ("5.0e3", "2.0e2", "5200"),
            ("0", "0", "0"),
            ("-1", "1", "0"),
            ("0.1", "-0.1", "0"),
            ("3", "-5", "-2"),
            ("1e-17", "0", "0.00000000000000001"),
            ("1e-18", "0", "0"),
            ("-1e-30", "0", "0"),
            ("1e20", "1", "100000000000000000000"), // 67 bits do not fit
            ("1e19", "1", "10000000000000000001"),
            ("18446744073709551615", "1", "18446744073709551616"),
            ("0x1p4", "0x.8", "16.5"),
        ] {
            assert_eq!(sum(a, b), expected, "{a} + {b}");
        }
    }

    #[test]
    fn what_is_no_float_is_refused() {
        for text in [
            "",
            " 1",
            "1 ",
            "1e",
            "e5",
            ".",
            "-",
            "nan",
            "1.2.3",
            "0x",
            "1e5000",
            "abc",
            "1e99999999999",
            "\0",
        ] {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
        }
        assert!(LongDouble::parse(b"1e4932").is_some());
        let infinity = LongDouble::parse(b"-Inf").unwrap();
        assert_eq!(infinity.to_text(), None);
        assert_eq!(infinity.add(LongDouble::Infinite { negative: false }), None);
    }

    #[test]
    fn agrees_with_f64_where_f64_is_exact() {
        let seed = 0x1d;
        println!("seed {seed:#x}");
        let mut rng = sluicedb::env::Rng::new(seed);
        for _ in 0..20_000 {
            // Multiples of 1/1024 below 2^40 and their sums are exact in both.
            let mut pick = || rng.below(1 << 50) as f64 / 1024.0 - (1u64 << 39) as f64;
            let (a, b) = (pick(), pick());
            // Ten decimals show such a number in full.
            let text = |number: f64| {
                let text = format!("{number:.10}");
                text.trim_end_matches('0').trim_end_matches('.').to_owned()
            };
            assert_eq!(sum(&text(a), &text(b)), text(a + b), "{a} + {b}");
        }
    }
}
