//! The memtable against a `BTreeMap`: one thread with random keys, then many threads at once.
//! Every random test prints its seed when it fails.

use super::{Memtable, MemtableIter};
use sluice_base::{Kind, SeqNo, Trailer, limits};
use sluice_env::Rng;
use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

type Model = BTreeMap<(Vec<u8>, Reverse<Trailer>), Vec<u8>>;

/// Says which seed a test was at when it panicked.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with seed {}", self.0);
        }
    }
}

/// Keys that share much and differ late, are short, empty, or begin with eight 0xff.
fn random_key(rng: &mut Rng) -> Vec<u8> {
    let mut key = match rng.below(6) {
        0 => Vec::new(),
        1 => vec![0xff; rng.below(12) as usize],
        2 => b"prefix--".to_vec(),
        3 => b"prefix--and a long common part: ".to_vec(),
        4 => vec![0; rng.below(10) as usize],
        _ => vec![rng.next_u64() as u8; 2],
    };
    for _ in 0..rng.below(4) {
        key.push([0, 1, b'a', 0xfe, 0xff][rng.below(5) as usize]);
    }
    key
}

fn random_trailer(rng: &mut Rng, seq: u64) -> Trailer {
    Trailer::new(SeqNo(seq), if rng.one_in(4) { Kind::Delete } else { Kind::Put })
}

/// Walks the whole table both ways and compares.
fn check_walks(table: &Arc<Memtable>, model: &Model) {
    let mut iter = MemtableIter::new(Arc::clone(table));
    assert!(!iter.valid() && !iter.next() && !iter.prev(), "nowhere at first");
    let mut on = iter.seek_to_first();
    for ((key, Reverse(trailer)), value) in model {
        assert!(on && iter.valid());
        assert_eq!((iter.key(), iter.trailer(), iter.value()), (&key[..], *trailer, &value[..]));
        on = iter.next();
    }
    assert!(!on && !iter.valid());
    on = iter.seek_to_last();
    for ((key, Reverse(trailer)), value) in model.iter().rev() {
        assert!(on);
        assert_eq!((iter.key(), iter.trailer(), iter.value()), (&key[..], *trailer, &value[..]));
        on = iter.prev();
    }
    assert!(!on && !iter.valid());
}

fn check_seeks(table: &Arc<Memtable>, model: &Model, key: &[u8], trailer: Trailer) {
    let place = (key.to_vec(), Reverse(trailer));
    let found = |iter: &MemtableIter| (iter.key().to_vec(), Reverse(iter.trailer()));
    let mut iter = MemtableIter::new(Arc::clone(table));

    let after = model.range(place.clone()..).next().map(|entry| entry.0);
    assert_eq!(iter.seek(key, trailer).then(|| found(&iter)).as_ref(), after);
    if after.is_some() {
        let before = model.range(..place.clone()).next_back().map(|entry| entry.0);
        assert_eq!(iter.prev().then(|| found(&iter)).as_ref(), before);
    }
    let until = model.range(..=place.clone()).next_back().map(|entry| entry.0);
    assert_eq!(iter.seek_for_prev(key, trailer).then(|| found(&iter)).as_ref(), until);

    let newest = model
        .range(place..)
        .next()
        .filter(|entry| entry.0.0 == key)
        .map(|((_, Reverse(trailer)), value)| (*trailer, &value[..]));
    assert_eq!(table.get(key, trailer), newest);
}

