//! WATCH: a client's list gets dirty when, and only when, a watched key changed.
#![allow(clippy::unwrap_used, reason = "a test may")]

use sluice_keyspace::{Head, Keyspace, KeyspaceOptions, LatchSet, Txn, WatchList};
use sluicedb::{Db, Options, WriteOptions};

const NOW: u64 = 1_000;

struct World {
    keyspace: Keyspace,
    txn: Txn,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), Options::default()).unwrap();
        let keyspace = Keyspace::open(db, KeyspaceOptions::default()).unwrap();
        let txn = keyspace.transaction();
        World { keyspace, txn, _dir: dir }
    }

    fn write(&mut self, now_ms: u64, work: impl FnOnce(&mut Txn)) {
        let mut latches = LatchSet::new();
        latches.add_all();
        self.txn.begin_write(now_ms, &latches);
        work(&mut self.txn);
        self.txn.commit(&WriteOptions::default()).unwrap();
    }

    fn set(&mut self, db: u32, key: &str, expire_at: Option<u64>) {
        self.write(NOW, |txn| {
            txn.put(db, key.as_bytes(), Head::string(expire_at), &[b"v"]).unwrap();
        });
    }

    fn watch(&self, keys: &[&str]) -> WatchList {
        let mut list = self.keyspace.watch_list();
        keys.iter().for_each(|key| list.watch(0, key.as_bytes(), NOW).unwrap());
        list
    }

    /// What EXEC asks.
    fn holds(&mut self, list: &WatchList, now_ms: u64) -> bool {
        let mut latches = LatchSet::new();
        list.add_latches(&mut latches);
        self.txn.begin_write(now_ms, &latches);
        let holds = self.txn.watches_hold(list).unwrap();
        self.txn.end();
        holds
    }
}

#[test]
fn writes_to_watched_keys_are_noticed_and_others_are_not() {
    let mut world = World::new();
    let list = world.watch(&["a", "b"]);
    world.set(0, "c", None);
    world.set(1, "a", None);
    world.write(NOW, |txn| assert!(!txn.delete(0, b"a").unwrap()));
    assert!(world.holds(&list, NOW));
    world.set(0, "b", None);
    assert!(!world.holds(&list, NOW));
}

#[test]
fn a_key_set_and_deleted_in_one_transaction_has_changed() {
    let mut world = World::new();
    let list = world.watch(&["a"]);
    world.write(NOW, |txn| {
        txn.put(0, b"a", Head::string(None), &[b"v"]).unwrap();
        txn.delete(0, b"a").unwrap();
    });
    assert!(!world.holds(&list, NOW));
}

#[test]
fn what_was_rolled_back_or_dropped_is_no_change() {
    let mut world = World::new();
    let list = world.watch(&["a"]);
    world.write(NOW, |txn| {
        let savepoint = txn.savepoint();
        txn.put(0, b"a", Head::string(None), &[b"v"]).unwrap();
        txn.rollback_to(savepoint);
        txn.put(0, b"b", Head::string(None), &[b"v"]).unwrap();
    });
    assert!(world.holds(&list, NOW));
}

#[test]
fn clear_forgets_and_watches_anew() {
    let mut world = World::new();
    let mut list = world.watch(&["a"]);
    world.set(0, "a", None);
    assert!(list.is_dirty());
    list.clear();
    assert!(list.is_empty() && !list.is_dirty());
    world.set(0, "a", None);
    assert!(world.holds(&list, NOW));
    list.watch(0, b"a", NOW).unwrap();
    world.set(0, "a", None);
    assert!(!world.holds(&list, NOW));
}

#[test]
fn a_key_that_becomes_due_aborts_even_before_anyone_deletes_it() {
    let mut world = World::new();
    world.set(0, "a", Some(NOW + 10));
    let list = world.watch(&["a"]);
    assert!(world.holds(&list, NOW + 10));
    assert!(!world.holds(&list, NOW + 11));
    // And so does its deletion by active expiry.
    world.keyspace.expire_due(NOW + 11, 10, &WriteOptions::default()).unwrap();
    assert!(list.is_dirty());
}

#[test]
fn a_key_due_when_watched_counts_as_missing() {
    let mut world = World::new();
    world.set(0, "a", Some(NOW - 1));
    let list = world.watch(&["a"]);
    assert!(world.holds(&list, NOW));
    let expired = world.keyspace.expire_due(NOW, 10, &WriteOptions::default()).unwrap();
    assert_eq!(expired.removed, 1);
    assert!(world.holds(&list, NOW));
    world.set(0, "a", None);
    assert!(!world.holds(&list, NOW));
}

#[test]
fn flushing_touches_the_keys_that_were_there() {
    let mut world = World::new();
    world.set(0, "a", None);
    let (there, missing) = (world.watch(&["a"]), world.watch(&["nope"]));
    world.write(NOW, |txn| txn.flush_database(1).unwrap());
    assert!(world.holds(&there, NOW));
    world.write(NOW, |txn| txn.flush_database(0).unwrap());
    assert!(!world.holds(&there, NOW));
    assert!(world.holds(&missing, NOW));
}

#[test]
fn swapping_touches_the_keys_of_both_sides() {
    let mut world = World::new();
    world.set(0, "only-here", None);
    world.set(1, "only-there", None);
    world.set(1, "due-there", Some(NOW - 1));
    let here = world.watch(&["only-here"]);
    let there = world.watch(&["only-there"]);
    let neither = world.watch(&["neither", "due-there"]);
    world.write(NOW, |txn| txn.swap_databases(0, 1).unwrap());
    assert!(!world.holds(&here, NOW));
    assert!(!world.holds(&there, NOW));
    assert!(world.holds(&neither, NOW));
}

#[test]
fn dropping_a_list_ends_its_watches() {
    let mut world = World::new();
    drop(world.watch(&["a"]));
    world.set(0, "a", None);
    let list = world.watch(&["a"]);
    assert!(world.holds(&list, NOW));
}
