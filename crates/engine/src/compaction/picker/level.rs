//! Picks from L1 and deeper: the cheapest table of a full level, and tables full of tombstones.

use std::{cmp::Ordering, sync::Arc};

use sluice_base::Level;

use super::{
    Compaction, CompactionReason, PickInput,
    build::{Start, build, has_droppable_tombstones, is_busy, overlap_below, rewrite_in_place},
    sum_bytes,
    zero::pick_into_base,
};
use crate::version::{KeyRange, TableHandle};

/// A table of a full `level` goes one level down: the one that overlaps the fewest bytes there for
/// each of its own, because that ratio is what moving a byte down costs.
pub(super) fn pick_level<T>(
    input: &PickInput<'_, T>,
    level: Level,
    score: f64,
) -> Option<Compaction<T>> {
    let mut candidates: Vec<(u64, &Arc<TableHandle<T>>)> = Vec::new();
    for table in input.version.level(level).iter().filter(|table| !is_busy(input, table)) {
        let below = overlap_below(input, level, KeyRange::of(&table.meta));
        if !below.iter().any(|table| is_busy(input, table)) {
            candidates.push((sum_bytes(below), table));
        }
    }
    // Stable: among equals the first in key order wins, so the same values give the same pick.
    candidates.sort_by(|a, b| by_cost(a, b));
    candidates.into_iter().find_map(|(_, table)| {
        let output_level = Level(level.0 + 1);
        let reason = CompactionReason::LevelFull;
        build(input, Start { level, tables: vec![table.clone()], output_level, reason, score })
    })
}

/// Compares overlap / bytes, without dividing.
fn by_cost<T>(a: &(u64, &Arc<TableHandle<T>>), b: &(u64, &Arc<TableHandle<T>>)) -> Ordering {
    let scaled = |overlap: u64, other: &TableHandle<T>| {
        u128::from(overlap) * u128::from(other.meta.bytes.max(1))
    };
    scaled(a.0, b.1).cmp(&scaled(b.0, a.1))
}

/// A table that is mostly tombstones which no snapshot needs: it goes down until nothing lies under
/// it, and is then rewritten without them. The one with the largest share first.
pub(super) fn pick_tombstones<T>(
    input: &PickInput<'_, T>,
    base_level: Level,
) -> Option<Compaction<T>> {
    let reason = CompactionReason::Tombstones;
    let wanted = |table: &TableHandle<T>| has_droppable_tombstones(input, table);
    if let Some(picked) = pick_into_base(input, base_level, 0.0, reason, wanted) {
        return Some(picked);
    }
    let mut candidates: Vec<(Level, &Arc<TableHandle<T>>)> = input
        .version
        .tables()
        .filter(|(level, table)| level.0 > 0 && wanted(table) && !is_busy(input, table))
        .collect();
    candidates.sort_by(|(_, a), (_, b)| {
        let scaled = |table: &TableHandle<T>, other: &TableHandle<T>| {
            u128::from(table.meta.tombstones) * u128::from(other.meta.entries)
        };
        scaled(b, a).cmp(&scaled(a, b))
    });
    candidates.into_iter().find_map(|(level, table)| {
        if !input.version.overlaps_below(level, KeyRange::of(&table.meta)) {
            return rewrite_in_place(input, level, table, reason);
        }
        let (tables, output_level) = (vec![table.clone()], Level(level.0 + 1));
        build(input, Start { level, tables, output_level, reason, score: 0.0 })
    })
}
