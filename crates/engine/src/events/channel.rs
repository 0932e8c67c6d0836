//! [`Events`]: one subscriber's queue, and the ways to wait for it.

use super::{
    EventRecord, Hub, Topic,
    runner::{self, Callback},
};
use crate::Result;
use sluice_base::{Error, ErrorKind};
use sluice_env::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::{collections::VecDeque, fmt, time::Duration};

/// Most events that a subscriber can ask to have kept for it: each takes a few hundred bytes.
const CAPACITY_MAX: usize = 1 << 20;

/// What a subscriber hears about, and how much of it is kept while it does not listen.
///
/// ```
/// use sluicedb::{EventOptions, Topic};
/// // Not drowned by syncs of the log.
/// let options = EventOptions { topics: vec![Topic::Error, Topic::Stall], ..Default::default() };
/// assert_eq!(options.capacity, 1024);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventOptions {
    /// Events that wait to be taken at most, from 1 to 1,048,576 (other values are brought into
    /// this range). When so many wait, new ones are dropped and counted. Default: 1024.
    pub capacity: usize,
    /// The topics; empty means all of them. Default: all.
    pub topics: Vec<Topic>,
}

impl Default for EventOptions {
    fn default() -> EventOptions {
        EventOptions { capacity: 1024, topics: Vec::new() }
    }
}

#[derive(Default)]
struct State {
    queue: VecDeque<Arc<EventRecord>>,
    /// Waiting for the first event or the end; empty whenever there is one of them.
    callbacks: Vec<Callback>,
    dropped: u64,
    closed: bool,
}

/// The queue between the engine and one subscriber.
pub(super) struct Channel {
    /// Bits of the topics wanted.
    pub topics: u32,
    capacity: usize,
    state: Mutex<State>,
    ready: Condvar,
}

