//! The engine as a caller meets it, on the operating system's files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sluicedb::{
    Ack, CfOptions, Db, ErrorKind, FlushRequest, Options, ReadOptions, WriteBatch, WriteOptions,
};
use std::time::Duration;

fn small() -> Options {
    Options {
        memtable_bytes: 64 << 10,
        wal_segment_bytes: 256 << 10,
        wal_max_bytes: 1 << 20,
        memory_budget: 8 << 20,
        table_bytes: 64 << 10,
        level_base_bytes: 256 << 10,
        ..Options::default()
    }
}

fn unbounded() -> WriteOptions {
    WriteOptions { deadline: None, ..WriteOptions::default() }
}

#[test]
fn what_was_written_is_read_back_after_close_and_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), small()).unwrap();
    let cf = db.default_cf();
    let other = db.create_column_family("other", CfOptions::default()).unwrap();
    db.put(&cf, b"key", b"value").unwrap();
    db.put(&cf, b"empty", b"").unwrap();
    db.put(&other, b"key", b"elsewhere").unwrap();
    db.delete(&cf, b"gone").unwrap();
    db.close(false).unwrap();
    for flush in [false, true] {
        let db = Db::open(dir.path(), small()).unwrap();
        let cf = db.default_cf();
        let other = db.column_family("other").unwrap();
        assert_eq!(db.get(&cf, b"key").unwrap().as_deref(), Some(&b"value"[..]));
        assert_eq!(db.get(&cf, b"empty").unwrap().as_deref(), Some(&b""[..]));
        assert_eq!(db.get(&cf, b"gone").unwrap(), None);
        assert_eq!(db.get(&other, b"key").unwrap().as_deref(), Some(&b"elsewhere"[..]));
        db.close(flush).unwrap();
    }
    assert!(
        std::fs::read_dir(dir.path())
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().ends_with(".sst") })
    );
}

#[test]
fn a_load_larger_than_the_memtables_goes_down_the_levels_and_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), small()).unwrap();
    let cf = db.default_cf();
    let count = 40_000u32;
    let mut batch = WriteBatch::new();
    for round in 0..2u32 {
        for i in 0..count {
            let key = format!("key{:08}", i * 7919 % count);
            batch.put(&cf, key.as_bytes(), format!("value-{key}-{round}").as_bytes());
            if batch.count() == 50 {
                db.write(&batch, &unbounded()).unwrap();
                batch.clear();
            }
        }
    }
    let check = |db: &Db| {
        let cf = db.default_cf();
        let mut iter = db.iter(&cf, ReadOptions::default()).unwrap();
        let mut seen = 0;
        let mut on = iter.seek_to_first().unwrap();
        while on {
            let key = String::from_utf8(iter.key().to_vec()).unwrap();
            assert_eq!(iter.value(), format!("value-{key}-1").as_bytes());
            assert_eq!(db.get(&cf, key.as_bytes()).unwrap().as_deref(), Some(iter.value()));
            seen += 1;
            on = iter.next().unwrap();
        }
        let mut back = 0;
        let mut on = iter.seek_to_last().unwrap();
        while on {
            back += 1;
            on = iter.prev().unwrap();
        }
        assert_eq!((seen, back), (count, count));
        assert_eq!(db.get(&cf, b"key99999999x").unwrap(), None);
    };
    check(&db);
    let stats = db.stats();
    assert!(stats.flushes > 3, "{stats:?}");
    assert_eq!(stats.background_errors, Vec::new());
    db.close(false).unwrap();
    let db = Db::open(dir.path(), small()).unwrap();
    check(&db);
}

