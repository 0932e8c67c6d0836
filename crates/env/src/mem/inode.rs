//! One file of a [`MemFs`](super::MemFs): what a reader sees now, what a power cut cannot take
//! away, and the changes between the two.
//!
//! ```text
//! durable ──change 1──change 2──change 3──► live        sync_data: durable := live, no changes
//! ```
//!
//! Invariants:
//! - applying `unsynced` in order to `durable` gives `live`;
//! - numbers in `unsynced` ascend; they come from one counter for the whole file system, so a crash
//!   can cut all files and directories at one moment.
//!
//! Names are not here: an inode does not know them, as on a real disk.

use super::content::Content;
use crate::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// A change of a file that no `sync_data` has covered yet.
#[derive(Clone)]
pub(super) struct Unsynced {
    pub number: u64,
    pub change: Change,
}

#[derive(Clone)]
pub(super) enum Change {
    Write {
        offset: u64,
        data: Arc<[u8]>,
    },
    /// Cut or extended to this length.
    SetLen(u64),
    /// Extended to this length when shorter.
    Grow(u64),
}

#[derive(Clone, Default)]
pub(super) struct FileState {
    pub live: Content,
    pub durable: Content,
    pub unsynced: Vec<Unsynced>,
}

pub(super) struct Inode {
    /// Stays the same in clones of the file system; hard links are recognised by it.
    pub id: u64,
    state: Mutex<FileState>,
    /// Held by a `FileLock`. Never copied to a clone: its holder did not survive.
    pub locked: AtomicBool,
}

impl Inode {
    pub fn new(id: u64, state: FileState) -> Arc<Inode> {
        Arc::new(Inode { id, state: Mutex::new(state), locked: AtomicBool::new(false) })
    }

    /// A panic of a test thread while it held the lock leaves a state that is at worst one change
    /// short, which a crash may be too; so a poisoned lock is taken like any other.
    pub fn state(&self) -> MutexGuard<'_, FileState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True when the caller now holds the lock of this file.
    pub fn try_lock(&self) -> bool {
        !self.locked.swap(true, Ordering::Acquire)
    }

    pub fn unlock(&self) {
        self.locked.store(false, Ordering::Release);
    }
}

impl FileState {
    /// A file whose bytes are all durable.
    pub fn synced(content: Content) -> FileState {
        FileState { live: content.clone(), durable: content, unsynced: Vec::new() }
    }

    pub fn apply(&mut self, number: u64, change: Change) {
        debug_assert!(self.unsynced.last().is_none_or(|last| last.number < number));
        match &change {
            Change::Write { offset, data } => self.live.write(data, *offset),
            Change::SetLen(len) => self.live.set_len(*len),
            Change::Grow(len) => self.live.grow(*len),
        }
        self.unsynced.push(Unsynced { number, change });
    }

    /// Makes everything durable. Costs as much as what was written since the last sync, not as
    /// much as the file is long.
    pub fn sync(&mut self) {
        if self.unsynced.is_empty() {
            return;
        }
        if self.durable.has_no_pages() {
            self.durable = self.live.clone();
        } else {
            for unsynced in &self.unsynced {
                match &unsynced.change {
                    Change::Write { offset, data } => {
                        self.durable.adopt(&self.live, *offset..*offset + data.len() as u64);
                    }
                    // What was cut off may have been written again since; all of it is taken over.
                    Change::SetLen(len) => self.durable.adopt(&self.live, *len..u64::MAX),
                    Change::Grow(_) => {}
                }
            }
            self.durable.set_len(self.live.len());
        }
        self.unsynced.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn bytes(content: &Content) -> Vec<u8> {
        let mut buf = vec![0; content.len() as usize];
        content.read(&mut buf, 0);
        buf
    }

    #[test]
    fn sync_makes_durable_equal_to_live() {
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            let mut state = FileState::default();
            for number in 0..60 {
                let at = rng.below(20_000);
                let change = match rng.below(5) {
                    0 => Change::SetLen(at),
                    1 => Change::Grow(at),
                    _ => {
                        let len = rng.below(9_000) as usize;
                        Change::Write { offset: at, data: vec![number as u8 + 1; len].into() }
                    }
                };
                state.apply(number, change);
                if rng.one_in(4) {
                    state.sync();
                    assert!(bytes(&state.live) == bytes(&state.durable), "seed {seed}");
                }
            }
        }
    }
}
