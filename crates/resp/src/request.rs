//! The incremental request parser. It copies nothing: it says where in the caller's buffer the
//! arguments of the next command are.
//!
//! ```text
//! caller's buffer   *2\r\n$4\r\nECHO\r\n$5\r\nhello\r\n*1\r\n$4\r\nPI
//!                   └────────── one command ──────────┘└─ next: incomplete
//!                   args: 8..12, 18..23                consumed: 25
//! ```
//!
//! Invariants
//! - Offsets count from the first byte of the current command; the caller may move the bytes (as
//!   long as that byte stays the first one it passes), so a buffer can be compacted between calls.
//! - Bytes looked at once are not looked at again: any split of a stream costs the same in total,
//!   and gives the same commands.
//! - An announced count or length takes no memory: `args` grows as arguments arrive.

use std::{fmt, ops::Range};

use crate::{number::parse_i64, split_inline};

/// Longest line: an inline command, or the header of an array or bulk string. Redis's
/// `PROTO_INLINE_MAX_SIZE`.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;

/// Bounds of one request.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most arguments of a command.
    pub args_max: usize,
    /// Longest argument, in bytes.
    pub bulk_bytes_max: usize,
    /// The peer has not authenticated yet: much smaller bounds apply.
    pub unauthenticated: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { args_max: 1024 * 1024, bulk_bytes_max: 512 << 20, unauthenticated: false }
    }
}

/// Most arguments and longest argument before authentication, as in Redis.
const UNAUTHENTICATED_ARGS_MAX: i64 = 10;
const UNAUTHENTICATED_BULK_MAX: i64 = 16384;

/// The stream cannot be understood from here on. The connection gets `-ERR ` and this text, then
/// it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolError {
    TooBigInline,
    TooBigArrayHeader,
    TooBigBulkHeader,
    InvalidArrayLength,
    InvalidBulkLength,
    ExpectedBulk(u8),
    UnbalancedQuotes,
    UnauthenticatedArrayLength,
    UnauthenticatedBulkLength,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Protocol error: ")?;
        match self {
            ProtocolError::TooBigInline => f.write_str("too big inline request"),
            ProtocolError::TooBigArrayHeader => f.write_str("too big mbulk count string"),
            ProtocolError::TooBigBulkHeader => f.write_str("too big bulk count string"),
            ProtocolError::InvalidArrayLength => f.write_str("invalid multibulk length"),
            ProtocolError::InvalidBulkLength => f.write_str("invalid bulk length"),
            ProtocolError::ExpectedBulk(found) => {
                let shown = if found.is_ascii_control() { ' ' } else { char::from(*found) };
                write!(f, "expected '$', got '{shown}'")
            }
            ProtocolError::UnbalancedQuotes => f.write_str("unbalanced quotes in request"),
            ProtocolError::UnauthenticatedArrayLength => {
                f.write_str("unauthenticated multibulk length")
            }
            ProtocolError::UnauthenticatedBulkLength => f.write_str("unauthenticated bulk length"),
        }
    }
}

impl std::error::Error for ProtocolError {}

/// What [`RequestParser::parse`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A whole command of `consumed` bytes; its arguments are in [`RequestParser::arg`]. A command
    /// without arguments (an empty line, `*0`) has [`RequestParser::arg_count`] 0: skip it.
    Command { consumed: usize },
    /// More bytes are needed: at least `missing` of them.
    Incomplete { missing: usize },
}

/// What the parser expects at `at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first byte of a command.
    Start,
    /// The header of the next bulk string, `left` of them to come.
    BulkHeader { left: usize },
    /// `len` bytes and CRLF, the first of `left` bulk strings.
    BulkBody { left: usize, len: usize },
}

/// The parser of one connection. Between commands it holds nothing but reusable room.
#[derive(Debug)]
pub struct RequestParser {
    state: State,
    /// Where the next unread element begins.
    at: usize,
    /// How far the search for a line end has come.
    scanned: usize,
    args: Vec<Range<usize>>,
    /// Words of an inline command, which quoting may have changed, one after the other; `args`
    /// then points in here.
    inline: Vec<u8>,
    is_inline: bool,
    /// `args` belong to a command already handed out.
    finished: bool,
}

/// Room for arguments that stays allocated between commands (16 bytes each).
const ARGS_KEPT_MAX: usize = 1024;

impl Default for RequestParser {
    fn default() -> Self {
        RequestParser::new()
    }
}

impl RequestParser {
    pub fn new() -> RequestParser {
        RequestParser {
            state: State::Start,
            at: 0,
            scanned: 0,
            args: Vec::new(),
            inline: Vec::new(),
            is_inline: false,
            finished: false,
        }
    }

