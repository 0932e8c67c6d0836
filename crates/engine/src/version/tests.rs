//! Lookups against a plain search, and what an edit may and may not do.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*};
use sluice_base::{CfId, ErrorKind, FileNo, Level, SeqNo};

use super::*;
use crate::manifest::sample::{golden_edits, state_of, table};

fn cf_edit(added: Vec<(u8, TableMeta)>, removed: Vec<(u8, u64)>) -> CfEdit {
    CfEdit {
        added: added.into_iter().map(|(level, meta)| (Level(level), meta)).collect(),
        removed: removed.into_iter().map(|(level, no)| (Level(level), FileNo(no))).collect(),
        ..CfEdit::new(CfId(0))
    }
}

#[test]
fn a_move_keeps_the_opened_table() {
    let meta = table(1, "a", "c", 1, 9);
    let first: CfVersion<&str> =
        CfVersion::empty().apply(&cf_edit(vec![(0, meta.clone())], vec![])).unwrap();
    first.level(Level(0))[0].table.set("open").unwrap();
    let second = first.apply(&cf_edit(vec![(6, meta)], vec![(0, 1)])).unwrap();
    assert_eq!(second.level(Level(6))[0].table.get(), Some(&"open"));
    assert!(Arc::ptr_eq(&second.level(Level(6))[0], &first.level(Level(0))[0]));
    assert_eq!((second.level_bytes(Level(0)), second.level_bytes(Level(6))), (0, 1001));
    assert_eq!(first.level(Level(0)).len(), 1, "the older version still has its table");
}

#[test]
fn an_edit_that_does_not_fit_changes_nothing() {
    let base = CfVersion::<()>::empty()
        .apply(&cf_edit(vec![(0, table(1, "a", "c", 1, 9)), (5, table(2, "d", "f", 1, 2))], vec![]))
        .unwrap();
    let misfits = [
        cf_edit(vec![(5, table(3, "f", "g", 3, 4))], vec![]), // overlap by one key
        cf_edit(vec![(4, table(2, "x", "z", 3, 4))], vec![]), // number in use
        cf_edit(vec![(0, table(3, "c", "d", 5, 9))], vec![]), // neither is newer
        cf_edit(vec![(7, table(3, "x", "z", 5, 9))], vec![]), // no such level
        cf_edit(vec![], vec![(4, 2)]),                        // not there
        cf_edit(vec![], vec![(5, 2), (5, 2)]),                // twice
    ];
    for misfit in misfits {
        let before = format!("{base:?}");
        assert_eq!(base.apply(&misfit).unwrap_err().kind(), ErrorKind::Invalid, "{misfit:?}");
        assert_eq!(format!("{base:?}"), before);
    }
}

#[test]
fn facts_only_grow_and_a_flushed_position_never_goes_back() {
    let state = state_of(&golden_edits());
    let facts = |seq, file| VersionEdit {
        last_seq: Some(SeqNo(seq)),
        next_file: Some(FileNo(file)),
        log_first: Some(FileNo(file)),
        ..VersionEdit::default()
    };
    let ahead = state.apply(&facts(100, 50)).unwrap();
    assert_eq!(
        (ahead.last_seq, ahead.next_file, ahead.log_first),
        (SeqNo(100), FileNo(50), FileNo(50))
    );
    assert_eq!(ahead.apply(&facts(7, 7)).unwrap(), ahead);

    let flushed = |seq| CfEdit { flushed_seq: Some(SeqNo(seq)), ..CfEdit::new(CfId(0)) }.into();
    assert!(state.apply(&flushed(9)).is_ok());
    assert_eq!(state.apply(&flushed(8)).unwrap_err().kind(), ErrorKind::Invalid);

    let again = CfCreate { id: CfId(5), name: "meta".into(), options: OptionFields::new() };
    let again = VersionEdit { created: vec![again], ..VersionEdit::default() };
    assert_eq!(state.apply(&again).unwrap_err().kind(), ErrorKind::Exists);
    let dropped = VersionEdit { dropped: vec![CfId(1)], ..VersionEdit::default() };
    let without = state.apply(&dropped).unwrap();
    assert!(without.cf_by_name("meta").is_none());
    assert_eq!(without.next_cf, CfId(2), "ids are not given out again");
    assert_eq!(without.apply(&again).unwrap().cf_by_name("meta").unwrap().id, CfId(5));
}

proptest! {
    #[test]
    fn lookups_find_what_a_plain_search_finds(
        cuts in vec(0..200u32, 2..30),
        first in 0..210u32,
        width in 0..60u32,
    ) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        cuts.dedup();
        let name = |n: u32| format!("{n:03}");
        let added = cuts
            .chunks_exact(2)
            .enumerate()
            .map(|(no, pair)| (3, table(no as u64 + 1, &name(pair[0]), &name(pair[1]), 1, 9)))
            .collect();
        let version = CfVersion::<()>::empty().apply(&cf_edit(added, vec![])).unwrap();
        let (first, last) = (name(first), name(first + width));
        let range = KeyRange::new(first.as_bytes(), last.as_bytes());
        let files = |tables: &[Arc<TableHandle<()>>]| -> Vec<FileNo> {
            tables.iter().map(|table| table.meta.file).collect()
        };
        let all = version.level(Level(3));
        let plain: Vec<_> =
            all.iter().filter(|table| range.overlaps_table(&table.meta)).cloned().collect();
        prop_assert_eq!(files(version.overlapping_run(Level(3), range)), files(&plain));
        prop_assert_eq!(files(version.overlapping_run(Level(3), KeyRange::ALL)), files(all));
        let key = first.as_bytes();
        let plain = all.iter().find(|table| table.meta.covers(key));
        let found = version.level_candidate(Level(3), key);
        prop_assert_eq!(found.map(|t| t.meta.file), plain.map(|t| t.meta.file));
    }
}
