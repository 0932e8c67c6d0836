//! Prints what a memtable costs: `cargo run --release -p sluicedb --example memtable_bench`.
//! Nanoseconds per operation, best and median of a few rounds (first argument); the second argument
//! picks the lines that begin with it. Compare ratios, or misses under cachegrind, on a busy
//! machine.
#![allow(clippy::disallowed_methods)] // a measurement reads the clock

// The memtable is private to the library; it needs nothing else of it.
#[allow(dead_code, unused_imports)]
#[path = "../src/memtable/mod.rs"]
mod memtable;

use memtable::{Memtable, MemtableIter};
use sluice_base::{Kind, SeqNo, Trailer};
use sluice_env::Rng;
use std::{hint::black_box, sync::Arc, time::Instant};

const COUNT: usize = 550_000;
const VALUE: [u8; 100] = [7; 100];

fn main() {
    let mut args = std::env::args().skip(1);
    let rounds: usize = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(5);
    let only = args.next().unwrap_or_default();
    let best = |what: &str, run: &mut dyn FnMut() -> f64| {
        if what.starts_with(&only) {
            best(what, rounds, run);
        }
    };
    let mut random = Vec::new();
    let mut rng = Rng::new(1);
    for _ in 0..COUNT {
        let mut key = [0u8; 16];
        rng.fill(&mut key);
        random.push(key);
    }
    let mut sorted = random.clone();
    sorted.sort_unstable();
    // Every key begins with the same 12 bytes: the prefixes beside the links decide nothing.
    let shared: Vec<[u8; 16]> = (0..COUNT)
        .map(|_| {
            let mut key = *b"tenant:0001:....";
            key[12..].copy_from_slice(&(rng.next_u64() as u32).to_be_bytes());
            key
        })
        .collect();
    let mut lookups = random.clone();
    for at in (1..lookups.len()).rev() {
        lookups.swap(at, rng.below(at as u64 + 1) as usize);
    }

    best("insert random", &mut || fill(&random, 1).1);
    best("insert ascending", &mut || fill(&sorted, 1).1);
    best("insert 12 shared bytes", &mut || fill(&shared, 1).1);
    best("2 threads insert random", &mut || fill(&random, 2).1);
    best("2 threads insert ascending", &mut || fill(&sorted, 2).1);
    let (table, _) = fill(&random, 1);
    println!(
        "{:32} {:7.1} bytes, allocated {:.1}",
        "memory per entry",
        table.approximate_bytes() as f64 / COUNT as f64,
        table.allocated_bytes() as f64 / COUNT as f64,
    );
    best("get random", &mut || get(&table, &lookups));
    let (ascending, _) = fill(&sorted, 1);
    best("get after ascending fill", &mut || get(&ascending, &lookups));
    let (tenant, _) = fill(&shared, 1);
    best("get 12 shared bytes", &mut || get(&tenant, &shared));
    best("next", &mut || walk(&table, true));
    best("prev", &mut || walk(&table, false));
}

fn best(what: &str, rounds: usize, run: &mut dyn FnMut() -> f64) {
    let mut all: Vec<f64> = (0..rounds).map(|_| run()).collect();
    all.sort_by(f64::total_cmp);
    println!("{what:32} {:7.1} ns (median {:.1})", all[0], all[all.len() / 2]);
}

fn per_op(start: Instant) -> f64 {
    start.elapsed().as_nanos() as f64 / COUNT as f64
}

/// A table with `keys`, dealt to `threads` in turn; and the wall time per key.
fn fill(keys: &[[u8; 16]], threads: usize) -> (Arc<Memtable>, f64) {
    let table = Arc::new(Memtable::new(1));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let table = &table;
            scope.spawn(move || {
                for at in (thread..keys.len()).step_by(threads) {
                    let trailer = Trailer::new(SeqNo(at as u64 + 1), Kind::Put);
                    table.insert(&keys[at], trailer, &VALUE);
                }
            });
        }
    });
    let time = per_op(start);
    (table, time)
}

fn get(table: &Memtable, keys: &[[u8; 16]]) -> f64 {
    let start = Instant::now();
    for key in keys {
        let (_, value) = table.get(key, Trailer::seek(SeqNo::MAX)).expect("every key was put");
        black_box(value[0]);
    }
    per_op(start)
}

fn walk(table: &Arc<Memtable>, forward: bool) -> f64 {
    let mut iter = MemtableIter::new(Arc::clone(table));
    let start = Instant::now();
    let mut on = if forward { iter.seek_to_first() } else { iter.seek_to_last() };
    let mut count = 0;
    while on {
        black_box(iter.key()[0]);
        count += 1;
        on = if forward { iter.next() } else { iter.prev() };
    }
    assert_eq!(count, COUNT);
    per_op(start)
}
