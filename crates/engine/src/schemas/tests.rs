//! What an opening makes of the schemas it finds: those of builds before ranges are taken over, and
//! what this build cannot use is refused before anything is served or deleted (P12).

use crate::{
    Background, Db, FlushRequest, Options,
    db::CF_KEY_SCHEMA,
    manifest::{self, FileName, ManifestWriter},
    tables::VersionState,
    version::{SchemaDefinition, SchemaMap, TableMeta},
};
use sluice_base::{ErrorKind, FileNo, varint};
use sluice_env::{Env, Fs, MemFs};
use sluice_table::KeySchema;
use std::{path::Path, sync::Arc};

const DIR: &str = "/db";

fn options(fs: &Arc<MemFs>) -> Options {
    let fs: Arc<dyn Fs> = Arc::<MemFs>::clone(fs);
    Options { env: Env::os().with_fs(fs), background: Background::Stepped, ..Options::default() }
}

fn open(fs: &Arc<MemFs>) -> crate::Result<Db> {
    Db::open(DIR, options(fs))
}

fn schema(version: u32) -> KeySchema {
    KeySchema::parse("rows", version, "lead u8, rest").unwrap()
}

/// A closed database with a table under each of two versions, in two families.
fn closed() -> Arc<MemFs> {
    let fs = Arc::new(MemFs::new());
    let db = open(&fs).unwrap();
    let other = db.create_column_family("other", Default::default()).unwrap();
    for version in 1..3 {
        for cf in [&db.default_cf(), &other] {
            db.set_key_schema(cf, schema(version)).unwrap();
            db.put(cf, &[b'a', version as u8], b"value").unwrap();
        }
        db.flush(FlushRequest::default()).unwrap();
        while db.step() {}
    }
    db.close(false).unwrap();
    fs
}

/// Changes what the manifest says, as another build might have written it.
fn rewrite(fs: &Arc<MemFs>, change: impl FnOnce(&mut VersionState)) {
    let dir = Path::new(DIR);
    let mut state = manifest::read(&**fs, dir).unwrap().unwrap().state;
    change(&mut state);
    state.next_file = FileNo(state.next_file.0 + 1);
    let disk: Arc<dyn Fs> = Arc::<MemFs>::clone(fs);
    ManifestWriter::create(disk, dir, FileNo(state.next_file.0 - 1), &state).unwrap();
}

fn define(state: &mut VersionState, index: u32, change: impl FnOnce(&mut SchemaDefinition)) {
    let schemas = Arc::make_mut(&mut state.schemas);
    change(schemas.get_mut(&index).unwrap());
}

/// A descriptor of a build to come: a field of kind 99.
fn newer(name: &str) -> Vec<u8> {
    let mut descriptor = vec![1];
    varint::put_bytes(&mut descriptor, name.as_bytes());
    descriptor.extend([1, 99, 0]);
    varint::put_bytes(&mut descriptor, b"field");
    descriptor
}

fn set_descriptor(definition: &mut SchemaDefinition, descriptor: Vec<u8>) {
    definition.hash = sluice_base::checksum::xxh3(&descriptor);
    definition.descriptor = descriptor.into();
}

fn assert_refused(fs: &Arc<MemFs>, kind: ErrorKind, text: &str) {
    let before = fs.list();
    let error = open(fs).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(text), "{error}");
    // The lock is taken and let go of; nothing else may have happened.
    let is_lock = |path: &Path| path.ends_with(FileName::Lock.to_string());
    let files = |list: Vec<(std::path::PathBuf, u64)>| -> Vec<(std::path::PathBuf, u64)> {
        list.into_iter().filter(|(path, _)| !is_lock(path)).collect()
    };
    assert_eq!(files(fs.list()), files(before), "a refused opening changed files");
}

#[test]
fn p12_a_schema_of_a_newer_build_is_refused_at_the_opening() {
    let fs = closed();
    let stray = Path::new(DIR).join("000999.sst");
    fs.write(&stray, b"of nobody").unwrap();
    rewrite(&fs, |state| define(state, 1, |one| set_descriptor(one, newer("later"))));
    assert_refused(&fs, ErrorKind::Unsupported, "field \"field\" of kind 99");
    assert!(fs.exists(&stray).unwrap());
}

#[test]
fn p12_a_descriptor_that_is_not_what_its_hash_says_is_corruption() {
    let fs = closed();
    rewrite(&fs, |state| define(state, 2, |two| two.hash ^= 1));
    assert_refused(&fs, ErrorKind::Corruption, "under hash");
    let fs = closed();
    rewrite(&fs, |state| define(state, 2, |two| set_descriptor(two, b"no schema".to_vec())));
    assert_refused(&fs, ErrorKind::Corruption, "canonical key schema descriptor");
}

