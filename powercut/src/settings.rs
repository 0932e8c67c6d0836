//! The command line.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::guest::Hardware;
use crate::{Result, Say as _};

const HELP: &str = "\
powercut/run [options]
  --minutes N     how long (10)
  --seed S        repeats the choices of a run, not its timing
  --images N      cut disks to check for each boot (80; 2 where only root could mount them)
  --binary PATH   the server (else the release binary is built)
  --fs NAME       ext4 or xfs (ext4)
  --accel NAME    kvm or tcg (kvm when a machine comes up with it)
  --failures DIR  where the disks of failures are kept (powercut/target/failures)
  --stop-after N  failures that end the run (3)
";

#[derive(Debug)]
pub struct Settings {
    pub time: Duration,
    pub seed: u64,
    pub images: Option<u64>,
    pub binary: PathBuf,
    pub hardware: Hardware,
    pub failures: PathBuf,
    pub stop_after: u64,
}

/// Reads the command line.
pub fn settings() -> Result<Settings> {
    let fresh = SystemTime::now().duration_since(UNIX_EPOCH).say("read the clock")?.as_nanos();
    // In memory where that is offered: an unmount waits for the disk below.
    let memory = PathBuf::from("/dev/shm");
    let place = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let work = place.join(format!("sluice-powercut-{}", std::process::id()));
    let mut settings = Settings {
        time: Duration::from_secs(600),
        seed: fresh as u64,
        images: None,
        binary: PathBuf::new(),
        hardware: Hardware {
            kernel: PathBuf::new(),
            initrd: PathBuf::new(),
            fs: "ext4".to_owned(),
            accel: String::new(),
            work,
        },
        failures: PathBuf::from("failures"),
        stop_after: 3,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--help" {
            return Err(HELP.to_owned());
        }
        let value = words.next().ok_or_else(|| format!("{word} needs a value\n{HELP}"))?;
        let number = || value.parse::<u64>().say(&format!("read {word} {value}"));
        match word.as_str() {
            "--minutes" => {
                let what = format!("read {word} {value}");
                let minutes = value.parse::<f64>().say(&what)?;
                settings.time = Duration::try_from_secs_f64(minutes * 60.0).say(&what)?;
            }
            "--seed" => settings.seed = number()?,
            "--images" => settings.images = Some(number()?),
            "--binary" => settings.binary = value.into(),
            "--kernel" => settings.hardware.kernel = value.into(),
            "--initrd" => settings.hardware.initrd = value.into(),
            "--fs" => settings.hardware.fs = value,
            "--accel" => settings.hardware.accel = value,
            "--failures" => settings.failures = value.into(),
            "--stop-after" => settings.stop_after = number()?,
            _ => return Err(format!("{word} is no option\n{HELP}")),
        }
    }
    Ok(settings)
}
