//! What the tests share: building a table in a memory file system from a sorted list.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{path::Path, sync::Arc};

use sluice_base::{FileNo, Kind, SeqNo, Trailer};
use sluice_env::{Fs, MemFs};
use sluice_table::{BlockCache, Table, TableOptions, TableSummary, TableWriter};

pub const PATH: &str = "/000007.sst";

/// Key, trailer, value.
pub type Entry = (Vec<u8>, Trailer, Vec<u8>);

pub fn put(key: &[u8], seq: u64, value: &[u8]) -> Entry {
    (key.to_vec(), Trailer::new(SeqNo(seq), Kind::Put), value.to_vec())
}

pub fn delete(key: &[u8], seq: u64) -> Entry {
    (key.to_vec(), Trailer::new(SeqNo(seq), Kind::Delete), Vec::new())
}

pub fn mem_fs() -> (Arc<MemFs>, Arc<dyn Fs>) {
    let mem = Arc::new(MemFs::new());
    (Arc::clone(&mem), mem)
}

pub fn build(fs: &Arc<dyn Fs>, entries: &[Entry], options: TableOptions) -> TableSummary {
    let mut writer = TableWriter::create(fs, Path::new(PATH), FileNo(7), options).unwrap();
    for (key, trailer, value) in entries {
        writer.add(key, *trailer, value).unwrap();
    }
    writer.finish().unwrap()
}

pub fn open(fs: &Arc<dyn Fs>, cache: &Arc<BlockCache>) -> sluice_base::Result<Arc<Table>> {
    Table::open(fs, Path::new(PATH), FileNo(7), cache).map(Arc::new)
}
