//! Writes manifests: a new one with a snapshot, then one synced frame for each edit.
//!
//! ```text
//!   usable ──append ok──▶ usable
//!     │ append fails                      the failed edit is in doubt: the file may or may not
//!     ▼                                   hold it after a crash
//!   broken ──append──▶ refused
//!     │ rotate ok
//!     ▼
//!   usable, in a new file
//! ```
//! Rotation, step by step, and what a crash after each step leaves:
//! 1. `MANIFEST-new` with header and snapshot, synced; directory synced. Old file is live.
//! 2. `CURRENT.tmp` written and synced. Old file is live.
//! 3. Rename over `CURRENT`. Either is live, and both say the same.
//! 4. Directory synced. New file is live.
//! 5. Other manifests removed, best effort: an open removes what is left.
//!
//! A failure up to step 2 leaves the writer as it was. A failure in step 3 or 4 breaks it: which
//! file `CURRENT` will name after a crash is unknown, so an append to either could be lost.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use sluice_base::{Error, ErrorKind, FileNo, Result, limits};
use sluice_env::{File, Fs, OpenMode};

use super::{
    FileName,
    current::{prepare_current, switch_current},
    edit_codec::put_edit,
    frame::{FILE_HEADER_BYTES, FORMAT, FrameKind, file_header, put_frame},
    snapshot::snapshot_edits,
};
use crate::version::{VersionEdit, VersionState};

/// A manifest is rewritten once its edits take this many times the bytes of its snapshot…
const ROTATE_RATIO: u64 = 4;
/// …but not before they take this much: small databases would rotate all the time.
const ROTATE_BYTES_MIN: u64 = 1 << 20;

/// Appends edits to the live manifest. One owner, who orders the appends.
pub struct ManifestWriter {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    live: LiveFile,
    /// Set while something is under way whose failure would leave the file's end unknown, and kept
    /// by that failure.
    is_broken: bool,
}

struct LiveFile {
    no: FileNo,
    file: Arc<dyn File>,
    /// Where the next frame goes.
    end: u64,
    snapshot_bytes: u64,
}

impl ManifestWriter {
    /// Starts manifest `file` in `dir` with a snapshot of `state`, makes it the live one and
    /// removes all others. Every opening of a database begins like this: a file whose tail was
    /// torn by a crash is never appended to.
    pub fn create<T>(
        fs: Arc<dyn Fs>,
        dir: &Path,
        file: FileNo,
        state: &VersionState<T>,
    ) -> Result<ManifestWriter> {
        let live = write_snapshot(&*fs, dir, file, state)?;
        prepare_current(&*fs, dir, file)?;
        switch_current(&*fs, dir)?;
        remove_other_manifests(&*fs, dir, file);
        Ok(ManifestWriter { fs, dir: dir.to_owned(), live, is_broken: false })
    }

    /// Makes `edit` durable. After an error of kind [`ErrorKind::Invalid`] (the edit is too large)
    /// nothing was written; after any other error the edit is in doubt and every further append is
    /// refused until [`ManifestWriter::rotate`] succeeds.
    pub fn append(&mut self, edit: &VersionEdit) -> Result<()> {
        if self.is_broken {
            return Err(Error::new(
                ErrorKind::ReadOnly,
                format!("{} takes no more edits after a failed write", self.name()),
            ));
        }
        let frame = frame(self.live.no, self.live.end, FrameKind::Edit, edit)?;
        self.is_broken = true;
        let io = |error| Error::io(format!("append to {}", self.name()), error);
        self.live.file.write_all_at(&frame, self.live.end).map_err(io)?;
        self.live.file.sync_data().map_err(io)?;
        self.live.end += frame.len() as u64;
        self.is_broken = false;
        Ok(())
    }

