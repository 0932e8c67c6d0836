//! The bytes of a small table, as the specification prints them. When this fails the format
//! changed: that needs a new format version, not a new dump.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod common;

use common::{PATH, build, delete, mem_fs, open, put};
use sluice_base::{Kind, SeqNo, Trailer};
use sluice_table::{BlockCache, Compression, TableOptions, filter_hash};

/// Lines of the specification's dump: offset, bytes in pairs, two spaces, meaning.
fn specification() -> Vec<u8> {
    let text = include_str!("../../../docs/format/table.md");
    let dump = text.split("<!-- golden -->").nth(1).expect("the dump's markers");
    let mut bytes = Vec::new();
    for line in dump.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_hexdigit())) {
        let (offset, rest) = line.split_once("  ").expect("an offset");
        assert_eq!(usize::from_str_radix(offset, 16), Ok(bytes.len()), "{line}");
        let pairs = rest.split("  ").next().expect("bytes");
        bytes.extend(pairs.split(' ').map(|pair| u8::from_str_radix(pair, 16).expect("a byte")));
    }
    bytes
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
    if found != specification() {
        for (row, bytes) in found.chunks(16).enumerate() {
            let pairs: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            println!("{:04x}  {}", row * 16, pairs.join(" "));
        }
        panic!("the table above is not the one of docs/format/table.md");
    }

    // And the specification's bytes are a table.
    mem.write(PATH, &specification()).unwrap();
    let table = open(&fs, &BlockCache::new(0)).unwrap();
    table.verify().into_result().unwrap();
    let hash = filter_hash(b"user:100");
    let (trailer, value) = table.get(b"user:100", hash, Trailer::seek(SeqNo(8))).unwrap().unwrap();
    assert_eq!((trailer, &value[..]), (Trailer::new(SeqNo(5), Kind::Put), &b"old"[..]));
}
