//! Decides which families to flush, and why, when nobody has asked and no memtable is full. Pure:
//! numbers in, a choice out; `triggers.rs` gathers the numbers and carries the choice out.
//!
//! In the order they are looked at:
//! - **log bytes**: unflushed data pins every log segment from its oldest entry on. A family that
//!   was written once and then left alone would pin the log for ever, so the families that reach
//!   furthest back are flushed, well before the limit is reached.
//! - **recovery time**: the same, with the bytes that can be replayed in the time allowed.
//! - **dirty age**: the oldest entry has been in memory only for long enough.
//! - **idle**: nobody has written to the family for a while.
//! - **tombstones**: reads wade through deleted entries that a flush would leave behind.
//!
//! Data in sealed memtables is on its way already. What it pins counts for nothing here, or every
//! look would choose fresh memtables for the slowness of older ones.

use super::FlushReason;
use sluice_base::SeqNo;

/// One live log segment, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub bytes: u64,
    /// The last sequence number in it; `None` while it is empty.
    pub last: Option<SeqNo>,
}

/// One family with something in its active memtable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Family {
    pub slot: usize,
    /// The oldest entry.
    pub first: SeqNo,
    /// Since the first write, and since the last one was noticed.
    pub dirty_us: u64,
    pub idle_us: u64,
    pub entries: u64,
    pub tombstones: u64,
    /// It may have another sealed memtable. Without room only the log's triggers choose it.
    pub has_room: bool,
}

/// When to flush; `None`: never for that reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub log_bytes: u64,
    /// Log bytes that can be replayed in the time that recovery may take.
    pub replay_bytes: Option<u64>,
    pub age_us: Option<u64>,
    pub idle_us: Option<u64>,
    pub tombstones: Option<u64>,
}

/// The families to flush, as slots, and the reason; `None` when there is none.
pub(crate) fn pick(
    segments: &[Segment],
    families: &[Family],
    limits: &Limits,
) -> Option<(FlushReason, Vec<usize>)> {
    // Half, because installs go in order: before what is sealed now lets go of any log, everything
    // sealed earlier must be flushed, and meanwhile the log grows.
    if let Some(slots) = pinning(segments, families, limits.log_bytes / 2) {
        return Some((FlushReason::WalBytes, slots));
    }
    if let Some(slots) = limits.replay_bytes.and_then(|max| pinning(segments, families, max)) {
        return Some((FlushReason::RecoveryTime, slots));
    }
    let which = |limit: Option<u64>, of: fn(&Family, u64) -> bool| {
        let slots: Vec<usize> = families
            .iter()
            .filter(|family| family.has_room && limit.is_some_and(|limit| of(family, limit)))
            .map(|family| family.slot)
            .collect();
        (!slots.is_empty()).then_some(slots)
    };
    let aged = which(limits.age_us, |family, age| family.dirty_us >= age);
    if let Some(slots) = aged {
        return Some((FlushReason::Age, slots));
    }
    let idle = which(limits.idle_us, |family, idle| family.idle_us >= idle);
    if let Some(slots) = idle {
        return Some((FlushReason::Idle, slots));
    }
    let dead = which(limits.tombstones, |family, count| {
        family.tombstones >= count && family.tombstones >= family.entries / 2
    });
    dead.map(|slots| (FlushReason::Tombstones, slots))
}

