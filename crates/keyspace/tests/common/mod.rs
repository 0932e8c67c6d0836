//! What tests of data directories share: a stepped engine on a file system in memory, so small that
//! memtables fill and segments end within a few keys.

use sluicedb::{
    Background, Options,
    env::{Env, ManualClock, MemFs, OsThreads},
};
use std::sync::Arc;

/// The moment at which the tests live.
pub const NOW_MS: u64 = 1_700_000_000_000;

pub fn options(fs: &Arc<MemFs>, reserve_bytes: u64) -> Options {
    Options {
        env: Env {
            fs: Arc::<MemFs>::clone(fs),
            clock: Arc::new(ManualClock::new(NOW_MS)),
            threads: Arc::new(OsThreads),
        },
        background: Background::Stepped,
        memtable_bytes: 64 << 10,
        memory_budget: 1 << 20,
        wal_segment_bytes: 4096,
        wal_max_bytes: 1 << 20,
        block_bytes: 512,
        reserve_bytes: Some(reserve_bytes),
        ..Options::default()
    }
}
