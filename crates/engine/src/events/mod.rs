//! Events: what the engine tells those who subscribe, as it happens.
//!
//! ```text
//!  place in the engine        hub (lock: subscribers)       channel (own lock)     subscriber
//!  ───────────────────        ───────────────────────       ──────────────────     ──────────
//!  core.events.sealed(..) ──> topic wanted? ─no─> return
//!                             number, time  ──────────────> push, or drop + count ──> recv
//!                                                              │ callbacks waiting?
//!                                              staged <────────┘
//!                                                │ wakes
//!                                     `sluice-events` runs them, holding no lock
//! ```
//!
//! Events come from the middle of things: a seal happens under the commit lock, a log failure is
//! noted under it. So an emission does three things only: it reads one atomic to see whether
//! anybody wants the topic, builds the event, and pushes it under locks that nothing else in the
//! engine uses. It never waits for a subscriber (a full channel drops the new event and counts it)
//! and **never runs code of a caller**.
//!
//! Callbacks of [`Events::on_ready`] are run by a thread of their own, started with the first of
//! them. The rejected choice was to let whoever releases the lock run them, or the next worker that
//! wakes: a callback that waits for a flush would then wait for the thread it runs on, and one that
//! is slow would hold up a flush or a writer. With [`crate::Background::Stepped`] there are no
//! threads, and [`crate::Db::step`] runs them.
//!
//! Invariants:
//! - Serials grow in every channel, and the order is that of the emissions.
//! - A channel that has an event has no callback waiting, and one that is closed has none either.
//! - Once [`Hub::close`] has returned, every callback has been run and every `recv` ends.
//! - Without subscribers nothing is built: `wanted` is 0.
//!
//! Lock order: stalls, subscribers, one channel, staged callbacks. They are below every other lock
//! of the engine, and held for pushes only.

mod channel;
mod emit;
mod event;
mod hub;
mod runner;
mod stalls;
mod text;

pub use channel::{EventIter, EventOptions, Events};
pub(crate) use emit::CompactionFacts;
pub use event::{Event, EventRecord, Topic};
pub(crate) use hub::{Hub, LogEvents};
pub(crate) use stalls::Stalled;
