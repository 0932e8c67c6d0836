//! Whole files that are not what they should be: another file's bytes, an older state of
//! themselves, nothing at all, or a file more. And the directory of a checkpoint.

use super::*;

fn kind(path: &Path) -> String {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    name.split(['-', '.']).next_back().filter(|_| name.contains('.')).unwrap_or("other").to_owned()
}

#[test]
fn p08_files_that_changed_places_are_an_error() {
    let (fs, states) = sample();
    let all = files(&fs);
    let mut verdicts = BTreeMap::new();
    for (index, (a, _)) in all.iter().enumerate() {
        for (b, _) in &all[index + 1..] {
            let (in_a, in_b) = (fs.read(a).unwrap(), fs.read(b).unwrap());
            if in_a == in_b {
                continue;
            }
            let copy = with_file(&with_file(&fs, a, &in_b), b, &in_a);
            let what = format!("{} and {} changed places", a.display(), b.display());
            let may_go_back = kind(a) == "wal" || kind(b) == "wal";
            let verdict = judge(copy, &states, may_go_back, &what);
            *verdicts.entry((kind(a), kind(b), verdict)).or_insert(0u64) += 1;
        }
    }
    println!("{verdicts:?}");
    let tables = |verdict| verdicts.contains_key(&("sst".to_owned(), "sst".to_owned(), verdict));
    assert!(tables("partly read") && !tables("all there"), "{verdicts:?}");
}

#[test]
fn p08_a_file_in_another_ones_place_is_an_error() {
    let (fs, states) = sample();
    let all = files(&fs);
    for (path, _) in &all {
        for (other, _) in &all {
            let (mine, bytes) = (fs.read(path).unwrap(), fs.read(other).unwrap());
            if mine == bytes {
                continue;
            }
            let what = format!("{} holds what {} holds", path.display(), other.display());
            let verdict = judge(with_file(&fs, path, &bytes), &states, kind(path) == "wal", &what);
            assert!(verdict != "all there" || kind(path) != "sst", "{what}: {verdict}");
        }
    }
}

#[test]
fn p08_a_file_of_an_earlier_moment_is_an_error_or_an_older_state() {
    let (fs, states, history) = sample_of(40);
    let mut verdicts = BTreeMap::new();
    for (moment, old) in history.iter().enumerate() {
        for (path, _) in files(&fs) {
            let Ok(bytes) = old.read(&path) else { continue };
            if bytes == fs.read(&path).unwrap() {
                continue;
            }
            assert_ne!(kind(&path), "sst", "a table that changed");
            let what = format!("{} as it was after batch {moment}", path.display());
            let verdict = judge(with_file(&fs, &path, &bytes), &states, looks_torn(&path), &what);
            *verdicts.entry((kind(&path), verdict)).or_insert(0u64) += 1;
        }
        // All of the log, or all of the manifest, of that moment: both look like a crash then.
        for part in ["wal", "other"] {
            let mut copy = fs.kill_clone();
            for (path, _) in files(old).into_iter().filter(|(path, _)| kind(path) == part) {
                copy = with_file(&copy, &path, &old.read(&path).unwrap());
            }
            let what = format!("every {part} as it was after batch {moment}");
            let verdict = judge(copy, &states, true, &what);
            *verdicts.entry((part.to_owned(), verdict)).or_insert(0u64) += 1;
        }
    }
    println!("{verdicts:?}");
    assert!(verdicts.keys().any(|(_, verdict)| *verdict == "older"), "{verdicts:?}");
    assert!(verdicts.keys().any(|(_, verdict)| *verdict == "refused"), "{verdicts:?}");
}

#[test]
fn p08_an_empty_file_is_an_error_or_an_older_state() {
    let (fs, states) = sample();
    for (path, _) in files(&fs) {
        let what = format!("{} is empty", path.display());
        let verdict = judge(with_file(&fs, &path, b""), &states, kind(&path) == "wal", &what);
        let is_needed = kind(&path) == "sst" || path.ends_with("CURRENT");
        assert!(verdict != "all there" || !is_needed, "{what}");
    }
}

/// Files that somebody else left, and numbers that are larger than any of ours.
const STRANGERS: [&str; 14] = [
    "notes.txt",
    "CURRENT.tmp",
    "CURRENT.bak",
    "MANIFEST-000099",
    "MANIFEST-999999999999999999",
    "000099.sst",
    "000099.sst.tmp",
    "000099.wal.free",
    "9999999999999999999.sst",
    "18446744073709551615.sst",
    "999999999999999999.sst",
    "999999999999999999.wal",
    "9999999999999999999.wal",
    "18446744073709551615.wal",
];

#[test]
fn p08_a_stranger_among_the_files_harms_nothing() {
    let (fs, states) = sample();
    let current = fs.read("/db/CURRENT").unwrap();
    for name in STRANGERS {
        for bytes in [&b""[..], &[0; 100], b"no file of ours", &current] {
            let copy = Arc::new(with_file(&fs, &Path::new("/db").join(name), bytes));
            let what = format!("with {name} of {} bytes", bytes.len());
            let (found, failed) =
                read_all(&copy, &states).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(!failed && found == *states.last().unwrap(), "{what}: wrong data");
            // What is written now is there after a kill, twice over.
            let mut killed = copy;
            for round in 0..2u8 {
                let db = Db::open("/db", options(&killed)).unwrap();
                db.put(&db.default_cf(), &[b'n', round], b"new").unwrap();
                killed = Arc::new(killed.kill_clone());
                let db =
                    Db::open("/db", options(&killed)).unwrap_or_else(|e| panic!("{what}: {e}"));
                for key in 0..=round {
                    let found = db.get(&db.default_cf(), &[b'n', key]).unwrap();
                    assert_eq!(found.as_deref(), Some(&b"new"[..]), "{what}, round {round}");
                }
            }
        }
    }
}

#[test]
fn p08_a_damaged_checkpoint_is_an_error_or_harmless() {
    let (fs, states) = sample();
    let fs = Arc::new(fs);
    let db = Db::open("/db", options(&fs)).unwrap();
    db.checkpoint("/copy").unwrap();
    drop(db);
    fs.sync_all();
    let of_copy: Vec<_> =
        files(&fs).into_iter().filter(|(path, _)| path.starts_with("/copy")).collect();
    let mut verdicts = BTreeMap::new();
    let mut judge_copy = |copy: MemFs, what: &str| {
        let verdict = judge_dir("/copy", copy, &states, false, what);
        *verdicts.entry(verdict).or_insert(0u64) += 1;
    };
    for (path, bytes) in &of_copy {
        for offset in (0..*bytes).step_by(3) {
            let copy = fs.kill_clone();
            copy.corrupt(path, offset, 1 << (offset % 8)).unwrap();
            judge_copy(copy, &format!("{} at {offset}", path.display()));
        }
        let whole = fs.read(path).unwrap();
        for len in (0..whole.len()).step_by(17) {
            let copy = with_file(&fs, path, &whole[..len]);
            judge_copy(copy, &format!("{} cut to {len}", path.display()));
        }
        for (other, _) in &of_copy {
            let copy = with_file(&fs, path, &fs.read(other).unwrap());
            judge_copy(copy, &format!("{} holds {}", path.display(), other.display()));
        }
    }
    println!("{verdicts:?}");
    assert!(verdicts["refused"] > 0 && verdicts["partly read"] > 0);
}
