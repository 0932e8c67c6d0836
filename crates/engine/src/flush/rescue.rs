//! Going on after the log failed.
//!
//! A failed write or sync leaves the end of the log in doubt (`sluice_wal`'s `poison.rs`), so what
//! was written since the last sync may be nowhere but in memory. While that is so, no family may
//! get ahead of another: a table of one and a lost log entry of another would break P1. So
//!
//! 1. writes are refused, with the reason, and everything in memory is sealed at one cut;
//! 2. the groups in the queue are built as always, and installed by **one** edit, when all are;
//! 3. nothing is left that only the log has: it may give up the bytes in doubt (`Wal::heal`);
//! 4. writes are taken again.
//!
//! Each step is tried again until it succeeds: writing comes back by itself once the disk works,
//! or has room (P9). Reads notice nothing.
//!
//! The refusal, the seal and the end of the refusal happen under the commit lock. A writer either
//! has left it before, and is sealed, or comes later, and is refused.

use super::{FlushReason, Progress};
use crate::{core::Core, version::VersionEdit};
use sluice_base::SeqNo;
use std::sync::Arc;

/// Wait after a failed attempt to heal the log.
const RETRY_US: u64 = 500_000;

/// Step 1. Says whether the log has failed.
pub(super) fn begin(core: &Arc<Core>) -> bool {
    if core.wal.poisoned().is_none() {
        return false;
    }
    let mut state = core.commit.lock();
    // Looked at again under the lock that `heal` ends under: a refusal set for a log that has just
    // been healed would stay for ever.
    let Some(error) = core.wal.poisoned() else { return false };
    sluice_env::probe!("log: failed");
    core.health.log_failed(&error);
    if !state.closed {
        let all: Vec<usize> = (0..state.accounts.len()).collect();
        super::seal(core, &mut state, &all, FlushReason::LogFailure);
    }
    true
}

/// Whether the log has failed, and everything it was to keep is in the queue.
pub(super) fn is_sealed(core: &Core) -> bool {
    core.health.is_log_failed()
        && core.commit.lock().accounts.iter().flatten().all(|account| account.first.is_none())
}

/// Steps 3 and 4, once nothing is left in the queue.
pub(super) fn finish(core: &Arc<Core>) -> Progress {
    let now = core.env.clock.monotonic_us();
    let not_before = core.flushes.heal_not_before_us();
    if now < not_before {
        return Progress::NotBefore(not_before);
    }
    let installing = core.flushes.lock_install();
    if core.flushes.pending() > 0 {
        // Another thread builds, and looks again when it has: looking on would be spinning.
        return Progress::Idle;
    }
    if !is_sealed(core) || core.wal.poisoned().is_none() {
        return Progress::Done;
    }
    let cut = core.commit.lock().last();
    match heal(core, cut) {
        Ok(()) => {
            drop(installing);
            core.end_turn();
        }
        Err(error) => {
            sluice_env::probe!("log: an attempt to heal failed");
            core.health.heal_failed(&error);
            core.flushes.set_heal_not_before_us(now + RETRY_US);
        }
    }
    Progress::Done
}

/// One attempt at steps 3 and 4, where there is need and everything is in tables.
pub(crate) fn heal_log(core: &Arc<Core>) {
    if core.wal.poisoned().is_some() {
        finish(core);
    }
}

fn heal(core: &Arc<Core>, cut: SeqNo) -> crate::Result<()> {
    core.wal.heal_noting(cut, &mut |first| {
        // Before a segment goes that the manifest names as the first one needed.
        let edit =
            VersionEdit { last_seq: Some(cut), log_first: Some(first), ..VersionEdit::default() };
        core.versions.apply(core, edit, |_| ())
    })?;
    // What a close of another thread and later waits for positions go by.
    let mut state = core.commit.lock();
    state.lsn = core.wal.appended_lsn();
    state.log_checked = state.lsn;
    sluice_env::probe!("log: healed");
    core.health.log_healed();
    Ok(())
}
