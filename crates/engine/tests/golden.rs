//! Every directory of every released version opens, holds what it held, and takes writes.
//!
//! `testdata/golden/<version>` is what a released version wrote; `golden/store.rs` says how it lies
//! there. The tests work on copies.
//! `SLUICE_GOLDEN=0.2 cargo test -p sluicedb --test golden` writes the directories of a version
//! that has none yet.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "golden/content.rs"]
mod content;
#[path = "golden/make.rs"]
mod make;
#[path = "golden/store.rs"]
mod store;

use content::{Content, assert_same};
use sluice_env::{Fs, MemFs};
use sluicedb::{Db, FlushRequest, Options, WalRecovery, WriteBatch, WriteOptions};
use std::{path::Path, sync::Arc};
use store::{Files, Golden};

fn in_memory(files: &Files) -> Arc<MemFs> {
    let fs = Arc::new(MemFs::new());
    fs.create_dir_all(Path::new("/db")).unwrap();
    for (name, bytes) in files {
        fs.write(Path::new("/db").join(name), bytes).unwrap();
    }
    fs.sync_all();
    fs
}

fn assert_holds(db: &Db, expected: &str, label: &str) {
    assert_same(&Content::read(db, expected).render(), expected, label);
}

/// Writes to every family, overwrites and deletes what is old; what the database holds then.
fn write_on(db: &Db, before: &str) -> Content {
    let mut content = Content::read(db, before);
    let mut batch = WriteBatch::new();
    for cf in db.list_column_families() {
        let old: Vec<Vec<u8>> = content.families[cf.name()].rows.keys().cloned().collect();
        batch.put(&cf, b"zz new", b"written later");
        content.put(cf.name(), b"zz new", b"written later");
        batch.add_counter(&cf, 1, 1000);
        content.count(cf.name(), 1, 1000);
        if let Some(key) = old.first() {
            batch.put(&cf, key, b"overwritten");
            content.put(cf.name(), key, b"overwritten");
        }
        if let Some(key) = old.iter().rfind(|key| key.is_ascii()) {
            batch.delete(&cf, key);
            content.delete(cf.name(), key);
        }
    }
    db.write(&batch, &WriteOptions::default()).unwrap();
    content.seq = db.positions().visible.seq.0;
    content
}

/// Opens, compares, writes on, compacts everything, checkpoints, and opens again twice.
fn check(dir: &Path, options: &dyn Fn() -> Options, golden: &Golden, label: &str) {
    let open = || Db::open(dir, options()).unwrap_or_else(|error| panic!("{label}: {error}"));
    let db = open();
    assert_holds(&db, &golden.content, label);
    let content = write_on(&db, &golden.content).render();
    assert_holds(&db, &content, &format!("{label}, written to"));
    db.close(false).unwrap();
    let db = open();
    assert_holds(&db, &content, &format!("{label}, opened again"));
    let ticket = db.flush(FlushRequest::default()).unwrap();
    while db.step() {}
    ticket.wait(None).unwrap();
    for cf in db.list_column_families() {
        db.compact(&cf, None, None).unwrap();
    }
    assert_holds(&db, &content, &format!("{label}, compacted"));
    let copy = dir.with_file_name("copy");
    db.checkpoint(&copy).unwrap();
    db.close(true).unwrap();
    for (dir, what) in [(dir, "closed"), (&copy, "checkpoint")] {
        let db = Db::open(dir, options()).unwrap();
        assert_holds(&db, &content, &format!("{label}, {what}"));
    }
}

#[test]
fn p12_every_directory_of_every_version_opens_and_takes_writes() {
    let all = store::load_all(&store::root());
    for name in ["clean", "killed", "unlogged", "checkpoint"] {
        assert!(all.iter().any(|golden| golden.version == "0.1" && golden.name == name), "{name}");
    }
    for golden in &all {
        let label = format!("{}/{}", golden.version, golden.name);
        let fs = in_memory(&golden.files);
        check(
            Path::new("/db"),
            &|| make::options(Arc::<MemFs>::clone(&fs)),
            golden,
            &format!("{label}, in memory"),
        );
        // On the real file system, with the engine's own threads and other options.
        let dir = tempfile::tempdir().unwrap();
        store::write_files(&golden.files, &dir.path().join("db"));
        let options = || Options { reserve_bytes: Some(0), ..Options::default() };
        check(&dir.path().join("db"), &options, golden, &format!("{label}, on disk"));
    }
}

#[test]
fn p01_a_torn_tail_of_an_older_version_is_told_from_a_whole_log() {
    for golden in store::load_all(&store::root()) {
        let fs = in_memory(&golden.files);
        let absolute = Options {
            wal_recovery: WalRecovery::Absolute,
            ..make::options(Arc::<MemFs>::clone(&fs))
        };
        let label = format!("{}/{}", golden.version, golden.name);
        assert_eq!(Db::open("/db", absolute).is_err(), golden.name == "killed", "{label}");
    }
}

/// What the generator makes is checked in every run, so that it is ready for the next version.
#[test]
fn this_build_makes_the_directories_that_it_opens() {
    let made = make::scenarios();
    let bytes: usize = made.iter().flat_map(|golden| golden.files.values()).map(Vec::len).sum();
    assert!(bytes < 300 << 10, "{bytes} bytes are many for a repository");
    for golden in &made {
        let fs = in_memory(&golden.files);
        let options = || make::options(Arc::<MemFs>::clone(&fs));
        check(Path::new("/db"), &options, golden, &format!("made now: {}", golden.name));
    }
    if let Some(version) = store::version_to_write() {
        store::save_new(&store::root(), &version, &made);
    }
}
