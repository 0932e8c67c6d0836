//! Histories made by hand, right and wrong.

use super::Kind::*;
use super::*;
use crate::record::End;

const X: u32 = 1;
const Y: u32 = 2;

fn append(key: u32, element: u32) -> Part {
    Part::Append { key, element, length: None }
}

fn read(key: u32, list: &[u32]) -> Part {
    Part::Read { key, list: Some(list.to_vec()) }
}

/// Transactions that overlap all others, each of its own process.
fn at_once(all: &[&[Part]]) -> Vec<Transaction> {
    let count = all.len() as u64;
    let make = |(at, parts): (usize, &&[Part])| Transaction {
        process: at as u32,
        called: at as u64,
        op: parts.to_vec(),
        end: End::Known { at: count + at as u64, reply: Outcome::Committed },
    };
    all.iter().enumerate().map(make).collect()
}

/// One after the other.
fn in_turn(all: &[&[Part]]) -> Vec<Transaction> {
    let mut history = at_once(all);
    for (at, transaction) in history.iter_mut().enumerate() {
        transaction.called = 2 * at as u64;
        transaction.end = End::Known { at: 2 * at as u64 + 1, reply: Outcome::Committed };
    }
    history
}

fn kinds(history: &[Transaction]) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = check(history).into_iter().map(|anomaly| anomaly.kind).collect();
    kinds.dedup();
    kinds
}

#[test]
fn what_fits_passes() {
    let history: [&[Part]; 4] = [
        &[append(X, 1), append(Y, 1)],
        &[read(X, &[1]), append(X, 2)],
        &[read(X, &[1, 2]), read(Y, &[1])],
        &[append(X, 3), read(X, &[1, 2, 3])],
    ];
    assert_eq!(kinds(&in_turn(&history)), []);
    assert_eq!(kinds(&at_once(&history)), []);
}

#[test]
fn a_lost_update_is_a_read_skew() {
    let history: [&[Part]; 3] =
        [&[read(X, &[]), append(X, 1)], &[read(X, &[]), append(X, 2)], &[read(X, &[1, 2])]];
    assert_eq!(kinds(&at_once(&history)), [ReadSkew]);
    let right: [&[Part]; 3] =
        [&[read(X, &[]), append(X, 1)], &[read(X, &[1]), append(X, 2)], &[read(X, &[1, 2])]];
    assert_eq!(kinds(&at_once(&right)), []);
}

#[test]
fn write_skew_has_two_anti_dependencies() {
    let history: [&[Part]; 3] = [
        &[read(Y, &[]), append(X, 1)],
        &[read(X, &[]), append(Y, 2)],
        &[read(X, &[1]), read(Y, &[2])],
    ];
    assert_eq!(kinds(&at_once(&history)), [WriteSkew]);
    let right: [&[Part]; 3] = [
        &[read(Y, &[]), append(X, 1)],
        &[read(X, &[1]), append(Y, 2)],
        &[read(X, &[1]), read(Y, &[2])],
    ];
    assert_eq!(kinds(&at_once(&right)), []);
}

#[test]
fn half_a_transaction_is_found() {
    let both: &[Part] = &[append(X, 1), append(Y, 1)];
    let end: &[Part] = &[read(X, &[1]), read(Y, &[1])];
    for (list_x, list_y, expected) in [
        (&[1][..], &[1][..], &[][..]),
        (&[], &[], &[]),
        (&[1], &[], &[ReadSkew]),
        (&[], &[1], &[ReadSkew]),
    ] {
        let half: &[Part] = &[read(X, list_x), read(Y, list_y)];
        assert_eq!(kinds(&at_once(&[both, half, end])), expected, "{list_x:?} {list_y:?}");
    }
    let twice: &[Part] = &[append(X, 1), append(X, 2)];
    let history = at_once(&[twice, &[read(X, &[1])], &[read(X, &[1, 2])]]);
    assert!(kinds(&history).contains(&IntermediateRead));
}

#[test]
fn stale_and_non_monotonic_reads_need_real_time() {
    let stale: [&[Part]; 3] = [&[append(X, 1)], &[read(X, &[])], &[read(X, &[1])]];
    assert_eq!(kinds(&in_turn(&stale)), [RealTime]);
    assert_eq!(kinds(&at_once(&stale)), []);
    // Two reads of one process, the second before the first, while the append goes on.
    let mut back = at_once(&[&[append(X, 1)], &[read(X, &[1])], &[read(X, &[])]]);
    assert_eq!(kinds(&back), []);
    back[2].process = back[1].process;
    assert_eq!(kinds(&back), [RealTime]);
    // An append that returned and is gone.
    assert_eq!(kinds(&in_turn(&[&[append(X, 1)], &[append(X, 2)], &[read(X, &[2])]])), [RealTime]);
}

