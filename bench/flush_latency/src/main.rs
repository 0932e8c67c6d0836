//! GET latency while sealed memtables are flushed: 50 connections that read and write, spans without
//! and with a flush of five full memtables, interleaved. No dependencies.
//!
//! ```text
//! usage: flush_latency ADDRESS [ROUNDS [SPAN_SECONDS]]
//! ```
//!
//! The server should have room for the memtables without slowing writers down:
//! `--memtable-count 16 --memory-budget 4gb`.

use std::{
    io::{Read, Result, Write},
    net::TcpStream,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

const CLIENTS: usize = 50;
const MEMTABLES: usize = 5;
const KEYS: u64 = 100_000;

struct Client {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    fn connect(address: &str) -> Result<Client> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        Ok(Client { socket, buffer: vec![0; 1 << 20] })
    }

    /// Sends one command and reads until the reply ends in a line end: enough for short replies.
    fn ask(&mut self, args: &[&[u8]]) -> Result<String> {
        let mut bytes = Vec::new();
        encode(&mut bytes, args);
        self.socket.write_all(&bytes)?;
        let count = self.socket.read(&mut self.buffer)?;
        Ok(String::from_utf8_lossy(&self.buffer[..count]).into_owned())
    }
}

fn encode(bytes: &mut Vec<u8>, args: &[&[u8]]) {
    bytes.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
}

fn sealed(client: &mut Client) -> Result<u64> {
    let info = client.ask(&[b"INFO", b"memtable"])?;
    let line = info.lines().find_map(|line| line.strip_prefix("sealed_memtables:"));
    Ok(line.and_then(|count| count.trim().parse().ok()).unwrap_or(0))
}

/// Writes until so many memtables are sealed. Automatic flushes are paused.
fn fill(client: &mut Client, next: &mut u64) -> Result<()> {
    let value = [b'x'; 1000];
    while sealed(client)? < MEMTABLES as u64 {
        let mut bytes = Vec::new();
        for _ in 0..1000 {
            *next += 1;
            encode(&mut bytes, &[b"SET", format!("fill:{next}").as_bytes(), &value]);
        }
        client.socket.write_all(&bytes)?;
        let mut left = 1000 * b"+OK\r\n".len();
        while left > 0 {
            left -= client.socket.read(&mut client.buffer)?.min(left);
        }
    }
    Ok(())
}

/// GET latencies in microseconds of all clients until `end` says so.
fn span(address: &str, mut end: impl FnMut() -> Result<bool>) -> Result<(Vec<u64>, Duration)> {
    let stop = AtomicBool::new(false);
    let all = Mutex::new(Vec::new());
    let began = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        for number in 0..CLIENTS as u64 {
            let (stop, all) = (&stop, &all);
            scope.spawn(move || -> Result<()> {
                let mut client = Client::connect(address)?;
                let mut latencies = Vec::new();
                let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                while !stop.load(Ordering::Relaxed) {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    let key = format!("key:{}", state % KEYS);
                    client.ask(&[b"SET", key.as_bytes(), &[b'v'; 100]])?;
                    let asked = Instant::now();
                    client.ask(&[b"GET", key.as_bytes()])?;
                    latencies.push(asked.elapsed().as_micros() as u64);
                }
                all.lock().unwrap().extend(latencies);
                Ok(())
            });
        }
        while !end()? {
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
        Ok(())
    })?;
    let took = began.elapsed();
    let mut all = all.into_inner().unwrap();
    all.sort_unstable();
    Ok((all, took))
}

fn show(name: &str, latencies: &[u64], took: Duration) -> u64 {
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!(
        "{name:>8}: {:>7.0} GET/s  p50 {:>6}  p99 {:>6}  p99.9 {:>6}  max {:>7} us  ({:.1} s)",
        latencies.len() as f64 / took.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        took.as_secs_f64()
    );
    at(0.999)
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:6379".to_owned());
    let rounds: usize = args.next().and_then(|text| text.parse().ok()).unwrap_or(5);
    let seconds: u64 = args.next().and_then(|text| text.parse().ok()).unwrap_or(3);
    let mut client = Client::connect(&address)?;
    let (mut next, mut ratios) = (0, Vec::new());
    for _ in 0..rounds {
        client.ask(&[b"MEMTABLE", b"PAUSE"])?;
        fill(&mut client, &mut next)?;
        let began = Instant::now();
        let (quiet, took) = span(&address, || Ok(began.elapsed().as_secs() >= seconds))?;
        let without = show("without", &quiet, took);
        client.ask(&[b"MEMTABLE", b"RESUME"])?;
        let (busy, took) = span(&address, || Ok(sealed(&mut client)? == 0))?;
        let with = show("flushing", &busy, took);
        ratios.push(with as f64 / without as f64);
    }
    ratios.sort_unstable_by(f64::total_cmp);
    println!("p99.9 flushing / without: {ratios:.2?}, median {:.2}", ratios[ratios.len() / 2]);
    Ok(())
}
