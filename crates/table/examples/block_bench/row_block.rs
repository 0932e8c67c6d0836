//! A plain row block, as LevelDB's descendants have it, for comparison only: entries one behind the
//! other, each without the bytes that it shares with the one before, a whole key every 16 entries
//! (a *restart point*), and the places of those at the end.
//!
//! ```text
//! entry = shared varint, unshared varint, value length varint, unshared key bytes, value
//! block = entries, restart points u32 each, their number u32
//! ```
//! The key in an entry is the user key and the trailer, eight bytes, whose complement sorts last.

use sluice_base::{Trailer, varint};

const RESTART_ROWS: usize = 16;

#[derive(Debug, Default)]
pub struct RowBuilder {
    out: Vec<u8>,
    restarts: Vec<u32>,
    rows: usize,
    last: Vec<u8>,
}

impl RowBuilder {
    #[inline]
    pub fn add(&mut self, key: &[u8], trailer: Trailer, value: &[u8]) {
        let mut shared = 0;
        if self.rows.is_multiple_of(RESTART_ROWS) {
            self.restarts.push(self.out.len() as u32);
        } else {
            let most = (self.last.len() - 8).min(key.len());
            shared = common_prefix(&self.last[..most], &key[..most]);
        }
        self.rows += 1;
        self.last.clear();
        self.last.extend_from_slice(key);
        self.last.extend_from_slice(&(!trailer.0).to_be_bytes());
        varint::put_u32(&mut self.out, shared as u32);
        varint::put_u32(&mut self.out, (self.last.len() - shared) as u32);
        varint::put_u32(&mut self.out, value.len() as u32);
        self.out.extend_from_slice(&self.last[shared..]);
        self.out.extend_from_slice(value);
    }

    pub fn bytes(&self) -> usize {
        self.out.len() + self.restarts.len() * 4 + 4
    }

    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.out);
        for restart in &self.restarts {
            out.extend_from_slice(&restart.to_le_bytes());
        }
        out.extend_from_slice(&(self.restarts.len() as u32).to_le_bytes());
        self.out.clear();
        self.restarts.clear();
        self.rows = 0;
    }
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let mut shared = 0;
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        let load =
            |chunk: &[u8]| chunk.first_chunk::<8>().map_or(0, |raw| u64::from_le_bytes(*raw));
        let different = load(a) ^ load(b);
        if different != 0 {
            return shared + different.trailing_zeros() as usize / 8;
        }
        shared += 8;
    }
    shared + a[shared..].iter().zip(&b[shared..]).take_while(|(a, b)| a == b).count()
}

#[derive(Debug)]
pub struct RowBlock {
    bytes: Box<[u8]>,
    entries_end: usize,
    restarts: usize,
}

impl RowBlock {
    pub fn parse(bytes: &[u8]) -> RowBlock {
        let word = |at: usize| {
            let mut raw = [0; 4];
            raw.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(raw) as usize
        };
        let restarts = word(bytes.len() - 4);
        RowBlock { bytes: bytes.into(), entries_end: bytes.len() - 4 - restarts * 4, restarts }
    }

    #[inline]
    fn restart(&self, index: usize) -> usize {
        let at = self.entries_end + index * 4;
        let mut raw = [0; 4];
        raw.copy_from_slice(&self.bytes[at..at + 4]);
        u32::from_le_bytes(raw) as usize
    }

    /// Shared, unshared and value bytes of the entry at `at`, and where its key bytes begin. All
    /// three lengths in one byte each is the common case.
    #[inline]
    fn entry(&self, at: usize) -> (usize, usize, usize, usize) {
        let head = &self.bytes[at..];
        if let [a, b, c, ..] = *head
            && (a | b | c) < 0x80
        {
            return (a.into(), b.into(), c.into(), at + 3);
        }
        let mut rest = head;
        let mut take = || varint::take_u32(&mut rest).expect("a block of our own") as usize;
        let (shared, unshared, value) = (take(), take(), take());
        (shared, unshared, value, self.bytes.len() - rest.len())
    }
}

/// Stands on an entry, whose key it has put together.
#[derive(Debug, Default)]
pub struct RowCursor {
    key: Vec<u8>,
    value: (usize, usize),
    next: usize,
}

impl RowCursor {
    #[inline]
    pub fn key(&self) -> &[u8] {
        &self.key[..self.key.len() - 8]
    }

    #[inline]
    pub fn trailer(&self) -> Trailer {
        let mut raw = [0; 8];
        raw.copy_from_slice(&self.key[self.key.len() - 8..]);
        Trailer(!u64::from_be_bytes(raw))
    }

    #[inline]
    pub fn value<'a>(&self, block: &'a RowBlock) -> &'a [u8] {
        &block.bytes[self.value.0..self.value.1]
    }

    pub fn first(&mut self, block: &RowBlock) -> bool {
        self.next = 0;
        self.advance(block)
    }

    #[inline]
    pub fn advance(&mut self, block: &RowBlock) -> bool {
        if self.next == block.entries_end {
            return false;
        }
        let (shared, unshared, value, at) = block.entry(self.next);
        self.key.truncate(shared);
        self.key.extend_from_slice(&block.bytes[at..at + unshared]);
        self.value = (at + unshared, at + unshared + value);
        self.next = self.value.1;
        true
    }

    /// Goes to the first entry at or after (`key`, `trailer`).
    pub fn seek(&mut self, block: &RowBlock, key: &[u8], trailer: Trailer) -> bool {
        let wanted = !trailer.0;
        let before = |found: &[u8]| {
            let (user, suffix) = found.split_at(found.len() - 8);
            match user.cmp(key) {
                std::cmp::Ordering::Equal => {
                    let mut raw = [0; 8];
                    raw.copy_from_slice(suffix);
                    u64::from_be_bytes(raw) < wanted
                }
                order => order.is_lt(),
            }
        };
        // The last restart point before the key.
        let (mut low, mut high) = (0, block.restarts);
        while low + 1 < high {
            let middle = (low + high) / 2;
            let (_, unshared, _, at) = block.entry(block.restart(middle));
            if before(&block.bytes[at..at + unshared]) {
                low = middle;
            } else {
                high = middle;
            }
        }
        self.key.clear();
        self.next = block.restart(low);
        while self.advance(block) {
            if !before(&self.key) {
                return true;
            }
        }
        false
    }
}
