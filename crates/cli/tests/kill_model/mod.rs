//! One writer of the kill test: its keys, what it sent, and which state explains what it finds.
//!
//! Invariants: no other writer touches its keys; `base` is a state that the server has shown after
//! a start; `sent` are the operations since, in the order of the connection; the first `acked` of
//! them were answered, and the answers were right.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

use sluicedb::env::Rng;

use crate::common::client::{Client, Reply, encode};

const KEYS: u64 = 150;
const PIPELINE_MAX: u64 = 12;

type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// One atomic operation.
#[derive(Debug, Clone)]
enum Op {
    Set(Vec<u8>, Vec<u8>),
    Del(Vec<Vec<u8>>),
    Incr(Vec<u8>),
    Get(Vec<u8>),
    /// MSET, or MULTI of SETs and a DEL with EXEC.
    Many {
        pairs: Vec<(Vec<u8>, Vec<u8>)>,
        gone: Option<Vec<u8>>,
        as_transaction: bool,
    },
}

impl Op {
    fn random(writer: usize, serial: u64, rng: &mut Rng) -> Op {
        let key = |rng: &mut Rng| format!("writer:{writer}:{}", rng.below(KEYS)).into_bytes();
        let value = |rng: &mut Rng, part: usize| {
            // Mostly small; a few fill a small memtable with one write.
            let bytes = match rng.below(200) {
                0 => rng.below(40_000),
                1..10 => rng.below(4_000),
                _ => rng.below(200),
            };
            let mut value = format!("{writer}/{serial}/{part}/").into_bytes();
            value.resize(value.len() + bytes as usize, b'a' + (serial % 26) as u8);
            value
        };
        match rng.below(16) {
            0..6 => Op::Set(key(rng), value(rng, 0)),
            6..8 => Op::Del((0..=rng.below(3)).map(|_| key(rng)).collect()),
            8..10 => Op::Incr(format!("writer:{writer}:counter:{}", rng.below(5)).into_bytes()),
            10..12 => Op::Get(key(rng)),
            kind => Op::Many {
                pairs: (0..3).map(|part| (key(rng), value(rng, part))).collect(),
                gone: (kind >= 14).then(|| key(rng)),
                as_transaction: kind >= 14,
            },
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Op::Set(key, value) => encode(out, &[b"SET", &key[..], value]),
            Op::Del(keys) => {
                let mut args = vec![&b"DEL"[..]];
                args.extend(keys.iter().map(Vec::as_slice));
                encode(out, &args);
            }
            Op::Incr(key) => encode(out, &[b"INCR", &key[..]]),
            Op::Get(key) => encode(out, &[b"GET", &key[..]]),
            Op::Many { pairs, as_transaction: false, .. } => {
                let mut args = vec![&b"MSET"[..]];
                args.extend(pairs.iter().flat_map(|(key, value)| [&key[..], &value[..]]));
                encode(out, &args);
            }
            Op::Many { pairs, gone, as_transaction: true } => {
                encode(out, &["MULTI"]);
                for (key, value) in pairs {
                    encode(out, &[b"SET", &key[..], value]);
                }
                if let Some(key) = gone {
                    encode(out, &[b"DEL", &key[..]]);
                }
                encode(out, &["EXEC"]);
            }
        }
    }

    /// Reads what answers this operation; `state` is the one before it.
    fn read_replies(&self, client: &mut Client, state: &State) -> io::Result<()> {
        let fitting = match self {
            Op::Many { pairs, gone, as_transaction: true } => {
                for _ in 0..pairs.len() + usize::from(gone.is_some()) + 1 {
                    let reply = client.reply()?;
                    assert!(matches!(reply, Reply::Simple(_)), "{self:?} was answered {reply:?}");
                }
                let mut replies = vec![Reply::ok(); pairs.len()];
                if let Some(key) = gone {
                    let is_there =
                        state.contains_key(key) || pairs.iter().any(|pair| pair.0 == *key);
                    replies.push(Reply::Integer(i64::from(is_there)));
                }
                Reply::Array(replies)
            }
            Op::Set(..) | Op::Many { .. } => Reply::ok(),
            Op::Del(keys) => {
                let mut keys = keys.clone();
                keys.sort();
                keys.dedup();
                let there = keys.iter().filter(|key| state.contains_key(*key)).count();
                Reply::Integer(there as i64)
            }
            Op::Incr(key) => Reply::Integer(counter(state, key) + 1),
            Op::Get(key) => state.get(key).map_or(Reply::Nil, |value| Reply::Bulk(value.clone())),
        };
        let reply = client.reply()?;
        assert!(reply == fitting, "{self:?} was answered {reply:?} instead of {fitting:?}");
        Ok(())
    }

