//! The names of a [`MemFs`](super::MemFs): directories, what each shows now, what a power cut cannot
//! take away, and the changes between the two.
//!
//! A *cell* is one name in one directory. A change sets one cell (create, link, remove) or two
//! (rename: the old name becomes empty and the new one full, both or neither); the removal of a
//! directory empties its cells too. `sync_dir` makes the changes durable that touch a cell of that
//! directory.
//!
//! Which sets of unsynced changes may survive a crash is one rule: a change that touches a cell
//! survives only together with every earlier change of that cell. So a rename of a file whose
//! creation was lost is lost as well, and no set of survivors loses a file that was only ever
//! moved. For the same reason `sync_dir` takes along the earlier changes of the cells it makes
//! durable, although they may lie in another directory: a rename across directories is one change.
//! Moves of whole directories additionally survive in their order, because any other order could
//! close a circle.
//!
//! A directory is durable only when its *parent* was synced, as POSIX has it.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    path::{Component, Path},
    sync::Arc,
};

use rustix::io::Errno;

use super::inode::Inode;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct DirId(u64);

pub(super) const ROOT: DirId = DirId(0);

#[derive(Clone)]
pub(super) enum Entry {
    File(Arc<Inode>),
    Dir(DirId),
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Cell {
    pub dir: DirId,
    pub name: Arc<str>,
}

/// An unsynced change of names.
#[derive(Clone)]
pub(super) struct Renaming {
    pub number: u64,
    /// The cells set and their new value.
    pub sets: Vec<(Cell, Option<Entry>)>,
    pub moves_dir: bool,
}

pub(super) type Names = BTreeMap<Arc<str>, Entry>;

#[derive(Clone, Default)]
pub(super) struct Dir {
    pub live: Names,
    pub durable: Names,
}

#[derive(Clone)]
pub(super) struct Tree {
    pub dirs: BTreeMap<DirId, Dir>,
    pub unsynced: Vec<Renaming>,
    pub last_dir: u64,
}

/// The components of a path. Relative paths start at the root; `..` is resolved by text, which is
/// exact where there are no symbolic links.
fn components(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_str().ok_or(Errno::INVAL)?),
            Component::ParentDir => drop(names.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(names)
}

pub(super) fn set(names: &mut Names, name: &Arc<str>, value: &Option<Entry>) {
    match value {
        Some(entry) => drop(names.insert(Arc::clone(name), entry.clone())),
        None => drop(names.remove(name)),
    }
}

impl Tree {
    pub fn new() -> Tree {
        Tree {
            dirs: BTreeMap::from([(ROOT, Dir::default())]),
            unsynced: Vec::new(),
            last_dir: ROOT.0,
        }
    }

    pub fn dir(&self, id: DirId) -> io::Result<&Dir> {
        // Every id in an entry is in `dirs`; a missing one would be a bug of this module.
        self.dirs.get(&id).ok_or_else(|| Errno::NOENT.into())
    }

    fn walk(&self, names: &[&str]) -> io::Result<Entry> {
        let mut at = ROOT;
        for (depth, name) in names.iter().enumerate() {
            match self.dir(at)?.live.get(*name).ok_or(Errno::NOENT)? {
                Entry::Dir(id) => at = *id,
                file if depth + 1 == names.len() => return Ok(file.clone()),
                Entry::File(_) => return Err(Errno::NOTDIR.into()),
            }
        }
        Ok(Entry::Dir(at))
    }

    pub fn lookup(&self, path: &Path) -> io::Result<Entry> {
        self.walk(&components(path)?)
    }

    pub fn lookup_dir(&self, path: &Path) -> io::Result<DirId> {
        match self.lookup(path)? {
            Entry::Dir(id) => Ok(id),
            Entry::File(_) => Err(Errno::NOTDIR.into()),
        }
    }

    /// The cell a path names, and what is in it now.
    pub fn cell(&self, path: &Path) -> io::Result<(Cell, Option<Entry>)> {
        let names = components(path)?;
        let (name, parents) = names.split_last().ok_or(Errno::ISDIR)?;
        let Entry::Dir(dir) = self.walk(parents)? else {
            return Err(Errno::NOTDIR.into());
        };
        let entry = self.dir(dir)?.live.get(*name).cloned();
        Ok((Cell { dir, name: Arc::from(*name) }, entry))
    }

    /// Applies a change to what is seen now and notes it as unsynced.
    pub fn change(&mut self, number: u64, sets: Vec<(Cell, Option<Entry>)>, moves_dir: bool) {
        for (cell, value) in &sets {
            if let Some(dir) = self.dirs.get_mut(&cell.dir) {
                set(&mut dir.live, &cell.name, value);
            }
        }
        self.unsynced.push(Renaming { number, sets, moves_dir });
    }

    pub fn create_dir_all(
        &mut self,
        path: &Path,
        mut number: impl FnMut() -> u64,
    ) -> io::Result<()> {
        let mut at = ROOT;
        let names = components(path)?;
        for (depth, name) in names.iter().copied().enumerate() {
            at = match self.dir(at)?.live.get(name) {
                Some(Entry::Dir(id)) => *id,
                Some(Entry::File(_)) if depth + 1 == names.len() => {
                    return Err(Errno::EXIST.into());
                }
                Some(Entry::File(_)) => return Err(Errno::NOTDIR.into()),
                None => {
                    self.last_dir += 1;
                    let id = DirId(self.last_dir);
                    self.dirs.insert(id, Dir::default());
                    let cell = Cell { dir: at, name: Arc::from(name) };
                    self.change(number(), vec![(cell, Some(Entry::Dir(id)))], false);
                    id
                }
            };
        }
        Ok(())
    }

