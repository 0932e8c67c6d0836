//! From chosen tables to a whole compaction: what comes along, whether it can run now, whether it
//! is a mere move.

use std::sync::Arc;

use sluice_base::Level;

use super::{Compaction, CompactionKind, CompactionReason, PickInput, sum_bytes};
use crate::version::{KeyRange, TableHandle};

/// The tables a pick starts from.
pub(super) struct Start<T> {
    pub(super) level: Level,
    /// In the level's order.
    pub(super) tables: Vec<Arc<TableHandle<T>>>,
    pub(super) output_level: Level,
    pub(super) reason: CompactionReason,
    pub(super) score: f64,
}

/// The compaction of `start.tables` into a deeper level with all that must come along; `None` when
/// something it needs is held by a running compaction.
pub(super) fn build<T>(input: &PickInput<'_, T>, start: Start<T>) -> Option<Compaction<T>> {
    let Start { level, tables: mut upper, output_level, reason, score } = start;
    debug_assert!(level < output_level);
    let upper_hull = hull(&upper)?;
    let lower = input.version.overlapping_run(output_level, upper_hull).to_vec();
    let all = match hull(&lower) {
        Some(lower_hull) => upper_hull.union(lower_hull),
        None => upper_hull,
    };
    let wider = widen(input, level, &upper, &lower, all);
    let mut is_blocked = upper.iter().chain(&lower).any(|table| is_busy(input, table));
    // By rule 3. Wider inputs lie inside the same hull.
    is_blocked |= input.in_progress.writes_into(input.cf, output_level, all);
    if is_blocked {
        return None;
    }
    let grandparents = overlap_below(input, output_level, all).to_vec();
    let is_bottommost = !input.version.overlaps_below(output_level, all);
    // Tables of one level are merged unless they cannot share a key. A table that could lose most
    // of its entries is worth rewriting on its way.
    let kind = if lower.is_empty()
        && (level.0 > 0 || upper.len() == 1)
        && upper.iter().all(|table| input.schemas.fits(&table.meta))
        && sum_bytes(&grandparents) <= input.options.grandparent_bytes_max
        && !(is_bottommost && upper.iter().any(|table| has_droppable_tombstones(input, table)))
    {
        CompactionKind::Move
    } else {
        CompactionKind::Merge
    };
    if let (CompactionKind::Merge, Some(wider)) = (kind, wider) {
        upper = wider;
    }
    let mut inputs = vec![(level, upper)];
    if !lower.is_empty() {
        inputs.push((output_level, lower));
    }
    let cf = input.cf;
    Some(Compaction {
        cf,
        kind,
        reason,
        level,
        output_level,
        inputs,
        grandparents,
        score,
        is_bottommost,
    })
}

/// The compaction that rewrites one table of L1 or deeper in its place, to lose its tombstones.
pub(super) fn rewrite_in_place<T>(
    input: &PickInput<'_, T>,
    level: Level,
    table: &Arc<TableHandle<T>>,
    reason: CompactionReason,
) -> Option<Compaction<T>> {
    let range = KeyRange::of(&table.meta);
    debug_assert!(level.0 > 0 && !input.version.overlaps_below(level, range));
    if is_busy(input, table) || input.in_progress.writes_into(input.cf, level, range) {
        return None;
    }
    Some(Compaction {
        cf: input.cf,
        kind: CompactionKind::Merge,
        reason,
        level,
        output_level: level,
        inputs: vec![(level, vec![table.clone()])],
        grandparents: Vec::new(),
        score: 0.0,
        is_bottommost: true,
    })
}

/// The tables of the upper level that lie wholly inside `all`: they ride along for the price of
/// their own bytes, because they overlap nothing below that is not an input already. Not from L0,
/// where age matters. `None` when there are no more, or when they are busy or too large.
fn widen<T>(
    input: &PickInput<'_, T>,
    level: Level,
    upper: &[Arc<TableHandle<T>>],
    lower: &[Arc<TableHandle<T>>],
    all: KeyRange<'_>,
) -> Option<Vec<Arc<TableHandle<T>>>> {
    if level.0 == 0 || lower.is_empty() {
        return None;
    }
    let is_inside = |table: &&Arc<TableHandle<T>>| KeyRange::of(&table.meta).union(all) == all;
    let run = input.version.overlapping_run(level, all);
    let wider: Vec<_> = run.iter().filter(is_inside).cloned().collect();
    let fits = wider.len() > upper.len()
        && sum_bytes(&wider).saturating_add(sum_bytes(lower)) <= input.options.compaction_bytes_max
        && !wider.iter().any(|table| is_busy(input, table));
    fits.then_some(wider)
}

pub(super) fn is_busy<T>(input: &PickInput<'_, T>, table: &TableHandle<T>) -> bool {
    input.in_progress.contains(&table.meta)
}

/// True when tombstones are most of the table and no snapshot needs any of them.
pub(super) fn has_droppable_tombstones<T>(
    input: &PickInput<'_, T>,
    table: &TableHandle<T>,
) -> bool {
    table.meta.is_tombstone_heavy(input.options.tombstone_percent)
        && table.meta.max_seq <= input.oldest_snapshot
}

pub(super) fn hull<T>(tables: &[Arc<TableHandle<T>>]) -> Option<KeyRange<'_>> {
    KeyRange::hull(tables.iter().map(|table| &table.meta))
}

/// What `range` overlaps in the level below `level`.
pub(super) fn overlap_below<'a, T>(
    input: &PickInput<'a, T>,
    level: Level,
    range: KeyRange<'_>,
) -> &'a [Arc<TableHandle<T>>] {
    input.version.overlapping_run(Level(level.0 + 1), range)
}
