//! SAVE and BGSAVE: checkpoints of the database in `<dir>/backup`, one at a time, on a thread of
//! their own (`jobs.rs`).
//!
//! A save is made beside the one before and takes its place once it is whole:
//!
//! ```text
//! backup.new   being made (the engine makes it appear whole, by one rename)
//! backup       the last save
//! backup.old   the one before, for the moment in which the two change places
//! ```
//!
//! A crash or an error between the renames leaves `backup.new` or `backup.old` to be put right by
//! [`Saves::settle`], at the start and before the next save removes anything: there is always one
//! whole save once there has been one. Tables are hard links,
//! so a save costs the bytes that are not in tables yet, and later the space of tables that only
//! it holds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::UNIX_EPOCH;

use sluicedb::env::{Clock, Fs};
use sluicedb::{Checkpoint, Db, Position};

use crate::lock;

/// How the last save went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SaveState {
    /// When the one under way began, in monotonic microseconds.
    pub(crate) running_since_us: Option<u64>,
    /// When the last good one was made, in Unix milliseconds; `None`: there is none.
    pub(crate) last_ms: Option<u64>,
    /// What it holds; `None` for one that an earlier process made.
    pub(crate) last_position: Option<Position>,
    /// How long the last attempt took, and whether it was good.
    pub(crate) last_took_us: Option<u64>,
    pub(crate) failed: bool,
    /// Good ones since the start.
    pub(crate) count: u64,
}

#[derive(Debug)]
pub(crate) struct Saves {
    disk: Arc<dyn Fs>,
    dir: PathBuf,
    state: Mutex<SaveState>,
}

impl Saves {
    /// Looks at what there is in the data directory, and ends what a crash interrupted.
    pub(crate) fn open(disk: &Arc<dyn Fs>, dir: &Path) -> io::Result<Saves> {
        let (disk, dir) = (Arc::clone(disk), dir.to_owned());
        let saves = Saves { disk, dir, state: Mutex::default() };
        saves.settle()?;
        if let Ok(made) =
            fs::metadata(saves.path("backup")).and_then(|metadata| metadata.modified())
        {
            let since = made.duration_since(UNIX_EPOCH).unwrap_or_default();
            lock(&saves.state).last_ms = Some(since.as_millis() as u64);
        }
        Ok(saves)
    }

