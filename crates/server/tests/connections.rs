//! Connections as a client meets them: pipelines, inline commands, junk, limits, RESP3, kills, ends.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Client, encode, start};

#[test]
fn a_pipeline_is_answered_in_order_however_it_is_cut() {
    let server = start(&[]);
    let mut client = server.client();
    let mut stream = Vec::new();
    for number in 0..2000 {
        stream.extend_from_slice(&encode(&[b"ECHO", format!("text {number}").as_bytes()]));
    }
    let mut at = 0;
    for piece in (1..).map(|n| n * 37 % 1009 + 1) {
        let end = (at + piece).min(stream.len());
        client.send(&stream[at..end]);
        at = end;
        if at == stream.len() {
            break;
        }
    }
    for number in 0..2000 {
        let text = format!("text {number}");
        assert_eq!(client.reply(), format!("${}\r\n{text}\r\n", text.len()));
    }
}

#[test]
fn inline_commands_work_beside_arrays() {
    let server = start(&[]);
    let mut client = server.client();
    client.send(b"PING\r\n\r\nECHO \"a b\"\n*1\r\n$4\r\nPING\r\n*0\r\n*-1\r\necho 'x'\r\n");
    let replies: Vec<String> = (0..4).map(|_| client.reply()).collect();
    assert_eq!(replies, ["+PONG\r\n", "$3\r\na b\r\n", "+PONG\r\n", "$1\r\nx\r\n"]);
}

#[test]
fn broken_frames_are_answered_and_closed() {
    let server = start(&[]);
    for (bytes, text) in [
        (&b"*x\r\n"[..], "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1048577\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1\r\n$536870913\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$-4\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\nPING\r\n", "-ERR Protocol error: expected '$', got 'P'\r\n"),
        (b"ping \"x\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
    ] {
        let mut client = server.client();
        client.send(b"PING\r\n");
        client.send(bytes);
        assert_eq!(client.rest(), format!("+PONG\r\n{text}"));
    }
    let mut client = server.client();
    client.send(&vec![b'a'; 70_000]);
    assert_eq!(client.rest(), "-ERR Protocol error: too big inline request\r\n");
}

#[test]
fn binary_junk_never_stops_the_server() {
    let server = start(&[]);
    for seed in 0..30 {
        let mut rng = sluicedb::env::Rng::new(seed);
        let mut junk = vec![0u8; 3000];
        rng.fill(&mut junk);
        junk.extend_from_slice(b"\r\n");
        let mut client = server.client();
        client.send(&junk);
        drop(client);
    }
    assert_eq!(server.client().ask(&["PING"]), "+PONG\r\n");
}

#[test]
fn a_huge_announced_length_takes_no_memory_and_blocks_nobody() {
    let server = start(&[]);
    let mut waiting: Vec<Client> = (0..20).map(|_| server.client()).collect();
    for client in &mut waiting {
        client.send(b"*1048576\r\n$536870912\r\nabc");
    }
    let mut client = server.client();
    let info = client.ask(&["INFO", "memory"]);
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory_overhead:"));
    assert!(line.unwrap().parse::<u64>().unwrap() < 32 << 20, "{info}");
}

#[test]
fn a_large_argument_arrives_whole() {
    let server = start(&[]);
    let mut client = server.client();
    let text: Vec<u8> = (0..5_000_000u32).map(|n| b'a' + (n % 26) as u8).collect();
    let stream = encode(&[b"ECHO", &text]);
    let mut writer = client.socket.try_clone().unwrap();
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| std::io::Write::write_all(&mut writer, &stream));
        let reply = client.reply();
        assert_eq!(reply.len(), text.len() + "$5000000\r\n\r\n".len());
        assert_eq!(&reply.as_bytes()[10..reply.len() - 2], &text[..]);
        sender.join().unwrap().unwrap();
    });
}

#[test]
fn hello_switches_to_resp3_and_back() {
    let server = start(&[]);
    let mut client = server.client();
    assert!(client.ask(&["HELLO", "3", "SETNAME", "me"]).starts_with("%7\r\n$6\r\nserver\r\n"));
    assert_eq!(client.ask(&["CLIENT", "GETNAME"]), "$2\r\nme\r\n");
    assert!(client.ask(&["CONFIG", "GET", "port"]).starts_with("%1\r\n"));
    assert!(client.ask(&["INFO", "server"]).starts_with("="));
    assert!(client.ask(&["HELLO", "2"]).starts_with("*14\r\n"));
    assert_eq!(client.ask(&["HELLO", "4"]), "-NOPROTO unsupported protocol version\r\n");
    assert_eq!(client.ask(&["RESET"]), "+RESET\r\n");
    assert_eq!(client.ask(&["CLIENT", "GETNAME"]), "$-1\r\n");
}

#[test]
fn a_password_is_asked_for() {
    let server = start(&["--requirepass", "secret"]);
    let mut client = server.client();
    assert_eq!(client.ask(&["PING"]), "-NOAUTH Authentication required.\r\n");
    assert!(client.ask(&["HELLO"]).starts_with("-NOAUTH HELLO must be called"));
    assert!(client.ask(&["AUTH", "wrong"]).starts_with("-WRONGPASS"));
    assert!(client.ask(&["AUTH", "someone", "secret"]).starts_with("-WRONGPASS"));
    assert_eq!(client.ask(&["AUTH", "secret"]), "+OK\r\n");
    assert_eq!(client.ask(&["PING"]), "+PONG\r\n");
    let mut other = server.client();
    assert!(other.ask(&["HELLO", "3", "AUTH", "default", "secret"]).starts_with("%7"));
    let mut stranger = server.client();
    stranger.send(b"*11\r\n");
    assert!(stranger.rest().contains("unauthenticated multibulk length"));
}

