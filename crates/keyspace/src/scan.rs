//! Walking over the keys of a database: SCAN, KEYS, RANDOMKEY.
//!
//! Engine order is (slot, key), and a walk merges the view with the transaction's own pending
//! writes in that order.
//!
//! Cursors. Redis's are a number that the client hands back; the server keeps nothing. Ours:
//!
//! ```text
//! 63 62 61            48 47                                            0
//! ┌────┬────────────────┬───────────────────────────────────────────────┐
//! │ 0  │ slot (14 bits) │ id: 0 = from the start of the slot, else the  │
//! │    │                │ entry of ScanTable that knows the last key    │
//! └────┴────────────────┴───────────────────────────────────────────────┘
//! ```
//!
//! The table is bounded and forgets, also at a restart. An id it does not know means the start of
//! the slot: keys of that slot come twice, which Redis's guarantee allows, and none is left out,
//! which it does not allow. Ids start at random, so that an old client's id does not meet another
//! walk's entry.

use crate::{
    layout::{self, META_PREFIX_BYTES, Namespace},
    row::{Head, ValueType},
    slot::SLOT_COUNT,
    txn::{Txn, not_begun},
};
use sluicedb::{ReadOptions, Result};
use std::{
    collections::VecDeque,
    hash::BuildHasher,
    ops::ControlFlow,
    sync::{Mutex, PoisonError},
};

const ID_BITS: u32 = 48;
const ID_MASK: u64 = (1 << ID_BITS) - 1;

/// Walks remembered at one time, and the bytes of their keys: 4096 walks of usual keys take
/// about half a megabyte, and hostile keys of a megabyte cannot take more than 16.
const WALKS_MAX: usize = 4096;
const WALK_BYTES_MAX: usize = 16 << 20;

/// Databases up to this size are counted through by RANDOMKEY, which makes it uniform; above it a
/// random slot and a few random steps are uniform enough.
const RANDOM_EXACT_MAX: u64 = 64;
/// Rows RANDOMKEY looks at before it reports an empty database: all of them were due.
const RANDOM_ROWS_MAX: usize = 1024;

/// The last keys of unfinished walks.
#[derive(Debug)]
pub(crate) struct ScanTable {
    walks: Mutex<Walks>,
}

#[derive(Debug)]
struct Walks {
    /// Id of the entry in front.
    first_id: u64,
    entries: VecDeque<Box<[u8]>>,
    bytes: usize,
}

impl ScanTable {
    pub(crate) fn new() -> ScanTable {
        let random = std::hash::RandomState::new().hash_one(0u8);
        // Room for 2^47 walks before the ids would wrap.
        let first_id = random & (ID_MASK >> 1) | 1;
        ScanTable { walks: Mutex::new(Walks { first_id, entries: VecDeque::new(), bytes: 0 }) }
    }

    /// Remembers the `meta` key a walk stopped at.
    fn remember(&self, meta_key: &[u8]) -> u64 {
        let mut walks = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
        walks.bytes += meta_key.len();
        walks.entries.push_back(meta_key.into());
        while walks.entries.len() > WALKS_MAX
            || (walks.bytes > WALK_BYTES_MAX && walks.entries.len() > 1)
        {
            let Some(oldest) = walks.entries.pop_front() else { break };
            walks.bytes -= oldest.len();
            walks.first_id += 1;
        }
        (walks.first_id + walks.entries.len() as u64 - 1) & ID_MASK
    }

    /// The key of an id, when it is still known.
    fn recall(&self, id: u64) -> Option<Box<[u8]>> {
        let walks = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
        let index = id.checked_sub(walks.first_id)?;
        walks.entries.get(usize::try_from(index).ok()?).cloned()
    }
}

/// One key met on a walk.
#[derive(Debug)]
struct Met<'a> {
    meta_key: &'a [u8],
    head: Head,
}

impl Met<'_> {
    fn user_key(&self) -> &[u8] {
        self.meta_key.get(META_PREFIX_BYTES..).unwrap_or_default()
    }

    fn slot(&self) -> u16 {
        layout::split_meta_key(self.meta_key).map_or(0, |(_, slot, _)| slot)
    }
}

impl Txn {
    /// One step of SCAN: looks at about `count` keys of `db` from `cursor` on (0 begins), hands
    /// each that is there to `each`, and returns the next cursor, 0 at the end.
    ///
    /// A key that is there from the first step to the last comes at least once.
    ///
    /// # Errors
    /// As [`Txn::lookup`].
    pub fn scan(
        &mut self,
        db: u32,
        cursor: u64,
        count: usize,
        mut each: impl FnMut(&[u8], ValueType),
    ) -> Result<u64> {
        let namespace = self.namespace(db)?;
        let slot = (cursor >> ID_BITS) as u16 % SLOT_COUNT;
        let slot_start = layout::slot_start(namespace, slot);
        let resumed =
            self.shared.scans.recall(cursor & ID_MASK).filter(|key| key.starts_with(&slot_start));
        let start = match resumed {
            Some(last) => [&last[..], &[0]].concat(), // the smallest key after it
            None => slot_start.to_vec(),
        };
        let now_ms = self.now_ms();
        let mut looked_at = 0;
        let mut last = Vec::new();
        let mut next = 0;
        self.walk(namespace, &start, |met| {
            if looked_at == count.max(1) {
                // `met` proves that there is more.
                let slot = met.slot();
                let same_slot = last.starts_with(&layout::slot_start(namespace, slot));
                next = u64::from(slot) << ID_BITS;
                return ControlFlow::Break(same_slot);
            }
            looked_at += 1;
            last.clear();
            last.extend_from_slice(met.meta_key);
            if !met.head.is_due(now_ms) {
                each(met.user_key(), met.head.kind);
            }
            ControlFlow::Continue(())
        })
        .map(|stopped| match stopped {
            None => 0,
            Some(false) => next,
            Some(true) => next | self.shared.scans.remember(&last),
        })
    }

