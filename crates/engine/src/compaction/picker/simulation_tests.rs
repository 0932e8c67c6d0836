//! Plays a database against the picker: random writes are flushed into tables that hold their entries
//! in memory, several compactions run at once and end in any order. After every step the version's
//! invariants hold (`apply` checks them), and reads find what a model map holds.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use sluice_base::{FileNo, Kind, Trailer};
use sluice_env::Rng;

use super::*;
use crate::version::InternalKey;

/// What an entry takes in the fake tables.
const ENTRY_BYTES: u64 = 100;
const CF: CfId = CfId(0);

type Key = [u8; 4];

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: Key,
    seq: u64,
    kind: Kind,
}

/// The "opened table": its entries, by key, newest first.
type Entries = Vec<Entry>;

type Outputs = Vec<(TableMeta, Entries)>;

struct Tree {
    version: CfVersion<Entries>,
    options: PickerOptions,
    schemas: SchemaMap,
    in_progress: InProgress,
    /// Compactions and what they will install.
    running: Vec<(Compaction<Entries>, Outputs)>,
    next_file: u64,
    next_seq: u64,
    flushed_bytes: u64,
    written_bytes: u64,
    picks: HashMap<(CompactionKind, CompactionReason), u64>,
    /// What every key should be: the sequence number of its last put.
    model: BTreeMap<Key, u64>,
}

impl Tree {
    fn new(rng: &mut Rng) -> Tree {
        let table_bytes = 20 * ENTRY_BYTES * (1 + rng.below(4));
        let options = PickerOptions {
            level_base_bytes: 4 * table_bytes,
            level_ratio: 4 + rng.below(7),
            table_bytes,
            grandparent_bytes_max: 10 * table_bytes,
            compaction_bytes_max: (5 + rng.below(20)) * table_bytes,
            ..PickerOptions::default()
        };
        Tree {
            version: CfVersion::empty(),
            options,
            schemas: SchemaMap::default(),
            in_progress: InProgress::new(),
            running: Vec::new(),
            next_file: 1,
            next_seq: 1,
            flushed_bytes: 0,
            written_bytes: 0,
            picks: HashMap::new(),
            model: BTreeMap::new(),
        }
    }