#[test]
fn client_kill_closes_by_id_and_by_address() {
    let server = start(&[]);
    let (mut killer, mut first, mut second) = (server.client(), server.client(), server.client());
    let id = first.ask(&["CLIENT", "ID"]);
    let id = id.trim().trim_start_matches(':');
    assert_eq!(killer.ask(&["CLIENT", "KILL", "ID", id]), ":1\r\n");
    assert_eq!(first.rest(), "");
    second.ask(&["PING"]);
    let address = second.socket.local_addr().unwrap().to_string();
    assert_eq!(killer.ask(&["CLIENT", "KILL", &address]), "+OK\r\n");
    assert_eq!(second.rest(), "");
    assert_eq!(killer.ask(&["CLIENT", "KILL", "1.2.3.4:5"]), "-ERR No such client\r\n");
    assert_eq!(killer.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"]), ":1\r\n");
    assert_eq!(killer.rest(), "");
}

#[test]
fn client_list_shows_names_databases_and_commands() {
    let server = start(&[]);
    let mut client = server.client();
    client.ask(&["CLIENT", "SETNAME", "tester"]);
    client.ask(&["CLIENT", "SETINFO", "LIB-NAME", "lib"]);
    client.ask(&["SELECT", "3"]);
    let list = client.ask(&["CLIENT", "LIST"]);
    for part in ["name=tester", "lib-name=lib", "db=3", "cmd=client|list", "multi=-1", "resp=2"] {
        assert!(list.contains(part), "{part} is missing in {list}");
    }
    assert_eq!(client.ask(&["SELECT", "16"]), "-ERR DB index is out of range\r\n");
}

#[test]
fn client_reply_off_and_skip() {
    let server = start(&[]);
    let mut client = server.client();
    client.command(&["CLIENT", "REPLY", "OFF"]);
    client.command(&["PING"]);
    client.command(&["NOSUCH"]);
    assert_eq!(client.ask(&["CLIENT", "REPLY", "ON"]), "+OK\r\n");
    client.command(&["CLIENT", "REPLY", "SKIP"]);
    client.command(&["PING"]);
    assert_eq!(client.ask(&["ECHO", "x"]), "$1\r\nx\r\n");
}

#[test]
fn more_clients_than_allowed_are_refused_with_a_reason() {
    let server = start(&["--maxclients", "2"]);
    let (mut first, mut second) = (server.client(), server.client());
    first.ask(&["PING"]);
    second.ask(&["PING"]);
    assert_eq!(server.client().rest(), "-ERR max number of clients reached\r\n");
    drop(second);
    // The place comes back as soon as the server has seen the end.
    while !server.client().ask_or_refusal(&["PING"]).starts_with("+PONG") {}
}

#[test]
fn quit_and_a_half_closed_connection_get_their_replies() {
    let server = start(&[]);
    let mut client = server.client();
    client.send(b"PING\r\nQUIT\r\nPING\r\n");
    assert_eq!(client.rest(), "+PONG\r\n+OK\r\n");
    let mut client = server.client();
    client.send(b"PING\r\nECHO last\r\n");
    client.socket.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.rest(), "+PONG\r\n$4\r\nlast\r\n");
}

#[test]
fn a_client_that_does_not_read_does_not_stop_the_others() {
    let server = start(&["--client-output-buffer-pause", "1mb"]);
    let mut greedy = server.client();
    let text = vec![b'x'; 100_000];
    let stream: Vec<u8> = std::iter::repeat_n(encode(&[b"ECHO", &text]), 300).flatten().collect();
    let mut writer = greedy.socket.try_clone().unwrap();
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| std::io::Write::write_all(&mut writer, &stream));
        assert_eq!(server.client().ask(&["PING"]), "+PONG\r\n");
        for _ in 0..300 {
            assert_eq!(greedy.reply().len(), 100_000 + "$100000\r\n\r\n".len());
        }
        sender.join().unwrap().unwrap();
    });
}

#[test]
fn the_output_limit_closes_a_client_that_does_not_read() {
    let server = start(&["--client-output-buffer-limit", "normal", "1mb", "0", "0"]);
    let mut client = server.client();
    let text = vec![b'x'; 500_000];
    let stream: Vec<u8> = std::iter::repeat_n(encode(&[b"ECHO", &text]), 60).flatten().collect();
    // The server closes while we send.
    let _ = std::io::Write::write_all(&mut client.socket, &stream);
    assert!(client.rest().len() < 60 * 500_000);
}

#[test]
fn shutdown_ends_the_server_without_a_reply() {
    let server = start(&[]);
    let (mut client, mut other) = (server.client(), server.client());
    assert_eq!(client.ask(&["SHUTDOWN", "MAYBE"]), "-ERR syntax error\r\n");
    assert_eq!(client.ask(&["SHUTDOWN", "ABORT"]), "-ERR No shutdown in progress.\r\n");
    other.ask(&["PING"]);
    client.command(&["SHUTDOWN", "NOSAVE"]);
    assert_eq!(client.rest(), "");
    assert_eq!(other.rest(), "");
    server.wait();
}
