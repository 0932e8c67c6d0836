//! Every data directory of every released server opens, holds what it held, and takes writes.
//!
//! The engine's tests of the same name say how the directories lie in `testdata/golden`, and what
//! `SLUICE_GOLDEN` is for. A scenario here is the directory `db` in a server's `dir`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../engine/tests/golden/store.rs"]
mod store;

mod common;

use common::{NOW_MS, options};
use sluice_keyspace::{Head, Keyspace, KeyspaceOptions, LatchSet, Repr, Txn};
use sluicedb::{
    Db, Options, WriteOptions,
    env::{Fs, MemFs},
};
use std::{collections::BTreeMap, fmt::Write as _, path::Path, sync::Arc};
use store::{Files, Golden};

const DATABASES: u32 = 6;

fn open(fs: &Arc<MemFs>) -> Keyspace {
    let db = Db::open("/db", options(fs, 100)).unwrap();
    Keyspace::open(db, KeyspaceOptions { databases: DATABASES }).unwrap()
}

/// One transaction over everything.
fn change(keyspace: &Keyspace, now_ms: u64, act: impl FnOnce(&mut Txn)) {
    let mut txn = keyspace.transaction();
    let mut latches = LatchSet::new();
    latches.add_all();
    txn.begin_write(now_ms, &latches);
    act(&mut txn);
    txn.commit(&WriteOptions::default()).unwrap();
}

/// What a key is: its value, what OBJECT ENCODING may say, and when it goes.
type Model = BTreeMap<(u32, Vec<u8>), (Vec<u8>, Repr, Option<u64>)>;

fn render(model: &Model) -> String {
    let mut out = String::new();
    for db in 0..DATABASES {
        let of = || model.iter().filter(|((of, _), _)| *of == db);
        let expires = of().filter(|(_, (_, _, at))| at.is_some()).count();
        writeln!(out, "database {db}: {} keys, {expires} with an expiry", of().count()).unwrap();
        for ((_, key), (value, repr, at)) in of() {
            let (key, value) = (key.escape_ascii(), value.escape_ascii());
            write!(out, "  \"{key}\" = \"{value}\" {repr:?}").unwrap();
            writeln!(out, "{}", at.map_or(String::new(), |at| format!(" until {at}"))).unwrap();
        }
    }
    out
}

/// What the keyspace holds: by walk, by lookup, and by its counts.
fn read(keyspace: &Keyspace) -> String {
    let mut model = Model::new();
    let mut txn = keyspace.transaction();
    for db in 0..DATABASES {
        txn.begin_read(NOW_MS);
        let mut keys = Vec::new();
        txn.for_each_key(db, |key, _| keys.push(key.to_vec())).unwrap();
        for key in keys {
            let row = txn.lookup(db, &key).unwrap().unwrap();
            let facts = (row.payload().to_vec(), row.head().repr, row.expire_at());
            model.insert((db, key), facts);
        }
        let of = |with_expiry: bool| {
            let of = model.iter().filter(|((of, _), _)| *of == db);
            of.filter(|(_, (_, _, at))| at.is_some() || !with_expiry).count() as u64
        };
        let stats = keyspace.stats(db);
        assert_eq!((stats.keys, stats.expires), (of(false), of(true)), "database {db}");
    }
    render(&model)
}

