//! What subscribers hear, and in which order; `callbacks.rs`: that no code of theirs runs under a
//! lock.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "events/callbacks.rs"]
mod callbacks;
#[path = "events/support.rs"]
mod support;

use sluice_env::{Failure, Gate, Op, Rule};
use sluicedb::{
    Ack, Background, CfOptions, ErrorKind, Event, EventOptions, FlushReason, Level, StallCause,
    Topic, WriteBatch, WriteOptions,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};
use support::{NEVER, Opens, World, everything, fill, flush, names, put, queued, to, until, world};

#[test]
fn one_flush_is_sealed_begun_and_ended_under_one_group() {
    let World { db, clock, .. } = world(Background::Stepped);
    let other = db.create_column_family("other", CfOptions::default()).unwrap();
    let events = db.subscribe(to(&[Topic::Flush]));
    put(&db, &db.default_cf(), b"a", Ack::Os);
    let last = put(&db, &other, b"b", Ack::Os);
    let ticket = db.flush(everything()).unwrap();
    clock.advance_ms(5);
    while db.step() {}
    let report = ticket.wait(None).unwrap();
    let first = events.try_recv().unwrap();
    assert_eq!(first.at_unix_ms, 1_700_000_000_000);
    let Event::MemtableSealed { cf, group, reason, bytes, entries, position } = first.event else {
        panic!("{first}")
    };
    assert_eq!((cf.as_str(), reason, entries, position), ("default", FlushReason::Manual, 1, last));
    assert!(bytes > 5, "{bytes}");
    let second = events.try_recv().unwrap().event;
    let is_others = matches!(&second, Event::MemtableSealed { cf, group: g, .. } if cf == "other" && *g == group);
    assert!(is_others, "{second}");
    let begin = events.try_recv().unwrap();
    assert_eq!(begin.at_unix_ms, 1_700_000_000_005);
    let cfs = vec!["default".to_owned(), "other".to_owned()];
    let bytes = report.bytes_in;
    assert_eq!(begin.event, Event::FlushBegin { group, reason, cfs, bytes, position: last });
    let end = events.try_recv().unwrap();
    assert_eq!(end.event, Event::FlushEnd { group, report });
    assert_eq!(events.try_recv(), None);
    assert_eq!(events.recv(Some(Duration::ZERO)).unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn the_end_of_a_flush_is_queued_before_its_ticket_ends() {
    let World { db, .. } = world(Background::Threads);
    let events = db.subscribe(to(&[Topic::Flush]));
    for round in 0..200u32 {
        put(&db, &db.default_cf(), &round.to_be_bytes(), Ack::Memory);
        flush(&db);
        let seen = names(&queued(&events));
        assert_eq!(seen, ["memtable-sealed", "flush-begin", "flush-end"], "round {round}");
    }
}

#[test]
fn p06_a_flush_that_fails_reaches_subscribers_and_so_does_its_end() {
    let World { db, fs, clock, .. } = world(Background::Stepped);
    let events = db.subscribe(to(&[Topic::Flush]));
    let errors = db.subscribe(to(&[Topic::Error]));
    fs.add(Rule::on(Op::Create).path_ends_with(".sst").forever().fail(Failure::EIO));
    put(&db, &db.default_cf(), b"k", Ack::Os);
    let ticket = db.flush(everything()).unwrap();
    while db.step() {}
    assert_eq!(ticket.poll().unwrap().unwrap_err().kind(), ErrorKind::Io);
    clock.advance_ms(60);
    while db.step() {}
    let seen = queued(&events);
    let expected =
        ["memtable-sealed", "flush-begin", "flush-failed", "flush-begin", "flush-failed"];
    assert_eq!(names(&seen), expected);
    let Event::MemtableSealed { group: sealed, .. } = seen[0] else { panic!() };
    for (event, expected) in [(&seen[2], (1, 50)), (&seen[4], (2, 100))] {
        let Event::FlushFailed { group, cfs, kind, message, attempts, retry_in, .. } = event else {
            panic!("{event}")
        };
        assert_eq!((*group, cfs.as_slice()), (sealed, &["default".to_owned()][..]));
        assert_eq!(
            (*kind, *attempts, retry_in.as_millis()),
            (ErrorKind::Io, expected.0, expected.1)
        );
        assert!(message.contains("flush column family 'default'"), "{message}");
    }
    let seen = queued(&errors);
    let is_told = |e: &Event| {
        matches!(
            e,
            Event::BackgroundError { job: "flush", kind: ErrorKind::Io, read_only: false, .. }
        )
    };
    assert!(seen.len() == 2 && seen.iter().all(is_told), "{seen:?}");
    fs.clear();
    clock.advance_ms(10_000);
    while db.step() {}
    let seen = queued(&events);
    assert_eq!(names(&seen), ["flush-begin", "flush-end"]);
    assert!(matches!(&seen[1], Event::FlushEnd { group, .. } if *group == sealed), "{seen:?}");
    assert_eq!(queued(&errors), [Event::Recovered { job: "flush" }]);
}

#[test]
fn a_stall_begins_with_the_first_writer_and_ends_with_the_last() {
    let World { db, fs, .. } = world(Background::Threads);
    let gate = Gate::new();
    let _opens = Opens(&gate);
    fs.add(Rule::on(Op::Create).path_ends_with(".sst").hold(&gate));
    fill(&db);
    gate.wait_until_reached();
    let events = db.subscribe(to(&[Topic::Stall]));
    let before = db.stats().stalls;
    std::thread::scope(|scope| {
        for deadline in [None, None, Some(Duration::ZERO)] {
            let db = &db;
            scope.spawn(move || {
                let mut batch = WriteBatch::new();
                batch.put(&db.default_cf(), b"key", &[7; 1000]);
                let outcome = db.write(&batch, &WriteOptions { deadline, ..Default::default() });
                assert_eq!(outcome.is_ok(), deadline.is_none(), "{outcome:?}");
            });
        }
        while db.stats().stalls < before + 3 {
            std::thread::yield_now();
        }
        gate.open();
    });
    let begin = until(&events, "stall-begin");
    let Event::StallBegin { cause, cf, detail } = begin else { panic!("{begin}") };
    assert_eq!((cause, cf.as_deref()), (StallCause::Memtables, Some("default")));
    assert!(detail.contains("column family 'default' is full (2 of 2"), "{detail}");
    // The refused one ends with the room's turn, which comes when the flush is done.
    let end = until(&events, "stall-end");
    let Event::StallEnd { cause, cf, writes, refused, .. } = end else { panic!("{end}") };
    assert_eq!((cause, cf.as_deref()), (StallCause::Memtables, Some("default")));
    assert_eq!((writes, refused), (3, 1));
    assert_eq!(queued(&events), [], "one beginning, one end");
}

#[test]
fn a_stall_that_only_refuses_ends_when_there_is_room() {
    let World { db, fs, .. } = world(Background::Threads);
    let gate = Gate::new();
    let _opens = Opens(&gate);
    fs.add(Rule::on(Op::Create).path_ends_with(".sst").hold(&gate));
    let events = db.subscribe(to(&[Topic::Stall]));
    fill(&db);
    assert!(matches!(events.try_recv().unwrap().event, Event::StallBegin { .. }));
    fill(&db);
    assert_eq!(events.try_recv(), None, "it stands");
    gate.open();
    let end = until(&events, "stall-end");
    assert!(matches!(end, Event::StallEnd { writes: 2, refused: 2, .. }), "{end}");
}

#[test]
fn p09_a_full_disk_is_told_of_and_so_is_its_end() {
    let World { db, fs, clock, .. } = world(Background::Stepped);
    let events = db.subscribe(to(&[Topic::Error, Topic::Flush]));
    put(&db, &db.default_cf(), b"k", Ack::Disk);
    fs.set_capacity(Some(fs.used_bytes()));
    let ticket = db.flush(everything()).unwrap();
    while db.step() {}
    assert_eq!(ticket.poll().unwrap().unwrap_err().kind(), ErrorKind::DiskFull);
    let seen = queued(&events);
    let expected = ["memtable-sealed", "flush-begin", "background-error", "flush-failed"];
    assert_eq!(names(&seen), expected);
    let is_full = matches!(
        seen[2],
        Event::BackgroundError { job: "flush", kind: ErrorKind::DiskFull, read_only: false, .. }
    );
    assert!(is_full, "{}", seen[2]);
    assert!(matches!(seen[3], Event::FlushFailed { kind: ErrorKind::DiskFull, .. }), "{}", seen[3]);
    fs.set_capacity(None);
    clock.advance_ms(10_000);
    while db.step() {}
    assert_eq!(names(&queued(&events)), ["flush-begin", "recovered", "flush-end"]);
}

#[test]
fn a_log_that_fails_is_told_of_once_and_so_is_its_healing() {
    let World { db, fs, clock, .. } = world(Background::Stepped);
    let events = db.subscribe(to(&[Topic::Error]));
    let cf = db.default_cf();
    put(&db, &cf, b"k", Ack::Disk);
    fs.add(Rule::on(Op::SyncData).path_ends_with(".wal").fail(Failure::EIO));
    let no_tables =
        fs.add(Rule::on(Op::Create).path_ends_with(".sst").forever().fail(Failure::EIO));
    put(&db, &cf, b"k", Ack::Os);
    db.sync().unwrap_err();
    for _ in 0..5 {
        clock.advance_ms(10_000);
        while db.step() {}
    }
    let seen = queued(&events);
    let Event::LogFailed { kind: ErrorKind::ReadOnly, message } = &seen[0] else {
        panic!("{}", seen[0])
    };
    assert!(message.contains("writes are refused until"), "{message}");
    let others = names(&seen[1..]);
    assert!(
        others.len() >= 5 && others.iter().all(|name| *name == "background-error"),
        "{others:?}"
    );
    fs.remove(no_tables);
    clock.advance_ms(10_000);
    while db.step() {}
    assert_eq!(names(&queued(&events)), ["recovered", "log-healed"]);
    put(&db, &cf, b"k", Ack::Disk);
    assert_eq!(queued(&events), []);
}

#[test]
fn a_full_channel_drops_what_is_new_and_holds_nobody_up() {
    let World { db, .. } = world(Background::Threads);
    let small = db.subscribe(EventOptions { capacity: 2, topics: vec![Topic::Flush] });
    let large = db.subscribe(to(&[Topic::Flush]));
    for round in 0..10u32 {
        put(&db, &db.default_cf(), &round.to_be_bytes(), Ack::Memory);
        flush(&db);
    }
    assert_eq!((small.dropped(), large.dropped()), (28, 0));
    let seen = queued(&large);
    assert_eq!(seen.len(), 30);
    assert_eq!(queued(&small), seen[..2], "the oldest stay");
    put(&db, &db.default_cf(), b"again", Ack::Memory);
    flush(&db);
    assert_eq!(names(&queued(&small)), ["memtable-sealed", "flush-begin"], "room came back");
    assert_eq!(small.dropped(), 29);
}

#[test]
fn p06_the_close_ends_every_wait_once_what_was_queued_is_taken() {
    let World { db, .. } = world(Background::Threads);
    let waiting = db.subscribe(to(&[Topic::Compaction]));
    let events = db.subscribe(to(&[Topic::Flush]));
    let (sender, called) = mpsc::channel();
    waiting.on_ready(move || sender.send(()).unwrap()).unwrap();
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| waiting.recv(None));
        put(&db, &db.default_cf(), b"k", Ack::Os);
        db.close(true).unwrap();
        assert_eq!(blocked.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    });
    called.try_recv().expect("callbacks have been run when the close returns");
    let seen: Vec<_> = events.iter().map(|record| record.event.name()).collect();
    assert_eq!(seen, ["memtable-sealed", "flush-begin", "flush-end"]);
    assert_eq!(events.recv(None).unwrap_err().kind(), ErrorKind::Closed);
    // Who comes later finds the end, too.
    let late = db.subscribe(EventOptions::default());
    assert_eq!(late.recv(None).unwrap_err().kind(), ErrorKind::Closed);
    let called = AtomicBool::new(false);
    let flag = Arc::new(called);
    let set = Arc::clone(&flag);
    late.on_ready(move || set.store(true, SeqCst)).unwrap();
    assert!(flag.load(SeqCst));
}

