//! Segment files: made, recycled, retired. Knows names and sizes, not frames.
//!
//! ```text
//!            create: allocate (+ zero)                      retire
//!   (nothing) ------------------------> NNNNNN.wal --------------------> removed
//!                                          ^   |
//!      zero the first page, sync, rename   |   |  rename (at most recycle_max)
//!                                       NNNNNN.wal.free
//! ```
//!
//! What holds at every moment, crash or not: a file called `NNNNNN.wal` begins with zeros or with
//! what was written as segment NNNNNN. That is why a free file's first page is zeroed and synced
//! **before** it gets its new name. The rest of a recycled file is stale, and stays so: its frames
//! cannot validate under the new number (see `frame.rs`), and writing it again would cost as much
//! as logging does.
//!
//! Every change of a name is made durable before the next one. So the segments left after a crash
//! are always a gapless run of the log: a missing one in the middle is damage.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

use sluice_base::{Error, ErrorKind, FileNo, Result};
use sluice_env::{
    Env, File, OpenMode,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    lock,
    names::{free_path, segment_path},
    stats::Counters,
};

/// Where file numbers come from. Must grow from call to call.
pub type FileNumbers = Arc<dyn Fn() -> FileNo + Send + Sync>;

/// Bytes at the front of a recycled file that are zeroed before it is used: one page, so that the
/// sync costs one block.
const HEAD_BYTES: u64 = 4096;

/// Bytes written at a time when a whole file is zeroed.
const ZERO_CHUNK: usize = 256 << 10;

/// A segment file that nothing was written to yet.
#[derive(Debug)]
pub(crate) struct Blank {
    pub number: FileNo,
    pub file: Arc<dyn File>,
    pub capacity: u64,
    /// The released segment whose file it was before.
    pub recycled: Option<FileNo>,
    /// Whether every byte was written once, so that an `fdatasync` has no metadata to write.
    pub written: bool,
}

/// A released file.
#[derive(Debug)]
struct Free {
    number: FileNo,
    /// Size of the file.
    bytes: u64,
    written: bool,
}

#[derive(Debug, Default)]
struct Pool {
    free: VecDeque<Free>,
    /// The largest number a segment file has had.
    last: FileNo,
}

pub(crate) struct Files {
    pub env: Env,
    pub dir: PathBuf,
    segment_bytes: AtomicU64,
    pub recycle_max: usize,
    pub counters: Counters,
    numbers: FileNumbers,
    pool: Mutex<Pool>,
    /// No file is made that takes room: what is left on the device is meant for somebody else.
    /// Held for reading while room is taken, so that who sets it knows that nobody is at it.
    growth_held: RwLock<bool>,
    /// Renames and removals one at a time, so that each is durable before the next begins.
    /// Outermost lock of this crate: taken with no other lock held.
    pub names: Mutex<()>,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").field("dir", &self.dir).field("pool", &self.pool).finish()
    }
}

impl Pool {
    /// A free file of exactly this size.
    fn take(&mut self, bytes: u64) -> Option<Free> {
        let at = self.free.iter().position(|free| free.bytes == bytes)?;
        self.free.remove(at)
    }
}

impl Files {
    /// `last` is the largest segment number in the directory.
    pub(crate) fn new(
        env: Env,
        dir: &Path,
        segment_bytes: u64,
        recycle_max: usize,
        numbers: FileNumbers,
        last: FileNo,
    ) -> Files {
        Files {
            env,
            dir: dir.to_owned(),
            segment_bytes: AtomicU64::new(segment_bytes),
            recycle_max,
            counters: Counters::default(),
            numbers,
            pool: Mutex::new(Pool { free: VecDeque::new(), last }),
            growth_held: RwLock::new(false),
            names: Mutex::new(()),
        }
    }

