//! New connections: accepting, refusing, choosing a worker, and becoming one of its connections.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mio::net::TcpStream;

use super::conn::Conn;
use super::listener::prepare;
use super::mailbox::Message;
use super::worker::Worker;
use crate::clients::Client;
use crate::log::Level;
use crate::session::Session;

impl Worker {
    pub(super) fn accept_all(&mut self, index: usize) {
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
        let number = shared.least_loaded_worker();
        // Counted here, so that the next choice knows of it; the owner counts it down.
        shared.stats[number].clients.fetch_add(1, Ordering::Relaxed);
        match shared.mailboxes.get().and_then(|all| all.get(number)) {
            Some(mailbox) if number != self.number => mailbox.send(Message::Accepted(stream)),
            _ => self.adopt(stream),
        }
    }

    /// Makes an accepted socket a connection of this worker.
    pub(super) fn adopt(&mut self, stream: TcpStream) {
        let prepared = prepare(&stream, self.cx.settings.tcp_keepalive)
            .and_then(|()| Ok((stream.peer_addr()?, stream.local_addr()?)));
        let Ok(addresses) = prepared else {
            // The peer is gone already.
            self.cx.stats.clients.fetch_sub(1, Ordering::Relaxed);
            return;
        };
        let shared = &self.cx.shared;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&stream);
        let id = shared.clients.next_id();
        let client = Arc::new(Client::new(id, addresses, fd, self.number, self.cx.now_ms));
        shared.clients.add(&client);
        let session = Session::new(client, self.cx.settings.password.is_empty());
        self.cx.stats.connections.add(1);
        self.settle(Box::new(Conn::new(stream, session)));
    }
}

const PROTECTED_MODE: &str = "-DENIED The server is running in protected mode because protected \
mode is enabled and no password is set for the default user. In this mode connections are only \
accepted from the loopback interface. If you want to connect from external computers, set a password \
with requirepass, or disable protected mode with 'CONFIG SET protected-mode no' from the loopback \
interface.\r\n";
