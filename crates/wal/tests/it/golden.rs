//! The format, byte for byte: what is written, what `docs/format/wal.md` says, and what is read
//! are the same bytes.

use std::{fmt::Write as _, sync::atomic::Ordering};

use sluice_base::{FileNo, SeqNo};
use sluice_env::MemFs;
use sluice_wal::{DecodeOptions, Ending, HeaderState, decode_segment};

use crate::support::{Rec, World, append, disk, path};

const DOC: &str = include_str!("../../../../docs/format/wal.md");

/// Segment 7 of epoch 3 with two frames; the first was synced before the second was appended.
fn two_frames() -> MemFs {
    let disk = disk();
    let mut world = World::new();
    world.numbers.store(7, Ordering::SeqCst);
    world.epoch = 2;
    let (wal, _, _) = world.open(disk.clone()).unwrap();
    let first = append(&wal, &Rec { seq: 41, count: 1, payload: b"first".to_vec() }).unwrap();
    wal.sync(first).unwrap();
    let second = Rec { seq: 42, count: 3, payload: b"second, longer".to_vec() };
    wal.write_out(append(&wal, &second).unwrap()).unwrap();
    disk.kill_clone()
}

fn hex_dump(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (index, line) in bytes.chunks(16).enumerate() {
        write!(out, "{:06x} ", index * 16).unwrap();
        for group in line.chunks(4) {
            out.push(' ');
            group.iter().for_each(|byte| write!(out, "{byte:02x}").unwrap());
        }
        out.push('\n');
    }
    out
}

#[test]
fn the_documented_bytes_are_the_bytes_written() {
    let bytes = two_frames().read(path(7)).unwrap();
    assert_eq!(bytes.len(), 4096);
    // Header, 40 + 48 bytes of frames, 32 zeros that mark the end.
    let dump = hex_dump(&bytes[..64 + 40 + 48 + 32]);
    println!("{dump}");
    let documented: Vec<&str> = DOC
        .lines()
        .filter(|line| line.len() > 7 && line.is_char_boundary(6))
        .filter(|line| line[..6].bytes().all(|b| b.is_ascii_hexdigit()) && &line[6..8] == "  ")
        .map(|line| line.split("  |").next().unwrap_or(line).trim_end())
        .collect();
    assert_eq!(documented.join("\n"), dump.trim_end());
}

#[test]
fn the_documented_bytes_read_back() {
    let bytes = two_frames().read(path(7)).unwrap();
    let mut seen = Vec::new();
    let decoded = decode_segment(&bytes, FileNo(7), DecodeOptions::default(), &mut |frame| {
        seen.push((frame.offset, frame.first_seq.0, frame.count, frame.payload.to_vec()));
        Ok(())
    })
    .unwrap();
    let HeaderState::Valid(header) = decoded.header else { panic!("{decoded:?}") };
    assert_eq!((header.segment, header.prev, header.epoch), (FileNo(7), FileNo(0), 3));
    assert_eq!(seen, [(64, 41, 1, b"first".to_vec()), (104, 42, 3, b"second, longer".to_vec())]);
    assert_eq!((decoded.end, decoded.next_seq), (152, SeqNo(45)));
    assert_eq!((decoded.ending, decoded.durable), (Ending::Open, 104));
}
