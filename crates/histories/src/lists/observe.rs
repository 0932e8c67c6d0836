//! What the replies say, each for itself, and the order of each key's elements.

use std::collections::{HashMap, HashSet};

use super::{Anomaly, Kind, Outcome, Part, Transaction, shown, shown_part};
use crate::record::End;

/// A key's elements in the order in which they were appended, as the longest read shows it, and who
/// appended what.
#[derive(Debug, Default)]
pub(super) struct Order {
    pub(super) elements: Vec<u32>,
    /// Where each one stands.
    place: HashMap<u32, usize>,
    /// The transaction that appended each element, seen or not.
    pub(super) writer: HashMap<u32, usize>,
}

pub(super) type Orders = HashMap<u32, Order>;

fn is_aborted(transaction: &Transaction) -> bool {
    matches!(transaction.end, End::Known { reply: Outcome::Aborted, .. })
}

pub(super) fn observe(history: &[Transaction]) -> (Orders, Vec<Anomaly>) {
    let mut orders = Orders::new();
    for (at, transaction) in history.iter().enumerate() {
        for part in &transaction.op {
            match part {
                Part::Append { key, element, .. } => {
                    let order = orders.entry(*key).or_default();
                    let other = order.writer.insert(*element, at);
                    assert!(other.is_none(), "element {element} of key {key} was appended twice");
                }
                Part::Read { key, list: Some(list) } => {
                    let order = orders.entry(*key).or_default();
                    if list.len() > order.elements.len() {
                        order.elements.clone_from(list);
                    }
                }
                Part::Read { list: None, .. } => {}
            }
        }
    }
    let mut found = Vec::new();
    for (key, order) in &mut orders {
        order.place =
            order.elements.iter().enumerate().map(|(at, element)| (*element, at)).collect();
        judge_elements(history, *key, order, &mut found);
    }
    for at in 0..history.len() {
        judge_replies(history, at, &orders, &mut found);
        judge_inside(history, at, &mut found);
    }
    (orders, found)
}

/// What is in a list: the longest read says it for all, as the others are beginnings of it.
fn judge_elements(history: &[Transaction], key: u32, order: &Order, found: &mut Vec<Anomaly>) {
    let mut seen = HashSet::new();
    for element in &order.elements {
        if !seen.insert(element) {
            found.push(Anomaly::new(Kind::Duplicate, format!("{element} is twice in key {key}")));
        }
        match order.writer.get(element) {
            None => {
                let text = format!("{element} in key {key} was written by nobody");
                found.push(Anomaly::new(Kind::PhantomElement, text));
            }
            Some(writer) if is_aborted(&history[*writer]) => {
                let text = format!("{element} in key {key} is of {}", shown(history, *writer));
                found.push(Anomaly::new(Kind::AbortedRead, text));
            }
            Some(_) => {}
        }
    }
}

/// Each read is a beginning of the order, and does not end inside another transaction; each length
/// fits the place in it.
fn judge_replies(history: &[Transaction], at: usize, orders: &Orders, found: &mut Vec<Anomaly>) {
    for part in &history[at].op {
        match part {
            Part::Read { key, list: Some(list) } => {
                let order = &orders[key];
                if !order.elements.starts_with(list) {
                    let text = format!(
                        "{} is no beginning of {}",
                        shown(history, at),
                        shown_part(&Part::Read { key: *key, list: Some(order.elements.clone()) })
                    );
                    found.push(Anomaly::new(Kind::IncompatibleOrder, text));
                    continue;
                }
                let writer = list.last().and_then(|last| order.writer.get(last));
                let next = order.elements.get(list.len()).and_then(|next| order.writer.get(next));
                if let Some(writer) = writer.filter(|writer| **writer != at && next == Some(writer))
                {
                    let text =
                        format!("{} saw half of {}", shown(history, at), shown(history, *writer));
                    found.push(Anomaly::new(Kind::IntermediateRead, text));
                }
            }
            Part::Append { key, element, length: Some(length) } => {
                let place = orders[key].place.get(element);
                if let Some(place) = place.filter(|place| *place + 1 != *length) {
                    let text = format!(
                        "{}: {element} was the {length}th of key {key} in its reply, and is the {}th",
                        shown(history, at),
                        place + 1
                    );
                    found.push(Anomaly::new(Kind::WrongLength, text));
                }
            }
            Part::Read { list: None, .. } | Part::Append { length: None, .. } => {}
        }
    }
}

/// Inside one transaction, a read sees what the one before it saw and what was appended since. Not
/// so where it did not commit: what it read before EXEC, under WATCH, may be of several moments.
fn judge_inside(history: &[Transaction], at: usize, found: &mut Vec<Anomaly>) {
    if !matches!(history[at].end, End::Known { reply: Outcome::Committed, .. }) {
        return;
    }
    // For each key: the list as far as it is known, whole or only its end.
    let mut known: HashMap<u32, (bool, Vec<u32>)> = HashMap::new();
    for part in &history[at].op {
        match part {
            Part::Append { key, element, .. } => {
                known.entry(*key).or_default().1.push(*element);
            }
            Part::Read { key, list: Some(list) } => {
                let fits = known.get(key).is_none_or(|(whole, expected)| match whole {
                    true => list == expected,
                    false => list.ends_with(expected),
                });
                if !fits {
                    let text = format!("{} does not fit itself in key {key}", shown(history, at));
                    found.push(Anomaly::new(Kind::Internal, text));
                }
                known.insert(*key, (true, list.clone()));
            }
            Part::Read { list: None, .. } => {}
        }
    }
}

impl Order {
    pub(super) fn was_seen(&self, element: u32) -> bool {
        self.place.contains_key(&element)
    }
}
