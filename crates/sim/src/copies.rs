//! Checkpoints that were reported as done: each must hold the state of its position, after every
//! crash, whatever happens to the original; and what happens to a copy must not touch the original.

use crate::{
    model::{State, same},
    settings::Settings,
    world::{env, read_all},
};
use sluice_env::{Fs, ManualClock, MemFs, Rng};
use sluicedb::{Ack, CfId, Db, WriteBatch, WriteOptions};
use std::{collections::BTreeSet, path::Path, sync::Arc};

/// Most that are kept.
pub const COPIES_MAX: usize = 2;

/// What a copy must hold.
#[derive(Debug)]
struct Saved {
    dir: String,
    state: State,
    /// Families made or dropped while the checkpoint was under way: it may know them, whole, or not.
    maybe: Vec<CfId>,
}

#[derive(Debug, Default)]
pub struct Copies {
    saved: Vec<Saved>,
    /// Names given.
    count: u64,
}

impl Copies {
    pub fn is_full(&self) -> bool {
        self.saved.len() >= COPIES_MAX
    }

    pub fn next_name(&mut self) -> String {
        self.count += 1;
        format!("/copy{}", self.count)
    }

    /// A checkpoint is done. What it holds of families that were there `before` it and are there
    /// `after` it is sure; of others that were `seen` in between it has all or nothing.
    pub fn made(
        &mut self,
        dir: &str,
        mut state: State,
        before: &BTreeSet<CfId>,
        seen: &BTreeSet<CfId>,
        after: &BTreeSet<CfId>,
    ) {
        let known = |cf: &CfId| before.contains(cf) || seen.contains(cf);
        state.rows.retain(|cf, _| known(cf));
        state.counters.retain(|(cf, _), _| known(cf));
        let sure = |cf: &&CfId| before.contains(cf) && after.contains(cf);
        let maybe = before.union(seen).filter(|cf| !sure(cf)).copied().collect();
        self.saved.push(Saved { dir: dir.to_owned(), state, maybe });
    }

    /// Compares every copy with what it must hold, on a clone of the disk.
    pub fn check_all(&self, mem: &MemFs, clock: &Arc<ManualClock>) {
        for saved in &self.saved {
            open(saved, Arc::new(mem.kill_clone()), clock);
        }
    }

    /// Writes to the oldest copy, compacts and deletes it: the original must not notice. True when
    /// there was one.
    pub fn use_up(&mut self, mem: &Arc<MemFs>, clock: &Arc<ManualClock>, rng: &mut Rng) -> bool {
        if self.saved.is_empty() {
            return false;
        }
        let saved = self.saved.remove(0);
        let db = open(&saved, Arc::<MemFs>::clone(mem), clock);
        let dir = saved.dir;
        for cf in db.list_column_families() {
            for n in 0..rng.below(30) {
                let mut batch = WriteBatch::new();
                batch.put(&cf, format!("k{n:03}").as_bytes(), b"written to the copy");
                let options = WriteOptions { ack: Ack::Memory, ..WriteOptions::default() };
                let _ = db.write(&batch, &options);
            }
            db.compact(&cf, None, None).unwrap();
        }
        while db.step() {}
        db.close(rng.one_in(2)).unwrap();
        for (path, _) in mem.list() {
            if path.starts_with(Path::new(&dir)) {
                mem.remove_file(&path).unwrap();
            }
        }
        mem.remove_dir(Path::new(&dir)).unwrap();
        true
    }
}

fn open(saved: &Saved, mem: Arc<MemFs>, clock: &Arc<ManualClock>) -> Db {
    let dir = &saved.dir;
    let settings = Settings::new(7, env(mem, clock));
    let db = Db::open(dir, settings.options).unwrap_or_else(|error| {
        panic!("P3: checkpoint {dir}, which was done, does not open: {error}")
    });
    let found = read_all(&db, &db.list_column_families());
    let mut expected = saved.state.clone();
    for cf in saved.maybe.iter().filter(|cf| !found.rows.contains_key(cf)) {
        expected.rows.remove(cf);
        expected.counters.retain(|(of, _), _| of != cf);
    }
    same(&found, &expected, &format!("P3: checkpoint {dir}"));
    db
}
