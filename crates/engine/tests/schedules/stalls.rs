//! A scheduler that holds threads up: any thread may be next, and now and then the one that ran is
//! left standing where it is while the others do a great deal.
//!
//! What goes wrong between two neighbouring steps of one thread goes wrong when others get through
//! a whole flush or commit between the two. Where every thread is as likely as another that never
//! happens, and of a few changes of priority in a whole execution hardly one falls there.

use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};
use sluice_env::Rng;
use std::collections::BTreeMap;

/// One step in so many is followed by a stall.
const STALL_ONE_IN: u64 = 60;

/// A stall lasts for less than 2^n steps of the others, n below this: most are short, and some
/// long enough for a whole flush.
const STALL_BITS: u64 = 16;

#[derive(Debug)]
pub struct StallingScheduler {
    seed: u64,
    executions: u64,
    rng: Rng,
    /// For what the code under test asks at random.
    data: Rng,
    step: u64,
    /// Until which step a thread is held up.
    until: BTreeMap<usize, u64>,
}

impl StallingScheduler {
    pub fn new(seed: u64, executions: u64) -> StallingScheduler {
        let (rng, data) = (Rng::new(seed), Rng::new(!seed));
        StallingScheduler { seed, executions, rng, data, step: 0, until: BTreeMap::new() }
    }
}

impl Scheduler for StallingScheduler {
    fn new_execution(&mut self) -> Option<Schedule> {
        self.executions = self.executions.checked_sub(1)?;
        (self.step, self.until) = Default::default();
        Some(Schedule::new(self.seed))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        _is_yielding: bool,
    ) -> Option<TaskId> {
        self.step += 1;
        if let Some(current) = current
            && self.rng.one_in(STALL_ONE_IN)
        {
            let most = 1 << self.rng.below(STALL_BITS);
            self.until.insert(current.into(), self.step + self.rng.below(most));
        }
        let ids = || runnable.iter().map(|task| task.id());
        let is_free =
            |id: &TaskId| self.until.get(&usize::from(*id)).is_none_or(|until| *until <= self.step);
        let mut free: Vec<TaskId> = ids().filter(is_free).collect();
        if free.is_empty() {
            free.extend(ids());
        }
        Some(free[self.rng.below(free.len() as u64) as usize])
    }

    fn next_u64(&mut self) -> u64 {
        self.data.next_u64()
    }
}
