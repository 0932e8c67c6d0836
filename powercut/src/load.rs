//! The load on a running machine: writers of every kind, one that syncs and flushes, and the hand
//! that cuts the power in the middle of it.
//!
//! Threads: each writer owns its track. Others read how many of its operations are answered, before
//! they send what becomes a barrier.

use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluice_env::Rng;

use crate::disk::Disk;
use crate::guest::Guest;
use crate::ledger::{Barrier, Ledger, Track};
use crate::ops::{Op, State};
use crate::plan::{Ack, Plan, WRITERS};
use crate::{Result, panic_text};
use sluice_histories::client::{Client, Reply};

const PIPELINE_MAX: u64 = 12;
/// The log of the disk is in memory: 256 MiB end a boot before its time.
const LOG_BYTES_MAX: u64 = 256 << 20;

#[derive(Debug)]
struct Shared<'a> {
    plan: &'a Plan,
    disk: &'a Disk,
    address: &'a str,
    answered: Vec<AtomicUsize>,
    barriers: Mutex<Vec<Barrier>>,
    /// The power goes: errors of connections are no news any more.
    ending: AtomicBool,
    failure: Mutex<Option<String>>,
}

impl Shared<'_> {
    /// How many operations of each writer are answered; 0 where `covers` is false.
    fn counts(&self, covers: impl Fn(usize) -> bool) -> Vec<usize> {
        let count = |writer: usize| match covers(writer) {
            true => self.answered[writer].load(Ordering::Acquire),
            false => 0,
        };
        (0..WRITERS).map(count).collect()
    }

    fn logged(&self) -> Vec<usize> {
        self.counts(|writer| self.plan.is_logged(writer))
    }

    /// Its reply has come.
    fn push(&self, counts: Vec<usize>) {
        let barrier = Barrier { stamp: self.disk.position(), counts };
        self.barriers.lock().unwrap_or_else(PoisonError::into_inner).push(barrier);
    }

    /// Runs a client until the power goes. Anything else that ends it is a failure.
    fn guard(&self, name: &str, work: impl FnOnce() -> io::Result<()>) {
        let ended = catch_unwind(AssertUnwindSafe(work));
        let said = match ended {
            Ok(_) if self.ending.load(Ordering::Acquire) => return,
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic_text(&panic),
        };
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert_with(|| format!("{name}: {said}"));
    }
}

/// Loads the server until the plan's end, cuts the power, and returns the record.
pub fn run(
    guest: &mut Guest,
    plan: &Plan,
    bases: Vec<State>,
    first_serial: u64,
    rng: &mut Rng,
) -> (Ledger, Result<()>) {
    let (disk, address) = (guest.disk.clone(), guest.address.clone());
    let shared = Shared {
        plan,
        disk: &disk,
        address: &address,
        answered: (0..WRITERS).map(|_| AtomicUsize::new(0)).collect(),
        barriers: Mutex::default(),
        ending: AtomicBool::new(false),
        failure: Mutex::default(),
    };
    let mut tracks: Vec<Track> = bases
        .into_iter()
        .enumerate()
        .map(|(writer, base)| Track { base, durable: plan.is_durable(writer), ..Track::default() })
        .collect();
    let load = Duration::from_millis(plan.load_ms);
    std::thread::scope(|scope| {
        for (writer, track) in tracks.iter_mut().enumerate() {
            let mut rng = Rng::new(rng.next_u64());
            let shared = &shared;
            scope.spawn(move || {
                let name = format!("writer {writer} ({:?})", plan.ack(writer));
                shared.guard(&name, || write(shared, writer, track, first_serial, &mut rng));
            });
        }
        let mut rng = Rng::new(rng.next_u64());
        let shared = &shared;
        scope.spawn(move || shared.guard("the one that syncs", || sync(shared, &mut rng)));
        let began = Instant::now();
        let failed = || shared.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        while began.elapsed() < load && disk.log_bytes() < LOG_BYTES_MAX && !failed() {
            std::thread::sleep(Duration::from_millis(2));
        }
        shared.ending.store(true, Ordering::Release);
        guest.cut();
    });
    let failure = shared.failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    let barriers = shared.barriers.into_inner().unwrap_or_else(PoisonError::into_inner);
    (Ledger { tracks, barriers }, failure.map_or(Ok(()), Err))
}

