//! Pub/Sub as clients meet it: the replies of Redis, what arrives and in which order, limits.
//!
//! Where the words of one connection depend on another's, the script asks both in turn: a message is
//! with its subscriber before the reply to anything sent after its PUBLISH was answered.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::redis::Redis;
use common::{Client, Running, start};

/// Scripts: `a: COMMAND` and `b: COMMAND`. After each line the other connection is asked for
/// something whose reply says that the line has been carried out. What Redis 7.0 and 7.2 do
/// differently is not here: a connection's messages to itself come before the reply to PUBLISH in
/// the one and behind it in the other, as here.
const SCRIPTS: &[&str] = &[
    "a: SUBSCRIBE x y x\na: GET k\na: NOSUCH\na: PING\na: PING hi\na: PING a b\na: SUBSCRIBE\n\
     a: UNSUBSCRIBE z\na: UNSUBSCRIBE y x\na: UNSUBSCRIBE\na: PING\na: GET k",
    "a: PSUBSCRIBE p*\na: PUBLISH x y\na: MULTI\na: HELLO 3\na: ECHO x\na: GET\na: COMMAND COUNT\n\
     a: CLIENT LIST\na: EXEC\na: PUNSUBSCRIBE\na: PUNSUBSCRIBE\na: PUNSUBSCRIBE z\na: MULTI\na: EXEC",
    "a: SSUBSCRIBE s t\na: SPUBLISH s x\na: PING\na: SUNSUBSCRIBE t\na: SUNSUBSCRIBE\n\
     a: SUNSUBSCRIBE\na: SUNSUBSCRIBE q\na: UNSUBSCRIBE a b\na: PUNSUBSCRIBE a b",
    "a: SUBSCRIBE x\na: SSUBSCRIBE x\na: PSUBSCRIBE x\na: RESET\na: PING\na: SUBSCRIBE y",
    "a: HELLO 3 SETNAME me\na: SUBSCRIBE x\na: GET k\na: PING\na: HELLO 2\na: GET k\na: PING\n\
     a: UNSUBSCRIBE\na: GET k",
    "a: HELLO 3\na: UNSUBSCRIBE\na: PUNSUBSCRIBE\na: SUNSUBSCRIBE\na: SSUBSCRIBE x\n\
     a: SUNSUBSCRIBE\na: PSUBSCRIBE x\na: PUNSUBSCRIBE",
    "a: SUBSCRIBE x\nb: PUBLISH x 1\nb: PUBLISH y 1\na: PSUBSCRIBE x*\nb: PUBLISH x 2\n\
     b: PUBLISH xy 3\nb: SPUBLISH x 4\na: SSUBSCRIBE x\nb: SPUBLISH x 5\na: UNSUBSCRIBE\n\
     b: PUBLISH x 6\nb: PUBSUB NUMPAT\nb: PUBSUB NUMSUB x xy\nb: PUBSUB SHARDNUMSUB x\n\
     a: RESET\nb: PUBLISH x 7\nb: SPUBLISH x 8\nb: PUBSUB NUMPAT",
    "a: HELLO 3\na: SUBSCRIBE x\nb: PUBLISH x 1\na: MULTI\na: SET k v\nb: PUBLISH x 2\na: GET k\n\
     a: EXEC\nb: MULTI\nb: PUBLISH x 3\nb: SET k w\nb: PUBLISH x 4\nb: EXEC\nb: MULTI\nb: PUBLISH x 5\n\
     b: DISCARD\na: GET k",
    "a: MULTI\na: SUBSCRIBE x\na: GET k\na: PING\na: PSUBSCRIBE p\na: UNSUBSCRIBE\na: SSUBSCRIBE x\n\
     a: SUNSUBSCRIBE\na: PUBSUB NUMPAT\na: EXEC\na: PING\nb: PUBLISH p 1\na: PUNSUBSCRIBE",
    "a: MULTI\na: SUBSCRIBE\na: EXEC\na: MULTI\na: HELLO 3\na: PUBLISH x 1\na: GET nokey\na: HELLO 2\n\
     a: GET nokey\na: PUBLISH x 2\na: DISCARD",
    "a: CLIENT REPLY SKIP\na: SUBSCRIBE x\na: PING\nb: PUBLISH x 1\na: UNSUBSCRIBE\na: PING",
    "a: PUBSUB\na: PUBSUB foo\na: PUBSUB CHANNELS a b\na: PUBSUB Channels a b\na: PUBSUB NUMSUB\n\
     a: PUBSUB NUMPAT x\na: PUBSUB CHANNELS\na: PUBSUB SHARDCHANNELS\na: PUBSUB SHARDCHANNELS a b\n\
     a: PUBSUB SHARDNUMSUB\na: PUBSUB HELP x\na: PUBLISH a\na: PUBLISH a b c\na: SPUBLISH a\n\
     a: COMMAND GETKEYS SSUBSCRIBE a b\na: COMMAND GETKEYS SPUBLISH a b\na: COMMAND GETKEYS PUBLISH a b",
    "a: SUBSCRIBE abc\nb: PUBSUB CHANNELS\nb: PUBSUB CHANNELS a*\nb: PUBSUB CHANNELS b*\n\
     b: PUBSUB SHARDCHANNELS\na: SSUBSCRIBE s\nb: PUBSUB SHARDCHANNELS\nb: PUBSUB CHANNELS",
    "a: COMMAND INFO subscribe unsubscribe psubscribe punsubscribe ssubscribe sunsubscribe\n\
     a: COMMAND INFO publish spublish pubsub|channels pubsub|numsub pubsub|numpat pubsub|help",
    "a: HELLO 3\na: SUBSCRIBE x\nb: CLIENT KILL TYPE normal\nb: CLIENT KILL TYPE pubsub",
    "a: SUBSCRIBE x\na: QUIT",
];

