//! Serving a ready connection: run what is buffered, read once, run what came.
//!
//! Whole commands are parsed and run where they were read, in the worker's scratch buffer; only what
//! remains of the last one is copied into the connection's own input.

use std::io::{self, Read};
use std::sync::atomic::Ordering;

use sluice_resp::{Limits, RequestParser, Step};

use super::conn::{Conn, Wait};
use super::input::Input;
use super::worker::{SCRATCH_BYTES, Worker};
use crate::exec::{self, Flow};
use crate::log::Level;
use crate::session::Session;

impl Worker {
    pub(super) fn serve_all(&mut self, carried: Vec<usize>) {
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
            if conn.hold.is_none() {
                conn.forget_spans();
            }
            self.cx.conn_wrote = None;
            let again = self.serve(place, &mut conn);
            conn.wrote = conn.wrote.max(self.cx.conn_wrote);
            conn.dead |= conn.waits_for_nobody();
            conn.stopped = !conn.may_run(&self.cx.settings);
            let parked = matches!(conn.wait, Wait::Room { .. });
            self.next_end_us = self.next_end_us.min(conn.wait_deadline_us());
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
            // The time of the read is not the first command's.
            self.cx.now_us = self.cx.clock.monotonic_us();
            if let Ok(count @ 1..) = outcome {
                let consumed = self.run_commands(place, conn, &scratch[..count]);
                conn.input.keep(&scratch[consumed..count]);
            }
            self.scratch = scratch;
            outcome.map(|count| (SCRATCH_BYTES, count))
        } else {
            let outcome = conn.input.read(&mut conn.socket, conn.missing);
            self.cx.now_us = self.cx.clock.monotonic_us();
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
        // What was published before these commands were sent comes before their replies.
        if conn.session.pubsub.is_some() {
            self.catch_up(place, conn);
        }
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
                        conn.wait = match conn.session.stall_deadline_us {
                            Some(deadline_us) => Wait::Room { deadline_us },
                            None => Wait::PostRoom,
                        };
                        conn.parser.reset();
                        break;
                    }
                    consumed += length;
                    match flow {
                        Flow::Next | Flow::Park => {}
                        Flow::Close => conn.closing = true,
                        Flow::Drop => conn.dead = true,
                        Flow::Wait { wait, deadline_us } => {
                            conn.wait = Wait::Done { wait, deadline_us };
                        }
                        Flow::Sleep(until_us) => conn.wait = Wait::Sleep { until_us },
                    }
                    if conn.session.pubsub.is_some() {
                        self.catch_up(place, conn);
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
}

/// The same allocation for arguments of another lifetime: the vector is empty in between, and
/// collecting an iterator over a vector's own elements reuses its memory.
fn recycle<'to>(mut args: Vec<&[u8]>) -> Vec<&'to [u8]> {
    args.clear();
    args.into_iter().map(|_| -> &'to [u8] { &[] }).collect()
}

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