    /// Gives the newest whole save its name, where an interrupted change of places left it none.
    fn settle(&self) -> io::Result<()> {
        let (last, new, old) =
            (self.path("backup"), self.path("backup.new"), self.path("backup.old"));
        if last.exists() {
            return Ok(());
        }
        // The newer one first: both are whole.
        match (new.exists(), old.exists()) {
            (true, _) => fs::rename(&new, &last),
            (false, true) => fs::rename(&old, &last),
            (false, false) => Ok(()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn state(&self) -> SaveState {
        *lock(&self.state)
    }

    /// Begins a save, which counts as under way from here on; `None`: another one is.
    pub(crate) fn begin(self: &Arc<Self>, clock: &dyn Clock) -> Option<Saving> {
        let mut state = lock(&self.state);
        if state.running_since_us.is_some() {
            return None;
        }
        state.running_since_us = Some(clock.monotonic_us());
        Some(Saving(Arc::clone(self)))
    }

    fn make(&self, db: &Db) -> Result<Checkpoint, String> {
        let (last, new, old) =
            (self.path("backup"), self.path("backup.new"), self.path("backup.old"));
        let failed = |what: &str, error: io::Error| format!("{what}: {error}");
        self.settle().map_err(|error| failed("cannot put the last save in its place", error))?;
        // What an attempt that failed after its checkpoint left: older than what comes now.
        remove(&new).map_err(|error| failed("cannot remove an unfinished save", error))?;
        remove(&old).map_err(|error| failed("cannot remove the save before the last", error))?;
        let checkpoint = db.checkpoint(&new).map_err(|error| error.to_string())?;
        if last.exists() {
            fs::rename(&last, &old).map_err(|error| failed("cannot move the last save", error))?;
        }
        fs::rename(&new, &last)
            .map_err(|error| failed("cannot put the new save in place", error))?;
        self.disk
            .sync_dir(&self.dir)
            .map_err(|error| failed("cannot sync the data directory", error))?;
        // The new one is in place: what remains of the old one is only space.
        let _ = remove(&old);
        Ok(checkpoint)
    }
}

/// The one save under way. Its drop ends it, whatever kept it from being made.
#[derive(Debug)]
pub(crate) struct Saving(Arc<Saves>);

impl Saving {
    /// Makes the save. Reads and writes files: not for an event loop. The next one can begin when
    /// this returns.
    pub(crate) fn run(self, db: &Db, clock: &dyn Clock) -> Result<Checkpoint, String> {
        let made = self.0.make(db);
        let mut state = lock(&self.0.state);
        let since_us = state.running_since_us.unwrap_or_default();
        state.last_took_us = Some(clock.monotonic_us().saturating_sub(since_us));
        state.failed = made.is_err();
        if let Ok(checkpoint) = &made {
            state.last_ms = Some(clock.unix_ms());
            state.last_position = Some(checkpoint.position);
            state.count += 1;
        }
        drop(state);
        // Behind the outcome: whoever sees the end sees what came of it.
        drop(self);
        made
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        lock(&self.0.state).running_since_us = None;
    }
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a crash at any point of the change of places, the newest whole save is found.
    #[test]
    fn an_interrupted_change_of_places_is_ended() {
        let disk: Arc<dyn Fs> = Arc::new(sluicedb::env::DiskFs);
        for (left, kept) in [
            (&["backup"][..], "backup"),
            (&["backup", "backup.new"], "backup"),
            (&["backup.old", "backup.new"], "backup.new"),
            (&["backup.old"], "backup.old"),
            (&["backup", "backup.old"], "backup"),
        ] {
            let dir = tempfile::tempdir().expect("a directory");
            for name in left {
                fs::create_dir(dir.path().join(name)).expect("made");
                fs::write(dir.path().join(name).join("which"), name).expect("written");
            }
            let saves = Saves::open(&disk, dir.path()).expect("opened");
            let which = fs::read_to_string(dir.path().join("backup/which")).expect("a save");
            assert_eq!(which, kept, "{left:?}");
            assert!(saves.state().last_ms.is_some());
        }
        let empty = tempfile::tempdir().expect("a directory");
        assert_eq!(Saves::open(&disk, empty.path()).expect("opened").state(), SaveState::default());
    }

    /// What an error between the renames left is the only save there is: a later attempt that fails
    /// does not take it away.
    #[test]
    fn a_save_without_its_name_survives_a_later_failure() {
        let disk: Arc<dyn Fs> = Arc::new(sluicedb::env::DiskFs);
        let dir = tempfile::tempdir().expect("a directory");
        let saves = Arc::new(Saves::open(&disk, dir.path()).expect("opened"));
        for name in ["backup.old", "backup.new"] {
            fs::create_dir(dir.path().join(name)).expect("made");
            fs::write(dir.path().join(name).join("which"), name).expect("written");
        }
        let db = Db::open(dir.path().join("db"), sluicedb::Options::default()).expect("opened");
        db.close(false).expect("closed");
        let clock = sluicedb::env::Env::os().clock;
        let saving = saves.begin(&*clock).expect("none is under way");
        assert!(saves.begin(&*clock).is_none(), "one at a time");
        saving.run(&db, &*clock).expect_err("the database is closed");
        let kept = fs::read_to_string(dir.path().join("backup/which")).expect("a save");
        assert_eq!(kept, "backup.new");
        assert!(saves.state().failed && saves.begin(&*clock).is_some(), "it ended");
    }
}
