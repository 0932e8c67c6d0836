//! A log to test: its file system, its numbers, and what a replay of it gives.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sluice_base::{FileNo, Result, SeqNo, checksum::crc32c};
use sluice_env::{Env, Fs, ManualClock, MemFs, OsThreads, Rng};
use sluice_wal::{FileNumbers, FrameInfo, Lsn, RecoveryMode, RecoveryReport, Wal, WalOptions};

pub const DIR: &str = "/db";

/// An appended or replayed frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rec {
    pub seq: u64,
    pub count: u32,
    pub payload: Vec<u8>,
}

impl Rec {
    pub fn new(seq: u64, payload: &[u8]) -> Rec {
        Rec { seq, count: 1, payload: payload.to_vec() }
    }

    pub fn random(rng: &mut Rng, seq: u64, bytes_max: u64) -> Rec {
        let mut payload = vec![0; rng.below(bytes_max) as usize];
        rng.fill(&mut payload);
        Rec { seq, count: 1 + rng.below(3) as u32, payload }
    }

    pub fn next_seq(&self) -> u64 {
        self.seq + u64::from(self.count)
    }
}

/// The world of one test: what stays the same over crashes and openings.
#[derive(Clone)]
pub struct World {
    pub clock: Arc<ManualClock>,
    pub numbers: Arc<AtomicU64>,
    pub epoch: u32,
    pub options: WalOptions,
    pub first_needed: FileNo,
}

impl World {
    /// Small segments, no threads.
    pub fn new() -> World {
        World {
            clock: Arc::new(ManualClock::new(1_700_000_000_000)),
            numbers: Arc::new(AtomicU64::new(1)),
            epoch: 0,
            options: WalOptions {
                segment_bytes: 4096,
                sync_interval: Duration::ZERO,
                background: false,
                ..WalOptions::default()
            },
            first_needed: FileNo(0),
        }
    }

    pub fn with(mode: RecoveryMode) -> World {
        let mut world = World::new();
        world.options.recovery = mode;
        world
    }

    /// Opens the log on `fs`, and says what was replayed.
    pub fn open(&mut self, fs: Arc<dyn Fs>) -> Result<(Wal, RecoveryReport, Vec<Rec>)> {
        let env = Env { fs: fs.clone(), clock: self.clock.clone(), threads: Arc::new(OsThreads) };
        let numbers = self.numbers.clone();
        let numbers: FileNumbers = Arc::new(move || FileNo(numbers.fetch_add(1, Ordering::SeqCst)));
        self.epoch += 1;
        let mut seen = Vec::new();
        let (wal, report) = Wal::recover(
            &env,
            Path::new(DIR),
            self.options.clone(),
            self.first_needed,
            numbers,
            self.epoch,
            &mut |frame| {
                seen.push(Rec {
                    seq: frame.first_seq.0,
                    count: frame.count,
                    payload: frame.payload.to_vec(),
                });
                Ok(())
            },
        )?;
        Ok((wal, report, seen))
    }

    /// What a replay of `fs` as it would be found by another process gives. `fs` is not changed.
    pub fn replay(&mut self, fs: &MemFs) -> Result<(RecoveryReport, Vec<Rec>)> {
        let copy = fs.kill_clone();
        let (_wal, report, seen) = self.open(Arc::new(copy))?;
        Ok((report, seen))
    }
}

/// A file system with the log's directory in it.
pub fn disk() -> Arc<MemFs> {
    let disk = Arc::new(MemFs::new());
    disk.create_dir_all(Path::new(DIR)).unwrap();
    disk.sync_all();
    disk
}

pub fn append(wal: &Wal, rec: &Rec) -> Result<Lsn> {
    let info = FrameInfo { first_seq: SeqNo(rec.seq), count: rec.count };
    wal.append(info, &rec.payload, crc32c(&rec.payload))
}

/// The path of a segment.
pub fn path(number: u64) -> PathBuf {
    sluice_wal::segment_path(Path::new(DIR), FileNo(number))
}

/// A log of `recs` in one segment, written out, all but the last frame synced before the last one
/// was appended; with its number.
pub fn one_segment(recs: &[Rec]) -> (MemFs, u64) {
    let disk = disk();
    let (wal, _, _) = World::new().open(disk.clone()).unwrap();
    let (last, before) = recs.split_last().unwrap();
    for rec in before {
        append(&wal, rec).unwrap();
    }
    wal.sync(wal.appended_lsn()).unwrap();
    let lsn = append(&wal, last).unwrap();
    wal.write_out(lsn).unwrap();
    let number = wal.first_segment().0;
    // What another process would find; closing would seal the log.
    (disk.kill_clone(), number)
}

/// The seeds of a random test. `SLUICE_SEED` runs one of them, `SLUICE_SEEDS` that many.
pub fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let range = match number("SLUICE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SLUICE_SEEDS").unwrap_or(count),
    };
    range.inspect(|seed| println!("seed {seed} (SLUICE_SEED={seed} runs it alone)"))
}
