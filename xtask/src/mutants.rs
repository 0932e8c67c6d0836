//! Mutants: would the tests notice? Each file in `xtask/mutants` is one deliberate fault:
//!
//! ```text
//! what: the directory is not synced before a flush is reported
//! file: crates/engine/src/flush/install.rs
//! first: loom                        (optional: the check to begin with)
//! --- old
//! (text that is there exactly once)
//! --- new
//! (what takes its place)
//! ```
//!
//! A mutant is put into a copy of the source under `target/mutants`, and the checks run on it, the
//! quick ones first, until one fails: that one has caught it. A mutant that no check catches
//! survives, and makes the command fail. One that does not compile is a mistake in its file. Each
//! check must first pass on the source as it is: what fails anyway catches nothing.

use crate::tools::{Ended, cargo, root, run as start};
use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// `cargo xtask mutants`
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only mutants whose name contains this; several, separated by commas.
    #[arg(long)]
    only: Option<String>,
    /// Seeds of the simulation that each mutant has to get past.
    #[arg(long, default_value_t = 4000)]
    seeds: u64,
    /// Go on with the slower checks where the simulation finds nothing.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    slow: bool,
}

/// One deliberate fault.
#[derive(Debug)]
struct Mutant {
    name: String,
    what: String,
    file: String,
    /// The check to begin with: the one that is known to catch it.
    first: Option<String>,
    old: String,
    new: String,
}

