//! Snapshots, views and iterators that are held on to while the database goes on: each must show
//! the state of its moment, whatever is flushed, compacted or dropped meanwhile.

use crate::model::{Rows, State, same_rows};
use sluice_env::Rng;
use sluicedb::{CfId, ColumnFamily, Db, ErrorKind, Iter, ReadOptions, ReadView, Snapshot};
use std::{ops::Bound, sync::Arc};

/// Most that are held at once.
const HELD_MAX: usize = 6;

#[derive(Debug)]
enum Kind {
    Snapshot(Snapshot),
    View(ReadView),
}

/// A moment that stays readable.
#[derive(Debug)]
struct Moment {
    kind: Kind,
    state: State,
}

/// A cursor, and where it must stand.
#[derive(Debug)]
struct Cursor {
    iter: Iter,
    /// The rows inside its bounds.
    rows: Arc<Rows>,
    at: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
pub struct Held {
    moments: Vec<Moment>,
    cursors: Vec<Cursor>,
}

/// True for an error that may be: `disturbed` says whether reads fail at present.
fn excused(error: &sluicedb::Error, disturbed: bool) -> bool {
    disturbed && error.kind() != ErrorKind::Corruption
}

impl Held {
    pub fn take_moment(&mut self, db: &Db, now: &State, rng: &mut Rng) {
        if self.moments.len() >= HELD_MAX {
            self.moments.swap_remove(rng.below(HELD_MAX as u64) as usize);
        }
        let kind = match rng.below(3) {
            0 => Kind::View(db.view()),
            _ => Kind::Snapshot(db.snapshot()),
        };
        self.moments.push(Moment { kind, state: now.clone() });
    }

    /// Opens a cursor on the present or on a moment that is held.
    pub fn open_cursor(
        &mut self,
        db: &Db,
        cf: &ColumnFamily,
        now: &State,
        disturbed: bool,
        rng: &mut Rng,
    ) {
        if self.cursors.len() >= HELD_MAX {
            self.cursors.swap_remove(rng.below(HELD_MAX as u64) as usize);
        }
        let moment = self.moments.get(rng.below(2 * HELD_MAX as u64) as usize);
        // A moment before the family was made knows nothing of it.
        let moment = moment.filter(|moment| moment.state.rows.contains_key(&cf.id()));
        let (view, state) = match moment {
            Some(Moment { kind: Kind::View(view), state }) => (view, state),
            Some(Moment { kind: Kind::Snapshot(snapshot), state }) => (&snapshot.view(), state),
            None => (&db.view(), now),
        };
        let options = options(rng);
        let rows = within(&state.rows(cf.id()), &options);
        match view.iter(cf, options) {
            Ok(iter) => self.cursors.push(Cursor { iter, rows: Arc::new(rows), at: None }),
            Err(error) => assert!(excused(&error, disturbed), "an iterator: {error}"),
        }
    }

    /// Moves a cursor about.
    pub fn move_cursor(&mut self, disturbed: bool, rng: &mut Rng) {
        if self.cursors.is_empty() {
            return;
        }
        let index = rng.below(self.cursors.len() as u64) as usize;
        for _ in 0..1 + rng.below(12) {
            let moved = self.cursors[index].step(rng);
            if let Err(error) = moved {
                assert!(excused(&error, disturbed), "a move of an iterator: {error}");
                // Where it stands after an error is open: the next move begins anew.
                self.cursors.swap_remove(index);
                return;
            }
        }
    }

    /// Reads a whole family of a moment.
    pub fn read_moment(&self, families: &[ColumnFamily], disturbed: bool, rng: &mut Rng) {
        let Some(moment) = self.moments.get(rng.below(HELD_MAX as u64) as usize) else { return };
        let view = match &moment.kind {
            Kind::View(view) => view,
            Kind::Snapshot(snapshot) => &snapshot.view(),
        };
        for cf in families.iter().filter(|cf| moment.state.rows.contains_key(&cf.id())) {
            match read(view, cf) {
                Ok(rows) => same_rows(&rows, &moment.state.rows(cf.id()), "P1: a held moment"),
                Err(error) => assert!(excused(&error, disturbed), "a held moment: {error}"),
            }
        }
    }

