//! One worker thread: an event loop over its connections.
//!
//! One turn: wait for events and messages → serve each ready connection (read, parse, execute) → end
//! the turn (`turn.rs`: hand the log to the operating system, send replies, free what has closed).
//! A connection is read at most once a turn, so none can keep the others waiting; events are edge
//! triggered, and `Conn::readable` remembers an edge that was not used up.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use sluice_resp::{Limits, RequestParser, Step};

use super::conn::{Conn, Wait};
use super::input::Input;
use super::listener::{Listener, prepare};
use super::mailbox::{Mailbox, Message};
use crate::clients::Client;
use crate::exec::{self, Flow};
use crate::log::Level;
use crate::session::Session;
use crate::shared::WorkerContext;

/// Read at once from one socket; also the fairness bound of a turn.
const SCRATCH_BYTES: usize = 64 * 1024;
/// The longest sleep: timers are looked at this often.
const TICK: Duration = Duration::from_millis(100);
const EVENTS_MAX: usize = 1024;

/// The waker's token. Listeners count down from the one below; connections count up from 0.
pub(crate) const WAKER: Token = Token(usize::MAX);
const FIRST_LISTENER: usize = usize::MAX - 1;
const LISTENERS_MAX: usize = 64;

/// A worker and everything it owns.
pub(crate) struct Worker {
    pub(super) number: usize,
    pub(super) cx: WorkerContext,
    poll: Poll,
    listeners: Vec<Listener>,
    /// An accept failed for lack of descriptors: try again at the next tick.
    accept_again: bool,
    pub(super) conns: Vec<Option<Box<Conn>>>,
    free: Vec<usize>,
    /// Connections with work for this turn, and for the next.
    pub(super) ready: Vec<usize>,
    pub(super) touched: Vec<usize>,
    /// Places of closed connections, usable from the next turn on: an event of this turn may still
    /// name them.
    pub(super) freed: Vec<usize>,
    messages: Vec<Message>,
    scratch: Vec<u8>,
    /// Argument room kept between commands.
    args: Vec<&'static [u8]>,
    pub(super) turn: u64,
    /// Connections whose replies wait until a turn is durable, oldest turn first.
    pub(super) held: VecDeque<(u64, Vec<usize>)>,
    room_requested: bool,
    next_tick_us: u64,
    pub(super) live: usize,
}

