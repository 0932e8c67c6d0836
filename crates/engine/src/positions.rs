//! Positions: how far each promise reaches, and the waits for one to reach further.
//!
//! ```text
//! visible   what readers see                      commit/ring.rs
//! durable   survives a power cut                  the log's synced mark, below the first entry
//!                                                 that is in no log; or tables, where further
//! flushed   in tables, in every family            below the oldest entry of any memtable
//! ```
//!
//! None of the waits here starts a flush; [`Db::wait_durable`] asks for a sync of the log. A wait
//! for the flushed position ends with a turn of the room (`room.rs`): every install, every failed
//! flush and the close end one.

use crate::{
    ColumnFamily, Db, Position, Result, commit::CommitState, commit::Unlogged, core::Core, flush,
    options::Background,
};
use sluice_base::{Error, ErrorKind, SeqNo};
use sluice_env::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

/// How far each promise reaches, at one moment.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # use sluicedb::{Db, Options};
/// let db = Db::open(dir.path(), Options::default())?;
/// let written = db.put(&db.default_cf(), b"key", b"value")?;
/// assert_eq!(db.positions().visible, written);
/// assert!(db.sync()? >= written && db.positions().durable >= written);
/// # Ok::<(), sluicedb::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Positions {
    /// What readers see.
    pub visible: Position,
    /// What survives a power cut, through the log or through tables.
    pub durable: Position,
    /// What tables cover, in every column family.
    pub flushed: Position,
}

impl Positions {
    fn of(core: &Core) -> Positions {
        // Before the look at what is unlogged: of two writes behind that look, one unlogged and a
        // later one logged and synced, the first would count as durable.
        let logged = core.wal.durable_seq();
        let (flushed, unlogged) = {
            let state = core.commit.lock();
            (SeqNo(flush::oldest_unflushed(core, &state).0 - 1), unlogged(core, &state))
        };
        // What is in no log is durable through tables only, and a position promises everything
        // before it.
        let reach = unlogged.map_or(logged, |unlogged| logged.min(SeqNo(unlogged.first.0 - 1)));
        Positions {
            visible: core.position(core.ring.visible()),
            durable: core.position(flushed.max(reach)),
            flushed: core.position(flushed),
        }
    }
}

/// What is in no log and not yet in tables.
pub(crate) fn unlogged(core: &Core, state: &CommitState) -> Option<Unlogged> {
    state.unlogged.into_iter().chain(core.flushes.unlogged()).reduce(Unlogged::and)
}

impl Db {
    /// How far each promise reaches.
    pub fn positions(&self) -> Positions {
        Positions::of(self.core())
    }

    /// How far the tables of one column family reach: every entry of the family at or below it is
    /// in one. At least [`Positions::flushed`].
    ///
    /// # Errors
    /// `NotFound` for a dropped family; `Invalid` for one of another `Db`.
    pub fn flushed(&self, cf: &ColumnFamily) -> Result<Position> {
        let core = self.core();
        core.check_family(cf)?;
        let state = core.commit.lock();
        let gone = || Error::new(ErrorKind::NotFound, format!("'{}' has been dropped", cf.name()));
        let first = {
            let read_state = core.read_state.load();
            let family = read_state.cf(cf.slot()).ok_or_else(gone)?;
            let active = state.accounts.get(cf.slot()).and_then(|a| a.as_ref()?.first);
            family.sealed.iter().map(|sealed| sealed.first).chain(active).min()
        };
        Ok(core.position(first.map_or(state.last(), |first| SeqNo(first.0 - 1))))
    }

    /// Waits until everything up to `position` survives a power cut, at most `deadline`; `None`:
    /// without limit. Asks for a sync of the log where the log covers it; what was written without
    /// a log is waited for until a flush, which this does not start.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # use sluicedb::{Db, Options};
    /// use std::time::Duration;
    /// let db = Db::open(dir.path(), Options::default())?;
    /// let written = db.put(&db.default_cf(), b"key", b"value")?;
    /// db.wait_durable(written, Some(Duration::from_secs(10)))?;
    /// assert!(db.positions().durable >= written);
    /// # Ok::<(), sluicedb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `TimedOut` at the deadline; `Invalid` for a position that nobody has written yet; `Closed`;
    /// what keeps the log from being synced.
    pub fn wait_durable(&self, position: Position, deadline: Option<Duration>) -> Result<()> {
        let core = self.core();
        check(core, position)?;
        let mut wait = Wait::new(core, deadline, "durable");
        loop {
            let turn = core.room.turn();
            let durable = Positions::of(core).durable.seq;
            if durable >= position.seq {
                return Ok(());
            }
            let (lsn, unlogged) = {
                let state = core.commit.lock();
                core.check_open(&state)?;
                (state.lsn, unlogged(core, &state))
            };
            if unlogged.is_some_and(|unlogged| unlogged.first <= position.seq) {
                wait.turn(turn)?;
            } else if core.options.background == Background::Stepped {
                // Everything before `position` is in the log up to `lsn`, or in tables.
                return core.wal.sync(lsn);
            } else {
                let (done, outcome) = mpsc::sync_channel(1);
                // Nobody may listen any more: the deadline has passed.
                core.wal.request_sync(lsn, Box::new(move |result| drop(done.try_send(result))));
                let limit = wait.left()?.unwrap_or(Duration::MAX);
                match outcome.recv_timeout(limit) {
                    Ok(result) => return result,
                    Err(_) => return Err(wait.timed_out()),
                }
            }
        }
    }

