//! Looks at a cut disk: mounts it, starts the server on it, and compares what it shows with the ledger.
//!
//! As root on the host's own kernel, through a loop device, which takes a fraction of a second.
//! Otherwise in a machine of its own.

use std::io::{BufRead as _, BufReader, Read as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use crate::disk::Image;
use crate::guest::{Guest, Hardware};
use crate::ledger::{Floor, Ledger};
use crate::ops::{self, State};
use crate::plan::{Plan, WRITERS};
use crate::{Result, Say as _, panic_text};
use sluice_histories::client::Client;

/// What a server must show.
#[derive(Debug, Clone)]
pub struct Expect {
    pub ledger: Arc<Ledger>,
    pub floor: Floor,
    /// False when logged and unlogged writers were mixed: DBSIZE is then off (docs/guide/operations.md).
    pub dbsize: bool,
}

#[derive(Debug)]
pub struct Found {
    pub states: Vec<State>,
    /// Answered without a promise, and gone.
    pub lost: u64,
}

#[derive(Debug)]
pub enum Verdict {
    Good(Found),
    /// The kernel could not mount it: the file system's matter, not the server's.
    NotMounted(String),
    Bad(String),
}

/// Compares a running server with what it must show.
pub fn inspect(address: &str, expect: &Expect) -> Result<Found> {
    // The client panics at a reply of a kind that it cannot be.
    let looked = catch_unwind(AssertUnwindSafe(|| {
        let mut client = Client::connect(address).say("connect")?;
        let states = (0..WRITERS).map(|writer| ops::read(writer, &mut client));
        let states = states.collect::<std::io::Result<Vec<State>>>().say("read all keys")?;
        let lost = expect.ledger.explain(&states, &expect.floor)?;
        let mut keys: Vec<&Vec<u8>> = states.iter().flat_map(State::keys).collect();
        keys.sort();
        let scanned = client.scan_all().say("SCAN")?;
        if !scanned.iter().eq(keys.iter().copied()) {
            return Err(format!("SCAN has {} keys, GET {}", scanned.len(), keys.len()));
        }
        let size = client.ask(&["DBSIZE"]).say("DBSIZE")?.integer();
        if expect.dbsize && size != keys.len() as i64 {
            return Err(format!("DBSIZE says {size}, there are {} keys", keys.len()));
        }
        Ok(Found { states, lost })
    }));
    looked.unwrap_or_else(|panic| Err(panic_text(&panic)))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Host,
    Guest,
}

/// What it takes to look at disks.
#[derive(Debug)]
pub struct Checker {
    pub hardware: Hardware,
    pub binary: PathBuf,
    pub place: Place,
}

impl Checker {
    pub fn check(&self, image: &Image, plan: &Plan, expect: &Expect) -> Result<Verdict> {
        if self.place == Place::Guest {
            return Ok(match Guest::boot(&self.hardware, image.clone(), plan) {
                Ok(guest) => verdict(inspect(&guest.address, expect), &guest.console()),
                Err(error) if error.contains("guest: cannot mount") => Verdict::NotMounted(error),
                Err(error) => Verdict::Bad(error),
            });
        }
        let path = self.hardware.work.join("cut.img");
        image.to_file(&path).say("write the image")?;
        let mount = match Mount::new(&path, &self.hardware.work.join("mnt"), &self.hardware.fs) {
            Ok(mount) => mount,
            Err(error) => return Ok(Verdict::NotMounted(error)),
        };
        Ok(match Server::start(&self.binary, &mount.at, plan) {
            Ok(mut server) => {
                let found = inspect(&server.address, expect);
                let said = server.stop();
                verdict(found, &said)
            }
            Err(error) => Verdict::Bad(error),
        })
    }
}

fn verdict(found: Result<Found>, said: &str) -> Verdict {
    match found {
        Ok(found) => Verdict::Good(found),
        Err(error) => Verdict::Bad(format!("{error}\nthe server said:\n{said}")),
    }
}

/// True when this process may mount an image.
pub fn can_mount(work: &Path, image: &Image, fs: &str) -> bool {
    let path = work.join("try.img");
    let mounted = image.to_file(&path).is_ok() && Mount::new(&path, &work.join("mnt"), fs).is_ok();
    let _ = std::fs::remove_file(&path);
    mounted
}

#[derive(Debug)]
struct Mount {
    at: PathBuf,
}

impl Mount {
    fn new(image: &Path, at: &Path, fs: &str) -> Result<Mount> {
        std::fs::create_dir_all(at).say("make the mount point")?;
        let output = Command::new("mount")
            .args(["-t", fs, "-o", "loop"])
            .args([image, at])
            .output()
            .say("start mount")?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(Mount { at: at.to_owned() })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // The server is gone, so nothing holds it.
        let _ = Command::new("umount").arg(&self.at).status();
    }
}

#[derive(Debug)]
struct Server {
    child: Child,
    address: String,
    said: String,
}

impl Server {
    fn start(binary: &Path, directory: &Path, plan: &Plan) -> Result<Server> {
        let mut child = Command::new(binary)
            .args(["server", "--port", "0", "--bind", "127.0.0.1", "--dir"])
            .arg(directory)
            .args(plan.words())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .say("start the server")?;
        let mut output = BufReader::new(child.stdout.take().say("read the server's output")?);
        let mut server = Server { child, address: String::new(), said: String::new() };
        loop {
            let mut line = String::new();
            if output.read_line(&mut line).unwrap_or(0) == 0 {
                let said = server.stop();
                return Err(format!("the server did not start; it said:\n{said}"));
            }
            server.said.push_str(&line);
            if line.contains("ready to accept connections on") {
                server.address = line.trim_end().rsplit(' ').next().unwrap_or("").to_owned();
                return Ok(server);
            }
        }
    }

    /// Ends it; returns what it said.
    fn stop(&mut self) -> String {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = stderr.read_to_string(&mut self.said);
        }
        std::mem::take(&mut self.said)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
