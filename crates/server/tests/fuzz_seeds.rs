//! The seeds of the fuzz targets, and every input that ever made one fail, run through the same
//! functions as the fuzzer runs: so that each build is tested with them.
//!
//! ```text
//!   fuzz/seeds/<target>/          made by the generator below from the real encoders
//!   fuzz/regressions/<target>/    found by a fuzzer; each was a bug once
//! ```
//! `UPDATE_SEEDS=1 cargo test -p sluice-server --test fuzz_seeds` writes the seeds again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "fuzz_seeds/generate.rs"]
mod generate;
#[path = "fuzz_seeds/text.rs"]
mod text;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// A fuzz target and the function it calls.
type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 12] = [
    ("wal_frame", sluice_wal::fuzzing::frame),
    ("wal_segment", sluice_wal::fuzzing::segments),
    ("table_block", |bytes| _ = sluice_table::fuzzing::block(bytes)),
    ("table_column", |bytes| _ = sluice_table::fuzzing::column(bytes)),
    ("table_footer", |bytes| _ = sluice_table::fuzzing::footer(bytes)),
    ("table_file", sluice_table::fuzzing::file),
    ("manifest_edit", sluicedb::fuzzing::manifest_edit),
    ("manifest_file", sluicedb::fuzzing::manifest_file),
    ("batch", sluicedb::fuzzing::batch),
    ("keyspace_rows", sluice_keyspace::fuzzing::rows),
    ("resp", sluice_resp::fuzzing::requests),
    ("server_text", sluice_server::fuzzing::text),
];

/// Bytes of one target's seeds at most: they are in every clone of the repository.
const SEED_BYTES_MAX: usize = 100 << 10;

fn fuzz_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The files of a directory; none when there is no such directory.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path))
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn p12_every_seed_and_every_input_that_once_failed_passes() {
    for (target, run) in TARGETS {
        let seeds = files(&fuzz_dir().join("seeds").join(target));
        assert!(seeds.len() >= 10, "{target} has {} seeds", seeds.len());
        let bytes: usize = seeds.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes <= SEED_BYTES_MAX, "{target} has {bytes} bytes of seeds");
        let found = files(&fuzz_dir().join("regressions").join(target));
        for (name, bytes) in seeds.iter().chain(&found) {
            // Shown when it fails: the last line names the input.
            println!("{target}/{name}");
            run(bytes);
        }
    }
}

#[test]
fn every_target_is_in_the_fuzz_workspace_and_here() {
    let manifest = fs::read_to_string(fuzz_dir().join("Cargo.toml")).unwrap();
    let built: Vec<&str> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
        .collect();
    let mut here: Vec<&str> = TARGETS.iter().map(|(target, _)| *target).collect();
    here.insert(0, "sluice-fuzz");
    assert_eq!(built, here);
}

#[test]
fn the_seeds_are_made_by_the_generator() {
    let made: BTreeMap<&str, Vec<(String, Vec<u8>)>> = generate::seeds();
    assert_eq!(made, generate::seeds(), "two runs differ");
    for (target, _) in TARGETS {
        let dir = fuzz_dir().join("seeds").join(target);
        let seeds = &made[target];
        if std::env::var_os("UPDATE_SEEDS").is_some() {
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir).unwrap();
            for (name, bytes) in seeds {
                fs::write(dir.join(name), bytes).unwrap();
            }
        }
        // What they hold may be of an older encoder: that makes them no worse as seeds.
        let names: Vec<String> = seeds.iter().map(|(name, _)| name.clone()).collect();
        let there: Vec<String> = files(&dir).into_iter().map(|(name, _)| name).collect();
        assert_eq!(there, names, "{target}: run with UPDATE_SEEDS=1");
    }
}
