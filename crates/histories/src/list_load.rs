//! A client that works on lists and records it. Append-only strings are the lists (`lists`).
//!
//! ```text
//! list:<number>          shared: a few at a time; each generation of them grows to some dozen
//!                        elements and is left behind, or reads would become the whole load
//! own:<slot>:<number>    pairs that one client alone writes, with MSET, and all read with MGET
//! ```
//!
//! An element is written as a comma and seven digits: every one has the same size, so the length
//! that APPEND returns counts elements.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU32, Ordering};

use sluice_env::Rng;

use crate::client::{Client, Reply, encode};
use crate::lists::{Outcome, Part, Transaction};
use crate::record::{End, Operation, Timeline};

/// A string whose comparison with itself takes a millisecond or so, when somebody has set it.
pub const SLOW: &str = "slow";
/// Shared keys in use at a time.
const HOT: u32 = 4;
/// Appends to the shared keys before the next ones are used.
const GENERATION: u32 = 240;
/// Elements of a pair that one client writes.
const PAIR_MAX: usize = 50;
/// Pairs of one client, and the number of the first key of a pair: above all shared ones.
const PAIRS_MAX: u32 = 1 << 16;
const PAIRS_FROM: u32 = 1 << 24;
const ELEMENT_BYTES: usize = 8;
const ELEMENTS_MAX: u32 = 10_000_000;

/// What the clients of one history share.
#[derive(Debug)]
pub struct Pool {
    timeline: Timeline,
    elements: AtomicU32,
    appends: AtomicU32,
    /// For each slot, the number of its pair in use.
    pairs: Vec<AtomicU32>,
}

impl Pool {
    /// For so many clients at a time.
    pub fn new(slots: usize) -> Pool {
        Pool {
            timeline: Timeline::default(),
            elements: AtomicU32::new(0),
            appends: AtomicU32::new(0),
            pairs: (0..slots).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// The counter of all its clients.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    fn element(&self) -> u32 {
        let element = self.elements.fetch_add(1, Ordering::Relaxed);
        assert!(element < ELEMENTS_MAX, "the history is too long: check a shorter one");
        element
    }

    fn generation(&self) -> u32 {
        self.appends.load(Ordering::Relaxed) / GENERATION
    }

    fn shared_key(&self, rng: &mut Rng) -> u32 {
        self.generation() * HOT + rng.below(u64::from(HOT)) as u32
    }

    /// The first key of a slot's pair in use.
    fn pair(&self, slot: usize) -> u32 {
        let number = self.pairs[slot].load(Ordering::Relaxed);
        PAIRS_FROM + (slot as u32 * PAIRS_MAX + number) * 2
    }

    /// Every key that may have something.
    fn keys(&self) -> Vec<u32> {
        let mut keys: Vec<u32> = (0..(self.generation() + 1) * HOT).collect();
        for slot in 0..self.pairs.len() as u32 {
            let first = PAIRS_FROM + slot * PAIRS_MAX * 2;
            keys.extend(first..self.pair(slot as usize) + 2);
        }
        keys
    }
}

/// One connection. It ends with its first error; a new one is another process.
#[derive(Debug)]
pub struct ListClient<'a> {
    client: Client,
    process: u32,
    slot: usize,
    pool: &'a Pool,
    /// What this client has written into its pair.
    pair: Vec<u32>,
    /// What it did, replies included.
    pub history: Vec<Transaction>,
}

impl<'a> ListClient<'a> {
    /// `process` is a number of its own. One client at a time has the slot.
    pub fn new(client: Client, process: u32, slot: usize, pool: &'a Pool) -> Self {
        // What the one before had on its way to the pair is not known.
        pool.pairs[slot].fetch_add(1, Ordering::Relaxed);
        ListClient { client, process, slot, pool, pair: Vec::new(), history: Vec::new() }
    }

    /// One transaction, or a pipeline of small ones.
    ///
    /// # Errors
    /// Those of the connection. What was on its way is in the history with an unknown outcome.
    pub fn step(&mut self, rng: &mut Rng) -> io::Result<()> {
        match rng.below(10) {
            0..4 => self.pipeline(rng),
            4..6 => self.read_several(rng),
            6..8 => self.transaction(rng),
            8 => self.watched(rng),
            _ => self.write_pair(),
        }
    }

