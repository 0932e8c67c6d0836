//! Random command streams over a few keys, sent to this server and to a real redis-server: every
//! reply must be the same, byte for byte. Needs `redis-server` in the path; without it, says so and
//! passes.
//!
//! Not compared: the order of KEYS and SCAN (sorted first), the digits of PTTL and PEXPIRETIME
//! below a thousand seconds (two clocks), RANDOMKEY, OBJECT REFCOUNT (it shows which objects Redis
//! happens to share).

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use common::redis::Redis;
use common::{Client, start};
use sluicedb::env::{Clock, Rng, SystemClock};

const KEYS: &[&str] = &["a", "b", "c", "{a}d", "", "key:5", "[x]"];

/// Thousands of seconds that an expiry may lie ahead.
const SPANS: u64 = 1 << 20;

/// Makes commands that are likely to meet: few keys, values that are numbers as often as not.
struct Stream {
    rng: Rng,
    now_ms: u64,
}

impl Stream {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.rng.below(from.len() as u64) as usize]
    }

    fn key(&mut self) -> String {
        self.pick(KEYS).into()
    }

    fn value(&mut self) -> String {
        match self.rng.below(8) {
            0 => String::new(),
            1 => "x".repeat(self.rng.below(60) as usize),
            2 => format!("{}", self.rng.below(20_000)),
            3 => format!("{}.{}", self.rng.below(50), self.rng.below(1000)),
            4 => self
                .pick(&["9223372036854775807", "-9223372036854775808", "-0", "007", "1e3", "inf"])
                .into(),
            5 => format!("ab{}cab{}", self.rng.below(3), self.rng.below(3)),
            6 => "0123456789".into(),
            _ => format!("{}", self.rng.below(10)),
        }
    }

    fn integer(&mut self) -> String {
        match self.rng.below(12) {
            0 => self.pick(&["x", "", "1.5", " 1", "+1", "99999999999999999999"]).into(),
            1 => self
                .pick(&["9223372036854775807", "-9223372036854775808", "-9223372036854775807"])
                .into(),
            2 => format!("-{}", 1 + self.rng.below(20)),
            _ => format!("{}", self.rng.below(20)),
        }
    }

    /// A time span in `scale`ths of a second: 0, far away, negative, or nonsense.
    fn span(&mut self, scale: u64) -> String {
        match self.rng.below(8) {
            // Nothing short and positive: it would be over on one side and not yet on the other.
            0 => self.pick(&["x", "", "1.5", " 1", "+1", "99999999999999999999"]).into(),
            1 => self
                .pick(&[
                    "0",
                    "-1",
                    "9223372036854775",
                    "9223372036854775807",
                    "-9223372036854775808",
                    "-9223372036854775807",
                    "9223372036854776",
                ])
                .into(),
            // Of many, so that GT and LT hardly ever compare two that differ by the clock alone.
            _ => format!("{}", (1 + self.rng.below(SPANS)) * 1000 * scale),
        }
    }

    fn moment(&mut self, scale: u64) -> String {
        match self.rng.below(3) {
            0 => self.span(scale),
            _ => format!("{}", (self.now_ms / 1000 + (1 + self.rng.below(SPANS)) * 1000) * scale),
        }
    }

    fn maybe_case(&mut self, word: &str) -> String {
        if self.rng.one_in(4) { word.to_ascii_lowercase() } else { word.into() }
    }

    fn expiry_option(&mut self, args: &mut Vec<String>) {
        let option = self.pick(&["EX", "PX", "EXAT", "PXAT", "KEEPTTL", "PERSIST"]);
        args.push(self.maybe_case(option));
        match option {
            "EX" => args.push(self.span(1)),
            "PX" => args.push(self.span(1000)),
            "EXAT" => args.push(self.moment(1)),
            "PXAT" => args.push(self.moment(1000)),
            _ => {}
        }
        if self.rng.one_in(20) {
            args.pop();
        }
    }

    fn command(&mut self) -> Vec<String> {
        let name = self.pick(NAMES);
        let mut args = vec![self.maybe_case(name)];
        match name {
            "SET" => {
                args.extend([self.key(), self.value()]);
                while self.rng.one_in(2) {
                    if self.rng.one_in(2) {
                        self.expiry_option(&mut args);
                    } else {
                        args.push(
                            self.pick(&["NX", "XX", "GET", "nx", "xx", "get", "KEEPTTL", "what"])
                                .into(),
                        );
                    }
                }
            }
            "GETEX" => {
                args.push(self.key());
                if !self.rng.one_in(4) {
                    self.expiry_option(&mut args);
                }
                if self.rng.one_in(8) {
                    self.expiry_option(&mut args);
                }
            }
            "SETEX" => args.extend([self.key(), self.span(1), self.value()]),
            "PSETEX" => args.extend([self.key(), self.span(1000), self.value()]),
            "SETNX" | "GETSET" | "APPEND" => args.extend([self.key(), self.value()]),
            "MGET" | "DEL" | "UNLINK" | "EXISTS" | "TOUCH" => {
                (0..1 + self.rng.below(3)).for_each(|_| args.push(self.key()));
            }
            "MSET" | "MSETNX" => {
                for _ in 0..1 + self.rng.below(3) {
                    args.extend([self.key(), self.value()]);
                }
                if self.rng.one_in(10) {
                    args.pop();
                }
            }
            "GETRANGE" | "SUBSTR" => args.extend([self.key(), self.integer(), self.integer()]),
            "SETRANGE" => {
                let offset = match self.integer() {
                    text if text.len() > 15 => "600000000".into(),
                    text => text,
                };
                args.extend([self.key(), offset, self.value()]);
            }
            "INCRBY" | "DECRBY" => args.extend([self.key(), self.integer()]),
            "INCRBYFLOAT" => args.extend([self.key(), self.float()]),
            "LCS" => {
                args.extend([self.key(), self.key()]);
                while self.rng.one_in(2) {
                    let option =
                        self.pick(&["LEN", "IDX", "WITHMATCHLEN", "MINMATCHLEN", "idx", "no"]);
                    args.push(option.into());
                    if option == "MINMATCHLEN" {
                        args.push(self.integer());
                    }
                }
            }
            "RENAME" | "RENAMENX" => args.extend([self.key(), self.key()]),
            "COPY" => {
                args.extend([self.key(), self.key()]);
                while self.rng.one_in(2) {
                    args.push(self.pick(&["REPLACE", "DB", "replace", "xyz"]).into());
                    if self.rng.one_in(2) {
                        args.push(self.pick(&["0", "1", "16", "-1", "x", "99999999999"]).into());
                    }
                }
            }
            "MOVE" => args.extend([self.key(), self.pick(&["0", "1", "16", "x", "-1"]).into()]),
            "EXPIRE" | "PEXPIRE" | "EXPIREAT" | "PEXPIREAT" => {
                args.push(self.key());
                let scale = if name.starts_with('P') { 1000 } else { 1 };
                args.push(if name.ends_with("AT") { self.moment(scale) } else { self.span(scale) });
                while self.rng.one_in(2) {
                    args.push(self.pick(&["NX", "XX", "GT", "LT", "gt", "zz"]).into());
                }
            }
            "OBJECT" => {
                args.push(self.pick(&["ENCODING", "encoding", "FREQ", "nope", "HELP"]).into());
                if !self.rng.one_in(10) && args[1] != "HELP" {
                    args.push(self.key());
                }
            }
            "KEYS" => {
                args.push(self.pick(&["*", "a", "{*", "?", "[a-b]", "\\[x\\]", "*[^a]", ""]).into())
            }
            "SCAN" => {
                args.extend(["0".into(), "COUNT".into(), "1000".into()]);
                if self.rng.one_in(2) {
                    args.extend(["MATCH".into(), self.pick(&["*", "a*", "[^a]*"]).into()]);
                }
                if self.rng.one_in(3) {
                    args.extend(["TYPE".into(), self.pick(&["string", "hash", "nope"]).into()]);
                }
                match self.rng.below(12) {
                    0 => args[1] = self.pick(&["x", "", "-0", "1x", "99999999999999999999"]).into(),
                    1 => {
                        args[3] = self.pick(&["0", "-1", "x", "1.5", "99999999999999999999"]).into()
                    }
                    2 => drop(args.pop()),
                    _ => {}
                }
            }
            "SWAPDB" => args
                .extend([self.pick(&["0", "x", "16"]).into(), self.pick(&["1", "y", "-1"]).into()]),
            "DBSIZE" => {}
            "FLUSHDB" | "FLUSHALL" => {
                if self.rng.one_in(3) {
                    args.push(self.pick(&["ASYNC", "sync", "zz"]).into());
                }
            }
            _ => args.push(self.key()),
        }
        if self.rng.one_in(60) {
            args.push("extra".into());
        }
        args
    }

    fn float(&mut self) -> String {
        match self.rng.below(6) {
            0 => self
                .pick(&[
                    "inf", "-inf", "nan", "x", "", "1e", "0x10", "1e400", "1e5000", ".5", "5.",
                    "-.25e1",
                ])
                .into(),
            1 => format!("{}e{}", self.rng.below(1000), self.rng.below(20)),
            2 => format!("-{}.{}", self.rng.below(10), self.rng.below(100_000)),
            3 => format!("{}.{}", self.rng.below(1_000_000), self.rng.next_u64()),
            _ => format!("{}.{}", self.rng.below(10), self.rng.below(100)),
        }
    }
}

