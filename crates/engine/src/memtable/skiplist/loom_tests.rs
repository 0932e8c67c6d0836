//! The skiplist and its arena under loom: every interleaving of a few inserts and a reader, with
//! every value that the orderings in `node.rs`, `arena.rs` and `skiplist.rs` allow a load to give.
//!
//! ```text
//! RUSTFLAGS="--cfg sluice_loom" cargo test --profile checked --target-dir target/loom \
//!     -p sluicedb --lib loom
//! ```
//!
//! Lists have two levels there, and chunks of the arena are as small as they can be. loom sees
//! the atomics, and key and value by a cell that stands for them.

use super::*;
use sluice_base::{Kind, SeqNo};
use sluice_env::sync::{
    atomic::{AtomicU64, Ordering},
    model, thread,
};
use std::sync::Mutex;

fn put(seq: u64) -> Trailer {
    Trailer::new(SeqNo(seq), Kind::Put)
}

/// A seed that gives the entries 1, 2, ... towers of these heights.
fn seed_for(heights: &'static [usize]) -> u64 {
    static FOUND: Mutex<u64> = Mutex::new(0);
    let _one_at_a_time = SEEDS.lock().unwrap();
    model(0, move || {
        let mut list = SkipList::new(0);
        let fits = |list: &SkipList| {
            (1..).zip(heights).all(|(seq, &height)| list.tower_height(put(seq)) == height)
        };
        while !fits(&list) {
            list.seed += 1;
        }
        *FOUND.lock().unwrap() = list.seed;
    });
    *FOUND.lock().unwrap()
}

static SEEDS: Mutex<()> = Mutex::new(());

/// Every entry from the first on.
fn walk(list: &SkipList) -> Vec<(Vec<u8>, u64, Vec<u8>)> {
    let mut at = list.first();
    let mut found = Vec::new();
    while let Some(node) = at {
        found.push((node.key().to_vec(), node.trailer().seq().0, node.value().to_vec()));
        at = list.next(node);
    }
    found
}

/// Every entry from the last back.
fn walk_back(list: &SkipList) -> Vec<(Vec<u8>, u64, Vec<u8>)> {
    let mut at = list.last();
    let mut found = Vec::new();
    while let Some(node) = at {
        found.push((node.key().to_vec(), node.trailer().seq().0, node.value().to_vec()));
        at = list.prev(node);
    }
    found
}

fn entry(key: &[u8], seq: u64) -> (Vec<u8>, u64, Vec<u8>) {
    (key.to_vec(), seq, seq.to_be_bytes().to_vec())
}

/// Entry 1 is there, 2 and 3 come side by side while a reader walks and searches.
fn side_by_side(keys: [&'static [u8]; 3], heights: &'static [usize]) {
    let seed = seed_for(heights);
    model(2, move || {
        let list = Arc::new(SkipList::new(seed));
        assert!(list.insert(keys[0], put(1), &1u64.to_be_bytes()));
        let inserters: Vec<_> = (2..=3u64)
            .map(|seq| {
                let list = Arc::clone(&list);
                thread::spawn(move || {
                    let key = keys[seq as usize - 1];
                    assert!(list.insert(key, put(seq), &seq.to_be_bytes()));
                    // Who has inserted finds it.
                    let node = list.seek(key, put(seq)).unwrap();
                    assert_eq!((node.key(), node.trailer()), (key, put(seq)));
                })
            })
            .collect();
        let mut all: Vec<_> = (1..).zip(keys).map(|(seq, key)| entry(key, seq)).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        let reader = {
            let (list, all) = (Arc::clone(&list), all.clone());
            thread::spawn(move || {
                let seen = walk(&list);
                assert!(seen.iter().all(|entry| all.contains(entry)), "{seen:?}");
                assert!(seen.contains(&entry(keys[0], 1)), "{seen:?}");
                assert!(seen.windows(2).all(|pair| {
                    (&pair[0].0, std::cmp::Reverse(pair[0].1))
                        < (&pair[1].0, std::cmp::Reverse(pair[1].1))
                }));
                let node = list.seek(keys[0], put(1)).unwrap();
                assert_eq!((node.key(), node.value()), (keys[0], &1u64.to_be_bytes()[..]));
            })
        };
        for inserter in inserters {
            inserter.join().unwrap();
        }
        reader.join().unwrap();
        assert_eq!(walk(&list), all);
        all.reverse();
        assert_eq!(walk_back(&list), all);
    });
}

#[test]
fn loom_different_prefixes_low_towers() {
    side_by_side([b"m", b"a", b"b"], &[1, 1, 1]);
}

#[test]
fn loom_different_prefixes_high_towers() {
    side_by_side([b"m", b"b", b"a"], &[1, 2, 1]);
}

#[test]
fn loom_equal_prefixes() {
    side_by_side([b"prefix--b", b"prefix--a", b"prefix--c"], &[2, 2, 1]);
}

#[test]
fn loom_ascending() {
    side_by_side([b"a", b"b", b"c"], &[2, 1, 2]);
}

/// Versions 2 and 3 of a key come side by side; each is announced once it is in. Whoever has heard
/// of a version gets it or a newer one: a search stops at no version that it should not stop at.
fn versions(heights: &'static [usize]) {
    let seed = seed_for(heights);
    model(2, move || {
        let list = Arc::new(SkipList::new(seed));
        assert!(list.insert(b"key", put(1), &1u64.to_be_bytes()));
        let announced = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let inserters: Vec<_> = (2..=3u64)
            .map(|seq| {
                let (list, announced) = (Arc::clone(&list), Arc::clone(&announced));
                thread::spawn(move || {
                    assert!(list.insert(b"key", put(seq), &seq.to_be_bytes()));
                    announced[seq as usize - 2].store(seq, Ordering::Release);
                })
            })
            .collect();
        let newest = |list: &SkipList| {
            let node = list.seek(b"key", put(9)).unwrap();
            assert_eq!(
                (node.key(), node.value()),
                (&b"key"[..], &node.trailer().seq().0.to_be_bytes()[..])
            );
            node.trailer().seq().0
        };
        let reader = {
            let (list, announced) = (Arc::clone(&list), Arc::clone(&announced));
            thread::spawn(move || {
                let heard = announced.iter().map(|seq| seq.load(Ordering::Acquire)).max().unwrap();
                let found = newest(&list);
                assert!(found >= heard.max(1), "found {found}, heard of {heard}");
            })
        };
        for inserter in inserters {
            inserter.join().unwrap();
        }
        reader.join().unwrap();
        assert_eq!(newest(&list), 3);
    });
}

#[test]
fn loom_newest_version_low_towers() {
    versions(&[1, 1, 1]);
}

#[test]
fn loom_newest_version_high_towers() {
    versions(&[2, 2, 1]);
}

/// Two threads take ranges out of an empty arena: the first chunk, and one that is too full.
#[test]
fn loom_arena_growth() {
    model(3, || {
        let arena = Arc::new(Arena::new());
        let takers: Vec<_> = (0..2)
            .map(|_| {
                let arena = Arc::clone(&arena);
                thread::spawn(move || {
                    let take = |_| arena.alloc(96).as_ptr() as usize;
                    [0, 1, 2].map(take)
                })
            })
            .collect();
        let mut ranges: Vec<usize> =
            takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect();
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0] + 96 <= pair[1]), "{ranges:?}");
        assert_eq!(arena.used_bytes(), 6 * 96);
        assert!(arena.allocated_bytes() > 6 * 96);
    });
}
