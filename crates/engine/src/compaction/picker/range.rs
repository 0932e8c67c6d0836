//! Manual compaction of a key range, one level at a time.
//!
//! The engine goes through the levels from L0 down, and at each asks until it is done:
//!
//! ```text
//!   for level in L0..=L6 {
//!       loop { match pick_range(input, range, level) {
//!           Compact(c) => run it          (at L0 once is enough: newer flushes need not go along)
//!           Busy       => wait until a running compaction ends
//!           Done       => break
//!       } }
//!   }
//! ```
//! It ends: each step moves tables off the level, or removes the tombstones of one table.

use std::sync::Arc;

use sluice_base::Level;

use super::{
    Compaction, CompactionReason, LevelTargets, PickInput,
    build::{Start, build, hull, rewrite_in_place},
    zero::group_of,
};
use crate::version::{KeyRange, TableHandle};

/// The next step of a manual compaction.
#[derive(Debug)]
pub enum RangePick<C> {
    Compact(C),
    /// A running compaction holds what is needed.
    Busy,
    /// Nothing is left to do on this level.
    Done,
}

/// The next step to get what `range` covers off `level`, or, where nothing lies below it, to get
/// rid of its tombstones.
pub fn pick_range<T>(
    input: &PickInput<'_, T>,
    range: KeyRange<'_>,
    level: Level,
) -> RangePick<Compaction<T>> {
    let reason = CompactionReason::Manual;
    if level.0 == 0 {
        let l0 = input.version.level(Level(0));
        let tables: Vec<_> = group_of(l0, range).iter().map(|index| l0[*index].clone()).collect();
        let output_level = LevelTargets::new(input.version, input.options).base_level;
        return step(input, Start { level, tables, output_level, reason, score: 0.0 });
    }
    let tables = input.version.overlapping_run(level, range);
    let Some(whole) = hull(tables) else { return RangePick::Done };
    if !input.version.overlaps_below(level, whole) {
        let droppable = |table: &&Arc<TableHandle<T>>| {
            table.meta.tombstones > 0 && table.meta.max_seq <= input.oldest_snapshot
        };
        return match tables.iter().find(droppable) {
            None => RangePick::Done,
            Some(table) => rewrite_in_place(input, level, table, reason)
                .map_or(RangePick::Busy, RangePick::Compact),
        };
    }
    let mut bytes = 0u64;
    let part = tables.iter().take_while(|table| {
        let fits = bytes < input.options.compaction_bytes_max;
        bytes = bytes.saturating_add(table.meta.bytes);
        fits
    });
    let (tables, output_level) = (part.cloned().collect(), Level(level.0 + 1));
    step(input, Start { level, tables, output_level, reason, score: 0.0 })
}

fn step<T>(input: &PickInput<'_, T>, start: Start<T>) -> RangePick<Compaction<T>> {
    if start.tables.is_empty() {
        return RangePick::Done;
    }
    build(input, start).map_or(RangePick::Busy, RangePick::Compact)
}
