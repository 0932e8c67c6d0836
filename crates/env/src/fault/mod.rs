//! A file system that fails when told to: it wraps another one and disturbs chosen calls.
//!
//! ```text
//! engine ──► FaultFs: count ──► dead? ──► rules: gate, failure, torn ──► room left? ──► inner Fs
//! ```
//!
//! Four tools, which combine:
//! - [`Rule`]s: the nth call of a kind on certain paths fails, is cut short, is torn, or waits at a
//!   [`Gate`] until the test opens it;
//! - [`FaultFs::fail_nth`]: the nth call that changes anything fails, for loops over n that stop
//!   when a run makes fewer calls than n;
//! - [`FaultFs::kill_after`]: from the nth such call on nothing works any more, as for a process
//!   whose machine is gone; what it left is then taken from [`MemFs::crash_clone`](crate::MemFs::crash_clone);
//! - [`FaultFs::set_capacity`]: the device is full, and may get room again.
//!
//! What it is not: it never damages bytes and never loses what was synced.
//!
//! Invariants: a call that fails without having been carried out has changed nothing; no lock of
//! this module is held while a call waits at a gate. Dropping a lock or a handle always works.

mod file;
mod gate;
mod plan;
mod rule;
mod space;

use std::{io, path::Path, sync::Arc};

use crate::{File, FileLock, Fs, OpenMode};
use file::FaultFile;
use plan::{Doom, Plan};
use rule::Effect;
use space::Space;

pub use gate::Gate;
pub use plan::RuleId;
pub use rule::{Failure, Op, Rule};

/// Wraps a file system and disturbs the calls it is told to disturb. Clones share everything, so a
/// test keeps one and gives the other to the engine.
///
/// ```
/// use sluice_env::{Failure, FaultFs, Fs, MemFs, Op, OpenMode, Rule};
/// use std::{io::ErrorKind, path::Path, sync::Arc};
///
/// let fs = FaultFs::new(Arc::new(MemFs::new()));
/// fs.add(Rule::on(Op::Write).path_ends_with(".wal").nth(2).fail(Failure::ENOSPC));
///
/// let log = fs.open(Path::new("/1.wal"), OpenMode::CreateNew)?;
/// assert!(log.write_at(b"one", 0).is_ok());
/// assert_eq!(log.write_at(b"two", 3).unwrap_err().kind(), ErrorKind::StorageFull);
/// assert!(log.write_at(b"two", 3).is_ok());
/// assert_eq!(fs.calls(Op::Write), 3);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct FaultFs {
    inner: Arc<dyn Fs>,
    plan: Arc<Plan>,
    space: Arc<Space>,
}

impl FaultFs {
    /// Passes every call on until told otherwise.
    pub fn new(inner: Arc<dyn Fs>) -> FaultFs {
        FaultFs { inner, plan: Arc::default(), space: Arc::new(Space::unlimited()) }
    }

    /// Adds a rule. When several rules fire at one call the oldest decides; all of them count it.
    pub fn add(&self, rule: Rule) -> RuleId {
        self.plan.add(rule)
    }

    /// Takes a rule away. Calls that wait at its gate stay there until the gate is opened.
    pub fn remove(&self, id: RuleId) {
        self.plan.remove(id);
    }

    /// Takes away all rules, and what `fail_nth` and `kill_after` have set or done. The capacity
    /// stays.
    pub fn clear(&self) {
        self.plan.clear();
    }

