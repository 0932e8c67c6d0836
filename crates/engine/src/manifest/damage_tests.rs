//! Bytes that are not what was written: cut, flipped, zeroed, made up, or from the future.

use std::{fs as host, path::Path, sync::Arc};

use proptest::{collection::vec, prelude::*};
use sluice_base::{CfId, Error, ErrorKind, FileNo, Kind, Level, SeqNo, Trailer};
use sluice_env::{Fs, MemFs};

use super::{
    FileName, ManifestWriter, dump, encode_edit,
    frame::FORMAT,
    frame::{FILE_HEADER_BYTES, FrameKind, file_header, put_frame},
    read,
    read::{Recovered, TornTail},
    sample::{golden_edits, state_of, table},
};
use crate::version::{CfCreate, CfEdit, InternalKey, OptionFields, VersionEdit, VersionState};

const DIR: &str = "/db";
const NO: FileNo = FileNo(3);

/// A directory with the golden edits: the first is the snapshot, the others are appended. Gives the
/// end of the header, of the snapshot, and of each edit.
fn golden() -> (Arc<MemFs>, Vec<u64>) {
    let fs = Arc::new(MemFs::new());
    fs.create_dir_all(Path::new(DIR)).unwrap();
    let edits = golden_edits();
    let state = state_of(&edits[..1]);
    let mut writer = ManifestWriter::create(fs.clone(), Path::new(DIR), NO, &state).unwrap();
    let mut ends = vec![FILE_HEADER_BYTES as u64, writer.bytes()];
    for edit in &edits[1..] {
        writer.append(edit).unwrap();
        ends.push(writer.bytes());
    }
    (fs, ends)
}

fn manifest_path() -> String {
    format!("{DIR}/{}", FileName::Manifest(NO))
}

fn golden_bytes() -> Vec<u8> {
    golden().0.read(manifest_path()).unwrap()
}

/// Reads a directory whose manifest has these bytes.
fn read_bytes(bytes: &[u8]) -> Result<Option<Recovered<()>>, Error> {
    let (fs, _) = golden();
    fs.write(manifest_path(), bytes).unwrap();
    read(&*fs, Path::new(DIR))
}

fn damage_of(result: Result<Option<Recovered<()>>, Error>) -> u64 {
    let error = result.expect_err("damage went unnoticed");
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error:?}");
    error.damage().unwrap().offset
}

#[test]
fn the_golden_dump_is_the_one_in_the_documentation() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/format/manifest.md");
    let document = host::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once("<!-- golden -->\n```text\n").unwrap();
    let (_, after) = rest.split_once("```\n<!-- end -->").unwrap();
    let printed = dump(&golden_bytes());
    let wanted = format!("{before}<!-- golden -->\n```text\n{printed}```\n<!-- end -->{after}");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        host::write(&path, wanted).unwrap();
    } else {
        assert!(document == wanted, "the format changed: it now dumps as\n{printed}");
    }
}

#[test]
fn what_was_written_is_read_back() {
    let (fs, ends) = golden();
    let recovered = read::<()>(&*fs, Path::new(DIR)).unwrap().unwrap();
    let mut wanted = state_of(&golden_edits());
    assert_eq!(wanted.next_file, FileNo(10));
    wanted.log_first = FileNo(6);
    assert_eq!(recovered.state, wanted);
    assert_eq!((recovered.manifest, recovered.edits), (NO, 4));
    assert_eq!((recovered.bytes, recovered.torn), (*ends.last().unwrap(), None));

    // Files that no state knows keep their numbers.
    fs.write(format!("{DIR}/000041.sst"), b"left over").unwrap();
    let recovered = read::<()>(&*fs, Path::new(DIR)).unwrap().unwrap();
    assert_eq!(recovered.state.next_file, FileNo(42));
}

#[test]
fn cut_at_every_byte_it_ends_at_the_last_whole_edit_or_says_so() {
    let (_, ends) = golden();
    let bytes = golden_bytes();
    let edits = golden_edits();
    for cut in 0..bytes.len() {
        let result = read_bytes(&bytes[..cut]);
        let cut = cut as u64;
        if cut < ends[1] {
            damage_of(result); // `CURRENT` named it only once the snapshot was whole
            continue;
        }
        let recovered = result.unwrap().unwrap();
        let whole = ends[1..].iter().filter(|end| **end <= cut).count();
        let mut wanted = state_of(&edits[..whole]);
        wanted.next_file = recovered.state.next_file;
        assert_eq!(recovered.state, wanted, "cut at {cut}");
        let end = ends[whole];
        assert_eq!(recovered.bytes, end);
        let torn = (end < cut).then(|| TornTail { offset: end, bytes: cut - end });
        assert_eq!(recovered.torn, torn);
    }
}

