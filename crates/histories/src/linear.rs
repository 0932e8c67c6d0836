//! Is a history linearizable? The search of Wing and Gong, with the memory that Lowe added.
//!
//! The question is whether the operations can be put into one order that the model allows, with every
//! reply as it was, and in which A stands before B whenever A returned before B was called. The
//! search builds such an order from the front. What may come next is an operation that
//!
//! - was called before any operation not yet placed returned,
//! - comes next on its connection,
//! - and, where its outcome is unknown, is not over: nothing placed was called after its `until`.
//!
//! ```text
//!            low                      called ▶
//! ops   ■ ■ ■ □ ■ □ □ · · ·     ■ placed   □ may be next   · called after a □ must have returned
//!         ▲     ▲
//!  skipped: unknown, not placed, still possible
//! ```
//!
//! Two searches that have placed the same operations and reached the same state have the same future:
//! the second one is cut off. An operation with an unknown outcome need not be placed at all. The
//! order is found when all others are.
//!
//! Papers: Wing and Gong, "Testing and Verifying Concurrent Objects" (1993); Lowe, "Testing for
//! linearizability" (2016). A history over several independent objects is linearizable when each
//! object's part is (Herlihy and Wing): callers split first, which is what makes this fast.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;

use crate::record::{End, Moment, Operation};

/// A sequential object.
pub trait Model {
    type State: Clone + Eq + Hash + Debug;
    type Op: Clone + Debug;
    type Reply: Clone + Debug;

    /// Before the first operation.
    fn start() -> Self::State;

    /// The state after `op`, or `None` when it could not have been answered so. Without a reply every
    /// answer fits, and there is always a state.
    fn step(state: &Self::State, op: &Self::Op, reply: Option<&Self::Reply>)
    -> Option<Self::State>;
}

/// The operations of a model, as they are recorded.
pub type Recorded<M> = Operation<<M as Model>::Op, <M as Model>::Reply>;

/// What the search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    /// There is no order. The text shows where the longest attempt ended.
    Not(String),
    /// More searches than allowed: neither is proved.
    Undecided,
}

/// States that one search may visit; each takes about 200 bytes.
const VISITED_MAX: usize = 3_000_000;

/// Where a search is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place<S> {
    /// All operations before it are placed, skipped or over.
    low: usize,
    /// Placed ones after `low`, in order.
    placed: Vec<usize>,
    /// Unknown ones before `low` that may still be placed, in order.
    skipped: Vec<usize>,
    state: S,
}

struct Search<'a, M: Model> {
    ops: &'a [&'a Recorded<M>],
    /// For each operation, the one before it on its connection.
    before: Vec<Option<usize>>,
}

/// Looks for an order that explains `history`, whose operations are all of one object.
///
/// ```
/// use sluice_histories::linear::{Verdict, check};
/// use sluice_histories::record::{End, Operation};
/// use sluice_histories::register::{Op, Register, Reply};
///
/// let op = |process, called, at, op, reply| {
///     Operation { process, called, op, end: End::Known { at, reply } }
/// };
/// let set = op(1, 0, 1, Op::Set(7), Reply::Ok);
/// let fresh = op(2, 2, 3, Op::Get, Reply::Value(Some(7)));
/// let stale = op(2, 2, 3, Op::Get, Reply::Value(None));
/// assert_eq!(check::<Register>(&[set.clone(), fresh]), Verdict::Linearizable);
/// assert!(matches!(check::<Register>(&[set, stale]), Verdict::Not(_)));
/// ```
pub fn check<M: Model>(history: &[Recorded<M>]) -> Verdict {
    let mut ops: Vec<&Recorded<M>> = history.iter().collect();
    // Stable: a pipeline's operations may share a moment, and stay in their order.
    ops.sort_by_key(|op| op.called);
    let mut last = BTreeMap::new();
    let before = ops.iter().enumerate().map(|(at, op)| last.insert(op.process, at)).collect();
    Search::<M> { ops: &ops, before }.run()
}

