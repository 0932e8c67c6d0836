//! How large each level should be, how far over it is, and how much work that means.

use sluice_base::Level;

use super::{PickInput, PickerOptions, sum_bytes};
use crate::version::{CfVersion, SchemaMap, depth};

const LAST: Level = Level(Level::COUNT as u8 - 1);

/// The size each level aims at, derived from the largest level upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelTargets {
    /// Where L0 is compacted to. Levels between L0 and it are empty.
    pub base_level: Level,
    /// Target bytes, level by level; 0 above the base, and for L0.
    pub bytes: [u64; Level::COUNT],
}

impl LevelTargets {
    /// An empty tree, or a small one that is all in the last level, compacts L0 straight into it.
    /// As the largest level grows, dividing its size by the ratio again and again gives what the
    /// levels above should hold; a new base is opened above while the quotient still exceeds
    /// `level_base_bytes`. No level's target is below `level_base_bytes`: a level smaller than
    /// what one L0 compaction brings would be rewritten whole each time.
    ///
    /// The base never lies below the first level that holds anything, so data is never skipped.
    pub fn new<T>(version: &CfVersion<T>, options: &PickerOptions) -> LevelTargets {
        let mut bytes = [0; Level::COUNT];
        let used = |level: &u8| !version.level(Level(*level)).is_empty();
        let Some(first_used) = (1..=LAST.0).find(used) else {
            bytes[usize::from(LAST.0)] = options.level_base_bytes;
            return LevelTargets { base_level: LAST, bytes };
        };
        let largest = (1..=LAST.0).map(|level| version.level_bytes(Level(level))).max();
        let ratio = options.level_ratio.max(2);
        // What the first used level should hold, if the largest size belonged to the last level.
        let mut base_bytes = largest.unwrap_or(0);
        for _ in first_used..LAST.0 {
            base_bytes /= ratio;
        }
        let mut base = first_used;
        while base > 1 && base_bytes > options.level_base_bytes {
            base -= 1;
            base_bytes /= ratio;
        }
        let mut target = base_bytes;
        for level in base..=LAST.0 {
            bytes[usize::from(level)] = target.max(options.level_base_bytes);
            target = target.saturating_mul(ratio);
        }
        LevelTargets { base_level: Level(base), bytes }
    }

    pub fn of(&self, level: Level) -> u64 {
        self.bytes.get(usize::from(level.0)).copied().unwrap_or(0)
    }

    /// How full each level is that can be compacted; 1 is "do it". What running compactions hold
    /// does not count: it is on its way down.
    pub(super) fn scores<T>(&self, input: &PickInput<'_, T>) -> Vec<(Level, f64)> {
        let idle = |level: Level| {
            let tables = input.version.level(level).iter();
            tables.filter(|table| !input.in_progress.contains(&table.meta))
        };
        let l0_bytes = sum_bytes(idle(Level(0)));
        let l0_depth = depth(idle(Level(0)).map(|table| &table.meta));
        let by_count =
            l0_fill(idle(Level(0)).count(), l0_depth, input.schemas, input.options.l0_trigger);
        let by_bytes = l0_bytes as f64 / self.of(self.base_level).max(1) as f64;
        let mut scores = vec![(Level(0), by_count.max(by_bytes))];
        for level in (self.base_level.0..LAST.0).map(Level) {
            let bytes = sum_bytes(idle(level));
            scores.push((level, bytes as f64 / self.of(level).max(1) as f64));
        }
        scores
    }
}

/// How full L0 is by its tables; 1 is "do it". By depth, which a lookup pays for, and by number,
/// which an iterator pays for: of those a flush may bring one for each range of key schemas.
fn l0_fill(count: usize, depth: usize, schemas: &SchemaMap, trigger: usize) -> f64 {
    let by_range = count as f64 / schemas.ranges().len().max(1) as f64;
    by_range.max(depth as f64) / trigger.max(1) as f64
}

/// What admission control needs to know of a column family's compactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pressure {
    pub l0_files: usize,
    pub l0_bytes: u64,
    pub base_level: Level,
    /// Bytes that compactions must read and write until every level is within its target.
    pub debt_bytes: u64,
}

/// The pressure of a version.
///
/// The debt is estimated from the top down. L0, once at its trigger, is merged with the whole base
/// level. From then on each level hands its excess down, and each byte handed down rewrites as many
/// bytes below as the level below is larger: `excess × (1 + bytes below / bytes here)`.
pub fn pressure<T>(
    version: &CfVersion<T>,
    schemas: &SchemaMap,
    options: &PickerOptions,
) -> Pressure {
    let targets = LevelTargets::new(version, options);
    let l0_files = version.level(Level(0)).len();
    let l0_bytes = version.level_bytes(Level(0));
    let base_bytes = version.level_bytes(targets.base_level);
    let mut debt: u128 = 0;
    let mut handed_down: u128 = 0;
    let fill = l0_fill(l0_files, version.l0_depth(), schemas, options.l0_trigger);
    if fill >= 1.0 || l0_bytes >= targets.of(targets.base_level) {
        handed_down = u128::from(l0_bytes);
        debt = handed_down + u128::from(base_bytes);
    }
    for level in (targets.base_level.0..LAST.0).map(Level) {
        let bytes = u128::from(version.level_bytes(level)) + handed_down;
        handed_down = bytes.saturating_sub(u128::from(targets.of(level)));
        if handed_down > 0 {
            let below = u128::from(version.level_bytes(Level(level.0 + 1)));
            // `bytes` is at least `handed_down`, so it is not 0, and the product of two sums of
            // 64-bit numbers stays inside 128 bits.
            debt += handed_down + handed_down * below / bytes;
        }
    }
    let debt_bytes = u64::try_from(debt).unwrap_or(u64::MAX);
    Pressure { l0_files, l0_bytes, base_level: targets.base_level, debt_bytes }
}