/// FLUSHALL and SWAPDB come seldom: once each, where the common ones come more often.
const NAMES: &[&str] = &[
    "SET",
    "SET",
    "SET",
    "SET",
    "GET",
    "GET",
    "SETNX",
    "SETEX",
    "PSETEX",
    "GETSET",
    "GETDEL",
    "GETEX",
    "GETEX",
    "MGET",
    "MSET",
    "MSETNX",
    "APPEND",
    "STRLEN",
    "GETRANGE",
    "SUBSTR",
    "SETRANGE",
    "INCR",
    "DECR",
    "INCRBY",
    "DECRBY",
    "INCRBYFLOAT",
    "INCRBYFLOAT",
    "LCS",
    "DEL",
    "UNLINK",
    "EXISTS",
    "TYPE",
    "KEYS",
    "SCAN",
    "RENAME",
    "RENAMENX",
    "COPY",
    "MOVE",
    "TOUCH",
    "EXPIRE",
    "PEXPIRE",
    "EXPIREAT",
    "PEXPIREAT",
    "EXPIRE",
    "TTL",
    "PTTL",
    "EXPIRETIME",
    "PEXPIRETIME",
    "PERSIST",
    "OBJECT",
    "OBJECT",
    "DBSIZE",
    "FLUSHDB",
    "FLUSHALL",
    "SWAPDB",
];

