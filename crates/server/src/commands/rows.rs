//! How the data families write their rows of the command table: the key specs they share, and one
//! function a row. What COMMAND DOCS says is in [`Docs`], so that texts cannot be swapped.

use crate::command::{Command, Flags, Handler, HandlerKind, KeySpec};

pub(super) const NONE: KeySpec = KeySpec { first: 0, last: 0, step: 0 };
pub(super) const ONE: KeySpec = KeySpec { first: 1, last: 1, step: 1 };
pub(super) const TWO: KeySpec = KeySpec { first: 1, last: 2, step: 1 };
pub(super) const EVERY: KeySpec = KeySpec { first: 1, last: -1, step: 1 };

/// What COMMAND DOCS says: four texts that are easily swapped get names.
pub(super) struct Docs {
    pub group: &'static str,
    pub since: &'static str,
    pub complexity: &'static str,
    pub summary: &'static str,
}

/// The row of a command that runs on a transaction.
pub(super) const fn row(
    name: &'static str,
    arity: i32,
    flags: Flags,
    keys: KeySpec,
    docs: Docs,
    handler: Handler,
) -> Command {
    Command {
        name,
        arity,
        flags,
        keys,
        group: docs.group,
        since: docs.since,
        summary: docs.summary,
        complexity: docs.complexity,
        handler: HandlerKind::Data(handler),
    }
}
