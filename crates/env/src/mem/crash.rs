//! What is left of a [`MemFs`] after a power cut or after `kill -9`.
//!
//! A disk holds, for every sector and for every inode, *some* earlier state of it, and nothing ties
//! the moments of two sectors together except a sync. So a crash picks, within what was not synced,
//! one moment for each sector of each file, one for each file's size, and a set of changes of names.
//! The page cache is what gets written back, so the image of a sector at a moment contains every
//! earlier write to that sector; a later write without the earlier one is not a state a disk can
//! have.
//!
//! ```text
//! file       change:  1 write    2 write    3 set_len(cut)  4 write
//! sector 0   moments: ■──────────────────────────┊──────────■   any of 0 1 4
//! sector 1   moments: ───────────■───────────────┊──────────■   any of 0 2 4
//! size       moments: ■──────────■───────────────■──────────■   any of 0 1 2 3 4
//! ```
//!
//! The size carries the cuts with it: when the size's moment lies before a cut, the sectors the cut
//! went through or removed cannot hold anything written after it, since those blocks were still the
//! old file's; when it lies after, nothing written before the cut is seen beyond it.
//!
//! Cost: a file without unsynced changes is shared, and so are all pages that no surviving change
//! touches.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    MemFs,
    content::{Content, pieces},
    inode::{Change, FileState, Inode},
    tree::{Dir, DirId, Entry, Names, ROOT, Renaming, Tree, set},
};
use crate::Rng;

const SECTOR_BYTES: usize = 512;

/// Which of the unsynced changes a power cut leaves.
///
/// ```
/// use sluice_env::{CrashMode, MemFs, Rng};
///
/// let fs = MemFs::new();
/// fs.write("/a", b"abc")?;
/// let mut rng = Rng::new(1);
/// assert!(fs.crash_clone_as(CrashMode::Nothing, &mut rng).list().is_empty());
/// assert_eq!(fs.crash_clone_as(CrashMode::Everything, &mut rng).read("/a")?, b"abc");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashMode {
    /// None: the disk stopped at the syncs.
    Nothing,
    /// All: the disk was just in time.
    Everything,
    /// Those before some moment, for files and names together; the write at that moment is torn.
    Prefix,
    /// Any legal subset.
    Subset,
}

impl CrashMode {
    fn draw(rng: &mut Rng) -> CrashMode {
        match rng.below(8) {
            0 => CrashMode::Nothing,
            1 => CrashMode::Everything,
            2 | 3 => CrashMode::Prefix,
            _ => CrashMode::Subset,
        }
    }
}

/// What happens to one write.
enum Fate {
    Kept,
    Lost,
    /// Each sector for itself.
    Torn,
}

/// Decides about every unsynced change.
struct Judge<'a> {
    mode: CrashMode,
    rng: &'a mut Rng,
    /// `Prefix`: the last change before the cut.
    last_kept: u64,
    /// `Subset`: of 256 changes, how many survive. Names and bytes apart, so that names without
    /// their bytes and bytes without their names are both common.
    names_kept: u64,
    writes_kept: u64,
    /// `Subset`: of 256 writes, how many are torn.
    writes_torn: u64,
}

