//! The engine's only door to the world: files, clock, threads, random numbers.
//!
//! Everything above this crate takes an [`Env`] and reaches nothing else, so a test can put a
//! memory file system that crashes, a clock that it moves itself, or a thread that never starts in
//! the place of the real ones.

mod clock;
mod fs;
mod rng;
mod threads;

pub use clock::{Clock, SystemClock};
pub use fs::{File, FileLock, Fs, OpenMode};
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
