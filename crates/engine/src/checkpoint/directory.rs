//! Writes the directory of a checkpoint.
//!
//! 1. `<dir>.tmp-checkpoint` is made beside `<dir>`, locked by its `LOCK` file as an open database
//!    is, and cleared of what an earlier attempt left there.
//! 2. Every table gets a second name in it. Tables are never written to after their install, and
//!    a name that is removed takes nothing from the other: the two databases may share the bytes.
//!    Where the file system makes no link, the bytes are copied and synced.
//! 3. A manifest that begins with the captured state, and `CURRENT`; both and their names synced.
//! 4. The directory is renamed to `<dir>`, and the parent synced.
//!
//! A crash leaves `<dir>` whole or not at all, and perhaps the temporary directory, which the next
//! checkpoint to the same place clears. An error leaves neither: a rename that may have happened is
//! undone, durably, before the first file is removed.
//!
//! The copy has no log. Its manifest asks for none (`log_first` 0), so that an opening does not
//! miss the segments that the original needs; everything else is as captured.

use crate::{
    Result,
    manifest::{FileName, ManifestWriter},
    tables::{TableStore, VersionState},
};
use sluice_base::{Error, ErrorKind, FileNo};
use sluice_env::{FileLock, Fs, OpenMode};
use std::{
    ffi::OsString,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What the name gets behind it while the directory is not complete.
const SUFFIX: &str = ".tmp-checkpoint";

/// Bytes copied at once; between two of these the end of the database is noticed.
const COPY_BYTES: u64 = 1 << 20;

/// Where a checkpoint goes.
#[derive(Debug, Clone)]
pub(super) struct Place {
    dir: PathBuf,
    parent: PathBuf,
    /// The directory before it is complete.
    tmp: PathBuf,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dir.display().fmt(f)
    }
}

impl Place {
    /// Refuses a path that names no new directory.
    pub(super) fn new(dir: &Path) -> Result<Place> {
        let Some(name) = dir.file_name() else {
            return Err(Error::invalid(format!(
                "a checkpoint needs the path of a new directory, not '{}'",
                dir.display()
            )));
        };
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut tmp = OsString::from(name);
        tmp.push(SUFFIX);
        Ok(Place { dir: parent.join(name), tmp: parent.join(tmp), parent })
    }

    /// Refuses a directory that is there, and one that cannot be made.
    pub(super) fn check(&self, fs: &dyn Fs) -> Result<()> {
        let look =
            |path: &Path| fs.exists(path).map_err(|e| Error::io(format!("look for {self}"), e));
        if look(&self.dir)? {
            return Err(Error::new(
                ErrorKind::Exists,
                format!("{self} exists already: a checkpoint makes its directory itself"),
            ));
        }
        if !look(&self.parent)? {
            let parent = self.parent.display();
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("there is no directory {parent}: make it before the checkpoint"),
            ));
        }
        Ok(())
    }
}

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub bytes: u64,
    pub linked: u64,
    pub copied: u64,
}

/// Writes the tables of `state` and a manifest of it. `stopping` ends it with `Closed`.
pub(super) fn write(
    store: &TableStore,
    place: &Place,
    state: &VersionState,
    stopping: &dyn Fn() -> bool,
) -> Result<Written> {
    let fs = &store.fs;
    place.check(&**fs)?;
    // Held until the copy is whole: two processes that write to one place would spoil it.
    let lock = prepare(&**fs, place)?;
    let filled = fill(store, place, state, stopping).inspect_err(|_| clear_away(&**fs, place));
    let outcome = filled.and_then(|written| publish(&**fs, place).map(|()| written));
    drop(lock);
    outcome
}

/// Makes the temporary directory, locks it, and empties it.
fn prepare(fs: &dyn Fs, place: &Place) -> Result<Box<dyn FileLock>> {
    let shown = place.tmp.display();
    let lock = fs
        .create_dir_all(&place.tmp)
        .map_err(|error| Error::io(format!("create {shown}"), error))
        .and_then(|()| {
            fs.lock(&place.tmp.join(FileName::Lock.to_string())).map_err(|error| {
                match error.kind() {
                    io::ErrorKind::WouldBlock => Error::new(
                        ErrorKind::Locked,
                        format!("another process writes a checkpoint in {shown}"),
                    ),
                    _ => Error::io(format!("lock {shown}"), error),
                }
            })
        });
    let lock = lock.inspect_err(|_| {
        // Empty, or somebody else's: only then does it stay.
        drop(fs.remove_dir(&place.tmp));
    })?;
    match empty(fs, &place.tmp) {
        Ok(()) => Ok(lock),
        Err(error) => {
            clear_away(fs, place);
            Err(error)
        }
    }
}

/// Removes what an unfinished checkpoint left in `tmp`, but for the lock. Removes nothing when
/// there is a file that no checkpoint makes.
fn empty(fs: &dyn Fs, tmp: &Path) -> Result<()> {
    let shown = tmp.display();
    let names = fs.read_dir(tmp).map_err(|e| Error::io(format!("list {shown}"), e))?;
    let is_ours = |name: &&String| match FileName::parse(name) {
        Some(FileName::Wal(_) | FileName::Reserve) | None => false,
        Some(_) => true,
    };
    if let Some(name) = names.iter().find(|name| !is_ours(name)) {
        return Err(Error::new(
            ErrorKind::Exists,
            format!("{shown} holds {name}, which is of no checkpoint: move the directory away"),
        ));
    }
    for name in names.iter().filter(|name| FileName::parse(name) != Some(FileName::Lock)) {
        sluice_env::probe!("checkpoint: leftovers were cleared away");
        fs.remove_file(&tmp.join(name)).map_err(|e| Error::io(format!("clear {shown}"), e))?;
    }
    Ok(())
}

