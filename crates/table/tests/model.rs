//! Random tables against a sorted list: point reads, both directions, both seeks, verification.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod common;

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::{Entry, build, mem_fs, open};
use sluice_base::{Kind, SeqNo, Trailer};
use sluice_env::Rng;
use sluice_table::{
    BlockCache, Compression, IterOptions, KeySchema, KeySplitter, SplitField, Table, TableIter,
    TableOptions, filter_hash, fuzzing::sample,
};

/// The internal order as a map key.
type Model = BTreeMap<(Vec<u8>, Reverse<Trailer>), Vec<u8>>;

/// Draws keys of one of several shapes, or such as fit a schema, more or less.
struct Keys {
    shape: u64,
    lead: Vec<u8>,
    schema: Arc<KeySchema>,
    /// Of so many keys one has nothing to do with the schema.
    foreign: u64,
}

impl Keys {
    fn new(rng: &mut Rng) -> Keys {
        let mut lead = vec![0; rng.below(200) as usize];
        rng.fill(&mut lead);
        Keys { shape: rng.below(6), lead, schema: Arc::new(KeySchema::whole_key()), foreign: 1 }
    }

    fn of_schema(rng: &mut Rng) -> Keys {
        let schema = Arc::new(sample::schema(rng));
        Keys { schema, foreign: [1, 3, 50, 5000][rng.below(4) as usize], ..Keys::new(rng) }
    }

    /// Half of them under splitters that keep their word, half under one that does not.
    fn of_custom(rng: &mut Rng) -> Keys {
        let schema = match rng.one_in(4) {
            true => sample::splitters::fickle(),
            false => sample::splitters::schema(rng),
        };
        let foreign = [3, 50, 5000][rng.below(3) as usize];
        Keys { schema: Arc::new(schema), foreign, ..Keys::new(rng) }
    }

    fn draw(&self, rng: &mut Rng) -> Vec<u8> {
        if !rng.one_in(self.foreign) {
            return sample::key(rng, &self.schema);
        }
        let mut key = match self.shape {
            0 => vec![0; rng.below(3) as usize],
            1 => return format!("user:{:08}", rng.below(3000)).into_bytes(),
            2 => {
                let mut key = self.lead.clone();
                let at = key.len();
                key.resize(at + rng.below(6) as usize, 0);
                rng.fill(&mut key[at..]);
                return key;
            }
            3 => {
                let bytes_max = if rng.one_in(200) { 100_000 } else { 40 };
                vec![0; 1 + rng.below(bytes_max) as usize]
            }
            4 => return vec![b'a'; rng.below(300) as usize],
            _ => {
                return (0..rng.below(12))
                    .map(|_| [0, 1, 0xfe, 0xff][rng.below(4) as usize])
                    .collect();
            }
        };
        rng.fill(&mut key);
        key
    }
}

fn random_model(rng: &mut Rng, keys: &Keys) -> Model {
    let count = 1 + rng.below(1500);
    let hot = rng.one_in(3).then(|| keys.draw(rng));
    let mut model = Model::new();
    let value_max = [0, 1, 30, 2000][rng.below(4) as usize];
    for seq in 1..=count {
        let key = match &hot {
            Some(hot) if rng.one_in(3) => hot.clone(),
            _ => keys.draw(rng),
        };
        let kind = if rng.one_in(8) { Kind::Delete } else { Kind::Put };
        let mut value = Vec::new();
        if kind == Kind::Put {
            let huge = rng.one_in(300);
            value.resize(rng.below(1 + if huge { 50_000 } else { value_max }) as usize, 0);
            if rng.one_in(2) {
                rng.fill(&mut value);
            }
        }
        model.insert((key, Reverse(Trailer::new(SeqNo(seq), kind))), value);
    }
    model
}

fn entry(iter: &TableIter) -> Entry {
    (iter.key().to_vec(), iter.trailer(), iter.value().to_vec())
}

