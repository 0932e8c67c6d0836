//! Random histories of objects that are atomic pass; with one reply changed most of them fail.
//!
//! A scheduler picks one process after the other. An operation is called, takes effect at one moment
//! and returns, in three separate picks; some never return, with their effect now, later or never.
//!
//! `SLUICE_SEED` repeats a run, `SLUICE_SEEDS` makes it longer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "a seed that differs from run to run")]

use std::collections::BTreeMap;

use sluice_env::Rng;
use sluice_histories::linear::{Verdict, check};
use sluice_histories::lists::{self, Outcome, Part, Transaction};
use sluice_histories::record::{End, Operation};
use sluice_histories::register::{Op, Register, Reply};

type RegisterOperation = Operation<Op, Reply>;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn seeds() -> impl Iterator<Item = u64> {
    let since = std::time::UNIX_EPOCH;
    let fresh = || std::time::SystemTime::now().duration_since(since).unwrap().as_nanos() as u64;
    let (first, count) = match std::env::var("SLUICE_SEED") {
        Ok(text) => (text.parse().unwrap(), 1),
        Err(_) => (fresh(), number("SLUICE_SEEDS", 300)),
    };
    (0..count).map(move |more| first.wrapping_add(more))
}

/// What a process is at.
enum At<O, R> {
    Nothing,
    Called(Operation<O, R>),
    Done(Operation<O, R>, R),
}

/// Runs `steps` picks on an object that is atomic.
fn generate<O: Clone, R: Clone>(
    rng: &mut Rng,
    steps: u64,
    mut draw: impl FnMut(&mut Rng) -> O,
    mut effect: impl FnMut(&mut O) -> R,
) -> Vec<Operation<O, R>> {
    let processes = 2 + rng.below(4) as usize;
    let mut at: Vec<At<O, R>> = (0..processes).map(|_| At::Nothing).collect();
    let mut numbers: Vec<u32> = (0..processes as u32).collect();
    // Nobody waits for them any more; they may take effect yet.
    let mut late: Vec<Operation<O, R>> = Vec::new();
    let mut history = Vec::new();
    for moment in 0..steps {
        let process = rng.below(processes as u64) as usize;
        if rng.one_in(30)
            && let Some(mut operation) = late.pop()
        {
            effect(&mut operation.op);
        }
        at[process] = match std::mem::replace(&mut at[process], At::Nothing) {
            At::Nothing => {
                let (process, op) = (numbers[process], draw(rng));
                At::Called(Operation { process, called: moment, op, end: End::NEVER_HEARD })
            }
            At::Called(operation) if rng.one_in(40) => {
                // Its client gives up. The operation is on its way, or lost.
                history.push(operation.clone());
                if rng.one_in(2) {
                    late.push(operation);
                }
                numbers[process] = (moment + 100) as u32;
                At::Nothing
            }
            At::Called(mut operation) => {
                let reply = effect(&mut operation.op);
                At::Done(operation, reply)
            }
            At::Done(mut operation, reply) => {
                operation.end = End::Known { at: moment, reply };
                history.push(operation);
                At::Nothing
            }
        };
    }
    for left in at {
        if let At::Called(operation) | At::Done(operation, _) = left {
            history.push(operation);
        }
    }
    history
}

/// A register, written without a look at the model.
fn act(state: &mut Option<i64>, op: &Op) -> Reply {
    match op {
        Op::Get => Reply::Value(*state),
        Op::Exists => Reply::Flag(state.is_some()),
        Op::Set(value) => {
            *state = Some(*value);
            Reply::Ok
        }
        Op::SetNx(value) => {
            let did = state.is_none();
            if did {
                *state = Some(*value);
            }
            Reply::Flag(did)
        }
        Op::GetSet(value) => Reply::Value(state.replace(*value)),
        Op::GetDel => Reply::Value(state.take()),
        Op::Del => Reply::Flag(state.take().is_some()),
        Op::IncrBy(by) => {
            let sum = state.unwrap_or_default() + by;
            *state = Some(sum);
            Reply::Number(sum)
        }
        Op::Cas { expected, new } => {
            let did = state == expected;
            if did {
                *state = Some(*new);
            }
            Reply::Flag(did)
        }
    }
}

fn registers(rng: &mut Rng) -> Vec<RegisterOperation> {
    let mut fresh = 0;
    let mut guess = None;
    let mut state = None;
    let draw = |rng: &mut Rng| {
        fresh += 1000;
        let expected = guess.filter(|_| !rng.one_in(4));
        guess = if rng.one_in(2) { Some(fresh) } else { guess };
        match rng.below(14) {
            0..5 => Op::Get,
            5..8 => Op::Set(fresh),
            8 => Op::SetNx(fresh),
            9 => Op::GetSet(fresh),
            10 => [Op::GetDel, Op::Del, Op::Exists][rng.below(3) as usize],
            11 => Op::IncrBy(1),
            _ => Op::Cas { expected, new: fresh },
        }
    };
    generate(rng, 400, draw, |op| act(&mut state, op))
}