/// The next frame that is no message; messages are put into `told`.
fn answer(client: &mut Client, told: &mut String) {
    loop {
        let frame = client.reply();
        told.push_str(&frame);
        let is_message = ["message", "pmessage", "smessage"].iter().any(|word| {
            frame[1..].split("\r\n").nth(2) == Some(word) && frame.starts_with(['*', '>'])
        });
        if !is_message {
            return;
        }
    }
}

/// Everything that the two connections of a script were told.
fn told(address: std::net::SocketAddr, script: &str) -> [String; 2] {
    let mut clients = [Client::connect(address), Client::connect(address)];
    let mut told = [String::new(), String::new()];
    for line in script.lines() {
        let (who, command) = line.trim().split_once(": ").unwrap();
        let who = usize::from(who == "b");
        clients[who].command(&command.split(' ').collect::<Vec<_>>());
        if command != "CLIENT REPLY SKIP" {
            let mut text = String::new();
            answer(&mut clients[who], &mut text);
            // It names the server and the connection.
            if !text.contains("$7\r\nversion\r\n") {
                told[who].push_str(&text);
            }
        }
    }
    for (client, told) in clients.iter_mut().zip(&mut told) {
        // It may be closed already.
        let _ = std::io::Write::write_all(&mut client.socket, b"QUIT\r\n");
        told.push_str(&client.rest());
    }
    told
}

#[test]
fn replies_and_messages_are_those_of_redis() {
    let Some(redis) = Redis::start() else { return };
    let server = start(&[]);
    for script in SCRIPTS {
        assert_eq!(told(server.address, script), told(redis.address, script), "{script}");
    }
}