#[test]
fn a_lost_end_of_the_last_frame_is_torn() {
    let (_, ends) = golden();
    let bytes = golden_bytes();
    let last = ends[ends.len() - 2];
    // From any byte on, the last frame reads as zeros: its length was durable, its bytes were not.
    for from in last as usize..bytes.len() - 1 {
        let mut bytes = bytes.clone();
        bytes[from..].fill(0);
        match read_bytes(&bytes) {
            Ok(recovered) => assert_eq!(recovered.unwrap().torn.unwrap().offset, last),
            // Only one bit was lost, in a sector that was not: that is no crash.
            Err(error) => assert_eq!(error.damage().unwrap().offset, last, "{error:?}"),
        }
    }
}

#[test]
fn p08_every_flipped_bit_is_found() {
    let (_, ends) = golden();
    let bytes = golden_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let offset = damage_of(read_bytes(&bad));
        let byte = (bit / 8) as u64;
        let start = ends.iter().rev().find(|end| **end <= byte).copied().unwrap_or(0);
        assert!((start..start + 24).contains(&offset), "bit {bit} reported at {offset}");
    }
    let (fs, _) = golden();
    fs.sync_all();
    let current = format!("{DIR}/{}", FileName::Current);
    for bit in 0..fs.read(&current).unwrap().len() * 8 {
        fs.corrupt(&current, bit as u64 / 8, 1 << (bit % 8)).unwrap();
        damage_of(read(&*fs, Path::new(DIR)));
        fs.corrupt(&current, bit as u64 / 8, 1 << (bit % 8)).unwrap();
    }
}

#[test]
fn zeros_in_the_middle_are_damage() {
    let (_, ends) = golden();
    let bytes = golden_bytes();
    for pair in ends[..ends.len() - 1].windows(2) {
        let mut bad = bytes.clone();
        bad[pair[0] as usize..pair[1] as usize].fill(0);
        assert_eq!(damage_of(read_bytes(&bad)), pair[0]);
    }
}

#[test]
fn without_current_a_directory_with_data_is_an_error_and_an_empty_one_is_empty() {
    let dir = Path::new(DIR);
    let remove_current = |fs: &MemFs| {
        fs.remove_file(Path::new(&format!("{DIR}/{}", FileName::Current))).unwrap();
    };
    let (fs, _) = golden();
    remove_current(&fs);
    damage_of(read(&*fs, dir));

    for name in ["000009.sst", "000009.wal", "MANIFEST-000009"] {
        let fs = MemFs::new();
        fs.write(format!("{DIR}/LOCK"), b"").unwrap();
        fs.write(format!("{DIR}/notes.txt"), b"not ours").unwrap();
        assert!(read::<()>(&fs, dir).unwrap().is_none());
        fs.write(format!("{DIR}/{name}"), b"").unwrap();
        let result = read::<()>(&fs, dir);
        if name.starts_with("MANIFEST") {
            assert!(result.unwrap().is_none(), "an empty manifest is a creation cut short");
        } else {
            damage_of(result);
        }
    }

    // A creation that a crash cut off just before `CURRENT` appeared.
    let fs = Arc::new(MemFs::new());
    fs.create_dir_all(dir).unwrap();
    let empty = VersionState::<()>::empty();
    ManifestWriter::create(fs.clone(), dir, NO, &empty).unwrap();
    remove_current(&fs);
    assert!(read::<()>(&*fs, dir).unwrap().is_none());

    // `CURRENT` that names nothing.
    let (fs, _) = golden();
    fs.remove_file(Path::new(&manifest_path())).unwrap();
    damage_of(read(&*fs, dir));
}

/// A manifest made by hand.
fn handmade(format: u32, frames: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = file_header(NO, format).to_vec();
    for (kind, fields) in frames {
        let offset = bytes.len() as u64;
        let payload = [&[*kind], &fields[..]].concat();
        put_frame(&mut bytes, NO, offset, &payload);
    }
    bytes
}

