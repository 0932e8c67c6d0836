//! The program `sluice-sim`: many seeds on all processors, and what they found.
//!
//! ```text
//! sluice-sim --minutes 10              new seeds for ten minutes
//! sluice-sim --from 1 --seeds 1000     these seeds
//! sluice-sim --seed 77                 one, and its shortest failing plan when it fails
//! sluice-sim --plan target/sim/77.plan a plan again
//! ```
//!
//! It ends with 0 when every promise held, with 1 when one was violated: the seed, what was
//! violated and the shortened plan are printed, and the plan is kept as a file. A run that does not
//! end within [`HANG`] is reported as a violation of P6 and ends the program.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the simulated world is inside; this program lives in the real one"
)]

use clap::Parser;
use sluice_env::probe;
use sluice_sim::{Plan, Tally, run, shrink::shrink};
use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Longer than any run takes on a busy machine.
const HANG: Duration = Duration::from_secs(180);
/// Failures after which it stops looking for more.
const FAILURES_MAX: usize = 5;
/// Plans tried to make a failing one shorter.
const SHRINK_TRIES: u64 = 4000;

/// Simulates seeded histories of the engine, with faults and crashes, and checks every promise.
#[derive(Debug, Parser)]
struct Arguments {
    /// Run this seed only.
    #[arg(long, conflicts_with_all = ["seeds", "minutes", "plan"])]
    seed: Option<u64>,
    /// Run the plan in this file.
    #[arg(long)]
    plan: Option<PathBuf>,
    /// How many seeds; without it as many as the minutes allow, or 1000.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed. Default: from the clock.
    #[arg(long)]
    from: Option<u64>,
    /// Stop after so many minutes.
    #[arg(long)]
    minutes: Option<f64>,
    /// Runs at the same time. Default: one for each processor.
    #[arg(long)]
    threads: Option<usize>,
    /// Where failing plans are kept.
    #[arg(long, default_value = "target/sim")]
    out: PathBuf,
    /// Print how often each probe was reached, one to a line.
    #[arg(long)]
    probes: bool,
}

thread_local! {
    /// Where the last panic of this thread came from.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A seed that failed.
struct Failure {
    seed: u64,
    violated: String,
    plan: Plan,
}

/// What all workers share.
struct Hunt {
    next: AtomicU64,
    end: Option<u64>,
    until: Option<Instant>,
    stop: AtomicBool,
    tally: Mutex<Tally>,
    failures: Mutex<Vec<Failure>>,
    /// By worker: the seed it is at, and since which millisecond of the program.
    at: Vec<(AtomicU64, AtomicU64)>,
    began: Instant,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    std::panic::set_hook(Box::new(|panic| {
        PLACE.with_borrow_mut(|place| {
            *place = panic.location().map(ToString::to_string).unwrap_or_default();
        });
    }));
    let failed = match (&arguments.plan, arguments.seed) {
        (Some(path), _) => match read_plan(path) {
            Ok(plan) => report(&plan, "plan"),
            Err(error) => {
                eprintln!("sluice-sim: {}: {error}", path.display());
                return ExitCode::from(2);
            }
        },
        (None, Some(seed)) => {
            let plan = Plan::new(seed);
            let failed = report(&plan, &format!("seed {seed}"));
            if failed {
                keep(
                    &Failure { seed, violated: attempt(&plan).err().unwrap_or_default(), plan },
                    &arguments.out,
                );
            }
            failed
        }
        (None, None) => hunt(&arguments),
    };
    if arguments.probes {
        for (name, count) in probe::reached() {
            println!("probe {count} {name}");
        }
    }
    ExitCode::from(u8::from(failed))
}

fn read_plan(path: &Path) -> Result<Plan, String> {
    std::fs::read_to_string(path).map_err(|error| error.to_string())?.parse()
}

/// One run; an error says where it came from.
fn attempt(plan: &Plan) -> Result<Tally, String> {
    run(plan).map_err(|violated| PLACE.with_borrow(|place| format!("{violated} ({place})")))
}

fn report(plan: &Plan, name: &str) -> bool {
    match attempt(plan) {
        Ok(tally) => println!("{name}: every promise held; {tally:?}"),
        Err(violated) => println!("{name}: {violated}"),
    }
    attempt(plan).is_err()
}

fn hunt(arguments: &Arguments) -> bool {
    let from = arguments.from.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() * 1_000_000
    });
    let threads = arguments
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let seeds = arguments.seeds.or_else(|| arguments.minutes.is_none().then_some(1000));
    let began = Instant::now();
    let hunt = Hunt {
        next: AtomicU64::new(from),
        end: seeds.map(|seeds| from + seeds),
        until: arguments.minutes.map(|minutes| began + Duration::from_secs_f64(minutes * 60.0)),
        stop: AtomicBool::new(false),
        tally: Mutex::default(),
        failures: Mutex::default(),
        at: (0..threads).map(|_| Default::default()).collect(),
        began,
    };
    println!("seeds from {from}, {threads} at a time");
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let hunt = &hunt;
                scope.spawn(move || hunt.work(worker))
            })
            .collect();
        while !workers.iter().all(|worker| worker.is_finished()) {
            std::thread::sleep(Duration::from_millis(50));
            hunt.watch();
        }
    });
    let tally = hunt.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    let failures = hunt.failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    let done = hunt.next.load(Relaxed).min(hunt.end.unwrap_or(u64::MAX)) - from;
    println!(
        "{done} seeds in {:.0} s, {} crash recoveries, {} deaths in an opening, {} failures",
        began.elapsed().as_secs_f64(),
        tally.crash_recoveries(),
        tally.deaths_in_opening,
        failures.len()
    );
    println!("{tally:?}");
    for failure in &failures {
        println!("\nseed {}: {}", failure.seed, failure.violated);
        keep(failure, &arguments.out);
    }
    !failures.is_empty()
}

