//! The virtual machine: qemu on a kernel, an initial file system and our disk. It ends as a machine
//! ends whose plug is pulled: killed, with all that its memory held.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::disk::{Disk, Image};
use crate::plan::Plan;
use crate::{Result, Say as _, nbd};

/// A bound for a machine that hangs, not a measure.
const READY_WAIT_MAX: Duration = Duration::from_secs(120);
/// One that virtualization serves is up within a second.
const KVM_WAIT_MAX: Duration = Duration::from_secs(5);

/// What every machine of a run has in common.
#[derive(Debug, Clone)]
pub struct Hardware {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub fs: String,
    /// `kvm` or `tcg`.
    pub accel: String,
    /// For sockets and images.
    pub work: PathBuf,
}

#[derive(Debug)]
pub struct Guest {
    qemu: Child,
    pub disk: Arc<Disk>,
    pub address: String,
    console: Arc<Mutex<String>>,
    lines: mpsc::Receiver<String>,
    /// Serves the disk until the machine is gone.
    server: Option<JoinHandle<()>>,
    socket: PathBuf,
}

impl Guest {
    /// Starts a machine on a disk, and waits for a line of its console.
    fn start(hardware: &Hardware, image: Image, plan: &Plan) -> Result<Guest> {
        let socket = hardware.work.join("disk.sock");
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).say("bind the disk's socket")?;
        let disk = Arc::new(Disk::new(image));
        let served = Arc::clone(&disk);
        let server = std::thread::spawn(move || {
            // A killed machine leaves in the middle of a request: no error.
            let _ = nbd::serve(&listener, &served);
        });
        // Free at this moment; a port that somebody takes meanwhile shows as a failing start.
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .say("find a free port")?
            .port();
        let mut qemu = Command::new("qemu-system-x86_64");
        let cpu = if hardware.accel == "kvm" { "host" } else { "max" };
        qemu.args(["-machine", &format!("q35,accel={}", hardware.accel), "-cpu", cpu])
            .args(["-m", "512", "-smp", "1", "-nodefaults", "-no-reboot", "-display", "none"])
            .args(["-serial", "stdio", "-kernel"])
            .arg(&hardware.kernel)
            .arg("-initrd")
            .arg(&hardware.initrd)
            .arg("-append")
            .arg(format!(
                "console=ttyS0 quiet panic=-1 sluice_fs={} sluice_mount={} sluice_early={} \
                 sluice_args={}",
                hardware.fs,
                if plan.mount.is_empty() { "rw" } else { &plan.mount },
                u8::from(plan.writes_early),
                plan.words().join(",")
            ))
            .arg("-blockdev")
            .arg(format!(
                "driver=nbd,node-name=disk,server.type=unix,server.path={},\
                 cache.direct=off,cache.no-flush=off",
                socket.display()
            ))
            .args(["-device", "virtio-blk-pci,drive=disk,write-cache=on,physical_block_size=4096"])
            .arg("-netdev")
            .arg(format!("user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:6379"))
            .args(["-device", "virtio-net-pci,netdev=net,romfile="])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut qemu = qemu.spawn().say("start qemu-system-x86_64")?;
        let output = qemu.stdout.take().say("read qemu's output")?;
        let console = Arc::new(Mutex::new(String::new()));
        let (tell, lines) = mpsc::channel();
        let printed = Arc::clone(&console);
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(|line| line.ok()) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                let mut console = printed.lock().unwrap_or_else(PoisonError::into_inner);
                console.push_str(&line);
                console.push('\n');
                drop(console);
                let _ = tell.send(line);
            }
        });
        let address = format!("127.0.0.1:{port}");
        Ok(Guest { qemu, disk, address, console, lines, server: Some(server), socket })
    }

    /// Boots and waits until the server is ready.
    pub fn boot(hardware: &Hardware, image: Image, plan: &Plan) -> Result<Guest> {
        let mut guest = Guest::start(hardware, image, plan)?;
        match guest.wait_for("ready to accept connections on", READY_WAIT_MAX) {
            Ok(()) => Ok(guest),
            Err(error) => {
                guest.cut();
                Err(format!("{error}; its console says:\n{}", guest.console()))
            }
        }
    }

    /// True when a machine comes up with this acceleration.
    pub fn comes_up(hardware: &Hardware, image: Image) -> Result<bool> {
        let mut guest = Guest::start(hardware, image, &Plan::default())?;
        let up = guest.wait_for("guest: up", KVM_WAIT_MAX).is_ok();
        guest.cut();
        Ok(up)
    }

    fn wait_for(&mut self, what: &str, at_most: Duration) -> Result<()> {
        let until = Instant::now() + at_most;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(what) => return Ok(()),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("the machine did not say {what:?} within {at_most:?}"));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("the machine ended before it said {what:?}"));
                }
            }
        }
    }

    /// Cuts the power. What the disk heard until now is what it heard.
    pub fn cut(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        let _ = std::fs::remove_file(&self.socket);
        if let Some(server) = self.server.take()
            && (self.disk.position() > 0 || server.is_finished())
        {
            // One that nobody ever connected to waits for ever, and is left alone.
            let _ = server.join();
        }
    }

    pub fn console(&self) -> String {
        self.console.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Makes an empty file system of its kind.
pub fn make_fs(work: &Path, fs: &str, bytes: u64) -> Result<Image> {
    let path = work.join("empty.img");
    let file = std::fs::File::create(&path).say("create an image")?;
    file.set_len(bytes).say("size an image")?;
    drop(file);
    let mut command = Command::new(format!("mkfs.{fs}"));
    match fs {
        "ext4" => command.args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"]),
        _ => command.args(["-q", "-f"]),
    };
    let status = command.arg(&path).status().say("start mkfs")?;
    if !status.success() {
        return Err(format!("mkfs.{fs} failed: {status}"));
    }
    let image = Image::from_file(&path).say("read an image");
    let _ = std::fs::remove_file(&path);
    image
}
