//! How other threads reach a worker: a message and a wake-up.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::Waker;
use mio::net::TcpStream;

use super::conn::Conn;
use crate::answer::Outcome;

/// Something that happened elsewhere.
#[derive(Debug)]
pub(crate) enum Message {
    /// A connection that this worker shall serve.
    Accepted(TcpStream),
    /// A connection that another worker gives to this one.
    Moved(Box<Conn>),
    /// The log is durable up to the end of this worker's turn, or cannot be made so.
    Durable { turn: u64, result: Result<(), String> },
    /// Memtable room may be there again.
    Room,
    /// A worker's post has room for publishers again.
    PostRoom,
    /// What the connection at `place` waits for under the number `wait` is done.
    Done { place: usize, wait: u64, outcome: Outcome },
    /// `CLIENT KILL`.
    Kill { client: u64 },
}

/// One worker's mailbox.
#[derive(Debug)]
pub(crate) struct Mailbox {
    queue: Mutex<Vec<Message>>,
    /// A wake-up is on its way: further senders need not write to the event descriptor again.
    signalled: AtomicBool,
    waker: Waker,
}

impl Mailbox {
    pub(crate) fn new(waker: Waker) -> Mailbox {
        Mailbox { queue: Mutex::default(), signalled: AtomicBool::new(false), waker }
    }

    pub(crate) fn send(&self, message: Message) {
        crate::lock(&self.queue).push(message);
        if !self.signalled.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// Ends the worker's wait without a message.
    pub(crate) fn wake(&self) {
        // Fails only when the poll is gone, and then nobody waits.
        let _: io::Result<()> = self.waker.wake();
    }

    /// Takes all messages. The signal is cleared first: a message that comes afterwards wakes again.
    pub(crate) fn take(&self, into: &mut Vec<Message>) {
        self.signalled.store(false, Ordering::Release);
        into.append(&mut crate::lock(&self.queue));
    }
}
