//! The fault file system does what its rules say, to the calls they name, and to no other.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{self, ErrorKind},
    path::Path,
    sync::Arc,
};

use sluice_env::{Failure, FaultFs, File, Fs, Gate, MemFs, Op, OpenMode, Rng, Rule};

fn setup() -> (Arc<MemFs>, FaultFs) {
    let disk = Arc::new(MemFs::new());
    (Arc::clone(&disk), FaultFs::new(disk))
}

fn create(fs: &FaultFs, at: &str) -> Arc<dyn File> {
    fs.open(Path::new(at), OpenMode::CreateNew).unwrap()
}

fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// One call of every kind, each on `/d/a` or its directory.
fn call(fs: &FaultFs, file: &dyn File, op: Op) -> io::Result<()> {
    let (dir, at, other) = (Path::new("/d"), Path::new("/d/a"), Path::new("/d/b"));
    match op {
        Op::Open => fs.open(at, OpenMode::Read).map(drop),
        Op::Create => fs.open(other, OpenMode::CreateOrOpen).map(drop),
        Op::Read => file.read_at(&mut [0], 0).map(drop),
        Op::Write => file.write_at(b"x", 0).map(drop),
        Op::SyncData => file.sync_data(),
        Op::Allocate => file.allocate(0, 10),
        Op::SetLen => file.set_len(5),
        Op::Len => file.len().map(drop),
        Op::Rename => fs.rename(at, other),
        Op::RemoveFile => fs.remove_file(at),
        Op::RemoveDir => fs.remove_dir(Path::new("/d/empty")),
        Op::HardLink => fs.hard_link(at, other),
        Op::CreateDir => fs.create_dir_all(Path::new("/d/e")),
        Op::ReadDir => fs.read_dir(dir).map(drop),
        Op::Exists => fs.exists(at).map(drop),
        Op::SyncDir => fs.sync_dir(dir),
        Op::Lock => fs.lock(at).map(drop),
        Op::FreeBytes => fs.free_bytes(dir).map(drop),
    }
}

const ALL: [Op; Op::COUNT] = [
    Op::Open,
    Op::Create,
    Op::Read,
    Op::Write,
    Op::SyncData,
    Op::Allocate,
    Op::SetLen,
    Op::Len,
    Op::Rename,
    Op::RemoveFile,
    Op::RemoveDir,
    Op::HardLink,
    Op::CreateDir,
    Op::ReadDir,
    Op::Exists,
    Op::SyncDir,
    Op::Lock,
    Op::FreeBytes,
];

#[test]
fn every_kind_of_call_can_fail_and_then_changes_nothing() {
    for op in ALL {
        let (disk, fs) = setup();
        fs.create_dir_all(Path::new("/d/empty")).unwrap();
        let file = create(&fs, "/d/a");
        let (before, unsynced) = (disk.list(), disk.unsynced_changes());
        let calls = fs.calls(op);

        let rule = fs.add(Rule::on(op).fail(Failure::EIO));
        let error = call(&fs, &*file, op).unwrap_err();
        assert_eq!(error.raw_os_error(), Failure::EIO.error().raw_os_error(), "{op:?}");
        assert_eq!((disk.list(), disk.unsynced_changes()), (before, unsynced), "{op:?}");
        assert_eq!((fs.seen(rule), fs.fired(rule)), (1, 1), "{op:?}");

        call(&fs, &*file, op).unwrap_or_else(|error| panic!("{op:?} fails twice: {error}"));
        assert_eq!(fs.calls(op), calls + 2, "{op:?}");
    }
}

#[test]
fn every_kind_of_call_dies_with_the_machine() {
    let (_, fs) = setup();
    fs.create_dir_all(Path::new("/d")).unwrap();
    let file = create(&fs, "/d/a");
    fs.kill_after(1);
    file.read_at(&mut [0], 0).unwrap(); // Reads are not counted.
    assert!(file.sync_data().is_err());
    for op in ALL {
        assert!(call(&fs, &*file, op).is_err(), "{op:?} still works");
    }
    fs.clear();
    file.sync_data().unwrap();
}

#[test]
fn a_rule_keeps_to_its_paths_and_its_turn() {
    let (_, fs) = setup();
    let (log, table) = (create(&fs, "/1.wal"), create(&fs, "/1.sst"));
    fs.add(Rule::on(Op::Write).path_ends_with(".wal").nth(2).fail(ErrorKind::Other));
    for _ in 0..3 {
        table.write_at(b"x", 0).unwrap();
    }
    log.write_at(b"x", 0).unwrap();
    assert_eq!(kind(log.write_at(b"x", 0)), ErrorKind::Other);
    log.write_at(b"x", 0).unwrap();

    fs.add(
        Rule::on_any()
            .path(|path| path == Path::new("/1.sst"))
            .nth(2)
            .forever()
            .fail(Failure::Errno(5)),
    );
    table.len().unwrap();
    for _ in 0..3 {
        assert!(table.len().is_err() && table.sync_data().is_err());
    }
    log.sync_data().unwrap();
    // A call with two paths is on both.
    assert!(fs.rename(Path::new("/1.sst"), Path::new("/2.sst")).is_err());
}

