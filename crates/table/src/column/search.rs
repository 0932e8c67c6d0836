//! Binary searches whose steps do not depend on a guess of the processor: where a key lies is as
//! good as random, and each wrong guess costs more than the step.

use std::hint::select_unpredictable;

use super::head_at;

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

/// Whether `block[range]` sorts before `own`, whose head is `own_head`.
#[inline(always)]
pub fn is_less(block: &[u8], range: (usize, usize), own: &[u8], own_head: u64) -> bool {
    let found = head_at(block, range.0, range.1);
    found < own_head || (found == own_head && block[range.0..range.1] < *own)
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
