//! Going on after a failed write or sync.
//!
//! What a failed `fdatasync` left on disk is unknown, so nothing behind the durable mark is kept:
//! the segment that holds the mark is cut there, younger ones are removed, and the log begins a
//! new segment. That loses nothing, because the owner has to have every entry in tables first,
//! and says so with the sequence number it passes.

use sluice_base::{Error, ErrorKind, FileNo, Result, SeqNo};

use crate::{
    lock,
    log::{Shared, Wal},
    observer::WalEvent,
    state::Buffer,
};

impl Wal {
    /// Takes the log out of its poisoned state. `flushed` is the last sequence number up to which
    /// tables durably hold everything; it must cover all that was appended, and the log refuses
    /// with [`sluice_base::ErrorKind::Invalid`] when it does not. After an error the log stays
    /// poisoned, and this may be called again. Does nothing to a log that is not poisoned.
    pub fn heal(&self, flushed: SeqNo) -> Result<()> {
        self.heal_noting(flushed, &mut |_| Ok(()))
    }

    /// As [`Wal::heal`]. `note` gets the number of the new segment once its file is durable and
    /// before older ones are removed: the owner records that recovery needs nothing before it. An
    /// error from it ends the attempt with nothing lost. It must not call the log.
    pub fn heal_noting(
        &self,
        flushed: SeqNo,
        note: &mut dyn FnMut(FileNo) -> Result<()>,
    ) -> Result<()> {
        self.shared.heal(flushed, note)
    }
}

/// What healing does to the files.
struct Plan {
    /// The segment to cut, and where; nothing when the durable mark is at a segment's start.
    cut: Option<(FileNo, u64)>,
    /// Segments without a durable byte, youngest first.
    remove: Vec<FileNo>,
}

impl Shared {
    fn heal(&self, flushed: SeqNo, note: &mut dyn FnMut(FileNo) -> Result<()>) -> Result<()> {
        let mut events = Vec::new();
        let outcome = self.heal_telling(flushed, note, &mut events);
        // What was done before an error was done all the same.
        events.into_iter().for_each(|event| self.tell(event));
        outcome
    }

    /// Notes in `events` what is to be told once the locks are let go of.
    fn heal_telling(
        &self,
        flushed: SeqNo,
        note: &mut dyn FnMut(FileNo) -> Result<()>,
        events: &mut Vec<WalEvent>,
    ) -> Result<()> {
        // No rename, sync or write is under way while these are held; appends are refused.
        let _names = lock(&self.files.names);
        let _syncs = self.sync_baton.take();
        let _writes = self.write_baton.take();
        let Some(plan) = self.plan(flushed)? else { return Ok(()) };
        // Made first: when the disk is still full, nothing else has to be touched.
        let spare = lock(&self.state).spare.take();
        let blank = match spare {
            Some(spare) => spare,
            None => {
                let made = self.files.create(self.files.segment_bytes(), false)?;
                events.push(made.made());
                made
            }
        };
        if let Err(error) = note(blank.number) {
            sluice_env::probe!("wal: the note of a healed log failed");
            // The note may be durable nevertheless: recovery then takes the empty file for the
            // log's beginning, so it stays, and is what the next attempt takes. A spare that came
            // meanwhile has a larger number, and goes.
            let late = lock(&self.state).spare.replace(blank);
            events.extend(late.and_then(|late| self.retire_unused(&late)));
            return Err(error);
        }
        for &number in &plan.remove {
            sluice_env::probe!("wal: healing removed a segment");
            events.extend(self.remove(number)?);
        }
        if let Some((number, offset)) = plan.cut {
            sluice_env::probe!("wal: healing cut a segment");
            events.extend(self.cut(number, offset)?);
        }
        let mut state = lock(&self.state);
        state.buffer = Buffer::default();
        if let Some((number, offset)) = plan.cut
            && let Some(live) = state.live.iter_mut().find(|live| live.number == number)
        {
            (live.end, live.capacity, live.file) = (offset, offset, None);
        }
        // Older than the segment about to begin: no use any more.
        let late = state.spare.take_if(|spare| spare.number < blank.number);
        state.begin(blank);
        state.settle();
        state.poison = None;
        self.progress.publish(&state);
        drop(state);
        events.extend(late.and_then(|late| self.retire_unused(&late)));
        Ok(())
    }

    /// `None` when there is nothing to heal.
    fn plan(&self, flushed: SeqNo) -> Result<Option<Plan>> {
        let state = lock(&self.state);
        if state.poison.is_none() {
            return Ok(None);
        }
        if state.closed {
            return Err(Error::new(ErrorKind::Closed, "the write-ahead log is closed"));
        }
        if flushed.0 < state.appended.last_seq() {
            return Err(Error::invalid(format!(
                "healing the log gives up its unsynced frames, and tables hold entries up to {flushed} \
                 only, not up to {}: flush first",
                state.appended.last_seq()
            )));
        }
        let unsure = state.live.iter().filter(|live| live.durable < live.end);
        let mut plan = Plan { cut: None, remove: Vec::new() };
        for live in unsure {
            if live.durable > 0 {
                plan.cut = Some((live.number, live.durable));
            } else {
                plan.remove.insert(0, live.number);
            }
        }
        Ok(Some(plan))
    }

    fn remove(&self, number: FileNo) -> Result<Option<WalEvent>> {
        let what = |e| Error::io(format!("remove wal segment {number}"), e);
        match self.files.env.fs.remove_file(&self.files.path(number)) {
            // Gone since an earlier attempt whose directory sync failed.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            result => result.map_err(what)?,
        }
        self.files.sync_dir()?;
        Ok(lock(&self.state).forget(number).map(|live| live.released(false)))
    }

    fn cut(&self, number: FileNo, offset: u64) -> Result<Option<WalEvent>> {
        let what = |e| Error::io(format!("cut wal segment {number} at offset {offset}"), e);
        let path = self.files.path(number);
        let file = match self.files.env.fs.open(&path, sluice_env::OpenMode::ReadWrite) {
            // Let go of by a release whose directory sync failed: nothing is left to cut.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                sluice_env::probe!("wal: healing found its segment released");
                self.files.sync_dir()?;
                return Ok(lock(&self.state).forget(number).map(|live| live.released(false)));
            }
            file => file.map_err(what)?,
        };
        file.set_len(offset).map_err(what)?;
        file.sync_data().map_err(what)?;
        Ok(None)
    }
}
