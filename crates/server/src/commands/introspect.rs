//! COMMAND: the command table, told to clients.

use sluice_keyspace::glob;
use sluice_resp::ReplyBuf;

use super::container::{HELP, help as write_help, row};
use super::introspect_text::{self as text, categories, flag_names, key_flags};
use crate::command::{Args, CmdError, CmdResult, Command, Flags};
use crate::exec::{Call, arity_fits};
use crate::registry::{Entry, table};

const GROUP: &str = "server";
const FLAGS: Flags = Flags::LOADING.and(Flags::STALE);

pub(crate) const COMMANDS: &[Command] = &[row(
    ("command", -1, FLAGS),
    GROUP,
    "2.8.13",
    "Returns detailed information about all commands.",
    "O(N) where N is the total number of Redis commands",
    all,
)];

#[rustfmt::skip]
pub(crate) const SUBCOMMANDS: &[(&str, Command)] = &[
    ("command", row(("count", 2, FLAGS), GROUP, "2.8.13",
        "Returns a count of commands.", "O(1)", count)),
    ("command", row(("list", -2, FLAGS), GROUP, "7.0.0",
        "Returns a list of command names.", "O(N) where N is the total number of Redis commands", list)),
    ("command", row(("info", -2, FLAGS), GROUP, "2.8.13",
        "Returns information about one, multiple or all commands.",
        "O(N) where N is the number of commands to look up", info)),
    ("command", row(("docs", -2, FLAGS), GROUP, "7.0.0",
        "Returns documentary information about one, multiple or all commands.",
        "O(N) where N is the number of commands to look up", docs)),
    ("command", row(("getkeys", -3, FLAGS), GROUP, "2.8.13",
        "Extracts the key names from an arbitrary command.",
        "O(N) where N is the number of arguments to the command", getkeys)),
    ("command", row(("getkeysandflags", -3, FLAGS), GROUP, "7.0.0",
        "Extracts the key names and access flags for an arbitrary command.",
        "O(N) where N is the number of arguments to the command", getkeysandflags)),
    ("command", row(("help", 2, HELP), GROUP, "5.0.0",
        "Returns helpful text about the different subcommands.", "O(1)", help)),
];

fn all(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    call.reply.array(table().commands().count());
    table().commands().for_each(|entry| describe(call.reply, entry));
    Ok(())
}

fn count(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    call.reply.integer(table().commands().count() as i64);
    Ok(())
}

fn info(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    if args.len() == 2 {
        return all(call, args);
    }
    call.reply.array(args.len() - 2);
    for name in &args[2..] {
        match table().find_full(name) {
            Some(entry) => describe(call.reply, entry),
            None => call.reply.null(),
        }
    }
    Ok(())
}

/// The ten fields of `COMMAND INFO`.
fn describe(reply: &mut ReplyBuf, entry: &Entry) {
    let keys = entry.row.keys;
    reply.array(10);
    reply.bulk(entry.full_name.as_bytes());
    reply.integer(entry.row.arity.into());
    simple_set(reply, &flag_names(entry));
    reply.integer(keys.first.into());
    reply.integer(keys.last.into());
    reply.integer(keys.step.into());
    simple_set(reply, &categories(entry));
    // Tips.
    reply.array(0);
    if keys.first > 0 {
        reply.array(1);
        describe_keys(reply, entry);
    } else {
        reply.array(0);
    }
    reply.array(entry.subcommands.len());
    for id in &entry.subcommands {
        describe(reply, table().entry(*id));
    }
}

fn simple_set(reply: &mut ReplyBuf, names: &[&str]) {
    reply.set(names.len());
    names.iter().for_each(|name| reply.simple(name));
}

/// A key specification: where keys begin, and how to go on from there.
fn describe_keys(reply: &mut ReplyBuf, entry: &Entry) {
    let keys = entry.row.keys;
    reply.map(3);
    reply.bulk(b"flags");
    simple_set(reply, key_flags(entry));
    reply.bulk(b"begin_search");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(b"index");
    reply.bulk(b"spec");
    reply.map(1);
    reply.bulk(b"index");
    reply.integer(keys.first.into());
    reply.bulk(b"find_keys");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(b"range");
    reply.bulk(b"spec");
    reply.map(3);
    reply.bulk(b"lastkey");
    // Counted from the first key; negative ones from the end.
    let last = if keys.last < 0 { keys.last } else { keys.last - keys.first };
    reply.integer(last.into());
    reply.bulk(b"keystep");
    reply.integer(keys.step.into());
    reply.bulk(b"limit");
    reply.integer(0);
}

