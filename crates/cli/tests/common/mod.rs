//! The real binary as a process of its own, in a directory of its own, and a RESP client for it.
//!
//! `SLUICE_BIN` names another binary to test than the one that Cargo just built.
#![allow(dead_code, reason = "each test file uses a part")]

pub use sluice_histories::client;

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use client::Client;

/// The command line of a server on a port that the system chooses.
pub fn sluice(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(["server", "--port", "0", "--bind", "127.0.0.1", "--dir"]).arg(directory);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn binary() -> OsString {
    std::env::var_os("SLUICE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_sluice").into())
}

/// A running server. Dropped, it is killed: a failed test leaves no process behind.
pub struct Sluice {
    child: Child,
    pub address: String,
    /// From the start of the process to the reply to the first PING.
    pub ready_after: Duration,
    /// Reads stdout to its end, so that a full pipe never stops the server.
    output: Option<JoinHandle<String>>,
}

impl Sluice {
    pub fn start(directory: &Path, arguments: &[&str]) -> Sluice {
        match Sluice::try_start(directory, arguments) {
            Ok(server) => server,
            Err((status, stderr)) => panic!("the server did not start: {status}: {stderr}"),
        }
    }

    /// The server, or its exit status with what it said on stderr.
    pub fn try_start(directory: &Path, arguments: &[&str]) -> Result<Sluice, (ExitStatus, String)> {
        let began = Instant::now();
        let mut child = sluice(directory, arguments).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut printed = String::new();
        let address = loop {
            let mut line = String::new();
            if stdout.read_line(&mut line).unwrap() == 0 {
                let stderr = text_of(child.stderr.take());
                return Err((child.wait().unwrap(), stderr));
            }
            printed.push_str(&line);
            if line.contains("ready to accept connections on") {
                break line.trim_end().rsplit(' ').next().unwrap().to_owned();
            }
        };
        let output = std::thread::spawn(move || {
            let _ = stdout.read_to_string(&mut printed);
            printed
        });
        let ready_after = Duration::ZERO;
        let mut server = Sluice { child, address, ready_after, output: Some(output) };
        assert_eq!(server.client().ask(&["PING"]).unwrap(), client::Reply::Simple("PONG".into()));
        server.ready_after = began.elapsed();
        Ok(server)
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.address).unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits for the process to be gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal, `-TERM` for example, and waits for nothing.
    pub fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Sends SIGTERM or SIGINT and returns the exit status with all that the server printed.
    pub fn stop(mut self, signal: &str) -> (ExitStatus, String) {
        self.signal(signal);
        self.wait()
    }

    /// As [`wait`](Self::wait), for one that was told to end.
    pub fn wait_to_end(mut self) -> (ExitStatus, String) {
        self.wait()
    }

    /// Waits for the server to end by itself.
    pub fn wait(&mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        let mut printed = self.output.take().unwrap().join().unwrap();
        printed.push_str(&text_of(self.child.stderr.take()));
        (status, printed)
    }
}

impl Drop for Sluice {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text_of(stderr: Option<ChildStderr>) -> String {
    let mut text = String::new();
    stderr.unwrap().read_to_string(&mut text).unwrap();
    text
}

/// The files of a data directory whose names end so, in order.
pub fn files(directory: &Path, end: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(directory.join("db"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(end))
        .collect();
    found.sort();
    found
}

/// A number from the environment, or the default.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// `SLUICE_SEED`, or one that differs from run to run. It is printed: a failure names it.
pub fn seed() -> u64 {
    let fresh = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = std::env::var("SLUICE_SEED").map_or_else(|_| fresh(), |text| text.parse().unwrap());
    println!("SLUICE_SEED={seed}");
    seed
}
