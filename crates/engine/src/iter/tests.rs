//! The iterators against a sorted map of versions: random entries dealt to random sources, random
//! moves both ways, random bounds. Every random test prints its seed when it fails.

use super::{Bounds, Cursor, DbIter, LevelIter, MergeIter, Run, Source};
use crate::memtable::{Memtable, MemtableIter};
use sluice_base::{Error, ErrorKind, Kind, Result, SeqNo, Trailer};
use sluice_env::Rng;
use std::{
    cell::Cell,
    cmp::Reverse,
    collections::BTreeMap,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

type Versions = BTreeMap<(Vec<u8>, Reverse<Trailer>), Vec<u8>>;

struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with seed {}", self.0);
        }
    }
}

/// A run whose tables are memtables. Counts how often one is opened.
#[derive(Debug, Default)]
struct TestRun {
    tables: Vec<(Vec<u8>, Vec<u8>, Arc<Memtable>)>,
    opened: Rc<Cell<usize>>,
}

impl TestRun {
    /// Cuts `versions` at random places, also between two versions of one key.
    fn cut(versions: &Versions, rng: &mut Rng) -> TestRun {
        let mut run = TestRun::default();
        for ((key, Reverse(trailer)), value) in versions {
            if run.tables.is_empty() || rng.one_in(5) {
                run.tables.push((key.clone(), key.clone(), Arc::new(Memtable::new(0))));
            }
            let (_, largest, table) = run.tables.last_mut().unwrap();
            largest.clone_from(key);
            table.insert(key, *trailer, value);
        }
        run
    }
}

impl Run for TestRun {
    type Cursor = MemtableIter;

    fn len(&self) -> usize {
        self.tables.len()
    }

    fn smallest(&self, index: usize) -> &[u8] {
        &self.tables[index].0
    }

    fn largest(&self, index: usize) -> &[u8] {
        &self.tables[index].1
    }

    fn open(&self, index: usize) -> Result<MemtableIter> {
        self.opened.set(self.opened.get() + 1);
        Ok(MemtableIter::new(Arc::clone(&self.tables[index].2)))
    }
}

fn random_key(rng: &mut Rng, keys: u64) -> Vec<u8> {
    let number = rng.below(keys);
    match number % 4 {
        0 => vec![b'a'; number as usize / 4],
        1 => [b"commonpart", &number.to_be_bytes()[7..]].concat(),
        2 => vec![0xff; number as usize / 4],
        _ => vec![number as u8, 0],
    }
}

/// Versions dealt to children, and their sum.
fn deal(rng: &mut Rng, bounds: &Arc<Bounds>) -> (Versions, Vec<Source<TestRun>>, u64, u64) {
    let (keys, entries) = (1 + rng.below(40), rng.below(200));
    let mut parts = vec![Versions::new(); 1 + rng.below(7) as usize];
    for seq in 1..=entries {
        let kind = match rng.below(10) {
            0..3 => Kind::Delete,
            3 => Kind::Counter,
            _ => Kind::Put,
        };
        let place = (random_key(rng, keys), Reverse(Trailer::new(SeqNo(seq), kind)));
        let part = rng.below(parts.len() as u64) as usize;
        parts[part].insert(place, format!("value {seq}").into_bytes());
    }
    let children = parts
        .iter()
        .map(|part| {
            let run = TestRun::cut(part, rng);
            match rng.below(3) {
                0 => Source::Level(LevelIter::bounded(run, Arc::clone(bounds))),
                kind => {
                    let table = Arc::new(Memtable::new(rng.next_u64()));
                    for ((key, Reverse(trailer)), value) in part {
                        table.insert(key, *trailer, value);
                    }
                    let iter = MemtableIter::new(table);
                    if kind == 1 { Source::Memtable(iter) } else { Source::Table(iter) }
                }
            }
        })
        .collect();
    (parts.into_iter().flatten().collect(), children, keys, entries)
}

