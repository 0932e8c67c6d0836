//! The log's public face: append, the waits, the marks, and its end.

use std::{fmt, time::Duration};

use sluice_base::{Error, ErrorKind, FileNo, Result, SeqNo};
use sluice_env::{
    JoinHandle,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{
    baton::Baton,
    files::Files,
    frame::{FRAME_HEADER_BYTES, PAYLOAD_BYTES_MAX, frame_bytes},
    header::SEGMENT_HEADER_BYTES,
    lock,
    observer::WalEvent,
    options::WalOptions,
    requests::{Preparing, Queue},
    state::{Buffer, FrameInfo, Lsn, State},
    stats::{SegmentInfo, WalStats},
};

/// A write-ahead log, open for appending. Made by [`Wal::recover`].
///
/// [`Wal::append`] is called by one thread at a time, in sequence order (the engine's commit lock
/// sees to that); everything else by any thread at any time.
pub struct Wal {
    pub(crate) shared: Arc<Shared>,
    /// The background threads, until [`Wal::close`] has waited for them.
    pub(crate) threads: Mutex<Vec<JoinHandle>>,
}

/// What the log's callers and its threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub options: WalOptions,
    pub files: Files,
    pub state: Mutex<State>,
    /// Copies of the marks in `state`, stored under its lock, so that a caller whose goal is
    /// reached takes no lock.
    pub progress: Progress,
    pub write_baton: Baton,
    pub sync_baton: Baton,
    /// The other half of the double buffer; only the leader of a write has it.
    pub scratch: Mutex<Buffer>,
    pub queue: Mutex<Queue>,
    pub queue_wake: Condvar,
    pub preparing: Mutex<Preparing>,
    pub prepare_wake: Condvar,
}

/// How far the log has come, readable without a lock.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub appended: AtomicU64,
    pub written: AtomicU64,
    pub durable: AtomicU64,
    pub written_seq: AtomicU64,
    pub durable_seq: AtomicU64,
    /// Set together with `State::poison`.
    pub poisoned: AtomicBool,
    pub sync_interval_us: AtomicU64,
}

impl Progress {
    /// Copies the marks. Called under the state's lock by whoever moved one.
    pub(crate) fn publish(&self, state: &State) {
        if cfg!(debug_assertions) {
            state.check();
        }
        self.appended.store(state.appended.lsn.0, Ordering::Release);
        self.written_seq.store(state.written.last_seq(), Ordering::Release);
        self.durable_seq.store(state.durable.last_seq(), Ordering::Release);
        self.written.store(state.written.lsn.0, Ordering::Release);
        self.durable.store(state.durable.lsn.0, Ordering::Release);
        self.poisoned.store(state.poison.is_some(), Ordering::Release);
    }
}

impl Wal {
    /// Appends a frame with `payload`, whose CRC32C is `payload_crc` (computed by the caller,
    /// outside its locks), and says up to where the log now reaches. In the common case this
    /// copies and returns; it makes system calls only when the buffer is full or when the next
    /// segment is not ready.
    ///
    /// On an error nothing of the frame is in the log: [`ErrorKind::Invalid`] for a frame that can
    /// never be taken, [`ErrorKind::Closed`], [`ErrorKind::DiskFull`] or [`ErrorKind::Io`] when no
    /// next segment could be made (the log stays usable) or when the log is poisoned.
    #[inline]
    pub fn append(&self, info: FrameInfo, payload: &[u8], payload_crc: u32) -> Result<Lsn> {
        debug_assert_eq!(payload_crc, sluice_base::checksum::crc32c(payload));
        let shared = &*self.shared;
        if payload.len() > PAYLOAD_BYTES_MAX || info.next_seq().is_none() {
            return Err(refused_forever(&info, payload.len()));
        }
        let bytes = frame_bytes(payload.len());
        let mut state = lock(&shared.state);
        loop {
            if state.closed || state.poison.is_some() {
                return Err(state.refusal());
            }
            if info.first_seq < state.appended.next_seq {
                return Err(Error::invalid(format!(
                    "a frame that begins at sequence number {} was appended behind {}",
                    info.first_seq,
                    state.appended.last_seq()
                )));
            }
            let buffered = state.buffer.bytes.len();
            if buffered > 0 && buffered as u64 + bytes > shared.options.buffer_bytes_max as u64 {
                let upto = state.appended.lsn;
                drop(state);
                // Counts as this caller's own wait: nobody else appends meanwhile.
                shared.write_out_buffer(upto)?;
                state = lock(&shared.state);
                continue;
            }
            if state.fits(bytes) {
                break;
            }
            state = shared.rotate(state, bytes)?;
        }
        state.push_data(&info, payload, payload_crc);
        shared.progress.appended.store(state.appended.lsn.0, Ordering::Release);
        if state.unsynced_since_us.is_none() {
            state.unsynced_since_us = Some(shared.files.now_us());
        }
        let (lsn, ask) = (state.appended.lsn, state.wants_spare());
        drop(state);
        if ask {
            shared.ask_for_spare();
        }
        Ok(lsn)
    }

