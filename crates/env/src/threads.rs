//! Threads: the engine starts its background threads here and nowhere else.
//!
//! Linux keeps a niceness for each thread, not for each process: a thread that works in the
//! background lowers its own, and the threads that somebody waits for are scheduled first. That is
//! all a niceness is: an idle processor is given to any thread that wants it.

use std::{fmt, io};

/// A running thread that can be waited for.
pub struct JoinHandle(Box<dyn FnOnce() + Send>);

impl JoinHandle {
    /// Wraps what waits for the thread's end.
    pub fn new(join: impl FnOnce() + Send + 'static) -> JoinHandle {
        JoinHandle(Box::new(join))
    }

    /// Returns when the thread has ended. At once where it is the thread itself that asks: it
    /// cannot wait for its own end, and a callback that ends what it was called by need not know.
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

    /// As [`Threads::spawn`], for work that nobody waits for at this moment: where the system can,
    /// the thread yields the processor to others, by `nice` steps (1 to 19; each makes its share
    /// beside a busy thread about a fifth smaller) below the thread that starts it. Where it cannot, this is `spawn`.
    fn spawn_background(
        &self,
        name: &str,
        nice: u8,
        body: Box<dyn FnOnce() + Send>,
    ) -> io::Result<JoinHandle> {
        let _ = nice;
        self.spawn(name, body)
    }
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
            if handle.thread().id() == std::thread::current().id() {
                return;
            }
            // A panic in a background thread has been reported by the panic hook already.
            drop(handle.join());
        }))
    }

    fn spawn_background(
        &self,
        name: &str,
        nice: u8,
        body: Box<dyn FnOnce() + Send>,
    ) -> io::Result<JoinHandle> {
        self.spawn(
            name,
            Box::new(move || {
                yield_processor(nice);
                body();
            }),
        )
    }
}

/// The lowest priority there is.
#[cfg(target_os = "linux")]
const NICE_MAX: i32 = 19;

/// Lowers the calling thread's priority by `nice` steps. A refusal is passed over: the work is the
/// same, it only disturbs more.
#[cfg(target_os = "linux")]
fn yield_processor(nice: u8) {
    use rustix::process::{getpriority_process, setpriority_process};
    // "No process" is the caller, and on Linux that is the calling thread alone (POSIX says the
    // process; see BUGS in setpriority(2)). A new thread begins with the niceness of the one that
    // started it, so what an operator chose for the process is what this adds to.
    let own = getpriority_process(None).unwrap_or(0);
    let (Ok(()) | Err(_)) =
        setpriority_process(None, own.saturating_add(i32::from(nice)).min(NICE_MAX));
}

/// Elsewhere the call would lower the priority of the whole process.
#[cfg(not(target_os = "linux"))]
fn yield_processor(_nice: u8) {}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// The niceness of the calling thread, as the kernel shows it to others.
    fn niceness() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // The name stands in parentheses and may hold anything; niceness is the 19th field, the
        // 17th behind the name.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        fields.split(' ').nth(16).unwrap().parse().unwrap()
    }

    fn niceness_in(start: impl FnOnce(Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle>) -> i32 {
        let (sender, receiver) = mpsc::channel();
        start(Box::new(move || sender.send(niceness()).unwrap())).unwrap().join();
        receiver.recv().unwrap()
    }

    #[test]
    fn a_background_thread_yields_and_no_other_does() {
        let before = niceness();
        let ordinary = niceness_in(|body| OsThreads.spawn("ordinary", body));
        let five = niceness_in(|body| OsThreads.spawn_background("five", 5, body));
        let all = niceness_in(|body| OsThreads.spawn_background("all", 255, body));
        assert_eq!((ordinary, five, all), (before, (before + 5).min(19), 19));
        assert_eq!(niceness(), before, "the thread that starts it keeps its own");
    }

    #[test]
    fn threads_that_know_nothing_of_priorities_start_all_the_same() {
        #[derive(Debug)]
        struct Plain;
        impl Threads for Plain {
            fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle> {
                OsThreads.spawn(name, body)
            }
        }
        assert_eq!(niceness_in(|body| Plain.spawn_background("plain", 5, body)), niceness());
    }
}
