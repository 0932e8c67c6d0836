//! An open table: point reads, and the blocks that iterators walk.
//!
//! Opening reads footer, properties, index and filter, and pins the last two; of an index in two
//! levels the upper. After that a read touches data blocks and partitions of the index only, through
//! the cache. A table never changes, so nothing here locks, and
//! a damaged block fails the reads that need it and no others.

use std::{
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
};

use sluice_base::{Error, ErrorKind, FileNo, Result, Trailer, checksum};
use sluice_env::{File, Fs, OpenMode};

use crate::{
    block::Block,
    cache::BlockCache,
    envelope,
    fault::Fault,
    filter::{Filter, filter_hash},
    footer::{Extents, Footer},
    format::{FOOTER_BYTES, block_kind},
    index::{BlockStats, Handle, Index},
    properties::Properties,
    schema::{KeySchema, Schema},
    two_level::{IndexWalker, PartitionSource, TableIndex, TopIndex},
};

/// An open table. Shared as `Arc<Table>`.
#[derive(Debug)]
pub struct Table {
    file: Arc<dyn File>,
    path: PathBuf,
    file_no: FileNo,
    file_bytes: u64,
    cache: Arc<BlockCache>,
    cache_table: u64,
    footer: Footer,
    extents: Extents,
    index: TableIndex,
    filter: Option<Filter>,
    prefix_filter: Option<Filter>,
    properties: Properties,
    /// Resolved once, here: blocks are parsed with it.
    schema: Arc<KeySchema>,
}

impl Table {
    /// Opens the table at `path`. A file that is cut, padded or damaged in what is read here is
    /// [`ErrorKind::Corruption`], one of a newer format or with key
    /// fields that this build does not know [`ErrorKind::Unsupported`].
    pub fn open(
        fs: &Arc<dyn Fs>,
        path: &Path,
        file_no: FileNo,
        cache: &Arc<BlockCache>,
    ) -> Result<Table> {
        let io = |error| Error::io(format!("open table {}", path.display()), error);
        let file = fs.open(path, OpenMode::Read).map_err(io)?;
        let file_bytes = file.len().map_err(io)?;
        let Some(footer_at) = file_bytes.checked_sub(FOOTER_BYTES as u64) else {
            let expected = format!("a table of at least {FOOTER_BYTES} bytes");
            return Err(Error::corruption(path, 0, expected, format!("{file_bytes} bytes")));
        };
        let mut raw = [0; FOOTER_BYTES];
        read_exact(&*file, path, &mut raw, footer_at)?;
        let footer = Footer::decode(&raw, file_bytes).map_err(|fault| fault.at(path, footer_at))?;

        let properties_at = footer.properties.offset;
        let at_properties = |fault: Fault| fault.at(path, properties_at);
        let payload = read_payload(&*file, path, footer.properties)?;
        let crc = checksum::crc32c(&payload);
        if crc != footer.properties_crc {
            return Err(at_properties(Fault::damaged(
                format!("properties checksum {:08x}", footer.properties_crc),
                format!("{crc:08x}"),
            )));
        }
        let properties = Properties::decode(&payload).map_err(at_properties)?;
        let schema =
            resolve_schema(&properties.schema, footer.schema_hash).map_err(at_properties)?;

        let index_at = footer.index.offset;
        let payload = read_payload(&*file, path, footer.index)?;
        let extents = footer.extents(&properties).map_err(at_properties)?;
        let index = if properties.partition_bytes > 0 {
            let partitions = extents.data_end..extents.partitions_end;
            let blocks = properties.data_blocks;
            TopIndex::parse(payload, partitions, blocks, &schema).map(TableIndex::Two)
        } else {
            Index::parse(payload, block_kind::INDEX, 0..extents.data_end, &schema)
                .map(TableIndex::One)
        };
        let index = index.map_err(|fault| fault.at(path, index_at))?;
        if index.blocks() as u64 != properties.data_blocks {
            let expected = format!("an index of {} blocks", properties.data_blocks);
            return Err(Fault::damaged(expected, index.blocks()).at(path, index_at));
        }
        let filter = if footer.filter == Handle::default() {
            None
        } else {
            let payload = read_payload(&*file, path, footer.filter)?;
            Some(Filter::parse(&payload).map_err(|fault| fault.at(path, footer.filter.offset))?)
        };
        let prefix_filter = if extents.prefix_filter.bytes == 0 {
            None
        } else {
            let fields = properties.prefix_filter_fields;
            if fields > schema.delimited_fields() as u64 {
                let what = format!("a filter on {fields} fields of keys of {schema}");
                return Err(at_properties(Fault::unsupported(what)));
            }
            let payload = read_payload(&*file, path, extents.prefix_filter)?;
            let at = extents.prefix_filter.offset;
            Some(Filter::parse(&payload).map_err(|fault| fault.at(path, at))?)
        };
        Ok(Table {
            file,
            path: path.to_owned(),
            file_no,
            file_bytes,
            cache: Arc::clone(cache),
            cache_table: cache.next_table(),
            footer,
            extents,
            index,
            filter,
            prefix_filter,
            properties,
            schema: Arc::new(schema),
        })
    }

