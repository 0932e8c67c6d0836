//! Callbacks: where they run, and that no lock of the engine is held then.

use crate::support::{
    NEVER, World, everything, fill, flush, must_end, put, queued, to, until, world,
};
use sluice_env::{Failure, Gate, Op, Rule};
use sluicedb::{Ack, Background, CfOptions, EventOptions, Topic, WriteBatch, WriteOptions};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
    mpsc,
};

/// The proof that callbacks run with no lock of the engine held: each of these calls would wait
/// for one of them, and the flush's wait for the threads of the engine.
#[test]
fn a_callback_may_call_the_database() {
    for topic in [Topic::Flush, Topic::Wal, Topic::Compaction, Topic::Stall, Topic::Error] {
        must_end(move || {
            let World { db, fs, .. } = world(Background::Threads);
            let events = db.subscribe(to(&[topic]));
            let (sender, done) = mpsc::channel();
            let handle = db.clone();
            let callback = move || {
                put(&handle, &handle.default_cf(), b"from the callback", Ack::Memory);
                handle.flush_log().unwrap_or_default();
                let ticket = handle.flush(everything()).unwrap();
                drop(ticket.wait(None));
                handle.stats();
                handle.positions();
                drop(handle.subscribe(EventOptions::default()));
                let made = handle.create_column_family("made", CfOptions::default());
                sender.send(made.is_ok()).unwrap();
            };
            events.on_ready(callback).unwrap();
            match topic {
                // Sealed under the commit lock.
                Topic::Flush => {
                    let mut batch = WriteBatch::new();
                    batch.put(&db.default_cf(), b"key", &[7; 1000]);
                    let patient = WriteOptions { deadline: None, ..WriteOptions::default() };
                    for _ in 0..20 {
                        db.write(&batch, &patient).unwrap();
                    }
                }
                Topic::Wal => {
                    put(&db, &db.default_cf(), b"k", Ack::Disk);
                }
                Topic::Compaction => {
                    put(&db, &db.default_cf(), b"k", Ack::Os);
                    flush(&db);
                    db.compact(&db.default_cf(), None, None).unwrap();
                }
                Topic::Stall => {
                    let gate = Gate::new();
                    fs.add(Rule::on(Op::Create).path_ends_with(".sst").hold(&gate));
                    fill(&db);
                    gate.open();
                }
                _ => {
                    fs.add(Rule::on(Op::Create).path_ends_with(".sst").fail(Failure::EIO));
                    put(&db, &db.default_cf(), b"k", Ack::Os);
                    drop(db.flush(everything()).unwrap().wait(None));
                }
            }
            assert!(done.recv_timeout(NEVER).expect("the callback hangs"), "{topic}");
            db.close(false).unwrap();
        });
    }
}

/// A log failure is noted under the commit lock and the install lock.
#[test]
fn a_callback_about_the_log_s_failure_may_wait_for_its_healing() {
    must_end(|| {
        let World { db, fs, .. } = world(Background::Threads);
        let events = Arc::new(db.subscribe(to(&[Topic::Error])));
        fs.add(Rule::on(Op::SyncData).path_ends_with(".wal").fail(Failure::EIO));
        let (sender, done) = mpsc::channel();
        let (handle, heard) = (db.clone(), Arc::clone(&events));
        let callback = move || {
            let failed = until(&heard, "log-failed");
            let ticket = handle.flush(everything()).unwrap();
            ticket.wait(None).unwrap();
            until(&heard, "log-healed");
            put(&handle, &handle.default_cf(), b"k", Ack::Disk);
            sender.send(failed.topic()).unwrap();
        };
        events.on_ready(callback).unwrap();
        let mut batch = WriteBatch::new();
        batch.put(&db.default_cf(), b"k", b"v");
        let durable = WriteOptions { ack: Ack::Disk, ..WriteOptions::default() };
        db.write(&batch, &durable).unwrap_err();
        assert_eq!(done.recv_timeout(NEVER).expect("the callback hangs"), Topic::Error);
    });
}

#[test]
fn a_callback_may_end_the_database() {
    for explicit in [true, false] {
        must_end(move || {
            let World { db, .. } = world(Background::Threads);
            let events = db.subscribe(to(&[Topic::Flush]));
            let (sender, done) = mpsc::channel();
            let handle = db.clone();
            let (let_go, gone) = mpsc::channel::<()>();
            let callback = move || {
                if explicit {
                    handle.close(true).unwrap();
                } else {
                    // Wait until this is the last handle.
                    gone.recv().unwrap_err();
                }
                drop(handle);
                sender.send(()).unwrap();
            };
            events.on_ready(callback).unwrap();
            put(&db, &db.default_cf(), b"k", Ack::Os);
            let ticket = db.flush(everything()).unwrap();
            drop(ticket);
            drop(db);
            drop(let_go);
            done.recv_timeout(NEVER).expect("the close hangs");
            while events.recv(None).is_ok() {}
        });
    }
}

#[test]
fn without_threads_callbacks_run_in_a_step() {
    let World { db, .. } = world(Background::Stepped);
    let events = Arc::new(db.subscribe(to(&[Topic::Flush])));
    let runs = Arc::new(AtomicU64::new(0));
    let count = || {
        let runs = Arc::clone(&runs);
        move || {
            runs.fetch_add(1, SeqCst);
        }
    };
    events.on_ready(count()).unwrap();
    put(&db, &db.default_cf(), b"k", Ack::Os);
    let ticket = db.flush(everything()).unwrap();
    assert_eq!(runs.load(SeqCst), 0);
    assert!(db.step());
    assert_eq!((runs.load(SeqCst), ticket.poll().is_none()), (1, true), "a step of its own");
    while db.step() {}
    assert_eq!(runs.load(SeqCst), 1, "once");
    events.on_ready(count()).unwrap();
    assert_eq!(runs.load(SeqCst), 2, "events wait: at once");
    assert_eq!(queued(&events).len(), 3);
    // One that panics, and one that comes behind it.
    events.on_ready(|| panic!("a callback of the test")).unwrap();
    events.on_ready(count()).unwrap();
    db.close(false).unwrap();
    assert_eq!(runs.load(SeqCst), 3, "the close runs what is left");
}
