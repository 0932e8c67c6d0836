//! Writes one memtable as one table, keeping only what some reader can see.

use crate::{
    Options, Result,
    memtable::{Memtable, MemtableIter},
    rewrite::Keeper,
    snapshot::Stripes,
    tables::TableStore,
    version::{InternalKey, TableMeta},
};
use sluice_base::FileNo;
use sluice_table::{KeySchema, TableOptions, TableSummary, TableWriter};
use std::sync::Arc;

/// A table made from a memtable; `table` is `None` when nothing was left to write.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub table: Option<TableMeta>,
    pub entries: u64,
    pub dropped: u64,
}

/// Which table a memtable becomes.
#[derive(Debug)]
pub(crate) struct TableTarget {
    pub file: FileNo,
    pub schema: Arc<KeySchema>,
    /// Nothing older of the family is anywhere, so tombstones have nothing to hide.
    pub bottom: bool,
}

/// How tables for `level` are written.
pub(crate) fn table_options(options: &Options, level: u8, schema: Arc<KeySchema>) -> TableOptions {
    TableOptions {
        schema,
        created_unix_ms: options.env.clock.unix_ms(),
        block_bytes: options.block_bytes as usize,
        compression: if level < 2 {
            options.compression_upper.into()
        } else {
            options.compression_lower.into()
        },
        filter_bits_per_key: options.filter_bits_per_key,
        ..TableOptions::default()
    }
}

/// Writes and syncs the table; the caller syncs the directory.
pub(crate) fn write_memtable(
    store: &TableStore,
    options: &Options,
    memtable: &Arc<Memtable>,
    target: TableTarget,
    stripes: &Stripes,
    created_ms: u64,
) -> Result<Written> {
    let TableTarget { file, schema, bottom } = target;
    let mut written = Written::default();
    let mut keeper = Keeper::new(stripes.clone());
    let mut iter = MemtableIter::new(Arc::clone(memtable));
    let mut writer: Option<TableWriter> = None;
    let path = store.path(file);
    let mut more = iter.seek_to_first();
    while more {
        let (key, trailer) = (iter.key(), iter.trailer());
        if keeper.keep(key, trailer, |_| bottom) {
            let writer = match &mut writer {
                Some(writer) => writer,
                None => {
                    let options = table_options(options, 0, Arc::clone(&schema));
                    writer.insert(TableWriter::create(&store.fs, &path, file, options)?)
                }
            };
            if let Err(error) = writer.add(key, trailer, iter.value()) {
                store.discard(file);
                return Err(error);
            }
            written.entries += 1;
        } else {
            written.dropped += 1;
        }
        more = iter.next();
    }
    if let Some(writer) = writer {
        match writer.finish() {
            Ok(summary) => written.table = Some(meta(file, &summary, created_ms)),
            Err(error) => {
                store.discard(file);
                return Err(error);
            }
        }
    }
    Ok(written)
}

/// What the manifest records of a table just written.
pub(crate) fn meta(file: FileNo, summary: &TableSummary, created_ms: u64) -> TableMeta {
    TableMeta {
        file,
        bytes: summary.file_bytes,
        entries: summary.entries,
        tombstones: summary.tombstones,
        smallest: InternalKey::new(summary.smallest.0.as_slice(), summary.smallest.1),
        largest: InternalKey::new(summary.largest.0.as_slice(), summary.largest.1),
        min_seq: summary.seq_min,
        max_seq: summary.seq_max,
        schema: 0,
        created_ms,
    }
}
