//! Keys of the elements of large collections: what stands in `data` and `score`.
//!
//! ```text
//! data    | ns u16 | slot u16 | length u32, user key | version u64 | field ..               |
//! score   | ns u16 | slot u16 | length u32, user key | version u64 | score u64 | member ..  |
//! ```
//! Integers are big-endian. The version is that of the collection, from its `meta` row: deleting a
//! collection changes it, so that what was left behind belongs to nobody. The length keeps two user
//! keys apart of which one begins the other, and keeps the elements of one collection together.
//!
//! A score's bits are turned so that bytes sort as numbers do: those of a negative number are all
//! complemented, of others the sign alone. Both zeros are one score, as they are for Redis.
//!
//! The schemas `redis-data` and `redis-score` (`schemas.rs`) split these keys into the same fields.

use crate::{
    layout::{META_PREFIX_BYTES, Namespace, slot_start},
    slot::key_slot,
};

const SIGN: u64 = 1 << 63;

/// Which collection an element belongs to.
///
/// ```
/// use sluice_keyspace::element::{Collection, split_data_key, split_score_key};
///
/// let set = Collection { namespace: 0, key: b"board", version: 3 };
/// let mut key = Vec::new();
/// assert!(set.score_key(&mut key, -1.5, b"ann"));
/// assert_eq!(split_score_key(&key), Some((set, -1.5, &b"ann"[..])));
/// set.data_key(&mut key, b"ann");
/// assert_eq!(split_data_key(&key), Some((set, &b"ann"[..])));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collection<'a> {
    pub namespace: u16,
    /// The user key.
    pub key: &'a [u8],
    pub version: u64,
}

impl<'a> Collection<'a> {
    /// Replaces `out` by the key of a field of a hash, a member of a set or an item of a list.
    pub fn data_key(&self, out: &mut Vec<u8>, field: &[u8]) {
        self.prefix(out);
        out.extend_from_slice(field);
    }

    /// Replaces `out` by the key under which `member` stands in the order of scores. False, and `out`
    /// as it was, for a score that is not a number: it has no place in an order.
    pub fn score_key(&self, out: &mut Vec<u8>, score: f64, member: &[u8]) -> bool {
        let Some(bits) = score_bits(score) else { return false };
        self.prefix(out);
        out.extend_from_slice(&bits.to_be_bytes());
        out.extend_from_slice(member);
        true
    }

    /// Replaces `out` by what all keys of the collection begin with.
    pub fn prefix(&self, out: &mut Vec<u8>) {
        debug_assert!(self.key.len() <= crate::USER_KEY_BYTES_MAX);
        out.clear();
        out.extend_from_slice(&slot_start(self.namespace, key_slot(self.key)));
        out.extend_from_slice(&(self.key.len() as u32).to_be_bytes());
        out.extend_from_slice(self.key);
        out.extend_from_slice(&self.version.to_be_bytes());
    }

    /// The collection at the start of `bytes`, and what follows. The slot must be the key's.
    fn take(bytes: &'a [u8]) -> Option<(Collection<'a>, &'a [u8])> {
        let (prefix, rest) = bytes.split_first_chunk::<META_PREFIX_BYTES>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (key, rest) = rest.split_at_checked(length)?;
        let (version, rest) = rest.split_first_chunk::<8>()?;
        let namespace = Namespace::from_be_bytes([prefix[0], prefix[1]]);
        if *prefix != slot_start(namespace, key_slot(key)) {
            return None;
        }
        let version = u64::from_be_bytes(*version);
        Some((Collection { namespace, key, version }, rest))
    }
}

/// Splits a key of `data`; `None` when it is not one.
pub fn split_data_key(bytes: &[u8]) -> Option<(Collection<'_>, &[u8])> {
    Collection::take(bytes)
}

/// Splits a key of `score`; `None` when it is not one, a score that no number has included.
pub fn split_score_key(bytes: &[u8]) -> Option<(Collection<'_>, f64, &[u8])> {
    let (collection, rest) = Collection::take(bytes)?;
    let (bits, member) = rest.split_first_chunk::<8>()?;
    Some((collection, score_of(u64::from_be_bytes(*bits))?, member))
}

/// The bits of a score, turned: they sort as the scores do. `None` for what is not a number.
pub fn score_bits(score: f64) -> Option<u64> {
    if score.is_nan() {
        return None;
    }
    // Adding 0 makes the negative zero a positive one.
    let bits = (score + 0.0).to_bits();
    Some(if bits & SIGN == 0 { bits | SIGN } else { !bits })
}

