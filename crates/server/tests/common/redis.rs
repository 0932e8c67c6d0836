//! A real redis-server to compare with, where one is installed.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

/// A redis-server of one test alone, on a free port; it ends with the test.
pub struct Redis {
    child: Child,
    pub address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Redis {
    /// `None`, with a line that says so, when there is none on this machine, or none of version 7.
    pub fn start() -> Option<Redis> {
        let started = Redis::try_start();
        if started.is_none() {
            println!("skipped: no redis-server 7 is installed");
        }
        started
    }

    fn try_start() -> Option<Redis> {
        let version = Command::new("redis-server").arg("--version").output().ok()?;
        if !String::from_utf8_lossy(&version.stdout).contains("v=7.") {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Its log says when it listens; what is kept of it keeps the pipe open.
        let mut log = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("Ready to accept connections") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "redis-server ended at its start");
        }
        child.stdout = Some(log.into_inner());
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Some(Redis { child, address, _directory: directory })
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
