//! The engine's decoders as total functions over bytes, for the fuzz targets and for the test that
//! replays their seeds. Not part of the API.

use crate::{
    Background, Db, FlushRequest, Options, ReadOptions, Result,
    batch::Entries,
    manifest::{self, FileName, ManifestWriter, decode_edit, dump, encode_edit},
    version::VersionState,
};
use sluice_base::{ErrorKind, FileNo, checksum::crc32c};
use sluice_env::{Env, Fs, ManualClock, MemFs, OsThreads};
use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

/// A manifest edit: what is understood must survive being written again, and applying it must give
/// a state or an error.
pub fn manifest_edit(bytes: &[u8]) {
    let _ = dump(bytes);
    let Ok(edit) = decode_edit(bytes) else { return };
    assert_eq!(decode_edit(&encode_edit(&edit)).as_ref(), Ok(&edit));
    if let Ok(state) = VersionState::<()>::empty().apply(&edit) {
        let _ = state.check();
    }
}

/// A batch payload, as the replay finds it in a log frame.
pub fn batch(bytes: &[u8]) {
    let mut entries = Entries::new(bytes);
    let count = entries.by_ref().map(|entry| entry.bytes()).fold(0usize, |n, _| n + 1);
    assert!(count <= bytes.len());
    let _ = entries.finished();
}

/// A directory: `CURRENT`, one manifest, and one log segment. Whatever the manifest says, reading
/// it gives a state or an error; a state survives being written; and a database that opens on it
/// can be read, written to, flushed, closed and opened again.
///
/// ```text
/// flags u8 │ bytes of the manifest u16 LE │ manifest │ the rest: log segment, or CURRENT
/// ```
/// Flags: 1 puts the manifest's checksums right; 2 opens a database; 4: the rest is `CURRENT`;
/// 8: every table named is there, with a table of other keys in it.
pub fn manifest_file(data: &[u8]) {
    let Some((head, rest)) = data.split_first_chunk::<3>() else { return };
    let len = usize::from(u16::from_le_bytes([head[1], head[2]])).min(rest.len());
    let (manifest, rest) = rest.split_at(len);
    let mut manifest = manifest.to_vec();
    // Called by the number it bears where that is a small one.
    let named = manifest.get(12..20).and_then(<[u8]>::first_chunk).map_or(0, number);
    let no = FileNo(if (1..1000).contains(&named) { named } else { 5 });
    if head[0] & 1 != 0 {
        repair_manifest(&mut manifest, no);
    }
    let fs = Arc::new(MemFs::new());
    let dir = Path::new("/db");
    fs.create_dir_all(dir).expect("an empty file system takes a directory");
    let write = |name: FileName, bytes: &[u8]| {
        fs.write(dir.join(name.to_string()), bytes).expect("the directory is there");
    };
    write(FileName::Manifest(no), &manifest);
    if head[0] & 4 != 0 {
        write(FileName::Current, rest);
    } else {
        let name = FileName::Manifest(no).to_string();
        let text = format!("{name}\ncrc32c {:08x}\n", crc32c(name.as_bytes()));
        write(FileName::Current, text.as_bytes());
        let named = rest.get(16..24).and_then(<[u8]>::first_chunk).map_or(0, number);
        if (1..1000).contains(&named) {
            write(FileName::Wal(FileNo(named)), rest);
        }
    }
    let read = match manifest::read::<()>(&*fs, dir) {
        Ok(Some(read)) => read,
        Ok(None) => return,
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Unsupported));
            return;
        }
    };
    read.state.check().expect("what is read adds up");
    if head[0] & 8 != 0 {
        for (_, _, file) in read.state.files().take(100) {
            write(FileName::Table(file), other_table());
        }
    }
    fs.sync_all();
    if head[0] & 2 != 0 {
        let _ = use_database(&fs, dir);
        return;
    }
    let next = read.state.next_file;
    let disk: Arc<dyn Fs> = Arc::<MemFs>::clone(&fs);
    if ManifestWriter::create(disk, dir, next, &read.state).is_err() {
        return;
    }
    let again = manifest::read::<()>(&*fs, dir).expect("what was just written");
    let mut again = again.expect("what was just written").state;
    again.next_file = read.state.next_file;
    assert_eq!(format!("{again:?}"), format!("{:?}", read.state));
}

