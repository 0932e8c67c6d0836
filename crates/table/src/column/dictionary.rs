//! Byte strings of which there are few: each once, and a code a row.
//!
//! ```text
//! +-----------+-----------------+----------------------------+------------------------+
//! | words u32 | words bytes u32 | words, as raw bytes        | codes, as integers     |
//! +-----------+-----------------+----------------------------+------------------------+
//! ```
//! Words ascend strictly, so codes compare like the strings they stand for, and a search in the
//! column is one in the words and then one among integers.

use super::{
    Column, Integers, RawBytes, encode_integers, encode_raw_bytes_head, head, load_u32, lower_bound,
};
use crate::{fault::Fault, format::encoding};

/// Number of words, bytes of their column.
pub const DICTIONARY_HEAD_BYTES: usize = 8;

/// A parsed column of few strings.
#[derive(Debug, Clone, Copy)]
pub struct Dictionary {
    words: RawBytes,
    count: u32,
    codes: Integers,
}

impl Dictionary {
    pub fn parse(block: &[u8], column: &Column, rows: usize) -> Result<Dictionary, Fault> {
        if column.encoding != encoding::DICTIONARY {
            return Err(column.damaged("dictionary", format!("encoding {}", column.encoding)));
        }
        let bytes = &block[column.start as usize..column.end as usize];
        if bytes.len() < DICTIONARY_HEAD_BYTES {
            return Err(column.short(DICTIONARY_HEAD_BYTES));
        }
        let count = load_u32(bytes, 0) as usize;
        let words_bytes = load_u32(bytes, 4) as usize;
        if words_bytes > bytes.len() - DICTIONARY_HEAD_BYTES {
            return Err(column.short(DICTIONARY_HEAD_BYTES + words_bytes));
        }
        if count == 0 || count > rows {
            return Err(column.damaged(format!("1 to {rows} words"), count));
        }
        let start = column.start + DICTIONARY_HEAD_BYTES as u32;
        let middle = start + words_bytes as u32;
        let part = |encoding, start, end| Column { role: column.role, encoding, start, end };
        let words = RawBytes::parse(block, &part(encoding::RAW_BYTES, start, middle), count)?;
        let codes = Integers::parse(block, &part(encoding::INTEGERS, middle, column.end), rows)?;
        let dictionary = Dictionary { words, count: count as u32, codes };
        for word in 1..count {
            if dictionary.word(block, word - 1) >= dictionary.word(block, word) {
                return Err(column.damaged("words that ascend", format!("word {word} does not")));
            }
        }
        let checked = if codes.constant().is_some() { 1 } else { rows };
        for row in 0..checked {
            let code = codes.get(block, row);
            if code >= count as u64 {
                return Err(column.damaged(format!("codes below {count}"), code));
            }
        }
        Ok(dictionary)
    }

    /// The codes of the rows.
    #[inline]
    pub fn codes(&self) -> &Integers {
        &self.codes
    }

    #[inline]
    pub fn get<'a>(&self, block: &'a [u8], row: usize) -> &'a [u8] {
        self.word(block, self.codes.get(block, row) as usize)
    }

    /// Where the string of `row` begins and ends in the block.
    #[inline(always)]
    pub fn range(&self, block: &[u8], row: usize) -> (usize, usize) {
        self.words.range(block, self.codes.get(block, row) as usize)
    }

    #[inline]
    fn word<'a>(&self, block: &'a [u8], code: usize) -> &'a [u8] {
        let (start, end) = self.words.range(block, code);
        &block[start..end]
    }

    /// The heads of the words, for [`Dictionary::find`].
    pub fn heads(&self, block: &[u8]) -> Box<[u64]> {
        (0..self.count as usize).map(|code| head(self.word(block, code))).collect()
    }

    /// The code of the first word at or after `string`, and whether it is that word. `heads` is
    /// what [`Dictionary::heads`] made of this column.
    #[inline]
    pub fn find(&self, block: &[u8], heads: &[u64], string: &[u8]) -> (u64, bool) {
        let wanted = head(string);
        let first = lower_bound(0, heads.len(), |code| heads[code] < wanted);
        // Equal heads say nothing; mostly there is one.
        let equal = heads[first..].iter().take_while(|&&head| head == wanted).count();
        let code = lower_bound(first, first + equal, |code| self.word(block, code) < string);
        (code as u64, code < first + equal && self.word(block, code) == string)
    }
}

/// Appends a dictionary of `words`, which ascend strictly, and the code of each row.
pub fn encode_dictionary(words: &[&[u8]], codes: &[u64], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&(words.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    let mut end = 0;
    let ends: Vec<u32> = words
        .iter()
        .map(|word| {
            end += word.len() as u32;
            end
        })
        .collect();
    encode_raw_bytes_head(&ends, out);
    for word in words {
        out.extend_from_slice(word);
    }
    let words_bytes = (out.len() - start - DICTIONARY_HEAD_BYTES) as u32;
    out[start + 4..start + 8].copy_from_slice(&words_bytes.to_le_bytes());
    encode_integers(codes, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8], rows: usize) -> Result<Dictionary, Fault> {
        let end = bytes.len() as u32;
        let column = Column { role: 1, encoding: encoding::DICTIONARY, start: 0, end };
        Dictionary::parse(bytes, &column, rows)
    }

    #[test]
    fn strings_round_trip_and_are_found_by_their_codes() {
        let mut bytes = Vec::new();
        encode_dictionary(&[b"", b"ab", b"b"], &[1, 1, 0, 2], &mut bytes);
        assert_eq!(bytes, b"\x03\0\0\0\x08\0\0\0\x01\0\0\x02\x03abb\x01\x01\x01\0\x02");
        let dictionary = parse(&bytes, 4).unwrap();
        let strings: Vec<&[u8]> = (0..4).map(|row| dictionary.get(&bytes, row)).collect();
        assert_eq!(strings, [&b"ab"[..], b"ab", b"", b"b"]);
        let heads = dictionary.heads(&bytes);
        assert_eq!(dictionary.find(&bytes, &heads, b"ab"), (1, true));
        assert_eq!(dictionary.find(&bytes, &heads, b"aa"), (1, false));
        assert_eq!(dictionary.find(&bytes, &heads, b"c"), (3, false));
    }

    #[test]
    fn one_word_costs_no_codes() {
        let mut bytes = Vec::new();
        encode_dictionary(&[b"tenant"], &[0; 1000], &mut bytes);
        assert_eq!(bytes.len(), 8 + 5 + 6 + 1);
        assert_eq!(parse(&bytes, 1000).unwrap().get(&bytes, 999), b"tenant");
    }

    #[test]
    fn words_out_of_order_and_codes_without_a_word_are_damage() {
        for (words, codes) in
            [([&b"b"[..], b"a"], [0, 1]), ([b"a", b"a"], [0, 1]), ([b"a", b"b"], [0, 2])]
        {
            let mut bytes = Vec::new();
            encode_dictionary(&words, &codes, &mut bytes);
            assert!(matches!(parse(&bytes, 2), Err(Fault::Damaged { .. })), "{words:?} {codes:?}");
        }
    }
}
