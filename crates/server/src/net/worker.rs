//! One worker thread: an event loop over its connections.
//!
//! One turn: wait for events and messages → serve each ready connection (read, parse, execute) → end
//! the turn (`turn.rs`: hand the log to the operating system, send replies, free what has closed).
//! New connections are in `accept.rs`, a connection's part of a turn in `serve.rs`.
//!
//! A connection is read at most once a turn, so none can keep the others waiting; events are edge
//! triggered, and `Conn::readable` remembers an edge that was not used up.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Interest, Poll, Token};

use super::conn::{Conn, Wait};
use super::deliver::note_over_limit;
use super::listener::Listener;
use super::mailbox::{Mailbox, Message};
use super::placement::Placement;
use crate::answer::{Answer, Outcome};
use crate::log::Level;
use crate::shared::WorkerContext;

/// Read at once from one socket; also the fairness bound of a turn.
pub(super) const SCRATCH_BYTES: usize = 64 * 1024;
/// The longest sleep: timers are looked at this often.
const TICK: Duration = Duration::from_millis(100);
const EVENTS_MAX: usize = 1024;

/// The waker's token. Listeners count down from the one below; connections count up from 0.
pub(crate) const WAKER: Token = Token(usize::MAX);
pub(super) const FIRST_LISTENER: usize = usize::MAX - 1;
pub(super) const LISTENERS_MAX: usize = 64;

/// A worker and everything it owns.
pub(crate) struct Worker {
    pub(super) number: usize,
    pub(super) cx: WorkerContext,
    pub(super) poll: Poll,
    pub(super) listeners: Vec<Listener>,
    /// An accept failed for lack of descriptors: try again at the next tick.
    pub(super) accept_again: bool,
    pub(super) conns: Vec<Option<Box<Conn>>>,
    pub(super) free: Vec<usize>,
    /// Connections with work for this turn, and for the next.
    pub(super) ready: Vec<usize>,
    pub(super) touched: Vec<usize>,
    /// Places of closed connections, usable from the next turn on: an event of this turn may still
    /// name them.
    pub(super) freed: Vec<usize>,
    messages: Vec<Message>,
    pub(super) scratch: Vec<u8>,
    /// Argument room kept between commands.
    pub(super) args: Vec<&'static [u8]>,
    pub(super) turn: u64,
    /// Connections whose replies wait until a turn is durable, oldest turn first.
    pub(super) held: VecDeque<(u64, Vec<usize>)>,
    room_requested: bool,
    pub(super) next_tick_us: u64,
    /// When the next wait of a connection ends by itself. Not the tick's business: waits may end
    /// every millisecond, and what the tick does counts on its pace.
    pub(super) next_end_us: u64,
    pub(super) live: usize,
    /// Worker 0 has it when the number of active workers follows the load.
    pub(super) placement: Option<Placement>,
    /// The tick has come to look for connections that another worker should have.
    pub(super) rebalance_due: bool,
    /// Microseconds spent waiting for events, and when they were last looked at.
    idle_us: u64,
    measured_us: u64,
}

