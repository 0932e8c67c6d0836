//! Columns: how one field of all rows of a block lies in bytes.
//!
//! A *descriptor* ([`Integers`], [`RawBytes`], [`PrefixBytes`], [`Dictionary`], [`Bitmap`]) is parsed once, when
//! its block is loaded, and checks everything that a read relies on: offsets ascend and stay
//! inside the column, the counts fit the rows. After that a read is one or two loads and decodes
//! nothing. Descriptors hold positions, not pointers, and borrow the block's bytes at each call, so
//! they live beside the bytes in one cached value.
//!
//! Nothing is aligned: integers are little-endian and loaded byte-wise, which compiles to one load
//! on every target that tolerates unaligned access.

mod bitmap;
mod cursor;
mod dictionary;
mod exceptions;
mod groups;
mod integers;
mod prefix_builder;
mod prefix_bytes;
mod raw_bytes;
mod search;

pub use bitmap::{Bitmap, encode_bitmap};
pub use cursor::KeyCursor;
pub use dictionary::{Dictionary, encode_dictionary};
pub use exceptions::{Exceptions, ExceptionsBuilder};
pub use groups::{GROUPED_ROWS_MAX, Groups, encode_groups};
pub use integers::{Integers, encode_integers, width_of as integer_width};
pub use prefix_builder::PrefixBytesBuilder;
pub use prefix_bytes::PrefixBytes;
pub use raw_bytes::{RawBytes, encode_raw_bytes_head};
pub use search::{find_string, lower_bound, run_end};

use crate::fault::Fault;

/// Where a column lies in its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub role: u8,
    pub encoding: u8,
    pub start: u32,
    pub end: u32,
}

impl Column {
    pub fn bytes(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// The refusal of a column that is too short for its rows.
    fn short(&self, needed: usize) -> Fault {
        Fault::damaged(
            format!("column {} with at least {needed} bytes", crate::format::role::name(self.role)),
            self.bytes(),
        )
    }

    fn damaged(&self, expected: impl std::fmt::Display, found: impl std::fmt::Display) -> Fault {
        let name = crate::format::role::name(self.role);
        Fault::damaged(format!("column {name}: {expected}"), found)
    }
}

#[inline(always)]
fn load_u16(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 2];
    raw.copy_from_slice(&bytes[at..at + 2]);
    u64::from(u16::from_le_bytes(raw))
}

#[inline(always)]
fn load_u32(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[at..at + 4]);
    u64::from(u32::from_le_bytes(raw))
}

#[inline(always)]
fn load_u64(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(raw)
}

/// Appends the bytes of each item. `Vec::extend` would take them one by one.
#[inline]
fn extend_by<T, const N: usize>(out: &mut Vec<u8>, items: &[T], bytes: impl Fn(&T) -> [u8; N]) {
    let start = out.len();
    out.resize(start + items.len() * N, 0);
    for (to, item) in out[start..].as_chunks_mut::<N>().0.iter_mut().zip(items) {
        *to = bytes(item);
    }
}

/// An array of ascending positions of 1, 2 or 4 bytes each: where the slices of a column begin
/// and end.
#[derive(Debug, Clone, Copy)]
struct Offsets {
    at: u32,
    width: u8,
}

impl Offsets {
    /// The width that holds positions up to `last`.
    fn width_for(last: usize) -> u8 {
        match last {
            0..=0xff => 1,
            0x100..=0xffff => 2,
            _ => 4,
        }
    }

    fn encode(offsets: &[u32], width: u8, out: &mut Vec<u8>) {
        match width {
            1 => out.extend(offsets.iter().map(|&offset| offset as u8)),
            2 => extend_by(out, offsets, |&offset| (offset as u16).to_le_bytes()),
            _ => extend_by(out, offsets, |&offset| offset.to_le_bytes()),
        }
    }

    /// Checks `count` positions: the first is 0, none is below the one before, the last is `last`.
    fn check(&self, block: &[u8], count: usize, last: usize, column: &Column) -> Result<(), Fault> {
        let mut before = 0;
        for index in 0..count {
            let offset = self.get(block, index);
            if offset < before || (index == 0 && offset != 0) {
                return Err(column.damaged(format!("ascending offsets (entry {index})"), offset));
            }
            before = offset;
        }
        if before != last {
            return Err(column.damaged(format!("last offset {last}"), before));
        }
        Ok(())
    }

    #[inline(always)]
    fn get(&self, block: &[u8], index: usize) -> usize {
        let at = self.at as usize;
        match self.width {
            1 => usize::from(block[at + index]),
            2 => load_u16(block, at + index * 2) as usize,
            _ => load_u32(block, at + index * 4) as usize,
        }
    }

    /// Positions `index` and `index + 1`: where a slice begins and ends, in one load.
    #[inline(always)]
    fn pair(&self, block: &[u8], index: usize) -> (usize, usize) {
        let at = self.at as usize;
        match self.width {
            1 => {
                let both = load_u16(block, at + index) as usize;
                (both & 0xff, both >> 8)
            }
            2 => {
                let both = load_u32(block, at + index * 2) as usize;
                (both & 0xffff, both >> 16)
            }
            _ => {
                let both = load_u64(block, at + index * 4);
                ((both & 0xffff_ffff) as usize, (both >> 32) as usize)
            }
        }
    }
}

/// The first eight bytes as an integer that sorts like them; what is missing counts as zero. Equal
/// heads say nothing: not about what follows, nor do they tell "a" from "a\0".
#[inline]
pub fn head(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(chunk) => u64::from_be_bytes(*chunk),
        None => {
            let mut chunk = [0; 8];
            chunk[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(chunk)
        }
    }
}

/// [`head`] of `block[start..end]`, as one load and a mask where eight bytes are there to load.
#[inline(always)]
pub fn head_at(block: &[u8], start: usize, end: usize) -> u64 {
    let Some(chunk) = block.get(start..).and_then(|rest| rest.first_chunk::<8>()) else {
        return head(&block[start..end]);
    };
    let foreign_bits = 64u32.saturating_sub((end - start).min(8) as u32 * 8);
    // A shift by all 64 bits does not exist; it would leave nothing.
    u64::from_be_bytes(*chunk) & u64::MAX.checked_shl(foreign_bits).unwrap_or(0)
}

/// How many leading bytes `a` and `b` share.
#[inline]
pub fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let mut shared = 0;
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        let different = load_u64(a, 0) ^ load_u64(b, 0);
        if different != 0 {
            return shared + different.trailing_zeros() as usize / 8;
        }
        shared += 8;
    }
    shared + a[shared..].iter().zip(&b[shared..]).take_while(|(a, b)| a == b).count()
}