#[test]
fn an_aborted_transaction_leaves_nothing() {
    let mut history = at_once(&[&[append(X, 1)], &[read(X, &[1])]]);
    assert_eq!(kinds(&history), []);
    history[0].end = End::Known { at: 9, reply: Outcome::Aborted };
    assert_eq!(kinds(&history), [AbortedRead]);
    history[1].op = vec![read(X, &[])];
    assert_eq!(kinds(&history), []);
}

#[test]
fn an_unknown_outcome_is_whole_or_nothing_and_not_later_than_its_end() {
    let unknown = |until, reads: [&[Part]; 2]| {
        let mut history = in_turn(&[&[append(X, 1), append(Y, 1)], reads[0], reads[1]]);
        history[0].end = End::Unknown { until };
        kinds(&history)
    };
    let (none, both): (&[Part], &[Part]) =
        (&[read(X, &[]), read(Y, &[])], &[read(X, &[1]), read(Y, &[1])]);
    let never = Moment::MAX;
    assert_eq!(unknown(never, [none, none]), []);
    assert_eq!(unknown(never, [none, both]), []);
    assert_eq!(unknown(never, [both, both]), []);
    assert_eq!(unknown(never, [both, none]), [RealTime]);
    assert_eq!(unknown(never, [none, &[read(X, &[1]), read(Y, &[])]]), [ReadSkew]);
    // Its process was gone before the first read.
    assert_eq!(unknown(1, [none, both]), [RealTime]);
    assert_eq!(unknown(1, [both, both]), []);
}

#[test]
fn lists_that_nobody_wrote_are_found() {
    assert_eq!(kinds(&at_once(&[&[append(X, 1)], &[read(X, &[1, 7])]])), [PhantomElement]);
    assert!(kinds(&at_once(&[&[append(X, 1)], &[read(X, &[1, 1])]])).contains(&Duplicate));
    let forked: [&[Part]; 4] =
        [&[append(X, 1)], &[append(X, 2)], &[read(X, &[1, 2])], &[read(X, &[2])]];
    assert!(kinds(&at_once(&forked)).contains(&IncompatibleOrder));
}

#[test]
fn a_transaction_sees_itself() {
    let others: &[Part] = &[append(X, 1)];
    for (own, expected) in [
        (vec![append(X, 2), read(X, &[1, 2])], &[][..]),
        (vec![append(X, 2), read(X, &[1])], &[Internal]),
        (vec![read(X, &[1]), append(X, 2), read(X, &[1, 2])], &[]),
        (vec![read(X, &[]), read(X, &[1])], &[Internal]),
    ] {
        let history = at_once(&[others, &own, &[read(X, &[1, 2])]]);
        let found = kinds(&history);
        match expected {
            [] => assert!(!found.contains(&Internal), "{own:?}: {found:?}"),
            _ => assert!(found.contains(&Internal), "{own:?}: {found:?}"),
        }
    }
}

#[test]
fn lengths_fit_the_order() {
    let with = |length| {
        let second = Part::Append { key: X, element: 2, length: Some(length) };
        kinds(&at_once(&[&[append(X, 1)], &[second], &[read(X, &[1, 2])]]))
    };
    assert_eq!(with(2), []);
    assert_eq!(with(1), [WrongLength]);
}

#[test]
fn cycles_of_writes_and_of_reads_have_their_names() {
    let writes: [&[Part]; 3] = [
        &[append(X, 1), append(Y, 2)],
        &[append(X, 2), append(Y, 1)],
        &[read(X, &[1, 2]), read(Y, &[1, 2])],
    ];
    assert_eq!(kinds(&at_once(&writes)), [WriteCycle]);
    let reads: [&[Part]; 2] = [&[append(X, 1), read(Y, &[2])], &[append(Y, 2), read(X, &[1])]];
    assert_eq!(kinds(&at_once(&reads)), [InformationCycle]);
}

#[test]
fn what_an_aborted_transaction_read_under_watch_is_of_several_moments() {
    let mut history = at_once(&[&[append(X, 1)], &[read(X, &[]), read(X, &[1]), append(X, 2)]]);
    assert!(kinds(&history).contains(&Internal));
    history[1].end = End::Known { at: 9, reply: Outcome::Aborted };
    assert_eq!(kinds(&history), []);
}
