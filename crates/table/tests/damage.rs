//! Damage of every kind: each flipped byte, each cut, misuse of the writer, failing files. A
//! table answers with an error or with the truth.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod common;

use std::{path::Path, sync::Arc};

use common::{Entry, PATH, build, delete, mem_fs, open, put};
use sluice_base::{ErrorKind, FileNo, Kind, Result, SeqNo, Trailer};
use sluice_env::{Fs, Rng};
use sluice_table::{
    BlockCache, Compression, IterOptions, KeySchema, Table, TableIter, TableOptions, TableWriter,
    filter_hash, fuzzing::sample::splitters,
};

fn small_entries() -> Vec<Entry> {
    let mut entries = Vec::new();
    for number in 0..60u64 {
        let key = format!("key:{number:03}");
        if number % 7 == 0 {
            entries.push(delete(key.as_bytes(), 100 + number));
        }
        entries.push(put(key.as_bytes(), 1 + number, key.repeat(2).as_bytes()));
    }
    entries
}

fn small_options(compression: Compression) -> TableOptions {
    TableOptions { block_bytes: 512, compression, ..TableOptions::default() }
}

/// A schema that the keys of [`small_entries`] have in common, one that few of them fit, and a custom
/// one.
fn schemas() -> [Arc<KeySchema>; 4] {
    let parse = |text| KeySchema::parse("small", 1, text).unwrap();
    let [whole, fits, few] =
        ["key rest", "kind fixed 3, colon u8, hundreds u8, rest", "name escaped, rest"].map(parse);
    let custom = splitters::of(Arc::new(splitters::Framed::default()));
    [whole, fits, few, custom].map(Arc::new)
}

/// Every entry that can be read is true; says whether nothing failed.
fn read_all(table: &Arc<Table>, entries: &[Entry]) -> bool {
    let mut whole = true;
    for (key, trailer, value) in entries {
        match table.get(key, filter_hash(key), *trailer) {
            Ok(Some((found, bytes))) => assert_eq!((found, &bytes[..]), (*trailer, &value[..])),
            Ok(None) => panic!("{} is gone without an error", key.escape_ascii()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
                let damage = error.damage().unwrap();
                assert_eq!(damage.file, Path::new(PATH));
                whole = false;
            }
        }
    }
    let walk = |iter: &mut TableIter| -> Result<()> {
        let mut at = 0;
        let mut on = iter.seek_to_first()?;
        while on {
            let (key, trailer, value) = &entries[at];
            assert_eq!(
                (iter.key(), iter.trailer(), iter.value()),
                (&key[..], *trailer, &value[..])
            );
            at += 1;
            on = iter.next()?;
        }
        assert_eq!(at, entries.len());
        Ok(())
    };
    for options in [IterOptions::default(), IterOptions::sequential()] {
        let mut iter = TableIter::new(Arc::clone(table), options);
        if walk(&mut iter).is_err() {
            assert!(!iter.valid());
            whole = false;
        }
    }
    whole
}

#[test]
fn every_flipped_byte_is_an_error_and_never_a_lie() {
    for (schema, compression) in schemas().into_iter().zip([
        Compression::Lz4,
        Compression::None,
        Compression::None,
        Compression::None,
    ]) {
        let (mem, fs) = mem_fs();
        let entries = small_entries();
        let options = TableOptions { schema, ..small_options(compression) };
        let summary = build(&fs, &entries, options);
        let cache = BlockCache::new(0);
        assert!(read_all(&open(&fs, &cache).unwrap(), &entries));
        for offset in 0..summary.file_bytes {
            for xor in [0x01, 0x80, 0xff] {
                mem.corrupt(PATH, offset, xor).unwrap();
                match open(&fs, &cache) {
                    Ok(table) => {
                        assert!(!read_all(&table, &entries), "byte {offset} is not covered");
                        let report = table.verify();
                        assert_eq!((report.errors.len(), report.errors_total), (1, 1));
                        assert_eq!(report.blocks + 1, table.blocks() as u64);
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Corruption, "byte {offset}: {error}");
                    }
                }
                mem.corrupt(PATH, offset, xor).unwrap();
            }
        }
        assert!(read_all(&open(&fs, &cache).unwrap(), &entries));
    }
}

