//! Out of the buffer: write-out, group sync, and the poison when either fails.
//!
//! A write-out takes the whole buffer, leaves an empty one in its place (appends go on into that)
//! and writes it, usually with one `pwrite`. Behind the last frame it writes 32 zeros, so that the
//! log ends in a clean end even in a recycled segment full of stale bytes; the next write-out
//! begins where the zeros do.
//!
//! A sync writes out, then syncs every segment that has unsynced bytes, **oldest first**, and only
//! then moves the durable mark. So a byte that counts as durable has nothing before it that is
//! not; recovery relies on this when it takes a durable byte in a newer segment as proof that a
//! bad place in an older one is damage.

use std::cell::Cell;

use sluice_base::{Error, FileNo, Result, SeqNo};
use sluice_env::{
    File,
    sync::{Arc, atomic::Ordering},
};

use crate::{
    frame::FRAME_HEADER_BYTES,
    lock,
    log::Shared,
    observer::WalEvent,
    poison::Poison,
    state::{Buffer, Lsn, Mark},
};

/// What a sync has to do in one segment.
struct Target {
    number: FileNo,
    file: Arc<dyn File>,
    /// Bytes of the segment that are durable afterwards.
    upto: u64,
}

impl Shared {
    pub(crate) fn write_out(&self, upto: Lsn) -> Result<()> {
        self.write_baton.until(|| self.written_reached(upto), || self.lead_write())
    }

    /// Write-out because the buffer is full: the mark may be there already (a header alone counts
    /// as written) while bytes wait.
    pub(crate) fn write_out_buffer(&self, upto: Lsn) -> Result<()> {
        self.write_out(upto)?;
        if lock(&self.state).buffer.bytes.is_empty() {
            return Ok(());
        }
        let _lead = self.write_baton.take();
        self.lead_write()
    }

    pub(crate) fn sync(&self, upto: Lsn) -> Result<()> {
        let round = Cell::new(None);
        let lead = || self.lead_sync().map(|done| round.set(Some(done)));
        let outcome = self.sync_baton.until(|| self.sync_reached(upto), lead);
        // Only now the baton is put down.
        if let Some(done) = round.take() {
            self.tell(done);
        }
        outcome
    }

    fn written_reached(&self, upto: Lsn) -> Option<Result<()>> {
        self.reached(self.progress.written.load(Ordering::Acquire), upto)
    }

    pub(crate) fn sync_reached(&self, upto: Lsn) -> Option<Result<()>> {
        self.reached(self.progress.durable.load(Ordering::Acquire), upto)
    }

    /// `Ok` for what was done, also after the log was poisoned: that answer stays true.
    fn reached(&self, mark: u64, upto: Lsn) -> Option<Result<()>> {
        if mark >= upto.0 {
            return Some(Ok(()));
        }
        if !self.progress.poisoned.load(Ordering::Acquire) {
            return None;
        }
        lock(&self.state).poison.as_ref().map(|poison| Err(poison.error()))
    }

    /// Writes the buffer out. The caller holds the write baton.
    fn lead_write(&self) -> Result<()> {
        let mut scratch = lock(&self.scratch);
        let (mark, open) = {
            let mut state = lock(&self.state);
            if let Some(poison) = &state.poison {
                return Err(poison.error());
            }
            std::mem::swap(&mut state.buffer, &mut *scratch);
            // The last chunk is always the active segment's.
            (state.appended, state.live.back().is_some_and(|active| !active.sealed))
        };
        let written = self.write_chunks(&mut scratch, open);
        scratch.bytes.clear();
        scratch.chunks.clear();
        // One huge batch must not keep its memory for ever.
        scratch.bytes.shrink_to(self.options.buffer_bytes_max);
        drop(scratch);
        written.map_err(|error| self.poison(error))?;
        let mut state = lock(&self.state);
        state.written = mark;
        self.progress.publish(&state);
        Ok(())
    }

