//! Key schemas by key range, and drains, against a model: through flushes, compactions, snapshots,
//! kills and reopenings every key reads as it was written (P11), no table straddles an end of a range
//! of the map it was written under, which the files themselves are asked about, and a drain that says
//! it is done has left no table behind.
//!
//! Where ranges change while writers are at work: `schema_drains.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Disk, Rows, assert_rows, flush, rest, rows, try_flush};
use sluice_env::{Fs, Rng};
use sluice_table::{BlockCache, Schema, Table};
use sluicedb::{
    ColumnFamily, Db, DrainState, DrainStatus, ErrorKind, FileNo, KeySchema, Options, Snapshot,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

/// The first is the one that every family begins with.
const SCHEMAS: [&str; 8] = [
    "key rest",
    "lead u8, rest",
    "lead fixed 2, rest",
    "tenant escaped, rest",
    "tenant escaped, ts u64 desc",
    "lead u8, tenant escaped, rest",
    "a u16, b u16, c u32, rest",
    "tenant fixed 3, end u16, ts u64",
];

/// Where ranges may begin and end; the keys below lie on, before and behind them.
const ENDS: [&[u8]; 8] = [b"a", b"b", b"b\x00\x01", b"c", b"c\xff", b"d", b"e\x00", b"f"];

fn schema(number: usize) -> KeySchema {
    match number {
        0 => KeySchema::whole_key(),
        _ => KeySchema::parse("model", number as u32, SCHEMAS[number]).unwrap(),
    }
}

/// The number of a table's schema.
fn number_of(descriptor: &Schema) -> usize {
    let is_it = |number: &usize| schema(*number).descriptor() == descriptor;
    (0..SCHEMAS.len()).find(is_it).expect("a schema that was never set")
}

fn key(rng: &mut Rng) -> Vec<u8> {
    if rng.one_in(10) {
        return ENDS[rng.below(8) as usize].to_vec();
    }
    let ts = (1_000_000 - rng.below(60)).to_be_bytes();
    let mut key = vec![b'a' + rng.below(7) as u8];
    match rng.below(4) {
        0 => key.extend([0, 1]),
        1 => key.extend([0xff, rng.below(4) as u8]),
        2 => key.extend(format!("{:02}", rng.below(40)).bytes().chain([0, 1]).chain(ts)),
        _ => key.extend(format!("{:03}", rng.below(200)).bytes()),
    }
    key
}

/// What was set, oldest first: the last that holds a key is its schema's.
#[derive(Default)]
struct Ranges(Vec<(Vec<u8>, Option<Vec<u8>>, usize)>);

impl Ranges {
    fn schema_of(&self, key: &[u8]) -> usize {
        let holds = |(start, end, _): &&(Vec<u8>, Option<Vec<u8>>, usize)| {
            **start <= *key && end.as_ref().is_none_or(|end| *key < **end)
        };
        self.0.iter().rev().find(holds).map_or(0, |(_, _, schema)| *schema)
    }

    /// The schemas of the empty key and of every place where a range may begin.
    fn written(&self) -> BTreeSet<usize> {
        let starts = ENDS.iter().copied().chain([&b""[..]]);
        starts.map(|start| self.schema_of(start)).collect()
    }

    /// Whether a table from `first` to `last` is what a writer makes under these ranges.
    fn fits(&self, first: &[u8], last: &[u8], schema: usize) -> bool {
        let inside = ENDS.iter().filter(|end| *first < ***end && ***end <= *last);
        self.schema_of(first) == schema
            && inside.into_iter().all(|end| self.schema_of(end) == schema)
    }
}

#[derive(Default, Debug)]
struct Seen {
    side_by_side: u64,
    ranges_most: usize,
    refused_in_use: u64,
    refused_draining: u64,
    ended: u64,
    paused_over_a_restart: u64,
    running_over_a_restart: u64,
    cancelled: u64,
}

struct Model {
    disk: Disk,
    db: Option<Db>,
    rows: Rows,
    ranges: Ranges,
    /// Drains by schema, and whether they are paused.
    drains: BTreeMap<usize, bool>,
    snapshots: Vec<(Snapshot, Rows)>,
    /// Files that were looked at.
    files: BTreeSet<String>,
    label: String,
}

impl Model {
    fn options(&self) -> Options {
        Options { l0_compaction_trigger: 4, l0_stop: 40, ..self.disk.stepped() }
    }

    fn db(&self) -> (Db, ColumnFamily) {
        let db = self.db.clone().unwrap();
        let cf = db.default_cf();
        (db, cf)
    }

    fn open(&mut self) {
        self.db = Some(Db::open("/db", self.options()).unwrap());
        let (db, cf) = self.db();
        self.check_map(&db, &cf);
        let found: BTreeMap<usize, bool> = db.drains().iter().map(status).collect();
        assert_eq!(found, self.drains, "{}: drains after a restart", self.label);
    }

    fn check_map(&self, db: &Db, cf: &ColumnFamily) {
        let map = db.key_schemas(cf);
        assert!(map[0].start.is_empty() && map.last().unwrap().end.is_none());
        for pair in map.windows(2) {
            assert_eq!(pair[0].end.as_ref(), Some(&pair[1].start), "{}", self.label);
            assert_ne!(pair[0].schema, pair[1].schema, "{}: an end divides nothing", self.label);
        }
        for range in &map {
            let expected = schema(self.ranges.schema_of(&range.start));
            assert_eq!(*range.schema, expected, "{}: at {:?}", self.label, range.start);
        }
        for end in ENDS {
            let at = map.iter().rfind(|range| *range.start <= *end).unwrap();
            assert_eq!(*at.schema, schema(self.ranges.schema_of(end)), "{}", self.label);
        }
    }

    /// Looks at the files that came since the last look: all are by writers that began after the last
    /// change of ranges.
    fn check_files(&mut self, seen: &mut Seen) {
        let fs: Arc<dyn Fs> = Arc::<sluice_env::MemFs>::clone(&self.disk.mem);
        let cache = BlockCache::new(1 << 20);
        let mut came = 0;
        for name in self.disk.files(".sst") {
            if !self.files.insert(name.clone()) {
                continue;
            }
            came += 1;
            let file = FileNo(name.trim_end_matches(".sst").parse().unwrap());
            let table = Table::open(&fs, &Path::new("/db").join(&name), file, &cache).unwrap();
            let found = table.properties();
            let (first, last) = (&found.smallest.0, &found.largest.0);
            let number = number_of(&found.schema);
            assert!(
                self.ranges.fits(first, last, number),
                "{}: {name} from {:?} to {:?} is under schema {number}",
                self.label,
                first.escape_ascii().to_string(),
                last.escape_ascii().to_string()
            );
        }
        seen.side_by_side += u64::from(came > 1);
    }

    /// What the manifest says of each table is what the table says itself.
    fn check_usage(&self, db: &Db) {
        let fs: Arc<dyn Fs> = Arc::<sluice_env::MemFs>::clone(&self.disk.mem);
        let cache = BlockCache::new(1 << 20);
        let mut tables = 0;
        for name in ["whole-key", "model"] {
            for table in db.schema_tables(name) {
                let path = Path::new("/db").join(format!("{}.sst", table.file));
                let opened = Table::open(&fs, &path, table.file, &cache).unwrap();
                assert_eq!(opened.properties().schema.id(), table.id, "{}", self.label);
                assert_eq!(opened.properties().smallest.0, table.smallest);
                tables += 1;
            }
        }
        let usage = db.schema_usage();
        assert_eq!(usage.iter().map(|usage| usage.tables).sum::<u64>(), tables);
        let files: u64 = db.stats().cfs.iter().map(|cf| cf.level_files.iter().sum::<u64>()).sum();
        assert_eq!(files, tables, "{}", self.label);
        let ranges: u64 = usage.iter().map(|usage| usage.ranges).sum();
        assert_eq!(ranges as usize, db.key_schemas(&db.default_cf()).len());
    }

    fn tables_under(&self, db: &Db, number: usize) -> usize {
        let id = schema(number).id();
        db.schema_tables(&id.name).iter().filter(|table| table.id == id).count()
    }

    fn write(&mut self, rng: &mut Rng, count: u64) {
        let (db, cf) = self.db();
        for _ in 0..count {
            let key = key(rng);
            if rng.one_in(4) {
                db.delete(&cf, &key).unwrap();
                self.rows.remove(&key);
            } else {
                let value = rng.next_u64().to_be_bytes().repeat(1 + rng.below(4) as usize);
                db.put(&cf, &key, &value).unwrap();
                self.rows.insert(key, value);
            }
        }
    }

    fn set(&mut self, rng: &mut Rng, schemas: usize, seen: &mut Seen) {
        let (db, cf) = self.db();
        let number = rng.below(schemas as u64) as usize;
        let from = rng.below(9) as usize;
        let start = if from == 0 { b"" } else { ENDS[from - 1] };
        let to = from + rng.below(9 - from as u64) as usize;
        let end = if to == from { None } else { ENDS.get(to - 1).copied() };
        let outcome = db.set_key_schema_in(&cf, start, end, schema(number));
        if self.drains.contains_key(&number) {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Invalid, "{}", self.label);
            seen.refused_draining += 1;
        } else {
            outcome.unwrap();
            self.ranges.0.push((start.to_vec(), end.map(<[u8]>::to_vec), number));
        }
        self.check_map(&db, &cf);
        seen.ranges_most = seen.ranges_most.max(db.key_schemas(&cf).len());
    }

    fn drain(&mut self, rng: &mut Rng, schemas: usize, seen: &mut Seen) {
        let (db, cf) = self.db();
        let left = (0..schemas).filter(|number| !self.ranges.written().contains(number));
        let left: Vec<usize> = left.filter(|number| self.tables_under(&db, *number) > 0).collect();
        let number = match left.len() {
            0 => rng.below(schemas as u64) as usize,
            _ if rng.one_in(4) => rng.below(schemas as u64) as usize,
            count => left[rng.below(count as u64) as usize],
        };
        let id = schema(number).id();
        match db.drain_schema(&cf, &id) {
            Ok(begun) => {
                assert!(!self.ranges.written().contains(&number), "{}", self.label);
                assert_eq!(begun.tables_left as usize, self.tables_under(&db, number));
                let paused = begun.state == DrainState::Paused;
                assert_eq!(*self.drains.entry(number).or_insert(false), paused, "{}", self.label);
                if rng.one_in(2) {
                    db.pause_drain(&cf, &id).unwrap();
                    // One with nothing to do ended at once, or with the next step.
                    let ended = |s: &DrainStatus| s.id == id && s.state == DrainState::Done;
                    if !db.drains().iter().any(ended) {
                        self.drains.insert(number, true);
                    }
                }
            }
            Err(error) if self.ranges.written().contains(&number) => {
                assert_eq!(error.kind(), ErrorKind::Invalid, "{}: {error}", self.label);
                seen.refused_in_use += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{}: {error}", self.label);
                assert_eq!(self.tables_under(&db, number), 0, "{}", self.label);
            }
        }
    }

    fn steer(&mut self, rng: &mut Rng, seen: &mut Seen) {
        let (db, cf) = self.db();
        let drains: Vec<usize> = self.drains.keys().copied().collect();
        if drains.is_empty() {
            let none = db.pause_drain(&cf, &schema(5).id());
            assert!(
                none.is_err_and(|error| error.kind() == ErrorKind::NotFound)
                    || !db.drains().is_empty()
            );
            return;
        }
        let number = drains[rng.below(drains.len() as u64) as usize];
        let id = schema(number).id();
        match rng.below(5) {
            0 | 1 => {
                db.pause_drain(&cf, &id).unwrap();
                self.drains.insert(number, true);
            }
            2 | 3 => {
                db.resume_drain(&cf, &id).unwrap();
                self.drains.insert(number, false);
            }
            _ => {
                db.cancel_drain(&cf, &id).unwrap();
                self.drains.remove(&number);
                seen.cancelled += 1;
            }
        }
    }

    /// The background rests: what is not paused has ended.
    fn rest(&mut self, seen: &mut Seen) {
        let (db, _) = self.db();
        rest(&db);
        let before = self.drains.len();
        let done: Vec<usize> =
            self.drains.iter().filter(|(_, paused)| !**paused).map(|(number, _)| *number).collect();
        for status in db.drains() {
            if status.state == DrainState::Done {
                assert_eq!((status.tables_left, status.bytes_left), (0, 0), "{}", self.label);
                let is_it = |number: &usize| schema(*number).id() == status.id;
                let number = (0..SCHEMAS.len()).find(is_it).unwrap();
                assert_eq!(self.tables_under(&db, number), 0, "{}: {status:?}", self.label);
            } else {
                assert_eq!(status.state, DrainState::Paused, "{}: {status:?}", self.label);
            }
        }
        for number in done {
            assert_eq!(self.tables_under(&db, number), 0, "{}: schema {number}", self.label);
            self.drains.remove(&number);
        }
        seen.ended += (before - self.drains.len()) as u64;
    }

    fn restart(&mut self, kill: bool, seen: &mut Seen) {
        self.snapshots.clear();
        let paused = self.drains.values().filter(|paused| **paused).count();
        seen.paused_over_a_restart += paused as u64;
        seen.running_over_a_restart += (self.drains.len() - paused) as u64;
        let db = self.db.take().unwrap();
        if kill {
            self.disk = self.disk.kill();
        } else {
            db.close(false).unwrap();
        }
        drop(db);
        self.open();
    }
}

