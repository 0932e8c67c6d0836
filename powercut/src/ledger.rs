//! What was sent, what was acknowledged and when: the record outside the machine.
//!
//! "When" is a position of the disk's log, read after the reply has come. So a cut at that position
//! or later happened after the reply, and must leave what the reply promised:
//!
//! - a writer whose replies mean durability: its operations that were answered by then;
//! - a barrier (WAL SYNC, WAITAOF, FLUSHMEMTABLE, a durable reply to another writer): of each writer
//!   that it covers, the operations that were answered before the barrier was sent.
//!
//! Whatever else is there must be the effect of the operations that the same writer sent next, in
//! their order, each whole.

use std::collections::BTreeSet;

use crate::Result;
use crate::ops::{Op, State};

/// One writer. Nobody else touches its keys.
#[derive(Debug, Default)]
pub struct Track {
    /// What the server showed after the boot.
    pub base: State,
    /// Sent since, in the order of the connection.
    pub ops: Vec<Op>,
    /// Of the answered ones, the position at which the reply was there.
    pub stamps: Vec<u64>,
    pub durable: bool,
}

/// From `stamp` on, the first `counts[w]` operations of writer `w` must be there.
#[derive(Debug)]
pub struct Barrier {
    pub stamp: u64,
    pub counts: Vec<usize>,
}

#[derive(Debug, Default)]
pub struct Ledger {
    pub tracks: Vec<Track>,
    pub barriers: Vec<Barrier>,
}

/// What a server on a cut disk must show.
#[derive(Debug, Clone)]
pub struct Floor {
    /// Of each writer, the operations that must be there.
    pub must: Vec<usize>,
    /// Those that were answered before the cut, whatever that promised.
    pub answered: Vec<usize>,
}

impl Ledger {
    /// An empty database.
    pub fn empty(writers: usize) -> Ledger {
        let tracks = (0..writers).map(|_| Track::default()).collect();
        Ledger { tracks, barriers: Vec::new() }
    }

    pub fn floor(&self, position: u64) -> Floor {
        let answered: Vec<usize> = self
            .tracks
            .iter()
            .map(|track| track.stamps.partition_point(|stamp| *stamp <= position))
            .collect();
        let own = self.tracks.iter().zip(&answered);
        let mut must: Vec<usize> =
            own.map(|(track, answered)| if track.durable { *answered } else { 0 }).collect();
        for barrier in self.barriers.iter().filter(|barrier| barrier.stamp <= position) {
            for (must, count) in must.iter_mut().zip(&barrier.counts) {
                *must = (*must).max(*count);
            }
        }
        Floor { must, answered }
    }

    /// The sharpest moments: the positions at which a promise was made.
    pub fn moments(&self) -> Vec<u64> {
        let own = self.tracks.iter().filter(|track| track.durable).flat_map(|track| &track.stamps);
        own.copied().chain(self.barriers.iter().map(|barrier| barrier.stamp)).collect()
    }

    /// Compares what was found with what must be there; returns how many answered operations are
    /// gone, all of them without a promise.
    pub fn explain(&self, found: &[State], floor: &Floor) -> Result<u64> {
        let mut lost = 0;
        for (writer, (track, found)) in self.tracks.iter().zip(found).enumerate() {
            let must = floor.must[writer];
            let (mut fits, mut nearest) = (Vec::new(), (usize::MAX, 0, Vec::new()));
            track.walk(found, |count, differing| {
                if differing.is_empty() {
                    fits.push(count);
                }
                if count >= must && differing.len() < nearest.0 {
                    nearest = (differing.len(), count, differing.iter().cloned().collect());
                }
            });
            match fits.last() {
                Some(last) if *last >= must => {
                    lost += floor.answered[writer].saturating_sub(*last) as u64;
                }
                Some(last) => {
                    return Err(format!(
                        "writer {writer}: {must} operations must be there, and the state is that \
                         after {last}: {} promised ones are lost, the first of them on {}",
                        must - last,
                        short(&format!("{:?}", track.keys_of(*last))),
                    ));
                }
                None => {
                    let keys: Vec<_> =
                        nearest.2.iter().map(|key| String::from_utf8_lossy(key)).collect();
                    return Err(format!(
                        "writer {writer}: no number of operations from {must} to {} explains the \
                         state; {} come nearest, and differ in {}",
                        track.ops.len(),
                        nearest.1,
                        short(&format!("{keys:?}")),
                    ));
                }
            }
        }
        Ok(lost)
    }
}

impl Track {
    /// The keys that an operation changes, for a message.
    fn keys_of(&self, op: usize) -> Vec<String> {
        let mut keys = Vec::new();
        self.ops[op].apply(&mut State::new(), |key, _| {
            keys.push(String::from_utf8_lossy(key).into_owned());
        });
        keys
    }

    /// Calls with each number of operations, and the keys in which the state after them differs.
    fn walk(&self, found: &State, mut see: impl FnMut(usize, &BTreeSet<Vec<u8>>)) {
        let mut state = self.base.clone();
        let keys = found.keys().chain(state.keys());
        let mut differing: BTreeSet<Vec<u8>> =
            keys.filter(|key| found.get(*key) != state.get(*key)).cloned().collect();
        see(0, &differing);
        for (at, op) in self.ops.iter().enumerate() {
            op.apply(&mut state, |key, value| {
                if found.get(key).map(Vec::as_slice) == value {
                    differing.remove(key);
                } else {
                    differing.insert(key.to_vec());
                }
            });
            see(at + 1, &differing);
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(400).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(pairs: &[(&str, &str)]) -> State {
        let pairs = pairs.iter();
        pairs.map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    fn ledger() -> Ledger {
        let set = |key: &str, value: &str| Op::Set(key.into(), value.into());
        let track = Track {
            ops: vec![set("a", "1"), set("b", "2"), set("a", "3")],
            stamps: vec![10, 20],
            durable: true,
            ..Track::default()
        };
        Ledger { tracks: vec![track], barriers: Vec::new() }
    }

    #[test]
    fn a_cut_after_a_reply_must_leave_the_write() {
        let ledger = ledger();
        assert_eq!(ledger.floor(9).must, [0]);
        assert_eq!(ledger.floor(10).must, [1]);
        assert_eq!(ledger.floor(30).must, [2]);
        let only_a = [state(&[("a", "1")])];
        assert_eq!(ledger.explain(&only_a, &ledger.floor(19)), Ok(0));
        let error = ledger.explain(&only_a, &ledger.floor(20)).unwrap_err();
        assert!(error.contains("that after 1"), "{error}");
    }

    #[test]
    fn more_than_must_be_there_may_be_there_in_order() {
        let ledger = ledger();
        assert_eq!(ledger.explain(&[state(&[("a", "3"), ("b", "2")])], &ledger.floor(0)), Ok(0));
        let hole = [state(&[("a", "3")])];
        assert!(ledger.explain(&hole, &ledger.floor(0)).unwrap_err().contains("no number"));
    }

    #[test]
    fn a_barrier_covers_what_was_answered_before_it() {
        let mut ledger = ledger();
        ledger.tracks[0].durable = false;
        ledger.barriers.push(Barrier { stamp: 25, counts: vec![2] });
        assert_eq!(ledger.floor(24).must, [0]);
        assert_eq!(ledger.floor(25).must, [2]);
        assert_eq!(ledger.explain(&[State::new()], &ledger.floor(24)), Ok(2));
        assert!(ledger.explain(&[State::new()], &ledger.floor(25)).is_err());
    }
}
