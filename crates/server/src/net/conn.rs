//! One connection: socket, unread input, unsent output, and why its next command does not run yet.

use std::io::{self, Write};

use mio::net::TcpStream;
use sluice_resp::{ReplyBuf, RequestParser};
use sluicedb::Ack;

use super::input::Input;
use crate::config::Settings;
use crate::session::Session;

/// Why the next command does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It may run.
    No,
    /// For memtable room, until a moment in monotonic microseconds (`u64::MAX`: for ever).
    Room { deadline_us: u64 },
    /// For room in the post of a worker that does not keep up with published messages.
    PostRoom,
    /// For a completion of this number, whose reply comes next; until a moment (`u64::MAX`: for
    /// ever), whose reply the session has.
    Done { wait: u64, deadline_us: u64 },
    /// Until a moment.
    Sleep { until_us: u64 },
}

/// Output room that an idle connection keeps.
const OUTPUT_KEPT_MAX: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) socket: TcpStream,
    pub(crate) session: Session,
    pub(crate) parser: RequestParser,
    pub(crate) input: Input,
    /// How many bytes the parser is known to need more.
    pub(crate) missing: usize,
    pub(crate) out: ReplyBuf,
    /// Bytes of `out` that are sent.
    pub(crate) sent: usize,
    /// Where the replies of this turn begin in `out`; while `hold` is set, where held ones begin.
    pub(crate) turn_start: usize,
    /// The highest level at which the connection committed something in this turn.
    pub(crate) wrote: Option<Ack>,
    /// Output waits until this turn of the worker is durable; no further command runs.
    pub(crate) hold: Option<u64>,
    pub(crate) wait: Wait,
    /// The socket may have more to read; nothing is known to the contrary.
    pub(crate) readable: bool,
    /// The socket may take more; nothing is known to the contrary.
    pub(crate) writable: bool,
    /// An event announced the end of the stream: read until it is reached.
    pub(crate) end_near: bool,
    /// Something kept its commands from running when the worker last served it.
    pub(crate) stopped: bool,
    /// The peer sends no more.
    pub(crate) ended: bool,
    /// Close when the output is sent.
    pub(crate) closing: bool,
    /// Close at once.
    pub(crate) dead: bool,
    /// In the worker's ready list.
    pub(crate) queued: bool,
    /// In the worker's list of connections this turn touched.
    pub(crate) touched: bool,
    /// Since when the output is above the soft limit, in monotonic microseconds.
    pub(crate) soft_since_us: Option<u64>,
}

impl Conn {
    pub(crate) fn new(socket: TcpStream, session: Session) -> Conn {
        Conn {
            socket,
            session,
            parser: RequestParser::new(),
            input: Input::default(),
            missing: 1,
            out: ReplyBuf::default(),
            sent: 0,
            turn_start: 0,
            wrote: None,
            hold: None,
            wait: Wait::No,
            readable: true,
            writable: true,
            end_near: false,
            stopped: false,
            ended: false,
            closing: false,
            dead: false,
            queued: false,
            touched: false,
            soft_since_us: None,
        }
    }

    /// Bytes not sent yet.
    pub(crate) fn unsent(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Whether the next command may run: nothing is awaited, and the client reads what it asked for.
    pub(crate) fn may_run(&self, settings: &Settings) -> bool {
        self.wait == Wait::No
            && self.hold.is_none()
            && !self.closing
            && !self.dead
            && (settings.output_pause == 0 || self.unsent() < settings.output_pause)
    }

    /// When its wait ends by itself, in monotonic microseconds; `u64::MAX`: not by a moment.
    pub(crate) fn wait_deadline_us(&self) -> u64 {
        match self.wait {
            Wait::No | Wait::PostRoom => u64::MAX,
            Wait::Sleep { until_us: deadline_us }
            | Wait::Room { deadline_us }
            | Wait::Done { deadline_us, .. } => deadline_us,
        }
    }

    /// The peer has gone, and nothing else may end the wait for a long time.
    pub(crate) fn waits_for_nobody(&self) -> bool {
        let awaited = self.session.awaited.as_ref();
        self.end_near && awaited.is_some_and(|awaited| awaited.ends_with_client)
    }

    /// Sends what it can. Returns the bytes sent.
    pub(crate) fn send(&mut self) -> io::Result<usize> {
        let before = self.sent;
        // Replies that wait for the log stay behind.
        let end = if self.hold.is_some() { self.turn_start } else { self.out.len() };
        while self.writable && self.sent < end {
            match self.socket.write(&self.out.bytes()[self.sent..end]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let sent = self.sent - before;
        if self.sent == self.out.len() {
            self.sent = 0;
            self.turn_start = 0;
            let buffer = self.out.buffer_mut();
            buffer.clear();
            if buffer.capacity() > OUTPUT_KEPT_MAX {
                *buffer = Vec::new();
            }
        } else if self.sent > 1 << 20 && self.sent > self.out.len() / 2 {
            // A slow reader of a long output: give back what it has read.
            let sent = self.sent;
            self.out.buffer_mut().drain(..sent);
            self.turn_start = self.turn_start.saturating_sub(sent);
            self.sent = 0;
        }
        Ok(sent)
    }

    /// Whether the output is longer than the limits of `client-output-buffer-limit` allow.
    pub(crate) fn is_over_limit(&mut self, settings: &Settings, now_us: u64) -> bool {
        let unsent = self.unsent() + self.kept_back();
        let limit = match self.session.is_subscriber() {
            true => &settings.output_of_subscribers,
            false => &settings.output,
        };
        if limit.hard > 0 && unsent > limit.hard {
            return true;
        }
        if limit.soft == 0 || unsent <= limit.soft {
            self.soft_since_us = None;
            return false;
        }
        let since = *self.soft_since_us.get_or_insert(now_us);
        now_us.saturating_sub(since) > limit.soft_time.as_micros() as u64
    }
}
