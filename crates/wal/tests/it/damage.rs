//! Damage to bytes that had been synced: an error that names file and offset, and never a wrong
//! byte (P8).

use std::{path::Path, sync::Arc};

use sluice_base::{ErrorKind, FileNo, checksum::crc32c};
use sluice_env::{Fs, MemFs};
use sluice_wal::{DecodeOptions, RecoveryMode, Wal, decode_segment};

use crate::support::{Rec, World, append, disk, one_segment, path};

/// Four segments (numbers returned), three frames of 1000 bytes in each but the last, all synced.
fn four_segments() -> (Arc<MemFs>, Vec<Rec>, Vec<u64>) {
    let disk = disk();
    let (wal, _, _) = World::new().open(disk.clone()).unwrap();
    let recs: Vec<Rec> = (1..=11).map(|seq| Rec::new(seq, &[seq as u8; 1000])).collect();
    for rec in &recs {
        wal.sync(append(&wal, rec).unwrap()).unwrap();
    }
    let numbers = wal.segments().iter().map(|segment| segment.number.0).collect();
    (Arc::new(disk.kill_clone()), recs, numbers)
}

#[test]
fn p08_a_flipped_bit_below_a_durable_mark_is_an_error_that_names_the_place() {
    let recs: Vec<Rec> = (1..=4).map(|seq| Rec::new(seq, &[seq as u8; 27])).collect();
    let (disk, number) = one_segment(&recs);
    let durable = 64 + 3 * 64; // the last frame says so
    for offset in 0..durable {
        for bit in [1, 0x80] {
            let hurt = disk.kill_clone();
            hurt.corrupt(path(number), offset, bit).unwrap();
            let error = World::new().replay(&hurt).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "offset {offset}");
            let damage = error.damage().unwrap();
            assert_eq!(damage.file, path(number));
            assert!(damage.offset <= offset && offset < damage.offset + 64, "{error}");
        }
    }
    for offset in durable..durable + 64 {
        let hurt = disk.kill_clone();
        hurt.corrupt(path(number), offset, 4).unwrap();
        let (report, seen) = World::new().replay(&hurt).unwrap();
        // Not provably damage: the last frame is a torn tail, or the flip was in nothing's bytes.
        assert!(seen == recs[..3] || seen == recs, "{report}");
    }
}

#[test]
fn p08_damage_anywhere_in_older_segments_is_found() {
    let (disk, recs, numbers) = four_segments();
    let (_, seen) = World::new().replay(&disk).unwrap();
    assert_eq!(seen, recs);
    for &number in &numbers[..3] {
        for offset in (0..64 + 3 * 1032).step_by(13) {
            let hurt = disk.kill_clone();
            hurt.corrupt(path(number), offset, 0x10).unwrap();
            let error = World::new().replay(&hurt).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption);
            assert_eq!(error.damage().unwrap().file, path(number), "{error}");
        }
        // A synced segment that lost its end, or all of it.
        for len in [0, 64, 1000, 64 + 2 * 1032] {
            let hurt = disk.kill_clone();
            let bytes = hurt.read(path(number)).unwrap();
            hurt.write(path(number), &bytes[..len]).unwrap();
            let error = World::new().replay(&hurt).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "segment {number} cut to {len}");
        }
    }
}

#[test]
fn a_refused_log_stays_as_it_was_found() {
    let (disk, _, numbers) = four_segments();
    disk.corrupt(path(numbers[1]), 500, 1).unwrap();
    let before: Vec<_> =
        disk.list().into_iter().map(|(p, _)| disk.read(p).unwrap_or_default()).collect();
    assert!(World::new().open(disk.clone()).is_err());
    let after: Vec<_> =
        disk.list().into_iter().map(|(p, _)| disk.read(p).unwrap_or_default()).collect();
    assert_eq!(before, after);
}

#[test]
fn a_missing_middle_segment_is_an_error_and_a_missing_head_is_reported() {
    let (disk, recs, numbers) = four_segments();
    let hurt = disk.kill_clone();
    hurt.remove_file(&path(numbers[1])).unwrap();
    let error = World::new().replay(&hurt).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert!(error.to_string().contains("missing"), "{error}");

    let hurt = disk.kill_clone();
    hurt.remove_file(&path(numbers[0])).unwrap();
    let mut world = World::new();
    world.first_needed = FileNo(numbers[0]);
    let (report, seen) = world.replay(&hurt).unwrap();
    assert_eq!(seen, recs[3..]);
    assert_eq!(report.head_missing, Some(FileNo(numbers[0])));
}

#[test]
fn salvage_replays_what_validates_and_reports_the_rest() {
    let (disk, recs, numbers) = four_segments();
    disk.corrupt(path(numbers[0]), 64 + 1032 + 7, 1).unwrap(); // header of the second frame
    disk.corrupt(path(numbers[1]), 3, 1).unwrap(); // a segment header
    disk.remove_file(&path(numbers[2])).unwrap();
    let (report, seen) = World::with(RecoveryMode::Salvage).replay(&disk).unwrap();
    let kept: Vec<Rec> = [0, 2, 3, 4, 5, 9, 10].map(|index: usize| recs[index].clone()).into();
    assert_eq!(seen, kept, "{report}");
    assert_eq!(report.skipped.len(), 3, "{report}");
}

