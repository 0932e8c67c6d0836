//! Sockets: listeners, connections, and one event loop a thread.
//!
//! ```text
//!            accepts          ┌── worker 0: poll ─ read ─ parse ─ execute ─ log ─ write ──┐
//! listeners ─────────▶ least  ├── worker 1: …                                             │
//!                      loaded └── worker n: …       ◀── mailbox + waker: new and moved    ─┘
//!                      active                           connections, durable, room, flush done, kill;
//!                                      ◀── post: published messages (deliver.rs)
//! ```
//!
//! Worker 0 accepts for all and hands each connection to the active worker with the fewest. With
//! `workers 0` as many are active as the load deserves (`placement.rs`), and connections move when
//! that changes (`migrate.rs`); with a number, all are. Not
//! `SO_REUSEPORT` with a listener a thread: that spreads 50 connections by chance, and lets a second
//! server on the same port start without an error.

mod accept;
mod conn;
mod deliver;
#[cfg(test)]
mod deliver_stress;
mod input;
mod listener;
mod mailbox;
mod migrate;
mod placement;
mod serve;
mod turn;
mod worker;

pub(crate) use listener::{Listener, bind};
pub(crate) use mailbox::{Mailbox, Message};
pub(crate) use placement::Placement;
pub(crate) use worker::{WAKER, Worker};
