//! Pub/Sub: who subscribes to what, and how a message gets from a publisher to its subscribers.
//!
//! ```text
//! publisher (any thread)            registry, one lock                a worker, once a turn
//!   encode once, in an Arc ───────▶ number it; count receivers; ────▶ collect its post; look each
//!   wake the workers named          put it in the post of each        message up in its own desk;
//!                                   worker that has some              append to its connections
//! ```
//!
//! [`Registry`]: for each name how many subscribers each worker has. [`Post`]: a worker's queue of
//! messages. [`Desk`]: which of a worker's own connections subscribe, and the messages it has
//! collected. [`Subscriber`]: a connection's own part. `net/deliver.rs` joins them to sockets.
//!
//! What must stay true:
//!
//! - All messages have one order, that of their numbers: each is put into every post under the
//!   registry's lock. Every subscriber sees that order.
//! - What PUBLISH counts is what arrives. A subscription knows the first number it is for (`since`);
//!   an UNSUBSCRIBE first leaves the registry, then takes what was counted before, then forgets.
//! - A connection moves under the registry's lock: it takes what is in its old worker's post with
//!   it, and what comes later goes to its new one (`net/migrate.rs`). [`Subscriber::seen`] says what
//!   it has had, so nothing comes twice.
//! - A connection sees every message that was published before its command was sent, before the
//!   reply to that command: the post is looked at after the socket was read.
//!
//! Bounds. A subscriber's unsent output: `client-output-buffer-limit pubsub`, plus what one turn
//! delivers ([`DELIVERED_BYTES_MAX`] and one message). A post: [`POST_BYTES_MAX`] and one message;
//! a PUBLISH that finds it full waits until the worker has caught up, and only its own connection
//! waits. Publishers that cannot wait (the engine's events, PUBLISH inside EXEC) may fill it up to
//! the hard limit of that class, or until it is full where that is more; then the worker's subscribers miss a message and are closed, as
//! subscribers that do not keep up are.
//!
//! Locks: the registry's, inside it a post's or a mailbox's. Key latches may be held outside.

mod desk;
mod post;
mod registry;
mod subscriber;

pub(crate) use desk::Desk;
pub(crate) use post::{Post, Publication};
pub(crate) use registry::{Published, Registry, Urgency};
pub(crate) use subscriber::{Subscriber, write};

/// A worker's queue takes no more than this from publishers that can wait, in bytes.
pub(crate) const POST_BYTES_MAX: usize = 4 << 20;
/// Output that a worker appends to its subscribers in one turn before it sends, in bytes.
pub(crate) const DELIVERED_BYTES_MAX: usize = 4 << 20;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Channel,
    Pattern,
    /// A channel of its own name space: in a cluster, one that lives in a slot.
    Shard,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::Channel, Kind::Pattern, Kind::Shard];

    fn index(self) -> usize {
        self as usize
    }
}
