//! A compaction's merge by runs against the one row by row: random tables, schemas, snapshots, ends of
//! ranges and of outputs, and the same entries in the end.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

use sluice_base::{FileNo, Kind, SeqNo, Trailer};
use sluice_env::{Fs, MemFs, Rng};
use sluice_table::{
    BlockCache, Compression, IterOptions, KeySchema, Table, TableIter, TableOptions, TableSummary,
    TableWriter, filter_hash, fuzzing::sample,
};
use sluicedb::bare_merge::{Rules, merge_tables};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

type Entry = (Vec<u8>, Trailer, Vec<u8>);

/// Sorted as a table is.
type Rows = BTreeMap<(Vec<u8>, Reverse<Trailer>), Vec<u8>>;

/// One random case.
struct World {
    rng: Rng,
    fs: Arc<dyn Fs>,
    cache: Arc<BlockCache>,
    schemas: Vec<Arc<KeySchema>>,
    keys: Vec<Vec<u8>>,
    files: u64,
    seq: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let mut schemas = vec![Arc::new(KeySchema::whole_key())];
        for _ in 0..rng.below(3) {
            schemas.push(Arc::new(sample::schema(&mut rng)));
        }
        let foreign = [1, 3, 50, 5000][rng.below(4) as usize];
        let mut keys = BTreeSet::new();
        for _ in 0..[20, 300, 3000][rng.below(3) as usize] {
            let schema = &schemas[rng.below(schemas.len() as u64) as usize];
            let mut key = Vec::new();
            if rng.one_in(foreign) {
                key.resize(rng.below(20) as usize, 0);
                rng.fill(&mut key);
            } else {
                key = sample::key(&mut rng, schema);
            }
            keys.insert(key);
        }
        let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
        let cache = BlockCache::new(1 << 20);
        let keys = keys.into_iter().collect();
        World { rng, fs, cache, schemas, keys, files: 1, seq: 0 }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.rng.below(bound as u64) as usize
    }

    fn options(&mut self) -> TableOptions {
        TableOptions {
            block_bytes: [256, 700, 4096, 16 << 10][self.below(4)],
            compression: [Compression::None, Compression::Lz4][self.below(2)],
            filter_bits_per_key: [0, 10][self.below(2)],
            index_partition_bytes: [200, usize::MAX][self.below(2)],
            ..TableOptions::default()
        }
    }

    /// A table of keys in stretches, some with more versions than one, newer than all before.
    fn table(&mut self) -> Arc<Table> {
        let stretch = [1, 2, 20, 500][self.below(4)];
        let skipped = [0, 1, 10, 500][self.below(4)] * usize::from(!self.rng.one_in(4));
        let (deleted, again) =
            ([2, 20, 1_000_000][self.below(3)], [2, 30, 1_000_000][self.below(3)]);
        let value_bytes = [0, 10, 120][self.below(3)];
        let mut rows = Rows::new();
        let mut at = self.below(self.keys.len());
        let first = at;
        while at < self.keys.len() {
            for _ in 0..1 + self.below(stretch) {
                let Some(key) = self.keys.get(at).cloned() else { break };
                at += 1;
                loop {
                    self.seq += 1;
                    let deletes = self.rng.one_in(deleted);
                    let kind = if deletes { Kind::Delete } else { Kind::Put };
                    let mut value = vec![0; if deletes { 0 } else { self.below(value_bytes + 1) }];
                    self.rng.fill(&mut value);
                    let half = value.len() / 2;
                    value[half..].fill(b'.');
                    let trailer = Trailer::new(SeqNo(self.seq), kind);
                    rows.insert((key.clone(), Reverse(trailer)), value);
                    if !self.rng.one_in(again) {
                        break;
                    }
                }
            }
            at += self.below(skipped + 1);
            if self.rng.one_in(20) {
                break;
            }
        }
        let mut schema = self.below(self.schemas.len());
        if first.is_multiple_of(2) {
            schema = self.schemas.len() - 1; // so that tables often agree
        }
        let schema = Arc::clone(&self.schemas[schema]);
        let filter_fields = (takes_prefixes(&schema) && self.rng.one_in(2)).then_some(1);
        let options = TableOptions { filter_fields, schema, ..self.options() };
        let file = self.files;
        self.files += 1;
        let path = format!("/{file:06}.sst");
        let mut writer =
            TableWriter::create(&self.fs, Path::new(&path), FileNo(file), options).unwrap();
        for ((key, trailer), value) in &rows {
            writer.add(key, trailer.0, value).unwrap();
        }
        writer.finish().unwrap();
        self.open(file)
    }

    fn open(&self, file: u64) -> Arc<Table> {
        let path = format!("/{file:06}.sst");
        Arc::new(Table::open(&self.fs, Path::new(&path), FileNo(file), &self.cache).unwrap())
    }

    fn some_keys(&mut self, most: usize) -> Vec<Vec<u8>> {
        let count = self.below(most + 1);
        let picks: BTreeSet<_> = (0..count)
            .map(|_| self.keys[self.rng.below(self.keys.len() as u64) as usize].clone())
            .collect();
        picks.into_iter().collect()
    }

    fn rules(&mut self) -> Rules {
        let mut ranges = vec![(Vec::new(), Arc::clone(&self.schemas[self.schemas.len() - 1]))];
        for start in self.some_keys(2) {
            let schema =
                Arc::clone(&self.schemas[self.rng.below(self.schemas.len() as u64) as usize]);
            if !start.is_empty() {
                ranges.push((start, schema));
            }
        }
        let all = ranges.iter().all(|(_, schema)| takes_prefixes(schema));
        let filter_fields = (all && self.rng.one_in(2)).then_some(1);
        let mut below = self.some_keys(2);
        below.resize(2, Vec::new());
        let visible = self.seq + 1 - self.rng.below(self.seq.min(20) + 1);
        let count = self.below(4);
        Rules {
            fs: Arc::clone(&self.fs),
            dir: "/".into(),
            first_file: 0,
            options: TableOptions { filter_fields, ..self.options() },
            ranges,
            table_bytes: [2000, 20_000, 1 << 30][self.below(3)],
            grandparents: self.some_keys(5),
            snapshots: (0..count).map(|_| self.rng.below(visible + 1)).collect(),
            visible,
            below: (below[0].clone(), below[1].clone()),
            keeps_all: self.rng.one_in(8),
            runs: false,
        }
    }

    /// Merges, and checks what every output must be.
    fn merge(&mut self, tables: &[Arc<Table>], rules: &Rules) -> (Vec<Entry>, Vec<TableSummary>) {
        let rules = Rules { first_file: self.files, ..rules.clone() };
        let made = merge_tables(tables, &rules).unwrap();
        self.files += made.len() as u64;
        let mut entries: Vec<Entry> = Vec::new();
        for summary in &made {
            let table = self.open(summary.file_no.0);
            let report = table.verify();
            assert!(report.errors.is_empty(), "{:?}", report.errors);
            let range = rules.ranges.partition_point(|(start, _)| *start <= summary.smallest.0) - 1;
            assert_eq!(table.schema(), &rules.ranges[range].1);
            let next = rules.ranges.get(range + 1);
            assert!(
                next.is_none_or(|(start, _)| summary.largest.0 < *start),
                "across a range's end"
            );
            let before = entries.last().map(|entry| entry.0.clone());
            assert!(before.is_none_or(|key| key < summary.smallest.0), "a key in two outputs");
            let first = entries.len();
            let mut iter = TableIter::new(Arc::clone(&table), IterOptions::default());
            let mut more = iter.seek_to_first().unwrap();
            while more {
                entries.push((iter.key().to_vec(), iter.trailer(), iter.value().to_vec()));
                more = iter.next().unwrap();
            }
            let own = &entries[first..];
            let ends = |entry: &Entry| (entry.0.clone(), entry.1);
            assert_eq!(summary.smallest, ends(&own[0]));
            assert_eq!(summary.largest, ends(&own[own.len() - 1]));
            assert_eq!(summary.entries as usize, own.len());
            let seqs = || own.iter().map(|entry| entry.1.seq());
            assert_eq!(
                (Some(summary.seq_min), Some(summary.seq_max)),
                (seqs().min(), seqs().max())
            );
            for (key, trailer, value) in own {
                let found = table.get(key, filter_hash(key), *trailer).unwrap();
                let (of, found) = found.expect("a key that is there is found");
                assert_eq!((of, &found[..]), (*trailer, &value[..]));
                assert!(table.may_contain_prefix(key));
            }
        }
        (entries, made)
    }
}