/// Changes one reply to another that such an operation can have.
fn change_reply(rng: &mut Rng, history: &mut [RegisterOperation]) -> bool {
    let written: Vec<i64> = history
        .iter()
        .filter_map(|operation| match operation.op {
            Op::Set(value) | Op::GetSet(value) => Some(value),
            _ => None,
        })
        .collect();
    for _ in 0..100 {
        let at = rng.below(history.len() as u64) as usize;
        let operation = &mut history[at];
        // A CAS may fail for no reason that the model knows.
        let End::Known { reply, .. } = &mut operation.end else { continue };
        let changed = match (operation.op, *reply) {
            (Op::Cas { .. }, Reply::Flag(false)) => Reply::Flag(true),
            (Op::Cas { .. }, _) | (_, Reply::Ok) => continue,
            (_, Reply::Flag(did)) => Reply::Flag(!did),
            (_, Reply::Number(sum)) => Reply::Number(sum + 1),
            (_, Reply::Value(Some(_))) if rng.one_in(2) => Reply::Value(None),
            (_, Reply::Value(_)) if !written.is_empty() => {
                Reply::Value(Some(written[rng.below(written.len() as u64) as usize]))
            }
            _ => continue,
        };
        if changed != *reply {
            *reply = changed;
            return true;
        }
    }
    false
}

#[test]
fn registers_pass_and_a_changed_reply_is_noticed() {
    let (mut changed, mut noticed) = (0, 0);
    for seed in seeds() {
        let mut rng = Rng::new(seed);
        let mut history = registers(&mut rng);
        match check::<Register>(&history) {
            Verdict::Linearizable => {}
            other => panic!("SLUICE_SEED={seed}: {other:?}"),
        }
        if change_reply(&mut rng, &mut history) {
            changed += 1;
            noticed += u64::from(matches!(check::<Register>(&history), Verdict::Not(_)));
        }
    }
    println!("{noticed} of {changed} changed register histories were refused");
    assert!(noticed * 10 >= changed * 8, "only {noticed} of {changed} changes were noticed");
}

const KEYS: u64 = 3;

fn transactions(rng: &mut Rng) -> Vec<Transaction> {
    let mut element = 0;
    let mut state: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let draw = |rng: &mut Rng| -> Vec<Part> {
        let count = 1 + rng.below(4);
        let mut part = || {
            let key = rng.below(KEYS) as u32;
            element += 1;
            match rng.one_in(2) {
                true => Part::Read { key, list: None },
                false => Part::Append { key, element, length: None },
            }
        };
        (0..count).map(|_| part()).collect()
    };
    let effect = |parts: &mut Vec<Part>| {
        // Some abort, without an effect.
        if parts.len() == 3 && matches!(parts[0], Part::Append { element, .. } if element % 3 == 0)
        {
            return Outcome::Aborted;
        }
        for part in parts {
            match part {
                Part::Append { key, element, length } => {
                    let list = state.entry(*key).or_default();
                    list.push(*element);
                    *length = Some(list.len());
                }
                Part::Read { key, list } => {
                    *list = Some(state.get(key).cloned().unwrap_or_default());
                }
            }
        }
        Outcome::Committed
    };
    let mut history = generate(rng, 600, draw, effect);
    for transaction in &mut history {
        if transaction.end.reply().is_none() {
            // Without a reply nobody knows what it said.
            for part in &mut transaction.op {
                match part {
                    Part::Append { length, .. } => *length = None,
                    Part::Read { list, .. } => *list = None,
                }
            }
        }
    }
    history
}

/// Makes one read older or longer, or one length another.
fn change_part(rng: &mut Rng, history: &mut [Transaction]) -> bool {
    for _ in 0..100 {
        let at = rng.below(history.len() as u64) as usize;
        let Transaction { op, end: End::Known { reply: Outcome::Committed, .. }, .. } =
            &mut history[at]
        else {
            continue;
        };
        let at = rng.below(op.len() as u64) as usize;
        match &mut op[at] {
            Part::Append { length: Some(length), .. } => *length += 1,
            Part::Read { list: Some(list), .. } if list.len() > 1 => {
                list.truncate(rng.below(list.len() as u64) as usize);
            }
            _ => continue,
        }
        return true;
    }
    false
}

#[test]
fn lists_pass_and_a_changed_reply_is_noticed() {
    let (mut changed, mut noticed) = (0, 0);
    for seed in seeds() {
        let mut rng = Rng::new(seed);
        let mut history = transactions(&mut rng);
        let found = lists::check(&history);
        assert!(found.is_empty(), "SLUICE_SEED={seed}: {}", found[0]);
        if change_part(&mut rng, &mut history) {
            changed += 1;
            noticed += u64::from(!lists::check(&history).is_empty());
        }
    }
    println!("{noticed} of {changed} changed list histories were refused");
    assert!(noticed * 10 >= changed * 8, "only {noticed} of {changed} changes were noticed");
}
