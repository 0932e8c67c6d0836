//! A server in this process on a port the system chose, in a directory of its own, and a client that
//! speaks raw RESP.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod redis;
pub mod value;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use sluice_server::{Config, Server, StopHandle};
use sluicedb::env::{DiskFs, Env, FaultFs};
use std::sync::Arc;

pub struct Running {
    pub address: SocketAddr,
    pub directory: tempfile::TempDir,
    stop: StopHandle,
    server: Option<Server>,
}

/// Starts a server with `--key value` arguments.
pub fn start(arguments: &[&str]) -> Running {
    start_in(arguments, Env::os())
}

/// As [`start`], on a disk that the test can disturb.
pub fn start_faulty(arguments: &[&str]) -> (Running, FaultFs) {
    let fs = FaultFs::new(Arc::new(DiskFs));
    (start_in(arguments, Env::os().with_fs(Arc::new(fs.clone()))), fs)
}

fn start_in(arguments: &[&str], env: Env) -> Running {
    start_there(tempfile::tempdir().unwrap(), arguments, env)
}

fn start_there(directory: tempfile::TempDir, arguments: &[&str], env: Env) -> Running {
    let log = directory.path().join("log");
    let mut all: Vec<String> = ["--port", "0", "--bind", "127.0.0.1", "--workers", "2"]
        .into_iter()
        .map(str::to_owned)
        .collect();
    all.extend(["--dir".to_owned(), directory.path().display().to_string()]);
    all.extend(["--logfile".to_owned(), log.display().to_string()]);
    all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    run(Config::from_arguments(all).unwrap(), directory, env)
}

pub fn start_config(config: Config, directory: tempfile::TempDir) -> Running {
    run(config, directory, Env::os())
}

fn run(config: Config, directory: tempfile::TempDir, env: Env) -> Running {
    let server = Server::start_in(config, env).unwrap();
    let (address, stop) = (server.addresses()[0], server.stop_handle());
    Running { address, directory, stop, server: Some(server) }
}

impl Running {
    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// What the server has written into its log file.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Waits for the end of the server, and starts another one on its directory.
    pub fn restart(mut self, arguments: &[&str]) -> Running {
        self.server.take().unwrap().wait().unwrap();
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        start_there(directory, arguments, Env::os())
    }

    /// Returns when the server has ended by itself.
    pub fn wait(mut self) {
        self.server.take().unwrap().wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.stop.stop();
            let ended = server.wait();
            if !std::thread::panicking() {
                ended.unwrap();
            }
        }
    }
}

pub struct Client {
    pub socket: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        // A bound for a hanging test, not a measure.
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client { socket, unread: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Sends a command as an array of bulk strings.
    pub fn command(&mut self, args: &[&str]) {
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        self.send(&encode(&args));
    }

    /// Sends a command and returns its raw reply.
    pub fn ask(&mut self, args: &[&str]) -> String {
        self.command(args);
        self.reply()
    }

    /// Sends a command of any bytes and returns its reply as a value.
    pub fn value(&mut self, args: &[&[u8]]) -> value::Value {
        self.send(&encode(args));
        value::Value::parse(&self.reply_bytes())
    }

    /// The next whole reply, raw.
    pub fn reply(&mut self) -> String {
        String::from_utf8_lossy(&self.reply_bytes()).into_owned()
    }

    /// As [`reply`](Self::reply), where bytes matter.
    pub fn reply_bytes(&mut self) -> Vec<u8> {
        loop {
            if let Some(length) = reply_length(&self.unread) {
                return self.unread.drain(..length).collect();
            }
            assert!(self.fill() > 0, "the connection ended after {:?}", self.unread);
        }
    }

    /// As [`ask`](Self::ask), where the server may close instead.
    pub fn ask_or_refusal(&mut self, args: &[&str]) -> String {
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        // A refused connection may be closed already.
        let _ = self.socket.write_all(&encode(&args));
        let mut piece = [0u8; 512];
        match self.socket.read(&mut piece) {
            Ok(count) => String::from_utf8_lossy(&piece[..count]).into_owned(),
            Err(_) => String::new(),
        }
    }

    fn fill(&mut self) -> usize {
        let mut piece = [0u8; 65536];
        let count = self.socket.read(&mut piece).unwrap();
        self.unread.extend_from_slice(&piece[..count]);
        count
    }

    /// Everything until the server closes.
    pub fn rest(&mut self) -> String {
        let mut piece = [0u8; 65536];
        loop {
            match self.socket.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => self.unread.extend_from_slice(&piece[..count]),
                // Closed while bytes of ours were unread.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("{error}"),
            }
        }
        String::from_utf8_lossy(&std::mem::take(&mut self.unread)).into_owned()
    }
}

pub fn encode(args: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The length of the reply that `bytes` begins with, when it is whole.
fn reply_length(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let line = end + 2;
    let number: i64 = std::str::from_utf8(&bytes[1..end]).ok()?.parse().unwrap_or(0);
    let elements = match bytes[0] {
        b'$' | b'=' if number >= 0 => {
            let total = line + number as usize + 2;
            return (bytes.len() >= total).then_some(total);
        }
        b'*' | b'~' | b'>' => number.max(0),
        b'%' => number * 2,
        _ => 0,
    };
    let mut total = line;
    for _ in 0..elements {
        total += reply_length(&bytes[total..])?;
    }
    Some(total)
}
