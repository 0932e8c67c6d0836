//! The bytes of one file at one moment: a length and a sparse map of 4 KiB pages.
//!
//! ```text
//! len 9,000        page 0        page 1 (absent)      page 2
//!                  ████████      reads as zeros       ███─────
//! ```
//!
//! Cloning costs one reference count, whatever the size: the map and the pages in it are shared and
//! copied on the first write (the map once for a clone, a page once for a write to it).
//!
//! Invariant: bytes at and beyond `len` are zero in every page, so that growing the file needs no
//! work. Only [`Content::overlay`] breaks it, and its caller mends it with [`Content::set_len`].

use std::{collections::BTreeMap, ops::Range, sync::Arc};

pub(super) const PAGE_BYTES: usize = 4096;

type Page = [u8; PAGE_BYTES];

#[derive(Clone, Default)]
pub(super) struct Content {
    len: u64,
    pages: Arc<BTreeMap<u64, Arc<Page>>>,
}

/// The pieces of `offset..offset + len` that lie in one unit of `unit` bytes each, as
/// `(unit number, range inside the buffer)`.
pub(super) fn pieces(
    offset: u64,
    len: usize,
    unit: usize,
) -> impl Iterator<Item = (u64, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let room = unit - (at % unit as u64) as usize;
        let start = done;
        done = len.min(start + room);
        Some((at / unit as u64, start..done))
    })
}

fn inside(offset: u64) -> usize {
    (offset % PAGE_BYTES as u64) as usize
}

impl Content {
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Memory held by pages (shared ones count in full).
    #[cfg(test)]
    pub fn resident_bytes(&self) -> u64 {
        (self.pages.len() * PAGE_BYTES) as u64
    }

    pub fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let len = (self.len.saturating_sub(offset)).min(buf.len() as u64) as usize;
        for (page_no, range) in pieces(offset, len, PAGE_BYTES) {
            let at = inside(offset + range.start as u64);
            let piece = &mut buf[range];
            match self.pages.get(&page_no) {
                Some(page) => piece.copy_from_slice(&page[at..at + piece.len()]),
                None => piece.fill(0),
            }
        }
        len
    }

    /// Writes `data` and grows the file to cover it. `offset + data.len()` must not overflow.
    pub fn write(&mut self, data: &[u8], offset: u64) {
        if data.is_empty() {
            return;
        }
        self.overlay(data, offset);
        self.grow(offset + data.len() as u64);
    }

    /// Puts bytes into pages without a look at the length. A crash may keep a sector whose size
    /// change it loses.
    pub fn overlay(&mut self, data: &[u8], offset: u64) {
        let pages = Arc::make_mut(&mut self.pages);
        for (page_no, range) in pieces(offset, data.len(), PAGE_BYTES) {
            let at = inside(offset + range.start as u64);
            let page = pages.entry(page_no).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(page)[at..at + range.len()].copy_from_slice(&data[range]);
        }
    }

    /// Flips bits of one byte; false when it lies beyond the end.
    pub fn flip(&mut self, offset: u64, xor: u8) -> bool {
        let mut byte = [0];
        if self.read(&mut byte, offset) == 0 {
            return false;
        }
        self.overlay(&[byte[0] ^ xor], offset);
        true
    }

    pub fn grow(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Cuts or extends with zeros, also over bytes that [`Content::overlay`] left beyond the end.
    pub fn set_len(&mut self, len: u64) {
        self.len = len;
        let first_gone = len.div_ceil(PAGE_BYTES as u64);
        if self.pages.last_key_value().is_some_and(|(&last, _)| last >= first_gone) {
            drop(Arc::make_mut(&mut self.pages).split_off(&first_gone));
        }
        let (last, tail) = (len / PAGE_BYTES as u64, inside(len));
        if tail != 0
            && self.pages.get(&last).is_some_and(|page| page[tail..].iter().any(|&byte| byte != 0))
            && let Some(page) = Arc::make_mut(&mut self.pages).get_mut(&last)
        {
            Arc::make_mut(page)[tail..].fill(0);
        }
    }

    /// Takes over the pages that hold `range`, and the absence of pages, from `other`. The length
    /// is left alone.
    pub fn adopt(&mut self, other: &Content, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let pages = range.start / PAGE_BYTES as u64..range.end.div_ceil(PAGE_BYTES as u64);
        let own = Arc::make_mut(&mut self.pages);
        let gone: Vec<u64> = own
            .range(pages.clone())
            .map(|(&page_no, _)| page_no)
            .filter(|page_no| !other.pages.contains_key(page_no))
            .collect();
        for page_no in gone {
            own.remove(&page_no);
        }
        for (&page_no, page) in other.pages.range(pages) {
            own.insert(page_no, Arc::clone(page));
        }
    }

    pub fn has_no_pages(&self) -> bool {
        self.pages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(content: &Content) -> Vec<u8> {
        let mut buf = vec![0xee; content.len() as usize];
        assert_eq!(content.read(&mut buf, 0), buf.len());
        buf
    }

    #[test]
    fn holes_and_cut_tails_read_as_zeros() {
        let mut content = Content::default();
        content.write(&[7; 10], 5000);
        content.set_len(5004);
        content.set_len(9000);
        let mut expected = vec![0; 9000];
        expected[5000..5004].fill(7);
        assert_eq!(bytes(&content), expected);
        assert_eq!(content.resident_bytes(), PAGE_BYTES as u64);
    }

    #[test]
    fn clones_share_pages_until_written() {
        let mut a = Content::default();
        a.write(&[1; 3 * PAGE_BYTES], 0);
        let mut b = a.clone();
        b.write(&[2], PAGE_BYTES as u64);
        assert_eq!(bytes(&a), [1; 3 * PAGE_BYTES]);
        assert_eq!(bytes(&b)[PAGE_BYTES], 2);
        assert!(Arc::ptr_eq(&a.pages[&0], &b.pages[&0]));
        assert!(!Arc::ptr_eq(&a.pages[&1], &b.pages[&1]));
    }

    #[test]
    fn adopt_takes_pages_and_their_absence() {
        let (mut old, mut new) = (Content::default(), Content::default());
        old.write(&[1; 4 * PAGE_BYTES], 0);
        new.write(&[2; PAGE_BYTES], 0);
        new.set_len(4 * PAGE_BYTES as u64);
        old.adopt(&new, 0..2 * PAGE_BYTES as u64);
        let got = bytes(&old);
        assert_eq!((got[0], got[PAGE_BYTES], got[2 * PAGE_BYTES]), (2, 0, 1));
    }

    #[test]
    fn pieces_cut_at_unit_borders() {
        let cut: Vec<_> = pieces(1000, 600, 512).collect();
        assert_eq!(cut, [(1, 0..24), (2, 24..536), (3, 536..600)]);
        assert_eq!(pieces(512, 0, 512).count(), 0);
    }
}
