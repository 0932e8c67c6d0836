//! A family's key schemas as its writers use them: the ranges of the manifest with their schemas at
//! hand, and the walk along them that says where a table ends.

use super::Registry;
use crate::{Result, version::SchemaMap};
use sluice_table::KeySchema;
use std::sync::Arc;

/// The keys from `start` to before `end`, and the key schema their tables are written under.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use sluicedb::{Db, KeySchema, Options, SchemaRange};
/// let db = Db::open(dir.path(), Options::default())?;
/// let orders = KeySchema::parse("orders", 1, "table u32, rest")?;
/// db.set_key_schema_in(&db.default_cf(), b"o", Some(b"p"), orders.clone())?;
/// let ranges = db.key_schemas(&db.default_cf());
/// let SchemaRange { start, end, schema } = &ranges[1];
/// assert_eq!((&start[..], end.as_deref(), &**schema), (&b"o"[..], Some(&b"p"[..]), &orders));
/// # Ok::<(), sluicedb::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaRange {
    /// The first key of the range.
    pub start: Vec<u8>,
    /// The first key behind it; `None`: all that follows is in it.
    pub end: Option<Vec<u8>>,
    pub schema: Arc<KeySchema>,
}

/// A [`SchemaMap`] with its schemas. Whoever writes tables takes one at the start and keeps it until
/// the tables are installed or given up: that is how a drain knows who may still bring one.
#[derive(Debug)]
pub(crate) struct RangeMap {
    map: Arc<SchemaMap>,
    /// One for each range.
    schemas: Vec<Arc<KeySchema>>,
    /// [`crate::CfOptions::filter_fields`].
    filter_fields: Option<u8>,
}

impl RangeMap {
    pub(crate) fn resolve(
        map: &Arc<SchemaMap>,
        registry: &Registry,
        filter_fields: Option<u8>,
    ) -> Result<Arc<RangeMap>> {
        let schema = |(_, index): &(Box<[u8]>, u32)| registry.get(*index);
        let schemas = map.ranges().iter().map(schema).collect::<Result<_>>()?;
        Ok(Arc::new(RangeMap { map: Arc::clone(map), schemas, filter_fields }))
    }

    pub(crate) fn filter_fields(&self) -> Option<u8> {
        self.filter_fields
    }

    /// The schema of the lowest keys.
    pub(crate) fn first(&self) -> Arc<KeySchema> {
        Arc::clone(&self.schemas[0])
    }

    pub(crate) fn map(&self) -> &SchemaMap {
        &self.map
    }

    pub(crate) fn ranges(&self) -> Vec<SchemaRange> {
        let range = |(index, (start, _)): (usize, &(Box<[u8]>, u32))| SchemaRange {
            start: start.to_vec(),
            end: self.map.end(index).map(<[u8]>::to_vec),
            schema: Arc::clone(&self.schemas[index]),
        };
        self.map.ranges().iter().enumerate().map(range).collect()
    }
}

/// Walks along the ranges with keys that ascend.
#[derive(Debug)]
pub(crate) struct RangeCursor {
    map: Arc<RangeMap>,
    index: usize,
}

impl RangeCursor {
    pub(crate) fn new(map: &Arc<RangeMap>) -> RangeCursor {
        RangeCursor { map: Arc::clone(map), index: 0 }
    }

    /// Goes on to the range of `key`; true when the key before was in another, so that a table which
    /// has that key must end here.
    #[inline]
    pub(crate) fn advance(&mut self, key: &[u8]) -> bool {
        match self.map.map.end(self.index) {
            Some(end) if *end <= *key => {
                self.index = self.map.map.range_of(key);
                true
            }
            _ => false,
        }
    }

    /// The first key behind the present range.
    pub(crate) fn end(&self) -> Option<&[u8]> {
        self.map.map.end(self.index)
    }

    /// How many fields the tables of the present range have a filter on: what the family asks for, as
    /// far as the schema goes.
    pub(crate) fn filter_fields(&self) -> Option<u8> {
        let most = self.map.schemas[self.index].delimited_fields() as u8;
        self.map.filter_fields.map(|fields| fields.min(most)).filter(|fields| *fields > 0)
    }

    /// The schema of the present range, and its index in the manifest.
    pub(crate) fn schema(&self) -> (u32, Arc<KeySchema>) {
        (self.map.map.ranges()[self.index].1, Arc::clone(&self.map.schemas[self.index]))
    }
}
