//! Starting programs, and finding the repository.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// How a program that was started ended.
#[derive(Debug)]
pub struct Ended {
    /// `None`: it was ended at its deadline.
    pub success: Option<bool>,
    /// What it wrote, both streams together.
    pub output: String,
    pub took: Duration,
}

/// The root of the repository.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// A cargo command in `dir`.
pub fn cargo(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(dir).args(arguments);
    // What the outer cargo has set for this program is none of the inner one's business.
    command.env_remove("CARGO_MANIFEST_DIR");
    command
}

/// Runs a program to its end, or to `deadline`; its output goes to the file `log`.
pub fn run(command: &mut Command, log: &Path, deadline: Duration) -> io::Result<Ended> {
    if let Some(parent) = log.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let out = File::create(log)?;
    let began = Instant::now();
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    // A group of its own, so that what it starts can be ended with it.
    std::os::unix::process::CommandExt::process_group(command, 0);
    let mut child = command.spawn()?;
    let success = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status.success());
        }
        if began.elapsed() > deadline {
            let group = format!("-{}", child.id());
            Command::new("kill").args(["-9", "--", &group]).stderr(Stdio::null()).status()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let output = String::from_utf8_lossy(&std::fs::read(log)?).into_owned();
    Ok(Ended { success, output, took: began.elapsed() })
}

/// Whether a program can be started.
pub fn has(program: &str, argument: &str) -> bool {
    let status =
        Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
