//! Letting go of segments whose every frame is in tables.

use sluice_base::{FileNo, Result, SeqNo};

use crate::{
    lock,
    log::{Shared, Wal},
    observer::WalEvent,
    state::{Live, Lsn, State},
};

impl Wal {
    /// Lets go of the oldest segments as long as every frame in them is below `oldest_needed`:
    /// their files are kept for reuse or removed, durably. Never the active segment. Returns the
    /// bytes released.
    ///
    /// Call it after the manifest edit that makes `oldest_needed` true is durable. An owner whose
    /// edits store [`Wal::first_segment_after`], so that a recovery notices a missing head, calls
    /// [`Wal::release_before`] instead.
    pub fn release(&self, oldest_needed: SeqNo) -> Result<u64> {
        self.shared.release(oldest_needed, None)
    }

    /// As [`Wal::release`], of segments before `first` only: the one that the owner has noted as the
    /// first one needed. The log may have gone on to another segment since the note was made, and
    /// what was the active one then must stay, or the next recovery would miss it.
    pub fn release_before(&self, first: FileNo, oldest_needed: SeqNo) -> Result<u64> {
        self.shared.release(oldest_needed, Some(first))
    }

    /// What [`Wal::first_segment`] would be after `release(oldest_needed)` at this moment.
    pub fn first_segment_after(&self, oldest_needed: SeqNo) -> FileNo {
        let state = lock(&self.shared.state);
        let active = state.live.back().map_or(FileNo(0), |active| active.number);
        let keeps = |live: &&Live| live.number == active || live.next_seq > oldest_needed;
        state.live.iter().find(keeps).map_or(active, |live| live.number)
    }
}

impl Shared {
    fn release(&self, oldest_needed: SeqNo, first: Option<FileNo>) -> Result<u64> {
        let mut gone = Vec::new();
        let outcome = self.release_noting(oldest_needed, first, &mut gone);
        // What went before an error went all the same.
        gone.into_iter().for_each(|event| self.tell(event));
        outcome
    }

    /// Notes in `gone` what is to be told once the lock is let go of.
    fn release_noting(
        &self,
        oldest_needed: SeqNo,
        first: Option<FileNo>,
        gone: &mut Vec<WalEvent>,
    ) -> Result<u64> {
        let _names = lock(&self.files.names);
        let mut released = 0;
        loop {
            let Some((number, capacity, written, bytes, end)) =
                lock(&self.state).releasable(oldest_needed)
            else {
                return Ok(released);
            };
            if first.is_some_and(|first| number >= first) {
                return Ok(released);
            }
            // Bytes of it may still be in the buffer. Written after the file got another number,
            // they would land in the middle of someone else's frames.
            self.write_out(end)?;
            // Oldest first, each durable before the next (`retire` syncs the directory): what a
            // crash leaves is always a run without gaps. Until then the segment stays in `live`,
            // and so inside the sync barrier.
            let kept = self.files.retire(number, capacity, written)?;
            gone.extend(lock(&self.state).forget(number).map(|live| live.released(kept)));
            released += bytes;
        }
    }
}

impl State {
    /// The oldest segment, if it can go: number, capacity, whether every byte of the file was
    /// written, bytes, and the log position of its end.
    fn releasable(&self, oldest_needed: SeqNo) -> Option<(FileNo, u64, bool, u64, Lsn)> {
        let oldest = self.live.front().filter(|_| self.live.len() > 1)?;
        let free = oldest.next_seq <= oldest_needed;
        free.then(|| (oldest.number, oldest.capacity, oldest.written, oldest.end, oldest.end_lsn()))
    }

    /// Takes a segment out of the log.
    pub(crate) fn forget(&mut self, number: FileNo) -> Option<Live> {
        let index = self.live.iter().position(|live| live.number == number)?;
        self.live.remove(index)
    }
}
