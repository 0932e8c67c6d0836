//! Start and end of a server: directory, engine, listeners, worker threads.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mio::{Poll, Waker};
use sluice_keyspace::{Keyspace, KeyspaceOptions};
use sluicedb::env::{Env, JoinHandle};
use sluicedb::{Db, ErrorKind, Options};

use crate::config::Config;
use crate::log::{Level, Log};
use crate::net::{Listener, Mailbox, Placement, Worker, bind};
use crate::saves::Saves;
use crate::shared::{Shared, StopMode, WorkerContext};
use crate::stats::WorkerStats;

/// Why a server did not start: a sentence for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

/// A running server.
pub struct Server {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle>,
    feed: JoinHandle,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses()).finish_non_exhaustive()
    }
}

/// Ends a server from another thread.
#[derive(Debug, Clone)]
pub struct StopHandle(Arc<Shared>);

impl StopHandle {
    /// Asks the server to end: it finishes the turn at work, sends the replies, closes the engine.
    pub fn stop(&self) {
        self.0.note(Level::Warning, "shutdown requested");
        self.0.stop(StopMode::Default);
    }
}

impl Server {
    /// Opens the data in `<dir>/db` (created when missing) and serves.
    pub fn start(config: Config) -> Result<Server, StartError> {
        Server::start_in(config, Env::os())
    }

    /// As [`Server::start`], in a world of the caller's: the engine's files, the clock and the
    /// threads come from `env`. For tests that need a disk to fail or to stand still.
    pub fn start_in(config: Config, env: Env) -> Result<Server, StartError> {
        let clock = Arc::clone(&env.clock);
        let log = Log::open(Level::parse(config.get("loglevel")), config.get("logfile"))
            .map_err(|error| StartError(format!("cannot open the log file: {error}")))?;
        for warning in config.warnings() {
            log.line(clock.unix_ms(), Level::Warning, warning);
        }
        // First the port: a second server fails there before it touches any data.
        let number = |name: &str| config.get(name).parse::<i64>().unwrap_or(0);
        let listeners =
            bind(config.get("bind"), number("port") as u16, number("tcp-backlog") as i32)
                .map_err(|error| StartError(error.to_string()))?;
        let addresses: Vec<SocketAddr> =
            listeners.iter().map(|listener| listener.address).collect();
        let db = open_engine(&config, &env)?;
        let keyspace =
            Keyspace::open(db.clone(), KeyspaceOptions { databases: number("databases") as u32 })
                .map_err(|error| StartError(format!("cannot open the keyspace: {error}")))?;
        let saves = Saves::open(&env.fs, Path::new(config.get("dir")))
            .map_err(|error| StartError(format!("cannot look at the last save: {error}")))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // A number that was asked for is used as it is, all the time.
        let (worker_count, placement) = match number("workers") {
            0 => (cores, Some(Placement::new(cores))),
            count => (count as usize, None),
        };
        let command_count = crate::registry::table().len();
        let stats = (0..worker_count).map(|_| Arc::new(WorkerStats::new(command_count))).collect();
        let shared = Arc::new(Shared::new(db, keyspace, &env, log, config, saves, stats));
        let _ = shared.addresses.set(addresses);
        note_recovery(&shared);
        if placement.is_some() {
            shared.active_workers.store(1, Ordering::Relaxed);
        }
        let feed = crate::feed::start(&shared, &*env.threads)
            .map_err(|error| StartError(format!("cannot start a thread: {error}")))?;
        let mut server = Server { shared, workers: Vec::new(), feed };
        match start_workers(&server.shared, &env, listeners, placement, &mut server.workers) {
            Ok(()) => Ok(server),
            Err(error) => {
                // What runs already holds the directory: it ends first.
                server.shared.stop(StopMode::NoFlush);
                drop(server.wait());
                Err(error)
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Where it listens, with the ports that the system chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.shared.addresses.get().map_or(&[], Vec::as_slice)
    }

    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(Arc::clone(&self.shared))
    }

    /// Returns when the server has ended: by [`StopHandle::stop`] or by SHUTDOWN.
    ///
    /// # Errors
    /// The engine could not be closed cleanly; the sentence says why.
    pub fn wait(self) -> Result<(), StartError> {
        for worker in self.workers {
            worker.join();
        }
        self.shared.jobs.close();
        let flush = match self.shared.stop_mode() {
            StopMode::Flush => true,
            StopMode::NoFlush => false,
            // Memtables are the only copy of what is in no log.
            StopMode::Default => {
                !self.shared.settings().log || self.shared.db.stats().unlogged_bytes > 0
            }
        };
        let closed = self.shared.db.close(flush);
        self.shared.jobs.join();
        self.feed.join();
        closed.map_err(|error| StartError(format!("closing the database failed: {error}")))?;
        self.shared.note(Level::Warning, "bye bye...");
        Ok(())
    }
}

/// Says what the start found: an operator must be able to see that something was cut.
fn note_recovery(shared: &Shared) {
    let recovery = shared.db.stats().recovery;
    if !recovery.log_summary.is_empty() {
        shared.note(Level::Notice, &format!("log: {}", recovery.log_summary));
    }
    if recovery.manifest_torn_bytes > 0 {
        let text = format!("manifest: {} bytes of a torn edit cut", recovery.manifest_torn_bytes);
        shared.note(Level::Warning, &text);
    }
}

fn open_engine(config: &Config, env: &Env) -> Result<Db, StartError> {
    let directory: PathBuf = Path::new(config.get("dir")).join("db");
    let shown = directory.display();
    std::fs::create_dir_all(&directory).map_err(|error| {
        StartError(format!("cannot create the data directory {shown}: {error}"))
    })?;
    let options = Options { env: env.clone(), ..crate::config::engine::options(config) };
    Db::open(&directory, options).map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::Locked => {
                "another server uses this directory: stop it, or choose another --dir"
            }
            ErrorKind::Unsupported => "the data was written by a newer version: start that version",
            ErrorKind::Corruption => "the data is damaged: restore it from a copy, or repair it",
            ErrorKind::DiskFull => "the disk is full: free some space",
            ErrorKind::Invalid => "change the parameter of that name, with - for _",
            ErrorKind::Io => "check the directory's owner and permissions",
            _ => "the data directory cannot be used as it is",
        };
        StartError(format!("cannot open the database in {shown}: {error} ({advice})"))
    })
}

