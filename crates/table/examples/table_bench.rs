//! Prints what building and reading a table costs. Nothing is asserted: numbers are for people.
//!
//! `cargo run --release -p sluice-table --example table_bench [rows] [noise|text]`
//! `cargo run --release -p sluice-table --example table_bench [rows] index`: a table of many small blocks,
//! its index in one level and in two

use std::{path::Path, sync::Arc};

use sluice_base::{FileNo, Kind, SeqNo, Trailer};
use sluice_env::{Env, Fs, MemFs, Rng};
use sluice_table::{
    BlockCache, Compression, IterOptions, Table, TableIter, TableOptions, TableWriter, filter_hash,
};

const VALUE_BYTES: usize = 100;

struct Bench {
    env: Env,
    rows: u64,
    text: bool,
}

fn key(number: u64) -> [u8; 16] {
    let mut key = [b'0'; 16];
    let mut rest = number;
    for byte in key.iter_mut().rev() {
        *byte = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

impl Bench {
    /// Runs `body` for `count` operations and prints nanoseconds per operation.
    fn measure(&self, name: &str, count: u64, body: impl FnOnce() -> u64) {
        let start = self.env.clock.monotonic_us();
        let sum = body();
        let us = self.env.clock.monotonic_us() - start;
        println!("{name:<44} {:>9.1} ns/op   (sum {sum:x})", us as f64 * 1000.0 / count as f64);
    }

    fn build(&self, path: &Path, options: TableOptions) {
        let mut rng = Rng::new(1);
        let mut values = vec![0; 1 << 20];
        rng.fill(&mut values);
        if self.text {
            // Half of each value repeats: what LZ4 meets in records.
            for value in values.chunks_mut(VALUE_BYTES) {
                let middle = value.len() / 2;
                value[middle..].fill(b'.');
            }
        }
        let starts = (values.len() / VALUE_BYTES) as u64;
        self.measure(&format!("build a row, {:?}", options.compression), self.rows, || {
            let mut writer =
                TableWriter::create(&self.env.fs, path, FileNo(1), options).expect("create");
            for number in 0..self.rows {
                let start = (number % starts) as usize * VALUE_BYTES;
                // Even numbers exist, odd ones do not.
                writer
                    .add(
                        &key(number * 2),
                        Trailer::new(SeqNo(1 + number * 7919 % self.rows), Kind::Put),
                        &values[start..start + VALUE_BYTES],
                    )
                    .expect("add");
            }
            writer.finish().expect("finish").file_bytes
        });
    }

    fn reads(&self, table: &Arc<Table>, count: u64) {
        let seek = Trailer::seek(SeqNo::MAX);
        let get = |number: u64| -> u64 {
            let key = key(number);
            let found = table.get(&key, filter_hash(&key), seek).expect("get");
            found.map_or(0, |(trailer, value)| trailer.0 + u64::from(value[value.len() - 1]))
        };
        let random = |name: &str, odd: u64, seed: u64, range: u64| {
            let mut rng = Rng::new(seed);
            self.measure(name, count, || {
                (0..count).map(|_| get(rng.below(range) * 2 + odd)).fold(0, u64::wrapping_add)
            });
        };
        // The first pass fills the cache.
        random("get, random, cold cache (memory fs)", 0, 2, self.rows);
        let mut rng = Rng::new(9);
        self.measure("key and hash alone", count, || {
            (0..count)
                .map(|_| filter_hash(&key(rng.below(self.rows) * 2)))
                .fold(0, u64::wrapping_add)
        });
        random("get, random, cached", 0, 3, self.rows);
        random("get, random in 10,000 hot rows, cached", 0, 4, self.rows.min(10_000));
        random("get, missing key", 1, 5, self.rows);
        let mut iter = TableIter::new(Arc::clone(table), IterOptions::default());
        let mut rng = Rng::new(6);
        self.measure("seek, random, cached", count, || {
            (0..count)
                .map(|_| {
                    let key = key(rng.below(self.rows * 2));
                    u64::from(iter.seek(&key, seek).expect("seek"))
                })
                .sum()
        });
        self.measure("next, key and value length, cached", self.rows, || {
            let mut sum = 0u64;
            let mut on = iter.seek_to_first().expect("seek");
            while on {
                sum += u64::from(iter.key()[15]) + iter.value().len() as u64;
                on = iter.next().expect("next");
            }
            sum
        });
        self.measure("prev, key, cached", self.rows, || {
            let mut sum = 0u64;
            let mut on = iter.seek_to_last().expect("seek");
            while on {
                sum += u64::from(iter.key()[15]);
                on = iter.prev().expect("prev");
            }
            sum
        });
    }

    /// Blocks of 1 KiB stand for a table sixteen times as large: what is compared is the index. Both
    /// tables are read in turns, the best of five rounds counts.
    fn levels(&self) {
        let sides = [("one level", usize::MAX), ("two levels", 64 << 10)];
        let cache = BlockCache::new(2 << 30);
        let mut best = [[f64::MAX; 4]; 2];
        let paths = [Path::new("/000001.sst"), Path::new("/000002.sst")];
        for ((name, partition), path) in sides.iter().zip(paths) {
            let options = TableOptions {
                block_bytes: 1 << 10,
                index_partition_bytes: *partition,
                ..TableOptions::default()
            };
            println!("{name}:");
            self.build(path, options);
        }
        let tables = paths.map(|path| {
            Arc::new(Table::open(&self.env.fs, path, FileNo(1), &cache).expect("open"))
        });
        let count = 300_000;
        let seek = Trailer::seek(SeqNo::MAX);
        for round in 0..6 {
            for (side, table) in tables.iter().enumerate() {
                let mut results = [0.0; 4];
                let time = |count: u64, body: &mut dyn FnMut() -> u64| {
                    let start = self.env.clock.monotonic_us();
                    std::hint::black_box(body());
                    (self.env.clock.monotonic_us() - start) as f64 * 1000.0 / count as f64
                };
                results[0] = time(20, &mut || {
                    let open = |_| {
                        let table = Table::open(&self.env.fs, paths[side], FileNo(1), &cache);
                        table.expect("open").blocks() as u64
                    };
                    (0..20).map(open).sum()
                });
                for (slot, hot) in [(1, self.rows), (2, 10_000)] {
                    let mut rng = Rng::new(7);
                    results[slot] = time(count, &mut || {
                        let get = |_| {
                            let key = key(rng.below(hot) * 2);
                            let found = table.get(&key, filter_hash(&key), seek).expect("get");
                            found.map_or(0, |(trailer, _)| trailer.0)
                        };
                        (0..count).map(get).fold(0, u64::wrapping_add)
                    });
                }
                let mut iter = TableIter::new(Arc::clone(table), IterOptions::default());
                results[3] = time(self.rows, &mut || {
                    let mut on = iter.seek_to_first().expect("seek");
                    while on {
                        on = iter.next().expect("next");
                    }
                    0
                });
                if round > 0 {
                    // The first round fills the cache.
                    for (best, result) in best[side].iter_mut().zip(results) {
                        *best = best.min(result);
                    }
                }
            }
        }
        for ((table, best), (name, _)) in tables.iter().zip(best).zip(sides) {
            let [open, get, hot, next] = best;
            println!(
                "{name}: {} blocks, {} partitions, pinned {} bytes; open {:.1} us, get {get:.0} ns, \
                 get among 10,000 hot rows {hot:.0} ns, next {next:.1} ns",
                table.blocks(),
                table.index_partitions(),
                table.pinned_bytes(),
                open / 1000.0
            );
        }
    }

    fn scan(&self, path: &Path) {
        let table = Table::open(&self.env.fs, path, FileNo(1), &BlockCache::new(0)).expect("open");
        let mut iter = TableIter::new(Arc::new(table), IterOptions::sequential());
        self.measure("next, everything, from the file, readahead", self.rows, || {
            let mut sum = 0u64;
            let mut on = iter.seek_to_first().expect("seek");
            while on {
                sum += u64::from(iter.key()[15]) + iter.trailer().0 + iter.value().len() as u64;
                on = iter.next().expect("next");
            }
            sum
        });
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let rows = arguments.next().and_then(|rows| rows.parse().ok()).unwrap_or(1_000_000);
    let word = arguments.next().unwrap_or_default();
    let text = word == "text";
    let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
    let bench = Bench { env: Env::os().with_fs(fs), rows, text };
    println!("{rows} rows of 16 B keys and {VALUE_BYTES} B values, text: {text}");
    if word == "index" {
        return bench.levels();
    }
    let path = Path::new("/000001.sst");
    let plain = TableOptions { compression: Compression::None, ..TableOptions::default() };
    bench.build(Path::new("/000002.sst"), plain);
    bench.build(path, TableOptions::default());
    let cache = BlockCache::new(1 << 30);
    let table = Arc::new(Table::open(&bench.env.fs, path, FileNo(1), &cache).expect("open"));
    bench.reads(&table, rows);
    bench.scan(path);
    for column in table.inspect_columns().expect("columns").columns {
        println!("{}: {:.2} bytes an entry", column.name, column.bytes as f64 / rows as f64);
    }
    println!("{:?}", cache.stats());
}