fn list(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let names: Vec<&str> = match &args[2..] {
        [] => table().commands().map(|entry| entry.full_name.as_str()).collect(),
        [filter, kind, value] if filter.eq_ignore_ascii_case(b"filterby") => {
            let is = |name: &str| kind.eq_ignore_ascii_case(name.as_bytes());
            let takes: Box<dyn Fn(&Entry) -> bool> = if is("module") {
                Box::new(|_| false)
            } else if is("aclcat") {
                let wanted = [b"@", *value].concat().to_ascii_lowercase();
                Box::new(move |entry| {
                    categories(entry).iter().any(|name| name.as_bytes() == wanted)
                })
            } else if is("pattern") {
                let pattern = value.to_vec();
                Box::new(move |entry| glob::matches(&pattern, entry.full_name.as_bytes(), true))
            } else {
                return Err(CmdError::SYNTAX);
            };
            table()
                .entries()
                .filter(|entry| takes(entry))
                .map(|entry| entry.full_name.as_str())
                .collect()
        }
        _ => return Err(CmdError::SYNTAX),
    };
    call.reply.set(names.len());
    names.iter().for_each(|name| call.reply.bulk(name.as_bytes()));
    Ok(())
}

fn docs(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let entries: Vec<&Entry> = match &args[2..] {
        [] => table().commands().collect(),
        names => names.iter().filter_map(|name| table().find_full(name)).collect(),
    };
    call.reply.map(entries.len());
    entries.into_iter().for_each(|entry| document(call.reply, entry));
    Ok(())
}

/// A name and a map of its documentation.
fn document(reply: &mut ReplyBuf, entry: &Entry) {
    reply.bulk(entry.full_name.as_bytes());
    let has_subcommands = !entry.subcommands.is_empty();
    reply.map(4 + usize::from(has_subcommands));
    for (key, value) in [
        ("summary", entry.row.summary),
        ("since", entry.row.since),
        ("group", entry.row.group),
        ("complexity", entry.row.complexity),
    ] {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    if has_subcommands {
        reply.bulk(b"subcommands");
        reply.map(entry.subcommands.len());
        for id in &entry.subcommands {
            document(reply, table().entry(*id));
        }
    }
}

/// The row of the command given as arguments, and its keys.
pub(super) fn keys_of<'a>(args: &Args<'a>) -> Result<(&'static Entry, Vec<&'a [u8]>), CmdError> {
    let table = table();
    let top = table.find(args[0]).ok_or(CmdError::new("ERR Invalid command specified"))?;
    let entry = match args.get(1) {
        Some(name) if !top.subcommands.is_empty() => table
            .find_subcommand(top, name)
            .ok_or(CmdError::new("ERR Invalid command specified"))?,
        _ => top,
    };
    if entry.row.keys.first == 0 || entry.has(Flags::PUBSUB) {
        return Err(CmdError::new("ERR The command has no key arguments"));
    }
    if !arity_fits(&entry.row, args.len()) {
        return Err(CmdError::new("ERR Invalid number of arguments specified for command"));
    }
    let keys = entry.row.keys.positions(args.len()).map(|at| args[at]).collect();
    Ok((entry, keys))
}

fn getkeys(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let (_, keys) = keys_of(&args[2..])?;
    call.reply.array(keys.len());
    keys.iter().for_each(|key| call.reply.bulk(key));
    Ok(())
}

fn getkeysandflags(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let (entry, keys) = keys_of(&args[2..])?;
    call.reply.array(keys.len());
    for key in keys {
        call.reply.array(2);
        call.reply.bulk(key);
        simple_set(call.reply, key_flags(entry));
    }
    Ok(())
}

fn help(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    write_help(call, "COMMAND", text::HELP)
}
