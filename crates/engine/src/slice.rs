//! [`PinnedSlice`]: a value read without a copy.

use sluice_table::PinnedValue;
use std::{fmt, ops::Deref};

/// The bytes of a value, borrowed from the memtable that the view pins or from the cached block
/// that this slice pins. Dereferences to `[u8]`.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # use sluicedb::{Db, Options};
/// let db = Db::open(dir.path(), Options::default())?;
/// let cf = db.default_cf();
/// db.put(&cf, b"key", b"value")?;
/// let view = db.view();
/// let value = view.get(&cf, b"key")?.expect("just written");
/// assert!(value.starts_with(b"val") && value.len() == 5);
/// # Ok::<(), sluicedb::Error>(())
/// ```
pub struct PinnedSlice<'v>(Pin<'v>);

enum Pin<'v> {
    Memtable(&'v [u8]),
    Block(PinnedValue),
}

impl<'v> PinnedSlice<'v> {
    #[inline]
    pub(crate) fn memtable(bytes: &'v [u8]) -> PinnedSlice<'v> {
        PinnedSlice(Pin::Memtable(bytes))
    }

    #[inline]
    pub(crate) fn block(value: PinnedValue) -> PinnedSlice<'v> {
        PinnedSlice(Pin::Block(value))
    }
}

impl Deref for PinnedSlice<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Pin::Memtable(bytes) => bytes,
            Pin::Block(value) => value,
        }
    }
}

impl AsRef<[u8]> for PinnedSlice<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for PinnedSlice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PinnedSlice({} bytes)", self.len())
    }
}
