//! [`Versions`]: the one place where edits are applied. Under its lock the manifest is appended to
//! and synced, the version state moves on, and the read state is swapped; in this order, so that
//! nobody ever reads what a crash could take back.

use crate::{
    Result,
    core::Core,
    manifest::ManifestWriter,
    read_state,
    tables::{self, TableHandle, TableStore, VersionState},
    version::VersionEdit,
};
use sluice_base::{CfId, Error, ErrorKind, FileNo};
use sluice_env::sync::{Arc, Mutex, PoisonError};

#[derive(Debug)]
pub(crate) struct Versions(Mutex<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub state: VersionState,
    manifest: ManifestWriter,
    /// Tables of a failed edit that nobody will try again. The torn edit may yet be found whole,
    /// so they stay until a new manifest has settled what happened.
    forsaken: Vec<FileNo>,
    /// No edit is made any more: the directory may belong to somebody else.
    closed: bool,
}

impl Inner {
    /// Brings one family's read state up to date with the version state.
    pub(crate) fn refresh(&self, cf: &mut read_state::CfState) {
        if let Some(state) = self.state.cf(cf.family.id()) {
            cf.version = Arc::clone(&state.version);
            cf.counters = Arc::new(state.counters.clone());
            cf.flushed = state.flushed_seq;
        }
    }
}

impl Versions {
    pub(crate) fn new(state: VersionState, manifest: ManifestWriter) -> Versions {
        Versions(Mutex::new(Inner { state, manifest, forsaken: Vec::new(), closed: false }))
    }

    /// As [`Versions::apply_with`], for an edit that does not depend on the present state.
    pub(crate) fn apply(
        &self,
        core: &Core,
        edit: VersionEdit,
        publish: impl FnOnce(&Inner),
    ) -> Result<()> {
        self.apply_with(core, |_| Ok(edit), publish)
    }

    /// Makes an edit durable, then lets `publish` swap the read state. The edit is made from the
    /// present state under the lock, so nothing can come between the look and the change.
    ///
    /// A failed append leaves the manifest unusable (half an edit may be in it), so the next one
    /// starts a new manifest from the state as it was; the failed edit is then tried again by its
    /// job. Files the edit names stay where they are, because the torn edit may yet be found whole
    /// by a recovery that comes before.
    pub(crate) fn apply_with(
        &self,
        core: &Core,
        edit: impl FnOnce(&VersionState) -> Result<VersionEdit>,
        publish: impl FnOnce(&Inner),
    ) -> Result<()> {
        self.apply_if(core, |state| edit(state).map(Some), publish)
    }

    /// As [`Versions::apply_with`]; the look may also find that there is nothing to change.
    pub(crate) fn apply_if(
        &self,
        core: &Core,
        edit: impl FnOnce(&VersionState) -> Result<Option<VersionEdit>>,
        publish: impl FnOnce(&Inner),
    ) -> Result<()> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.closed {
            return Err(Error::new(ErrorKind::Closed, "the database is closed"));
        }
        let Some(mut edit) = edit(&inner.state)? else { return Ok(()) };
        edit.next_file = Some(core.files.peek());
        let next = inner.state.apply(&edit)?;
        if !inner.manifest.is_usable() || inner.manifest.should_rotate() {
            sluice_env::probe!("manifest: rotated");
            let Inner { state, manifest, forsaken, .. } = &mut *inner;
            manifest.rotate(core.files.next(), state)?;
            forsaken.drain(..).for_each(|file| core.store.discard(file));
        }
        inner.manifest.append(&edit)?;
        let retired = retired(&inner.state, &edit);
        adopt(&next, &edit, &core.store);
        inner.state = next;
        publish(&inner);
        for handle in retired {
            if let Some(file) = handle.table.get() {
                file.retire();
            }
        }
        Ok(())
    }

    /// Shows the present state to `look`, under the lock: no edit comes meanwhile.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&VersionState) -> R) -> R {
        look(&self.0.lock().unwrap_or_else(PoisonError::into_inner).state)
    }

    /// Lets go of tables whose edit failed and is not tried again: at once where the manifest
    /// cannot hold the edit, otherwise when a new one has begun.
    pub(crate) fn forsake(&self, store: &TableStore, files: impl Iterator<Item = FileNo>) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.manifest.is_usable() {
            files.for_each(|file| store.discard(file));
        } else {
            sluice_env::probe!("manifest: a torn edit keeps its files");
            inner.forsaken.extend(files);
        }
    }

    /// Refuses every edit from now on; one under way is waited for. After it the directory can be
    /// unlocked, whatever callers' threads are still at.
    pub(crate) fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    }

    /// Size of the manifest in bytes.
    pub(crate) fn manifest_bytes(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).manifest.bytes()
    }
}

/// Gives the tables that `edit` added their files.
fn adopt(state: &VersionState, edit: &VersionEdit, store: &Arc<TableStore>) {
    for cf_edit in &edit.cfs {
        if let Some(cf) = state.cf(cf_edit.cf) {
            tables::adopt(&cf.version, store);
        }
    }
}

/// The tables of `old` that no version holds once `edit` is applied.
fn retired(old: &VersionState, edit: &VersionEdit) -> Vec<Arc<TableHandle>> {
    let mut handles = Vec::new();
    for cf_edit in &edit.cfs {
        let Some(cf) = old.cf(cf_edit.cf) else { continue };
        let stays = |file: FileNo| cf_edit.added.iter().any(|(_, meta)| meta.file == file);
        for &(level, file) in cf_edit.removed.iter().filter(|(_, file)| !stays(*file)) {
            handles.extend(cf.version.level(level).iter().filter(|h| h.meta.file == file).cloned());
        }
    }
    let dropped = |id: &CfId| old.cf(*id);
    for cf in edit.dropped.iter().filter_map(dropped) {
        handles.extend(cf.version.tables().map(|(_, handle)| Arc::clone(handle)));
    }
    handles
}
