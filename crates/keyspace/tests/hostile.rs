//! P12: system rows that no server writes are refused at the opening, and cause no panic later.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sluice_keyspace::{Keyspace, KeyspaceOptions};
use sluicedb::{Db, ErrorKind, Options};

#[test]
fn p12_a_namespace_that_is_never_given_out_is_refused() {
    // 0xffff as a database's namespace once made SCAN add one to it.
    for (key, value) in [(&b"db\0\0\0\x01"[..], &[0xff, 0xff][..]), (b"purge\xff\xff", b"")] {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), Options::default()).unwrap();
        db.put(&db.default_cf(), key, value).unwrap();
        let error = Keyspace::open(db, KeyspaceOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    }
}