#[test]
fn what_nobody_wants_is_not_made() {
    let World { db, fs, .. } = world(Background::Threads);
    let work = |key: &[u8]| {
        put(&db, &db.default_cf(), key, Ack::Disk);
        flush(&db);
        db.compact(&db.default_cf(), None, None).unwrap();
    };
    work(b"a");
    let first = db.subscribe(to(&[Topic::Error]));
    work(b"b");
    fs.add(Rule::on(Op::Create).path_ends_with(".sst").fail(Failure::EIO));
    put(&db, &db.default_cf(), b"c", Ack::Disk);
    db.flush(everything()).unwrap().wait(Some(NEVER)).unwrap_err();
    let record = first.recv(Some(NEVER)).unwrap();
    assert!(matches!(record.event, Event::BackgroundError { .. }), "{record}");
    assert_eq!(record.serial, 1, "events were made that nobody asked for");
    drop(first);
    work(b"d");
    let again = db.subscribe(EventOptions::default());
    work(b"e");
    let next = again.try_recv().unwrap();
    assert!(next.serial <= 3, "{next}: a dropped subscription still counts");
}

#[test]
fn the_log_tells_of_segments_and_syncs() {
    let World { db, .. } = world(Background::Stepped);
    let events = db.subscribe(to(&[Topic::Wal]));
    let last = put(&db, &db.default_cf(), b"k", Ack::Disk);
    let seen = queued(&events);
    let [Event::WalSynced { position, bytes, batches: 1, .. }] = seen[..] else {
        panic!("{seen:?}")
    };
    assert!(position == last && bytes > 0, "{position} {bytes}");
    let mut batch = WriteBatch::new();
    batch.put(&db.default_cf(), b"key", &[7; 1000]);
    for _ in 0..40 {
        db.write(&batch, &WriteOptions { deadline: None, ..Default::default() }).unwrap();
        while db.step() {}
    }
    let seen = queued(&events);
    for name in ["wal-segment-created", "wal-segment-released", "wal-segment-recycled"] {
        assert!(seen.iter().any(|event| event.name() == name), "{name}: {:?}", names(&seen));
    }
    let kept = seen.iter().find_map(|event| match event {
        Event::WalSegmentReleased { number, kept: true, bytes: 4096 } => Some(*number),
        _ => None,
    });
    let reused = |event: &Event| matches!(event, Event::WalSegmentRecycled { from, number, .. } if Some(*from) == kept && number > from);
    assert!(seen.iter().any(reused), "{kept:?}");
}

