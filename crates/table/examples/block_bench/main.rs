//! Prints what single blocks cost: a plain row block with restart points beside our columnar block,
//! under the whole key and under a schema of several fields. Nothing is asserted.
//!
//! Every figure is the best of rounds that alternate between the three. *Hot*: one block, as in
//! micro-benchmarks that others publish. *Many*: so many blocks that they do not fit the
//! processor's caches, as in a database whose blocks are cached.
//!
//! `cargo run --release -p sluice-table --example block_bench [rows] [block bytes] [rounds] [case]`

#[path = "../cases/mod.rs"]
mod cases;
mod row_block;

use std::{hint::black_box, sync::Arc};

use cases::{Case, cases};
use row_block::{RowBlock, RowBuilder, RowCursor};
use sluice_base::{Kind, SeqNo, Trailer};
use sluice_env::{Env, Rng};
use sluice_table::{
    KeySchema,
    bare::{BareBlock, BareBuilder, BareCursor},
};

const SEEKS: usize = 200_000;
const VALUE: [u8; 16] = *b"0123456789abcdef";
const MEASURES: [&str; 7] = [
    "build, ns a row",
    "hot: seek + key + value, ns",
    "hot: next + key + value, ns",
    "many: seek, ns",
    "many: seek + key + value, ns",
    "many: next + trailer, ns",
    "many: next + key + value, ns",
];

/// Blocks of one kind, and a cursor over them.
trait Kindred {
    fn build(&mut self, keys: &[Vec<u8>], block_bytes: usize);
    fn blocks(&self) -> usize;
    fn bytes(&self) -> usize;
    fn memory_bytes(&self) -> usize;
    fn seek(&mut self, block: usize, key: &[u8], take: bool) -> u64;
    fn walk(&mut self, block: usize, take: bool) -> u64;
}

fn trailer(row: usize) -> Trailer {
    Trailer::new(SeqNo((row * 7919 % 1_000_003) as u64), Kind::Put)
}

#[derive(Default)]
struct Rows {
    blocks: Vec<RowBlock>,
    bytes: usize,
    cursor: RowCursor,
}

impl Kindred for Rows {
    fn build(&mut self, keys: &[Vec<u8>], block_bytes: usize) {
        let (mut builder, mut out) = (RowBuilder::default(), Vec::new());
        let mut finish = |builder: &mut RowBuilder, blocks: &mut Vec<RowBlock>| {
            out.clear();
            builder.finish(&mut out);
            blocks.push(RowBlock::parse(&out));
            out.len()
        };
        self.blocks.clear();
        self.bytes = 0;
        for (row, key) in keys.iter().enumerate() {
            if builder.bytes() + key.len() + VALUE.len() > block_bytes {
                self.bytes += finish(&mut builder, &mut self.blocks);
            }
            builder.add(key, trailer(row), &VALUE);
        }
        self.bytes += finish(&mut builder, &mut self.blocks);
    }

    fn blocks(&self) -> usize {
        self.blocks.len()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn memory_bytes(&self) -> usize {
        self.bytes
    }

    fn seek(&mut self, block: usize, key: &[u8], take: bool) -> u64 {
        let block = &self.blocks[block];
        self.cursor.seek(block, key, Trailer::seek(SeqNo::MAX));
        let sum = self.cursor.trailer().0;
        sum + if take { (self.cursor.key()[0] ^ self.cursor.value(block)[0]).into() } else { 0 }
    }

    fn walk(&mut self, block: usize, take: bool) -> u64 {
        let block = &self.blocks[block];
        let mut sum = 0;
        let mut on = self.cursor.first(block);
        while on {
            sum += self.cursor.trailer().0;
            if take {
                sum += u64::from(self.cursor.key()[0] ^ self.cursor.value(block)[0]);
            }
            on = self.cursor.advance(block);
        }
        sum
    }
}

struct Columns {
    schema: Arc<KeySchema>,
    blocks: Vec<BareBlock>,
    bytes: usize,
    cursor: BareCursor,
}

impl Columns {
    fn new(schema: &Arc<KeySchema>) -> Columns {
        let schema = Arc::clone(schema);
        Columns { schema, blocks: Vec::new(), bytes: 0, cursor: BareCursor::default() }
    }
}

impl Kindred for Columns {
    fn build(&mut self, keys: &[Vec<u8>], block_bytes: usize) {
        let (mut builder, mut out) = (BareBuilder::new(&self.schema), Vec::new());
        let schema = &self.schema;
        let mut finish = |builder: &mut BareBuilder, blocks: &mut Vec<BareBlock>| {
            out.clear();
            builder.finish(&mut out);
            blocks.push(BareBlock::parse(&out, schema).expect("a block of our own"));
            out.len()
        };
        self.blocks.clear();
        self.bytes = 0;
        let mut rows = 0;
        for (row, key) in keys.iter().enumerate() {
            if rows > 0 && !builder.has_room(key, &VALUE, block_bytes) {
                self.bytes += finish(&mut builder, &mut self.blocks);
                rows = 0;
            }
            builder.add(key, trailer(row), &VALUE);
            rows += 1;
        }
        self.bytes += finish(&mut builder, &mut self.blocks);
    }