fn status(status: &DrainStatus) -> (usize, bool) {
    let number = (0..SCHEMAS.len()).find(|number| schema(*number).id() == status.id).unwrap();
    assert_ne!(status.state, DrainState::Done);
    (number, status.state == DrainState::Paused)
}

fn run(seed: u64, seen: &mut Seen) {
    let mut rng = Rng::new(seed);
    let schemas = 1 + (seed as usize % SCHEMAS.len());
    let mut model = Model {
        disk: Disk::new(),
        db: None,
        rows: Rows::new(),
        ranges: Ranges::default(),
        drains: BTreeMap::new(),
        snapshots: Vec::new(),
        files: BTreeSet::new(),
        label: String::new(),
    };
    model.open();
    for act in 0..90 {
        model.label = format!("seed {seed}, act {act}");
        let (db, cf) = model.db();
        match rng.below(14) {
            0..3 => model.write(&mut rng, 40),
            3 | 4 => flush(&db),
            5 => model.set(&mut rng, schemas, seen),
            6 | 12 => model.drain(&mut rng, schemas, seen),
            7 | 13 => model.steer(&mut rng, seen),
            8 => {
                let first = key(&mut rng);
                let bound = rng.one_in(2).then_some(&first[..]);
                db.compact(&cf, bound, None).unwrap();
            }
            9 if rng.one_in(2) => model.rest(seen),
            10 => model.snapshots.push((db.snapshot(), model.rows.clone())),
            _ if rng.one_in(2) => {
                let kill = rng.one_in(2);
                // A drain may end by any step: let all end that can, so that the model knows.
                drop((db, cf));
                model.settle_drains();
                model.restart(kill, seen);
            }
            _ => {
                for _ in 0..rng.below(4) {
                    db.step();
                }
                model.settle_drains();
            }
        }
        model.settle_drains();
        model.check_files(seen);
        let (db, cf) = model.db();
        if act % 6 == 0 {
            assert_rows(&rows(&db, &cf), &model.rows, &model.label);
            model.check_usage(&db);
        }
        if rng.one_in(6) && !model.snapshots.is_empty() {
            let (snapshot, then) = model.snapshots.remove(0);
            for _ in 0..30 {
                let key = key(&mut rng);
                let view = snapshot.view();
                let found = view.get(&cf, &key).unwrap();
                let then = then.get(&key).map(Vec::as_slice);
                assert_eq!(found.as_deref(), then, "{}: a snapshot", model.label);
            }
        }
    }
    model.finish(seen);
}

