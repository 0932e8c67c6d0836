//! SCAN's promise: what is there from the first step to the last comes at least once, whatever
//! happens to other keys, to the cursor table, or to the server in between.
#![allow(clippy::unwrap_used, reason = "a test may")]

use sluice_keyspace::{Head, Keyspace, KeyspaceOptions, LatchSet, Txn};
use sluicedb::{Db, Options, WriteOptions, env::Rng};
use std::collections::BTreeSet;

fn write(txn: &mut Txn, work: impl FnOnce(&mut Txn)) {
    let mut latches = LatchSet::new();
    latches.add_all();
    txn.begin_write(1, &latches);
    work(txn);
    txn.commit(&WriteOptions::default()).unwrap();
}

fn scan(txn: &mut Txn, cursor: u64, count: usize, seen: &mut Vec<Vec<u8>>) -> u64 {
    txn.begin_read(1);
    let next = txn.scan(0, cursor, count, |key, _| seen.push(key.to_vec())).unwrap();
    txn.end();
    next
}

fn open(db: &Db) -> Keyspace {
    Keyspace::open(db.clone(), KeyspaceOptions::default()).unwrap()
}

#[test]
fn lasting_keys_all_come_while_others_come_and_go() {
    for seed in 0..30u64 {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), Options::default()).unwrap();
        let mut keyspace = open(&db);
        let mut txn = keyspace.transaction();
        // One slot for all, or many: both ends of what a cursor must cope with.
        let tagged = rng.one_in(2);
        let name = |kind: &str, n: u64| -> Vec<u8> {
            let tag = if tagged { "{t}" } else { "" };
            format!("{tag}{kind}{n}").into_bytes()
        };
        let mut lasting: BTreeSet<Vec<u8>> = (0..rng.below(80)).map(|n| name("l", n)).collect();
        if tagged && rng.one_in(2) {
            lasting.insert(Vec::new()); // the empty key, in slot 0
        }
        write(&mut txn, |txn| {
            for key in &lasting {
                txn.put(0, key, Head::string(None), &[]).unwrap();
            }
        });
        let mut seen = Vec::new();
        let mut cursor = 0;
        for steps in 0.. {
            assert!(steps < 2_000, "the walk does not end");
            cursor = scan(&mut txn, cursor, 1 + rng.below(9) as usize, &mut seen);
            if cursor == 0 {
                break;
            }
            write(&mut txn, |txn| {
                for _ in 0..rng.below(4) {
                    let key = name("t", rng.below(40));
                    if rng.one_in(2) {
                        txn.put(0, &key, Head::string(None), &[]).unwrap();
                    } else {
                        txn.delete(0, &key).unwrap();
                    }
                }
            });
            // A restart sends the walk back to the start of its slot; not too often, so that
            // it gets somewhere.
            if steps % 50 == 49 {
                drop(txn);
                keyspace = open(&db);
                txn = keyspace.transaction();
            }
        }
        let seen: BTreeSet<Vec<u8>> = seen.into_iter().collect();
        assert!(lasting.is_subset(&seen), "missing {:?}", lasting.difference(&seen));
    }
}

#[test]
fn an_undisturbed_walk_gives_every_key_once() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::default()).unwrap();
    let keyspace = open(&db);
    let mut txn = keyspace.transaction();
    let keys: BTreeSet<Vec<u8>> =
        (0..300).map(|n| format!("{{{}}}{n}", n % 7).into_bytes()).chain([vec![]]).collect();
    write(&mut txn, |txn| {
        keys.iter().for_each(|key| txn.put(0, key, Head::string(None), &[]).unwrap());
    });
    for count in [1, 2, 7, 300, 301, 302, usize::MAX] {
        let mut seen = Vec::new();
        let mut cursor = scan(&mut txn, 0, count, &mut seen);
        while cursor != 0 {
            cursor = scan(&mut txn, cursor, count, &mut seen);
        }
        assert_eq!(seen.len(), keys.len(), "count {count}");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), keys);
    }
}

#[test]
fn made_up_cursors_are_harmless_and_a_cursor_works_twice() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::default()).unwrap();
    let keyspace = open(&db);
    let mut txn = keyspace.transaction();
    write(&mut txn, |txn| {
        for n in 0..50 {
            txn.put(0, format!("{{t}}{n}").as_bytes(), Head::string(None), &[]).unwrap();
        }
    });
    for cursor in [1, 5, u64::MAX, 1 << 63, (1 << 48) - 1, 0x3fff << 48] {
        scan(&mut txn, cursor, 10, &mut Vec::new());
    }
    let cursor = scan(&mut txn, 0, 10, &mut Vec::new());
    let (mut first, mut second) = (Vec::new(), Vec::new());
    scan(&mut txn, cursor, 10, &mut first);
    scan(&mut txn, cursor, 10, &mut second);
    assert_eq!(first, second);
    // Far more walks than are remembered: the old cursor falls back, it does not skip.
    for _ in 0..5_000 {
        scan(&mut txn, 0, 10, &mut Vec::new());
    }
    let mut again = Vec::new();
    scan(&mut txn, cursor, 10, &mut again);
    assert_eq!(again.len(), 10);
    assert!(again < first);
}
