//! One writer of the kill test: its keys, what it sent, and which survivors explain what is found.
//!
//! Invariants: no other writer touches its keys; `base` is a state that the server has shown after
//! a start; `sent` are the operations since, in the order of the connection, each with what it wrote;
//! the first `acked` of them were answered, and the answers were right.
//!
//! What must be there after a kill, by level:
//!
//! ```text
//! sent            0 ──────────── covered ──────────── acked ──────── sent
//! logged          all there ─────────────────────────────▶ a prefix of these
//! not logged      all there ────────▶ a prefix of these ─────────────────▶
//! ```
//!
//! `covered`: acknowledged before the begin of the last flush that returned. A writer that changes its
//! level has both kinds; what survives then is a prefix of each. An unlogged operation that is there
//! is in tables, and so is every operation before it.

mod gate;
mod op;
mod shared;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use sluicedb::env::Rng;

use crate::common::client::{Client, Reply, encode};
pub use gate::Gate;
use op::{COUNTERS, KEYS, Op, Row, State};
pub use shared::Shared;

const PIPELINE_MAX: u64 = 12;

/// What a connection asked for, with `CLIENT ACK`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ack {
    Default,
    Memory,
    Os,
    Disk,
}

impl Ack {
    pub const ALL: [Ack; 4] = [Ack::Default, Ack::Memory, Ack::Os, Ack::Disk];

    pub fn name(self) -> &'static str {
        ["DEFAULT", "MEMORY", "OS", "DISK"][self as usize]
    }

    /// Whether such writes are logged by a server with that `appendonly`.
    pub fn is_logged(self, appendonly: bool) -> bool {
        match self {
            Ack::Default => appendonly,
            Ack::Memory => false,
            Ack::Os | Ack::Disk => true,
        }
    }
}

/// How far a writer is, for others to see.
#[derive(Debug, Default)]
pub struct Progress {
    pub acked: AtomicU64,
    /// Acknowledged before the begin of the last flush that returned.
    pub covered: AtomicU64,
    /// As `covered`, of the last save.
    pub saved: AtomicU64,
}

/// Operations that had to be there, by what their connection had asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Checked {
    pub by_ack: [u64; 4],
    /// Acknowledged, not logged, and not yet flushed: allowed to be lost.
    pub at_risk: u64,
    /// Of these, those that were there all the same.
    pub lucky: u64,
}

#[derive(Debug)]
struct Sent {
    op: Op,
    reply: Reply,
    effects: Vec<(Vec<u8>, Option<Row>)>,
    ack: Ack,
    logged: bool,
}

pub struct Model {
    writer: usize,
    serial: u64,
    base: State,
    /// `base` after all that was sent.
    now: State,
    sent: Vec<Sent>,
    acked: usize,
    covered: usize,
    saved: usize,
}

impl Model {
    pub fn new(writer: usize) -> Model {
        Model {
            writer,
            serial: 0,
            base: State::new(),
            now: State::new(),
            sent: Vec::new(),
            acked: 0,
            covered: 0,
            saved: 0,
        }
    }

    pub fn writer(&self) -> usize {
        self.writer
    }

    /// Sends some operations and reads their replies; `progress` hears of each. Returns their number.
    pub fn pipeline(
        &mut self,
        client: &mut Client,
        rng: &mut Rng,
        (ack, appendonly): (Ack, bool),
        progress: &Progress,
    ) -> io::Result<u64> {
        let count = 1 + rng.below(PIPELINE_MAX);
        let mut bytes = Vec::new();
        let first = self.sent.len();
        let logged = ack.is_logged(appendonly);
        for _ in 0..count {
            self.serial += 1;
            let op = Op::random(self.writer, self.serial, rng);
            op.encode(&mut bytes);
            let (reply, effects) = (op.reply(&self.now), op.effects(&self.now));
            for (key, row) in &effects {
                put(&mut self.now, key, row);
            }
            self.sent.push(Sent { op, reply, effects, ack, logged });
        }
        let waits = rng.one_in(8);
        if waits {
            encode(&mut bytes, &["WAITAOF", "1", "0", "0"]);
        }
        io::Write::write_all(&mut client.socket, &bytes)?;
        for sent in &self.sent[first..] {
            sent.op.read_replies(client, &sent.reply)?;
            self.acked += 1;
            progress.acked.store(self.acked as u64, SeqCst);
        }
        if waits {
            self.check_wait(client, first)?;
        }
        Ok(count)
    }