/// What `seq` sees.
fn visible(versions: &Versions, seq: SeqNo, bounds: &Bounds) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut visible = BTreeMap::new();
    let mut decided: Option<&[u8]> = None;
    for ((key, Reverse(trailer)), value) in versions {
        let kind = trailer.kind().unwrap();
        if decided == Some(key) || trailer.seq() > seq || kind == Kind::Counter {
            continue;
        }
        decided = Some(key);
        if kind == Kind::Put && bounds.above_lower(key) && bounds.below_upper(key) {
            visible.insert(key.clone(), value.clone());
        }
    }
    visible
}

fn random_bounds(rng: &mut Rng) -> Bounds {
    let mut some = |odds| rng.one_in(odds).then(|| random_key(rng, 40));
    let (lower, upper, prefix) = (some(4), some(4), some(8));
    Bounds::new(lower, upper, prefix)
}

/// One random move of `iter`, the same on the model, and a comparison.
fn step<C: Cursor>(
    iter: &mut DbIter<C>,
    model: &BTreeMap<Vec<u8>, Vec<u8>>,
    at: &mut Option<Vec<u8>>,
    rng: &mut Rng,
    keys: u64,
) {
    use std::ops::Bound::{Excluded, Unbounded};
    let target = random_key(rng, keys);
    let (found, expected) = match rng.below(12) {
        0 => (iter.seek_to_first(), model.keys().next()),
        1 => (iter.seek_to_last(), model.keys().next_back()),
        2 => (iter.seek(&target), model.range(target..).next().map(|entry| entry.0)),
        3 => {
            let found = iter.seek_for_prev(&target);
            (found, model.range(..=target).next_back().map(|entry| entry.0))
        }
        4..8 => {
            let range = at.as_ref().map(|at| model.range::<Vec<u8>, _>((Excluded(at), Unbounded)));
            (iter.next(), range.and_then(|mut range| range.next()).map(|entry| entry.0))
        }
        _ => {
            let range = at.as_ref().map(|at| model.range::<Vec<u8>, _>(..at.clone()));
            (iter.prev(), range.and_then(|mut range| range.next_back()).map(|entry| entry.0))
        }
    };
    assert_eq!(found.unwrap(), expected.is_some());
    assert_eq!(iter.valid(), expected.is_some());
    if let Some(key) = expected {
        assert_eq!((iter.key(), iter.value()), (&key[..], &model[key][..]));
    }
    *at = expected.cloned();
}

#[test]
fn a_reader_sees_what_a_map_of_versions_says() {
    for seed in 0..4000 {
        let _seed = Seed(seed);
        let mut rng = Rng::new(seed);
        let bounds = Arc::new(random_bounds(&mut rng));
        let (versions, children, keys, entries) = deal(&mut rng, &bounds);
        let seq = SeqNo(rng.below(entries + 2));
        let model = visible(&versions, seq, &bounds);
        let mut iter = DbIter::new(children, seq, bounds);
        assert!(!iter.valid() && iter.key().is_empty() && iter.value().is_empty());
        let mut at = None;
        for _ in 0..40 {
            step(&mut iter, &model, &mut at, &mut rng, keys);
        }
    }
}

#[test]
fn a_merge_shows_every_entry_in_order_both_ways() {
    for seed in 0..1500 {
        let _seed = Seed(seed);
        let mut rng = Rng::new(seed);
        let (versions, children, keys, entries) = deal(&mut rng, &Arc::default());
        let all: Vec<_> = versions.iter().collect();
        let mut merge = MergeIter::new(children);
        let mut at: Option<usize> = None;
        for _ in 0..60 {
            let place = (random_key(&mut rng, keys), Reverse(Trailer(rng.below(entries + 1) << 8)));
            let found = match rng.below(12) {
                0 => {
                    at = Some(0);
                    merge.seek_to_first()
                }
                1 => {
                    at = all.len().checked_sub(1);
                    merge.seek_to_last()
                }
                2 => {
                    at = Some(all.partition_point(|entry| *entry.0 < place));
                    merge.seek(&place.0, place.1.0)
                }
                3 => {
                    at = all.partition_point(|entry| *entry.0 <= place).checked_sub(1);
                    merge.seek_for_prev(&place.0, place.1.0)
                }
                4..8 => {
                    at = at.map(|at| at + 1);
                    merge.next()
                }
                _ => {
                    at = at.and_then(|at| at.checked_sub(1));
                    merge.prev()
                }
            };
            at = at.filter(|&at| at < all.len());
            assert_eq!((found.unwrap(), merge.valid()), (at.is_some(), at.is_some()));
            if let Some(((key, Reverse(trailer)), value)) = at.map(|at| all[at]) {
                let here = (merge.key(), merge.trailer(), merge.value());
                assert_eq!(here, (&key[..], *trailer, &value[..]));
            }
        }
    }
}