/// The families that pin any segment which must go for the rest to fit half of `max`. `None` while
/// everything that active memtables pin fits `max`.
fn pinning(segments: &[Segment], families: &[Family], max: u64) -> Option<Vec<usize>> {
    let oldest = families.iter().map(|family| family.first).min()?;
    let pinned = |segment: &&Segment| segment.last.is_none_or(|last| last >= oldest);
    let mut left: u64 = segments.iter().filter(pinned).map(|segment| segment.bytes).sum();
    if left <= max {
        return None;
    }
    let mut through = None;
    for segment in segments.iter().filter(pinned) {
        if left <= max / 2 {
            break;
        }
        left -= segment.bytes;
        through = through.max(segment.last);
    }
    let through = through?;
    Some(families.iter().filter(|f| f.first <= through).map(|f| f.slot).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Limits = Limits {
        log_bytes: u64::MAX,
        replay_bytes: None,
        age_us: None,
        idle_us: None,
        tombstones: None,
    };

    fn family(slot: usize, first: u64) -> Family {
        let first = SeqNo(first);
        Family { slot, first, dirty_us: 0, idle_us: 0, entries: 0, tombstones: 0, has_room: true }
    }

    fn segments(of: &[(u64, u64)]) -> Vec<Segment> {
        let one = |&(bytes, last): &(u64, u64)| Segment {
            bytes,
            last: (last > 0).then_some(SeqNo(last)),
        };
        of.iter().map(one).collect()
    }

    /// Segments as (bytes, last), families as (slot, first), the limit; and who is chosen.
    #[test]
    fn the_families_that_reach_furthest_back_are_chosen() {
        type Row<'a> = (&'a [(u64, u64)], &'a [(usize, u64)], u64, Option<&'a [usize]>);
        let five: &[(u64, u64)] = &[(10, 100), (10, 200), (10, 300), (10, 400), (10, 0)];
        let table: &[Row<'_>] = &[
            // Fits: nothing to do.
            (five, &[(0, 1)], 50, None),
            // 50 bytes over 40: segments up to 300 must go for 20 to remain.
            (five, &[(0, 1), (1, 350), (2, 300), (3, 301)], 40, Some(&[0, 2])),
            // A cold family is chosen although a hot one has more data.
            (five, &[(7, 390), (8, 5)], 49, Some(&[8])),
            // The head is pinned by sealed memtables only: 30 bytes count, and they fit.
            (five, &[(0, 201)], 30, None),
            (five, &[(0, 201)], 29, Some(&[0])),
            // Only an empty segment: nothing that a flush could let go of.
            (&[(100, 0)], &[(0, 1)], 10, None),
            (five, &[], 10, None),
        ];
        for (at, (log, families, max, expected)) in table.iter().enumerate() {
            let families: Vec<_> = families.iter().map(|&(slot, f)| family(slot, f)).collect();
            let chosen = pinning(&segments(log), &families, *max);
            assert_eq!(chosen.as_deref(), *expected, "row {at}");
        }
    }

    /// What one family with something to flush is chosen for.
    #[test]
    fn each_trigger_has_its_reason() {
        let log = segments(&[(40, 100), (40, 200)]);
        let one = family(3, 1);
        let all = Limits {
            log_bytes: 80,
            replay_bytes: Some(79),
            age_us: Some(10),
            idle_us: Some(5),
            tombstones: Some(100),
        };
        let with = |change: fn(&mut Family, &mut Limits)| {
            let (mut family, mut limits) = (one, NOTHING);
            change(&mut family, &mut limits);
            pick(&log, &[family], &limits).map(|(reason, slots)| {
                assert_eq!(slots, [3]);
                reason
            })
        };
        type Row = (fn(&mut Family, &mut Limits), Option<FlushReason>);
        let table: &[Row] = &[
            (|_, _| (), None),
            (|_, l| l.log_bytes = 160, None),
            (|_, l| l.log_bytes = 158, Some(FlushReason::WalBytes)),
            (|_, l| l.replay_bytes = Some(80), None),
            (|_, l| l.replay_bytes = Some(79), Some(FlushReason::RecoveryTime)),
            (|f, l| (f.dirty_us, l.age_us) = (9, Some(10)), None),
            (|f, l| (f.dirty_us, l.age_us) = (10, Some(10)), Some(FlushReason::Age)),
            (|f, l| (f.idle_us, l.idle_us) = (4, Some(5)), None),
            (|f, l| (f.idle_us, l.idle_us) = (5, Some(5)), Some(FlushReason::Idle)),
            (|f, l| (f.entries, f.tombstones, l.tombstones) = (150, 99, Some(100)), None),
            (|f, l| (f.entries, f.tombstones, l.tombstones) = (202, 100, Some(100)), None),
            (
                |f, l| (f.entries, f.tombstones, l.tombstones) = (200, 100, Some(100)),
                Some(FlushReason::Tombstones),
            ),
            (|f, l| (f.dirty_us, l.age_us, f.has_room) = (10, Some(10), false), None),
            (|f, l| (l.log_bytes, f.has_room) = (80, false), Some(FlushReason::WalBytes)),
        ];
        for (at, (change, expected)) in table.iter().enumerate() {
            assert_eq!(with(*change), *expected, "row {at}");
        }
        // The log comes before everything else.
        let both = Family { dirty_us: 100, idle_us: 100, ..one };
        assert_eq!(
            pick(&log, &[both], &all).map(|(reason, _)| reason),
            Some(FlushReason::WalBytes)
        );
    }
}
