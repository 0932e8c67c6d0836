//! The soak: every kind of attack for a share of the time, with seeds that were never run before.
//!
//! ```text
//! build everything ─> each part for its share of the minutes ─> table, failures, probes never reached
//! ```
//!
//! Building takes no part of the minutes. What has a length of its own (damage, loom, real threads)
//! keeps it, whatever its share. A part whose tools are missing is skipped and says so. The
//! logs are under `target/soak`.

use crate::tools::{cargo, has, root, run as start};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// `cargo xtask soak`
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Minutes of attacks, building not included.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Only parts whose name contains this; several, separated by commas.
    #[arg(long)]
    only: Option<String>,
    /// The short form of `.ci/run`: no fuzzing and no power cuts.
    #[arg(long)]
    short: bool,
}

/// Crash recoveries from which on a probe that was never reached is a failure.
const PROBES_NEEDED_FROM: u64 = 100_000;
/// Fuzzing alone takes a share of this for all targets together, when it is not left out.
const FUZZ_SHARE: f64 = 0.35;

/// One kind of attack.
struct Part {
    name: String,
    /// Of the minutes; what is left out gives its share to nobody.
    share: f64,
    build: Command,
    attack: Box<dyn Fn(f64) -> Command>,
    /// Lines of the output that belong into the report have one of these in them.
    report: &'static [&'static str],
}

pub fn run(arguments: &Arguments) -> io::Result<bool> {
    let wanted: Option<Vec<&str>> = arguments.only.as_ref().map(|only| only.split(',').collect());
    let chosen =
        |name: &str| wanted.as_ref().is_none_or(|all| all.iter().any(|part| name.contains(part)));
    let logs = root().join("target/soak");
    let mut parts = parts();
    if !arguments.short {
        add_fuzzing(&mut parts)?;
        add_power_cuts(&mut parts);
    }
    parts.retain(|part| chosen(&part.name));
    let shares: f64 = parts.iter().map(|part| part.share).sum();
    let mut failed = Vec::new();
    let mut rows = Vec::new();
    for part in &mut parts {
        let log = logs.join(format!("{}.build.log", part.name.replace(' ', "-")));
        println!("building: {}", part.name);
        let ended = start(&mut part.build, &log, Duration::from_secs(3600))?;
        if ended.success != Some(true) {
            println!("  does not build: {}", log.display());
            failed.push(format!("{} does not build: see {}", part.name, log.display()));
            part.share = 0.0;
        }
    }
    let mut recoveries = 0;
    let mut reached = BTreeSet::new();
    for part in parts.iter().filter(|part| part.share > 0.0) {
        let minutes = arguments.minutes * part.share / shares;
        let log = logs.join(format!("{}.log", part.name.replace(' ', "-")));
        println!("attacking for {minutes:.1} minutes: {}", part.name);
        let deadline = Duration::from_secs_f64(minutes * 60.0 * 3.0 + 900.0);
        let ended = start(&mut (part.attack)(minutes), &log, deadline)?;
        let lines =
            ended.output.lines().filter(|line| part.report.iter().any(|r| line.contains(r)));
        let lines: Vec<String> = lines.map(|line| line.trim().to_owned()).collect();
        for line in &lines {
            println!("  {line}");
        }
        recoveries +=
            lines.iter().find_map(|line| number_before(line, " crash recoveries")).unwrap_or(0);
        reached.extend(ended.output.lines().filter_map(|line| {
            let name = line.strip_prefix("probe ")?.split_once(' ')?.1;
            Some(name.to_owned())
        }));
        let verdict = match ended.success {
            Some(true) => "clean",
            Some(false) => "FAILED",
            None => "NO END",
        };
        if ended.success != Some(true) {
            println!("  {verdict}: {}", log.display());
            failed.push(format!("{}: {verdict}, see {}", part.name, log.display()));
        }
        rows.push((part.name.clone(), verdict, ended.took, lines.join("; ")));
    }
    println!("\n| attack | outcome | took | what it says |\n|---|---|---|---|");
    for (name, verdict, took, said) in rows {
        println!("| {name} | {verdict} | {:.0} s | {said} |", took.as_secs_f64());
    }
    let never: Vec<String> = known_probes()?.difference(&reached).cloned().collect();
    if recoveries > 0 {
        println!(
            "\nprobes reached in the simulation: {}; never reached: {}",
            reached.len(),
            never.len()
        );
        never.iter().for_each(|name| println!("  never: {name}"));
        if !never.is_empty() && recoveries >= PROBES_NEEDED_FROM {
            failed.push(format!("{} probes were never reached", never.len()));
        }
    }
    for failure in &failed {
        println!("failed: {failure}");
    }
    Ok(failed.is_empty())
}