    /// Returns when everything appended up to `upto` was handed to the operating system: it then
    /// survives the death of this process. Concurrent callers share one write.
    pub fn write_out(&self, upto: Lsn) -> Result<()> {
        self.shared.known(upto)?;
        self.shared.write_out(upto)
    }

    /// Returns when everything appended up to `upto` is durable: it then survives the loss of
    /// power. Concurrent callers share one `fdatasync`. Answers `Ok` for what was durable before
    /// the log was poisoned or closed.
    pub fn sync(&self, upto: Lsn) -> Result<()> {
        self.shared.known(upto)?;
        self.shared.sync(upto)
    }

    /// Calls `done` when everything up to `upto` is durable, or with the error that prevents it:
    /// from the log's own thread, or at once from the calling thread when the answer is known
    /// already. No lock of the log is held then, but the caller's own may be: `done` must not take
    /// a lock that callers of this hold, must not block, and must not call [`Wal::close`].
    pub fn request_sync(&self, upto: Lsn, done: Box<dyn FnOnce(Result<()>) + Send>) {
        self.shared.request_sync(upto, done);
    }

    /// Changes how long appended bytes may stay unsynced; zero is "for ever".
    pub fn set_sync_interval(&self, interval: Duration) {
        let us = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
        // Under the queue's lock, so that the thread that is about to wait sees it.
        let _queue = lock(&self.shared.queue);
        self.shared.progress.sync_interval_us.store(us, Ordering::Relaxed);
        self.shared.queue_wake.notify_all();
    }

    /// From the return on, until called with false, no segment is made that takes room on the
    /// device: who needs one is told [`ErrorKind::DiskFull`], and the log stays usable. Released
    /// segments are reused as always.
    pub fn hold_growth(&self, hold: bool) {
        self.shared.files.hold_growth(hold);
    }

    /// Changes the size of the segments made from now on: as [`WalOptions::segment_bytes`], and with
    /// its errors.
    pub fn set_segment_bytes(&self, bytes: u64) -> Result<()> {
        WalOptions { segment_bytes: bytes, ..self.shared.options.clone() }.validate()?;
        if bytes != self.shared.files.segment_bytes() {
            self.shared.files.set_segment_bytes(bytes);
        }
        Ok(())
    }

    /// Ends the active segment and begins the next, so that a later [`Wal::release`] can let go of
    /// all that was appended so far. Does nothing when the active segment has no frame.
    pub fn rotate(&self) -> Result<()> {
        let shared = &*self.shared;
        let state = lock(&shared.state);
        if state.closed || state.poison.is_some() {
            return Err(state.refusal());
        }
        if state.live.back().is_some_and(|active| active.first_seq.is_some()) {
            let state = shared.rotate(state, FRAME_HEADER_BYTES as u64)?;
            shared.progress.publish(&state);
        }
        Ok(())
    }

    /// Up to where was appended.
    pub fn appended_lsn(&self) -> Lsn {
        Lsn(self.shared.progress.appended.load(Ordering::Acquire))
    }

    /// Up to where is durable.
    pub fn durable_lsn(&self) -> Lsn {
        Lsn(self.shared.progress.durable.load(Ordering::Acquire))
    }

    /// The last sequence number appended; zero before the first.
    pub fn appended_seq(&self) -> SeqNo {
        SeqNo(lock(&self.shared.state).appended.last_seq())
    }

    /// The last sequence number that survives the death of this process.
    pub fn written_seq(&self) -> SeqNo {
        SeqNo(self.shared.progress.written_seq.load(Ordering::Acquire))
    }

    /// The last sequence number that survives the loss of power.
    pub fn durable_seq(&self) -> SeqNo {
        SeqNo(self.shared.progress.durable_seq.load(Ordering::Acquire))
    }

    /// Bytes appended and not durable.
    pub fn unsynced_bytes(&self) -> u64 {
        let state = lock(&self.shared.state);
        state.appended.lsn.0 - state.durable.lsn.0
    }

    /// For how many microseconds the oldest unsynced byte has waited, or a little less long;
    /// `None` when everything is durable.
    pub fn oldest_unsynced_us(&self) -> Option<u64> {
        let since = lock(&self.shared.state).unsynced_since_us?;
        Some(self.shared.files.now_us().saturating_sub(since))
    }

    /// The segments held, oldest first; the last one is active.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        lock(&self.shared.state).live.iter().map(|live| live.info()).collect()
    }

    /// Bytes appended to the segments held.
    pub fn total_bytes(&self) -> u64 {
        lock(&self.shared.state).live.iter().map(|live| live.end).sum()
    }

    /// The oldest segment held.
    pub fn first_segment(&self) -> FileNo {
        lock(&self.shared.state).live.front().map_or(FileNo(0), |live| live.number)
    }

    /// Why the log refuses writes, if it does.
    pub fn poisoned(&self) -> Option<Error> {
        lock(&self.shared.state).poison.as_ref().map(|poison| poison.error())
    }

    /// The log's numbers.
    pub fn stats(&self) -> WalStats {
        let frames = lock(&self.shared.state).appended.frames;
        self.shared.files.counters.snapshot(frames)
    }

    /// Writes out and syncs everything, marks the end as clean, ends the threads and answers
    /// every waiter. Appends are refused from the first moment on. Calling it again waits for
    /// nothing and returns `Ok`. Not to be called from a callback of [`Wal::request_sync`].
    pub fn close(&self) -> Result<()> {
        let first = !std::mem::replace(&mut lock(&self.shared.state).closed, true);
        let synced = if first { self.shared.final_sync() } else { Ok(()) };
        self.shared.stop_threads();
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            thread.join();
        }
        // Without threads nobody else answers what is still queued.
        self.shared.serve_requests();
        synced
    }
}

