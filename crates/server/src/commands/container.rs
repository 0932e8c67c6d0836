//! What containers (`CLIENT`, `CONFIG` …) have in common: their own row, rows of subcommands, HELP.

use crate::command::{Args, CallHandler, CmdResult, Command, Flags, HandlerKind, KeySpec};
use crate::exec::{Call, wrong_arity};

/// Flags of most commands here.
pub(super) const BASE: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE);
pub(super) const ADMIN: Flags = BASE.and(Flags::ADMIN);
/// HELP subcommands.
pub(super) const HELP: Flags = Flags::LOADING.and(Flags::STALE);

/// A row without keys.
pub(super) const fn row(
    (name, arity, flags): (&'static str, i32, Flags),
    group: &'static str,
    since: &'static str,
    summary: &'static str,
    complexity: &'static str,
    handler: CallHandler,
) -> Command {
    Command {
        name,
        arity,
        flags,
        keys: KeySpec::NONE,
        group,
        since,
        summary,
        complexity,
        handler: HandlerKind::Connection(handler),
    }
}

/// The row of a container: never run, because a subcommand is found or refused first.
pub(super) const fn container(
    name: &'static str,
    group: &'static str,
    since: &'static str,
    summary: &'static str,
) -> Command {
    row((name, -2, Flags::NONE), group, since, summary, "Depends on subcommand.", refuse)
}

/// As [`container`], for administrators alone.
pub(super) const fn admin_container(
    name: &'static str,
    group: &'static str,
    since: &'static str,
    summary: &'static str,
) -> Command {
    row((name, -2, ADMIN), group, since, summary, "Depends on subcommand.", refuse)
}

fn refuse(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    Err(wrong_arity(&call.entry.full_name))
}

/// Writes a HELP reply: lines of `SYNTAX` and indented explanation.
pub(super) fn help(call: &mut Call<'_>, name: &str, lines: &[&str]) -> CmdResult {
    let tail = ["HELP", "    Print this help."];
    call.reply.array(1 + lines.len() + tail.len());
    call.reply.simple(&format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    lines.iter().chain(&tail).for_each(|line| call.reply.simple(line));
    Ok(())
}
