//! [`Model`]: what was written, and what must be left of it after a crash.
//!
//! Every write leaves its number as a *mark* in each family it touches: logged writes under one
//! key, unlogged ones under another. So what a recovery kept can be read off the marks, and one
//! comparison finds lost writes, halves of batches, reordered ones, and rows that came back.
//!
//! What a recovery may leave (P1): everything up to some cut, logged or not, and after the cut a
//! prefix of the logged writes. So one number L says which logged writes are there, and one number U
//! which unlogged ones; all logged writes before U are there too. Both are at least their floors
//! (P2, P3), which differ for a kill and for a power cut.

use sluicedb::{CfId, SchemaId, SchemaRange, SeqNo};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The keys of the marks.
pub const MARK_LOGGED: &[u8] = b"\0mark logged";
pub const MARK_UNLOGGED: &[u8] = b"\0mark unlogged";

/// Key to value of one family.
pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// One batch.
#[derive(Debug, Clone)]
pub struct Change {
    /// Dense over the whole run, never given twice.
    pub number: u64,
    pub logged: bool,
    /// The last sequence number the batch took.
    pub seq: SeqNo,
    pub rows: Vec<(CfId, Vec<u8>, Option<Vec<u8>>)>,
    pub counters: Vec<(CfId, u32, i64)>,
}

impl Change {
    pub fn touches(&self, cf: CfId) -> bool {
        self.rows.iter().any(|(of, _, _)| *of == cf)
    }
}

/// A family as the model knows it.
#[derive(Debug, Clone)]
pub struct Family {
    pub name: String,
    pub wal: bool,
    /// The key schemas of its next tables; `None` when a call that was to change them failed.
    pub schemas: Option<Vec<SchemaRange>>,
    /// Key schemas that a drain has emptied, and that were not set since.
    pub drained: BTreeSet<SchemaId>,
    /// False: a call that was to create or to drop it failed, so that it may or may not be there
    /// after the next opening.
    pub sure: bool,
}

/// What is there: cheap to clone, for the snapshots that are held on to.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub rows: BTreeMap<CfId, Arc<Rows>>,
    pub counters: BTreeMap<(CfId, u32), i64>,
}

impl State {
    pub fn apply(&mut self, change: &Change) {
        for (cf, key, value) in &change.rows {
            let rows = Arc::make_mut(self.rows.entry(*cf).or_default());
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        for (cf, id, delta) in &change.counters {
            *self.counters.entry((*cf, *id)).or_default() += delta;
        }
    }

    pub fn rows(&self, cf: CfId) -> Arc<Rows> {
        self.rows.get(&cf).cloned().unwrap_or_default()
    }

    pub fn counter(&self, cf: CfId, id: u32) -> i64 {
        self.counters.get(&(cf, id)).copied().unwrap_or(0)
    }

    /// Leaves out what belongs to families that are gone.
    fn keep(&mut self, families: &BTreeMap<CfId, Family>) {
        self.rows.retain(|cf, _| families.contains_key(cf));
        self.counters.retain(|(cf, _), _| families.contains_key(cf));
    }
}

/// Numbers up to which writes must be there.
#[derive(Debug, Clone, Copy, Default)]
pub struct Floor {
    pub logged: u64,
    pub unlogged: u64,
}

impl Floor {
    fn raise_logged(&mut self, to: u64) {
        self.logged = self.logged.max(to);
    }

    fn raise(&mut self, to: u64) {
        self.raise_logged(to);
        self.unlogged = self.unlogged.max(to);
    }
}

/// How a database came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// It was closed, or never stopped.
    None,
    Kill,
    Power,
}

#[derive(Debug, Default)]
pub struct Model {
    pub families: BTreeMap<CfId, Family>,
    /// The state before the first of `changes`; no crash can undo it any more.
    base: State,
    pub changes: Vec<Change>,
    /// The present.
    pub now: State,
    /// The last number given.
    pub number: u64,
    kill: Floor,
    power: Floor,
}

impl Model {
    /// A batch was applied.
    pub fn applied(&mut self, change: Change) {
        self.now.apply(&change);
        self.number = change.number;
        self.changes.push(change);
    }

    /// All logged writes up to `number` are with the operating system.
    pub fn written_out(&mut self, number: u64) {
        self.kill.raise_logged(number);
    }

    /// All logged writes up to `number` are on the device.
    pub fn synced(&mut self, number: u64) {
        self.kill.raise_logged(number);
        self.power.raise_logged(number);
    }

    /// All writes up to `number` are in tables, or as safe.
    pub fn flushed(&mut self, number: u64) {
        self.kill.raise(number);
        self.power.raise(number);
    }

    /// The number of the last write at or below a sequence number.
    pub fn number_at(&self, seq: SeqNo) -> u64 {
        self.changes.iter().rev().find(|change| change.seq <= seq).map_or(0, |at| at.number)
    }

    /// The state at a sequence number of this opening, families that were dropped in it included.
    pub fn state_at(&self, seq: SeqNo) -> State {
        let mut state = self.base.clone();
        for change in self.changes.iter().filter(|change| change.seq <= seq) {
            state.apply(change);
        }
        state
    }

