//! The index of a large table, in two levels: *partitions*, which are index blocks over some data
//! blocks each, and a *top* with a row a partition. Only the top stays in memory as long as the table
//! is open; partitions come through the block cache, and are checked when they are loaded.
//!
//! ```text
//! | data block 0 .. | partition 0 | partition 1 | ..        top: separator, offset, bytes, sums,
//!                   data end                                   statistics of each partition
//! ```
//! Data blocks keep their numbers, from 0 through all partitions. [`IndexWalker`] turns a number into an
//! index and a row, for both kinds of tables.
//!
//! Invariant: a partition that was loaded says of its blocks what the top says: how many, of how many
//! bytes, rows, tombstones and exceptions, and up to which separator.

use std::{ops::Range, sync::Arc};

use sluice_base::{Result, Trailer};

use crate::{
    fault::Fault,
    format::block_kind,
    index::{BlockStats, Handle, Index},
    predicate::KeyPredicate,
    schema::KeySchema,
    table::Table,
};

/// The upper level.
#[derive(Debug)]
pub struct TopIndex {
    index: Index,
    /// The first data block of each partition, and behind them the number of blocks.
    first_blocks: Box<[usize]>,
    /// Where the data of each partition begins, and behind them where all data ends.
    data_starts: Box<[u64]>,
}

impl TopIndex {
    /// Parses and checks an unpacked top index, whose partitions fill `partitions` of the file and whose
    /// `blocks` data blocks all that is before.
    pub fn parse(
        bytes: Box<[u8]>,
        partitions: Range<u64>,
        blocks: u64,
        schema: &KeySchema,
    ) -> Result<TopIndex, Fault> {
        let data_end = partitions.start;
        let index = Index::parse(bytes, block_kind::TOP_INDEX, partitions, schema)?;
        let (mut first_blocks, mut data_starts) = (vec![0], vec![0]);
        let (mut block, mut start) = (0u64, 0u64);
        for partition in 0..index.blocks() {
            let (count, bytes) = index.part(partition);
            if count == 0 || count > blocks - block || bytes > data_end - start {
                return Err(Fault::damaged(
                    format!("partitions of {blocks} blocks, {data_end} bytes"),
                    format!("partition {partition} of {count} blocks, {bytes} bytes"),
                ));
            }
            block += count;
            start += bytes;
            first_blocks.push(usize::try_from(block).unwrap_or(usize::MAX));
            data_starts.push(start);
        }
        if block != blocks || start != data_end {
            return Err(Fault::damaged(
                format!("partitions of {blocks} blocks, {data_end} bytes"),
                format!("{block} blocks, {start} bytes"),
            ));
        }
        Ok(TopIndex { index, first_blocks: first_blocks.into(), data_starts: data_starts.into() })
    }

    /// The rows of the top, one a partition.
    pub fn index(&self) -> &Index {
        &self.index
    }

    pub fn partitions(&self) -> usize {
        self.index.blocks()
    }

    /// Data blocks, over all partitions.
    pub fn blocks(&self) -> usize {
        self.first_blocks[self.partitions()]
    }

    pub fn memory_bytes(&self) -> usize {
        self.index.memory_bytes() + self.first_blocks.len() * 16
    }

    /// The numbers of the data blocks of a partition.
    #[inline]
    pub fn blocks_of(&self, partition: usize) -> Range<usize> {
        self.first_blocks[partition]..self.first_blocks[partition + 1]
    }

    /// Where the data of a partition lies in the file.
    pub fn data_of(&self, partition: usize) -> Range<u64> {
        self.data_starts[partition]..self.data_starts[partition + 1]
    }

    /// The partition of data block `at`, which there is.
    #[inline]
    pub fn partition_of(&self, at: usize) -> usize {
        self.first_blocks.partition_point(|&first| first <= at) - 1
    }

    /// Parses a partition, and compares it with what the top says of it.
    pub fn parse_partition(
        &self,
        partition: usize,
        bytes: Box<[u8]>,
        schema: &KeySchema,
    ) -> Result<Index, Fault> {
        let index = Index::parse(bytes, block_kind::INDEX, self.data_of(partition), schema)?;
        let blocks = self.blocks_of(partition).len();
        let last = index.separator(index.blocks() - 1);
        if index.blocks() != blocks || last != self.index.separator(partition) {
            let expected = format!("{blocks} blocks up to the separator that the top names");
            return Err(Fault::damaged(expected, format!("{} blocks", index.blocks())));
        }
        let (found, expected) = (index.totals(), self.index.stats(partition));
        if (found.rows, found.tombstones, found.exceptions)
            != (expected.rows, expected.tombstones, expected.exceptions)
        {
            return Err(Fault::damaged(format!("{expected:?}"), format!("{found:?}")));
        }
        Ok(index)
    }
}

/// The index of a table.
#[derive(Debug)]
pub enum TableIndex {
    One(Index),
    Two(TopIndex),
}

impl TableIndex {
    pub fn blocks(&self) -> usize {
        match self {
            TableIndex::One(index) => index.blocks(),
            TableIndex::Two(top) => top.blocks(),
        }
    }

