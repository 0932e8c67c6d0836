//! What all threads share ([`Shared`]), and what one worker thread carries from command to command
//! ([`WorkerContext`]).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use sluice_keyspace::{Keyspace, LatchSet, Txn};
use sluicedb::env::{Clock, Env};
use sluicedb::{Ack, Db, Position};

use crate::clients::Clients;
use crate::config::{Config, Settings};
use crate::jobs::Jobs;
use crate::log::{Level, Log};
use crate::net::Mailbox;
use crate::pubsub::{Desk, Kind, Published, Registry, Urgency};
use crate::saves::Saves;
use crate::slowlog::SlowLog;
use crate::stats::{ErrorStats, Rate, WorkerStats};
use crate::tickets::Tickets;

/// How the server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopMode {
    /// Memtables are flushed when the log is off.
    Default,
    Flush,
    NoFlush,
}

/// Everything that belongs to no thread.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) db: Db,
    pub(crate) keyspace: Keyspace,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) log: Log,
    config: Mutex<Config>,
    settings: RwLock<Arc<Settings>>,
    /// Moves on with each change of `settings`.
    settings_version: AtomicU64,
    pub(crate) clients: Clients,
    pub(crate) pubsub: Registry,
    pub(crate) slowlog: SlowLog,
    pub(crate) errors: ErrorStats,
    pub(crate) ops: Rate,
    pub(crate) input_rate: Rate,
    pub(crate) output_rate: Rate,
    pub(crate) expired_keys: AtomicU64,
    /// Background errors that the log has been told of.
    pub(crate) noted_errors: Mutex<Vec<(&'static str, sluicedb::ErrorKind)>>,
    pub(crate) stats: Vec<Arc<WorkerStats>>,
    /// How many workers, the first ones, have connections.
    pub(crate) active_workers: AtomicUsize,
    pub(crate) mailboxes: OnceLock<Vec<Arc<Mailbox>>>,
    pub(crate) addresses: OnceLock<Vec<SocketAddr>>,
    pub(crate) started_ms: u64,
    pub(crate) started_us: u64,
    pub(crate) run_id: String,
    stopping: AtomicBool,
    stop_mode: Mutex<StopMode>,
    pub(crate) peak_memory: AtomicU64,
    /// Flushes that can be asked about by number.
    pub(crate) tickets: Tickets,
    pub(crate) jobs: Jobs,
    pub(crate) saves: Arc<Saves>,
    /// See `answer.rs`.
    pub(crate) unanswered: Arc<AtomicUsize>,
    /// Some connection has asked for logged writes: the log is handed over at the end of turns
    /// even with `appendonly no`. Never taken back; a log without bytes costs a look.
    pub(crate) log_asked_for: AtomicBool,
}

impl Shared {
    pub(crate) fn new(
        db: Db,
        keyspace: Keyspace,
        env: &Env,
        log: Log,
        config: Config,
        saves: Saves,
        stats: Vec<Arc<WorkerStats>>,
    ) -> Shared {
        let clock = Arc::clone(&env.clock);
        let settings = Arc::new(Settings::new(&config));
        let (started_ms, started_us) = (clock.unix_ms(), clock.monotonic_us());
        let seed = started_ms ^ (u64::from(std::process::id()) << 40) ^ (&raw const config as u64);
        let mut rng = sluicedb::env::Rng::new(seed);
        let run_id =
            (0..40).map(|_| char::from(b"0123456789abcdef"[rng.below(16) as usize])).collect();
        Shared {
            db,
            keyspace,
            clock,
            log,
            config: Mutex::new(config),
            settings: RwLock::new(settings),
            settings_version: AtomicU64::new(1),
            clients: Clients::default(),
            pubsub: Registry::new(stats.len()),
            slowlog: SlowLog::default(),
            errors: ErrorStats::default(),
            ops: Rate::default(),
            input_rate: Rate::default(),
            output_rate: Rate::default(),
            expired_keys: AtomicU64::new(0),
            noted_errors: Mutex::default(),
            active_workers: AtomicUsize::new(stats.len()),
            stats,
            mailboxes: OnceLock::new(),
            addresses: OnceLock::new(),
            started_ms,
            started_us,
            run_id,
            stopping: AtomicBool::new(false),
            stop_mode: Mutex::new(StopMode::Default),
            peak_memory: AtomicU64::new(0),
            tickets: Tickets::default(),
            jobs: Jobs::new(&env.threads),
            saves: Arc::new(saves),
            unanswered: Arc::default(),
            log_asked_for: AtomicBool::new(false),
        }
    }

    pub(crate) fn note(&self, level: Level, text: &str) {
        self.log.line(self.clock.unix_ms(), level, text);
    }

