//! A client that works on registers and records it.

use std::io::{self, Write as _};

use sluice_env::Rng;

use crate::client::{self, Client, encode};
use crate::record::{End, Moment, Operation, Timeline};
use crate::register::{KeyOperation, Op, Reply};

/// Operations of one pipeline.
const PIPELINE_MAX: u64 = 6;

/// One connection. It ends with its first error; a new one is another process.
#[derive(Debug)]
pub struct RegisterClient<'a> {
    client: Client,
    process: u32,
    timeline: &'a Timeline,
    keys: u64,
    /// Values written so far: each is new.
    written: i64,
    /// What it did, replies included.
    pub history: Vec<KeyOperation>,
}

impl<'a> RegisterClient<'a> {
    /// `process` is a number of its own, below 2^24; the keys are `register:0` to `keys - 1`.
    pub fn new(client: Client, process: u32, timeline: &'a Timeline, keys: u64) -> Self {
        assert!(process < 1 << 24, "values would not be unique");
        RegisterClient { client, process, timeline, keys, written: 0, history: Vec::new() }
    }

    /// One pipeline, or one WATCH … EXEC.
    ///
    /// # Errors
    /// Those of the connection. What was on its way is in the history with an unknown outcome.
    pub fn step(&mut self, rng: &mut Rng) -> io::Result<()> {
        let key = rng.below(self.keys) as u32;
        if rng.one_in(4) {
            let transaction = rng.one_in(2);
            return self.compare_and_set(key, transaction);
        }
        let count = 1 + if rng.one_in(2) { rng.below(PIPELINE_MAX) } else { 0 };
        let ops: Vec<(u32, Op)> =
            (0..count).map(|_| (rng.below(self.keys) as u32, self.random(rng))).collect();
        self.pipeline(&ops)
    }

    /// A last look at each key.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn read_all(&mut self) -> io::Result<()> {
        let ops: Vec<(u32, Op)> = (0..self.keys as u32).map(|key| (key, Op::Get)).collect();
        self.pipeline(&ops)
    }

    /// A value that nobody else writes: far enough from the others that sums do not meet.
    fn fresh(&mut self) -> i64 {
        self.written += 1;
        (i64::from(self.process) << 36) + (self.written << 12)
    }

    fn random(&mut self, rng: &mut Rng) -> Op {
        match rng.below(20) {
            0..8 => Op::Get,
            8 => Op::Exists,
            9..13 => Op::Set(self.fresh()),
            13 => Op::SetNx(self.fresh()),
            14 => Op::GetSet(self.fresh()),
            15 => Op::GetDel,
            16 => Op::Del,
            _ => Op::IncrBy(1 + rng.below(3) as i64),
        }
    }

    fn pipeline(&mut self, ops: &[(u32, Op)]) -> io::Result<()> {
        let called = self.timeline.now();
        let mut bytes = Vec::new();
        for (key, op) in ops {
            write(&mut bytes, *key, op);
        }
        let first = self.begin(called, ops);
        self.client.socket.write_all(&bytes)?;
        for at in first..self.history.len() {
            let reply = self.client.reply()?;
            self.history[at].end = End::Known {
                at: self.timeline.now(),
                reply: understood(&ops[at - first].1, &reply),
            };
        }
        Ok(())
    }

    /// Enters operations whose replies are to come, and returns the index of the first.
    fn begin(&mut self, called: Moment, ops: &[(u32, Op)]) -> usize {
        let first = self.history.len();
        let process = self.process;
        let entry = |op: &(u32, Op)| Operation { process, called, op: *op, end: End::NEVER_HEARD };
        self.history.extend(ops.iter().map(entry));
        first
    }

    /// WATCH, GET, MULTI, SET, EXEC. `reads`: a GET in the transaction, too, which must see the SET.
    fn compare_and_set(&mut self, key: u32, reads: bool) -> io::Result<()> {
        let (name, new) = (name(key), self.fresh());
        let mut bytes = Vec::new();
        encode(&mut bytes, &["WATCH", &name]);
        encode(&mut bytes, &["GET", &name]);
        let called = self.timeline.now();
        let at = self.begin(called, &[(key, Op::Get)]);
        self.client.socket.write_all(&bytes)?;
        assert_eq!(self.client.reply()?, client::Reply::ok());
        let reply = understood(&Op::Get, &self.client.reply()?);
        self.history[at].end = End::Known { at: self.timeline.now(), reply };
        let Reply::Value(expected) = reply else { unreachable!("a GET gives a value") };
        bytes.clear();
        encode(&mut bytes, &["MULTI"]);
        encode(&mut bytes, &["SET", &name, &new.to_string()]);
        if reads {
            encode(&mut bytes, &["GET", &name]);
        }
        encode(&mut bytes, &["EXEC"]);
        let called = self.timeline.now();
        let at = self.begin(called, &[(key, Op::Cas { expected, new })]);
        self.client.socket.write_all(&bytes)?;
        for _ in 0..2 + usize::from(reads) {
            let reply = self.client.reply()?;
            assert!(matches!(reply, client::Reply::Simple(_)), "{reply:?}");
        }
        let reply = self.client.reply()?;
        let mut done = vec![client::Reply::ok()];
        done.extend(reads.then(|| client::Reply::Bulk(new.to_string().into_bytes())));
        let did = reply == client::Reply::Array(done);
        assert!(did || reply == client::Reply::Nil, "EXEC was answered {reply:?}");
        self.history[at].end = End::Known { at: self.timeline.now(), reply: Reply::Flag(did) };
        Ok(())
    }
}

fn name(key: u32) -> String {
    format!("register:{key}")
}

fn write(bytes: &mut Vec<u8>, key: u32, op: &Op) {
    let name = name(key);
    match op {
        Op::Get => encode(bytes, &["GET", &name]),
        Op::Exists => encode(bytes, &["EXISTS", &name]),
        Op::Set(value) => encode(bytes, &["SET", &name, &value.to_string()]),
        Op::SetNx(value) => encode(bytes, &["SETNX", &name, &value.to_string()]),
        Op::GetSet(value) => encode(bytes, &["GETSET", &name, &value.to_string()]),
        Op::GetDel => encode(bytes, &["GETDEL", &name]),
        Op::Del => encode(bytes, &["DEL", &name]),
        Op::IncrBy(by) => encode(bytes, &["INCRBY", &name, &by.to_string()]),
        Op::Cas { .. } => unreachable!("it is several commands"),
    }
}

fn understood(op: &Op, reply: &client::Reply) -> Reply {
    let number = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text.parse().unwrap_or_else(|_| panic!("{op:?} was answered {text:?}"))
    };
    match (op, reply) {
        (Op::Set(_), client::Reply::Simple(text)) if text == "OK" => Reply::Ok,
        (Op::Get | Op::GetSet(_) | Op::GetDel, client::Reply::Nil) => Reply::Value(None),
        (Op::Get | Op::GetSet(_) | Op::GetDel, client::Reply::Bulk(bytes)) => {
            Reply::Value(Some(number(bytes)))
        }
        (Op::Exists | Op::SetNx(_) | Op::Del, client::Reply::Integer(value @ 0..=1)) => {
            Reply::Flag(*value == 1)
        }
        (Op::IncrBy(_), client::Reply::Integer(value)) => Reply::Number(*value),
        _ => panic!("{op:?} was answered {reply:?}"),
    }
}
