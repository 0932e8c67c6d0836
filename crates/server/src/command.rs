//! What a command is to the server: a row of the table and a handler. The boundary between the
//! connection machinery (which finds the row, takes latches, commits, replies) and the handlers.

use sluice_keyspace::Txn;
use sluice_resp::ReplyBuf;

/// The arguments of one command, the name included at index 0.
pub type Args<'a> = [&'a [u8]];

/// What a handler gets.
pub struct Ctx<'a> {
    /// Reads and pending writes of this command (of the whole transaction inside EXEC). The latches
    /// of the command's keys are held. The caller commits it after an `Ok`, drops it after an `Err`.
    pub txn: &'a mut Txn,
    /// The selected database, as the client numbers it.
    pub db: u32,
    /// Unix time in milliseconds, fixed for the command (for the whole transaction inside EXEC).
    pub now_ms: u64,
    /// The reply under construction. After an `Err` the caller cuts it back and writes the error.
    pub reply: &'a mut ReplyBuf,
}

/// A failed command: the text of its error reply, with its code (`ERR …`, `WRONGTYPE …`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CmdError(pub std::borrow::Cow<'static, str>);

impl CmdError {
    pub const SYNTAX: CmdError = CmdError(std::borrow::Cow::Borrowed("ERR syntax error"));
    pub const NOT_INTEGER: CmdError =
        CmdError(std::borrow::Cow::Borrowed("ERR value is not an integer or out of range"));
    pub const NOT_FLOAT: CmdError =
        CmdError(std::borrow::Cow::Borrowed("ERR value is not a valid float"));
    pub const WRONG_TYPE: CmdError = CmdError(std::borrow::Cow::Borrowed(
        "WRONGTYPE Operation against a key holding the wrong kind of value",
    ));
    pub fn new(text: impl Into<std::borrow::Cow<'static, str>>) -> CmdError {
        CmdError(text.into())
    }
}

pub type CmdResult = Result<(), CmdError>;

/// A handler of a data command: runs to completion, never blocks, writes exactly one reply.
pub type Handler = fn(&mut Ctx<'_>, &Args<'_>) -> CmdResult;

/// How the table finds a command's keys: `first` to `last` (negative: from the end) every `step`;
/// all zero: no keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySpec {
    pub first: i32,
    pub last: i32,
    pub step: i32,
}

/// Command flags, with Redis's names (`write`, `readonly`, `denyoom`, `fast` …).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(pub u32);

impl Flags {
    pub const NONE: Flags = Flags(0);
    pub const WRITE: Flags = Flags(1);
    pub const READONLY: Flags = Flags(1 << 1);
    pub const DENYOOM: Flags = Flags(1 << 2);
    pub const ADMIN: Flags = Flags(1 << 3);
    pub const FAST: Flags = Flags(1 << 4);
    pub const NOSCRIPT: Flags = Flags(1 << 5);
    pub const NO_MULTI: Flags = Flags(1 << 6);
    pub const LOADING: Flags = Flags(1 << 7);
    pub const STALE: Flags = Flags(1 << 8);
    pub const NO_AUTH: Flags = Flags(1 << 9);
    pub const MOVABLE_KEYS: Flags = Flags(1 << 10);
    /// Looks at or changes whole databases: takes the latch of everything when it also writes.
    pub const WHOLE_DB: Flags = Flags(1 << 11);
    pub const BLOCKING: Flags = Flags(1 << 12);
    pub const SKIP_MONITOR: Flags = Flags(1 << 13);
    pub const SKIP_SLOWLOG: Flags = Flags(1 << 14);
    pub const ALLOW_BUSY: Flags = Flags(1 << 15);

    pub const PUBSUB: Flags = Flags(1 << 16);

    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// One row of the command table.
#[derive(Clone, Copy)]
pub struct Command {
    /// Lower case.
    pub name: &'static str,
    /// Argument count with the name; negative: at least as many.
    pub arity: i32,
    pub flags: Flags,
    pub keys: KeySpec,
    /// Redis's group name: `string`, `generic`, `connection`, `server`, `transactions` …
    pub group: &'static str,
    /// First version of Redis that had it, for COMMAND DOCS.
    pub since: &'static str,
    pub summary: &'static str,
    /// Redis's complexity text, for COMMAND DOCS.
    pub complexity: &'static str,
    pub handler: HandlerKind,
}

/// Who runs a command.
#[derive(Clone, Copy)]
pub enum HandlerKind {
    /// Data commands: run on a transaction.
    Data(Handler),
    /// Commands about the connection or the server: run by the connection machinery, without a
    /// transaction.
    Connection(CallHandler),
}

/// A handler of a connection command. It writes its reply, or asks through
/// `Call::flow` for something else to happen.
pub type CallHandler = fn(&mut crate::exec::Call<'_>, &Args<'_>) -> CmdResult;

impl std::fmt::Debug for Ctx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ctx").field("db", &self.db).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Command").field("name", &self.name).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for HandlerKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            HandlerKind::Data(_) => "Data",
            HandlerKind::Connection(_) => "Connection",
        })
    }
}

impl KeySpec {
    pub const NONE: KeySpec = KeySpec { first: 0, last: 0, step: 0 };

    /// The positions of the keys among `count` arguments.
    #[inline]
    pub fn positions(self, count: usize) -> impl Iterator<Item = usize> {
        let last = match self.last {
            last if last < 0 => count as i64 + i64::from(last),
            last => i64::from(last).min(count as i64 - 1),
        };
        let first = self.first as usize;
        let end =
            if self.first <= 0 || self.step <= 0 { first } else { (last + 1).max(0) as usize };
        (first..end).step_by(self.step.max(1) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::KeySpec;

    #[test]
    fn key_positions() {
        let positions = |first, last, step, count| {
            KeySpec { first, last, step }.positions(count).collect::<Vec<_>>()
        };
        assert_eq!(positions(1, 1, 1, 3), [1]);
        assert_eq!(positions(1, -1, 1, 4), [1, 2, 3]);
        assert_eq!(positions(1, -1, 2, 5), [1, 3]);
        assert_eq!(positions(1, 2, 1, 2), [1]);
        assert_eq!(positions(0, 0, 0, 4), [] as [usize; 0]);
        assert_eq!(positions(1, -1, 1, 1), [] as [usize; 0]);
    }
}
