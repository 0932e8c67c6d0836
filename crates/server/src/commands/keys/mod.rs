//! The commands about keys whatever their type, and about whole databases: rows of the table here,
//! handlers by topic in the files beside.

mod database;
mod expire;
mod generic;
mod object;
mod walk;

use super::rows::{Docs, EVERY, NONE, ONE, TWO, row};
use crate::command::{Command, Flags, KeySpec};

const READ: Flags = Flags::READONLY;
const READ_FAST: Flags = READ.and(Flags::FAST);
const READ_ALL: Flags = READ.and(Flags::WHOLE_DB);
const WRITE: Flags = Flags::WRITE;
const WRITE_FAST: Flags = WRITE.and(Flags::FAST);
const WRITE_ALL: Flags = WRITE.and(Flags::WHOLE_DB);

/// Behind a subcommand.
const SECOND: KeySpec = KeySpec { first: 2, last: 2, step: 1 };

const fn generic(since: &'static str, complexity: &'static str, summary: &'static str) -> Docs {
    Docs { group: "generic", since, complexity, summary }
}

const fn server(since: &'static str, complexity: &'static str, summary: &'static str) -> Docs {
    Docs { group: "server", since, complexity, summary }
}

#[rustfmt::skip]
pub(crate) const COMMANDS: &[Command] = &[
    row("copy", -3, WRITE.and(Flags::DENYOOM), TWO, generic("6.2.0", "O(N) worst case for collections, where N is the number of nested items. O(1) for string values.",
        "Copies the value of a key to a new key."), generic::copy),
    row("dbsize", 1, READ_ALL.and(Flags::FAST), NONE, server("1.0.0", "O(1)",
        "Returns the number of keys in the database."), database::dbsize),
    row("del", -2, WRITE, EVERY, generic("1.0.0", "O(N) where N is the number of keys that will be removed. When a key to remove holds a value other than a string, the individual complexity for this key is O(M) where M is the number of elements in the list, set, sorted set or hash. Removing a single key that holds a string value is O(1).",
        "Deletes one or more keys."), generic::del),
    row("exists", -2, READ_FAST, EVERY, generic("1.0.0", "O(N) where N is the number of keys to check.",
        "Determines whether one or more keys exist."), generic::exists),
    row("expire", -3, WRITE_FAST, ONE, generic("1.0.0", "O(1)",
        "Sets the expiration time of a key in seconds."), expire::expire),
    row("expireat", -3, WRITE_FAST, ONE, generic("1.2.0", "O(1)",
        "Sets the expiration time of a key to a Unix timestamp."), expire::expireat),
    row("expiretime", 2, READ_FAST, ONE, generic("7.0.0", "O(1)",
        "Returns the expiration time of a key as a Unix timestamp."), expire::expiretime),
    row("flushall", -1, WRITE_ALL, NONE, server("1.0.0", "O(N) where N is the total number of keys in all databases",
        "Removes all keys from all databases."), database::flushall),
    row("flushdb", -1, WRITE_ALL, NONE, server("1.0.0", "O(N) where N is the number of keys in the selected database",
        "Remove all keys from the current database."), database::flushdb),
    row("keys", 2, READ_ALL, NONE, generic("1.0.0", "O(N) with N being the number of keys in the database, under the assumption that the key names in the database and the given pattern have limited length.",
        "Returns all key names that match a pattern."), walk::keys),
    row("move", 3, WRITE_FAST, ONE, generic("1.0.0", "O(1)",
        "Moves a key to another database."), generic::move_key),
    row("object", -2, Flags::NONE, NONE, generic("2.2.3", "Depends on subcommand.",
        "A container for object introspection commands."), object::refuse),
    row("persist", 2, WRITE_FAST, ONE, generic("2.2.0", "O(1)",
        "Removes the expiration time of a key."), expire::persist),
    row("pexpire", -3, WRITE_FAST, ONE, generic("2.6.0", "O(1)",
        "Sets the expiration time of a key in milliseconds."), expire::pexpire),
    row("pexpireat", -3, WRITE_FAST, ONE, generic("2.6.0", "O(1)",
        "Sets the expiration time of a key to a Unix milliseconds timestamp."), expire::pexpireat),
    row("pexpiretime", 2, READ_FAST, ONE, generic("7.0.0", "O(1)",
        "Returns the expiration time of a key as a Unix milliseconds timestamp."), expire::pexpiretime),
    row("pttl", 2, READ_FAST, ONE, generic("2.6.0", "O(1)",
        "Returns the expiration time in milliseconds of a key."), expire::pttl),
    row("randomkey", 1, READ_ALL, NONE, generic("1.0.0", "O(1)",
        "Returns a random key name from the database."), walk::randomkey),
    row("rename", 3, WRITE, TWO, generic("1.0.0", "O(1)",
        "Renames a key and overwrites the destination."), generic::rename),
    row("renamenx", 3, WRITE_FAST, TWO, generic("1.0.0", "O(1)",
        "Renames a key only when the target key name doesn't exist."), generic::renamenx),
    row("scan", -2, READ_ALL, NONE, generic("2.8.0", "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
        "Iterates over the key names in the database."), walk::scan),
    row("swapdb", 3, WRITE_ALL.and(Flags::FAST), NONE, server("4.0.0", "O(N) where N is the count of clients watching or blocking on keys from both databases.",
        "Swaps two Redis databases."), database::swapdb),
    row("touch", -2, READ_FAST, EVERY, generic("3.2.1", "O(N) where N is the number of keys that will be touched.",
        "Returns the number of existing keys out of those specified after updating the time they were last accessed."), generic::exists),
    row("ttl", 2, READ_FAST, ONE, generic("1.0.0", "O(1)",
        "Returns the expiration time in seconds of a key."), expire::ttl),
    row("type", 2, READ_FAST, ONE, generic("1.0.0", "O(1)",
        "Determines the type of value stored at a key."), generic::type_of),
    row("unlink", -2, WRITE_FAST, EVERY, generic("4.0.0", "O(1) for each key removed regardless of its size. Then the command does O(N) work in a different thread in order to reclaim memory, where N is the number of allocations the deleted objects where composed of.",
        "Asynchronously deletes one or more keys."), generic::del),
];

/// The subcommands of OBJECT.
#[rustfmt::skip]
pub(crate) const SUBCOMMANDS: &[(&str, Command)] = &[
    ("object", row("encoding", 3, READ, SECOND, generic("2.2.3", "O(1)",
        "Returns the internal encoding of a Redis object."), object::encoding)),
    ("object", row("freq", 3, READ, SECOND, generic("4.0.0", "O(1)",
        "Returns the logarithmic access frequency counter of a Redis object."), object::freq)),
    ("object", row("help", 2, Flags::LOADING.and(Flags::STALE), NONE, generic("6.2.0", "O(1)",
        "Returns helpful text about the different subcommands."), object::help)),
    ("object", row("idletime", 3, READ, SECOND, generic("2.2.3", "O(1)",
        "Returns the time since the last access to a Redis object."), object::idletime)),
    ("object", row("refcount", 3, READ, SECOND, generic("2.2.3", "O(1)",
        "Returns the reference count of a value of a key."), object::refcount)),
];
