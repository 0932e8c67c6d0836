//! The bytes of a small table, and of a block under a key schema, as the specification prints them. When this fails the format
//! changed: that needs a new format version, not a new dump.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod common;

use std::sync::Arc;

use common::{PATH, build, delete, mem_fs, open, put};
use sluice_base::{Kind, SeqNo, Trailer};
use sluice_table::{BlockCache, Compression, FieldValue, KeySchema, TableOptions, filter_hash};

/// Lines of the specification's dump: offset, bytes in pairs, two spaces, meaning.
fn specification(marker: &str) -> Vec<u8> {
    let text = include_str!("../../../docs/format/table.md");
    let dump = text.split(marker).nth(1).expect("the dump's markers");
    let mut bytes = Vec::new();
    for line in dump.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_hexdigit())) {
        let (offset, rest) = line.split_once("  ").expect("an offset");
        assert_eq!(usize::from_str_radix(offset, 16), Ok(bytes.len()), "{line}");
        let pairs = rest.split("  ").next().expect("bytes");
        bytes.extend(pairs.split(' ').map(|pair| u8::from_str_radix(pair, 16).expect("a byte")));
    }
    bytes
}

fn expect(found: &[u8], wanted: &[u8]) {
    if found != wanted {
        for (row, bytes) in found.chunks(16).enumerate() {
            let pairs: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            println!("{:04x}  {}", row * 16, pairs.join(" "));
        }
        panic!("the bytes above are not those of docs/format/table.md");
    }
}

#[test]
fn a_small_table_has_the_bytes_of_the_specification() {
    let (mem, fs) = mem_fs();
    let entries = [
        delete(b"user:100", 9),
        put(b"user:100", 5, b"old"),
        put(b"user:101", 6, b"value"),
        put(b"user:17", 7, b""),
    ];
    let options = TableOptions {
        compression: Compression::None,
        created_unix_ms: 1_700_000_000_000,
        created_by: "golden".to_owned(),
        created_for: "flush".to_owned(),
        ..TableOptions::default()
    };
    build(&fs, &entries, options);
    let found = mem.read(PATH).unwrap();
    expect(&found, &specification("<!-- golden -->"));

    // And the specification's bytes are a table.
    mem.write(PATH, &specification("<!-- golden -->")).unwrap();
    let table = open(&fs, &BlockCache::new(0)).unwrap();
    table.verify().into_result().unwrap();
    let hash = filter_hash(b"user:100");
    let (trailer, value) = table.get(b"user:100", hash, Trailer::seek(SeqNo(8))).unwrap().unwrap();
    assert_eq!((trailer, &value[..]), (Trailer::new(SeqNo(5), Kind::Put), &b"old"[..]));
}

#[test]
fn a_block_under_a_key_schema_has_the_bytes_of_the_specification() {
    let (mem, fs) = mem_fs();
    let schema = KeySchema::parse("events", 1, "tenant escaped, ts u64 desc, rest").unwrap();
    let key = |tenant: &'static [u8], ts, rest: &'static [u8]| {
        let fields = [
            FieldValue::Bytes(tenant.into()),
            FieldValue::Number(ts),
            FieldValue::Bytes(rest.into()),
        ];
        schema.join(&fields).unwrap()
    };
    let entries = [
        put(&key(b"acme", 1_000_300, b"login"), 4, b"1"),
        put(&key(b"acme", 1_000_200, b"pay"), 3, b"2"),
        delete(&key(b"acme", 1_000_200, b"pay"), 2),
        put(&key(b"acme", 1_000_100, b"login"), 1, b"3"),
        put(b"acme\0\x02odd", 5, b"4"),
        put(&key(b"a\0b", 1_000_000, b""), 6, b"5"),
    ];
    let mut entries = entries.to_vec();
    entries.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    let options = TableOptions {
        compression: Compression::None,
        schema: Arc::new(schema.clone()),
        ..TableOptions::default()
    };
    build(&fs, &entries, options);
    let table = open(&fs, &BlockCache::new(0)).unwrap();
    assert_eq!(table.schema().descriptor(), schema.descriptor());
    table.verify().into_result().unwrap();
    let block = table.properties().data_bytes as usize;
    expect(&mem.read(PATH).unwrap()[..block], &specification("<!-- golden schema -->"));
    // What the specification says of the columns is what an inspection finds.
    let totals = table.inspect_columns().unwrap();
    assert_eq!((totals.head_bytes, totals.unpacked_bytes), (0x40, 0xc6));
    let columns: Vec<_> = totals
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.encodings[0].0, column.bytes))
        .collect();
    assert_eq!(
        columns,
        [
            ("key tenant", "prefix bytes", 0x55 - 0x40),
            ("key ts", "integers", 0x6a - 0x55),
            ("key rest", "prefix bytes", 0x85 - 0x6a),
            ("exception", "exceptions", 0xa3 - 0x85),
            ("trailer", "integers", 0xb0 - 0xa3),
            ("same_key", "bitmap", 0xb9 - 0xb0),
            ("value", "raw bytes", 0xc6 - 0xb9),
        ]
    );
    let mut rows = Vec::new();
    table
        .for_each_row(0..9, |row| {
            assert_eq!((row.key, row.trailer, row.value), {
                let (key, trailer, value) = &entries[row.row];
                (&key[..], *trailer, &value[..])
            });
            rows.push(row.fields.is_some());
            row.row < 5
        })
        .unwrap();
    assert_eq!(rows, [true, true, true, true, true, false]);
}
