//! `cargo xtask`: what is too long for `cargo test`.
//!
//! ```text
//! cargo xtask soak [--minutes N]       every kind of attack with new seeds, and a report
//! cargo xtask mutants [--only NAME]    faults put into the source one at a time: are they caught?
//! ```
//!
//! It only starts other programs and reads what they say: nothing here knows the engine.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a tool for developers: it lives in the real world"
)]

mod mutants;
mod soak;
mod tools;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Long test runs of SluiceDB.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Attacks every promise with new seeds for some time, and reports.
    Soak(soak::Arguments),
    /// Puts faults into a copy of the source, one at a time, and says which check caught each.
    Mutants(mutants::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Soak(arguments) => soak::run(&arguments),
        Task::Mutants(arguments) => mutants::run(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::from(2)
        }
    }
}