impl<M: Model> Search<'_, M> {
    fn run(&self) -> Verdict {
        let start = Place { low: 0, placed: Vec::new(), skipped: Vec::new(), state: M::start() };
        let mut visited = HashSet::new();
        let mut furthest = start.clone();
        let mut stack = vec![self.settled(start)];
        while let Some(place) = stack.pop() {
            if place.low == self.ops.len() {
                return Verdict::Linearizable;
            }
            if visited.contains(&place) {
                continue;
            }
            if visited.len() == VISITED_MAX {
                return Verdict::Undecided;
            }
            let depth = |place: &Place<M::State>| place.low + place.placed.len();
            if depth(&place) > depth(&furthest) {
                furthest = place.clone();
            }
            let mut next = self.candidates(&place);
            // Last in, first out: what returned first is tried first, the unknown ones last.
            next.sort_by_key(|at| std::cmp::Reverse(self.ops[*at].end.at()));
            for at in next {
                let op = self.ops[at];
                if let Some(state) = M::step(&place.state, &op.op, op.end.reply()) {
                    stack.push(self.with(&place, at, state));
                }
            }
            visited.insert(place);
        }
        Verdict::Not(self.describe(&furthest))
    }

    /// The operations that may come next.
    fn candidates(&self, place: &Place<M::State>) -> Vec<usize> {
        let latest = self.latest_call(place);
        let mut first_return = Moment::MAX;
        let mut found: Vec<usize> = place.skipped.clone();
        let mut placed = place.placed.iter().peekable();
        for at in place.low..self.ops.len() {
            let op = self.ops[at];
            if op.called > first_return {
                break;
            }
            if placed.next_if(|placed| **placed == at).is_some() {
                continue;
            }
            if let End::Known { at: returned, .. } = op.end {
                first_return = first_return.min(returned);
            }
            found.push(at);
        }
        found.retain(|at| {
            let op = self.ops[*at];
            op.called < first_return
                && op.end.at() > latest
                && self.before[*at].is_none_or(|before| self.is_placed(place, before))
        });
        found
    }

    fn is_placed(&self, place: &Place<M::State>, at: usize) -> bool {
        match at < place.low {
            // One that is over without having been placed makes its followers over, too.
            true => !place.skipped.contains(&at),
            false => place.placed.binary_search(&at).is_ok(),
        }
    }

    /// The latest call among the placed ones, as far as it matters: what is over by it has been
    /// taken out of `skipped`.
    fn latest_call(&self, place: &Place<M::State>) -> Moment {
        place.placed.last().or(place.low.checked_sub(1).as_ref()).map_or(0, |at| {
            // Below `low`, an unknown one may stand last without having been placed. Then the latest
            // known one before it counts.
            let known = |at: &&Recorded<M>| matches!(at.end, End::Known { .. });
            match place.placed.is_empty() {
                true => {
                    self.ops[..=*at].iter().rev().find(|op| known(op)).map_or(0, |op| op.called)
                }
                false => self.ops[*at].called,
            }
        })
    }

    fn with(&self, place: &Place<M::State>, at: usize, state: M::State) -> Place<M::State> {
        let mut next = Place { state, ..place.clone() };
        if at < next.low {
            // What was over when this one was called comes before it, or never.
            let called = self.ops[at].called;
            next.skipped.retain(|other| *other != at && self.ops[*other].end.at() > called);
        } else if let Err(index) = next.placed.binary_search(&at) {
            next.placed.insert(index, at);
        }
        self.settled(next)
    }

    /// Moves `low` on, and forgets what is over.
    fn settled(&self, mut place: Place<M::State>) -> Place<M::State> {
        // Of those placed after `low`, before any of them is below it: unknown ones, too.
        let latest = self.latest_call(&place);
        let mut count = 0;
        while let Some(op) = self.ops.get(place.low) {
            if place.placed.get(count) == Some(&place.low) {
                count += 1;
            } else if matches!(op.end, End::Unknown { .. }) {
                place.skipped.push(place.low);
            } else {
                break;
            }
            place.low += 1;
        }
        place.placed.drain(..count);
        let latest = latest.max(self.latest_call(&place));
        place.skipped.retain(|at| self.ops[*at].end.at() > latest);
        place
    }

    fn describe(&self, place: &Place<M::State>) -> String {
        let mut text = format!(
            "no order explains the replies: after {} of {} operations the state is {:?}, and none \
             of these can come next:",
            place.low + place.placed.len(),
            self.ops.len(),
            place.state
        );
        for at in self.candidates(place).into_iter().take(12) {
            text.push_str(&format!("\n  {:?}", self.ops[at]));
        }
        let from = place.low.saturating_sub(6);
        text.push_str("\nbefore them:");
        for at in (from..place.low).chain(place.placed.iter().copied()) {
            text.push_str(&format!("\n  {:?}", self.ops[at]));
        }
        text
    }
}