/// A number that was never used before: the second of the start.
fn fresh_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn parts() -> Vec<Part> {
    let root = root();
    let probes = "target/probes";
    let seed = fresh_seed();
    let sim = ["--package", "sluice-sim", "--features", "probes", "--target-dir", probes];
    let part = |name: &str, share, build: Command, attack: Box<dyn Fn(f64) -> Command>, report| {
        Part { name: name.to_owned(), share, build, attack, report }
    };
    let tests = |package: &'static str, test: &'static str| {
        let root = root.clone();
        move |more: &[&str]| {
            let mut arguments = vec!["test", "--package", package, "--test", test];
            arguments.extend(more);
            cargo(&root, &arguments)
        }
    };
    let checked = |flags: &'static str, target: &'static str, which: &'static [&'static str]| {
        let root = root.clone();
        move |more: &[&str]| {
            let mut arguments = vec!["test", "--profile", "checked", "--target-dir", target];
            arguments.extend(["--package", "sluicedb"]);
            arguments.extend(which);
            arguments.extend(more);
            let mut command = cargo(&root, &arguments);
            command.env("RUSTFLAGS", flags);
            command
        }
    };
    let simulation = {
        let root = root.clone();
        move |minutes: f64| {
            let minutes = minutes.to_string();
            let mut arguments = vec!["run", "--quiet"];
            arguments.extend(sim);
            arguments.extend(["--", "--probes", "--out", "target/soak", "--minutes", &minutes]);
            cargo(&root, &arguments)
        }
    };
    let mut build_sim = vec!["build"];
    build_sim.extend(sim);
    let loom = checked("--cfg sluice_loom", "target/loom", &["--lib", "loom"]);
    let schedules = checked("--cfg sluice_shuttle", "target/shuttle", &["--test", "schedules"]);
    let crash = tests("sluicedb", "crash");
    let damage = tests("sluicedb", "damage");
    let rows = tests("sluice-keyspace", "damage");
    let stress = tests("sluicedb", "stress");
    let reads = tests("sluice", "kill_read");
    let loads = tests("sluice", "kill_load");
    let kills = tests("sluice", "kill");
    let histories = tests("sluice", "histories");
    vec![
        part(
            "simulation",
            0.30,
            cargo(&root, &build_sim),
            Box::new(simulation),
            &["crash recoveries", "seed ", "shortened", "again:"],
        ),
        part(
            "crashes with one logging mode",
            0.05,
            crash(&["--no-run"]),
            Box::new(move |minutes| {
                let mut command = crash(&["--", "--nocapture"]);
                let seeds = (minutes * 400.0).max(20.0) as u64;
                command.env("SLUICE_SEEDS_FROM", (seed * 1000).to_string());
                command.env("SLUICE_SEEDS", seeds.to_string());
                command
            }),
            &["test result", "SLUICE_SEED"],
        ),
        part(
            "damaged files",
            0.05,
            damage(&["--no-run"]),
            Box::new(move |_| {
                let mut command = damage(&["--", "--nocapture"]);
                command.env("SLUICE_SEED", seed.to_string());
                command
            }),
            &["test result", "SLUICE_SEED"],
        ),
        part(
            "damaged files of a server",
            0.02,
            rows(&["--no-run"]),
            Box::new(move |_| {
                let mut command = rows(&["--", "--nocapture"]);
                command.env("SLUICE_SEED", seed.to_string());
                command
            }),
            &["test result", "SLUICE_SEED"],
        ),
        part(
            "real threads",
            0.03,
            stress(&["--no-run"]),
            Box::new(move |_| stress(&[])),
            &["test result", "SLUICE_SEED"],
        ),
        part("loom", 0.05, loom(&["--no-run"]), Box::new(move |_| loom(&[])), &["test result"]),
        part(
            "schedules",
            0.10,
            schedules(&["--no-run"]),
            Box::new(move |minutes| {
                let mut command = schedules(&["--", "--nocapture"]);
                command.env("SLUICE_SCHEDULES", ((minutes * 400.0).max(50.0) as u64).to_string());
                command.env("SLUICE_FIRST", (seed * 1000).to_string());
                command
            }),
            &["test result", "SLUICE_SEED"],
        ),
        part(
            "kills of the server",
            0.20,
            kills(&["--no-run"]),
            Box::new(move |minutes| {
                let mut command = kills(&["--", "--nocapture"]);
                command.env("SLUICE_MINUTES", minutes.to_string());
                command
            }),
            &["test result", "cycles"],
        ),
        part(
            "reads before a kill",
            0.02,
            reads(&["--no-run"]),
            Box::new(move |_| reads(&["--", "--nocapture"])),
            &["test result"],
        ),
        part(
            "kills during a load",
            0.03,
            loads(&["--no-run"]),
            Box::new(move |_| loads(&["--", "--nocapture"])),
            &["test result"],
        ),
        part(
            "histories of the server",
            0.10,
            histories(&["--no-run"]),
            Box::new(move |minutes| {
                let mut command = histories(&["--", "--nocapture"]);
                command.env("SLUICE_SECONDS", ((minutes * 30.0).max(3.0) as u64).to_string());
                command
            }),
            &["test result", "operations"],
        ),
    ]
}

