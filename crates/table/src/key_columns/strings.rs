//! The strings of one field while its block is being built, and the choice of their encoding.
//!
//! *The choice*, by size: a dictionary when few different strings come; in any case when runs are
//! long, for then it is hardly larger than anything else and searched and read much faster; else
//! prefix bytes when neighbours share some; else raw bytes. What cannot win is not tried: a sample
//! of the first strings says that.

use crate::{
    column::{
        PrefixBytesBuilder, common_prefix, encode_dictionary, encode_raw_bytes_head, integer_width,
    },
    format::encoding,
};

/// Rows of a run, on average, from which a dictionary is taken without a look at the rest.
const RUN_ROWS: usize = 4;

/// Of so many different neighbours at the start of a column ..
const SAMPLE: usize = 64;

/// .. more than so many different strings say that a dictionary would not pay.
const SAMPLE_WORDS_MAX: usize = 40;

/// Strings, of which neighbours that are equal are one *run*.
#[derive(Debug, Default)]
pub(super) struct Strings {
    /// The strings of the runs, and where each ends.
    bytes: Vec<u8>,
    ends: Vec<u32>,
    /// The run of each row.
    runs: Vec<u32>,
    /// Bytes of the strings of all rows.
    raw_bytes: usize,
    /// How many bytes all strings begin with.
    prefix: usize,
}

impl Strings {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.runs.clear();
        (self.raw_bytes, self.prefix) = (0, 0);
    }

    #[inline]
    fn get(&self, run: usize) -> &[u8] {
        let start = if run == 0 { 0 } else { self.ends[run - 1] as usize };
        &self.bytes[start..self.ends[run] as usize]
    }

    #[inline]
    pub(super) fn push(&mut self, string: &[u8]) {
        self.raw_bytes += string.len();
        let runs = self.ends.len();
        if runs == 0 || self.get(runs - 1) != string {
            self.prefix = match runs {
                0 => string.len(),
                _ => common_prefix(&self.bytes[..self.prefix], string),
            };
            self.bytes.extend_from_slice(string);
            self.ends.push(self.bytes.len() as u32);
        }
        self.runs.push((self.ends.len() - 1) as u32);
    }

    /// Adds the string of the row before, which there is.
    #[inline]
    pub(super) fn repeat(&mut self) {
        let run = self.ends.len() - 1;
        self.runs.push(run as u32);
        self.raw_bytes += self.get(run).len();
    }

    /// The smallest and the largest, which are the first and the last where strings ascend; `None`
    /// without rows.
    pub(super) fn min_max(&self, ascends: bool) -> Option<(&[u8], &[u8])> {
        let last = self.ends.len().checked_sub(1)?;
        let first = self.get(0);
        if ascends {
            return Some((first, self.get(last)));
        }
        Some((1..=last).fold((first, first), |(min, max), run| {
            let string = self.get(run);
            (min.min(string), max.max(string))
        }))
    }

    /// Whether all rows are the same.
    pub(super) fn is_constant(&self) -> bool {
        self.ends.len() == 1
    }

    /// About how many bytes the column would have now; hardly less than it will.
    pub(super) fn encoded_bytes_max(&self) -> usize {
        let (rows, runs) = (self.runs.len(), self.ends.len());
        // Offsets and codes have 2 bytes up to 64 KiB; a dictionary's head has 8.
        let prefix = 7 + self.raw_bytes - self.prefix * rows.saturating_sub(1) + rows * 2;
        let code = usize::from(integer_width(runs.saturating_sub(1) as u64));
        prefix.min(24 + self.bytes.len() + runs * 2 + rows * code)
    }

    /// The smallest form of the column: its encoding and bytes.
    pub(super) fn encode(&self) -> (u8, Vec<u8>) {
        let mut best = Vec::new();
        let words = self.encode_dictionary(&mut best);
        // Prefix bytes have more than a byte a row: a dictionary below that is not beaten. Nor, in
        // speed, where strings repeat: rows of prefix bytes look for the first of their kind.
        let (rows, runs) = (self.runs.len(), self.ends.len());
        if words && (best.len() <= rows || runs * RUN_ROWS <= rows) {
            return (encoding::DICTIONARY, best);
        }
        let mut of = encoding::DICTIONARY;
        let raw = self.encoded_bytes_raw();
        if !words || raw < best.len() {
            best.clear();
            self.encode_raw(&mut best);
            of = encoding::RAW_BYTES;
        }
        let mut prefix = Vec::new();
        if self.encode_prefix(&mut prefix) && prefix.len() < best.len() {
            (of, best) = (encoding::PREFIX_BYTES, prefix);
        }
        (of, best)
    }

    /// Bytes of the column as raw bytes; not less than they will be.
    fn encoded_bytes_raw(&self) -> usize {
        let equal = self.raw_bytes == self.runs.len() * self.get(0).len();
        let width = if equal { 0 } else { integer_width(self.raw_bytes as u64).max(1) };
        5 + self.raw_bytes + (self.runs.len() + 1) * usize::from(width)
    }

    fn encode_raw(&self, out: &mut Vec<u8>) {
        let mut end = 0;
        let ends: Vec<u32> = self
            .runs
            .iter()
            .map(|&run| {
                end += self.get(run as usize).len() as u32;
                end
            })
            .collect();
        encode_raw_bytes_head(&ends, out);
        if self.runs.len() == self.ends.len() {
            out.extend_from_slice(&self.bytes);
            return;
        }
        for &run in &self.runs {
            out.extend_from_slice(self.get(run as usize));
        }
    }

    /// Tries prefix bytes; false when there is little to share, or a row cannot have a byte of its
    /// own behind the prefixes, which would make it read as the row before.
    fn encode_prefix(&self, out: &mut Vec<u8>) -> bool {
        let mut prefix = PrefixBytesBuilder::default();
        let (mut before, mut last) = (u32::MAX, &[][..]);
        let mut shared_bytes = 0;
        for (row, &run) in self.runs.iter().enumerate() {
            let (string, same) = (self.get(run as usize), before == run);
            let mut shared = if same { string.len() } else { common_prefix(last, string) };
            if !same && shared == string.len() && row > 0 {
                let Some(less) = shared.checked_sub(1) else { return false };
                shared = less;
            }
            shared_bytes += shared;
            if row == SAMPLE && shared_bytes < SAMPLE {
                return false;
            }
            prefix.push(string, shared, same);
            (before, last) = (run, string);
        }
        prefix.encode(out);
        true
    }

    /// Tries a dictionary; false when there are too many different strings.
    fn encode_dictionary(&self, out: &mut Vec<u8>) -> bool {
        let runs = self.ends.len();
        let mut words: Vec<&[u8]> = (0..runs.min(SAMPLE)).map(|run| self.get(run)).collect();
        words.sort_unstable();
        words.dedup();
        // Long runs pay even when every run is a string of its own.
        if words.len() > SAMPLE_WORDS_MAX && runs * 2 > self.runs.len() {
            return false;
        }
        words.extend((SAMPLE.min(runs)..runs).map(|run| self.get(run)));
        words.sort_unstable();
        words.dedup();
        let code_of: Vec<u64> = (0..runs)
            .map(|run| words.partition_point(|word| *word < self.get(run)) as u64)
            .collect();
        let codes: Vec<u64> = self.runs.iter().map(|&run| code_of[run as usize]).collect();
        encode_dictionary(&words, &codes, out);
        true
    }
}
