//! `CURRENT`: a small text file that names the live manifest.
//!
//! ```text
//!   MANIFEST-000012\n
//!   crc32c 1a2b3c4d\n        of the line before, without its newline
//! ```
//! The second line keeps a flipped digit from naming some other, older manifest that happens to
//! exist. The file is replaced by rename, never written in place.

use std::path::Path;

use sluice_base::{Error, FileNo, Result, checksum};
use sluice_env::{Fs, OpenMode};

use super::FileName;

/// Longer than any `CURRENT`: the longest file number has 20 digits.
const CURRENT_BYTES_MAX: usize = 64;

fn text(manifest: FileNo) -> String {
    let name = FileName::Manifest(manifest).to_string();
    format!("{name}\ncrc32c {:08x}\n", checksum::crc32c(name.as_bytes()))
}

/// The manifest that `CURRENT` names; `None` when there is no such file.
pub(super) fn read_current(fs: &dyn Fs, dir: &Path) -> Result<Option<FileNo>> {
    let path = dir.join(FileName::Current.to_string());
    let io = |error| Error::io(format!("read {}", path.display()), error);
    if !fs.exists(&path).map_err(io)? {
        return Ok(None);
    }
    let file = fs.open(&path, OpenMode::Read).map_err(io)?;
    let mut buf = [0; CURRENT_BYTES_MAX];
    let len = usize::try_from(file.len().map_err(io)?).unwrap_or(usize::MAX).min(buf.len());
    file.read_exact_at(&mut buf[..len], 0).map_err(io)?;
    let found = &buf[..len];
    let named = std::str::from_utf8(found).ok().and_then(|text| {
        match FileName::parse(text.lines().next()?)? {
            FileName::Manifest(no) => Some(no),
            _ => None,
        }
    });
    match named {
        Some(no) if text(no).as_bytes() == found => Ok(Some(no)),
        _ => Err(Error::corruption(
            &path,
            0,
            "the name of a manifest and its checksum",
            format!("\"{}\"", found.escape_ascii()),
        )),
    }
}

/// Writes and syncs the next `CURRENT` under its temporary name. Changes nothing that matters.
pub(super) fn prepare_current(fs: &dyn Fs, dir: &Path, manifest: FileNo) -> Result<()> {
    let path = dir.join(FileName::CurrentTmp.to_string());
    let io = |error| Error::io(format!("write {}", path.display()), error);
    let file = fs.open(&path, OpenMode::CreateOrOpen).map_err(io)?;
    let text = text(manifest);
    // Whatever a crash has left here must not stick out behind the new text.
    file.set_len(0).map_err(io)?;
    file.write_all_at(text.as_bytes(), 0).map_err(io)?;
    file.sync_data().map_err(io)
}

/// Moves the prepared text over `CURRENT` and makes that durable. After an error either manifest
/// may be the one that a crash leaves named.
pub(super) fn switch_current(fs: &dyn Fs, dir: &Path) -> Result<()> {
    let from = dir.join(FileName::CurrentTmp.to_string());
    let to = dir.join(FileName::Current.to_string());
    let io = |error| Error::io(format!("switch {}", to.display()), error);
    fs.rename(&from, &to).map_err(io)?;
    fs.sync_dir(dir).map_err(io)
}
