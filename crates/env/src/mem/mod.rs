//! A file system in memory that can lose power: the stage for every crash test.
//!
//! It keeps apart what is written and what is durable, for bytes and sizes (per file, until
//! `sync_data`) and for names (per directory, until `sync_dir`). [`MemFs::crash_clone`] is the disk
//! after a power cut, [`MemFs::kill_clone`] the one after `kill -9`.
//!
//! What a power cut may leave, and nothing else:
//! - everything synced;
//! - of the unsynced writes, each 512-byte sector as it was at *some* moment since the last sync:
//!   a write is there wholly, in part or not at all, in any order relative to other sectors;
//! - the size as it was at some moment since the last sync, independent of the bytes: a size that
//!   grew over sectors that were lost reads as zeros there, and bytes beyond the size are gone;
//! - any set of unsynced changes of names that is closed under the rule in `tree.rs`.
//!
//! What it is not: it has no permissions, no symbolic links, no damage to data that was synced
//! (use [`MemFs::corrupt`]) and no failing calls (use [`FaultFs`](crate::FaultFs)).
//!
//! Locks: `tree` first, then one inode. Every change holds `tree` at least shared, and a clone takes
//! it exclusively, so a clone is the file system at one moment: it never has a write without an
//! earlier sync that the writer waited for. Reads of file bytes take the inode's lock alone.

mod content;
mod crash;
mod file;
mod inode;
mod tree;

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use crate::{
    File, FileLock, Fs, OpenMode,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};
use file::{MemFile, MemLock};
use inode::{FileState, Inode};
use tree::{DirId, Entry, ROOT, Tree};

pub use crash::CrashMode;

/// What [`Fs::free_bytes`] starts from: more than any test writes.
const DEVICE_BYTES: u64 = 1 << 40;

/// A file system in memory that knows what a crash can take away.
///
/// Synced bytes, sizes and names survive every crash. Of the rest a power cut leaves each 512-byte
/// sector, and each file's size, as it was at some moment since the last sync; where the size grew
/// over lost sectors there are zeros. Changes of names survive or not, each rename whole, but none
/// without the earlier changes of the same name. Contents need `sync_data`, names need `sync_dir`
/// of their directory, and a new directory needs it of its parent.
///
/// ```
/// use sluice_env::{Fs, MemFs, OpenMode, Rng};
/// use std::path::Path;
///
/// let fs = MemFs::new();
/// let file = fs.open(Path::new("/a"), OpenMode::CreateNew)?;
/// file.write_all_at(b"safe", 0)?;
/// file.sync_data()?;
/// fs.sync_dir(Path::new("/"))?;
/// file.write_all_at(b"lost", 0)?;
///
/// let mut rng = Rng::new(1);
/// let after = fs.crash_clone(&mut rng).read("/a")?;
/// assert!(after == b"safe" || after == b"lost");
/// assert_eq!(fs.kill_clone().read("/a")?, b"lost");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct MemFs {
    shared: Arc<Shared>,
}

/// What open files share with the file system they came from.
struct Shared {
    tree: RwLock<Tree>,
    /// Numbers changes of files and names alike, and inodes.
    last_number: AtomicU64,
    /// The sync of file bytes, counted from 1 from now on, that fails and loses them; 0: none.
    lossy_sync: AtomicU64,
}

impl Shared {
    fn tree(&self) -> RwLockReadGuard<'_, Tree> {
        self.tree.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn tree_mut(&self) -> RwLockWriteGuard<'_, Tree> {
        self.tree.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Taken while `tree` and, for a file's change, its inode are locked: numbers of one file
    /// ascend.
    fn next_number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Counts down to the sync that fails.
    fn loses_this_sync(&self) -> bool {
        let left = self
            .lossy_sync
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left == Ok(1)
    }
}

impl MemFs {
    /// An empty file system with a durable root.
    ///
    /// ```
    /// assert!(sluice_env::MemFs::new().list().is_empty());
    /// ```
    pub fn new() -> MemFs {
        MemFs::from_tree(Tree::new(), 0)
    }

    fn from_tree(tree: Tree, last_number: u64) -> MemFs {
        let last_number = AtomicU64::new(last_number);
        let lossy_sync = AtomicU64::new(0);
        MemFs { shared: Arc::new(Shared { tree: RwLock::new(tree), last_number, lossy_sync }) }
    }