/// Sends commands and returns everything up to the reply to a last PING.
fn transcript(client: &mut Client, commands: &[&str]) -> String {
    let all = commands.iter().flat_map(|command| format!("{command}\r\n").into_bytes());
    let mut stream: Vec<u8> = all.collect();
    stream.extend_from_slice(b"PING\r\n");
    client.send(&stream);
    let mut text = String::new();
    while !text.ends_with("+PONG\r\n") {
        text.push_str(&client.reply());
    }
    text.truncate(text.len() - "+PONG\r\n".len());
    text
}

fn message(channel: &str, payload: &str) -> String {
    let (channel_length, length) = (channel.len(), payload.len());
    format!(">3\r\n$7\r\nmessage\r\n${channel_length}\r\n{channel}\r\n${length}\r\n{payload}\r\n")
}

/// The order of Redis 7.2.
#[test]
fn a_message_to_its_own_publisher_comes_behind_the_reply() {
    let server = start(&[]);
    let mut client = server.client();
    transcript(&mut client, &["HELLO 3", "SUBSCRIBE x"]);
    let text = transcript(&mut client, &["PUBLISH x 1", "ECHO a", "PUBLISH x 2"]);
    let (one, two) = (message("x", "1"), message("x", "2"));
    assert_eq!(text, format!(":1\r\n{one}$1\r\na\r\n:1\r\n{two}"));
    let text = transcript(
        &mut client,
        &["MULTI", "PUBLISH x 1", "SET k v", "PUBLISH x 2", "UNSUBSCRIBE", "PUBLISH x 3", "EXEC"],
    );
    let unsubscribed = ">3\r\n$11\r\nunsubscribe\r\n$1\r\nx\r\n:0\r\n";
    let queued = "+QUEUED\r\n".repeat(5);
    assert_eq!(
        text,
        format!("+OK\r\n{queued}*5\r\n:1\r\n+OK\r\n:1\r\n{unsubscribed}:0\r\n{one}{two}")
    );
    // What a transaction would have published if it had run.
    transcript(&mut client, &["SUBSCRIBE x", "WATCH k", "SET k other"]);
    let text = transcript(&mut client, &["MULTI", "SET k v", "PUBLISH x 4", "EXEC", "ECHO b"]);
    assert!(text.ends_with("_\r\n$1\r\nb\r\n"), "{text}");
}

#[test]
fn pushes_are_not_silenced() {
    let server = start(&[]);
    let mut client = server.client();
    let text = transcript(
        &mut client,
        &["HELLO 3", "CLIENT REPLY OFF", "SUBSCRIBE x", "PUBLISH x 1", "CLIENT REPLY ON"],
    );
    let subscribed = ">3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n";
    assert!(text.ends_with(&format!("{subscribed}{}+OK\r\n", message("x", "1"))), "{text}");
}

/// The replies that end an EXEC tell the order of the commits; so must the messages.
#[test]
fn messages_of_transactions_come_in_the_order_of_their_commits() {
    let server = start(&["--workers", "4"]);
    let mut subscribers: Vec<Client> = (0..4).map(|_| server.client()).collect();
    for client in &mut subscribers {
        client.ask(&["SUBSCRIBE", "log"]);
    }
    let address = server.address;
    let (publishers, rounds) = (4, 200);
    std::thread::scope(|scope| {
        for publisher in 0..publishers {
            scope.spawn(move || {
                let mut client = Client::connect(address);
                for round in 0..rounds {
                    let text = format!("{publisher}-{round},");
                    client.send(
                        format!("MULTI\r\nAPPEND k {text}\r\nPUBLISH log {text}\r\nEXEC\r\n")
                            .as_bytes(),
                    );
                    (0..3).for_each(|_| drop(client.reply()));
                    assert!(client.reply().ends_with(":4\r\n"));
                }
            });
        }
    });
    let stored = server.client().ask(&["GET", "k"]);
    let stored = stored.split("\r\n").nth(1).unwrap();
    for client in &mut subscribers {
        let messages: String = (0..publishers * rounds)
            .map(|_| client.reply().split("\r\n").nth(6).unwrap().to_owned())
            .collect();
        let at = messages.bytes().zip(stored.bytes()).position(|(one, other)| one != other);
        let shown = at.map(|at| (&messages[at..at + 40], &stored[at..at + 40]));
        assert!(messages == stored, "messages and value differ, first here: {shown:?}");
    }
}

