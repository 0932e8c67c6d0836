//! Writes a table: rows in, file out, in one pass and in file order.
//!
//! ```text
//! | data block | data block | .. | filter | index | properties | footer |
//! ```
//! Rows collect in a [`BlockBuilder`]; a full block is encoded, sealed and appended to an output
//! buffer that goes to the file in large writes. A block's index row waits until the first key
//! of the next block is known, because the separator lies between the two.
//!
//! Durability: [`TableWriter::finish`] syncs the file's data. The name becomes durable when the
//! caller syncs the directory.

mod runs;

use std::{path::Path, sync::Arc};

use sluice_base::{Error, FileNo, Kind, Result, SeqNo, Trailer, checksum, limits};
use sluice_env::{Fs, OpenMode};

use crate::{
    block_builder::BlockBuilder,
    column::{KeyCursor, common_prefix},
    envelope::{Compression, Sealer, trailer},
    filter::{FilterBuilder, PrefixFilterBuilder},
    footer::Footer,
    format::{
        BLOCK_TRAILER_BYTES, DIRECT_VALUE_BYTES, INDEX_PARTITION_BYTES, compression, footer_flag,
    },
    index::{BlockEntry, BlockStats, Handle, IndexBuilder, shortest_separator},
    output::Output,
    properties::Properties,
    schema::KeySchema,
};

/// Bounds of [`TableOptions::block_bytes`].
pub const BLOCK_BYTES_MIN: usize = 256;
pub const BLOCK_BYTES_MAX: usize = 4 << 20;

/// Most bytes of separators, whole: positions in a block have 32 bits.
const SEPARATOR_BYTES_MAX: usize = 2 << 30;

/// How a table is written.
#[derive(Debug, Clone)]
pub struct TableOptions {
    /// Unpacked bytes of a data block, about; clamped to 256 B .. 4 MiB. A row that is larger gets
    /// a block of its own.
    pub block_bytes: usize,
    pub compression: Compression,
    /// 0 writes no filter.
    pub filter_bits_per_key: u32,
    /// Unpacked bytes of a partition of the index, about. An index of more than twice as many is cut
    /// into such, of which only a small top stays in memory. `usize::MAX`: never.
    pub index_partition_bytes: usize,
    /// A second filter over what the first so many fields of keys are: for iterators that want the keys
    /// of one such prefix. Refused where the schema has fewer fields, `rest` not counted. None by default.
    pub filter_fields: Option<u8>,
    /// How keys split into columns; the table describes it. The whole key by default.
    pub schema: Arc<KeySchema>,
    /// Kept in the properties for whoever inspects the file.
    pub created_unix_ms: u64,
    pub created_by: String,
    pub created_for: String,
}

impl Default for TableOptions {
    fn default() -> Self {
        TableOptions {
            block_bytes: 16 << 10,
            compression: Compression::Lz4,
            filter_bits_per_key: 10,
            filter_fields: None,
            index_partition_bytes: INDEX_PARTITION_BYTES,
            schema: Arc::new(KeySchema::whole_key()),
            created_unix_ms: 0,
            created_by: concat!("sluicedb ", env!("CARGO_PKG_VERSION")).to_owned(),
            created_for: String::new(),
        }
    }
}

/// What a finished table holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSummary {
    pub file_no: FileNo,
    pub smallest: (Vec<u8>, Trailer),
    pub largest: (Vec<u8>, Trailer),
    pub seq_min: SeqNo,
    pub seq_max: SeqNo,
    pub entries: u64,
    pub tombstones: u64,
    pub file_bytes: u64,
    /// Bytes of all keys and values as they were added.
    pub raw_bytes: u64,
}

/// A table being written.
#[derive(Debug)]
pub struct TableWriter {
    fs: Arc<dyn Fs>,
    output: Output,
    file_no: FileNo,
    options: TableOptions,
    block: BlockBuilder,
    sealer: Sealer,
    payload: Vec<u8>,
    index: IndexBuilder,
    filter: FilterBuilder,
    prefixes: Option<PrefixFilterBuilder>,
    /// The block whose index row waits for the next key.
    pending: Option<BlockEntry>,
    /// Last key of the last finished block; the block builder has the later ones.
    block_last_key: Vec<u8>,
    first: Option<(Vec<u8>, Trailer)>,
    last_trailer: Trailer,
    counts: Counts,
    /// Builds the keys of runs.
    cursor: KeyCursor,
    /// An I/O error left the file in an unknown state: nothing more is accepted.
    failed: bool,
}

