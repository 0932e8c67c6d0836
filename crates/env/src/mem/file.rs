//! Open files of a [`MemFs`](super::MemFs), with the answers Linux gives: short reads only at the
//! end, the kernel's error numbers for a write through a read-only handle or past the largest
//! offset.
//!
//! A handle keeps its inode alive after the last name is gone, and stays with the file system it
//! was opened on: a crash clone never sees what an old handle writes.

use std::{fmt, io, sync::Arc};

use rustix::io::Errno;

use super::{
    Shared,
    inode::{Change, Inode},
};
use crate::{File, FileLock};

pub(super) struct MemFile {
    pub shared: Arc<Shared>,
    pub inode: Arc<Inode>,
    pub writable: bool,
}

/// Linux counts file offsets in a signed 64-bit integer.
const OFFSET_MAX: u64 = i64::MAX as u64;

fn end_of(offset: u64, len: u64, too_big: Errno) -> io::Result<u64> {
    offset.checked_add(len).filter(|&end| end <= OFFSET_MAX).ok_or_else(|| too_big.into())
}

impl MemFile {
    fn change(&self, change: Change) {
        let _tree = self.shared.tree();
        let mut state = self.inode.state();
        state.apply(self.shared.next_number(), change);
    }

    fn check_writable(&self, otherwise: Errno) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(otherwise.into()) }
    }
}

impl File for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset > OFFSET_MAX {
            return Err(Errno::INVAL.into());
        }
        Ok(self.inode.state().live.read(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.check_writable(Errno::BADF)?;
        end_of(offset, buf.len() as u64, Errno::INVAL)?;
        if !buf.is_empty() {
            self.change(Change::Write { offset, data: buf.into() });
        }
        Ok(buf.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        let _tree = self.shared.tree();
        let mut state = self.inode.state();
        if self.shared.loses_this_sync() {
            state.lose();
            return Err(Errno::IO.into());
        }
        state.sync();
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Err(Errno::INVAL.into());
        }
        self.check_writable(Errno::BADF)?;
        self.change(Change::Grow(end_of(offset, len, Errno::FBIG)?));
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable(Errno::INVAL)?;
        self.change(Change::SetLen(end_of(0, len, Errno::INVAL)?));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.inode.state().live.len())
    }
}

impl fmt::Debug for MemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemFile").field("inode", &self.inode.id).finish_non_exhaustive()
    }
}

/// Unlocks when dropped.
pub(super) struct MemLock(pub Arc<Inode>);

impl FileLock for MemLock {}

impl fmt::Debug for MemLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemLock").field(&self.0.id).finish()
    }
}

impl Drop for MemLock {
    fn drop(&mut self) {
        self.0.unlock();
    }
}