#[test]
fn a_newer_format_and_a_renamed_segment_are_typed_errors() {
    let (disk, number) = one_segment(&[Rec::new(1, b"a"), Rec::new(2, b"b")]);
    let mut bytes = disk.read(path(number)).unwrap();
    bytes[8] = 2;
    let crc = crc32c(&bytes[..60]).to_le_bytes();
    bytes[60..64].copy_from_slice(&crc);
    let newer = disk.kill_clone();
    newer.write(path(number), &bytes).unwrap();
    for mode in [RecoveryMode::Tolerant, RecoveryMode::Absolute, RecoveryMode::Salvage] {
        let error = World::with(mode).replay(&newer).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    disk.rename(&path(number), &path(number + 3)).unwrap();
    let error = World::new().replay(&disk).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    assert_eq!(error.damage().unwrap().file, path(number + 3));
}

#[test]
fn names_that_only_look_like_segments_are_left_alone() {
    let disk = disk();
    let strange = ["000001.wal.bak", "1.wal", "x.wal", "000001.sst", "LOCK"];
    for name in strange {
        disk.write(Path::new(crate::support::DIR).join(name), b"not ours").unwrap();
    }
    let (wal, _, seen): (Wal, _, _) = World::new().open(disk.clone()).unwrap();
    assert!(seen.is_empty());
    drop(wal);
    for name in strange {
        let path = Path::new(crate::support::DIR).join(name);
        assert_eq!(disk.read(path).unwrap(), b"not ours");
    }
}

#[test]
fn a_hostile_length_reads_nothing_beyond_the_file() {
    let (disk, number) = one_segment(&[Rec::new(1, b"a"), Rec::new(2, b"b")]);
    let bytes = disk.read(path(number)).unwrap();
    for len in [u32::MAX, u32::MAX - 31, 1 << 30, 4096] {
        let mut hostile = bytes[..256].to_vec();
        hostile[68..72].copy_from_slice(&len.to_le_bytes());
        for salvage in [false, true] {
            let options = DecodeOptions { salvage, ..DecodeOptions::default() };
            let mut frames = 0;
            decode_segment(&hostile, FileNo(number), options, &mut |_| {
                frames += 1;
                Ok(())
            })
            .unwrap();
            assert_eq!(frames, usize::from(salvage));
        }
    }
}

#[test]
fn every_error_names_the_file_when_sequence_numbers_go_backwards() {
    let (disk, number) = one_segment(&[Rec::new(5, b"a"), Rec::new(9, b"b")]);
    // The same segment shown to a log that has come to 7 already.
    let bytes = disk.read(path(number)).unwrap();
    let options = DecodeOptions { next_seq: sluice_base::SeqNo(7), ..DecodeOptions::default() };
    let seen = decode_segment(&bytes, FileNo(number), options, &mut |_| Ok(())).unwrap();
    assert!(matches!(
        seen.ending,
        sluice_wal::Ending::Bad { offset: 64, fault: sluice_wal::Fault::Backwards { .. } }
    ));
}

/// What the fuzz target asserts, over mutations of a real segment.
#[test]
fn p12_any_bytes_decode_to_a_verdict() {
    let recs: Vec<Rec> = (1..=6).map(|seq| Rec::new(seq, &[seq as u8; 40])).collect();
    let (disk, number) = one_segment(&recs);
    let whole = disk.read(path(number)).unwrap()[..640].to_vec();
    for seed in crate::support::seeds(3000) {
        let rng = &mut sluice_env::Rng::new(seed);
        let mut bytes = whole.clone();
        for _ in 0..rng.below(6) {
            let at = rng.below(bytes.len() as u64) as usize;
            match rng.below(5) {
                0 => bytes[at] ^= 1 << rng.below(8),
                1 => bytes.truncate(at.max(1)),
                2 => bytes[at..].fill(rng.below(3) as u8),
                3 => {
                    let end = (at + rng.below(100) as usize).min(bytes.len());
                    let to = rng.below((bytes.len() - (end - at)) as u64 + 1) as usize;
                    bytes.copy_within(at..end, to);
                }
                _ => rng.fill(&mut bytes[at..]),
            }
        }
        for salvage in [false, true] {
            let options = DecodeOptions { salvage, ..DecodeOptions::default() };
            let mut next_seq = 0;
            let seen = decode_segment(&bytes, FileNo(number), options, &mut |frame| {
                let rec = Rec::new(frame.first_seq.0, frame.payload);
                assert!(recs.contains(&rec), "a frame that was never written");
                assert!(frame.first_seq.0 >= next_seq);
                next_seq = frame.first_seq.0 + 1;
                Ok(())
            })
            .unwrap();
            assert!(seen.end <= bytes.len() as u64);
        }
    }
}
