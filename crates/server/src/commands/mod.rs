//! The commands, one file a family. Each file exports `COMMANDS`, its rows of the command table, and
//! families with containers (`CLIENT`, `CONFIG` …) also `SUBCOMMANDS`.

mod args;
mod client;
mod client_kill;
mod config;
mod connection;
mod container;
#[cfg(test)]
mod harness;
mod introspect;
mod introspect_text;
pub(crate) mod keys;
mod log;
mod maintenance;
mod memtable;
mod memtable_args;
mod memtable_report;
mod observe;
pub(crate) mod pubsub;
mod rows;
mod save;
mod schema;
mod schema_args;
mod schema_choice;
mod schema_report;
#[cfg(test)]
mod scripts;
mod server;
pub(crate) mod strings;

use crate::command::Command;

/// Every family's rows.
pub(crate) const ALL: [&[Command]; 15] = [
    strings::COMMANDS,
    keys::COMMANDS,
    crate::multi::COMMANDS,
    connection::COMMANDS,
    client::COMMANDS,
    config::COMMANDS,
    introspect::COMMANDS,
    observe::COMMANDS,
    pubsub::COMMANDS,
    save::COMMANDS,
    server::COMMANDS,
    memtable::COMMANDS,
    log::COMMANDS,
    schema::COMMANDS,
    maintenance::COMMANDS,
];

/// Every container's subcommands, with the container's name.
pub(crate) const SUBCOMMANDS: [&[(&str, Command)]; 9] = [
    keys::SUBCOMMANDS,
    client::SUBCOMMANDS,
    config::SUBCOMMANDS,
    introspect::SUBCOMMANDS,
    observe::SUBCOMMANDS,
    pubsub::SUBCOMMANDS,
    memtable::SUBCOMMANDS,
    log::SUBCOMMANDS,
    schema::SUBCOMMANDS,
];

/// For the fuzz target: the readers of arguments that the commands without a transaction have.
pub(crate) fn fuzz_arguments(words: &[Vec<u8>]) {
    let args: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    if let Ok(parsed) = memtable_args::flush_args(&args) {
        assert!(parsed.families.len() < args.len().max(1));
    }
    let _ = memtable_args::optional_timeout(&args);
    let _ = client_kill::parse_filter(&args);
    let _ = schema_args::Named::parse_with_action(&args);
    let _ = schema_args::schema_text(&args);
    if let [start, end, ..] = args[..]
        && let Ok((start, Some(end))) = schema_args::range(start, end)
    {
        assert!(start < end);
    }
    for arg in &args {
        let _ = crate::ack::AckChoice::parse(arg);
        let _ = (args::integer(arg), args::int32(arg), memtable_args::shown(arg));
    }
    if args.len() > 2 {
        let _ = introspect::keys_of(&args);
    }
}
