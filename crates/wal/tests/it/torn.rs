//! A log whose last frame did not make it whole: the longest valid prefix comes back, and what was
//! cut never shows again.

use std::sync::Arc;

use sluice_base::ErrorKind;
use sluice_env::Rng;
use sluice_wal::RecoveryMode;

use crate::support::{Rec, World, append, disk, one_segment, path, seeds};

/// Offsets of the last frame: where it begins, where its payload ends.
const BEGIN: usize = 64 + 2 * 48;
const END: usize = BEGIN + 32 + 21;

fn recs() -> Vec<Rec> {
    vec![Rec::new(1, b"the first one"), Rec::new(2, b"the second"), Rec::new(3, &[0xab; 21])]
}

/// Recovers `bytes` as the only segment, appends one frame more, and recovers again.
fn recover_twice(number: u64, bytes: &[u8], expected: &[Rec], what: &str) {
    let disk = crate::support::disk();
    disk.write(path(number), bytes).unwrap();
    disk.sync_all();
    let mut world = World::new();
    let (wal, report, seen) = world.open(disk.clone()).unwrap();
    assert_eq!(seen, expected, "{what}: {report}");
    let mut expected = expected.to_vec();
    expected.push(Rec::new(3, b"in its place"));
    let lsn = append(&wal, expected.last().unwrap()).unwrap();
    wal.sync(lsn).unwrap();
    // Everything that recovery left must be durable too: it counts as older than the new frame.
    let after = disk.crash_clone_as(sluice_env::CrashMode::Nothing, &mut Rng::new(1));
    let (report, seen) = world.replay(&after).unwrap();
    assert_eq!(seen, expected, "{what}, second time: {report}");
    assert_eq!(report.torn, None, "{what}: the first recovery repaired it");
}

#[test]
fn a_frame_cut_at_any_byte_is_dropped() {
    let recs = recs();
    let (disk, number) = one_segment(&recs);
    let bytes = disk.read(path(number)).unwrap();
    for cut in BEGIN..END {
        recover_twice(number, &bytes[..cut], &recs[..2], &format!("cut at {cut}"));
        let mut zeroed = bytes.clone();
        zeroed[cut..].fill(0);
        recover_twice(number, &zeroed, &recs[..2], &format!("zeros from {cut}"));
    }
    let (_, seen) = World::new().replay(&disk).unwrap();
    assert_eq!(seen, recs, "uncut");
}

#[test]
fn a_frame_with_garbage_from_any_byte_on_is_dropped() {
    let recs = recs();
    let (disk, number) = one_segment(&recs);
    let bytes = disk.read(path(number)).unwrap();
    for seed in seeds(4) {
        let mut rng = Rng::new(seed);
        for from in BEGIN..END {
            let mut torn = bytes.clone();
            rng.fill(&mut torn[from..]);
            if torn[from] == bytes[from] {
                torn[from] ^= 1;
            }
            recover_twice(number, &torn, &recs[..2], &format!("garbage from {from}"));
        }
    }
}

#[test]
fn absolute_recovery_refuses_a_torn_tail_and_takes_a_clean_end() {
    let recs = recs();
    let (disk, number) = one_segment(&recs);
    let (_, seen) = World::with(RecoveryMode::Absolute).replay(&disk).unwrap();
    assert_eq!(seen, recs);
    disk.corrupt(path(number), END as u64 - 1, 1).unwrap();
    let error = World::with(RecoveryMode::Absolute).replay(&disk).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert_eq!(error.damage().map(|damage| damage.offset), Some(BEGIN as u64));
}

#[test]
fn a_tear_drops_the_segments_behind_it() {
    let disk = crate::support::disk();
    let mut world = World::new();
    let (wal, _, _) = world.open(disk.clone()).unwrap();
    let recs: Vec<Rec> = (1..=6).map(|seq| Rec::new(seq, &[seq as u8; 1000])).collect();
    for rec in &recs {
        append(&wal, rec).unwrap();
    }
    wal.write_out(wal.appended_lsn()).unwrap();
    let disk = disk.kill_clone();
    // Three frames fit one segment. The second one goes bad; nothing was ever synced.
    disk.corrupt(path(1), 64 + 1032 + 100, 1).unwrap();
    let (report, seen) = world.replay(&disk).unwrap();
    assert_eq!(seen, recs[..1]);
    let torn = report.torn.clone().unwrap();
    assert_eq!((torn.segment.0, torn.offset, torn.frames_dropped), (1, 64 + 1032, 1));
    assert_eq!(report.dropped.len(), 1, "{report}");
    assert_eq!(report.dropped[0].frames, 3);
    assert!(!report.clean);
}

#[test]
fn a_segment_created_and_never_written_is_normal() {
    let disk = crate::support::disk();
    let mut world = World::new();
    drop(world.open(disk.clone()).unwrap());
    // Nothing was appended: the segment has no header.
    for bytes in [&[][..], &[0; 100], &[0; 4096]] {
        disk.write(path(1), bytes).unwrap();
        let (report, seen) = world.replay(&disk).unwrap();
        assert!(seen.is_empty() && report.torn.is_none() && report.clean, "{report}");
    }
}

/// The owner has noted the segment as the first one it needs: the next opening must find it, or
/// take the loss of what was never synced for a file that somebody removed.
#[test]
fn a_first_segment_that_is_torn_whole_keeps_its_number() {
    let disk = disk();
    let mut world = World::new();
    let (wal, ..) = world.open(disk.clone()).unwrap();
    let lsn = append(&wal, &Rec::new(1, b"never synced")).unwrap();
    wal.write_out(lsn).unwrap();
    let number = wal.first_segment();
    world.first_needed = number;
    let torn = Arc::new(disk.kill_clone());
    torn.corrupt(path(number.0), 3, 1).unwrap();
    for opening in 0..3 {
        let (wal, report, seen) = world.open(torn.clone()).unwrap();
        assert_eq!((report.head_missing, seen.len()), (None, 0), "opening {opening}: {report}");
        assert_eq!(wal.first_segment(), number, "opening {opening}");
    }
}