    /// The nth `sync_data` from now on, counted from 1, fails with `EIO` and loses what it was to
    /// make durable, as on Linux: readers still see the bytes, and no later sync writes them
    /// (Rebello et al., "Can applications recover from fsync failures?", ATC 2020). 0 takes it back.
    ///
    /// ```
    /// use sluice_env::{CrashMode, File, Fs, MemFs, OpenMode, Rng};
    ///
    /// let fs = MemFs::new();
    /// let file = fs.open("/a".as_ref(), OpenMode::CreateNew)?;
    /// fs.sync_dir("/".as_ref())?;
    /// file.write_all_at(b"abc", 0)?;
    /// fs.lose_at_sync(1);
    /// assert!(file.sync_data().is_err());
    /// assert!(file.sync_data().is_ok()); // and yet
    /// let after = fs.crash_clone_as(CrashMode::Everything, &mut Rng::new(1));
    /// assert_ne!(after.read("/a")?, b"abc");
    /// assert_eq!(fs.read("/a")?, b"abc");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn lose_at_sync(&self, nth: u64) {
        self.shared.lossy_sync.store(nth, Ordering::Relaxed);
    }

    /// All bytes of a file as they are now.
    ///
    /// ```
    /// let fs = sluice_env::MemFs::new();
    /// assert!(fs.read("/missing").is_err());
    /// ```
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let inode = self.inode(path.as_ref())?;
        let state = inode.state();
        let mut bytes = vec![0; usize::try_from(state.live.len()).map_err(|_| Errno::FBIG)?];
        state.live.read(&mut bytes, 0);
        Ok(bytes)
    }

    /// Makes a file hold exactly `bytes`, creating it and its directories when missing. Nothing is
    /// synced.
    ///
    /// ```
    /// let fs = sluice_env::MemFs::new();
    /// fs.write("/db/a", b"abc")?;
    /// assert_eq!(fs.read("/db/a")?, b"abc");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn write(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        let path = path.as_ref();
        if let Some(parent) = path.parent() {
            self.create_dir_all(parent)?;
        }
        let file = self.open(path, OpenMode::CreateOrOpen)?;
        file.set_len(0)?;
        file.write_all_at(bytes, 0)
    }

    /// Makes everything durable, as `sync(1)` would. For a test that wants to start from solid
    /// ground.
    ///
    /// ```
    /// let fs = sluice_env::MemFs::new();
    /// fs.write("/db/a", b"abc")?;
    /// fs.sync_all();
    /// assert_eq!(fs.crash_clone(&mut sluice_env::Rng::new(1)).read("/db/a")?, b"abc");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn sync_all(&self) {
        let mut tree = self.shared.tree_mut();
        tree.unsynced.clear();
        for dir in tree.dirs.values_mut() {
            dir.durable = dir.live.clone();
            for entry in dir.live.values() {
                if let Entry::File(inode) = entry {
                    inode.state().sync();
                }
            }
        }
    }

    /// How many changes of files and names a power cut could still take away.
    ///
    /// ```
    /// let fs = sluice_env::MemFs::new();
    /// fs.write("/a", b"abc")?;
    /// assert!(fs.unsynced_changes() > 0);
    /// fs.sync_all();
    /// assert_eq!(fs.unsynced_changes(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn unsynced_changes(&self) -> usize {
        let tree = self.shared.tree_mut();
        let of_files: usize =
            self.inodes(&tree).values().map(|inode| inode.state().unsynced.len()).sum();
        tree.unsynced.len() + of_files
    }

    /// Every file with its length, sorted by path.
    ///
    /// ```
    /// let fs = sluice_env::MemFs::new();
    /// fs.write("/db/a", b"abc")?;
    /// assert_eq!(fs.list(), [("/db/a".into(), 3)]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn list(&self) -> Vec<(PathBuf, u64)> {
        let tree = self.shared.tree();
        let mut found = Vec::new();
        visit(&tree, ROOT, Path::new("/"), &mut |path, inode| {
            found.push((path, inode.state().live.len()));
        });
        found.sort();
        found
    }

    /// The sum of the lengths of all files that have a name, each counted once however many names
    /// it has.
    ///
    /// ```
    /// let fs = sluice_env::MemFs::new();
    /// fs.write("/a", &[0; 100])?;
    /// assert_eq!(fs.bytes_used(), 100);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bytes_used(&self) -> u64 {
        let tree = self.shared.tree();
        self.inodes(&tree)
            .values()
            .fold(0, |sum: u64, inode| sum.saturating_add(inode.state().live.len()))
    }

    /// Flips the bits `xor` of the byte at `offset`, on the medium: what is durable there is hit as
    /// well. Fails with `UnexpectedEof` beyond the end. A write that no sync has covered yet may
    /// bring the old byte back in a crash clone; sync first.
    ///
    /// ```
    /// let fs = sluice_env::MemFs::new();
    /// fs.write("/a", b"abc")?;
    /// fs.sync_all();
    /// fs.corrupt("/a", 1, 0xff)?;
    /// assert_eq!(fs.read("/a")?, [b'a', b'b' ^ 0xff, b'c']);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn corrupt(&self, path: impl AsRef<Path>, offset: u64, xor: u8) -> io::Result<()> {
        let inode = self.inode(path.as_ref())?;
        let mut state = inode.state();
        if !state.live.flip(offset, xor) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        state.durable.flip(offset, xor);
        Ok(())
    }

    fn inode(&self, path: &Path) -> io::Result<Arc<Inode>> {
        match self.shared.tree().lookup(path)? {
            Entry::File(inode) => Ok(inode),
            Entry::Dir(_) => Err(Errno::ISDIR.into()),
        }
    }

    fn inodes(&self, tree: &Tree) -> BTreeMap<u64, Arc<Inode>> {
        let mut found = BTreeMap::new();
        visit(tree, ROOT, Path::new("/"), &mut |_, inode| {
            found.insert(inode.id, Arc::clone(inode));
        });
        found
    }

    /// Opens or creates under one lock, so that of two `CreateNew` one fails.
    fn open_inode(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<Inode>> {
        if matches!(mode, OpenMode::Read | OpenMode::ReadWrite) {
            return self.inode(path);
        }
        let mut tree = self.shared.tree_mut();
        let (cell, entry) = tree.cell(path)?;
        match entry {
            Some(_) if mode == OpenMode::CreateNew => Err(Errno::EXIST.into()),
            Some(Entry::File(inode)) => Ok(inode),
            Some(Entry::Dir(_)) => Err(Errno::ISDIR.into()),
            None => {
                let number = self.shared.next_number();
                let inode = Inode::new(number, FileState::default());
                let entry = Some(Entry::File(Arc::clone(&inode)));
                tree.change(number, vec![(cell, entry)], false);
                Ok(inode)
            }
        }
    }
}

