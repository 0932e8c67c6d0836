//! Strings as registers: each key holds a number or nothing.
//!
//! All values are decimal numbers, so that INCRBY fits every state, and each value that is written
//! is written once in a history, so that a reply says which write it saw.

use std::collections::BTreeMap;

use crate::linear::{Model, Verdict, check};
use crate::record::Operation;

/// One operation on one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    Get,
    Exists,
    Set(i64),
    SetNx(i64),
    GetSet(i64),
    GetDel,
    Del,
    IncrBy(i64),
    /// WATCH, GET (which gave `expected`), MULTI, SET, EXEC. This is EXEC: it must fail when the key
    /// has changed since, and then changes nothing. A failure is always allowed: the key may have
    /// come back to the same value.
    Cas {
        expected: Option<i64>,
        new: i64,
    },
}

/// What answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reply {
    Ok,
    /// GET, GETSET, GETDEL: what was there.
    Value(Option<i64>),
    /// SETNX, DEL, EXISTS, a CAS: whether it did, or was there.
    Flag(bool),
    /// INCRBY: what is there now.
    Number(i64),
}

/// The model of a key.
#[derive(Debug, Clone, Copy)]
pub enum Register {}

impl Model for Register {
    type State = Option<i64>;
    type Op = Op;
    type Reply = Reply;

    fn start() -> Self::State {
        None
    }

    fn step(state: &Option<i64>, op: &Op, reply: Option<&Reply>) -> Option<Option<i64>> {
        let (there, state) = (state.is_some(), *state);
        let (next, answer) = match *op {
            Op::Get => (state, Reply::Value(state)),
            Op::Exists => (state, Reply::Flag(there)),
            Op::Set(value) => (Some(value), Reply::Ok),
            Op::SetNx(value) => (state.or(Some(value)), Reply::Flag(!there)),
            Op::GetSet(value) => (Some(value), Reply::Value(state)),
            Op::GetDel => (None, Reply::Value(state)),
            Op::Del => (None, Reply::Flag(there)),
            Op::IncrBy(by) => {
                let sum = state.unwrap_or(0) + by;
                (Some(sum), Reply::Number(sum))
            }
            Op::Cas { .. } if reply == Some(&Reply::Flag(false)) => (state, Reply::Flag(false)),
            Op::Cas { expected, new } if state == expected => (Some(new), Reply::Flag(true)),
            Op::Cas { .. } => (state, Reply::Flag(false)),
        };
        reply.is_none_or(|reply| *reply == answer).then_some(next)
    }
}

/// An operation with its key.
pub type KeyOperation = Operation<(u32, Op), Reply>;

