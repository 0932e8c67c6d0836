//! Writes replies into a growing buffer, in the protocol version the client asked for.
//! What RESP2 lacks degrades as Redis degrades it: maps to flat arrays, sets and pushes to arrays,
//! doubles to bulk strings, booleans to integers, null to the null bulk string.

use crate::{Decimal, format_double};

/// The protocol version of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Proto {
    #[default]
    Resp2,
    Resp3,
}

/// A reply under construction.
#[derive(Debug, Default)]
pub struct ReplyBuf {
    out: Vec<u8>,
    proto: Proto,
}

impl ReplyBuf {
    pub fn new(proto: Proto) -> ReplyBuf {
        ReplyBuf { out: Vec::new(), proto }
    }
    pub fn proto(&self) -> Proto {
        self.proto
    }
    pub fn set_proto(&mut self, proto: Proto) {
        self.proto = proto;
    }
    pub fn bytes(&self) -> &[u8] {
        &self.out
    }
    pub fn buffer_mut(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }
    pub fn len(&self) -> usize {
        self.out.len()
    }
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }
    /// Cuts the buffer back: used to drop what a failed command had written.
    pub fn truncate(&mut self, len: usize) {
        self.out.truncate(len);
    }
    #[inline]
    fn head(&mut self, kind: u8, number: i64) {
        self.out.push(kind);
        self.out.extend_from_slice(Decimal::new(number).bytes());
        self.out.extend_from_slice(b"\r\n");
    }
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }
    pub fn simple(&mut self, text: &str) {
        self.out.push(b'+');
        self.out.extend_from_slice(text.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }
    /// `text` begins with the error code, for example `ERR no such key`. Line breaks become spaces.
    pub fn error(&mut self, text: &str) {
        self.out.push(b'-');
        self.out.extend(text.bytes().map(|b| if b == b'\r' || b == b'\n' { b' ' } else { b }));
        self.out.extend_from_slice(b"\r\n");
    }
    pub fn integer(&mut self, value: i64) {
        self.head(b':', value);
    }
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.head(b'$', bytes.len() as i64);
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }
    pub fn null(&mut self) {
        self.out.extend_from_slice(if self.proto == Proto::Resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }
    /// The null array of RESP2 (`*-1`), null in RESP3: what EXEC answers when a watched key changed.
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(if self.proto == Proto::Resp3 { b"_\r\n" } else { b"*-1\r\n" });
    }
    /// A double: `,3.5` in RESP3, a bulk string in RESP2.
    pub fn double(&mut self, value: f64) {
        match self.proto {
            Proto::Resp3 => {
                self.out.push(b',');
                format_double(value, &mut self.out);
                self.out.extend_from_slice(b"\r\n");
            }
            Proto::Resp2 => {
                let mut text = Vec::with_capacity(32);
                format_double(value, &mut text);
                self.bulk(&text);
            }
        }
    }
    /// An integer of any size, in decimal: `(…` in RESP3, a bulk string in RESP2.
    pub fn big_number(&mut self, digits: &str) {
        match self.proto {
            Proto::Resp3 => {
                self.out.push(b'(');
                self.out.extend_from_slice(digits.as_bytes());
                self.out.extend_from_slice(b"\r\n");
            }
            Proto::Resp2 => self.bulk(digits.as_bytes()),
        }
    }
    /// A bulk string holding a decimal integer.
    pub fn bulk_integer(&mut self, value: i64) {
        self.bulk(Decimal::new(value).bytes());
    }
    pub fn array(&mut self, count: usize) {
        self.head(b'*', count as i64);
    }
    /// A map of `pairs` pairs: twice as many elements follow.
    pub fn map(&mut self, pairs: usize) {
        match self.proto {
            Proto::Resp3 => self.head(b'%', pairs as i64),
            Proto::Resp2 => self.head(b'*', 2 * pairs as i64),
        }
    }
    pub fn set(&mut self, count: usize) {
        self.head(if self.proto == Proto::Resp3 { b'~' } else { b'*' }, count as i64);
    }
    pub fn push(&mut self, count: usize) {
        self.head(if self.proto == Proto::Resp3 { b'>' } else { b'*' }, count as i64);
    }
    pub fn boolean(&mut self, value: bool) {
        match self.proto {
            Proto::Resp3 => self.out.extend_from_slice(if value { b"#t\r\n" } else { b"#f\r\n" }),
            Proto::Resp2 => self.integer(i64::from(value)),
        }
    }
    /// Human-readable text (INFO): a verbatim string of format `txt` in RESP3, a bulk string in RESP2.
    pub fn verbatim(&mut self, text: &[u8]) {
        match self.proto {
            Proto::Resp3 => {
                self.head(b'=', text.len() as i64 + 4);
                self.out.extend_from_slice(b"txt:");
                self.out.extend_from_slice(text);
                self.out.extend_from_slice(b"\r\n");
            }
            Proto::Resp2 => self.bulk(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(proto: Proto, write: impl Fn(&mut ReplyBuf)) -> String {
        let mut reply = ReplyBuf::new(proto);
        write(&mut reply);
        String::from_utf8(reply.buffer_mut().clone()).unwrap()
    }

    #[test]
    fn each_type_in_both_protocols() {
        type Write = fn(&mut ReplyBuf);
        let cases: [(Write, &str, &str); 11] = [
            (|r| r.null(), "$-1\r\n", "_\r\n"),
            (|r| r.null_array(), "*-1\r\n", "_\r\n"),
            (|r| r.map(2), "*4\r\n", "%2\r\n"),
            (|r| r.set(2), "*2\r\n", "~2\r\n"),
            (|r| r.push(2), "*2\r\n", ">2\r\n"),
            (|r| r.boolean(true), ":1\r\n", "#t\r\n"),
            (|r| r.double(3.5), "$3\r\n3.5\r\n", ",3.5\r\n"),
            (|r| r.double(f64::INFINITY), "$3\r\ninf\r\n", ",inf\r\n"),
            (|r| r.big_number("123"), "$3\r\n123\r\n", "(123\r\n"),
            (|r| r.verbatim(b"ab"), "$2\r\nab\r\n", "=6\r\ntxt:ab\r\n"),
            (|r| r.integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
        ];
        for (write, two, three) in cases {
            assert_eq!(written(Proto::Resp2, write), two);
            assert_eq!(written(Proto::Resp3, write), three);
        }
    }

    #[test]
    fn an_error_stays_on_one_line() {
        assert_eq!(written(Proto::Resp2, |r| r.error("ERR a\r\nb")), "-ERR a  b\r\n");
    }
}
