//! LEB128 variable-length integers, as every on-disk format here uses them: 7 bits a byte, low
//! bits first, the high bit set on all but the last byte. Decoding refuses a value that does not
//! fit and input that ends early; it accepts no more than 10 bytes.

/// Most bytes a `u64` takes.
pub const U64_BYTES_MAX: usize = 10;

/// Appends `value` to `out`.
#[inline]
pub fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `value` to `out`.
#[inline]
pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    put_u64(out, u64::from(value));
}

/// Appends `bytes` to `out` behind its length.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// How many bytes `value` takes.
#[inline]
pub fn len_u64(value: u64) -> usize {
    // Bits needed, at least one, in groups of seven.
    ((64 - (value | 1).leading_zeros()) as usize).div_ceil(7)
}

/// Takes a `u64` off the front of `input`; `None` leaves `input` where it was.
///
/// ```
/// use sluice_base::varint;
/// let mut out = Vec::new();
/// varint::put_u64(&mut out, 300);
/// let mut input = &out[..];
/// assert_eq!(varint::take_u64(&mut input), Some(300));
/// assert!(input.is_empty());
/// ```
#[inline]
pub fn take_u64(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (index, &byte) in input.iter().take(U64_BYTES_MAX).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if index == 9 && bits > 1 {
            return None; // beyond 64 bits
        }
        value |= bits << (7 * index);
        if byte < 0x80 {
            *input = &input[index + 1..];
            return Some(value);
        }
    }
    None
}

/// Takes a `u32` off the front of `input`; `None` when it does not fit.
#[inline]
pub fn take_u32(input: &mut &[u8]) -> Option<u32> {
    let mut rest = *input;
    let value = u32::try_from(take_u64(&mut rest)?).ok()?;
    *input = rest;
    Some(value)
}

/// Takes length-prefixed bytes off the front of `input`.
#[inline]
pub fn take_bytes<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut rest = *input;
    let len = usize::try_from(take_u64(&mut rest)?).ok()?;
    if len > rest.len() {
        return None;
    }
    let (bytes, tail) = rest.split_at(len);
    *input = tail;
    Some(bytes)
}

/// Maps a signed number to an unsigned one so that small magnitudes stay short.
#[inline]
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
#[inline]
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_round_trip_in_the_length_announced(value: u64, signed: i64) {
            let mut out = Vec::new();
            put_u64(&mut out, value);
            prop_assert_eq!(out.len(), len_u64(value));
            prop_assert_eq!(take_u64(&mut &out[..]), Some(value));
            prop_assert_eq!(unzigzag(zigzag(signed)), signed);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let mut input = &bytes[..];
            while take_u64(&mut input).is_some() {}
            let mut input = &bytes[..];
            while take_bytes(&mut input).is_some() {}
        }
    }

    #[test]
    fn overlong_and_cut_numbers_are_refused() {
        assert_eq!(take_u64(&mut &[0x80; 11][..]), None);
        assert_eq!(
            take_u64(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2][..]),
            None
        );
        assert_eq!(take_u64(&mut &[0x80][..]), None);
        assert_eq!(take_bytes(&mut &[5, 1, 2][..]), None);
    }
}