    /// Size of the segments made from now on.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes.load(Ordering::Relaxed)
    }

    /// Changes it, and removes the free files of another size.
    pub(crate) fn set_segment_bytes(&self, bytes: u64) {
        let _names = lock(&self.names);
        self.segment_bytes.store(bytes, Ordering::Relaxed);
        let old: Vec<Free> = {
            let mut pool = lock(&self.pool);
            let (fit, old) = pool.free.drain(..).partition(|free| free.bytes == bytes);
            pool.free = fit;
            Vec::from(old)
        };
        for free in old {
            // One that stays is found and removed by the next recovery.
            drop(self.env.fs.remove_file(&free_path(&self.dir, free.number)));
        }
    }

    pub(crate) fn path(&self, number: FileNo) -> PathBuf {
        segment_path(&self.dir, number)
    }

    pub(crate) fn sync_dir(&self) -> Result<()> {
        let fs = &self.env.fs;
        fs.sync_dir(&self.dir).map_err(|e| Error::io("sync the wal directory", e))
    }

    /// Takes the next file number, which must be above all before.
    fn next_number(&self) -> Result<FileNo> {
        // A counter restored from an older manifest may lag behind the segments found; it has at
        // most as many to skip as segments were begun since, and a file with an absurd number in
        // its name must not make this loop for ever.
        const SKIP_MAX: usize = 1 << 20;
        let mut pool = lock(&self.pool);
        for _ in 0..SKIP_MAX {
            let number = (self.numbers)();
            if number > pool.last {
                pool.last = number;
                return Ok(number);
            }
        }
        Err(Error::invalid(format!(
            "the file number counter stays below {}, the number of a wal segment found; move that \
             file away if it is not of this database",
            pool.last
        )))
    }

    /// A segment file of at least `need` bytes, durable in the directory. With `zero`, one whose
    /// every byte was written once; that takes time and is for the background.
    pub(crate) fn create(&self, need: u64, zero: bool) -> Result<Blank> {
        let number = self.next_number()?;
        let free = lock(&self.pool).take(need.max(self.segment_bytes()));
        if let Some(free) = free {
            let blank = self.recycle(&free, number, zero);
            if blank.is_err() {
                // Whatever the file's state, nobody needs it.
                drop(self.env.fs.remove_file(&free_path(&self.dir, free.number)));
            }
            return blank;
        }
        let path = self.path(number);
        let made = self.make(number, &path, need, zero);
        if made.is_err() {
            drop(self.env.fs.remove_file(&path));
        }
        made
    }

    fn make(&self, number: FileNo, path: &Path, need: u64, zero: bool) -> Result<Blank> {
        let what = |e| Error::io(format!("create wal segment {number}"), e);
        let capacity = need.max(self.segment_bytes()).next_multiple_of(8);
        let file = {
            let held = self.growth_held.read().unwrap_or_else(PoisonError::into_inner);
            if *held {
                sluice_env::probe!("wal: growth held for a flush on a full disk");
                let why = "what room there is on the disk is kept for a flush; free some space";
                let why = Error::new(ErrorKind::DiskFull, why);
                return Err(why.context(format_args!("create wal segment {number}")));
            }
            let file = self.env.fs.open(path, OpenMode::CreateNew).map_err(what)?;
            file.allocate(0, capacity).map_err(what)?;
            file
        };
        if zero {
            write_zeros(&*file, 0, capacity).map_err(what)?;
            file.sync_data().map_err(what)?;
        }
        self.sync_dir()?;
        self.counters.segments_created.inc();
        Ok(Blank { number, file, capacity, recycled: None, written: zero })
    }

    fn recycle(&self, free: &Free, number: FileNo, zero: bool) -> Result<Blank> {
        let what = |e| Error::io(format!("recycle wal segment {} as {number}", free.number), e);
        let from = free_path(&self.dir, free.number);
        let file = self.env.fs.open(&from, OpenMode::ReadWrite).map_err(what)?;
        let all = zero && !free.written;
        let bytes = if all { free.bytes } else { HEAD_BYTES.min(free.bytes) };
        write_zeros(&*file, 0, bytes).map_err(what)?;
        file.sync_data().map_err(what)?;
        self.env.fs.rename(&from, &self.path(number)).map_err(what)?;
        self.sync_dir()?;
        sluice_env::probe!("wal: a segment was recycled");
        self.counters.segments_recycled.inc();
        let (capacity, written) = (free.bytes, free.written || all);
        Ok(Blank { number, file, capacity, recycled: Some(free.number), written })
    }

    /// Takes an empty segment that a crash left behind, emptied once more: what a lost write left
    /// in it was written under the same number, and the salt would not tell it from new frames.
    pub(crate) fn adopt(&self, number: FileNo) -> Result<Blank> {
        let what = |e| Error::io(format!("reuse wal segment {number}"), e);
        let file = self.env.fs.open(&self.path(number), OpenMode::ReadWrite).map_err(what)?;
        let capacity = self.segment_bytes();
        file.set_len(0).map_err(what)?;
        file.sync_data().map_err(what)?;
        file.allocate(0, capacity).map_err(what)?;
        self.sync_dir()?;
        Ok(Blank { number, file, capacity, recycled: None, written: false })
    }

    /// Lets go of a segment that nobody needs: keeps its file for reuse when it has the usual
    /// size and there is room, removes it otherwise. Durable on return; says whether the file was
    /// kept. The caller holds [`Files::names`].
    pub(crate) fn retire(&self, number: FileNo, capacity: u64, written: bool) -> Result<bool> {
        let what = |e| Error::io(format!("retire wal segment {number}"), e);
        let path = self.path(number);
        let keep =
            capacity == self.segment_bytes() && lock(&self.pool).free.len() < self.recycle_max;
        let moved = if keep {
            self.env.fs.rename(&path, &free_path(&self.dir, number))
        } else {
            self.env.fs.remove_file(&path)
        };
        match moved {
            // Gone since an earlier attempt whose directory sync failed. Whether it lives on as a
            // free file is for the next recovery to find out.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return self.sync_dir().map(|()| false);
            }
            result => result.map_err(what)?,
        }
        self.sync_dir()?;
        if keep {
            lock(&self.pool).free.push_back(Free { number, bytes: capacity, written });
        }
        Ok(keep)
    }

    /// Takes a free file found at recovery into the pool, or removes it.
    pub(crate) fn adopt_free(&self, number: FileNo) -> Result<()> {
        let what = |e| Error::io(format!("look at free wal file {number}"), e);
        let path = free_path(&self.dir, number);
        let room = lock(&self.pool).free.len() < self.recycle_max;
        let len = self.env.fs.open(&path, OpenMode::Read).and_then(|file| file.len());
        let bytes = self.segment_bytes();
        if room && len.map_err(what)? == bytes {
            lock(&self.pool).free.push_back(Free { number, bytes, written: false });
            return Ok(());
        }
        self.env.fs.remove_file(&path).map_err(what)
    }

    pub(crate) fn hold_growth(&self, hold: bool) {
        *self.growth_held.write().unwrap_or_else(PoisonError::into_inner) = hold;
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.env.clock.monotonic_us()
    }
}

fn write_zeros(file: &dyn File, mut at: u64, bytes: u64) -> std::io::Result<()> {
    let end = at + bytes;
    let zeros = vec![0; ZERO_CHUNK.min(usize::try_from(bytes).unwrap_or(ZERO_CHUNK))];
    while at < end {
        let count = (end - at).min(zeros.len() as u64) as usize;
        file.write_all_at(&zeros[..count], at)?;
        at += count as u64;
    }
    Ok(())
}
