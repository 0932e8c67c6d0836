//! How fast the log takes frames, on the real file system. Prints; asserts nothing.
//!
//! `cargo run --release -p sluice-wal --example wal_bench -- DIR [SECONDS]`; DIR must be on the
//! device to measure (a tmpfs has no syncs to speak of) and is removed afterwards.

use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use sluice_base::{FileNo, SeqNo, checksum::crc32c};
use sluice_env::Env;
use sluice_wal::{FrameInfo, Lsn, Wal, WalOptions};

const PAYLOAD: [u8; 137] = [0x5a; 137];

fn open(env: &Env, dir: &Path) -> sluice_base::Result<Wal> {
    let next = AtomicU64::new(1);
    let numbers = Arc::new(move || FileNo(next.fetch_add(1, Ordering::Relaxed)));
    let options = WalOptions::default();
    let (wal, _) = Wal::recover(env, dir, options, FileNo(0), numbers, 1, &mut |_| Ok(()))?;
    Ok(wal)
}

/// One commit: what the engine does under its commit lock.
fn commit(wal: &Wal, next: &Mutex<u64>) -> sluice_base::Result<Lsn> {
    let crc = crc32c(&PAYLOAD);
    let mut next = next.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let lsn = wal.append(FrameInfo { first_seq: SeqNo(*next), count: 1 }, &PAYLOAD, crc)?;
    *next += 1;
    Ok(lsn)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().ok_or("usage: wal_bench DIR [SECONDS]")?);
    let limit_us = args.next().map_or(Ok(2), |text| text.parse::<u64>())? * 1_000_000;
    let env = Env::os();
    std::fs::create_dir(&dir)?;
    let result = measure(&env, &dir, limit_us);
    std::fs::remove_dir_all(&dir)?;
    result
}

fn measure(env: &Env, dir: &Path, limit_us: u64) -> Result<(), Box<dyn Error>> {
    let wal = open(env, dir)?;
    let mut seq = 1;

    // Syncs first: the unsynced phases below leave dirty pages whose write-back would slow them.
    for threads in [1, 4, 16, 50] {
        let next = Mutex::new(seq);
        let (before, from) = (wal.stats(), env.clock.monotonic_us());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while env.clock.monotonic_us() - from < limit_us {
                        if let Err(error) = commit(&wal, &next).and_then(|lsn| wal.sync(lsn)) {
                            return eprintln!("{error}");
                        }
                    }
                });
            }
        });
        let commits = *next.lock().map_err(|_| "a committer panicked")? - seq;
        let (after, commit_rate) = (wal.stats(), rate(commits, env, from));
        let syncs = after.syncs - before.syncs;
        println!(
            "append + sync, {threads} threads: {commit_rate} per second, {syncs} syncs for {commits} commits"
        );
        seq += commits;
        wal.release(SeqNo(seq))?;
    }

    // Buffer only: fewer frames than the buffer holds between two write-outs outside the clock.
    let (mut spent_us, mut appends) = (0, 0u64);
    while spent_us < limit_us {
        let from = env.clock.monotonic_us();
        for _ in 0..20_000 {
            let info = FrameInfo { first_seq: SeqNo(seq), count: 1 };
            wal.append(info, &PAYLOAD, crc32c(&PAYLOAD))?;
            seq += 1;
        }
        spent_us += env.clock.monotonic_us() - from;
        appends += 20_000;
        wal.write_out(wal.appended_lsn())?;
        wal.release(SeqNo(seq))?;
    }
    println!("append, 137 bytes, into the buffer: {} ns", spent_us * 1000 / appends);

    // Each handed to the operating system before the next.
    let (from, mut writes) = (env.clock.monotonic_us(), 0u64);
    while env.clock.monotonic_us() - from < limit_us {
        let info = FrameInfo { first_seq: SeqNo(seq), count: 1 };
        wal.write_out(wal.append(info, &PAYLOAD, crc32c(&PAYLOAD))?)?;
        seq += 1;
        writes += 1;
    }
    println!("append + write_out, one thread: {} per second", rate(writes, env, from));

    let stats = wal.stats();
    println!(
        "syncs: p50 {} us, p99 {} us, max {} us; {} rotations, {} not prepared; {} recycled",
        stats.sync_us.percentile(50.0),
        stats.sync_us.percentile(99.0),
        stats.sync_us.max(),
        stats.rotations,
        stats.rotations_unprepared,
        stats.segments_recycled,
    );
    wal.close()?;
    Ok(())
}

fn rate(count: u64, env: &Env, from_us: u64) -> u64 {
    count * 1_000_000 / (env.clock.monotonic_us() - from_us).max(1)
}
