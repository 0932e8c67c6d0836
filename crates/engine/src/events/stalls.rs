//! When a stall begins and when it ends, for those who are told of it.
//!
//! A *stall* is a cause (and a family, where the cause has one) that at least one write found in
//! its way. It begins with the first of them. It ends when nobody is held up by it any more: each
//! waiting write holds it until it gets in, gives up, or runs into another cause. A write that is
//! refused does not wait, but its caller will come back when there is room ([`crate::Db::on_room`]);
//! so the first one that is refused leaves its hold to the room, which lets go at the end of its
//! turn. One such hold a stall is enough, so callbacks in the room are bounded by the causes.
//!
//! Nothing is kept while nobody subscribes to [`Topic::Stall`]; who subscribes in the middle of a
//! stall hears of it with the next write that runs into it.
//!
//! The lock is held while an event is pushed: beginning and end of one cause cannot change places.

use super::{Event, Hub, Topic};
use crate::StallCause;
use crate::{core::Core, room::Stall};
use sluice_env::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

/// A stall that goes on.
#[derive(Debug)]
pub(crate) struct Standing {
    id: u64,
    cause: StallCause,
    cf: Option<String>,
    since_us: u64,
    holds: u32,
    /// One of the holds is the room's.
    room_holds: bool,
    writes: u64,
    refused: u64,
}

/// Keeps a stall going.
#[derive(Debug)]
struct Hold {
    hub: Arc<Hub>,
    id: u64,
    /// Held by the room, for writes that were refused.
    by_room: bool,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.hub.let_go(self.id, self.by_room);
    }
}

/// What one write is held up by, from its first wait to its end.
#[derive(Debug, Default)]
pub(crate) struct Stalled(Option<Hold>);

impl Stalled {
    /// The write found `stall` in its way.
    pub(crate) fn by(&mut self, core: &Core, stall: &Stall) {
        let last = self.0.as_ref().map(|hold| hold.id);
        if let Some(hold) = core.events.hold(stall, last) {
            // Only now the one before is let go of.
            self.0 = Some(hold);
        }
    }

    /// The write is refused for it. The room's present turn must have been noted as refusing.
    pub(crate) fn refused(&mut self, core: &Core) {
        let Some(mut hold) = self.0.take() else { return };
        if core.events.leave_to_room(hold.id) {
            hold.by_room = true;
            core.room.on_change(Box::new(move || drop(hold)));
        }
    }
}

impl Hub {
    fn stalls(&self) -> MutexGuard<'_, Vec<Standing>> {
        self.stalls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A hold on what `stall` says, `None` when nobody wants to hear of it or `last` is one.
    fn hold(self: &Arc<Self>, stall: &Stall, last: Option<u64>) -> Option<Hold> {
        if !self.wants(Topic::Stall) {
            return None;
        }
        let (cause, cf) = stall.cause();
        let mut stalls = self.stalls();
        let same = |one: &&mut Standing| one.cause == cause && one.cf.as_deref() == cf;
        let id = match stalls.iter_mut().find(same) {
            Some(one) if Some(one.id) == last => return None,
            Some(one) => {
                one.holds += 1;
                one.writes += 1;
                one.id
            }
            None => {
                let id = stalls.iter().map(|one| one.id + 1).max().unwrap_or(0);
                let cf = cf.map(str::to_owned);
                self.emit(Topic::Stall, || {
                    let detail = stall.to_string();
                    Event::StallBegin { cause, cf: cf.clone(), detail }
                });
                let since_us = self.env.clock.monotonic_us();
                let (holds, writes, refused, room_holds) = (1, 1, 0, false);
                stalls.push(Standing {
                    id,
                    cause,
                    cf,
                    since_us,
                    holds,
                    room_holds,
                    writes,
                    refused,
                });
                id
            }
        };
        Some(Hold { hub: Arc::clone(self), id, by_room: false })
    }

    /// Counts a refusal. Whether its hold is to become the room's.
    fn leave_to_room(&self, id: u64) -> bool {
        let mut stalls = self.stalls();
        let Some(one) = stalls.iter_mut().find(|one| one.id == id) else { return false };
        one.refused += 1;
        !std::mem::replace(&mut one.room_holds, true)
    }

    fn let_go(&self, id: u64, by_room: bool) {
        let mut stalls = self.stalls();
        let Some(index) = stalls.iter().position(|one| one.id == id) else { return };
        let one = &mut stalls[index];
        one.holds -= 1;
        one.room_holds &= !by_room;
        if one.holds > 0 {
            return;
        }
        let Standing { cause, cf, since_us, writes, refused, .. } = stalls.swap_remove(index);
        let waited_us = self.env.clock.monotonic_us().saturating_sub(since_us);
        let waited = Duration::from_micros(waited_us);
        self.emit(Topic::Stall, || Event::StallEnd { cause, cf, waited, writes, refused });
    }
}
