//! The operations of the writers: what is sent, what must be answered, what they change.
//!
//! Each is atomic: a crash leaves all of it or nothing. No file, no socket of its own, no clock.

use std::collections::BTreeMap;
use std::io;

use sluice_env::Rng;
use sluice_histories::client::{Client, Reply, encode};

const KEYS: u64 = 150;

/// The keys of a writer with their values.
pub type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// One atomic operation.
#[derive(Debug, Clone)]
pub enum Op {
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
    /// One on the keys of a writer; `serial` makes its values unlike all others.
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

    /// Appends its commands.
    pub fn encode(&self, out: &mut Vec<u8>) {
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
    pub fn read_replies(&self, client: &mut Client, state: &State) -> io::Result<()> {
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

    /// Changes a state, and tells of each key that it writes.
    pub fn apply(&self, state: &mut State, mut changed: impl FnMut(&[u8], Option<&[u8]>)) {
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

/// Everything that a server has of a writer.
pub fn read(writer: usize, client: &mut Client) -> io::Result<State> {
    let counters = (0..5).map(|number| format!("writer:{writer}:counter:{number}"));
    let keys = (0..KEYS).map(|number| format!("writer:{writer}:{number}"));
    let keys: Vec<String> = keys.chain(counters).collect();
    let mut args = vec!["MGET"];
    args.extend(keys.iter().map(String::as_str));
    let reply = client.ask(&args)?;
    let values = keys.iter().zip(reply.array());
    Ok(values
        .filter_map(|(key, value)| Some((key.clone().into_bytes(), value.bulk()?.to_vec())))
        .collect())
}
