//! Cuts the power of a machine in which the server runs, and checks what its disk kept.
//!
//! ```text
//! each boot    base image ─ mount ─ server ─ check ─ writers, syncs, flushes ─ kill -9 of the machine
//! its disk     a log of all writes and flushes, in this process (disk.rs, nbd.rs)
//! its ledger   what was answered, and how long the log was then (ledger.rs)
//! its images   the log cut at many points, with any part of the unflushed writes: each is mounted,
//!              the server started on it, and its state compared with the ledger (check.rs)
//! the next     boots from one of the images
//! ```
//!
//! What it is not: a simulator of the engine (that is `crates/env`'s crashable file system), and not
//! part of the normal build. A seed repeats the choices, not the timing: a failure keeps its image.

#![allow(
    clippy::disallowed_methods,
    reason = "another machine lives in the real world: its time, its threads, its files"
)]

mod check;
mod disk;
mod guest;
mod ledger;
mod load;
mod nbd;
mod plan;
mod settings;

#[allow(clippy::unwrap_used, reason = "a wrong answer ends the run by panicking")]
mod ops;

use std::any::Any;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_env::Rng;

use check::{Checker, Expect, Place, Verdict};
use disk::{Image, Loss, Taken};
use guest::Guest;
use ledger::Ledger;
use plan::{Plan, WRITERS};
use settings::{Settings, settings};

type Result<T> = std::result::Result<T, String>;

/// Says what could not be done.
trait Say<T> {
    fn say(self, what: &str) -> Result<T>;
}

impl<T, E: std::fmt::Display> Say<T> for std::result::Result<T, E> {
    fn say(self, what: &str) -> Result<T> {
        self.map_err(|error| format!("{what}: {error}"))
    }
}

impl<T> Say<T> for Option<T> {
    fn say(self, what: &str) -> Result<T> {
        self.ok_or_else(|| format!("{what}: it is not there"))
    }
}