    /// Moves a name, under the rules of `rename(2)`.
    pub fn rename(&mut self, from: &Path, to: &Path, number: u64) -> io::Result<()> {
        let (from, source) = self.cell(from)?;
        let (to, target) = self.cell(to)?;
        let source = source.ok_or(Errno::NOENT)?;
        match (&source, &target) {
            // Two names of one file: the kernel leaves both.
            (Entry::File(a), Some(Entry::File(b))) if Arc::ptr_eq(a, b) => return Ok(()),
            (Entry::Dir(a), Some(Entry::Dir(b))) if a == b => return Ok(()),
            (Entry::Dir(moved), _) if self.contains(*moved, to.dir) => {
                return Err(Errno::INVAL.into());
            }
            (_, Some(Entry::Dir(id))) if self.contains(*id, from.dir) => {
                return Err(Errno::NOTEMPTY.into());
            }
            (Entry::File(_), Some(Entry::Dir(_))) => return Err(Errno::ISDIR.into()),
            (Entry::Dir(_), Some(Entry::File(_))) => return Err(Errno::NOTDIR.into()),
            (Entry::Dir(_), Some(Entry::Dir(id))) if !self.dir(*id)?.live.is_empty() => {
                return Err(Errno::NOTEMPTY.into());
            }
            _ => {}
        }
        let moves_dir = matches!(source, Entry::Dir(_));
        self.change(number, vec![(from, None), (to, Some(source))], moves_dir);
        Ok(())
    }

    /// Removes an empty directory.
    ///
    /// The change also sets the directory's own cells that were changed and not synced, to the
    /// nothing that they show: so it survives only together with what emptied the directory, and
    /// never takes along a file that was moved out of it.
    pub fn remove_dir(&mut self, path: &Path, number: u64) -> io::Result<()> {
        let (cell, entry) = self.cell(path)?;
        let id = match entry.ok_or(Errno::NOENT)? {
            Entry::Dir(id) => id,
            Entry::File(_) => return Err(Errno::NOTDIR.into()),
        };
        if !self.dir(id)?.live.is_empty() {
            return Err(Errno::NOTEMPTY.into());
        }
        let changed = self.unsynced.iter().flat_map(|change| &change.sets);
        let emptied: HashSet<Cell> =
            changed.filter(|(cell, _)| cell.dir == id).map(|(cell, _)| cell.clone()).collect();
        let mut sets = vec![(cell, None)];
        sets.extend(emptied.into_iter().map(|cell| (cell, None)));
        self.change(number, sets, false);
        Ok(())
    }

    /// True when `inner` is `outer` or lies below it.
    fn contains(&self, outer: DirId, inner: DirId) -> bool {
        let children = self.dirs.get(&outer).into_iter().flat_map(|dir| dir.live.values());
        outer == inner
            || children
                .filter_map(|entry| match entry {
                    Entry::Dir(id) => Some(*id),
                    Entry::File(_) => None,
                })
                .any(|child| self.contains(child, inner))
    }

    /// Makes the changes of one directory durable, and those they rest on.
    pub fn sync_dir(&mut self, dir: DirId) {
        let mut needed: HashSet<Cell> = HashSet::new();
        let mut needs_moves = false;
        let mut keep = vec![false; self.unsynced.len()];
        for (change, keep) in self.unsynced.iter().zip(&mut keep).rev() {
            *keep = (change.moves_dir && needs_moves)
                || change.sets.iter().any(|(cell, _)| cell.dir == dir || needed.contains(cell));
            if *keep {
                needs_moves |= change.moves_dir;
                needed.extend(change.sets.iter().map(|(cell, _)| cell.clone()));
            }
        }
        let changes = std::mem::take(&mut self.unsynced);
        for (change, keep) in changes.into_iter().zip(keep) {
            if !keep {
                self.unsynced.push(change);
                continue;
            }
            for (cell, value) in &change.sets {
                if let Some(dir) = self.dirs.get_mut(&cell.dir) {
                    set(&mut dir.durable, &cell.name, value);
                }
            }
        }
    }

    /// The unsynced changes that survive a crash when `wanted` is asked for each: a change whose
    /// cell has lost an earlier change is lost too.
    pub fn survivors(&self, mut wanted: impl FnMut(&Renaming) -> bool) -> Vec<&Renaming> {
        let mut lost: HashSet<&Cell> = HashSet::new();
        let mut lost_move = false;
        let mut survivors = Vec::new();
        for change in &self.unsynced {
            let rests_on_lost = (change.moves_dir && lost_move)
                || change.sets.iter().any(|(cell, _)| lost.contains(cell));
            // Asked in any case, so that the draws do not depend on what was lost before.
            if wanted(change) && !rests_on_lost {
                survivors.push(change);
            } else {
                lost_move |= change.moves_dir;
                lost.extend(change.sets.iter().map(|(cell, _)| cell));
            }
        }
        survivors
    }
}
