//! The clean end, and what comes after it.

use std::sync::mpsc;

use sluice_base::{ErrorKind, SeqNo};
use sluice_env::{CrashMode, Rng};

use crate::support::{Rec, World, append, disk, path};

#[test]
fn a_closed_log_is_durable_sealed_and_refuses_appends() {
    for background in [false, true] {
        let disk = disk();
        let mut world = World::new();
        world.options.background = background;
        let (wal, _, _) = world.open(disk.clone()).unwrap();
        let recs: Vec<Rec> = (1..=9).map(|seq| Rec::new(seq, &[7; 900])).collect();
        for rec in &recs {
            append(&wal, rec).unwrap();
        }
        let (send, receive) = mpsc::channel();
        let lsn = wal.appended_lsn();
        wal.request_sync(lsn, Box::new(move |result| send.send(result).unwrap()));
        wal.close().unwrap();
        receive.recv().unwrap().unwrap();
        wal.close().unwrap();
        let error = append(&wal, &Rec::new(10, b"late")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert_eq!(wal.rotate().unwrap_err().kind(), ErrorKind::Closed);
        wal.sync(lsn).unwrap();
        assert_eq!(wal.durable_seq(), SeqNo(9));

        let after = disk.crash_clone_as(CrashMode::Nothing, &mut Rng::new(0));
        let (report, seen) = world.replay(&after).unwrap();
        assert_eq!(seen, recs);
        assert!(report.clean, "{report}");
    }
}

#[test]
fn after_a_clean_end_every_damage_is_proved() {
    let disk = disk();
    let mut world = World::new();
    let (wal, _, _) = world.open(disk.clone()).unwrap();
    append(&wal, &Rec::new(1, b"the only frame")).unwrap();
    wal.close().unwrap();
    for offset in 0..64 + 32 + 14 {
        let hurt = disk.kill_clone();
        hurt.corrupt(path(1), offset, 2).unwrap();
        let error = world.replay(&hurt).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "offset {offset}");
    }
}

#[test]
fn an_unused_log_can_be_opened_and_closed_for_ever() {
    let disk = disk();
    let mut world = World::new();
    for _ in 0..5 {
        let (wal, report, seen) = world.open(disk.clone()).unwrap();
        assert!(seen.is_empty() && report.clean, "{report}");
        world.first_needed = wal.first_segment();
        assert_eq!(report.head_missing, None);
        wal.close().unwrap();
    }
    assert_eq!(disk.list().len(), 1, "{:?}", disk.list());
}