    pub(crate) fn config(&self) -> std::sync::MutexGuard<'_, Config> {
        crate::lock(&self.config)
    }

    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Makes `config` the one in force. The caller holds the lock it came from.
    pub(crate) fn install(&self, config: &Config) {
        let settings = Arc::new(Settings::new(config));
        *self.settings.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = settings;
        self.settings_version.fetch_add(1, Ordering::Release);
        self.log.set_level(Level::parse(config.get("loglevel")));
    }

    pub(crate) fn settings_version(&self) -> u64 {
        self.settings_version.load(Ordering::Acquire)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Asks every worker to end. The first caller's mode counts.
    pub(crate) fn stop(&self, mode: StopMode) {
        {
            let mut current = crate::lock(&self.stop_mode);
            if self.stopping.swap(true, Ordering::AcqRel) {
                return;
            }
            *current = mode;
        }
        for mailbox in self.mailboxes.get().into_iter().flatten() {
            mailbox.wake();
        }
    }

    /// Publishes a message to a channel, from any thread and without waiting. Returns how many
    /// subscribers get it.
    pub(crate) fn publish(&self, channel: &[u8], payload: &[u8]) -> usize {
        let bytes_max = self.settings().output_of_subscribers.hard;
        let urgency = Urgency::Now { bytes_max };
        self.publish_as(Kind::Channel, channel, payload, urgency, None).unwrap_or(0)
    }

    /// As [`publish`](Self::publish), for a worker (`from`), which looks into its own post unasked.
    /// `None`: a worker has not kept up, and `urgency` says that this one can wait.
    pub(crate) fn publish_as(
        &self,
        kind: Kind,
        channel: &[u8],
        payload: &[u8],
        urgency: Urgency,
        from: Option<usize>,
    ) -> Option<usize> {
        let Published::To { receivers, wake } =
            self.pubsub.publish(kind, channel, payload, urgency)
        else {
            return None;
        };
        for worker in wake.into_iter().filter(|worker| Some(*worker) != from) {
            if let Some(mailbox) = self.mailboxes.get().and_then(|all| all.get(worker)) {
                mailbox.wake();
            }
        }
        Some(receivers)
    }

    pub(crate) fn stop_mode(&self) -> StopMode {
        *crate::lock(&self.stop_mode)
    }

    /// The active worker with the fewest connections.
    pub(crate) fn least_loaded_worker(&self) -> usize {
        let active = self.active_workers.load(Ordering::Relaxed).max(1);
        let workers = self.stats.iter().take(active).enumerate();
        workers
            .min_by_key(|(_, stats)| stats.clients.load(Ordering::Relaxed))
            .map_or(0, |(number, _)| number)
    }

    /// A number added up over the workers.
    pub(crate) fn total(&self, of: impl Fn(&WorkerStats) -> u64) -> u64 {
        self.stats.iter().map(|stats| of(stats)).sum()
    }
}

/// What one worker thread carries from command to command.
pub(crate) struct WorkerContext {
    pub(crate) shared: Arc<Shared>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) settings: Arc<Settings>,
    settings_version: u64,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stats: Arc<WorkerStats>,
    /// Subscriptions of this worker's connections.
    pub(crate) pubsub: Desk,
    pub(crate) txn: Txn,
    pub(crate) latches: LatchSet,
    /// Unix time of the turn.
    pub(crate) now_ms: u64,
    /// Monotonic time of the turn's begin, then of the end of the last command.
    pub(crate) now_us: u64,
    /// The newest position committed in this turn.
    pub(crate) turn_position: Option<Position>,
    /// The highest level at which the connection at work committed something.
    pub(crate) conn_wrote: Option<Ack>,
    /// Something was logged in this turn.
    pub(crate) turn_logged: bool,
    /// A data command ran in this turn.
    pub(crate) ran_data: bool,
    /// For how long the engine wants the writer at work to hold back.
    pub(crate) pause: std::time::Duration,
    /// Microseconds spent on commands since the worker last looked.
    pub(crate) executed_us: u64,
    /// The number of the next awaited completion.
    next_wait: u64,
}

impl WorkerContext {
    pub(crate) fn new(
        number: usize,
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox>,
        stats: Arc<WorkerStats>,
    ) -> WorkerContext {
        WorkerContext {
            settings: shared.settings(),
            settings_version: shared.settings_version(),
            clock: Arc::clone(&shared.clock),
            txn: shared.keyspace.transaction(),
            latches: LatchSet::new(),
            now_ms: shared.clock.unix_ms(),
            now_us: shared.clock.monotonic_us(),
            turn_position: None,
            conn_wrote: None,
            turn_logged: false,
            ran_data: false,
            pause: std::time::Duration::ZERO,
            executed_us: 0,
            next_wait: 1,
            pubsub: Desk::new(number),
            shared,
            mailbox,
            stats,
        }
    }

    /// Reads the clock and picks up changed settings: once a turn.
    pub(crate) fn begin_turn(&mut self) {
        self.now_ms = self.clock.unix_ms();
        self.now_us = self.clock.monotonic_us();
        self.turn_position = None;
        self.turn_logged = false;
        self.ran_data = false;
        self.refresh_settings();
    }

    pub(crate) fn refresh_settings(&mut self) {
        let version = self.shared.settings_version();
        if version != self.settings_version {
            self.settings = self.shared.settings();
            self.settings_version = version;
        }
    }

    pub(crate) fn next_wait(&mut self) -> u64 {
        self.next_wait += 1;
        self.next_wait
    }
}
