//! The disk of the virtual machine: every write and every flush in a log, and the states that a cut
//! of the power at any point of the log may leave.
//!
//! ```text
//! log    W  W  F  W  W  W  F  W  W  W  W  W  W
//!        └──┬──┘                 │           ▲
//!   on the medium at p=7         └── any ────┴── p = 13: the power is cut here
//!                                    subset
//! ```
//!
//! Invariants:
//! - a write is durable at cut `p` when a flush after it, or its own FUA flag, comes before `p`;
//! - of the others any subset may be there, each whole or in part, in units of `tear` bytes. Those
//!   that are there were written in the order of the log;
//! - an entry is in the log before the machine hears that it is done: what a program in the machine
//!   was told about came from entries below [`Disk::position`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_env::Rng;

pub const BLOCK_BYTES: usize = 4096;

type Block = [u8; BLOCK_BYTES];

/// A sparse disk image. Cloning shares the blocks.
#[derive(Debug, Clone, Default)]
pub struct Image {
    blocks: BTreeMap<u64, Arc<Block>>,
    bytes: u64,
}

impl Image {
    /// What is in a file, without its blocks of zeros.
    pub fn from_file(path: &Path) -> io::Result<Image> {
        let mut file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let mut image = Image { blocks: BTreeMap::new(), bytes };
        let mut block = [0; BLOCK_BYTES];
        for number in 0..bytes / BLOCK_BYTES as u64 {
            file.read_exact(&mut block)?;
            if block != [0; BLOCK_BYTES] {
                image.blocks.insert(number, Arc::new(block));
            }
        }
        Ok(image)
    }

    pub fn to_file(&self, path: &Path) -> io::Result<()> {
        let file = File::create(path)?;
        file.set_len(self.bytes)?;
        for (number, block) in &self.blocks {
            file.write_all_at(&block[..], number * BLOCK_BYTES as u64)?;
        }
        Ok(())
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn read(&self, mut offset: u64, mut to: &mut [u8]) {
        while !to.is_empty() {
            let (number, at, count) = piece(offset, to.len());
            let (now, rest) = to.split_at_mut(count);
            match self.blocks.get(&number) {
                Some(block) => now.copy_from_slice(&block[at..at + count]),
                None => now.fill(0),
            }
            (offset, to) = (offset + count as u64, rest);
        }
    }

    pub fn write(&mut self, mut offset: u64, mut from: &[u8]) {
        while !from.is_empty() {
            let (number, at, count) = piece(offset, from.len());
            let block = self.blocks.entry(number).or_insert_with(|| Arc::new([0; BLOCK_BYTES]));
            Arc::make_mut(block)[at..at + count].copy_from_slice(&from[..count]);
            (offset, from) = (offset + count as u64, &from[count..]);
        }
    }
}

/// The block of an offset, the place in it, and how many of `length` bytes it takes.
fn piece(offset: u64, length: usize) -> (u64, usize, usize) {
    let at = (offset % BLOCK_BYTES as u64) as usize;
    (offset / BLOCK_BYTES as u64, at, length.min(BLOCK_BYTES - at))
}

#[derive(Debug)]
enum Entry {
    Write { offset: u64, data: Box<[u8]>, fua: bool },
    Flush,
}

/// Which of the writes that no flush covered are there after the cut.
#[derive(Debug, Clone, Copy)]
pub enum Loss {
    All,
    Nothing,
    /// Each is lost with this chance in a hundred.
    Some {
        percent: u64,
        tear: usize,
    },
    /// All but the last few are there, the last of them in part.
    Tail {
        tear: usize,
    },
}

impl Loss {
    pub fn random(rng: &mut Rng) -> Loss {
        // Disks promise to write 512 bytes whole; most of today's, 4096.
        let tear = if rng.one_in(4) { 512 } else { BLOCK_BYTES };
        match rng.below(8) {
            0 => Loss::All,
            1 => Loss::Nothing,
            2..6 => Loss::Some { percent: [5, 50, 95][rng.below(3) as usize], tear },
            _ => Loss::Tail { tear },
        }
    }
}

/// What a cut took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Taken {
    /// Writes that no flush covered.
    pub open: usize,
    /// Of these, those lost at least in part.
    pub lost: usize,
}

#[derive(Debug)]
struct State {
    base: Image,
    live: Image,
    log: Vec<Entry>,
    log_bytes: u64,
}

/// One boot's disk.
#[derive(Debug)]
pub struct Disk {
    state: Mutex<State>,
    position: AtomicU64,
}

