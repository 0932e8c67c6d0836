//! Random transactions against an ordered map: several databases, expiry, savepoints, FLUSHDB,
//! SWAPDB, background work and reopening in the mix. After every step the rows, the counters and
//! the expiry index must agree with each other and with the model.
#![allow(clippy::unwrap_used, reason = "a test may")]

use sluice_keyspace::{Head, Keyspace, KeyspaceOptions, LatchSet, Txn};
use sluicedb::{Db, Options, ReadOptions, WriteOptions, env::Rng};
use std::collections::{BTreeMap, BTreeSet};

const DATABASES: u32 = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Value {
    bytes: Vec<u8>,
    expire_at: Option<u64>,
}

type Model = BTreeMap<(u32, Vec<u8>), Value>;

fn is_due(value: &Value, now_ms: u64) -> bool {
    value.expire_at.is_some_and(|at| at < now_ms)
}

fn open(db: &Db) -> Keyspace {
    Keyspace::open(db.clone(), KeyspaceOptions { databases: DATABASES }).unwrap()
}

fn key(rng: &mut Rng) -> Vec<u8> {
    match rng.below(12) {
        0 => Vec::new(),
        n => format!("{{{}}}{}", n % 3, rng.below(6)).into_bytes(),
    }
}

/// One random command on transaction and model alike.
fn step(rng: &mut Rng, txn: &mut Txn, model: &mut Model, now_ms: u64) {
    let db = rng.below(u64::from(DATABASES)) as u32;
    let key = key(rng);
    let id = (db, key.clone());
    match rng.below(20) {
        0..8 => {
            let expire_at = match rng.below(4) {
                0 => Some(now_ms + rng.below(60)),
                1 => Some(now_ms.saturating_sub(rng.below(5))),
                _ => None,
            };
            let bytes = vec![b'v'; rng.below(40) as usize];
            let (front, back) = bytes.split_at(bytes.len() / 2);
            txn.put(db, &key, Head::string(expire_at), &[front, back]).unwrap();
            model.insert(id, Value { bytes, expire_at });
        }
        8..11 => {
            let was_there = model.remove(&id).is_some_and(|value| !is_due(&value, now_ms));
            assert_eq!(txn.delete(db, &key).unwrap(), was_there);
        }
        11..13 => {
            let expire_at = (!rng.one_in(3)).then(|| now_ms + rng.below(60));
            let there = model.get_mut(&id).filter(|value| !is_due(value, now_ms));
            assert_eq!(txn.set_expiry(db, &key, expire_at).unwrap(), there.is_some());
            if let Some(value) = there {
                value.expire_at = expire_at;
            }
        }
        13 => {
            txn.flush_database(db).unwrap();
            model.retain(|(d, _), _| *d != db);
        }
        14 => {
            let other = rng.below(u64::from(DATABASES)) as u32;
            txn.swap_databases(db, other).unwrap();
            *model = std::mem::take(model)
                .into_iter()
                .map(|((d, key), value)| match d {
                    d if d == db => ((other, key), value),
                    d if d == other => ((db, key), value),
                    d => ((d, key), value),
                })
                .collect();
        }
        _ => check_key(txn, model, db, &key, now_ms),
    }
}

fn check_key(txn: &mut Txn, model: &Model, db: u32, key: &[u8], now_ms: u64) {
    let expected = model.get(&(db, key.to_vec())).filter(|value| !is_due(value, now_ms));
    let found = txn.lookup(db, key).unwrap();
    let found = found.map(|row| Value { bytes: row.payload().into(), expire_at: row.expire_at() });
    assert_eq!(found.as_ref(), expected);
}

/// Everything a reader can see agrees with the model, pending writes included.
fn check_view(txn: &mut Txn, model: &Model, now_ms: u64) {
    for db in 0..DATABASES {
        let stored = model.range((db, vec![])..(db + 1, vec![]));
        assert_eq!(txn.key_count(db).unwrap(), stored.clone().count() as u64);
        let live: BTreeSet<&[u8]> = stored
            .filter(|(_, value)| !is_due(value, now_ms))
            .map(|((_, key), _)| &key[..])
            .collect();
        let mut walked = Vec::new();
        txn.for_each_key(db, |key, _| walked.push(key.to_vec())).unwrap();
        assert_eq!(walked.iter().map(|key| &key[..]).collect::<BTreeSet<_>>(), live);
        assert_eq!(walked.len(), live.len(), "a key came twice");
        let mut random = Vec::new();
        assert_eq!(txn.random_key(db, &mut random).unwrap(), !live.is_empty());
        assert!(live.is_empty() || live.contains(&random[..]));
    }
}

