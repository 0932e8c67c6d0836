//! The places where events are made: one method for each thing that happens, so that a hook in the
//! engine is one line. All may be called with locks of the engine held.

use super::{Event, Hub, Topic};
use crate::StallCause;
use crate::{
    DrainStatus, FlushReport,
    flush::{FlushGroup, Member},
};
use sluice_base::{Error, Level};
use sluice_env::sync::atomic::Ordering;
use std::time::Duration;

/// Delayed writes are reported once in this time at most: there is one for every write.
const DELAYS_EVERY_US: u64 = 1_000_000;

/// One compaction, as events tell of it.
#[derive(Debug, Clone)]
pub(crate) struct CompactionFacts<'a> {
    pub cf: &'a str,
    pub level: Level,
    pub output_level: Level,
    pub files: u64,
    pub bytes: u64,
}

fn names(members: &[Member]) -> Vec<String> {
    members.iter().map(|member| member.family.name().to_owned()).collect()
}

impl Hub {
    /// A group was sealed. Called before it is queued, so that its flush comes later.
    pub(crate) fn sealed(&self, group: &FlushGroup) {
        for member in &group.members {
            self.emit(Topic::Flush, || Event::MemtableSealed {
                cf: member.family.name().to_owned(),
                group: group.id,
                reason: group.reason,
                bytes: member.sealed.reserved,
                entries: member.sealed.memtable.entries(),
                position: self.position(group.cut),
            });
        }
    }

    /// A group's tables are about to be written, and its memtables do not change any more.
    pub(crate) fn flush_begin(&self, group: &FlushGroup) {
        self.emit(Topic::Flush, || Event::FlushBegin {
            group: group.id,
            reason: group.reason,
            cfs: names(&group.members),
            bytes: group.members.iter().map(|member| member.sealed.memtable.raw_bytes()).sum(),
            position: self.position(group.cut),
        });
    }

    /// A group is installed. Called before its tickets end.
    pub(crate) fn flush_end(&self, group: &FlushGroup, report: &FlushReport) {
        let end = || Event::FlushEnd { group: group.id, report: report.clone() };
        self.emit(Topic::Flush, end);
    }

    /// An attempt on a group failed. Called before its tickets end.
    pub(crate) fn flush_failed(
        &self,
        group: &FlushGroup,
        error: &Error,
        attempts: u32,
        retry_us: u64,
    ) {
        self.emit(Topic::Flush, || Event::FlushFailed {
            group: group.id,
            reason: group.reason,
            cfs: names(&group.members),
            kind: error.kind(),
            message: error.to_string(),
            attempts,
            retry_in: Duration::from_micros(retry_us),
            position: self.position(group.cut),
        });
    }

