//! Who must come before whom, and the cycles in it.
//!
//! Real time would make an edge from each transaction to every later one. A chain of its own stands
//! for them, one link for each return, in order:
//!
//! ```text
//! T1 ──▶ r1 ──▶ r2 ──▶ r3 ──▶ …        T2 returned second: T2 ──▶ r2
//!                └──▶ T3               T3 was called after r2 and before r3
//! ```
//!
//! A path through the chain is one edge in real time. The chain alone has no cycle.
//!
//! A transaction with an unknown outcome takes part when one of its elements was seen, for then it
//! happened. Aborted ones take no part.

use std::collections::{HashMap, HashSet, VecDeque};

use super::observe::Orders;
use super::{Anomaly, Kind, Outcome, Part, Transaction, shown};
use crate::record::{End, Moment};

/// Why one comes before the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Why {
    Ww,
    Wr,
    Rw,
    Rt,
}

/// Nodes `0..history.len()` are transactions, the others the links of the chain.
#[derive(Debug)]
struct Graph {
    next: Vec<Vec<(usize, Why)>>,
    transactions: usize,
}

/// Starts of cycles that are compared for the shortest.
const STARTS_MAX: usize = 64;

/// The shortest cycle of those that were looked at, the gravest kind first.
pub(super) fn find_cycle(history: &[Transaction], orders: &Orders) -> Option<Anomaly> {
    let takes_part = participants(history, orders);
    let mut graph = Graph { next: vec![Vec::new(); history.len()], transactions: history.len() };
    add_dependencies(&mut graph, history, orders, &takes_part);
    // Without real time first: a cycle among dependencies alone says more.
    if let Some(cycle) = graph.cycle() {
        return Some(describe(history, &cycle));
    }
    add_real_time(&mut graph, history, &takes_part);
    graph.cycle().map(|cycle| describe(history, &cycle))
}

fn participants(history: &[Transaction], orders: &Orders) -> Vec<bool> {
    let was_seen = |part: &Part| match part {
        Part::Append { key, element, .. } => orders[key].was_seen(*element),
        Part::Read { .. } => false,
    };
    history
        .iter()
        .map(|transaction| match &transaction.end {
            End::Known { reply, .. } => *reply == Outcome::Committed,
            End::Unknown { .. } => transaction.op.iter().any(was_seen),
        })
        .collect()
}

fn add_dependencies(
    graph: &mut Graph,
    history: &[Transaction],
    orders: &Orders,
    takes_part: &[bool],
) {
    let mut add = |from: Option<&usize>, to: Option<&usize>, why| {
        if let (Some(from), Some(to)) = (from, to)
            && from != to
            && takes_part[*from]
            && takes_part[*to]
        {
            graph.next[*from].push((*to, why));
        }
    };
    // Appends that returned and that no read saw come after all that the longest read saw.
    let mut unseen: HashMap<u32, Vec<usize>> = HashMap::new();
    for (key, order) in orders {
        let writer = |element: &u32| order.writer.get(element);
        for pair in order.elements.windows(2) {
            add(writer(&pair[0]), writer(&pair[1]), Why::Ww);
        }
        for (element, by) in &order.writer {
            if !order.was_seen(*element) && takes_part[*by] {
                add(order.elements.last().and_then(writer), Some(by), Why::Ww);
                unseen.entry(*key).or_default().push(*by);
            }
        }
    }
    for (at, transaction) in history.iter().enumerate() {
        let mut own: HashSet<u32> = HashSet::new();
        for part in &transaction.op {
            match part {
                Part::Append { key, .. } => {
                    own.insert(*key);
                }
                // After an append of its own it says nothing new of others.
                Part::Read { key, list: Some(list) } if !own.contains(key) => {
                    let order = &orders[key];
                    add(list.last().and_then(|last| order.writer.get(last)), Some(&at), Why::Wr);
                    match order.elements.get(list.len()) {
                        Some(next) => add(Some(&at), order.writer.get(next), Why::Rw),
                        None => {
                            for by in unseen.get(key).into_iter().flatten() {
                                add(Some(&at), Some(by), Why::Rw);
                            }
                        }
                    }
                }
                Part::Read { .. } => {}
            }
        }
    }
}

