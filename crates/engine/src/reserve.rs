//! Room on the device for one flush and its manifest edit, kept for the moment when there is none.
//!
//! A full disk must not mean that what is in memory has nowhere to go (P9). A file of the
//! database, `RESERVE`, holds nothing but space that is really allocated:
//!
//! ```text
//!   kept ──a flush or its edit finds the disk full──▶ given up: file deleted, tried again at once
//!     ▲                                                   │ installed, or failed again
//!     └──flushes succeed, the device has room─────────── none (looked for with backoff)
//! ```
//!
//! Between the deletion and the end of the flush nobody else of this database may take the room:
//! the log makes no segment (`Wal::hold_growth`; writers are told `DiskFull`), and a running
//! compaction fails at its next entry. The write it may be at, of half a MiB or the end of a table,
//! is what the margin is for. Other processes can take the room, as on any device.
//!
//! What this is not: it does not make room for writes, which fail with `DiskFull` while the log
//! cannot grow, and it fails nothing. Where nothing can be kept, nothing is kept, and
//! `Stats::reserved_bytes` says so.
//!
//! Nothing is synced: a file that a crash takes is made again by the next opening, and one that
//! comes back is taken over by it. At the close it stays, and is what an opening on a full disk
//! gives away ([`give_away`]).

use crate::{Result, core::Core, manifest::FileName};
use sluice_base::ErrorKind;
use sluice_env::{
    Fs, OpenMode,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Above a memtable: its table's index and filter, which the accounting of a memtable has room for
/// anyway, the manifest's edit, or its new beginning after a failed one.
const MARGIN_BYTES: u64 = 1 << 20;

/// Of the free space at most this part is kept: the rest is what a small device is used for.
const FREE_SHARE: u64 = 4;

/// Less than this is not worth a file.
const BYTES_MIN: u64 = 64 << 10;

/// Waits between two looks for room that was not there: doubled from the first to the last.
const BACKOFF_FIRST_US: u64 = 1_000_000;
const BACKOFF_LAST_US: u64 = 60_000_000;

/// How much to keep, of `wanted`, on a device with `free` bytes (what is kept already included).
fn size(wanted: u64, free: u64) -> u64 {
    let bytes = wanted.min(free / FREE_SHARE);
    if bytes < BYTES_MIN.min(wanted) { 0 } else { bytes }
}

#[derive(Debug, Default)]
pub(crate) struct Reserve {
    /// Size of the file; 0 while there is none.
    bytes: AtomicU64,
    /// A flush is using the room.
    is_given_up: AtomicBool,
    /// When to look for room again, in monotonic microseconds. Not under the lock: who asks for a
    /// flush resets it, and must not wait for a file.
    not_before_us: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The group of the flush that uses the room.
    user: Option<u64>,
    /// Looks for room that found too little, in a row.
    attempts: u32,
}

impl Reserve {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes kept now.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the room there is belongs to a flush, and nobody else may take it.
    pub(crate) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Acquire)
    }

    /// Lets the next look for room come at once.
    pub(crate) fn retry_now(&self) {
        self.not_before_us.store(0, Ordering::Relaxed);
    }

    /// Puts off the next look for room.
    fn back_off(&self, state: &mut State, now_us: u64) {
        let wait = BACKOFF_FIRST_US << state.attempts.min(10);
        state.attempts += 1;
        self.not_before_us.store(now_us + wait.min(BACKOFF_LAST_US), Ordering::Relaxed);
    }
}

/// Runs `attempt`, a piece of the flush of `group`; when it finds the disk full, gives up the room
/// and runs it again. After it the caller says how the flush went: [`installed`] or [`failed`].
pub(crate) fn with_room<T>(
    core: &Core,
    group: u64,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    match attempt() {
        Err(error) if error.kind() == ErrorKind::DiskFull && give_up(core, group) => attempt(),
        outcome => outcome,
    }
}

/// Makes room for the flush of `group`; false when there is none to make.
fn give_up(core: &Core, group: u64) -> bool {
    let reserve = &core.reserve;
    let mut state = reserve.state();
    if reserve.bytes() == 0 {
        return false;
    }
    // Before the room is there to take.
    core.wal.hold_growth(true);
    reserve.is_given_up.store(true, Ordering::Release);
    // What the failed attempt left takes room too.
    core.store.collect_garbage();
    match core.store.fs.remove_file(&path(&core.store.dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            end_use(core, &mut state);
            return false;
        }
        _ => {}
    }
    reserve.bytes.store(0, Ordering::Relaxed);
    sluice_env::probe!("reserve: given up for a flush");
    *state = State { user: Some(group), attempts: 0 };
    reserve.back_off(&mut state, core.env.clock.monotonic_us());
    true
}

fn end_use(core: &Core, state: &mut State) {
    state.user = None;
    core.reserve.is_given_up.store(false, Ordering::Release);
    core.wal.hold_growth(false);
    core.background.wake_compaction();
}

/// The flush of `group` is done.
pub(crate) fn installed(core: &Core, group: u64) {
    if core.reserve.is_given_up() {
        let mut state = core.reserve.state();
        if state.user == Some(group) {
            end_use(core, &mut state);
        }
    }
}

