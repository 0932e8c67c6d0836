//! What other threads may know of a connection: who it is, and what `CLIENT LIST` shows. The
//! connection itself belongs to one worker thread; this record is shared.
//!
//! The owner writes the numbers at the end of a turn (relaxed: a listing may be a turn old); names
//! change under a small lock.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};
use std::sync::{Arc, Mutex};

use crate::ack::AckChoice;
use crate::registry::{CommandId, table};

/// Names a client gives itself.
#[derive(Debug, Default, Clone)]
pub(crate) struct ClientText {
    pub(crate) name: Vec<u8>,
    pub(crate) lib_name: Vec<u8>,
    pub(crate) lib_version: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) fd: i32,
    /// The worker that serves it; the owner stores its number when it takes the connection over.
    pub(crate) worker: AtomicUsize,
    /// `CLIENT KILL` named it. Set before the message goes out: whoever takes the connection over
    /// at that moment finds it here.
    pub(crate) killed: AtomicBool,
    pub(crate) created_ms: u64,
    pub(crate) seen_ms: AtomicU64,
    pub(crate) db: AtomicU32,
    /// Queued commands; -1 outside MULTI.
    pub(crate) queued: AtomicI64,
    pub(crate) watching: AtomicU32,
    /// Channels, patterns and shard channels it subscribes to.
    pub(crate) subscriptions: [AtomicU32; 3],
    pub(crate) input_bytes: AtomicU64,
    pub(crate) input_room: AtomicU64,
    pub(crate) queued_bytes: AtomicU64,
    pub(crate) output_bytes: AtomicU64,
    pub(crate) last_command: AtomicU16,
    pub(crate) protocol: AtomicU8,
    pub(crate) no_evict: AtomicBool,
    pub(crate) no_touch: AtomicBool,
    /// `CLIENT ACK`, as a number.
    pub(crate) ack: AtomicU8,
    /// Waits for something else than its socket (a flush, memtable room).
    pub(crate) waiting: AtomicBool,
    pub(crate) closing: AtomicBool,
    pub(crate) text: Mutex<ClientText>,
}

/// No command yet.
pub(crate) const NO_COMMAND: u16 = u16::MAX;

impl Client {
    pub(crate) fn new(
        id: u64,
        (peer, local): (SocketAddr, SocketAddr),
        fd: i32,
        worker: usize,
        now_ms: u64,
    ) -> Client {
        Client {
            id,
            peer,
            local,
            fd,
            worker: AtomicUsize::new(worker),
            killed: AtomicBool::new(false),
            created_ms: now_ms,
            seen_ms: AtomicU64::new(now_ms),
            db: AtomicU32::new(0),
            queued: AtomicI64::new(-1),
            watching: AtomicU32::new(0),
            subscriptions: Default::default(),
            input_bytes: AtomicU64::new(0),
            input_room: AtomicU64::new(0),
            queued_bytes: AtomicU64::new(0),
            output_bytes: AtomicU64::new(0),
            last_command: AtomicU16::new(NO_COMMAND),
            protocol: AtomicU8::new(2),
            no_evict: AtomicBool::new(false),
            no_touch: AtomicBool::new(false),
            ack: AtomicU8::new(AckChoice::Default as u8),
            waiting: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            text: Mutex::default(),
        }
    }

    /// The client's line of `CLIENT LIST`.
    pub(crate) fn line(&self, now_ms: u64, out: &mut Vec<u8>) {
        let text = crate::lock(&self.text).clone();
        let output = self.output_bytes.load(Ordering::Relaxed);
        let (input, room) =
            (self.input_bytes.load(Ordering::Relaxed), self.input_room.load(Ordering::Relaxed));
        let queued_bytes = self.queued_bytes.load(Ordering::Relaxed);
        let last = self.last_command.load(Ordering::Relaxed);
        let command = match last {
            NO_COMMAND => "NULL",
            number => &table().entry(CommandId(number)).full_name,
        };
        let seconds = |since: u64| now_ms.saturating_sub(since) / 1000;
        let mut line = String::with_capacity(320);
        // Writing to a string cannot fail.
        let _ = write!(
            line,
            "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub={} psub={} ssub={} \
             multi={} watch={} qbuf={} qbuf-free={} argv-mem=0 multi-mem={} rbs={} rbp={} obl={} oll=0 \
             omem=0 tot-mem={} events={} cmd={} user=default redir=-1 resp={} lib-name={} lib-ver={} \
             ack={}",
            self.id,
            self.peer,
            self.local,
            self.fd,
            String::from_utf8_lossy(&text.name),
            seconds(self.created_ms),
            seconds(self.seen_ms.load(Ordering::Relaxed)),
            self.flags(),
            self.db.load(Ordering::Relaxed),
            self.subscriptions[0].load(Ordering::Relaxed),
            self.subscriptions[1].load(Ordering::Relaxed),
            self.subscriptions[2].load(Ordering::Relaxed),
            self.queued.load(Ordering::Relaxed),
            self.watching.load(Ordering::Relaxed),
            input,
            room,
            queued_bytes,
            output,
            output,
            output,
            input + room + queued_bytes + output + std::mem::size_of::<Client>() as u64,
            if output > 0 { "rw" } else { "r" },
            command,
            self.protocol.load(Ordering::Relaxed),
            String::from_utf8_lossy(&text.lib_name),
            String::from_utf8_lossy(&text.lib_version),
            AckChoice::of_number(self.ack.load(Ordering::Relaxed)).name(),
        );
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }

    /// Subscribes to something.
    pub(crate) fn is_subscriber(&self) -> bool {
        self.subscriptions.iter().any(|count| count.load(Ordering::Relaxed) > 0)
    }

    fn flags(&self) -> String {
        let mut flags = String::new();
        for (set, letter) in [
            (self.is_subscriber(), 'P'),
            (self.queued.load(Ordering::Relaxed) >= 0, 'x'),
            (self.waiting.load(Ordering::Relaxed), 'b'),
            (self.closing.load(Ordering::Relaxed), 'c'),
            (self.no_evict.load(Ordering::Relaxed), 'e'),
            (self.no_touch.load(Ordering::Relaxed), 'T'),
        ] {
            if set {
                flags.push(letter);
            }
        }
        if flags.is_empty() {
            flags.push('N');
        }
        flags
    }
}

/// All connected clients, by id.
#[derive(Debug)]
pub(crate) struct Clients {
    next_id: AtomicU64,
    all: Mutex<BTreeMap<u64, Arc<Client>>>,
}

impl Default for Clients {
    fn default() -> Clients {
        Clients { next_id: AtomicU64::new(1), all: Mutex::default() }
    }
}

impl Clients {
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }
    pub(crate) fn add(&self, client: &Arc<Client>) {
        crate::lock(&self.all).insert(client.id, Arc::clone(client));
    }
    pub(crate) fn remove(&self, id: u64) {
        crate::lock(&self.all).remove(&id);
    }
    pub(crate) fn count(&self) -> usize {
        crate::lock(&self.all).len()
    }
    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        crate::lock(&self.all).values().cloned().collect()
    }
}