#[test]
fn counters_commit_flush_and_recover_with_their_batches() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), small()).unwrap();
    let cf = db.default_cf();
    let add = |db: &Db, delta| {
        let mut batch = WriteBatch::new();
        batch.put(&db.default_cf(), b"k", b"v");
        batch.add_counter(&db.default_cf(), 7, delta);
        db.write(&batch, &WriteOptions::default()).unwrap();
    };
    add(&db, 5);
    assert_eq!(db.counter(&cf, 7), 5);
    db.flush(FlushRequest::default()).unwrap().wait(None).unwrap();
    assert_eq!(db.counter(&cf, 7), 5);
    add(&db, -2);
    db.close(false).unwrap();
    let db = Db::open(dir.path(), small()).unwrap();
    assert_eq!(db.counter(&db.default_cf(), 7), 3);
    db.flush(FlushRequest::default()).unwrap().wait(None).unwrap();
    db.close(true).unwrap();
    let db = Db::open(dir.path(), small()).unwrap();
    assert_eq!(db.counter(&db.default_cf(), 7), 3);
    assert_eq!(db.counter(&db.default_cf(), 8), 0);
}

#[test]
fn a_view_is_one_cut_over_all_families_while_writers_run() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), small()).unwrap();
    let a = db.default_cf();
    let b = db.create_column_family("b", CfOptions::default()).unwrap();
    let filler = vec![b'x'; 900];
    let stop = std::sync::atomic::AtomicBool::new(false);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut batch = WriteBatch::new();
            for n in 0..6_000u64 {
                batch.clear();
                batch.put(&a, b"n", &n.to_be_bytes());
                batch.put(&b, b"n", &n.to_be_bytes());
                batch.put(&b, &(n % 200).to_be_bytes(), &filler);
                db.write(&batch, &unbounded()).unwrap();
            }
            stop.store(true, relaxed);
        });
        scope.spawn(|| {
            let mut last = 0;
            while !stop.load(relaxed) {
                let view = db.view();
                let of = |cf| {
                    let value = view.get(cf, b"n").unwrap();
                    value.map_or(0, |v| u64::from_be_bytes(v[..].try_into().unwrap()))
                };
                let (b_first, in_a, in_b) = (of(&b), of(&a), of(&b));
                assert_eq!(in_a, in_b, "half a batch was visible");
                assert_eq!(b_first, in_b, "the view moved");
                assert!(in_a >= last, "time went back");
                last = in_a;
            }
        });
    });
}

#[test]
fn a_snapshot_keeps_what_it_saw_through_flush_and_compaction() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), small()).unwrap();
    let cf = db.default_cf();
    db.put(&cf, b"key", b"old").unwrap();
    db.put(&cf, b"deleted later", b"old").unwrap();
    let snapshot = db.snapshot();
    for round in 0..8u32 {
        db.put(&cf, b"key", &round.to_be_bytes()).unwrap();
        db.delete(&cf, b"deleted later").unwrap();
        db.flush(FlushRequest::default()).unwrap().wait(None).unwrap();
    }
    let view = snapshot.view();
    assert_eq!(view.get(&cf, b"key").unwrap().as_deref(), Some(&b"old"[..]));
    assert_eq!(view.get(&cf, b"deleted later").unwrap().as_deref(), Some(&b"old"[..]));
    assert_eq!(db.get(&cf, b"deleted later").unwrap(), None);
}

