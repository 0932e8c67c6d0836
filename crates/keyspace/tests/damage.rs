//! P8 for a server's data directory: a flipped bit, a cut or a missing file is an error or an older
//! state of the keys, and never a wrong key, value, expiry or count.
//!
//! `SLUICE_DAMAGE_BITS` flips another number of bits than the default run, 0 all of them;
//! `SLUICE_SEED` takes back a seed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{NOW_MS, options};
use sluice_keyspace::{Head, Keyspace, KeyspaceOptions, LatchSet, Txn};
use sluicedb::{
    Db, Result, WriteOptions,
    env::{MemFs, Rng},
};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

const DATABASES: u32 = 3;
const BITS: u64 = 3_000;

/// Keys by database, each with its value and expiry.
type Model = BTreeMap<(u32, Vec<u8>), (Vec<u8>, Option<u64>)>;

fn open(fs: &Arc<MemFs>) -> Result<Keyspace> {
    let db = Db::open("/db", options(fs, 0))?;
    Keyspace::open(db, KeyspaceOptions { databases: DATABASES })
}

fn key(n: u64) -> Vec<u8> {
    format!("key:{}", n % 9).into_bytes()
}

/// The directory of a closed server, and every state that it has been in.
fn sample() -> (MemFs, Vec<Model>) {
    let fs = Arc::new(MemFs::new());
    let keyspace = open(&fs).unwrap();
    let mut states = vec![Model::new()];
    let mut latches = LatchSet::new();
    latches.add_all();
    for n in 0..24u64 {
        let mut state = states.last().unwrap().clone();
        let mut txn = keyspace.transaction();
        txn.begin_write(NOW_MS, &latches);
        let db = (n % 3) as u32;
        match n {
            10 => {
                txn.flush_database(1).unwrap();
                state.retain(|(db, _), _| *db != 1);
            }
            15 => {
                txn.swap_databases(0, 2).unwrap();
                let other = |db| if db == 1 { 1 } else { 2 - db };
                state = state.into_iter().map(|((db, key), v)| ((other(db), key), v)).collect();
            }
            _ => {
                for step in 0..3 {
                    let key = key(n + step * 4);
                    if (n + step).is_multiple_of(5) {
                        txn.delete(db, &key).unwrap();
                        state.remove(&(db, key));
                    } else {
                        let value = format!("value {n} {step}").into_bytes();
                        let at = n.is_multiple_of(4).then_some(NOW_MS + 1_000 + n);
                        txn.put(db, &key, Head::string(at), &[&value]).unwrap();
                        state.insert((db, key), (value, at));
                    }
                }
            }
        }
        txn.commit(&WriteOptions::default()).unwrap();
        states.push(state);
        if n == 8 || n == 18 {
            let ticket = keyspace.db().flush(Default::default()).unwrap();
            while ticket.poll().is_none() {
                keyspace.db().step();
            }
        }
    }
    keyspace.db().close(false).unwrap();
    drop(keyspace);
    fs.sync_all();
    (fs.kill_clone(), states)
}

/// Every key that can be read, by lookup and by walk; and whether anything could not be.
fn read(keyspace: &Keyspace) -> (Model, bool) {
    let mut found = Model::new();
    let mut failed = false;
    let mut txn: Txn = keyspace.transaction();
    for db in 0..DATABASES {
        txn.begin_read(NOW_MS);
        for n in 0..9 {
            match txn.lookup(db, &key(n)) {
                Ok(Some(row)) => {
                    let facts = (row.payload().to_vec(), row.expire_at());
                    found.insert((db, key(n)), facts);
                }
                Ok(None) => {}
                Err(_) => failed = true,
            }
        }
        let mut walked = 0;
        match txn.for_each_key(db, |_, _| walked += 1) {
            Ok(()) => {
                let here = found.keys().filter(|(of, _)| *of == db).count();
                assert!(failed || walked == here, "database {db}: {walked} keys by a walk");
                let stats = keyspace.stats(db);
                assert!(failed || stats.keys == here as u64, "database {db}: {stats:?}");
            }
            Err(_) => failed = true,
        }
    }
    (found, failed)
}

/// `states`: those that are right after the damage, the newest last.
fn judge(fs: MemFs, states: &[Model], what: &str) -> &'static str {
    let Ok(keyspace) = open(&Arc::new(fs)) else { return "refused" };
    let (found, failed) = read(&keyspace);
    let is_right = |state: &Model| match failed {
        false => *state == found,
        true => found.iter().all(|(key, facts)| state.get(key) == Some(facts)),
    };
    assert!(states.iter().any(is_right), "{what}: wrong data (failed reads: {failed})");
    match (failed, Some(&found) == states.last()) {
        (true, _) => "partly read",
        (false, true) => "all there",
        (false, false) => "older",
    }
}

fn files(fs: &MemFs) -> Vec<(PathBuf, u64)> {
    fs.list().into_iter().filter(|(_, bytes)| *bytes > 0).collect()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn p08_a_damaged_data_directory_gives_errors_or_an_older_state() {
    let (fs, states) = sample();
    assert_eq!(judge(fs.kill_clone(), &states, "unharmed"), "all there");
    let bits: u64 = files(&fs).iter().map(|(_, bytes)| bytes * 8).sum();
    let seed = number("SLUICE_SEED", std::process::id().into());
    let wanted = number("SLUICE_DAMAGE_BITS", BITS);
    println!("SLUICE_SEED={seed}, {bits} bits");
    let mut rng = Rng::new(seed);
    let mut verdicts = BTreeMap::new();
    let mut count = |verdict| *verdicts.entry(verdict).or_insert(0u64) += 1;
    for (path, bytes) in files(&fs) {
        // Only a log or a manifest can look like one that a crash cut short.
        let is_table = path.extension().is_some_and(|e| e == "sst");
        let states = if is_table { &states[states.len() - 1..] } else { &states };
        for bit in 0..bytes * 8 {
            if wanted > 0 && rng.below(bits) >= wanted {
                continue;
            }
            let copy = fs.kill_clone();
            copy.corrupt(&path, bit / 8, 1 << (bit % 8)).unwrap();
            let what = format!("seed {seed}: {} at bit {bit}", path.display());
            count(judge(copy, states, &what));
        }
        let whole = fs.read(&path).unwrap();
        let replaced = |bytes: &[u8]| {
            let copy = fs.kill_clone();
            copy.write(&path, bytes).unwrap();
            copy.sync_all();
            copy
        };
        for len in (0..whole.len()).step_by(97) {
            count(judge(
                replaced(&whole[..len]),
                states,
                &format!("{} cut to {len}", path.display()),
            ));
        }
        for (other, _) in files(&fs) {
            let what = format!("{} holds {}", path.display(), other.display());
            count(judge(replaced(&fs.read(&other).unwrap()), states, &what));
        }
    }
    println!("{verdicts:?}");
    assert!(verdicts.contains_key("refused") && verdicts.contains_key("partly read"));
}
