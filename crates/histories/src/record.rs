//! What a history is made of: moments, and operations with their ends.
//!
//! Moments are numbers of one counter, not times. A client takes one before it writes a request and
//! one after it has read the reply: when the second number of A is below the first of B, A had
//! returned before B was called, on whatever threads. A clock would say less, with ties.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number of a [`Timeline`].
pub type Moment = u64;

/// The counter that all clients of a history share.
///
/// ```
/// let timeline = sluice_histories::record::Timeline::default();
/// assert!(timeline.now() < timeline.now());
/// ```
#[derive(Debug, Default)]
pub struct Timeline(AtomicU64);

impl Timeline {
    /// A moment after all that were given out before.
    pub fn now(&self) -> Moment {
        // SeqCst: one order for all threads, which is all that a moment means.
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// How an operation ended, as its client saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End<R> {
    /// It returned.
    Known { at: Moment, reply: R },
    /// It did not. It may have taken effect before `until`, or never.
    Unknown { until: Moment },
}

impl<R> End<R> {
    /// Without an end that anybody knows: it may still take effect at any later moment.
    pub const NEVER_HEARD: End<R> = End::Unknown { until: Moment::MAX };

    /// The reply, if there was one.
    pub fn reply(&self) -> Option<&R> {
        match self {
            End::Known { reply, .. } => Some(reply),
            End::Unknown { .. } => None,
        }
    }

    /// The moment at which it was over at the latest.
    pub fn at(&self) -> Moment {
        match self {
            End::Known { at, .. } => *at,
            End::Unknown { until } => *until,
        }
    }

    /// The process that ran it has ended and another one serves since `moment`: what has not
    /// happened until then never will.
    pub fn close(&mut self, moment: Moment) {
        if let End::Unknown { until } = self {
            *until = moment.min(*until);
        }
    }
}

/// One operation of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation<O, R> {
    /// The connection. Its operations are executed in the order in which they were sent, so no later
    /// one takes effect without the earlier ones. A new connection is another process.
    pub process: u32,
    pub called: Moment,
    pub op: O,
    pub end: End<R>,
}