fn check(table: &Arc<Table>, model: &Model, keys: &Keys, rng: &mut Rng) {
    let sorted: Vec<Entry> = model
        .iter()
        .map(|((key, trailer), value)| (key.clone(), trailer.0, value.clone()))
        .collect();
    table.verify().into_result().unwrap();

    let readahead = if rng.one_in(2) { 1 + rng.below(10_000) as usize } else { 0 };
    let options = IterOptions {
        fill_cache: rng.one_in(2),
        readahead_bytes: readahead,
        ..IterOptions::default()
    };
    let mut iter = TableIter::new(Arc::clone(table), options);
    assert!(!iter.valid() && !iter.next().unwrap() && !iter.prev().unwrap());

    let mut seen = 0;
    let mut on = iter.seek_to_first().unwrap();
    while on {
        assert_eq!(entry(&iter), sorted[seen]);
        seen += 1;
        on = iter.next().unwrap();
    }
    assert_eq!(seen, sorted.len());
    let mut on = iter.seek_to_last().unwrap();
    while on {
        seen -= 1;
        assert_eq!(entry(&iter), sorted[seen]);
        on = iter.prev().unwrap();
    }
    assert_eq!(seen, 0);
    let mut on = iter.seek_to_first().unwrap();
    let mut distinct = sorted.clone();
    distinct.dedup_by(|a, b| a.0 == b.0);
    for wanted in &distinct {
        assert!(on);
        assert_eq!(&entry(&iter), wanted);
        on = iter.next_key().unwrap();
    }
    assert!(!on);

    for _ in 0..600 {
        let key = match rng.below(3) {
            0 => keys.draw(rng),
            _ => {
                let mut key = sorted[rng.below(sorted.len() as u64) as usize].0.clone();
                match rng.below(4) {
                    0 => key.push(0),
                    1 => drop(key.pop()),
                    _ => {}
                }
                key
            }
        };
        let seek = match rng.below(4) {
            0 => Trailer::seek(SeqNo::MAX),
            1 => Trailer(0),
            _ => Trailer::seek(SeqNo(rng.below(model.len() as u64 + 2))),
        };
        let target = (key.clone(), Reverse(seek));
        let at =
            sorted.partition_point(|entry| (&entry.0, Reverse(entry.1)) < (&key, Reverse(seek)));

        let found = table.get(&key, filter_hash(&key), seek).unwrap();
        let wanted = sorted.get(at).filter(|entry| entry.0 == key);
        assert_eq!(
            found.as_ref().map(|(trailer, value)| (*trailer, &value[..])),
            wanted.map(|entry| (entry.1, &entry.2[..])),
        );

        assert_eq!(iter.seek(&key, seek).unwrap(), at < sorted.len());
        if at < sorted.len() {
            assert_eq!(entry(&iter), sorted[at]);
            match rng.below(3) {
                0 if iter.next().unwrap() => assert_eq!(entry(&iter), sorted[at + 1]),
                1 if iter.prev().unwrap() => assert_eq!(entry(&iter), sorted[at - 1]),
                _ => {}
            }
        }
        let before = model.range(..=target).count();
        assert_eq!(iter.seek_for_prev(&key, seek).unwrap(), before > 0);
        if before > 0 {
            assert_eq!(entry(&iter), sorted[before - 1]);
        }
    }
}

#[test]
fn random_tables_read_like_a_sorted_list() {
    check_random_tables(0x5eed_7ab1e, 40, Keys::new);
}

#[test]
fn p11_random_tables_under_random_key_schemas_read_like_a_sorted_list() {
    check_random_tables(0x5eed_5c4e, 120, Keys::of_schema);
}

/// Tables are opened without the splitter: their columns say where fields end.
#[test]
fn p11_random_tables_under_custom_schemas_read_like_a_sorted_list() {
    check_random_tables(0x5eed_c057, 120, Keys::of_custom);
}

/// Either split would do; two of one key would make predicates show what is not there any more.
#[test]
fn a_key_of_which_a_splitter_says_two_things_is_kept_whole() {
    #[derive(Debug)]
    struct Wavers(AtomicUsize);

    impl KeySplitter for Wavers {
        fn name(&self) -> &str {
            "wavers"
        }
        fn version(&self) -> u32 {
            1
        }
        fn fields(&self) -> Vec<SplitField> {
            vec![SplitField::bytes("a"), SplitField::bytes("b")]
        }
        fn contract(&self) -> &str {
            "keys with w: one byte or two; else one"
        }
        fn split(&self, key: &[u8], ends: &mut Vec<usize>) -> bool {
            let wavers =
                key.starts_with(b"w") && self.0.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
            ends.extend([1 + usize::from(wavers), key.len()]);
            true
        }
    }

    let (_, fs) = mem_fs();
    let schema = Arc::new(KeySchema::custom(Arc::new(Wavers(AtomicUsize::new(0)))).unwrap());
    let entries = [b"kept", b"long", b"wave", b"wide"].map(|key| common::put(key, 1, b""));
    build(&fs, &entries, TableOptions { schema, ..TableOptions::default() });
    let table = open(&fs, &BlockCache::new(0)).unwrap();
    table.verify().into_result().unwrap();
    assert_eq!(table.inspect_columns().unwrap().exceptions, 2);
    check_inspection(&table, &entries);
}

/// A number of fields that a filter of prefixes may have, or none.
fn filter_fields(rng: &mut Rng, schema: &KeySchema) -> Option<u8> {
    let most = schema.delimited_fields();
    (most > 0 && rng.one_in(2)).then(|| 1 + rng.below(most as u64) as u8)
}