    fn write_chunks(&self, out: &mut Buffer, open: bool) -> Result<()> {
        if open {
            // An open segment always has room for its seal, which is as large as these zeros.
            out.bytes.resize(out.bytes.len() + FRAME_HEADER_BYTES, 0);
        }
        for (index, chunk) in out.chunks.iter().enumerate() {
            let end = out.chunks.get(index + 1).map_or(out.bytes.len(), |next| next.start);
            let bytes = out.bytes.get(chunk.start..end).unwrap_or_default();
            chunk
                .file
                .write_all_at(bytes, chunk.offset)
                .map_err(|e| Error::io(format!("write wal segment {}", chunk.number), e))?;
            self.files.counters.writes.inc();
            self.files.counters.bytes_written.add(bytes.len() as u64);
        }
        Ok(())
    }

    /// Makes everything appended so far durable, and gives what is to be told of it. The caller
    /// holds the sync baton.
    fn lead_sync(&self) -> Result<WalEvent> {
        let started_us = self.files.now_us();
        let upto = Lsn(self.progress.appended.load(Ordering::Acquire));
        self.write_out(upto)?;
        let (targets, mark, before) = self.sync_targets();
        for target in &targets {
            let from_us = self.files.now_us();
            target.file.sync_data().map_err(|e| {
                self.poison(Error::io(format!("sync wal segment {}", target.number), e))
            })?;
            self.files.counters.sync_us.record(self.files.now_us().saturating_sub(from_us));
        }
        self.files.counters.group_frames.record(mark.frames - before.frames);
        let mut state = lock(&self.state);
        for live in &mut state.live {
            if let Some(target) = targets.iter().find(|target| target.number == live.number) {
                live.durable = target.upto;
                if live.sealed && live.durable == live.end {
                    live.file = None; // nothing is left to do with it
                }
            }
        }
        state.durable = mark;
        // Bytes behind the mark came after this round began.
        state.unsynced_since_us = (state.appended.lsn > mark.lsn).then_some(started_us);
        self.progress.publish(&state);
        drop(state);
        Ok(WalEvent::Synced {
            up_to: SeqNo(mark.last_seq()),
            bytes: mark.lsn.0 - before.lsn.0,
            frames: mark.frames - before.frames,
            took_us: self.files.now_us().saturating_sub(started_us),
        })
    }

    /// Which segments must be synced, oldest first, for everything written to be durable; up to
    /// where the log is durable then, and was so far.
    fn sync_targets(&self) -> (Vec<Target>, Mark, Mark) {
        let state = lock(&self.state);
        let mut targets = Vec::new();
        for live in &state.live {
            let upto = state.written.lsn.0.saturating_sub(live.base).min(live.end);
            if let Some(file) = live.file.as_ref().filter(|_| upto > live.durable) {
                targets.push(Target { number: live.number, file: file.clone(), upto });
            }
        }
        (targets, state.written, state.durable)
    }

    /// Makes the log refuse everything from here on, and returns the error that says so. The
    /// first cause is kept.
    fn poison(&self, cause: Error) -> Error {
        let since_unix_ms = self.files.env.clock.unix_ms();
        self.files.counters.failures.inc();
        let mut state = lock(&self.state);
        let poison = state.poison.get_or_insert_with(|| Poison::new(cause, since_unix_ms));
        let error = poison.error();
        self.progress.publish(&state);
        error
    }

    /// The syncs of a clean end: everything, then a seal that says so.
    pub(crate) fn final_sync(&self) -> Result<()> {
        let appended = || Lsn(self.progress.appended.load(Ordering::Acquire));
        if lock(&self.state).live.back().is_none_or(|active| active.first_seq.is_none()) {
            // Nothing in the active segment: its header may never have been written. But the
            // segment before it may still wait for its sync.
            return self.sync(appended());
        }
        self.sync(appended())?;
        {
            let mut state = lock(&self.state);
            state.push_seal();
            self.progress.publish(&state);
        }
        self.sync(appended())
    }
}
