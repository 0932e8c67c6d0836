//! Without a crash the memory file system and the real one cannot be told apart: the same random
//! calls give the same answers and the same error numbers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use sluice_env::{DiskFs, File, FileLock, Fs, MemFs, OpenMode, Rng};

const PATHS: [&str; 12] =
    ["a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a", "f", "f/a", "d/e/g", "a/x"];

/// One file system with the handles opened on it so far.
struct Side {
    fs: Arc<dyn Fs>,
    root: PathBuf,
    files: Vec<Arc<dyn File>>,
    locks: Vec<Box<dyn FileLock>>,
}

/// What a call answered, comparable across file systems.
#[derive(Debug, PartialEq)]
enum Answer {
    Done,
    Bytes(Vec<u8>),
    Number(u64),
    Names(Vec<String>),
    Failed(Option<i32>),
}

fn answer<T>(result: io::Result<T>, ok: impl FnOnce(T) -> Answer) -> Answer {
    match result {
        Ok(value) => ok(value),
        Err(error) => Answer::Failed(error.raw_os_error()),
    }
}

fn done<T>(result: io::Result<T>) -> Answer {
    answer(result, |_| Answer::Done)
}

fn number(result: io::Result<usize>) -> Answer {
    answer(result, |count| Answer::Number(count as u64))
}

impl Side {
    fn new(fs: Arc<dyn Fs>, root: &Path) -> Side {
        Side { fs, root: root.to_owned(), files: Vec::new(), locks: Vec::new() }
    }

    fn path(&self, rng: &mut Rng) -> PathBuf {
        self.root.join(PATHS[rng.below(PATHS.len() as u64) as usize])
    }

    fn read_all(&self, file: &dyn File) -> Answer {
        let mut bytes = vec![0xee; file.len().unwrap() as usize + 10];
        let count = file.read_at(&mut bytes, 0).unwrap();
        bytes.truncate(count);
        Answer::Bytes(bytes)
    }

    /// One call drawn from `rng`. Two sides with the same past draw the same.
    fn step(&mut self, rng: &mut Rng) -> (String, Answer) {
        let op = rng.below(22);
        if let (0..=9, Some(file)) = (op, self.pick_file(rng)) {
            return self.step_on_file(op, &*file, rng);
        }
        let (one, other) = (self.path(rng), self.path(rng));
        match op {
            10 => ("rename".into(), done(self.fs.rename(&one, &other))),
            11 => ("remove".into(), done(self.fs.remove_file(&one))),
            12 => ("hard_link".into(), done(self.fs.hard_link(&one, &other))),
            13 => ("create_dir_all".into(), done(self.fs.create_dir_all(&one))),
            14 => {
                let names = self.fs.read_dir(&one).map(|mut names| {
                    names.sort();
                    names
                });
                ("read_dir".into(), answer(names, Answer::Names))
            }
            15 => {
                let exists = self.fs.exists(&one);
                ("exists".into(), answer(exists, |it| Answer::Number(u64::from(it))))
            }
            16 => ("sync_dir".into(), done(self.fs.sync_dir(&one))),
            17 => {
                if rng.one_in(2) {
                    self.locks.clear();
                }
                let lock = self.fs.lock(&one).map(|lock| self.locks.push(lock));
                ("lock".into(), done(lock))
            }
            18 => ("remove_dir".into(), done(self.fs.remove_dir(&one))),
            _ => {
                let modes = [
                    OpenMode::Read,
                    OpenMode::ReadWrite,
                    OpenMode::CreateNew,
                    OpenMode::CreateOrOpen,
                ];
                let mode = modes[rng.below(4) as usize];
                let opened = self.fs.open(&one, mode).map(|file| {
                    if self.files.len() == 8 {
                        self.files.remove(0);
                    }
                    self.files.push(file);
                });
                (format!("open {mode:?}"), done(opened))
            }
        }
    }

    fn pick_file(&self, rng: &mut Rng) -> Option<Arc<dyn File>> {
        let count = self.files.len() as u64;
        (count > 0).then(|| Arc::clone(&self.files[rng.below(count) as usize]))
    }

    fn step_on_file(&self, op: u64, file: &dyn File, rng: &mut Rng) -> (String, Answer) {
        let offset = rng.below(3) * rng.below(6000);
        let len = rng.below(2) * rng.below(9000);
        match op {
            0 => (format!("set_len {offset}"), done(file.set_len(offset))),
            1 => (format!("allocate {offset} {len}"), done(file.allocate(offset, len))),
            2 => ("sync_data".into(), done(file.sync_data())),
            3 => ("len".into(), answer(file.len(), Answer::Number)),
            4 | 5 => {
                let mut buf = vec![0xee; len as usize];
                let result = file.read_at(&mut buf, offset);
                let read = answer(result, |count| Answer::Bytes(buf[..count].into()));
                (format!("read {offset} {len}"), read)
            }
            6 => ("read all".into(), self.read_all(file)),
            _ => {
                let mut buf = vec![0; len as usize];
                rng.fill(&mut buf);
                (format!("write {offset} {len}"), number(file.write_at(&buf, offset)))
            }
        }
    }
}

#[test]
fn random_calls_give_the_same_answers() {
    for seed in 0..30 {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = Side::new(Arc::new(DiskFs), dir.path());
        let mut mem = Side::new(Arc::new(MemFs::new()), Path::new("/"));
        let (mut disk_rng, mut mem_rng) = (Rng::new(seed), Rng::new(seed));
        for step in 0..400 {
            let expected = disk.step(&mut disk_rng);
            let got = mem.step(&mut mem_rng);
            assert!(got == expected, "seed {seed}, step {step}: {got:?}, disk: {expected:?}");
        }
    }
}

#[test]
fn a_removed_file_lives_on_in_its_handles() {
    let dir = tempfile::tempdir().unwrap();
    for side in
        [Side::new(Arc::new(DiskFs), dir.path()), Side::new(Arc::new(MemFs::new()), Path::new("/"))]
    {
        let path = side.root.join("a");
        let file = side.fs.open(&path, OpenMode::CreateNew).unwrap();
        side.fs.remove_file(&path).unwrap();
        file.write_all_at(b"still here", 0).unwrap();
        assert_eq!(side.read_all(&*file), Answer::Bytes(b"still here".into()));
        assert!(!side.fs.exists(&path).unwrap());
    }
}

#[test]
fn absurd_offsets_are_errors_in_memory_too() {
    let fs = MemFs::new();
    let file = fs.open(Path::new("/a"), OpenMode::CreateNew).unwrap();
    assert!(file.write_at(b"x", u64::MAX).is_err());
    assert!(file.write_at(b"x", i64::MAX as u64).is_err());
    assert!(file.read_at(&mut [0], u64::MAX).is_err());
    assert!(file.allocate(u64::MAX, u64::MAX).is_err());
    assert!(file.set_len(u64::MAX).is_err());
    assert_eq!(file.len().unwrap(), 0);
}
