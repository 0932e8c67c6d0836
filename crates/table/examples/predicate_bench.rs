//! Prints what predicates, filters of prefixes and reads of keys spare, and what the size of blocks costs.
//! Nothing is asserted: numbers are for people.
//!
//! `cargo run --release -p sluice-table --example predicate_bench [rows]`

use std::{path::Path, sync::Arc};

use sluice_base::{FileNo, Kind, SeqNo, Trailer};
use sluice_env::{Env, Fs, MemFs, Rng};
use sluice_table::{
    BlockCache, Compression, FieldValue, IterOptions, KeyPredicate, KeySchema, SkipCounters, Table,
    TableIter, TableOptions, TableWriter, filter_hash,
};

const START_MS: u64 = 1_700_000_000_000;
const ROUNDS: usize = 5;

/// Nanoseconds an operation, the best of some rounds.
fn best(env: &Env, count: usize, mut body: impl FnMut() -> u64) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = env.clock.monotonic_us();
        std::hint::black_box(body());
        let us = env.clock.monotonic_us() - start;
        best = best.min(us as f64 * 1000.0 / count as f64);
    }
    best
}

fn build(fs: &Arc<dyn Fs>, path: &Path, keys: &[Vec<u8>], value: usize, options: TableOptions) {
    let mut values = vec![0; 1 << 20];
    Rng::new(5).fill(&mut values);
    let mut writer = TableWriter::create(fs, path, FileNo(1), options).expect("create");
    for (row, key) in keys.iter().enumerate() {
        let trailer = Trailer::new(SeqNo(row as u64 * 7919 % keys.len() as u64), Kind::Put);
        let start = row * 37 % (values.len() - value);
        writer.add(key, trailer, &values[start..start + value]).expect("add");
    }
    writer.finish().expect("finish");
}

fn walk(iter: &mut TableIter) -> u64 {
    let (mut count, mut on) = (0, iter.seek_to_first().expect("seek"));
    while on {
        count += 1;
        on = iter.next().expect("next");
    }
    count
}