fn check_random_tables(seed: u64, rounds: u64, keys: impl Fn(&mut Rng) -> Keys) {
    println!("seed {seed:#x}");
    let mut rng = Rng::new(seed);
    let mut two_levels = 0;
    for round in 0..rounds {
        let keys = keys(&mut rng);
        println!("round {round}: {}", keys.schema);
        let model = random_model(&mut rng, &keys);
        let (_, fs) = mem_fs();
        let options = TableOptions {
            block_bytes: [256, 1000, 16 << 10][rng.below(3) as usize],
            compression: if rng.one_in(2) { Compression::Lz4 } else { Compression::None },
            filter_bits_per_key: [0, 3, 10, 20][rng.below(4) as usize],
            index_partition_bytes: [1, 300, 1000, usize::MAX][rng.below(4) as usize],
            filter_fields: filter_fields(&mut rng, &keys.schema),
            schema: Arc::clone(&keys.schema),
            ..TableOptions::default()
        };
        let entries: Vec<Entry> = model
            .iter()
            .map(|((key, trailer), value)| (key.clone(), trailer.0, value.clone()))
            .collect();
        let summary = build(&fs, &entries, options);
        let cache = BlockCache::new([0, 20_000, 100 << 20][rng.below(3) as usize]);
        let table = open(&fs, &cache).unwrap();

        assert_eq!(summary.entries, model.len() as u64);
        assert_eq!(summary.file_bytes, table.file_bytes());
        assert_eq!(
            Some((&summary.smallest.0, summary.smallest.1)),
            entries.first().map(|e| (&e.0, e.1))
        );
        assert_eq!(
            Some((&summary.largest.0, summary.largest.1)),
            entries.last().map(|e| (&e.0, e.1))
        );
        let seqs = entries.iter().map(|entry| entry.1.seq());
        assert_eq!(Some(summary.seq_min), seqs.clone().min());
        assert_eq!(Some(summary.seq_max), seqs.max());
        assert_eq!(table.schema(), &keys.schema);
        two_levels += usize::from(table.index_partitions() > 1);
        check(&table, &model, &keys, &mut rng);
        check_inspection(&table, &entries);
    }
    assert!(two_levels > rounds as usize / 4, "{two_levels} tables have an index in two levels");
}

/// What an inspection adds up to is the table, and its rows are the entries.
fn check_inspection(table: &Table, entries: &[Entry]) {
    let (totals, properties) = (table.inspect_columns().unwrap(), table.properties());
    let bytes = totals.columns.iter().map(|column| column.bytes).sum::<u64>() + totals.head_bytes;
    assert_eq!(bytes, totals.unpacked_bytes);
    assert_eq!((totals.rows, totals.tombstones), (properties.entries, properties.tombstones));
    assert_eq!(
        (totals.blocks, totals.stored_bytes),
        (properties.data_blocks, properties.data_bytes)
    );
    let (mut at, mut exceptions) = (0, 0);
    table
        .for_each_row(0..usize::MAX, |row| {
            let (key, trailer, value) = &entries[at];
            assert_eq!((row.key, row.trailer, row.value), (&key[..], *trailer, &value[..]));
            exceptions += u64::from(row.fields.is_none());
            at += 1;
            true
        })
        .unwrap();
    assert_eq!((at, exceptions), (entries.len(), totals.exceptions));
}

#[test]
fn versions_of_one_key_over_many_blocks_are_found_without_a_walk() {
    let (_, fs) = mem_fs();
    let mut entries = vec![common::put(b"a", 5, b"first")];
    entries.extend((1..=2000).rev().map(|seq| common::put(b"hot", seq, &seq.to_le_bytes())));
    entries.push(common::put(b"z", 9, b"last"));
    build(&fs, &entries, TableOptions { block_bytes: 256, ..TableOptions::default() });
    let cache = BlockCache::new(1 << 20);
    let table = open(&fs, &cache).unwrap();
    assert!(table.blocks() > 50);
    table.verify().into_result().unwrap();
    for seq in 1..=2000 {
        let misses = cache.stats().misses;
        let found = table.get(b"hot", filter_hash(b"hot"), Trailer::seek(SeqNo(seq))).unwrap();
        assert_eq!(found.unwrap().0.seq(), SeqNo(seq));
        assert!(cache.stats().misses <= misses + 1);
    }
    let found = table.get(b"hot", filter_hash(b"hot"), Trailer::seek(SeqNo::ZERO)).unwrap();
    assert!(found.is_none());
    let mut iter = TableIter::new(table, IterOptions::default());
    assert!(iter.seek_to_first().unwrap() && iter.next_key().unwrap());
    assert_eq!((iter.key(), iter.trailer().seq()), (&b"hot"[..], SeqNo(2000)));
    assert!(iter.next_key().unwrap());
    assert_eq!(iter.key(), b"z");
}

#[test]
fn huge_values_get_a_block_of_their_own() {
    let (_, fs) = mem_fs();
    let huge: Vec<u8> = (0..20u32 << 20).map(|at| (at >> 3) as u8).collect();
    let entries =
        [common::put(b"a", 1, b"small"), common::put(b"b", 2, &huge), common::put(b"c", 3, b"end")];
    build(&fs, &entries, TableOptions::default());
    let cache = BlockCache::new(1 << 20);
    let table = open(&fs, &cache).unwrap();
    assert_eq!(table.blocks(), 3);
    for (key, trailer, value) in &entries {
        let (found, bytes) = table.get(key, filter_hash(key), *trailer).unwrap().unwrap();
        assert_eq!(found, *trailer);
        assert!(bytes[..] == value[..]);
    }
    table.verify().into_result().unwrap();
}