/// A message of a transaction tells of what has happened, wherever in the queue its PUBLISH stood.
#[test]
fn a_message_never_comes_before_what_its_transaction_wrote() {
    let server = start(&["--workers", "2"]);
    let (mut publisher, mut subscriber) = (server.client(), server.client());
    transcript(&mut subscriber, &["HELLO 3", "SUBSCRIBE x"]);
    let work = "INCR other\r\n".repeat(1000);
    for round in 0..20 {
        publisher.send(
            format!("MULTI\r\nPUBLISH x {round}\r\n{work}SET k {round}\r\nEXEC\r\n").as_bytes(),
        );
        assert_eq!(subscriber.reply(), message("x", &round.to_string()));
        let text = round.to_string();
        assert_eq!(subscriber.ask(&["GET", "k"]), format!("${}\r\n{text}\r\n", text.len()));
        (0..1003).for_each(|_| drop(publisher.reply()));
        assert!(publisher.reply().starts_with("*1002\r\n:1\r\n"));
    }
}

/// Even where its worker is busy with others between looking at messages and at the socket.
#[test]
fn what_was_published_before_a_command_was_sent_comes_before_its_reply() {
    let server = start(&["--workers", "2"]);
    // Connections go to the workers in turn: publisher and subscriber to different ones.
    let mut clients: Vec<Client> = (0..4)
        .map(|_| {
            let mut client = server.client();
            client.ask(&["PING"]);
            client
        })
        .collect();
    let [publisher, busy, _, subscriber] = &mut clients[..] else { panic!("four clients") };
    transcript(subscriber, &["HELLO 3", "SUBSCRIBE x"]);
    let text = "ab".repeat(300);
    busy.ask(&["MSET", "one", &text, "two", &text.replace("ba", "cb")]);
    for round in 0..160 {
        for _ in 0..8 {
            busy.command(&["LCS", "one", "two", "LEN"]);
        }
        // Its worker knows that it has something to read, and comes to it when the others are done.
        subscriber.send(b"ECHO af");
        // Some time, another one in each round.
        (0..round % 40).for_each(|_| drop(publisher.ask(&["PING"])));
        let payload = round.to_string();
        assert_eq!(publisher.ask(&["PUBLISH", "x", &payload]), ":1\r\n");
        subscriber.send(b"ter\r\n");
        let mut told = String::new();
        while !told.ends_with("after\r\n") {
            told.push_str(&subscriber.reply());
        }
        assert!(told.contains(&message("x", &payload)), "{told:?}");
        (0..8).for_each(|_| drop(busy.reply()));
    }
}

/// A subscriber that also writes and waits for the disk, while others publish to it.
#[test]
fn messages_and_replies_that_wait_for_the_disk_keep_apart() {
    let server = start(&["--appendfsync", "always", "--workers", "3"]);
    let mut client = server.client();
    transcript(&mut client, &["HELLO 3", "SUBSCRIBE x"]);
    let (address, rounds) = (server.address, 300);
    std::thread::scope(|scope| {
        for publisher in 0..2 {
            scope.spawn(move || {
                let mut client = Client::connect(address);
                for round in 0..rounds {
                    let text = format!("{publisher} {round}");
                    assert_eq!(client.ask(&["PUBLISH", "x", &text]), ":1\r\n");
                }
            });
        }
        let (mut next, mut written) = ([0, 0], 0);
        while written < 200 || next != [rounds, rounds] {
            if written < 200 {
                client.send(b"INCR n\r\nPUBLISH y none\r\n");
            }
            let mut expected = if written < 200 { vec![":0\r\n".to_owned()] } else { vec![] };
            if written < 200 {
                written += 1;
                expected.insert(0, format!(":{written}\r\n"));
            }
            loop {
                let is_over = next == [rounds, rounds] || written < 200;
                if expected.is_empty() && is_over {
                    break;
                }
                let frame = client.reply();
                if frame.starts_with(':') {
                    assert_eq!(frame, expected.remove(0));
                    continue;
                }
                let payload = frame.split("\r\n").nth(6).unwrap();
                let (publisher, round) = payload.split_once(' ').unwrap();
                let publisher: usize = publisher.parse().unwrap();
                assert_eq!(round, next[publisher].to_string(), "{frame}");
                next[publisher] += 1;
            }
        }
    });
}