#[test]
fn compactions_tell_of_beginning_end_and_failure() {
    let World { db, fs, .. } = world(Background::Stepped);
    let events = db.subscribe(to(&[Topic::Compaction]));
    let cf = db.default_cf();
    for _ in 0..2 {
        put(&db, &cf, b"k", Ack::Os);
        let ticket = db.flush(everything()).unwrap();
        while ticket.poll().is_none() {
            assert!(db.step());
        }
    }
    fs.add(Rule::on(Op::Create).path_ends_with(".sst").fail(Failure::ENOSPC));
    db.compact(&cf, None, None).unwrap_err();
    let seen = queued(&events);
    assert_eq!(names(&seen), ["compaction-begin", "compaction-failed"]);
    assert!(matches!(seen[1], Event::CompactionFailed { kind: ErrorKind::DiskFull, .. }));
    let bytes_before = db.stats().table_bytes;
    db.compact(&cf, None, None).unwrap();
    let seen = queued(&events);
    let Event::CompactionBegin { cf, level, files: 2, bytes, .. } = &seen[0] else {
        panic!("{}", seen[0])
    };
    assert_eq!((cf.as_str(), *level, *bytes), ("default", Level(0), bytes_before));
    let Event::CompactionEnd { files_in: 2, files_out: 1, bytes_out, .. } = &seen[1] else {
        panic!("{}", seen[1])
    };
    assert_eq!(*bytes_out, db.stats().table_bytes);
    assert!(seen.len().is_multiple_of(2), "{:?}", names(&seen));
}

