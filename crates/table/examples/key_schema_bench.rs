//! Prints what tables cost under a key schema and under the whole key: size, build, reads, for keys of
//! several shapes. Nothing is asserted: numbers are for people. Each number is the best of five
//! rounds that alternate between the two, so that a busy machine disturbs both alike.
//!
//! `cargo run --release -p sluice-table --example key_schema_bench [rows]`

#[path = "cases/mod.rs"]
mod cases;

use std::{path::Path, sync::Arc};

use sluice_base::{FileNo, Kind, SeqNo, Trailer};
use sluice_env::{Env, Fs, MemFs, Rng};
use sluice_table::{
    BlockCache, Compression, IterOptions, KeySchema, Table, TableIter, TableOptions, TableWriter,
    filter_hash,
};

use cases::{Case, cases};

const ROUNDS: usize = 5;
const READS: usize = 300_000;
const VALUE: [u8; 16] = *b"0123456789abcdef";

/// What was measured, in this order.
const NAMES: [&str; 7] = [
    "build, ns a row",
    "get, cached, ns",
    "seek, cached, ns",
    "seek and key, cached, ns",
    "next, cached, ns",
    "next and key, cached, ns",
    "next and key, from the file, ns",
];

struct Side {
    options: TableOptions,
    best: [f64; NAMES.len()],
    data_bytes: u64,
}

fn round(env: &Env, case: &Case, side: &mut Side) {
    let rows = case.keys.len();
    let mut results = [0.0; NAMES.len()];
    let mut slot = 0;
    let mut measure = |count: usize, body: &mut dyn FnMut() -> u64| {
        let start = env.clock.monotonic_us();
        let sum = std::hint::black_box(body());
        let us = env.clock.monotonic_us() - start;
        results[slot] = us as f64 * 1000.0 / count as f64;
        slot += 1;
        sum
    };
    let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
    let path = Path::new("/000001.sst");
    measure(rows, &mut || {
        let options = side.options.clone();
        let mut writer = TableWriter::create(&fs, path, FileNo(1), options).expect("create");
        for (row, key) in case.keys.iter().enumerate() {
            let trailer = Trailer::new(SeqNo(row as u64 * 7919 % rows as u64), Kind::Put);
            writer.add(key, trailer, &VALUE).expect("add");
        }
        writer.finish().expect("finish").file_bytes
    });
    let cache = BlockCache::new(1 << 30);
    let table = Arc::new(Table::open(&fs, path, FileNo(1), &cache).expect("open"));
    side.data_bytes = table.properties().data_bytes;
    let mut iter = TableIter::new(Arc::clone(&table), IterOptions::default());
    let mut walk = |key: bool| {
        let mut sum = 0;
        let mut on = iter.seek_to_first().expect("seek");
        while on {
            sum += iter.trailer().0 + if key { iter.key().len() as u64 } else { 0 };
            on = iter.next().expect("next");
        }
        sum
    };
    walk(false); // fills the cache
    let seek = Trailer::seek(SeqNo::MAX);
    let mut rng = Rng::new(2);
    let wanted: Vec<&Vec<u8>> =
        (0..READS).map(|_| &case.keys[rng.below(rows as u64) as usize]).collect();
    let hashes: Vec<u64> = wanted.iter().map(|key| filter_hash(key)).collect();
    measure(READS, &mut || {
        let get = |(key, hash): (&&Vec<u8>, &u64)| {
            table.get(key, *hash, seek).expect("get").map_or(0, |(trailer, _)| trailer.0)
        };
        wanted.iter().zip(&hashes).map(get).sum()
    });
    let mut seeker = TableIter::new(Arc::clone(&table), IterOptions::default());
    for key in [false, true] {
        measure(READS, &mut || {
            let mut sum = 0;
            for wanted in &wanted {
                seeker.seek(wanted, seek).expect("seek");
                sum += if key { seeker.key().len() as u64 } else { seeker.trailer().0 };
            }
            sum
        });
    }
    measure(rows, &mut || walk(false));
    measure(rows, &mut || walk(true));
    measure(rows, &mut || {
        let mut iter = TableIter::new(Arc::clone(&table), IterOptions::sequential());
        let (mut sum, mut on) = (0, iter.seek_to_first().expect("seek"));
        while on {
            sum += iter.key().len() as u64 + iter.trailer().0;
            on = iter.next().expect("next");
        }
        sum
    });
    for (best, result) in side.best.iter_mut().zip(results) {
        *best = best.min(result);
    }
}

fn main() {
    let rows = std::env::args().nth(1).and_then(|rows| rows.parse().ok()).unwrap_or(500_000);
    let env = Env::os();
    for case in cases(rows) {
        let key_bytes: usize = case.keys.iter().map(Vec::len).sum();
        let count = case.keys.len();
        println!("\n{} ({}): {count} rows", case.name, case.schema);
        println!("  raw key bytes a row {:.1}", key_bytes as f64 / count as f64);
        let whole = Arc::new(KeySchema::whole_key());
        for compression in [Compression::None, Compression::Lz4] {
            let mut sides = [&whole, &case.schema].map(|schema| Side {
                options: TableOptions {
                    schema: Arc::clone(schema),
                    compression,
                    ..TableOptions::default()
                },
                best: [f64::MAX; NAMES.len()],
                data_bytes: 0,
            });
            let rounds = if compression == Compression::None { ROUNDS } else { 1 };
            for _ in 0..rounds {
                sides.iter_mut().for_each(|side| round(&env, &case, side));
            }
            let [whole, schema] = sides.map(|side| (side.data_bytes, side.best));
            let bytes = |bytes: u64| bytes as f64 / count as f64;
            println!(
                "  {:<36} {:>8.2} {:>8.2}  {:.2}",
                format!("data bytes a row, {compression:?}"),
                bytes(whole.0),
                bytes(schema.0),
                schema.0 as f64 / whole.0 as f64
            );
            if compression == Compression::None {
                for ((name, whole), schema) in NAMES.iter().zip(whole.1).zip(schema.1) {
                    println!("  {name:<36} {whole:>8.1} {schema:>8.1}  {:.2}", schema / whole);
                }
            }
        }
    }
    println!("\nColumns: whole key, schema, schema / whole key (below 1: the schema is better).");
}
