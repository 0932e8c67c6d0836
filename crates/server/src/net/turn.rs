//! The end of a turn: what its commands logged is handed over before any of its replies leaves.
//!
//! ```text
//! commands of the turn   commit at ack Memory: visible, in the log's buffer
//! flush_log              one write(2) for all of them: survives kill -9           (ack Os)
//! replies                leave now, except with `appendfsync always`:
//! on_durable             replies of connections that wrote wait for the sync      (ack Disk)
//! ```
//!
//! A connection may have chosen another level for itself (`CLIENT ACK`, `ack.rs`): each waits for
//! what it wrote at, and the log is handed over when anything was logged.
//!
//! The log is handed over after a turn that only read, too: it may have read what another thread
//! committed and has not handed over yet, and a reply must not show what a crash can still take
//! back. When nothing is in the buffer that costs the engine one look.
//!
//! When the log fails, what the connection wrote in this turn is visible but not kept. Its replies of the
//! turn are withdrawn; it gets one error and is closed, because nothing truthful can be said about
//! the single commands.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sluicedb::Ack;

use super::conn::{Conn, Wait};
use super::deliver::note_over_limit;
use super::mailbox::Message;
use super::worker::Worker;
use crate::log::Level;

impl Worker {
    pub(super) fn end_turn(&mut self) {
        self.tick();
        let log_failure = self.hand_over_log();
        if let Some(text) = &log_failure {
            self.cx.shared.note(Level::Warning, &format!("writing the log failed: {text}"));
        }
        let mut touched = std::mem::take(&mut self.touched);
        for place in touched.drain(..) {
            self.finish_connection(place, log_failure.as_deref());
        }
        if self.touched.is_empty() {
            self.touched = touched;
        }
        if std::mem::take(&mut self.rebalance_due) {
            self.rebalance();
        }
        self.reuse_freed_places();
    }

    /// Raises the turn's writes from ack `Memory` to what replies promise.
    fn hand_over_log(&mut self) -> Option<String> {
        let logs = self.cx.settings.log
            || self.cx.turn_logged
            || self.cx.shared.log_asked_for.load(Ordering::Relaxed);
        if !self.cx.ran_data || !logs {
            return None;
        }
        self.cx.stats.log_flushes.add(1);
        if let Err(error) = self.cx.shared.db.flush_log() {
            return Some(error.to_string());
        }
        let position = self.cx.turn_position?;
        let turn = self.turn;
        let mut places = Vec::new();
        for &place in &self.touched {
            if let Some(conn) =
                self.conns[place].as_mut().filter(|conn| conn.wrote == Some(Ack::Disk))
            {
                conn.hold = Some(turn);
                places.push(place);
            }
        }
        if !places.is_empty() {
            self.held.push_back((turn, places));
            let mailbox = Arc::clone(&self.cx.mailbox);
            let notify = move |result: sluicedb::Result<sluicedb::Position>| {
                let result = result.map(drop).map_err(|error| error.to_string());
                mailbox.send(Message::Durable { turn, result });
            };
            self.cx.shared.db.on_durable(position, Box::new(notify));
        }
        None
    }

    /// A turn is durable, or cannot be made so: its replies leave, or are withdrawn.
    pub(super) fn release(&mut self, turn: u64, result: &Result<(), String>) {
        let Some(at) = self.held.iter().position(|(held, _)| *held == turn) else { return };
        let Some((_, places)) = self.held.remove(at) else { return };
        for place in places {
            let Some(conn) = self.conns.get_mut(place).and_then(Option::as_mut) else { continue };
            // The place may have a new connection by now.
            if conn.hold != Some(turn) {
                continue;
            }
            if let Err(text) = result {
                withdraw(conn, text);
            }
            conn.hold = None;
            conn.forget_spans();
            conn.take_pushes();
            self.make_ready(place);
            self.touch(place);
        }
    }

    /// Sends what a connection may send, and closes it when it is at its end.
    fn finish_connection(&mut self, place: usize, log_failure: Option<&str>) {
        let Some(conn) = self.conns.get_mut(place).and_then(Option::as_mut) else { return };
        conn.touched = false;
        // What was not to be logged has lost nothing.
        if let (Some(text), true) = (log_failure, conn.wrote >= Some(Ack::Os)) {
            withdraw(conn, text);
        }
        conn.wrote = None;
        if !conn.dead && conn.unsent() > 0 {
            match conn.send() {
                Ok(sent) => {
                    self.cx.stats.output_bytes.add(sent as u64);
                    self.cx.stats.writes.add(1);
                }
                Err(_) => conn.dead = true,
            }
        }
        let settings = &self.cx.settings;
        let is_idle = conn.wait == Wait::No && conn.hold.is_none() && conn.unsent() == 0;
        // Commands that wait only for room in the output come before the end of the stream.
        let stopped = std::mem::take(&mut conn.stopped);
        let goes_on = stopped && conn.may_run(settings) && !(conn.input.is_empty() && conn.ended);
        let at_end = is_idle && (conn.closing || conn.ended) && !goes_on;
        let is_over = !conn.dead && !at_end && conn.is_over_limit(settings, self.cx.now_us);
        if is_over {
            note_over_limit(&self.cx.shared, conn, self.cx.now_ms);
        }
        if conn.dead || at_end || is_over {
            self.close(place);
            return;
        }
        conn.stopped = stopped && !goes_on;
        publish(conn);
        if goes_on {
            self.make_ready(place);
        }
    }
}

/// Takes back the replies of the turn: see the head of this file.
fn withdraw(conn: &mut Conn, text: &str) {
    // Published messages among them were true: they stay, and whole.
    let pushes = conn.cut_replies();
    conn.out.error(&format!("MISCONF Errors writing to the AOF file: {text}"));
    conn.out.buffer_mut().extend_from_slice(&pushes);
    conn.closing = true;
}

/// Brings the shared record up to date for `CLIENT LIST`.
fn publish(conn: &Conn) {
    let client = &conn.session.client;
    client.db.store(conn.session.db, Ordering::Relaxed);
    client.input_bytes.store(conn.input.len() as u64, Ordering::Relaxed);
    client.input_room.store(conn.input.free() as u64, Ordering::Relaxed);
    client.output_bytes.store(conn.unsent() as u64, Ordering::Relaxed);
    client.waiting.store(conn.wait != Wait::No, Ordering::Relaxed);
    client.closing.store(conn.closing, Ordering::Relaxed);
}
