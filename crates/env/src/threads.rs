//! Threads: the engine starts its background threads here and nowhere else.

use std::{fmt, io};

/// A running thread that can be waited for.
pub struct JoinHandle(Box<dyn FnOnce() + Send>);

impl JoinHandle {
    /// Wraps what waits for the thread's end.
    pub fn new(join: impl FnOnce() + Send + 'static) -> JoinHandle {
        JoinHandle(Box::new(join))
    }

    /// Returns when the thread has ended.
    pub fn join(self) {
        (self.0)();
    }
}

impl fmt::Debug for JoinHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinHandle")
    }
}

/// Starts threads.
pub trait Threads: fmt::Debug + Send + Sync {
    /// Starts a thread called `name` (at most 15 bytes show in the system's tools).
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle>;
}

/// The operating system's threads.
///
/// ```
/// use sluice_env::{OsThreads, Threads};
///
/// let (sender, receiver) = std::sync::mpsc::channel();
/// let thread = OsThreads.spawn("worker", Box::new(move || drop(sender.send(7))))?;
/// thread.join();
/// assert_eq!(receiver.recv(), Ok(7));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct OsThreads;

impl Threads for OsThreads {
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle> {
        let handle = std::thread::Builder::new().name(name.to_owned()).spawn(body)?;
        Ok(JoinHandle::new(move || {
            // A panic in a background thread has been reported by the panic hook already.
            drop(handle.join());
        }))
    }
}