    /// Hands every key of `db` that is there to `each`, in engine order: KEYS.
    ///
    /// # Errors
    /// As [`Txn::lookup`].
    pub fn for_each_key(&mut self, db: u32, mut each: impl FnMut(&[u8], ValueType)) -> Result<()> {
        let namespace = self.namespace(db)?;
        let now_ms = self.now_ms();
        self.walk(namespace, &namespace.to_be_bytes(), |met| {
            if !met.head.is_due(now_ms) {
                each(met.user_key(), met.head.kind);
            }
            ControlFlow::<()>::Continue(())
        })?;
        Ok(())
    }

    /// Some key of `db` that is there, put into `out`; false when there is none, or when so many
    /// in a row were due that looking on would take too long.
    ///
    /// # Errors
    /// As [`Txn::lookup`].
    pub fn random_key(&mut self, db: u32, out: &mut Vec<u8>) -> Result<bool> {
        let namespace = self.namespace(db)?;
        if self.key_count(db)? <= RANDOM_EXACT_MAX {
            return self.random_of_few(namespace, out);
        }
        let slot = self.rng.below(u64::from(SLOT_COUNT)) as u16;
        // Steps past the seek spread the choice over runs of keys behind a gap.
        let mut steps = self.rng.below(16);
        for start in [layout::slot_start(namespace, slot), layout::slot_start(namespace, 0)] {
            if self.random_after(namespace, &start, &mut steps, out)? {
                return Ok(true);
            }
        }
        Ok(!out.is_empty())
    }

    /// Reservoir sampling over the whole database.
    fn random_of_few(&mut self, namespace: Namespace, out: &mut Vec<u8>) -> Result<bool> {
        let now_ms = self.now_ms();
        let mut rng = self.rng.clone();
        let mut met_count = 0;
        self.walk(namespace, &namespace.to_be_bytes(), |met| {
            if !met.head.is_due(now_ms) {
                met_count += 1;
                if rng.below(met_count) == 0 {
                    out.clear();
                    out.extend_from_slice(met.user_key());
                }
            }
            ControlFlow::<()>::Continue(())
        })?;
        self.rng = rng;
        Ok(met_count > 0)
    }

    /// The key `steps` live keys after `start`; the nearest one before it stays in `out` when the
    /// database ends first.
    fn random_after(
        &mut self,
        namespace: Namespace,
        start: &[u8],
        steps: &mut u64,
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        let now_ms = self.now_ms();
        let mut rows = 0;
        let found = self.walk(namespace, start, |met| {
            rows += 1;
            if rows > RANDOM_ROWS_MAX {
                return ControlFlow::Break(false);
            }
            if met.head.is_due(now_ms) {
                return ControlFlow::Continue(());
            }
            out.clear();
            out.extend_from_slice(met.user_key());
            if *steps == 0 {
                return ControlFlow::Break(true);
            }
            *steps -= 1;
            ControlFlow::Continue(())
        })?;
        Ok(found == Some(true))
    }

    /// Walks over the rows of a namespace from `start` on, the view and the pending writes merged,
    /// until `each` breaks; what it broke with.
    fn walk<B>(
        &self,
        namespace: Namespace,
        start: &[u8],
        mut each: impl FnMut(Met<'_>) -> ControlFlow<B>,
    ) -> Result<Option<B>> {
        let view = self.view.as_ref().ok_or_else(not_begun)?;
        let options = ReadOptions {
            lower: Some(namespace.to_be_bytes().to_vec()),
            upper: Some((namespace + 1).to_be_bytes().to_vec()),
            ..ReadOptions::default()
        };
        let mut rows = view.iter(&self.shared.families.meta, options)?;
        let mut stored = rows.seek(start)?;
        let prefix = namespace.to_be_bytes();
        let mut pending: Vec<(&[u8], Option<&[u8]>)> = self
            .overlay
            .newest()
            .map(|entry| (self.overlay.key(entry), self.overlay.row(entry)))
            .filter(|(key, _)| *key >= start && key.starts_with(&prefix))
            .collect();
        pending.sort_unstable();
        let mut pending = pending.into_iter().peekable();
        loop {
            let own = pending.next_if(|(key, _)| !stored || *key <= rows.key());
            if let Some((meta_key, row)) = own {
                if stored && rows.key() == meta_key {
                    stored = rows.next()?; // our own write hides it
                }
                let Some(row) = row else { continue };
                let (head, _) = Head::decode(row)?;
                if let ControlFlow::Break(value) = each(Met { meta_key, head }) {
                    return Ok(Some(value));
                }
                continue;
            }
            if !stored {
                return Ok(None);
            }
            let (head, _) = Head::decode(rows.value())?;
            if let ControlFlow::Break(value) = each(Met { meta_key: rows.key(), head }) {
                return Ok(Some(value));
            }
            stored = rows.next()?;
        }
    }
}
