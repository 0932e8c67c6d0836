//! A connection's unread input: bytes of commands that are not complete yet, or that wait.
//!
//! ```text
//! room   [ consumed | unread……… | initialised, free | ]
//!          0        start       end                 room.len()
//! ```
//!
//! Empty between commands for nearly every connection: whole commands are parsed where they were
//! read, in the worker's scratch buffer, and only what remains is kept here. A big bulk string is
//! read straight into this buffer, which grows by what has arrived, not by what was announced.

use std::io::{self, Read};

/// Growth while a big argument arrives: at least this much, at most as much as is there already.
const GROWTH_MIN: usize = 64 * 1024;
const GROWTH_MAX: usize = 8 << 20;
/// Room kept by an empty buffer.
const KEPT_MAX: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Input {
    room: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    pub(crate) fn unread(&self) -> &[u8] {
        &self.room[self.start..self.end]
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }
    pub(crate) fn free(&self) -> usize {
        self.room.len() - self.len()
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.is_empty() {
            self.start = 0;
            self.end = 0;
            if self.room.len() > KEPT_MAX {
                self.room = Vec::new();
            }
        }
    }

    /// Keeps bytes for later.
    pub(crate) fn keep(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        self.room[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Reads behind what is there, up to `missing` bytes (or a little more than nothing). Returns how
    /// many bytes were asked for and how many came.
    pub(crate) fn read(
        &mut self,
        source: &mut impl Read,
        missing: usize,
    ) -> io::Result<(usize, usize)> {
        let growth = self.len().clamp(GROWTH_MIN, GROWTH_MAX);
        let wanted = missing.clamp(16 * 1024, growth);
        self.make_room(wanted);
        let room = &mut self.room[self.end..self.end + wanted];
        let count = source.read(room)?;
        self.end += count;
        Ok((wanted, count))
    }

    fn make_room(&mut self, count: usize) {
        if self.room.len() - self.end >= count {
            return;
        }
        if self.start > 0 {
            self.room.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let needed = self.end + count;
        if self.room.len() < needed {
            // `resize` grows the allocation by doubling; the new bytes are zeroed once.
            self.room.resize(needed, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_however_they_came_in() {
        let mut input = Input::default();
        let mut expected: Vec<u8> = Vec::new();
        let mut next = 0u8;
        let mut rng = sluicedb::env::Rng::new(1);
        for _ in 0..2000 {
            let piece: Vec<u8> = (0..rng.below(300))
                .map(|_| {
                    next = next.wrapping_add(1);
                    next
                })
                .collect();
            expected.extend_from_slice(&piece);
            if rng.one_in(2) {
                input.keep(&piece);
            } else {
                let mut source = &piece[..];
                while !source.is_empty() {
                    input.read(&mut source, 1).unwrap();
                }
            }
            let count = rng.below(400).min(input.len() as u64) as usize;
            assert_eq!(input.unread(), &expected[..]);
            input.consume(count);
            expected.drain(..count);
        }
    }
}
