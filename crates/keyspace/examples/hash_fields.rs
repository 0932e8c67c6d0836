//! Prints what the fields of large hashes cost on disk and to read, as the server keeps them: under the
//! schema `redis-data` and under the default, side by side. Nothing is asserted.
//!
//! Both families of one database get the same keys, are compacted, and are then read in turns, all
//! from the block cache and through the whole engine. Sizes are of the files, uncompressed.
//!
//! `cargo run --release -p sluice-keyspace --example hash_fields [hashes] [fields of each] [directory]`
//!
//! Ten fields and fewer have the names of a user's profile, more are `field:<number>`.

use std::{error::Error, path::PathBuf};

use sluice_keyspace::{FAMILY_SCHEMAS, element::Collection};
use sluicedb::{
    Ack, CfOptions, ColumnFamily, Compression, Db, FlushRequest, Options, WriteBatch, WriteOptions,
    env::{Env, Rng},
};

const PROFILE: [&str; 10] = [
    "age",
    "city",
    "country",
    "created_at",
    "email",
    "last_seen",
    "name",
    "password",
    "phone",
    "status",
];
const READS: usize = 1_000_000;
const ROUNDS: usize = 5;

struct Shape {
    hashes: u64,
    fields: u64,
}

impl Shape {
    fn key(&self, out: &mut Vec<u8>, hash: u64, field: u64) {
        let user = format!("user:{:08}", hash * 7_919 % 100_000_000);
        // Versions are moments in the server; any number that differs from hash to hash does here.
        let version = 1_700_000_000_000 + hash * 37;
        let collection = Collection { namespace: 0, key: user.as_bytes(), version };
        match PROFILE.get(field as usize) {
            Some(name) if self.fields <= PROFILE.len() as u64 => {
                collection.data_key(out, name.as_bytes());
            }
            _ => {
                let number = (field + 1) * 2_654_435_761 % 1_000_003;
                collection.data_key(out, format!("field:{number}").as_bytes());
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default| match arguments.next() {
        Some(word) => word.parse::<u64>(),
        None => Ok(default),
    };
    let shape = Shape { hashes: number(1_000_000)?, fields: number(10)? };
    let directory =
        arguments.next().map_or_else(|| std::env::temp_dir().join("hash_fields"), PathBuf::from);
    let options = Options {
        memory_budget: 6 << 30,
        compression_upper: Compression::None,
        compression_lower: Compression::None,
        ..Options::default()
    };
    let env = Env::os();
    let db = Db::open(&directory, options)?;
    let data = FAMILY_SCHEMAS[1].schema()?;
    let family = |name, key_schema| {
        db.create_column_family(name, CfOptions { wal: false, key_schema, ..CfOptions::default() })
    };
    let sides =
        [("default", family("default-data", None)?), ("redis-data", family("data", Some(data))?)];
    let (mut key, mut raw_bytes) = (Vec::new(), 0);
    for (_, cf) in &sides {
        raw_bytes = 0;
        let mut batch = WriteBatch::new();
        let mut rng = Rng::new(1);
        for hash in 0..shape.hashes {
            for field in 0..shape.fields {
                shape.key(&mut key, hash, field);
                let value = format!("{:012}", rng.below(1_000_000_000_000));
                raw_bytes += key.len() + value.len();
                batch.put(cf, &key, value.as_bytes());
            }
            if hash % 100 == 99 || hash + 1 == shape.hashes {
                db.write(
                    &batch,
                    &WriteOptions { wal: false, ack: Ack::Memory, ..WriteOptions::default() },
                )?;
                batch.clear();
            }
        }
        db.flush(FlushRequest::default())?.wait(None)?;
        db.compact(cf, None, None)?;
    }
    let rows = shape.hashes * shape.fields;
    println!(
        "{} hashes of {} fields: {rows} rows, {:.1} bytes of key and value a row",
        shape.hashes,
        shape.fields,
        raw_bytes as f64 / rows as f64
    );
    let usage = db.schema_usage();
    let bytes = |cf: &ColumnFamily| {
        usage.iter().filter(|usage| usage.cf == cf.name()).map(|usage| usage.bytes).sum::<u64>()
            as f64
    };
    let mut best = [f64::MAX; 2];
    let view = db.view();
    for round in 0..=ROUNDS {
        for (best, (_, cf)) in best.iter_mut().zip(&sides) {
            let mut rng = Rng::new(7);
            let mut keys = Vec::with_capacity(READS);
            for _ in 0..READS {
                shape.key(&mut key, rng.below(shape.hashes), rng.below(shape.fields));
                keys.push(key.clone());
            }
            let start = env.clock.monotonic_us();
            let mut found = 0;
            for key in &keys {
                found += usize::from(view.get(cf, key)?.is_some());
            }
            let us = env.clock.monotonic_us() - start;
            assert_eq!(found, READS, "every key is there");
            // The first round fills the cache.
            if round > 0 {
                *best = best.min(us as f64 * 1000.0 / READS as f64);
            }
        }
    }
    for ((name, cf), best) in sides.iter().zip(best) {
        println!("  {name:<12} {:>7.2} bytes a row, get {best:>7.0} ns", bytes(cf) / rows as f64);
    }
    let ratio = |of: [f64; 2]| of[1] / of[0];
    println!(
        "  redis-data / default: bytes {:.2}, get {:.2}",
        ratio([bytes(&sides[0].1), bytes(&sides[1].1)]),
        ratio(best)
    );
    db.close(false)?;
    Ok(())
}
