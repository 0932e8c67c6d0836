//! SLOWLOG, LATENCY, MEMORY: what there is to see so far.

use sluice_resp::parse_i64;

use super::container::{ADMIN, HELP, container, help as write_help, row};
use crate::command::{Args, CmdError, CmdResult, Command, Flags};
use crate::exec::Call;

const GROUP: &str = "server";

pub(crate) const COMMANDS: &[Command] = &[
    container("slowlog", GROUP, "2.2.12", "A container for slow log commands."),
    container("latency", GROUP, "2.8.13", "A container for latency diagnostics commands."),
    container("memory", GROUP, "4.0.0", "A container for memory diagnostics commands."),
];

#[rustfmt::skip]
pub(crate) const SUBCOMMANDS: &[(&str, Command)] = &[
    ("slowlog", row(("get", -2, Flags::ADMIN.and(Flags::LOADING).and(Flags::STALE)), GROUP, "2.2.12",
        "Returns the slow log's entries.", "O(N) where N is the number of entries returned", get)),
    ("slowlog", row(("len", 2, Flags::ADMIN.and(Flags::LOADING).and(Flags::STALE)), GROUP, "2.2.12",
        "Returns the number of entries in the slow log.", "O(1)", len)),
    ("slowlog", row(("reset", 2, Flags::ADMIN.and(Flags::LOADING).and(Flags::STALE)), GROUP, "2.2.12",
        "Clears all entries from the slow log.", "O(N) where N is the number of entries in the slowlog", reset)),
    ("slowlog", row(("help", 2, HELP), GROUP, "6.2.0",
        "Show helpful text about the different subcommands", "O(1)", slowlog_help)),
    ("latency", row(("latest", 2, ADMIN), GROUP, "2.8.13",
        "Returns the latest latency samples for all events.", "O(1)", no_samples)),
    ("latency", row(("history", 3, ADMIN), GROUP, "2.8.13",
        "Returns timestamp-latency samples for an event.", "O(1)", no_samples)),
    ("latency", row(("reset", -2, ADMIN), GROUP, "2.8.13",
        "Resets the latency data for one or more events.", "O(1)", latency_reset)),
    ("latency", row(("help", 2, HELP), GROUP, "2.8.13",
        "Returns helpful text about the different subcommands.", "O(1)", latency_help)),
    ("memory", row(("doctor", 2, Flags::NONE), GROUP, "4.0.0",
        "Outputs a memory problems report.", "O(1)", doctor)),
    ("memory", row(("purge", 2, Flags::NONE), GROUP, "4.0.0",
        "Asks the allocator to release memory.", "Depends on how much memory is allocated, could be slow", purge)),
    ("memory", row(("help", 2, HELP), GROUP, "4.0.0",
        "Returns helpful text about the different subcommands.", "O(1)", memory_help)),
];

fn get(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let count = match args {
        [_, _] => 10,
        [_, _, count] => match parse_i64(count) {
            Some(-1) => usize::MAX,
            Some(count) if count >= 0 => count as usize,
            _ => {
                return Err(CmdError::new("ERR count should be greater than or equal to -1"));
            }
        },
        _ => return Err(crate::exec::wrong_arity("slowlog|get")),
    };
    let entries = call.worker.shared.slowlog.newest(count);
    let reply = &mut *call.reply;
    reply.array(entries.len());
    for entry in entries {
        reply.array(6);
        reply.integer(entry.id as i64);
        reply.integer(entry.unix_seconds as i64);
        reply.integer(entry.usec as i64);
        reply.array(entry.args.len());
        entry.args.iter().for_each(|arg| reply.bulk(arg));
        reply.bulk(entry.peer.as_bytes());
        reply.bulk(&entry.client_name);
    }
    Ok(())
}

fn len(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    call.reply.integer(call.worker.shared.slowlog.len() as i64);
    Ok(())
}

fn reset(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    call.worker.shared.slowlog.reset();
    call.reply.ok();
    Ok(())
}

/// No event is monitored yet.
fn no_samples(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    call.reply.array(0);
    Ok(())
}

fn latency_reset(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    call.reply.integer(0);
    Ok(())
}

fn doctor(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    let stats = call.worker.shared.db.stats();
    let text = format!(
        "Memtables hold {} bytes ({} sealed), the block cache {} bytes.\n",
        stats.memtable_bytes, stats.sealed_memtables, stats.block_cache_bytes
    );
    call.reply.verbatim(text.as_bytes());
    Ok(())
}

/// The allocator gives memory back by itself.
fn purge(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    call.reply.ok();
    Ok(())
}

fn slowlog_help(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    write_help(
        call,
        "SLOWLOG",
        &[
            "GET [<count>]",
            "    Return the newest entries (default 10, -1: all): id, Unix time, microseconds,",
            "    arguments, client address, client name.",
            "LEN",
            "    Return how many entries there are.",
            "RESET",
            "    Remove all entries.",
        ],
    )
}

fn latency_help(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    write_help(
        call,
        "LATENCY",
        &[
            "HISTORY <event>",
            "    Return samples of an event.",
            "LATEST",
            "    Return the latest samples of all events.",
            "RESET [<event> ...]",
            "    Forget samples.",
        ],
    )
}

fn memory_help(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    write_help(
        call,
        "MEMORY",
        &[
            "DOCTOR",
            "    Say where memory is.",
            "PURGE",
            "    Ask the allocator to give memory back.",
        ],
    )
}
