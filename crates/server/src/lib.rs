//! The Redis-compatible server: listeners, connections, the command table, configuration, INFO.
//!
//! ```text
//! net/       sockets and event loops: one thread each, no async runtime
//! exec       one command: find, check, run, count     multi: transactions
//! registry   the command table                        commands/: rows and handlers by family
//! answer     replies that come later                  jobs: work that no event loop may do
//! config/    parameters, redis.conf syntax            info/: INFO
//! pubsub/    who subscribes to what
//! ```
//!
//! What is deliberately absent: a lock taken for every command (keys have latches, in the keyspace
//! crate), and a thread that waits for a disk (replies wait, threads do not).
//!
//! Lock order: a worker thread takes at most one of this crate's locks at a time, none while it waits
//! for a latch; key latches may be held while the lock of the watch registry, the client registry, a
//! client's names, the configuration (then the settings), the slow log, the error counters or the
//! registry of subscriptions is taken. The last one is held around a mailbox's and a post's, as
//! `pubsub/mod.rs` says. No lock is held while a latch is acquired or the engine is called; only
//! `tickets.rs` asks a flush ticket, whose lock is innermost, whether it is done.

mod ack;
mod answer;
mod clients;
pub mod command;
mod commands;
pub mod config;
mod cron;
mod exec;
mod feed;
#[doc(hidden)]
pub mod fuzzing;
mod info;
mod jobs;
mod log;
mod multi;
mod net;
mod pubsub;
mod refusal;
mod registry;
mod saves;
mod server;
mod session;
mod shared;
mod slowlog;
mod stats;
mod tickets;

pub use config::{Config, ConfigError};
pub use server::{Server, StartError, StopHandle};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The version of Redis whose commands, replies and texts this server speaks.
pub const REDIS_VERSION: &str = "7.2.4";

/// Takes a lock whose data stay consistent even when a holder panicked: each critical section here
/// is one insertion or one removal.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
