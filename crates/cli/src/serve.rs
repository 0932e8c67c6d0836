//! `sluice server`: starts the server in the foreground and waits for its end.
//!
//! Signals: a thread waits for SIGTERM and SIGINT. The first asks the server to end, and the process
//! then ends with status 0; a second one ends the process at once. The library below knows no signals.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use sluice_server::{Config, Server, StopHandle};
use sluicedb::env::{OsThreads, Threads};

const USAGE: &str = "\
Usage: sluice server [FILE] [--key value]...

  FILE          a configuration file in redis.conf syntax
  --key value   any of its parameters, for example:
                --dir ./data --port 6379 --bind 127.0.0.1 --appendfsync always
                --memory-budget 512mb --workers 2 --requirepass secret

Data is kept in <dir>/db. Unknown parameters are reported and ignored.
";

/// A second signal: as a shell reports a process that a signal ended.
const FORCED_STATUS: i32 = 130;

pub(crate) fn run(arguments: Vec<String>) -> ExitCode {
    if matches!(arguments.first().map(String::as_str), Some("--help" | "-h" | "help")) {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match serve(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("sluice: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: Vec<String>) -> Result<(), String> {
    let config = Config::from_arguments(arguments).map_err(|error| error.to_string())?;
    // Before the server starts: a signal during a long recovery is kept, not lost.
    let signals =
        catch_signals().map_err(|error| format!("cannot install signal handlers: {error}"))?;
    let server = Server::start(config).map_err(|error| error.to_string())?;
    watch_signals(signals, server.stop_handle())?;
    let addresses: Vec<String> = server.addresses().iter().map(ToString::to_string).collect();
    println!(
        "sluice {} pid {} ready to accept connections on {}",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        addresses.join(", ")
    );
    server.wait().map_err(|error| error.to_string())
}

/// Each signal becomes a byte in a pipe: all that a handler may safely do.
fn catch_signals() -> std::io::Result<UnixStream> {
    let (receiver, sender) = UnixStream::pair()?;
    pipe::register(SIGTERM, sender.try_clone()?)?;
    pipe::register(SIGINT, sender)?;
    Ok(receiver)
}

fn watch_signals(mut signals: UnixStream, handle: StopHandle) -> Result<(), String> {
    let body = move || {
        let mut asked = false;
        let mut byte = [0u8];
        while signals.read_exact(&mut byte).is_ok() {
            if asked {
                std::process::exit(FORCED_STATUS);
            }
            asked = true;
            handle.stop();
        }
    };
    // The thread ends with the process.
    OsThreads
        .spawn("signals", Box::new(body))
        .map(drop)
        .map_err(|error| format!("cannot start the signal thread: {error}"))
}
