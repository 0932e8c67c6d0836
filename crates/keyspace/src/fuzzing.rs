//! The decoders of this crate as total functions over bytes, for the fuzz targets and for the test
//! that replays their seeds. Not part of the API.

use crate::{Keyspace, KeyspaceOptions, LatchSet, glob, row::Head};
use sluicedb::{
    Background, CfOptions, Db, Options, Result, WriteBatch, WriteOptions,
    env::{Env, ManualClock, MemFs, OsThreads},
};
use std::sync::Arc;

/// Most rows of one input.
const ROWS_MAX: usize = 64;

/// Most keys asked for, moments tried and steps of one walk.
const KEYS_MAX: usize = 6;
const MOMENTS_MAX: usize = 3;
const STEPS_MAX: usize = 12;

/// The families that an input's rows go to.
const FAMILIES: [&str; 6] = ["default", "meta", "expire", "data", "score", "stream"];

/// Any rows in the families of the data model, as a damaged or hostile directory may hold them:
/// opening, walking, reading, writing, expiring and purging give answers or errors.
///
/// Each row: family u8, bytes of the key u8, bytes of the value u8, key, value.
pub fn rows(data: &[u8]) {
    let mut rows = Vec::new();
    let mut rest = data;
    while let Some((&[family, key, value], behind)) = rest.split_first_chunk::<3>()
        && let Some((key, behind)) = behind.split_at_checked(usize::from(key))
        && rows.len() < ROWS_MAX
    {
        let (value, behind) = behind.split_at(usize::from(value).min(behind.len()));
        meta_row(value);
        rows.push((usize::from(family) % FAMILIES.len(), key, value));
        rest = behind;
    }
    let _ = use_rows(&rows);
}

/// A meta row: what is understood must encode to the same bytes.
fn meta_row(bytes: &[u8]) {
    if let Ok((head, payload)) = Head::decode(bytes) {
        let mut again = Vec::new();
        head.encode(&mut again);
        assert_eq!(again, bytes[..payload]);
    }
}

fn use_rows(rows: &[(usize, &[u8], &[u8])]) -> Result<()> {
    let env = Env {
        fs: Arc::new(MemFs::new()),
        clock: Arc::new(ManualClock::new(1)),
        threads: Arc::new(OsThreads),
    };
    let db = Db::open("/db", Options { env, ..options() })?;
    let mut batch = WriteBatch::new();
    let mut user_keys = vec![&b"key"[..]];
    let mut moments = vec![1_000];
    for (family, key, value) in rows {
        let name = FAMILIES[*family];
        let cf = match db.column_family(name) {
            Some(cf) => cf,
            None => db.create_column_family(name, CfOptions::default())?,
        };
        batch.put(&cf, key, value);
        user_keys.extend(key.get(4..));
        if let (2, Some(moment)) = (*family, key.first_chunk::<8>()) {
            moments.push(u64::from_be_bytes(*moment));
        }
    }
    db.write(&batch, &WriteOptions::default())?;
    let keyspace = Keyspace::open(db, KeyspaceOptions { databases: 4 })?;
    // A few of each say all: thousands of inputs a minute find more.
    user_keys.truncate(KEYS_MAX);
    moments.truncate(MOMENTS_MAX);
    let write = WriteOptions::default();
    let mut txn = keyspace.transaction();
    for moment in moments {
        let now_ms = moment.saturating_add(1);
        for database in 0..4 {
            txn.begin_read(now_ms);
            let _ = keyspace.stats(database);
            for key in &user_keys {
                let _ = txn.lookup(database, key).map(|row| row.map(|row| row.payload().len()));
                let _ = glob::matches(key, key, true);
            }
            let mut cursor = 0;
            for _ in 0..STEPS_MAX {
                match txn.scan(database, cursor, 3, |_, _| {}) {
                    Ok(0) | Err(_) => break,
                    Ok(next) => cursor = next,
                }
            }
            let _ = txn.for_each_key(database, |_, _| {});
            let _ = txn.random_key(database, &mut Vec::new());
            txn.end();
        }
        let _ = keyspace.expire_due(now_ms, 10, &write);
        let _ = keyspace.maintenance(10, &write);
    }
    let mut latches = LatchSet::new();
    latches.add_all();
    for key in user_keys {
        txn.begin_write(500, &latches);
        let _ = txn.set_expiry(0, key, Some(700));
        let _ = txn.delete(1, key);
        let _ = txn.put(2, key, Head::string(Some(600)), &[b"value"]);
        let _ = txn.swap_databases(0, 1);
        let _ = txn.flush_database(2);
        let _ = txn.commit(&write);
        txn.end();
    }
    for _ in 0..ROWS_MAX {
        match keyspace.maintenance(10, &write) {
            Ok(done) if done.more => {}
            _ => break,
        }
    }
    Ok(())
}

fn options() -> Options {
    Options {
        background: Background::Stepped,
        memtable_bytes: 64 << 10,
        memory_budget: 1 << 20,
        wal_segment_bytes: 64 << 10,
        reserve_bytes: Some(0),
        ..Options::default()
    }
}