#[test]
fn one_thread_agrees_with_a_map() {
    for seed in 0..300 {
        let _seed = Seed(seed);
        let mut rng = Rng::new(seed);
        let table = Arc::new(Memtable::new(seed));
        let mut model = Model::new();
        // Sequence numbers arrive out of order, as they do from concurrent committers.
        let mut seqs: Vec<u64> = (1..=rng.below(300)).collect();
        for at in (1..seqs.len()).rev() {
            if rng.one_in(2) {
                seqs.swap(at, rng.below(at as u64 + 1) as usize);
            }
        }
        let (mut raw_bytes, mut tombstones) = (0, 0);
        for &seq in &seqs {
            let (key, trailer) = (random_key(&mut rng), random_trailer(&mut rng, seq));
            let mut value = vec![0; rng.below(40) as usize];
            rng.fill(&mut value);
            table.insert(&key, trailer, &value);
            if rng.one_in(10) {
                table.insert(&key, trailer, b"the same entry again changes nothing");
            }
            raw_bytes += (key.len() + value.len()) as u64;
            tombstones += u64::from(trailer.kind() == Some(Kind::Delete));
            model.insert((key, Reverse(trailer)), value);
            let trailer = random_trailer(&mut rng, seq + 2);
            check_seeks(&table, &model, &random_key(&mut rng), trailer);
        }
        check_walks(&table, &model);
        for (key, Reverse(trailer)) in model.keys() {
            check_seeks(&table, &model, key, *trailer);
            check_seeks(&table, &model, key, Trailer::seek(SeqNo::MAX));
            check_seeks(&table, &model, key, Trailer(0));
        }
        assert_eq!(table.entries(), model.len() as u64);
        assert_eq!((table.raw_bytes(), table.tombstones()), (raw_bytes, tombstones));
        assert_eq!(table.is_empty(), model.is_empty());
        let range = seqs.iter().min().zip(seqs.iter().max());
        assert_eq!(table.seq_range(), range.map(|(&min, &max)| (SeqNo(min), SeqNo(max))));
        assert!(table.approximate_bytes() as u64 >= raw_bytes);
        assert!(table.allocated_bytes() >= table.approximate_bytes());
    }
}

#[test]
fn ascending_and_descending_fills_agree_with_a_map() {
    for descending in [false, true] {
        let table = Arc::new(Memtable::new(3));
        let mut model = Model::new();
        for step in 0..3000u32 {
            let number = if descending { 3000 - step } else { step };
            let (key, seq) = (number.to_be_bytes().to_vec(), SeqNo(u64::from(step) + 1));
            table.insert(&key, Trailer::new(seq, Kind::Put), &[]);
            model.insert((key, Reverse(Trailer::new(seq, Kind::Put))), Vec::new());
        }
        check_walks(&table, &model);
    }
}

#[test]
fn the_largest_keys_and_large_values_come_back() {
    let table = Arc::new(Memtable::new(1));
    let mut model = Model::new();
    for seq in 1..=6u64 {
        let key = vec![seq as u8; limits::KEY_BYTES_MAX >> (seq % 2)];
        let value = vec![seq as u8; 1 << 20];
        table.insert(&key, Trailer::new(SeqNo(seq), Kind::Put), &value);
        model.insert((key, Reverse(Trailer::new(SeqNo(seq), Kind::Put))), value);
    }
    check_walks(&table, &model);
    assert!(table.allocated_bytes() < 12 << 20, "large entries do not waste chunks");
}

#[test]
fn counters_add_up_and_make_a_table_worth_flushing() {
    let table = Memtable::new(1);
    assert!(table.is_empty());
    table.add_counter(7, 5);
    table.add_counter(7, -8);
    table.add_counter(9, i64::MAX);
    assert_eq!((table.counter_delta(7), table.counter_delta(8)), (-3, 0));
    assert_eq!(table.counter_deltas().into_iter().collect::<Vec<_>>(), [(7, -3), (9, i64::MAX)]);
    assert!(!table.is_empty());
    assert_eq!((table.entries(), table.seq_range()), (0, None));
}

/// The key of sequence number `seq` in the tests with threads: neighbours collide in the first
/// 8 bytes, every tenth is a version of a key that others write too.
fn threads_key(seed: u64, seq: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed ^ seq.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    match rng.below(10) {
        0 => b"contended".to_vec(),
        1 => vec![0xff; 7 + rng.below(4) as usize],
        2..4 => [&b"prefix--"[..], &rng.below(1 << 20).to_be_bytes()[4..]].concat(),
        4 => seq.to_be_bytes().to_vec(),
        _ => rng.next_u64().to_le_bytes().to_vec(),
    }
}

