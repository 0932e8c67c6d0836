//! Work that a command starts and that no event loop may do: it reads and writes files, or takes
//! long. Three lanes, each with at most one thread, which ends when its lane is empty: short jobs
//! (a log segment, the block cache) wait for each other and never for a compaction of everything.
//!
//! Not for anything that a client sends often: each idle lane starts a thread again.
//!
//! A job that panics ends alone; what it was to answer is answered by the drop of its `Answerer`.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use sluicedb::env::{JoinHandle, Threads};

/// Short jobs that wait at once.
const SHORT_MAX: usize = 64;

type Job = Box<dyn FnOnce() + Send>;

/// Why a job did not start.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The lane has as much to do as it may.
    Busy,
    /// No thread could be made, or the server ends.
    Failed(String),
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    /// Jobs that wait or run.
    count: usize,
    running: bool,
    closed: bool,
    /// Of the thread that runs, or ran last.
    thread: Option<JoinHandle>,
}

/// One after the other.
pub(crate) struct Lane {
    name: &'static str,
    max: usize,
    threads: Arc<dyn Threads>,
    state: Mutex<State>,
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Lane {
    fn new(name: &'static str, max: usize, threads: Arc<dyn Threads>) -> Arc<Lane> {
        Arc::new(Lane { name, max, threads, state: Mutex::default() })
    }

    /// Runs `job` on the lane's thread, after the jobs before it.
    pub(crate) fn start(self: &Arc<Self>, job: Job) -> Result<(), Refused> {
        let mut state = crate::lock(&self.state);
        if state.closed {
            return Err(Refused::Failed("the server is shutting down".to_owned()));
        }
        if state.count >= self.max {
            return Err(Refused::Busy);
        }
        state.queue.push_back(job);
        state.count += 1;
        if !state.running {
            let lane = Arc::clone(self);
            match self.threads.spawn(self.name, Box::new(move || lane.run())) {
                Ok(thread) => {
                    state.running = true;
                    state.thread = Some(thread);
                }
                Err(error) => {
                    state.queue.pop_back();
                    state.count -= 1;
                    return Err(Refused::Failed(format!("cannot start a thread: {error}")));
                }
            }
        }
        Ok(())
    }

    fn run(&self) {
        loop {
            let job = {
                let mut state = crate::lock(&self.state);
                match state.queue.pop_front() {
                    Some(job) => job,
                    None => {
                        state.running = false;
                        return;
                    }
                }
            };
            // The panic hook has reported it.
            drop(catch_unwind(AssertUnwindSafe(job)));
            crate::lock(&self.state).count -= 1;
        }
    }

    fn close(&self) {
        let mut state = crate::lock(&self.state);
        state.closed = true;
        state.count -= state.queue.len();
        let left = std::mem::take(&mut state.queue);
        drop(state);
        drop(left);
    }

    fn join(&self) {
        let thread = crate::lock(&self.state).thread.take();
        if let Some(thread) = thread {
            thread.join();
        }
    }
}

/// The lanes of a server.
#[derive(Debug)]
pub(crate) struct Jobs {
    pub(crate) short: Arc<Lane>,
    /// `COMPACT`: one at a time, a second one is refused.
    pub(crate) compact: Arc<Lane>,
    /// `SAVE` and `BGSAVE`. `saves.rs` lets one in at a time; a second place, because the job of
    /// one that has just ended may still stand here.
    pub(crate) save: Arc<Lane>,
}

impl Jobs {
    pub(crate) fn new(threads: &Arc<dyn Threads>) -> Jobs {
        Jobs {
            short: Lane::new("jobs", SHORT_MAX, Arc::clone(threads)),
            compact: Lane::new("compact", 1, Arc::clone(threads)),
            save: Lane::new("save", 2, Arc::clone(threads)),
        }
    }

    /// Takes no more jobs and forgets those that have not begun.
    pub(crate) fn close(&self) {
        self.short.close();
        self.compact.close();
        self.save.close();
    }

    /// Waits for those that run. The engine is closed by then, which ends a compaction and
    /// a checkpoint.
    pub(crate) fn join(&self) {
        self.short.join();
        self.compact.join();
        self.save.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluicedb::env::OsThreads;
    use std::sync::mpsc;

    fn lane(max: usize) -> Arc<Lane> {
        Lane::new("test", max, Arc::new(OsThreads))
    }

    #[test]
    fn jobs_run_in_order_and_a_panic_ends_one_alone() {
        let lane = lane(8);
        let (sender, receiver) = mpsc::channel();
        for number in 0..8 {
            let sender = sender.clone();
            // Whether the earlier ones are done by then or not, nothing is refused.
            let job = Box::new(move || {
                sender.send(number).unwrap();
                assert!(number != 3, "a job that panics");
            });
            assert!(lane.start(job).is_ok());
        }
        assert_eq!(receiver.iter().take(8).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7]);
        lane.close();
        lane.join();
    }

    #[test]
    fn a_full_lane_and_a_closed_one_refuse() {
        let lane = lane(1);
        let (open, gate) = mpsc::channel::<()>();
        lane.start(Box::new(move || gate.recv().unwrap_or_default())).unwrap();
        assert!(matches!(lane.start(Box::new(|| ())), Err(Refused::Busy)));
        drop(open);
        while matches!(lane.start(Box::new(|| ())), Err(Refused::Busy)) {
            std::thread::yield_now();
        }
        lane.close();
        lane.join();
        assert!(matches!(lane.start(Box::new(|| ())), Err(Refused::Failed(_))));
    }
}
