//! The binary `sluice`: one subcommand a job. This file only reads the command line.

mod inspect;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Programs compiled into this binary allocate from mimalloc; the libraries choose nothing.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(name = "sluice", version, about = "A durable Redis-compatible server on SluiceDB")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server: `sluice server [FILE] [--key value]…`, keys as in redis.conf
    #[command(disable_help_flag = true)]
    Server {
        /// A configuration file, then `--key value…` pairs, as redis-server takes them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
        arguments: Vec<String>,
    },
    /// Look into a file of a database, without the database
    #[command(subcommand)]
    Inspect(inspect::What),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Server { arguments } => serve::run(arguments),
        Command::Inspect(what) => inspect::run(what),
    }
}