impl Channel {
    pub(super) fn new(options: &EventOptions) -> Channel {
        let topics = if options.topics.is_empty() { &Topic::ALL[..] } else { &options.topics };
        Channel {
            topics: topics.iter().fold(0, |set, topic| set | topic.bit()),
            capacity: options.capacity.clamp(1, CAPACITY_MAX),
            state: Mutex::default(),
            ready: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues the event, or drops it. Gives the callbacks that waited for it, to be staged.
    pub(super) fn push(&self, record: &Arc<EventRecord>) -> Vec<Callback> {
        let mut state = self.state();
        if state.queue.len() >= self.capacity {
            state.dropped += 1;
            return Vec::new();
        }
        state.queue.push_back(Arc::clone(record));
        let callbacks = std::mem::take(&mut state.callbacks);
        drop(state);
        self.ready.notify_one();
        callbacks
    }

    /// Nothing comes any more. Gives the callbacks that waited, to be staged.
    pub(super) fn close(&self) -> Vec<Callback> {
        let mut state = self.state();
        state.closed = true;
        let callbacks = std::mem::take(&mut state.callbacks);
        drop(state);
        self.ready.notify_all();
        callbacks
    }
}

/// A subscription: events in the order they happened, from [`crate::Db::subscribe`] on. Dropping
/// it ends it. Can be shared between threads; each event goes to one of them.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # use sluicedb::{Db, ErrorKind, FlushRequest, Options};
/// use sluicedb::{Event, EventOptions, Topic};
/// let db = Db::open(dir.path(), Options::default())?;
/// let events = db.subscribe(EventOptions { topics: vec![Topic::Flush], ..Default::default() });
/// db.put(&db.default_cf(), b"key", b"value")?;
/// db.flush(FlushRequest::default())?.wait(None)?;
/// db.close(false)?;
/// // What was queued before the close is still there.
/// let names: Vec<_> = events.iter().map(|record| record.event.name()).collect();
/// assert_eq!(names, ["memtable-sealed", "flush-begin", "flush-end"]);
/// assert_eq!(events.recv(None).unwrap_err().kind(), ErrorKind::Closed);
/// assert_eq!(events.dropped(), 0);
/// # Ok::<(), sluicedb::Error>(())
/// ```
pub struct Events {
    pub(super) hub: Arc<Hub>,
    pub(super) channel: Arc<Channel>,
}

impl Events {
    /// The next event, waiting for it at most `deadline`; `None`: without limit.
    ///
    /// # Errors
    /// `TimedOut` at the deadline; `Closed` when the database is closed and every event that came
    /// before has been taken.
    pub fn recv(&self, deadline: Option<Duration>) -> Result<EventRecord> {
        let idle = |state: &mut State| state.queue.is_empty() && !state.closed;
        let state = self.channel.state();
        let ready = &self.channel.ready;
        let mut state = match deadline {
            None => ready.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                let waited = ready.wait_timeout_while(state, limit, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        match state.queue.pop_front() {
            Some(record) => {
                drop(state);
                Ok(Arc::unwrap_or_clone(record))
            }
            None if state.closed => Err(Error::new(
                ErrorKind::Closed,
                "the database is closed: no event comes any more",
            )),
            None => Err(Error::new(ErrorKind::TimedOut, "no event came within the deadline")),
        }
    }

    /// The next event, if there is one now.
    pub fn try_recv(&self) -> Option<EventRecord> {
        let record = self.channel.state().queue.pop_front()?;
        Some(Arc::unwrap_or_clone(record))
    }

    /// Takes events and waits for more until the database is closed.
    pub fn iter(&self) -> EventIter<'_> {
        EventIter(self)
    }

    /// Events dropped so far because the channel was full. The queue then holds the older ones, so
    /// what was lost is what came after them.
    pub fn dropped(&self) -> u64 {
        self.channel.state().dropped
    }

    /// Runs `callback` once, when there is an event or the database is closed: at once, on this
    /// thread, where that is so already, and otherwise on a thread of the engine that does nothing
    /// else (with [`crate::Background::Stepped`], in [`crate::Db::step`]). No lock of the engine
    /// is held then, so the callback may call the database, also to wait for a flush. Callbacks of
    /// all subscribers share the thread: one that takes long delays the others, and the close.
    ///
    /// Take everything with [`Events::try_recv`] before asking for the next call.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # use sluicedb::{Db, EventOptions, FlushRequest, Options};
    /// use std::sync::mpsc;
    /// let db = Db::open(dir.path(), Options::default())?;
    /// let events = db.subscribe(EventOptions::default());
    /// let (wake, woken) = mpsc::channel();
    /// events.on_ready(move || drop(wake.send(())))?;
    /// db.put(&db.default_cf(), b"key", b"value")?;
    /// db.flush(FlushRequest::default())?;
    /// woken.recv().unwrap();
    /// assert!(events.try_recv().is_some());
    /// # Ok::<(), sluicedb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Io` when the thread cannot be started; the callback is dropped then.
    pub fn on_ready(&self, callback: impl FnOnce() + Send + 'static) -> Result<()> {
        self.hub.prepare_callbacks()?;
        {
            let mut state = self.channel.state();
            if state.queue.is_empty() && !state.closed {
                state.callbacks.push(Box::new(callback));
                return Ok(());
            }
        }
        runner::run(vec![Box::new(callback)]);
        Ok(())
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.hub.unsubscribe(&self.channel);
        // What callbacks hold is dropped without the lock: that is code of the caller too.
        let callbacks = std::mem::take(&mut self.channel.state().callbacks);
        drop(callbacks);
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.channel.state();
        f.debug_struct("Events")
            .field("queued", &state.queue.len())
            .field("dropped", &state.dropped)
            .field("closed", &state.closed)
            .finish_non_exhaustive()
    }
}

/// Takes events until the database is closed: [`Events::iter`].
#[derive(Debug)]
pub struct EventIter<'a>(&'a Events);

impl Iterator for EventIter<'_> {
    type Item = EventRecord;

    fn next(&mut self) -> Option<EventRecord> {
        self.0.recv(None).ok()
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = EventRecord;
    type IntoIter = EventIter<'a>;

    fn into_iter(self) -> EventIter<'a> {
        self.iter()
    }
}