impl Worker {
    pub(crate) fn new(
        number: usize,
        poll: Poll,
        cx: WorkerContext,
        listeners: Vec<Listener>,
        placement: Option<Placement>,
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
            next_end_us: u64::MAX,
            live: 0,
            placement,
            rebalance_due: false,
            idle_us: 0,
            measured_us: 0,
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
            let is_idle = self.ready.is_empty() && self.cx.pubsub.is_idle(&self.cx.shared.pubsub);
            let wait = if is_idle { self.sleep() } else { Duration::ZERO };
            let idle_from_us = self.cx.clock.monotonic_us();
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
            self.idle_us += self.cx.now_us.saturating_sub(idle_from_us);
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
        let next_us = self.next_tick_us.min(self.next_end_us);
        Duration::from_micros(next_us.saturating_sub(self.cx.now_us) + 1).min(TICK)
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

    fn read_messages(&mut self) {
        let mut messages = std::mem::take(&mut self.messages);
        // In this order: see net/deliver.rs.
        self.cx.pubsub.collect(&self.cx.shared.pubsub);
        self.cx.mailbox.take(&mut messages);
        for message in messages.drain(..) {
            match message {
                Message::Accepted(stream) => self.adopt(stream),
                Message::Moved(conn) => self.settle(conn),
                Message::Durable { turn, result } => self.release(turn, &result),
                Message::Room => {
                    self.room_requested = false;
                    self.wake_where(|conn| matches!(conn.wait, Wait::Room { .. }));
                }
                Message::PostRoom => self.wake_where(|conn| conn.wait == Wait::PostRoom),
                Message::Done { place, wait, outcome } => self.complete(place, wait, outcome),
                Message::Kill { client } => self.kill(client),
            }
        }
        self.messages = messages;
        self.deliver();
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

    /// The answer to a command that waits; nobody may wait for it any more.
    fn complete(&mut self, place: usize, wait: u64, outcome: Outcome) {
        let Some(conn) = self.conns.get_mut(place).and_then(Option::as_mut) else { return };
        if !matches!(conn.wait, Wait::Done { wait: awaited, .. } if awaited == wait) {
            return;
        }
        conn.wait = Wait::No;
        if !conn.session.awaited.take().is_some_and(|awaited| awaited.silent) {
            match outcome {
                Ok(answer) => answer.write(&mut conn.out, &self.cx.shared),
                Err(error) => self.cx.fail(&mut conn.out, &error),
            }
        }
        self.make_ready(place);
        self.touch(place);
    }

    /// Ends the waits whose moment has come. Returns when the next one's comes.
    fn end_waits(&mut self) -> u64 {
        let now_us = self.cx.now_us;
        let mut next_us = u64::MAX;
        for place in 0..self.conns.len() {
            let Some(conn) = self.conns[place].as_mut() else { continue };
            let deadline_us = conn.wait_deadline_us();
            if deadline_us > now_us {
                next_us = next_us.min(deadline_us);
                continue;
            }
            match (conn.wait, &mut conn.session.awaited) {
                (Wait::Done { wait, .. }, Some(awaited)) => {
                    let late = std::mem::replace(&mut awaited.late, Ok(Answer::Null));
                    self.complete(place, wait, late);
                }
                // It runs once more, and answers STALLED when there is still no room; or it has
                // slept, and goes on.
                _ => {
                    conn.wait = Wait::No;
                    self.make_ready(place);
                }
            }
        }
        next_us
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

    /// Asks the engine once for a call when memtable room is there.
    pub(super) fn request_room(&mut self) {
        if !self.room_requested {
            self.room_requested = true;
            let mailbox: Arc<Mailbox> = Arc::clone(&self.cx.mailbox);
            self.cx.shared.db.on_room(Box::new(move || mailbox.send(Message::Room)));
        }
    }

    /// Timers: waits when they end, everything else every tick.
    pub(super) fn tick(&mut self) {
        let now_us = self.cx.now_us;
        if now_us >= self.next_end_us {
            self.next_end_us = self.end_waits();
        }
        if now_us < self.next_tick_us {
            return;
        }
        self.next_tick_us = now_us + TICK.as_micros() as u64;
        self.close_idle();
        self.measure();
        self.rebalance_due = true;
        if self.number == 0 {
            self.place();
            crate::cron::run(&mut self.cx);
            if std::mem::take(&mut self.accept_again) {
                (0..self.listeners.len()).for_each(|index| self.accept_all(index));
            }
        }
    }

    /// Publishes what the time since the last tick went into.
    fn measure(&mut self) {
        let now_us = self.cx.now_us;
        let elapsed = now_us.saturating_sub(self.measured_us).max(1);
        let permille = |part: u64| (part * 1000 / elapsed).min(1000);
        let stats = &self.cx.stats;
        stats.busy.store(1000 - permille(self.idle_us), Ordering::Relaxed);
        stats.executing.store(permille(self.cx.executed_us), Ordering::Relaxed);
        self.measured_us = now_us;
        self.idle_us = 0;
        self.cx.executed_us = 0;
    }

    fn close_idle(&mut self) {
        let timeout = self.cx.settings.timeout.as_millis() as u64;
        for place in 0..self.conns.len() {
            let Some(conn) = self.conns[place].as_mut() else { continue };
            let seen = conn.session.client.seen_ms.load(Ordering::Relaxed);
            let idle = timeout > 0
                && !conn.session.is_subscriber()
                && conn.wait == Wait::No
                && self.cx.now_ms.saturating_sub(seen) > timeout;
            let is_over = conn.is_over_limit(&self.cx.settings, self.cx.now_us);
            if is_over {
                note_over_limit(&self.cx.shared, conn, self.cx.now_ms);
            }
            if idle || is_over {
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
        self.unsubscribe_closed(place, &mut conn);
        self.cx.shared.clients.remove(conn.session.client.id);
        self.cx.stats.clients.fetch_sub(1, Ordering::Relaxed);
        self.live -= 1;
        self.freed.push(place);
    }

    pub(super) fn reuse_freed_places(&mut self) {
        self.free.append(&mut self.freed);
    }
}
