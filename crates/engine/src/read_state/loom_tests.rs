//! The swap of the read state under loom: batches over two families, seals and a flush between
//! them, and a reader, which sees each batch whole or not at all, and nothing that it has seen go.
//! How to run it: `memtable/skiplist/loom_tests.rs`.
//!
//! State, ring and memtables are the real ones; the pointer is the stand-in of `swap.rs`. The
//! steps of a commit and of a seal are repeated here, because theirs need a whole database.

use super::*;
use crate::cf::DbId;
use sluice_base::{Kind, Trailer};
use sluice_env::sync::{model, thread};

const KEY: &[u8] = b"key";

struct Database {
    cell: ReadStateCell,
    ring: Ring,
    /// The commit lock: the next sequence number.
    next: Mutex<u64>,
}

impl Database {
    fn new() -> Arc<Database> {
        let owner = Arc::default();
        let family = |slot: usize| Some(Arc::new(empty_family(slot, &owner)));
        Arc::new(Database {
            cell: ReadStateCell::new(ReadState::new(vec![family(0), family(1)])),
            ring: Ring::new(SeqNo::ZERO),
            next: Mutex::new(1),
        })
    }

    fn run(self: &Arc<Self>, work: fn(&Database)) -> thread::JoinHandle<()> {
        let database = Arc::clone(self);
        thread::spawn(move || work(&database))
    }

    /// One batch: an entry in each family. Batch n takes numbers 2n - 1 and 2n.
    fn commit(&self) {
        let (first, claim, state) = {
            let mut next = self.next.lock().unwrap();
            let first = *next;
            *next += 2;
            (first, self.ring.claim(SeqNo(first + 1)), self.cell.load_full())
        };
        for (slot, seq) in [(0, first), (1, first + 1)] {
            state.cf(slot).unwrap().active.insert(KEY, Trailer::new(SeqNo(seq), Kind::Put), b"");
        }
        self.ring.publish(&claim);
    }

    fn seal(&self, slots: &[usize]) -> SeqNo {
        let next = self.next.lock().unwrap();
        let last = SeqNo(*next - 1);
        self.cell.seal(slots, last, |cf| {
            let memtable = Arc::clone(&cf.active);
            let (first, dirty_since_us) = (SeqNo(1), 0);
            let sealed = Sealed { memtable, group: 0, reserved: 0, first, dirty_since_us };
            (sealed, Arc::new(Memtable::new(0)))
        });
        last
    }

    /// Puts the newest entry of each sealed memtable in its place, as a flush does that keeps no
    /// version but the newest one that all readers see.
    fn flush(&self, cut: SeqNo) {
        self.ring.wait_visible(cut);
        self.cell.update(&[0, 1], |_, cf| {
            let kept = Memtable::new(0);
            if let Some((trailer, value)) = cf.sealed[0].memtable.get(KEY, seek(cut)) {
                kept.insert(KEY, trailer, value);
            }
            cf.sealed[0].memtable = Arc::new(kept);
        });
    }

    /// Which batch a reader sees, which is the same in both families.
    fn read(&self) -> u64 {
        let (state, seq) = self.cell.cut(&self.ring);
        let batch = |slot: usize| {
            let cf = state.cf(slot).unwrap();
            let mut memtables =
                [&cf.active].into_iter().chain(cf.sealed.iter().map(|sealed| &sealed.memtable));
            let found = memtables.find_map(|memtable| memtable.get(KEY, seek(seq)));
            found.map_or(0, |(trailer, _)| trailer.seq().0.div_ceil(2))
        };
        let (one, other) = (batch(0), batch(1));
        assert_eq!(one, other, "half a batch was read at {seq:?}");
        one
    }
}

fn seek(seq: SeqNo) -> Trailer {
    Trailer::seek(seq)
}

fn empty_family(slot: usize, owner: &Arc<DbId>) -> CfState {
    CfState {
        family: ColumnFamily::for_test(slot as u32, slot, owner),
        active: Arc::new(Memtable::new(0)),
        sealed: Vec::new(),
        version: Arc::new(CfVersion::empty()),
        counters: Arc::default(),
        flushed: SeqNo::ZERO,
    }
}

/// Two batches, a seal of one family somewhere between them, and a reader.
#[test]
fn loom_a_batch_across_a_seal() {
    model(2, || {
        let database = Database::new();
        let threads = [
            database.run(|database| {
                database.commit();
                database.commit();
            }),
            database.run(|database| {
                database.seal(&[0]);
            }),
            database.run(|database| {
                database.read();
            }),
        ];
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(database.read(), 2);
    });
}

/// A batch, a seal of both families and a flush that drops what no reader should need any more.
#[test]
fn loom_a_read_across_a_flush() {
    model(3, || {
        let database = Database::new();
        database.commit();
        let threads = [
            database.run(|database| {
                database.commit();
                let cut = database.seal(&[0, 1]);
                database.flush(cut);
            }),
            database.run(|database| {
                let seen = database.read();
                assert!(seen >= 1, "a flush took away what a reader sees");
                assert!(database.read() >= seen, "a read went back");
            }),
        ];
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(database.read(), 2);
    });
}
