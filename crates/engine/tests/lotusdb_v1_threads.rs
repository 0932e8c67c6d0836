//! The first list of defects found by reading other engines, part three: threads, waits, the end of
//! a database and its options. Each test is named after its defect (V1-n) and fails for an engine
//! that has it.
//!
//! A comment "an engine that …" states the defect; what follows is what ours must show.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{
    Disk, Leaves, NEVER, Rows, assert_rows, at, endless, flush, key, now, patient, put, rest, rows,
    seal, tables, value,
};
use sluice_env::{Failure, Rng, Rule};
use sluicedb::{Ack, CfOptions, Compression, Db, ErrorKind, FlushRequest, Options, ReadOptions};
use std::{
    io::BufRead as _,
    process::{Command, Stdio},
    sync::{
        atomic::{AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

/// An engine whose reader and writer share one cursor sets the value of another key, or returns
/// it, and keeps the mistake. Ours: a value that is read names the key asked for; its version is at
/// least the last one whose write had returned before, and at most the last one begun; and no
/// reader ever goes back.
#[test]
fn v1_05_readers_see_the_key_they_asked_for_and_never_go_back() {
    const KEYS: u64 = 64;
    const WRITERS: u64 = 2;
    const VERSIONS: u64 = 150;
    let disk = Disk::new();
    let options = Options { l0_compaction_trigger: 4, memtable_bytes: 16 << 10, ..disk.threaded() };
    let db = Db::open("/db", options).unwrap();
    let cf = db.default_cf();
    let counters = || -> Vec<AtomicU64> { (0..KEYS).map(|_| AtomicU64::new(0)).collect() };
    let (begun, done, writing) = (counters(), counters(), AtomicU64::new(WRITERS));
    let version_of = |n: u64, found: Option<&[u8]>| -> u64 {
        let Some(found) = found else { return 0 };
        let text = std::str::from_utf8(found).unwrap();
        let mut words = text.split(' ');
        let (of, version) = (words.next().unwrap(), words.next().unwrap());
        assert_eq!(of, n.to_string(), "the value of another key under key {n}");
        version.parse().unwrap()
    };
    std::thread::scope(|scope| {
        let (db, cf, begun, done, writing) = (&db, &cf, &begun, &done, &writing);
        for writer in 0..WRITERS {
            scope.spawn(move || {
                let _leaves = Leaves(writing);
                for version in 1..=VERSIONS {
                    for n in (0..KEYS).filter(|n| n % WRITERS == writer) {
                        begun[n as usize].store(version, SeqCst);
                        let text =
                            format!("{n} {version} {}", "x".repeat((n * version % 90) as usize));
                        put(db, cf, &key(n), text.as_bytes(), &patient(Ack::Memory)).unwrap();
                        done[n as usize].store(version, SeqCst);
                    }
                }
            });
        }
        for reader in 0..2 {
            scope.spawn(move || {
                let mut rng = Rng::new(reader);
                let mut last = vec![0; KEYS as usize];
                let mut look = |n: u64, read: &dyn Fn() -> Option<Vec<u8>>| {
                    let least = done[n as usize].load(SeqCst).max(last[n as usize]);
                    let version = version_of(n, read().as_deref());
                    let most = begun[n as usize].load(SeqCst);
                    assert!((least..=most).contains(&version), "{n}: {least} {version} {most}");
                    last[n as usize] = version;
                };
                while writing.load(SeqCst) > 0 {
                    let n = rng.below(KEYS);
                    look(n, &|| db.get(cf, &key(n)).unwrap());
                    let n = rng.below(KEYS);
                    look(n, &|| {
                        let mut iter = db.iter(cf, ReadOptions::default()).unwrap();
                        let found = iter.seek(&key(n)).unwrap() && iter.key() == key(n);
                        found.then(|| iter.value().to_vec())
                    });
                }
            });
        }
    });
    db.close(true).unwrap();
    let db = disk.open();
    for n in 0..KEYS {
        let found = db.get(&db.default_cf(), &key(n)).unwrap();
        assert_eq!(version_of(n, found.as_deref()), VERSIONS);
    }
}

/// An engine that looks for room, lets go of the lock and writes then, overshoots with many writers;
/// its arena moves under their pointers, and keys vanish. Ours: with the flusher held, eight writers
/// together fill the memtables to their limits and not one byte further; what was acknowledged is
/// there, what was refused is not; and a reopening with memtables of an eighth of the size loses
/// nothing.
#[test]
fn v1_06_writers_together_never_overshoot_the_room_and_no_key_vanishes() {
    const WRITERS: u64 = 8;
    /// What a row takes by the engine's own account: key, value, and 64 bytes around them.
    const ROW: u64 = 6 + 100 + 64;
    let disk = Disk::new();
    let options = Options { memtable_bytes: 32 << 10, memtable_count: 4, ..disk.threaded() };
    let db = Db::open("/db", options).unwrap();
    let cf = db.default_cf();
    let gate = disk.hold(tables().forever());
    let check = |stats: &sluicedb::Stats| {
        let family = &stats.cfs[0];
        assert!(family.active_bytes <= 32 << 10, "{}", family.active_bytes);
        assert!(family.sealed_memtables <= 3, "{}", family.sealed_memtables);
        assert!(stats.memtable_bytes <= 4 * (32 << 10), "{}", stats.memtable_bytes);
    };
    let kept: Vec<u64> = std::thread::scope(|scope| {
        let (db, cf) = (&db, &cf);
        let write = move |writer: u64| {
            let mut kept = Vec::new();
            for n in 0.. {
                let n = n * WRITERS + writer;
                let key = format!("{n:06}");
                match put(db, cf, key.as_bytes(), &[b'v'; 100], &now()) {
                    Ok(_) => kept.push(n),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Stalled, "{error}");
                        break;
                    }
                }
                check(&db.stats());
            }
            kept
        };
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| scope.spawn(move || write(writer))).collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    let stats = db.stats();
    check(&stats);
    assert_eq!(stats.memtable_bytes, kept.len() as u64 * ROW, "the account is not exact");
    assert_eq!(kept.len() as u64, 4 * ((32 << 10) / ROW), "room was left unused");
    let expected: Rows =
        kept.iter().map(|n| (format!("{n:06}").into_bytes(), vec![b'v'; 100])).collect();
    assert_rows(&rows(&db, &cf), &expected, "with the flusher held");
    let left = disk.kill();
    let smaller = Options { memtable_bytes: 4096, ..left.stepped() };
    let again = Db::open("/db", smaller).unwrap();
    assert_rows(&rows(&again, &again.default_cf()), &expected, "smaller memtables");
    rest(&again);
    assert_rows(&rows(&again, &again.default_cf()), &expected, "smaller memtables, flushed");
    gate.open();
    seal(&db).wait(Some(NEVER)).unwrap();
    assert_rows(&rows(&db, &cf), &expected, "flushed");
}

/// An engine that waits for room under a lock which the flusher and the readers need freezes all of
/// them, and its wait cannot succeed. Ours: while the flush is held and a writer waits, reads go on;
/// a write whose deadline passes is neither applied nor logged; and when the flush ends, the one
/// that waits is admitted.
#[test]
fn v1_07_a_flush_that_ends_in_time_admits_the_writer_and_readers_never_wait() {
    let disk = Disk::new();
    let db = Db::open("/db", Options { memtable_count: 2, ..disk.threaded() }).unwrap();
    let cf = db.default_cf();
    let gate = disk.hold(tables());
    let mut expected = Rows::new();
    for n in 0.. {
        if put(&db, &cf, &key(n), &value(n, 1), &now()).is_err() {
            break;
        }
        expected.insert(key(n), value(n, 1));
    }
    gate.wait_until_reached();
    // Refused at a deadline: no trace.
    let trace = || {
        let stats = db.stats();
        (db.positions().visible, stats.memtable_bytes, stats.writes, stats.cfs[0].active_entries)
    };
    let before = trace();
    for deadline in [0, 5] {
        let deadline = Some(Duration::from_millis(deadline));
        let options = sluicedb::WriteOptions { deadline, ..at(Ack::Disk) };
        let error = put(&db, &cf, b"refused", &b"refused".repeat(60), &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stalled, "{error}");
    }
    assert_eq!(trace(), before);
    db.sync().unwrap();
    for (path, _) in disk.mem.list() {
        let bytes = disk.mem.read(&path).unwrap();
        let refused = bytes.windows(7).any(|window| window == b"refused");
        assert!(!refused, "{} holds the refused write", path.display());
    }
    std::thread::scope(|scope| {
        let gate = gate;
        let (db, cf, expected) = (&db, &cf, &expected);
        let stalls = db.stats().stalls;
        let (sender, admitted) = mpsc::channel();
        scope.spawn(move || {
            let outcome = put(db, cf, b"patient", &[b'v'; 400], &endless(Ack::Disk));
            sender.send(outcome).unwrap();
        });
        while db.stats().stalls == stalls {
            std::thread::yield_now();
        }
        let (sender, read) = mpsc::channel();
        scope.spawn(move || {
            assert_rows(&rows(db, cf), expected, "while a writer waits");
            let snapshot = db.snapshot();
            assert!(snapshot.view().exists(cf, &key(0)).unwrap());
            sender.send(()).unwrap();
        });
        let read = read.recv_timeout(NEVER);
        assert!(admitted.try_recv().is_err(), "admitted while there was no room");
        gate.open();
        read.expect("readers wait for the flush");
        admitted.recv_timeout(NEVER).expect("the writer waits for ever").unwrap();
    });
    expected.insert(b"patient".to_vec(), vec![b'v'; 400]);
    assert_rows(&rows(&db, &cf), &expected, "afterwards");
    let left = disk.cut().open();
    assert_rows(&rows(&left, &left.default_cf()), &expected, "recovered");
}

/// An engine whose close neither waits for its flusher nor refuses what comes later writes behind
/// the next owner's back, or panics. Ours: the close waits for the flush under way and lets go of
/// the directory last; closing again is nothing; what comes later is told `Closed`; and tables that
/// nobody ever read do not matter.
#[test]
fn v1_12_close_joins_lets_go_of_the_lock_last_and_refuses_late_calls() {
    let disk = Disk::new();
    let db = Db::open("/db", disk.threaded()).unwrap();
    let cf = db.default_cf();
    let other = db.create_column_family("other", CfOptions::default()).unwrap();
    for n in 0..3 {
        put(&db, &cf, &key(n), &value(n, 1), &at(Ack::Os)).unwrap();
        seal(&db).wait(Some(NEVER)).unwrap();
    }
    put(&db, &cf, &key(9), &value(9, 1), &at(Ack::Os)).unwrap();
    let gate = disk.hold(tables());
    let ticket = seal(&db);
    gate.wait_until_reached();
    std::thread::scope(|scope| {
        let gate = gate;
        let closing = scope.spawn(|| db.close(false));
        // Refused from the first moment of the close on, while the flush still runs.
        while put(&db, &cf, b"late", b"", &now()).is_ok() {}
        let locked = Db::open("/db", disk.threaded()).unwrap_err();
        assert_eq!(locked.kind(), ErrorKind::Locked, "{locked}");
        assert!(!closing.is_finished(), "the close did not wait for the flusher");
        gate.open();
        closing.join().unwrap().unwrap();
    });
    // It was under way, so it may be done; it is over in any case.
    assert!(ticket.wait(Some(NEVER)).is_ok_and(|_| true) || ticket.poll().is_some());
    let files = disk.mem.list();
    let mut late = vec![
        ("put", put(&db, &cf, b"late", b"", &now()).map(drop)),
        ("flush", db.flush(FlushRequest::default()).map(drop)),
        ("create", db.create_column_family("late", CfOptions::default()).map(drop)),
        ("drop", db.drop_column_family(&other)),
        ("compact", db.compact(&cf, None, None)),
    ];
    for (call, outcome) in late.drain(..) {
        let error = outcome.expect_err(call);
        assert_eq!(error.kind(), ErrorKind::Closed, "{call}: {error}");
    }
    for flush in [false, true, false] {
        db.close(flush).unwrap();
    }
    assert_eq!(disk.mem.list(), files, "something was written after the close");
    // Opened and closed without a look at any table.
    let again = Db::open("/db", disk.threaded()).unwrap();
    again.close(true).unwrap();
    let again = disk.open();
    for n in [0, 1, 2, 9] {
        let found = again.get(&again.default_cf(), &key(n)).unwrap();
        assert_eq!(found, Some(value(n, 1)));
    }
}

/// An engine that deletes a file under its readers fails their reads, or crashes. Ours: a view and a
/// cursor from before a compaction read on, in tables that they had not even opened, as long as they
/// live; the files go when the last of them does. And readers of the present never fail.
#[test]
fn v1_13_files_are_deleted_behind_their_last_reader() {
    let disk = Disk::new();
    let db = disk.open();
    let cf = db.default_cf();
    let mut old = Rows::new();
    for round in 0..4 {
        for n in (round..40).step_by(3) {
            put(&db, &cf, &key(n), &value(n, round), &at(Ack::Os)).unwrap();
            old.insert(key(n), value(n, round));
        }
        flush(&db);
    }
    let before = disk.files(".sst");
    let view = db.view();
    let mut iter = db.iter(&cf, ReadOptions::default()).unwrap();
    for n in 0..40 {
        put(&db, &cf, &key(n), b"new", &at(Ack::Os)).unwrap();
    }
    flush(&db);
    db.compact(&cf, None, None).unwrap();
    db.clear_block_cache();
    rest(&db);
    for (key, value) in &old {
        assert_eq!(view.get(&cf, key).unwrap().as_deref(), Some(&value[..]), "by the old view");
        assert_eq!(db.get(&cf, key).unwrap().as_deref(), Some(&b"new"[..]));
    }
    let mut found = Rows::new();
    let mut on = iter.seek_to_first().unwrap();
    while on {
        found.insert(iter.key().to_vec(), iter.value().to_vec());
        on = iter.next().unwrap();
    }
    assert_rows(&found, &old, "by the old cursor");
    drop((view, iter));
    rest(&db);
    assert!(disk.files(".sst").iter().all(|file| !before.contains(file)), "old tables stay");
    drop(db);

    // The same with threads: gets and scans beside compactions that never end.
    let options = Options { l0_compaction_trigger: 2, ..disk.threaded() };
    let db = Db::open("/db", options).unwrap();
    let cf = db.default_cf();
    let working = AtomicU64::new(1);
    std::thread::scope(|scope| {
        let _leaves = Leaves(&working);
        for _ in 0..2 {
            scope.spawn(|| {
                while working.load(SeqCst) > 0 {
                    assert_eq!(rows(&db.clone(), &cf).len(), 40);
                }
            });
        }
        for round in 0..60 {
            for n in 0..40 {
                put(&db, &cf, &key(n), &value(n, 7), &patient(Ack::Memory)).unwrap();
            }
            if round % 4 == 0 {
                db.compact(&cf, None, None).unwrap();
            }
        }
    });
    assert!(db.stats().compactions > 5, "{:?}", db.stats());
}

/// Set in the process that `v1_16` starts: the directory it opens.
const CHILD: &str = "SLUICE_V1_16_DIRECTORY";

/// What the kernel says about the signals of this process: those caught and those ignored.
fn signals() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let is_wanted = |line: &&str| line.starts_with("SigCgt") || line.starts_with("SigIgn");
    status.lines().filter(is_wanted).map(str::to_owned).collect()
}

/// An engine whose library traps the signals that end a process leaves its host unable to end. Ours
/// installs no handler and ignores no signal, and a process that holds it open ends by
/// SIGTERM and SIGINT at once; its directory opens again.
#[test]
#[cfg(target_os = "linux")]
fn v1_16_the_library_leaves_signals_alone() {
    use std::os::unix::process::ExitStatusExt as _;

    if let Some(directory) = std::env::var_os(CHILD) {
        let before = signals();
        let db = Db::open(directory, Options::default()).unwrap();
        db.put(&db.default_cf(), b"k", b"v").unwrap();
        seal(&db).wait(Some(NEVER)).unwrap();
        db.put(&db.default_cf(), b"l", b"w").unwrap();
        assert_eq!(signals(), before, "the signals of the process were changed");
        println!("\nopen");
        loop {
            std::thread::park();
        }
    }
    for (name, number) in [("-TERM", 15), ("-INT", 2), ("-HUP", 1), ("-QUIT", 3)] {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "v1_16_the_library_leaves_signals_alone", "--nocapture"])
            .env(CHILD, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        let open = lines.any(|line| line.unwrap() == "open");
        if !open {
            child.wait().unwrap();
            panic!("the child ended before it had the database open");
        }
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().signal(), Some(number), "{name}");
        let db = Db::open(directory.path(), Options::default()).unwrap();
        for (key, value) in [(b"k", b"v"), (b"l", b"w")] {
            assert_eq!(db.get(&db.default_cf(), key).unwrap().as_deref(), Some(&value[..]));
        }
    }
}

