//! One file of a [`MemFs`](super::MemFs): what a reader sees now, what a power cut cannot take
//! away, and the changes between the two.
//!
//! ```text
//! durable ──change 1──change 2──change 3──► live        sync_data: durable := live, no changes
//! ```
//!
//! Invariants:
//! - applying `unsynced` in order to `durable` gives `live`, unless a sync has lost bytes;
//! - numbers in `unsynced` ascend; they come from one counter for the whole file system, so a crash
//!   can cut all files and directories at one moment.
//!
//! Names are not here: an inode does not know them, as on a real disk.

use super::content::{Content, PAGE_BYTES};
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
    /// A sync has failed and forgotten what it was to write: `live` has bytes that are neither
    /// durable nor will ever be, until somebody writes to their pages again.
    pub has_lost: bool,
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
        FileState { live: content.clone(), durable: content, ..FileState::default() }
    }

    pub fn apply(&mut self, number: u64, mut change: Change) {
        debug_assert!(self.unsynced.last().is_none_or(|last| last.number < number));
        match &change {
            Change::Write { offset, data } => self.live.write(data, *offset),
            Change::SetLen(len) => self.live.set_len(*len),
            Change::Grow(len) => self.live.grow(*len),
        }
        if let Change::Write { offset, data } = &mut change
            && self.has_lost
        {
            // What is written back is whole pages, with the lost bytes that share them.
            let page = PAGE_BYTES as u64;
            let start = *offset / page * page;
            let end = (*offset + data.len() as u64).next_multiple_of(page).min(self.live.len());
            let mut whole = vec![0; (end - start) as usize];
            self.live.read(&mut whole, start);
            (*offset, *data) = (start, whole.into());
        }
        self.unsynced.push(Unsynced { number, change });
    }

    /// A sync that fails, as Linux lets it fail: the pages count as clean from now on, so that no
    /// later sync writes them, and readers go on seeing them.
    pub fn lose(&mut self) {
        self.has_lost |= !self.unsynced.is_empty();
        self.unsynced.clear();
    }

    /// What a disk holds that has done everything it was told.
    pub fn all_written(&self) -> Content {
        let mut done = self.clone();
        done.sync();
        done.durable
    }

    /// Makes everything durable. Costs as much as what was written since the last sync, not as
    /// much as the file is long.
    pub fn sync(&mut self) {
        if self.unsynced.is_empty() {
            return;
        }
        if self.durable.has_no_pages() && !self.has_lost {
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

    fn write(state: &mut FileState, number: u64, offset: u64, byte: u8, len: usize) {
        state.apply(number, Change::Write { offset, data: vec![byte; len].into() });
    }

    #[test]
    fn what_a_failed_sync_has_lost_is_seen_and_never_durable() {
        let mut state = FileState::default();
        write(&mut state, 1, 0, b'a', 10_000);
        state.lose();
        write(&mut state, 2, 9_000, b'b', 10);
        state.sync();
        let (live, durable) = (bytes(&state.live), bytes(&state.durable));
        assert_eq!((live[0], live[9_005], live[9_999]), (b'a', b'b', b'a'));
        // The page that was written to again took the lost bytes in it along.
        assert_eq!((durable[0], durable[8_191]), (0, 0));
        assert_eq!((durable[8_192], durable[9_005], durable[9_999]), (b'a', b'b', b'a'));
        assert!(bytes(&state.all_written()) == durable);
    }

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