impl Hunt {
    fn work(&self, worker: usize) {
        while !self.stop.load(Relaxed) && self.until.is_none_or(|until| Instant::now() < until) {
            let seed = self.next.fetch_add(1, Relaxed);
            if self.end.is_some_and(|end| seed >= end) {
                break;
            }
            self.at[worker].1.store(self.now_ms(), Relaxed);
            self.at[worker].0.store(seed, Relaxed);
            let plan = Plan::new(seed);
            match attempt(&plan) {
                Ok(tally) => {
                    let mut sum = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
                    *sum = sum.and(tally);
                }
                Err(violated) => {
                    let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
                    failures.push(Failure { seed, violated, plan });
                    if failures.len() >= FAILURES_MAX {
                        self.stop.store(true, Relaxed);
                    }
                }
            }
            self.at[worker].1.store(0, Relaxed);
        }
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64 + 1
    }

    /// Ends the program when a run does not end.
    fn watch(&self) {
        for (seed, since) in &self.at {
            let since = since.load(Relaxed);
            if since != 0 && self.now_ms() - since > HANG.as_millis() as u64 {
                println!("seed {}: P6: no end after {HANG:?}", seed.load(Relaxed));
                std::process::exit(1);
            }
        }
    }
}

/// Shortens a failing plan and writes it to a file.
fn keep(failure: &Failure, out: &Path) {
    // The same violation, as far as its words tell.
    let words = |violated: &str| -> String {
        violated.chars().filter(|c| !c.is_ascii_digit()).take(60).collect()
    };
    let same = |other: &str| words(other) == words(&failure.violated);
    let began = Instant::now();
    let (since_ms, is_done) = (AtomicU64::new(0), AtomicBool::new(false));
    let now_ms = || began.elapsed().as_millis() as u64 + 1;
    let shorter = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
                let since = since_ms.load(Relaxed);
                if since != 0 && now_ms() - since > HANG.as_millis() as u64 {
                    println!("seed {}: P6: a shortened plan has no end", failure.seed);
                    std::process::exit(1);
                }
            }
        });
        let shorter = shrink(&failure.plan, SHRINK_TRIES, |plan| {
            since_ms.store(now_ms(), Relaxed);
            let fails = run(plan).is_err_and(|other| same(&other));
            since_ms.store(0, Relaxed);
            fails
        });
        is_done.store(true, Relaxed);
        shorter
    });
    let violated = attempt(&shorter).err().unwrap_or_default();
    println!(
        "shortened from {} to {} steps: {violated}\n{shorter}",
        failure.plan.len(),
        shorter.len()
    );
    let path = out.join(format!("{}.plan", failure.seed));
    let text = format!("# seed {}: {violated}\n{shorter}", failure.seed);
    match std::fs::create_dir_all(out).and_then(|()| std::fs::write(&path, text)) {
        Ok(()) => println!("again: cargo run -p sluice-sim -- --plan {}", path.display()),
        Err(error) => eprintln!("sluice-sim: {}: {error}", path.display()),
    }
}