/// Checks each key for itself, and says which ones have no order: `(key, verdict)`.
pub fn check_keys(history: impl IntoIterator<Item = KeyOperation>) -> Vec<(u32, Verdict)> {
    let mut keys: BTreeMap<u32, Vec<Operation<Op, Reply>>> = BTreeMap::new();
    for Operation { process, called, op: (key, op), end } in history {
        keys.entry(key).or_default().push(Operation { process, called, op, end });
    }
    let verdicts = keys.into_iter().map(|(key, history)| (key, check::<Register>(&history)));
    verdicts.filter(|(_, verdict)| *verdict != Verdict::Linearizable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{End, Moment};

    fn op(process: u32, called: Moment, at: Moment, op: Op, reply: Reply) -> Operation<Op, Reply> {
        Operation { process, called, op, end: End::Known { at, reply } }
    }

    fn lost(process: u32, called: Moment, until: Moment, op: Op) -> Operation<Op, Reply> {
        Operation { process, called, op, end: End::Unknown { until } }
    }

    fn get(process: u32, called: Moment, at: Moment, value: Option<i64>) -> Operation<Op, Reply> {
        op(process, called, at, Op::Get, Reply::Value(value))
    }

    fn set(process: u32, called: Moment, at: Moment, value: i64) -> Operation<Op, Reply> {
        op(process, called, at, Op::Set(value), Reply::Ok)
    }

    fn cas(called: Moment, at: Moment, expected: i64, new: i64) -> Operation<Op, Reply> {
        let cas = Op::Cas { expected: Some(expected), new };
        op(called as u32, called, at, cas, Reply::Flag(true))
    }

    #[track_caller]
    fn fits(history: &[Operation<Op, Reply>]) {
        assert_eq!(check::<Register>(history), Verdict::Linearizable);
    }

    #[track_caller]
    fn fails(history: &[Operation<Op, Reply>]) {
        assert!(matches!(check::<Register>(history), Verdict::Not(_)), "it was accepted");
    }

    #[test]
    fn a_stale_read_is_told_from_an_overlapping_one() {
        fails(&[set(1, 0, 1, 5), set(1, 2, 3, 6), get(2, 4, 5, Some(5))]);
        fits(&[set(1, 0, 1, 5), set(1, 2, 5, 6), get(2, 4, 6, Some(5))]);
        fails(&[set(1, 0, 1, 5), get(2, 2, 3, None)]);
        fails(&[get(2, 2, 3, Some(9))]);
    }

    #[test]
    fn reads_are_monotonic() {
        let begin = [set(1, 0, 1, 5), set(1, 2, 9, 6)];
        let with = |reads: [Operation<Op, Reply>; 2]| [&begin[..], &reads].concat();
        fits(&with([get(2, 3, 4, Some(5)), get(3, 5, 6, Some(6))]));
        fails(&with([get(2, 3, 4, Some(6)), get(3, 5, 6, Some(5))]));
        // The two overlap: either may be first.
        fits(&with([get(2, 3, 6, Some(6)), get(3, 4, 7, Some(5))]));
    }

    #[test]
    fn a_lost_update_is_found() {
        fails(&[set(9, 0, 1, 1), cas(2, 5, 1, 2), cas(3, 6, 1, 3)]);
        fits(&[set(9, 0, 1, 1), cas(2, 5, 1, 2), cas(3, 6, 2, 3)]);
        let add =
            |process, called, at, sum| op(process, called, at, Op::IncrBy(1), Reply::Number(sum));
        fails(&[add(1, 0, 3, 1), add(2, 1, 4, 1)]);
        fits(&[add(1, 0, 3, 2), add(2, 1, 4, 1)]);
        let once =
            |process, called, at, did| op(process, called, at, Op::SetNx(4), Reply::Flag(did));
        fails(&[once(1, 0, 3, true), once(2, 1, 4, true)]);
        fits(&[once(1, 0, 3, false), once(2, 1, 4, true)]);
        let take =
            |process, called, at, value| op(process, called, at, Op::GetDel, Reply::Value(value));
        fails(&[set(1, 0, 1, 4), take(2, 2, 5, Some(4)), take(3, 3, 6, Some(4))]);
        fits(&[set(1, 0, 1, 4), take(2, 2, 5, None), take(3, 3, 6, Some(4))]);
    }

    #[test]
    fn a_failed_cas_changes_nothing() {
        let failed = op(2, 2, 3, Op::Cas { expected: Some(1), new: 2 }, Reply::Flag(false));
        fits(&[set(1, 0, 1, 1), failed.clone(), get(3, 4, 5, Some(1))]);
        fails(&[set(1, 0, 1, 1), failed, get(3, 4, 5, Some(2))]);
    }

    #[test]
    fn an_unknown_outcome_may_come_late_or_never_but_not_twice_and_not_after_its_end() {
        let write = lost(1, 0, Moment::MAX, Op::Set(5));
        fits(&[write.clone(), get(2, 1, 2, None), get(2, 3, 4, Some(5))]);
        fits(&[write.clone(), get(2, 1, 2, None), get(2, 3, 4, None)]);
        let between = set(3, 5, 6, 6);
        fails(&[write.clone(), get(2, 1, 2, Some(5)), between, get(2, 7, 8, Some(5))]);
        fails(&[write, get(2, 1, 2, Some(5)), get(2, 3, 4, None)]);
        // The process that had it is gone at 3.
        let write = lost(1, 0, 3, Op::Set(5));
        fits(&[write.clone(), get(2, 1, 2, None), get(2, 4, 5, Some(5))]);
        fails(&[write, get(2, 4, 5, None), get(2, 6, 7, Some(5))]);
    }

    #[test]
    fn what_was_over_does_not_come_after_an_unknown_one_that_was_called_later() {
        // The process that had the first one is gone at 3; only the other order gives 7.
        let add = lost(1, 0, 3, Op::IncrBy(1));
        let begin = [add.clone(), lost(2, 4, Moment::MAX, Op::Set(6))];
        let with = |value| [&begin[..], &[get(3, 5, 6, Some(value))]].concat();
        fits(&with(6));
        fits(&with(1));
        fails(&with(7));
        // The same with a call between that is placed first.
        let begin = [set(4, 0, 9, 5), add, lost(2, 4, Moment::MAX, Op::Set(6))];
        let with = |value| [&begin[..], &[get(3, 10, 11, Some(value))]].concat();
        fits(&with(5));
        fits(&with(6));
        fails(&with(7));
    }

    #[test]
    fn a_connection_keeps_its_order() {
        // One pipeline: the second write cannot come before the first, nor without it.
        fails(&[set(1, 0, 9, 5), set(1, 0, 9, 6), get(2, 1, 2, Some(6)), get(2, 3, 4, Some(5))]);
        fits(&[set(1, 0, 9, 5), set(3, 0, 9, 6), get(2, 1, 2, Some(6)), get(2, 3, 4, Some(5))]);
        let pipeline = [lost(1, 0, 9, Op::IncrBy(1)), lost(1, 0, 9, Op::IncrBy(10))];
        fits(&[&pipeline[..], &[get(2, 10, 11, Some(11))]].concat());
        fits(&[&pipeline[..], &[get(2, 10, 11, Some(1))]].concat());
        fails(&[&pipeline[..], &[get(2, 10, 11, Some(10))]].concat());
    }

    #[test]
    fn keys_are_checked_for_themselves() {
        let at = |key, op: Operation<Op, Reply>| Operation {
            process: op.process,
            called: op.called,
            op: (key, op.op),
            end: op.end,
        };
        let good = [at(1, set(1, 0, 1, 5)), at(2, get(1, 2, 3, None))];
        assert_eq!(check_keys(good.clone()), []);
        let bad = [&good[..], &[at(1, get(1, 4, 5, None))]].concat();
        assert!(matches!(&check_keys(bad)[..], [(1, Verdict::Not(_))]));
    }
}