    fn input(&self) -> PickInput<'_, Entries> {
        PickInput {
            cf: CF,
            version: &self.version,
            options: &self.options,
            schemas: &self.schemas,
            in_progress: &self.in_progress,
            oldest_snapshot: SeqNo(self.next_seq - 1),
        }
    }

    fn file(&mut self) -> FileNo {
        self.next_file += 1;
        FileNo(self.next_file - 1)
    }

    fn write(&mut self, memtable: &mut Entries, key: Key, kind: Kind) {
        let seq = self.next_seq;
        self.next_seq += 1;
        memtable.push(Entry { key, seq, kind });
        match kind {
            Kind::Put => drop(self.model.insert(key, seq)),
            _ => drop(self.model.remove(&key)),
        }
    }

    fn flush(&mut self, mut memtable: Entries) {
        memtable.sort_by_key(|entry| (entry.key, u64::MAX - entry.seq));
        memtable.dedup_by_key(|entry| entry.key);
        self.flushed_bytes += memtable.len() as u64 * ENTRY_BYTES;
        let table = (self.meta(&memtable), memtable);
        let mut edit = CfEdit::new(CF);
        edit.added.push((Level(0), table.0.clone()));
        self.install(&edit, vec![table]);
    }

    fn meta(&mut self, entries: &[Entry]) -> TableMeta {
        let key =
            |entry: &Entry| InternalKey::new(entry.key, Trailer::new(SeqNo(entry.seq), entry.kind));
        let seqs = || entries.iter().map(|entry| entry.seq);
        TableMeta {
            file: self.file(),
            bytes: entries.len() as u64 * ENTRY_BYTES,
            entries: entries.len() as u64,
            tombstones: entries.iter().filter(|entry| entry.kind == Kind::Delete).count() as u64,
            smallest: key(&entries[0]),
            largest: key(&entries[entries.len() - 1]),
            min_seq: SeqNo(seqs().min().unwrap()),
            max_seq: SeqNo(seqs().max().unwrap()),
            schema: 0,
            created_ms: 0,
        }
    }

    fn install(&mut self, edit: &CfEdit, tables: Outputs) {
        self.version = self.version.apply(edit).unwrap();
        let mut entries: HashMap<FileNo, Entries> =
            tables.into_iter().map(|(meta, entries)| (meta.file, entries)).collect();
        for (_, table) in self.version.tables() {
            if let Some(entries) = entries.remove(&table.meta.file) {
                table.table.set(entries).unwrap();
            }
            assert!(table.table.get().is_some(), "a move lost its opened table");
        }
    }

    /// Starts what the picker wants; false when it wants nothing.
    fn start(&mut self) -> bool {
        let Some(compaction) = pick(&self.input()) else { return false };
        self.begin(compaction);
        true
    }

    fn begin(&mut self, compaction: Compaction<Entries>) {
        *self.picks.entry((compaction.kind, compaction.reason)).or_default() += 1;
        self.in_progress.start(&compaction);
        let outputs = match compaction.kind {
            CompactionKind::Move => Vec::new(),
            _ => self.merge(&compaction),
        };
        self.running.push((compaction, outputs));
    }

    fn merge(&mut self, compaction: &Compaction<Entries>) -> Outputs {
        let tables = compaction.tables().map(|(_, table)| table.table.get().unwrap());
        let mut all: Entries = tables.flatten().copied().collect();
        all.sort_by_key(|entry| (entry.key, u64::MAX - entry.seq));
        all.dedup_by_key(|entry| entry.key);
        self.written_bytes += all.len() as u64 * ENTRY_BYTES;
        let mut cutter = OutputCutter::new(compaction, &self.options);
        let mut base = BaseLevelCheck::new(compaction, &self.version);
        let mut runs: Vec<Entries> = vec![Vec::new()];
        for entry in all {
            if entry.kind == Kind::Delete {
                let is_base = base.is_base_level_for(&entry.key);
                assert!(is_base || !compaction.is_bottommost);
                if is_base {
                    continue;
                }
            }
            let bytes = runs.last().unwrap().len() as u64 * ENTRY_BYTES;
            if cutter.cut_before(&entry.key, bytes) {
                runs.push(Vec::new());
            }
            runs.last_mut().unwrap().push(entry);
        }
        let runs: Vec<Entries> = runs.into_iter().filter(|run| !run.is_empty()).collect();
        runs.into_iter().map(|run| (self.meta(&run), run)).collect()
    }

    fn finish(&mut self, index: usize) {
        let (compaction, outputs) = self.running.swap_remove(index);
        let edit = match compaction.kind {
            CompactionKind::Move => compaction.move_edit(),
            _ => compaction.edit(outputs.iter().map(|(meta, _)| meta.clone())),
        };
        self.in_progress.finish(&compaction);
        self.install(&edit, outputs);
    }

    fn get(&self, key: &Key) -> Option<u64> {
        let deeper = (1..Level::COUNT as u8)
            .filter_map(|level| self.version.level_candidate(Level(level), key));
        let tables: Vec<&Arc<TableHandle<Entries>>> =
            self.version.l0_candidates(key).chain(deeper).collect();
        tables
            .iter()
            .find_map(|table| {
                let entries = table.table.get().unwrap();
                let index = entries.partition_point(|entry| entry.key < *key);
                entries.get(index).filter(|entry| entry.key == *key)
            })
            .filter(|entry| entry.kind == Kind::Put)
            .map(|entry| entry.seq)
    }

    fn check_reads(&self, keys: impl Iterator<Item = Key>) {
        for key in keys {
            assert_eq!(self.get(&key), self.model.get(&key).copied(), "key {key:?}");
        }
    }

    /// Runs the picker until it and everything running is done.
    fn drain(&mut self) {
        // Each pick moves bytes down, shrinks L0 or drops tombstones: far fewer steps than this.
        let limit = 20 * self.version.table_count() + 100;
        for _ in 0..limit {
            if !self.start() && self.running.is_empty() {
                return;
            }
            while !self.running.is_empty() {
                self.finish(0);
            }
        }
        panic!("no end after {limit} compactions: {:?}", self.version);
    }

    fn shape(&self) -> String {
        let sizes: Vec<String> = (0..Level::COUNT as u8)
            .map(|level| (self.version.level_bytes(Level(level)) / ENTRY_BYTES).to_string())
            .collect();
        let amplification = self.written_bytes as f64 / self.flushed_bytes.max(1) as f64;
        format!(
            "entries by level {}, write amplification {:.1}, picks {:?}",
            sizes.join(" "),
            1.0 + amplification,
            self.picks
        )
    }
}

