//! How keys look in the engine.
//!
//! ```text
//! meta     ┌────────────┬───────────┬──────────────┐
//!          │ ns u16 BE  │ slot u16  │ user key …   │
//!          └────────────┴───────────┴──────────────┘
//! expire   ┌────────────────┬────────────┬───────────┬──────────────┐
//!          │ expire_at u64  │ ns u16 BE  │ slot u16  │ user key …   │
//!          └────────────────┴────────────┴───────────┴──────────────┘
//! ```
//!
//! A namespace is a physical id. Which one a database has now is the `databases` module's affair.

use crate::slot::key_slot;

/// A physical database: the first two bytes of its keys.
pub(crate) type Namespace = u16;

/// Bytes in front of the user key in `meta`.
pub(crate) const META_PREFIX_BYTES: usize = 4;

/// Bytes in front of the `meta` key in `expire`.
pub(crate) const INDEX_PREFIX_BYTES: usize = 8;

/// Longest user key. The engine's keys end at 1 MiB; the longest prefix here takes 12 bytes, and
/// the collections to come need room for a version and a field length.
pub const USER_KEY_BYTES_MAX: usize = (1 << 20) - 64;

/// Replaces `out` by the `meta` key of `key`.
pub(crate) fn meta_key(out: &mut Vec<u8>, namespace: Namespace, key: &[u8]) {
    out.clear();
    out.extend_from_slice(&namespace.to_be_bytes());
    out.extend_from_slice(&key_slot(key).to_be_bytes());
    out.extend_from_slice(key);
}

/// Replaces `out` by the index key of a `meta` key that expires at `expire_at`.
pub(crate) fn index_key(out: &mut Vec<u8>, expire_at: u64, meta_key: &[u8]) {
    out.clear();
    out.extend_from_slice(&expire_at.to_be_bytes());
    out.extend_from_slice(meta_key);
}

/// The first key of a slot of a namespace.
pub(crate) fn slot_start(namespace: Namespace, slot: u16) -> [u8; META_PREFIX_BYTES] {
    let [n0, n1] = namespace.to_be_bytes();
    let [s0, s1] = slot.to_be_bytes();
    [n0, n1, s0, s1]
}

/// Splits a `meta` key; `None` when it is too short to be one.
pub(crate) fn split_meta_key(bytes: &[u8]) -> Option<(Namespace, u16, &[u8])> {
    let (prefix, key) = bytes.split_first_chunk::<META_PREFIX_BYTES>()?;
    let [n0, n1, s0, s1] = *prefix;
    Some((u16::from_be_bytes([n0, n1]), u16::from_be_bytes([s0, s1]), key))
}

/// Splits an index key into the moment and the `meta` key.
pub(crate) fn split_index_key(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (moment, meta_key) = bytes.split_first_chunk::<INDEX_PREFIX_BYTES>()?;
    Some((u64::from_be_bytes(*moment), meta_key))
}
