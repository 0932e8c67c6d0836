//! Reads a whole table and checks everything that can be checked: checksums, order, separators,
//! statistics, filter, and every count of the properties. What a read trusts, this proves.

use std::{cmp::Ordering, sync::Arc};

use sluice_base::{Error, Kind, Result, SeqNo, Trailer};

use crate::{
    block::Block,
    column::KeyCursor,
    fault::Fault,
    field_stats::FieldBounds,
    filter::filter_hash,
    format::STATISTICS_FIELDS,
    index::{BlockStats, Index},
    readahead::Readahead,
    table::Table,
    two_level::{PartitionSource, TableIndex, TopIndex},
};

/// Bytes of one read.
const READ_BYTES: usize = 1 << 20;

/// Most errors that a report lists; the rest is counted.
const ERRORS_MAX: usize = 100;

/// What a verification found.
#[derive(Debug, Default)]
pub struct VerifyReport {
    /// Data blocks and entries that were read and are sound.
    pub blocks: u64,
    pub entries: u64,
    /// The first errors, at most 100, in file order.
    pub errors: Vec<Error>,
    pub errors_total: u64,
}

impl VerifyReport {
    /// The first error, for callers that only want to know.
    pub fn into_result(mut self) -> Result<()> {
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors.swap_remove(0)) }
    }

    fn fail(&mut self, error: Error) {
        self.errors_total += 1;
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(error);
        }
    }
}

/// What the entries add up to.
#[derive(Debug)]
struct Totals {
    entries: u64,
    tombstones: u64,
    keys: u64,
    key_bytes: u64,
    value_bytes: u64,
    seq_min: SeqNo,
    seq_max: SeqNo,
    smallest: Option<(Vec<u8>, Trailer)>,
    last: Option<(Vec<u8>, Trailer)>,
    /// Of the block before, damaged or not.
    separator: Option<(Vec<u8>, Trailer)>,
}

impl Table {
    /// Reads every block from the file, past the cache, and checks it. Goes on behind a damaged
    /// block, so that the report names all of them.
    pub fn verify(self: &Arc<Self>) -> VerifyReport {
        let mut report = VerifyReport::default();
        let mut readahead = Readahead::uncached(READ_BYTES);
        let mut totals = Totals {
            entries: 0,
            tombstones: 0,
            keys: 0,
            key_bytes: 0,
            value_bytes: 0,
            seq_min: SeqNo::MAX,
            seq_max: SeqNo::ZERO,
            smallest: None,
            last: None,
            separator: None,
        };
        match self.index() {
            TableIndex::One(index) => {
                self.verify_blocks(index, &mut readahead, &mut totals, &mut report);
            }
            TableIndex::Two(top) => {
                for partition in 0..top.partitions() {
                    let offset = top.index().handle(partition).offset;
                    let index = self.partition(partition, PartitionSource::File);
                    let checked = index.and_then(|index| {
                        check_partition(top, partition, &index)
                            .map_err(|fault| fault.at(self.path(), offset))?;
                        Ok(index)
                    });
                    match checked {
                        Ok(index) => {
                            self.verify_blocks(&index, &mut readahead, &mut totals, &mut report);
                        }
                        Err(error) => report.fail(error),
                    }
                }
            }
        }
        report.entries = totals.entries;
        // Totals over a table with damaged blocks say nothing.
        if report.errors.is_empty()
            && let Err(fault) = self.check_totals(&totals)
        {
            report.fail(fault.at(self.path(), self.footer().properties.offset));
        }
        report
    }

    fn verify_blocks(
        &self,
        index: &Index,
        readahead: &mut Readahead,
        totals: &mut Totals,
        report: &mut VerifyReport,
    ) {
        for at in 0..index.blocks() {
            let handle = index.handle(at);
            let checked = readahead.block(self, handle).and_then(|block| {
                self.check_block(index, at, &block, totals)
                    .map_err(|fault| fault.at(self.path(), handle.offset))
            });
            // The next block is compared with it, whatever became of this one.
            totals.separator = Some(index.separator(at));
            match checked {
                Ok(()) => report.blocks += 1,
                Err(error) => report.fail(error),
            }
        }
    }