/// Rows of 1,000 tenants, of each one a second.
fn predicates(env: &Env, rows: u64) {
    let schema =
        Arc::new(KeySchema::parse("t", 1, "tenant escaped, ts u64 desc, rest").expect("a schema"));
    let tenants = (rows / 2000).max(1);
    let tenant = |number: u64| format!("tenant-{number:05}").into_bytes();
    let key = |number: u64, ts: u64| {
        let fields = [
            FieldValue::Bytes(tenant(number).into()),
            FieldValue::Number(START_MS + ts * 1000),
            FieldValue::Bytes(b"x"[..].into()),
        ];
        schema.join(&fields).expect("fields")
    };
    let mut keys: Vec<Vec<u8>> =
        (0..rows).map(|row| key(row % tenants * 2, row / tenants)).collect();
    keys.sort();
    let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
    let path = Path::new("/000001.sst");
    let options = TableOptions {
        schema: Arc::clone(&schema),
        filter_fields: Some(1),
        ..TableOptions::default()
    };
    build(&fs, path, &keys, 100, options);
    let cache = BlockCache::new(1 << 30);
    let table = Arc::new(Table::open(&fs, path, FileNo(1), &cache).expect("open"));
    println!(
        "\n{rows} rows of {tenants} tenants, {} blocks, filter of prefixes {} bytes",
        table.blocks(),
        table.properties().prefix_filter_bytes
    );
    walk(&mut TableIter::new(Arc::clone(&table), IterOptions::default())); // fills the cache
    let last = rows / tenants;
    let minute = FieldValue::Number(START_MS + last / 2 * 1000)
        ..FieldValue::Number(START_MS + (last / 2 + 60) * 1000);
    let of = || KeyPredicate::new(Arc::clone(&schema));
    let one = FieldValue::Bytes(tenant(tenants / 2 * 2).into());
    for (name, predicate) in [
        ("a minute of every tenant", of().range("ts", minute.clone())),
        ("one tenant", of().equal("tenant", one.clone())),
        ("a minute of one tenant", of().equal("tenant", one).and_then(|of| of.range("ts", minute))),
    ] {
        let predicate = Arc::new(predicate.expect("a predicate"));
        let skips = Arc::new(SkipCounters::default());
        let mut found = 0;
        let pushed = best(env, 1, || {
            let options = IterOptions {
                predicate: Some(Arc::clone(&predicate)),
                skips: Some(Arc::clone(&skips)),
                ..IterOptions::default()
            };
            found = walk(&mut TableIter::new(Arc::clone(&table), options));
            found
        });
        let mut matches = 0;
        let filtered = best(env, 1, || {
            let mut iter = TableIter::new(Arc::clone(&table), IterOptions::default());
            (matches, _) = (0, ());
            let mut on = iter.seek_to_first().expect("seek");
            while on {
                matches += u64::from(predicate.matches(iter.key()));
                on = iter.next().expect("next");
            }
            matches
        });
        assert_eq!(found, matches);
        let skipped = skips.get().blocks / ROUNDS as u64;
        println!(
            "  {name}: {found} rows, {skipped} blocks left out; pushed down {:.0} us, filtered above \
             {:.0} us",
            pushed / 1000.0,
            filtered / 1000.0
        );
    }
    let count = 100_000;
    let (plain, asked) = (IterOptions::default(), IterOptions::default());
    let seek = |with: bool, options: &IterOptions| {
        let mut rng = Rng::new(9);
        best(env, count, || {
            let mut sum = 0;
            for _ in 0..count {
                // Odd tenants do not exist.
                let prefix = [&tenant(rng.below(tenants) * 2 + 1)[..], &[0, 1]].concat();
                let mut options = options.clone();
                options.prefix = with.then(|| Arc::from(&prefix[..]));
                let mut iter = TableIter::new(Arc::clone(&table), options);
                sum += u64::from(iter.seek(&prefix, Trailer(u64::MAX)).expect("seek"));
            }
            sum
        })
    };
    println!(
        "  an absent tenant: seek {:.0} ns, with the filter of prefixes {:.0} ns (cached)",
        seek(false, &plain),
        seek(true, &asked)
    );
    let mut iter = TableIter::new(Arc::clone(&table), IterOptions::default());
    let mut scan = |values: bool| {
        best(env, rows as usize, || {
            let (mut sum, mut on) = (0u64, iter.seek_to_first().expect("seek"));
            while on {
                sum += iter.key().len() as u64;
                sum += if values { u64::from(iter.value()[0]) } else { 0 };
                on = iter.next().expect("next");
            }
            sum
        })
    };
    let (keys, both) = (scan(false), scan(true));
    println!("  a walk over keys alone {keys:.1} ns a row, with a byte of each value {both:.1} ns");
}

