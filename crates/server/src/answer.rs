//! Replies that come later: what a command waits for ends on another thread, which sends an
//! [`Answer`]; the connection's worker writes it, in the protocol the client speaks then.
//!
//! ```text
//! handler ── Call::wait_for(limit) ──▶ Answerer ──▶ a callback of the engine, or a job
//!    │                                                  │ Answerer::send, or its drop
//!    ▼                                                  ▼
//! Flow::Wait: the connection runs nothing else   Message::Done ──▶ worker writes the answer
//!    └── its deadline comes first: the worker writes `Limit::late`; the answer that comes
//!        afterwards finds nobody and is dropped
//! ```
//!
//! Every wait ends (P6): by the answer, by the deadline, by the client's end, or because whoever
//! was to answer dropped the [`Answerer`]. A connection that waits is not moved to another worker,
//! so its place stays its address; the number of the wait tells it from a later one there.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sluice_resp::ReplyBuf;
use sluicedb::Position;

use crate::command::CmdError;
use crate::exec::{Call, Flow};
use crate::net::{Mailbox, Message};
use crate::shared::Shared;

/// Answers under way at once, over all connections. A connection waits for one thing at a time, so
/// more of them than connections are what waits left behind that ended at their deadline.
const UNANSWERED_MAX: usize = 1 << 16;

/// A reply as a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Ok,
    Null,
    Integer(i64),
    Bulk(String),
    /// A key: any bytes.
    Bytes(Vec<u8>),
    Array(Vec<Answer>),
    Map(Vec<(Cow<'static, str>, Answer)>),
    /// The durable position, as it is when this is written.
    Durable,
    /// What WAITAOF says: whether the log had this position on disk when this was written.
    LocalAck(Option<Position>),
}

/// How a wait ends.
pub(crate) type Outcome = Result<Answer, CmdError>;

impl Answer {
    pub(crate) fn number(value: u64) -> Answer {
        Answer::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }

    pub(crate) fn text(value: impl ToString) -> Answer {
        Answer::Bulk(value.to_string())
    }

    /// Null for `None`.
    pub(crate) fn optional<T>(value: Option<T>, of: impl FnOnce(T) -> Answer) -> Answer {
        value.map_or(Answer::Null, of)
    }

    pub(crate) fn map<const N: usize>(pairs: [(&'static str, Answer); N]) -> Answer {
        Answer::Map(pairs.into_iter().map(|(key, value)| (Cow::Borrowed(key), value)).collect())
    }

    pub(crate) fn write(&self, reply: &mut ReplyBuf, shared: &Shared) {
        match self {
            Answer::Ok => reply.ok(),
            Answer::Null => reply.null(),
            Answer::Integer(value) => reply.integer(*value),
            Answer::Bulk(text) => reply.bulk(text.as_bytes()),
            Answer::Bytes(bytes) => reply.bulk(bytes),
            Answer::Array(items) => {
                reply.array(items.len());
                items.iter().for_each(|item| item.write(reply, shared));
            }
            Answer::Map(pairs) => {
                reply.map(pairs.len());
                for (key, value) in pairs {
                    reply.bulk(key.as_bytes());
                    value.write(reply, shared);
                }
            }
            Answer::Durable => Answer::text(shared.db.positions().durable).write(reply, shared),
            Answer::LocalAck(position) => {
                reply.array(2);
                reply.integer(i64::from(is_durable(shared, *position)));
                // There are no replicas.
                reply.integer(0);
            }
        }
    }
}

/// Whether everything up to `position` survives a power cut; nothing written: yes.
pub(crate) fn is_durable(shared: &Shared, position: Option<Position>) -> bool {
    position.is_none_or(|position| shared.db.positions().durable.seq >= position.seq)
}

/// How long a command waits, and what it replies then.
#[derive(Debug)]
pub(crate) struct Limit {
    /// Milliseconds; 0: without limit, as in Redis.
    pub(crate) ms: u64,
    pub(crate) late: Outcome,
}

/// What a connection that waits keeps, between `Flow::Wait` and the reply.
#[derive(Debug)]
pub(crate) struct Awaited {
    /// The reply at the deadline.
    pub(crate) late: Outcome,
    /// Nothing else may end it for a long time: it ends with its client.
    pub(crate) ends_with_client: bool,
    /// `CLIENT REPLY` wants no reply.
    pub(crate) silent: bool,
}

/// The right and the duty to answer one wait, on any thread, without blocking.
#[derive(Debug)]
pub(crate) struct Answerer {
    mailbox: Arc<Mailbox>,
    place: usize,
    wait: u64,
    sent: bool,
    /// Not the whole of `Shared`: callbacks of the engine must not keep the engine.
    unanswered: Arc<AtomicUsize>,
}

impl Answerer {
    pub(crate) fn send(mut self, outcome: Outcome) {
        self.sent = true;
        self.mailbox.send(Message::Done { place: self.place, wait: self.wait, outcome });
    }

    /// Nothing more will be known: the wait ends at its deadline, or with its client.
    pub(crate) fn leave_to_deadline(mut self) {
        self.sent = true;
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.unanswered.fetch_sub(1, Ordering::Relaxed);
        if !self.sent {
            let error = CmdError::new("ERR the wait was given up by what was to end it; try again");
            let outcome = Err(error);
            self.mailbox.send(Message::Done { place: self.place, wait: self.wait, outcome });
        }
    }
}

impl Call<'_> {
    /// Makes the connection wait for whoever gets the [`Answerer`]. `limit: None`: until then.
    ///
    /// # Errors
    /// Inside a transaction, whose reply cannot wait; and when too many answers are under way.
    pub(crate) fn wait_for(&mut self, limit: Option<Limit>) -> Result<Answerer, CmdError> {
        if !self.may_wait {
            return Err(CmdError::new("ERR Command not allowed inside a transaction"));
        }
        let unanswered = Arc::clone(&self.worker.shared.unanswered);
        if unanswered.fetch_add(1, Ordering::Relaxed) >= UNANSWERED_MAX {
            unanswered.fetch_sub(1, Ordering::Relaxed);
            return Err(CmdError::new(format!(
                "ERR {UNANSWERED_MAX} waits have not ended, most of them past their TIMEOUT; \
                 try again when flushes have caught up"
            )));
        }
        let wait = self.worker.next_wait();
        let now_us = self.worker.now_us;
        let (deadline_us, late) = match limit {
            Some(Limit { ms: 0, late }) => (u64::MAX, late),
            Some(Limit { ms, late }) => {
                (now_us.saturating_add(ms.saturating_mul(1000)).min(u64::MAX - 1), late)
            }
            None => (u64::MAX, Ok(Answer::Null)),
        };
        self.session.awaited = Some(Awaited { late, ends_with_client: false, silent: false });
        self.flow = Flow::Wait { wait, deadline_us };
        let mailbox = Arc::clone(&self.worker.mailbox);
        Ok(Answerer { mailbox, place: self.place, wait, sent: false, unanswered })
    }

    /// The wait just begun may last until somebody acts: it ends when the client goes.
    pub(crate) fn end_wait_with_client(&mut self) {
        if let Some(awaited) = &mut self.session.awaited {
            awaited.ends_with_client = true;
        }
    }

    /// The wait just begun is none: the handler replies after all.
    pub(crate) fn stop_waiting(&mut self) {
        self.session.awaited = None;
        self.flow = Flow::Next;
    }

    /// Writes the reply now.
    pub(crate) fn answer(&mut self, answer: &Answer) {
        answer.write(self.reply, &self.worker.shared);
    }
}