/// On an error `handles` has the workers that run.
fn start_workers(
    shared: &Arc<Shared>,
    env: &Env,
    listeners: Vec<Listener>,
    mut placement: Option<Placement>,
    handles: &mut Vec<JoinHandle>,
) -> Result<(), StartError> {
    let failed = |error: std::io::Error| StartError(format!("cannot start a worker: {error}"));
    let mut polls = Vec::new();
    let mut mailboxes = Vec::new();
    for _ in &shared.stats {
        let poll = Poll::new().map_err(failed)?;
        let waker = Waker::new(poll.registry(), crate::net::WAKER).map_err(failed)?;
        polls.push(poll);
        mailboxes.push(Arc::new(Mailbox::new(waker)));
    }
    let _ = shared.mailboxes.set(mailboxes.clone());
    let mut listeners = Some(listeners);
    for (number, (poll, mailbox)) in polls.into_iter().zip(mailboxes).enumerate() {
        let stats = Arc::clone(&shared.stats[number]);
        let shared = Arc::clone(shared);
        // A worker is built on its own thread: its buffers then come from that thread's arenas.
        let listeners = listeners.take().unwrap_or_default();
        let placement = placement.take();
        let body = move || {
            let cx = WorkerContext::new(number, Arc::clone(&shared), mailbox, stats);
            match Worker::new(number, poll, cx, listeners, placement) {
                Ok(worker) => worker.run(),
                Err(error) => {
                    shared.note(Level::Warning, &format!("cannot start a worker: {error}"));
                    shared.stop(StopMode::Default);
                }
            }
        };
        let name = format!("worker-{number}");
        handles.push(env.threads.spawn(&name, Box::new(body)).map_err(failed)?);
    }
    Ok(())
}