#[test]
fn every_flipped_byte_of_an_index_in_two_levels_is_an_error_and_never_a_lie() {
    for schema in schemas() {
        let (mem, fs) = mem_fs();
        let entries = small_entries();
        let options = TableOptions {
            schema,
            block_bytes: 256,
            index_partition_bytes: 60,
            ..small_options(Compression::None)
        };
        let summary = build(&fs, &entries, options);
        let cache = BlockCache::new(0);
        let sound = open(&fs, &cache).unwrap();
        assert!(sound.index_partitions() > 2, "{}", sound.index_partitions());
        assert!(read_all(&sound, &entries));
        sound.verify().into_result().unwrap();
        let data_end = sound.properties().data_bytes;
        let partitions = data_end..data_end + sound.properties().partition_bytes;
        let mut lost = 0;
        for offset in 0..summary.file_bytes {
            for xor in [0x01, 0x80] {
                mem.corrupt(PATH, offset, xor).unwrap();
                match open(&fs, &cache) {
                    Ok(table) => {
                        assert!(!read_all(&table, &entries), "byte {offset} is not covered");
                        let report = table.verify();
                        assert_eq!((report.errors.len(), report.errors_total), (1, 1));
                        let missing = table.blocks() as u64 - report.blocks;
                        if partitions.contains(&offset) {
                            lost = missing.max(lost);
                        } else {
                            assert_eq!(missing, 1, "byte {offset}");
                        }
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Corruption, "byte {offset}: {error}");
                        assert!(!partitions.contains(&offset), "opening reads no partition");
                    }
                }
                mem.corrupt(PATH, offset, xor).unwrap();
            }
        }
        assert!(lost > 1, "a partition takes its blocks with it");
    }
}

/// Replaces bytes of the table's index (its payload is not packed), and puts the checksums right.
fn forge(file: &[u8], change: impl Fn(&mut [u8]) -> bool) -> Option<Vec<u8>> {
    let mut bytes = file.to_vec();
    let footer = bytes.len() - 80;
    let number = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize;
    let (index, length) = (number(footer), number(footer + 8));
    if !change(&mut bytes[index..index + length - 5]) {
        return None;
    }
    sluice_table::fuzzing::repair(&mut bytes);
    Some(bytes)
}

/// Where column `role` of an index begins and ends.
fn column(index: &[u8], role: u8) -> std::ops::Range<usize> {
    let columns = usize::from(index[4]);
    let entry = |at: usize| &index[8 + at * 8..16 + at * 8];
    let start = |at: usize| u32::from_le_bytes(entry(at)[4..8].try_into().unwrap()) as usize;
    let at = (0..columns).find(|&at| entry(at)[0] == role).unwrap();
    start(at)..if at + 1 == columns { index.len() } else { start(at + 1) }
}