impl Worker {
    pub(crate) fn new(
        number: usize,
        poll: Poll,
        cx: WorkerContext,
        listeners: Vec<Listener>,
    ) -> io::Result<Worker> {
        let mut worker = Worker {
            number,
            cx,
            poll,
            listeners,
            accept_again: false,
            conns: Vec::new(),
            free: Vec::new(),
            ready: Vec::new(),
            touched: Vec::new(),
            freed: Vec::new(),
            messages: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES],
            args: Vec::new(),
            turn: 0,
            held: VecDeque::new(),
            room_requested: false,
            next_tick_us: 0,
            live: 0,
        };
        for (index, listener) in worker.listeners.iter_mut().take(LISTENERS_MAX).enumerate() {
            let token = Token(FIRST_LISTENER - index);
            worker.poll.registry().register(&mut listener.socket, token, Interest::READABLE)?;
        }
        Ok(worker)
    }

    /// Serves until the server stops.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while !self.cx.shared.is_stopping() {
            let wait = if self.ready.is_empty() { self.sleep() } else { Duration::ZERO };
            match self.poll.poll(&mut events, Some(wait)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.cx.shared.note(Level::Warning, &format!("poll failed: {error}"));
                    self.cx.shared.stop(crate::shared::StopMode::Default);
                    break;
                }
            }
            self.turn += 1;
            self.cx.begin_turn();
            let carried = std::mem::take(&mut self.ready);
            for event in &events {
                self.note_event(event);
            }
            self.read_messages();
            self.serve_all(carried);
            self.end_turn();
        }
        self.end_turn();
    }

    /// Until the next timer; a worker without connections has none that matter.
    fn sleep(&self) -> Duration {
        if self.live == 0 && self.number != 0 {
            return TICK * 10;
        }
        // One microsecond more: a timer that is looked at too early is looked at twice.
        Duration::from_micros(self.next_tick_us.saturating_sub(self.cx.now_us) + 1).min(TICK)
    }

    fn note_event(&mut self, event: &Event) {
        match event.token() {
            WAKER => {}
            Token(value) if value > FIRST_LISTENER - LISTENERS_MAX => {
                self.accept_all(FIRST_LISTENER - value);
            }
            Token(place) => {
                let Some(conn) = self.conns.get_mut(place).and_then(Option::as_mut) else { return };
                conn.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
                conn.end_near |= event.is_read_closed() || event.is_error();
                if event.is_writable() && !conn.writable {
                    conn.writable = true;
                    self.touch(place);
                }
                self.make_ready(place);
            }
        }
    }

    pub(super) fn make_ready(&mut self, place: usize) {
        let Some(conn) = self.conns.get_mut(place).and_then(Option::as_mut) else { return };
        if !conn.queued {
            conn.queued = true;
            self.ready.push(place);
        }
    }

    /// The turn's end must look at this connection.
    pub(super) fn touch(&mut self, place: usize) {
        let Some(conn) = self.conns.get_mut(place).and_then(Option::as_mut) else { return };
        if !conn.touched {
            conn.touched = true;
            self.touched.push(place);
        }
    }

    fn accept_all(&mut self, index: usize) {
        loop {
            let Some(listener) = self.listeners.get(index) else { return };
            match listener.socket.accept() {
                Ok((stream, peer)) => {
                    if let Some(stream) = self.admit(stream, peer.ip().is_loopback()) {
                        self.hand_over(stream);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    let text = format!("accepting a connection failed: {error}");
                    self.cx.shared.note(Level::Warning, &text);
                    self.accept_again = true;
                    return;
                }
            }
        }
    }

    /// Refuses a connection, with the reason, when there are too many or it comes from outside to a
    /// server without a password.
    fn admit(&mut self, stream: TcpStream, is_local: bool) -> Option<TcpStream> {
        use std::io::Write as _;
        let settings = &self.cx.settings;
        let open: u64 = self.cx.shared.total(|stats| stats.clients.load(Ordering::Relaxed));
        let refusal = if open >= settings.maxclients as u64 {
            "-ERR max number of clients reached\r\n"
        } else if settings.protected && settings.password.is_empty() && !is_local {
            PROTECTED_MODE
        } else {
            return Some(stream);
        };
        self.cx.stats.rejected_connections.add(1);
        // Best effort: a new socket has room for one line.
        let _ = (&stream).write(refusal.as_bytes());
        None
    }

    fn hand_over(&mut self, stream: TcpStream) {
        let shared = &self.cx.shared;
        let workers = shared.stats.iter().enumerate();
        let number = workers
            .min_by_key(|(_, stats)| stats.clients.load(Ordering::Relaxed))
            .map_or(0, |(number, _)| number);
        // Counted here, so that the next choice knows of it; the owner counts it down.
        shared.stats[number].clients.fetch_add(1, Ordering::Relaxed);
        match shared.mailboxes.get().and_then(|all| all.get(number)) {
            Some(mailbox) if number != self.number => mailbox.send(Message::Accepted(stream)),
            _ => self.adopt(stream),
        }
    }

    /// Makes an accepted socket a connection of this worker.
    fn adopt(&mut self, mut stream: TcpStream) {
        let place = self.free.pop().unwrap_or(self.conns.len());
        let interest = Interest::READABLE | Interest::WRITABLE;
        let prepared = prepare(&stream, self.cx.settings.tcp_keepalive)
            .and_then(|()| Ok((stream.peer_addr()?, stream.local_addr()?)))
            .and_then(|addresses| {
                self.poll.registry().register(&mut stream, Token(place), interest)?;
                Ok(addresses)
            });
        let Ok(addresses) = prepared else {
            // The peer is gone already.
            if place < self.conns.len() {
                self.free.push(place);
            }
            self.cx.stats.clients.fetch_sub(1, Ordering::Relaxed);
            return;
        };
        let shared = &self.cx.shared;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&stream);
        let id = shared.clients.next_id();
        let client = Arc::new(Client::new(id, addresses, fd, self.number, self.cx.now_ms));
        shared.clients.add(&client);
        let session = Session::new(client, self.cx.settings.password.is_empty());
        let conn = Box::new(Conn::new(stream, session));
        match self.conns.get_mut(place) {
            Some(slot) => *slot = Some(conn),
            None => self.conns.push(Some(conn)),
        }
        self.live += 1;
        self.cx.stats.connections.add(1);
        // Its first bytes may have come before it was registered.
        self.make_ready(place);
    }

    fn read_messages(&mut self) {
        let mut messages = std::mem::take(&mut self.messages);
        self.cx.mailbox.take(&mut messages);
        for message in messages.drain(..) {
            match message {
                Message::Accepted(stream) => self.adopt(stream),
                Message::Durable { turn, result } => self.release(turn, &result),
                Message::Room => {
                    self.room_requested = false;
                    self.wake_where(|conn| matches!(conn.wait, Wait::Room { .. }));
                }
                Message::Done { place, wait, result } => self.complete(place, wait, result),
                Message::Kill { client } => self.kill(client),
            }
        }
        self.messages = messages;
    }

    /// Lets the waiting connections that `which` picks run again.
    fn wake_where(&mut self, which: impl Fn(&Conn) -> bool) {
        for place in 0..self.conns.len() {
            let Some(conn) = self.conns[place].as_mut() else { continue };
            if which(conn) {
                conn.wait = Wait::No;
                self.make_ready(place);
            }
        }
    }

    /// The reply of a command that waited.
    fn complete(&mut self, place: usize, wait: u64, result: Result<(), String>) {
        let Some(conn) = self.conns.get_mut(place).and_then(Option::as_mut) else { return };
        if conn.wait != (Wait::Done { wait }) {
            return;
        }
        conn.wait = Wait::No;
        let is_silent = conn.session.reply_mode == crate::session::ReplyMode::Off;
        match result {
            _ if is_silent => {}
            Ok(()) => conn.out.ok(),
            Err(text) => {
                self.cx.shared.errors.count(&text);
                conn.out.error(&text);
            }
        }
        self.make_ready(place);
        self.touch(place);
    }

    fn kill(&mut self, client: u64) {
        let found = self
            .conns
            .iter()
            .position(|conn| conn.as_ref().is_some_and(|conn| conn.session.client.id == client));
        if let Some(place) = found
            && let Some(conn) = self.conns[place].as_mut()
        {
            conn.dead = true;
            self.touch(place);
        }
    }

    fn serve_all(&mut self, carried: Vec<usize>) {
        for place in carried {
            if let Some(conn) = self.conns.get_mut(place).and_then(Option::as_mut) {
                conn.queued = true;
                self.ready.push(place);
            }
        }
        let mut ready = std::mem::take(&mut self.ready);
        for &place in &ready {
            let Some(mut conn) = self.conns.get_mut(place).and_then(Option::take) else { continue };
            conn.queued = false;
            conn.turn_start = if conn.hold.is_some() { conn.turn_start } else { conn.out.len() };
            self.cx.conn_wrote = false;
            let again = self.serve(place, &mut conn);
            conn.wrote |= self.cx.conn_wrote;
            conn.stopped = !conn.may_run(&self.cx.settings);
            let parked = matches!(conn.wait, Wait::Room { .. });
            if let Wait::Room { deadline_us } | Wait::Sleep { until_us: deadline_us } = conn.wait {
                self.next_tick_us = self.next_tick_us.min(deadline_us);
            }
            self.conns[place] = Some(conn);
            self.touch(place);
            if again {
                self.make_ready(place);
            }
            if parked {
                self.request_room();
            }
        }
        // Keep the allocation for the next turn.
        ready.clear();
        if self.ready.is_empty() {
            self.ready = ready;
        }
    }

    /// Runs what is buffered, reads once, runs what came. True: there may be more right now.
    fn serve(&mut self, place: usize, conn: &mut Conn) -> bool {
        if !conn.input.is_empty() && conn.may_run(&self.cx.settings) {
            self.run_buffered(place, conn);
        }
        if !conn.readable || !conn.may_run(&self.cx.settings) {
            return false;
        }
        let outcome = if conn.input.is_empty() {
            let mut scratch = std::mem::take(&mut self.scratch);
            let outcome = conn.socket.read(&mut scratch);
            if let Ok(count @ 1..) = outcome {
                let consumed = self.run_commands(place, conn, &scratch[..count]);
                conn.input.keep(&scratch[consumed..count]);
            }
            self.scratch = scratch;
            outcome.map(|count| (SCRATCH_BYTES, count))
        } else {
            let outcome = conn.input.read(&mut conn.socket, conn.missing);
            if let Ok((_, 1..)) = outcome {
                self.run_buffered(place, conn);
            }
            outcome
        };
        self.cx.stats.reads.add(1);
        match outcome {
            Ok((_, 0)) => {
                conn.ended = true;
                conn.readable = false;
            }
            Ok((wanted, count)) => {
                self.cx.stats.input_bytes.add(count as u64);
                conn.session.client.seen_ms.store(self.cx.now_ms, Ordering::Relaxed);
                // A stream socket that gives less than asked for is empty, and what comes later
                // makes a new edge. But an end that was announced already makes none: read on.
                if count < wanted && !conn.end_near {
                    conn.readable = false;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => conn.readable = false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => conn.dead = true,
        }
        if conn.input.len() > self.cx.settings.query_bytes_max {
            self.cx.shared.note(
                Level::Warning,
                &format!("closing client {}: its request is too long", conn.session.client.peer),
            );
            conn.dead = true;
        }
        conn.readable && conn.may_run(&self.cx.settings)
    }

    fn run_buffered(&mut self, place: usize, conn: &mut Conn) {
        let input: Input = std::mem::take(&mut conn.input);
        let consumed = self.run_commands(place, conn, input.unread());
        conn.input = input;
        conn.input.consume(consumed);
    }

    /// Runs the whole commands at the beginning of `bytes`, and says how many bytes they took.
    fn run_commands(&mut self, place: usize, conn: &mut Conn, bytes: &[u8]) -> usize {
        let mut consumed = 0;
        while conn.may_run(&self.cx.settings) {
            let rest = &bytes[consumed..];
            let limits = Limits {
                bulk_bytes_max: self.cx.settings.bulk_bytes_max,
                unauthenticated: !conn.session.authenticated,
                ..Limits::default()
            };
            match conn.parser.parse(rest, &limits) {
                Ok(Step::Command { consumed: length }) => {
                    let flow = match conn.parser.arg_count() {
                        0 => Flow::Next,
                        _ => self.run_one(
                            place,
                            &conn.parser,
                            &mut conn.session,
                            &mut conn.out,
                            rest,
                        ),
                    };
                    if flow == Flow::Park {
                        let deadline_us = conn.session.stall_deadline_us.unwrap_or(u64::MAX);
                        conn.wait = Wait::Room { deadline_us };
                        conn.parser.reset();
                        break;
                    }
                    consumed += length;
                    match flow {
                        Flow::Next | Flow::Park => {}
                        Flow::Close => conn.closing = true,
                        Flow::Drop => conn.dead = true,
                        Flow::Wait(wait) => conn.wait = Wait::Done { wait },
                        Flow::Sleep(until_us) => conn.wait = Wait::Sleep { until_us },
                    }
                }
                Ok(Step::Incomplete { missing }) => {
                    conn.missing = missing;
                    break;
                }
                Err(error) => {
                    let text = format!("ERR {error}");
                    self.cx.shared.errors.count(&text);
                    conn.out.error(&text);
                    conn.closing = true;
                    consumed = bytes.len();
                }
            }
        }
        consumed
    }

    fn run_one(
        &mut self,
        place: usize,
        parser: &RequestParser,
        session: &mut Session,
        out: &mut sluice_resp::ReplyBuf,
        bytes: &[u8],
    ) -> Flow {
        let mut args = recycle(std::mem::take(&mut self.args));
        args.extend(parser.args(bytes));
        let flow = exec::run(&mut self.cx, session, out, place, &args);
        self.args = recycle(args);
        flow
    }

    /// Asks the engine once for a call when memtable room is there.
    fn request_room(&mut self) {
        if !self.room_requested {
            self.room_requested = true;
            let mailbox: Arc<Mailbox> = Arc::clone(&self.cx.mailbox);
            self.cx.shared.db.on_room(Box::new(move || mailbox.send(Message::Room)));
        }
    }

    /// Timers: at most every tick.
    pub(super) fn tick(&mut self) {
        let now_us = self.cx.now_us;
        if now_us < self.next_tick_us {
            return;
        }
        self.next_tick_us = now_us + TICK.as_micros() as u64;
        self.wake_where(|conn| match conn.wait {
            // It runs once more, and answers STALLED when there is still no room.
            Wait::Room { deadline_us } => deadline_us <= now_us,
            Wait::Sleep { until_us } => until_us <= now_us,
            Wait::No | Wait::Done { .. } => false,
        });
        self.close_idle();
        if self.number == 0 {
            crate::cron::run(&mut self.cx);
            if std::mem::take(&mut self.accept_again) {
                (0..self.listeners.len()).for_each(|index| self.accept_all(index));
            }
        }
    }

    fn close_idle(&mut self) {
        let timeout = self.cx.settings.timeout.as_millis() as u64;
        for place in 0..self.conns.len() {
            let Some(conn) = self.conns[place].as_mut() else { continue };
            let seen = conn.session.client.seen_ms.load(Ordering::Relaxed);
            let idle = timeout > 0
                && conn.wait == Wait::No
                && self.cx.now_ms.saturating_sub(seen) > timeout;
            if idle || conn.is_over_limit(&self.cx.settings, self.cx.now_us) {
                conn.dead = true;
                self.touch(place);
            }
        }
    }

    /// Takes a connection out. Its place is free from the next turn on.
    pub(super) fn close(&mut self, place: usize) {
        let Some(mut conn) = self.conns.get_mut(place).and_then(Option::take) else { return };
        // The socket is closed by the drop; an error to deregister it changes nothing.
        let _ = self.poll.registry().deregister(&mut conn.socket);
        self.cx.shared.clients.remove(conn.session.client.id);
        self.cx.stats.clients.fetch_sub(1, Ordering::Relaxed);
        self.live -= 1;
        self.freed.push(place);
    }

    pub(super) fn reuse_freed_places(&mut self) {
        self.free.append(&mut self.freed);
    }
}

/// The same allocation for arguments of another lifetime: the vector is empty in between, and
/// collecting an iterator over a vector's own elements reuses its memory.
fn recycle<'to>(mut args: Vec<&[u8]>) -> Vec<&'to [u8]> {
    args.clear();
    args.into_iter().map(|_| -> &'to [u8] { &[] }).collect()
}

const PROTECTED_MODE: &str = "-DENIED The server is running in protected mode because protected \
mode is enabled and no password is set for the default user. In this mode connections are only \
accepted from the loopback interface. If you want to connect from external computers, set a password \
with requirepass, or disable protected mode with 'CONFIG SET protected-mode no' from the loopback \
interface.\r\n";

#[cfg(test)]
mod tests {
    use super::recycle;

    #[test]
    fn argument_room_is_reused() {
        let mut args: Vec<&[u8]> = Vec::with_capacity(100);
        let text = b"abc".to_vec();
        args.push(&text);
        let before = args.as_ptr() as usize;
        let after: Vec<&'static [u8]> = recycle(args);
        assert!(after.is_empty());
        assert_eq!((after.as_ptr() as usize, after.capacity()), (before, 100));
    }
}