    /// Bytes that stay in memory as long as the table is open.
    pub fn memory_bytes(&self) -> usize {
        match self {
            TableIndex::One(index) => index.memory_bytes(),
            TableIndex::Two(top) => top.memory_bytes(),
        }
    }
}

/// Where partitions come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionSource {
    /// The cache, which keeps what had to be read.
    Cache,
    /// The cache, which is not changed.
    Peek,
    /// The file.
    File,
}

/// What walks over the blocks of a table holds: the partition that it is in.
#[derive(Debug)]
pub struct IndexWalker {
    source: PartitionSource,
    partition: Option<(usize, Arc<Index>)>,
}

impl IndexWalker {
    pub fn new(source: PartitionSource) -> IndexWalker {
        IndexWalker { source, partition: None }
    }

    /// The index that has data block `at`, which there is, and its row there.
    #[inline]
    pub fn locate<'a>(&'a mut self, table: &'a Table, at: usize) -> Result<(&'a Index, usize)> {
        match table.index() {
            TableIndex::One(index) => Ok((index, at)),
            TableIndex::Two(top) => {
                let partition = match &self.partition {
                    Some((partition, _)) if top.blocks_of(*partition).contains(&at) => *partition,
                    _ => top.partition_of(at),
                };
                let row = at - top.blocks_of(partition).start;
                Ok((self.load(table, partition)?, row))
            }
        }
    }

    /// [`IndexWalker::locate`] of a block in the partition that it is in.
    pub fn peek<'a>(&'a self, table: &'a Table, at: usize) -> Option<(&'a Index, usize)> {
        match table.index() {
            TableIndex::One(index) => Some((index, at)),
            TableIndex::Two(top) => {
                let (partition, index) = self.partition.as_ref()?;
                let blocks = top.blocks_of(*partition);
                blocks.contains(&at).then(|| (&**index, at - blocks.start))
            }
        }
    }

    pub fn handle(&mut self, table: &Table, at: usize) -> Result<Handle> {
        self.locate(table, at).map(|(index, row)| index.handle(row))
    }

    pub fn stats(&mut self, table: &Table, at: usize) -> Result<BlockStats> {
        self.locate(table, at).map(|(index, row)| index.stats(row))
    }

    /// The first block that can hold an entry at or after (`key`, `trailer`); the number of blocks when
    /// all entries are before.
    #[inline]
    pub fn find(&mut self, table: &Table, key: &[u8], trailer: Trailer) -> Result<usize> {
        match table.index() {
            TableIndex::One(index) => Ok(index.find(key, trailer)),
            TableIndex::Two(top) => {
                let partition = top.index().find(key, trailer);
                if partition == top.partitions() {
                    return Ok(top.blocks());
                }
                let index = self.load(table, partition)?;
                Ok(top.blocks_of(partition).start + index.find(key, trailer))
            }
        }
    }

    /// The first of `blocks` that may have a row that matches `predicate`, by the statistics.
    /// Partitions that have none are not loaded.
    pub fn first_match(
        &mut self,
        table: &Table,
        predicate: &KeyPredicate,
        mut blocks: Range<usize>,
    ) -> Result<Option<usize>> {
        let top = match table.index() {
            TableIndex::One(index) => {
                return Ok(blocks.find(|&at| index.may_match(at, predicate)));
            }
            TableIndex::Two(top) => top,
        };
        while !blocks.is_empty() {
            let partition = top.partition_of(blocks.start);
            let Range { start, end } = top.blocks_of(partition);
            if top.index().may_match(partition, predicate) {
                let index = self.load(table, partition)?;
                let mut rows = blocks.start - start..end.min(blocks.end) - start;
                if let Some(row) = rows.find(|&row| index.may_match(row, predicate)) {
                    return Ok(Some(start + row));
                }
            }
            blocks.start = end;
        }
        Ok(None)
    }

    /// The last of `blocks` that may have a row that matches `predicate`, by the statistics.
    pub fn last_match(
        &mut self,
        table: &Table,
        predicate: &KeyPredicate,
        mut blocks: Range<usize>,
    ) -> Result<Option<usize>> {
        let top = match table.index() {
            TableIndex::One(index) => {
                return Ok(blocks.rfind(|&at| index.may_match(at, predicate)));
            }
            TableIndex::Two(top) => top,
        };
        while !blocks.is_empty() {
            let partition = top.partition_of(blocks.end - 1);
            let first = top.blocks_of(partition).start;
            if top.index().may_match(partition, predicate) {
                let index = self.load(table, partition)?;
                let mut rows = blocks.start.max(first) - first..blocks.end - first;
                if let Some(row) = rows.rfind(|&row| index.may_match(row, predicate)) {
                    return Ok(Some(first + row));
                }
            }
            blocks.end = first;
        }
        Ok(None)
    }

    /// Partition `partition` of `table`, which has such.
    pub fn load(&mut self, table: &Table, partition: usize) -> Result<&Index> {
        let held = match self.partition.take() {
            Some(held) if held.0 == partition => held,
            _ => (partition, table.partition(partition, self.source)?),
        };
        Ok(&self.partition.insert(held).1)
    }
}