#[test]
fn p12_what_a_newer_build_wrote_is_unsupported_not_damaged() {
    let end = FrameKind::SnapshotEnd as u8;
    let kind_of = |bytes: Vec<u8>| read_bytes(&bytes).unwrap_err().kind();
    assert!(read_bytes(&handmade(FORMAT, &[(end, vec![])])).is_ok());
    assert_eq!(kind_of(handmade(FORMAT + 1, &[(end, vec![])])), ErrorKind::Unsupported);
    assert_eq!(kind_of(handmade(FORMAT, &[(9, vec![])])), ErrorKind::Unsupported);
    // Field 99 with the "must understand" bit, and without.
    assert_eq!(kind_of(handmade(FORMAT, &[(end, vec![199, 1, 0])])), ErrorKind::Unsupported);
    assert!(read_bytes(&handmade(FORMAT, &[(end, vec![198, 1, 0])])).is_ok());
}

#[test]
fn frames_out_of_order_and_edits_that_do_not_fit_are_damage() {
    let (edit, part, end) =
        (FrameKind::Edit as u8, FrameKind::SnapshotPart as u8, FrameKind::SnapshotEnd as u8);
    let nothing = Vec::new;
    let first = FILE_HEADER_BYTES as u64 + 12;
    assert_eq!(damage_of(read_bytes(&handmade(FORMAT, &[(edit, nothing())]))), first);
    let twice = handmade(FORMAT, &[(end, nothing()), (end, nothing())]);
    assert_eq!(damage_of(read_bytes(&twice)), first + 13);
    damage_of(read_bytes(&handmade(FORMAT, &[(part, nothing())])));
    let mut no_kind = file_header(NO, FORMAT).to_vec();
    put_frame(&mut no_kind, NO, FILE_HEADER_BYTES as u64, &[]);
    assert_eq!(damage_of(read_bytes(&no_kind)), first);

    let misfits: [VersionEdit; 3] = [
        CfEdit { removed: vec![(Level(0), FileNo(9))], ..CfEdit::new(CfId(0)) }.into(),
        CfEdit::new(CfId(7)).into(),
        VersionEdit { dropped: vec![CfId(7)], ..VersionEdit::default() },
    ];
    for misfit in misfits {
        let snapshot = encode_edit(&golden_edits()[0]);
        let bytes = handmade(FORMAT, &[(end, snapshot), (edit, encode_edit(&misfit))]);
        damage_of(read_bytes(&bytes));
    }
}

#[test]
fn a_snapshot_larger_than_an_edit_is_written_in_parts_and_a_huge_edit_is_refused() {
    let long = |n: u32| format!("{n:07}").repeat(100_000);
    let wide_table = |n: u32| {
        let mut meta = table(100 + u64::from(n), "", "", 1, 9);
        meta.smallest = InternalKey::new(long(2 * n).as_bytes(), Trailer::new(SeqNo(9), Kind::Put));
        meta.largest =
            InternalKey::new(long(2 * n + 1).as_bytes(), Trailer::new(SeqNo(1), Kind::Put));
        (Level(5), meta)
    };
    let create = CfCreate { id: CfId(0), name: "wide".into(), options: OptionFields::new() };
    let edits: Vec<VersionEdit> = (0..50)
        .map(|n| CfEdit { added: vec![wide_table(n)], ..CfEdit::new(CfId(0)) }.into())
        .collect();
    let first = VersionEdit { created: vec![create], ..VersionEdit::default() };
    let state = state_of(&[vec![first], edits].concat());

    let fs = Arc::new(MemFs::new());
    fs.create_dir_all(Path::new(DIR)).unwrap();
    let mut writer = ManifestWriter::create(fs.clone(), Path::new(DIR), NO, &state).unwrap();
    assert!(writer.bytes() > 64 << 20);
    assert!(read::<()>(&*fs, Path::new(DIR)).unwrap().unwrap().state == state);

    let added = (50..100).map(wide_table).collect();
    let huge = CfEdit { added, ..CfEdit::new(CfId(0)) }.into();
    assert_eq!(writer.append(&huge).unwrap_err().kind(), ErrorKind::Invalid);
    assert!(writer.is_usable());
    let small = CfEdit { added: vec![wide_table(50)], ..CfEdit::new(CfId(0)) }.into();
    writer.append(&small).unwrap();
    let state = state.apply(&small).unwrap();
    assert!(read::<()>(&*fs, Path::new(DIR)).unwrap().unwrap().state == state);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn made_up_manifests_never_panic(
        bytes in vec(any::<u8>(), 0..300),
        payloads in vec((0..4u8, vec(any::<u8>(), 0..40)), 0..4),
    ) {
        drop(read_bytes(&bytes));
        let mut valid = handmade(FORMAT, &payloads);
        drop(read_bytes(&valid));
        valid.extend(bytes);
        drop(read_bytes(&valid));
        drop(dump(&valid));
    }
}