/// Removes the temporary directory, as far as it goes: what stays is cleared by the next attempt.
fn clear_away(fs: &dyn Fs, place: &Place) {
    if empty(fs, &place.tmp).is_ok() {
        drop(fs.remove_file(&place.tmp.join(FileName::Lock.to_string())));
        drop(fs.remove_dir(&place.tmp));
    }
}

/// Steps 2 and 3.
fn fill(
    store: &TableStore,
    place: &Place,
    state: &VersionState,
    stopping: &dyn Fn() -> bool,
) -> Result<Written> {
    let mut written = Written::default();
    for (_, handle) in state.cfs.values().flat_map(|cf| cf.version.tables()) {
        check_running(stopping)?;
        let (file, bytes) = (handle.meta.file, handle.meta.bytes);
        let from = store.path(file);
        let to = place.tmp.join(FileName::Table(file).to_string());
        match store.fs.hard_link(&from, &to) {
            Ok(()) => written.linked += 1,
            Err(error) if makes_no_links(&error) => {
                sluice_env::probe!("checkpoint: a table was copied, not linked");
                copy(&*store.fs, &from, &to, bytes, stopping)?;
                written.copied += 1;
            }
            Err(error) => return Err(Error::io(format!("link table {file}"), error)),
        }
        written.bytes += bytes;
    }
    let manifest = state.next_file;
    let state = VersionState {
        log_first: FileNo(0),
        next_file: FileNo(manifest.0.saturating_add(1)),
        ..state.clone()
    };
    // It syncs the directory as well, and with it the names of the tables.
    ManifestWriter::create(Arc::clone(&store.fs), &place.tmp, manifest, &state)?;
    Ok(written)
}

fn check_running(stopping: &dyn Fn() -> bool) -> Result<()> {
    if stopping() {
        return Err(Error::new(
            ErrorKind::Closed,
            "the database closed before the checkpoint was done",
        ));
    }
    Ok(())
}

/// Another device, a file system without hard links, or too many of one file.
fn makes_no_links(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::CrossesDevices
            | io::ErrorKind::Unsupported
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::TooManyLinks
    )
}

/// Copies and syncs one table. Its blocks carry their checksums, so damage that was there is found
/// in the copy as it would be in the original.
fn copy(
    fs: &dyn Fs,
    from: &Path,
    to: &Path,
    bytes: u64,
    stopping: &dyn Fn() -> bool,
) -> Result<()> {
    let reading = |error| Error::io(format!("read {}", from.display()), error);
    let writing = |error| Error::io(format!("write {}", to.display()), error);
    let source = fs.open(from, OpenMode::Read).map_err(reading)?;
    let found = source.len().map_err(reading)?;
    if found != bytes {
        return Err(Error::corruption(
            from,
            0,
            format!("a table of {bytes} bytes"),
            format!("{found} bytes"),
        ));
    }
    let target = fs.open(to, OpenMode::CreateNew).map_err(writing)?;
    let mut buf = vec![0; COPY_BYTES.min(bytes) as usize];
    let mut offset = 0;
    while offset < bytes {
        check_running(stopping)?;
        let part = &mut buf[..COPY_BYTES.min(bytes - offset) as usize];
        source.read_exact_at(part, offset).map_err(reading)?;
        target.write_all_at(part, offset).map_err(writing)?;
        offset += part.len() as u64;
    }
    target.sync_data().map_err(writing)
}

/// Step 4; clears away what it could not finish.
fn publish(fs: &dyn Fs, place: &Place) -> Result<()> {
    // Somebody may have made it meanwhile: an empty one would be replaced in silence.
    place.check(fs).inspect_err(|_| clear_away(fs, place))?;
    let moved = fs
        .rename(&place.tmp, &place.dir)
        .map_err(|error| Error::io(format!("rename to {place}"), error))
        .and_then(|()| {
            let parent = place.parent.display();
            fs.sync_dir(&place.parent).map_err(|e| Error::io(format!("sync {parent}"), e))
        });
    moved.map_err(|error| match undo(fs, place) {
        Ok(()) => {
            clear_away(fs, place);
            error
        }
        Err(undo) => error.context(format_args!(
            "{place} or {} may be there after a power cut, whole, and can be removed; taking it \
             back failed: {undo}",
            place.tmp.display()
        )),
    })
}

/// Takes back a rename that may have happened although the call failed. Durably: the files must
/// not begin to go while a crash could still show the final name.
fn undo(fs: &dyn Fs, place: &Place) -> io::Result<()> {
    if fs.exists(&place.tmp)? || !fs.exists(&place.dir)? {
        return Ok(());
    }
    sluice_env::probe!("checkpoint: a rename was taken back");
    fs.rename(&place.dir, &place.tmp)?;
    fs.sync_dir(&place.parent)
}