    /// Uses `schema` for the schema of its own, when they are the same: tables of one schema then
    /// share one in memory.
    pub fn share_schema(&mut self, schema: &Arc<KeySchema>) {
        if self.schema == *schema {
            self.schema = Arc::clone(schema);
        }
    }

    /// The newest entry of `key` at or after `seek` in the internal order, that is, with a trailer
    /// of at most `seek`. `hash` is [`crate::filter_hash`] of the key.
    #[inline]
    pub fn get(
        &self,
        key: &[u8],
        hash: u64,
        seek: Trailer,
    ) -> Result<Option<(Trailer, PinnedValue)>> {
        if let Some(filter) = &self.filter
            && !filter.may_contain(hash)
        {
            return Ok(None);
        }
        let Some(handle) = self.locate(key, seek)? else { return Ok(None) };
        let block = self.block_at(handle, true)?;
        // Past the block's end nothing of this key follows: the separator says so.
        let (row, equal) = block.find(key, seek);
        if !equal {
            return Ok(None);
        }
        let trailer = block.trailer(row);
        let (start, end) = block.value_range(row);
        Ok(Some((trailer, PinnedValue { block, start: start as u32, end: end as u32 })))
    }

    /// Whether the filter lets `hash` pass; true without a filter.
    #[inline]
    pub fn may_contain(&self, hash: u64) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.may_contain(hash))
    }

    /// False only when no key of the table begins with `prefix`. That is known of tables with a filter
    /// of prefixes, if `prefix` begins with as many whole fields as that has
    /// ([`crate::TableOptions::filter_fields`]).
    pub fn may_contain_prefix(&self, prefix: &[u8]) -> bool {
        let Some(filter) = &self.prefix_filter else { return true };
        let fields = self.properties.prefix_filter_fields as usize;
        match self.schema.prefix_end(prefix, fields) {
            Some(end) => filter.may_contain(filter_hash(&prefix[..end])),
            None => true,
        }
    }

    pub fn file_no(&self) -> FileNo {
        self.file_no
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// How the table's keys split into columns.
    pub fn schema(&self) -> &Arc<KeySchema> {
        &self.schema
    }

    /// Bytes of index and filter, which stay in memory as long as the table is open. Partitions of an
    /// index in two levels are in the cache, and not counted here.
    pub fn pinned_bytes(&self) -> usize {
        let filters = self.filter.iter().chain(&self.prefix_filter).map(Filter::memory_bytes);
        self.index.memory_bytes() + filters.sum::<usize>()
    }

    /// About where in the file entries at or after `key` begin: the difference of two such offsets
    /// estimates the size of a range. Where a partition of the index cannot be read, a little less.
    pub fn approximate_offset(&self, key: &[u8]) -> u64 {
        match self.locate(key, Trailer(u64::MAX)) {
            Ok(Some(handle)) => handle.offset,
            Ok(None) => self.extents.data_end,
            Err(_) => match &self.index {
                TableIndex::Two(top) => top.data_of(top.index().find(key, Trailer(u64::MAX))).start,
                TableIndex::One(_) => 0,
            },
        }
    }

    /// How many data blocks the table has.
    #[inline]
    pub fn blocks(&self) -> usize {
        self.index.blocks()
    }

    /// How many partitions the index has; 0 when it has one level.
    pub fn index_partitions(&self) -> usize {
        match &self.index {
            TableIndex::One(_) => 0,
            TableIndex::Two(top) => top.partitions(),
        }
    }

    /// What the index says of data block `at`, `None` behind the last. May read a partition of the
    /// index.
    pub fn block_stats(&self, at: usize) -> Result<Option<BlockStats>> {
        if at >= self.index.blocks() {
            return Ok(None);
        }
        IndexWalker::new(PartitionSource::Cache).stats(self, at).map(Some)
    }

    /// The data block that can hold an entry of `key` at or after `trailer`, `None` past the end.
    #[inline]
    fn locate(&self, key: &[u8], trailer: Trailer) -> Result<Option<Handle>> {
        match &self.index {
            TableIndex::One(index) => {
                let at = index.find(key, trailer);
                Ok((at < index.blocks()).then(|| index.handle(at)))
            }
            TableIndex::Two(top) => {
                let partition = top.index().find(key, trailer);
                if partition == top.partitions() {
                    return Ok(None);
                }
                let index = self.partition(partition, PartitionSource::Cache)?;
                let at = index.find(key, trailer);
                Ok((at < index.blocks()).then(|| index.handle(at)))
            }
        }
    }

    /// Partition `at` of an index in two levels.
    pub(crate) fn partition(&self, at: usize, source: PartitionSource) -> Result<Arc<Index>> {
        let TableIndex::Two(top) = &self.index else {
            return Err(Error::invalid("this table's index has no partitions; please report it"));
        };
        let handle = top.index().handle(at);
        let cached = match source {
            PartitionSource::Cache => self.cache.get_partition(self.cache_table, handle.offset),
            PartitionSource::Peek => self.cache.peek_partition(self.cache_table, handle.offset),
            PartitionSource::File => None,
        };
        if let Some(index) = cached {
            return Ok(index);
        }
        let payload = read_payload(&*self.file, &self.path, handle)?;
        let index = top
            .parse_partition(at, payload, &self.schema)
            .map_err(|fault| fault.at(&self.path, handle.offset))?;
        let index = Arc::new(index);
        if source == PartitionSource::Cache {
            self.cache.insert_partition(self.cache_table, handle.offset, &index);
        }
        Ok(index)
    }

    #[inline]
    pub(crate) fn index(&self) -> &TableIndex {
        &self.index
    }

    pub(crate) fn extents(&self) -> &Extents {
        &self.extents
    }

    pub(crate) fn footer(&self) -> &Footer {
        &self.footer
    }

    pub(crate) fn filter(&self) -> Option<&Filter> {
        self.filter.as_ref()
    }

    pub(crate) fn file(&self) -> &dyn File {
        &*self.file
    }

    /// A cached block for a reader that must not disturb the cache.
    pub(crate) fn peek(&self, handle: Handle) -> Option<Arc<Block>> {
        self.cache.peek(self.cache_table, handle.offset)
    }

    /// The data block at `handle`, from the cache or from the file.
    #[inline]
    pub(crate) fn block_at(&self, handle: Handle, fill_cache: bool) -> Result<Arc<Block>> {
        let cached = if fill_cache {
            self.cache.get(self.cache_table, handle.offset)
        } else {
            self.peek(handle)
        };
        match cached {
            Some(block) => Ok(block),
            None => self.load(handle, fill_cache),
        }
    }

    #[cold]
    fn load(&self, handle: Handle, fill_cache: bool) -> Result<Arc<Block>> {
        let block = Arc::new(self.parse(handle, read_payload(&*self.file, &self.path, handle)?)?);
        if fill_cache {
            self.cache.insert(self.cache_table, handle.offset, &block);
        }
        Ok(block)
    }

    pub(crate) fn parse(&self, handle: Handle, payload: Box<[u8]>) -> Result<Block> {
        Block::parse(payload, &self.schema).map_err(|fault| fault.at(&self.path, handle.offset))
    }
}

