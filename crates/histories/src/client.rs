//! A blocking RESP2 client. Its calls return errors instead of panicking: a server that is killed
//! ends its connections, and that is what many tests are about.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// What a server answers, in RESP2. Its getters panic where a reply has another type: for tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Nil,
    Array(Vec<Reply>),
}

impl Reply {
    /// `+OK`.
    pub fn ok() -> Reply {
        Reply::Simple("OK".into())
    }

    /// The value of an integer reply.
    pub fn integer(&self) -> i64 {
        match self {
            Reply::Integer(value) => *value,
            other => panic!("an integer was expected: {other:?}"),
        }
    }

    /// The bytes of a bulk string; `None` for nil.
    pub fn bulk(&self) -> Option<&[u8]> {
        match self {
            Reply::Bulk(bytes) => Some(bytes),
            Reply::Nil => None,
            other => panic!("a bulk string was expected: {other:?}"),
        }
    }

    /// The items of an array.
    pub fn array(&self) -> &[Reply] {
        match self {
            Reply::Array(items) => items,
            other => panic!("an array was expected: {other:?}"),
        }
    }

    /// A simple string, an error or a bulk string, as text.
    pub fn text(&self) -> String {
        match self {
            Reply::Simple(text) | Reply::Error(text) => text.clone(),
            Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("a text was expected: {other:?}"),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    /// For requests that are written without waiting for their replies.
    pub socket: TcpStream,
    unread: Vec<u8>,
    at: usize,
}

impl Client {
    /// Connects to `host:port`.
    ///
    /// # Errors
    /// Those of the system.
    pub fn connect(address: &str) -> io::Result<Client> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        // A bound for a hanging test, not a measure.
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Client { socket, unread: Vec::new(), at: 0 })
    }

    /// Sends a command and waits for its reply.
    ///
    /// # Errors
    /// Those of the connection, `UnexpectedEof` when the server closes it.
    pub fn ask<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<Reply> {
        let mut bytes = Vec::new();
        encode(&mut bytes, args);
        self.socket.write_all(&bytes)?;
        self.reply()
    }

    /// Waits for the next reply.
    ///
    /// # Errors
    /// As [`ask`](Self::ask); what is not RESP is `InvalidData`.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let line = self.line()?;
        let (kind, rest) = line.split_at(1);
        let number = || rest.parse::<i64>().map_err(|_| invalid(&line));
        Ok(match kind {
            "+" => Reply::Simple(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(number()?),
            "$" | "*" if number()? < 0 => Reply::Nil,
            "$" => {
                let length = number()? as usize;
                self.fill_to(length + 2)?;
                let bytes = self.unread[self.at..self.at + length].to_vec();
                self.at += length + 2;
                Reply::Bulk(bytes)
            }
            "*" => Reply::Array((0..number()?).map(|_| self.reply()).collect::<io::Result<_>>()?),
            _ => return Err(invalid(&line)),
        })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut looked = 0;
        loop {
            let fresh = &self.unread[self.at + looked..];
            if let Some(end) = fresh.windows(2).position(|pair| pair == b"\r\n") {
                let bytes = &self.unread[self.at..self.at + looked + end];
                let line = String::from_utf8_lossy(bytes).into_owned();
                self.at += looked + end + 2;
                return if line.is_empty() { Err(invalid("")) } else { Ok(line) };
            }
            looked += fresh.len().saturating_sub(1);
            self.fill()?;
        }
    }

    fn fill_to(&mut self, bytes: usize) -> io::Result<()> {
        while self.unread.len() - self.at < bytes {
            self.fill()?;
        }
        Ok(())
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.at > 0 && self.at * 2 >= self.unread.len() {
            // What stays is at most half: each byte moves a bounded number of times.
            self.unread.drain(..self.at);
            self.at = 0;
        }
        let mut piece = [0u8; 65536];
        let count = self.socket.read(&mut piece)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.unread.extend_from_slice(&piece[..count]);
        Ok(())
    }

    /// All keys that a full SCAN returns, each once, in order.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn scan_all(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut keys = Vec::new();
        let mut cursor = b"0".to_vec();
        loop {
            let page = self.ask(&[&b"SCAN"[..], &cursor, b"COUNT", b"1000"])?;
            let page = page.array();
            keys.extend(page[1].array().iter().filter_map(|key| Some(key.bulk()?.to_vec())));
            cursor = page[0].bulk().unwrap_or(b"0").to_vec();
            if cursor == b"0" {
                break;
            }
        }
        keys.sort();
        keys.dedup();
        Ok(keys)
    }

    /// The value of a line of INFO. Panics when there is none: for tests.
    pub fn info(&mut self, name: &str) -> String {
        let info = self.ask(&["INFO", "everything"]).map_or_else(|e| e.to_string(), |r| r.text());
        let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found.unwrap_or_else(|| panic!("INFO has no {name}")).trim().to_owned()
    }
}

fn invalid(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a reply: {line:?}"))
}

/// Appends a command as an array of bulk strings.
pub fn encode<A: AsRef<[u8]>>(out: &mut Vec<u8>, args: &[A]) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        let arg = arg.as_ref();
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}