/// The flush of `group` failed: it was not enough, or not what was missing. An older group that
/// fails ends the use too, because the younger one that uses the room is installed after it: who
/// knows when.
pub(crate) fn failed(core: &Core, group: u64) {
    if core.reserve.is_given_up() {
        let mut state = core.reserve.state();
        if state.user.is_some_and(|user| user >= group) {
            end_use(core, &mut state);
        }
    }
}

/// At the opening: takes over the file of an earlier one, or makes it.
pub(crate) fn begin(core: &Core) {
    let wanted = wanted(core);
    let path = path(&core.store.dir);
    let found = core.store.fs.open(&path, OpenMode::Read).and_then(|file| file.len());
    if let Ok(bytes) = found {
        // Kept even where a new one would be smaller: the space is there, and the disk may be full.
        let keep = bytes.min(wanted);
        let taken = match keep {
            0 => Err(io::ErrorKind::InvalidInput.into()),
            keep => take_over(&*core.store.fs, &path, keep),
        };
        match taken {
            Ok(()) => core.reserve.bytes.store(keep, Ordering::Relaxed),
            Err(_) => drop(core.store.fs.remove_file(&path)),
        }
    }
    restore(core);
}

fn take_over(fs: &dyn Fs, path: &Path, bytes: u64) -> io::Result<()> {
    let file = fs.open(path, OpenMode::ReadWrite)?;
    file.set_len(bytes)?;
    // A crash may have kept the length without the space.
    file.allocate(0, bytes)
}

/// Makes the room, or makes more of it, where some is missing, flushes succeed, and it is time to
/// look. Says whether it did. Never on the path of a write; fails nothing.
pub(crate) fn restore(core: &Core) -> bool {
    let wanted = wanted(core);
    let kept = core.reserve.bytes();
    if kept >= wanted || !is_calm(core) {
        return false;
    }
    let mut state = core.reserve.state();
    let now = core.env.clock.monotonic_us();
    if now < core.reserve.not_before_us.load(Ordering::Relaxed) || state.user.is_some() {
        return false;
    }
    let fs = &*core.store.fs;
    let free = fs.free_bytes(&core.store.dir).unwrap_or(0);
    let bytes = size(wanted, free.saturating_add(kept));
    // Growing by crumbs, each time a little space comes, would never end.
    let is_worth_it = bytes == wanted || bytes >= kept.saturating_add(kept / 4).max(1);
    if !is_worth_it || make(fs, &path(&core.store.dir), kept, bytes).is_err() {
        core.reserve.back_off(&mut state, now);
        return false;
    }
    sluice_env::probe!("reserve: made or grown again");
    core.reserve.bytes.store(bytes, Ordering::Relaxed);
    if bytes == wanted {
        state.attempts = 0;
    } else {
        core.reserve.back_off(&mut state, now);
    }
    true
}

/// Whether nothing needs room more than this: no flush waits, and none failed last.
fn is_calm(core: &Core) -> bool {
    core.flushes.pending() == 0 && core.wal.poisoned().is_none() && !core.health.is_failing("flush")
}

/// Extends the file from `kept` to `bytes`.
fn make(fs: &dyn Fs, path: &Path, kept: u64, bytes: u64) -> io::Result<()> {
    let file = fs.open(path, OpenMode::CreateOrOpen)?;
    let made = file.allocate(0, bytes);
    if made.is_err() {
        // Some systems leave what they had allocated before they ran out.
        drop(if kept == 0 { fs.remove_file(path) } else { file.set_len(kept) });
    }
    made
}

/// What to keep when there is room for it.
fn wanted(core: &Core) -> u64 {
    core.options.reserve_bytes.unwrap_or_else(|| {
        let state = core.commit.lock();
        let limits = state.accounts.iter().flatten().map(|account| account.limit);
        limits.max().unwrap_or(state.tunables.memtable_bytes).saturating_add(MARGIN_BYTES)
    })
}

/// At an opening that found the disk full, with the directory locked: deletes what an earlier
/// process kept. Says whether there was anything.
pub(crate) fn give_away(fs: &dyn Fs, dir: &Path) -> bool {
    fs.remove_file(&path(dir)).is_ok()
}

fn path(dir: &Path) -> PathBuf {
    dir.join(FileName::Reserve.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_follows_the_device() {
        let mib = |n: u64| n << 20;
        assert_eq!(size(mib(65), mib(10_000)), mib(65), "a memtable and a margin");
        assert_eq!(size(mib(65), mib(260)), mib(65));
        assert_eq!(size(mib(65), mib(40)), mib(10), "a quarter of a small device");
        assert_eq!(size(mib(65), 256 << 10), 64 << 10);
        assert_eq!(size(mib(65), (256 << 10) - 4), 0, "crumbs are left to others");
        assert_eq!(size(mib(65), 0), 0);
        assert_eq!(size(0, mib(10_000)), 0, "none was asked for");
        assert_eq!(size(1000, mib(1)), 1000, "as little as was asked for");
        assert_eq!(size(1000, 3_999), 0);
    }

    #[test]
    fn waits_grow_to_a_bound() {
        let (reserve, mut waits) = (Reserve::default(), Vec::new());
        for _ in 0..9 {
            reserve.back_off(&mut reserve.state(), 0);
            waits.push(reserve.not_before_us.load(Ordering::Relaxed) / 1_000_000);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
