//! What a table's file holds and what each column costs, as data, for whoever shows it to people.
//! Prints nothing. Reads past the block cache; nothing here is on the path of a read.
//!
//! ```text
//! Inspection     footer, properties, filter: known since the open
//! BlockFacts     one data block: its place, its columns and how they are encoded     one read each
//! ColumnTotals   the sum of those over all blocks
//! InspectedRow   an entry with its key split into fields
//! ```
//!
//! ```
//! use std::{path::Path, sync::Arc};
//!
//! use sluice_base::{FileNo, Kind, SeqNo, Trailer};
//! use sluice_env::{Fs, MemFs};
//! use sluice_table::{BlockCache, KeySchema, Table, TableOptions, TableWriter};
//!
//! # fn main() -> sluice_base::Result<()> {
//! let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
//! let path = Path::new("/000001.sst");
//! let schema = Arc::new(KeySchema::parse("orders", 1, "shop u16, rest")?);
//! let options = TableOptions { schema, ..TableOptions::default() };
//! let mut writer = TableWriter::create(&fs, path, FileNo(1), options)?;
//! writer.add(b"\0\x07pen", Trailer::new(SeqNo(1), Kind::Put), b"3")?;
//! writer.finish()?;
//!
//! let table = Table::open(&fs, path, FileNo(1), &BlockCache::new(0))?;
//! assert_eq!(table.inspect().schema.to_string(), "shop u16, rest");
//! let totals = table.inspect_columns()?;
//! let shop = &totals.columns[0];
//! assert_eq!((shop.name.as_str(), shop.encodings[0].0), ("key shop", "integers"));
//! table.for_each_row(0..table.blocks(), |row| {
//!     assert_eq!(format!("{:?}", row.fields.as_ref().unwrap()[0]), "Number(7)");
//!     true
//! })?;
//! # Ok(())
//! # }
//! ```

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use sluice_base::{Kind, Result, Trailer};

use crate::{
    column::{Column, KeyCursor},
    envelope,
    field_stats::FieldBounds,
    format::{BLOCK_TRAILER_BYTES, FOOTER_BYTES, FORMAT_VERSION, block_kind, compression, role},
    index::BlockStats,
    layout::Layout,
    properties::Properties,
    schema::{FieldType, FieldValue, KeySchema},
    table::{Table, read_exact},
    two_level::{IndexWalker, PartitionSource},
};

/// A stretch of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilePart {
    pub name: &'static str,
    pub offset: u64,
    pub bytes: u64,
}

/// The filter, in short.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FilterFacts {
    pub probes: u8,
    pub bits_per_key: f64,
}

/// What is known of a table once it is open.
#[derive(Debug, Clone)]
pub struct Inspection {
    pub path: PathBuf,
    pub file_bytes: u64,
    pub format_version: u32,
    /// In file order, without gaps.
    pub parts: Vec<FilePart>,
    pub schema: Arc<KeySchema>,
    /// Of the schema's descriptor; the third part of its identity.
    pub schema_hash: u64,
    pub properties: Properties,
    pub filter: Option<FilterFacts>,
    /// How many partitions the index has; 0: it has one level.
    pub index_partitions: usize,
    /// Bytes that stay in memory while the table is open.
    pub pinned_bytes: usize,
}

/// A column of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnFacts {
    pub role: u8,
    /// `key ts` for a field of the key, else what `docs/format/table.md` calls the role.
    pub name: String,
    pub encoding: &'static str,
    pub bytes: u64,
}

/// What the index says of a key field of a block: where its values lie, rows whose keys do not split
/// left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRange {
    pub name: String,
    /// Numbers as applications know them. Of bytes: the first 16 of what stands in the key.
    pub min: FieldValue<'static>,
    pub max: FieldValue<'static>,
}

/// One data block.
#[derive(Debug, Clone)]
pub struct BlockFacts {
    pub offset: u64,
    /// In the file, envelope included.
    pub bytes: u64,
    pub unpacked_bytes: u64,
    pub compression: &'static str,
    /// The head and the directory of columns.
    pub head_bytes: u64,
    pub stats: BlockStats,
    /// At or behind the last entry, before the first of the next block.
    pub separator: (Vec<u8>, Trailer),
    /// Of the key fields that the index has statistics of.
    pub bounds: Vec<FieldRange>,
    pub columns: Vec<ColumnFacts>,
}

/// A column, summed over all data blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnTotal {
    pub role: u8,
    pub name: String,
    /// The encodings it has, each with the number of blocks; most blocks first.
    pub encodings: Vec<(&'static str, u64)>,
    pub bytes: u64,
}

