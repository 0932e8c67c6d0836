//! One atomic operation of a writer: its command, its reply, and what it leaves behind.

use std::collections::BTreeMap;
use std::io;

use sluicedb::env::Rng;

use crate::common::client::{Client, Reply, encode};

pub const KEYS: u64 = 150;
pub const COUNTERS: u64 = 5;

/// What is stored under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub value: Vec<u8>,
    /// Whether it has a time to live, an hour of it: its batch touched a second column family.
    pub expires: bool,
}

pub type State = BTreeMap<Vec<u8>, Row>;

#[derive(Debug, Clone)]
pub enum Op {
    Set {
        key: Vec<u8>,
        row: Row,
    },
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
    pub fn random(writer: usize, serial: u64, rng: &mut Rng) -> Op {
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
            0..6 => {
                let row = Row { value: value(rng, 0), expires: rng.one_in(4) };
                Op::Set { key: key(rng), row }
            }
            6..8 => Op::Del((0..=rng.below(3)).map(|_| key(rng)).collect()),
            8..10 => {
                Op::Incr(format!("writer:{writer}:counter:{}", rng.below(COUNTERS)).into_bytes())
            }
            10..12 => Op::Get(key(rng)),
            kind => Op::Many {
                pairs: (0..3).map(|part| (key(rng), value(rng, part))).collect(),
                gone: (kind >= 14).then(|| key(rng)),
                as_transaction: kind >= 14,
            },
        }
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Op::Set { key, row: Row { value, expires: false } } => {
                encode(out, &[b"SET", &key[..], value]);
            }
            Op::Set { key, row } => encode(out, &[b"SET", &key[..], &row.value, b"EX", b"3600"]),
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

    /// Replies `+QUEUED` and the like that come before the one that counts.
    fn replies_before(&self) -> usize {
        match self {
            Op::Many { pairs, gone, as_transaction: true } => {
                1 + pairs.len() + usize::from(gone.is_some())
            }
            _ => 0,
        }
    }

    /// Reads what answers this operation.
    pub fn read_replies(&self, client: &mut Client, fitting: &Reply) -> io::Result<()> {
        for _ in 0..self.replies_before() {
            let reply = client.reply()?;
            assert!(matches!(reply, Reply::Simple(_)), "{self:?} was answered {reply:?}");
        }
        let reply = client.reply()?;
        assert!(reply == *fitting, "{self:?} was answered {reply:?} instead of {fitting:?}");
        Ok(())
    }

    /// The right reply in `state`.
    pub fn reply(&self, state: &State) -> Reply {
        match self {
            Op::Set { .. } | Op::Many { as_transaction: false, .. } => Reply::ok(),
            Op::Many { pairs, gone, as_transaction: true } => {
                let mut replies = vec![Reply::ok(); pairs.len()];
                if let Some(key) = gone {
                    let is_there =
                        state.contains_key(key) || pairs.iter().any(|pair| pair.0 == *key);
                    replies.push(Reply::Integer(i64::from(is_there)));
                }
                Reply::Array(replies)
            }
            Op::Del(keys) => {
                let mut keys = keys.clone();
                keys.sort();
                keys.dedup();
                let there = keys.iter().filter(|key| state.contains_key(*key)).count();
                Reply::Integer(there as i64)
            }
            Op::Incr(key) => Reply::Integer(counter(state, key) + 1),
            Op::Get(key) => state.get(key).map_or(Reply::Nil, |row| Reply::Bulk(row.value.clone())),
        }
    }

    /// What it writes when it runs in `state`: each key once. The server writes rows, not commands:
    /// INCR leaves a number, whatever is lost before it, and a DEL of nothing leaves nothing.
    pub fn effects(&self, state: &State) -> Vec<(Vec<u8>, Option<Row>)> {
        let mut after: BTreeMap<&[u8], Option<Row>> = BTreeMap::new();
        let lasting = |value: Vec<u8>| Some(Row { value, expires: false });
        match self {
            Op::Set { key, row } => {
                after.insert(key, Some(row.clone()));
            }
            Op::Del(keys) => after.extend(keys.iter().map(|key| (&key[..], None))),
            Op::Incr(key) => {
                after.insert(key, lasting((counter(state, key) + 1).to_string().into_bytes()));
            }
            Op::Get(_) => {}
            Op::Many { pairs, gone, .. } => {
                after.extend(pairs.iter().map(|(key, value)| (&key[..], lasting(value.clone()))));
                after.extend(gone.iter().map(|key| (&key[..], None)));
            }
        }
        let writes = |(key, row): &(&[u8], Option<Row>)| row.is_some() || state.contains_key(*key);
        after.into_iter().filter(writes).map(|(key, row)| (key.to_vec(), row)).collect()
    }
}

fn counter(state: &State, key: &[u8]) -> i64 {
    state.get(key).map_or(0, |row| String::from_utf8_lossy(&row.value).parse().unwrap())
}
