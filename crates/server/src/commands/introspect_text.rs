//! Words for the table's rows: flag names, ACL categories, key access, as `COMMAND INFO` gives them.

use crate::command::Flags;
use crate::registry::{Entry, table};

/// Flags that Redis knows, in Redis's order.
const FLAG_NAMES: [(Flags, &str); 15] = [
    (Flags::WRITE, "write"),
    (Flags::READONLY, "readonly"),
    (Flags::DENYOOM, "denyoom"),
    (Flags::ADMIN, "admin"),
    (Flags::PUBSUB, "pubsub"),
    (Flags::NOSCRIPT, "noscript"),
    (Flags::BLOCKING, "blocking"),
    (Flags::LOADING, "loading"),
    (Flags::STALE, "stale"),
    (Flags::SKIP_MONITOR, "skip_monitor"),
    (Flags::SKIP_SLOWLOG, "skip_slowlog"),
    (Flags::FAST, "fast"),
    (Flags::NO_AUTH, "no_auth"),
    (Flags::NO_MULTI, "no_multi"),
    (Flags::ALLOW_BUSY, "allow_busy"),
];

pub(super) fn flag_names(entry: &Entry) -> Vec<&'static str> {
    let mut names: Vec<&str> =
        FLAG_NAMES.iter().filter(|(flag, _)| entry.has(*flag)).map(|(_, name)| *name).collect();
    if entry.has(Flags::MOVABLE_KEYS) {
        names.push("movablekeys");
    }
    names
}

/// Categories, from the group and the flags, by the rules Redis derives most of them with.
pub(super) fn categories(entry: &Entry) -> Vec<&'static str> {
    let mut names = Vec::new();
    match entry.row.group {
        // Redis counts the waits among the connection's commands.
        "generic" if matches!(entry.row.name, "wait" | "waitaof") => names.push("@connection"),
        "generic" => names.push("@keyspace"),
        "string" => names.push("@string"),
        "connection" if entry.subcommands.is_empty() => names.push("@connection"),
        "transactions" => names.push("@transaction"),
        _ => {}
    }
    let name = entry.row.name;
    if matches!(name, "dbsize" | "flushdb" | "flushall" | "swapdb") {
        names.push("@keyspace");
    }
    if entry.has(Flags::WRITE) {
        names.push("@write");
    }
    if entry.has(Flags::READONLY) {
        names.push("@read");
    }
    let is_admin = entry.has(Flags::ADMIN);
    if is_admin {
        names.push("@admin");
    }
    if entry.has(Flags::PUBSUB) {
        names.push("@pubsub");
    }
    names.push(if entry.has(Flags::FAST) { "@fast" } else { "@slow" });
    if entry.has(Flags::BLOCKING) {
        names.push("@blocking");
    }
    let is_dangerous =
        matches!(name, "keys" | "flushdb" | "flushall" | "swapdb" | "info" | "role" | "sort");
    if is_admin || is_dangerous {
        names.push("@dangerous");
    }
    if entry.parent.map(|id| table().entry(id).row.name) == Some("command") || name == "command" {
        names.push("@connection");
    }
    names
}

/// How a command uses its keys: the flags of a key specification.
pub(super) fn key_flags(entry: &Entry) -> &'static [&'static str] {
    if entry.has(Flags::PUBSUB) {
        // Shard channels: they have a place in a cluster as keys have, and are none.
        return &["not_key"];
    }
    if !entry.has(Flags::WRITE) {
        return &["RO", "access"];
    }
    match entry.row.name {
        "del" | "unlink" | "getdel" => &["RM", "delete"],
        "set" | "mset" | "setex" | "psetex" => &["OW", "update"],
        "setnx" | "msetnx" => &["OW", "insert"],
        _ => &["RW", "update"],
    }
}

pub(super) const HELP: &[&str] = &[
    "(no subcommand)",
    "    Describe every command.",
    "COUNT",
    "    Return how many commands there are.",
    "LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]",
    "    Return the names of commands.",
    "INFO [<command-name> ...]",
    "    Describe commands, all when none is named.",
    "DOCS [<command-name> ...]",
    "    Return documentation of commands, all when none is named.",
    "GETKEYS <full-command>",
    "    Return the keys of a whole command.",
    "GETKEYSANDFLAGS <full-command>",
    "    Return the keys of a whole command, and how it uses them.",
];