/// The invariants of the crate's head, read from the engine itself.
fn check_rows(db: &Db) {
    let rows = |name: &str| -> Vec<(Vec<u8>, Vec<u8>)> {
        let family = db.column_family(name).unwrap();
        let mut iter = db.iter(&family, ReadOptions::default()).unwrap();
        let mut rows = Vec::new();
        let mut more = iter.seek_to_first().unwrap();
        while more {
            rows.push((iter.key().to_vec(), iter.value().to_vec()));
            more = iter.next().unwrap();
        }
        rows
    };
    let mut keys: BTreeMap<u32, i64> = BTreeMap::new();
    let mut expires: BTreeMap<u32, i64> = BTreeMap::new();
    let mut index = BTreeSet::new();
    for (key, row) in rows("meta") {
        let namespace = u32::from(u16::from_be_bytes([key[0], key[1]]));
        *keys.entry(namespace).or_default() += 1;
        if row[0] & 0x10 != 0 {
            *expires.entry(namespace).or_default() += 1;
            index.insert([&row[1..9], &key[..]].concat());
        }
    }
    let purging: BTreeSet<u32> = rows("default")
        .iter()
        .filter_map(|(key, _)| key.strip_prefix(b"purge"))
        .map(|ns| u32::from(u16::from_be_bytes([ns[0], ns[1]])))
        .collect();
    let indexed: BTreeSet<Vec<u8>> = rows("expire").into_iter().map(|(key, _)| key).collect();
    assert!(indexed.is_subset(&index), "index rows without a key");
    // In an abandoned namespace the expiry scan may have been faster than the purge.
    let abandoned =
        |row: &Vec<u8>| purging.contains(&u32::from(u16::from_be_bytes([row[8], row[9]])));
    let missing: Vec<_> = index.difference(&indexed).filter(|row| !abandoned(row)).collect();
    assert!(missing.is_empty(), "keys without an index row: {missing:?}");
    let meta = db.column_family("meta").unwrap();
    let expire = db.column_family("expire").unwrap();
    for namespace in (0..0xffff).filter(|ns| !purging.contains(ns)) {
        let expected = |counts: &BTreeMap<u32, i64>| counts.get(&namespace).copied().unwrap_or(0);
        assert_eq!(db.counter(&meta, namespace), expected(&keys), "keys of {namespace}");
        assert_eq!(db.counter(&expire, namespace), expected(&expires), "expires of {namespace}");
    }
}

#[test]
fn transactions_agree_with_a_map() {
    for seed in 0..20u64 {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), Options::default()).unwrap();
        let mut keyspace = open(&db);
        let mut txn = keyspace.transaction();
        let mut model = Model::new();
        let mut now_ms = 1_000;
        let options = WriteOptions::default();
        let mut everything = LatchSet::new();
        everything.add_all();
        for round in 0..150 {
            now_ms += rng.below(20);
            txn.begin_write(now_ms, &everything);
            let before = model.clone();
            for _ in 0..rng.below(30) {
                if rng.one_in(4) {
                    // A command inside EXEC that fails half way.
                    let savepoint = txn.savepoint();
                    let mut discarded = model.clone();
                    for _ in 0..rng.below(6) {
                        step(&mut rng, &mut txn, &mut discarded, now_ms);
                    }
                    txn.rollback_to(savepoint);
                } else {
                    step(&mut rng, &mut txn, &mut model, now_ms);
                }
            }
            check_view(&mut txn, &model, now_ms);
            if rng.one_in(6) {
                txn.end();
                model = before;
            } else {
                txn.commit(&options).unwrap();
            }
            if rng.one_in(3) {
                let due = model.values().filter(|value| is_due(value, now_ms)).count();
                let done = keyspace.expire_due(now_ms, 4, &options).unwrap();
                assert!(
                    done.removed <= due && (done.more || done.removed == due),
                    "{done:?} {due}"
                );
                if done.more {
                    while keyspace.expire_due(now_ms, 4, &options).unwrap().more {}
                }
                model.retain(|_, value| !is_due(value, now_ms));
            }
            if rng.one_in(3) {
                keyspace.maintenance(1 + rng.below(8) as usize, &options).unwrap();
            }
            if rng.one_in(10) {
                drop(txn);
                keyspace = open(&db);
                txn = keyspace.transaction();
            }
            txn.begin_read(now_ms);
            check_view(&mut txn, &model, now_ms);
            txn.end();
            if round % 10 == 0 {
                check_rows(&db);
            }
        }
        while keyspace.maintenance(100, &options).unwrap().more {}
        check_rows(&db);
        assert!(!keyspace.maintenance_is_due());
        for database in 0..DATABASES {
            let stored = model.range((database, vec![])..(database + 1, vec![]));
            let stats = keyspace.stats(database);
            assert_eq!(stats.keys, stored.clone().count() as u64);
            assert_eq!(stats.expires, stored.filter(|(_, v)| v.expire_at.is_some()).count() as u64);
        }
    }
}