impl Judge<'_> {
    fn new(mode: CrashMode, numbers: (u64, u64), rng: &mut Rng) -> Judge<'_> {
        const SHARES: [u64; 5] = [0, 32, 128, 224, 256];
        let mut share = |count: u64| SHARES[rng.below(count) as usize];
        let (names_kept, writes_kept, writes_torn) = (share(5), share(5), share(3));
        let (first, last) = numbers;
        let last_kept = first.saturating_sub(1) + rng.below(last.saturating_sub(first) + 2);
        Judge { mode, rng, last_kept, names_kept, writes_kept, writes_torn }
    }

    fn keeps_names(&mut self, change: &Renaming) -> bool {
        match self.mode {
            CrashMode::Nothing => false,
            CrashMode::Everything => true,
            CrashMode::Prefix => change.number <= self.last_kept,
            CrashMode::Subset => self.rng.below(256) < self.names_kept,
        }
    }

    fn fate(&mut self, number: u64) -> Fate {
        match self.mode {
            CrashMode::Nothing => Fate::Lost,
            CrashMode::Everything => Fate::Kept,
            CrashMode::Prefix if number <= self.last_kept => Fate::Kept,
            CrashMode::Prefix if number == self.last_kept + 1 => Fate::Torn,
            CrashMode::Prefix => Fate::Lost,
            CrashMode::Subset if self.rng.below(256) < self.writes_torn => Fate::Torn,
            CrashMode::Subset if self.rng.below(256) < self.writes_kept => Fate::Kept,
            CrashMode::Subset => Fate::Lost,
        }
    }

    /// How many of the changes the size has seen.
    fn size_moment(&mut self, state: &FileState) -> usize {
        let count = state.unsynced.len();
        match self.mode {
            CrashMode::Nothing => 0,
            CrashMode::Everything => count,
            CrashMode::Prefix => {
                let whole = state.unsynced.partition_point(|it| it.number <= self.last_kept);
                // The torn write may have grown the file already.
                let torn = state.unsynced.get(whole).is_some_and(|it| {
                    it.number == self.last_kept + 1 && matches!(it.change, Change::Write { .. })
                });
                whole + usize::from(torn && self.rng.one_in(2))
            }
            CrashMode::Subset => match self.rng.below(4) {
                0 => 0,
                1 => count,
                _ => self.rng.below(count as u64 + 1) as usize,
            },
        }
    }

    /// What the disk holds of one file.
    fn survivor(&mut self, state: &FileState) -> Content {
        match self.mode {
            CrashMode::Nothing => state.durable.clone(),
            CrashMode::Everything => state.all_written(),
            _ if state.unsynced.is_empty() => state.durable.clone(),
            CrashMode::Prefix | CrashMode::Subset => {
                let size_moment = self.size_moment(state);
                let moments = self.sector_moments(state, size_moment);
                replay(state, size_moment, &moments)
            }
        }
    }

    fn sector_moments(&mut self, state: &FileState, size_moment: usize) -> Moments {
        let mut moments = Moments::default();
        // The shortest length among the cuts so far that the size has not seen.
        let mut unseen_cut = u64::MAX;
        let mut len = state.durable.len();
        for (index, unsynced) in state.unsynced.iter().enumerate() {
            match &unsynced.change {
                Change::Write { offset, data } => {
                    len = len.max(offset + data.len() as u64);
                    let fate = self.fate(unsynced.number);
                    if matches!(fate, Fate::Lost) {
                        continue;
                    }
                    for (sector, _) in pieces(*offset, data.len(), SECTOR_BYTES) {
                        let possible = (sector + 1) * SECTOR_BYTES as u64 <= unseen_cut;
                        let kept = matches!(fate, Fate::Kept) || self.rng.one_in(2);
                        if possible && kept {
                            moments.set(sector, index + 1);
                        }
                    }
                }
                Change::SetLen(cut) => {
                    if *cut < len && index >= size_moment {
                        unseen_cut = unseen_cut.min(*cut);
                    }
                    len = *cut;
                }
                Change::Grow(end) => len = len.max(*end),
            }
        }
        moments
    }
}

/// For each sector, how many of the changes it has seen; 0 for sectors never set. Kept in chunks,
/// because writes are long and sectors many.
#[derive(Default)]
struct Moments {
    chunks: BTreeMap<u64, Box<[u32; CHUNK_SECTORS]>>,
}

const CHUNK_SECTORS: usize = 64;

impl Moments {
    fn set(&mut self, sector: u64, moment: usize) {
        let (chunk, at) = (sector / CHUNK_SECTORS as u64, sector as usize % CHUNK_SECTORS);
        let chunk = self.chunks.entry(chunk).or_insert_with(|| Box::new([0; CHUNK_SECTORS]));
        chunk[at] = moment as u32;
    }

    fn get(&self, sector: u64) -> usize {
        let (chunk, at) = (sector / CHUNK_SECTORS as u64, sector as usize % CHUNK_SECTORS);
        self.chunks.get(&chunk).map_or(0, |chunk| chunk[at] as usize)
    }
}

/// Rolls the durable bytes forward, every sector to its own moment and the size to its.
fn replay(state: &FileState, size_moment: usize, moments: &Moments) -> Content {
    let mut content = state.durable.clone();
    let mut len = content.len();
    for (index, unsynced) in state.unsynced.iter().enumerate() {
        let size_sees = index < size_moment;
        match &unsynced.change {
            Change::Write { offset, data } => {
                for (sector, range) in pieces(*offset, data.len(), SECTOR_BYTES) {
                    if moments.get(sector) > index {
                        let at = offset + range.start as u64;
                        content.overlay(&data[range], at);
                    }
                }
                if size_sees {
                    len = len.max(offset + data.len() as u64);
                }
            }
            Change::SetLen(cut) if size_sees => {
                content.set_len(*cut);
                len = *cut;
            }
            Change::Grow(end) if size_sees => len = len.max(*end),
            Change::SetLen(_) | Change::Grow(_) => {}
        }
    }
    content.set_len(len);
    content
}

/// Copies inodes into another file system, hard links staying one inode.
struct Copier<F> {
    copies: BTreeMap<u64, Arc<Inode>>,
    state_of: F,
}

impl<F: FnMut(&Inode) -> FileState> Copier<F> {
    fn entry(&mut self, entry: &Entry) -> Entry {
        match entry {
            Entry::Dir(id) => Entry::Dir(*id),
            Entry::File(inode) => {
                let copy = self
                    .copies
                    .entry(inode.id)
                    .or_insert_with(|| Inode::new(inode.id, (self.state_of)(inode)));
                Entry::File(Arc::clone(copy))
            }
        }
    }

    fn names(&mut self, names: &Names) -> Names {
        names.iter().map(|(name, entry)| (Arc::clone(name), self.entry(entry))).collect()
    }
}

