//! Makes the golden directories of the build that runs: deterministic, on a file system in memory.

use super::{
    content::Content,
    store::{Files, Golden},
};
use sluice_env::{Env, Fs, ManualClock, MemFs, OsThreads};
use sluicedb::{
    Ack, Background, CfOptions, ColumnFamily, Compression, Db, FlushRequest, Options, WriteBatch,
    WriteOptions,
};
use std::{path::Path, sync::Arc};

const FAMILIES: [&str; 3] = ["default", "small memtable", "ünïcode"];

pub fn options(fs: Arc<dyn Fs>) -> Options {
    Options {
        env: Env {
            fs,
            clock: Arc::new(ManualClock::new(1_700_000_000_000)),
            threads: Arc::new(OsThreads),
        },
        background: Background::Stepped,
        memtable_bytes: 64 << 10,
        memory_budget: 1 << 20,
        wal_segment_bytes: 4096,
        wal_max_bytes: 1 << 20,
        table_bytes: 4096,
        level_base_bytes: 8 << 10,
        block_bytes: 512,
        compression_upper: Compression::Lz4,
        compression_lower: Compression::Lz4,
        l0_compaction_trigger: 3,
        reserve_bytes: Some(100),
        ..Options::default()
    }
}

/// A database being written, and what it holds.
struct Maker {
    fs: Arc<MemFs>,
    db: Db,
    cfs: Vec<ColumnFamily>,
    content: Content,
    batches: u64,
}

impl Maker {
    fn new(cf_options: CfOptions) -> Maker {
        let fs = Arc::new(MemFs::new());
        let db = Db::open("/db", options(Arc::<MemFs>::clone(&fs))).unwrap();
        let own = CfOptions { memtable_bytes: Some(32 << 10), ..cf_options.clone() };
        let mut cfs = vec![db.default_cf()];
        cfs.push(db.create_column_family(FAMILIES[1], own).unwrap());
        cfs.push(db.create_column_family(FAMILIES[2], cf_options).unwrap());
        // One that is dropped again: its number stays used.
        let dropped = db.create_column_family("dropped", CfOptions::default()).unwrap();
        db.put(&dropped, b"key", b"value").unwrap();
        db.drop_column_family(&dropped).unwrap();
        let mut content = Content::default();
        for name in FAMILIES {
            content.families.insert(name.to_owned(), Default::default());
        }
        content.seq = db.positions().visible.seq.0;
        Maker { fs, db, cfs, content, batches: 0 }
    }

    /// The next batch: puts, deletes and counters in every family.
    fn write(&mut self, options: &WriteOptions) {
        self.batches += 1;
        let n = self.batches;
        let mut batch = WriteBatch::new();
        for (cf, name) in self.cfs.iter().zip(FAMILIES) {
            for step in 0..3 {
                let number = (n * 7 + step * 13) % 60;
                let key = match number {
                    0 => vec![0, 0xff, b'\n'],
                    1 => b"long ".repeat(60),
                    _ => format!("key {number:02}").into_bytes(),
                };
                if (n + step).is_multiple_of(5) && number > 1 {
                    batch.delete(cf, &key);
                    self.content.delete(name, &key);
                } else {
                    let value = match number % 7 {
                        0 => Vec::new(),
                        6 => format!("{n} {step} ").into_bytes().repeat(60),
                        _ => format!("value {n} {step}").into_bytes(),
                    };
                    batch.put(cf, &key, &value);
                    self.content.put(name, &key, &value);
                }
            }
            let delta = n as i64 - 20;
            batch.add_counter(cf, n as u32 % 3, delta);
            self.content.count(name, n as u32 % 3, delta);
        }
        self.db.write(&batch, options).unwrap();
        self.content.seq = self.db.positions().visible.seq.0;
    }

    fn write_many(&mut self, count: u64) {
        for n in 0..count {
            let ack = [Ack::Os, Ack::Disk][n as usize % 2];
            self.write(&WriteOptions { ack, ..WriteOptions::default() });
        }
    }

