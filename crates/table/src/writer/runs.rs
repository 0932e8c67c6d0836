//! Takes over rows of other tables: a whole block as it is in the file, other rows one after the other
//! without the questions that their order has answered.
//!
//! A block is copied when its table has the same schema, and neither it nor the block that must end
//! before it is much smaller than blocks are: else tables would crumble from merge to merge. Its bytes,
//! statistics and checksum stay; its keys are built for the filter and the sums. Packed otherwise than
//! this table wants, its payload is packed anew. What is out of order inside a copied block stays so, as a
//! reader of the source would find it; between blocks the writer checks as always.

use sluice_base::Result;

use super::TableWriter;
use crate::{
    column::{KeyCursor, common_prefix},
    envelope::Compression,
    index::{BlockEntry, Handle},
    run::RowRun,
};

/// What a row costs in a block besides its key and value: an upper bound, about.
const RUN_ROW_BYTES: usize = 16;

impl TableWriter {
    /// Adds the entries of `run`, in order, as [`TableWriter::add`] would. A whole block of a table under
    /// the same schema is copied as it is in the file where the block before it may end here.
    pub fn add_run(&mut self, run: &RowRun<'_>) -> Result<()> {
        self.cursor.leave_block();
        if self.takes_block(run)
            && let Some(entry) = run.entry()
        {
            let mut cursor = std::mem::take(&mut self.cursor);
            run.move_cursor(&mut cursor, 0);
            let last = self.last_key();
            let added = match self.counts.entries == 0 || last < cursor.key() {
                true => self.add_block(run, entry, &mut cursor),
                false => self.add(cursor.key(), run.trailer(0), run.block.value(0)), // refuses it
            };
            self.cursor = cursor;
            return added;
        }
        let mut cursor = std::mem::take(&mut self.cursor);
        let mut row = run.rows.start;
        while row < run.rows.end {
            run.move_cursor(&mut cursor, row);
            self.add(cursor.key(), run.trailer(row), run.block.value(row))?;
            row = self.add_fitting(run, row + 1, &mut cursor);
        }
        self.cursor = cursor;
        Ok(())
    }

    /// Adds those of the rows from `row` on that have room in the present block whatever comes out of
    /// them, and says which is the next: none of that is asked for each of them.
    fn add_fitting(&mut self, run: &RowRun<'_>, mut row: usize, cursor: &mut KeyCursor) -> usize {
        if self.block.rows() == 0 {
            return row;
        }
        let mut room = self.target().saturating_sub(self.block.estimated_bytes());
        let counts = &mut self.counts;
        while row < run.rows.end {
            run.move_cursor(cursor, row);
            let (key, trailer, value) = (cursor.key(), run.trailer(row), run.block.value(row));
            let bytes = key.len() + value.len() + RUN_ROW_BYTES;
            let last = self.block.last_key();
            let shared = common_prefix(last, key);
            let ordered =
                key.get(shared).is_some_and(|byte| last.get(shared).is_none_or(|last| last < byte));
            // What is out of order, `add` refuses.
            if bytes > room || !ordered {
                break;
            }
            room -= bytes;
            self.block.push(key, shared, false, trailer, value);
            self.filter.push(key);
            if let Some(prefixes) = &mut self.prefixes {
                prefixes.push(key, shared);
            }
            counts.entries += 1;
            counts.keys += 1;
            counts.key_bytes += key.len() as u64;
            counts.value_bytes += value.len() as u64;
            counts.trailer_min = counts.trailer_min.min(trailer.0);
            counts.trailer_max = counts.trailer_max.max(trailer.0);
            self.last_trailer = trailer;
            row += 1;
        }
        row
    }

    fn last_key(&self) -> &[u8] {
        if self.block.rows() == 0 { &self.block_last_key } else { self.block.last_key() }
    }

    /// Whether `run` is a block that may become one of this table: what blocks before and after it have is
    /// neither much less than others nor much more.
    fn takes_block(&self, run: &RowRun<'_>) -> bool {
        let (target, bytes) = (self.target(), run.block.bytes().len());
        let left = if self.block.rows() == 0 { target } else { self.block.estimated_bytes() };
        run.is_whole_block()
            && left >= target / 2
            && bytes >= target / 4
            && (bytes <= target * 2 || run.len() == 1)
            && !self.failed
            && run.is_under(&self.options.schema)
    }

    /// Copies a block, of which `cursor` has the first key; that is behind all keys here.
    fn add_block(
        &mut self,
        run: &RowRun<'_>,
        mut entry: BlockEntry,
        cursor: &mut KeyCursor,
    ) -> Result<()> {
        if self.block.rows() > 0 {
            self.finish_block()?;
        }
        self.begin_block(cursor.key(), run.trailer(0), false)?;
        let counts = &mut self.counts;
        for row in run.rows.clone() {
            run.move_cursor(cursor, row);
            let key = cursor.key();
            self.filter.push(key);
            if let Some(prefixes) = &mut self.prefixes {
                prefixes.push(key, common_prefix(&self.block_last_key, key));
                self.block_last_key.clear();
                self.block_last_key.extend_from_slice(key);
            }
            let trailer = run.trailer(row).0;
            counts.key_bytes += key.len() as u64;
            counts.trailer_min = counts.trailer_min.min(trailer);
            counts.trailer_max = counts.trailer_max.max(trailer);
        }
        let last = run.rows.end - 1;
        let values = run.block.value_range(last).1 - run.block.value_range(0).0;
        counts.value_bytes += values as u64;
        counts.entries += run.len() as u64;
        counts.keys += run.len() as u64;
        self.last_trailer = run.trailer(last);
        self.block_last_key.clear();
        self.block_last_key.extend_from_slice(cursor.key());
        let offset = self.output.position();
        let packed = self.options.compression == Compression::Lz4;
        let bytes = match run.stored_as(packed) {
            Some(stored) => {
                sluice_env::probe!("table: a block was copied as it is");
                self.output.buffer.extend_from_slice(stored);
                stored.len()
            }
            None => {
                sluice_env::probe!("table: a copied block was packed anew");
                self.sealer.seal(run.block.bytes(), &mut self.output.buffer)
            }
        };
        entry.handle = Handle { offset, bytes: bytes as u64 };
        self.pending = Some(entry);
        self.output.flush_if_large().inspect_err(|_| self.failed = true)
    }
}