fn add_fuzzing(parts: &mut Vec<Part>) -> io::Result<()> {
    let fuzz = root().join("fuzz");
    if !has("cargo", "fuzz") && !has("cargo-fuzz", "--version") {
        println!("no fuzzing: cargo-fuzz is not installed (cargo install cargo-fuzz)");
        return Ok(());
    }
    let mut targets: Vec<String> = fs::read_dir(fuzz.join("fuzz_targets"))?
        .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_string_lossy().into_owned()))
        .collect();
    targets.sort();
    let share = FUZZ_SHARE / targets.len() as f64;
    for target in targets {
        let command = |fuzz: &Path, arguments: &[&str]| {
            let mut command = cargo(fuzz, &["fuzz"]);
            // Sanitizers are not for stable compilers.
            command.args(arguments).env("RUSTC_BOOTSTRAP", "1");
            command
        };
        let build = command(&fuzz, &["build", &target]);
        let (fuzz, name) = (fuzz.clone(), format!("fuzz {target}"));
        let attack = Box::new(move |minutes: f64| {
            let corpus = format!("corpus/{target}");
            let seeds = format!("seeds/{target}");
            let _ = fs::create_dir_all(fuzz.join(&corpus));
            let time = format!("-max_total_time={}", (minutes * 60.0).max(5.0) as u64);
            command(&fuzz, &["run", &target, &corpus, &seeds, "--", &time, "-print_final_stats=1"])
        });
        parts.push(Part {
            name,
            share,
            build,
            attack,
            report: &["stat::number_of_executed", "panicked"],
        });
    }
    Ok(())
}

fn add_power_cuts(parts: &mut Vec<Part>) {
    let script = root().join("powercut/run");
    if !has("qemu-system-x86_64", "--version") {
        println!("no power cuts: qemu is not installed (powercut/run installs it as root)");
        return;
    }
    let root = root();
    parts.push(Part {
        name: "power cuts below the file system".to_owned(),
        share: 0.15,
        build: cargo(&root, &["build", "--release", "--package", "sluice"]),
        attack: Box::new(move |minutes| {
            let mut command = Command::new(&script);
            command.args(["--minutes", &minutes.to_string()]);
            command
        }),
        report: &["cuts  ", "images checked", "promises checked", "failures  "],
    });
}

/// Every probe in the source.
fn known_probes() -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut folders: Vec<PathBuf> = vec![root().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(&path)?;
                let after = text.split("probe!(\"").skip(1);
                names.extend(after.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
            }
        }
    }
    // What stands in comments and examples.
    names.retain(|name| name != "..." && !name.starts_with("documentation"));
    Ok(names)
}

fn number_before(line: &str, words: &str) -> Option<u64> {
    line.split_once(words)?.0.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_off_reports() {
        let line = "3000 seeds in 54 s, 10058 crash recoveries, 949 deaths in an opening";
        assert_eq!(number_before(line, " crash recoveries"), Some(10058));
        assert_eq!(number_before("nothing", " crash recoveries"), None);
    }

    #[test]
    fn the_probes_in_the_source_are_found() {
        let probes = known_probes().expect("the source can be read");
        assert!(probes.contains("wal: a torn tail"), "{probes:?}");
        assert!(!probes.iter().any(|name| name.starts_with("documentation")));
    }
}