#[test]
fn refused_calls_say_why_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), small()).unwrap();
    let locked = Db::open(dir.path(), small()).unwrap_err();
    assert_eq!(locked.kind(), ErrorKind::Locked);
    let nonsense = Options { memtable_count: 1, ..small() };
    let elsewhere = tempfile::tempdir().unwrap();
    assert_eq!(Db::open(elsewhere.path(), nonsense).unwrap_err().kind(), ErrorKind::Invalid);
    let must_exist = Options { create_if_missing: false, ..small() };
    assert_eq!(Db::open(elsewhere.path(), must_exist).unwrap_err().kind(), ErrorKind::NotFound);

    let other = Db::open(elsewhere.path(), small()).unwrap();
    let error = db.put(&other.default_cf(), b"k", b"v").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(other.get(&db.default_cf(), b"k").unwrap_err().kind(), ErrorKind::NotFound);

    let before = db.positions().visible;
    let mut batch = WriteBatch::new();
    batch.put(&db.default_cf(), &vec![0; sluicedb::limits::KEY_BYTES_MAX + 1], b"");
    let error = db.write(&batch, &WriteOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let unlogged = WriteOptions { ack: Ack::Disk, wal: false, ..WriteOptions::default() };
    batch.clear();
    batch.put(&db.default_cf(), b"k", b"v");
    assert_eq!(db.write(&batch, &unlogged).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(db.positions().visible, before, "a refused write took a position");

    assert_eq!(
        db.create_column_family("default", CfOptions::default()).unwrap_err().kind(),
        ErrorKind::Exists
    );
    db.close(true).unwrap();
    db.close(true).unwrap();
    assert_eq!(db.put(&db.default_cf(), b"k", b"v").unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(db.flush(FlushRequest::default()).unwrap_err().kind(), ErrorKind::Closed);
    Db::open(dir.path(), small()).unwrap();
}

#[test]
fn a_dropped_family_is_gone_for_good_but_not_under_a_reader() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), small()).unwrap();
    let cf = db.create_column_family("short-lived", CfOptions::default()).unwrap();
    db.put(&cf, b"k", b"v").unwrap();
    db.flush(FlushRequest::default()).unwrap().wait(None).unwrap();
    let view = db.view();
    db.drop_column_family(&cf).unwrap();
    assert_eq!(view.get(&cf, b"k").unwrap().as_deref(), Some(&b"v"[..]));
    assert_eq!(db.get(&cf, b"k").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(db.drop_column_family(&cf).unwrap_err().kind(), ErrorKind::NotFound);
    let again = db.create_column_family("short-lived", CfOptions::default()).unwrap();
    assert_ne!(again.id(), cf.id());
    assert_eq!(db.get(&again, b"k").unwrap(), None);
    db.close(false).unwrap();
    let db = Db::open(dir.path(), small()).unwrap();
    let again = db.column_family("short-lived").unwrap();
    assert_eq!(db.get(&again, b"k").unwrap(), None);
}

#[test]
fn many_writers_share_syncs_at_disk() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), small()).unwrap();
    let cf = db.default_cf();
    let options = WriteOptions { ack: Ack::Disk, deadline: None, ..WriteOptions::default() };
    std::thread::scope(|scope| {
        for writer in 0..8u32 {
            let (db, cf, options) = (&db, &cf, &options);
            scope.spawn(move || {
                let mut batch = WriteBatch::new();
                for n in 0..40u32 {
                    batch.clear();
                    batch.put(cf, format!("{writer}-{n}").as_bytes(), b"v");
                    let position = db.write(&batch, options).unwrap();
                    assert!(db.positions().durable >= position);
                }
            });
        }
    });
    let stats = db.stats();
    assert!(stats.wal_syncs < 320, "320 commits took {} syncs", stats.wal_syncs);
}

#[test]
fn a_stalled_write_is_refused_at_its_deadline_without_a_trace() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { background: sluicedb::Background::Stepped, ..small() };
    // A deadline of zero never steps the background: nothing ever leaves the memtables.
    let now = WriteOptions { deadline: Some(Duration::ZERO), ..WriteOptions::default() };
    let db = Db::open(dir.path(), options.clone()).unwrap();
    let cf = db.default_cf();
    let mut written = 0u32;
    let error = loop {
        let mut batch = WriteBatch::new();
        batch.put(&cf, &written.to_be_bytes(), &[b'x'; 1000]);
        match db.write(&batch, &now) {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100_000, "never stalled");
    };
    assert_eq!(error.kind(), ErrorKind::Stalled);
    assert!(error.to_string().contains("'default'"), "{error}");
    assert_eq!(db.get(&cf, &written.to_be_bytes()).unwrap(), None);
    assert_eq!(db.get(&cf, &(written - 1).to_be_bytes()).unwrap().unwrap().len(), 1000);
    db.close(false).unwrap();
    let db = Db::open(dir.path(), options).unwrap();
    let cf = db.default_cf();
    assert_eq!(db.get(&cf, &written.to_be_bytes()).unwrap(), None);
    assert_eq!(db.get(&cf, &(written - 1).to_be_bytes()).unwrap().unwrap().len(), 1000);
}
