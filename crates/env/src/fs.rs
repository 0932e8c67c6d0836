//! The file system as the engine uses it: positional reads and writes, explicit syncs of data and
//! of directories, and nothing that hides either.
//!
//! Rules every implementation keeps, because the engine's crash safety rests on them:
//! - written bytes survive a crash only after [`File::sync_data`] returned;
//! - a created, renamed or removed name survives a crash only after [`Fs::sync_dir`] on its
//!   directory returned;
//! - [`File::sync_data`] also makes the file's size durable (as `fdatasync` does when it changed).

use std::{fmt, io, path::Path, sync::Arc};

/// How [`Fs::open`] opens a file. Every mode allows reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// The file must exist; writes are refused.
    Read,
    /// The file must exist; reads and writes.
    ReadWrite,
    /// The file must not exist yet; reads and writes.
    CreateNew,
    /// Created when missing, kept as it is when present; reads and writes.
    CreateOrOpen,
}

/// A directory tree.
pub trait Fs: fmt::Debug + Send + Sync {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Creates `path` and its missing parents; not an error when it exists.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The names (not paths) of the entries of a directory, in no particular order.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Moves `from` to `to`, replacing a file there, in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory, which must be empty.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Gives the file at `from` a second name.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Takes an exclusive lock on `path` (created when missing) until the lock is dropped or the
    /// process ends; an error of kind `WouldBlock` when another holder has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>>;

    /// Bytes an unprivileged writer may still use on the device that holds `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// An open file. All methods take `&self`: files are shared between threads.
pub trait File: fmt::Debug + Send + Sync {
    /// Reads at most `buf.len()` bytes at `offset`; 0 only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at most `buf.len()` bytes at `offset`, and says how many. May write fewer.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;

    /// Returns when the file's bytes and size are durable.
    fn sync_data(&self) -> io::Result<()>;

    /// Reserves space for `offset..offset + len` and extends the file to its end; the new bytes
    /// read as zero. An error of kind `StorageFull` leaves the file usable.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Cuts or extends (with zeros) the file to `len` bytes.
    fn set_len(&self, len: u64) -> io::Result<()>;

    fn len(&self) -> io::Result<u64>;

    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buf` from `offset` or fails with `UnexpectedEof`.
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    buf = &mut buf[count..];
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all of `buf` at `offset`, going on after short writes.
    fn write_all_at(&self, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.write_at(buf, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    buf = &buf[count..];
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Holds an exclusive lock until dropped.
pub trait FileLock: fmt::Debug + Send + Sync {}
