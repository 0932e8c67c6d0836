//! Rules: which calls of a [`FaultFs`](super::FaultFs) are disturbed, and how. Pure values; what
//! carries them out is in the files beside this one.

use std::{fmt, io, path::Path, sync::Arc};

use rustix::io::Errno;

use super::Gate;

/// A kind of call. Opening is `Create` when the call makes the file and `Open` otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is the method of the same name")]
pub enum Op {
    Open,
    Create,
    Read,
    Write,
    SyncData,
    Allocate,
    SetLen,
    Len,
    Rename,
    RemoveFile,
    RemoveDir,
    HardLink,
    CreateDir,
    ReadDir,
    Exists,
    SyncDir,
    Lock,
    FreeBytes,
}

impl Op {
    /// How many kinds there are.
    pub const COUNT: usize = Op::FreeBytes as usize + 1;

    /// True for calls that change the file system or make a change durable. Taking a lock is none:
    /// what it changes no crash can show.
    ///
    /// ```
    /// use sluice_env::Op;
    /// assert!(Op::Write.mutates() && Op::SyncDir.mutates());
    /// assert!(!Op::Read.mutates());
    /// ```
    pub fn mutates(self) -> bool {
        match self {
            Op::Create
            | Op::Write
            | Op::SyncData
            | Op::Allocate
            | Op::SetLen
            | Op::Rename
            | Op::RemoveFile
            | Op::RemoveDir
            | Op::HardLink
            | Op::CreateDir
            | Op::SyncDir => true,
            Op::Open | Op::Read | Op::Len | Op::ReadDir | Op::Exists | Op::Lock | Op::FreeBytes => {
                false
            }
        }
    }
}

/// The error that a disturbed call returns.
///
/// ```
/// use sluice_env::Failure;
/// assert_eq!(Failure::ENOSPC.error().kind(), std::io::ErrorKind::StorageFull);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    Kind(io::ErrorKind),
    /// A number of the operating system.
    Errno(i32),
}

impl Failure {
    /// The device failed.
    pub const EIO: Failure = Failure::Errno(Errno::IO.raw_os_error());
    /// The device is full.
    pub const ENOSPC: Failure = Failure::Errno(Errno::NOSPC.raw_os_error());

    /// A fresh error value.
    pub fn error(self) -> io::Error {
        match self {
            Failure::Kind(kind) => kind.into(),
            Failure::Errno(number) => io::Error::from_raw_os_error(number),
        }
    }
}

impl From<io::ErrorKind> for Failure {
    fn from(kind: io::ErrorKind) -> Failure {
        Failure::Kind(kind)
    }
}

/// What a fired rule does to the call, after its gate if it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// The call goes through.
    Pass,
    /// The call does nothing and fails.
    Fail(Failure),
    /// The call is carried out and fails nevertheless.
    FailAfter(Failure),
    /// A read or write moves at most this many bytes. Other calls go through.
    Short(usize),
    /// A write leaves at most this many bytes and fails. Other calls do nothing and fail.
    Torn(usize, Failure),
}

type Predicate = Arc<dyn Fn(&Path) -> bool + Send + Sync>;

/// Which calls to disturb, and how. By default a rule fires at the first matching call, once, and
/// does nothing: it then only counts.
///
/// ```
/// use sluice_env::{Failure, Op, Rule};
///
/// // The third sync of a log and all later ones fail.
/// let rule = Rule::on(Op::SyncData).path_ends_with(".wal").nth(3).forever().fail(Failure::EIO);
/// // One write somewhere leaves 10 bytes and fails.
/// let torn = Rule::on(Op::Write).torn(10, Failure::EIO);
/// ```
#[derive(Clone)]
pub struct Rule {
    op: Option<Op>,
    path: Option<Predicate>,
    nth: u64,
    forever: bool,
    pub(super) gate: Option<Gate>,
    pub(super) effect: Effect,
}

impl Rule {
    /// Matches calls of one kind.
    pub fn on(op: Op) -> Rule {
        Rule { op: Some(op), ..Rule::on_any() }
    }

    /// Matches every call, reads and questions included.
    pub fn on_any() -> Rule {
        Rule { op: None, path: None, nth: 1, forever: false, gate: None, effect: Effect::Pass }
    }

    /// Only calls on paths with this ending. A call with two paths matches with either.
    pub fn path_ends_with(self, suffix: &str) -> Rule {
        let suffix = suffix.to_owned();
        self.path(move |path| path.to_string_lossy().ends_with(&suffix))
    }

    /// Only calls on paths for which `matches` is true. A file's path is the one it was opened by.
    pub fn path(mut self, matches: impl Fn(&Path) -> bool + Send + Sync + 'static) -> Rule {
        self.path = Some(Arc::new(matches));
        self
    }

    /// Fires at the nth matching call since the rule was added, counted from 1.
    pub fn nth(mut self, nth: u64) -> Rule {
        self.nth = nth;
        self
    }

    /// Fires at every matching call from the nth on.
    pub fn forever(mut self) -> Rule {
        self.forever = true;
        self
    }

    /// The call does nothing and fails.
    pub fn fail(mut self, failure: impl Into<Failure>) -> Rule {
        self.effect = Effect::Fail(failure.into());
        self
    }

    /// The call is carried out and then fails: the caller is told of a failure that did not happen.
    pub fn fail_after(mut self, failure: impl Into<Failure>) -> Rule {
        self.effect = Effect::FailAfter(failure.into());
        self
    }

    /// A read or write moves at most `bytes` bytes and succeeds.
    pub fn short(mut self, bytes: usize) -> Rule {
        self.effect = Effect::Short(bytes);
        self
    }

    /// A write leaves at most `bytes` bytes and then fails.
    pub fn torn(mut self, bytes: usize, failure: impl Into<Failure>) -> Rule {
        self.effect = Effect::Torn(bytes, failure.into());
        self
    }

    /// The call waits at `gate` before anything else happens to it.
    pub fn hold(mut self, gate: &Gate) -> Rule {
        self.gate = Some(gate.clone());
        self
    }

    pub(super) fn matches(&self, op: Op, paths: &[&Path]) -> bool {
        self.op.is_none_or(|own| own == op)
            && self.path.as_ref().is_none_or(|matches| paths.iter().any(|path| matches(path)))
    }

    /// True when the matching call number `seen` is one to disturb.
    pub(super) fn fires(&self, seen: u64) -> bool {
        seen == self.nth || (self.forever && seen > self.nth)
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("op", &self.op)
            .field("nth", &self.nth)
            .field("forever", &self.forever)
            .field("effect", &self.effect)
            .finish_non_exhaustive()
    }
}
