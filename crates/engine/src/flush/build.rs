//! Writes one memtable as tables, keeping only what some reader can see: one table, or one for each
//! range of key schemas.

use crate::{
    Options, Result,
    memtable::{Memtable, MemtableIter},
    rewrite::Keeper,
    schemas::{RangeCursor, RangeMap},
    snapshot::Stripes,
    tables::TableStore,
    version::{InternalKey, TableMeta},
};
use sluice_base::{FileNo, Trailer};
use sluice_table::{KeySchema, TableOptions, TableSummary, TableWriter};
use std::sync::Arc;

/// What a memtable became: a table for each range of key schemas in which something was left to
/// write, in key order.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub tables: Vec<TableMeta>,
    pub entries: u64,
    pub dropped: u64,
}

/// Which tables a memtable becomes.
pub(crate) struct TableTarget<'a> {
    /// The next file number.
    pub file: &'a dyn Fn() -> FileNo,
    /// Where tables end, and the schema of each.
    pub schemas: &'a Arc<RangeMap>,
    /// Nothing older of the family is anywhere, so tombstones have nothing to hide.
    pub bottom: bool,
}

/// How tables for `level` are written.
pub(crate) fn table_options(
    options: &Options,
    level: u8,
    schema: Arc<KeySchema>,
    filter_fields: Option<u8>,
) -> TableOptions {
    TableOptions {
        schema,
        filter_fields,
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

/// Writes and syncs the tables; the caller syncs the directory. Leaves nothing behind on failure.
pub(crate) fn write_memtable(
    store: &TableStore,
    options: &Options,
    memtable: &Arc<Memtable>,
    target: &TableTarget<'_>,
    stripes: &Stripes,
    created_ms: u64,
) -> Result<Written> {
    let mut tables = Tables {
        store,
        options,
        file: target.file,
        cursor: RangeCursor::new(target.schemas),
        created_ms,
        open: None,
        done: Vec::new(),
    };
    match write(&mut tables, memtable, target.bottom, stripes) {
        Ok(written) => Ok(Written { tables: tables.done, ..written }),
        Err(error) => {
            if let Some((file, ..)) = tables.open.take() {
                store.discard(file);
            }
            tables.done.iter().for_each(|meta| store.discard(meta.file));
            Err(error)
        }
    }
}

fn write(
    tables: &mut Tables<'_>,
    memtable: &Arc<Memtable>,
    bottom: bool,
    stripes: &Stripes,
) -> Result<Written> {
    let mut written = Written::default();
    let mut keeper = Keeper::new(stripes.clone());
    let mut iter = MemtableIter::new(Arc::clone(memtable));
    let mut more = iter.seek_to_first();
    while more {
        let (key, trailer) = (iter.key(), iter.trailer());
        if keeper.keep(key, trailer, |_| bottom) {
            tables.add(key, trailer, iter.value())?;
            written.entries += 1;
        } else {
            written.dropped += 1;
        }
        more = iter.next();
    }
    tables.cut()?;
    Ok(written)
}

/// The tables of one memtable, one after the other.
struct Tables<'a> {
    store: &'a TableStore,
    options: &'a Options,
    file: &'a dyn Fn() -> FileNo,
    cursor: RangeCursor,
    created_ms: u64,
    /// The table being written: its number, the index of its schema.
    open: Option<(FileNo, u32, TableWriter)>,
    done: Vec<TableMeta>,
}

impl Tables<'_> {
    fn add(&mut self, key: &[u8], trailer: Trailer, value: &[u8]) -> Result<()> {
        if self.cursor.advance(key) {
            self.cut()?;
        }
        let (_, _, writer) = match &mut self.open {
            Some(open) => open,
            None => {
                let (index, schema) = self.cursor.schema();
                let file = (self.file)();
                let options = table_options(self.options, 0, schema, self.cursor.filter_fields());
                let path = self.store.path(file);
                let writer = TableWriter::create(&self.store.fs, &path, file, options)?;
                self.open.insert((file, index, writer))
            }
        };
        writer.add(key, trailer, value)
    }

    fn cut(&mut self) -> Result<()> {
        let Some((file, schema, writer)) = self.open.take() else { return Ok(()) };
        match writer.finish() {
            Ok(summary) => {
                if !self.done.is_empty() {
                    sluice_env::probe!("flush: a memtable became several tables");
                }
                self.done.push(meta(file, schema, &summary, self.created_ms));
                Ok(())
            }
            Err(error) => {
                self.store.discard(file);
                Err(error)
            }
        }
    }
}

/// What the manifest records of a table just written under the schema of index `schema`.
pub(crate) fn meta(
    file: FileNo,
    schema: u32,
    summary: &TableSummary,
    created_ms: u64,
) -> TableMeta {
    TableMeta {
        file,
        bytes: summary.file_bytes,
        entries: summary.entries,
        tombstones: summary.tombstones,
        smallest: InternalKey::new(summary.smallest.0.as_slice(), summary.smallest.1),
        largest: InternalKey::new(summary.largest.0.as_slice(), summary.largest.1),
        min_seq: summary.seq_min,
        max_seq: summary.seq_max,
        schema,
        created_ms,
    }
}