    fn apply(&self, state: &mut State, mut changed: impl FnMut(&[u8], Option<&[u8]>)) {
        let mut set = |state: &mut State, key: &[u8], value: Option<Vec<u8>>| {
            changed(key, value.as_deref());
            match value {
                Some(value) => state.insert(key.to_vec(), value),
                None => state.remove(key),
            };
        };
        match self {
            Op::Set(key, value) => set(state, key, Some(value.clone())),
            Op::Del(keys) => keys.iter().for_each(|key| set(state, key, None)),
            Op::Incr(key) => {
                let next = counter(state, key) + 1;
                set(state, key, Some(next.to_string().into_bytes()));
            }
            Op::Get(_) => {}
            Op::Many { pairs, gone, .. } => {
                for (key, value) in pairs {
                    set(state, key, Some(value.clone()));
                }
                if let Some(key) = gone {
                    set(state, key, None);
                }
            }
        }
    }
}

fn counter(state: &State, key: &[u8]) -> i64 {
    state.get(key).map_or(0, |text| String::from_utf8_lossy(text).parse().unwrap())
}

pub struct Model {
    writer: usize,
    serial: u64,
    base: State,
    /// `base` after the acknowledged operations.
    now: State,
    sent: Vec<Op>,
    acked: u64,
    must: u64,
}

impl Model {
    pub fn new(writer: usize) -> Model {
        let (base, now) = (State::new(), State::new());
        Model { writer, serial: 0, base, now, sent: Vec::new(), acked: 0, must: 0 }
    }

    /// Sends some operations, reads their replies, and says in `progress` how many are acknowledged.
    pub fn pipeline(
        &mut self,
        client: &mut Client,
        rng: &mut Rng,
        progress: &Mutex<(u64, u64)>,
    ) -> io::Result<u64> {
        let count = 1 + rng.below(PIPELINE_MAX);
        let mut bytes = Vec::new();
        let first = self.sent.len();
        for _ in 0..count {
            self.serial += 1;
            let op = Op::random(self.writer, self.serial, rng);
            op.encode(&mut bytes);
            self.sent.push(op);
        }
        io::Write::write_all(&mut client.socket, &bytes)?;
        for at in first..self.sent.len() {
            self.sent[at].read_replies(client, &self.now)?;
            self.sent[at].apply(&mut self.now, |_, _| {});
            self.acked += 1;
            progress.lock().unwrap().0 = self.acked;
        }
        Ok(count)
    }

    /// The first `count` operations must have survived, as far as they were acknowledged.
    pub fn must(&mut self, count: u64) {
        self.must = count.min(self.acked);
    }

    /// Finds the number of operations that explains the server's state, and goes on from there.
    pub fn check(&mut self, client: &mut Client) {
        let found = self.read(client);
        let mut state = std::mem::take(&mut self.base);
        // Keys in which `state` differs from `found`.
        let mut differing: std::collections::BTreeSet<Vec<u8>> = found
            .keys()
            .chain(state.keys())
            .filter(|key| found.get(*key) != state.get(*key))
            .cloned()
            .collect();
        // The nearest miss, for the message.
        let mut nearest = (usize::MAX, 0, Vec::new());
        let mut explained = None;
        for applied in 0..=self.sent.len() {
            if applied as u64 >= self.must {
                if differing.is_empty() {
                    explained = Some(applied);
                    break;
                }
                if differing.len() < nearest.0 {
                    nearest = (differing.len(), applied, differing.iter().cloned().collect());
                }
            }
            if let Some(op) = self.sent.get(applied) {
                op.apply(&mut state, |key, value| {
                    if found.get(key).map(Vec::as_slice) == value {
                        differing.remove(key);
                    } else {
                        differing.insert(key.to_vec());
                    }
                });
            }
        }
        let Some(_) = explained else {
            let keys: Vec<_> = nearest.2.iter().map(|key| String::from_utf8_lossy(key)).collect();
            panic!(
                "writer {}: no number of operations from {} to {} explains the state; {} come \
                 nearest, and differ in {keys:?}",
                self.writer,
                self.must,
                self.sent.len(),
                nearest.1
            );
        };
        self.sent.clear();
        (self.acked, self.must) = (0, 0);
        self.now = found.clone();
        self.base = found;
    }

    fn read(&self, client: &mut Client) -> State {
        let counters = (0..5).map(|number| format!("writer:{}:counter:{number}", self.writer));
        let keys = (0..KEYS).map(|number| format!("writer:{}:{number}", self.writer));
        let keys: Vec<String> = keys.chain(counters).collect();
        let mut args = vec!["MGET"];
        args.extend(keys.iter().map(String::as_str));
        let reply = client.ask(&args).unwrap();
        keys.iter()
            .zip(reply.array())
            .filter_map(|(key, value)| Some((key.clone().into_bytes(), value.bulk()?.to_vec())))
            .collect()
    }

    /// Its keys after [`check`](Self::check).
    pub fn live_keys(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.base.keys().cloned()
    }
}