#[test]
fn the_oldest_rule_decides_and_all_count() {
    let (_, fs) = setup();
    let file = create(&fs, "/a");
    let first = fs.add(Rule::on(Op::SyncData).fail(ErrorKind::Other));
    let second = fs.add(Rule::on_any().nth(2).fail(ErrorKind::TimedOut));
    assert_eq!(kind(file.sync_data()), ErrorKind::Other);
    assert_eq!(kind(file.sync_data()), ErrorKind::TimedOut);
    assert_eq!((fs.seen(first), fs.fired(first)), (2, 1));
    assert_eq!((fs.seen(second), fs.fired(second)), (2, 1));
    fs.remove(first);
    assert_eq!(fs.seen(first), 0);
}

#[test]
fn short_and_torn_calls_move_that_many_bytes() {
    let (disk, fs) = setup();
    let file = create(&fs, "/a");
    fs.add(Rule::on(Op::Write).short(2));
    assert_eq!(file.write_at(b"abcdef", 0).unwrap(), 2);
    fs.add(Rule::on(Op::Write).torn(3, Failure::EIO));
    assert!(file.write_at(b"CDEFGH", 2).is_err());
    assert_eq!(disk.read("/a").unwrap(), b"abCDE");
    fs.add(Rule::on(Op::Write).fail_after(Failure::EIO));
    assert!(file.write_at(b"xyz", 0).is_err());
    assert_eq!(disk.read("/a").unwrap(), b"xyzDE");
    fs.add(Rule::on(Op::Read).short(1));
    assert_eq!(file.read_at(&mut [0; 5], 0).unwrap(), 1);
    // Who loops over short calls gets everything.
    fs.add(Rule::on_any().forever().short(1));
    file.write_all_at(b"12345", 0).unwrap();
    let mut buf = [0; 5];
    file.read_exact_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"12345");
}

#[test]
fn a_failure_told_after_the_fact_has_happened() {
    let (disk, fs) = setup();
    create(&fs, "/a");
    fs.add(Rule::on(Op::Rename).fail_after(Failure::EIO));
    assert!(fs.rename(Path::new("/a"), Path::new("/b")).is_err());
    assert_eq!(disk.list(), [("/b".into(), 0)]);
}

#[test]
fn a_gate_holds_one_call_while_others_go_on() {
    let (disk, fs) = setup();
    let (file, other) = (create(&fs, "/a"), create(&fs, "/b"));
    let gate = Gate::new();
    fs.add(Rule::on(Op::SyncData).path_ends_with("a").hold(&gate).fail(Failure::EIO));
    std::thread::scope(|scope| {
        let held = scope.spawn(|| file.sync_data());
        gate.wait_until_reached();
        other.write_all_at(b"meanwhile", 0).unwrap();
        other.sync_data().unwrap();
        assert_eq!(disk.read("/b").unwrap(), b"meanwhile");
        gate.open();
        assert!(held.join().unwrap().is_err());
    });
    file.sync_data().unwrap();
    assert_eq!(gate.reached(), 1);
}

#[test]
fn a_machine_that_dies_takes_the_call_at_the_gate_along() {
    let (disk, fs) = setup();
    let file = create(&fs, "/a");
    let gate = Gate::new();
    fs.add(Rule::on(Op::Write).hold(&gate));
    std::thread::scope(|scope| {
        let held = scope.spawn(|| file.write_at(b"abc", 0));
        gate.wait_until_reached();
        fs.kill_after(1);
        assert!(fs.sync_dir(Path::new("/")).is_err());
        gate.open();
        assert!(held.join().unwrap().is_err());
    });
    assert_eq!(disk.read("/a").unwrap(), b"");
}

/// The pattern of a careful file replacement, as the code above this crate does it.
fn replace(fs: &dyn Fs, bytes: &[u8]) -> io::Result<()> {
    let file = fs.open(Path::new("/tmp"), OpenMode::CreateOrOpen)?;
    file.set_len(0)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()?;
    fs.rename(Path::new("/tmp"), Path::new("/CURRENT"))?;
    fs.sync_dir(Path::new("/"))
}