    /// A write was held back for `delay`. Tells of one a second at most.
    pub(crate) fn write_delayed(&self, cause: StallCause, delay: Duration, rate_bytes_per_s: u64) {
        if !self.wants(Topic::Stall) {
            return;
        }
        let now = self.env.clock.monotonic_us();
        let not_before = self.delays_not_before_us.load(Ordering::Relaxed);
        let next = now + DELAYS_EVERY_US;
        let due = now >= not_before
            && self
                .delays_not_before_us
                .compare_exchange(not_before, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if due {
            let event = || Event::WriteDelayed { cause, delay, rate_bytes_per_s };
            self.emit(Topic::Stall, event);
        }
    }

    pub(crate) fn background_error(&self, job: &'static str, error: &Error, read_only: bool) {
        self.emit(Topic::Error, || {
            let (kind, message) = (error.kind(), error.to_string());
            Event::BackgroundError { job, kind, message, read_only }
        });
    }

    pub(crate) fn recovered(&self, job: &'static str) {
        self.emit(Topic::Error, || Event::Recovered { job });
    }

    /// `error` is what refused writes get.
    pub(crate) fn log_failed(&self, error: &Error) {
        let event = || Event::LogFailed { kind: error.kind(), message: error.to_string() };
        self.emit(Topic::Error, event);
    }

    pub(crate) fn log_healed(&self) {
        self.emit(Topic::Error, || Event::LogHealed);
    }

    pub(crate) fn compaction_begin(&self, facts: &CompactionFacts<'_>) {
        let &CompactionFacts { cf, level, output_level, files, bytes } = facts;
        self.emit(Topic::Compaction, || {
            let cf = cf.to_owned();
            Event::CompactionBegin { cf, level, output_level, files, bytes }
        });
    }

    pub(crate) fn compaction_end(
        &self,
        facts: &CompactionFacts<'_>,
        files_out: u64,
        bytes_out: u64,
        took: Duration,
    ) {
        let &CompactionFacts { cf, level, output_level, files, bytes } = facts;
        self.emit(Topic::Compaction, || Event::CompactionEnd {
            cf: cf.to_owned(),
            level,
            output_level,
            files_in: files,
            bytes_in: bytes,
            files_out,
            bytes_out,
            took,
        });
    }

    pub(crate) fn compaction_failed(&self, facts: &CompactionFacts<'_>, error: &Error) {
        let &CompactionFacts { cf, level, output_level, .. } = facts;
        self.emit(Topic::Compaction, || {
            let (cf, kind, message) = (cf.to_owned(), error.kind(), error.to_string());
            Event::CompactionFailed { cf, level, output_level, kind, message }
        });
    }
}

impl Hub {
    pub(crate) fn drain_begin(&self, status: &DrainStatus) {
        self.emit(Topic::Compaction, || Event::DrainBegin { status: status.clone() });
    }

    pub(crate) fn drain_progress(&self, status: &DrainStatus) {
        self.emit(Topic::Compaction, || Event::DrainProgress { status: status.clone() });
    }

    pub(crate) fn drain_end(&self, status: &DrainStatus) {
        self.emit(Topic::Compaction, || Event::DrainEnd { status: status.clone() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventOptions, Options};
    use sluice_env::{Env, ManualClock};
    use std::sync::Arc;

    fn hub() -> (Arc<Hub>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(1_000));
        let env = Env { clock: Arc::<ManualClock>::clone(&clock), ..Env::os() };
        (Hub::new(&Options { env, ..Options::default() }, 1), clock)
    }

    fn to(topics: &[Topic]) -> EventOptions {
        EventOptions { topics: topics.to_vec(), ..EventOptions::default() }
    }

    #[test]
    fn an_event_that_nobody_wants_is_not_built() {
        let (hub, _) = hub();
        let never = || panic!("built for nobody");
        Topic::ALL.iter().for_each(|topic| hub.emit(*topic, never));
        let events = hub.subscribe(&to(&[Topic::Error]));
        hub.emit(Topic::Wal, never);
        hub.emit(Topic::Error, || Event::LogHealed);
        assert_eq!(events.try_recv().map(|record| record.serial), Some(1));
        let wal = hub.subscribe(&to(&[Topic::Wal]));
        assert!(hub.wants(Topic::Wal) && hub.wants(Topic::Error) && !hub.wants(Topic::Flush));
        drop(wal);
        hub.emit(Topic::Wal, never);
        drop(events);
        hub.emit(Topic::Error, never);
    }

    #[test]
    fn delays_are_told_of_once_a_second() {
        let (hub, clock) = hub();
        let events = hub.subscribe(&to(&[Topic::Stall]));
        let delay = Duration::from_micros(250);
        for _ in 0..100 {
            hub.write_delayed(StallCause::MemoryBudget, delay, 1 << 20);
            clock.advance_ms(33);
        }
        // At 0, 1023, 2046 and 3069 ms.
        let seen: Vec<_> = std::iter::from_fn(|| events.try_recv()).map(|r| r.event).collect();
        let one = Event::WriteDelayed {
            cause: StallCause::MemoryBudget,
            delay,
            rate_bytes_per_s: 1 << 20,
        };
        assert_eq!(seen, vec![one; 4]);
    }
}