fn add_real_time(graph: &mut Graph, history: &[Transaction], takes_part: &[bool]) {
    let all = || (0..history.len()).filter(|at| takes_part[*at]);
    let mut returns: Vec<(Moment, usize)> = all()
        .map(|at| (history[at].end.at(), at))
        .filter(|(moment, _)| *moment != Moment::MAX)
        .collect();
    returns.sort_unstable();
    let first = graph.next.len();
    graph.next.resize(first + returns.len(), Vec::new());
    for (link, (_, at)) in returns.iter().enumerate() {
        graph.next[*at].push((first + link, Why::Rt));
        if link > 0 {
            graph.next[first + link - 1].push((first + link, Why::Rt));
        }
    }
    for at in all() {
        let before = returns.partition_point(|(moment, _)| *moment < history[at].called);
        if before > 0 {
            graph.next[first + before - 1].push((at, Why::Rt));
        }
    }
    // A pipeline's transactions overlap in time, and still have their order.
    let mut last: HashMap<u32, usize> = HashMap::new();
    let mut by_call: Vec<usize> = all().collect();
    by_call.sort_by_key(|at| history[*at].called);
    for at in by_call {
        if let Some(before) = last.insert(history[at].process, at) {
            graph.next[before].push((at, Why::Rt));
        }
    }
}

impl Graph {
    /// A short cycle as (node, why it comes before the next one).
    fn cycle(&self) -> Option<Vec<(usize, Why)>> {
        let component = self.components();
        let mut sizes: HashMap<usize, usize> = HashMap::new();
        for number in &component {
            *sizes.entry(*number).or_default() += 1;
        }
        (0..self.transactions)
            .filter(|at| sizes[&component[*at]] > 1)
            .take(STARTS_MAX)
            .filter_map(|start| self.way_back(start, &component))
            .min_by_key(Vec::len)
    }

    /// The shortest way from a node to itself inside its component.
    fn way_back(&self, start: usize, component: &[usize]) -> Option<Vec<(usize, Why)>> {
        let mut came_from: HashMap<usize, (usize, Why)> = HashMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            for (to, why) in &self.next[at] {
                if component[*to] != component[start] || came_from.contains_key(to) {
                    continue;
                }
                came_from.insert(*to, (at, *why));
                if *to != start {
                    queue.push_back(*to);
                    continue;
                }
                let mut cycle = Vec::new();
                let mut node = start;
                loop {
                    let (before, why) = came_from[&node];
                    cycle.push((before, why));
                    node = before;
                    if node == start {
                        break;
                    }
                }
                cycle.reverse();
                cycle.retain(|(node, _)| *node < self.transactions);
                return Some(cycle);
            }
        }
        None
    }

    /// Strongly connected components (Tarjan, 1972), without recursion: the number of each node's.
    fn components(&self) -> Vec<usize> {
        const NONE: usize = usize::MAX;
        let count = self.next.len();
        let (mut index, mut low) = (vec![NONE; count], vec![0; count]);
        let mut component = vec![NONE; count];
        let (mut stack, mut calls, mut clock) = (Vec::new(), Vec::new(), 0);
        for root in 0..count {
            if index[root] != NONE {
                continue;
            }
            calls.push((root, 0));
            while let Some((at, edge)) = calls.pop() {
                if edge == 0 {
                    (index[at], low[at]) = (clock, clock);
                    clock += 1;
                    stack.push(at);
                } else {
                    // The call for the edge before has ended.
                    let (to, _) = self.next[at][edge - 1];
                    if component[to] == NONE {
                        low[at] = low[at].min(low[to]);
                    }
                }
                if let Some((to, _)) = self.next[at].get(edge) {
                    calls.push((at, edge + 1));
                    if index[*to] == NONE {
                        calls.push((*to, 0));
                    }
                    continue;
                }
                if low[at] == index[at] {
                    while let Some(member) = stack.pop() {
                        component[member] = at;
                        if member == at {
                            break;
                        }
                    }
                }
            }
        }
        component
    }
}

fn describe(history: &[Transaction], cycle: &[(usize, Why)]) -> Anomaly {
    let count = |why| cycle.iter().filter(|(_, edge)| *edge == why).count();
    let kind = match (count(Why::Rt), count(Why::Rw), count(Why::Wr)) {
        (1.., _, _) => Kind::RealTime,
        (0, 0, 0) => Kind::WriteCycle,
        (0, 0, _) => Kind::InformationCycle,
        (0, 1, _) => Kind::ReadSkew,
        (0, 2.., _) => Kind::WriteSkew,
    };
    let mut text = String::new();
    for (node, why) in cycle {
        text.push_str(&format!("{} \n  before ({why:?}) ", shown(history, *node)));
    }
    text.push_str("the first one again");
    Anomaly::new(kind, text)
}