impl Disk {
    pub fn new(base: Image) -> Disk {
        let state = State { live: base.clone(), base, log: Vec::new(), log_bytes: 0 };
        Disk { state: Mutex::new(state), position: AtomicU64::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries in the log.
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    pub fn bytes(&self) -> u64 {
        self.state().live.bytes()
    }

    /// Bytes written since the boot.
    pub fn log_bytes(&self) -> u64 {
        self.state().log_bytes
    }

    pub fn flushes(&self) -> u64 {
        self.state().log.iter().filter(|entry| matches!(entry, Entry::Flush)).count() as u64
    }

    pub fn read(&self, offset: u64, to: &mut [u8]) {
        self.state().live.read(offset, to);
    }

    pub fn write(&self, offset: u64, data: &[u8], fua: bool) {
        let mut state = self.state();
        state.live.write(offset, data);
        state.log_bytes += data.len() as u64;
        self.push(&mut state, Entry::Write { offset, data: data.into(), fua });
    }

    pub fn flush(&self) {
        self.push(&mut self.state(), Entry::Flush);
    }

    fn push(&self, state: &mut State, entry: Entry) {
        state.log.push(entry);
        self.position.store(state.log.len() as u64, Ordering::Release);
    }

    /// The position before the first flush from `position` on: that flush is under way, and not done.
    pub fn before_flush(&self, position: u64) -> u64 {
        let state = self.state();
        let from = (position as usize).min(state.log.len());
        let found = state.log[from..].iter().position(|entry| matches!(entry, Entry::Flush));
        (from + found.unwrap_or(0)) as u64
    }

    /// The disk after a cut of the power when the log had `position` entries.
    pub fn cut(&self, position: u64, loss: Loss, rng: &mut Rng) -> (Image, Taken) {
        let state = self.state();
        let log = &state.log[..position as usize];
        let covered = log.iter().rposition(|entry| matches!(entry, Entry::Flush)).unwrap_or(0);
        let is_open = |entry: &&Entry| matches!(entry, Entry::Write { fua: false, .. });
        let mut taken =
            Taken { open: log[covered..].iter().filter(is_open).count(), ..Taken::default() };
        // The write that is torn when the tail is lost.
        let last = covered as u64 + rng.below((log.len() - covered) as u64 + 1);
        let mut image = state.base.clone();
        for (at, entry) in log.iter().enumerate() {
            let Entry::Write { offset, data, fua } = entry else { continue };
            let tear = match loss {
                _ if at < covered || *fua => None,
                Loss::Nothing => None,
                Loss::Some { percent, tear } => (rng.below(100) < percent).then_some(tear),
                Loss::Tail { .. } if (at as u64) < last => None,
                Loss::Tail { tear } if at as u64 == last => Some(tear),
                Loss::All | Loss::Tail { .. } => Some(0),
            };
            match tear {
                None => image.write(*offset, data),
                Some(tear) => {
                    taken.lost += 1;
                    if tear > 0 && rng.one_in(2) {
                        tear_write(&mut image, *offset, data, tear, rng);
                    }
                }
            }
        }
        (image, taken)
    }
}

/// Some units of a write arrive, at least one does not.
fn tear_write(image: &mut Image, offset: u64, data: &[u8], tear: usize, rng: &mut Rng) {
    // The file system's superblocks are written in place and are no more than a unit of today's disks.
    let tear = if offset < 2 * BLOCK_BYTES as u64 { BLOCK_BYTES } else { tear };
    let units = data.len().div_ceil(tear) as u64;
    let missing = rng.below(units);
    for (unit, part) in data.chunks(tear).enumerate() {
        if unit as u64 != missing && rng.one_in(2) {
            image.write(offset + (unit * tear) as u64, part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn byte(image: &Image, offset: u64) -> u8 {
        let mut found = [0];
        image.read(offset, &mut found);
        found[0]
    }

    #[test]
    fn a_cut_keeps_what_a_flush_covered_and_may_take_the_rest() {
        let disk = Disk::new(Image { blocks: BTreeMap::new(), bytes: 1 << 20 });
        disk.write(0, &[1; 4096], false);
        disk.flush();
        disk.write(4096, &[2; 4096], false);
        disk.write(8192, &[3; 4096], true);
        let mut rng = Rng::new(1);
        let (image, taken) = disk.cut(4, Loss::All, &mut rng);
        assert_eq!([0, 4096, 8192].map(|at| byte(&image, at)), [1, 0, 3]);
        assert_eq!((taken.open, taken.lost), (1, 1));
        let (image, taken) = disk.cut(4, Loss::Nothing, &mut rng);
        assert_eq!([0, 4096, 8192].map(|at| byte(&image, at)), [1, 2, 3]);
        assert_eq!((taken.open, taken.lost), (1, 0));
        let (image, _) = disk.cut(1, Loss::All, &mut rng);
        assert_eq!(byte(&image, 0), 0, "its flush was not done");
        assert_eq!(disk.before_flush(0), 1);
    }

    #[test]
    fn a_torn_write_is_there_in_part() {
        let disk = Disk::new(Image { blocks: BTreeMap::new(), bytes: 1 << 20 });
        disk.write(65536, &[7; 65536], false);
        let mut torn = 0;
        for seed in 0..50 {
            let loss = Loss::Some { percent: 100, tear: 512 };
            let (image, _) = disk.cut(1, loss, &mut Rng::new(seed));
            let there = (0..128).filter(|unit| byte(&image, 65536 + unit * 512) == 7).count();
            assert!(there < 128);
            torn += usize::from(there > 0);
        }
        assert!(torn > 10, "{torn}");
    }
}
