//! Transactions over lists that only grow: is their history strictly serializable?
//!
//! A list tells more than a register: each value that a read returns is the whole story of its key.
//! So the order of the writes need not be searched for, it can be read off, and a history of a
//! hundred thousand transactions is judged in a second. The idea and the names of the anomalies are
//! Elle's (Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from Experimental
//! Observations", 2020).
//!
//! The server has no list commands yet. Strings take their place: `APPEND key ",7"` appends 7, GET
//! and MGET read, MULTI/EXEC makes a transaction, and MSET writes what one client alone has appended
//! to several keys. Nothing here knows of that: RPUSH and LRANGE join with a line each in
//! `list_load.rs` when they exist.
//!
//! ```text
//! observe.rs   each reply for itself: elements nobody wrote, of an aborted transaction, twice,
//!              half-written; and for each key the one order of which every read is a beginning
//! graph.rs     who must come before whom:
//!                ww   appended the element before
//!                wr   appended the last element that the other one read
//!                rw   read the list without the element that the other one appended
//!                rt   returned before the other one was called, or came before on its connection
//!              a cycle is a contradiction, and its edges say which one
//! ```

mod graph;
mod observe;

use std::fmt;

use crate::record::{Moment, Operation};

/// A part of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// `length`: the length of the list that the reply tells, if it tells one.
    Append { key: u32, element: u32, length: Option<usize> },
    /// `list`: what came back, if something did.
    Read { key: u32, list: Option<Vec<u32>> },
}

/// How a transaction that returned ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Committed,
    /// The server said that nothing of it happened.
    Aborted,
}

/// A transaction. What is known of its parts is in them.
pub type Transaction = Operation<Vec<Part>, Outcome>;

/// What is wrong with a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A read returned an element that nobody appended to the key.
    PhantomElement,
    /// A read returned an element of a transaction that did not commit (G1a).
    AbortedRead,
    /// A read ended between two elements of one transaction (G1b).
    IntermediateRead,
    /// An element stands twice in a list.
    Duplicate,
    /// Two reads of a key are not one the beginning of the other: something was lost or reordered.
    IncompatibleOrder,
    /// The length after an append does not fit its place in the list.
    WrongLength,
    /// A transaction did not see its own appends, or saw others' come in between.
    Internal,
    /// A cycle of writes alone (G0).
    WriteCycle,
    /// A cycle of writes and reads of them (G1c).
    InformationCycle,
    /// A cycle with one read of something that was overwritten: a lost update, half a transaction (G-single).
    ReadSkew,
    /// A cycle with several such reads: write skew (G2).
    WriteSkew,
    /// No cycle but for the order in real time: a stale read, a write that came late.
    RealTime,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anomaly {
    pub kind: Kind,
    pub text: String,
}

impl Anomaly {
    fn new(kind: Kind, text: String) -> Anomaly {
        Anomaly { kind, text }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}

/// Findings of each kind that are reported; one is enough to fail.
const REPORTED_MAX: usize = 20;

/// Looks for contradictions to strict serializability. Elements must be unique for each key.
///
/// ```
/// use sluice_histories::lists::{Outcome, Part, Transaction, check};
/// use sluice_histories::record::End;
///
/// let read = |list: &[u32]| Part::Read { key: 1, list: Some(list.to_vec()) };
/// let transaction = |process, called, parts| Transaction {
///     process,
///     called,
///     op: parts,
///     end: End::Known { at: called + 1, reply: Outcome::Committed },
/// };
/// let append = transaction(1, 0, vec![Part::Append { key: 1, element: 7, length: None }]);
/// assert!(check(&[append.clone(), transaction(2, 2, vec![read(&[7])])]).is_empty());
/// assert!(!check(&[append, transaction(2, 2, vec![read(&[])])]).is_empty());
/// ```
pub fn check(history: &[Transaction]) -> Vec<Anomaly> {
    let (orders, mut found) = observe::observe(history);
    if let Some(cycle) = graph::find_cycle(history, &orders) {
        found.push(cycle);
    }
    found.truncate(REPORTED_MAX);
    found
}

/// For messages.
fn shown(history: &[Transaction], at: usize) -> String {
    let transaction = &history[at];
    let end = match transaction.end.at() {
        Moment::MAX => "?".to_owned(),
        moment => moment.to_string(),
    };
    let parts: Vec<String> = transaction.op.iter().map(shown_part).collect();
    format!(
        "T{at} (process {}, {}..{end}) [{}]",
        transaction.process,
        transaction.called,
        parts.join(", ")
    )
}

fn shown_part(part: &Part) -> String {
    match part {
        Part::Append { key, element, .. } => format!("append {key}: {element}"),
        Part::Read { key, list: None } => format!("read {key}: ?"),
        Part::Read { key, list: Some(list) } => {
            let tail = &list[list.len().saturating_sub(4)..];
            let dots = if list.len() > tail.len() { "… " } else { "" };
            format!("read {key}: {dots}{tail:?} of {}", list.len())
        }
    }
}

#[cfg(test)]
mod tests;
