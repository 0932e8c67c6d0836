//! The background: one thread that syncs for those who do not wait and bounds the age of unsynced
//! bytes, one that has the next segment ready. Two, because zeroing a segment takes longer than a
//! sync may.
//!
//! Without threads (`background: false`) [`Wal::tick`] does one turn of each.
//!
//! `wal-sync` waits on `queue_wake` for requests, for the next deadline of the interval, or for
//! the end. It takes all requests pending, syncs once up to the furthest, and answers all of them
//! with no lock held. The queue's lock may be held while the state's is taken, never the other way
//! round.

use sluice_env::sync::{Arc, PoisonError, atomic::Ordering};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use sluice_base::{Error, Result};

use crate::{
    lock,
    log::{Shared, Wal},
    state::Lsn,
};

/// Someone who hears about a sync instead of waiting for it.
pub(crate) struct Request {
    upto: Lsn,
    done: Box<dyn FnOnce(Result<()>) + Send>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Request({})", self.upto.0)
    }
}

/// Requests not yet taken. Bounded by its callers: each stands for a commit that was admitted.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pending: Vec<Request>,
    stop: bool,
}

/// What the preparing thread waits for.
#[derive(Debug, Default)]
pub(crate) struct Preparing {
    asked: bool,
    stop: bool,
}

/// When the interval wants the next sync.
enum Due {
    Now,
    In(Duration),
    /// No interval is set.
    Never,
}

impl Wal {
    /// Does what the background threads would do next: makes the next segment if it is time,
    /// answers the requests, syncs if the interval has passed. For simulations; harmless beside
    /// running threads.
    pub fn tick(&self) {
        let asked = std::mem::take(&mut lock(&self.shared.preparing).asked);
        if asked {
            self.shared.prepare();
        }
        self.shared.serve_requests();
        self.shared.sync_if_due();
    }

    /// Starts the threads.
    pub(crate) fn start(&self) -> Result<()> {
        type Body = fn(&Shared);
        let bodies: [(&str, Body); 2] =
            [("wal-sync", Shared::run_sync), ("wal-prepare", Shared::run_prepare)];
        for (name, body) in bodies {
            let shared = Arc::clone(&self.shared);
            let handle = self
                .shared
                .files
                .env
                .threads
                .spawn(name, Box::new(move || body(&shared)))
                .map_err(|e| Error::io(format!("start the thread {name}"), e))?;
            lock(&self.threads).push(handle);
        }
        Ok(())
    }
}

impl Shared {
    pub(crate) fn enqueue(&self, upto: Lsn, done: Box<dyn FnOnce(Result<()>) + Send>) {
        let mut queue = lock(&self.queue);
        if queue.stop {
            // The thread may be gone already: nobody but this caller can answer.
            drop(queue);
            return done(self.sync(upto));
        }
        queue.pending.push(Request { upto, done });
        if queue.pending.len() == 1 {
            self.queue_wake.notify_all();
        }
    }

    /// One sync for all requests pending, and an answer to each.
    pub(crate) fn serve_requests(&self) {
        let pending = std::mem::take(&mut lock(&self.queue).pending);
        let Some(furthest) = pending.iter().map(|request| request.upto).max() else { return };
        let result = self.sync(furthest);
        for Request { upto, done } in pending {
            let answer = match &result {
                Ok(()) => Ok(()),
                // What was durable before the failure still is.
                Err(error) => self.sync_reached(upto).unwrap_or_else(|| Err(error.duplicate())),
            };
            // A callback that panics must not leave the others waiting for ever. The panic hook
            // has reported it.
            drop(catch_unwind(AssertUnwindSafe(|| done(answer))));
        }
    }

    fn due(&self) -> Due {
        let interval_us = self.progress.sync_interval_us.load(Ordering::Relaxed);
        if interval_us == 0 {
            return Due::Never;
        }
        let state = lock(&self.state);
        let waited_us = match state.unsynced_since_us {
            Some(since) if state.poison.is_none() => self.files.now_us().saturating_sub(since),
            // Nothing to sync, or no way to: bytes that come from now on are due one interval
            // after they came, so looking again after one interval is soon enough.
            _ => 0,
        };
        match interval_us.checked_sub(waited_us) {
            None | Some(0) => Due::Now,
            Some(left) => Due::In(Duration::from_micros(left)),
        }
    }

    fn sync_if_due(&self) {
        if matches!(self.due(), Due::Now) {
            // A failure poisons the log and is heard of by the next caller and by every request.
            let upto = Lsn(self.progress.appended.load(Ordering::Acquire));
            drop(self.sync(upto));
        }
    }

    /// The body of `wal-sync`.
    fn run_sync(&self) {
        loop {
            let stop = {
                let queue = lock(&self.queue);
                let queue = if queue.stop || !queue.pending.is_empty() {
                    queue
                } else {
                    // Waking early is harmless: the turn below looks for itself.
                    match self.due() {
                        Due::Now => queue,
                        Due::In(wait) => {
                            self.queue_wake
                                .wait_timeout(queue, wait)
                                .unwrap_or_else(PoisonError::into_inner)
                                .0
                        }
                        Due::Never => {
                            self.queue_wake.wait(queue).unwrap_or_else(PoisonError::into_inner)
                        }
                    }
                };
                queue.stop
            };
            self.serve_requests();
            if stop {
                // Whoever enqueues from now on sees `stop` and answers itself.
                return;
            }
            self.sync_if_due();
        }
    }

    pub(crate) fn ask_for_spare(&self) {
        lock(&self.preparing).asked = true;
        self.prepare_wake.notify_all();
    }

    /// The body of `wal-prepare`.
    fn run_prepare(&self) {
        loop {
            let mut preparing = lock(&self.preparing);
            while !preparing.asked && !preparing.stop {
                preparing =
                    self.prepare_wake.wait(preparing).unwrap_or_else(PoisonError::into_inner);
            }
            if preparing.stop {
                return;
            }
            preparing.asked = false;
            drop(preparing);
            self.prepare();
        }
    }

    /// Makes the next segment, zeroed. A failure is only counted: the append that needs the
    /// segment tries again, and tells its caller.
    fn prepare(&self) {
        if lock(&self.state).spare.is_some() {
            return;
        }
        match self.files.create(self.files.segment_bytes(), true) {
            Ok(blank) => {
                self.tell(blank.made());
                self.offer_spare(blank);
            }
            Err(_) => self.files.counters.prepare_failures.inc(),
        }
    }

    pub(crate) fn stop_threads(&self) {
        lock(&self.queue).stop = true;
        self.queue_wake.notify_all();
        lock(&self.preparing).stop = true;
        self.prepare_wake.notify_all();
    }
}
