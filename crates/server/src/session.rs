//! What commands know and change of a connection: database, authentication, names, transaction
//! queue, reply mode. No socket, no buffers.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sluice_keyspace::WatchList;
use sluicedb::{Ack, Position};

use crate::ack::AckChoice;
use crate::answer::Awaited;
use crate::clients::Client;
use crate::pubsub::Subscriber;
use crate::registry::CommandId;

/// `CLIENT REPLY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ReplyMode {
    #[default]
    On,
    Off,
    /// The command after this one gets no reply.
    SkipNext,
    /// This command gets no reply.
    Skip,
}

/// One connection, as commands see it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Arc<Client>,
    pub(crate) db: u32,
    pub(crate) authenticated: bool,
    pub(crate) reply_mode: ReplyMode,
    /// The queue, between MULTI and EXEC.
    pub(crate) multi: Option<Box<Queue>>,
    /// Made at the first WATCH.
    pub(crate) watches: Option<WatchList>,
    /// While it subscribes to something, or has pushes to send.
    pub(crate) pubsub: Option<Box<Subscriber>>,
    /// When the command that waits for memtable room gives up, in monotonic microseconds;
    /// `u64::MAX`: never.
    pub(crate) stall_deadline_us: Option<u64>,
    /// While a command waits for an answer from elsewhere.
    pub(crate) awaited: Option<Awaited>,
    /// `CLIENT ACK`.
    pub(crate) ack: AckChoice,
    /// The newest write and its level: what WAITAOF is about.
    pub(crate) last_write: Option<(Position, Ack)>,
}

impl Session {
    pub(crate) fn new(client: Arc<Client>, authenticated: bool) -> Session {
        Session {
            client,
            db: 0,
            authenticated,
            reply_mode: ReplyMode::On,
            multi: None,
            watches: None,
            pubsub: None,
            stall_deadline_us: None,
            awaited: None,
            ack: AckChoice::Default,
            last_write: None,
        }
    }

    /// Ends the transaction and its watches: after EXEC, DISCARD and RESET.
    pub(crate) fn end_transaction(&mut self) {
        self.multi = None;
        self.unwatch();
        self.client.queued.store(-1, Ordering::Relaxed);
        self.client.queued_bytes.store(0, Ordering::Relaxed);
    }

    /// Subscribes to something.
    pub(crate) fn is_subscriber(&self) -> bool {
        self.pubsub.as_ref().is_some_and(|subscriber| subscriber.len() > 0)
    }

    /// EXEC is at work.
    pub(crate) fn runs_transaction(&self) -> bool {
        self.multi.is_none() && self.client.queued.load(Ordering::Relaxed) >= 0
    }

    pub(crate) fn unwatch(&mut self) {
        if let Some(watches) = &mut self.watches {
            watches.clear();
        }
        self.client.watching.store(0, Ordering::Relaxed);
    }

    /// A command inside MULTI was refused: EXEC will refuse too.
    pub(crate) fn spoil_transaction(&mut self) {
        if let Some(queue) = &mut self.multi {
            queue.spoiled = true;
        }
    }
}

/// The commands of a transaction: arguments one after the other in one buffer.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) spoiled: bool,
    commands: Vec<(CommandId, Range<usize>)>,
    args: Vec<Range<usize>>,
    bytes: Vec<u8>,
}

impl Queue {
    pub(crate) fn push(&mut self, id: CommandId, args: &[&[u8]]) {
        let first = self.args.len();
        for arg in args {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(arg);
            self.args.push(start..self.bytes.len());
        }
        self.commands.push((id, first..self.args.len()));
    }

    pub(crate) fn len(&self) -> usize {
        self.commands.len()
    }

    /// Bytes held.
    pub(crate) fn byte_len(&self) -> usize {
        self.bytes.len() + self.args.len() * 16 + self.commands.len() * 24
    }

    pub(crate) fn commands(&self) -> impl Iterator<Item = (CommandId, Vec<&[u8]>)> {
        self.commands.iter().map(|(id, args)| {
            let args = self.args[args.clone()].iter();
            (*id, args.map(|range| &self.bytes[range.clone()]).collect())
        })
    }
}