#[test]
fn a_top_index_that_lies_is_refused_when_the_partition_is_loaded() {
    let (mem, fs) = mem_fs();
    let schema = Arc::new(KeySchema::parse("small", 1, "kind fixed 3, colon u8, rest").unwrap());
    let mut entries = small_entries();
    entries.insert(0, put(b"ke", 500, b"does not split"));
    let options = TableOptions {
        schema,
        block_bytes: 256,
        index_partition_bytes: 60,
        ..small_options(Compression::None)
    };
    build(&fs, &entries, options);
    let file = mem.read(PATH).unwrap();
    let (first, last) = (&entries[0], &entries[entries.len() - 1]);
    // Sums and separator are compared on each load, the statistics by a verification.
    for (role, loaded) in [(0x81, true), (0x85, true), (0x86, true), (0x89, true), (0xa5, false)] {
        let bytes = forge(&file, |index| {
            let end = column(index, role).end;
            // A separator becomes a larger one: the last partition is still the last key's.
            index[end - 1] ^= 2;
            true
        });
        mem.write(PATH, &bytes.unwrap()).unwrap();
        let table = open(&fs, &BlockCache::new(0)).unwrap();
        let report = table.verify();
        assert!(report.errors_total > 0, "{role:#x}");
        let get = |entry: &Entry| table.get(&entry.0, filter_hash(&entry.0), entry.1).map(|_| ());
        let kind = get(last).map_err(|error| error.kind());
        assert_eq!(kind, if loaded { Err(ErrorKind::Corruption) } else { Ok(()) }, "{role:#x}");
        if role == 0x81 {
            get(first).unwrap(); // another partition
        }
        let mut iter = TableIter::new(Arc::clone(&table), IterOptions::default());
        assert_eq!(iter.seek_to_last().is_err(), loaded, "{role:#x}");
    }
    // What the top says of all partitions together is known when the table is opened.
    for role in [0x83, 0x84, 0x8a, 0x8b] {
        let bytes = forge(&file, |index| {
            let end = column(index, role).end;
            index[end - 1] ^= 1;
            true
        });
        mem.write(PATH, &bytes.unwrap()).unwrap();
        let error = open(&fs, &BlockCache::new(0)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{role:#x}: {error}");
    }
}

#[test]
fn footer_flags_of_a_newer_build_are_unsupported_and_flags_without_their_properties_damage() {
    let (mem, fs) = mem_fs();
    build(&fs, &small_entries(), small_options(Compression::None));
    let file = mem.read(PATH).unwrap();
    for (flags, kind) in
        [(1, ErrorKind::Corruption), (2, ErrorKind::Corruption), (4, ErrorKind::Unsupported)]
    {
        let mut bytes = file.clone();
        let at = bytes.len() - 20;
        bytes[at] = flags;
        sluice_table::fuzzing::repair(&mut bytes);
        mem.write(PATH, &bytes).unwrap();
        let error = open(&fs, &BlockCache::new(0)).unwrap_err();
        assert_eq!(error.kind(), kind, "{flags}: {error}");
    }
}

#[test]
fn statistics_that_lie_are_found_by_a_verification_and_refused_where_they_cannot_be() {
    let (mem, fs) = mem_fs();
    let schema = Arc::new(KeySchema::parse("small", 1, "kind fixed 3, colon u8, rest").unwrap());
    let mut entries = small_entries();
    entries.insert(0, put(b"ke", 500, b"does not split"));
    build(&fs, &entries, TableOptions { schema, ..small_options(Compression::None) });
    let file = mem.read(PATH).unwrap();
    let verify = |bytes: &[u8]| {
        mem.write(PATH, bytes).unwrap();
        let table = open(&fs, &BlockCache::new(0)).map_err(|error| error.to_string())?;
        table.verify().into_result().map_err(|error| error.to_string())
    };
    verify(&file).unwrap();
    for (role, what) in [(0x89, "exceptions"), (0xa3, "key field 1"), (0xa5, "key field 2")] {
        let bytes = forge(&file, |index| {
            let range = column(index, role);
            let last = range.end - 1;
            index[last] ^= 1;
            true
        });
        let error = verify(&bytes.unwrap()).unwrap_err();
        assert!(error.contains(what), "{role:#x}: {error}");
    }
    // One bound without the other, and a bound of a field that is not there.
    for (from, to, what) in [(0xa5, 0xa6, "both bounds"), (0xa5, 0xdf, "both bounds")] {
        let bytes = forge(&file, |index| {
            let columns = usize::from(index[4]);
            let entry = (0..columns).find(|at| index[8 + at * 8] == from).unwrap();
            index[8 + entry * 8] = to;
            true
        });
        let error = verify(&bytes.unwrap()).unwrap_err();
        assert!(error.contains(what), "{to:#x}: {error}");
    }
}

#[test]
fn a_cut_or_padded_table_does_not_open() {
    let (mem, fs) = mem_fs();
    build(&fs, &small_entries(), small_options(Compression::Lz4));
    let whole = mem.read(PATH).unwrap();
    let cache = BlockCache::new(0);
    for bytes in 0..whole.len() {
        mem.write(PATH, &whole[..bytes]).unwrap();
        let error = open(&fs, &cache).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{bytes} bytes: {error}");
        assert!(error.damage().is_some());
    }
    mem.write(PATH, &[&whole[..], b"x"].concat()).unwrap();
    assert_eq!(open(&fs, &cache).unwrap_err().kind(), ErrorKind::Corruption);
    mem.write(PATH, &whole).unwrap();
    assert!(open(&fs, &cache).is_ok());
}

#[test]
fn decoders_return_on_mutated_and_random_bytes() {
    let seed = 0x5eed_f022;
    println!("seed {seed:#x}");
    let mut rng = Rng::new(seed);
    let mut accepted = 0;
    for schema in schemas() {
        accepted += decode_mutants(&mut rng, schema);
    }
    assert!(accepted > 3000, "{accepted}: the test no longer reaches behind the checks");
    // Whole tables under schemas, checksums put right: hostile columns reach every reader.
    for table in sluice_table::fuzzing::samples::tables(seed).unwrap() {
        for _ in 0..1500 {
            let mut bytes = [&[1], &table[..]].concat();
            for _ in 0..1 + rng.below(3) {
                let at = 1 + rng.below(table.len() as u64) as usize;
                bytes[at] = [0, 1, 0xff, rng.next_u64() as u8][rng.below(4) as usize];
            }
            sluice_table::fuzzing::file(&bytes);
        }
    }
}

/// Mutants of the blocks and of slices of a table; how many a decoder accepted.
fn decode_mutants(rng: &mut Rng, schema: Arc<KeySchema>) -> usize {
    let (mem, fs) = mem_fs();
    let options = TableOptions { schema, ..small_options(Compression::None) };
    let summary = build(&fs, &small_entries(), options);
    let file = mem.read(PATH).unwrap();
    let table = open(&fs, &BlockCache::new(0)).unwrap();
    // Blocks begin where the index says; a decoder also meets any other slice of the file.
    let mut starts: Vec<usize> = vec![0];
    for key in table_keys(&table) {
        starts.push(table.approximate_offset(&key) as usize);
    }
    starts.push(table.properties().data_bytes as usize);
    starts.sort_unstable();
    starts.dedup();
    let mut accepted = 0;
    for round in 0..20_000 {
        let mut bytes = match round % 4 {
            0 => {
                let mut noise = vec![0; rng.below(200) as usize];
                rng.fill(&mut noise);
                noise
            }
            1 => {
                let from = rng.below(summary.file_bytes) as usize;
                let to = from + rng.below(summary.file_bytes - from as u64 + 1) as usize;
                file[from..to].to_vec()
            }
            _ => {
                let at = rng.below(starts.len() as u64 - 1) as usize;
                file[starts[at]..starts[at + 1] - 5].to_vec()
            }
        };
        for _ in 0..rng.below(4) {
            if !bytes.is_empty() {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] = rng.next_u64() as u8;
            }
        }
        accepted += usize::from(sluice_table::fuzzing::block(&bytes));
        accepted += usize::from(sluice_table::fuzzing::footer(&bytes));
        for encoding in 1..7 {
            let rows = 1 + rng.below(40) as u8;
            let column = [&[encoding, rows, 0], &bytes[bytes.len().min(40)..]].concat();
            accepted += usize::from(sluice_table::fuzzing::column(&column));
        }
    }
    accepted
}

#[test]
fn p12_a_field_kind_of_a_newer_build_is_unsupported_at_open() {
    let (mem, fs) = mem_fs();
    let [_, schema, ..] = schemas();
    let descriptor = schema.descriptor().encode();
    build(&fs, &small_entries(), TableOptions { schema, ..small_options(Compression::None) });
    let mut bytes = mem.read(PATH).unwrap();
    let at = bytes.windows(descriptor.len()).rposition(|window| *window == descriptor).unwrap();
    // Behind version, name and count: the kind of the first field.
    assert_eq!(bytes[at + 8], 2);
    bytes[at + 8] = 99;
    sluice_table::fuzzing::repair(&mut bytes);
    mem.write(PATH, &bytes).unwrap();
    let error = open(&fs, &BlockCache::new(0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let wanted = "key schema \"small\" version 1: field \"kind\" of kind 99, parameter 3";
    assert!(error.to_string().contains(wanted), "{error}");
    // A schema that is not the one the footer names is damage.
    bytes[at + 8] = 5;
    mem.write(PATH, &bytes).unwrap();
    assert_eq!(open(&fs, &BlockCache::new(0)).unwrap_err().kind(), ErrorKind::Corruption);
}

fn table_keys(table: &Arc<Table>) -> Vec<Vec<u8>> {
    let mut iter = TableIter::new(Arc::clone(table), IterOptions::default());
    let mut keys = Vec::new();
    let mut on = iter.seek_to_first().unwrap();
    while on {
        keys.push(iter.key().to_vec());
        on = iter.next().unwrap();
    }
    keys
}

#[test]
fn misuse_of_the_writer_is_refused_and_leaves_the_table_as_it_was() {
    let (_, fs) = mem_fs();
    let trailer = |seq| Trailer::new(SeqNo(seq), Kind::Put);
    let mut writer =
        TableWriter::create(&fs, Path::new(PATH), FileNo(7), TableOptions::default()).unwrap();
    writer.add(b"", trailer(5), b"empty key").unwrap();
    writer.add(b"b", trailer(5), b"x").unwrap();
    let long = vec![b'c'; sluice_base::limits::KEY_BYTES_MAX + 1];
    let counter = Trailer::new(SeqNo(1), Kind::Counter);
    for (key, trailer) in [
        (&b"a"[..], trailer(9)),
        (b"", trailer(1)),
        (b"b", trailer(5)),
        (b"b", trailer(6)),
        (&long, trailer(1)),
        (b"c", counter),
        (b"c", Trailer(0x1ff)),
    ] {
        let error = writer.add(key, trailer, b"").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    writer.add(b"b", trailer(4), b"y").unwrap();
    assert_eq!(writer.finish().unwrap().entries, 3);
    let table = open(&fs, &BlockCache::new(0)).unwrap();
    table.verify().into_result().unwrap();

    // The name is taken; an empty table is none; abandoned ones leave nothing.
    let again = TableWriter::create(&fs, Path::new(PATH), FileNo(7), TableOptions::default());
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Io);
    let other = Path::new("/000008.sst");
    let empty = TableWriter::create(&fs, other, FileNo(8), TableOptions::default()).unwrap();
    assert_eq!(empty.finish().unwrap_err().kind(), ErrorKind::Invalid);
    assert!(!fs.exists(other).unwrap());
    let empty = TableWriter::create(&fs, other, FileNo(8), TableOptions::default()).unwrap();
    empty.abandon().unwrap();
    assert!(!fs.exists(other).unwrap());
}

#[test]
fn a_finished_table_survives_a_crash_once_its_directory_is_synced() {
    let seed = 0x5eed_c4a5;
    println!("seed {seed:#x}");
    let (mem, fs) = mem_fs();
    build(&fs, &small_entries(), small_options(Compression::Lz4));
    fs.sync_dir(Path::new("/")).unwrap();
    for round in 0..20 {
        let after: Arc<dyn Fs> = Arc::new(mem.crash_clone(&mut Rng::new(seed + round)));
        let table = open(&after, &BlockCache::new(0)).unwrap();
        assert!(read_all(&table, &small_entries()));
    }
}