/// Takes out of a reply what may differ.
fn comparable(name: &str, text: String) -> String {
    match name {
        "KEYS" | "SCAN" => {
            let mut lines: Vec<&str> = text.split("\r\n").collect();
            lines.sort_unstable();
            lines.join("|")
        }
        "PTTL" | "PEXPIRETIME" | "TTL" | "EXPIRETIME" => {
            let number: i64 = match text.trim_end()[1..].parse() {
                Ok(number) => number,
                Err(_) => return text,
            };
            let unit = if name.starts_with('P') { 1_000_000 } else { 1000 };
            // Spans are whole thousands of seconds; the rest is how long the test took.
            let rounded = if number < 0 { number } else { number.saturating_add(unit / 2) / unit };
            rounded.to_string()
        }
        _ => text,
    }
}

#[test]
fn replies_are_those_of_redis() {
    let Some(redis) = Redis::start() else { return };
    let mut theirs = Client::connect(redis.address);
    let server = start(&[]);
    let mut ours = server.client();
    let clock = SystemClock::new();
    for seed in 1..=6u64 {
        println!("seed {seed}");
        theirs.ask(&["FLUSHALL"]);
        ours.ask(&["FLUSHALL"]);
        let mut stream = Stream { rng: Rng::new(seed), now_ms: clock.unix_ms() };
        let mut history: Vec<String> = Vec::new();
        for round in 0..5_000 {
            if round % 25 == 24 {
                transaction(&mut stream, &mut theirs, &mut ours);
            }
            let command = stream.command();
            let args: Vec<&str> = command.iter().map(String::as_str).collect();
            history.push(format!("{command:?}"));
            let name = command[0].to_ascii_uppercase();
            if name == "DBSIZE" && args.len() == 1 {
                settle_due_keys(&mut theirs, &mut ours);
            }
            let expected = comparable(&name, theirs.ask(&args));
            let got = comparable(&name, ours.ask(&args));
            assert!(
                expected == got,
                "seed {seed}: {}\nredis: {expected}\nours:  {got}\nafter {:#?}",
                history.last().unwrap(),
                &history[history.len().saturating_sub(25)..]
            );
        }
    }
}

/// A few commands inside MULTI and EXEC: those that fail must leave nothing, the others all.
fn transaction(stream: &mut Stream, redis: &mut Client, ours: &mut Client) {
    const INEXACT: &[&str] =
        &["KEYS", "SCAN", "TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME", "DBSIZE"];
    let mut commands = vec![vec!["MULTI".to_owned()]];
    for _ in 0..stream.rng.below(20) {
        commands.push(stream.command());
    }
    commands.push(vec![stream.pick(&["EXEC", "EXEC", "EXEC", "DISCARD"]).to_owned()]);
    commands.retain(|command| !INEXACT.contains(&&*command[0].to_ascii_uppercase()));
    for command in &commands {
        let args: Vec<&str> = command.iter().map(String::as_str).collect();
        assert_eq!(redis.ask(&args), ours.ask(&args), "{args:?} in {commands:#?}");
    }
}

/// Due keys count until something deletes them. Reading deletes them in Redis; ours go by a DEL,
/// which answers 0 for a due key, as for one that is not there.
fn settle_due_keys(redis: &mut Client, ours: &mut Client) {
    for key in KEYS {
        if redis.ask(&["EXISTS", key]) == ":0\r\n" {
            assert_eq!(ours.ask(&["DEL", key]), ":0\r\n", "{key:?} is there");
        }
    }
}
