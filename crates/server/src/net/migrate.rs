//! Connections move from worker to worker when `placement.rs` uses another number of workers, or
//! when one has many more than its share.
//!
//! ```text
//! giver, at the end of a turn             taker, at the beginning of a turn
//!   take out, deregister ── Message::Moved(Box<Conn>) ──▶ register, look at the socket
//! ```
//!
//! Only a connection at rest moves: nothing held, nothing awaited, not in this turn's lists. It takes
//! unread input and unsent output with it, so the client sees nothing of it. Its socket is taken for
//! readable and writable at the new place: an edge that came in between belongs to nobody else.
//!
//! A connection that subscribes moves under a lock that stops publishing: see `deliver.rs`.
//!
//! `CLIENT KILL` may aim at the giver while the connection is on its way. The killer marks the
//! record and then looks whose it is; the taker says that it is its own and then looks for the
//! mark. Both in sequentially consistent order, so one of the two sees the other.

use std::sync::atomic::Ordering;

use mio::{Interest, Token};

use super::conn::{Conn, Wait};
use super::mailbox::Message;
use super::placement::{self, Load};
use super::worker::Worker;

/// Moved at one tick at most: the turn stays short, the rest follows.
const MOVES_MAX: usize = 256;

impl Worker {
    /// Worker 0: looks at what all were busy with and sets how many shall have connections.
    pub(super) fn place(&mut self) {
        let shared = &self.cx.shared;
        let Some(placement) = &mut self.placement else { return };
        let active = shared.active_workers.load(Ordering::Relaxed);
        let load = shared.stats.iter().take(active).fold(Load::default(), |sum, stats| Load {
            busy: sum.busy + stats.busy.load(Ordering::Relaxed),
            executing: sum.executing + stats.executing.load(Ordering::Relaxed),
        });
        shared.active_workers.store(placement.decide(active, load), Ordering::Relaxed);
    }

    /// Gives away what another worker should have. At the end of a turn, when no list names a
    /// connection any more but the ready one.
    pub(super) fn rebalance(&mut self) {
        let active = self.cx.shared.active_workers.load(Ordering::Relaxed);
        let all = self.cx.shared.total(|stats| stats.clients.load(Ordering::Relaxed)) as usize;
        let excess = placement::excess(self.number, self.live, all, active).min(MOVES_MAX);
        let mut left = excess;
        for place in 0..self.conns.len() {
            if left == 0 {
                return;
            }
            let Some(conn) = self.conns[place].as_ref() else { continue };
            let is_at_rest = conn.wait == Wait::No
                && conn.hold.is_none()
                && !(conn.queued || conn.touched || conn.stopped)
                && !(conn.closing || conn.dead || conn.ended);
            if is_at_rest && self.give_away(place) {
                left -= 1;
            }
        }
    }

    /// False when nobody can take it.
    fn give_away(&mut self, place: usize) -> bool {
        let number = self.cx.shared.least_loaded_worker();
        let mailbox = self.cx.shared.mailboxes.get().and_then(|all| all.get(number)).cloned();
        let Some(mailbox) = mailbox.filter(|_| number != self.number) else { return false };
        let Some(mut conn) = self.conns.get_mut(place).and_then(Option::take) else { return false };
        // An error would mean that no event comes any more, which is what is wanted.
        let _ = self.poll.registry().deregister(&mut conn.socket);
        self.cx.shared.stats[number].clients.fetch_add(1, Ordering::Relaxed);
        self.cx.stats.clients.fetch_sub(1, Ordering::Relaxed);
        self.live -= 1;
        self.freed.push(place);
        match conn.session.is_subscriber() {
            true => self.move_subscriber(place, conn, (number, &mailbox)),
            false => mailbox.send(Message::Moved(conn)),
        }
        true
    }

