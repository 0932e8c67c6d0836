//! Picks for a drain: one table under the key schema, rewritten in its place.

use sluice_base::Level;

use super::{
    Compaction, CompactionKind, CompactionReason, PickInput,
    build::{is_busy, overlap_below},
};
use crate::version::KeyRange;

/// The next table under `schema` that nobody holds, from the last level up: what is above may yet be
/// rewritten on its way down. The job cuts it at the ends of ranges.
///
/// In L0 every entry is kept ([`CompactionKind::IntraL0`] with this reason), so that the pieces keep
/// their place in its order. Older tables may hold the same keys, newer ones too; neither matters,
/// because order in L0 is by sequence numbers, and these stay.
pub fn pick_drain<T>(input: &PickInput<'_, T>, schema: u32) -> Option<Compaction<T>> {
    for level in (0..Level::COUNT as u8).rev().map(Level) {
        let tables = input.version.level(level).iter();
        for table in tables.filter(|table| table.meta.schema == schema && !is_busy(input, table)) {
            let range = KeyRange::of(&table.meta);
            let is_l0 = level.0 == 0;
            // A merge that is under way may put a table of this level across this one's keys.
            if !is_l0 && input.in_progress.writes_into(input.cf, level, range) {
                continue;
            }
            let below = overlap_below(input, level, range);
            return Some(Compaction {
                cf: input.cf,
                kind: if is_l0 { CompactionKind::IntraL0 } else { CompactionKind::Merge },
                reason: CompactionReason::Drain,
                level,
                output_level: level,
                inputs: vec![(level, vec![table.clone()])],
                grandparents: if is_l0 { Vec::new() } else { below.to_vec() },
                score: 0.0,
                is_bottommost: !is_l0 && !input.version.overlaps_below(level, range),
            });
        }
    }
    None
}
