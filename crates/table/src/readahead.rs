//! Reads a table's blocks in large pieces for a walk from front to back. One per iterator; the
//! pieces belong to nobody else, and the blocks made from them do not enter the cache.

use std::sync::Arc;

use sluice_base::Result;

use crate::{
    block::Block,
    envelope,
    index::Handle,
    table::{Table, read_exact},
};

/// A window of a table's file.
#[derive(Debug)]
pub struct Readahead {
    piece_bytes: usize,
    buffer: Vec<u8>,
    /// Where the buffer's first byte lies in the file.
    start: u64,
    /// Whether a cached block spares the read.
    cached: bool,
}

impl Readahead {
    pub fn new(piece_bytes: usize) -> Readahead {
        Readahead { piece_bytes, buffer: Vec::new(), start: 0, cached: true }
    }

    /// One that looks at the file only, for who checks the file.
    pub fn uncached(piece_bytes: usize) -> Readahead {
        Readahead { cached: false, ..Readahead::new(piece_bytes) }
    }

    /// The block at `handle` as it is in the file, if the window has it: that of the block read last does.
    pub fn stored(&self, handle: Handle) -> Option<&[u8]> {
        let from = usize::try_from(handle.offset.checked_sub(self.start)?).ok()?;
        self.buffer.get(from..from + handle.bytes as usize)
    }

    /// The data block of `table` at `handle`: from the cache, the window, or a new window that begins
    /// with it.
    pub fn block(&mut self, table: &Table, handle: Handle) -> Result<Arc<Block>> {
        if self.cached
            && let Some(block) = table.peek(handle)
        {
            return Ok(block);
        }
        let inside =
            handle.offset >= self.start && handle.end() <= self.start + self.buffer.len() as u64;
        if !inside {
            let left = table.extents().data_end - handle.offset;
            let bytes = left.min(handle.bytes.max(self.piece_bytes as u64));
            // Empty first: after a failed read the window must not claim what it does not hold.
            self.buffer.clear();
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.resize(bytes as usize, 0);
            read_exact(table.file(), table.path(), &mut buffer, handle.offset)?;
            self.buffer = buffer;
            self.start = handle.offset;
        }
        let from = (handle.offset - self.start) as usize;
        let stored = &self.buffer[from..from + handle.bytes as usize];
        let payload =
            envelope::open(stored).map_err(|fault| fault.at(table.path(), handle.offset))?;
        Ok(Arc::new(table.parse(handle, payload)?))
    }
}
