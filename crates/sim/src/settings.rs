//! Options at random: so small that memtables fill, tables split, segments end and levels grow
//! within a few hundred writes.

use sluice_env::{Env, Rng};
use sluicedb::{Ack, Background, Compression, Options, Tunables};
use std::time::Duration;

/// The options of one opening, and how its writes are logged.
#[derive(Debug, Clone)]
pub struct Settings {
    pub options: Options,
    pub logging: Logging,
    /// Acknowledgements to draw from.
    pub acks: Vec<Ack>,
}

/// Which writes go into the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logging {
    All,
    None,
    Some,
}

fn one<T: Clone>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.below(of.len() as u64) as usize].clone()
}

impl Settings {
    pub fn new(seed: u64, env: Env) -> Settings {
        let rng = &mut Rng::new(seed);
        let logging = match rng.below(6) {
            0..=2 => Logging::All,
            3 => Logging::None,
            _ => Logging::Some,
        };
        let acks = match rng.below(4) {
            0 => vec![Ack::Memory],
            1 => vec![Ack::Memory, Ack::Os],
            2 => vec![Ack::Os, Ack::Disk],
            _ => vec![Ack::Memory, Ack::Memory, Ack::Os, Ack::Os, Ack::Os, Ack::Disk],
        };
        let compression = [Compression::None, Compression::Lz4];
        let l0_compaction_trigger = 2 + rng.below(3) as u32;
        let tunables = tunables(rng);
        let options = Options {
            env,
            background: Background::Stepped,
            table_bytes: 4096 << rng.below(3),
            level_base_bytes: 8192 << rng.below(3),
            block_bytes: one(rng, &[512, 512, 1024, 4096]),
            filter_bits_per_key: one(rng, &[0, 2, 10]),
            compression_upper: one(rng, &compression),
            compression_lower: one(rng, &compression),
            l0_compaction_trigger,
            l0_slowdown: one(rng, &[4, 20]),
            l0_stop: l0_compaction_trigger + one(rng, &[3, 30]),
            reserve_bytes: one(rng, &[None, Some(0), Some(64 << 10)]),
            ..Options::default()
        };
        Settings { options: options.with_tunables(&tunables), logging, acks }
    }
}

/// What can change while a database runs.
pub fn tunables(rng: &mut Rng) -> Tunables {
    let some = |rng: &mut Rng, ms: u64| Duration::from_millis(rng.below(3) * ms);
    let wal_segment_bytes = 4096 << rng.below(4);
    Tunables {
        memtable_bytes: 4096 << rng.below(3),
        memtable_count: 2 + rng.below(4) as u32,
        memory_budget: 64 << 10 << rng.below(4),
        wal_segment_bytes,
        wal_max_bytes: wal_segment_bytes << (1 + rng.below(6)),
        flush_age: some(rng, 1500),
        flush_idle: some(rng, 700),
        flush_tombstones: rng.below(4) * 5,
        // At the assumed 100 MiB a second a millisecond of the log is 100 KiB.
        recovery_time_target: some(rng, 1),
        wal_sync_interval: some(rng, 500),
        flush_threads: 1,
    }
}
