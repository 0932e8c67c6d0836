//! One leader at a time works for all who wait: the shape of group commit.
//!
//! A caller that finds its goal unreached either takes the baton and leads, or waits until the
//! leader puts it down and looks again. No lock is held while a leader works, so the work may be
//! slow, and those whom a finished round covered leave at once: they never queue behind the next
//! leader, as they would if the baton were a plain mutex.
//!
//! Lock order: the baton for syncs may be held while the baton for writes is taken, never the
//! other way round.

use sluice_base::Result;
use sluice_env::sync::{Condvar, Mutex, PoisonError};

use crate::lock;

#[derive(Debug, Default)]
pub(crate) struct Baton {
    held: Mutex<bool>,
    put_down: Condvar,
}

/// Puts the baton down when dropped, also when the leader panics.
#[derive(Debug)]
pub(crate) struct Lead<'a>(&'a Baton);

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        *lock(&self.0.held) = false;
        self.0.put_down.notify_all();
    }
}

impl Baton {
    /// Returns when `reached` has an answer. `lead` must get there or fail; it runs without locks
    /// and never at the same time as another leader's.
    pub(crate) fn until(
        &self,
        reached: impl Fn() -> Option<Result<()>>,
        lead: impl Fn() -> Result<()>,
    ) -> Result<()> {
        loop {
            if let Some(answer) = reached() {
                return answer;
            }
            let mut held = lock(&self.held);
            if *held {
                // Whatever the leader reached, it published before it puts the baton down under
                // this mutex: the wake-up cannot be missed. Waking for nothing is harmless.
                held = self.put_down.wait(held).unwrap_or_else(PoisonError::into_inner);
                drop(held);
                continue;
            }
            *held = true;
            drop(held);
            let _lead = Lead(self);
            // The last leader may have got there between the first look and the baton.
            if let Some(answer) = reached() {
                return answer;
            }
            lead()?;
        }
    }

    /// Takes the baton for work that is not a goal to reach: no leader works meanwhile.
    pub(crate) fn take(&self) -> Lead<'_> {
        let mut held = lock(&self.held);
        while *held {
            held = self.put_down.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        *held = true;
        Lead(self)
    }
}