    /// How many calls a rule has matched since it was added.
    ///
    /// ```
    /// use sluice_env::{FaultFs, Fs, MemFs, Op, Rule};
    ///
    /// let fs = FaultFs::new(std::sync::Arc::new(MemFs::new()));
    /// let counts = fs.add(Rule::on(Op::SyncDir));
    /// fs.sync_dir("/".as_ref())?;
    /// assert_eq!(fs.seen(counts), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn seen(&self, id: RuleId) -> u64 {
        self.plan.counts(id).0
    }

    /// How many calls a rule has disturbed.
    pub fn fired(&self, id: RuleId) -> u64 {
        self.plan.counts(id).1
    }

    /// How many calls of a kind were made, disturbed ones included.
    pub fn calls(&self, op: Op) -> u64 {
        self.plan.calls(op)
    }

    /// The nth call from now on that changes anything (see [`Op::mutates`]) fails, once. Replaces an
    /// earlier `fail_nth` or `kill_after`.
    ///
    /// ```
    /// use sluice_env::{Failure, FaultFs, Fs, MemFs, OpenMode};
    /// use std::{io, path::Path, sync::Arc};
    ///
    /// fn job(fs: &dyn Fs) -> io::Result<()> {
    ///     let file = fs.open(Path::new("/a"), OpenMode::CreateNew)?;
    ///     file.write_all_at(b"abc", 0)?;
    ///     file.sync_data()
    /// }
    ///
    /// for n in 1.. {
    ///     let fs = FaultFs::new(Arc::new(MemFs::new()));
    ///     fs.fail_nth(n, Failure::EIO);
    ///     let result = job(&fs);
    ///     if fs.calls_seen() < n {
    ///         assert!(result.is_ok());
    ///         break;
    ///     }
    ///     assert!(result.is_err());
    /// }
    /// ```
    pub fn fail_nth(&self, n: u64, failure: impl Into<Failure>) {
        self.plan.doom(Doom::FailAt(n, failure.into()));
    }

    /// From the nth call from now on that changes anything, every call fails with `EIO`: reads, and
    /// calls of other threads, too. Replaces an earlier `fail_nth` or `kill_after`.
    ///
    /// ```
    /// use sluice_env::{FaultFs, Fs, MemFs, OpenMode};
    /// use std::{path::Path, sync::Arc};
    ///
    /// let disk = Arc::new(MemFs::new());
    /// let fs = FaultFs::new(disk.clone());
    /// fs.kill_after(2);
    /// let file = fs.open(Path::new("/a"), OpenMode::CreateNew)?;
    /// assert!(file.write_at(b"abc", 0).is_err());
    /// assert!(fs.is_dead() && fs.exists(Path::new("/a")).is_err());
    /// assert_eq!(disk.read("/a")?, b"");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn kill_after(&self, n: u64) {
        self.plan.doom(Doom::DeadFrom(n));
    }

    /// How many calls that change anything were made since the last `fail_nth` or `kill_after`, or
    /// since the start.
    pub fn calls_seen(&self) -> u64 {
        self.plan.mutations()
    }

    /// True when `kill_after` has struck.
    pub fn is_dead(&self) -> bool {
        self.plan.is_dead()
    }

    /// Limits the bytes that files may hold together; `None` lifts the limit. A write that finds
    /// room for a part is short, and one that finds none fails with `StorageFull`, as do `allocate`
    /// and a growing `set_len`. Overwriting needs no room. Removing and cutting files gives room
    /// back. Files count with their length, from the first time they are opened here.
    ///
    /// ```
    /// use sluice_env::{FaultFs, Fs, MemFs, OpenMode};
    /// use std::{io::ErrorKind, path::Path, sync::Arc};
    ///
    /// let fs = FaultFs::new(Arc::new(MemFs::new()));
    /// fs.set_capacity(Some(4));
    /// let file = fs.open(Path::new("/a"), OpenMode::CreateNew)?;
    /// assert_eq!(file.write_at(b"abcdef", 0)?, 4);
    /// assert_eq!(file.write_at(b"ef", 4).unwrap_err().kind(), ErrorKind::StorageFull);
    /// fs.set_capacity(None);
    /// assert_eq!(file.write_at(b"ef", 4)?, 2);
    /// assert_eq!(fs.used_bytes(), 6);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.space.set_capacity(bytes);
    }

    /// The bytes of all files opened here that still have a name or an open handle.
    pub fn used_bytes(&self) -> u64 {
        self.space.used()
    }

    /// For calls without a number of bytes to cut.
    fn run<T>(
        &self,
        op: Op,
        paths: &[&Path],
        call: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        match self.plan.judge(op, paths)? {
            Effect::Pass | Effect::Short(_) => call(),
            Effect::Fail(failure) | Effect::Torn(_, failure) => Err(failure.error()),
            Effect::FailAfter(failure) => {
                drop(call()?);
                Err(failure.error())
            }
        }
    }

    /// `Create` only when the call makes the file. Asking first is exact as long as nobody else
    /// makes or removes the same file meanwhile.
    fn kind_of_open(&self, path: &Path, mode: OpenMode) -> Op {
        match mode {
            OpenMode::Read | OpenMode::ReadWrite => Op::Open,
            OpenMode::CreateNew => Op::Create,
            OpenMode::CreateOrOpen if matches!(self.inner.exists(path), Ok(true)) => Op::Open,
            OpenMode::CreateOrOpen => Op::Create,
        }
    }
}

impl Fs for FaultFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.run(self.kind_of_open(path, mode), &[path], || {
            let mut names = self.space.names();
            let inner = self.inner.open(path, mode)?;
            let weight = self.space.weigh(&mut names, path, inner.len()?);
            Ok(Arc::new(FaultFile { fs: self.clone(), path: path.into(), inner, weight }) as _)
        })
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.run(Op::CreateDir, &[path], || self.inner.create_dir_all(path))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        self.run(Op::ReadDir, &[path], || self.inner.read_dir(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(Op::Rename, &[from, to], || {
            let mut names = self.space.names();
            self.inner.rename(from, to)?;
            space::rename(&mut names, from, to);
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.run(Op::RemoveFile, &[path], || {
            let mut names = self.space.names();
            self.inner.remove_file(path)?;
            names.remove(path);
            Ok(())
        })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.run(Op::RemoveDir, &[path], || self.inner.remove_dir(path))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(Op::HardLink, &[from, to], || {
            let mut names = self.space.names();
            self.inner.hard_link(from, to)?;
            if let Some(weight) = names.get(from).cloned() {
                names.insert(to.to_owned(), weight);
            }
            Ok(())
        })
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.run(Op::Exists, &[path], || self.inner.exists(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.run(Op::SyncDir, &[path], || self.inner.sync_dir(path))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        self.run(Op::Lock, &[path], || self.inner.lock(path))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.run(Op::FreeBytes, &[path], || Ok(self.inner.free_bytes(path)?.min(self.space.left())))
    }
}