#[test]
fn a_reader_sees_the_same_while_others_write() {
    for seed in 0..4 {
        let _seed = Seed(seed);
        let mut rng = Rng::new(seed);
        let keys = 40;
        let tables = [Arc::new(Memtable::new(1)), Arc::new(Memtable::new(2))];
        let mut versions = Versions::new();
        let seq = SeqNo(300);
        for seq in 1..=seq.0 {
            let kind = if rng.one_in(3) { Kind::Delete } else { Kind::Put };
            let (key, trailer) = (random_key(&mut rng, keys), Trailer::new(SeqNo(seq), kind));
            tables[rng.below(2) as usize].insert(&key, trailer, &seq.to_be_bytes());
            versions.insert((key, Reverse(trailer)), seq.to_be_bytes().to_vec());
        }
        let model = visible(&versions, seq, &Bounds::default());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut rng = Rng::new(seed + 1000);
                for later in seq.0 + 1..20_000 {
                    let kind = if rng.one_in(3) { Kind::Delete } else { Kind::Put };
                    let trailer = Trailer::new(SeqNo(later), kind);
                    tables[1].insert(&random_key(&mut rng, 60), trailer, b"too new");
                }
                done.store(true, Ordering::Release);
            });
            let children = tables
                .iter()
                .map(|table| Source::<TestRun>::Memtable(MemtableIter::new(Arc::clone(table))))
                .collect();
            let mut iter = DbIter::new(children, seq, Bounds::default());
            let mut at = None;
            while !done.load(Ordering::Acquire) {
                for _ in 0..50 {
                    step(&mut iter, &model, &mut at, &mut rng, keys);
                }
            }
        });
    }
}

#[test]
fn a_bounded_scan_opens_only_tables_inside() {
    let mut versions = Versions::new();
    for key in 0..100u8 {
        versions.insert((vec![key], Reverse(Trailer::new(SeqNo(1), Kind::Put))), vec![key]);
    }
    let tables = versions
        .iter()
        .map(|((key, Reverse(trailer)), value)| {
            let table = Arc::new(Memtable::new(0));
            table.insert(key, *trailer, value);
            (key.clone(), key.clone(), table)
        })
        .collect();
    let opened = Rc::new(Cell::new(0));
    let run = TestRun { tables, opened: Rc::clone(&opened) };
    let bounds = Arc::new(Bounds::new(Some(vec![40]), Some(vec![43]), None));
    let level = LevelIter::bounded(run, Arc::clone(&bounds));
    let mut iter = DbIter::new(vec![Source::Level(level)], SeqNo(1), bounds);
    let mut keys = Vec::new();
    let mut on = iter.seek_to_first().unwrap();
    while on {
        keys.push(iter.key()[0]);
        on = iter.next().unwrap();
    }
    assert_eq!((keys, opened.get()), (vec![40, 41, 42], 3));
}

/// A cursor whose nth move fails, once.
struct Failing {
    inner: MemtableIter,
    countdown: Rc<Cell<usize>>,
    broken: bool,
}

