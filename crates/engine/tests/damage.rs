//! P8 and P12: whatever happens to the bytes of a closed database, opening and reading it gives
//! the right answer or an error. Never a wrong answer, never a panic, never a hang.
//!
//! "Right" has one limit that no format can move: bytes lost from the *end* of the log or of the
//! manifest look like a crash that tore the last append. Then an older state of the history is
//! right as well, as after any crash; the database here is small enough to know all of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "damage/pages.rs"]
mod pages;
#[path = "damage/files.rs"]
mod whole_files;

use sluice_env::{Env, Fs, MemFs};
use sluice_table::{BlockCache, Table};
use sluicedb::{
    Ack, Background, CfOptions, Db, ErrorKind, FileNo, FlushRequest, Options, ReadOptions, Result,
    WriteBatch, WriteOptions,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

type Model = BTreeMap<(String, Vec<u8>), Vec<u8>>;

fn options(fs: &Arc<MemFs>) -> Options {
    Options {
        env: Env::os().with_fs(Arc::<MemFs>::clone(fs)),
        background: Background::Stepped,
        memtable_bytes: 64 << 10,
        memory_budget: 1 << 20,
        wal_segment_bytes: 4096,
        wal_max_bytes: 1 << 20,
        block_bytes: 512,
        l0_compaction_trigger: 1000,
        l0_stop: 1000,
        // The file is damaged like all others, byte by byte: few are enough.
        reserve_bytes: Some(100),
        ..Options::default()
    }
}

/// A closed database with tables, a log and two families, and every state it has been in.
fn sample() -> (MemFs, Vec<Model>) {
    let (fs, states, _) = sample_of(40);
    (fs, states)
}

/// As [`sample`], with values of this length; and the files as they were at every state.
fn sample_of(value_bytes: usize) -> (MemFs, Vec<Model>, Vec<MemFs>) {
    let fs = Arc::new(MemFs::new());
    let db = Db::open("/db", options(&fs)).unwrap();
    let mut history = vec![fs.kill_clone()];
    let cfs = [db.default_cf(), db.create_column_family("other", CfOptions::default()).unwrap()];
    let mut states = vec![Model::new()];
    for n in 0..10u8 {
        let mut batch = WriteBatch::new();
        let mut state = states.last().unwrap().clone();
        for cf in &cfs {
            for key in 0..6u8 {
                let key = format!("key{:02}", (key * 3 + n) % 14).into_bytes();
                if (n + key[4]).is_multiple_of(5) {
                    batch.delete(cf, &key);
                    state.remove(&(cf.name().to_owned(), key));
                } else {
                    let value = vec![n.wrapping_mul(7); value_bytes];
                    batch.put(cf, &key, &value);
                    state.insert((cf.name().to_owned(), key), value);
                }
            }
        }
        states.push(state);
        db.write(&batch, &WriteOptions { ack: Ack::Disk, ..WriteOptions::default() }).unwrap();
        if n == 3 || n == 6 {
            let ticket = db.flush(FlushRequest::default()).unwrap();
            while ticket.poll().is_none() {
                db.step();
            }
            ticket.wait(None).unwrap();
        }
        history.push(fs.kill_clone());
    }
    db.close(false).unwrap();
    drop(db);
    fs.sync_all();
    (fs.kill_clone(), states, history)
}

/// Everything that can be read, and whether anything could not be.
fn read_all(fs: &Arc<MemFs>, states: &[Model]) -> Result<(Model, bool)> {
    read_dir("/db", fs, states)
}

fn read_dir(dir: &str, fs: &Arc<MemFs>, states: &[Model]) -> Result<(Model, bool)> {
    let db = Db::open(dir, options(fs))?;
    let keys: BTreeSet<_> = states.iter().flat_map(BTreeMap::keys).collect();
    let mut by_key = Model::new();
    let mut failed = false;
    for (family, key) in keys {
        let Some(cf) = db.column_family(family) else { continue };
        match db.get(&cf, key) {
            Ok(Some(value)) => drop(by_key.insert((family.clone(), key.clone()), value)),
            Ok(None) => {}
            Err(_) => failed = true,
        }
    }
    let mut by_scan = Model::new();
    for cf in db.list_column_families() {
        let scan = |found: &mut Model| -> Result<()> {
            let mut iter = db.iter(&cf, ReadOptions::default())?;
            let mut on = iter.seek_to_first()?;
            while on {
                let key = (cf.name().to_owned(), iter.key().to_vec());
                found.insert(key, iter.value().to_vec());
                on = iter.next()?;
            }
            Ok(())
        };
        failed |= scan(&mut by_scan).is_err();
    }
    if !failed {
        let mut keys = by_key.keys().chain(by_scan.keys());
        let differs = keys.find(|key| by_key.get(*key) != by_scan.get(*key));
        assert!(differs.is_none(), "gets and scan disagree on {differs:?}");
    }
    by_scan.extend(by_key);
    Ok((by_scan, failed))
}

/// Opens and reads a damaged copy. `may_go_back`: the damage may look like a torn last append.
fn judge(fs: MemFs, states: &[Model], may_go_back: bool, what: &str) -> &'static str {
    judge_dir("/db", fs, states, may_go_back, what)
}

