//! Decides which families to flush so that the log can shrink. Pure: numbers in, a choice out.
//!
//! Unflushed data pins every log segment from the oldest entry on. A family that was written once
//! and then left alone would pin the log for ever (P6's cousin: a log without an end), so past the
//! limit the families that reach furthest back are flushed, until what remains pins half of it.

use sluice_base::SeqNo;

/// One live log segment, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub bytes: u64,
    /// The last sequence number in it; `None` while it is empty.
    pub last: Option<SeqNo>,
}

/// The slots among `families` (slot, first unflushed sequence number) to flush: those that pin any
/// segment which must go for the rest to fit `max / 2`. Empty while everything fits `max`.
pub(crate) fn pick_for_log(
    segments: &[Segment],
    families: &[(usize, SeqNo)],
    max: u64,
) -> Vec<usize> {
    let mut left: u64 = segments.iter().map(|segment| segment.bytes).sum();
    if left <= max {
        return Vec::new();
    }
    let mut through = None;
    for segment in segments {
        if left <= max / 2 {
            break;
        }
        left -= segment.bytes;
        through = through.max(segment.last);
    }
    let Some(through) = through else { return Vec::new() };
    families.iter().filter(|(_, first)| *first <= through).map(|(slot, _)| *slot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(segments: &[(u64, u64)], families: &[(usize, u64)], max: u64) -> Vec<usize> {
        let segments: Vec<_> = segments
            .iter()
            .map(|&(bytes, last)| Segment { bytes, last: (last > 0).then_some(SeqNo(last)) })
            .collect();
        let families: Vec<_> = families.iter().map(|&(slot, first)| (slot, SeqNo(first))).collect();
        pick_for_log(&segments, &families, max)
    }

    #[test]
    fn the_families_that_reach_furthest_back_are_chosen() {
        let segments = [(10, 100), (10, 200), (10, 300), (10, 400), (10, 0)];
        // Fits: nothing to do.
        assert_eq!(pick(&segments, &[(0, 1)], 50), []);
        // 50 bytes over 40: segments up to 300 must go for 20 to remain.
        assert_eq!(pick(&segments, &[(0, 1), (1, 350), (2, 300), (3, 301)], 40), [0, 2]);
        // A cold family is chosen although a hot one has more data.
        assert_eq!(pick(&segments, &[(7, 390), (8, 5)], 49), [8]);
        // Only empty segments: nothing pins them.
        assert_eq!(pick(&[(100, 0)], &[(0, 1)], 10), []);
        assert_eq!(pick(&segments, &[], 10), []);
    }
}
