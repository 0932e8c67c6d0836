//! The write-ahead log that all column families share: segments, frames, group sync, recycling,
//! replay. It knows frames and the sequence numbers they take; what a payload means is the
//! business of the layer above.
//!
//! # What it promises
//!
//! - **Prefix.** [`Wal::recover`] replays a prefix of what was appended, in order, and nothing
//!   else: no stale frame, no damaged one, none behind a hole.
//! - **Acknowledged is kept.** What [`Wal::write_out`] covered survives the death of the process;
//!   what [`Wal::sync`] covered survives the loss of power.
//! - **No silence.** Every wait ends in done or in an error; a failed write or sync poisons the
//!   log and reaches everybody who waits.
//! - **A torn tail is normal, damage is an error.** Frames and segment headers carry how much had
//!   been synced when they were made; that tells one from the other.
//!
//! # Threads and locks
//!
//! ```text
//!   committers --append--> [ buffer ] --write_out--> OS --sync--> disk
//!     (one at a time,        state      one leader,       one leader,
//!      in sequence order)               double buffer     all who wait are covered
//!
//!   wal-sync     request_sync, sync_interval          wal-prepare   makes the next segment
//! ```
//!
//! Lock order, outermost first: `Files::names` (renames and removals), the sync baton, the write
//! baton, the queue of sync requests, `Shared::scratch`, the state, the pool of free files. The
//! state's lock is held for copies and additions only, never during I/O; callbacks and the observer
//! run with no lock held. The owner's commit lock, under which it appends, is outside all of them.
//!
//! The format is described in `docs/format/wal.md`.

mod baton;
mod chain;
mod decode;
mod files;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod header;
mod heal;
mod log;
mod names;
mod observer;
mod options;
mod poison;
mod recover;
mod release;
mod report;
mod requests;
mod state;
mod stats;
mod write;

pub use decode::{DecodeOptions, Decoded, Ending, Gap, decode_segment};
pub use files::FileNumbers;
pub use frame::{FRAME_ALIGN, FRAME_HEADER_BYTES, Fault, FrameRef, PAYLOAD_BYTES_MAX, frame_bytes};
pub use header::{FORMAT_VERSION, HeaderState, MAGIC, SEGMENT_HEADER_BYTES, SegmentHeader};
pub use log::Wal;
pub use names::segment_path;
pub use observer::{WalEvent, WalObserver};
pub use options::{RecoveryMode, WalOptions};
pub use report::{DroppedSegment, RecoveryReport, SkippedBytes, TornTail};
pub use state::{FrameInfo, Lsn};
pub use stats::{SegmentInfo, WalStats};

use sluice_env::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose data stays consistent even if a holder panicked: no code of this crate
/// panics while it holds one, and a callback never runs under one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