fn wait_for_nobody(server: &Running, channel: &str) {
    let mut client = server.client();
    while !client.ask(&["PUBSUB", "NUMSUB", channel]).ends_with(":0\r\n") {
        std::thread::yield_now();
    }
}

fn log_of(server: &Running) -> String {
    std::fs::read_to_string(server.directory.path().join("log")).unwrap()
}

#[test]
fn a_subscriber_that_does_not_read_is_closed_and_the_others_are_not() {
    // The other classes' limits are not its own.
    let limits = ["normal", "0", "0", "0", "pubsub", "1mb", "0", "0"];
    let server = start(&[&["--client-output-buffer-limit"][..], &limits[..]].concat());
    let (mut slow, mut fast) = (server.client(), server.client());
    slow.ask(&["SUBSCRIBE", "x", "y"]);
    fast.ask(&["SUBSCRIBE", "x"]);
    let mut publisher = server.client();
    let payload = "p".repeat(100_000);
    let mut receivers = 2;
    while receivers == 2 {
        let reply = publisher.ask(&["PUBLISH", "x", &payload]);
        receivers = reply[1..].trim_end().parse().unwrap();
        assert!(fast.reply().len() > payload.len());
    }
    assert_eq!(receivers, 1);
    wait_for_nobody(&server, "y");
    let log = log_of(&server);
    let line = log.lines().find(|line| line.contains("for overcoming of output buffer limits."));
    let line = line.expect("a line in the log");
    assert!(line.contains("sub=2") && line.contains("flags=P"), "{line}");
    // What it was sent before is whole; the rest is cut with the connection.
    assert!(slow.rest().len() > 1 << 20);
    assert_eq!(publisher.ask(&["PUBLISH", "x", "last"]), ":1\r\n");
    assert!(fast.reply().ends_with("last\r\n"));
}

#[test]
fn a_subscriber_above_the_soft_limit_for_too_long_is_closed() {
    let server = start(&["--client-output-buffer-limit", "pubsub", "0", "100kb", "1"]);
    let mut slow = server.client();
    slow.ask(&["SUBSCRIBE", "x"]);
    let mut publisher = server.client();
    let payload = "p".repeat(100_000);
    // More than the sockets hold.
    for _ in 0..200 {
        publisher.ask(&["PUBLISH", "x", &payload]);
    }
    wait_for_nobody(&server, "x");
    assert!(log_of(&server).contains("for overcoming of output buffer limits."));
}

#[test]
fn publishers_wait_for_a_worker_that_does_not_keep_up() {
    let server = start(&["--client-output-buffer-limit", "pubsub", "0", "0", "0"]);
    let mut subscriber = server.client();
    subscriber.ask(&["PSUBSCRIBE", "*"]);
    let payload = "p".repeat(60_000);
    let count = 100;
    for _ in 0..2 {
        let mut publisher = server.client();
        publisher.ask(&["MULTI"]);
        for _ in 0..count {
            publisher.ask(&["PUBLISH", "x", &payload]);
        }
        // The transaction fills the queue of the subscriber's worker; what comes behind it waits.
        publisher.send(b"EXEC\r\nPUBLISH x a\r\nMULTI\r\nPUBLISH x b\r\nEXEC\r\n");
        assert_eq!(publisher.reply().matches(":1\r\n").count(), count);
        assert_eq!(publisher.reply(), ":1\r\n");
        (0..2).for_each(|_| drop(publisher.reply()));
        assert_eq!(publisher.reply(), "*1\r\n:1\r\n");
        for _ in 0..count {
            assert!(subscriber.reply().len() > payload.len());
        }
        assert!(subscriber.reply().ends_with("a\r\n"));
        assert!(subscriber.reply().ends_with("b\r\n"));
    }
}

