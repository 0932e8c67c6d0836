//! MULTI, EXEC, WATCH; what is durable when; FLUSHMEMTABLE.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Client, start};

fn all(client: &mut Client, commands: &[&[&str]]) -> Vec<String> {
    commands.iter().map(|command| client.ask(command)).collect()
}

#[test]
fn queued_commands_run_together() {
    let server = start(&[]);
    let mut client = server.client();
    let replies = all(
        &mut client,
        &[
            &["MULTI"],
            &["SET", "a", "1"],
            &["INCR", "a"],
            &["GET", "a"],
            &["SELECT", "2"],
            &["SET", "a", "other"],
            &["PING", "x"],
            &["EXEC"],
            &["GET", "a"],
            &["SELECT", "0"],
            &["GET", "a"],
            &["EXEC"],
        ],
    );
    assert_eq!(replies[0], "+OK\r\n");
    assert!(replies[1..7].iter().all(|reply| reply == "+QUEUED\r\n"));
    assert_eq!(replies[7], "*6\r\n+OK\r\n:2\r\n$1\r\n2\r\n+OK\r\n+OK\r\n$1\r\nx\r\n");
    assert_eq!(&replies[8..11], ["$5\r\nother\r\n", "+OK\r\n", "$1\r\n2\r\n"]);
    assert_eq!(replies[11], "-ERR EXEC without MULTI\r\n");
}

#[test]
fn an_error_while_queueing_aborts_and_one_while_running_does_not() {
    let server = start(&[]);
    let mut client = server.client();
    let replies = all(
        &mut client,
        &[
            &["MULTI"],
            &["SET", "a", "1"],
            &["NOSUCH"],
            &["EXEC"],
            &["GET", "a"],
            &["MULTI"],
            &["SET", "a", "text"],
            &["INCR", "a"],
            &["SET", "b", "2"],
            &["EXEC"],
            &["MULTI"],
            &["SHUTDOWN"],
            &["EXEC"],
        ],
    );
    assert_eq!(replies[3], "-EXECABORT Transaction discarded because of previous errors.\r\n");
    assert_eq!(replies[4], "$-1\r\n");
    assert_eq!(replies[9], "*3\r\n+OK\r\n-ERR value is not an integer or out of range\r\n+OK\r\n");
    assert_eq!(replies[11], "-ERR Command not allowed inside a transaction\r\n");
    assert!(replies[12].starts_with("-EXECABORT"));
}

#[test]
fn a_watched_key_that_changes_stops_exec() {
    let server = start(&[]);
    let (mut client, mut other) = (server.client(), server.client());
    for (disturb, expected) in [
        (&["SET", "k", "new"][..], "*-1\r\n"),
        (&["GET", "k"], "*1\r\n+OK\r\n"),
        (&["DEL", "nothing"], "*1\r\n+OK\r\n"),
        (&["FLUSHALL"], "*-1\r\n"),
    ] {
        client.ask(&["SET", "k", "old"]);
        client.ask(&["WATCH", "k", "l"]);
        other.ask(disturb);
        client.ask(&["MULTI"]);
        client.ask(&["SET", "k", "mine"]);
        assert_eq!(client.ask(&["EXEC"]), expected, "{disturb:?}");
    }
    // UNWATCH, DISCARD and EXEC end a watch.
    client.ask(&["WATCH", "k"]);
    client.ask(&["UNWATCH"]);
    other.ask(&["SET", "k", "x"]);
    client.ask(&["MULTI"]);
    assert_eq!(client.ask(&["EXEC"]), "*0\r\n");
}

#[test]
fn increments_under_watch_from_two_workers_are_never_lost() {
    let server = start(&[]);
    let address = server.address;
    let add = |times: u32| {
        let mut client = Client::connect(address);
        let mut done = 0;
        while done < times {
            client.ask(&["WATCH", "n"]);
            let reply = client.ask(&["GET", "n"]);
            let value: i64 = reply.lines().nth(1).map_or(0, |text| text.parse().unwrap());
            client.ask(&["MULTI"]);
            client.ask(&["SET", "n", &(value + 1).to_string()]);
            done += u32::from(client.ask(&["EXEC"]) == "*1\r\n+OK\r\n");
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| add(100));
        }
    });
    assert_eq!(server.client().ask(&["GET", "n"]), "$3\r\n400\r\n");
}

