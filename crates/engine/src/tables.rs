//! Tables as the running engine holds them: opened when first needed, deleted when nobody reads
//! them any more.

use crate::{
    Compression, Options, Result,
    manifest::FileName,
    schemas::{Registry, WHOLE_KEY},
    version::{self, InternalKey, TableMeta},
};
use sluice_base::{Error, FileNo, SeqNo, Trailer};
use sluice_env::{
    Fs,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use sluice_table::{BlockCache, KeySchema, Table};
use std::path::{Path, PathBuf};

/// A table of a version, with its file.
pub(crate) type TableHandle = version::TableHandle<TableFile>;
/// The tables of one family.
pub(crate) type CfVersion = version::CfVersion<TableFile>;
/// All families.
pub(crate) type VersionState = version::VersionState<TableFile>;

/// Where tables live and what they share.
#[derive(Debug)]
pub(crate) struct TableStore {
    pub fs: Arc<dyn Fs>,
    pub dir: PathBuf,
    pub cache: Arc<BlockCache>,
    /// The key schemas that tables may be under.
    pub schemas: Registry,
    /// Files that nothing refers to any more. Deleted by the background, so that the reader that
    /// happened to be the last does no file operation.
    garbage: Mutex<Vec<FileNo>>,
}

impl TableStore {
    pub(crate) fn new(fs: Arc<dyn Fs>, dir: &Path, options: &Options) -> Result<Arc<TableStore>> {
        let cache = BlockCache::new(options.block_cache_bytes());
        let schemas = Registry::new(&options.key_splitters)?;
        let (dir, garbage) = (dir.to_owned(), Mutex::default());
        Ok(Arc::new(TableStore { fs, dir, cache, schemas, garbage }))
    }

    pub(crate) fn path(&self, file: FileNo) -> PathBuf {
        self.dir.join(FileName::Table(file).to_string())
    }

    /// The key schema that a table itself says it is under.
    pub(crate) fn read_schema(&self, file: FileNo) -> Result<KeySchema> {
        let table = Table::open(&self.fs, &self.path(file), file, &self.cache)?;
        KeySchema::from_descriptor(table.properties().schema.clone())
    }

    /// Queues `file` for deletion.
    pub(crate) fn discard(&self, file: FileNo) {
        self.garbage.lock().unwrap_or_else(PoisonError::into_inner).push(file);
    }

    /// Deletes what was queued; says whether there was anything. A file that cannot be deleted is
    /// tried again at the next opening, which removes every table the manifest does not name.
    pub(crate) fn collect_garbage(&self) -> bool {
        let files =
            std::mem::take(&mut *self.garbage.lock().unwrap_or_else(PoisonError::into_inner));
        for &file in &files {
            let _ = self.fs.remove_file(&self.path(file));
        }
        !files.is_empty()
    }
}

/// One table file of a version.
#[derive(Debug)]
pub(crate) struct TableFile {
    file: FileNo,
    store: Arc<TableStore>,
    opened: OnceLock<Arc<Table>>,
    /// No version that is current or to come holds it: the last reader discards the file.
    obsolete: AtomicBool,
}

impl TableFile {
    pub(crate) fn new(file: FileNo, store: &Arc<TableStore>) -> TableFile {
        TableFile {
            file,
            store: Arc::clone(store),
            opened: OnceLock::new(),
            obsolete: AtomicBool::new(false),
        }
    }

    /// The opened table, which must be the one of `meta`. Two readers may open it at the same time;
    /// one of the two is kept.
    #[inline]
    fn open(&self, meta: &TableMeta) -> Result<&Arc<Table>> {
        match self.opened.get() {
            Some(table) => Ok(table),
            None => self.open_slow(meta),
        }
    }

    #[cold]
    fn open_slow(&self, meta: &TableMeta) -> Result<&Arc<Table>> {
        let path = self.store.path(self.file);
        let mut table = Table::open(&self.store.fs, &path, self.file, &self.store.cache)?;
        check_identity(&table, meta)?;
        let schema = self.store.schemas.get(meta.schema)?;
        check_schema(&table, meta, &schema)?;
        table.share_schema(&schema);
        Ok(self.opened.get_or_init(|| Arc::new(table)))
    }

    /// Bytes of index and filter held in memory; 0 until the table is opened.
    pub(crate) fn pinned_bytes(&self) -> u64 {
        self.opened.get().map_or(0, |table| table.pinned_bytes() as u64)
    }

    pub(crate) fn retire(&self) {
        self.obsolete.store(true, Ordering::Release);
    }
}

impl Drop for TableFile {
    fn drop(&mut self) {
        if self.obsolete.load(Ordering::Acquire) {
            self.store.discard(self.file);
        }
    }
}

/// Refuses a sound table that is not the one the manifest means: put there by a restore from two
/// backups, by a script that renames. Its blocks verify, and its data are wrong.
fn check_identity(table: &Table, meta: &TableMeta) -> Result<()> {
    let found = table.properties();
    let bound = |(key, trailer): &(Vec<u8>, Trailer)| InternalKey::new(&key[..], *trailer);
    let facts = |file: FileNo, bytes, entries, tombstones, seqs: (SeqNo, SeqNo)| {
        format!(
            "table {file} of {bytes} bytes with {entries} entries, {tombstones} of them tombstones, \
             of sequence numbers {} to {}",
            seqs.0, seqs.1
        )
    };
    let seqs = (meta.min_seq, meta.max_seq);
    let wanted = facts(meta.file, meta.bytes, meta.entries, meta.tombstones, seqs);
    let seqs = (found.seq_min, found.seq_max);
    let here = (table.file_bytes(), found.entries, found.tombstones);
    let here = facts(found.file_no, here.0, here.1, here.2, seqs);
    let bounds = bound(&found.smallest) == meta.smallest && bound(&found.largest) == meta.largest;
    if here == wanted && bounds {
        return Ok(());
    }
    let wanted = format!("{wanted}, from {:?} to {:?}", meta.smallest, meta.largest);
    let here = format!("{here}, from {:?} to {:?}", bound(&found.smallest), bound(&found.largest));
    Err(Error::corruption(table.path(), 0, wanted, here))
}

/// Refuses a table that is not under the key schema that the manifest says. One of index 0 may be
/// under another: a table of a directory from before ranges that could not be read when the directory
/// was taken over (`schemas/registry.rs`) and has been put right since. There were no custom schemas then.
fn check_schema(table: &Table, meta: &TableMeta, wanted: &KeySchema) -> Result<()> {
    let found = &table.properties().schema;
    let is_old = meta.schema == WHOLE_KEY && !table.schema().is_custom();
    if is_old || found == wanted.descriptor() {
        return Ok(());
    }
    let wanted = format!("a table under key schema {}", wanted.id());
    Err(Error::corruption(table.path(), 0, wanted, format!("one under {}", found.id())))
}

/// The opened table of a version's handle.
pub(crate) fn opened(handle: &TableHandle) -> Result<&Arc<Table>> {
    match handle.table.get() {
        Some(file) => file.open(&handle.meta),
        None => Err(Error::invalid(format!(
            "table {} was never given to the engine; this is a bug, please report it",
            handle.meta.file
        ))),
    }
}

/// Gives every new handle of `version` its file.
pub(crate) fn adopt(version: &CfVersion, store: &Arc<TableStore>) {
    for (_, handle) in version.tables() {
        handle.table.get_or_init(|| TableFile::new(handle.meta.file, store));
    }
}

impl From<Compression> for sluice_table::Compression {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => sluice_table::Compression::None,
            Compression::Lz4 => sluice_table::Compression::Lz4,
        }
    }
}
