//! [`WriteBatch`]: the only unit of mutation. It is encoded once, when the caller fills it, in the
//! very form that the log frame and the replay use, so a commit copies bytes and never re-encodes.
//!
//! One entry, entries back to back:
//!
//! ```text
//! kind u8 | cf varint | key length varint | key | [ value length varint | value ]   put, (delete)
//! kind u8 | cf varint | counter id varint | zigzag varint delta                     counter
//! ```
//!
//! The entry at index i takes the sequence number `first_seq + i`. docs/format/batch.md has a
//! worked example.

use crate::cf::ColumnFamily;
use sluice_base::{CfId, Error, Kind, Result, limits, varint};

/// What the log and the memtables will need of one column family, summed while the batch is built
/// so that admission need not walk it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CfShare {
    pub cf: CfId,
    pub slot: usize,
    /// Key and value bytes.
    pub bytes: usize,
    pub entries: usize,
    /// Whether the family's writes are logged.
    pub wal: bool,
}

/// Changes to one or more column families that become visible, durable and recovered together or
/// not at all.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use sluicedb::{Db, Options, WriteBatch, WriteOptions};
/// let db = Db::open(dir.path(), Options::default())?;
/// let cf = db.default_cf();
/// let mut batch = WriteBatch::new();
/// batch.put(&cf, b"from", b"90");
/// batch.put(&cf, b"to", b"10");
/// db.write(&batch, &WriteOptions::default())?;
/// assert_eq!(db.get(&cf, b"to")?.as_deref(), Some(&b"10"[..]));
/// # Ok::<(), sluicedb::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct WriteBatch {
    payload: Vec<u8>,
    count: usize,
    shares: Vec<CfShare>,
    /// The first key or value over its limit; refused when the batch is written.
    oversized: Option<(&'static str, usize, usize)>,
    /// The database whose handles filled the batch; `Mixed` is refused when it is written.
    owner: Owner,
}

/// Whose column family handles a batch was filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Owner {
    #[default]
    Nobody,
    One(u64),
    Mixed,
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> WriteBatch {
        WriteBatch::default()
    }

    /// Sets `key` to `value` in `cf`. A key or value over its limit ([`limits`]) is refused when the
    /// batch is written.
    #[inline]
    pub fn put(&mut self, cf: &ColumnFamily, key: &[u8], value: &[u8]) {
        self.put_parts(cf, key, &[value]);
    }

    /// As [`WriteBatch::put`], with the value given in pieces: spares the caller a copy.
    pub fn put_parts(&mut self, cf: &ColumnFamily, key: &[u8], parts: &[&[u8]]) {
        let value_len: usize = parts.iter().map(|part| part.len()).sum();
        self.check_len("key", key.len(), limits::KEY_BYTES_MAX);
        self.check_len("value", value_len, limits::VALUE_BYTES_MAX);
        self.entry(cf, Kind::Put, key.len() + value_len);
        varint::put_bytes(&mut self.payload, key);
        varint::put_u64(&mut self.payload, value_len as u64);
        for part in parts {
            self.payload.extend_from_slice(part);
        }
    }

    /// Removes `key` from `cf`; not an error when it is not there.
    pub fn delete(&mut self, cf: &ColumnFamily, key: &[u8]) {
        self.check_len("key", key.len(), limits::KEY_BYTES_MAX);
        self.entry(cf, Kind::Delete, key.len());
        varint::put_bytes(&mut self.payload, key);
    }

    /// Adds `delta` to counter `id` of `cf`. Counters are exact sums kept beside the rows: they
    /// cost no row, commit with the batch, and survive exactly as the batch does.
    pub fn add_counter(&mut self, cf: &ColumnFamily, id: u32, delta: i64) {
        self.entry(cf, Kind::Counter, 0);
        varint::put_u32(&mut self.payload, id);
        varint::put_u64(&mut self.payload, varint::zigzag(delta));
    }

    /// How many entries, which is how many sequence numbers the batch will take.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes the batch takes in a log frame.
    pub fn byte_len(&self) -> usize {
        self.payload.len()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Empties the batch and keeps its memory for the next one.
    pub fn clear(&mut self) {
        self.payload.clear();
        self.count = 0;
        self.shares.clear();
        self.oversized = None;
        self.owner = Owner::Nobody;
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub(crate) fn shares(&self) -> &[CfShare] {
        &self.shares
    }

    /// Refuses what could never be written, before anything is reserved for it (P4).
    pub(crate) fn validate(&self, owner: u64) -> Result<()> {
        if self.owner != Owner::One(owner) {
            return Err(Error::invalid(
                "the batch holds a column family of another Db; nothing was written",
            ));
        }
        if let Some((what, len, max)) = self.oversized {
            return Err(Error::invalid(format!(
                "a {what} of {len} bytes is over the limit of {max} bytes; nothing was written"
            )));
        }
        if self.payload.len() > limits::BATCH_BYTES_MAX || self.count > limits::BATCH_ENTRIES_MAX {
            return Err(Error::invalid(format!(
                "a batch of {} entries and {} bytes is over the limit of {} entries or {} bytes; \
                 nothing was written: split it",
                self.count,
                self.payload.len(),
                limits::BATCH_ENTRIES_MAX,
                limits::BATCH_BYTES_MAX
            )));
        }
        Ok(())
    }

    fn check_len(&mut self, what: &'static str, len: usize, max: usize) {
        if len > max && self.oversized.is_none() {
            self.oversized = Some((what, len, max));
        }
    }

    fn entry(&mut self, cf: &ColumnFamily, kind: Kind, bytes: usize) {
        self.payload.push(kind as u8);
        varint::put_u32(&mut self.payload, cf.id().0);
        self.count += 1;
        self.owner = match self.owner {
            Owner::Nobody => Owner::One(cf.owner()),
            Owner::One(owner) if owner == cf.owner() => self.owner,
            _ => Owner::Mixed,
        };
        // A batch touches a handful of families at most: a scan beats a map.
        match self.shares.iter_mut().find(|share| share.slot == cf.slot()) {
            Some(share) => {
                share.bytes += bytes;
                share.entries += 1;
            }
            None => {
                let (slot, wal) = (cf.slot(), cf.wal());
                self.shares.push(CfShare { cf: cf.id(), slot, bytes, entries: 1, wal });
            }
        }
    }
}

/// One decoded entry, borrowed from a batch or a log frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    Put { cf: CfId, key: &'a [u8], value: &'a [u8] },
    Delete { cf: CfId, key: &'a [u8] },
    Counter { cf: CfId, id: u32, delta: i64 },
}

impl Entry<'_> {
    /// Key and value bytes.
    pub(crate) fn bytes(&self) -> usize {
        match *self {
            Entry::Put { key, value, .. } => key.len() + value.len(),
            Entry::Delete { key, .. } => key.len(),
            Entry::Counter { .. } => 0,
        }
    }

    pub(crate) fn cf(&self) -> CfId {
        match *self {
            Entry::Put { cf, .. } | Entry::Delete { cf, .. } | Entry::Counter { cf, .. } => cf,
        }
    }
}