#[test]
fn plain_increments_from_many_connections_add_up() {
    let server = start(&["--appendfsync", "always"]);
    let address = server.address;
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                for _ in 0..20 {
                    for _ in 0..50 {
                        client.command(&["INCR", "n"]);
                    }
                    for _ in 0..50 {
                        assert!(client.reply().starts_with(':'));
                    }
                }
            });
        }
    });
    assert_eq!(server.client().ask(&["GET", "n"]), "$4\r\n6000\r\n");
}

#[test]
fn flushmemtable_answers_after_what_came_before_it() {
    let server = start(&[]);
    let mut client = server.client();
    client.send(b"SET a 1\r\nFLUSHMEMTABLE\r\nGET a\r\nFLUSHMEMTABLE ASYNC\r\nPING\r\n");
    let replies: Vec<String> = (0..5).map(|_| client.reply()).collect();
    assert_eq!(replies, ["+OK\r\n", "+OK\r\n", "$1\r\n1\r\n", "+OK\r\n", "+PONG\r\n"]);
    assert_eq!(client.ask(&["FLUSHMEMTABLE", "NOW"]), "-ERR parameter must be 'ASYNC'\r\n");
    assert_eq!(client.ask(&["FLUSHMEMTABLE", "ASYNC", "x"]), "-ERR wrong number of arguments\r\n");
}

#[test]
fn debug_sleep_delays_its_own_connection_alone() {
    let server = start(&["--enable-debug-command", "yes"]);
    let (mut sleeper, mut other) = (server.client(), server.client());
    sleeper.send(b"PING\r\nDEBUG SLEEP 0.3\r\nPING\r\n");
    assert_eq!(sleeper.reply(), "+PONG\r\n");
    assert_eq!(other.ask(&["PING"]), "+PONG\r\n");
    assert_eq!(sleeper.reply(), "+OK\r\n");
    assert_eq!(sleeper.reply(), "+PONG\r\n");
}

/// Each of two transactions reads what the other one writes: one of them must see the other. Long
/// commands between the read and the commit make them overlap.
#[test]
fn two_transactions_that_read_what_the_other_writes_do_not_miss_each_other() {
    let server = start(&[]);
    let mut clients: Vec<Client> = (0..2).map(|_| server.client()).collect();
    let text = "ab".repeat(700);
    clients[0].ask(&["MSET", "long:0", &text, "long:1", &text]);
    for round in 0..50 {
        clients[0].ask(&["DEL", "mine:0", "mine:1"]);
        for (number, client) in clients.iter_mut().enumerate() {
            let (mine, other) = (format!("mine:{number}"), format!("mine:{}", 1 - number));
            // By turns a read of the key, and of all keys.
            let read = if round % 2 == 0 { &["EXISTS", &other][..] } else { &["DBSIZE"] };
            let long = format!("long:{number}");
            let mut bytes = Vec::new();
            for command in [
                &["MULTI"][..],
                read,
                &["LCS", &long, &long, "LEN"],
                &["SET", &mine, "1"],
                &["EXEC"],
            ] {
                let args: Vec<&[u8]> = command.iter().map(|arg| arg.as_bytes()).collect();
                bytes.extend(common::encode(&args));
            }
            client.send(&bytes);
        }
        let seen = clients.iter_mut().map(|client| {
            let last = (0..5).map(|_| client.reply()).last().unwrap();
            // What it read, less the two long keys.
            let count = last.lines().nth(1).unwrap()[1..].parse::<u64>().unwrap();
            if round % 2 == 0 { count } else { count - 2 }
        });
        assert_eq!(seen.sum::<u64>(), 1, "round {round}: which was first?");
    }
}
