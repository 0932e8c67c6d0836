//! CONFIG GET, SET, REWRITE, RESETSTAT, HELP.

use std::sync::atomic::Ordering;

use sluice_keyspace::glob;
use sluicedb::FlushRequest;

use super::container::{ADMIN, HELP, container, help as write_help, row};
use crate::command::{Args, CmdError, CmdResult, Command};
use crate::config::{PARAMETERS, find, names, rewrite};
use crate::exec::{Call, wrong_arity};

const GROUP: &str = "server";

pub(crate) const COMMANDS: &[Command] =
    &[container("config", GROUP, "2.0.0", "A container for server configuration commands.")];

#[rustfmt::skip]
pub(crate) const SUBCOMMANDS: &[(&str, Command)] = &[
    ("config", row(("get", -3, ADMIN), GROUP, "2.0.0",
        "Returns the effective values of configuration parameters.",
        "O(N) when N is the number of configuration parameters provided", get)),
    ("config", row(("set", -4, ADMIN), GROUP, "2.0.0",
        "Sets configuration parameters in-flight.",
        "O(N) when N is the number of configuration parameters provided", set)),
    ("config", row(("rewrite", 2, ADMIN), GROUP, "2.8.0",
        "Persists the effective configuration to file.", "O(1)", rewrite_file)),
    ("config", row(("resetstat", 2, ADMIN), GROUP, "2.0.0",
        "Resets the server's statistics.", "O(1)", resetstat)),
    ("config", row(("help", 2, HELP), GROUP, "5.0.0",
        "Returns helpful text about the different subcommands.", "O(1)", help)),
];

fn get(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let config = call.worker.shared.config();
    let found: Vec<(&str, usize)> = names()
        .filter(|(name, _)| {
            args[2..].iter().any(|pattern| glob::matches(pattern, name.as_bytes(), true))
        })
        .collect();
    call.reply.map(found.len());
    for (name, index) in found {
        call.reply.bulk(name.as_bytes());
        call.reply.bulk(config.value(index).as_bytes());
    }
    Ok(())
}

fn failed(name: &[u8], reason: &str) -> CmdError {
    CmdError::new(format!(
        "ERR CONFIG SET failed (possibly related to argument '{}') - {reason}",
        String::from_utf8_lossy(name)
    ))
}

fn set(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let pairs = &args[2..];
    if !pairs.len().is_multiple_of(2) {
        return Err(CmdError::SYNTAX);
    }
    let mut config = call.worker.shared.config();
    let mut changed = config.clone();
    let mut seen: Vec<usize> = Vec::new();
    // Names first: an unknown one is reported before any value is looked at.
    for pair in pairs.chunks(2) {
        let Some(index) = find(pair[0]) else {
            return Err(CmdError::new(format!(
                "ERR Unknown option or number of arguments for CONFIG SET - '{}'",
                String::from_utf8_lossy(pair[0])
            )));
        };
        if PARAMETERS[index].immutable {
            return Err(failed(pair[0], "can't set immutable config"));
        }
        if seen.contains(&index) {
            return Err(failed(pair[0], "duplicate parameter"));
        }
        seen.push(index);
    }
    for (pair, index) in pairs.chunks(2).zip(seen) {
        changed.set_running(index, pair[1]).map_err(|error| failed(pair[0], &error.0))?;
    }
    // The engine may refuse a combination that each value alone allows.
    call.worker
        .shared
        .db
        .set_tunables(&crate::config::engine::tunables(&changed))
        .map_err(|error| failed(pairs[0], &error.to_string()))?;
    let log_begins = config.get("appendonly") == "no" && changed.get("appendonly") == "yes";
    *config = changed;
    call.worker.shared.install(&config);
    drop(config);
    call.worker.refresh_settings();
    if log_begins {
        // What was written without a log must not be lost to a crash that the log survives.
        // `allow_stall`: this thread must not wait for memtable room.
        let request = FlushRequest { allow_stall: true, ..FlushRequest::default() };
        if let Err(error) = call.worker.shared.db.flush(request) {
            return Err(failed(b"appendonly", &error.to_string()));
        }
    }
    call.reply.ok();
    Ok(())
}

fn rewrite_file(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    let config = call.worker.shared.config();
    let Some(path) = config.path() else {
        return Err(CmdError::new("ERR The server is running without a config file"));
    };
    rewrite(&config, path)
        .map_err(|error| CmdError::new(format!("ERR Rewriting config file: {error}")))?;
    drop(config);
    call.reply.ok();
    Ok(())
}

fn resetstat(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    if args.len() != 2 {
        return Err(wrong_arity("config|resetstat"));
    }
    let shared = &call.worker.shared;
    shared.stats.iter().for_each(|stats| stats.reset());
    shared.errors.reset();
    shared.expired_keys.store(0, Ordering::Relaxed);
    call.reply.ok();
    Ok(())
}

fn help(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    write_help(
        call,
        "CONFIG",
        &[
            "GET <pattern> [<pattern> ...]",
            "    Return the parameters that match a pattern, and their values.",
            "SET <parameter> <value> [<parameter> <value> ...]",
            "    Set parameters: all of them, or none.",
            "RESETSTAT",
            "    Reset the statistics that INFO reports.",
            "REWRITE",
            "    Write the values in force into the configuration file.",
        ],
    )
}