impl MemFs {
    /// The file system after a power cut at this moment: everything synced, and of the rest some
    /// legal subset drawn from `rng` (see [`MemFs`]). The extremes, nothing and
    /// everything, are each drawn once in eight times. Independent of this one; locks are free.
    ///
    /// ```
    /// use sluice_env::{MemFs, Rng};
    ///
    /// let fs = MemFs::new();
    /// fs.write("/a", b"abc")?;
    /// let mut rng = Rng::new(1);
    /// let there = (0..100).filter(|_| fs.crash_clone(&mut rng).read("/a").is_ok()).count();
    /// assert!(0 < there && there < 100); // the name was never synced
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn crash_clone(&self, rng: &mut Rng) -> MemFs {
        let mode = CrashMode::draw(rng);
        self.crash_clone_as(mode, rng)
    }

    /// As [`MemFs::crash_clone`], with the mode given instead of drawn.
    ///
    /// ```
    /// use sluice_env::{CrashMode, MemFs, Rng};
    ///
    /// let after = MemFs::new().crash_clone_as(CrashMode::Prefix, &mut Rng::new(1));
    /// assert_eq!(after.unsynced_changes(), 0); // what is on the disk is on the disk
    /// ```
    pub fn crash_clone_as(&self, mode: CrashMode, rng: &mut Rng) -> MemFs {
        let tree = self.shared.tree_mut();
        let mut judge = Judge::new(mode, unsynced_numbers(&tree), rng);

        let mut names: BTreeMap<DirId, Names> =
            tree.dirs.iter().map(|(id, dir)| (*id, dir.durable.clone())).collect();
        for change in tree.survivors(|change| judge.keeps_names(change)) {
            for (cell, value) in &change.sets {
                set(names.entry(cell.dir).or_default(), &cell.name, value);
            }
        }

        let mut copier = Copier {
            copies: BTreeMap::new(),
            state_of: |inode: &Inode| FileState::synced(judge.survivor(&inode.state())),
        };
        // Only what the root reaches: the rest is lost to everyone.
        let mut dirs = BTreeMap::new();
        let mut reached = vec![ROOT];
        while let Some(id) = reached.pop() {
            let live = copier.names(names.get(&id).unwrap_or(&Names::new()));
            reached.extend(live.values().filter_map(|entry| match entry {
                Entry::Dir(id) => Some(*id),
                Entry::File(_) => None,
            }));
            dirs.insert(id, Dir { durable: live.clone(), live });
        }
        let after = Tree { dirs, unsynced: Vec::new(), last_dir: tree.last_dir };
        MemFs::from_tree(after, self.shared.next_number())
    }

    /// The file system after `kill -9`: everything written is there, locks are free, open handles
    /// are gone. The machine still runs, so what was not synced is still not synced, and a
    /// [`MemFs::crash_clone`] of the clone can lose it. Independent of this one.
    ///
    /// ```
    /// let fs = sluice_env::MemFs::new();
    /// fs.write("/a", b"abc")?;
    /// let after = fs.kill_clone();
    /// assert_eq!(after.read("/a")?, b"abc");
    /// assert_eq!(after.unsynced_changes(), fs.unsynced_changes());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn kill_clone(&self) -> MemFs {
        let tree = self.shared.tree_mut();
        let mut copier =
            Copier { copies: BTreeMap::new(), state_of: |inode: &Inode| inode.state().clone() };
        let dirs = tree.dirs.iter().map(|(id, dir)| {
            let (live, durable) = (copier.names(&dir.live), copier.names(&dir.durable));
            (*id, Dir { live, durable })
        });
        let dirs = dirs.collect();
        let unsynced = tree.unsynced.iter().map(|change| Renaming {
            sets: change
                .sets
                .iter()
                .map(|(cell, value)| {
                    (cell.clone(), value.as_ref().map(|entry| copier.entry(entry)))
                })
                .collect(),
            ..*change
        });
        let unsynced = unsynced.collect();
        let after = Tree { dirs, unsynced, last_dir: tree.last_dir };
        MemFs::from_tree(after, self.shared.next_number())
    }
}

/// The first and the last number among the changes that are not synced; (0, 0) when there are none.
fn unsynced_numbers(tree: &Tree) -> (u64, u64) {
    let mut span: Option<(u64, u64)> = None;
    let mut add = |first: u64, last: u64| {
        span = Some(span.map_or((first, last), |(low, high)| (low.min(first), high.max(last))));
    };
    for change in &tree.unsynced {
        add(change.number, change.number);
    }
    let names = tree.dirs.values().flat_map(|dir| dir.live.values().chain(dir.durable.values()));
    for entry in names {
        if let Entry::File(inode) = entry {
            let state = inode.state();
            if let (Some(first), Some(last)) = (state.unsynced.first(), state.unsynced.last()) {
                add(first.number, last.number);
            }
        }
    }
    span.unwrap_or((0, 0))
}
