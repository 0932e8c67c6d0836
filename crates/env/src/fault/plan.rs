//! What a [`FaultFs`](super::FaultFs) has been told to do, and what it has counted. One lock guards
//! it, held only while a call is judged: never while it waits at a gate, never while it runs.

use crate::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};
use std::{collections::BTreeMap, io, path::Path};

use super::{
    Failure, Op,
    rule::{Effect, Rule},
};

/// Names a rule after it was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleId(u64);

#[derive(Debug)]
struct Armed {
    rule: Rule,
    seen: u64,
    fired: u64,
}

/// What is to happen to the calls that change something.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Doom {
    #[default]
    Never,
    FailAt(u64, Failure),
    DeadFrom(u64),
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    state: Mutex<State>,
    calls: [AtomicU64; Op::COUNT],
}

#[derive(Debug, Default)]
struct State {
    rules: BTreeMap<RuleId, Armed>,
    last_rule: u64,
    doom: Doom,
    /// Calls that change something, since `doom` was set.
    mutations: u64,
    dead: bool,
}

fn dead() -> io::Error {
    Failure::EIO.error()
}

impl Plan {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, rule: Rule) -> RuleId {
        let mut state = self.state();
        state.last_rule += 1;
        let id = RuleId(state.last_rule);
        state.rules.insert(id, Armed { rule, seen: 0, fired: 0 });
        id
    }

    pub fn remove(&self, id: RuleId) {
        self.state().rules.remove(&id);
    }

    pub fn clear(&self) {
        let mut state = self.state();
        state.rules.clear();
        state.doom = Doom::Never;
        state.dead = false;
    }

    pub fn doom(&self, doom: Doom) {
        let mut state = self.state();
        state.doom = doom;
        state.mutations = 0;
    }

    pub fn mutations(&self) -> u64 {
        self.state().mutations
    }

    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    pub fn calls(&self, op: Op) -> u64 {
        self.calls[op as usize].load(Ordering::Relaxed)
    }

    /// `(seen, fired)` of a rule; zeros when it was removed.
    pub fn counts(&self, id: RuleId) -> (u64, u64) {
        self.state().rules.get(&id).map_or((0, 0), |armed| (armed.seen, armed.fired))
    }

    /// Counts a call and says what is to happen to it, after the wait at the gate if there is one.
    pub fn judge(&self, op: Op, paths: &[&Path]) -> io::Result<Effect> {
        self.calls[op as usize].fetch_add(1, Ordering::Relaxed);
        let mut gate = None;
        let mut effect = Effect::Pass;
        let mut state = self.state();
        if op.mutates() {
            state.mutations += 1;
            match state.doom {
                Doom::FailAt(nth, failure) if state.mutations == nth => {
                    effect = Effect::Fail(failure);
                }
                Doom::DeadFrom(nth) if state.mutations >= nth => state.dead = true,
                _ => {}
            }
        }
        if state.dead {
            return Err(dead());
        }
        let mut decided = effect != Effect::Pass;
        for armed in state.rules.values_mut() {
            if !armed.rule.matches(op, paths) {
                continue;
            }
            armed.seen += 1;
            // All matching rules count; the first that fires decides.
            if armed.rule.fires(armed.seen) && !decided {
                armed.fired += 1;
                gate = armed.rule.gate.clone();
                effect = armed.rule.effect;
                decided = true;
            }
        }
        drop(state);
        if let Some(gate) = gate {
            gate.pass();
            // The machine may have died while the call waited.
            if self.is_dead() {
                return Err(dead());
            }
        }
        Ok(effect)
    }
}