/// Whether a filter on the first field is possible.
fn takes_prefixes(schema: &Arc<KeySchema>) -> bool {
    let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
    let options = TableOptions {
        filter_fields: Some(1),
        schema: Arc::clone(schema),
        ..TableOptions::default()
    };
    TableWriter::create(&fs, Path::new("/x"), FileNo(1), options).is_ok()
}

#[test]
fn p10_p11_runs_give_what_rows_give() {
    let seeds = match std::env::var("SLUICE_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..400).collect(),
    };
    let whole = seeds.len() > 1;
    // Of each kind of case there must be many: a test of nothing passes too.
    let (mut copied, mut entries) = (0, 0);
    for seed in seeds {
        println!("SLUICE_SEED={seed}");
        let mut world = World::new(seed);
        let count = 1 + world.below(5);
        let mut tables: Vec<_> = (0..count).map(|_| world.table()).collect();
        tables.reverse();
        let rules = world.rules();
        let (by_rows, row_tables) = world.merge(&tables, &rules);
        let (by_runs, run_tables) = world.merge(&tables, &Rules { runs: true, ..rules.clone() });
        for (at, (rows, runs)) in by_rows.iter().zip(&by_runs).enumerate() {
            assert_eq!(rows, runs, "entry {at} of seed {seed}");
        }
        assert_eq!(by_rows.len(), by_runs.len(), "seed {seed}");
        let raw = |tables: &[TableSummary]| tables.iter().map(|table| table.raw_bytes).sum::<u64>();
        let dead =
            |tables: &[TableSummary]| tables.iter().map(|table| table.tombstones).sum::<u64>();
        assert_eq!((raw(&row_tables), dead(&row_tables)), (raw(&run_tables), dead(&run_tables)));
        // A block that was copied keeps its bytes; written anew it ends elsewhere.
        let bytes = |tables: &[TableSummary]| -> Vec<u64> {
            tables.iter().map(|table| table.file_bytes).collect()
        };
        entries += by_rows.len();
        copied += usize::from(bytes(&row_tables) != bytes(&run_tables));
    }
    println!("{entries} entries, {copied} cases with other bytes");
    assert!(!whole || copied > 30 && entries > 50_000, "runs and copies come to pass");
}