/// Sizes of blocks, for shapes of keys and 100-byte values.
fn block_sizes(env: &Env, rows: u64) {
    use FieldValue::{Bytes, Number};
    let mut rng = Rng::new(1);
    let mut case =
        |text: &str, fields: &mut dyn FnMut(&mut Rng, u64) -> Vec<FieldValue<'static>>| {
            let schema = Arc::new(KeySchema::parse("bench", 1, text).expect("a schema"));
            let mut keys: Vec<Vec<u8>> = (0..rows)
                .map(|row| schema.join(&fields(&mut rng, row)).expect("fields of the schema"))
                .collect();
            keys.sort();
            keys.dedup();
            println!("\n{text}, {} rows", keys.len());
            println!("  KiB  stored B/row  index B/row   get ns  cold get ns  seek ns  next ns");
            for kib in [4, 8, 16, 32, 64] {
                let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
                let path = Path::new("/000001.sst");
                let options = TableOptions {
                    block_bytes: kib << 10,
                    schema: Arc::clone(&schema),
                    compression: Compression::Lz4,
                    index_partition_bytes: usize::MAX,
                    filter_bits_per_key: 0,
                    ..TableOptions::default()
                };
                // Half of each value repeats: what LZ4 meets in records.
                let mut writer =
                    TableWriter::create(&fs, path, FileNo(1), options).expect("create");
                let mut value = [b'.'; 100];
                for (row, key) in keys.iter().enumerate() {
                    Rng::new(row as u64).fill(&mut value[..50]);
                    let seq = SeqNo(row as u64 * 7919 % rows);
                    writer.add(key, Trailer::new(seq, Kind::Put), &value).expect("add");
                }
                writer.finish().expect("finish");
                let cache = BlockCache::new(1 << 30);
                let none = BlockCache::new(0);
                let open =
                    |cache| Arc::new(Table::open(&fs, path, FileNo(1), cache).expect("open"));
                let (table, cold) = (open(&cache), open(&none));
                let mut iter = TableIter::new(Arc::clone(&table), IterOptions::default());
                walk(&mut iter);
                let get = |table: &Table, count: usize| {
                    let mut rng = Rng::new(2);
                    best(env, count, || {
                        let mut sum = 0;
                        for _ in 0..count {
                            let key = &keys[rng.below(keys.len() as u64) as usize];
                            let found = table.get(key, filter_hash(key), Trailer::seek(SeqNo::MAX));
                            sum += found.expect("get").map_or(0, |(trailer, _)| trailer.0);
                        }
                        sum
                    })
                };
                let warm = get(&table, 200_000);
                let unread = get(&cold, 10_000);
                let mut rng = Rng::new(3);
                let seek = best(env, 200_000, || {
                    let mut sum = 0;
                    for _ in 0..200_000 {
                        let key = &keys[rng.below(keys.len() as u64) as usize];
                        sum += u64::from(iter.seek(key, Trailer::seek(SeqNo::MAX)).expect("seek"));
                        sum += iter.key().len() as u64;
                    }
                    sum
                });
                let next = best(env, keys.len(), || {
                    let (mut sum, mut on) = (0, iter.seek_to_first().expect("seek"));
                    while on {
                        sum += iter.key().len() as u64;
                        on = iter.next().expect("next");
                    }
                    sum
                });
                let count = keys.len() as f64;
                println!(
                    "  {kib:>3}  {:>12.2}  {:>11.3}  {warm:>7.0}  {unread:>11.0}  {seek:>7.0}  {next:>7.1}",
                    table.properties().data_bytes as f64 / count,
                    table.pinned_bytes() as f64 / count,
                );
            }
        };
    let text = |text: String| Bytes(text.into_bytes().into());
    case("tenant escaped, ts u64 desc", &mut |rng, row| {
        let tenant = format!("tenant-{:05}", rng.below(1 + rows / 2000));
        vec![text(tenant), Number(START_MS + row * 40)]
    });
    case("table u32, tenant escaped, ts u64 desc, rest", &mut |rng, row| {
        let tenant = format!("customer-{:06}", rng.below(1 + rows / 50));
        vec![Number(7), text(tenant), Number(START_MS + row * 40), text("v".to_owned())]
    });
    case("db u16, slot u16, key counted u32, version u64, rest", &mut |rng, _| {
        let key = format!("user:profile:{}", rng.below(1 + rows / 1000));
        let field = format!("field:{}", rng.below(1_000_000));
        vec![Number(0), Number(77), text(key), Number(3), text(field)]
    });
    case("id fixed 16", &mut |rng, _| {
        let mut key = vec![0; 16];
        rng.fill(&mut key);
        vec![Bytes(key.into())]
    });
}

fn main() {
    let rows = std::env::args().nth(1).and_then(|rows| rows.parse().ok()).unwrap_or(1_000_000);
    let env = Env::os();
    predicates(&env, rows);
    block_sizes(&env, rows / 2);
}