impl Failing {
    fn go(&mut self, go: impl FnOnce(&mut MemtableIter) -> bool) -> Result<bool> {
        let left = self.countdown.get();
        self.countdown.set(left.wrapping_sub(1));
        self.broken = left == 0;
        if self.broken {
            Err(Error::new(ErrorKind::Io, "made to fail"))
        } else {
            Ok(go(&mut self.inner))
        }
    }
}

impl Cursor for Failing {
    fn seek_to_first(&mut self) -> Result<bool> {
        self.go(MemtableIter::seek_to_first)
    }

    fn seek_to_last(&mut self) -> Result<bool> {
        self.go(MemtableIter::seek_to_last)
    }

    fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<bool> {
        self.go(|inner| inner.seek(key, trailer))
    }

    fn seek_for_prev(&mut self, key: &[u8], trailer: Trailer) -> Result<bool> {
        self.go(|inner| inner.seek_for_prev(key, trailer))
    }

    fn next(&mut self) -> Result<bool> {
        self.go(MemtableIter::next)
    }

    fn prev(&mut self) -> Result<bool> {
        self.go(MemtableIter::prev)
    }

    fn key(&self) -> &[u8] {
        assert!(!self.broken, "nobody looks at a broken cursor");
        self.inner.key()
    }

    fn trailer(&self) -> Trailer {
        self.inner.trailer()
    }

    fn value(&self) -> &[u8] {
        self.inner.value()
    }
}

/// Fails the nth move of any child, n = 0, 1, 2 ... until a whole run passes.
#[test]
fn an_error_ends_the_walk_repeats_and_a_seek_recovers() {
    let walk = |iter: &mut DbIter<Failing>| -> Result<usize> {
        let mut count = 0;
        let mut on = iter.seek_to_first()?;
        while on {
            count += 1;
            on = if count % 3 == 0 {
                iter.prev()? && iter.next()? && iter.next()?
            } else {
                iter.next()?
            };
        }
        let mut on = iter.seek_to_last()?;
        while on {
            count += 1;
            on = iter.prev()?;
        }
        Ok(count)
    };
    let tables: Vec<_> = (0..3).map(|id| Arc::new(Memtable::new(id))).collect();
    for seq in 1..=60u64 {
        let trailer = Trailer::new(SeqNo(seq), if seq % 5 == 0 { Kind::Delete } else { Kind::Put });
        tables[seq as usize % 3].insert(&[(seq * 7 % 20) as u8], trailer, b"value");
    }
    let mut clean = None;
    for nth in 0.. {
        let countdown = Rc::new(Cell::new(nth));
        let children = tables
            .iter()
            .map(|table| Failing {
                inner: MemtableIter::new(Arc::clone(table)),
                countdown: Rc::clone(&countdown),
                broken: false,
            })
            .collect();
        let mut iter = DbIter::new(children, SeqNo(60), Bounds::default());
        match walk(&mut iter) {
            Ok(count) => {
                assert!(nth > 100, "the walk was long enough to be interesting");
                assert!(clean.is_none_or(|clean| clean == count));
                return;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Io),
        }
        assert!(!iter.valid() && iter.key().is_empty() && iter.value().is_empty());
        assert_eq!(iter.next().unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(iter.prev().unwrap_err().kind(), ErrorKind::Io);
        let again = walk(&mut iter).expect("the failure happens once");
        assert_eq!(*clean.get_or_insert(again), again);
    }
}

#[test]
fn an_unknown_kind_is_a_typed_error() {
    let table = Arc::new(Memtable::new(1));
    table.insert(b"a", Trailer::new(SeqNo(1), Kind::Put), b"fine");
    table.insert(b"b", Trailer(2 << 8 | 99), b"from the future");
    let children = vec![Source::<TestRun>::Memtable(MemtableIter::new(table))];
    let mut iter = DbIter::new(children, SeqNo(9), Bounds::default());
    assert!(iter.seek_to_first().unwrap());
    assert_eq!(iter.next().unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(iter.seek_to_last().unwrap_err().kind(), ErrorKind::Unsupported);
    assert!(iter.seek(b"a").unwrap());
    assert_eq!(iter.value(), b"fine");
}
