//! Simulation of the engine: one seed is one history of a database, with everything that can go
//! wrong under it, and a model that says what must be there afterwards.
//!
//! ```text
//! seed ─> Plan: epochs of steps, as text ─> run ─> World: the real engine, stepped, on
//!            ^                               │       FaultFs ─> MemFs, with a clock it is told
//!            └──── shrink: drop steps ──fails┘     Model: what was written, which floors hold
//! ```
//!
//! - [`plan`]: what is done. Every step carries a number of its own that decides its details, so a
//!   plan with steps taken out still does the same with the rest: that is what makes it shrink.
//! - [`model`]: what may be there, and what must be.
//! - [`world`]: opens, crashes and reopens; [`session`] does the steps of one opening;
//!   [`held`] has the snapshots and iterators that live through them, [`copies`] the checkpoints.
//! - [`settings`]: options at random, small enough that everything happens often.
//! - [`shrink`]: the shortest plan that still fails.
//!
//! Nothing here reads a clock or starts a thread: a seed gives the same run on every machine. A
//! violated promise is a panic whose message names it.

#![allow(clippy::unwrap_used, reason = "the whole crate is a test: it fails by panicking")]

pub mod copies;
pub mod held;
pub mod model;
pub mod plan;
mod schemas;
pub mod session;
pub mod settings;
pub mod shrink;
pub mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use plan::Plan;
pub use world::Tally;

/// Runs a plan. The error is the message of the panic that ended it.
///
/// # Errors
/// What was violated.
pub fn run(plan: &Plan) -> Result<Tally, String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| world::run(plan)));
    outcome.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "a panic without a message".to_owned())
    })
}
