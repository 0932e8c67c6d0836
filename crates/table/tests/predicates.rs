//! Reads with a predicate against a sorted list that was filtered row by row: random schemas, rows and
//! conditions, both directions, every kind of seek. The list is filtered by the *values* of the
//! fields, which knows nothing of columns and bounds.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod common;

use std::{
    ops::{Bound, RangeBounds},
    sync::Arc,
};

use common::{Entry, build, mem_fs, open, put};
use sluice_base::{Kind, SeqNo, Trailer};
use sluice_env::Rng;
use sluice_table::{
    BlockCache, Compression, FieldType, FieldValue, IterOptions, KeyPredicate, KeySchema,
    SkipCounters, Table, TableIter, TableOptions, fuzzing::sample,
};

type Range = (Bound<FieldValue<'static>>, Bound<FieldValue<'static>>);

/// Conditions as an application says them: field and range of values.
type Wish = Vec<(usize, Range)>;

fn owned(value: &FieldValue<'_>) -> FieldValue<'static> {
    match value {
        FieldValue::Number(number) => FieldValue::Number(*number),
        FieldValue::Bytes(bytes) => FieldValue::Bytes(bytes.to_vec().into()),
    }
}

/// What a range compares: numbers as such, counted strings by length first.
fn rank(of_type: FieldType, value: &FieldValue<'_>) -> (u64, Vec<u8>) {
    match (of_type, value) {
        (_, FieldValue::Number(number)) => (*number, Vec::new()),
        (FieldType::Counted(_), FieldValue::Bytes(bytes)) => (bytes.len() as u64, bytes.to_vec()),
        (_, FieldValue::Bytes(bytes)) => (0, bytes.to_vec()),
    }
}

fn wish(rng: &mut Rng, schema: &KeySchema, entries: &[Entry]) -> Wish {
    let mut wish = Wish::new();
    let value = |rng: &mut Rng, field: usize| loop {
        let key = match rng.below(4) {
            0 => sample::key(rng, schema),
            _ => entries[rng.below(entries.len() as u64) as usize].0.clone(),
        };
        if let Some(values) = schema.split(&key) {
            return owned(&values[field]);
        }
        let key = sample::key(rng, schema);
        if let Some(values) = schema.split(&key) {
            return owned(&values[field]);
        }
    };
    for _ in 0..1 + rng.below(3) {
        let field = rng.below(schema.types().len() as u64) as usize;
        let end = |rng: &mut Rng| match rng.below(4) {
            0 => Bound::Unbounded,
            1 => Bound::Excluded(value(rng, field)),
            _ => Bound::Included(value(rng, field)),
        };
        let range = if rng.one_in(3) {
            let value = value(rng, field);
            (Bound::Included(value.clone()), Bound::Included(value))
        } else {
            (end(rng), end(rng))
        };
        wish.push((field, range));
    }
    wish
}

fn fulfils(schema: &KeySchema, wish: &Wish, key: &[u8]) -> bool {
    let Some(values) = schema.split(key) else { return false };
    wish.iter().all(|(field, (from, to))| {
        let of_type = schema.types()[*field];
        let rank_of = |value: &FieldValue<'_>| rank(of_type, value);
        let range = (from.as_ref().map(rank_of), to.as_ref().map(rank_of));
        range.contains(&rank_of(&values[*field]))
    })
}

fn predicate(schema: &Arc<KeySchema>, wish: &Wish, rng: &mut Rng) -> KeyPredicate {
    wish.iter().fold(KeyPredicate::new(Arc::clone(schema)), |predicate, (field, range)| {
        let name = schema.descriptor().fields[*field].name.clone();
        match rng.one_in(2) {
            true => predicate.range(*field, range.clone()).unwrap(),
            false => predicate.range(&*name, range.clone()).unwrap(),
        }
    })
}

fn entries(rng: &mut Rng, schema: &KeySchema) -> Vec<Entry> {
    let foreign = [20, 1_000_000][rng.below(2) as usize];
    let mut entries: Vec<Entry> = Vec::new();
    for seq in 1..=1 + rng.below(900) {
        let key = match rng.below(3) {
            0 if !entries.is_empty() => entries[rng.below(entries.len() as u64) as usize].0.clone(),
            _ if rng.one_in(foreign) => vec![rng.next_u64() as u8; rng.below(4) as usize],
            _ => sample::key(rng, schema),
        };
        let kind = if rng.one_in(8) { Kind::Delete } else { Kind::Put };
        let value = if kind == Kind::Put { seq.to_be_bytes().to_vec() } else { Vec::new() };
        entries.push((key, Trailer::new(SeqNo(seq), kind), value));
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    entries
}

/// A number of fields that a filter of prefixes may have, or none.
fn filter_fields(rng: &mut Rng, schema: &KeySchema) -> Option<u8> {
    let most = schema.delimited_fields();
    (most > 0 && rng.one_in(2)).then(|| 1 + rng.below(most as u64) as u8)
}

fn entry(iter: &TableIter) -> Entry {
    (iter.key().to_vec(), iter.trailer(), iter.value().to_vec())
}

fn check(
    table: &Arc<Table>,
    predicate: &Arc<KeyPredicate>,
    shown: &[Entry],
    all: &[Entry],
    rng: &mut Rng,
) -> u64 {
    let skips = Arc::new(SkipCounters::default());
    let options = IterOptions {
        fill_cache: rng.one_in(2),
        readahead_bytes: if rng.one_in(2) { 5000 } else { 0 },
        predicate: Some(Arc::clone(predicate)),
        skips: Some(Arc::clone(&skips)),
        ..IterOptions::default()
    };
    let mut iter = TableIter::new(Arc::clone(table), options);
    assert!(!iter.next().unwrap() && !iter.prev().unwrap());
    let mut found = Vec::new();
    let mut on = iter.seek_to_first().unwrap();
    while on {
        found.push(entry(&iter));
        on = iter.next().unwrap();
    }
    assert_eq!(found.len(), shown.len(), "forward");
    assert!(found == shown, "forward");
    let mut on = iter.seek_to_last().unwrap();
    for wanted in shown.iter().rev() {
        assert!(on && entry(&iter) == *wanted, "backward at {:?}", wanted.0);
        on = iter.prev().unwrap();
    }
    assert!(!on && !iter.valid());
    let mut distinct = shown.to_vec();
    distinct.dedup_by(|a, b| a.0 == b.0);
    let mut on = iter.seek_to_first().unwrap();
    for wanted in &distinct {
        assert!(on && entry(&iter) == *wanted, "by keys at {:?}", wanted.0);
        on = iter.next_key().unwrap();
    }
    assert!(!on);
    for _ in 0..60 {
        let mut key = all[rng.below(all.len() as u64) as usize].0.clone();
        match rng.below(6) {
            0 => key.push(0),
            1 => drop(key.pop()),
            _ => {}
        }
        let trailer = match rng.below(3) {
            0 => Trailer(0),
            1 => Trailer(u64::MAX),
            _ => Trailer::new(SeqNo(rng.below(900)), Kind::Put),
        };
        let before = |entry: &Entry| (&entry.0, trailer) < (&key, entry.1);
        let at = shown.partition_point(before);
        assert_eq!(iter.seek(&key, trailer).unwrap(), at < shown.len());
        if at < shown.len() {
            assert_eq!(entry(&iter), shown[at]);
            match rng.below(3) {
                0 if iter.next().unwrap() => assert_eq!(entry(&iter), shown[at + 1]),
                1 if iter.prev().unwrap() => assert_eq!(entry(&iter), shown[at - 1]),
                _ => {}
            }
        }
        let upto = shown.partition_point(|entry| (&entry.0, trailer) <= (&key, entry.1));
        assert_eq!(iter.seek_for_prev(&key, trailer).unwrap(), upto > 0);
        if upto > 0 {
            assert_eq!(entry(&iter), shown[upto - 1]);
            match rng.below(3) {
                0 => assert_eq!(iter.next().unwrap(), upto < shown.len()),
                1 => assert_eq!(iter.prev().unwrap(), upto > 1),
                _ => {}
            }
        }
    }
    skips.get().blocks
}

#[test]
fn random_predicates_show_what_a_filter_over_all_rows_shows() {
    check_random_predicates(0x5eed_93ed, sample::schema);
}

/// Custom schemas, and among them declarative ones: each asked by the fields of the other, too.
#[test]
fn random_predicates_on_fields_of_splitters_show_what_a_filter_shows() {
    check_random_predicates(0x5eed_c057, |rng| match rng.one_in(5) {
        true => sample::schema(rng),
        false => sample::splitters::schema(rng),
    });
}

fn check_random_predicates(seed: u64, schemas: impl Fn(&mut Rng) -> KeySchema) {
    println!("seed {seed:#x}");
    let mut rng = Rng::new(seed);
    let (mut skipped, mut matched, mut nothing) = (0, 0, 0);
    for round in 0..150 {
        let schema = Arc::new(schemas(&mut rng));
        let entries = entries(&mut rng, &schema);
        // Mostly the table's own schema; else it is asked by the fields of another.
        let own = !rng.one_in(4);
        let of_table = if own { Arc::clone(&schema) } else { Arc::new(schemas(&mut rng)) };
        let (_, fs) = mem_fs();
        let options = TableOptions {
            block_bytes: [256, 700, 16 << 10][rng.below(3) as usize],
            compression: if rng.one_in(2) { Compression::Lz4 } else { Compression::None },
            filter_fields: filter_fields(&mut rng, &of_table),
            schema: of_table,
            index_partition_bytes: [1, 400, usize::MAX][rng.below(3) as usize],
            ..TableOptions::default()
        };
        build(&fs, &entries, options);
        let table = open(&fs, &BlockCache::new(1 << 20)).unwrap();
        for _ in 0..6 {
            let wish = wish(&mut rng, &schema, &entries);
            println!("round {round}, {schema}, table {}: {wish:?}", table.schema());
            let predicate = Arc::new(predicate(&schema, &wish, &mut rng));
            let shown: Vec<Entry> =
                entries.iter().filter(|entry| fulfils(&schema, &wish, &entry.0)).cloned().collect();
            for entry in &entries {
                assert_eq!(predicate.matches(&entry.0), fulfils(&schema, &wish, &entry.0));
            }
            assert!(shown.iter().all(|entry| entry.0.starts_with(predicate.key_prefix())));
            skipped += check(&table, &predicate, &shown, &entries, &mut rng);
            matched += usize::from(!shown.is_empty() && shown.len() < entries.len());
            nothing += usize::from(shown.is_empty());
        }
    }
    // The test must meet what it is for.
    assert!(skipped > 10_000 && matched > 300 && nothing > 30, "{skipped} {matched} {nothing}");
}

#[test]
fn only_blocks_that_can_match_are_loaded() {
    let schema = Arc::new(KeySchema::parse("t", 1, "tenant escaped, ts u64 desc").unwrap());
    let key = |tenant: u64, ts: u64| {
        let tenant = format!("a tenant with a long name {tenant:03}").into_bytes();
        schema.join(&[FieldValue::Bytes(tenant.into()), FieldValue::Number(ts)]).unwrap()
    };
    let mut entries: Vec<Entry> = (0..200)
        .flat_map(|tenant| (0..100).map(move |ts| (tenant, ts)))
        .map(|(tenant, ts)| put(&key(tenant, tenant * 100 + ts), 7, b"v"))
        .collect();
    entries.sort();
    let (_, fs) = mem_fs();
    let options =
        TableOptions { block_bytes: 1000, schema: Arc::clone(&schema), ..TableOptions::default() };
    build(&fs, &entries, options);
    let cache = BlockCache::new(10 << 20);
    let table = open(&fs, &cache).unwrap();
    assert!(table.blocks() > 100);
    // By the second field alone: its values are in one tenant's blocks.
    let range = FieldValue::Number(7310)..=FieldValue::Number(7320);
    let predicate = KeyPredicate::new(schema).range("ts", range).unwrap();
    let skips = Arc::new(SkipCounters::default());
    let options = IterOptions {
        predicate: Some(Arc::new(predicate)),
        skips: Some(Arc::clone(&skips)),
        ..IterOptions::default()
    };
    let mut iter = TableIter::new(Arc::clone(&table), options);
    let (mut count, mut on) = (0, iter.seek_to_first().unwrap());
    while on {
        count += 1;
        on = iter.next().unwrap();
    }
    assert_eq!(count, 11);
    let loaded = cache.stats().misses;
    assert!(loaded <= 3, "{loaded} of {} blocks", table.blocks());
    assert_eq!(skips.get().blocks + loaded, table.blocks() as u64);
}

#[test]
fn wrong_conditions_are_refused_by_name() {
    let schema = Arc::new(KeySchema::parse("t", 1, "id fixed 4, kind u8, rest").unwrap());
    let predicate = || KeyPredicate::new(Arc::clone(&schema));
    let bytes = |bytes: &'static [u8]| FieldValue::Bytes(bytes.into());
    for (result, wanted) in [
        (predicate().equal("missing", bytes(b"")), "no key field \"missing\""),
        (predicate().equal(3, bytes(b"")), "no key field 3 (from 0)"),
        (predicate().equal("kind", FieldValue::Number(256)), "256 does not fit"),
        (predicate().equal("kind", bytes(b"x")), "give a number"),
        (predicate().equal("id", bytes(b"x")), "exactly 4"),
    ] {
        let error = result.unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
    }
}

#[test]
fn a_filter_of_prefixes_spares_the_search_and_hides_no_key() {
    let schema = Arc::new(KeySchema::parse("t", 1, "table u8, tenant escaped, rest").unwrap());
    let prefix = |tenant: u64| [&[7][..], format!("{tenant:05}").as_bytes(), &[0, 1]].concat();
    let mut entries: Vec<Entry> = (0..2000)
        .map(|row| put(&[&prefix(row / 4 * 2)[..], &row.to_be_bytes()].concat(), 7, b"v"))
        .collect();
    // Begins with both fields, though it does not split: a prefix like any other. And one that does
    // not even begin so.
    let schema_of = |text| Arc::new(KeySchema::parse("t", 1, text).unwrap());
    entries.push(put(&[&prefix(99)[..], b"x"].concat(), 7, b"v"));
    entries.push(put(&[8, b'z', 0, 9], 7, b"v"));
    entries.sort();
    for schema in [schema, schema_of("table u8, tenant escaped, id u64")] {
        let (_, fs) = mem_fs();
        let options = TableOptions {
            filter_fields: Some(2),
            schema: Arc::clone(&schema),
            ..TableOptions::default()
        };
        build(&fs, &entries, options);
        let cache = BlockCache::new(1 << 20);
        let table = open(&fs, &cache).unwrap();
        table.verify().into_result().unwrap();
        assert!(table.may_contain_prefix(&[7]) && table.may_contain_prefix(&[9]), "too short");
        assert!(table.may_contain_prefix(&prefix(99)));
        let absent = (0..500).map(|tenant| prefix(tenant * 2 + 101));
        let passed = absent.clone().filter(|prefix| table.may_contain_prefix(prefix)).count();
        assert!(passed < 30, "{passed} of 500 absent prefixes pass");
        let skips = Arc::new(SkipCounters::default());
        let iter = |prefix: &[u8], by_predicate: bool| {
            let mut options = IterOptions {
                prefix: Some(prefix.into()),
                skips: Some(Arc::clone(&skips)),
                ..IterOptions::default()
            };
            if by_predicate {
                let tenant = FieldValue::Bytes(prefix[1..6].to_vec().into());
                let predicate = KeyPredicate::new(Arc::clone(&schema));
                let predicate = predicate.equal(0, FieldValue::Number(7)).unwrap();
                options.predicate = Some(Arc::new(predicate.equal(1, tenant).unwrap()));
                options.prefix = None;
            }
            TableIter::new(Arc::clone(&table), options)
        };
        for by_predicate in [false, true] {
            for tenant in 0..500 {
                let mut iter = iter(&prefix(tenant * 2), by_predicate);
                assert!(iter.seek(&prefix(tenant * 2), Trailer(u64::MAX)).unwrap());
                assert!(iter.key().starts_with(&prefix(tenant * 2)));
            }
            let (tables, reads) = (skips.get().tables, cache.stats().hits);
            for prefix in absent.clone() {
                let mut iter = iter(&prefix, by_predicate);
                let found = iter.seek(&prefix, Trailer(u64::MAX)).unwrap();
                assert!(!found || !iter.key().starts_with(&prefix));
                let found = iter.seek_for_prev(&prefix, Trailer(0)).unwrap();
                assert!(!found || !iter.key().starts_with(&prefix));
            }
            assert_eq!(skips.get().tables - tables, 500 - passed as u64);
            assert!(cache.stats().hits - reads <= 2 * passed as u64);
        }
    }
    let (_, fs) = mem_fs();
    for (text, fields) in [("key rest", 1), ("a u8, rest", 2), ("a u8, b u8", 3), ("a u8, b u8", 0)]
    {
        let options = TableOptions {
            filter_fields: Some(fields),
            schema: schema_of(text),
            ..TableOptions::default()
        };
        let path = std::path::Path::new("/x.sst");
        let made = sluice_table::TableWriter::create(&fs, path, sluice_base::FileNo(1), options);
        assert_eq!(made.unwrap_err().kind(), sluice_base::ErrorKind::Invalid, "{text}");
        assert!(!fs.exists(path).unwrap());
    }
}
