//! What a power cut may do to the bytes and sizes of files, and what it may not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use sluice_env::{CrashMode, File, Fs, MemFs, OpenMode, Rng};

const SECTOR: usize = 512;

/// A file whose name is durable already.
fn named_file(fs: &MemFs, path: &str) -> Arc<dyn File> {
    let file = fs.open(Path::new(path), OpenMode::CreateNew).unwrap();
    fs.sync_dir(Path::new(path).parent().unwrap()).unwrap();
    file
}

fn write(file: &dyn File, bytes: &[u8], offset: u64) {
    file.write_all_at(bytes, offset).unwrap();
}

/// Every content the file has had since its last sync, oldest first.
struct History(Vec<Vec<u8>>);

impl History {
    fn now(&self) -> &[u8] {
        self.0.last().unwrap()
    }

    fn change(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut next = self.now().to_vec();
        change(&mut next);
        self.0.push(next);
    }

    fn sync(&mut self) {
        self.0.drain(..self.0.len() - 1);
    }

    /// The sector as it was at a moment, cut to `len` bytes.
    fn sector(moment: &[u8], sector: usize, len: usize) -> Vec<u8> {
        let mut bytes = moment.get(sector * SECTOR..).unwrap_or_default().to_vec();
        bytes.resize(SECTOR, 0);
        bytes.truncate(len - sector * SECTOR);
        bytes
    }

    /// Panics when no disk could hold `after`.
    fn check(&self, after: &[u8], had_cuts: bool) {
        assert!(self.0.iter().any(|moment| moment.len() == after.len()), "a size never had");
        if had_cuts {
            // A cut clears bytes at once, whatever moment their sector is at.
            for (at, byte) in after.iter().enumerate() {
                let known = |moment: &Vec<u8>| moment.get(at).unwrap_or(&0) == byte;
                assert!(*byte == 0 || self.0.iter().any(known), "byte {at} was never written");
            }
            return;
        }
        for (sector, bytes) in after.chunks(SECTOR).enumerate() {
            let known = |moment: &Vec<u8>| History::sector(moment, sector, after.len()) == bytes;
            assert!(self.0.iter().any(known), "sector {sector} never looked like this");
        }
    }
}

/// Drives one file through random changes and looks at a crash after each.
fn random_life(seed: u64, cuts: bool) -> u64 {
    let mut rng = Rng::new(seed);
    let fs = MemFs::new();
    let file = named_file(&fs, "/a");
    let mut history = History(vec![Vec::new()]);
    let mut had_cuts = false;
    let mut differed = 0;
    for _ in 0..40 {
        let (offset, len) = (rng.below(6000), rng.below(2000));
        match rng.below(10) {
            0 | 1 => {
                file.sync_data().unwrap();
                history.sync();
                had_cuts = false;
            }
            2 if cuts => {
                file.set_len(offset).unwrap();
                history.change(|bytes| bytes.resize(offset as usize, 0));
                had_cuts = true;
            }
            3 => {
                let end = (offset + len + 1) as usize;
                file.allocate(offset, len + 1).unwrap();
                history.change(|bytes| bytes.resize(bytes.len().max(end), 0));
            }
            _ => {
                let (mut data, offset) = (vec![0; len as usize], offset as usize);
                rng.fill(&mut data);
                write(&*file, &data, offset as u64);
                if !data.is_empty() {
                    history.change(|bytes| {
                        bytes.resize(bytes.len().max(offset + data.len()), 0);
                        bytes[offset..offset + data.len()].copy_from_slice(&data);
                    });
                }
            }
        }
        let after = fs.crash_clone(&mut rng);
        let bytes = after.read("/a").unwrap();
        history.check(&bytes, had_cuts);
        differed += u64::from(bytes != history.now());
        // What a crash leaves is durable: another one changes nothing.
        assert_eq!(after.crash_clone(&mut rng).read("/a").unwrap(), bytes);
        assert_eq!(fs.kill_clone().read("/a").unwrap(), history.now());
        // Bytes whose size was lost are gone, and do not come back when the file grows again.
        let file = after.open(Path::new("/a"), OpenMode::ReadWrite).unwrap();
        file.set_len(10_000).unwrap();
        assert!(after.read("/a").unwrap()[bytes.len()..].iter().all(|&byte| byte == 0));
    }
    differed
}