impl Shared {
    /// Seals the active segment and begins the next one, making it first when it is not ready:
    /// the lock is given up for that. `need` is the size of the frame that must fit.
    fn rotate<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        need: u64,
    ) -> Result<MutexGuard<'a, State>> {
        let need = SEGMENT_HEADER_BYTES as u64 + need + FRAME_HEADER_BYTES as u64;
        loop {
            match state.spare.take_if(|spare| spare.capacity >= need) {
                Some(blank) => {
                    self.files.counters.rotations.inc();
                    state.push_seal();
                    state.begin(blank);
                    if state.unsynced_since_us.is_none() {
                        state.unsynced_since_us = Some(self.files.now_us());
                    }
                    return Ok(state);
                }
                None => {
                    drop(state);
                    self.files.counters.rotations_unprepared.inc();
                    let blank = self.files.create(need, false)?;
                    self.tell(blank.made());
                    self.offer_spare(blank);
                    state = lock(&self.state);
                    if state.closed || state.poison.is_some() {
                        return Err(state.refusal());
                    }
                }
            }
        }
    }

    /// Makes `blank` the next segment, unless one that is as large is ready or the log has gone
    /// past its number while it was made; what is left over goes back to the free files.
    pub(crate) fn offer_spare(&self, blank: crate::files::Blank) {
        let mut state = lock(&self.state);
        let late = state.live.back().is_some_and(|active| active.number >= blank.number);
        let ready = state.spare.as_ref().is_some_and(|spare| spare.capacity >= blank.capacity);
        let left = if late || ready { Some(blank) } else { state.spare.replace(blank) };
        state.spare_wanted = false;
        drop(state);
        if let Some(left) = left {
            let names = lock(&self.files.names);
            let gone = self.retire_unused(&left);
            drop(names);
            gone.into_iter().for_each(|event| self.tell(event));
        }
    }

    /// Lets go of a segment that nothing was written to, and gives what is to be told of it. At
    /// worst an empty file stays behind; recovery takes it for what it is.
    pub(crate) fn retire_unused(&self, blank: &crate::files::Blank) -> Option<WalEvent> {
        let kept = self.files.retire(blank.number, blank.capacity, blank.written).ok()?;
        Some(blank.released(kept))
    }

    fn known(&self, upto: Lsn) -> Result<()> {
        let appended = self.progress.appended.load(Ordering::Acquire);
        if upto.0 <= appended {
            return Ok(());
        }
        Err(Error::invalid(format!("log position {} was never appended", upto.0)))
    }

    fn request_sync(&self, upto: Lsn, done: Box<dyn FnOnce(Result<()>) + Send>) {
        let answer = match self.known(upto) {
            Ok(()) => self.sync_reached(upto),
            Err(error) => Some(Err(error)),
        };
        match answer {
            Some(answer) => done(answer),
            None => self.enqueue(upto, done),
        }
    }
}

impl State {
    /// The error for a call that comes when the log takes no more.
    pub(crate) fn refusal(&self) -> Error {
        match &self.poison {
            Some(poison) => poison.error(),
            None => Error::new(ErrorKind::Closed, "the write-ahead log is closed"),
        }
    }

    /// Whether it is time to have the next segment made; true once a segment. An eighth is early
    /// enough that zeroing it has seven eighths of a segment's time, and late enough that a
    /// database opened for a few writes does not pay for a second segment.
    #[inline]
    fn wants_spare(&mut self) -> bool {
        if self.spare_wanted || self.spare.is_some() {
            return false;
        }
        self.spare_wanted =
            self.live.back().is_some_and(|active| active.end >= active.capacity / 8);
        self.spare_wanted
    }
}

#[cold]
fn refused_forever(info: &FrameInfo, len: usize) -> Error {
    if len > PAYLOAD_BYTES_MAX {
        return Error::invalid(format!(
            "a log payload of {len} bytes is above the limit of {PAYLOAD_BYTES_MAX}: split the batch"
        ));
    }
    Error::invalid(format!(
        "sequence numbers {} and the {} behind it are above the limit of {}",
        info.first_seq,
        info.count,
        SeqNo::MAX
    ))
}

impl Drop for Wal {
    fn drop(&mut self) {
        // An owner who wants to hear about a failure closes first.
        drop(self.close());
    }
}

impl fmt::Debug for Wal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wal").field("shared", &self.shared).finish_non_exhaustive()
    }
}
