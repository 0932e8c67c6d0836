//! [`Hub`]: who subscribes, and how an event gets to them. See the module's head.

use super::{
    Event, EventOptions, EventRecord, Events, Topic, channel::Channel, runner::Runner,
    stalls::Standing,
};
use crate::{Background, Options, Result};
use sluice_base::{Position, SeqNo};
use sluice_env::{
    Env,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};
use sluice_wal::{WalEvent, WalObserver};
use std::{fmt, time::Duration};

#[derive(Default)]
struct Subscribers {
    channels: Vec<Arc<Channel>>,
    /// The number of the last event.
    serial: u64,
    closed: bool,
}

/// The part of the core that takes events and hands them to subscribers.
pub(crate) struct Hub {
    /// Bits of the topics that somebody wants. Changed under the subscribers' lock; read without
    /// order, because who subscribes and who does something afterwards meet at some lock anyway.
    wanted: AtomicU32,
    subscribers: Mutex<Subscribers>,
    runner: Runner,
    /// Causes that writes wait for now.
    pub(super) stalls: Mutex<Vec<Standing>>,
    /// Monotonic microseconds before which no delayed write is reported.
    pub(super) delays_not_before_us: AtomicU64,
    pub(super) env: Env,
    background: Background,
    epoch: u64,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hub")
    }
}

impl Hub {
    pub(crate) fn new(options: &Options, epoch: u64) -> Arc<Hub> {
        Arc::new(Hub {
            wanted: AtomicU32::new(0),
            subscribers: Mutex::default(),
            runner: Runner::default(),
            stalls: Mutex::default(),
            delays_not_before_us: AtomicU64::new(0),
            env: options.env.clone(),
            background: options.background,
            epoch,
        })
    }

    fn subscribers(&self) -> MutexGuard<'_, Subscribers> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn position(&self, seq: SeqNo) -> Position {
        Position { epoch: self.epoch, seq }
    }

    /// Whether anybody wants events about `topic`.
    #[inline]
    pub(super) fn wants(&self, topic: Topic) -> bool {
        self.wanted.load(Ordering::Relaxed) & topic.bit() != 0
    }

    /// Tells the subscribers to `topic` of what `event` makes. Any lock of the engine may be held.
    #[inline]
    pub(super) fn emit(&self, topic: Topic, event: impl FnOnce() -> Event) {
        if self.wants(topic) {
            self.publish(topic, event());
        }
    }

    #[cold]
    fn publish(&self, topic: Topic, event: Event) {
        debug_assert_eq!(topic, event.topic());
        let mut subscribers = self.subscribers();
        subscribers.serial += 1;
        let record = Arc::new(EventRecord {
            serial: subscribers.serial,
            at_unix_ms: self.env.clock.unix_ms(),
            event,
        });
        for channel in subscribers.channels.iter().filter(|c| c.topics & topic.bit() != 0) {
            // Under the lock, so that a close finds nothing that is neither here nor there.
            self.runner.stage(channel.push(&record));
        }
    }

    /// A new subscriber; one of a closed database finds its end at once.
    pub(crate) fn subscribe(self: &Arc<Self>, options: &EventOptions) -> Events {
        let channel = Arc::new(Channel::new(options));
        let mut subscribers = self.subscribers();
        if subscribers.closed {
            channel.close();
        } else {
            subscribers.channels.push(Arc::clone(&channel));
            self.count_wanted(&subscribers);
        }
        drop(subscribers);
        Events { hub: Arc::clone(self), channel }
    }

    pub(super) fn unsubscribe(&self, channel: &Arc<Channel>) {
        let mut subscribers = self.subscribers();
        subscribers.channels.retain(|other| !Arc::ptr_eq(other, channel));
        self.count_wanted(&subscribers);
    }

    fn count_wanted(&self, subscribers: &Subscribers) {
        let wanted = subscribers.channels.iter().fold(0, |set, channel| set | channel.topics);
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    /// Makes sure that somebody will run callbacks.
    pub(super) fn prepare_callbacks(&self) -> Result<()> {
        match self.background {
            Background::Threads => self.runner.start(&*self.env.threads),
            Background::Stepped => Ok(()),
        }
    }

    /// Where there are no threads: runs the callbacks that are due; false when there are none.
    /// The caller holds no lock of the engine.
    pub(crate) fn step(&self) -> bool {
        self.background == Background::Stepped && self.runner.run_staged()
    }

    /// Ends every subscription, and returns when their callbacks have been run. The caller holds no
    /// lock of the engine, and nothing that happens later is told to anybody.
    pub(crate) fn close(&self) {
        {
            let mut subscribers = self.subscribers();
            subscribers.closed = true;
            for channel in std::mem::take(&mut subscribers.channels) {
                self.runner.stage(channel.close());
            }
            self.count_wanted(&subscribers);
        }
        self.runner.finish();
    }
}

/// What the log tells, as events. It is told in the middle of commits and installs, with locks of
/// the engine held: it only passes on.
#[derive(Debug)]
pub(crate) struct LogEvents(pub(crate) Arc<Hub>);

impl WalObserver for LogEvents {
    fn wal_event(&self, event: WalEvent) {
        let hub = &self.0;
        hub.emit(Topic::Wal, || match event {
            WalEvent::SegmentMade { number, bytes, recycled: None } => {
                Event::WalSegmentCreated { number, bytes }
            }
            WalEvent::SegmentMade { number, bytes, recycled: Some(from) } => {
                Event::WalSegmentRecycled { number, from, bytes }
            }
            WalEvent::SegmentReleased { number, bytes, kept } => {
                Event::WalSegmentReleased { number, bytes, kept }
            }
            WalEvent::Synced { up_to, bytes, frames, took_us } => Event::WalSynced {
                position: hub.position(up_to),
                bytes,
                batches: frames,
                took: Duration::from_micros(took_us),
            },
        });
    }
}
