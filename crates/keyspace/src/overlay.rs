//! The pending writes of a transaction: a log of rows that reads look through first.
//!
//! Entries are only appended; the newest entry of a key counts, older ones are `superseded`. A
//! savepoint is therefore a length, and rolling back is cutting the log. Keys and rows lie in one
//! byte arena that is kept from transaction to transaction, so that a SET allocates nothing.
//!
//! Up to [`LINEAR_MAX`] entries a lookup walks the log; beyond, a map from hash to newest entry is
//! built, and entries of one hash are chained by `older`.

use std::{collections::HashMap, hash::BuildHasher, ops::Range};

/// Entries up to which walking beats hashing.
const LINEAR_MAX: usize = 12;

/// Arena bytes kept between transactions.
const ARENA_KEPT_BYTES_MAX: usize = 1 << 20;

/// What a key was, or will be, for the counters and the expiry index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Missing,
    Stored { expire_at: Option<u64> },
}

impl Presence {
    pub(crate) fn is_stored(self) -> bool {
        matches!(self, Presence::Stored { .. })
    }

    pub(crate) fn expire_at(self) -> Option<u64> {
        match self {
            Presence::Missing => None,
            Presence::Stored { expire_at } => expire_at,
        }
    }
}

/// One pending write.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The logical database, for WATCH.
    pub(crate) db: u32,
    key: Range<usize>,
    /// `None`: the key is deleted.
    row: Option<Range<usize>>,
    pub(crate) after: Presence,
    /// What the engine holds: before this transaction, not before this entry.
    pub(crate) base: Presence,
    hash: u64,
    /// The next older entry with this hash (any key), once the map is in use.
    older: Option<usize>,
    /// The entry of this very key that this one superseded.
    replaces: Option<usize>,
    superseded: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Overlay {
    arena: Vec<u8>,
    entries: Vec<Entry>,
    /// Newest entry of each hash; empty while the log is short.
    newest: HashMap<u64, usize, foldhash::fast::RandomState>,
    hasher: foldhash::fast::RandomState,
}

/// Where a rollback cuts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    entries: usize,
    arena: usize,
}

impl Overlay {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn key(&self, entry: &Entry) -> &[u8] {
        &self.arena[entry.key.clone()]
    }

    pub(crate) fn row(&self, entry: &Entry) -> Option<&[u8]> {
        entry.row.clone().map(|row| &self.arena[row])
    }

    pub(crate) fn entry(&self, index: usize) -> &Entry {
        &self.entries[index]
    }

    /// The newest entry of an engine key.
    pub(crate) fn find(&self, key: &[u8]) -> Option<usize> {
        if self.entries.len() <= LINEAR_MAX {
            return self.entries.iter().rposition(|entry| self.key(entry) == key);
        }
        let mut at = self.newest.get(&self.hasher.hash_one(key)).copied();
        while let Some(index) = at {
            let entry = &self.entries[index];
            if self.key(entry) == key {
                return Some(index);
            }
            at = entry.older;
        }
        None
    }

    /// Appends a write. `row` gets the arena to append the row's bytes to; `None` deletes.
    pub(crate) fn push(
        &mut self,
        db: u32,
        key: &[u8],
        base: Presence,
        after: Presence,
        row: Option<impl FnOnce(&mut Vec<u8>)>,
    ) {
        let found = self.find(key);
        let base = found.map_or(base, |index| self.entries[index].base);
        if let Some(index) = found {
            self.entries[index].superseded = true;
        }
        let key_at = self.arena.len();
        self.arena.extend_from_slice(key);
        let row_at = self.arena.len();
        let row = row.map(|write| {
            write(&mut self.arena);
            row_at..self.arena.len()
        });
        self.entries.push(Entry {
            db,
            key: key_at..row_at,
            row,
            after,
            base,
            hash: self.hasher.hash_one(key),
            older: None,
            replaces: found,
            superseded: false,
        });
        if self.entries.len() == LINEAR_MAX + 1 {
            (0..self.entries.len()).for_each(|index| self.link(index));
        } else if self.entries.len() > LINEAR_MAX {
            self.link(self.entries.len() - 1);
        }
    }

    fn link(&mut self, index: usize) {
        let hash = self.entries[index].hash;
        self.entries[index].older = self.newest.insert(hash, index);
    }

    /// The newest entry of every key written.
    pub(crate) fn newest(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.superseded)
    }

    /// Every entry in the order written.
    pub(crate) fn all(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { entries: self.entries.len(), arena: self.arena.len() }
    }

    /// Forgets everything written after `mark`.
    pub(crate) fn rollback(&mut self, mark: Mark) {
        let mapped = self.entries.len() > LINEAR_MAX;
        while self.entries.len() > mark.entries {
            let Some(entry) = self.entries.pop() else { break };
            if mapped {
                match entry.older {
                    Some(older) => self.newest.insert(entry.hash, older),
                    None => self.newest.remove(&entry.hash),
                };
            }
            if let Some(index) = entry.replaces {
                self.entries[index].superseded = false;
            }
        }
        if self.entries.len() <= LINEAR_MAX {
            // The map is rebuilt when the log grows long again.
            self.newest.clear();
            self.entries.iter_mut().for_each(|entry| entry.older = None);
        }
        self.arena.truncate(mark.arena);
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.newest.clear();
        self.arena.clear();
        self.arena.shrink_to(ARENA_KEPT_BYTES_MAX);
        if self.entries.capacity() > ARENA_KEPT_BYTES_MAX / size_of::<Entry>() {
            self.entries = Vec::new();
            self.newest = HashMap::default();
        }
    }
}