fn panic_text(panic: &Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

/// A boot starts from one of the last boot's cut disks, this often; then from an empty one.
const BOOTS_OF_A_DISK: u64 = 5;
/// xfs makes none that is smaller than 300 MiB.
const DISK_BYTES: u64 = 320 << 20;

fn main() -> ExitCode {
    let done = settings().and_then(|settings| {
        std::fs::create_dir_all(&settings.hardware.work).say("make the work directory")?;
        let work = settings.hardware.work.clone();
        let done = Run::new(settings).and_then(|mut run| run.all().and_then(|()| run.report()));
        let _ = std::fs::remove_dir_all(work);
        done
    });
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// What the end of a run reports.
#[derive(Debug, Default)]
struct Totals {
    cuts: u64,
    images: u64,
    not_mounted: u64,
    answered: u64,
    promised: u64,
    checked: u64,
    open_writes: u64,
    lost_writes: u64,
    /// Images that had lost answered operations without a promise: the cut bites.
    biting: u64,
    lost_answers: u64,
    flushes: u64,
    log_bytes: u64,
    failures: u64,
}

/// Where the next boot begins.
#[derive(Debug)]
struct Start {
    image: Image,
    expect: Expect,
}

#[derive(Debug)]
struct Run {
    time: Duration,
    seed: u64,
    images: u64,
    failures: PathBuf,
    stop_after: u64,
    checker: Checker,
    empty: Image,
    totals: Totals,
    boot: u64,
}

impl Run {
    fn new(mut settings: Settings) -> Result<Run> {
        println!("seed {}", settings.seed);
        let hardware = &mut settings.hardware;
        let empty = guest::make_fs(&hardware.work, &hardware.fs, DISK_BYTES)?;
        if hardware.accel.is_empty() {
            hardware.accel = "kvm".to_owned();
            if !Path::new("/dev/kvm").exists() || !Guest::comes_up(hardware, empty.clone())? {
                println!("no machine comes up with kvm: qemu translates the code, which is slower");
                hardware.accel = "tcg".to_owned();
            }
        }
        let mounts = check::can_mount(&hardware.work, &empty, &hardware.fs);
        if !mounts {
            println!("cut disks are checked in a machine: mounting them here takes root");
        }
        let place = if mounts { Place::Host } else { Place::Guest };
        let (hardware, binary) = (settings.hardware, settings.binary);
        Ok(Run {
            time: settings.time,
            seed: settings.seed,
            images: settings.images.unwrap_or(if mounts { 80 } else { 2 }),
            failures: settings.failures,
            stop_after: settings.stop_after,
            checker: Checker { hardware, binary, place },
            empty,
            totals: Totals::default(),
            boot: 0,
        })
    }

    fn all(&mut self) -> Result<()> {
        let began = Instant::now();
        let mut rng = Rng::new(self.seed);
        let mut start = self.fresh(false);
        while began.elapsed() < self.time && self.totals.failures < self.stop_after {
            let mixed = (self.boot / BOOTS_OF_A_DISK).is_multiple_of(2);
            if self.boot.is_multiple_of(BOOTS_OF_A_DISK) {
                start = self.fresh(!mixed);
            }
            let mut rng = Rng::new(rng.next_u64());
            let plan = Plan::random(mixed, &self.checker.hardware.fs, &mut rng);
            start = match self.boot(&start, &plan, mixed, &mut rng)? {
                Some(next) => next,
                None => {
                    // A failure: what comes after it would fail by the same damage.
                    self.boot += BOOTS_OF_A_DISK - 1 - self.boot % BOOTS_OF_A_DISK;
                    self.fresh(!mixed)
                }
            };
            self.boot += 1;
        }
        Ok(())
    }

    fn fresh(&self, dbsize: bool) -> Start {
        let ledger = Arc::new(Ledger::empty(WRITERS));
        let floor = ledger.floor(0);
        Start { image: self.empty.clone(), expect: Expect { ledger, floor, dbsize } }
    }

    /// One boot, its cut, and the images made of it. None after a failure.
    fn boot(
        &mut self,
        start: &Start,
        plan: &Plan,
        mixed: bool,
        rng: &mut Rng,
    ) -> Result<Option<Start>> {
        let began = Instant::now();
        let mut guest = match Guest::boot(&self.checker.hardware, start.image.clone(), plan) {
            Ok(guest) => guest,
            Err(error) => return self.failed(&start.image, plan, "at the boot", &error),
        };
        let found = match check::inspect(&guest.address, &start.expect) {
            Ok(found) => found,
            Err(error) => {
                let error = format!("{error}\nits console says:\n{}", guest.console());
                return self.failed(&start.image, plan, "after the boot", &error);
            }
        };
        let booted = began.elapsed();
        let served = guest.disk.position();
        let first_serial = self.boot * 100_000_000;
        let (ledger, loaded) = load::run(&mut guest, plan, found.states, first_serial, rng);
        if let Err(error) = loaded {
            let error = format!("{error}\nits console says:\n{}", guest.console());
            return self.failed(&start.image, plan, "under load", &error);
        }
        let ledger = Arc::new(ledger);
        let end = guest.disk.position();
        let floor = ledger.floor(end);
        self.totals.cuts += 1;
        self.totals.answered += floor.answered.iter().sum::<usize>() as u64;
        self.totals.promised += floor.must.iter().sum::<usize>() as u64;
        self.totals.flushes += guest.disk.flushes();
        self.totals.log_bytes += guest.disk.log_bytes();
        let cut = began.elapsed();
        let moments = ledger.moments();
        let next = rng.below(self.images);
        let mut start_next = None;
        for number in 0..self.images {
            let (position, loss) = match number {
                // What is left when the machine dies and the disk keeps its power.
                0 => (end, Loss::Nothing),
                _ => choose(served, end, &moments, &guest, rng),
            };
            let (image, taken) = guest.disk.cut(position, loss, rng);
            // Before the server had shown its state, the last boot's ledger is the one that counts.
            let expect = match position < served {
                true => start.expect.clone(),
                false => Expect {
                    floor: ledger.floor(position),
                    ledger: Arc::clone(&ledger),
                    dbsize: !mixed,
                },
            };
            let verdict = self.checker.check(&image, plan, &expect)?;
            self.count(&expect, taken, &verdict);
            match verdict {
                Verdict::Good(_) if number == next => start_next = Some(Start { image, expect }),
                Verdict::Good(_) => {}
                Verdict::NotMounted(error) => {
                    println!("boot {}: not mounted at {position}, {loss:?}: {error}", self.boot);
                }
                Verdict::Bad(error) => {
                    let place =
                        format!("cut at {position} of {served}..{end}, {loss:?}, {taken:?}");
                    return self.failed(&image, plan, &place, &error);
                }
            }
        }
        println!(
            "boot {}: {} answered, {} promised, disk log {end}, {}; so far {} images, {} failures \
             ({booted:.1?} to boot, {:.1?} under load, {:.1?} for the images)",
            self.boot,
            floor.answered.iter().sum::<usize>(),
            floor.must.iter().sum::<usize>(),
            if mixed { "mixed" } else { "alike" },
            self.totals.images,
            self.totals.failures,
            cut - booted,
            began.elapsed() - cut,
        );
        let whole = || Start {
            image: guest.disk.cut(end, Loss::Nothing, &mut Rng::new(0)).0,
            expect: Expect { floor, ledger, dbsize: !mixed },
        };
        Ok(Some(start_next.unwrap_or_else(whole)))
    }

    fn count(&mut self, expect: &Expect, taken: Taken, verdict: &Verdict) {
        let totals = &mut self.totals;
        totals.images += 1;
        totals.open_writes += taken.open as u64;
        totals.lost_writes += taken.lost as u64;
        match verdict {
            Verdict::Good(found) => {
                totals.checked += expect.floor.must.iter().sum::<usize>() as u64;
                totals.biting += u64::from(found.lost > 0);
                totals.lost_answers += found.lost;
            }
            Verdict::NotMounted(_) => totals.not_mounted += 1,
            Verdict::Bad(_) => {}
        }
    }

    /// Keeps the disk as it was before anybody mounted it, and says how to look at it.
    fn failed(
        &mut self,
        image: &Image,
        plan: &Plan,
        place: &str,
        error: &str,
    ) -> Result<Option<Start>> {
        self.totals.failures += 1;
        let kept = self.failures.join(format!("{}-{}", self.seed, self.boot));
        std::fs::create_dir_all(&kept).say("make the failure's directory")?;
        let disk = kept.join("disk.img");
        image.to_file(&disk).say("keep the failure's disk")?;
        let text = format!(
            "seed {} boot {} ({}): {place}\n{error}\n{plan:?}\n\nTo look at it, with a copy of the disk:\n\
             mount -o loop {} /mnt && sluice server --port 0 --dir /mnt {}\n",
            self.seed,
            self.boot,
            self.checker.hardware.fs,
            disk.display(),
            plan.words().join(" "),
        );
        std::fs::write(kept.join("report.txt"), &text).say("keep the failure's report")?;
        println!("FAILURE, kept in {}\n{text}", kept.display());
        Ok(None)
    }

    /// Prints what was done; returns the number of failures. A run that has checked no promise is no
    /// clean one.
    fn report(&self) -> Result<u64> {
        let totals = &self.totals;
        println!("\nseed {}", self.seed);
        println!("cuts                    {}", totals.cuts);
        println!(
            "disk writes             {} MiB, {} flushes",
            totals.log_bytes >> 20,
            totals.flushes
        );
        println!("images checked          {}", totals.images);
        println!(
            "  unflushed writes      {}, of which lost {}",
            totals.open_writes, totals.lost_writes
        );
        println!("  not mountable         {}", totals.not_mounted);
        println!("operations answered     {}", totals.answered);
        println!("  with a promise        {}", totals.promised);
        println!("promises checked        {} (over all images)", totals.checked);
        println!(
            "answers without promise {} gone, in {} images",
            totals.lost_answers, totals.biting
        );
        println!("failures                {}", totals.failures);
        match (totals.failures, totals.checked) {
            (0, 0) => Err("nothing was promised before the cuts: give it more minutes".to_owned()),
            (failures, _) => Ok(failures),
        }
    }
}

/// A point of the disk's log, and what is lost there.
fn choose(served: u64, end: u64, moments: &[u64], guest: &Guest, rng: &mut Rng) -> (u64, Loss) {
    let position = match rng.below(20) {
        // In the boot: the file system's recovery and the server's.
        0..3 => rng.below(served + 1),
        // A flush is under way.
        3..6 => guest.disk.before_flush(served + rng.below(end - served + 1)),
        6..11 => served + rng.below(end - served + 1),
        // The moment of a promise.
        _ if moments.is_empty() => end,
        _ => moments[rng.below(moments.len() as u64) as usize].max(served),
    };
    (position, if rng.one_in(3) { Loss::All } else { Loss::random(rng) })
}
