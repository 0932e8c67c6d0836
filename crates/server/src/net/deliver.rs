//! Published messages on their last way: from a worker's desk into its connections' output.
//!
//! ```text
//! read_messages   post → desk, then the mailbox, then desk → outputs     every connection
//! serve           after the read, and after each command                 the one at work, if it
//!                 post → desk → pushes → output                          subscribes
//! ```
//!
//! The post is collected before the mailbox is read: a connection that moves is put into the mailbox
//! before any message that shall reach it here is put into the post, so it has settled by the time
//! that message is looked at.
//!
//! A message is appended between whole replies, and behind those that wait for the log. It may tell
//! of a commit whose log bytes another thread has not handed over: the turn does, before it leaves.

use std::sync::atomic::Ordering;

use super::conn::Conn;
use super::mailbox::{Mailbox, Message};
use super::worker::Worker;
use crate::log::Level;
use crate::pubsub::{self, DELIVERED_BYTES_MAX};

impl Worker {
    /// Delivers what is on the desk to all, up to the bound of a turn.
    pub(super) fn deliver(&mut self) {
        let registry = &self.cx.shared.pubsub;
        if registry.post(self.number).take_missed() {
            self.close_subscribers();
        }
        let registry = &self.cx.shared.pubsub;
        let (conns, touched) = (&mut self.conns, &mut self.touched);
        let (mut bytes, mut has_room) = (0, false);
        while bytes < DELIVERED_BYTES_MAX {
            let Some(publication) = self.cx.pubsub.next() else { break };
            self.cx.ran_data = true;
            self.cx.pubsub.receivers(&publication, |place, head| {
                let Some(conn) = conns.get_mut(place).and_then(Option::as_mut) else { return };
                let seen = conn.session.pubsub.as_ref().map_or(u64::MAX, |it| it.seen);
                if seen >= publication.number || conn.closing || conn.dead {
                    return;
                }
                bytes += conn.push(head, &publication.tail);
                if !conn.touched {
                    conn.touched = true;
                    touched.push(place);
                }
            });
            has_room |= self.cx.pubsub.delivered(registry, &publication);
        }
        if has_room {
            for mailbox in self.cx.shared.mailboxes.get().into_iter().flatten() {
                mailbox.send(Message::PostRoom);
            }
        }
    }

    /// Brings a connection that is being served up to date.
    pub(super) fn catch_up(&mut self, place: usize, conn: &mut Conn) {
        let proto = conn.out.proto();
        let Some(subscriber) = &mut conn.session.pubsub else { return };
        if !conn.closing {
            self.cx.pubsub.catch_up(&self.cx.shared.pubsub, (subscriber, place), proto);
        }
        self.cx.ran_data |= conn.take_pushes() > 0;
    }

    /// Takes a subscriber's record back before the connection is dropped.
    pub(super) fn unsubscribe_closed(&mut self, place: usize, conn: &mut Conn) {
        if let Some(subscriber) = conn.session.pubsub.take() {
            self.cx.pubsub.leave(&self.cx.shared.pubsub, &subscriber, place);
        }
    }

    /// Moves a subscriber: nothing is published meanwhile, so nothing is lost between the workers.
    pub(super) fn move_subscriber(
        &mut self,
        place: usize,
        mut conn: Box<Conn>,
        (to, mailbox): (usize, &Mailbox),
    ) {
        let registry = &self.cx.shared.pubsub;
        let mut moving = registry.begin_move();
        let proto = conn.out.proto();
        if let Some(subscriber) = &mut conn.session.pubsub {
            self.cx.pubsub.catch_up(registry, (subscriber, place), proto);
            moving.transfer(subscriber, self.number, to);
            self.cx.pubsub.give_away(subscriber, place);
        }
        conn.take_pushes();
        // Under the lock: behind it come the messages for the new worker.
        mailbox.send(Message::Moved(conn));
    }

    /// A message was lost to this worker's subscribers: nobody knows which of them it was for.
    fn close_subscribers(&mut self) {
        for place in 0..self.conns.len() {
            let Some(conn) = self.conns[place].as_mut() else { continue };
            if conn.session.is_subscriber() {
                note_over_limit(&self.cx.shared, conn, self.cx.now_ms);
                conn.dead = true;
                self.touch(place);
            }
        }
    }
}

impl Conn {
    /// Appends a message, or keeps it behind replies that wait for the log. Returns its length.
    fn push(&mut self, head: &[u8], tail: &[u8]) -> usize {
        let proto = self.out.proto();
        match &mut self.session.pubsub {
            Some(subscriber) if self.hold.is_some() => {
                pubsub::write(&mut subscriber.pushes, proto, head, tail)
            }
            _ => pubsub::write(&mut self.out, proto, head, tail),
        }
    }