    /// Forgets a half-read command: the next call starts at the first byte it is given.
    pub fn reset(&mut self) {
        self.state = State::Start;
        self.at = 0;
        self.scanned = 0;
        self.args.clear();
        self.is_inline = false;
        self.finished = false;
        if self.args.capacity() > ARGS_KEPT_MAX {
            self.args = Vec::new();
        }
        if !self.inline.is_empty() {
            self.inline = Vec::new();
        }
    }

    pub fn arg_count(&self) -> usize {
        self.args.len()
    }

    /// Argument `index` of the command that [`parse`](Self::parse) found in `buf` (the same bytes).
    #[inline]
    pub fn arg<'a>(&'a self, index: usize, buf: &'a [u8]) -> Option<&'a [u8]> {
        let range = self.args.get(index)?.clone();
        if self.is_inline { self.inline.get(range) } else { buf.get(range) }
    }

    /// All arguments, in order.
    #[inline]
    pub fn args<'a>(&'a self, buf: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + 'a {
        let source = if self.is_inline { &self.inline[..] } else { buf };
        self.args.iter().map(|range| source.get(range.clone()).unwrap_or_default())
    }

    /// Reads on. `buf` begins with the first byte of the current command and contains everything
    /// received since. After `Command`, call again with `&buf[consumed..]`.
    pub fn parse(&mut self, buf: &[u8], limits: &Limits) -> Result<Step, ProtocolError> {
        if self.finished {
            self.reset();
        }
        loop {
            match self.state {
                State::Start => match buf.get(self.at) {
                    None => return Ok(Step::Incomplete { missing: 1 }),
                    Some(b'*') => match self.array_header(buf, limits)? {
                        None => return Ok(Step::Incomplete { missing: 1 }),
                        Some(0) => return Ok(self.finish(self.at)),
                        Some(count) => self.state = State::BulkHeader { left: count },
                    },
                    Some(_) => return self.inline_command(buf),
                },
                State::BulkHeader { left } => match self.bulk_header(buf, limits)? {
                    None => return Ok(Step::Incomplete { missing: 1 }),
                    Some(len) => self.state = State::BulkBody { left, len },
                },
                State::BulkBody { left, len } => {
                    // Lengths are bounded by `Limits`, offsets by the buffer: no overflow.
                    let end = self.at.saturating_add(len).saturating_add(2);
                    if buf.len() < end {
                        return Ok(Step::Incomplete { missing: end - buf.len() });
                    }
                    // The two bytes after a bulk string are skipped unread, as Redis does.
                    self.args.push(self.at..self.at + len);
                    self.at = end;
                    self.scanned = end;
                    if left == 1 {
                        return Ok(self.finish(end));
                    }
                    self.state = State::BulkHeader { left: left - 1 };
                }
            }
        }
    }

    fn finish(&mut self, consumed: usize) -> Step {
        self.finished = true;
        Step::Command { consumed }
    }

    /// The bytes between the type byte at `at` and CR, when the whole line is there; moves behind
    /// the line. Redis looks for CR alone and skips the byte after it.
    fn line<'a>(
        &mut self,
        buf: &'a [u8],
        too_big: ProtocolError,
    ) -> Result<Option<&'a [u8]>, ProtocolError> {
        let from = self.scanned.max(self.at).min(buf.len());
        let found = memchr::memchr(b'\r', &buf[from..]).map(|offset| from + offset);
        match found {
            // The bound holds whether or not the rest of the line has arrived, so that the outcome
            // never depends on how the stream was cut.
            Some(end) if end - self.at > INLINE_BYTES_MAX => Err(too_big),
            Some(end) if end + 1 < buf.len() => {
                let line = &buf[self.at + 1..end.max(self.at + 1)];
                self.at = end + 2;
                self.scanned = self.at;
                Ok(Some(line))
            }
            Some(end) => {
                self.scanned = end;
                Ok(None)
            }
            None => {
                if buf.len() - self.at > INLINE_BYTES_MAX {
                    return Err(too_big);
                }
                self.scanned = buf.len();
                Ok(None)
            }
        }
    }

    fn array_header(
        &mut self,
        buf: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, ProtocolError> {
        let Some(line) = self.line(buf, ProtocolError::TooBigArrayHeader)? else { return Ok(None) };
        let count = parse_i64(line).ok_or(ProtocolError::InvalidArrayLength)?;
        if count > limits.args_max.min(i32::MAX as usize) as i64 {
            return Err(ProtocolError::InvalidArrayLength);
        }
        if limits.unauthenticated && count > UNAUTHENTICATED_ARGS_MAX {
            return Err(ProtocolError::UnauthenticatedArrayLength);
        }
        Ok(Some(usize::try_from(count).unwrap_or(0)))
    }

    fn bulk_header(&mut self, buf: &[u8], limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        let start = self.at;
        // Redis waits for the whole line before it looks at the type byte.
        let Some(line) = self.line(buf, ProtocolError::TooBigBulkHeader)? else { return Ok(None) };
        match buf.get(start) {
            Some(b'$') => {}
            found => return Err(ProtocolError::ExpectedBulk(found.copied().unwrap_or(b' '))),
        }
        let len = parse_i64(line).ok_or(ProtocolError::InvalidBulkLength)?;
        let fits = usize::try_from(len).ok().filter(|len| *len <= limits.bulk_bytes_max);
        let Some(len_bytes) = fits else { return Err(ProtocolError::InvalidBulkLength) };
        if limits.unauthenticated && len > UNAUTHENTICATED_BULK_MAX {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        Ok(Some(len_bytes))
    }

    fn inline_command(&mut self, buf: &[u8]) -> Result<Step, ProtocolError> {
        let from = self.scanned.min(buf.len());
        let Some(end) = memchr::memchr(b'\n', &buf[from..]).map(|offset| from + offset) else {
            if buf.len() > INLINE_BYTES_MAX {
                return Err(ProtocolError::TooBigInline);
            }
            self.scanned = buf.len();
            return Ok(Step::Incomplete { missing: 1 });
        };
        if end > INLINE_BYTES_MAX {
            return Err(ProtocolError::TooBigInline);
        }
        let line = match &buf[..end] {
            [line @ .., b'\r'] => line,
            line => line,
        };
        let words = split_inline(line).map_err(|_| ProtocolError::UnbalancedQuotes)?;
        self.is_inline = true;
        self.inline.clear();
        for word in words {
            let start = self.inline.len();
            self.inline.extend_from_slice(&word);
            self.args.push(start..self.inline.len());
        }
        Ok(self.finish(end + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(stream: &[u8]) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
        let mut parser = RequestParser::new();
        let mut rest = stream;
        let mut commands = Vec::new();
        while let Step::Command { consumed } = parser.parse(rest, &Limits::default())? {
            commands.push(parser.args(rest).map(<[u8]>::to_vec).collect());
            rest = &rest[consumed..];
        }
        Ok(commands)
    }

    #[test]
    fn a_pipeline_of_arrays_and_lines() {
        let commands =
            all(b"*2\r\n$4\r\nECHO\r\n$3\r\na\r\n\r\nPING\r\nset \"a b\" c\n*0\r\n*1\r\n");
        let expected: Vec<Vec<&[u8]>> =
            vec![vec![b"ECHO", b"a\r\n"], vec![b"PING"], vec![b"set", b"a b", b"c"], vec![]];
        assert_eq!(commands.unwrap(), expected);
    }

    #[test]
    fn broken_frames_say_what_redis_says() {
        for (stream, text) in [
            ("*x\r\n", "Protocol error: invalid multibulk length"),
            ("*1048577\r\n", "Protocol error: invalid multibulk length"),
            ("*2147483648\r\n", "Protocol error: invalid multibulk length"),
            ("*1\r\n$-1\r\n", "Protocol error: invalid bulk length"),
            ("*1\r\n$536870913\r\n", "Protocol error: invalid bulk length"),
            ("*1\r\n$99999999999999999999\r\n", "Protocol error: invalid bulk length"),
            ("*1\r\n:1\r\n", "Protocol error: expected '$', got ':'"),
            ("*1\r\n\r\nabc", "Protocol error: expected '$', got ' '"),
            ("set \"a\r\n", "Protocol error: unbalanced quotes in request"),
        ] {
            assert_eq!(all(stream.as_bytes()).unwrap_err().to_string(), text, "{stream:?}");
        }
        let long = vec![b'1'; INLINE_BYTES_MAX + 1];
        assert_eq!(all(&long), Err(ProtocolError::TooBigInline));
        assert_eq!(all(&[b"*", &long[..]].concat()), Err(ProtocolError::TooBigArrayHeader));
        assert_eq!(all(&[b"*1\r\n$", &long[..]].concat()), Err(ProtocolError::TooBigBulkHeader));
    }

    #[test]
    fn announced_sizes_take_no_memory() {
        let mut parser = RequestParser::new();
        let step = parser.parse(b"*1048576\r\n$536870912\r\nabc", &Limits::default());
        assert_eq!(step, Ok(Step::Incomplete { missing: 536_870_912 + 2 - 3 }));
        assert_eq!(parser.args.capacity(), 0);
    }

    #[test]
    fn strangers_get_small_bounds() {
        let limits = Limits { unauthenticated: true, ..Limits::default() };
        let parse = |stream: &[u8]| RequestParser::new().parse(stream, &limits);
        assert_eq!(parse(b"*11\r\n"), Err(ProtocolError::UnauthenticatedArrayLength));
        assert_eq!(parse(b"*1\r\n$16385\r\n"), Err(ProtocolError::UnauthenticatedBulkLength));
    }

    #[test]
    fn a_negative_count_is_an_empty_command() {
        assert_eq!(all(b"*-5\r\nPING\r\n").unwrap(), vec![vec![], vec![b"PING".to_vec()]]);
    }
}
