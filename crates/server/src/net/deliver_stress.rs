//! Subscribers that move between workers while others publish: nothing is lost, doubled or cut.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::pubsub::Kind;
use crate::{Config, Server};

fn connect(address: SocketAddr) -> BufReader<TcpStream> {
    let socket = TcpStream::connect(address).unwrap();
    // A bound for a hanging test, not a measure.
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    BufReader::new(socket)
}

fn line(client: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    client.read_line(&mut line).unwrap();
    line.truncate(line.trim_end().len());
    line
}

fn ask(client: &mut BufReader<TcpStream>, command: &str) -> String {
    client.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap();
    line(client)
}

const PUBLISHERS: usize = 3;
const SUBSCRIBERS: usize = 9;
const ROUNDS: usize = 12;

/// Reads every message to the end; each publisher's numbers must come one after the other, by
/// name and by pattern. Some of the time it asks for something, and knows the reply.
fn listen(address: SocketAddr, number: usize, ready: &AtomicUsize) -> HashMap<String, usize> {
    let mut client = connect(address);
    if number.is_multiple_of(2) {
        ask(&mut client, "HELLO 3");
        while line(&mut client) != "*0" {}
    }
    let is_new = number.is_multiple_of(2);
    for command in ["SUBSCRIBE news", "PSUBSCRIBE n*", "SSUBSCRIBE news"] {
        ask(&mut client, command);
        (0..5).for_each(|_| drop(line(&mut client)));
    }
    ready.fetch_add(1, Ordering::SeqCst);
    let mut next: HashMap<String, usize> = HashMap::new();
    let (mut ended, mut count, mut asked, mut answered) = (0, 0, 0, 0);
    while ended < 3 * PUBLISHERS || answered < asked {
        let first = line(&mut client);
        if first.starts_with('+') {
            assert_eq!(first, "+PONG");
            answered += 1;
            continue;
        }
        let elements: Vec<String> = (0..first[1..].parse().unwrap())
            .map(|_| {
                line(&mut client);
                line(&mut client)
            })
            .collect();
        if elements[0] == "pong" {
            answered += 1;
            continue;
        }
        assert_eq!(first.starts_with('>'), is_new, "{first}");
        let payload = elements.last().unwrap();
        let (publisher, value) = payload.split_once(' ').unwrap();
        if value == "end" {
            ended += 1;
            continue;
        }
        let expected = next.entry(format!("{} {publisher}", elements[0])).or_default();
        assert_eq!(value.parse::<usize>().unwrap(), *expected, "{elements:?}");
        *expected += 1;
        count += 1;
        if count % 50 == 0 {
            client.get_mut().write_all(b"PING\r\n").unwrap();
            asked += 1;
        }
    }
    next
}

fn start() -> (tempfile::TempDir, Server) {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().display().to_string();
    let log = directory.path().join("log").display().to_string();
    let place = ["--port", "0", "--bind", "127.0.0.1", "--dir", &dir, "--logfile", &log];
    let arguments = place.into_iter().chain(["--workers", "3"]).map(str::to_owned);
    (directory, Server::start(Config::from_arguments(arguments).unwrap()).unwrap())
}

#[test]
fn any_thread_can_publish() {
    let (_directory, server) = start();
    let shared = server.shared();
    assert_eq!(shared.publish(b"__sluice__:flush", b"unheard"), 0);
    let mut clients: Vec<_> = (0..5).map(|_| connect(server.addresses()[0])).collect();
    for client in &mut clients {
        ask(client, "PSUBSCRIBE __sluice__:*");
        (0..5).for_each(|_| drop(line(client)));
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..100 {
                let text = number.to_string();
                assert_eq!(shared.publish(b"__sluice__:flush", text.as_bytes()), 5);
            }
        });
    });
    for client in &mut clients {
        for number in 0..100 {
            let message: Vec<String> = (0..9).map(|_| line(client)).collect();
            assert_eq!((&message[6][..], &message[8]), ("__sluice__:flush", &number.to_string()));
        }
    }
    server.stop_handle().stop();
    server.wait().unwrap();
}

#[test]
fn connections_that_move_get_every_message_once_and_in_order() {
    let (_directory, server) = start();
    let (address, shared) = (server.addresses()[0], server.shared());
    let clients_of = |number: usize| shared.stats[number].clients.load(Ordering::Relaxed);
    let (ready, round) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let (ready, round) = (&ready, &round);
        let listeners: Vec<_> = (0..SUBSCRIBERS)
            .map(|number| scope.spawn(move || listen(address, number, ready)))
            .collect();
        while ready.load(Ordering::SeqCst) < SUBSCRIBERS {
            std::thread::yield_now();
        }
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|number| {
                scope.spawn(move || {
                    let mut client = connect(address);
                    let mut at = 0;
                    while round.load(Ordering::SeqCst) < ROUNDS {
                        let mut commands = String::new();
                        for value in at..at + 20 {
                            let text = format!("news \"{number} {value}\"\r\n");
                            commands += &format!("PUBLISH {text}SPUBLISH {text}");
                        }
                        at += 20;
                        client.get_mut().write_all(commands.as_bytes()).unwrap();
                        for _ in 0..20 {
                            assert_eq!(line(&mut client), format!(":{}", 2 * SUBSCRIBERS));
                            assert_eq!(line(&mut client), format!(":{SUBSCRIBERS}"));
                        }
                    }
                    let end = format!("news \"{number} end\"\r\n");
                    ask(&mut client, &format!("PUBLISH {end}SPUBLISH {end}"));
                    line(&mut client);
                    at
                })
            })
            .collect();
        // All to one worker, and out again.
        for at in 0..ROUNDS {
            let active = [1, 3, 2][at % 3];
            shared.active_workers.store(active, Ordering::Relaxed);
            while (0..3).any(|number| (clients_of(number) == 0) != (number >= active)) {
                std::thread::yield_now();
            }
            round.store(at + 1, Ordering::SeqCst);
        }
        let sent: Vec<usize> = publishers.into_iter().map(|it| it.join().unwrap()).collect();
        for listener in listeners {
            let got = listener.join().unwrap();
            for (publisher, count) in sent.iter().enumerate() {
                for word in ["message", "pmessage", "smessage"] {
                    assert_eq!(got[&format!("{word} {publisher}")], *count);
                }
            }
        }
    });
    // All have gone, and nothing of them is left.
    while clients_of(0) + clients_of(1) + clients_of(2) > 0 {
        std::thread::yield_now();
    }
    for kind in Kind::ALL {
        assert_eq!(shared.pubsub.count(kind), 0);
    }
    server.stop_handle().stop();
    server.wait().unwrap();
}