    /// Appends the pushes that waited for the reply before them. Returns their length.
    pub(super) fn take_pushes(&mut self) -> usize {
        let Some(subscriber) = &mut self.session.pubsub else { return 0 };
        let length = subscriber.pushes.len();
        if length > 0 && self.hold.is_none() {
            let start = self.out.len();
            self.out.buffer_mut().append(subscriber.pushes.buffer_mut());
            subscriber.spans.push(start - self.turn_start..start - self.turn_start + length);
        }
        if subscriber.is_over() {
            self.session.pubsub = None;
        }
        length
    }

    /// The replies from `turn_start` on can no longer be taken back.
    pub(super) fn forget_spans(&mut self) {
        if let Some(subscriber) = &mut self.session.pubsub {
            subscriber.spans.clear();
        }
    }

    /// Cuts the output back to `turn_start` and returns the pushes that were behind it.
    pub(super) fn cut_replies(&mut self) -> Vec<u8> {
        let start = self.turn_start;
        let mut kept = Vec::new();
        if let Some(subscriber) = &mut self.session.pubsub {
            for span in subscriber.spans.drain(..) {
                let span = start + span.start..start + span.end;
                kept.extend_from_slice(self.out.bytes().get(span).unwrap_or_default());
            }
        }
        self.out.truncate(start.max(self.sent));
        kept
    }

    /// Bytes that wait behind replies that wait for the log.
    pub(super) fn kept_back(&self) -> usize {
        self.session.pubsub.as_ref().map_or(0, |subscriber| subscriber.pushes.len())
    }
}

/// Says which client is closed because it does not read what it is sent, as Redis says it.
pub(super) fn note_over_limit(shared: &crate::shared::Shared, conn: &Conn, now_ms: u64) {
    let client = &conn.session.client;
    client.output_bytes.store((conn.unsent() + conn.kept_back()) as u64, Ordering::Relaxed);
    let mut line = Vec::new();
    client.line(now_ms, &mut line);
    let line = String::from_utf8_lossy(&line);
    let text = format!(
        "Client {} scheduled to be closed ASAP for overcoming of output buffer limits.",
        line.trim_end()
    );
    shared.note(Level::Warning, &text);
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpStream;
    use std::sync::Arc;

    use super::Conn;
    use crate::clients::Client;
    use crate::pubsub::{Kind, Subscriber};
    use crate::session::Session;

    /// A connection that subscribes, and the other end of its socket.
    fn subscriber() -> (Conn, TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, peer) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let client = Arc::new(Client::new(1, (peer, peer), 0, 0, 0));
        let mut session = Session::new(client, true);
        let mut subscriber = Subscriber::default();
        subscriber.add(Kind::Channel, Arc::from(&b"a"[..]));
        session.pubsub = Some(Box::new(subscriber));
        (Conn::new(mio::net::TcpStream::from_std(socket), session), other)
    }

    fn say(conn: &mut Conn, text: &str) {
        conn.session
            .pubsub
            .as_mut()
            .unwrap()
            .pushes
            .buffer_mut()
            .extend_from_slice(text.as_bytes());
    }

    #[test]
    fn replies_that_are_taken_back_leave_the_pushes_between_them() {
        let (mut conn, _other) = subscriber();
        conn.out.simple("before");
        conn.turn_start = conn.out.len();
        for text in ["one", "two"] {
            conn.out.simple("reply");
            say(&mut conn, text);
            conn.take_pushes();
        }
        conn.out.simple("reply");
        assert_eq!(conn.cut_replies(), b"onetwo");
        assert_eq!(conn.out.bytes(), b"+before\r\n");
    }

    #[test]
    fn messages_wait_behind_replies_that_wait_for_the_log() {
        let (mut conn, mut other) = subscriber();
        conn.out.simple("before");
        conn.turn_start = conn.out.len();
        conn.out.simple("held");
        conn.hold = Some(1);
        let length = conn.push(b"1\r\n", b"$1\r\nx\r\n");
        conn.take_pushes();
        conn.send().unwrap();
        assert_eq!(conn.kept_back(), length);
        conn.hold = None;
        conn.take_pushes();
        conn.send().unwrap();
        let mut got = vec![0; "+before\r\n+held\r\n*1\r\n$1\r\nx\r\n".len()];
        other.read_exact(&mut got).unwrap();
        assert_eq!(String::from_utf8_lossy(&got), "+before\r\n+held\r\n*1\r\n$1\r\nx\r\n");
    }
}
