//! Which rows of a block fulfil a predicate, column by column: no key is built, and what a column is
//! asked is decided once a column, not once a row. Rows are bits in words, as in a bitmap column.

use std::{cmp::Ordering, ops::Bound};

use super::{
    KeyColumns,
    field::{Field, Values},
};
use crate::{
    column::{Integers, PrefixBytes},
    predicate::{KeyPredicate, Wanted},
};

impl KeyColumns {
    /// Replaces `words` by the rows that match `predicate`, which names fields of the block's schema.
    pub fn select(&self, block: &[u8], predicate: &KeyPredicate, words: &mut Vec<u64>) {
        words.clear();
        words.resize(self.rows.div_ceil(64), u64::MAX);
        if !self.rows.is_multiple_of(64)
            && let Some(last) = words.last_mut()
        {
            *last = (1 << (self.rows % 64)) - 1;
        }
        for condition in predicate.conditions() {
            if let Some(field) = self.fields.get(condition.field) {
                field.select(block, &condition.wanted, words);
            }
        }
        // Their fields mean nothing.
        if let Some(exceptions) = &self.exceptions {
            for (at, word) in words.iter_mut().enumerate() {
                *word &= !exceptions.word(block, at);
            }
        }
    }
}

impl Field {
    /// Clears the bits of the rows whose field is not `wanted`.
    fn select(&self, block: &[u8], wanted: &Wanted, words: &mut [u64]) {
        match (&self.values, wanted) {
            (Values::Numbers(_, values, _), Wanted::Numbers { from, to }) => {
                keep_numbers(block, values, *from, *to, words);
            }
            (Values::Dictionary(dictionary, _), Wanted::Strings { from, to }) => {
                // Words ascend: a range of words is one of codes.
                let place = |string: &[u8]| dictionary.find(block, string);
                let from = match from {
                    Bound::Unbounded => 0,
                    Bound::Included(from) => place(from).0,
                    Bound::Excluded(from) => {
                        let (code, found) = place(from);
                        code + u64::from(found)
                    }
                };
                let end = match to {
                    Bound::Unbounded => u64::MAX,
                    Bound::Included(to) => {
                        let (code, found) = place(to);
                        code + u64::from(found)
                    }
                    Bound::Excluded(to) => place(to).0,
                };
                match end.checked_sub(1) {
                    Some(to) if from <= to => {
                        keep_numbers(block, dictionary.codes(), from, to, words);
                    }
                    _ => words.fill(0),
                }
            }
            (Values::Raw(strings, _), wanted) => {
                keep(words, |row| wanted.has_string(strings.get(block, row)));
            }
            (Values::Prefix(strings, _), Wanted::Strings { from, to }) => {
                let from = Side::new(block, strings, from);
                let to = Side::new(block, strings, to);
                keep(words, |row| {
                    let above = match from.order(block, strings, row) {
                        Some(order) => order.is_gt() || (order.is_eq() && from.included),
                        None => true,
                    };
                    above
                        && match to.order(block, strings, row) {
                            Some(order) => order.is_lt() || (order.is_eq() && to.included),
                            None => true,
                        }
                });
            }
            // A condition is made for the field's type; these two do not meet.
            (Values::Numbers(..), Wanted::Strings { .. })
            | (Values::Dictionary(..) | Values::Prefix(..), Wanted::Numbers { .. }) => {
                words.fill(0);
            }
        }
    }
}

/// One end of a range of strings, as a column of prefix bytes is asked for it.
struct Side<'a> {
    /// How every string of the column compares, when the block's prefix says so.
    all: Option<Ordering>,
    /// The end behind the block's prefix.
    rest: Option<&'a [u8]>,
    included: bool,
}

impl<'a> Side<'a> {
    fn new(block: &[u8], strings: &PrefixBytes, end: &'a Bound<Vec<u8>>) -> Side<'a> {
        let (bytes, included) = match end {
            Bound::Unbounded => return Side { all: None, rest: None, included: true },
            Bound::Included(bytes) => (bytes, true),
            Bound::Excluded(bytes) => (bytes, false),
        };
        let prefix = strings.block_prefix(block);
        match bytes.strip_prefix(prefix) {
            Some(rest) => Side { all: None, rest: Some(rest), included },
            None => Side { all: Some(prefix.cmp(bytes)), rest: None, included },
        }
    }

    /// How `row` compares with the end; `None` when there is no end.
    #[inline]
    fn order(&self, block: &[u8], strings: &PrefixBytes, row: usize) -> Option<Ordering> {
        match self.rest {
            Some(rest) => Some(strings.compare(block, row, rest)),
            None => self.all,
        }
    }
}

/// Clears the bits of the rows whose number is not within `from..=to`.
fn keep_numbers(block: &[u8], values: &Integers, from: u64, to: u64, words: &mut [u64]) {
    if let Some(constant) = values.constant() {
        if !(from..=to).contains(&constant) {
            words.fill(0);
        }
        return;
    }
    let span = to.wrapping_sub(from);
    keep(words, |row| from <= to && values.get(block, row).wrapping_sub(from) <= span);
}

/// Clears the bits of the rows that are not `wanted`. Asks for those only whose bit is set.
#[inline]
fn keep(words: &mut [u64], wanted: impl Fn(usize) -> bool) {
    for (at, word) in words.iter_mut().enumerate() {
        let mut kept = 0;
        if *word == u64::MAX {
            for bit in 0..64 {
                kept |= u64::from(wanted(at * 64 + bit)) << bit;
            }
        } else {
            let mut left = *word;
            while left != 0 {
                let bit = left.trailing_zeros();
                kept |= u64::from(wanted(at * 64 + bit as usize)) << bit;
                left &= left - 1;
            }
        }
        *word = kept;
    }
}