/// Opens, reads, writes, flushes, closes, and opens again. Errors are fine, panics are not.
fn use_database(fs: &Arc<MemFs>, dir: &Path) -> Result<()> {
    for _ in 0..2 {
        let db = Db::open(dir, options(fs))?;
        let _ = (db.stats(), db.positions(), db.log_info(), db.memtables());
        for usage in db.schema_usage() {
            let _ =
                (db.schema_tables(&usage.id.name), db.drain_schema(&db.default_cf(), &usage.id));
        }
        for cf in db.list_column_families() {
            let mut iter = db.iter(&cf, ReadOptions::default())?;
            let _ = (db.get(&cf, b"key"), db.counter(&cf, 1), db.key_schemas(&cf));
            let mut on = iter.seek_to_first();
            while let Ok(true) = on {
                on = iter.next();
            }
            let _ = iter.seek_to_last().and_then(|_| iter.prev());
        }
        let _ = db.put(&db.default_cf(), b"key", b"value");
        let ticket = db.flush(FlushRequest::default());
        // A flush that fails is tried again for ever: by a clock that stands still here.
        for _ in 0..200 {
            if !db.step() {
                break;
            }
        }
        drop(ticket);
        let _ = db.close(false);
    }
    Ok(())
}

fn options(fs: &Arc<MemFs>) -> Options {
    let fs: Arc<dyn Fs> = Arc::<MemFs>::clone(fs);
    Options {
        env: Env { fs, clock: Arc::new(ManualClock::new(1)), threads: Arc::new(OsThreads) },
        background: Background::Stepped,
        memtable_bytes: 64 << 10,
        memory_budget: 1 << 20,
        wal_segment_bytes: 4096,
        wal_max_bytes: 1 << 20,
        block_bytes: 512,
        reserve_bytes: Some(0),
        ..Options::default()
    }
}

/// A sound table, made once.
fn other_table() -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let fs = Arc::new(MemFs::new());
        let make = || {
            let db = Db::open("/t", options(&fs))?;
            for n in 0..100u8 {
                db.put(&db.default_cf(), &[b'k', n], &[n; 20])?;
            }
            db.close(true)
        };
        make().expect("nothing fails here");
        let is_table = |path: &Path| path.extension().is_some_and(|extension| extension == "sst");
        let mut tables = fs.list().into_iter().filter(|(path, _)| is_table(path));
        let (path, _) = tables.next_back().expect("the close flushed");
        fs.read(path).expect("it is there")
    })
}

fn number(bytes: &[u8; 8]) -> u64 {
    u64::from_le_bytes(*bytes)
}

/// Makes a manifest that of file `no` and puts the checksums of its header and its frames right, as
/// far as the frames' lengths lead.
fn repair_manifest(bytes: &mut [u8], no: FileNo) {
    if bytes.len() < 24 {
        return;
    }
    bytes[12..20].copy_from_slice(&no.0.to_le_bytes());
    let crc = crc32c(&bytes[..20]);
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    let mut at = 24;
    while let Some(head) = bytes.get(at..).and_then(<[u8]>::first_chunk::<12>) {
        let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let Some(payload) = bytes.get(at + 12..).and_then(|rest| rest.get(..len)) else { return };
        let crc = crc32c(payload);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        let place = [no.0.to_le_bytes(), (at as u64).to_le_bytes()].concat();
        let crc = crc32c(&[&place, &bytes[at..at + 8]].concat());
        bytes[at + 8..at + 12].copy_from_slice(&crc.to_le_bytes());
        at += 12 + len;
    }
}
