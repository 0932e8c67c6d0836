//! Makes the seeds: small databases written by the real engine on a file system in memory, with a
//! clock that stands still, taken apart into what each decoder reads.

use super::text;
use sluice_keyspace::{Head, Keyspace, KeyspaceOptions, LatchSet};
use sluicedb::{
    Ack, Background, CfOptions, Compression, Db, FlushRequest, KeySchema, Options, ReadOptions,
    WriteBatch, WriteOptions,
    env::{Env, ManualClock, MemFs, OsThreads},
};
use std::{collections::BTreeMap, path::Path, sync::Arc};

pub type Seeds = Vec<(String, Vec<u8>)>;

/// All seeds, by target; those of one target in the order of their names.
pub fn seeds() -> BTreeMap<&'static str, Seeds> {
    let files: Vec<Files> = (0..4).map(database).collect();
    let mut seeds = BTreeMap::new();
    for (target, inputs) in [
        ("wal_frame", wal_frames(&files)),
        ("wal_segment", wal_segments(&files)),
        ("table_block", pieces(&files, |pieces| pieces.blocks)),
        ("table_column", pieces(&files, |pieces| pieces.columns)),
        ("table_footer", table_ends(&files)),
        ("table_file", table_files(&files)),
        ("manifest_edit", manifest_edits(&files)),
        ("manifest_file", manifest_files(&files)),
        ("batch", batches(&files)),
        ("keyspace_rows", keyspace_rows()),
        ("resp", text::requests()),
        ("server_text", text::server()),
    ] {
        seeds.insert(target, pick(inputs));
    }
    seeds
}

/// The files of a database by name.
type Files = BTreeMap<String, Vec<u8>>;

fn options(fs: &Arc<MemFs>, variant: u8) -> Options {
    let compression = if variant.is_multiple_of(2) { Compression::Lz4 } else { Compression::None };
    Options {
        env: Env {
            fs: Arc::<MemFs>::clone(fs),
            clock: Arc::new(ManualClock::new(1_700_000_000_000)),
            threads: Arc::new(OsThreads),
        },
        background: Background::Stepped,
        memtable_bytes: 64 << 10,
        memory_budget: 1 << 20,
        wal_segment_bytes: 4096,
        wal_max_bytes: 1 << 20,
        block_bytes: 512 << variant,
        filter_bits_per_key: if variant == 3 { 0 } else { 10 },
        compression_upper: compression,
        compression_lower: compression,
        l0_compaction_trigger: 2 + u32::from(variant),
        reserve_bytes: Some(0),
        ..Options::default()
    }
}

/// A database with several families, flushes, perhaps compactions, counters, and a log that still
/// has data; as a killed process leaves it.
fn database(variant: u8) -> Files {
    let fs = Arc::new(MemFs::new());
    let db = Db::open("/db", options(&fs, variant)).unwrap();
    let own = CfOptions { memtable_bytes: Some(32 << 10), ..CfOptions::default() };
    let mut cfs = vec![db.default_cf()];
    for (name, cf_options) in [("other", CfOptions::default()), ("ünïcode", own)] {
        cfs.push(db.create_column_family(name, cf_options).unwrap());
    }
    let flush = |cfs: Vec<_>| {
        let ticket = db.flush(FlushRequest { cfs, ..FlushRequest::default() }).unwrap();
        while ticket.poll().is_none() {
            db.step();
        }
        while db.step() {}
    };
    for n in 0..24u8 {
        let mut batch = WriteBatch::new();
        for (index, cf) in cfs.iter().enumerate() {
            for key in 0..1 + u16::from(n % 7) {
                let key = match (n + variant) % 3 {
                    0 => format!("user:{:04}", key * 7 + u16::from(n)).into_bytes(),
                    1 => vec![0xff, n, 0, key as u8],
                    _ => [&[0; 9][..], &key.to_be_bytes()].concat(),
                };
                match (n, index) {
                    (3 | 9, _) => batch.delete(cf, &key),
                    (5, 1) => batch.put(cf, &key, &vec![n; 700]),
                    (_, 2) => batch.put(cf, &key, b""),
                    _ => batch.put(cf, &key, &[n, key[0], n ^ 0x55].repeat(usize::from(n % 9))),
                }
            }
            batch.add_counter(cf, u32::from(n % 2), i64::from(n) - 11);
        }
        let ack = if n % 5 == 4 { Ack::Disk } else { Ack::Os };
        db.write(&batch, &WriteOptions { ack, ..WriteOptions::default() }).unwrap();
        match n {
            6 => flush(Vec::new()),
            8 => db.set_key_schema_in(&cfs[0], b"u", Some(b"v"), schema(1)).unwrap(),
            10 => flush(vec![cfs[1].clone()]),
            11 => {
                db.set_key_schema(&cfs[0], schema(2)).unwrap();
                let id = KeySchema::whole_key().id();
                db.drain_schema(&cfs[0], &id).and_then(|_| db.pause_drain(&cfs[0], &id)).unwrap();
            }
            14 => flush(Vec::new()),
            16 if variant == 1 => db.drop_column_family(&cfs.pop().unwrap()).unwrap(),
            18 if variant != 2 => db.rotate_log().unwrap(),
            19 if variant == 2 => flush(Vec::new()),
            _ => {}
        }
    }
    let files = fs.list().into_iter();
    files
        .map(|(path, _)| (name(&path), fs.read(&path).unwrap()))
        .filter(|(name, _)| name != "LOCK")
        .collect()
}