/// What became of it.
#[derive(Debug)]
enum Fate {
    Caught { by: &'static str, how: String, took: Duration },
    Survived,
    Broken(String),
}

/// A check: its name, whether it fails on the mutant, and in which time it must end.
struct Check {
    name: &'static str,
    arguments: Vec<String>,
    flags: &'static str,
    deadline_s: u64,
}

fn checks(seeds: u64, slow: bool) -> Vec<Check> {
    let check = |name, arguments: &str, flags, deadline_s| Check {
        name,
        arguments: arguments.split_whitespace().map(str::to_owned).collect(),
        flags,
        deadline_s,
    };
    let simulation = format!("run -q -p sluice-sim -- --from 1 --seeds {seeds}");
    let mut all = vec![check("simulation", &simulation, "", 400)];
    if slow {
        all.extend([
            check(
                "unit and fault tests of log and tables",
                "test -q -p sluice-env -p sluice-wal -p sluice-table",
                "",
                400,
            ),
            check("damaged files", "test -q -p sluicedb --test damage", "", 600),
            check("gates and waits", "test -q -p sluicedb --test gate --test waits", "", 600),
            check(
                "tests of the engine",
                "test -q -p sluicedb --no-fail-fast --lib --tests",
                "",
                900,
            ),
            check(
                "loom",
                "test -q --profile checked -p sluicedb --lib loom",
                "--cfg sluice_loom",
                600,
            ),
            check(
                "schedules",
                "test -q --profile checked -p sluicedb --test schedules",
                "--cfg sluice_shuttle",
                600,
            ),
            check(
                "transactions of the server",
                "test -q -p sluice-server --test transactions",
                "",
                300,
            ),
            check("histories of the server", "test -q -p sluice --test histories", "", 600),
            check("reads before a kill", "test -q -p sluice --test kill_read", "", 300),
            check("kills of the server", "test -q -p sluice --test kill", "", 600),
        ]);
    }
    all
}

pub fn run(arguments: &Arguments) -> io::Result<bool> {
    let copy = root().join("target/mutants/source");
    let wanted: Option<Vec<&str>> = arguments.only.as_ref().map(|only| only.split(',').collect());
    let mutants: Vec<Mutant> = read_all()?
        .into_iter()
        .filter(|mutant| {
            wanted.as_ref().is_none_or(|all| all.iter().any(|part| mutant.name.contains(part)))
        })
        .collect();
    fresh_copy(&copy)?;
    let checks = checks(arguments.seeds, arguments.slow);
    let mut good = true;
    let mut passed = Vec::new();
    println!("| mutant | fault | caught by | in |\n|---|---|---|---|");
    for mutant in &mutants {
        let fate = examine(mutant, &copy, &checks, &mut passed)?;
        let (by, took) = match &fate {
            Fate::Caught { by, how, took } => {
                (format!("{by}: {how}"), format!("{:.0} s", took.as_secs_f64()))
            }
            Fate::Survived => ("**nothing: it survives**".to_owned(), String::new()),
            Fate::Broken(why) => (format!("**does not compile**: {why}"), String::new()),
        };
        good &= matches!(fate, Fate::Caught { .. });
        println!("| {} | {} | {by} | {took} |", mutant.name, mutant.what);
    }
    Ok(good)
}

/// The source as it is now, committed or not, without what git ignores.
fn fresh_copy(copy: &Path) -> io::Result<()> {
    let root = root();
    let listed = Command::new("git")
        .current_dir(&root)
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .output()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let names: HashSet<&str> = listed.split('\0').filter(|name| !name.is_empty()).collect();
    remove_others(copy, copy, &names)?;
    for name in names {
        let (from, to) = (root.join(name), copy.join(name));
        if !from.is_file() {
            continue;
        }
        // Files that are the same keep their time, so that cargo does not build them again.
        let bytes = fs::read(&from)?;
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        fs::create_dir_all(to.parent().unwrap_or(copy))?;
        fs::write(&to, bytes)?;
    }
    Ok(())
}

/// Removes the files under `folder` that the source does not have any more.
fn remove_others(copy: &Path, folder: &Path, names: &HashSet<&str>) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        let name = path.strip_prefix(copy).unwrap_or(&path).to_string_lossy().into_owned();
        if path.is_dir() {
            remove_others(copy, &path, names)?;
        } else if !names.contains(name.as_str()) && name != "Cargo.lock" {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn examine(
    mutant: &Mutant,
    copy: &Path,
    checks: &[Check],
    passed: &mut Vec<&'static str>,
) -> io::Result<Fate> {
    let path = copy.join(&mutant.file);
    let source = fs::read_to_string(&path)?;
    let changed = source.replacen(&mutant.old, &mutant.new, 1);
    // What is in the server no check of the engine can see.
    let server = mutant.file.starts_with("crates/server/");
    let mut order: Vec<&Check> =
        checks.iter().filter(|check| !server || check.sees_server()).collect();
    order.sort_by_key(|check| mutant.first.as_deref() != Some(check.name));
    for check in order {
        if !passed.contains(&check.name) {
            let ended = attempt(check, copy, "unchanged")?;
            if ended.success != Some(true) {
                return Err(io::Error::other(format!(
                    "'{}' fails on the source as it is: see {}",
                    check.name,
                    log_of("unchanged").display()
                )));
            }
            passed.push(check.name);
        }
        fs::write(&path, &changed)?;
        let ended = attempt(check, copy, &mutant.name);
        fs::write(&path, &source)?;
        let ended = ended?;
        if ended.output.contains("could not compile") {
            return Ok(Fate::Broken(first_line(&ended, "error")));
        }
        if ended.success != Some(true) {
            let how = match ended.success {
                None => "no end".to_owned(),
                _ => reason(&ended),
            };
            return Ok(Fate::Caught { by: check.name, how, took: ended.took });
        }
    }
    Ok(Fate::Survived)
}

fn attempt(check: &Check, copy: &Path, name: &str) -> io::Result<Ended> {
    let arguments: Vec<&str> = check.arguments.iter().map(String::as_str).collect();
    let command = |arguments: &[&str]| {
        let mut command = cargo(copy, arguments);
        command.env("CARGO_TARGET_DIR", target_of(check)).env("RUSTFLAGS", check.flags);
        command
    };
    // Built first: only the check itself has a deadline to meet.
    let split = arguments.iter().position(|word| *word == "--").unwrap_or(arguments.len());
    let mut build = arguments[..split].to_vec();
    match build[0] {
        "run" => build[0] = "build",
        _ => build.push("--no-run"),
    }
    let built = start(&mut command(&build), &log_of(name), Duration::from_secs(3600))?;
    if built.success != Some(true) {
        return Ok(built);
    }
    start(&mut command(&arguments), &log_of(name), Duration::from_secs(check.deadline_s))
}

fn log_of(name: &str) -> PathBuf {
    root().join("target/mutants/logs").join(format!("{name}.log"))
}

impl Check {
    fn sees_server(&self) -> bool {
        self.arguments.iter().any(|word| word == "sluice" || word == "sluice-server")
    }
}

fn target_of(check: &Check) -> PathBuf {
    let kind = check.flags.trim_start_matches("--cfg ").replace("sluice_", "");
    root().join("target/mutants").join(if kind.is_empty() { "target" } else { &kind })
}

/// What the check said first.
fn reason(ended: &Ended) -> String {
    let failed = ended.output.lines().find(|line| line.starts_with("shortened from"));
    let failed = failed.and_then(|line| line.split_once("steps: ")).map(|(_, text)| text);
    let test = ended.output.lines().find_map(|line| {
        let name = line.strip_prefix("---- ")?.split_once(" stdout")?.0;
        Some(name)
    });
    let text = failed.or(test).map_or_else(|| first_line(ended, "panicked"), str::to_owned);
    let text: String = text.chars().map(|c| if c == '|' { '/' } else { c }).take(110).collect();
    text
}

fn first_line(ended: &Ended, word: &str) -> String {
    let line = ended.output.lines().find(|line| line.contains(word));
    line.unwrap_or_default().chars().take(110).collect()
}

fn read_all() -> io::Result<Vec<Mutant>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(root().join("xtask/mutants"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    paths.sort();
    paths.iter().map(|path| parse(path)).collect()
}

fn parse(path: &Path) -> io::Result<Mutant> {
    let wrong = |what: &str| io::Error::other(format!("{}: {what}", path.display()));
    let text = fs::read_to_string(path)?;
    let (head, rest) = text.split_once("--- old\n").ok_or_else(|| wrong("no '--- old'"))?;
    let (old, new) = rest.split_once("--- new\n").ok_or_else(|| wrong("no '--- new'"))?;
    let field = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(name));
        line.map(|text| text.trim().to_owned()).ok_or_else(|| wrong(&format!("no '{name}'")))
    };
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    Ok(Mutant {
        name: name.unwrap_or_default(),
        what: field("what:")?,
        file: field("file:")?,
        first: field("first:").ok(),
        old: old.to_owned(),
        new: new.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_first_check_exists() {
        let checks = checks(1, true);
        for mutant in read_all().expect("the mutants can be read") {
            let is_there = |name: &String| checks.iter().any(|check| check.name == name);
            assert!(mutant.first.as_ref().is_none_or(is_there), "{}", mutant.name);
        }
    }

    #[test]
    fn every_mutant_still_fits_the_source() {
        let mutants = read_all().expect("the mutants can be read");
        assert!(mutants.len() >= 20, "{} mutants", mutants.len());
        for mutant in mutants {
            let source = fs::read_to_string(root().join(&mutant.file)).expect(&mutant.file);
            let count = source.matches(&mutant.old).count();
            assert_eq!(count, 1, "{}: its old text must be in {} once", mutant.name, mutant.file);
            assert_ne!(mutant.old, mutant.new, "{}", mutant.name);
        }
    }
}
