//! The moves of an iterator with a predicate: to rows that are shown, over rows and blocks that are
//! not. Every move begins nowhere, and ends on a shown row or nowhere.

use sluice_base::{Result, Trailer};

use super::TableIter;

impl TableIter {
    /// Goes to the first row from `row` of the current block on that is shown.
    pub(super) fn select_forward(&mut self, row: usize) -> Result<bool> {
        match self.selection.as_ref().and_then(|selection| selection.at_or_after(row)) {
            Some(row) => Ok(self.settle(row)),
            None => self.select_from(self.at + 1),
        }
    }

    /// Goes to the last row before `row` of the current block that is shown.
    pub(super) fn select_backward(&mut self, row: usize) -> Result<bool> {
        match self.selection.as_ref().and_then(|selection| selection.before(row)) {
            Some(row) => Ok(self.settle(row)),
            None => self.select_before(self.at),
        }
    }

    /// Goes to the first shown row of the blocks from `at` on.
    pub(super) fn select_from(&mut self, mut at: usize) -> Result<bool> {
        self.valid = false;
        loop {
            at = self.skip_forward(at)?;
            if at == self.table.blocks() {
                return Ok(false);
            }
            self.enter(at)?;
            if let Some(row) = self.selection.as_ref().and_then(|shown| shown.at_or_after(0)) {
                return Ok(self.settle(row));
            }
            at += 1;
        }
    }

    /// Goes to the last shown row of the blocks before `end`.
    pub(super) fn select_before(&mut self, mut end: usize) -> Result<bool> {
        self.valid = false;
        loop {
            end = self.skip_backward(end)?;
            let Some(at) = end.checked_sub(1) else { return Ok(false) };
            self.enter(at)?;
            if let Some(row) = self.selection.as_ref().and_then(|shown| shown.before(self.rows)) {
                return Ok(self.settle(row));
            }
            end = at;
        }
    }

    pub(super) fn seek_selected(&mut self, key: &[u8], trailer: Trailer) -> Result<bool> {
        self.valid = false;
        let wanted = self.find(key, trailer)?;
        let at = self.skip_forward(wanted)?;
        if at != wanted || at == self.table.blocks() {
            return self.select_from(at);
        }
        self.enter(at)?;
        let Some(block) = &self.block else { return Ok(false) };
        let (row, _) = block.find(key, trailer);
        self.select_forward(row)
    }

    pub(super) fn seek_selected_for_prev(&mut self, key: &[u8], trailer: Trailer) -> Result<bool> {
        self.valid = false;
        let wanted = self.find(key, trailer)?;
        if wanted == self.table.blocks() {
            return self.select_before(wanted);
        }
        let end = self.skip_backward(wanted + 1)?;
        if end != wanted + 1 {
            return self.select_before(end);
        }
        self.enter(wanted)?;
        let (Some(block), Some(selection)) = (&self.block, &self.selection) else {
            return Ok(false);
        };
        let (row, equal) = block.find(key, trailer);
        if row < self.rows && equal && block.trailer(row) == trailer && selection.has(row) {
            return Ok(self.settle(row));
        }
        self.select_backward(row)
    }

    /// The first block from `at` on that may have a row to show; the number of blocks if none has.
    fn skip_forward(&mut self, at: usize) -> Result<usize> {
        let blocks = self.table.blocks();
        let (first, end) = self.range()?;
        let Some(selection) = &self.selection else { return Ok(at) };
        let at = at.max(first);
        let found = match selection.by_statistics() {
            Some(predicate) => self.walker.first_match(&self.table, predicate, at..end)?,
            None => (at < end).then_some(at),
        };
        let until = found.unwrap_or(end.max(at));
        selection.count_skipped((until - at) as u64);
        Ok(found.unwrap_or(blocks))
    }

    /// The last such block before `end`, plus one; 0 if there is none.
    fn skip_backward(&mut self, end: usize) -> Result<usize> {
        let (first, last) = self.range()?;
        let Some(selection) = &self.selection else { return Ok(end) };
        let end = end.min(last);
        let found = match selection.by_statistics() {
            Some(predicate) => self.walker.last_match(&self.table, predicate, first..end)?,
            None => end.checked_sub(1).filter(|&at| at >= first),
        };
        let until = found.map_or(first.min(end), |at| at + 1);
        selection.count_skipped((end - until) as u64);
        Ok(found.map_or(0, |at| at + 1))
    }

    /// The blocks that can hold a key of the wanted range: the first, and the one behind the last.
    fn range(&mut self) -> Result<(usize, usize)> {
        if let Some(range) = self.blocks {
            return Ok(range);
        }
        let mut range = (0, self.table.blocks());
        if let Some(lower) = self.lower.clone() {
            range.0 = self.find(&lower, Trailer(u64::MAX))?.min(range.1);
        }
        if let Some(upper) = self.upper.clone() {
            // Its block is the last that can hold a smaller key.
            range.1 = range.1.min(self.find(&upper, Trailer(u64::MAX))? + 1);
        }
        self.blocks = Some(range);
        Ok(range)
    }
}