    fn flush(&self) {
        let ticket = self.db.flush(FlushRequest::default()).unwrap();
        while ticket.poll().is_none() {
            assert!(self.db.step(), "a flush that nobody finishes");
        }
        ticket.wait(None).unwrap();
        while self.db.step() {}
    }

    fn golden(&self, name: &str, files: Files) -> Golden {
        let content = self.content.render();
        Golden { version: String::new(), name: name.to_owned(), files, content }
    }
}

/// The files of `dir` as the system has them.
fn files(fs: &MemFs, dir: &str) -> Files {
    fs.list()
        .into_iter()
        .filter(|(path, _)| path.parent() == Some(Path::new(dir)))
        .map(|(path, _)| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs.read(&path).unwrap())
        })
        .collect()
}

/// All scenarios.
pub fn scenarios() -> Vec<Golden> {
    vec![clean(), killed(), unlogged(), checkpoint()]
}

/// Closed in order: the log empty, tables in several levels.
fn clean() -> Golden {
    let mut maker = Maker::new(CfOptions::default());
    for round in 0..8 {
        maker.write_many(12);
        maker.flush();
        if round == 5 {
            for cf in &maker.cfs {
                maker.db.compact(cf, None, None).unwrap();
            }
        }
    }
    let stats = maker.db.stats();
    assert!(stats.cfs.iter().any(|cf| cf.level_files[0] > 0), "{stats:?}");
    let below = |cf: &sluicedb::CfStats| cf.level_files[1..].iter().sum::<u64>() > 0;
    assert!(stats.cfs.iter().any(below), "{stats:?}");
    maker.db.close(true).unwrap();
    maker.golden("clean", files(&maker.fs, "/db"))
}

/// As a kill in the middle of a write leaves it: segments with data that is in no table, one of
/// them in a file that was another before, a free one, and a torn last frame.
fn killed() -> Golden {
    let mut maker = Maker::new(CfOptions::default());
    for _ in 0..3 {
        maker.write_many(20);
        maker.flush();
        maker.db.sync().unwrap();
    }
    maker.write_many(5);
    let before = files(&maker.fs, "/db");
    let content = maker.content.clone();
    maker.write(&WriteOptions { ack: Ack::Os, ..WriteOptions::default() });
    let mut torn = files(&maker.fs, "/db");
    let (name, segment) = torn.iter_mut().rfind(|(name, _)| name.ends_with(".wal")).unwrap();
    let old = before.get(name).expect("the write went to a segment that was there");
    let end = |bytes: &[u8]| bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    assert!(end(segment) > end(old) + 100, "the last write is not at the end of {name}");
    let cut = end(old) + 90;
    segment[cut..].fill(0);
    maker.content = content;
    let logs = torn.keys().filter(|name| name.ends_with(".wal")).count();
    assert!(logs > 1 && torn.keys().any(|name| name.ends_with(".free")), "{:?}", torn.keys());
    maker.golden("killed", torn)
}

/// Without a log: what the last flush made, and nothing of what came after.
fn unlogged() -> Golden {
    let mut maker = Maker::new(CfOptions { wal: false, ..CfOptions::default() });
    let off = WriteOptions { ack: Ack::Memory, wal: false, ..WriteOptions::default() };
    for _ in 0..2 {
        for _ in 0..15 {
            maker.write(&off);
        }
        maker.flush();
    }
    let content = maker.content.clone();
    maker.write(&off);
    maker.content = content;
    let killed = maker.fs.kill_clone();
    maker.golden("unlogged", files(&killed, "/db"))
}

/// A checkpoint of a database with data in tables and in memtables.
fn checkpoint() -> Golden {
    let mut maker = Maker::new(CfOptions::default());
    maker.write_many(20);
    maker.flush();
    maker.write_many(9);
    maker.db.checkpoint("/copy").unwrap();
    let content = maker.content.clone();
    maker.write_many(3);
    maker.content = content;
    maker.golden("checkpoint", files(&maker.fs, "/copy"))
}