/// An engine that divides by an option of zero panics, and one whose failed opening keeps its lock
/// cannot be opened again. Ours: every option out of its range is refused by name, before a file is
/// made; and whichever call of an opening fails, the next opening works.
#[test]
fn v1_17_nonsense_is_refused_and_a_failed_opening_holds_nothing() {
    type Change = fn(&mut Options);
    let nonsense: [(&str, Change); 17] = [
        ("memtable_bytes", |o| o.memtable_bytes = 0),
        ("memtable_bytes", |o| o.memtable_bytes = u64::MAX),
        ("memtable_count", |o| o.memtable_count = 0),
        ("memtable_count", |o| o.memtable_count = 1),
        ("memory_budget", |o| o.memory_budget = 1),
        ("wal_segment_bytes", |o| o.wal_segment_bytes = 0),
        ("wal_segment_bytes", |o| o.wal_segment_bytes = 4097),
        ("wal_max_bytes", |o| o.wal_max_bytes = 1),
        ("flush_threads", |o| o.flush_threads = 0),
        ("compaction_threads", |o| o.compaction_threads = 0),
        ("block_bytes", |o| o.block_bytes = 0),
        ("filter_bits_per_key", |o| o.filter_bits_per_key = 65),
        ("table_bytes", |o| o.table_bytes = 0),
        ("level_base_bytes", |o| o.level_base_bytes = 0),
        ("l0_compaction_trigger", |o| o.l0_compaction_trigger = 0),
        ("l0_stop", |o| o.l0_stop = 0),
        ("l0_stop", |o| o.l0_stop = o.l0_compaction_trigger - 1),
    ];
    let disk = Disk::new();
    for (name, change) in nonsense {
        let mut options = disk.stepped();
        change(&mut options);
        let error = Db::open("/db", options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name}: {error}");
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
    assert!(disk.mem.list().is_empty(), "refused options made files");
    // The smallest of everything works.
    let smallest = Options {
        memtable_bytes: 4096,
        memtable_count: 2,
        memory_budget: 64 << 10,
        filter_bits_per_key: 0,
        compression_lower: Compression::None,
        l0_compaction_trigger: 1,
        l0_stop: 1,
        ..disk.stepped()
    };
    let db = Db::open("/db", smallest).unwrap();
    // A family's own options are checked like the others.
    let own = CfOptions { memtable_bytes: Some(0), ..CfOptions::default() };
    let error = db.create_column_family("own", own).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("memtable_bytes"), "{error}");
    for n in 0..200 {
        put(&db, &db.default_cf(), &key(n), &value(n, 1), &patient(Ack::Os)).unwrap();
    }
    assert_eq!(rows(&db, &db.default_cf()).len(), 200);
    drop(db);
    // Reads too: every kind of call that an opening makes.
    let mut failures = 0;
    for nth in 1..10_000 {
        let rule = disk.fs.add(Rule::on_any().nth(nth).fail(Failure::EIO));
        let outcome = Db::open("/db", disk.stepped());
        let struck = disk.fs.fired(rule) > 0;
        disk.fs.remove(rule);
        match outcome {
            Ok(db) => {
                assert_eq!(Db::open("/db", disk.stepped()).unwrap_err().kind(), ErrorKind::Locked);
                drop(db);
                if !struck {
                    break;
                }
            }
            Err(error) => {
                assert!(struck, "call {nth}: nothing failed, and yet {error}");
                assert!(!error.to_string().is_empty());
                failures += 1;
            }
        }
        let db = Db::open("/db", disk.stepped()).unwrap_or_else(|e| panic!("call {nth}: {e}"));
        assert_eq!(rows(&db, &db.default_cf()).len(), 200, "call {nth}");
    }
    assert!(failures > 10, "{failures} failed openings");
}