impl Model {
    /// Takes over which drains have ended meanwhile, each with a look at what they left.
    fn settle_drains(&mut self) {
        let (db, _) = self.db();
        for status in db.drains().into_iter().filter(|status| status.state == DrainState::Done) {
            let number = (0..SCHEMAS.len()).find(|n| schema(*n).id() == status.id).unwrap();
            if self.drains.get(&number) == Some(&false) {
                assert_eq!(self.tables_under(&db, number), 0, "{}: {number}", self.label);
                self.drains.remove(&number);
            }
        }
    }

    /// One schema for all, everything else drained: nothing else may be left.
    fn finish(&mut self, seen: &mut Seen) {
        self.label += ", the end";
        let (db, cf) = self.db();
        self.snapshots.clear();
        for status in db.drains() {
            db.cancel_drain(&cf, &status.id).unwrap();
        }
        self.drains.clear();
        let last = KeySchema::parse("last", 1, "rest").unwrap();
        db.set_key_schema(&cf, last.clone()).unwrap();
        for usage in db.schema_usage().iter().filter(|usage| usage.id != last.id()) {
            db.drain_schema(&cf, &usage.id).unwrap();
            seen.ended += 1;
        }
        try_flush(&db).unwrap();
        rest(&db);
        assert!(db.drains().iter().all(|status| status.state == DrainState::Done));
        let usage = db.schema_usage();
        assert_eq!(usage.len(), 1, "{}: {usage:?}", self.label);
        assert_eq!((&usage[0].id, usage[0].ranges), (&last.id(), 1));
        assert_rows(&rows(&db, &cf), &self.rows, &self.label);
        db.close(true).unwrap();
        drop((db, self.db.take()));
        let db = self.disk.open();
        assert_rows(&rows(&db, &db.default_cf()), &self.rows, &self.label);
        assert_eq!(db.drains(), [], "{}", self.label);
        assert_eq!(
            db.drain_schema(&cf_of(&db), &schema(1).id()).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }
}

fn cf_of(db: &Db) -> ColumnFamily {
    db.default_cf()
}

#[test]
fn p11_schemas_over_ranges_change_and_drain_under_one_model() {
    let mut seen = Seen::default();
    for seed in 0..24 {
        println!("seed {seed}");
        run(seed, &mut seen);
    }
    println!("{seen:?}");
    let Seen { side_by_side, ranges_most, refused_in_use, refused_draining, .. } = seen;
    assert!(side_by_side > 20 && ranges_most >= 6, "too tame: {side_by_side}, {ranges_most}");
    assert!(refused_in_use > 0 && refused_draining > 0);
    assert!(seen.ended > 20 && seen.cancelled > 0, "{} drains ended", seen.ended);
    assert!(seen.paused_over_a_restart > 0 && seen.running_over_a_restart > 0);
}
