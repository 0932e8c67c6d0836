//! Open files of a [`FaultFs`]: where reads and writes are cut and torn.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{FaultFs, Op, rule::Effect, space::Weight};
use crate::File;

#[derive(Debug)]
pub(super) struct FaultFile {
    pub fs: FaultFs,
    pub path: PathBuf,
    pub inner: Arc<dyn File>,
    pub weight: Arc<Weight>,
}

impl FaultFile {
    fn run<T>(&self, op: Op, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.fs.run(op, &[&self.path], call)
    }

    fn judge(&self, op: Op) -> io::Result<Effect> {
        let path: &Path = &self.path;
        self.fs.plan.judge(op, &[path])
    }

    /// Writes what there is room for.
    fn write_weighed(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.weight.write(offset, buf.len(), |fits| self.inner.write_at(&buf[..fits], offset))
    }

    fn write_all_weighed(&self, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            let written = self.write_weighed(buf, offset)?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            buf = &buf[written..];
            offset += written as u64;
        }
        Ok(())
    }
}

impl File for FaultFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.judge(Op::Read)? {
            Effect::Pass => self.inner.read_at(buf, offset),
            Effect::Short(bytes) => {
                let bytes = bytes.min(buf.len());
                self.inner.read_at(&mut buf[..bytes], offset)
            }
            Effect::Fail(failure) | Effect::FailAfter(failure) | Effect::Torn(_, failure) => {
                Err(failure.error())
            }
        }
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        match self.judge(Op::Write)? {
            Effect::Pass => self.write_weighed(buf, offset),
            Effect::Short(bytes) => self.write_weighed(&buf[..bytes.min(buf.len())], offset),
            Effect::Fail(failure) => Err(failure.error()),
            Effect::FailAfter(failure) => {
                self.write_all_weighed(buf, offset)?;
                Err(failure.error())
            }
            Effect::Torn(bytes, failure) => {
                self.write_all_weighed(&buf[..bytes.min(buf.len())], offset)?;
                Err(failure.error())
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.run(Op::SyncData, || self.inner.sync_data())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let end = offset.saturating_add(len);
        self.run(Op::Allocate, || self.weight.grow_to(end, || self.inner.allocate(offset, len)))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.run(Op::SetLen, || self.weight.set_len(len, || self.inner.set_len(len)))
    }

    fn len(&self) -> io::Result<u64> {
        self.run(Op::Len, || self.inner.len())
    }
}
