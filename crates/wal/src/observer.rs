//! [`WalObserver`]: how the owner of a log hears what the log does by itself.
//!
//! The log knows nothing of its owner; this trait is all it asks of one. An observer is called
//! with **no lock of the log held**, no baton either, on whatever thread did the work: a committer
//! that rotates or leads a sync, a thread of the log, or the caller of a release. The owner's own
//! locks may be held by that thread (an append is made under the commit lock), so an observer
//! notes what it is told and leaves; it does no I/O and does not call the log.
//!
//! Two threads may tell of two things in another order than the things happened in: who has let
//! go of a lock is no longer in line. Nothing is told of what [`crate::Wal::recover`] does.

use std::fmt;

use sluice_base::{FileNo, SeqNo};

use crate::{files::Blank, log::Shared, state::Live};

/// What a log tells its observer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalEvent {
    /// A segment file stands ready. Its first frame comes later, or never.
    SegmentMade {
        /// The number of the segment.
        number: FileNo,
        /// Size of the file.
        bytes: u64,
        /// The released segment whose file it was before; `None` for a new file.
        recycled: Option<FileNo>,
    },
    /// A segment is not part of the log any more, durably.
    SegmentReleased {
        /// The number of the segment.
        number: FileNo,
        /// Size of the file.
        bytes: u64,
        /// Whether the file waits for reuse; it is removed otherwise.
        kept: bool,
    },
    /// A round of group sync has made bytes durable.
    Synced {
        /// The last sequence number that survives the loss of power.
        up_to: SeqNo,
        /// Bytes that became durable by it.
        bytes: u64,
        /// Frames that became durable by it.
        frames: u64,
        /// From the begin of the write-out to the end of the last `fdatasync`, in microseconds.
        took_us: u64,
    },
}

/// Hears what a log does by itself. See the file's head for what it may do.
///
/// ```
/// use sluice_wal::{WalEvent, WalObserver, WalOptions};
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
///
/// #[derive(Debug, Default)]
/// struct CountSyncs(AtomicU64);
///
/// impl WalObserver for CountSyncs {
///     fn wal_event(&self, event: WalEvent) {
///         if let WalEvent::Synced { .. } = event {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// let options = WalOptions { observer: Some(Arc::new(CountSyncs::default())), ..Default::default() };
/// # assert!(options.validate().is_ok());
/// ```
pub trait WalObserver: fmt::Debug + Send + Sync {
    /// Something happened. Thousands of syncs a second are possible: be quick.
    fn wal_event(&self, event: WalEvent);
}

impl Shared {
    /// Tells the observer, if there is one. The caller holds no lock and no baton.
    pub(crate) fn tell(&self, event: WalEvent) {
        if let Some(observer) = &self.options.observer {
            observer.wal_event(event);
        }
    }
}

impl Blank {
    pub(crate) fn made(&self) -> WalEvent {
        let Blank { number, capacity: bytes, recycled, .. } = *self;
        WalEvent::SegmentMade { number, bytes, recycled }
    }

    /// What is to be told once it went unused.
    pub(crate) fn released(&self, kept: bool) -> WalEvent {
        WalEvent::SegmentReleased { number: self.number, bytes: self.capacity, kept }
    }
}

impl Live {
    pub(crate) fn released(&self, kept: bool) -> WalEvent {
        WalEvent::SegmentReleased { number: self.number, bytes: self.capacity, kept }
    }
}