#[test]
fn p12_a_table_under_another_schema_than_the_manifest_says_is_refused() {
    let fs = closed();
    // Both known, so it is the table that is wrong, and only its readers are told.
    rewrite(&fs, |state| {
        let (one, two) = (state.schemas[&1].clone(), state.schemas[&2].clone());
        define(state, 1, |to| *to = SchemaDefinition { index: 1, ..two });
        define(state, 2, |to| *to = SchemaDefinition { index: 2, ..one });
    });
    let db = open(&fs).unwrap();
    let error = db.get(&db.default_cf(), b"a\x01").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    assert!(error.to_string().contains(&schema(1).id().to_string()), "{error}");
}

#[test]
fn definitions_that_nothing_names_go_at_the_next_opening_and_indexes_never_clash() {
    let fs = closed();
    let db = open(&fs).unwrap();
    let cf = db.default_cf();
    for version in 10..20 {
        db.set_key_schema(&cf, schema(version)).unwrap();
    }
    let defined = |db: &Db| db.core().versions.look(|state| state.schemas.len());
    assert_eq!(defined(&db), 12);
    db.set_key_schema(&cf, schema(10)).unwrap();
    assert_eq!(defined(&db), 12, "a known schema was defined again");
    drop(db);
    let db = open(&fs).unwrap();
    assert_eq!(defined(&db), 3);
    let cf = db.default_cf();
    assert_eq!(*cf.key_schema(), schema(10));
    db.set_key_schema(&cf, schema(30)).unwrap();
    assert_eq!(db.get(&cf, b"a\x01").unwrap().as_deref(), Some(&b"value"[..]));
    let mut versions: Vec<u32> = db.schema_usage().iter().map(|usage| usage.id.version).collect();
    versions.sort_unstable();
    assert_eq!(versions, [1, 1, 2, 2, 30]);
}

/// What a build before ranges left: the schema of new tables as option 5 of the family, and tables
/// that only say themselves what they are under.
fn before_ranges(fs: &Arc<MemFs>, descriptor: &[u8]) {
    rewrite(fs, |state| {
        for cf in state.cfs.values_mut() {
            let cf = Arc::make_mut(cf);
            cf.schema_map = Arc::new(SchemaMap::default());
            cf.options.set_bytes(CF_KEY_SCHEMA, descriptor);
            let version = Arc::make_mut(&mut cf.version);
            version.set_schemas(|_: &TableMeta| 0);
        }
        state.schemas = Arc::default();
    });
}

#[test]
fn a_directory_of_before_ranges_is_taken_over() {
    let fs = closed();
    before_ranges(&fs, &schema(3).encode());
    for _ in 0..2 {
        let db = open(&fs).unwrap();
        let cf = db.column_family("other").unwrap();
        assert_eq!(*cf.key_schema(), schema(3));
        let usage: Vec<_> = db.schema_usage();
        let of = |version: u32| {
            let id = schema(version).id();
            let here = usage.iter().filter(|usage| usage.id == id);
            here.map(|usage| (usage.ranges, usage.tables)).collect::<Vec<_>>()
        };
        assert_eq!((of(1), of(2), of(3)), (vec![(0, 1); 2], vec![(0, 1); 2], vec![(1, 0); 2]));
        for version in 1..3 {
            let found = db.get(&cf, &[b'a', version]).unwrap();
            assert_eq!(found.as_deref(), Some(&b"value"[..]));
        }
        let options = db.core().versions.look(|state| {
            state.cfs.values().filter(|cf| cf.options.bytes(CF_KEY_SCHEMA).is_some()).count()
        });
        assert_eq!(options, 0, "the option is still there");
    }
    let db = open(&fs).unwrap();
    let cf = db.default_cf();
    for version in 1..3 {
        db.drain_schema(&cf, &schema(version).id()).unwrap();
    }
    while db.step() {}
    let left = db.schema_tables("rows");
    assert!(left.iter().all(|table| table.cf == "other" || table.id == schema(3).id()), "{left:?}");
}

#[test]
fn a_directory_of_before_ranges_with_what_this_build_cannot_use_is_refused_or_read() {
    let fs = closed();
    before_ranges(&fs, &newer("later"));
    assert_refused(&fs, ErrorKind::Unsupported, "column family 'default'");
    let fs = closed();
    before_ranges(&fs, b"no schema");
    assert_refused(&fs, ErrorKind::Corruption, "column family 'default'");
    // A damaged table fails its readers, as ever.
    let fs = closed();
    before_ranges(&fs, &schema(2).encode());
    let damaged =
        fs.list().into_iter().find(|(path, _)| path.extension().is_some_and(|e| e == "sst"));
    let (path, bytes) = damaged.unwrap();
    fs.write(&path, &vec![0; bytes as usize]).unwrap();
    let db = open(&fs).unwrap();
    let reads = [b"a\x01", b"a\x02"]
        .map(|key| db.list_column_families().iter().filter(|cf| db.get(cf, key).is_err()).count());
    assert!(reads.iter().sum::<usize>() >= 1, "the damaged table was read");
}
