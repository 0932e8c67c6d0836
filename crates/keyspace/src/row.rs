//! The value of a `meta` row: what a key is.
//!
//! ```text
//! ┌──────────────────────────┬─────────────────────────────┬───────────┐
//! │ head byte                │ expire_at ms, u64 BE        │ payload … │
//! │ 7: 0  6-5: repr          │ only when bit 4 is set      │           │
//! │ 4: expires  3-0: type    │                             │           │
//! └──────────────────────────┴─────────────────────────────┴───────────┘
//! ```
//!
//! For a string the payload is the value. Bit 7 is for a later version of this layout; decoding
//! refuses it, an unknown type and an unknown representation with [`ErrorKind::Unsupported`], and
//! a row that ends early with [`ErrorKind::Corruption`].

use sluicedb::{Error, ErrorKind, PinnedSlice, Result};

/// The type of a key. The numbers are on disk: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ValueType {
    String = 1,
    Hash = 2,
    List = 3,
    Set = 4,
    ZSet = 5,
    Stream = 6,
}

impl ValueType {
    /// The name TYPE answers and SCAN's TYPE option takes.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::String => "string",
            ValueType::Hash => "hash",
            ValueType::List => "list",
            ValueType::Set => "set",
            ValueType::ZSet => "zset",
            ValueType::Stream => "stream",
        }
    }

    fn from_bits(bits: u8) -> Option<ValueType> {
        Some(match bits {
            1 => ValueType::String,
            2 => ValueType::Hash,
            3 => ValueType::List,
            4 => ValueType::Set,
            5 => ValueType::ZSet,
            6 => ValueType::Stream,
            _ => return None,
        })
    }
}

/// What OBJECT ENCODING may say of a string. Redis's answer depends on how the value came to be,
/// not only on its bytes, so two bits remember it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Repr {
    /// From the bytes alone: `int` when they are a canonical integer, else by length.
    #[default]
    Auto = 0,
    /// Never `int`: `embstr` or `raw` by length (what INCRBYFLOAT leaves behind).
    Text = 1,
    /// `raw`: edited in place by APPEND or SETRANGE.
    Raw = 2,
}

const EXPIRES: u8 = 1 << 4;
const REPR_SHIFT: u8 = 5;
const NEWER_VERSION: u8 = 1 << 7;

/// Everything of a row but its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub kind: ValueType,
    pub repr: Repr,
    /// Unix milliseconds. The key is gone once the clock is past it.
    pub expire_at: Option<u64>,
}

impl Head {
    /// A string, as SET makes it.
    pub fn string(expire_at: Option<u64>) -> Head {
        Head { kind: ValueType::String, repr: Repr::Auto, expire_at }
    }

    /// Whether the key is gone at `now_ms`. At the very millisecond it is still there, as in Redis.
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.expire_at.is_some_and(|at| at < now_ms)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let expires = if self.expire_at.is_some() { EXPIRES } else { 0 };
        out.push(self.kind as u8 | expires | (self.repr as u8) << REPR_SHIFT);
        if let Some(at) = self.expire_at {
            out.extend_from_slice(&at.to_be_bytes());
        }
    }

    /// Decodes the head of a row; the second number is where the payload begins.
    pub(crate) fn decode(row: &[u8]) -> Result<(Head, usize)> {
        let Some((&byte, rest)) = row.split_first() else {
            return Err(Error::new(ErrorKind::Corruption, "a meta row is empty: no head byte"));
        };
        let unsupported = || {
            Error::new(
                ErrorKind::Unsupported,
                format!("a meta row begins with byte {byte:#04x}, which this build does not know"),
            )
        };
        if byte & NEWER_VERSION != 0 {
            return Err(unsupported());
        }
        let kind = ValueType::from_bits(byte & 0x0f).ok_or_else(unsupported)?;
        let repr = match byte >> REPR_SHIFT {
            0 => Repr::Auto,
            1 => Repr::Text,
            2 => Repr::Raw,
            _ => return Err(unsupported()),
        };
        if byte & EXPIRES == 0 {
            return Ok((Head { kind, repr, expire_at: None }, 1));
        }
        let Some(at) = rest.first_chunk::<8>() else {
            return Err(Error::new(
                ErrorKind::Corruption,
                format!("a meta row of {} bytes ends inside its expiry", row.len()),
            ));
        };
        Ok((Head { kind, repr, expire_at: Some(u64::from_be_bytes(*at)) }, 9))
    }
}

/// A row as read: the head decoded, the payload still where the engine (or the transaction) has it.
#[derive(Debug)]
pub struct Row<'t> {
    bytes: Bytes<'t>,
    head: Head,
    payload_at: usize,
}

#[derive(Debug)]
enum Bytes<'t> {
    Stored(PinnedSlice<'t>),
    Pending(&'t [u8]),
}

impl<'t> Row<'t> {
    pub(crate) fn stored(bytes: PinnedSlice<'t>) -> Result<Row<'t>> {
        let (head, payload_at) = Head::decode(&bytes)?;
        Ok(Row { bytes: Bytes::Stored(bytes), head, payload_at })
    }

    pub(crate) fn pending(bytes: &'t [u8]) -> Result<Row<'t>> {
        let (head, payload_at) = Head::decode(bytes)?;
        Ok(Row { bytes: Bytes::Pending(bytes), head, payload_at })
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    pub fn kind(&self) -> ValueType {
        self.head.kind
    }

    pub fn expire_at(&self) -> Option<u64> {
        self.head.expire_at
    }

    /// The value of a string.
    pub fn payload(&self) -> &[u8] {
        let bytes: &[u8] = match &self.bytes {
            Bytes::Stored(bytes) => bytes,
            Bytes::Pending(bytes) => bytes,
        };
        // `decode` found the payload inside the row.
        bytes.get(self.payload_at..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_round_trip_and_look_as_documented() {
        let mut out = Vec::new();
        Head::string(None).encode(&mut out);
        assert_eq!(out, [0x01]);
        out.clear();
        let head =
            Head { kind: ValueType::ZSet, repr: Repr::Raw, expire_at: Some(0x0102_0304_0506_0708) };
        head.encode(&mut out);
        assert_eq!(out, [0x55, 1, 2, 3, 4, 5, 6, 7, 8]);
        out.extend_from_slice(b"payload");
        assert_eq!(Head::decode(&out).unwrap(), (head, 9));
    }

    #[test]
    fn decoding_is_total() {
        for byte in 0..=255u8 {
            for len in 0..12 {
                let mut row = vec![7u8; len];
                if let Some(first) = row.first_mut() {
                    *first = byte;
                }
                match Head::decode(&row) {
                    Ok((_, at)) => assert!(at <= row.len()),
                    Err(e) => {
                        assert!(matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::Corruption))
                    }
                }
            }
        }
        assert_eq!(Head::decode(&[0x81]).unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(Head::decode(&[0x11, 0]).unwrap_err().kind(), ErrorKind::Corruption);
    }
}