#[test]
fn counters_add_up_under_concurrent_increments() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::default()).unwrap();
    let keyspace = open(&db);
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 500;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let keyspace = keyspace.clone();
            scope.spawn(move || {
                let mut rng = Rng::new(thread);
                let mut txn = keyspace.transaction();
                let mut latches = LatchSet::new();
                for _ in 0..ROUNDS {
                    let keys = [rng.below(4).to_string(), rng.below(4).to_string()];
                    latches.clear();
                    keys.iter().for_each(|key| latches.add_key(key.as_bytes()));
                    txn.begin_write(1, &latches);
                    for key in &keys {
                        let old = txn
                            .lookup(0, key.as_bytes())
                            .unwrap()
                            .map_or(0, |row| u64::from_be_bytes(row.payload().try_into().unwrap()));
                        let new = (old + 1).to_be_bytes();
                        txn.put(0, key.as_bytes(), Head::string(None), &[&new]).unwrap();
                    }
                    txn.commit(&WriteOptions::default()).unwrap();
                }
            });
        }
    });
    let mut txn = keyspace.transaction();
    txn.begin_read(1);
    let mut sum = 0;
    for key in 0..4u64 {
        let row = txn.lookup(0, key.to_string().as_bytes()).unwrap().unwrap();
        sum += u64::from_be_bytes(row.payload().try_into().unwrap());
    }
    assert_eq!(sum, THREADS * ROUNDS * 2);
    assert_eq!(keyspace.stats(0).keys, 4);
    txn.end();
    check_rows(&db);
}

/// P4: a write that the engine refuses leaves the transaction as it was.
#[test]
fn p04_a_refused_commit_leaves_the_transaction_whole() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::default()).unwrap();
    let keyspace = open(&db);
    let mut txn = keyspace.transaction();
    let mut latches = LatchSet::new();
    latches.add_key(b"k");
    txn.begin_write(1, &latches);
    txn.put(0, b"k", Head::string(None), &[b"v"]).unwrap();
    db.close(false).unwrap();
    assert!(txn.commit(&WriteOptions::default()).is_err());
    assert!(txn.has_writes());
    assert_eq!(txn.lookup(0, b"k").unwrap().unwrap().payload(), b"v");
    txn.end();
    assert!(txn.is_idle());
    assert_eq!(keyspace.stats(0).keys, 0);
}

#[test]
fn misuse_is_an_error_not_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::default()).unwrap();
    assert!(Keyspace::open(db.clone(), KeyspaceOptions { databases: 0 }).is_err());
    assert!(Keyspace::open(db.clone(), KeyspaceOptions { databases: 20_000 }).is_err());
    let keyspace = open(&db);
    let mut txn = keyspace.transaction();
    assert!(txn.lookup(0, b"k").is_err());
    assert!(txn.put(0, b"k", Head::string(None), &[]).is_err());
    txn.begin_read(1);
    assert!(txn.lookup(DATABASES, b"k").is_err());
    assert!(txn.put(0, b"k", Head::string(None), &[]).is_err());
    let long = vec![b'k'; sluice_keyspace::USER_KEY_BYTES_MAX + 1];
    assert!(txn.lookup(0, &long).unwrap().is_none());
    let mut latches = LatchSet::new();
    latches.add_key(&long);
    txn.begin_write(1, &latches);
    assert!(txn.put(0, &long, Head::string(None), &[]).is_err());
    assert!(!txn.delete(0, &long).unwrap());
    assert!(txn.flush_database(0).is_err());
    assert!(txn.swap_databases(0, 1).is_err());
}
