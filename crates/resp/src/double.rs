//! Doubles as Redis writes them: 17 significant digits (`%.17g`), integers without a fraction,
//! `inf`, `-inf`, `nan`.

use std::io::Write as _;

/// Longest text of a double: sign, 17 digits, point, `e-308`.
const DOUBLE_TEXT_MAX: usize = 32;

/// Appends the text of a double, in the form Redis gives doubles in replies: an integral value of
/// at most 2^53 as an integer, anything else as C's `%.17g`.
pub fn format_double(value: f64, out: &mut Vec<u8>) {
    if value.is_nan() {
        out.extend_from_slice(b"nan");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"inf" } else { b"-inf" });
    } else if value == 0.0 {
        out.extend_from_slice(if value.is_sign_negative() { b"-0" } else { b"0" });
    } else if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 {
        out.extend_from_slice(crate::Decimal::new(value as i64).bytes());
    } else {
        format_g17(value, out);
    }
}

/// C's `%.17g`: scientific when the exponent is below -4 or at least 17, otherwise fixed; trailing
/// zeros removed.
fn format_g17(value: f64, out: &mut Vec<u8>) {
    let mut text = [0u8; DOUBLE_TEXT_MAX];
    let mut cursor = &mut text[..];
    // 17 significant digits: one before the point, 16 after. The buffer holds the longest text.
    let written = match write!(cursor, "{value:.16e}") {
        Ok(()) => DOUBLE_TEXT_MAX - cursor.len(),
        Err(_) => 0,
    };
    let text = &text[..written];
    let Some(split) = memchr::memchr(b'e', text) else { return };
    let (mantissa, exponent) = (&text[..split], &text[split + 1..]);
    let exponent: i32 =
        std::str::from_utf8(exponent).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0);
    let (negative, mantissa) = match mantissa {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, mantissa),
    };
    let mut digits: Vec<u8> = mantissa.iter().copied().filter(|byte| *byte != b'.').collect();
    while digits.len() > 1 && digits.last() == Some(&b'0') {
        digits.pop();
    }
    if negative {
        out.push(b'-');
    }
    if !(-4..17).contains(&exponent) {
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.push(b'e');
        out.push(if exponent < 0 { b'-' } else { b'+' });
        let magnitude = exponent.unsigned_abs();
        if magnitude < 10 {
            out.push(b'0');
        }
        out.extend_from_slice(crate::Decimal::new(i64::from(magnitude)).bytes());
    } else if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', exponent.unsigned_abs() as usize - 1));
        out.extend_from_slice(&digits);
    } else {
        let whole = exponent as usize + 1;
        for at in 0..whole {
            out.push(digits.get(at).copied().unwrap_or(b'0'));
        }
        if digits.len() > whole {
            out.push(b'.');
            out.extend_from_slice(&digits[whole..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_read_as_in_redis() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (3.0, "3"),
            (-17.0, "-17"),
            (0.1, "0.10000000000000001"),
            (3.5, "3.5"),
            (1e100, "1e+100"),
            (1.5e-7, "1.4999999999999999e-07"),
            (0.0001, "0.0001"),
            (1e17, "1e+17"),
            (123456789.123, "123456789.123"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            let mut out = Vec::new();
            format_double(value, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), text);
        }
    }

    #[test]
    fn every_double_reads_back() {
        let mut bits: u64 = 0x9e37_79b9_7f4a_7c15;
        for _ in 0..20_000 {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            let value = f64::from_bits(bits);
            if !value.is_finite() {
                continue;
            }
            let mut out = Vec::new();
            format_double(value, &mut out);
            let back: f64 = String::from_utf8_lossy(&out).parse().unwrap();
            assert_eq!(back.to_bits(), value.to_bits());
        }
    }
}
