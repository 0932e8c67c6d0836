//! The engine's only door to the world: files, clock, threads, random numbers, and the
//! numbers it reports about itself.
//!
//! Everything above this crate takes an [`Env`] and reaches nothing else, so a test can put a
//! memory file system that crashes, a clock that it moves itself, or a thread that never starts in
//! the place of the real ones.

mod clock;
mod disk;
mod fault;
mod fs;
mod mem;
mod memory;
pub mod metrics;
pub mod probe;
mod rng;
pub mod sync;
mod threads;

pub use clock::{Clock, ManualClock, SystemClock};
pub use disk::DiskFs;
pub use fault::{Failure, FaultFs, Gate, Op, Rule, RuleId};
pub use fs::{File, FileLock, Fs, OpenMode};
pub use mem::{CrashMode, MemFs};
pub use memory::memory_limit;
pub use rng::Rng;
pub use threads::{JoinHandle, OsThreads, Threads};

use std::sync::Arc;

/// The world as the engine sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Env {
    pub fs: Arc<dyn Fs>,
    pub clock: Arc<dyn Clock>,
    pub threads: Arc<dyn Threads>,
}

impl Env {
    /// The operating system's files, clock and threads.
    ///
    /// ```
    /// let env = sluice_env::Env::os();
    /// assert!(env.clock.unix_ms() > 0);
    /// ```
    pub fn os() -> Env {
        Env {
            fs: Arc::new(DiskFs),
            clock: Arc::new(SystemClock::new()),
            threads: Arc::new(OsThreads),
        }
    }

    /// The same world on another file system.
    ///
    /// ```
    /// use sluice_env::{Env, MemFs};
    /// use std::sync::Arc;
    ///
    /// let env = Env::os().with_fs(Arc::new(MemFs::new()));
    /// assert!(env.fs.read_dir("/".as_ref()).unwrap().is_empty());
    /// ```
    pub fn with_fs(self, fs: Arc<dyn Fs>) -> Env {
        Env { fs, ..self }
    }
}
