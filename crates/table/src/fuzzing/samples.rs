//! Sound inputs for the functions beside: what tables under key schemas look like. Seeds are made of
//! them; the same for the same seed.

use std::{ops::Bound, path::Path, sync::Arc};

use sluice_base::{FileNo, Kind, Result, SeqNo, Trailer};
use sluice_env::{Fs, MemFs, Rng};

use crate::{
    Compression, FieldValue, KeyPredicate, KeySchema, TableOptions, TableWriter,
    schema::sample::{self, splitters},
};

/// The schemas that [`super::block`] tries: every type of field, and every first one.
pub const SCHEMAS: [&str; 4] = [
    "table u32, tenant escaped, ts u64 desc, rest",
    "db u16, slot u16, key counted u32, version u64, rest",
    "id fixed 4, kind u8",
    "name escaped, part counted u8",
];

/// [`SCHEMAS`], and behind them two custom ones.
pub fn schemas() -> Vec<KeySchema> {
    let parse = |text: &&str| KeySchema::parse("sample", 1, text).expect("a schema");
    let mut schemas: Vec<KeySchema> = SCHEMAS.iter().map(parse).collect();
    schemas.push(splitters::of(Arc::new(splitters::LastLetter)));
    schemas.push(splitters::of(Arc::new(splitters::Framed::default())));
    schemas
}

/// Predicates on fields of [`schemas`], of every form.
pub fn predicates() -> Vec<KeyPredicate> {
    let number = FieldValue::Number;
    let bytes = |bytes: &'static [u8]| FieldValue::Bytes(bytes.into());
    let schemas = schemas();
    let of = |schema: usize| KeyPredicate::new(Arc::new(schemas[schema].clone()));
    [
        of(0).equal("tenant", bytes(b"a")).and_then(|it| it.range("ts", number(2)..number(4))),
        of(0).range("table", number(1)..).and_then(|it| it.range("rest", ..=bytes(b"b"))),
        of(1).equal(0, number(1)).and_then(|it| it.range("key", bytes(b"")..)),
        of(2).range("id", bytes(b"aaaa")..bytes(b"bbbb")).and_then(|it| it.equal(1, number(0))),
        of(3).range(0, (Bound::Excluded(bytes(b"a")), Bound::Unbounded)),
        of(4).equal("lead", bytes(b"a")).and_then(|it| it.range("tail", bytes(b"b")..)),
        of(5).range("id", number(1)..=number(9)).and_then(|it| it.equal("body", bytes(b"b"))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Inputs of [`super::footer`]: a descriptor behind its length, then a key or a text.
pub fn descriptors(seed: u64) -> Vec<Vec<u8>> {
    let mut rng = Rng::new(seed);
    let mut out = Vec::new();
    for round in 0..8 {
        let schema = match round {
            6.. => schemas()[SCHEMAS.len() + round - 6].clone(),
            _ => sample::schema(&mut rng),
        };
        let descriptor = schema.descriptor().encode();
        let key = match round % 4 {
            0 => schema.to_string().into_bytes(),
            _ => sample::key(&mut rng, &schema),
        };
        out.push([&[descriptor.len() as u8], &descriptor[..], &key].concat());
    }
    out
}

/// Small tables under [`schemas`], some with keys that do not split.
pub fn tables(seed: u64) -> Result<Vec<Vec<u8>>> {
    let mut rng = Rng::new(seed);
    let mut out = Vec::new();
    // Each in one level and in two, as small as they are.
    let twice = schemas().into_iter().flat_map(|schema| [schema.clone(), schema]);
    for (number, schema) in twice.enumerate() {
        let partitions = if number % 2 == 0 { usize::MAX } else { 100 };
        let number = number / 2;
        let schema = Arc::new(schema);
        let filtered = number % 2 == 0 && schema.delimited_fields() > 0;
        let mut keys: Vec<Vec<u8>> = (0..20).map(|_| sample::key(&mut rng, &schema)).collect();
        // Groups: keys that share all fields but the last.
        for at in 0..60 {
            let of = |key: usize| schema.split(&keys[key % 20]);
            if let (Some(mut fields), Some(mut other)) = (of(at % 7), of(at)) {
                fields.pop();
                fields.extend(other.pop());
                // A splitter may find another end in it.
                if let Ok(key) = schema.join(&fields) {
                    keys.push(key);
                }
            }
        }
        if number % 2 == 0 {
            keys.retain(|key| schema.split(key).is_some());
        }
        keys.sort();
        keys.dedup();
        let mem = Arc::new(MemFs::new());
        let fs: Arc<dyn Fs> = Arc::<MemFs>::clone(&mem);
        let path = Path::new("/000001.sst");
        let options = TableOptions {
            block_bytes: 512,
            compression: Compression::None,
            schema,
            index_partition_bytes: partitions,
            filter_fields: filtered.then_some(1),
            ..TableOptions::default()
        };
        let mut writer = TableWriter::create(&fs, path, FileNo(1), options)?;
        for (row, key) in keys.iter().enumerate() {
            let row = row as u64;
            if row % 7 == 3 {
                writer.add(key, Trailer::new(SeqNo(row + 100), Kind::Delete), b"")?;
            }
            writer.add(key, Trailer::new(SeqNo(row), Kind::Put), &key[..key.len() / 2])?;
        }
        writer.finish()?;
        out.extend(mem.read(path));
    }
    Ok(out)
}