fn judge_dir(
    dir: &str,
    fs: MemFs,
    states: &[Model],
    may_go_back: bool,
    what: &str,
) -> &'static str {
    let fs = Arc::new(fs);
    match read_dir(dir, &fs, states) {
        Err(error) => {
            assert!(!error.to_string().is_empty(), "{what}");
            "refused"
        }
        Ok((found, failed)) => {
            let is_right = |state: &Model| match failed {
                false => *state == found,
                // What could be read is right: nothing else may have been found.
                true => found.iter().all(|(key, value)| state.get(key) == Some(value)),
            };
            let last = states.last().unwrap();
            let right = is_right(last) || (may_go_back && states.iter().any(is_right));
            assert!(right, "{what}: wrong data (failed reads: {failed})");
            match (failed, found == *last) {
                (true, _) => "partly read",
                (false, true) => "all there",
                (false, false) => "older",
            }
        }
    }
}

fn files(fs: &MemFs) -> Vec<(PathBuf, u64)> {
    fs.list().into_iter().filter(|(path, bytes)| *bytes > 0 && !path.ends_with("LOCK")).collect()
}

fn looks_torn(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    name.ends_with(".wal") || name.starts_with("MANIFEST")
}

/// A copy of `fs` with other bytes in one file.
fn with_file(fs: &MemFs, path: &Path, bytes: &[u8]) -> MemFs {
    let copy = fs.kill_clone();
    copy.write(path, bytes).unwrap();
    copy.sync_all();
    copy
}

/// A table whose bytes are not those that were written must be told by a verification.
fn assert_verify_tells(fs: &MemFs, path: &Path, what: &str) {
    let number = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let disk: Arc<dyn Fs> = Arc::new(fs.kill_clone());
    let cache = BlockCache::new(1 << 20);
    if let Ok(table) = Table::open(&disk, path, FileNo(number), &cache) {
        assert!(Arc::new(table).verify().errors_total > 0, "{what}: verify finds nothing");
    }
}