    pub fn release(&mut self, rng: &mut Rng) {
        if rng.one_in(4) {
            *self = Held::default();
        } else if rng.one_in(2) && !self.cursors.is_empty() {
            self.cursors.swap_remove(rng.below(self.cursors.len() as u64) as usize);
        } else if !self.moments.is_empty() {
            self.moments.swap_remove(rng.below(self.moments.len() as u64) as usize);
        }
    }

    /// A family was dropped: snapshots, which read through the present, cannot see it any more; views
    /// can.
    pub fn dropped(&mut self, cf: CfId) {
        for moment in &mut self.moments {
            if matches!(moment.kind, Kind::Snapshot(_)) {
                moment.state.rows.remove(&cf);
            }
        }
    }
}

impl Cursor {
    fn step(&mut self, rng: &mut Rng) -> sluicedb::Result<()> {
        let rows = &self.rows;
        let key = target(rows, rng);
        let owned = |row: Option<(&Vec<u8>, &Vec<u8>)>| row.map(|(key, _)| key.clone());
        let (on, at) = match (rng.below(8), &self.at) {
            (0, _) => (self.iter.seek_to_first()?, owned(rows.first_key_value())),
            (1, _) => (self.iter.seek_to_last()?, owned(rows.last_key_value())),
            (2, _) => (self.iter.seek(&key)?, owned(rows.range(key.clone()..).next())),
            (3, _) => {
                let on = self.iter.seek_for_prev(&key)?;
                (on, owned(rows.range(..=key).next_back()))
            }
            (4 | 5, Some(at)) => {
                let next = rows.range((Bound::Excluded(at.clone()), Bound::Unbounded)).next();
                (self.iter.next()?, owned(next))
            }
            (_, Some(at)) => (self.iter.prev()?, owned(rows.range(..at.clone()).next_back())),
            (_, None) => return Ok(()),
        };
        assert_eq!(on, at.is_some(), "an iterator stands on an entry, or should");
        assert_eq!(self.iter.valid(), on);
        if let Some(at) = &at {
            assert_eq!(self.iter.key().escape_ascii().to_string(), at.escape_ascii().to_string());
            assert!(self.iter.value() == rows[at], "an iterator shows another value");
        }
        self.at = at;
        Ok(())
    }
}

/// A key that is there, or one nearby.
fn target(rows: &Rows, rng: &mut Rng) -> Vec<u8> {
    let mut key = rows.keys().nth(rng.below(rows.len() as u64 + 1) as usize).cloned();
    if let Some(key) = &mut key
        && rng.one_in(3)
    {
        match rng.below(2) {
            0 => key.push(rng.below(256) as u8),
            _ => drop(key.pop()),
        }
    }
    key.unwrap_or_else(|| b"k5".to_vec())
}

fn options(rng: &mut Rng) -> ReadOptions {
    let key = |rng: &mut Rng| format!("k{:03}", rng.below(120)).into_bytes();
    let bound = |rng: &mut Rng| rng.one_in(4).then(|| key(rng));
    ReadOptions {
        lower: bound(rng),
        upper: bound(rng),
        prefix: rng.one_in(6).then(|| format!("k{}", rng.below(2)).into_bytes()),
        skip_cache_fill: rng.one_in(2),
        ..ReadOptions::default()
    }
}

fn within(rows: &Rows, options: &ReadOptions) -> Rows {
    let inside = |key: &Vec<u8>| {
        options.lower.as_ref().is_none_or(|lower| key >= lower)
            && options.upper.as_ref().is_none_or(|upper| key < upper)
            && options.prefix.as_ref().is_none_or(|prefix| key.starts_with(prefix))
    };
    let kept = rows.iter().filter(|(key, _)| inside(key));
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Everything of one family, backwards, and each row once more by its key.
fn read(view: &ReadView, cf: &ColumnFamily) -> sluicedb::Result<Rows> {
    let mut rows = Rows::new();
    let mut iter = view.iter(cf, ReadOptions::default())?;
    let mut on = iter.seek_to_last()?;
    while on {
        let value = view.get(cf, iter.key())?;
        assert!(value.as_deref() == Some(iter.value()), "a get and an iterator do not agree");
        rows.insert(iter.key().to_vec(), iter.value().to_vec());
        on = iter.prev()?;
    }
    Ok(rows)
}