#[test]
fn threads_insert_at_once_and_readers_miss_nothing_published() {
    const WRITERS: u64 = 4;
    const EACH: u64 = 3000;
    for seed in 0..6 {
        let _seed = Seed(seed);
        let table = Arc::new(Memtable::new(seed));
        // What writer w has inserted: its sequence numbers w + 1, w + 1 + WRITERS, ...
        let published: Vec<AtomicU64> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (table, published) = (&table, &published[writer as usize]);
                scope.spawn(move || {
                    for round in 0..EACH {
                        let seq = round * WRITERS + writer + 1;
                        let trailer = Trailer::new(SeqNo(seq), Kind::Put);
                        table.insert(&threads_key(seed, seq), trailer, &seq.to_be_bytes());
                        published.store(round + 1, Ordering::Release);
                    }
                });
            }
            for reader in 0..2 {
                let (table, published) = (&table, &published);
                scope.spawn(move || read_while_written(table, published, seed, reader, EACH));
            }
        });
        let model: Model = (1..=WRITERS * EACH)
            .map(|seq| {
                let trailer = Trailer::new(SeqNo(seq), Kind::Put);
                ((threads_key(seed, seq), Reverse(trailer)), seq.to_be_bytes().to_vec())
            })
            .collect();
        assert_eq!(table.entries(), WRITERS * EACH);
        check_walks(&table, &model);
        for (key, Reverse(trailer)) in model.keys().step_by(7) {
            check_seeks(&table, &model, key, *trailer);
        }
    }
}

fn read_while_written(
    table: &Arc<Memtable>,
    published: &[AtomicU64],
    seed: u64,
    reader: u64,
    each: u64,
) {
    let mut rng = Rng::new(seed * 100 + reader);
    let mut iter = MemtableIter::new(Arc::clone(table));
    loop {
        let before: Vec<u64> = published.iter().map(|seen| seen.load(Ordering::Acquire)).collect();
        for _ in 0..50 {
            let writer = rng.below(before.len() as u64);
            let count = before[writer as usize];
            if count == 0 {
                continue;
            }
            let seq = rng.below(count) * before.len() as u64 + writer + 1;
            let key = threads_key(seed, seq);
            let exact = table.get(&key, Trailer::new(SeqNo(seq), Kind::Put));
            let (trailer, value) = exact.expect("published entries are found");
            assert_eq!((trailer.seq(), value), (SeqNo(seq), &seq.to_be_bytes()[..]));
            let newest = table.get(&key, Trailer::seek(SeqNo::MAX)).expect("some version");
            assert!(newest.0 >= trailer, "the newest version is at least this one");
        }
        let total: u64 = before.iter().sum();
        let (mut forward, mut backward) = (0, 0);
        let mut last: Option<(Vec<u8>, Reverse<Trailer>)> = None;
        let mut on = iter.seek_to_first();
        while on {
            let here = (iter.key().to_vec(), Reverse(iter.trailer()));
            assert!(last.is_none_or(|last| last < here), "forward order");
            last = Some(here);
            forward += 1;
            on = iter.next();
        }
        let mut last: Option<(Vec<u8>, Reverse<Trailer>)> = None;
        let mut on = iter.seek_to_last();
        while on {
            let here = (iter.key().to_vec(), Reverse(iter.trailer()));
            assert!(last.is_none_or(|last| last > here), "backward order");
            last = Some(here);
            backward += 1;
            on = iter.prev();
        }
        assert!(forward >= total && backward >= forward, "nothing published is missed");
        if before.iter().all(|&count| count == each) {
            return;
        }
    }
}

#[test]
fn an_iterator_keeps_its_memtable_alive() {
    let table = Arc::new(Memtable::new(1));
    table.insert(b"key", Trailer::new(SeqNo(1), Kind::Put), b"value");
    let mut iter = MemtableIter::new(table);
    assert!(iter.seek(b"k", Trailer::seek(SeqNo::MAX)));
    assert_eq!((iter.key(), iter.value()), (&b"key"[..], &b"value"[..]));
}
