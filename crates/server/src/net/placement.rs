//! How many workers should have connections: a pure decision from what each was busy with.
//!
//! One event loop that is awake all the time answers many sockets a turn: one wait, one log write and
//! one wake-up for all of them. Two loops that share the same clients find half as many each time,
//! and on a machine that clients share they take turns on the processor. So a second loop must earn
//! its place:
//!
//! ```text
//! a loop is saturated and …                                    then
//!   fewer than half of the cores have one                      use one more: there is room for it
//!   at least half of the busy time is execution of commands    use one more: execution divides well,
//!                                                              whoever else wants the processor
//!   the time goes into system calls                            stay: the kernel and the clients need
//!                                                              the other cores for the same traffic
//! ```
//!
//! The other way round with a margin between, and more slowly, so that nothing swings.
//! docs/design/002-event-loops.md has the numbers. What moves connections is `migrate.rs`.

/// What the loops with connections did since the last look, in thousandths of one loop's time,
/// added up over them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Not waiting for events.
    pub(crate) busy: u64,
    /// Running commands, parsing included.
    pub(crate) executing: u64,
}

/// A loop that waits less than this much is saturated.
const SATURATED: u64 = 850;
/// Looks in a row that must agree before one more worker is used, or one less.
const GROW_LOOKS: u32 = 2;
const SHRINK_LOOKS: u32 = 5;

/// The decider. Looked at ten times a second, by worker 0.
#[derive(Debug)]
pub(crate) struct Placement {
    workers: usize,
    grow: u32,
    shrink: u32,
}

impl Placement {
    pub(crate) fn new(workers: usize) -> Placement {
        Placement { workers, grow: 0, shrink: 0 }
    }

    /// How many of the workers, the first ones, should have connections from now on, when `active`
    /// had.
    pub(crate) fn decide(&mut self, active: usize, load: Load) -> usize {
        let count = active as u64;
        let is_saturated = load.busy >= SATURATED * count;
        // A loop a core for one half of them, whatever it is busy with.
        let for_traffic = (self.workers / 2).max(1);
        let grows = active < self.workers
            && is_saturated
            && (active < for_traffic || load.executing * 2 >= load.busy);
        // Fewer could do it and still have a third of their time left; or those above `for_traffic`
        // are not busy executing any more.
        let shrinks = active > 1
            && (load.busy * 3 < 2000 * (count - 1)
                || (active > for_traffic && load.executing * 10 < load.busy * 3));
        self.grow = if grows { self.grow + 1 } else { 0 };
        self.shrink = if shrinks { self.shrink + 1 } else { 0 };
        let next = if self.grow >= GROW_LOOKS {
            active + 1
        } else if self.shrink >= SHRINK_LOOKS {
            active - 1
        } else {
            return active;
        };
        self.grow = 0;
        self.shrink = 0;
        next
    }
}

/// How many of its connections a worker should give away: all when it is not among the active ones,
/// else what it has above its share. A small excess stays: moving costs, too.
pub(super) fn excess(number: usize, mine: usize, all: usize, active: usize) -> usize {
    if number >= active {
        return mine;
    }
    let share = all.div_ceil(active.max(1));
    if mine > share + share / 4 { mine - share } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(placement: &mut Placement, active: usize, load: Load, looks: usize) -> usize {
        (0..looks).fold(active, |active, _| placement.decide(active, load))
    }

    #[test]
    fn traffic_takes_half_of_the_cores_and_execution_takes_all() {
        let traffic = |active: u64| Load { busy: 1000 * active, executing: 200 * active };
        let executing = |active: u64| Load { busy: 1000 * active, executing: 700 * active };
        for (workers, half) in [(1, 1), (2, 1), (3, 1), (8, 4)] {
            let mut placement = Placement::new(workers);
            let mut active = 1;
            for _ in 0..100 {
                active = placement.decide(active, traffic(active as u64));
            }
            assert_eq!(active, half);
            for _ in 0..100 {
                active = placement.decide(active, executing(active as u64));
            }
            assert_eq!(active, workers);
            for _ in 0..100 {
                active = placement.decide(active, traffic(active as u64));
            }
            assert_eq!(active, half);
        }
    }

    #[test]
    fn an_idle_server_ends_with_one_loop_and_a_short_burst_changes_nothing() {
        let mut placement = Placement::new(8);
        assert_eq!(after(&mut placement, 8, Load { busy: 900, executing: 800 }, 100), 2);
        assert_eq!(after(&mut placement, 2, Load { busy: 600, executing: 500 }, 100), 1);
        let burst = Load { busy: 1000, executing: 900 };
        for _ in 0..10 {
            assert_eq!(after(&mut placement, 1, burst, GROW_LOOKS as usize - 1), 1);
            assert_eq!(placement.decide(1, Load { busy: 500, executing: 400 }), 1);
        }
    }

    #[test]
    fn what_grew_does_not_shrink_under_the_same_load() {
        // One saturated loop becomes two that are half busy each, or two saturated ones.
        for busy in [SATURATED, 1000, 1500, 2000] {
            let mut placement = Placement::new(2);
            let load = Load { busy, executing: busy / 2 };
            let grown = after(&mut placement, 1, Load { busy: 1000, executing: 500 }, 2);
            assert_eq!(after(&mut placement, grown, load, 100), 2, "{busy}");
        }
    }

    #[test]
    fn the_excess_is_what_is_above_the_share() {
        assert_eq!(excess(0, 50, 50, 1), 0);
        assert_eq!(excess(0, 50, 50, 2), 25);
        assert_eq!(excess(1, 25, 50, 1), 25);
        assert_eq!(excess(0, 27, 50, 2), 0);
        assert_eq!(excess(0, 1, 1, 2), 0);
        assert_eq!(excess(3, 0, 0, 0), 0);
    }
}