/// Runs `body` for each seed and says which one failed.
fn for_seeds(count: u64, mut body: impl FnMut(u64)) {
    for seed in 0..count {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(seed)));
        if let Err(panic) = result {
            eprintln!("failed with seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn every_crash_is_made_of_sectors_and_a_size_that_once_were() {
    let mut differed = 0;
    for_seeds(150, |seed| differed += random_life(seed, false));
    assert!(differed > 1000, "crashes hardly ever lost anything: {differed}");
}

#[test]
fn every_crash_after_cuts_is_made_of_bytes_that_once_were() {
    let mut differed = 0;
    for_seeds(150, |seed| differed += random_life(seed, true));
    assert!(differed > 1000, "crashes hardly ever lost anything: {differed}");
}

#[test]
fn synced_data_survives_a_thousand_crashes_and_unsynced_does_not_always() {
    let fs = MemFs::new();
    let file = named_file(&fs, "/a");
    write(&*file, &[1; 3000], 0);
    file.sync_data().unwrap();
    write(&*file, &[2; 3000], 3000);

    let (mut whole, mut gone, mut partly, mut zeros) = (0, 0, 0, 0);
    for_seeds(1000, |seed| {
        let bytes = fs.crash_clone(&mut Rng::new(seed)).read("/a").unwrap();
        assert_eq!(bytes[..3000], [1; 3000]);
        let tail = &bytes[3000..];
        let survived = tail.iter().filter(|&&byte| byte == 2).count();
        match (tail.len(), survived) {
            (0, _) => gone += 1,
            (3000, 3000) => whole += 1,
            (3000, 0) => zeros += 1,
            (3000, _) => partly += 1,
            (len, _) => panic!("a size the file never had: {len}"),
        }
    });
    for (what, times) in [("whole", whole), ("gone", gone), ("partly", partly), ("zeros", zeros)] {
        assert!(times >= 20, "the write was {what} only {times} times");
    }
}

#[test]
fn later_writes_may_survive_earlier_ones() {
    let fs = MemFs::new();
    let file = named_file(&fs, "/a");
    for sector in 0..8 {
        write(&*file, &[1; SECTOR], sector * SECTOR as u64);
    }
    let out_of_order = (0..1000).any(|seed| {
        let bytes = fs.crash_clone(&mut Rng::new(seed)).read("/a").unwrap();
        let first_lost = bytes.iter().position(|&byte| byte == 0);
        first_lost.is_some_and(|at| bytes[at..].contains(&1))
    });
    assert!(out_of_order);
}

#[test]
fn a_sector_never_has_a_later_write_without_an_earlier_one() {
    let fs = MemFs::new();
    let file = named_file(&fs, "/a");
    write(&*file, b"first", 0);
    write(&*file, b"second", 5);
    for_seeds(1000, |seed| {
        let bytes = fs.crash_clone(&mut Rng::new(seed)).read("/a").unwrap();
        let legal: [&[u8]; 6] =
            [b"", b"\0\0\0\0\0", b"first", &[0; 11], b"first\0\0\0\0\0\0", b"firstsecond"];
        assert!(legal.contains(&&bytes[..]), "{bytes:?}");
    });
}

#[test]
fn overwrites_in_place_are_old_or_new_sector_by_sector() {
    let fs = MemFs::new();
    let file = named_file(&fs, "/a");
    write(&*file, &[1; 2048], 0);
    file.sync_data().unwrap();
    write(&*file, &[2; 2048], 0);
    let mut seen = std::collections::BTreeSet::new();
    for_seeds(1000, |seed| {
        let bytes = fs.crash_clone(&mut Rng::new(seed)).read("/a").unwrap();
        assert_eq!(bytes.len(), 2048);
        let sectors: Vec<u8> = bytes.chunks(SECTOR).map(|sector| sector[0]).collect();
        for (sector, value) in bytes.chunks(SECTOR).zip(&sectors) {
            assert!(sector.iter().all(|byte| byte == value) && [1, 2].contains(value));
        }
        seen.insert(sectors);
    });
    assert_eq!(seen.len(), 16, "every mix of four sectors occurs");
}

#[test]
fn a_cut_that_was_lost_keeps_what_came_after_it_from_the_old_blocks() {
    let fs = MemFs::new();
    let file = named_file(&fs, "/a");
    write(&*file, &[1; 1024], 0);
    file.sync_data().unwrap();
    file.set_len(0).unwrap();
    write(&*file, &[2; 512], 0);
    let mut lens = std::collections::BTreeSet::new();
    for_seeds(1000, |seed| {
        let bytes = fs.crash_clone(&mut Rng::new(seed)).read("/a").unwrap();
        match bytes.len() {
            1024 => assert_eq!(bytes, [1; 1024]),
            512 => assert!(bytes == [2; 512] || bytes == [0; 512], "stale bytes came back"),
            len => assert_eq!(len, 0),
        }
        lens.insert(bytes.len());
    });
    assert_eq!(lens.len(), 3);
}

#[test]
fn prefix_crashes_keep_the_order_across_files() {
    for_seeds(500, |seed| {
        let mut rng = Rng::new(seed);
        let fs = MemFs::new();
        let files = [named_file(&fs, "/a"), named_file(&fs, "/b")];
        // One byte a sector, so that no write is torn within.
        for n in 0..20 {
            write(&*files[n % 2], &[1], (n * SECTOR) as u64);
        }
        let after = fs.crash_clone_as(CrashMode::Prefix, &mut rng);
        let (a, b) = (after.read("/a").unwrap(), after.read("/b").unwrap());
        let there = |n: usize| [&a, &b][n % 2].get(n * SECTOR) == Some(&1);
        let first_lost = (0..20).position(|n| !there(n)).unwrap_or(20);
        assert!((first_lost + 1..20).all(|n| !there(n)), "a hole after write {first_lost}");
    });
}

#[test]
fn a_crash_at_any_moment_has_every_acknowledged_sync() {
    let fs = MemFs::new();
    let file = named_file(&fs, "/a");
    let (acknowledged, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                write(&*file, &u64::to_le_bytes(n + 1), n * 8);
                file.sync_data().unwrap();
                acknowledged.store(n + 1, Ordering::Release);
            }
        });
        for_seeds(300, |seed| {
            let floor = acknowledged.load(Ordering::Acquire);
            let bytes = fs.crash_clone(&mut Rng::new(seed)).read("/a").unwrap();
            for n in 0..floor as usize {
                assert_eq!(bytes[n * 8..][..8], u64::to_le_bytes(n as u64 + 1));
            }
            if seed == 299 {
                stop.store(true, Ordering::Relaxed);
            }
        });
    });
}

#[test]
fn sixty_four_mebibytes_of_nothing_cost_nothing() {
    let fs = MemFs::new();
    let mut rng = Rng::new(1);
    let file = named_file(&fs, "/a");
    // 10,000 copies of this would not fit into memory if it were there.
    let clones: Vec<MemFs> = (0..10_000)
        .map(|_| {
            file.allocate(0, 64 << 20).unwrap();
            file.sync_data().unwrap();
            fs.crash_clone(&mut rng)
        })
        .collect();
    assert!(clones.iter().all(|clone| clone.bytes_used() == 64 << 20));
}

#[test]
fn damage_reaches_the_durable_bytes() {
    let fs = MemFs::new();
    fs.write("/a", b"abc").unwrap();
    fs.sync_all();
    fs.corrupt("/a", 2, 1).unwrap();
    assert_eq!(fs.crash_clone(&mut Rng::new(1)).read("/a").unwrap(), b"abb");
    assert!(fs.corrupt("/a", 3, 1).is_err());
}
