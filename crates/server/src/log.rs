//! The server's log lines, in the form Redis gives them, to standard output or `logfile`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Debug,
    Verbose,
    Notice,
    Warning,
}

impl Level {
    pub(crate) fn parse(text: &str) -> Level {
        match text {
            "debug" => Level::Debug,
            "verbose" => Level::Verbose,
            "warning" => Level::Warning,
            _ => Level::Notice,
        }
    }
    fn mark(self) -> char {
        match self {
            Level::Debug => '.',
            Level::Verbose => '-',
            Level::Notice => '*',
            Level::Warning => '#',
        }
    }
}

/// Where lines go, and from which level on.
#[derive(Debug)]
pub(crate) struct Log {
    level: AtomicU8,
    /// `None`: standard output.
    file: Option<Mutex<File>>,
}

impl Log {
    pub(crate) fn open(level: Level, path: &str) -> io::Result<Log> {
        let file = match path {
            "" => None,
            path => Some(Mutex::new(OpenOptions::new().append(true).create(true).open(path)?)),
        };
        Ok(Log { level: AtomicU8::new(level as u8), file })
    }

    pub(crate) fn set_level(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    /// Writes a line. A log that cannot be written is no reason to stop: the line is dropped.
    pub(crate) fn line(&self, unix_ms: u64, level: Level, text: &str) {
        if (level as u8) < self.level.load(Ordering::Relaxed) {
            return;
        }
        let line =
            format!("{}:M {} {} {text}\n", std::process::id(), timestamp(unix_ms), level.mark());
        let _ = match &self.file {
            Some(file) => crate::lock(file).write_all(line.as_bytes()),
            None => io::stdout().lock().write_all(line.as_bytes()),
        };
    }
}

/// `21 Nov 2026 12:32:15.123`, in UTC.
fn timestamp(unix_ms: u64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (seconds, millis) = (unix_ms / 1000, unix_ms % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days to civil date, with years that begin in March (Howard Hinnant's algorithm).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = year_of_era + era * 400 + u64::from(month < 2);
    format!(
        "{day:02} {} {year} {:02}:{:02}:{:02}.{millis:03}",
        MONTHS[month as usize],
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::timestamp;

    #[test]
    fn dates() {
        assert_eq!(timestamp(0), "01 Jan 1970 00:00:00.000");
        assert_eq!(timestamp(951_782_400_000), "29 Feb 2000 00:00:00.000");
        assert_eq!(timestamp(1_735_689_599_999), "31 Dec 2024 23:59:59.999");
    }
}
