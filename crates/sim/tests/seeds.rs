//! P1 to P4, P6, P8 to P10 in simulation: a few hundred seeds at every test run. `SLUICE_SEED=n` repeats one,
//! `SLUICE_SEEDS=n` and `SLUICE_SEEDS_FROM=n` choose others; the program `sluice-sim` runs many.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sluice_sim::{Plan, run};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn seeds(default_count: u64) -> std::ops::Range<u64> {
    match number("SLUICE_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = number("SLUICE_SEEDS_FROM").unwrap_or(1);
            first..first + number("SLUICE_SEEDS").unwrap_or(default_count)
        }
    }
}

#[test]
fn p01_p02_p03_p04_p10_simulated_histories_keep_every_promise() {
    for seed in seeds(300) {
        if let Err(violated) = run(&Plan::new(seed)) {
            panic!("SLUICE_SEED={seed}: {violated}");
        }
    }
}

#[test]
fn a_seed_does_the_same_every_time() {
    for seed in 1..20 {
        assert_eq!(run(&Plan::new(seed)), run(&Plan::new(seed)), "seed {seed}");
    }
}

/// The shortened plans of bugs that were found.
#[test]
fn what_was_found_once_stays_found() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/plans");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let plan: Plan = std::fs::read_to_string(&path).unwrap().parse().unwrap();
        if let Err(violated) = run(&plan) {
            panic!("{}: {violated}", path.display());
        }
        count += 1;
    }
    assert!(count >= 3);
}
