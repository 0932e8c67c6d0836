//! Binary searches. Over numbers at hand their steps do not depend on a guess of the processor: where
//! a key lies is as good as random, and each wrong guess costs more than the step. Over strings they do.

use std::{cmp::Ordering, hint::select_unpredictable};

use super::{head, head_at};

/// The first place of `low..high` that is not `less`; `high` when all are. The number of steps
/// depends on the number of places alone.
#[inline(always)]
pub fn lower_bound(low: usize, high: usize, less: impl Fn(usize) -> bool) -> usize {
    // The answer is in base..=base + size.
    let (mut base, mut size) = (low, high - low);
    while size > 1 {
        let half = size / 2;
        base = select_unpredictable(less(base + half - 1), base + half, base);
        size -= half;
    }
    base + usize::from(size == 1 && less(base))
}

/// The end of the run of `equal` places that begins at `start`, by strides that double: runs are
/// often short.
#[inline]
pub fn run_end(start: usize, high: usize, equal: impl Fn(usize) -> bool) -> usize {
    let (mut known, mut stride) = (start, 1);
    while known + stride < high && equal(known + stride) {
        known += stride;
        stride *= 2;
    }
    lower_bound(known + 1, high.min(known + stride), equal)
}

/// The first place of `low..high` whose string is not before `own`, and whether it equals it; `high`
/// when all are before. `range` says where the string of a place lies. Strings are far: here the
/// processor had better guess and load ahead than wait for each.
#[inline(always)]
pub fn find_string(
    block: &[u8],
    (mut low, mut high): (usize, usize),
    own: &[u8],
    range: impl Fn(usize) -> (usize, usize),
) -> (usize, bool) {
    let wanted = head(own);
    let mut equal = false;
    while low < high {
        let middle = (low + high) / 2;
        let (start, end) = range(middle);
        let order = match head_at(block, start, end).cmp(&wanted) {
            Ordering::Equal => block[start..end].cmp(own),
            order => order,
        };
        if order == Ordering::Less {
            low = middle + 1;
        } else {
            equal = order == Ordering::Equal;
            high = middle;
        }
    }
    (low, equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_and_runs_are_those_of_a_walk() {
        for count in 0..40usize {
            for first in 0..=count {
                assert_eq!(lower_bound(0, count, |at| at < first), first, "{first} of {count}");
                assert_eq!(lower_bound(7, 7 + count, |at| at < 7 + first), 7 + first);
            }
            for end in 1..=count {
                assert_eq!(run_end(0, count, |at| at < end), end, "{end} of {count}");
            }
        }
    }
}
