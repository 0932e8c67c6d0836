//! Tests of the log through its public face, on a memory file system that loses power and on one
//! that fails. Every random test prints its seed.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod close;
mod crash;
mod damage;
mod faults;
mod golden;
mod group;
mod observer;
mod poison;
mod recycle;
mod support;
mod torn;