#[test]
fn under_load_every_group_is_sealed_begun_and_ended_in_order() {
    let World { db, .. } = world(Background::Threads);
    let options = EventOptions { capacity: 1 << 16, ..EventOptions::default() };
    let events = db.subscribe(options);
    let woken = Arc::new(AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let (db, woken, events) = (&db, &woken, &events);
            scope.spawn(move || {
                let patient = WriteOptions { deadline: None, ..WriteOptions::default() };
                for round in 0..150u32 {
                    let mut batch = WriteBatch::new();
                    let key = [thread.to_be_bytes(), round.to_be_bytes()].concat();
                    batch.put(&db.default_cf(), &key, &[1; 400]);
                    db.write(&batch, &patient).unwrap();
                    if round % 50 == 0 {
                        let (woken, handle) = (Arc::clone(woken), db.clone());
                        let callback = move || {
                            handle.stats();
                            woken.fetch_add(1, SeqCst);
                        };
                        events.on_ready(callback).unwrap();
                    }
                }
            });
        }
    });
    db.close(true).unwrap();
    assert_eq!((woken.load(SeqCst), events.dropped()), (12, 0));
    let seen = queued(&events);
    let mut stages = std::collections::BTreeMap::<u64, Vec<&str>>::new();
    for event in &seen {
        let group = match event {
            Event::MemtableSealed { group, .. }
            | Event::FlushBegin { group, .. }
            | Event::FlushEnd { group, .. } => group,
            _ => continue,
        };
        stages.entry(*group).or_default().push(event.name());
    }
    assert!(stages.len() > 10, "{}", stages.len());
    for (group, stages) in stages {
        assert_eq!(stages, ["memtable-sealed", "flush-begin", "flush-end"], "group {group}");
    }
    let count = |name: &str| seen.iter().filter(|event| event.name() == name).count();
    assert_eq!(count("stall-begin"), count("stall-end"));
    assert_eq!(count("compaction-begin"), count("compaction-end"));
}
