//! What a power cut may do to the names of files, and what it may not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use sluice_env::{CrashMode, Fs, MemFs, OpenMode, Rng};

fn path(path: &str) -> &Path {
    Path::new(path)
}

/// A file whose content is durable and whose name may not be.
fn write_synced(fs: &MemFs, at: &str, bytes: &[u8]) {
    fs.write(at, bytes).unwrap();
    fs.open(path(at), OpenMode::Read).unwrap().sync_data().unwrap();
}

/// What 1,000 crashes show of a file: its content, or `None` where it is gone.
fn outcomes(fs: &MemFs, at: &str) -> BTreeSet<Option<Vec<u8>>> {
    (0..1000).map(|seed| fs.crash_clone(&mut Rng::new(seed)).read(at).ok()).collect()
}

fn set<const N: usize>(contents: [Option<&[u8]>; N]) -> BTreeSet<Option<Vec<u8>>> {
    contents.into_iter().map(|content| content.map(<[u8]>::to_vec)).collect()
}

#[test]
fn a_synced_file_in_an_unsynced_directory_may_be_gone() {
    let fs = MemFs::new();
    write_synced(&fs, "/a", b"abc");
    assert_eq!(outcomes(&fs, "/a"), set([None, Some(b"abc")]));
    fs.sync_dir(path("/")).unwrap();
    assert_eq!(outcomes(&fs, "/a"), set([Some(b"abc")]));
}

#[test]
fn a_synced_directory_does_not_make_contents_durable() {
    let fs = MemFs::new();
    fs.write("/a", b"abc").unwrap();
    fs.sync_dir(path("/")).unwrap();
    assert_eq!(outcomes(&fs, "/a"), set([Some(b""), Some(&[0, 0, 0]), Some(b"abc")]));
}

#[test]
fn a_new_directory_is_durable_with_its_parent_only() {
    let fs = MemFs::new();
    write_synced(&fs, "/db/a", b"abc");
    fs.sync_dir(path("/db")).unwrap();
    assert_eq!(outcomes(&fs, "/db/a"), set([None, Some(b"abc")]));
    fs.sync_dir(path("/")).unwrap();
    assert_eq!(outcomes(&fs, "/db/a"), set([Some(b"abc")]));
}

#[test]
fn a_removed_file_may_be_back_with_its_content() {
    let fs = MemFs::new();
    fs.write("/a", b"abc").unwrap();
    fs.sync_all();
    fs.remove_file(path("/a")).unwrap();
    assert_eq!(outcomes(&fs, "/a"), set([None, Some(b"abc")]));
    fs.sync_dir(path("/")).unwrap();
    assert_eq!(outcomes(&fs, "/a"), set([None]));
}

#[test]
fn renaming_over_a_file_shows_the_old_or_the_new_one() {
    let fs = MemFs::new();
    write_synced(&fs, "/CURRENT", b"old");
    fs.sync_all();
    write_synced(&fs, "/tmp", b"new");
    fs.rename(path("/tmp"), path("/CURRENT")).unwrap();
    assert_eq!(outcomes(&fs, "/CURRENT"), set([Some(b"old"), Some(b"new")]));
    fs.sync_dir(path("/")).unwrap();
    assert_eq!(outcomes(&fs, "/CURRENT"), set([Some(b"new")]));
}

#[test]
fn renaming_a_file_that_was_never_synced_may_show_an_empty_one() {
    let fs = MemFs::new();
    write_synced(&fs, "/CURRENT", b"old");
    fs.sync_all();
    fs.write("/tmp", b"new").unwrap();
    fs.rename(path("/tmp"), path("/CURRENT")).unwrap();
    fs.sync_dir(path("/")).unwrap();
    assert!(outcomes(&fs, "/CURRENT").contains(&Some(Vec::new())));
}

#[test]
fn a_rename_between_directories_neither_loses_nor_doubles_the_file() {
    let fs = MemFs::new();
    fs.write("/a/x", b"abc").unwrap();
    fs.create_dir_all(path("/b")).unwrap();
    fs.sync_all();
    fs.rename(path("/a/x"), path("/b/x")).unwrap();
    for seed in 0..1000 {
        let after = fs.crash_clone(&mut Rng::new(seed));
        assert_eq!(after.list().len(), 1, "seed {seed}: {:?}", after.list());
    }
    // One change, so a sync of either directory makes both halves durable.
    fs.sync_dir(path("/a")).unwrap();
    assert_eq!(outcomes(&fs, "/b/x"), set([Some(b"abc")]));
}

#[test]
fn a_directory_moves_with_what_is_in_it() {
    let fs = MemFs::new();
    fs.write("/tmp/x", b"abc").unwrap();
    fs.sync_all();
    fs.rename(path("/tmp"), path("/final")).unwrap();
    for seed in 0..1000 {
        let list = fs.crash_clone(&mut Rng::new(seed)).list();
        let places = [vec![("/tmp/x".into(), 3)], vec![("/final/x".into(), 3)]];
        assert!(places.contains(&list), "seed {seed}: {list:?}");
    }
}

