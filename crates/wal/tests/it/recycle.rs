//! Released files that become segments again, and segments that are made ahead.

use std::path::Path;

use sluice_base::SeqNo;
use sluice_env::Fs;
use sluice_wal::RecoveryMode;

use crate::support::{DIR, Rec, World, append, disk, path};

fn full(seq: u64) -> Rec {
    Rec::new(seq, &[seq as u8; 1000])
}

#[test]
fn stale_frames_of_a_recycled_segment_never_replay() {
    let disk = disk();
    let mut world = World::new();
    world.options.segment_bytes = 16384;
    let (wal, _, _) = world.open(disk.clone()).unwrap();
    for seq in 1..=6 {
        append(&wal, &full(seq)).unwrap();
    }
    wal.sync(wal.appended_lsn()).unwrap();
    wal.rotate().unwrap();
    assert!(wal.release(SeqNo(7)).unwrap() > 6000);
    wal.rotate().unwrap(); // nothing in the active one: stays
    wal.write_out(append(&wal, &full(7)).unwrap()).unwrap();
    wal.rotate().unwrap(); // into a recycled file
    // Ends among stale frames, behind the page that was zeroed.
    let last = Rec::new(8, &[8; 5000]);
    wal.sync(append(&wal, &last).unwrap()).unwrap();
    assert_eq!(wal.stats().segments_recycled, 1);

    let number = wal.segments().last().unwrap().number.0;
    let bytes = disk.read(path(number)).unwrap();
    assert!(bytes[5200..6000].iter().any(|&byte| byte != 0), "the file still has stale bytes");
    for mode in [RecoveryMode::Tolerant, RecoveryMode::Absolute, RecoveryMode::Salvage] {
        let mut again = world.clone();
        again.options.recovery = mode;
        let (report, seen) = again.replay(&disk).unwrap();
        assert_eq!(seen, [full(7), last.clone()], "{mode:?}: {report}");
        assert!(report.torn.is_none() && report.skipped.is_empty(), "{report}");
    }
}

#[test]
fn at_most_recycle_max_files_are_kept() {
    for recycle_max in 0..4 {
        let disk = disk();
        let mut world = World::new();
        world.options.recycle_max = recycle_max;
        let (wal, _, _) = world.open(disk.clone()).unwrap();
        for seq in 1..=30 {
            append(&wal, &full(seq)).unwrap();
        }
        wal.rotate().unwrap();
        wal.release(SeqNo(31)).unwrap();
        let free = |disk: &dyn Fs| {
            let names = disk.read_dir(Path::new(DIR)).unwrap();
            names.iter().filter(|name| name.ends_with(".free")).count()
        };
        assert_eq!(free(&*disk), recycle_max);
        assert_eq!(wal.segments().len(), 1);
        drop(wal);
        // Found again, and still bounded, when fewer are wanted.
        world.options.recycle_max = 1;
        let _wal = world.open(disk.clone()).unwrap();
        assert!(free(&*disk) <= 1);
    }
}

#[test]
fn release_keeps_what_is_needed_and_the_active_segment() {
    let disk = disk();
    let mut world = World::new();
    let (wal, _, _) = world.open(disk.clone()).unwrap();
    for seq in 1..=9 {
        append(&wal, &full(seq)).unwrap(); // three a segment
    }
    assert_eq!(wal.release(SeqNo(3)).unwrap(), 0);
    let next = wal.first_segment_after(SeqNo(4));
    assert_eq!(wal.release(SeqNo(4)).unwrap(), 64 + 3 * 1032 + 32);
    assert_eq!(wal.first_segment(), next);
    wal.release(SeqNo(1000)).unwrap();
    let left = wal.segments();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].seqs, Some((SeqNo(7), SeqNo(9))));
    assert_eq!(wal.total_bytes(), left[0].bytes);
    wal.write_out(wal.appended_lsn()).unwrap();
    let (_, seen) = world.replay(&disk).unwrap();
    assert_eq!(seen, [full(7), full(8), full(9)]);
}

#[test]
fn a_segment_made_ahead_is_used_and_zeroed() {
    let disk = disk();
    let (wal, _, _) = World::new().open(disk.clone()).unwrap();
    for seq in 1..=20 {
        append(&wal, &full(seq)).unwrap();
        wal.tick();
    }
    let stats = wal.stats();
    assert!(stats.rotations >= 6);
    assert_eq!(stats.rotations_unprepared, 0);
}

#[test]
fn a_frame_larger_than_a_segment_gets_its_own() {
    let disk = disk();
    let mut world = World::new();
    let (wal, _, _) = world.open(disk.clone()).unwrap();
    let recs: Vec<Rec> = [10, 50_000, 10, 4000, 4096, 100_000]
        .iter()
        .zip(1..)
        .map(|(&bytes, seq)| Rec::new(seq, &vec![seq as u8; bytes]))
        .collect();
    for rec in &recs {
        append(&wal, rec).unwrap();
        wal.tick();
    }
    wal.write_out(wal.appended_lsn()).unwrap();
    for segment in wal.segments() {
        assert!(segment.bytes <= segment.capacity);
        assert_eq!(disk.read(path(segment.number.0)).unwrap().len() as u64, segment.capacity);
    }
    let (_, seen) = world.replay(&disk).unwrap();
    assert_eq!(seen, recs);
    // Only files of the usual size are worth keeping.
    wal.rotate().unwrap();
    wal.release(SeqNo(100)).unwrap();
    for (path, bytes) in disk.list() {
        assert!(!path.to_string_lossy().ends_with(".free") || bytes == 4096);
    }
}

/// Between the owner's note of the first segment needed and the release the log may go on to another
/// segment: what was active when the note was made must stay.
#[test]
fn a_release_stops_at_the_segment_that_was_noted() {
    let disk = crate::support::disk();
    let mut world = World::new();
    let (wal, ..) = world.open(disk.clone()).unwrap();
    append(&wal, &Rec::new(1, b"in a table by now")).unwrap();
    let noted = wal.first_segment_after(SeqNo(2));
    wal.rotate().unwrap();
    assert_ne!(wal.first_segment_after(SeqNo(2)), noted, "a later note would let go of more");
    assert_eq!(wal.release_before(noted, SeqNo(2)).unwrap(), 0);
    world.first_needed = noted;
    drop(wal);
    let (report, _) = world.replay(&disk).unwrap();
    assert_eq!(report.head_missing, None);
}