/// How keys are chosen.
#[derive(Debug, Clone, Copy)]
enum Load {
    Uniform,
    Ascending,
    /// Small groups of neighbours in different places: tables with gaps.
    Clustered,
    /// Half deletes, then everything is deleted.
    Deleting,
}

fn run(seed: u64, load: Load) -> Tree {
    let rng = &mut Rng::new(seed);
    let mut tree = Tree::new(rng);
    let keys = 2000;
    let flushes = 300;
    for round in 0..flushes {
        let mut memtable = Entries::new();
        let place = rng.below(keys);
        for index in 0..20 + rng.below(60) {
            let key = match load {
                Load::Uniform | Load::Deleting => rng.below(keys),
                Load::Ascending => round * 100 + index,
                Load::Clustered => place + rng.below(30),
            };
            let is_delete = match load {
                Load::Deleting => rng.one_in(2) || round > flushes - 50,
                Load::Ascending => false,
                _ => rng.one_in(8),
            };
            let kind = if is_delete { Kind::Delete } else { Kind::Put };
            tree.write(&mut memtable, (key as u32).to_be_bytes(), kind);
        }
        tree.flush(memtable);
        // Up to three at once; they end in any order.
        while tree.running.len() < 3 && !rng.one_in(4) && tree.start() {}
        while !tree.running.is_empty() && rng.one_in(2) {
            let index = rng.below(tree.running.len() as u64) as usize;
            tree.finish(index);
        }
        let probes: Vec<Key> = (0..20).map(|_| (rng.below(keys) as u32).to_be_bytes()).collect();
        tree.check_reads(probes.into_iter());
    }
    tree.drain();
    let highest = tree.model.keys().next_back().map_or(0, |key| u32::from_be_bytes(*key));
    tree.check_reads((0..=highest.max(keys as u32)).map(u32::to_be_bytes));
    println!("seed {seed}, {load:?}: {}", tree.shape());
    tree
}

#[test]
fn any_load_keeps_invariants_and_reads_and_ends_quiet() {
    for load in [Load::Uniform, Load::Ascending, Load::Clustered, Load::Deleting] {
        for seed in 0..12 {
            println!("seed {seed}, {load:?}");
            let tree = run(seed, load);
            let amplification = tree.written_bytes as f64 / tree.flushed_bytes as f64;
            // Levels times ratio bounds it; these small trees have up to three levels.
            assert!(amplification < 30.0, "wrote {amplification} times what was flushed");
            let l0 = tree.version.level(Level(0)).len();
            assert!(l0 < tree.options.l0_trigger, "{l0} tables left in L0");
            let targets = LevelTargets::new(&tree.version, &tree.options);
            for (level, score) in targets.scores(&tree.input()) {
                assert!(score < 1.0, "{level} is left with score {score}");
            }
            assert_eq!(pressure(&tree.version, &tree.schemas, &tree.options).debt_bytes, 0);
            match load {
                Load::Ascending => assert_eq!(tree.written_bytes, 0, "only moves were needed"),
                Load::Deleting => {
                    let heavy =
                        tree.version.tables().filter(|(_, t)| t.meta.is_tombstone_heavy(50));
                    assert_eq!(heavy.count(), 0, "tombstones outlived all reasons");
                }
                Load::Uniform | Load::Clustered => {}
            }
        }
    }
}

#[test]
fn a_manual_compaction_of_everything_ends_with_one_level_and_no_tombstone() {
    for seed in 0..12 {
        println!("seed {seed}");
        let mut tree = run(seed, Load::Deleting);
        let mut memtable = Entries::new();
        for key in [3u32, 700, 1999] {
            tree.write(&mut memtable, key.to_be_bytes(), Kind::Put);
            tree.write(&mut memtable, (key - 1).to_be_bytes(), Kind::Delete);
        }
        tree.flush(memtable);
        for level in (0..Level::COUNT as u8).map(Level) {
            for step in 0.. {
                assert!(step < 1000, "no end at {level}");
                match pick_range(&tree.input(), KeyRange::ALL, level) {
                    RangePick::Compact(compaction) => tree.begin(compaction),
                    RangePick::Busy => panic!("nothing runs"),
                    RangePick::Done => break,
                }
                tree.finish(0);
            }
        }
        let used = tree.version.tables().map(|(level, _)| level).collect::<Vec<_>>();
        assert!(used.iter().all(|level| *level == used[0]), "{:?}", tree.version);
        assert!(tree.version.tables().all(|(_, table)| table.meta.tombstones == 0));
        tree.check_reads((0..2000u32).map(u32::to_be_bytes));
    }
}
