//! Merges tables as a compaction does, row by row and by runs, in turns, and prints what both cost.
//! Nothing is asserted but that both give as many entries: numbers are for people.
//!
//! `cargo run --release -p sluicedb --example merge_bench [rows] [rounds] [case] [rows|runs]`: a case and one
//! way alone are for profilers.

use sluice_base::{FileNo, Kind, SeqNo, Trailer};
use sluice_env::{Env, Fs, MemFs, Rng};
use sluice_table::{BlockCache, Compression, Table, TableOptions, TableWriter};
use sluicedb::{
    KeySchema,
    bare_merge::{Rules, merge_tables},
};
use std::{collections::BTreeMap, path::Path, sync::Arc};

type Rows = BTreeMap<Vec<u8>, (u64, usize)>;

struct Case {
    name: &'static str,
    schema: KeySchema,
    /// Newest first.
    tables: Vec<Rows>,
}

fn schema(text: &str) -> KeySchema {
    KeySchema::parse("bench", 1, text).expect("a schema")
}

fn whole_key(number: u64) -> Vec<u8> {
    format!("user{:012}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_000_000_000_000).into()
}

/// `table u32, key escaped, rest`: a hash and one of its fields.
fn field_key(hash: u64, field: u64) -> Vec<u8> {
    let name = format!("profile:{:08}", hash.wrapping_mul(0x9e37_79b9) % 100_000_000);
    let mut key = vec![0, 0, 0, 1];
    key.extend_from_slice(name.as_bytes());
    key.extend_from_slice(&[0, 1]);
    key.extend_from_slice(format!("field{field}").as_bytes());
    key
}

/// `tenant u32, ts u64`: time goes on through all tables.
fn series_key(number: u64) -> Vec<u8> {
    let mut key = 7u32.to_be_bytes().to_vec();
    key.extend_from_slice(&(1_700_000_000_000 + number * 250).to_be_bytes());
    key
}

fn cases(rows: u64) -> Vec<Case> {
    let one = |keys: &mut dyn Iterator<Item = Vec<u8>>, seq: u64| -> Rows {
        keys.enumerate().map(|(at, key)| (key, (seq + at as u64, 100))).collect()
    };
    let quarters = |key: &dyn Fn(u64) -> Vec<u8>, by: &dyn Fn(u64) -> u64| -> Vec<Rows> {
        let of = |part| (0..rows).filter(move |&row| by(row) == part);
        (0..4).map(|part| one(&mut of(part).map(key), part * rows)).collect()
    };
    let hashes = "table u32, key escaped, rest";
    let mut random = Rng::new(1);
    let mut update = |key: &dyn Fn(u64) -> Vec<u8>| -> Vec<Rows> {
        let picks: Vec<u64> = (0..rows / 10).map(|_| random.below(rows)).collect();
        let newer = one(&mut picks.into_iter().map(key), rows * 2);
        vec![newer, one(&mut (0..rows).map(key), 0)]
    };
    vec![
        Case {
            name: "series, disjoint inputs",
            schema: schema("tenant u32, ts u64"),
            tables: quarters(&series_key, &|row| row * 4 / rows),
        },
        Case {
            name: "whole key, disjoint inputs",
            schema: KeySchema::whole_key(),
            tables: {
                let key = |row: u64| format!("user{row:012}").into_bytes();
                quarters(&key, &|row| row * 4 / rows)
            },
        },
        Case {
            name: "whole key, four inputs at random",
            schema: KeySchema::whole_key(),
            tables: quarters(&whole_key, &|row| row % 4),
        },
        Case {
            name: "whole key, 10 % updates",
            schema: KeySchema::whole_key(),
            tables: update(&whole_key),
        },
        Case {
            name: "hashes of 10 fields, at random",
            schema: schema(hashes),
            tables: quarters(&|row| field_key(row / 10, row % 10), &|row| row / 10 % 4),
        },
        Case {
            name: "hashes of 10 fields, 10 % updates",
            schema: schema(hashes),
            tables: update(&|row| field_key(row / 10, row % 10)),
        },
        Case {
            name: "hashes of 10, 1 % updates",
            schema: schema(hashes),
            tables: {
                let picks: Vec<u64> = (0..rows / 100).map(|at| at * 100 + at % 97).collect();
                let key = |row: u64| field_key(row / 10, row % 10);
                vec![
                    one(&mut picks.into_iter().map(key), rows * 2),
                    one(&mut (0..rows).map(key), 0),
                ]
            },
        },
    ]
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let mut args = std::env::args().skip(1);
    let rows = args.next().map_or(400_000, |arg| arg.parse().expect("rows"));
    let rounds: usize = args.next().map_or(7, |arg| arg.parse().expect("rounds"));
    let wanted = args.next().map(|arg| arg.parse::<usize>().expect("the number of a case"));
    let only = args.next();
    let env = Env::os();
    let mut noise = vec![0; 1 << 20];
    Rng::new(3).fill(&mut noise);
    // Half of each value repeats: what LZ4 meets in records.
    noise.chunks_exact_mut(100).for_each(|value| value[50..].fill(b'.'));
    println!(
        "{rows} rows, medians of {rounds}: ns a row by rows, by runs; runs / rows, of which pairs"
    );
    for (number, case) in cases(rows).into_iter().enumerate() {
        if wanted.is_some_and(|wanted| wanted != number) {
            continue;
        }
        for compression in [Compression::None, Compression::Lz4] {
            let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
            let schema = Arc::new(case.schema.clone());
            let cache = BlockCache::new(1 << 20);
            let mut inputs = Vec::new();
            for (at, table) in case.tables.iter().enumerate() {
                let path = format!("/in{at}.sst");
                let schema = Arc::clone(&schema);
                let options = TableOptions { compression, schema, ..TableOptions::default() };
                let mut writer =
                    TableWriter::create(&fs, Path::new(&path), FileNo(at as u64), options)
                        .expect("create");
                for (key, (seq, bytes)) in table {
                    let start = (*seq as usize * 100) % (noise.len() - 200);
                    let value = &noise[start / 100 * 100..][..*bytes];
                    writer.add(key, Trailer::new(SeqNo(*seq), Kind::Put), value).expect("add");
                }
                writer.finish().expect("finish");
                let table = Table::open(&fs, Path::new(&path), FileNo(at as u64), &cache);
                inputs.push(Arc::new(table.expect("open")));
            }
            let entries: u64 = inputs.iter().map(|table| table.properties().entries).sum();
            let mut times = [Vec::new(), Vec::new()];
            let mut made = [(0, 0); 2];
            for round in 0..rounds * 2 {
                let runs = round % 2 == 1;
                if only.as_deref().is_some_and(|only| (only == "runs") != runs) {
                    continue;
                }
                let rules = Rules {
                    fs: Arc::clone(&fs),
                    dir: "/".into(),
                    first_file: 1000,
                    options: TableOptions { compression, ..TableOptions::default() },
                    ranges: vec![(Vec::new(), Arc::clone(&schema))],
                    table_bytes: 16 << 20,
                    grandparents: Vec::new(),
                    snapshots: Vec::new(),
                    visible: u64::MAX >> 8,
                    below: (Vec::new(), Vec::new()),
                    keeps_all: false,
                    runs,
                };
                let start = env.clock.monotonic_us();
                let tables = merge_tables(&inputs, &rules).expect("merge");
                let us = env.clock.monotonic_us() - start;
                times[usize::from(runs)].push(us as f64 * 1000.0 / entries as f64);
                let bytes = tables.iter().map(|table| table.file_bytes).sum::<u64>();
                made[usize::from(runs)] =
                    (tables.iter().map(|table| table.entries).sum::<u64>(), bytes);
                for table in tables {
                    let path = format!("/{:06}.sst", table.file_no.0);
                    fs.remove_file(Path::new(&path)).expect("remove");
                }
            }
            if only.is_some() {
                continue;
            }
            assert_eq!(made[0].0, made[1].0, "both ways keep the same");
            let mut pairs: Vec<f64> =
                times[0].iter().zip(&times[1]).map(|(rows, runs)| runs / rows).collect();
            let (by_rows, by_runs) = (median(&mut times[0]), median(&mut times[1]));
            println!(
                "{:<36} {:<5} {by_rows:>7.1} {by_runs:>7.1}  {:.2}  {:.2}   bytes {:.3}",
                case.name,
                format!("{compression:?}"),
                by_runs / by_rows,
                median(&mut pairs),
                made[1].1 as f64 / made[0].1 as f64
            );
        }
    }
}
