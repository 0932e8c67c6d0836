//! What an owner of the log chooses.

use std::{sync::Arc, time::Duration};

use sluice_base::{Error, Result};

use crate::{frame::FRAME_HEADER_BYTES, header::SEGMENT_HEADER_BYTES, observer::WalObserver};

/// What recovery does with bytes that are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecoveryMode {
    /// A torn tail, as every crash leaves one, is cut and reported; damage to bytes that had been
    /// synced is an error.
    #[default]
    Tolerant,
    /// Any bad place is an error, a torn tail too.
    Absolute,
    /// Bad places are passed over and reported; every frame that still validates is replayed.
    /// What comes out need not be a prefix of the history: flush it, and check it, before use.
    Salvage,
}

/// The log's options.
///
/// ```
/// let options = sluice_wal::WalOptions { segment_bytes: 1 << 20, ..Default::default() };
/// assert!(options.validate().is_ok());
/// ```
#[derive(Debug, Clone)]
pub struct WalOptions {
    /// Size of a segment file. A frame that needs more gets a segment of its own size.
    pub segment_bytes: u64,
    /// Most released files kept for reuse.
    pub recycle_max: usize,
    /// Longest time that appended bytes stay unsynced when nobody asks for a sync; zero is "for
    /// ever". Can be changed while running: [`crate::Wal::set_sync_interval`].
    pub sync_interval: Duration,
    /// Most bytes kept in memory before an append writes them out itself.
    pub buffer_bytes_max: usize,
    /// What recovery does with bytes that are not a frame.
    pub recovery: RecoveryMode,
    /// Whether the log runs threads of its own. Without them, [`crate::Wal::tick`] does their
    /// work, which makes a simulation repeatable.
    pub background: bool,
    /// Who hears of segments and syncs.
    pub observer: Option<Arc<dyn WalObserver>>,
}

impl WalOptions {
    /// Smallest segment: one page.
    pub const SEGMENT_BYTES_MIN: u64 = 4096;

    /// Largest segment: offsets in frames take 32 bits, and a segment made for one largest frame
    /// needs 1 GiB and a little.
    pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;

    /// Refuses values that cannot work.
    pub fn validate(&self) -> Result<()> {
        let (min, max) = (WalOptions::SEGMENT_BYTES_MIN, WalOptions::SEGMENT_BYTES_MAX);
        if !(min..=max).contains(&self.segment_bytes) || !self.segment_bytes.is_multiple_of(8) {
            return Err(Error::invalid(format!(
                "wal segment_bytes is {}: choose a multiple of 8 from {min} to {max}",
                self.segment_bytes
            )));
        }
        if self.buffer_bytes_max < SEGMENT_HEADER_BYTES + 2 * FRAME_HEADER_BYTES {
            return Err(Error::invalid("wal buffer_bytes_max is below 128"));
        }
        if self.recycle_max > 64 {
            return Err(Error::invalid("wal recycle_max is above 64"));
        }
        Ok(())
    }
}

impl Default for WalOptions {
    fn default() -> Self {
        WalOptions {
            segment_bytes: 64 << 20,
            recycle_max: 2,
            sync_interval: Duration::from_secs(1),
            buffer_bytes_max: 8 << 20,
            recovery: RecoveryMode::Tolerant,
            background: true,
            observer: None,
        }
    }
}