/// The score whose turned bits these are.
pub fn score_of(turned: u64) -> Option<f64> {
    let score = f64::from_bits(if turned & SIGN == 0 { !turned } else { turned & !SIGN });
    (score_bits(score) == Some(turned)).then_some(score)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FAMILY_SCHEMAS;
    use sluicedb::{FieldValue, KeySchema, env::Rng};

    fn schema(family: &str) -> KeySchema {
        let own = FAMILY_SCHEMAS.iter().find(|own| own.family == family).unwrap();
        own.schema().unwrap()
    }

    fn bytes(rng: &mut Rng, max: u64) -> Vec<u8> {
        (0..rng.below(max)).map(|_| [0, 1, b'a', b'{', b'}', 0xff][rng.below(6) as usize]).collect()
    }

    #[test]
    fn p11_element_keys_split_as_their_schemas_do() {
        let seed = 0x5eed_e1e3;
        println!("seed {seed:#x}");
        let mut rng = Rng::new(seed);
        let (data, score) = (schema("data"), schema("score"));
        let mut out = Vec::new();
        for _ in 0..2000 {
            let (key, field) = (bytes(&mut rng, 20), bytes(&mut rng, 9));
            let number = (rng.below(2000) as f64 - 1000.0) / 8.0;
            let namespace = rng.below(65535) as u16;
            let of = Collection { namespace, key: &key, version: rng.next_u64() };
            let head = [
                FieldValue::Number(u64::from(of.namespace)),
                FieldValue::Number(u64::from(key_slot(&key))),
                FieldValue::Bytes((&key[..]).into()),
                FieldValue::Number(of.version),
            ];
            of.data_key(&mut out, &field);
            assert_eq!(split_data_key(&out), Some((of, &field[..])));
            let last = FieldValue::Bytes((&field[..]).into());
            let wanted = [&head[..], std::slice::from_ref(&last)].concat();
            assert_eq!(data.split(&out), Some(wanted));
            assert!(of.score_key(&mut out, number, &field));
            assert_eq!(split_score_key(&out), Some((of, number, &field[..])));
            let bits = FieldValue::Number(score_bits(number).unwrap());
            assert_eq!(score.split(&out), Some([&head[..], &[bits, last]].concat()));
            let cut = rng.below(out.len() as u64) as usize;
            let whole = 4 + 4 + key.len() + 8;
            assert_eq!(split_data_key(&out[..cut]).is_some(), cut >= whole);
            assert_eq!(split_score_key(&out[..cut]).is_some(), cut >= whole + 8);
        }
    }

    #[test]
    fn scores_sort_as_numbers_and_come_back() {
        let tiny = f64::from_bits(1);
        let ascending = [
            f64::NEG_INFINITY,
            f64::MIN,
            -1.5,
            -1.0,
            -f64::MIN_POSITIVE,
            -tiny,
            0.0,
            tiny,
            f64::MIN_POSITIVE,
            1.0,
            1.5,
            f64::MAX,
            f64::INFINITY,
        ];
        let bits: Vec<u64> = ascending.iter().map(|score| score_bits(*score).unwrap()).collect();
        assert!(bits.windows(2).all(|pair| pair[0] < pair[1]), "{bits:x?}");
        for (score, bits) in ascending.iter().zip(bits) {
            assert_eq!(score_of(bits).map(f64::to_bits), Some(score.to_bits()));
        }
        assert_eq!(score_bits(-0.0), score_bits(0.0));
        assert_eq!(score_bits(f64::NAN), None);
        // No number has the bits of the negative zero or of what is not a number.
        for turned in
            [!(-0.0f64).to_bits(), f64::NAN.to_bits() | SIGN, !f64::NAN.to_bits() & !SIGN, 0]
        {
            assert_eq!(score_of(turned), None, "{turned:x}");
        }
    }

    #[test]
    fn collections_lie_apart_and_a_wrong_slot_is_refused() {
        let key = |key: &[u8], version, field: &[u8]| {
            let mut out = Vec::new();
            Collection { namespace: 1, key, version }.data_key(&mut out, field);
            out
        };
        // One slot, so that the length decides.
        let of_a = [key(b"{a}", 1, b"z"), key(b"{a}", 2, b"")];
        assert!(of_a.is_sorted() && of_a[1] < key(b"{a}b", 1, b""));
        let mut wrong = key(b"a", 1, b"f");
        wrong[3] ^= 1;
        assert_eq!(split_data_key(&wrong), None);
    }
}