    /// WAITAOF is about the last write of the connection, which may be one before this pipeline.
    fn check_wait(&self, client: &mut Client, first: usize) -> io::Result<()> {
        let reply = client.reply()?;
        let wrote = self.sent[first..].iter().find(|sent| !sent.effects.is_empty());
        let done = reply == Reply::Array(vec![Reply::Integer(1), Reply::Integer(0)]);
        let refused = matches!(&reply, Reply::Error(text) if text.contains("WAITAOF"));
        match wrote.map(|sent| sent.logged) {
            Some(true) => assert!(done, "{reply:?}"),
            Some(false) => assert!(refused, "{reply:?}"),
            None => assert!(done || refused, "{reply:?}"),
        }
        Ok(())
    }

    /// The process has ended; `keeps_all`: by itself, and nothing acknowledged may be missing.
    pub fn ended(&mut self, progress: &Progress, keeps_all: bool) {
        let number = |count: &AtomicU64| count.load(SeqCst) as usize;
        self.covered = if keeps_all { self.acked } else { number(&progress.covered) };
        self.saved = number(&progress.saved);
    }

    /// A save holds one moment of all that was sent, not before its begin.
    pub fn check_save(&self, client: &mut Client) {
        let found = self.read(client);
        let mut search = Search::new(&self.base, &found);
        for (at, sent) in self.sent.iter().enumerate() {
            if at >= self.saved && search.is_found() {
                return;
            }
            search.survives(at, sent);
        }
        if !search.is_found() {
            panic!(
                "writer {}: no moment from {} to {} explains the save",
                self.writer,
                self.saved,
                self.sent.len()
            );
        }
    }

    /// Finds the survivors that explain the server's state, and goes on from there.
    pub fn check(&mut self, client: &mut Client, checked: &mut Checked) {
        let found = self.read(client);
        let lasts = match self.sent.iter().any(|sent| sent.logged) {
            true => self.acked..=self.sent.len(),
            false => self.sent.len()..=self.sent.len(),
        };
        // The nearest miss, for the message.
        let mut nearest = (usize::MAX, String::new());
        let unlogged_end =
            lasts.clone().find_map(|logged_end| self.explain(&found, logged_end, &mut nearest));
        let Some(unlogged_end) = unlogged_end else {
            panic!(
                "writer {}: {} sent, {} acknowledged, {} covered by a flush; no survivors explain \
                 the state: {}",
                self.writer,
                self.sent.len(),
                self.acked,
                self.covered,
                nearest.1
            );
        };
        for (at, sent) in self.sent[..self.acked].iter().enumerate() {
            if sent.logged || at < self.covered {
                checked.by_ack[sent.ack as usize] += 1;
            } else {
                checked.at_risk += 1;
                checked.lucky += u64::from(at < unlogged_end);
            }
        }
        self.sent.clear();
        (self.acked, self.covered, self.saved) = (0, 0, 0);
        self.now = found.clone();
        self.base = found;
    }

