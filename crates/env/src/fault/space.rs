//! A device of limited size: how many bytes there are, and which file holds how many.
//!
//! A file weighs its length, holes included. It is weighed when it is first opened here, keeps its
//! weight while a name or an open handle is left, and is weighed once however many names it gets
//! here. Files never opened here weigh nothing.
//!
//! Lock order: the table of names, then one file's length. The totals are atomic.

use crate::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use super::Failure;

#[derive(Debug)]
struct Totals {
    capacity: AtomicU64,
    used: AtomicU64,
}

impl Totals {
    /// Takes as much of `wanted` as is left.
    fn take_up_to(&self, wanted: u64) -> u64 {
        let mut granted = 0;
        let take = |used: u64| {
            let left = self.capacity.load(Ordering::Relaxed).saturating_sub(used);
            granted = wanted.min(left);
            Some(used + granted)
        };
        // The closure never refuses, so neither does the update; both results carry the old value.
        let (Ok(_) | Err(_)) = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        granted
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What one file weighs. Gives it back when the last name and the last handle are gone.
#[derive(Debug)]
pub(super) struct Weight {
    len: Mutex<u64>,
    totals: Arc<Totals>,
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.totals.give_back(*self.len());
    }
}

impl Weight {
    fn len(&self) -> MutexGuard<'_, u64> {
        self.len.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `write` with as many of the `wanted` bytes at `offset` as there is room for. It returns
    /// how many it wrote. Fails when there is room for none.
    pub fn write(
        &self,
        offset: u64,
        wanted: usize,
        write: impl FnOnce(usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut len = self.len();
        let growth = offset.saturating_add(wanted as u64).saturating_sub(*len);
        if wanted == 0 || growth == 0 {
            return write(wanted);
        }
        let granted = self.totals.take_up_to(growth);
        // What is missing is missing at the end of the write, or in the hole before it.
        let fits = (wanted as u64).saturating_sub(growth - granted) as usize;
        let result = if fits == 0 { Err(Failure::ENOSPC.error()) } else { write(fits) };
        let written = *result.as_ref().unwrap_or(&0);
        let grown = if written == 0 { 0 } else { (offset + written as u64).saturating_sub(*len) };
        *len += grown;
        self.totals.give_back(granted - grown);
        result
    }

    /// Runs `extend`, which makes the file `end` bytes long if it is shorter, when there is room.
    pub fn grow_to(&self, end: u64, extend: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.grow(&mut self.len(), end, extend)
    }

    fn grow(
        &self,
        len: &mut u64,
        end: u64,
        extend: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let growth = end.saturating_sub(*len);
        let granted = self.totals.take_up_to(growth);
        let result = if granted < growth { Err(Failure::ENOSPC.error()) } else { extend() };
        match result {
            Ok(()) => *len += growth,
            Err(_) => self.totals.give_back(granted),
        }
        result
    }

    /// Runs `resize`, which makes the file exactly `new` bytes long, when there is room.
    pub fn set_len(&self, new: u64, resize: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut len = self.len();
        if new > *len {
            return self.grow(&mut len, new, resize);
        }
        resize()?;
        self.totals.give_back(*len - new);
        *len = new;
        Ok(())
    }
}

/// The names of weighed files, locked: the calls that change names run under it, so that the table
/// and the file system agree.
pub(super) type Names<'a> = MutexGuard<'a, BTreeMap<PathBuf, Arc<Weight>>>;

#[derive(Debug)]
pub(super) struct Space {
    totals: Arc<Totals>,
    names: Mutex<BTreeMap<PathBuf, Arc<Weight>>>,
}

impl Space {
    pub fn unlimited() -> Space {
        let (capacity, used) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
        Space { totals: Arc::new(Totals { capacity, used }), names: Mutex::default() }
    }

    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.totals.capacity.store(bytes.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub fn used(&self) -> u64 {
        self.totals.used.load(Ordering::Relaxed)
    }

    pub fn left(&self) -> u64 {
        self.totals.capacity.load(Ordering::Relaxed).saturating_sub(self.used())
    }

    pub fn names(&self) -> Names<'_> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The weight of a file that was just opened, `len` bytes long if it was not known.
    pub fn weigh(&self, names: &mut Names<'_>, path: &Path, len: u64) -> Arc<Weight> {
        let weight = names.entry(path.to_owned()).or_insert_with(|| {
            // It is there already, so it counts even when it is too much.
            self.totals.used.fetch_add(len, Ordering::Relaxed);
            Arc::new(Weight { len: Mutex::new(len), totals: Arc::clone(&self.totals) })
        });
        Arc::clone(weight)
    }
}

/// Follows a rename: of a file, or of a directory with everything below it.
pub(super) fn rename(names: &mut Names<'_>, from: &Path, to: &Path) {
    if let (Some(a), Some(b)) = (names.get(from), names.get(to))
        && Arc::ptr_eq(a, b)
    {
        return; // Two names of one file: a rename leaves both.
    }
    let moved: Vec<PathBuf> = names.keys().filter(|path| path.starts_with(from)).cloned().collect();
    for old in moved {
        if let (Some(weight), Ok(below)) = (names.remove(&old), old.strip_prefix(from)) {
            // Joining an empty rest would leave a trailing slash.
            let new = if below.as_os_str().is_empty() { to.to_owned() } else { to.join(below) };
            names.insert(new, weight);
        }
    }
}