#[test]
fn an_nth_call_loop_ends_and_finds_no_half_replacement() {
    for kills in [false, true] {
        for n in 1.. {
            let (disk, fs) = setup();
            replace(&*disk, b"old").unwrap();
            if kills {
                fs.kill_after(n)
            } else {
                fs.fail_nth(n, Failure::EIO)
            }
            let result = replace(&fs, b"new");
            for seed in 0..50 {
                let after = disk.crash_clone(&mut Rng::new(seed)).read("/CURRENT").unwrap();
                let legal = after == b"new" || (after == b"old" && result.is_err());
                assert!(legal, "kills {kills}, n {n}, seed {seed}: {after:?}");
            }
            if fs.calls_seen() < n {
                assert!(result.is_ok());
                assert_eq!(n, 7, "six calls change something");
                break;
            }
            assert!(result.is_err(), "n {n}");
        }
    }
}

#[test]
fn a_full_device_refuses_growth_and_nothing_else() {
    let (_, fs) = setup();
    let file = create(&fs, "/a");
    file.write_all_at(&[1; 100], 0).unwrap();
    fs.set_capacity(Some(150));
    assert_eq!(fs.free_bytes(Path::new("/")).unwrap(), 50);
    file.write_all_at(&[2; 100], 0).unwrap();
    file.allocate(0, 100).unwrap();
    assert_eq!(kind(file.allocate(100, 51)), ErrorKind::StorageFull);
    assert_eq!(kind(file.set_len(151)), ErrorKind::StorageFull);
    assert_eq!(kind(file.write_at(&[3; 10], 150)), ErrorKind::StorageFull);
    assert_eq!((fs.used_bytes(), file.len().unwrap()), (100, 100));
    // A write that starts inside the file and ends beyond the device is short.
    assert_eq!(file.write_at(&[4; 100], 90).unwrap(), 60);
    assert_eq!(fs.used_bytes(), 150);
    file.allocate(0, 150).unwrap();

    // Preallocated room is room.
    file.write_all_at(&[5; 150], 0).unwrap();
    file.set_len(40).unwrap();
    assert_eq!(fs.used_bytes(), 40);
    create(&fs, "/b").write_all_at(&[6; 110], 0).unwrap();
    assert_eq!(kind(file.write_at(&[7], 40)), ErrorKind::StorageFull);
    fs.remove_file(Path::new("/b")).unwrap();
    file.write_all_at(&[7], 40).unwrap();
    fs.set_capacity(None);
    file.write_all_at(&[8; 1000], 0).unwrap();
    assert_eq!(fs.used_bytes(), 1000);
}

#[test]
fn a_file_weighs_until_its_last_name_and_handle_are_gone() {
    let (_, fs) = setup();
    let at = |name: &'static str| Path::new(name);
    fs.create_dir_all(at("/d")).unwrap();
    let file = create(&fs, "/d/a");
    file.write_all_at(&[1; 100], 0).unwrap();
    fs.hard_link(at("/d/a"), at("/d/b")).unwrap();
    fs.rename(at("/d/a"), at("/d/b")).unwrap(); // Two names of one file: both stay.
    fs.rename(at("/d"), at("/e")).unwrap();
    assert_eq!(fs.used_bytes(), 100);
    fs.remove_file(at("/e/a")).unwrap();
    fs.open(at("/e/b"), OpenMode::Read).unwrap();
    assert_eq!(fs.used_bytes(), 100);
    create(&fs, "/new").write_all_at(&[2; 7], 0).unwrap();
    fs.rename(at("/new"), at("/e/b")).unwrap(); // Replaces the last name.
    assert_eq!(fs.used_bytes(), 107);
    drop(file);
    assert_eq!(fs.used_bytes(), 7);
}

#[test]
fn used_bytes_agree_with_the_files_after_random_calls() {
    for seed in 0..100 {
        let mut rng = Rng::new(seed);
        let (disk, fs) = setup();
        fs.set_capacity(Some(5000));
        fs.add(Rule::on(Op::Write).nth(5).short(9));
        fs.add(Rule::on(Op::Write).nth(9).torn(9, Failure::EIO));
        fs.add(Rule::on(Op::Write).nth(12).fail_after(Failure::EIO));
        fs.add(Rule::on(Op::Allocate).nth(3).fail(Failure::ENOSPC));
        for step in 0..200 {
            let mut at = || Path::new(["/a", "/b", "/c"][rng.below(3) as usize]);
            let (one, other) = (at(), at());
            let offset = rng.below(3000);
            // Failures are part of the game: the sums must hold after them too.
            let outcome = match rng.below(8) {
                0 => fs.remove_file(one),
                1 => fs.rename(one, other),
                2 => fs.hard_link(one, other),
                op => fs.open(one, OpenMode::CreateOrOpen).and_then(|file| match op {
                    3 => file.set_len(offset),
                    4 => file.allocate(offset, 1 + offset),
                    _ => file.write_at(&vec![1; rng.below(2000) as usize], offset).map(drop),
                }),
            };
            assert_eq!(fs.used_bytes(), disk.bytes_used(), "seed {seed}, step {step}, {outcome:?}");
            assert!(fs.used_bytes() <= 5000, "seed {seed}, step {step}");
        }
    }
}