    fn check_block(
        &self,
        index: &Index,
        at: usize,
        block: &Block,
        totals: &mut Totals,
    ) -> Result<(), Fault> {
        let mut cursor = KeyCursor::new();
        let mut stats = BlockStats { rows: block.rows() as u64, ..BlockStats::default() };
        for row in 0..block.rows() {
            block.move_cursor(&mut cursor, row);
            let (key, trailer) = (cursor.key(), block.trailer(row));
            let mut same = false;
            if let Some((last_key, last_trailer)) = &totals.last {
                same = key == last_key;
                if compare(key, trailer, last_key, *last_trailer) != Ordering::Greater {
                    return Err(Fault::damaged("ascending entries", format!("row {row} is not")));
                }
                if row > 0 && same != block.is_same_key(row) {
                    return Err(Fault::damaged("a true same_key bit", format!("row {row}: other")));
                }
            }
            if block.find(key, trailer) != (row, true) {
                return Err(Fault::damaged("rows that a search finds", format!("row {row}")));
            }
            if !self.may_contain(filter_hash(key)) {
                return Err(Fault::damaged("keys that the filter knows", format!("row {row}")));
            }
            if !self.may_contain_prefix(key) {
                let what = "prefixes of keys that their filter knows";
                return Err(Fault::damaged(what, format!("row {row}")));
            }
            let tombstone = trailer.kind() == Some(Kind::Delete);
            stats.tombstones += u64::from(tombstone);
            totals.entries += 1;
            totals.tombstones += u64::from(tombstone);
            totals.keys += u64::from(!same);
            totals.key_bytes += key.len() as u64;
            totals.value_bytes += block.value(row).len() as u64;
            totals.seq_min = totals.seq_min.min(trailer.seq());
            totals.seq_max = totals.seq_max.max(trailer.seq());
            if totals.smallest.is_none() {
                totals.smallest = Some((key.to_vec(), trailer));
            }
            let (last_key, last_trailer) =
                totals.last.get_or_insert_with(|| (Vec::new(), Trailer(0)));
            last_key.clear();
            last_key.extend_from_slice(key);
            *last_trailer = trailer;
            if row == 0
                && let Some((separator, bound)) = &totals.separator
                && compare(key, trailer, separator, *bound) != Ordering::Greater
            {
                return Err(Fault::damaged("a first entry behind the separator", "not so"));
            }
        }
        self.check_bounds(index, at, block, &mut stats)?;
        let (separator, bound) = index.separator(at);
        if let Some((key, trailer)) = &totals.last
            && compare(key, *trailer, &separator, bound) == Ordering::Greater
        {
            return Err(Fault::damaged("a last entry up to the separator", "one behind it"));
        }
        if stats != index.stats(at) {
            let expected = format!("{:?}", index.stats(at));
            return Err(Fault::damaged(expected, format!("{stats:?}")));
        }
        Ok(())
    }

    /// Compares the statistics of the key fields with the keys, which it splits again; counts
    /// those that do not split.
    fn check_bounds(
        &self,
        index: &Index,
        at: usize,
        block: &Block,
        stats: &mut BlockStats,
    ) -> Result<(), Fault> {
        let schema = self.schema();
        if schema.is_whole_key() || !index.counts_exceptions() {
            return Ok(());
        }
        let mut found: Vec<Option<FieldBounds>> = vec![None; schema.types().len()];
        let (mut cursor, mut ends) = (KeyCursor::new(), Vec::new());
        for row in 0..block.rows() {
            // What a splitter says now is no proof of damage: it may not be here, or lie.
            let splits = if schema.is_custom() {
                block.split_row(&mut cursor, row, &mut ends)
            } else {
                block.move_cursor(&mut cursor, row);
                schema.split_ends(cursor.key(), &mut ends)
            };
            if !splits {
                stats.exceptions += 1;
                continue;
            }
            let mut start = 0;
            for ((found, &of_type), &end) in found.iter_mut().zip(schema.types()).zip(&ends) {
                let own = FieldBounds::of_key(of_type, &cursor.key()[start..end]);
                start = end;
                match found {
                    Some(found) => found.cover(&own),
                    None => *found = Some(own),
                }
            }
        }
        for (field, found) in found.into_iter().enumerate() {
            let Some(expected) = index.field_bounds(at, field) else { continue };
            if let Some(found) = found
                && found != expected
            {
                let expected = format!("key field {field} within {expected:?}");
                return Err(Fault::damaged(expected, format!("{found:?}")));
            }
        }
        Ok(())
    }

    fn check_totals(&self, totals: &Totals) -> Result<(), Fault> {
        let properties = self.properties();
        let numbers = [
            ("count.entries", properties.entries, totals.entries),
            ("count.delete", properties.tombstones, totals.tombstones),
            ("count.keys", properties.keys, totals.keys),
            ("raw.key_bytes", properties.raw_key_bytes, totals.key_bytes),
            ("raw.value_bytes", properties.raw_value_bytes, totals.value_bytes),
            ("seq.min", properties.seq_min.0, totals.seq_min.0),
            ("seq.max", properties.seq_max.0, totals.seq_max.0),
            ("data.bytes", properties.data_bytes, self.extents().data_end),
        ];
        for (name, expected, found) in numbers {
            if expected != found {
                return Err(Fault::damaged(format!("{name} {expected}"), found));
            }
        }
        if totals.smallest.as_ref() != Some(&properties.smallest)
            || totals.last.as_ref() != Some(&properties.largest)
        {
            return Err(Fault::damaged("the smallest and largest key of the properties", "others"));
        }
        Ok(())
    }
}

/// Compares what the top says of the fields of a partition with the partition.
fn check_partition(top: &TopIndex, partition: usize, index: &Index) -> Result<(), Fault> {
    for field in 0..STATISTICS_FIELDS {
        let counted = |&row: &usize| {
            let stats = index.stats(row);
            stats.exceptions < stats.rows
        };
        let mut found: Option<FieldBounds> = None;
        for row in (0..index.blocks()).filter(counted) {
            match (&mut found, index.field_bounds(row, field)) {
                (_, None) => {}
                (Some(found), Some(own)) => found.cover(&own),
                (None, own) => found = own,
            }
        }
        let expected = top.index().field_bounds(partition, field);
        if found.is_some() && found != expected {
            let expected = format!("key field {field} of the partition within {expected:?}");
            return Err(Fault::damaged(expected, format!("{found:?}")));
        }
    }
    Ok(())
}

/// The internal order: keys ascend, trailers of one key descend.
fn compare(a: &[u8], a_trailer: Trailer, b: &[u8], b_trailer: Trailer) -> Ordering {
    a.cmp(b).then(b_trailer.cmp(&a_trailer))
}