    /// With all logged operations before `logged_end`: the end of the unlogged ones that explains
    /// the state, if one does.
    fn explain(
        &self,
        found: &State,
        logged_end: usize,
        nearest: &mut (usize, String),
    ) -> Option<usize> {
        let mut search = Search::new(&self.base, found);
        for (at, sent) in self.sent.iter().enumerate() {
            if if sent.logged { at < logged_end } else { at < self.covered } {
                search.survives(at, sent);
            }
        }
        for at in self.covered..=self.sent.len() {
            if search.is_found() {
                return Some(at);
            }
            if search.differing() < nearest.0 {
                let keys = search.describe();
                *nearest = (
                    search.differing(),
                    format!("logged before {logged_end} and all before {at} come nearest: {keys}"),
                );
            }
            match self.sent.get(at) {
                Some(sent) if !sent.logged => search.survives(at, sent),
                // In tables, as what comes after it would be: so it must be among the survivors.
                Some(_) if at >= logged_end => return None,
                _ => {}
            }
        }
        None
    }

    fn read(&self, client: &mut Client) -> State {
        let counters =
            (0..COUNTERS).map(|number| format!("writer:{}:counter:{number}", self.writer));
        let keys = (0..KEYS).map(|number| format!("writer:{}:{number}", self.writer));
        let keys: Vec<String> = keys.chain(counters).collect();
        let mut args = vec!["MGET"];
        args.extend(keys.iter().map(String::as_str));
        let values = client.ask(&args).unwrap();
        let mut bytes = Vec::new();
        for key in &keys {
            encode(&mut bytes, &["TTL", key]);
        }
        io::Write::write_all(&mut client.socket, &bytes).unwrap();
        let mut state = State::new();
        for (key, value) in keys.iter().zip(values.array()) {
            let ttl = client.reply().unwrap().integer();
            assert_eq!(ttl == -2, value.bulk().is_none(), "{key}: {ttl} s to live");
            if let Some(value) = value.bulk() {
                let row = Row { value: value.to_vec(), expires: ttl != -1 };
                state.insert(key.clone().into_bytes(), row);
            }
        }
        state
    }

    /// Its keys after [`check`](Self::check).
    pub fn live_keys(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.base.keys().cloned()
    }
}

fn put(state: &mut State, key: &[u8], row: &Option<Row>) {
    match row {
        Some(row) => state.insert(key.to_vec(), row.clone()),
        None => state.remove(key),
    };
}

/// Compares the state after some survivors with what was found, a survivor at a time.
struct Search<'a> {
    found: &'a State,
    /// The last survivor that wrote each key: its number, and whether it left what was found.
    writers: HashMap<&'a [u8], (usize, bool)>,
    /// Keys that nobody has written yet, and whose base is not what was found.
    base_differs: HashMap<&'a [u8], ()>,
    wrong: usize,
}

impl<'a> Search<'a> {
    fn new(base: &'a State, found: &'a State) -> Search<'a> {
        let keys = base.keys().chain(found.keys());
        let differing = keys.filter(|key| base.get(*key) != found.get(*key));
        let base_differs = differing.map(|key| (&key[..], ())).collect();
        Search { found, writers: HashMap::new(), base_differs, wrong: 0 }
    }

    /// Operation number `at` is there, too. It stands where it was sent: behind those before it.
    fn survives(&mut self, at: usize, sent: &'a Sent) {
        for (key, row) in &sent.effects {
            let fits = self.found.get(key) == row.as_ref();
            match self.writers.get_mut(&key[..]) {
                Some((last, _)) if *last > at => {}
                Some((last, fitted)) => {
                    self.wrong = self.wrong + usize::from(!fits) - usize::from(!*fitted);
                    (*last, *fitted) = (at, fits);
                }
                None => {
                    self.base_differs.remove(&key[..]);
                    self.wrong += usize::from(!fits);
                    self.writers.insert(key, (at, fits));
                }
            }
        }
    }

    fn differing(&self) -> usize {
        self.wrong + self.base_differs.len()
    }

    fn is_found(&self) -> bool {
        self.differing() == 0
    }

    fn describe(&self) -> String {
        let written = self.writers.iter().filter(|(_, (_, fits))| !fits).map(|(key, _)| key);
        let keys = self.base_differs.keys().chain(written).take(8);
        let names: Vec<_> = keys.map(|key| String::from_utf8_lossy(key)).collect();
        format!("{} keys differ: {names:?}", self.differing())
    }
}
