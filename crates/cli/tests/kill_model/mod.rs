//! One writer of the kill test: its keys, what it sent, and which state explains what it finds.
//!
//! Invariants: no other writer touches its keys; `base` is a state that the server has shown after
//! a start; `sent` are the operations since, in the order of the connection; the first `acked` of
//! them were answered, and the answers were right.

use std::io;
use std::sync::Mutex;

mod op;

use sluicedb::env::Rng;

use crate::common::client::{Client, Reply, encode};
use op::{Op, State};

const PIPELINE_MAX: u64 = 12;

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
        let found = op::read(self.writer, client).unwrap();
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

    /// Its keys after [`check`](Self::check).
    pub fn live_keys(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.base.keys().cloned()
    }
}