    /// A last look at every list of the history.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn read_all(&mut self) -> io::Result<()> {
        for keys in self.pool.keys().chunks(16) {
            self.mget(keys)?;
        }
        Ok(())
    }

    fn begin(&mut self, op: Vec<Part>) -> usize {
        let (process, called) = (self.process, self.pool.timeline.now());
        self.history.push(Operation { process, called, op, end: End::NEVER_HEARD });
        self.history.len() - 1
    }

    fn end(&mut self, at: usize, reply: Outcome) {
        self.history[at].end = End::Known { at: self.pool.timeline.now(), reply };
    }

    fn random_part(&self, rng: &mut Rng) -> Part {
        let key = self.pool.shared_key(rng);
        match rng.one_in(2) {
            true => Part::Read { key, list: None },
            false => {
                self.pool.appends.fetch_add(1, Ordering::Relaxed);
                Part::Append { key, element: self.pool.element(), length: None }
            }
        }
    }

    /// APPENDs and GETs, each for itself.
    fn pipeline(&mut self, rng: &mut Rng) -> io::Result<()> {
        let count = 1 + if rng.one_in(2) { rng.below(5) } else { 0 };
        let first = self.history.len();
        let mut bytes = Vec::new();
        for _ in 0..count {
            let part = self.random_part(rng);
            write(&mut bytes, &part);
            self.begin(vec![part]);
        }
        // What follows in the same turn of the event loop holds up the replies: others may see the
        // appends long before this client hears of them, and before the log does.
        let holds_up = rng.one_in(8);
        if holds_up {
            encode(&mut bytes, &["LCS", SLOW, SLOW, "LEN"]);
        }
        self.client.socket.write_all(&bytes)?;
        for at in first..self.history.len() {
            let reply = self.client.reply()?;
            understand(&mut self.history[at].op[0], &reply);
            self.end(at, Outcome::Committed);
        }
        if holds_up {
            self.client.reply()?;
        }
        Ok(())
    }

    /// MGET of some shared keys and of a pair of somebody.
    fn read_several(&mut self, rng: &mut Rng) -> io::Result<()> {
        let pair = self.pool.pair(rng.below(self.pool.pairs.len() as u64) as usize);
        let mut keys = vec![pair, pair + 1];
        keys.extend((0..2).map(|_| self.pool.shared_key(rng)));
        self.mget(&keys)
    }

    fn mget(&mut self, keys: &[u32]) -> io::Result<()> {
        let mut args = vec!["MGET".to_owned()];
        args.extend(keys.iter().map(|key| name(*key)));
        let mut bytes = Vec::new();
        encode(&mut bytes, &args);
        let at = self.begin(keys.iter().map(|key| Part::Read { key: *key, list: None }).collect());
        self.client.socket.write_all(&bytes)?;
        let reply = self.client.reply()?;
        self.answered(at, 0, &reply);
        Ok(())
    }

    /// Several parts in MULTI/EXEC.
    fn transaction(&mut self, rng: &mut Rng) -> io::Result<()> {
        let parts = (0..2 + rng.below(4)).map(|_| self.random_part(rng)).collect();
        self.exec(parts, 0)
    }

    /// Reads two lists, and appends to one of them if neither has changed.
    fn watched(&mut self, rng: &mut Rng) -> io::Result<()> {
        let (one, other) = (self.pool.shared_key(rng), self.pool.shared_key(rng));
        let names = [name(one), name(other)];
        let mut bytes = Vec::new();
        encode(&mut bytes, &["WATCH", &names[0], &names[1]]);
        encode(&mut bytes, &["GET", &names[0]]);
        encode(&mut bytes, &["GET", &names[1]]);
        self.client.socket.write_all(&bytes)?;
        assert_eq!(self.client.reply()?, Reply::ok());
        let mut parts = Vec::new();
        for key in [one, other] {
            let mut part = Part::Read { key, list: None };
            understand(&mut part, &self.client.reply()?);
            parts.push(part);
        }
        self.pool.appends.fetch_add(1, Ordering::Relaxed);
        parts.push(Part::Append { key: one, element: self.pool.element(), length: None });
        // EXEC makes the reads before it part of the transaction, or aborts.
        self.exec(parts, 2)
    }

    /// The first `known` parts have happened already.
    fn exec(&mut self, parts: Vec<Part>, known: usize) -> io::Result<()> {
        let mut bytes = Vec::new();
        encode(&mut bytes, &["MULTI"]);
        for part in &parts[known..] {
            write(&mut bytes, part);
        }
        encode(&mut bytes, &["EXEC"]);
        let queued = parts.len() - known;
        let at = self.begin(parts);
        self.client.socket.write_all(&bytes)?;
        for _ in 0..1 + queued {
            let reply = self.client.reply()?;
            assert!(matches!(reply, Reply::Simple(_)), "{reply:?}");
        }
        match self.client.reply()? {
            Reply::Nil => self.end(at, Outcome::Aborted),
            reply => self.answered(at, known, &reply),
        }
        Ok(())
    }

    /// Appends to both lists of the pair at once.
    fn write_pair(&mut self) -> io::Result<()> {
        if self.pair.len() == PAIR_MAX {
            self.pair.clear();
            let before = self.pool.pairs[self.slot].fetch_add(1, Ordering::Relaxed);
            assert!(before + 1 < PAIRS_MAX, "the history is too long: check a shorter one");
        }
        let (key, element) = (self.pool.pair(self.slot), self.pool.element());
        self.pair.push(element);
        let list: String = self.pair.iter().map(|element| text(*element)).collect();
        let mut bytes = Vec::new();
        encode(&mut bytes, &["MSET", &name(key), &list, &name(key + 1), &list]);
        let append = |key| Part::Append { key, element, length: None };
        let at = self.begin(vec![append(key), append(key + 1)]);
        self.client.socket.write_all(&bytes)?;
        assert_eq!(self.client.reply()?, Reply::ok());
        self.end(at, Outcome::Committed);
        Ok(())
    }

    fn answered(&mut self, at: usize, known: usize, reply: &Reply) {
        let parts = &mut self.history[at].op[known..];
        let replies = reply.array();
        assert_eq!(replies.len(), parts.len(), "{parts:?} were answered {reply:?}");
        for (part, reply) in parts.iter_mut().zip(replies) {
            understand(part, reply);
        }
        self.end(at, Outcome::Committed);
    }
}