/// All data blocks of a table, column by column. Bytes are before compression, but for
/// `stored_bytes`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnTotals {
    pub blocks: u64,
    /// How many of the blocks are kept compressed.
    pub compressed_blocks: u64,
    pub stored_bytes: u64,
    pub unpacked_bytes: u64,
    pub head_bytes: u64,
    /// As the index says: rows in all, in the smallest and in the largest block; tombstones; keys that
    /// do not split.
    pub rows: u64,
    pub rows_min: u64,
    pub rows_max: u64,
    pub tombstones: u64,
    pub exceptions: u64,
    /// In the order of their roles: the fields of the key first.
    pub columns: Vec<ColumnTotal>,
}

/// One entry.
#[derive(Debug)]
pub struct InspectedRow<'a> {
    pub block: usize,
    /// Within the block.
    pub row: usize,
    pub key: &'a [u8],
    /// `None` for a key that does not split: it is kept whole.
    pub fields: Option<Vec<FieldValue<'a>>>,
    pub trailer: Trailer,
    /// The entry deletes its key.
    pub is_tombstone: bool,
    pub value: &'a [u8],
}

impl Table {
    /// What the open table says of itself. Reads nothing.
    pub fn inspect(&self) -> Inspection {
        let (footer, properties) = (self.footer(), self.properties());
        let (mut parts, mut offset) = (Vec::new(), 0);
        for (name, bytes) in [
            ("data", properties.data_bytes),
            ("index parts", properties.partition_bytes),
            ("prefix filter", properties.prefix_filter_bytes),
            ("filter", footer.filter.bytes),
            ("index", footer.index.bytes),
            ("properties", footer.properties.bytes),
        ] {
            if bytes > 0 {
                parts.push(FilePart { name, offset, bytes });
            }
            // The open has checked that there are no gaps and that all of it is in the file.
            offset += bytes;
        }
        let footer_bytes = FOOTER_BYTES as u64;
        parts.push(FilePart { name: "footer", offset, bytes: footer_bytes });
        Inspection {
            path: self.path().to_owned(),
            file_bytes: self.file_bytes(),
            format_version: FORMAT_VERSION,
            parts,
            schema: Arc::clone(self.schema()),
            schema_hash: footer.schema_hash,
            properties: properties.clone(),
            filter: self.filter().map(|filter| FilterFacts {
                probes: filter.probes(),
                bits_per_key: filter.memory_bytes() as f64 * 8.0 / properties.keys.max(1) as f64,
            }),
            index_partitions: self.index_partitions(),
            pinned_bytes: self.pinned_bytes(),
        }
    }

    /// Reads data block `at` and describes it, `None` behind the last.
    ///
    /// # Errors
    /// Damage in the block, named by file and offset; what the system refuses.
    pub fn inspect_block(&self, at: usize) -> Result<Option<BlockFacts>> {
        if at >= self.blocks() {
            return Ok(None);
        }
        self.inspect_at(&mut IndexWalker::new(PartitionSource::Peek), at).map(Some)
    }

    /// Reads all data blocks and shows what they are to `each`, in order, until it returns false.
    ///
    /// # Errors
    /// As [`Table::inspect_block`].
    pub fn for_each_block(&self, mut each: impl FnMut(usize, BlockFacts) -> bool) -> Result<()> {
        let mut walker = IndexWalker::new(PartitionSource::Peek);
        for at in 0..self.blocks() {
            if !each(at, self.inspect_at(&mut walker, at)?) {
                break;
            }
        }
        Ok(())
    }

    fn inspect_at(&self, walker: &mut IndexWalker, at: usize) -> Result<BlockFacts> {
        let (index, row) = walker.locate(self, at)?;
        let (handle, stats, separator) =
            (index.handle(row), index.stats(row), index.separator(row));
        let types = self.schema().types().iter().zip(&self.properties().schema.fields);
        let bounds = types.enumerate().filter_map(|(number, (of_type, field))| {
            Some(field_range(&field.name, *of_type, index.field_bounds(row, number)?))
        });
        let bounds = bounds.collect();
        let mut stored = vec![0; handle.bytes as usize];
        read_exact(self.file(), self.path(), &mut stored, handle.offset)?;
        let kind = stored.len().checked_sub(BLOCK_TRAILER_BYTES).map(|at| stored[at]);
        let payload =
            envelope::open_owned(stored).map_err(|fault| fault.at(self.path(), handle.offset))?;
        let layout = Layout::parse(&payload, block_kind::DATA)
            .map_err(|fault| fault.at(self.path(), handle.offset))?;
        let columns: Vec<ColumnFacts> =
            layout.columns().iter().map(|column| self.column_facts(column)).collect();
        let unpacked_bytes = payload.len() as u64;
        Ok(BlockFacts {
            offset: handle.offset,
            bytes: handle.bytes,
            unpacked_bytes,
            compression: kind.map_or("unknown", compression::name),
            head_bytes: unpacked_bytes - columns.iter().map(|column| column.bytes).sum::<u64>(),
            stats,
            separator,
            bounds,
            columns,
        })
    }

