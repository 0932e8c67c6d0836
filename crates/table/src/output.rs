//! The file under a [`crate::TableWriter`]: bytes collect in a buffer and go out in large writes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use sluice_base::{Error, Result};
use sluice_env::File;

use crate::{envelope::Sealer, index::Handle};

/// Output is written in pieces of at least this many bytes.
const WRITE_BYTES: usize = 512 << 10;

/// The file behind a buffer.
#[derive(Debug)]
pub struct Output {
    file: Arc<dyn File>,
    pub path: PathBuf,
    /// What comes next; appended to directly, written by the methods.
    pub buffer: Vec<u8>,
    /// Bytes in the file.
    pub written: u64,
}

impl Output {
    pub fn new(file: Arc<dyn File>, path: &Path) -> Output {
        Output { file, path: path.to_owned(), buffer: Vec::new(), written: 0 }
    }

    /// Where the next byte goes.
    pub fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    pub fn append(&mut self, sealer: &mut Sealer, payload: &[u8]) -> Handle {
        let offset = self.position();
        let bytes = sealer.seal(payload, &mut self.buffer) as u64;
        Handle { offset, bytes }
    }

    pub fn flush_if_large(&mut self) -> Result<()> {
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    pub fn flush(&mut self) -> Result<()> {
        write(&*self.file, &self.path, &self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes `bytes` behind what is buffered, without a copy.
    pub fn write_through(&mut self, bytes: &[u8]) -> Result<()> {
        self.flush()?;
        write(&*self.file, &self.path, bytes, self.written)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    pub fn sync(&self) -> Result<()> {
        self.file
            .sync_data()
            .map_err(|error| Error::io(format!("sync table {}", self.path.display()), error))
    }
}

fn write(file: &dyn File, path: &Path, bytes: &[u8], offset: u64) -> Result<()> {
    file.write_all_at(bytes, offset)
        .map_err(|error| Error::io(format!("write table {}", path.display()), error))
}
