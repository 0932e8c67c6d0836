//! Sockets: listeners, connections, and one event loop a thread.
//!
//! ```text
//!            accepts          ┌── worker 0: poll ─ read ─ parse ─ execute ─ log ─ write ──┐
//! listeners ─────────▶ least  ├── worker 1: …                                             │
//!                      loaded └── worker n: …       ◀── mailbox + waker: new connections, ┘
//!                                                       durable, room, flush done, kill
//! ```
//!
//! Worker 0 accepts for all and hands each connection to the worker with the fewest. Not
//! `SO_REUSEPORT` with a listener a thread: that spreads 50 connections by chance, and lets a second
//! server on the same port start without an error.

mod accept;
mod conn;
mod input;
mod listener;
mod mailbox;
mod serve;
mod turn;
mod worker;

pub(crate) use listener::{Listener, bind};
pub(crate) use mailbox::{Mailbox, Message};
pub(crate) use worker::{WAKER, Worker};