/// A server's directory: strings with and without expiry in several databases, emptied and swapped
/// ones, an unfinished purge, part in tables, part in the log of a killed process.
fn make() -> Golden {
    let fs = Arc::new(MemFs::new());
    let keyspace = open(&fs);
    let mut model = Model::new();
    for round in 0..4u64 {
        for n in 0..30u64 {
            let (db, key) = ((n % 5) as u32, format!("key:{{{}}}:{n}", n % 4).into_bytes());
            if (n + round).is_multiple_of(7) {
                change(&keyspace, NOW_MS, |txn| {
                    txn.delete(db, &key).unwrap();
                });
                model.remove(&(db, key));
                continue;
            }
            let value = match n % 3 {
                0 => (n * 1000 + round).to_string().into_bytes(),
                1 => format!("a longer value {n} {round} \u{fc}").into_bytes(),
                _ => Vec::new(),
            };
            let repr = [Repr::Auto, Repr::Text, Repr::Raw][n as usize % 3];
            let at = n.is_multiple_of(4).then_some(NOW_MS + 1_000_000 + n * 1000 + round);
            let head = Head { repr, ..Head::string(at) };
            change(&keyspace, NOW_MS, |txn| txn.put(db, &key, head, &[&value]).unwrap());
            model.insert((db, key), (value, repr, at));
        }
        match round {
            1 => {
                change(&keyspace, NOW_MS, |txn| txn.flush_database(1).unwrap());
                model.retain(|(db, _), _| *db != 1);
                change(&keyspace, NOW_MS, |txn| txn.swap_databases(2, 5).unwrap());
                model = model
                    .into_iter()
                    .map(|((db, key), facts)| ((if db == 2 { 5 } else { db }, key), facts))
                    .collect();
            }
            2 => {
                let ticket = keyspace.db().flush(Default::default()).unwrap();
                while keyspace.db().step() {}
                ticket.wait(None).unwrap();
            }
            _ => {}
        }
    }
    change(&keyspace, NOW_MS, |txn| txn.flush_database(3).unwrap());
    model.retain(|(db, _), _| *db != 3);
    assert!(keyspace.maintenance_is_due());
    let files = fs.list().into_iter().map(|(path, _)| {
        (path.file_name().unwrap().to_str().unwrap().to_owned(), fs.read(&path).unwrap())
    });
    let (files, content) = (files.collect(), render(&model));
    Golden { version: String::new(), name: "server".to_owned(), files, content }
}

fn in_memory(files: &Files) -> Arc<MemFs> {
    let fs = Arc::new(MemFs::new());
    fs.create_dir_all(Path::new("/db")).unwrap();
    for (name, bytes) in files {
        fs.write(Path::new("/db").join(name), bytes).unwrap();
    }
    fs.sync_all();
    fs
}

fn check(golden: &Golden) {
    let label = format!("{} {}", golden.version, golden.name);
    let fs = in_memory(&golden.files);
    let keyspace = open(&fs);
    let found = read(&keyspace);
    let differ = found.lines().zip(golden.content.lines()).find(|(a, b)| a != b);
    assert!(found == golden.content, "{label}: (found, expected) {differ:?}");
    // It goes on: a key in each database, the purge, the expiry of everything that expires.
    for db in 0..DATABASES {
        change(&keyspace, NOW_MS, |txn| {
            txn.put(db, b"new", Head::string(None), &[b"value"]).unwrap();
        });
    }
    let write = WriteOptions::default();
    while keyspace.maintenance(100, &write).unwrap().more {}
    while keyspace.expire_due(u64::MAX, 100, &write).unwrap().more {}
    let stays = |line: &&str| !line.starts_with("database") && !line.contains(" until ");
    let mut expected: Vec<&str> = golden.content.lines().filter(stays).collect();
    expected.extend(vec!["  \"new\" = \"value\" Auto"; DATABASES as usize]);
    expected.sort_unstable();
    let check_rest = |keyspace: &Keyspace, label: &str| {
        let found = read(keyspace);
        let mut found: Vec<&str> = found.lines().filter(stays).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{label}");
        (0..DATABASES).for_each(|db| assert_eq!(keyspace.stats(db).expires, 0, "{label}"));
    };
    check_rest(&keyspace, &label);
    keyspace.db().close(true).unwrap();
    drop(keyspace);
    check_rest(&open(&fs), &format!("{label}, opened again"));
}

#[test]
fn p12_every_data_directory_of_every_version_opens_and_takes_writes() {
    let all = store::load_all(&store::root());
    assert!(all.iter().any(|golden| golden.version == "0.1" && golden.name == "server"));
    all.iter().for_each(check);
    // On the real file system.
    for golden in &all {
        let dir = tempfile::tempdir().unwrap();
        store::write_files(&golden.files, &dir.path().join("db"));
        let options = Options { reserve_bytes: Some(0), ..Options::default() };
        let db = Db::open(dir.path().join("db"), options).unwrap();
        let keyspace = Keyspace::open(db, KeyspaceOptions { databases: DATABASES }).unwrap();
        assert!(read(&keyspace) == golden.content, "{} {}", golden.version, golden.name);
    }
}

#[test]
fn this_build_makes_the_data_directory_that_it_opens() {
    let made = make();
    check(&made);
    if let Some(version) = store::version_to_write() {
        store::save_new(&store::root(), &version, &[made]);
    }
}