    pub fn forget_family(&mut self, cf: CfId) {
        self.families.remove(&cf);
        self.now.keep(&self.families);
    }

    /// What `found`, read after a crash or a close, kept of history; it is the present from now on.
    ///
    /// # Panics
    /// When no history that the promises allow explains it.
    pub fn recovered(&mut self, found: &State, crash: Crash) {
        let floor = match crash {
            Crash::None | Crash::Kill => self.kill,
            Crash::Power => self.power,
        };
        let logged = self.reached(found, true);
        let unlogged = self.reached(found, false);
        assert!(
            logged.most >= floor.logged,
            "P2: logged writes up to {} must have survived the {crash:?}; up to {} did",
            floor.logged,
            logged.least
        );
        assert!(
            unlogged.most >= floor.unlogged,
            "P3: unlogged writes up to {} must have survived the {crash:?}; up to {} did",
            floor.unlogged,
            unlogged.least
        );
        let before = self.changes.iter().rfind(|c| c.logged && c.number < unlogged.least);
        let before = before.map_or(0, |change| change.number);
        assert!(
            logged.most >= before,
            "P1: unlogged write {} is there and logged write {before} before it is not",
            unlogged.least
        );
        // What lies between least and most touched only families that are gone: it shows nowhere, and
        // its sequence numbers may be given again.
        self.changes.retain(|change| {
            change.number <= if change.logged { logged.least } else { unlogged.least }
        });
        let mut state = self.base.clone();
        for change in &self.changes {
            state.apply(change);
        }
        state.keep(&self.families);
        same(found, &state, &format!("P1: after the {crash:?}, {logged:?} {unlogged:?}"));
        self.now = state;
        // What a power cut has left is on the device, and what a kill has left outlives kills.
        let left = Floor { logged: logged.least, unlogged: unlogged.least };
        for floor in match crash {
            Crash::Power => vec![&mut self.kill, &mut self.power],
            Crash::Kill | Crash::None => vec![&mut self.kill],
        } {
            floor.raise_logged(left.logged);
            floor.unlogged = floor.unlogged.max(left.unlogged);
        }
        self.fold();
    }

    /// Which writes of a class `found` shows.
    fn reached(&self, found: &State, logged: bool) -> Reach {
        let mark = if logged { MARK_LOGGED } else { MARK_UNLOGGED };
        let mut reach = Reach { least: 0, most: u64::MAX };
        for cf in self.families.keys() {
            let value = found.rows(*cf).get(mark).cloned().unwrap_or_else(|| b"0".to_vec());
            let number: u64 = String::from_utf8(value).unwrap().parse().unwrap();
            let mut later = self.changes.iter().filter(|c| c.logged == logged && c.number > number);
            let next = later.find(|change| change.touches(*cf)).map_or(u64::MAX, |c| c.number);
            reach.least = reach.least.max(number);
            reach.most = reach.most.min(next - 1);
        }
        assert!(
            reach.least <= reach.most,
            "P1: families at different points (logged: {logged}): one has write {}, and one has not \
             write {}, which touched it",
            reach.least,
            reach.most + 1
        );
        reach
    }

    /// Moves what no crash can undo into the base.
    fn fold(&mut self) {
        let sure = self.power.logged.min(self.power.unlogged);
        let sure = sure.min(self.kill.logged).min(self.kill.unlogged);
        let count = self.changes.partition_point(|change| change.number <= sure);
        for change in self.changes.drain(..count) {
            self.base.apply(&change);
        }
        self.base.keep(&self.families);
    }
}

/// The numbers of the last write that must, and the last that may have been kept: between the two
/// lie only writes that touched nothing but dropped families.
#[derive(Debug, Clone, Copy)]
struct Reach {
    least: u64,
    most: u64,
}

/// Compares two states, and says briefly where they differ.
pub fn same(found: &State, expected: &State, when: &str) {
    let empty = |state: &State| -> BTreeSet<CfId> {
        state.rows.iter().filter(|(_, rows)| !rows.is_empty()).map(|(cf, _)| *cf).collect()
    };
    for cf in empty(found).union(&empty(expected)) {
        same_rows(&found.rows(*cf), &expected.rows(*cf), &format!("{when}, family {cf}"));
    }
    let counters = found.counters.keys().chain(expected.counters.keys());
    for (cf, id) in counters.collect::<BTreeSet<_>>() {
        let (found, expected) = (found.counter(*cf, *id), expected.counter(*cf, *id));
        assert_eq!(found, expected, "{when}: counter {id} of family {cf}");
    }
}

/// As [`same`], for one family.
pub fn same_rows(found: &Rows, expected: &Rows, when: &str) {
    if found == expected {
        return;
    }
    let keys: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let differs: Vec<String> = keys
        .into_iter()
        .filter(|key| found.get(*key) != expected.get(*key))
        .map(|key| {
            let len = |rows: &Rows| rows.get(key).map(Vec::len);
            let shown = key.escape_ascii().to_string();
            format!("{shown:.40}: {:?} bytes, not {:?}", len(found), len(expected))
        })
        .take(8)
        .collect();
    panic!("{when}: the rows differ: {differs:?}");
}
