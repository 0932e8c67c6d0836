//! The real file system, through rustix: one system call a method wherever the kernel has one.
//!
//! What it is not: it buffers nothing, retries nothing but interrupted calls, adds no context to
//! errors (the caller knows the file's role, the kernel's error keeps its number), and makes nothing
//! durable by itself. In particular [`create_dir_all`](crate::Fs::create_dir_all) syncs no parent.
//!
//! Invariants:
//! - every descriptor is close-on-exec, so a child process inherits neither files nor locks;
//! - offsets go to the kernel unchanged: one beyond `i64::MAX` is the kernel's error, not a panic.

use std::{ffi::OsStr, io, os::fd::OwnedFd, path::Path, sync::Arc};

use rustix::{
    fs::{self, AtFlags, FallocateFlags, FileType, FlockOperation, Mode, OFlags},
    io::{Errno, retry_on_intr},
};

use crate::{File, FileLock, Fs, OpenMode};

/// The operating system's files.
///
/// ```
/// use sluice_env::{DiskFs, Fs, OpenMode};
///
/// let dir = tempfile::tempdir()?;
/// let file = DiskFs.open(&dir.path().join("a"), OpenMode::CreateNew)?;
/// file.write_all_at(b"kept", 0)?;
/// file.sync_data()?; // the bytes are durable
/// DiskFs.sync_dir(dir.path())?; // and now so is the name
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskFs;

#[derive(Debug)]
struct DiskFile {
    fd: OwnedFd,
}

/// The lock belongs to the open file description, which this value alone holds: closing it releases
/// the lock, and so does the end of the process, however it ends.
#[derive(Debug)]
struct DiskLock {
    _fd: OwnedFd,
}

impl FileLock for DiskLock {}

/// Owner may read and write, the group may read; the umask takes away more.
fn file_mode() -> Mode {
    Mode::RUSR | Mode::WUSR | Mode::RGRP
}

fn open_fd(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(retry_on_intr(|| fs::open(path, flags | OFlags::CLOEXEC, file_mode()))?)
}

/// True when the device of this file cannot reserve space; the file may still be extended.
fn cannot_reserve(errno: Errno) -> bool {
    // Linux has one number for both names; other systems do not.
    errno == Errno::OPNOTSUPP || errno == Errno::NOTSUP || errno == Errno::NOSYS
}

impl Fs for DiskFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let flags = match mode {
            OpenMode::Read => OFlags::RDONLY,
            OpenMode::ReadWrite => OFlags::RDWR,
            OpenMode::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            OpenMode::CreateOrOpen => OFlags::RDWR | OFlags::CREATE,
        };
        let fd = open_fd(path, flags)?;
        // The kernel opens a directory for reading and fails at the first read: too late for a
        // caller to tell which path was wrong. The writing modes are refused by the kernel itself.
        if mode == OpenMode::Read
            && FileType::from_raw_mode(fs::fstat(&fd)?.st_mode) == FileType::Directory
        {
            return Err(Errno::ISDIR.into());
        }
        Ok(Arc::new(DiskFile { fd }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        // A name that is not UTF-8 was not made by us. It is shown with replacement characters, so
        // that a caller who reports strange files reports this one too.
        let name = |name: &OsStr| name.to_string_lossy().into_owned();
        std::fs::read_dir(path)?.map(|entry| Ok(name(&entry?.file_name()))).collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(fs::rename(from, to)?)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        Ok(fs::unlink(path)?)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        Ok(fs::rmdir(path)?)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(fs::linkat(fs::CWD, from, fs::CWD, to, AtFlags::empty())?)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let fd = open_fd(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(retry_on_intr(|| fs::fsync(&fd))?)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        // flock and not fcntl: fcntl locks belong to the process, so a second open in the same
        // process would succeed, and closing either descriptor would release both.
        let fd = open_fd(path, OFlags::RDWR | OFlags::CREATE)?;
        retry_on_intr(|| fs::flock(&fd, FlockOperation::NonBlockingLockExclusive))?;
        Ok(Box::new(DiskLock { _fd: fd }))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let fd = open_fd(path, OFlags::RDONLY)?;
        let stat = retry_on_intr(|| fs::fstatvfs(&fd))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

impl File for DiskFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(retry_on_intr(|| rustix::io::pread(&self.fd, &mut *buf, offset))?)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        Ok(retry_on_intr(|| rustix::io::pwrite(&self.fd, buf, offset))?)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::fdatasync(&self.fd))?)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        match retry_on_intr(|| fs::fallocate(&self.fd, FallocateFlags::empty(), offset, len)) {
            Err(errno) if cannot_reserve(errno) => {
                // Some network and overlay file systems. The size is then right and the space is
                // not reserved: a later write may fail with StorageFull, as any write may.
                let end = offset.checked_add(len).ok_or(Errno::FBIG)?;
                if end > self.len()? {
                    self.set_len(end)?;
                }
                Ok(())
            }
            result => Ok(result?),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::ftruncate(&self.fd, len))?)
    }

    fn len(&self) -> io::Result<u64> {
        // A negative size cannot come from a regular file.
        Ok(u64::try_from(fs::fstat(&self.fd)?.st_size).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_in_the_same_process_would_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let held = DiskFs.lock(&path).unwrap();
        assert_eq!(DiskFs.lock(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        DiskFs.lock(&path).unwrap();
    }

    #[test]
    fn allocate_extends_with_zeros_and_keeps_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = DiskFs.open(&dir.path().join("a"), OpenMode::CreateNew).unwrap();
        file.write_all_at(b"head", 0).unwrap();
        file.allocate(0, 1 << 20).unwrap();
        assert_eq!(file.len().unwrap(), 1 << 20);
        let mut buf = [9; 8];
        file.read_exact_at(&mut buf, 0).unwrap();
        assert_eq!(&buf, b"head\0\0\0\0");
    }

    #[test]
    fn absurd_offsets_are_errors_and_not_panics() {
        let dir = tempfile::tempdir().unwrap();
        let file = DiskFs.open(&dir.path().join("a"), OpenMode::CreateNew).unwrap();
        assert!(file.write_at(b"x", u64::MAX).is_err());
        assert!(file.read_at(&mut [0], u64::MAX).is_err());
        assert!(file.allocate(u64::MAX, u64::MAX).is_err());
        assert!(file.set_len(u64::MAX).is_err());
    }

    #[test]
    fn a_directory_is_not_a_file() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [OpenMode::Read, OpenMode::ReadWrite, OpenMode::CreateOrOpen] {
            let error = DiskFs.open(dir.path(), mode).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::IsADirectory, "{mode:?}");
        }
        DiskFs.sync_dir(dir.path()).unwrap();
        assert!(DiskFs.free_bytes(dir.path()).unwrap() > 0);
    }
}