#[test]
fn a_removed_directory_takes_nothing_along_that_was_moved_out_of_it() {
    let fs = MemFs::new();
    fs.write("/d/x", b"abc").unwrap();
    fs.write("/d/y", b"abc").unwrap();
    fs.create_dir_all(path("/e")).unwrap();
    fs.sync_all();
    assert!(fs.remove_dir(path("/d")).is_err(), "not empty");
    fs.rename(path("/d/x"), path("/e/x")).unwrap();
    fs.remove_file(path("/d/y")).unwrap();
    fs.remove_dir(path("/d")).unwrap();
    assert!(!fs.exists(path("/d")).unwrap());
    let mut gone = 0;
    for seed in 0..1000 {
        let after = fs.crash_clone(&mut Rng::new(seed));
        let moved = [after.exists(path("/d/x")).unwrap(), after.exists(path("/e/x")).unwrap()];
        assert!(moved == [true, false] || moved == [false, true], "seed {seed}: {moved:?}");
        gone += u32::from(!after.exists(path("/d")).unwrap());
    }
    assert!(gone > 10 && gone < 990, "the removal survived {gone} times of 1000");
    fs.sync_dir(path("/")).unwrap();
    assert_eq!(outcomes(&fs, "/e/x"), set([Some(b"abc")]));
}

#[test]
fn moves_of_directories_never_close_a_circle() {
    let fs = MemFs::new();
    fs.write("/p/c/x", b"abc").unwrap();
    fs.sync_all();
    fs.rename(path("/p/c"), path("/c")).unwrap();
    fs.rename(path("/p"), path("/c/p")).unwrap();
    for seed in 0..1000 {
        assert_eq!(fs.crash_clone(&mut Rng::new(seed)).list().len(), 1, "seed {seed}");
    }
    // The second move is durable with its target directory, and it rests on the first.
    fs.sync_dir(path("/c")).unwrap();
    for seed in 0..1000 {
        let list = fs.crash_clone(&mut Rng::new(seed)).list();
        assert_eq!(list, [("/c/x".into(), 3)], "seed {seed}");
    }
}

#[test]
fn hard_links_share_the_file_in_clones_too() {
    let fs = MemFs::new();
    fs.write("/a", b"abc").unwrap();
    fs.hard_link(path("/a"), path("/b")).unwrap();
    fs.sync_all();
    for clone in [fs.crash_clone(&mut Rng::new(1)), fs.kill_clone()] {
        let file = clone.open(path("/a"), OpenMode::ReadWrite).unwrap();
        file.write_all_at(b"xyz", 0).unwrap();
        assert_eq!(clone.read("/b").unwrap(), b"xyz");
        assert_eq!(clone.bytes_used(), 3);
    }
    assert_eq!(fs.read("/b").unwrap(), b"abc");
}

#[test]
fn clones_are_independent_and_their_locks_are_free() {
    let fs = MemFs::new();
    fs.write("/a", b"abc").unwrap();
    let _held = fs.lock(path("/LOCK")).unwrap();
    fs.sync_all();
    assert!(fs.lock(path("/LOCK")).is_err());
    let handle = fs.open(path("/a"), OpenMode::ReadWrite).unwrap();
    for clone in [fs.crash_clone(&mut Rng::new(1)), fs.kill_clone()] {
        drop(clone.lock(path("/LOCK")).unwrap());
        handle.write_all_at(b"old", 0).unwrap();
        assert_eq!(clone.read("/a").unwrap(), b"abc");
        clone.write("/a", b"clone").unwrap();
        assert_eq!(fs.read("/a").unwrap(), b"old");
        handle.write_all_at(b"abc", 0).unwrap();
    }
}

#[test]
fn a_power_cut_after_a_kill_can_still_take_what_was_not_synced() {
    let fs = MemFs::new();
    write_synced(&fs, "/a", b"abc");
    let killed = fs.kill_clone();
    assert_eq!(killed.read("/a").unwrap(), b"abc");
    assert_eq!(outcomes(&killed, "/a"), set([None, Some(b"abc")]));
    // The restarted process makes it durable without writing it again.
    killed.sync_dir(path("/")).unwrap();
    assert_eq!(outcomes(&killed, "/a"), set([Some(b"abc")]));
}

#[test]
fn the_same_seed_leaves_the_same_disk() {
    let fs = MemFs::new();
    for n in 0..20 {
        fs.write(format!("/d{}/f{n}", n % 3), &[n; 3000]).unwrap();
    }
    for seed in 0..100 {
        let contents = |fs: &MemFs| -> Vec<_> {
            fs.list().into_iter().map(|(at, _)| (fs.read(&at).unwrap(), at)).collect()
        };
        let [one, other] = [0, 1].map(|_| contents(&fs.crash_clone(&mut Rng::new(seed))));
        assert!(one == other, "seed {seed}");
    }
}

