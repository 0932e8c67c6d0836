//! The loop of a compaction: entries of many tables in order, of which [`Keeper`] says what survives,
//! into outputs. Knows no files.
//!
//! *Two ways.* Row by row: each entry has its key built and compared, and is added by itself. By runs:
//! while one source stays ahead of the others, what comes next in its block goes over as a whole
//! ([`RowRun`]), and a whole block as it is in the file. A run has no tombstones and no second versions,
//! and ends before the next key of the others and before whatever may end an output: so of its entries
//! only the first has a decision to make, and the result is that of the row way.

use crate::{
    Result,
    rewrite::Keeper,
    table_source::{MergeIter, Source},
};
use sluice_base::{Kind, Trailer};
use sluice_table::RowRun;

/// A source that came first so often in a row is tried for a run, at the beginning. Each run that was worth
/// it makes that less, each that was not more: where sources alternate nothing is tried.
const STEADY_FIRST: u32 = 3;
const STEADY_MAX: u32 = 32;

/// A run from which a search for it is worth it.
const RUN_ROWS_MIN: usize = 4;

/// A user key and a trailer: a place in the order of entries.
pub(crate) type Place<'a> = (&'a [u8], Trailer);

/// The earlier of two places, `None` being the end.
pub(crate) fn first_of<'a>(a: Option<Place<'a>>, b: Option<Place<'a>>) -> Option<Place<'a>> {
    match (a, b) {
        (Some(a), Some(b)) if (a.0, b.1) < (b.0, a.1) => Some(a),
        (a, None) => a,
        (_, b) => b,
    }
}

/// Where the entries go, and what is known of where they come from.
pub(crate) trait Outputs {
    /// Whether no older entry of `key` can exist outside the merge. Keys ascend.
    fn nothing_below(&mut self, key: &[u8]) -> bool;
    /// Called before the first entry of each user key, or of a run: ends the output where one must end.
    fn begin_key(&mut self, key: &[u8]) -> Result<()>;
    fn add(&mut self, key: &[u8], trailer: Trailer, value: &[u8]) -> Result<()>;
    fn add_run(&mut self, run: &RowRun<'_>) -> Result<()>;
    /// No run goes up to here, once [`Outputs::begin_key`] was called.
    fn run_end(&self) -> Option<Place<'_>>;
    /// Called now and then; an error ends the merge.
    fn check(&self, entries: u64) -> Result<()>;
}

/// How a merge is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    /// Whether every entry survives.
    pub(crate) keeps_all: bool,
    /// Whether runs are looked for.
    pub(crate) runs: bool,
}

/// Merges `sources`, of which the earlier wins among equal entries, into `outputs`.
pub(crate) fn merge(
    sources: Vec<Source>,
    mut keeper: Keeper,
    way: Way,
    outputs: &mut impl Outputs,
) -> Result<()> {
    let mut merged = MergeIter::new(sources);
    let mut last_key: Vec<u8> = Vec::new();
    // Whether `last_key` is one.
    let mut any = false;
    let (mut winner, mut wins, mut steady) = (None, 0, STEADY_FIRST);
    let mut more = merged.seek_to_first()?;
    while more {
        if way.runs {
            let now = merged.winner();
            wins = if now == winner { wins + 1 } else { 0 };
            winner = now;
            let is_new = |key: &[u8]| match way.keeps_all {
                true => !any || last_key != key,
                false => keeper.is_new(key),
            };
            if (wins >= steady || merged.begins_block())
                && merged.trailer().kind() == Some(Kind::Put)
                && is_new(merged.key())
            {
                outputs.begin_key(merged.key())?;
                if let Some(run) = merged.run(outputs.run_end()) {
                    sluice_env::probe!("compaction: rows went over as a run");
                    outputs.add_run(&run)?;
                    let entries = run.len();
                    steady = match entries >= RUN_ROWS_MIN {
                        true => steady.max(2) - 1,
                        false => (steady + 2).min(STEADY_MAX),
                    };
                    merged.advance(entries - 1);
                    keeper.pass(merged.key(), merged.trailer());
                    last_key.clear();
                    last_key.extend_from_slice(merged.key());
                    (any, wins) = (true, 0);
                    outputs.check(entries as u64)?;
                    more = merged.next()?;
                    continue;
                }
            }
        }
        let (key, trailer) = (merged.key(), merged.trailer());
        if way.keeps_all || keeper.keep(key, trailer, |key| outputs.nothing_below(key)) {
            if !any || last_key != key {
                outputs.begin_key(key)?;
                last_key.clear();
                last_key.extend_from_slice(key);
                any = true;
            }
            outputs.add(key, trailer, merged.value())?;
        }
        outputs.check(1)?;
        more = merged.next()?;
    }
    Ok(())
}
