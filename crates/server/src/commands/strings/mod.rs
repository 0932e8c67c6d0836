//! The string commands: rows of the table here, handlers by topic in the files beside.

mod counters;
mod edit;
mod lcs;
mod long_double;
mod read;
mod write;

use super::rows::{Docs, EVERY, ONE, TWO, row};
use crate::command::{Command, Flags, KeySpec};

const READ: Flags = Flags::READONLY;
const READ_FAST: Flags = READ.and(Flags::FAST);
const WRITE_FAST: Flags = Flags::WRITE.and(Flags::FAST);
const GROW: Flags = Flags::WRITE.and(Flags::DENYOOM);
const GROW_FAST: Flags = GROW.and(Flags::FAST);

const PAIRS: KeySpec = KeySpec { first: 1, last: -1, step: 2 };

const fn docs(since: &'static str, complexity: &'static str, summary: &'static str) -> Docs {
    Docs { group: "string", since, complexity, summary }
}

const SUBSTRING: &str = "O(N) where N is the length of the returned string. The complexity is ultimately determined by the returned length, but because creating a substring from an existing string is very cheap, it can be considered O(1) for small strings.";

#[rustfmt::skip]
pub(crate) const COMMANDS: &[Command] = &[
    row("append", 3, GROW_FAST, ONE, docs("2.0.0", "O(1). The amortized time complexity is O(1) assuming the appended value is small and the already present value is of any size, since the dynamic string library used by Redis will double the free space available on every reallocation.",
        "Appends a string to the value of a key. Creates the key if it doesn't exist."), edit::append),
    row("decr", 2, GROW_FAST, ONE, docs("1.0.0", "O(1)",
        "Decrements the integer value of a key by one. Uses 0 as initial value if the key doesn't exist."), counters::decr),
    row("decrby", 3, GROW_FAST, ONE, docs("1.0.0", "O(1)",
        "Decrements a number from the integer value of a key. Uses 0 as initial value if the key doesn't exist."), counters::decrby),
    row("get", 2, READ_FAST, ONE, docs("1.0.0", "O(1)",
        "Returns the string value of a key."), read::get),
    row("getdel", 2, WRITE_FAST, ONE, docs("6.2.0", "O(1)",
        "Returns the string value of a key after deleting the key."), write::getdel),
    row("getex", -2, WRITE_FAST, ONE, docs("6.2.0", "O(1)",
        "Returns the string value of a key after setting its expiration time."), write::getex),
    row("getrange", 4, READ, ONE, docs("2.4.0", SUBSTRING,
        "Returns a substring of the string stored at a key."), read::getrange),
    row("getset", 3, GROW_FAST, ONE, docs("1.0.0", "O(1)",
        "Returns the previous string value of a key after setting it to a new value."), write::getset),
    row("incr", 2, GROW_FAST, ONE, docs("1.0.0", "O(1)",
        "Increments the integer value of a key by one. Uses 0 as initial value if the key doesn't exist."), counters::incr),
    row("incrby", 3, GROW_FAST, ONE, docs("1.0.0", "O(1)",
        "Increments the integer value of a key by a number. Uses 0 as initial value if the key doesn't exist."), counters::incrby),
    row("incrbyfloat", 3, GROW_FAST, ONE, docs("2.6.0", "O(1)",
        "Increment the floating point value of a key by a number. Uses 0 as initial value if the key doesn't exist."), counters::incrbyfloat),
    row("lcs", -3, READ, TWO, docs("7.0.0", "O(N*M) where N and M are the lengths of s1 and s2, respectively",
        "Finds the longest common substring."), lcs::lcs),
    row("mget", -2, READ_FAST, EVERY, docs("1.0.0", "O(N) where N is the number of keys to retrieve.",
        "Atomically returns the string values of one or more keys."), read::mget),
    row("mset", -3, GROW, PAIRS, docs("1.0.1", "O(N) where N is the number of keys to set.",
        "Atomically creates or modifies the string values of one or more keys."), write::mset),
    row("msetnx", -3, GROW, PAIRS, docs("1.0.1", "O(N) where N is the number of keys to set.",
        "Atomically modifies the string values of one or more keys only when all keys don't exist."), write::msetnx),
    row("psetex", 4, GROW, ONE, docs("2.6.0", "O(1)",
        "Sets both string value and expiration time in milliseconds of a key. The key is created if it doesn't exist."), write::psetex),
    row("set", -3, GROW, ONE, docs("1.0.0", "O(1)",
        "Sets the string value of a key, ignoring its type. The key is created if it doesn't exist."), write::set),
    row("setex", 4, GROW, ONE, docs("2.0.0", "O(1)",
        "Sets the string value and expiration time of a key. Creates the key if it doesn't exist."), write::setex),
    row("setnx", 3, GROW_FAST, ONE, docs("1.0.0", "O(1)",
        "Set the string value of a key only when the key doesn't exist."), write::setnx),
    row("setrange", 4, GROW, ONE, docs("2.2.0", "O(1), not counting the time taken to copy the new string in place. Usually, this string is very small so the amortized complexity is O(1). Otherwise, complexity is O(M) with M being the length of the value argument.",
        "Overwrites a part of a string value with another by an offset. Creates the key if it doesn't exist."), edit::setrange),
    row("strlen", 2, READ_FAST, ONE, docs("2.2.0", "O(1)",
        "Returns the length of a string value."), read::strlen),
    row("substr", 4, READ, ONE, docs("1.0.0", SUBSTRING,
        "Returns a substring from a string value."), read::getrange),
];
