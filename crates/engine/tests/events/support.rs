//! A database to listen to, and what is done to it.

use sluice_env::{Env, FaultFs, Fs, Gate, ManualClock, MemFs};
use sluicedb::{
    Ack, Background, ColumnFamily, Db, ErrorKind, Event, EventOptions, EventRecord, Events,
    FlushRequest, Options, Position, Topic, WriteBatch, WriteOptions,
};
use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

/// Long enough that only a wait which never ends reaches it.
pub const NEVER: Duration = Duration::from_secs(30);

pub struct World {
    pub fs: FaultFs,
    pub clock: Arc<ManualClock>,
    pub db: Db,
}

/// A database of small memtables on a disk that can fail. `Stepped` on a clock that stands still.
pub fn world(background: Background) -> World {
    let fs = FaultFs::new(Arc::new(MemFs::new()));
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let mut env = Env::os().with_fs(Arc::new(fs.clone()) as Arc<dyn Fs>);
    if background == Background::Stepped {
        env.clock = Arc::<ManualClock>::clone(&clock);
    }
    let options = Options {
        env,
        background,
        memtable_bytes: 4096,
        memtable_count: 2,
        memory_budget: 1 << 20,
        wal_segment_bytes: 4096,
        wal_max_bytes: 1 << 20,
        wal_sync_interval: Duration::ZERO,
        l0_compaction_trigger: 1000,
        l0_stop: 10_000,
        // A full disk is full.
        reserve_bytes: Some(0),
        ..Options::default()
    };
    World { fs, clock, db: Db::open("/db", options).unwrap() }
}

pub fn to(topics: &[Topic]) -> EventOptions {
    EventOptions { topics: topics.to_vec(), ..EventOptions::default() }
}

pub fn put(db: &Db, cf: &ColumnFamily, key: &[u8], ack: Ack) -> Position {
    let mut batch = WriteBatch::new();
    batch.put(cf, key, b"value");
    db.write(&batch, &WriteOptions { ack, ..WriteOptions::default() }).unwrap()
}

/// Writes until memtables are full.
pub fn fill(db: &Db) {
    let mut batch = WriteBatch::new();
    batch.put(&db.default_cf(), b"key", &[7; 1000]);
    let now = WriteOptions { deadline: Some(Duration::ZERO), ..WriteOptions::default() };
    for count in 0.. {
        assert!(count < 1000, "memtables that are never full");
        if let Err(error) = db.write(&batch, &now) {
            return assert_eq!(error.kind(), ErrorKind::Stalled, "{error}");
        }
    }
}

/// A request that does not wait for room, whatever else is on its way.
pub fn everything() -> FlushRequest {
    FlushRequest { allow_stall: true, ..FlushRequest::default() }
}

pub fn flush(db: &Db) {
    db.flush(everything()).unwrap().wait(Some(NEVER)).unwrap();
}

/// Opens its gate at the end, also when the test fails: or the database would never close.
pub struct Opens<'a>(pub &'a Gate);

impl Drop for Opens<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Everything queued, in the order of the serials.
pub fn queued(events: &Events) -> Vec<Event> {
    let mut last = 0;
    std::iter::from_fn(|| events.try_recv())
        .map(|EventRecord { serial, event, .. }| {
            assert!(serial > last, "{serial} behind {last}: {event}");
            last = serial;
            event
        })
        .collect()
}

pub fn names(events: &[Event]) -> Vec<&'static str> {
    events.iter().map(Event::name).collect()
}

/// Waits for an event of this name, passing over others.
pub fn until(events: &Events, name: &str) -> Event {
    loop {
        let record = events.recv(Some(NEVER)).unwrap_or_else(|e| panic!("no {name}: {e}"));
        if record.event.name() == name {
            return record.event;
        }
    }
}

/// Runs `body` on a thread of its own and fails when it does not end.
pub fn must_end(body: impl FnOnce() + Send + 'static) {
    let (sender, ended) = mpsc::channel::<()>();
    let thread = std::thread::Builder::new().spawn(move || {
        let _ends = sender;
        body();
    });
    assert_eq!(ended.recv_timeout(NEVER), Err(mpsc::RecvTimeoutError::Disconnected), "a deadlock");
    thread.unwrap().join().unwrap();
}