fn name(key: u32) -> String {
    match key.checked_sub(PAIRS_FROM) {
        None => format!("list:{key}"),
        Some(number) => format!("own:{}:{}", number / 2 / PAIRS_MAX, number % (2 * PAIRS_MAX)),
    }
}

fn text(element: u32) -> String {
    format!(",{element:07}")
}

fn write(bytes: &mut Vec<u8>, part: &Part) {
    match part {
        Part::Append { key, element, .. } => {
            encode(bytes, &["APPEND", &name(*key), &text(*element)]);
        }
        Part::Read { key, .. } => encode(bytes, &["GET", &name(*key)]),
    }
}

/// Enters what a reply says.
fn understand(part: &mut Part, reply: &Reply) {
    match (part, reply) {
        (Part::Append { length, .. }, Reply::Integer(bytes)) => {
            let bytes = *bytes as usize;
            assert!(bytes.is_multiple_of(ELEMENT_BYTES), "a list of {bytes} bytes");
            *length = Some(bytes / ELEMENT_BYTES);
        }
        (Part::Read { list, .. }, Reply::Nil) => *list = Some(Vec::new()),
        (Part::Read { list, .. }, Reply::Bulk(bytes)) => *list = Some(parse(bytes)),
        (part, reply) => panic!("{part:?} was answered {reply:?}"),
    }
}

fn parse(bytes: &[u8]) -> Vec<u32> {
    let element = |piece: &[u8]| {
        let digits = piece.strip_prefix(b",").filter(|digits| digits.len() + 1 == ELEMENT_BYTES)?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    };
    let all: Option<Vec<u32>> = bytes.chunks(ELEMENT_BYTES).map(element).collect();
    all.unwrap_or_else(|| panic!("not a list: {:?}", String::from_utf8_lossy(bytes)))
}