#[derive(Debug, Default)]
struct Counts {
    entries: u64,
    tombstones: u64,
    keys: u64,
    key_bytes: u64,
    value_bytes: u64,
    trailer_min: u64,
    trailer_max: u64,
}

impl TableWriter {
    /// Creates the file at `path`, which must not exist.
    pub fn create(
        fs: &Arc<dyn Fs>,
        path: &Path,
        file_no: FileNo,
        mut options: TableOptions,
    ) -> Result<TableWriter> {
        options.block_bytes = options.block_bytes.clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX);
        let prefixes =
            |fields| PrefixFilterBuilder::new(&options.schema, fields, options.filter_bits_per_key);
        let prefixes = options.filter_fields.map(prefixes).transpose()?;
        let file = fs
            .open(path, OpenMode::CreateNew)
            .map_err(|error| Error::io(format!("create table {}", path.display()), error))?;
        Ok(TableWriter {
            fs: Arc::clone(fs),
            output: Output::new(file, path),
            file_no,
            block: BlockBuilder::new(&options.schema),
            sealer: Sealer::new(options.compression),
            payload: Vec::new(),
            index: IndexBuilder::new(&options.schema),
            filter: FilterBuilder::new(options.filter_bits_per_key),
            prefixes,
            pending: None,
            block_last_key: Vec::new(),
            first: None,
            last_trailer: Trailer(0),
            counts: Counts { trailer_min: u64::MAX, ..Counts::default() },
            cursor: KeyCursor::new(),
            failed: false,
            options,
        })
    }

    /// Adds the next entry. Entries ascend by key, those of one key descend by trailer; anything
    /// else, a kind that tables do not hold, or a too long key or value is
    /// [`sluice_base::ErrorKind::Invalid`] and leaves the table as it was.
    #[inline]
    pub fn add(&mut self, key: &[u8], trailer: Trailer, value: &[u8]) -> Result<()> {
        let empty = self.block.rows() == 0;
        let last = if empty { &self.block_last_key[..] } else { self.block.last_key() };
        let shared = common_prefix(last, key);
        let same = shared == key.len() && shared == last.len() && self.counts.entries > 0;
        let ordered = if same {
            trailer < self.last_trailer
        } else if shared < last.len() {
            shared < key.len() && last[shared] < key[shared]
        } else {
            true
        };
        if !ordered
            || self.failed
            || key.len() > limits::KEY_BYTES_MAX
            || value.len() > limits::VALUE_BYTES_MAX
            || trailer.0 as u8 > Kind::Put as u8
        {
            return Err(self.refuse(key, trailer, value, ordered));
        }
        let target = self.target();
        if !empty && !self.block.has_room(key.len() + value.len(), target) {
            self.finish_block()?;
        }
        if self.block.rows() == 0 {
            self.begin_block(key, trailer, same)?;
        }
        if value.len() >= DIRECT_VALUE_BYTES {
            self.block.push_without_value(key, shared, same, trailer, value.len());
            self.write_direct_block(value)?;
        } else {
            self.block.push(key, shared, same, trailer, value);
        }
        if !same {
            self.filter.push(key);
            if let Some(prefixes) = &mut self.prefixes {
                prefixes.push(key, shared);
            }
            self.counts.keys += 1;
        }
        self.last_trailer = trailer;
        let counts = &mut self.counts;
        counts.entries += 1;
        counts.tombstones += u64::from(trailer.0 as u8 == Kind::Delete as u8);
        counts.key_bytes += key.len() as u64;
        counts.value_bytes += value.len() as u64;
        counts.trailer_min = counts.trailer_min.min(trailer.0);
        counts.trailer_max = counts.trailer_max.max(trailer.0);
        Ok(())
    }

    /// About how many bytes the file would have if the table were finished now.
    pub fn estimated_bytes(&self) -> u64 {
        let block = self.block.known_bytes();
        let prefixes = self.prefixes.as_ref().map_or(0, PrefixFilterBuilder::estimated_bytes);
        self.output.position()
            + (block + prefixes + self.filter.estimated_bytes() + self.index.estimated_bytes())
                as u64
            + 1024
    }

    pub fn entries(&self) -> u64 {
        self.counts.entries
    }

    /// Writes what is left, syncs the file's data and says what the table holds. A table has at
    /// least one entry: [`TableWriter::abandon`] an empty one. After an error the file is removed.
    pub fn finish(mut self) -> Result<TableSummary> {
        match self.write_rest() {
            Ok(summary) => Ok(summary),
            Err(error) => {
                // The first error is the one that tells the story.
                drop(self.remove());
                Err(error)
            }
        }
    }

    /// Gives up: removes the file.
    pub fn abandon(self) -> Result<()> {
        self.remove()
    }

    fn remove(&self) -> Result<()> {
        let path = &self.output.path;
        self.fs
            .remove_file(path)
            .map_err(|error| Error::io(format!("remove table {}", path.display()), error))
    }

    #[cold]
    fn refuse(&self, key: &[u8], trailer: Trailer, value: &[u8], ordered: bool) -> Error {
        let path = self.output.path.display();
        Error::invalid(if self.failed {
            format!("table {path}: an earlier write failed; abandon it")
        } else if !ordered {
            format!(
                "table {path}: entry {} ({}) at sequence {} is not behind the entry before it; \
                 add keys in ascending order, versions of a key newest first",
                self.counts.entries,
                crate::schema::hex(key),
                trailer.seq()
            )
        } else if key.len() > limits::KEY_BYTES_MAX {
            format!("a key of {} bytes; at most {} are possible", key.len(), limits::KEY_BYTES_MAX)
        } else if value.len() > limits::VALUE_BYTES_MAX {
            let max = limits::VALUE_BYTES_MAX;
            format!("a value of {} bytes; at most {max} are possible", value.len())
        } else {
            format!("entry kind {} does not belong into a table", trailer.0 as u8)
        })
    }

    fn target(&self) -> usize {
        self.options.block_bytes
    }

    /// The first key of a block completes the index row of the block before.
    fn begin_block(&mut self, key: &[u8], trailer: Trailer, same: bool) -> Result<()> {
        if self.first.is_none() {
            self.first = Some((key.to_vec(), trailer));
        }
        let Some(entry) = self.pending.take() else { return Ok(()) };
        if self.index.separator_bytes() > SEPARATOR_BYTES_MAX {
            self.failed = true;
            return Err(Error::invalid("the table's index grew beyond 2 GiB: cut tables sooner"));
        }
        if same {
            self.index.push(&self.block_last_key, self.last_trailer, &entry);
        } else {
            let mut separator = Vec::new();
            shortest_separator(&self.block_last_key, key, &mut separator);
            self.index.push(&separator, Trailer(0), &entry);
        }
        Ok(())
    }

    fn finish_block(&mut self) -> Result<()> {
        self.payload.clear();
        self.block.encode(&mut self.payload);
        let offset = self.output.position();
        let bytes = self.sealer.seal(&self.payload, &mut self.output.buffer);
        self.leave_block(Handle { offset, bytes: bytes as u64 });
        self.output.flush_if_large().inspect_err(|_| self.failed = true)
    }

    /// Finishes a block whose last value is `value`, without copying that.
    fn write_direct_block(&mut self, value: &[u8]) -> Result<()> {
        self.payload.clear();
        self.block.encode(&mut self.payload);
        let offset = self.output.position();
        let crc = checksum::crc32c_append(checksum::crc32c(&self.payload), value);
        let bytes = self.payload.len() + value.len() + BLOCK_TRAILER_BYTES;
        self.output.buffer.extend_from_slice(&self.payload);
        self.leave_block(Handle { offset, bytes: bytes as u64 });
        let written = self.output.write_through(value);
        self.output.buffer.extend_from_slice(&trailer(crc, compression::NONE));
        written.inspect_err(|_| self.failed = true)
    }

    fn leave_block(&mut self, handle: Handle) {
        let stats = BlockStats {
            rows: self.block.rows() as u64,
            tombstones: self.block.tombstones(),
            exceptions: self.block.exceptions(),
            ..BlockStats::default()
        };
        self.pending = Some(BlockEntry { handle, stats, bounds: self.block.field_bounds() });
        self.block_last_key.clear();
        self.block_last_key.extend_from_slice(self.block.last_key());
        self.block.clear();
    }

    fn write_rest(&mut self) -> Result<TableSummary> {
        let Some((smallest_key, smallest_trailer)) = self.first.take() else {
            return Err(Error::invalid("a table holds at least one entry: abandon an empty one"));
        };
        if self.failed {
            return Err(Error::invalid("an earlier write of this table failed: abandon it"));
        }
        if self.block.rows() > 0 {
            self.finish_block()?;
        }
        let data_bytes = self.output.position();
        let largest_key = std::mem::take(&mut self.block_last_key);
        if let Some(entry) = self.pending.take() {
            self.index.push(&largest_key, Trailer(0), &entry);
        }
        let schema = self.options.schema.descriptor().clone();
        let mut footer = Footer { schema_hash: schema.hash(), ..Footer::default() };
        let mut plain = Sealer::new(Compression::None);
        // Not the builder's to say: the rows of a top are partitions.
        let data_blocks = self.index.blocks() as u64;
        self.payload.clear();
        self.index.encode(&mut self.payload);
        self.write_partitions();
        let partition_bytes = self.output.position() - data_bytes;
        if partition_bytes > 0 {
            footer.flags |= footer_flag::TWO_LEVELS;
        }
        let prefix_filter = self.prefixes.as_ref().and_then(|prefixes| {
            let handle = self.output.append(&mut plain, &prefixes.encode()?);
            footer.flags |= footer_flag::PREFIX_FILTER;
            Some((handle.bytes, prefixes.fields()))
        });
        if let Some(filter) = self.filter.encode() {
            footer.filter = self.output.append(&mut plain, &filter);
        }
        footer.index = self.output.append(&mut self.sealer, &self.payload);
        let counts = &self.counts;
        let properties = Properties {
            entries: counts.entries,
            tombstones: counts.tombstones,
            raw_key_bytes: counts.key_bytes,
            raw_value_bytes: counts.value_bytes,
            seq_min: Trailer(counts.trailer_min).seq(),
            seq_max: Trailer(counts.trailer_max).seq(),
            smallest: (smallest_key, smallest_trailer),
            largest: (largest_key, self.last_trailer),
            data_blocks,
            data_bytes,
            filter_bits_per_key: u64::from(self.options.filter_bits_per_key),
            keys: counts.keys,
            expiry_min: 0,
            expiry_max: 0,
            file_no: self.file_no,
            created_unix_ms: self.options.created_unix_ms,
            created_by: std::mem::take(&mut self.options.created_by),
            created_for: std::mem::take(&mut self.options.created_for),
            schema,
            partition_bytes,
            prefix_filter_bytes: prefix_filter.map_or(0, |(bytes, _)| bytes),
            prefix_filter_fields: prefix_filter.map_or(0, |(_, fields)| fields),
        };
        let payload = properties.encode();
        footer.properties_crc = checksum::crc32c(&payload);
        footer.properties = self.output.append(&mut plain, &payload);
        self.output.buffer.extend_from_slice(&footer.encode());
        self.output.flush()?;
        self.output.sync()?;
        Ok(TableSummary {
            file_no: self.file_no,
            raw_bytes: properties.raw_key_bytes + properties.raw_value_bytes,
            smallest: properties.smallest,
            largest: properties.largest,
            seq_min: properties.seq_min,
            seq_max: properties.seq_max,
            entries: properties.entries,
            tombstones: properties.tombstones,
            file_bytes: self.output.written,
        })
    }

    /// Where the index, which is in `payload`, is too large to stay in memory: writes it in parts, and
    /// leaves the index of these in `payload`.
    fn write_partitions(&mut self) {
        let target = self.options.index_partition_bytes.max(1);
        if self.payload.len() / 2 <= target {
            return;
        }
        let blocks = self.index.blocks();
        let rows = blocks.div_ceil(self.payload.len().div_ceil(target)).max(1);
        let mut top = IndexBuilder::new(&self.options.schema);
        for first in (0..blocks).step_by(rows) {
            let rows = first..blocks.min(first + rows);
            self.payload.clear();
            self.index.encode_rows(rows.clone(), &mut self.payload);
            let handle = self.output.append(&mut self.sealer, &self.payload);
            top.push_partition(&self.index, rows, handle);
        }
        self.payload.clear();
        top.encode(&mut self.payload);
    }
}
