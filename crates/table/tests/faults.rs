//! Files that fail: the nth call of a kind, n = 1, 2, 3.. until a run needs fewer calls.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod common;

use std::{path::Path, sync::Arc};

use common::{Entry, PATH, build, open, put};
use sluice_base::{ErrorKind, FileNo, Result};
use sluice_env::{Failure, FaultFs, Fs, MemFs, Op, Rng, Rule};
use sluice_table::{
    BlockCache, IterOptions, TableIter, TableOptions, TableSummary, TableWriter, filter_hash,
};

fn noise_entries(count: u64, value_bytes: usize) -> Vec<Entry> {
    let mut rng = Rng::new(0x5eed_fa11);
    let mut value = vec![0; value_bytes];
    (0..count)
        .map(|number| {
            rng.fill(&mut value);
            put(format!("{number:08}").as_bytes(), number, &value)
        })
        .collect()
}

fn write(fs: &Arc<dyn Fs>, entries: &[Entry]) -> Result<TableSummary> {
    let mut writer = TableWriter::create(fs, Path::new(PATH), FileNo(7), TableOptions::default())?;
    for (at, (key, trailer, value)) in entries.iter().enumerate() {
        if let Err(error) = writer.add(key, *trailer, value) {
            // A writer that failed takes nothing more and makes no table.
            if let Some((key, trailer, value)) = entries.get(at + 1) {
                let refused = writer.add(key, *trailer, value).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::Invalid);
            }
            if at % 2 == 0 {
                writer.abandon().unwrap();
            } else {
                writer.finish().unwrap_err();
            }
            return Err(error);
        }
    }
    writer.finish()
}

#[test]
fn a_failed_write_or_sync_is_reported_and_leaves_no_file() {
    let mut entries = noise_entries(700, 4000);
    // Big enough to take the path without a copy.
    entries.push(put(b"a huge one", 1, &vec![7; 17 << 20]));
    let mut failures = 0;
    for nth in 1.. {
        let mem = Arc::new(MemFs::new());
        let faults = Arc::new(FaultFs::new(mem));
        faults.fail_nth(nth, Failure::ENOSPC);
        let fs: Arc<dyn Fs> = faults;
        match write(&fs, &entries) {
            Ok(summary) => {
                assert_eq!(summary.entries, entries.len() as u64);
                let table = open(&fs, &BlockCache::new(0)).unwrap();
                table.verify().into_result().unwrap();
                break;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::DiskFull, "call {nth}: {error}");
                assert!(!fs.exists(Path::new(PATH)).unwrap(), "call {nth}");
                failures += 1;
            }
        }
    }
    // Creation, some pieces, what precedes the huge value, the value, the rest, the sync.
    assert!(failures >= 7, "{failures}");
}

#[test]
fn a_failed_read_is_an_error_once_and_the_truth_afterwards() {
    let entries = noise_entries(300, 500);
    let mem: Arc<dyn Fs> = Arc::new(MemFs::new());
    build(&mem, &entries, TableOptions::default());
    let faults = Arc::new(FaultFs::new(Arc::clone(&mem)));
    let fs: Arc<dyn Fs> = Arc::clone(&faults) as Arc<dyn Fs>;
    let (mut refused_opens, mut refused_reads) = (0, 0);
    for nth in 1.. {
        faults.clear();
        let rule = faults.add(Rule::on(Op::Read).nth(nth).fail(Failure::EIO));
        let table = match open(&fs, &BlockCache::new(1 << 20)) {
            Ok(table) => table,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Io);
                refused_opens += 1;
                continue;
            }
        };
        let (key, trailer, value) = &entries[150];
        let get = || table.get(key, filter_hash(key), *trailer);
        if let Err(error) = get() {
            assert_eq!(error.kind(), ErrorKind::Io);
            refused_reads += 1;
        }
        assert_eq!(&get().unwrap().unwrap().1[..], &value[..]);

        for options in [IterOptions::default(), IterOptions::sequential()] {
            let mut iter = TableIter::new(Arc::clone(&table), options);
            let mut walk = || -> Result<usize> {
                let mut count = 0;
                let mut on = iter.seek_to_first()?;
                while on {
                    assert_eq!(iter.value(), entries[count].2);
                    count += 1;
                    on = iter.next()?;
                }
                Ok(count)
            };
            if walk().is_err() {
                refused_reads += 1;
                assert_eq!(walk().unwrap(), entries.len());
            }
        }
        if faults.fired(rule) == 0 {
            break;
        }
    }
    assert_eq!(refused_opens, 4);
    assert!(refused_reads > 5, "{refused_reads}");
}

#[test]
fn a_failed_read_of_a_partition_is_an_error_once_and_the_truth_afterwards() {
    let entries = noise_entries(300, 500);
    let mem: Arc<dyn Fs> = Arc::new(MemFs::new());
    let options =
        TableOptions { block_bytes: 1000, index_partition_bytes: 300, ..TableOptions::default() };
    build(&mem, &entries, options);
    let faults = Arc::new(FaultFs::new(Arc::clone(&mem)));
    let fs: Arc<dyn Fs> = Arc::clone(&faults) as Arc<dyn Fs>;
    let table = open(&fs, &BlockCache::new(0)).unwrap();
    assert!(table.index_partitions() > 3, "{}", table.index_partitions());
    let walk = |options: IterOptions, back: bool| -> Result<()> {
        let mut iter = TableIter::new(Arc::clone(&table), options);
        let mut count = 0;
        let mut on = if back { iter.seek_to_last()? } else { iter.seek_to_first()? };
        while on {
            let at = if back { entries.len() - 1 - count } else { count };
            assert_eq!(iter.value(), entries[at].2);
            count += 1;
            on = match if back { iter.prev() } else { iter.next() } {
                Ok(on) => on,
                Err(error) => {
                    assert!(!iter.valid() && !iter.next()? && !iter.prev()?);
                    return Err(error);
                }
            };
        }
        assert_eq!(count, entries.len());
        Ok(())
    };
    let mut refused = 0;
    for nth in 1.. {
        faults.clear();
        let rule = faults.add(Rule::on(Op::Read).nth(nth).fail(Failure::EIO));
        let (key, trailer, value) = &entries[150];
        let get = || table.get(key, filter_hash(key), *trailer);
        let before = table.approximate_offset(key);
        let found = get().or_else(|_| {
            refused += 1;
            get()
        });
        assert_eq!(&found.unwrap().unwrap().1[..], &value[..]);
        let after = table.approximate_offset(key);
        assert!(before.abs_diff(after) < 20_000, "{before} {after}");
        for back in [false, true] {
            for options in [IterOptions::default(), IterOptions::sequential()] {
                if let Err(error) = walk(options.clone(), back) {
                    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
                    refused += 1;
                    walk(options, back).unwrap();
                }
            }
        }
        if let Err(error) = table.block_stats(100) {
            assert_eq!(error.kind(), ErrorKind::Io);
            assert_eq!(table.block_stats(100).unwrap().unwrap().rows, 1);
        }
        if faults.fired(rule) == 0 {
            break;
        }
    }
    assert!(refused > 300, "{refused}");
}