    /// Replaces the live manifest by a new one, `file`, that begins with a snapshot of `state`.
    /// `file` must be a number never used before, not even by a rotation that failed. Success
    /// makes a broken writer usable again and settles every edit in doubt: what is in `state`
    /// happened, what is not did not.
    pub fn rotate<T>(&mut self, file: FileNo, state: &VersionState<T>) -> Result<()> {
        let prepared = write_snapshot(&*self.fs, &self.dir, file, state).and_then(|live| {
            prepare_current(&*self.fs, &self.dir, file)?;
            Ok(live)
        });
        let live = prepared.inspect_err(|_| {
            // Best effort: nothing names it, and the next open removes it too.
            drop(self.fs.remove_file(&manifest_path(&self.dir, file)));
        })?;
        self.is_broken = true;
        switch_current(&*self.fs, &self.dir)?;
        self.live = live;
        self.is_broken = false;
        remove_other_manifests(&*self.fs, &self.dir, file);
        Ok(())
    }

    /// True when the edits have outgrown the snapshot enough to be worth a rotation.
    pub fn should_rotate(&self) -> bool {
        let edits = self.live.end - self.live.snapshot_bytes;
        edits > ROTATE_BYTES_MIN.max(self.live.snapshot_bytes.saturating_mul(ROTATE_RATIO))
    }

    /// False after a failed append or switch, until a rotation succeeds.
    pub fn is_usable(&self) -> bool {
        !self.is_broken
    }

    /// The number of the live manifest.
    #[cfg(test)]
    pub fn file_no(&self) -> FileNo {
        self.live.no
    }

    /// The size of the live manifest.
    pub fn bytes(&self) -> u64 {
        self.live.end
    }

    fn name(&self) -> FileName {
        FileName::Manifest(self.live.no)
    }
}

impl fmt::Debug for ManifestWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes", self.name(), self.live.end)?;
        f.write_str(if self.is_broken { ", broken)" } else { ")" })
    }
}

fn manifest_path(dir: &Path, file: FileNo) -> PathBuf {
    dir.join(FileName::Manifest(file).to_string())
}

/// The frame of `edit` at `end` of manifest `file`.
fn frame(file: FileNo, end: u64, kind: FrameKind, edit: &VersionEdit) -> Result<Vec<u8>> {
    let mut payload = vec![kind as u8];
    put_edit(&mut payload, edit);
    if payload.len() > limits::MANIFEST_EDIT_BYTES_MAX {
        return Err(Error::invalid(format!(
            "a manifest edit of {} bytes is over the limit of {}",
            payload.len(),
            limits::MANIFEST_EDIT_BYTES_MAX
        )));
    }
    let mut out = Vec::with_capacity(payload.len() + 16);
    put_frame(&mut out, file, end, &payload);
    Ok(out)
}

/// Writes a new manifest that nothing names yet, and makes its bytes and its name durable.
fn write_snapshot<T>(
    fs: &dyn Fs,
    dir: &Path,
    no: FileNo,
    state: &VersionState<T>,
) -> Result<LiveFile> {
    let path = manifest_path(dir, no);
    let io = |error| Error::io(format!("write {}", path.display()), error);
    let file = fs.open(&path, OpenMode::CreateNew).map_err(io)?;
    file.write_all_at(&file_header(no, FORMAT), 0).map_err(io)?;
    let mut end = FILE_HEADER_BYTES as u64;
    let edits = snapshot_edits(state, no);
    for (index, edit) in edits.iter().enumerate() {
        let is_last = index + 1 == edits.len();
        let kind = if is_last { FrameKind::SnapshotEnd } else { FrameKind::SnapshotPart };
        let frame = frame(no, end, kind, edit)?;
        file.write_all_at(&frame, end).map_err(io)?;
        end += frame.len() as u64;
    }
    file.sync_data().map_err(io)?;
    fs.sync_dir(dir).map_err(io)?;
    Ok(LiveFile { no, file, end, snapshot_bytes: end })
}

/// Removes every manifest but `live`, as far as it goes. Only called once `CURRENT` durably names
/// `live`, so that nothing needs the others; what stays behind is removed by the next call.
fn remove_other_manifests(fs: &dyn Fs, dir: &Path, live: FileNo) {
    for name in fs.read_dir(dir).unwrap_or_default() {
        let is_other = match FileName::parse(&name) {
            Some(FileName::Manifest(no)) => no != live,
            Some(FileName::CurrentTmp) => true,
            _ => false,
        };
        if is_other {
            drop(fs.remove_file(&dir.join(name)));
        }
    }
}
