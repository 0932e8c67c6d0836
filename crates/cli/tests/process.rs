//! The binary as an operator meets it: the ready line, signals, exit statuses, sentences on stderr.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

fn sluice(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.arg("server").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts a server and returns it with its address, once it says that it is ready.
fn start(directory: &str) -> (Child, String) {
    let mut child =
        sluice(&["--port", "0", "--bind", "127.0.0.1", "--dir", directory]).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.map_while(Result::ok).find(|line| line.contains("ready to accept")).unwrap();
    assert!(ready.contains(&format!("pid {}", child.id())), "{ready}");
    (child, ready.rsplit(' ').next().unwrap().to_owned())
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn signals_end_the_server_with_status_0() {
    for name in ["-TERM", "-INT"] {
        let directory = tempfile::tempdir().unwrap();
        let (mut child, address) = start(directory.path().to_str().unwrap());
        let mut socket = TcpStream::connect(address).unwrap();
        socket.write_all(b"PING\r\n").unwrap();
        let mut reply = [0u8; 7];
        socket.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"+PONG\r\n");
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert!(directory.path().join("db").is_dir());
    }
}

#[test]
fn what_prevents_a_start_is_a_sentence_and_status_1() {
    for (arguments, text) in [
        (&["--port", "x"][..], "bad value for --port 'x'"),
        (&["/no/such/file.conf"], "cannot read the configuration file /no/such/file.conf"),
        (&["--port", "0", "--dir", "/proc/x"], "cannot create the data directory /proc/x/db"),
        (&["--port", "0", "--bind", "192.0.2.1"], "cannot listen on 192.0.2.1:0"),
    ] {
        let output = sluice(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.starts_with("sluice: ") && stderr.contains(text), "{stderr}");
    }
}

#[test]
fn help_names_the_parameters() {
    let output = sluice(&["--help"]).output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("--memory-budget"));
}