    fn column_facts(&self, column: &Column) -> ColumnFacts {
        let field = column.role.wrapping_sub(role::KEY_FIELD);
        let name = match self.properties().schema.fields.get(usize::from(field)) {
            Some(field) => format!("key {}", field.name),
            None => role::name(column.role).to_owned(),
        };
        let encoding = crate::format::encoding::name(column.encoding);
        ColumnFacts { role: column.role, name, encoding, bytes: column.bytes() as u64 }
    }

    /// Reads all data blocks and adds their columns up.
    ///
    /// # Errors
    /// Those of [`Table::inspect_block`], of the first block that has one.
    pub fn inspect_columns(&self) -> Result<ColumnTotals> {
        let mut totals = ColumnTotals::default();
        self.for_each_block(|_, block| {
            totals.add(block);
            true
        })?;
        totals.columns.sort_by_key(|column| column.role);
        for column in &mut totals.columns {
            column.encodings.sort_by_key(|(name, blocks)| (u64::MAX - blocks, *name));
        }
        Ok(totals)
    }

    /// Shows the entries of these data blocks to `each`, in order, until it returns false. Blocks
    /// behind the last are none.
    ///
    /// # Errors
    /// Damage in a block, named by file and offset; what the system refuses.
    pub fn for_each_row(
        &self,
        blocks: Range<usize>,
        mut each: impl FnMut(&InspectedRow<'_>) -> bool,
    ) -> Result<()> {
        let mut walker = IndexWalker::new(PartitionSource::Peek);
        for at in blocks.start..blocks.end.min(self.blocks()) {
            let block = self.block_at(walker.handle(self, at)?, false)?;
            let (mut cursor, mut ends) = (KeyCursor::new(), Vec::new());
            let schema = self.schema();
            for row in 0..block.rows() {
                // A splitter may not be here, and is not needed.
                let splits = if schema.is_custom() {
                    block.split_row(&mut cursor, row, &mut ends)
                } else {
                    block.move_cursor(&mut cursor, row);
                    schema.split_ends(cursor.key(), &mut ends)
                };
                let (key, trailer) = (cursor.key(), block.trailer(row));
                let goes_on = each(&InspectedRow {
                    block: at,
                    row,
                    key,
                    fields: splits.then(|| schema.values(key, &ends)).flatten(),
                    trailer,
                    is_tombstone: trailer.kind() == Some(Kind::Delete),
                    value: block.value(row),
                });
                if !goes_on {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The index has what stands in the key: a descending integer is its complement, and the largest first.
fn field_range(name: &str, of_type: FieldType, bounds: FieldBounds) -> FieldRange {
    let (min, max) = match (bounds, of_type) {
        (FieldBounds::Numbers(min, max), FieldType::Uint { width, desc: true }) => {
            let all = u64::MAX >> (64 - 8 * width.bytes());
            let turned = |number: u64| FieldValue::Number(all.saturating_sub(number));
            (turned(max), turned(min))
        }
        (FieldBounds::Numbers(min, max), _) => (FieldValue::Number(min), FieldValue::Number(max)),
        (FieldBounds::Strings(min, max), _) => {
            (FieldValue::Bytes(min.into_vec().into()), FieldValue::Bytes(max.into_vec().into()))
        }
    };
    FieldRange { name: name.to_owned(), min, max }
}

impl ColumnTotals {
    fn add(&mut self, block: BlockFacts) {
        self.blocks += 1;
        self.compressed_blocks += u64::from(block.compression != compression::name(0));
        self.stored_bytes += block.bytes;
        self.unpacked_bytes += block.unpacked_bytes;
        self.head_bytes += block.head_bytes;
        // A damaged index may claim any number.
        let rows = block.stats.rows;
        self.rows_min = if self.blocks == 1 { rows } else { self.rows_min.min(rows) };
        self.rows_max = self.rows_max.max(rows);
        self.rows = self.rows.saturating_add(rows);
        self.tombstones = self.tombstones.saturating_add(block.stats.tombstones);
        self.exceptions = self.exceptions.saturating_add(block.stats.exceptions);
        for ColumnFacts { role, name, encoding, bytes } in block.columns {
            let known = self.columns.iter().position(|column| column.role == role);
            let index = known.unwrap_or_else(|| {
                self.columns.push(ColumnTotal { role, name, encodings: Vec::new(), bytes: 0 });
                self.columns.len() - 1
            });
            let column = &mut self.columns[index];
            column.bytes += bytes;
            match column.encodings.iter_mut().find(|(known, _)| *known == encoding) {
                Some((_, blocks)) => *blocks += 1,
                None => column.encodings.push((encoding, 1)),
            }
        }
    }
}

/// Opens the table in a file that belongs to no database that is open here. Only reads.
///
/// # Errors
/// As [`Table::open`].
pub fn open_to_inspect(fs: &Arc<dyn sluice_env::Fs>, path: &Path) -> Result<Arc<Table>> {
    let cache = crate::BlockCache::new(0);
    Table::open(fs, path, sluice_base::FileNo(0), &cache).map(Arc::new)
}
