//! The key schemas of the server's families: which they get at open, that they stay, and that no open
//! undoes what an operator chose, whenever the machine stops.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{NOW_MS, options};
use sluice_keyspace::{FAMILY_SCHEMAS, Head, Keyspace, KeyspaceOptions, LatchSet};
use sluicedb::{
    CfOptions, Db, KeySchema, WriteOptions,
    env::{CrashMode, MemFs, Rng},
};
use std::{path::Path, sync::Arc};

fn open_engine(fs: &Arc<MemFs>) -> Db {
    Db::open("/db", options(fs, 0)).unwrap()
}

fn open(fs: &Arc<MemFs>) -> Keyspace {
    Keyspace::open(open_engine(fs), KeyspaceOptions::default()).unwrap()
}

/// `name version` of the ranges of each family, in the order of the families' names.
fn chosen(db: &Db) -> Vec<String> {
    let mut families = db.list_column_families();
    families.sort_by(|a, b| a.name().cmp(b.name()));
    let describe = |cf: &sluicedb::ColumnFamily| {
        let ranges = db.key_schemas(cf);
        let ranges: Vec<String> =
            ranges.iter().map(|range| range.schema.public_name().to_owned()).collect();
        format!("{} {}", cf.name(), ranges.join(" "))
    };
    families.iter().map(describe).collect()
}

const OWN: [&str; 6] = [
    "data redis-data",
    "default default",
    "expire redis-expire",
    "meta redis-meta",
    "score redis-score",
    "stream default",
];

fn write_keys(keyspace: &Keyspace) {
    let mut txn = keyspace.transaction();
    let mut latches = LatchSet::new();
    latches.add_all();
    txn.begin_write(NOW_MS, &latches);
    for n in 0..200u32 {
        let key = format!("user:{n}");
        let expire_at = (n % 2 == 0).then_some(NOW_MS + 1000 + u64::from(n));
        txn.put(n % 3, key.as_bytes(), Head::string(expire_at), &[b"value"]).unwrap();
    }
    txn.commit(&WriteOptions::default()).unwrap();
}

fn flush(db: &Db) {
    let ticket = db.flush(Default::default()).unwrap();
    while db.step() {}
    ticket.wait(None).unwrap();
}

#[test]
fn texts_parse_and_print_the_same_and_identities_never_change() {
    let all: Vec<String> = FAMILY_SCHEMAS
        .iter()
        .map(|own| {
            let schema = own.schema().unwrap();
            assert_eq!(schema.to_string(), own.text);
            format!("{} {}", own.family, schema.id())
        })
        .collect();
    // Tables on disk carry these.
    assert_eq!(
        all,
        [
            "meta redis-meta v1 (05df45109cd866c2)",
            "data redis-data v1 (bdd12f813da17b6e)",
            "score redis-score v1 (712f45a6947e5dd3)",
            "expire redis-expire v1 (374126fd033d3073)",
        ]
    );
}

#[test]
fn a_new_directory_writes_its_tables_under_the_servers_schemas() {
    let fs = Arc::new(MemFs::new());
    let keyspace = open(&fs);
    assert_eq!(chosen(keyspace.db()), OWN);
    write_keys(&keyspace);
    flush(keyspace.db());
    for (name, cf) in [("redis-meta", "meta"), ("redis-expire", "expire")] {
        let tables = keyspace.db().schema_tables(name);
        assert!(!tables.is_empty() && tables.iter().all(|table| table.cf == cf), "{tables:?}");
    }
    let usage = keyspace.db().schema_usage();
    let whole = usage.iter().filter(|usage| usage.id.public_name() == "default");
    assert_eq!(whole.map(|usage| usage.tables).sum::<u64>(), 0, "no table is under the default");
    // A second open finds what the first one left, and writes nothing that the engine alone would not.
    keyspace.db().close(true).unwrap();
    drop(keyspace);
    let alone = copy(&fs, CrashMode::Everything);
    drop(open_engine(&alone));
    let keyspace = open(&fs);
    assert_eq!(chosen(keyspace.db()), OWN);
    drop(keyspace);
    assert_eq!(manifest_bytes(&fs), manifest_bytes(&alone));
}

/// What a machine finds that stopped here.
fn copy(fs: &MemFs, mode: CrashMode) -> Arc<MemFs> {
    Arc::new(fs.crash_clone_as(mode, &mut Rng::new(7)))
}

/// Of the manifests in the directory.
fn manifest_bytes(fs: &MemFs) -> usize {
    let is_manifest = |path: &Path| path.to_string_lossy().contains("MANIFEST");
    let files = fs.list().into_iter().filter(|(path, _)| is_manifest(path));
    files.map(|(path, _)| fs.read(&path).unwrap().len()).sum()
}

#[test]
fn a_directory_from_before_gets_them_at_open_and_keeps_its_tables() {
    let fs = Arc::new(MemFs::new());
    let db = open_engine(&fs);
    for family in ["meta", "expire", "data", "score", "stream"] {
        db.create_column_family(family, CfOptions::default()).unwrap();
    }
    let meta = db.column_family("meta").unwrap();
    db.put(&meta, b"\0\0\x2e\xf6old", b"\x01value").unwrap();
    flush(&db);
    drop(db);
    let keyspace = open(&fs);
    assert_eq!(chosen(keyspace.db()), OWN);
    assert_eq!(keyspace.db().schema_tables("whole-key").len(), 1);
    assert_eq!(
        keyspace.db().get(&meta_of(&keyspace), b"\0\0\x2e\xf6old").unwrap().as_deref(),
        Some(&b"\x01value"[..])
    );
}

fn meta_of(keyspace: &Keyspace) -> sluicedb::ColumnFamily {
    keyspace.db().column_family("meta").unwrap()
}

#[test]
fn no_open_undoes_an_operators_choice_whenever_the_machine_stops() {
    let mine = KeySchema::parse("mine", 1, "ns u16, rest").unwrap();
    let with_meta =
        |meta: &'static str| OWN.map(|own| if own.starts_with("meta") { meta } else { own });
    type Choice<'a> = (&'a [u8], Option<&'a [u8]>, KeySchema, &'static str);
    let choices: [Choice<'_>; 3] = [
        (b"", None, mine.clone(), "meta mine"),
        // The default is a choice too.
        (b"", None, KeySchema::whole_key(), "meta default"),
        (b"\0\x01", Some(b"\0\x02"), mine, "meta redis-meta mine redis-meta"),
    ];
    for (start, end, schema, wanted) in choices {
        let fs = Arc::new(MemFs::new());
        let keyspace = open(&fs);
        keyspace.choose_key_schema(&meta_of(&keyspace), start, end, schema).unwrap();
        assert_eq!(chosen(keyspace.db()), with_meta(wanted));
        // Power goes: nothing but what was synced is left.
        let crashed = copy(&fs, CrashMode::Nothing);
        drop(keyspace);
        for fs in [fs, crashed] {
            for _ in 0..2 {
                let keyspace = open(&fs);
                assert_eq!(chosen(keyspace.db()), with_meta(wanted));
            }
        }
    }
    // The row alone: the machine stopped between it and the choice, which then never happened.
    let fs = Arc::new(MemFs::new());
    let db = open_engine(&fs);
    db.put(&db.default_cf(), b"schemadata", b"").unwrap();
    drop(db);
    let wanted = OWN.map(|own| if own.starts_with("data") { "data default" } else { own });
    assert_eq!(chosen(open(&fs).db()), wanted);
}