fn schema(version: u32) -> KeySchema {
    KeySchema::parse("users", version, "user fixed 5, number fixed 4").unwrap()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// The files of one kind, each with whether it is the last of its database.
fn of_kind<'a>(files: &'a [Files], kind: &'a str) -> impl Iterator<Item = &'a [u8]> {
    files.iter().flat_map(move |files| {
        let is_kind = move |name: &str| name.ends_with(kind) || name.starts_with(kind);
        files.iter().filter(move |(name, _)| is_kind(name)).map(|(_, bytes)| &bytes[..])
    })
}

/// Without the zeros that a segment is made with.
fn trimmed(segment: &[u8]) -> &[u8] {
    let end = segment.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &segment[..(end + 64).next_multiple_of(8).min(segment.len())]
}

fn wal_frames(files: &[Files]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for segment in of_kind(files, ".wal") {
        let segment = trimmed(segment);
        for flags in [0, 0x20] {
            out.push([&[segment[16] & 0x1f | flags], segment].concat());
        }
        let torn = &segment[..segment.len() / 2];
        out.push([&[segment[16] & 0x1f], torn].concat());
    }
    out
}

fn wal_segments(files: &[Files]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for files in files {
        let files = std::slice::from_ref(files);
        for flags in [0b0000, 0b0001, 0b0011, 0b0100] {
            let mut input = vec![flags];
            for segment in of_kind(files, ".wal") {
                let segment = trimmed(segment);
                let cut = if flags == 0b0100 { segment.len() - 90 } else { segment.len() };
                input.extend_from_slice(&(cut as u16).to_le_bytes());
                input.extend_from_slice(&segment[..cut]);
            }
            out.push(input);
        }
    }
    out
}

fn pieces(
    files: &[Files],
    part: impl Fn(sluice_table::fuzzing::Pieces) -> Vec<Vec<u8>>,
) -> Vec<Vec<u8>> {
    let mut out: Vec<_> = tables(files)
        .iter()
        .flat_map(|table| part(sluice_table::fuzzing::pieces(table).expect("a sound table")))
        .collect();
    // Those under schemas first, as of files.
    out.reverse();
    out
}

/// Ends of tables, then descriptors of key schemas with keys.
fn table_ends(files: &[Files]) -> Vec<Vec<u8>> {
    let mut out = pieces(files, |pieces| pieces.ends);
    out.extend(sluice_table::fuzzing::samples::descriptors(0x5eed_5c4e));
    out
}

/// Tables of the databases, then some under key schemas.
fn tables(files: &[Files]) -> Vec<Vec<u8>> {
    let under_schemas = sluice_table::fuzzing::samples::tables(0x5eed_5c4e).expect("tables");
    of_kind(files, ".sst").map(<[u8]>::to_vec).chain(under_schemas).collect()
}

fn table_files(files: &[Files]) -> Vec<Vec<u8>> {
    let input = |table: &Vec<u8>| [0u8, 1].map(|flag| [&[flag], &table[..]].concat());
    let mut inputs: Vec<_> = tables(files).iter().flat_map(input).collect();
    // Those under schemas first: the others are many and much alike.
    inputs.reverse();
    inputs
}

/// The payloads of a manifest's frames, each behind its kind.
fn frames(manifest: &[u8]) -> Vec<&[u8]> {
    let mut out = Vec::new();
    let mut rest = &manifest[24..];
    while let Some((head, behind)) = rest.split_first_chunk::<12>() {
        let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let (payload, behind) = behind.split_at(len);
        out.push(payload);
        rest = behind;
    }
    out
}

fn manifest_edits(files: &[Files]) -> Vec<Vec<u8>> {
    let manifests = of_kind(files, "MANIFEST-");
    manifests.flat_map(|manifest| frames(manifest)).map(|frame| frame[1..].to_vec()).collect()
}

fn manifest_files(files: &[Files]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for files in files {
        let current = &files["CURRENT"];
        let files = std::slice::from_ref(files);
        let manifest = of_kind(files, "MANIFEST-").last().unwrap();
        let log = of_kind(files, ".wal").map(trimmed).next().unwrap();
        let head = |flags: u8| [&[flags][..], &(manifest.len() as u16).to_le_bytes()].concat();
        out.push([&head(0), manifest].concat());
        out.push([&head(1), manifest].concat());
        out.push([&head(4), manifest, &current[..]].concat());
        for flags in [2 | 8, 1 | 2 | 8] {
            out.push([&head(flags), manifest, log].concat());
        }
    }
    out
}

/// The payloads of the frames of a segment.
fn batches(files: &[Files]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for segment in of_kind(files, ".wal") {
        let number = sluicedb::FileNo(u64::from(segment[16]));
        let options = sluice_wal::DecodeOptions::default();
        sluice_wal::decode_segment(segment, number, options, &mut |frame| {
            out.push(frame.payload.to_vec());
            Ok(())
        })
        .unwrap();
    }
    out
}

/// The rows that commands leave in the families of the data model.
fn keyspace_rows() -> Vec<Vec<u8>> {
    let fs = Arc::new(MemFs::new());
    let db = Db::open("/db", options(&fs, 0)).unwrap();
    let keyspace = Keyspace::open(db.clone(), KeyspaceOptions { databases: 4 }).unwrap();
    let mut latches = LatchSet::new();
    latches.add_all();
    let mut out = vec![
        row(0, b"db\0\0\0\x01", &[0xff, 0xff]),
        row(0, b"db\0\0\0\x02", &[0x40, 0x00]),
        row(0, b"purge\x40\x01", b""),
        row(0, b"purge\x00\x01", b""),
        row(1, b"\0\0\0\0key", b"\x12"),
        row(1, b"\0\0\x3f\xffkey", b"\x91"),
        row(2, b"short", b""),
    ];
    let mut txn = keyspace.transaction();
    for n in 0..12u64 {
        txn.begin_write(1_000 + n, &latches);
        for key in 0..=n {
            let key = format!("key{key}");
            let expire_at = key.ends_with('3').then_some(2_000 + n);
            txn.put((n % 4) as u32, key.as_bytes(), Head::string(expire_at), &[b"value"]).unwrap();
        }
        match n {
            5 => txn.flush_database(1).unwrap(),
            8 => txn.swap_databases(0, 2).unwrap(),
            10 => drop(txn.delete(2, b"key1").unwrap()),
            _ => {}
        }
        txn.commit(&WriteOptions::default()).unwrap();
        let mut dump = Vec::new();
        for (family, name) in ["default", "meta", "expire"].into_iter().enumerate() {
            let cf = db.column_family(name).unwrap();
            let mut iter = db.iter(&cf, ReadOptions::default()).unwrap();
            let mut on = iter.seek_to_first().unwrap();
            while on {
                dump.extend(row(family as u8, iter.key(), iter.value()));
                on = iter.next().unwrap();
            }
        }
        out.push(dump);
    }
    out
}

fn row(family: u8, key: &[u8], value: &[u8]) -> Vec<u8> {
    [&[family, key.len() as u8, value.len() as u8][..], key, value].concat()
}

/// At most forty inputs, without repetitions, small enough to be in a repository: of many, evenly.
fn pick(mut inputs: Vec<Vec<u8>>) -> Seeds {
    const COUNT_MAX: usize = 40;
    const BYTES_MAX: usize = 96 << 10;
    inputs.retain(|input| !input.is_empty());
    let mut seen = std::collections::BTreeSet::new();
    inputs.retain(|input| seen.insert(input.clone()));
    let step = inputs.len().div_ceil(COUNT_MAX).max(1);
    let mut bytes = 0;
    let mut out = Vec::new();
    for input in inputs.into_iter().step_by(step) {
        bytes += input.len();
        if bytes > BYTES_MAX {
            break;
        }
        out.push((format!("{:02}", out.len()), input));
    }
    out
}