fn write(
    shared: &Shared<'_>,
    writer: usize,
    track: &mut Track,
    first_serial: u64,
    rng: &mut Rng,
) -> io::Result<()> {
    let mut client = Client::connect(shared.address)?;
    let ack = match shared.plan.ack(writer) {
        Ack::Default => "DEFAULT",
        Ack::Memory => "MEMORY",
        Ack::Os => "OS",
        Ack::Disk => "DISK",
    };
    expect(client.ask(&["CLIENT", "ACK", ack])?, Reply::ok())?;
    let mut now = track.base.clone();
    while !shared.ending.load(Ordering::Acquire) {
        let before = shared.logged();
        let (first, mut bytes) = (track.ops.len(), Vec::new());
        for _ in 0..=rng.below(PIPELINE_MAX) {
            let op = Op::random(writer, first_serial + track.ops.len() as u64, rng);
            op.encode(&mut bytes);
            track.ops.push(op);
        }
        client.socket.write_all(&bytes)?;
        let mut writes = false;
        for op in &track.ops[first..] {
            op.read_replies(&mut client, &now)?;
            op.apply(&mut now, |_, _| {});
            track.stamps.push(shared.disk.position());
            shared.answered[writer].fetch_add(1, Ordering::Release);
            // A GET, and a DEL of what is not there, write nothing and so promise nothing.
            writes |= matches!(op, Op::Set(..) | Op::Incr(_) | Op::Many { .. });
        }
        if writes && track.durable {
            // The log is one: what others had been answered before is in front of it (P1).
            shared.push(before);
        } else if writes && shared.plan.is_logged(writer) && rng.one_in(8) {
            let before = shared.logged();
            let reply = client.ask(&["WAITAOF", "1", "0", "0"])?;
            expect(reply, Reply::Array(vec![Reply::Integer(1), Reply::Integer(0)]))?;
            // Only its own last write and what is in front of that.
            let own = before[writer];
            let mut counts = vec![0; WRITERS];
            counts[writer] = own;
            shared.push(counts);
        }
    }
    Ok(())
}

/// Makes everything durable, in one of the ways there are, again and again.
fn sync(shared: &Shared<'_>, rng: &mut Rng) -> io::Result<()> {
    let mut client = Client::connect(shared.address)?;
    while !shared.ending.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(rng.below(150)));
        match rng.below(3) {
            0 => {
                let counts = shared.logged();
                expect_position(client.ask(&["FLUSHWAL"])?)?;
                shared.push(counts);
            }
            1 => {
                let counts = shared.logged();
                expect_position(client.ask(&["WAL", "SYNC"])?)?;
                shared.push(counts);
            }
            _ if !shared.plan.flushes => {}
            _ => {
                // Tables hold what was not logged, too.
                let counts = shared.counts(|_| true);
                expect(client.ask(&["FLUSHMEMTABLE"])?, Reply::ok())?;
                shared.push(counts);
            }
        }
    }
    Ok(())
}

/// A sync is answered with the position that it made durable.
fn expect_position(reply: Reply) -> io::Result<()> {
    match reply {
        Reply::Bulk(_) => Ok(()),
        other => expect(other, Reply::Bulk(b"a position".into())),
    }
}

fn expect(reply: Reply, fitting: Reply) -> io::Result<()> {
    if reply == fitting {
        return Ok(());
    }
    Err(io::Error::other(format!("the server answered {reply:?} instead of {fitting:?}")))
}