    /// Makes a connection this worker's own.
    pub(super) fn settle(&mut self, mut conn: Box<Conn>) {
        let place = self.free.pop().unwrap_or(self.conns.len());
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(&mut conn.socket, Token(place), interest).is_err() {
            // No memory or descriptors for it: as if the peer had gone.
            if place < self.conns.len() {
                self.free.push(place);
            }
            self.cx.shared.clients.remove(conn.session.client.id);
            self.cx.stats.clients.fetch_sub(1, Ordering::Relaxed);
            self.unsubscribe_closed(place, &mut conn);
            return;
        }
        if let Some(subscriber) = &conn.session.pubsub {
            self.cx.pubsub.take_over(subscriber, place);
            // It may bring messages of its own: see net/deliver.rs.
            self.cx.ran_data = true;
        }
        let client = &conn.session.client;
        client.worker.store(self.number, Ordering::SeqCst);
        conn.dead |= client.killed.load(Ordering::SeqCst);
        // What came before it was registered made an edge that nobody has seen.
        conn.readable = true;
        conn.writable = true;
        match self.conns.get_mut(place) {
            Some(slot) => *slot = Some(conn),
            None => self.conns.push(Some(conn)),
        }
        self.live += 1;
        self.touch(place);
        self.make_ready(place);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use crate::{Config, Server};

    fn connect(address: SocketAddr) -> BufReader<TcpStream> {
        let socket = TcpStream::connect(address).unwrap();
        // A bound for a hanging test, not a measure.
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        BufReader::new(socket)
    }

    fn line(client: &mut BufReader<TcpStream>) -> String {
        let mut line = String::new();
        client.read_line(&mut line).unwrap();
        line
    }

    /// Pipelines of increments, each cut inside a command, until told to stop. Every reply must be
    /// the next number.
    fn count_up(address: SocketAddr, key: usize, stop: &AtomicBool) {
        let mut client = connect(address);
        let mut expected = 0;
        while !stop.load(Ordering::Relaxed) {
            let pipeline = format!("INCR {key}\r\n").repeat(7);
            let (head, tail) = pipeline.as_bytes().split_at(pipeline.len() - 5);
            client.get_mut().write_all(head).unwrap();
            // The rest comes when the others are answered, so the cut piece may move.
            for _ in 0..6 {
                expected += 1;
                assert_eq!(line(&mut client), format!(":{expected}\r\n"));
            }
            client.get_mut().write_all(tail).unwrap();
            expected += 1;
            assert_eq!(line(&mut client), format!(":{expected}\r\n"));
        }
    }

    #[test]
    fn connections_move_without_their_clients_noticing() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().display().to_string();
        let arguments = ["--port", "0", "--bind", "127.0.0.1", "--workers", "2", "--dir", &dir];
        let config = Config::from_arguments(arguments.map(str::to_owned)).unwrap();
        let server = Server::start(config).unwrap();
        let (address, shared) = (server.addresses()[0], server.shared());
        let stop = AtomicBool::new(false);
        let clients_of = |number: usize| shared.stats[number].clients.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            let mut idle = connect(address);
            idle.get_mut().write_all(b"CLIENT ID\r\n").unwrap();
            let id = line(&mut idle);
            (0..6).for_each(|key| {
                let stop = &stop;
                scope.spawn(move || count_up(address, key, stop));
            });
            while clients_of(0) + clients_of(1) < 7 {
                std::thread::yield_now();
            }
            for active in [1, 2, 1, 2, 1] {
                shared.active_workers.store(active, Ordering::Relaxed);
                while (clients_of(1) == 0) != (active == 1) {
                    std::thread::yield_now();
                }
            }
            stop.store(true, Ordering::Relaxed);
            let mut killer = connect(address);
            let kill = format!("CLIENT KILL ID {}\r\n", id[1..].trim());
            killer.get_mut().write_all(kill.as_bytes()).unwrap();
            assert_eq!(line(&mut killer), ":1\r\n");
            assert_eq!(idle.read(&mut [0]).unwrap(), 0, "killed where it is now");
        });
        server.stop_handle().stop();
        server.wait().unwrap();
    }

    #[test]
    fn a_connection_that_waits_stays_until_it_is_answered() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().display().to_string();
        let arguments = ["--port", "0", "--bind", "127.0.0.1", "--workers", "2", "--dir", &dir];
        let config = Config::from_arguments(arguments.map(str::to_owned)).unwrap();
        let server = Server::start(config).unwrap();
        let (address, shared) = (server.addresses()[0], server.shared());
        let clients_of = |number: usize| shared.stats[number].clients.load(Ordering::Relaxed);
        let mut clients: Vec<_> = (0..4).map(|_| connect(address)).collect();
        for client in &mut clients {
            client.get_mut().write_all(b"SET key value\r\n").unwrap();
            assert_eq!(line(client), "+OK\r\n");
        }
        assert!(clients_of(1) > 0, "two workers share four connections");
        let position = shared.db.positions().visible;
        for client in &mut clients {
            let wait = format!("MEMTABLE WAIT {position}\r\nPING\r\n");
            client.get_mut().write_all(wait.as_bytes()).unwrap();
        }
        let waiting =
            || shared.clients.all().iter().filter(|c| c.waiting.load(Ordering::Relaxed)).count();
        while waiting() < 4 {
            std::thread::yield_now();
        }
        // Others, which do not wait, show when the worker has given away what it could.
        let staying = clients_of(1);
        let mut free: Vec<_> = (0..4).map(|_| connect(address)).collect();
        for client in &mut free {
            client.get_mut().write_all(b"PING\r\n").unwrap();
            assert_eq!(line(client), "+PONG\r\n");
        }
        assert!(clients_of(1) > staying);
        shared.active_workers.store(1, Ordering::Relaxed);
        while clients_of(1) > staying {
            std::thread::yield_now();
        }
        assert_eq!((clients_of(1), waiting()), (staying, 4));
        free[0].get_mut().write_all(b"FLUSHMEMTABLE\r\n").unwrap();
        assert_eq!(line(&mut free[0]), "+OK\r\n");
        for client in &mut clients {
            assert!(line(client).starts_with('$'));
            line(client);
            assert_eq!(line(client), "+PONG\r\n");
        }
        while clients_of(1) > 0 {
            std::thread::yield_now();
        }
        server.stop_handle().stop();
        server.wait().unwrap();
    }
}
