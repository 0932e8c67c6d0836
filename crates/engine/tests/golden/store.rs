//! Golden directories on disk: real database directories of a released version, each with a text
//! beside it that says what it holds.
//!
//! ```text
//!   testdata/golden/0.1/killed/000012.wal …     the directory, file by file
//!   testdata/golden/0.1/killed.txt              its files with their checksums, then its content
//! ```
//! A released version's directories are never changed: `docs/format/upgrade.md`.

use sluice_base::checksum::crc32c;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The files of a directory by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What a scenario is called, its directory, and the text of what it holds.
pub struct Golden {
    pub version: String,
    pub name: String,
    pub files: Files,
    pub content: String,
}

fn file_lines(files: &Files) -> String {
    let line = |(name, bytes): (&String, &Vec<u8>)| {
        format!("file {name} {} bytes crc32c {:08x}\n", bytes.len(), crc32c(bytes))
    };
    files.iter().map(line).collect()
}

/// All scenarios of all versions under `root`. Checks that no file has changed.
pub fn load_all(root: &Path) -> Vec<Golden> {
    let mut all = Vec::new();
    for version in names(root) {
        for text in names(&root.join(&version)).iter().filter(|name| name.ends_with(".txt")) {
            let name = text.strip_suffix(".txt").unwrap().to_owned();
            let dir = root.join(&version).join(&name);
            let files: Files = names(&dir)
                .into_iter()
                .map(|name| (name.clone(), fs::read(dir.join(name)).unwrap()))
                .collect();
            let text = fs::read_to_string(root.join(&version).join(text)).unwrap();
            let lines = file_lines(&files);
            let content = text.strip_prefix(&lines).unwrap_or_else(|| {
                panic!("{version}/{name} is not as it was released; its files are now\n{lines}")
            });
            let content = content.to_owned();
            all.push(Golden { version: version.clone(), name, files, content });
        }
    }
    all
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Writes a new version's scenarios.
///
/// Refuses a version that has any: its directories say what was released, and a build of today
/// would only say what it writes itself.
pub fn save_new(root: &Path, version: &str, scenarios: &[Golden]) {
    let dir = root.join(version);
    assert!(
        !dir.exists(),
        "{} is there: the directories of a version are written once and never changed; give the \
         version of the release to come",
        dir.display()
    );
    for golden in scenarios {
        write_files(&golden.files, &dir.join(&golden.name));
        let text = file_lines(&golden.files) + &golden.content;
        fs::write(dir.join(format!("{}.txt", golden.name)), text).unwrap();
    }
}

/// A copy to work on, with rights of its own whatever those of the source are.
pub fn write_files(files: &Files, dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    for (name, bytes) in files {
        fs::write(dir.join(name), bytes).unwrap();
    }
}

/// The version in the variable, where one is to be written.
pub fn version_to_write() -> Option<String> {
    std::env::var("SLUICE_GOLDEN").ok()
}

/// The directory of a crate's golden directories.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden")
}