/// The schema that a table describes. Refuses one that this build cannot read, and a descriptor
/// that is not the footer's.
fn resolve_schema(schema: &Schema, hash: u64) -> Result<KeySchema, Fault> {
    if schema.hash() != hash {
        return Err(Fault::damaged(
            format!("schema hash {hash:016x}"),
            format!("{:016x}", schema.hash()),
        ));
    }
    KeySchema::from_descriptor(schema.clone())
        .map_err(|error| Fault::unsupported(format!("{error} ({hash:016x})")))
}

/// Reads and opens the block at `handle`, whose bounds the footer or the index vouched for.
pub(crate) fn read_payload(file: &dyn File, path: &Path, handle: Handle) -> Result<Box<[u8]>> {
    let bytes = usize::try_from(handle.bytes)
        .map_err(|_| Error::new(ErrorKind::Unsupported, "a block beyond this machine's memory"))?;
    let mut stored = vec![0; bytes];
    read_exact(file, path, &mut stored, handle.offset)?;
    envelope::open_owned(stored).map_err(|fault| fault.at(path, handle.offset))
}

/// Fills `buf`; a file that ends early has been cut since it was opened.
pub(crate) fn read_exact(file: &dyn File, path: &Path, buf: &mut [u8], offset: u64) -> Result<()> {
    file.read_exact_at(buf, offset).map_err(|error| {
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            let expected = format!("{} bytes", buf.len());
            Error::corruption(path, offset, expected, "the end of the file")
        } else {
            Error::io(format!("read table {} at {offset}", path.display()), error)
        }
    })
}

/// A value that keeps its block alive and borrows from it.
#[derive(Debug, Clone)]
pub struct PinnedValue {
    block: Arc<Block>,
    start: u32,
    end: u32,
}

impl Deref for PinnedValue {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.block.bytes()[self.start as usize..self.end as usize]
    }
}

impl AsRef<[u8]> for PinnedValue {
    fn as_ref(&self) -> &[u8] {
        self
    }
}
