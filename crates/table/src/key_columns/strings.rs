//! The strings of one field while its block is being built, and the choice of their encoding.
//!
//! *The choice*, by size: a dictionary when few different strings come; in any case when runs are
//! long, for then it is hardly larger than anything else and searched and read much faster; else
//! prefix bytes when neighbours share some; else raw bytes. What cannot win is not tried: a sample
//! of the first strings says that.

use std::collections::HashMap;

use foldhash::fast::FixedState;

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
    /// The run of each string that was pushed.
    runs: Vec<u32>,
    /// Bytes of all strings that were pushed.
    raw_bytes: usize,
    /// How many bytes all strings begin with.
    prefix: usize,
    scratch: Box<Scratch>,
}

/// What [`Strings::encode`] would otherwise allocate for each block.
#[derive(Debug, Default)]
struct Scratch {
    /// The run of each place.
    placed: Vec<u32>,
    best: Vec<u8>,
    other: Vec<u8>,
    prefix: PrefixBytesBuilder,
    word_of_run: Vec<u32>,
    codes: Vec<u64>,
    ends: Vec<u32>,
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

    /// About how many bytes the column would have now for so many places; hardly less than it will.
    pub(super) fn encoded_bytes_max(&self, places: usize) -> usize {
        let (pushed, runs) = (self.runs.len().max(1), self.ends.len());
        // Offsets and codes have 2 bytes up to 64 KiB; a dictionary's head has 8.
        let raw = self.raw_bytes * places.max(pushed) / pushed;
        let prefix = 7 + raw.saturating_sub(self.prefix * places.saturating_sub(1)) + places * 2;
        let code = usize::from(integer_width(runs.saturating_sub(1) as u64));
        prefix.min(24 + self.bytes.len() + runs * 2 + places * code)
    }

    /// The smallest form of the column in which place `p` has string `picks[p]`: its encoding and
    /// bytes.
    pub(super) fn encode(&mut self, picks: &[u32]) -> (u8, &[u8]) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.placed.clear();
        scratch.placed.extend(picks.iter().map(|&pick| self.runs[pick as usize]));
        let of = self.choose(&mut scratch);
        self.scratch = scratch;
        (of, &self.scratch.best)
    }

    /// Puts the column into `best` and says what it is.
    fn choose(&self, scratch: &mut Scratch) -> u8 {
        scratch.best.clear();
        let words = self.encode_dictionary(scratch);
        // Prefix bytes have more than a byte a row: a dictionary below that is not beaten. Nor, in
        // speed, where strings repeat: rows of prefix bytes look for the first of their kind.
        let (places, runs) = (scratch.placed.len(), self.ends.len());
        if words && (scratch.best.len() <= places || runs * RUN_ROWS <= places) {
            return encoding::DICTIONARY;
        }
        let raw = self.encoded_bytes_raw(&scratch.placed);
        let best = if words { raw.min(scratch.best.len()) } else { raw };
        scratch.other.clear();
        if self.encode_prefix(scratch) && scratch.other.len() < best {
            std::mem::swap(&mut scratch.best, &mut scratch.other);
            return encoding::PREFIX_BYTES;
        }
        if words && scratch.best.len() <= best {
            return encoding::DICTIONARY;
        }
        scratch.best.clear();
        self.encode_raw(scratch);
        encoding::RAW_BYTES
    }

    /// Bytes of the column as raw bytes; not less than they will be.
    fn encoded_bytes_raw(&self, placed: &[u32]) -> usize {
        let first = self.get(0).len();
        let mut bytes = 0;
        let mut equal = true;
        for &run in placed {
            let of_run = self.get(run as usize).len();
            bytes += of_run;
            equal &= of_run == first;
        }
        let width = if equal { 0 } else { integer_width(bytes as u64).max(1) };
        5 + bytes + (placed.len() + 1) * usize::from(width)
    }

    fn encode_raw(&self, scratch: &mut Scratch) {
        let Scratch { placed, best, ends, .. } = scratch;
        ends.clear();
        let mut end = 0;
        ends.extend(placed.iter().map(|&run| {
            end += self.get(run as usize).len() as u32;
            end
        }));
        encode_raw_bytes_head(ends, best);
        // All runs, each once: they lie there as they are wanted.
        if placed.len() == self.ends.len() && end as usize == self.bytes.len() {
            best.extend_from_slice(&self.bytes);
            return;
        }
        for &run in &*placed {
            best.extend_from_slice(self.get(run as usize));
        }
    }

    /// Tries prefix bytes; false when there is little to share, or a row cannot have a byte of its
    /// own behind the prefixes, which would make it read as the row before.
    fn encode_prefix(&self, scratch: &mut Scratch) -> bool {
        let Scratch { placed, other, prefix, .. } = scratch;
        prefix.clear();
        let (mut before, mut last) = (u32::MAX, &[][..]);
        let mut shared_bytes = 0;
        for (row, &run) in placed.iter().enumerate() {
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
        prefix.encode(other);
        true
    }

    /// Tries a dictionary; false when there are too many different strings.
    fn encode_dictionary(&self, scratch: &mut Scratch) -> bool {
        let Scratch { placed, best, word_of_run, codes, .. } = scratch;
        let runs = self.ends.len();
        let mut numbers: HashMap<&[u8], u32, FixedState> =
            HashMap::with_capacity_and_hasher(runs.min(SAMPLE), FixedState::default());
        let mut words: Vec<&[u8]> = Vec::new();
        word_of_run.clear();
        for run in 0..runs {
            // Long runs pay even when every run is a string of its own.
            if run == SAMPLE && words.len() > SAMPLE_WORDS_MAX && runs * 2 > placed.len() {
                return false;
            }
            let string = self.get(run);
            let number = *numbers.entry(string).or_insert_with(|| {
                words.push(string);
                words.len() as u32 - 1
            });
            word_of_run.push(number);
        }
        // The order in which words came, by the order that they have.
        let mut sorted: Vec<u32> = (0..words.len() as u32).collect();
        sorted.sort_unstable_by_key(|&word| words[word as usize]);
        let mut code_of_word = vec![0; words.len()];
        for (code, &word) in sorted.iter().enumerate() {
            code_of_word[word as usize] = code as u64;
        }
        words.sort_unstable();
        codes.clear();
        codes.extend(placed.iter().map(|&run| code_of_word[word_of_run[run as usize] as usize]));
        encode_dictionary(&words, codes, best);
        true
    }
}
