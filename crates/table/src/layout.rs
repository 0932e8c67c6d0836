//! The head of a block: how many rows, which columns, where each begins. Data and index blocks
//! share it.
//!
//! ```text
//! +----------+-------------+---------+---------------+-- per column -------------------------+
//! | rows u32 | columns u16 | kind u8 | version u8 = 1 | role u8, encoding u8, 0 u16, start u32 |
//! +----------+-------------+---------+---------------+---------------------------------------+
//! | column | column | ...                                                                    |
//! ```
//! Columns lie back to back in ascending order of their roles; one ends where the next begins, the
//! last at the end of the payload. The first begins right behind the directory. So every byte of a
//! payload belongs to exactly one structure, and each column checks its own length.

use crate::{
    column::Column,
    fault::Fault,
    format::{BLOCK_HEADER_BYTES, BLOCK_VERSION, COLUMN_ENTRY_BYTES, role},
};

/// A parsed block head.
#[derive(Debug)]
pub struct Layout {
    pub rows: usize,
    columns: Vec<Column>,
}

impl Layout {
    /// Reads the head of a block of `kind`. A block has at least one row.
    pub fn parse(block: &[u8], kind: u8) -> Result<Layout, Fault> {
        let block_bytes = u32::try_from(block.len())
            .map_err(|_| Fault::damaged("a block below 4 GiB", block.len()))?;
        let Some((head, rest)) = block.split_at_checked(BLOCK_HEADER_BYTES) else {
            return Err(Fault::damaged("a block header of 8 bytes", block.len()));
        };
        if head[7] != BLOCK_VERSION {
            return Err(Fault::unsupported(format!("block version {}", head[7])));
        }
        if head[6] != kind {
            return Err(Fault::damaged(format!("block kind {kind}"), head[6]));
        }
        let rows = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if rows == 0 {
            return Err(Fault::damaged("at least one row", 0));
        }
        let count = usize::from(u16::from_le_bytes([head[4], head[5]]));
        let directory = rest
            .get(..count * COLUMN_ENTRY_BYTES)
            .ok_or_else(|| Fault::damaged(format!("a directory of {count} columns"), rest.len()))?;
        let mut columns: Vec<Column> = Vec::with_capacity(count);
        let mut floor = (BLOCK_HEADER_BYTES + directory.len()) as u32;
        for entry in directory.chunks_exact(COLUMN_ENTRY_BYTES) {
            let start = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            let first = columns.is_empty();
            if entry[2..4] != [0, 0] || start > block_bytes || start < floor {
                return Err(Fault::damaged("column starts that ascend inside the block", start));
            }
            if first && start != floor {
                return Err(Fault::damaged(format!("the first column at {floor}"), start));
            }
            if let Some(before) = columns.last_mut() {
                if before.role >= entry[0] {
                    return Err(Fault::damaged("ascending column roles", entry[0]));
                }
                before.end = start;
            }
            columns.push(Column { role: entry[0], encoding: entry[1], start, end: block_bytes });
            floor = start;
        }
        Ok(Layout { rows, columns })
    }

    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub fn column(&self, role: u8) -> Option<&Column> {
        self.columns.iter().find(|column| column.role == role)
    }

    pub fn required(&self, role: u8) -> Result<&Column, Fault> {
        self.column(role)
            .ok_or_else(|| Fault::damaged(format!("a column {}", role::name(role)), "none"))
    }
}

/// Writes the head of a block, then column by column.
#[derive(Debug)]
pub struct LayoutWriter {
    /// Where the block begins in `out`.
    start: usize,
    next: usize,
}

impl LayoutWriter {
    /// Appends a head with room for `columns` columns.
    pub fn begin(out: &mut Vec<u8>, kind: u8, rows: usize, columns: usize) -> LayoutWriter {
        let start = out.len();
        out.extend_from_slice(&(rows as u32).to_le_bytes());
        out.extend_from_slice(&(columns as u16).to_le_bytes());
        out.extend_from_slice(&[kind, BLOCK_VERSION]);
        let next = out.len();
        out.resize(next + columns * COLUMN_ENTRY_BYTES, 0);
        LayoutWriter { start, next }
    }

    /// Enters the column whose bytes the caller appends next.
    pub fn column(&mut self, out: &mut [u8], role: u8, encoding: u8) {
        let position = (out.len() - self.start) as u32;
        out[self.next] = role;
        out[self.next + 1] = encoding;
        out[self.next + 4..self.next + 8].copy_from_slice(&position.to_le_bytes());
        self.next += COLUMN_ENTRY_BYTES;
    }
}
