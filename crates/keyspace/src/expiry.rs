//! Active expiry: deletes keys whose time is over although nobody asks for them.
//!
//! The `expire` family is the work list, ordered by moment. A row in it is a claim; the `meta` row
//! is the truth. Every write keeps both in step, so a claim that does not hold is left over from
//! something unforeseen and is simply removed.

use crate::{
    keyspace::Shared,
    latch::LatchSet,
    layout::{split_index_key, split_meta_key},
    row::Head,
    watch::Outcome,
};
use sluicedb::{ReadOptions, Result, WriteBatch, WriteOptions};

/// What one call of [`crate::Keyspace::expire_due`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// Keys deleted.
    pub removed: usize,
    /// Whether more were due: call again soon.
    pub more: bool,
}

pub(crate) fn expire_due(
    shared: &Shared,
    now_ms: u64,
    limit: usize,
    options: &WriteOptions,
) -> Result<Expired> {
    let (claims, more) = due_claims(shared, now_ms, limit.max(1))?;
    if claims.is_empty() {
        return Ok(Expired { removed: 0, more });
    }
    let mut latches = LatchSet::new();
    for claim in &claims {
        if let Some((_, _, key)) = split_index_key(claim).and_then(|(_, k)| split_meta_key(k)) {
            latches.add_key(key);
        }
    }
    let mut sorted = LatchSet::new();
    sorted.copy_from(&latches);
    shared.latches.acquire(&sorted);
    let result = settle(shared, now_ms, &claims, options);
    shared.latches.release(&sorted);
    Ok(Expired { removed: result?, more })
}

/// The index rows of moments before `now_ms`, up to `limit`, and whether there are more.
fn due_claims(shared: &Shared, now_ms: u64, limit: usize) -> Result<(Vec<Vec<u8>>, bool)> {
    let options =
        ReadOptions { upper: Some(now_ms.to_be_bytes().to_vec()), ..ReadOptions::default() };
    let mut rows = shared.db.iter(&shared.families.expire, options)?;
    let mut claims = Vec::new();
    let mut more = rows.seek_to_first()?;
    while more && claims.len() < limit {
        claims.push(rows.key().to_vec());
        more = rows.next()?;
    }
    Ok((claims, more))
}

/// Checks each claim under its latch and deletes what is due, in one batch.
fn settle(
    shared: &Shared,
    now_ms: u64,
    claims: &[Vec<u8>],
    options: &WriteOptions,
) -> Result<usize> {
    let families = &shared.families;
    let view = shared.db.view();
    let mut batch = WriteBatch::new();
    let mut deleted: Vec<(u32, &[u8])> = Vec::new();
    for claim in claims {
        batch.delete(&families.expire, claim);
        let Some((moment, meta_key)) = split_index_key(claim) else { continue };
        let Some((namespace, _, key)) = split_meta_key(meta_key) else { continue };
        // An abandoned namespace is the purge's business, its counters too.
        let Some(db) = shared.databases.database_of(namespace) else { continue };
        let Some(row) = view.get(&families.meta, meta_key)? else { continue };
        // A row that cannot be decoded is left where it is, for reads to report.
        let Ok((head, _)) = Head::decode(&row) else { continue };
        if head.expire_at == Some(moment) && head.is_due(now_ms) {
            batch.delete(&families.meta, meta_key);
            batch.add_counter(&families.meta, u32::from(namespace), -1);
            batch.add_counter(&families.expire, u32::from(namespace), -1);
            deleted.push((db, key));
        }
    }
    shared.db.write(&batch, options)?;
    if !shared.watches.is_idle() {
        deleted.iter().for_each(|(db, key)| shared.watches.touch(*db, key, Outcome::Deleted));
    }
    Ok(deleted.len())
}
