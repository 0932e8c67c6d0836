//! The key schemas of one family in the running engine: behind its handle, so that jobs that hold one
//! need nothing else.

use super::RangeMap;
use crate::version::Drain;
use sluice_env::sync::{Mutex, MutexGuard, PoisonError};
use std::sync::{Arc, Weak};

/// A leaf lock around a few pointers, taken by flush and compaction once a job. No read or write of
/// the family comes here. Changed under the versions lock, so it says what the manifest says.
#[derive(Debug)]
pub(crate) struct FamilySchemas(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    map: Arc<RangeMap>,
    /// Maps of before that writers may still have.
    retired: Vec<Weak<RangeMap>>,
    drains: Vec<Drain>,
}

impl FamilySchemas {
    pub(crate) fn new(map: Arc<RangeMap>, drains: Vec<Drain>) -> FamilySchemas {
        FamilySchemas(Mutex::new(Inner { map, retired: Vec::new(), drains }))
    }

    #[cfg(test)]
    pub(crate) fn for_test() -> FamilySchemas {
        let map = RangeMap::resolve(&Arc::default(), &super::Registry::default(), None);
        FamilySchemas::new(map.expect("the default needs no definition"), Vec::new())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a writer that begins now goes by. Keep it until its tables are installed.
    pub(crate) fn current(&self) -> Arc<RangeMap> {
        Arc::clone(&self.lock().map)
    }

    pub(crate) fn drains(&self) -> Vec<Drain> {
        self.lock().drains.clone()
    }

    /// The versions lock is held: the manifest has just said so.
    pub(crate) fn set_map(&self, map: Arc<RangeMap>) {
        let mut inner = self.lock();
        let before = std::mem::replace(&mut inner.map, map);
        inner.retired.retain(|map| map.strong_count() > 0);
        inner.retired.push(Arc::downgrade(&before));
    }

    /// The versions lock is held.
    pub(crate) fn set_drains(&self, drains: Vec<Drain>) {
        self.lock().drains = drains;
    }

    /// Whether a writer that goes by a map of before may still bring a table under `schema`. With the
    /// versions lock held, and no range writing the schema now, "no" is for good: a writer that
    /// installed its tables is in the version that the caller sees, and who begins takes today's map.
    pub(crate) fn is_written_by_an_old_map(&self, schema: u32) -> bool {
        let mut inner = self.lock();
        inner.retired.retain(|map| map.strong_count() > 0);
        inner.retired.iter().filter_map(Weak::upgrade).any(|map| map.map().writes(schema))
    }

    /// The schemas of maps of before that writers may still have.
    pub(crate) fn in_old_maps(&self) -> Vec<u32> {
        let maps: Vec<_> = self.lock().retired.iter().filter_map(Weak::upgrade).collect();
        maps.iter().flat_map(|map| map.map().ranges().iter().map(|(_, index)| *index)).collect()
    }
}