/// A number of the environment, or what keeps the default run short.
fn budget(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

#[test]
fn p08_one_flipped_byte_anywhere_is_an_error_or_harmless() {
    let (fs, states) = sample();
    let mut verdicts = BTreeMap::new();
    for (path, bytes) in files(&fs) {
        for offset in 0..bytes {
            let xor = if offset % 2 == 0 { 0x01 } else { 0x80 };
            let copy = fs.kill_clone();
            copy.corrupt(&path, offset, xor).unwrap();
            let what = format!("{} at {offset} xor {xor:#x}", path.display());
            // One bit in a log frame that nothing proves synced is a torn tail by all signs.
            let may_go_back = path.extension().is_some_and(|e| e == "wal");
            let verdict = judge(copy, &states, may_go_back, &what);
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            *verdicts.entry((name, verdict)).or_insert(0u64) += 1;
        }
    }
    println!("{verdicts:?}");
    assert!(verdicts.keys().any(|(_, verdict)| *verdict == "partly read"));
}

#[test]
fn p08_a_file_cut_anywhere_is_an_error_or_an_older_state() {
    let (fs, states) = sample();
    let mut verdicts = BTreeMap::new();
    for (path, bytes) in files(&fs) {
        let whole = fs.read(&path).unwrap();
        for len in 0..bytes as usize {
            let copy = fs.kill_clone();
            copy.write(&path, &whole[..len]).unwrap();
            copy.sync_all();
            let what = format!("{} cut to {len} of {bytes}", path.display());
            let verdict = judge(copy, &states, looks_torn(&path), &what);
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            *verdicts.entry((name, verdict)).or_insert(0u64) += 1;
        }
    }
    println!("{verdicts:?}");
}

#[test]
fn p12_a_missing_file_is_named_unless_nothing_needs_it() {
    let (fs, states) = sample();
    for (path, _) in files(&fs) {
        let copy = MemFs::new();
        for (other, _) in fs.list() {
            if other != path {
                copy.write(&other, &fs.read(&other).unwrap()).unwrap();
            }
        }
        copy.sync_all();
        let copy = Arc::new(copy);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match read_all(&copy, &states) {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
                assert!(error.damage().is_some(), "{error}");
                assert!(error.to_string().contains(&*name), "{name} is missing: {error}");
            }
            Ok((found, failed)) => {
                assert!(!failed && !name.ends_with(".sst") && name != "CURRENT", "{name}");
                // The newest segment of the log may be gone as after a crash.
                assert!(states.contains(&found), "{name}: wrong data");
            }
        }
    }
}

#[test]
fn p08_a_damaged_block_fails_alone_and_writes_go_on() {
    let fs = Arc::new(MemFs::new());
    let db = Db::open("/db", options(&fs)).unwrap();
    let cf = db.default_cf();
    let keys: Vec<_> = (0..60u8).map(|n| format!("key{n:02}").into_bytes()).collect();
    for key in &keys {
        db.put(&cf, key, &[key[4]; 100]).unwrap();
    }
    db.close(true).unwrap();
    let table =
        files(&fs).into_iter().find(|(path, _)| path.extension().is_some_and(|e| e == "sst"));
    let (table, _) = table.unwrap();
    fs.corrupt(&table, 2000, 0xff).unwrap();
    let db = Db::open("/db", options(&fs)).unwrap();
    let cf = db.default_cf();
    let mut damaged = 0;
    for key in &keys {
        match db.get(&cf, key) {
            Ok(found) => assert_eq!(found.as_deref(), Some(&[key[4]; 100][..])),
            Err(error) => {
                damaged += 1;
                assert_eq!(error.kind(), ErrorKind::Corruption);
                let damage = error.damage().unwrap();
                assert_eq!(damage.file, table);
                assert!((1..=2000).contains(&damage.offset), "{error}");
                assert!(!damage.expected.is_empty() && !damage.found.is_empty(), "{error}");
            }
        }
    }
    assert!(damaged > 0 && damaged < 10, "{damaged} of {} keys", keys.len());
    db.put(&db.default_cf(), b"new", b"value").unwrap();
    let ticket = db.flush(FlushRequest::default()).unwrap();
    while ticket.poll().is_none() {
        db.step();
    }
    ticket.wait(None).unwrap();
    assert_eq!(db.get(&db.default_cf(), b"new").unwrap().as_deref(), Some(&b"value"[..]));
}

#[test]
fn a_directory_in_use_is_locked_until_the_close() {
    let (fs, _) = sample();
    let fs = Arc::new(fs);
    let db = Db::open("/db", options(&fs)).unwrap();
    let error = Db::open("/db", options(&fs)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains("/db"), "{error}");
    db.close(false).unwrap();
    Db::open("/db", options(&fs)).unwrap();
}