    /// Waits until everything up to `position` is in tables, in every column family, at most
    /// `deadline`; `None`: without limit. Starts no flush: that is [`Db::flush`]'s business.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # use sluicedb::{Db, ErrorKind, FlushRequest, Options};
    /// use std::time::Duration;
    /// let db = Db::open(dir.path(), Options::default())?;
    /// let written = db.put(&db.default_cf(), b"key", b"value")?;
    /// let early = db.wait_flushed(written, Some(Duration::ZERO)).unwrap_err();
    /// assert_eq!(early.kind(), ErrorKind::TimedOut);
    /// db.flush(FlushRequest::default())?;
    /// db.wait_flushed(written, None)?;
    /// # Ok::<(), sluicedb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `TimedOut` at the deadline; `Invalid` for a position that nobody has written yet; `Closed`.
    pub fn wait_flushed(&self, position: Position, deadline: Option<Duration>) -> Result<()> {
        let core = self.core();
        check(core, position)?;
        let mut wait = Wait::new(core, deadline, "flushed");
        loop {
            let turn = core.room.turn();
            if flushed_seq(core)? >= position.seq {
                return Ok(());
            }
            wait.turn(turn)?;
        }
    }

    /// Runs `callback` once everything up to `position` is in tables, on the thread that brought
    /// it there; at once when it is. With an error when the database closes before.
    pub fn on_flushed(
        &self,
        position: Position,
        callback: Box<dyn FnOnce(Result<Position>) + Send>,
    ) {
        let core = self.core();
        if let Err(error) = check(core, position) {
            return callback(Err(error));
        }
        core.flush_watch.add(position, callback);
        // It may be there by now, and nobody else would look.
        core.flush_watch.look(core);
    }
}

fn check(core: &Core, position: Position) -> Result<()> {
    if position.seq <= core.ring.visible() && position.epoch <= core.epoch {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "position {position} is ahead of {}, the last one written: wait for a position that a \
         write has returned",
        core.position(core.ring.visible())
    )))
}

/// The flushed position of an open database.
fn flushed_seq(core: &Core) -> Result<SeqNo> {
    let state = core.commit.lock();
    core.check_open(&state)?;
    Ok(SeqNo(flush::oldest_unflushed(core, &state).0 - 1))
}

/// One caller's wait, turn by turn.
struct Wait<'a> {
    core: &'a Arc<Core>,
    started_us: u64,
    deadline: Option<Duration>,
    what: &'static str,
}

impl<'a> Wait<'a> {
    fn new(core: &'a Arc<Core>, deadline: Option<Duration>, what: &'static str) -> Wait<'a> {
        Wait { core, started_us: core.env.clock.monotonic_us(), deadline, what }
    }

    fn timed_out(&self) -> Error {
        Error::new(
            ErrorKind::TimedOut,
            format!("the position was not {} within the deadline", self.what),
        )
    }

    /// What is left of the deadline.
    fn left(&self) -> Result<Option<Duration>> {
        let Some(deadline) = self.deadline else { return Ok(None) };
        let waited = self.core.env.clock.monotonic_us().saturating_sub(self.started_us);
        match deadline.checked_sub(Duration::from_micros(waited)) {
            Some(left) if left > Duration::ZERO => Ok(Some(left)),
            _ => Err(self.timed_out()),
        }
    }

    /// Waits for the end of `turn`.
    fn turn(&mut self, turn: u64) -> Result<()> {
        let left = self.left()?;
        if self.core.options.background == Background::Stepped {
            // Nobody else takes a step.
            return if self.core.step() { Ok(()) } else { Err(self.timed_out()) };
        }
        self.core.room.wait(turn, left);
        Ok(())
    }
}

type Callback = Box<dyn FnOnce(Result<Position>) + Send>;

/// Most callbacks that wait at once: each is a caller's, and more of them than connections a
/// process can have is a leak.
const WATCHERS_MAX: usize = 1 << 20;

/// Who is to be told when the flushed position reaches theirs.
#[derive(Default)]
pub(crate) struct FlushWatch(Mutex<Vec<(Position, Callback)>>);

impl std::fmt::Debug for FlushWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FlushWatch")
    }
}

impl FlushWatch {
    fn lock(&self) -> MutexGuard<'_, Vec<(Position, Callback)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, position: Position, callback: Callback) {
        {
            let mut waiting = self.lock();
            if waiting.len() < WATCHERS_MAX {
                waiting.push((position, callback));
                return;
            }
        }
        callback(Err(Error::invalid("too many callbacks wait for the flushed position")));
    }

    /// Answers everyone whose position is reached, or whose database is closed. Called with no
    /// lock held.
    pub(crate) fn look(&self, core: &Core) {
        if self.lock().is_empty() {
            return;
        }
        let flushed = flushed_seq(core);
        let ready = {
            let mut waiting = self.lock();
            let is_ready = |position: &Position| match &flushed {
                Ok(flushed) => position.seq <= *flushed,
                Err(_) => true,
            };
            let (ready, rest) =
                std::mem::take(&mut *waiting).into_iter().partition(|(p, _)| is_ready(p));
            *waiting = rest;
            let ready: Vec<(Position, Callback)> = ready;
            ready
        };
        for (position, callback) in ready {
            callback(match &flushed {
                Ok(_) => Ok(position),
                Err(error) => Err(error.duplicate()),
            });
        }
    }
}
