//! CONFIG, as Redis has it; the file, the command line, and REWRITE.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{start, start_config};
use sluice_server::Config;

#[test]
fn set_is_all_or_nothing_and_says_which_argument() {
    let server = start(&[]);
    let mut client = server.client();
    assert_eq!(client.ask(&["CONFIG", "SET", "timeout", "5", "MAXCLIENTS", "77"]), "+OK\r\n");
    for (args, text) in [
        (
            &["timeout", "9", "maxclients", "x"][..],
            "ERR CONFIG SET failed (possibly related to argument 'maxclients') - argument couldn't be parsed into an integer",
        ),
        (
            &["timeout", "9", "hz", "1", "TIMEOUT", "8"],
            "ERR CONFIG SET failed (possibly related to argument 'TIMEOUT') - duplicate parameter",
        ),
        (
            &["timeout", "9", "nosuch", "1"],
            "ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'",
        ),
        (
            &["timeout", "9", "databases", "1"],
            "ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config",
        ),
        (
            &["appendfsync", "sometimes"],
            "ERR CONFIG SET failed (possibly related to argument 'appendfsync') - argument(s) must be one of the following: everysec, always, no",
        ),
        (
            &["proto-max-bulk-len", "1"],
            "ERR CONFIG SET failed (possibly related to argument 'proto-max-bulk-len') - argument must be between 1048576 and 9223372036854775807 inclusive",
        ),
        (&["timeout", "1", "hz"], "ERR syntax error"),
    ] {
        let all = [&["CONFIG", "SET"], args].concat();
        assert_eq!(client.ask(&all), format!("-{text}\r\n"));
    }
    assert_eq!(client.ask(&["CONFIG", "GET", "timeout"]), "*2\r\n$7\r\ntimeout\r\n$1\r\n5\r\n");
    assert!(client.ask(&["CONFIG", "GET", "maxclients", "t*"]).contains("$2\r\n77\r\n"));
    assert_eq!(client.ask(&["CONFIG", "GET", "nosuch"]), "*0\r\n");
    assert_eq!(
        client.ask(&["CONFIG", "REWRITE"]),
        "-ERR The server is running without a config file\r\n"
    );
}

#[test]
fn a_password_set_while_running_counts_for_new_connections() {
    let server = start(&[]);
    let mut client = server.client();
    assert_eq!(client.ask(&["CONFIG", "SET", "requirepass", "pw"]), "+OK\r\n");
    assert_eq!(client.ask(&["PING"]), "+PONG\r\n");
    assert!(server.client().ask(&["PING"]).starts_with("-NOAUTH"));
}

#[test]
fn what_tools_ask_for_is_there() {
    let server = start(&[]);
    let mut client = server.client();
    for name in [
        "save",
        "appendonly",
        "maxmemory",
        "maxmemory-policy",
        "notify-keyspace-events",
        "list-max-listpack-size",
        "hash-max-listpack-entries",
        "zset-max-ziplist-value",
        "databases",
        "dir",
        "port",
        "bind",
        "requirepass",
        "slowlog-log-slower-than",
        "io-threads",
    ] {
        assert!(client.ask(&["CONFIG", "GET", name]).starts_with("*2\r\n"), "{name}");
    }
}

#[test]
fn the_file_is_read_and_rewritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sluice.conf");
    let text = format!(
        "# my server\nport 0\nbind 127.0.0.1\ndir \"{}\"\nlogfile {}\nmaxclients 50 \nnew-thing 1\n",
        directory.path().display(),
        directory.path().join("log").display(),
    );
    std::fs::write(&path, &text).unwrap();
    let arguments = [path.display().to_string(), "--timeout".into(), "7".into()];
    let config = Config::from_arguments(arguments).unwrap();
    assert_eq!(config.warnings().len(), 1);
    let server = start_config(config, directory);
    let mut client = server.client();
    assert!(client.ask(&["CONFIG", "GET", "maxclients"]).contains("$2\r\n50\r\n"));
    client.ask(&["CONFIG", "SET", "maxclients", "60"]);
    assert_eq!(client.ask(&["CONFIG", "REWRITE"]), "+OK\r\n");
    let new = std::fs::read_to_string(&path).unwrap();
    assert!(new.starts_with("# my server\nport 0\n"), "{new}");
    assert!(new.contains("\nmaxclients 60\nnew-thing 1\n"), "{new}");
    assert!(new.contains("\ntimeout 7\n"), "{new}");
}

#[test]
fn resetstat_clears_what_info_counts() {
    let server = start(&[]);
    let mut client = server.client();
    client.ask(&["NOSUCH"]);
    client.ask(&["PING"]);
    let before = client.ask(&["INFO", "commandstats", "errorstats"]);
    assert!(before.contains("cmdstat_ping:calls=1,"), "{before}");
    assert!(before.contains("errorstat_ERR:count=1"), "{before}");
    assert_eq!(client.ask(&["CONFIG", "RESETSTAT"]), "+OK\r\n");
    let after = client.ask(&["INFO", "commandstats", "errorstats"]);
    assert!(!after.contains("cmdstat_ping") && !after.contains("errorstat_"), "{after}");
}

#[test]
fn a_port_or_a_directory_that_cannot_be_used_is_a_sentence() {
    let server = start(&[]);
    let port = server.address.port().to_string();
    let arguments = ["--bind", "127.0.0.1", "--port", &port].map(str::to_owned);
    let error = sluice_server::Server::start(Config::from_arguments(arguments).unwrap());
    let text = error.unwrap_err().to_string();
    assert!(text.starts_with(&format!("cannot listen on 127.0.0.1:{port}: ")), "{text}");
    let arguments =
        ["--bind", "127.0.0.1", "--port", "0", "--dir", "/proc/nothing"].map(str::to_owned);
    let error = sluice_server::Server::start(Config::from_arguments(arguments).unwrap());
    let text = error.unwrap_err().to_string();
    assert!(text.starts_with("cannot create the data directory /proc/nothing/db: "), "{text}");
}
