//! The bytes of a small table, and of a block under a key schema, as the specification prints them. When this fails the format
//! changed: that needs a new format version, not a new dump.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod common;

use std::sync::Arc;

use common::{PATH, build, delete, mem_fs, open, put};
use sluice_base::{Kind, SeqNo, Trailer};
use sluice_table::{
    BlockCache, Compression, FieldValue, KeySchema, TableOptions, filter_hash,
    fuzzing::sample::splitters,
};

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
    let file = mem.read(PATH).unwrap();
    expect(&file[..block], &specification("<!-- golden schema -->"));
    // The first eight bytes of the footer say where the index is.
    let footer = &file[file.len() - 80..];
    let number = |at: usize| u64::from_le_bytes(footer[at..at + 8].try_into().unwrap()) as usize;
    let index = &file[number(0)..][..number(8)];
    expect(index, &specification("<!-- golden statistics -->"));
    // What the specification says of the columns is what an inspection finds.
    let totals = table.inspect_columns().unwrap();
    assert_eq!((totals.head_bytes, totals.unpacked_bytes), (0x48, 0xcf));
    let columns: Vec<_> = totals
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.encodings[0].0, column.bytes))
        .collect();
    assert_eq!(
        columns,
        [
            ("groups", "groups", 0x51 - 0x48),
            ("key tenant", "raw bytes", 0x5e - 0x51),
            ("key ts", "integers", 0x73 - 0x5e),
            ("key rest", "prefix bytes", 0x8e - 0x73),
            ("exception", "exceptions", 0xac - 0x8e),
            ("trailer", "integers", 0xb9 - 0xac),
            ("same_key", "bitmap", 0xc2 - 0xb9),
            ("value", "raw bytes", 0xcf - 0xc2),
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

#[test]
fn a_top_index_has_the_bytes_of_the_specification() {
    let (mem, fs) = mem_fs();
    let schema = KeySchema::parse("pairs", 1, "a u8, b fixed 1").unwrap();
    let entries: Vec<_> =
        (1..=6u8).map(|n| put(&[n, b'a' + n], u64::from(n), &[b'.'; 200])).collect();
    let options = TableOptions {
        compression: Compression::None,
        block_bytes: 256,
        index_partition_bytes: 90,
        filter_fields: Some(1),
        schema: Arc::new(schema),
        ..TableOptions::default()
    };
    build(&fs, &entries, options);
    let table = open(&fs, &BlockCache::new(0)).unwrap();
    table.verify().into_result().unwrap();
    assert_eq!((table.blocks(), table.index_partitions()), (6, 3));
    let file = mem.read(PATH).unwrap();
    let footer = &file[file.len() - 80..];
    let number = |at: usize| u64::from_le_bytes(footer[at..at + 8].try_into().unwrap()) as usize;
    expect(&file[number(0)..][..number(8)], &specification("<!-- golden top -->"));
    assert_eq!(footer[60..64], [3, 0, 0, 0], "flags");
    // An inspection finds the parts in file order, without gaps, and a block's bounds in its partition.
    let parts = table.inspect().parts;
    let names: Vec<_> = parts.iter().map(|part| part.name).collect();
    assert_eq!(
        names,
        ["data", "index parts", "prefix filter", "filter", "index", "properties", "footer"]
    );
    let end = parts.iter().fold(0, |end, part| {
        assert_eq!(part.offset, end, "{}", part.name);
        end + part.bytes
    });
    assert_eq!(end, file.len() as u64);
    let last = table.inspect_block(5).unwrap().unwrap();
    let bounds: Vec<_> = last.bounds.iter().map(|of| (of.name.as_str(), &of.min)).collect();
    assert_eq!(bounds, [("a", &FieldValue::Number(6)), ("b", &FieldValue::Bytes(b"g"[..].into()))]);
}

#[test]
fn a_custom_descriptor_has_the_bytes_of_the_specification() {
    let schema = splitters::of(Arc::new(splitters::Framed::default()));
    expect(&schema.encode(), &specification("<!-- golden custom -->"));
    assert_eq!(format!("{:016x}", schema.descriptor().hash()), "e3cebc44381297b8");
}