#[test]
fn what_is_seen_of_subscribers() {
    let server = start(&[]);
    let (mut one, mut two) = (server.client(), server.client());
    transcript(&mut one, &["HELLO 3", "SUBSCRIBE a b", "PSUBSCRIBE p", "SSUBSCRIBE s"]);
    let info = two.ask(&["INFO", "everything"]);
    for line in [
        "pubsub_channels:2\r",
        "pubsub_patterns:1\r",
        "pubsubshard_channels:1\r",
        "pubsub_clients:1\r",
    ] {
        assert!(info.contains(line), "{line} is missing");
    }
    let list = two.ask(&["CLIENT", "LIST", "TYPE", "pubsub"]);
    assert!(list.contains("flags=P ") && list.contains(" sub=2 psub=1 ssub=1 "), "{list}");
    assert!(!two.ask(&["CLIENT", "LIST", "TYPE", "normal"]).contains("flags=P"));
    one.command(&["RESET"]);
    while one.reply() != "+RESET\r\n" {}
    assert!(one.ask(&["CLIENT", "INFO"]).contains(" sub=0 psub=0 ssub=0 "));
    assert!(two.ask(&["INFO", "stats"]).contains("pubsub_channels:0\r"));
    // An idle subscriber is no idle client.
    one.ask(&["SUBSCRIBE", "a"]);
    drop(one);
    wait_for_nobody(&server, "a");
}

/// Several publishers to subscribers of all kinds on several workers: each gets each message once,
/// and those of one publisher in order.
#[test]
fn every_subscriber_gets_every_message_once_and_in_order() {
    for workers in ["2", "4"] {
        let server = start(&["--workers", workers]);
        let address = server.address;
        let mut subscribers: Vec<Client> = (0..16).map(|_| server.client()).collect();
        for (index, client) in subscribers.iter_mut().enumerate() {
            let words = [["SUBSCRIBE", "x"], ["PSUBSCRIBE", "x*"], ["SSUBSCRIBE", "x"]][index % 3];
            client.ask(&words);
        }
        let (publishers, rounds) = (3, 500);
        std::thread::scope(|scope| {
            for publisher in 0..publishers {
                scope.spawn(move || {
                    let mut client = Client::connect(address);
                    for batch in 0..rounds / 10 {
                        for round in batch * 10..batch * 10 + 10 {
                            let text = format!("{publisher} {round}");
                            client.command(&["PUBLISH", "x", &text]);
                            client.command(&["SPUBLISH", "x", &text]);
                        }
                        for _ in 0..10 {
                            assert_eq!(client.reply(), ":11\r\n");
                            assert_eq!(client.reply(), ":5\r\n");
                        }
                    }
                });
            }
            for client in &mut subscribers {
                scope.spawn(move || {
                    let mut next = vec![0; publishers];
                    for _ in 0..publishers * rounds {
                        let frame = client.reply();
                        let payload = frame.trim_end().rsplit("\r\n").next().unwrap();
                        let (publisher, round) = payload.split_once(' ').unwrap();
                        let publisher: usize = publisher.parse().unwrap();
                        assert_eq!(round, next[publisher].to_string());
                        next[publisher] += 1;
                    }
                    client.command(&["PING"]);
                    assert_eq!(client.reply(), "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
                });
            }
        });
    }
}