    fn blocks(&self) -> usize {
        self.blocks.len()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn memory_bytes(&self) -> usize {
        self.blocks.iter().map(BareBlock::memory_bytes).sum()
    }

    fn seek(&mut self, block: usize, key: &[u8], take: bool) -> u64 {
        let block = &self.blocks[block];
        let row = block.find(key, Trailer::seek(SeqNo::MAX));
        let sum = block.trailer(row).0;
        sum + if take {
            self.cursor.leave_block();
            (self.cursor.key(block, row)[0] ^ block.value(row)[0]).into()
        } else {
            0
        }
    }

    fn walk(&mut self, block: usize, take: bool) -> u64 {
        let block = &self.blocks[block];
        self.cursor.leave_block();
        let mut sum = 0;
        for row in 0..block.rows() {
            sum += block.trailer(row).0;
            if take {
                sum += u64::from(self.cursor.key(block, row)[0] ^ block.value(row)[0]);
            }
        }
        sum
    }
}

/// Where block `n` of `side` begins among the keys, by asking for the keys.
fn starts(side: &mut dyn Kindred, keys: &[Vec<u8>]) -> Vec<usize> {
    // Blocks are filled in order, so each key is in the block of the one before or in the next.
    let mut starts = vec![0];
    for (row, key) in keys.iter().enumerate() {
        let last = starts.len() - 1;
        if last + 1 < side.blocks() && side.seek(last + 1, key, false) == trailer(row).0 {
            starts.push(row);
        }
    }
    starts
}

fn round(env: &Env, case: &Case, block_bytes: usize, side: &mut dyn Kindred) -> [f64; 7] {
    let mut results = [0.0; MEASURES.len()];
    let mut slot = 0;
    let mut measure = |count: usize, body: &mut dyn FnMut() -> u64| {
        let start = env.clock.monotonic_us();
        black_box(body());
        results[slot] = (env.clock.monotonic_us() - start) as f64 * 1000.0 / count as f64;
        slot += 1;
    };
    let keys = &case.keys;
    measure(keys.len(), &mut || {
        side.build(keys, block_bytes);
        side.bytes() as u64
    });
    let starts = starts(side, keys);
    let middle = starts.len() / 2;
    let hot_keys = &keys[starts[middle]..starts.get(middle + 1).copied().unwrap_or(keys.len())];
    let mut rng = Rng::new(2);
    let hot: Vec<&Vec<u8>> =
        (0..SEEKS).map(|_| &hot_keys[rng.below(hot_keys.len() as u64) as usize]).collect();
    measure(SEEKS, &mut || hot.iter().map(|key| side.seek(middle, key, true)).sum());
    let repeats = 500;
    measure(repeats * hot_keys.len(), &mut || (0..repeats).map(|_| side.walk(middle, true)).sum());
    let many: Vec<(usize, &Vec<u8>)> = (0..SEEKS)
        .map(|_| {
            let row = rng.below(keys.len() as u64) as usize;
            (starts.partition_point(|&start| start <= row) - 1, &keys[row])
        })
        .collect();
    for take in [false, true] {
        let seek =
            |side: &mut dyn Kindred| many.iter().map(|(at, key)| side.seek(*at, key, take)).sum();
        measure(SEEKS, &mut || seek(side));
    }
    for take in [false, true] {
        measure(keys.len(), &mut || (0..side.blocks()).map(|at| side.walk(at, take)).sum());
    }
    results
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number =
        |default| arguments.next().and_then(|word| word.parse().ok()).unwrap_or(default);
    let (rows, block_bytes, rounds) = (number(1_000_000), number(16 << 10), number(3));
    let only = arguments.next().unwrap_or_default();
    let env = Env::os();
    for case in cases(rows as u64).into_iter().filter(|case| case.name.contains(&only)) {
        let count = case.keys.len() as f64;
        println!("\n{} ({}): {count} rows in blocks of {block_bytes}", case.name, case.schema);
        let mut sides: [Box<dyn Kindred>; 3] = [
            Box::new(Rows::default()),
            Box::new(Columns::new(&Arc::new(KeySchema::whole_key()))),
            Box::new(Columns::new(&case.schema)),
        ];
        let mut best = [[f64::MAX; MEASURES.len()]; 3];
        for _ in 0..rounds {
            for (best, side) in best.iter_mut().zip(&mut sides) {
                let results = round(&env, &case, block_bytes, side.as_mut());
                best.iter_mut().zip(results).for_each(|(best, result)| *best = best.min(result));
            }
        }
        let line = |name: &str, [row, whole, schema]: [f64; 3]| {
            let (whole_ratio, schema_ratio) = (whole / row, schema / row);
            println!(
                "  {name:<30} {row:>8.1} {whole:>8.1} {schema:>8.1}   {whole_ratio:.2} {schema_ratio:.2}"
            );
        };
        let of = |value: fn(&dyn Kindred) -> usize| {
            [0, 1, 2].map(|side: usize| value(sides[side].as_ref()) as f64 / count)
        };
        line("bytes a row", of(|side| side.bytes()));
        line("bytes a row in memory", of(|side| side.memory_bytes()));
        for (slot, name) in MEASURES.iter().enumerate() {
            line(name, [best[0][slot], best[1][slot], best[2][slot]]);
        }
    }
    println!(
        "\nColumns: row block, whole key, schema; then the last two by the first (below 1 is better)."
    );
}