/// Walks a payload. Total: hostile bytes end it with `None` and leave `rest` non-empty.
#[derive(Debug, Clone)]
pub(crate) struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Entries<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Entries<'a> {
        Entries { rest: payload }
    }

    /// Whether every byte was understood.
    pub(crate) fn finished(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    fn decode(&self) -> Option<(Entry<'a>, &'a [u8])> {
        let (&kind, mut rest) = self.rest.split_first()?;
        let kind = Kind::from_byte(kind)?;
        let cf = CfId(varint::take_u32(&mut rest)?);
        let entry = match kind {
            Kind::Put => {
                let key = varint::take_bytes(&mut rest)?;
                Entry::Put { cf, key, value: varint::take_bytes(&mut rest)? }
            }
            Kind::Delete => Entry::Delete { cf, key: varint::take_bytes(&mut rest)? },
            Kind::Counter => {
                let id = varint::take_u32(&mut rest)?;
                Entry::Counter { cf, id, delta: varint::unzigzag(varint::take_u64(&mut rest)?) }
            }
        };
        Some((entry, rest))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        let (entry, rest) = self.decode()?;
        self.rest = rest;
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cf::DbId;
    use proptest::prelude::*;
    use std::sync::Arc;

    #[test]
    fn entries_come_back_as_they_went_in() {
        let owner = Arc::default();
        let one = ColumnFamily::for_test(1, 0, &owner);
        let two = ColumnFamily::for_test(300, 1, &owner);
        let mut batch = WriteBatch::new();
        batch.put(&one, b"key", b"value");
        batch.delete(&two, b"");
        batch.put_parts(&two, b"k", &[b"a", b"", b"bc"]);
        batch.add_counter(&one, 7, -3);
        let entries: Vec<Entry<'_>> = Entries::new(batch.payload()).collect();
        assert_eq!(
            entries,
            [
                Entry::Put { cf: CfId(1), key: b"key", value: b"value" },
                Entry::Delete { cf: CfId(300), key: b"" },
                Entry::Put { cf: CfId(300), key: b"k", value: b"abc" },
                Entry::Counter { cf: CfId(1), id: 7, delta: -3 },
            ]
        );
        assert_eq!(batch.count(), 4);
        let shares: Vec<_> = batch.shares().iter().map(|s| (s.cf.0, s.bytes, s.entries)).collect();
        assert_eq!(shares, [(1, 8, 2), (300, 4, 2)]);
        batch.clear();
        assert!(batch.is_empty() && batch.payload().is_empty() && batch.shares().is_empty());
    }

    #[test]
    fn oversized_keys_are_refused_with_the_limit_in_the_message() {
        let owner = Arc::<DbId>::default();
        let cf = ColumnFamily::for_test(1, 0, &owner);
        let mut batch = WriteBatch::new();
        batch.put(&cf, &vec![0; limits::KEY_BYTES_MAX + 1], b"");
        let error = batch.validate(owner.number()).unwrap_err();
        assert_eq!(error.kind(), sluice_base::ErrorKind::Invalid);
        assert!(error.to_string().contains("1048576"), "{error}");
    }

    proptest! {
        #[test]
        fn hostile_payloads_never_panic(bytes: Vec<u8>) {
            let mut entries = Entries::new(&bytes);
            while entries.next().is_some() {}
            let _ = entries.finished();
        }
    }
}
