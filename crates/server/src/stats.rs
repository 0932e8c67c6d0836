//! Counters. Each worker thread owns one [`WorkerStats`] and is its only writer, so an increment is
//! a plain load and store; readers (INFO) add the workers up and may see a turn half counted.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with one writer.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Only the owning thread may call this.
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    /// A reset may lose an increment that happens at the same moment.
    pub(crate) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// One command's numbers.
#[derive(Debug, Default)]
pub(crate) struct CommandStats {
    pub(crate) calls: Counter,
    pub(crate) usec: Counter,
    /// Ran and ended in an error.
    pub(crate) failed: Counter,
    /// Refused before it ran.
    pub(crate) rejected: Counter,
}

/// One worker's numbers.
#[derive(Debug)]
pub(crate) struct WorkerStats {
    pub(crate) commands: Box<[CommandStats]>,
    pub(crate) processed: Counter,
    pub(crate) connections: Counter,
    pub(crate) rejected_connections: Counter,
    pub(crate) input_bytes: Counter,
    pub(crate) output_bytes: Counter,
    pub(crate) reads: Counter,
    pub(crate) writes: Counter,
    pub(crate) log_flushes: Counter,
    pub(crate) stalls: Counter,
    /// Commits that found no room until their deadline.
    pub(crate) refusals: Counter,
    /// Commits after which their connection was held back, and for how long in all.
    pub(crate) delays: Counter,
    pub(crate) delayed_us: Counter,
    /// Connections this worker has, those on their way to it included.
    pub(crate) clients: AtomicU64,
    /// Thousandths of the time since the last tick but one that it was not waiting for events, and
    /// that it ran commands.
    pub(crate) busy: AtomicU64,
    pub(crate) executing: AtomicU64,
}

impl WorkerStats {
    pub(crate) fn new(command_count: usize) -> WorkerStats {
        WorkerStats {
            commands: (0..command_count).map(|_| CommandStats::default()).collect(),
            processed: Counter::default(),
            connections: Counter::default(),
            rejected_connections: Counter::default(),
            input_bytes: Counter::default(),
            output_bytes: Counter::default(),
            reads: Counter::default(),
            writes: Counter::default(),
            log_flushes: Counter::default(),
            stalls: Counter::default(),
            refusals: Counter::default(),
            delays: Counter::default(),
            delayed_us: Counter::default(),
            clients: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            executing: AtomicU64::new(0),
        }
    }

    /// What `CONFIG RESETSTAT` resets.
    pub(crate) fn reset(&self) {
        for command in &self.commands {
            for counter in [&command.calls, &command.usec, &command.failed, &command.rejected] {
                counter.reset();
            }
        }
        for counter in [
            &self.processed,
            &self.connections,
            &self.rejected_connections,
            &self.input_bytes,
            &self.output_bytes,
            &self.reads,
            &self.writes,
            &self.log_flushes,
            &self.stalls,
            &self.refusals,
            &self.delays,
            &self.delayed_us,
        ] {
            counter.reset();
        }
    }
}

/// Most error codes counted one by one: codes come from this server's own texts, but a bound costs
/// nothing.
const ERROR_CODES_MAX: usize = 128;

/// Error replies by code (`ERR`, `WRONGTYPE`). A lock, because errors are rare.
#[derive(Debug, Default)]
pub(crate) struct ErrorStats(Mutex<BTreeMap<String, u64>>);

impl ErrorStats {
    /// Counts an error reply by its first word.
    pub(crate) fn count(&self, text: &str) {
        let code = text.split(' ').next().unwrap_or_default();
        let mut counts = crate::lock(&self.0);
        if let Some(count) = counts.get_mut(code) {
            *count += 1;
        } else if counts.len() < ERROR_CODES_MAX {
            counts.insert(code.to_owned(), 1);
        }
    }
    pub(crate) fn all(&self) -> Vec<(String, u64)> {
        crate::lock(&self.0).iter().map(|(code, count)| (code.clone(), *count)).collect()
    }
    pub(crate) fn reset(&self) {
        crate::lock(&self.0).clear();
    }
}

/// A rate over the last seconds, for `instantaneous_ops_per_sec`: one thread samples, anyone reads.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    last: Mutex<Option<(u64, u64)>>,
    per_second: AtomicU64,
}

impl Rate {
    /// Takes the total so far at a moment in microseconds.
    pub(crate) fn sample(&self, now_us: u64, total: u64) {
        let mut last = crate::lock(&self.last);
        if let Some((before_us, before)) = *last {
            let elapsed = now_us.saturating_sub(before_us).max(1);
            let grown = u128::from(total.saturating_sub(before));
            let rate = grown * 1_000_000 / u128::from(elapsed);
            self.per_second.store(u64::try_from(rate).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        *last = Some((now_us, total));
    }
    pub(crate) fn per_second(&self) -> u64 {
        self.per_second.load(Ordering::Relaxed)
    }
}