/// A model of names: what each cell has shown since its directory was synced, and which files were
/// only ever moved since they were durable.
#[derive(Default)]
struct Model {
    now: BTreeMap<String, u64>,
    shown: BTreeMap<String, BTreeSet<Option<u64>>>,
    /// Durable by name, and neither removed, replaced nor linked since.
    only_moved: BTreeSet<u64>,
}

impl Model {
    fn set(&mut self, at: &str, value: Option<u64>) {
        let before = match value {
            Some(id) => self.now.insert(at.into(), id),
            None => self.now.remove(at),
        };
        let shown = self.shown.entry(at.into()).or_insert_with(|| BTreeSet::from([before]));
        shown.insert(value);
    }
}

#[test]
fn random_changes_of_names_leave_only_cells_that_once_were() {
    const CELLS: [&str; 6] = ["/a/1", "/a/2", "/a/3", "/b/1", "/b/2", "/b/3"];
    let mut lost = 0;
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let fs = MemFs::new();
        fs.create_dir_all(path("/a")).unwrap();
        fs.create_dir_all(path("/b")).unwrap();
        fs.sync_all();
        let mut model = Model::default();
        for id in 1..60 {
            let mut pick = || CELLS[rng.below(CELLS.len() as u64) as usize];
            let (from, to) = (pick(), pick());
            match rng.below(8) {
                0 if rng.one_in(2) => {
                    fs.sync_dir(path("/a")).unwrap();
                    fs.sync_dir(path("/b")).unwrap();
                    model.shown.clear();
                    let mut names: BTreeMap<u64, u32> = BTreeMap::new();
                    model.now.values().for_each(|id| *names.entry(*id).or_default() += 1);
                    model.only_moved =
                        names.into_iter().filter(|(_, count)| *count == 1).map(|it| it.0).collect();
                }
                0..=2 if !model.now.contains_key(from) => {
                    write_synced(&fs, from, &u64::to_le_bytes(id));
                    model.set(from, Some(id));
                }
                3 | 4 if model.now.contains_key(from) && from != to => {
                    fs.rename(path(from), path(to)).unwrap();
                    let (moved, replaced) = (model.now[from], model.now.get(to).copied());
                    if replaced != Some(moved) {
                        model.only_moved.retain(|id| Some(*id) != replaced);
                        model.set(from, None);
                        model.set(to, Some(moved));
                    }
                }
                5 if model.now.contains_key(from) => {
                    fs.remove_file(path(from)).unwrap();
                    model.only_moved.remove(&model.now[from]);
                    model.set(from, None);
                }
                6 if model.now.contains_key(from) && !model.now.contains_key(to) => {
                    fs.hard_link(path(from), path(to)).unwrap();
                    let id = model.now[from];
                    model.only_moved.remove(&id);
                    model.set(to, Some(id));
                }
                _ => {}
            }

            let after = fs.crash_clone(&mut rng);
            let mut found: BTreeMap<u64, u32> = BTreeMap::new();
            for cell in CELLS {
                let id = after.read(cell).ok().map(|bytes| {
                    u64::from_le_bytes(bytes.try_into().expect("the content was synced"))
                });
                id.iter().for_each(|id| *found.entry(*id).or_default() += 1);
                let now = model.now.get(cell).copied();
                let legal = match model.shown.get(cell) {
                    Some(shown) => shown.contains(&id),
                    None => now == id,
                };
                assert!(legal, "seed {seed}, id {id:?} in {cell} after {from} {to}");
                lost += u32::from(id != now);
            }
            for id in &model.only_moved {
                assert_eq!(found.get(id), Some(&1), "seed {seed}: file {id} was only moved");
            }
        }
    }
    assert!(lost > 1000, "crashes hardly ever lost a name: {lost}");
}

#[test]
fn extremes_leave_the_synced_and_the_written_state() {
    let fs = MemFs::new();
    fs.write("/a", b"old").unwrap();
    fs.sync_all();
    fs.write("/a", b"newer").unwrap();
    fs.write("/b", b"b").unwrap();
    let mut rng = Rng::new(1);
    let nothing = fs.crash_clone_as(CrashMode::Nothing, &mut rng);
    assert_eq!(nothing.list(), [("/a".into(), 3)]);
    assert_eq!(nothing.read("/a").unwrap(), b"old");
    let everything = fs.crash_clone_as(CrashMode::Everything, &mut rng);
    assert_eq!(everything.list(), fs.list());
    assert_eq!(everything.read("/a").unwrap(), b"newer");
}