fn visit(tree: &Tree, dir: DirId, path: &Path, found: &mut impl FnMut(PathBuf, &Arc<Inode>)) {
    for (name, entry) in tree.dirs.get(&dir).into_iter().flat_map(|dir| &dir.live) {
        let path = path.join(&**name);
        match entry {
            Entry::File(inode) => found(path, inode),
            Entry::Dir(id) => visit(tree, *id, &path, found),
        }
    }
}

impl Default for MemFs {
    fn default() -> Self {
        MemFs::new()
    }
}

impl fmt::Debug for MemFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemFs").field("bytes_used", &self.bytes_used()).finish_non_exhaustive()
    }
}

impl Fs for MemFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let inode = self.open_inode(path, mode)?;
        let writable = mode != OpenMode::Read;
        Ok(Arc::new(MemFile { shared: Arc::clone(&self.shared), inode, writable }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.shared.tree_mut().create_dir_all(path, || self.shared.next_number())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        let tree = self.shared.tree();
        let dir = tree.dir(tree.lookup_dir(path)?)?;
        Ok(dir.live.keys().map(|name| name.to_string()).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.tree_mut().rename(from, to, self.shared.next_number())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.shared.tree_mut();
        let (cell, entry) = tree.cell(path)?;
        match entry.ok_or(Errno::NOENT)? {
            Entry::Dir(_) => Err(Errno::ISDIR.into()),
            Entry::File(_) => {
                tree.change(self.shared.next_number(), vec![(cell, None)], false);
                Ok(())
            }
        }
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.shared.tree_mut().remove_dir(path, self.shared.next_number())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.shared.tree_mut();
        let source = tree.lookup(from)?;
        let (cell, target) = tree.cell(to)?;
        match (source, target) {
            (_, Some(_)) => Err(Errno::EXIST.into()),
            (Entry::Dir(_), None) => Err(Errno::PERM.into()),
            (file @ Entry::File(_), None) => {
                tree.change(self.shared.next_number(), vec![(cell, Some(file))], false);
                Ok(())
            }
        }
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.shared.tree().lookup(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.shared.tree_mut();
        let dir = tree.lookup_dir(path)?;
        tree.sync_dir(dir);
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        let inode = self.open_inode(path, OpenMode::CreateOrOpen)?;
        if !inode.try_lock() {
            return Err(Errno::WOULDBLOCK.into());
        }
        Ok(Box::new(MemLock(inode)))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.shared.tree().lookup(path)?;
        Ok(DEVICE_BYTES.saturating_sub(self.bytes_used()))
    }
}
