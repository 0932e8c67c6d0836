//! Picks from L0, whose tables overlap and where age decides.
//!
//! ```text
//!   age    newest   9 ────────────      a group: tables that overlap, directly or through others
//!                   8    ────
//!                   7        ─────      5        another group
//!          oldest   6   ───             ──
//! ```
//! A pick takes one group from its oldest table upwards, up to the first that is busy or the byte
//! limit. Everything older that an input overlaps is in the same group and further down, so it is an
//! input too (rule 2); newer tables may stay, they keep hiding what goes down.

use std::sync::Arc;

use sluice_base::Level;

use super::{
    Compaction, CompactionKind, CompactionReason, PickInput,
    build::{Start, build, is_busy},
    sum_bytes,
};
use crate::version::{KeyRange, TableHandle, depth};

/// L0 into the base level; when that is blocked and L0 has grown, a merge inside L0.
pub(super) fn pick_l0<T>(
    input: &PickInput<'_, T>,
    base_level: Level,
    score: f64,
) -> Option<Compaction<T>> {
    pick_into_base(input, base_level, score, CompactionReason::L0Full, |_| true)
        .or_else(|| pick_intra_l0(input, score))
}

/// The first group, oldest first, with a table that `wanted` likes and that can be compacted now.
pub(super) fn pick_into_base<T>(
    input: &PickInput<'_, T>,
    base_level: Level,
    score: f64,
    reason: CompactionReason,
    wanted: impl Fn(&TableHandle<T>) -> bool,
) -> Option<Compaction<T>> {
    let l0 = input.version.level(Level(0));
    let mut grouped = vec![false; l0.len()];
    for seed in (0..l0.len()).rev() {
        if grouped[seed] {
            continue;
        }
        let group = group_of(l0, KeyRange::of(&l0[seed].meta));
        for index in &group {
            grouped[*index] = true;
        }
        if !group.iter().any(|index| wanted(&l0[*index])) {
            continue;
        }
        let tables = oldest_part(input, l0, &group);
        let start = Start { level: Level(0), tables, output_level: base_level, reason, score };
        if let Some(compaction) = build(input, start) {
            return Some(compaction);
        }
    }
    None
}

/// The indexes, newest first, of the tables that overlap `range` or each other.
pub(super) fn group_of<T>(l0: &[Arc<TableHandle<T>>], range: KeyRange<'_>) -> Vec<usize> {
    let mut range = range;
    loop {
        let members = l0.iter().map(|table| &table.meta).filter(|meta| range.overlaps_table(meta));
        // The members' own hull, not its union with the request: a request may reach further.
        let Some(hull) = KeyRange::hull(members) else { return Vec::new() };
        // Members overlap the range, so their hull joined to it has no gap that is not asked for.
        let wider = range.union(hull);
        if wider == range {
            break;
        }
        range = wider;
    }
    let is_member = |index: &usize| range.overlaps_table(&l0[*index].meta);
    (0..l0.len()).filter(is_member).collect()
}

/// The oldest tables of a group, in L0's order, up to the first busy one and about
/// `compaction_bytes_max`. May be empty.
fn oldest_part<T>(
    input: &PickInput<'_, T>,
    l0: &[Arc<TableHandle<T>>],
    group: &[usize],
) -> Vec<Arc<TableHandle<T>>> {
    let mut bytes = 0u64;
    let mut tables = Vec::new();
    for index in group.iter().rev() {
        let table = &l0[*index];
        if is_busy(input, table) || bytes >= input.options.compaction_bytes_max {
            break;
        }
        bytes = bytes.saturating_add(table.meta.bytes);
        tables.push(table.clone());
    }
    tables.reverse();
    tables
}

/// Merges the newest tables of L0 into one, so that reads ask fewer tables while the way down is
/// blocked. Takes neighbours from the newest on while each one more lowers the bytes written for a
/// table saved; a large old table would only be copied.
fn pick_intra_l0<T>(input: &PickInput<'_, T>, score: f64) -> Option<Compaction<T>> {
    let l0 = input.version.level(Level(0));
    if input.version.l0_depth() < input.options.l0_trigger.saturating_add(2) {
        return None;
    }
    let idle = l0.iter().take_while(|table| !is_busy(input, table)).count();
    let mut count = 0;
    let mut bytes = 0u64;
    let mut bytes_per_saved = u64::MAX;
    for table in &l0[..idle] {
        let wider = bytes.saturating_add(table.meta.bytes);
        // Two tables save one; the first alone saves none and is always taken.
        let cost = if count == 0 { u64::MAX } else { wider / count as u64 };
        if cost > bytes_per_saved || wider > input.options.compaction_bytes_max {
            break;
        }
        (count, bytes, bytes_per_saved) = (count + 1, wider, cost);
    }
    let tables = l0[..count].to_vec();
    // Tables side by side stay as many: the merge is cut at the ends of key schema ranges.
    if depth(tables.iter().map(|table| &table.meta)) < input.options.intra_l0_tables_min.max(2) {
        return None;
    }
    debug_assert!(sum_bytes(&tables) == bytes);
    Some(Compaction {
        cf: input.cf,
        kind: CompactionKind::IntraL0,
        reason: CompactionReason::L0Full,
        level: Level(0),
        output_level: Level(0),
        inputs: vec![(Level(0), tables)],
        grandparents: Vec::new(),
        score,
        is_bottommost: false,
    })
}
