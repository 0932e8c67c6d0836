//! Names and one-line texts of events. A name, once given, does not change: programs read them.

use super::{Event, EventRecord, Topic};
use crate::StallCause;
use std::{
    fmt::{self, Display, Formatter, Write as _},
    time::Duration,
};

/// One table for the name and the topic of every event: a variant without a row does not compile.
macro_rules! names {
    ($($variant:ident $name:literal $topic:ident;)*) => {
        impl Event {
            /// Every event's name, with its topic.
            pub const NAMES: &'static [(&'static str, Topic)] =
                &[$(($name, Topic::$topic)),*];

            /// The event's name: stable, in kebab case.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Event::$variant { .. } => $name,)*
                }
            }

            /// What it is about.
            pub fn topic(&self) -> Topic {
                match self {
                    $(Event::$variant { .. } => Topic::$topic,)*
                }
            }
        }
    };
}

names! {
    MemtableSealed "memtable-sealed" Flush;
    FlushBegin "flush-begin" Flush;
    FlushEnd "flush-end" Flush;
    FlushFailed "flush-failed" Flush;
    StallBegin "stall-begin" Stall;
    StallEnd "stall-end" Stall;
    WriteDelayed "write-delayed" Stall;
    BackgroundError "background-error" Error;
    Recovered "recovered" Error;
    LogFailed "log-failed" Error;
    LogHealed "log-healed" Error;
    WalSegmentCreated "wal-segment-created" Wal;
    WalSegmentRecycled "wal-segment-recycled" Wal;
    WalSegmentReleased "wal-segment-released" Wal;
    WalSynced "wal-synced" Wal;
    CompactionBegin "compaction-begin" Compaction;
    CompactionEnd "compaction-end" Compaction;
    CompactionFailed "compaction-failed" Compaction;
    DrainBegin "drain-begin" Compaction;
    DrainProgress "drain-progress" Compaction;
    DrainEnd "drain-end" Compaction;
}

impl Display for Topic {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Display for StallCause {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Text of callers and of the system as one word: a reader can split the line at spaces.
struct Word<'a>(&'a str);

impl Display for Word<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"\"\\,=".contains(c);
        if !self.0.is_empty() && self.0.chars().all(plain) {
            return f.write_str(self.0);
        }
        write!(f, "{:?}", self.0)
    }
}

/// Writes the fields of a line.
struct Fields<'a, 'b>(&'a mut Formatter<'b>);

impl Fields<'_, '_> {
    fn add(&mut self, key: &str, value: impl Display) -> Result<&mut Self, fmt::Error> {
        write!(self.0, " {key}={value}")?;
        Ok(self)
    }

    fn word(&mut self, key: &str, text: &str) -> Result<&mut Self, fmt::Error> {
        self.add(key, Word(text))
    }

    /// Nothing for an absent one.
    fn word_if(&mut self, key: &str, text: Option<&String>) -> Result<&mut Self, fmt::Error> {
        match text {
            Some(text) => self.word(key, text),
            None => Ok(self),
        }
    }

    fn list<T: Display>(
        &mut self,
        key: &str,
        values: impl Iterator<Item = T>,
    ) -> Result<&mut Self, fmt::Error> {
        let mut text = String::new();
        for value in values {
            let comma = if text.is_empty() { "" } else { "," };
            write!(text, "{comma}{value}")?;
        }
        self.add(key, text)
    }

    fn words(&mut self, key: &str, texts: &[String]) -> Result<&mut Self, fmt::Error> {
        self.list(key, texts.iter().map(|text| Word(text)))
    }

    fn us(&mut self, key: &str, time: Duration) -> Result<&mut Self, fmt::Error> {
        self.add(key, time.as_micros())
    }
}

impl Display for Event {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        let mut out = Fields(f);
        match self {
            Event::MemtableSealed { cf, group, reason, bytes, entries, position } => out
                .word("cf", cf)?
                .add("group", group)?
                .add("reason", reason)?
                .add("bytes", bytes)?
                .add("entries", entries)?
                .add("position", position)?,
            Event::FlushBegin { group, reason, cfs, bytes, position } => out
                .add("group", group)?
                .add("reason", reason)?
                .words("cfs", cfs)?
                .add("bytes", bytes)?
                .add("position", position)?,
            Event::FlushEnd { group, report } => out
                .add("group", group)?
                .add("reason", report.reason)?
                .words("cfs", &report.cfs)?
                .add("position", report.position)?
                .add("entries", report.entries)?
                .add("entries_dropped", report.entries_dropped)?
                .add("bytes_in", report.bytes_in)?
                .add("bytes_out", report.bytes_out)?
                .list("files", report.files.iter())?
                .add("wal_bytes_released", report.wal_bytes_released)?
                .us("queued_us", report.queued)?
                .us("took_us", report.took)?,
            Event::FlushFailed {
                group,
                reason,
                cfs,
                kind,
                message,
                attempts,
                retry_in,
                position,
            } => out
                .add("group", group)?
                .add("reason", reason)?
                .words("cfs", cfs)?
                .add("position", position)?
                .add("attempts", attempts)?
                .us("retry_in_us", *retry_in)?
                .add("kind", format_args!("{kind:?}"))?
                .word("message", message)?,
            Event::StallBegin { cause, cf, detail } => {
                out.add("cause", cause)?.word_if("cf", cf.as_ref())?.word("detail", detail)?
            }
            Event::StallEnd { cause, cf, waited, writes, refused } => out
                .add("cause", cause)?
                .word_if("cf", cf.as_ref())?
                .us("waited_us", *waited)?
                .add("writes", writes)?
                .add("refused", refused)?,
            Event::WriteDelayed { cause, delay, rate_bytes_per_s } => out
                .add("cause", cause)?
                .us("delay_us", *delay)?
                .add("rate_bytes_per_s", rate_bytes_per_s)?,
            Event::WalSegmentCreated { number, bytes } => {
                out.add("number", number)?.add("bytes", bytes)?
            }
            Event::WalSegmentRecycled { number, from, bytes } => {
                out.add("number", number)?.add("from", from)?.add("bytes", bytes)?
            }
            Event::WalSegmentReleased { number, bytes, kept } => {
                out.add("number", number)?.add("bytes", bytes)?.add("kept", kept)?
            }
            Event::WalSynced { position, bytes, batches, took } => out
                .add("position", position)?
                .add("bytes", bytes)?
                .add("batches", batches)?
                .us("took_us", *took)?,
            Event::BackgroundError { job, kind, message, read_only } => out
                .add("job", job)?
                .add("kind", format_args!("{kind:?}"))?
                .add("read_only", read_only)?
                .word("message", message)?,
            Event::Recovered { job } => out.add("job", job)?,
            Event::LogFailed { kind, message } => {
                out.add("kind", format_args!("{kind:?}"))?.word("message", message)?
            }
            Event::LogHealed => &mut out,
            Event::CompactionBegin { cf, level, output_level, files, bytes } => out
                .word("cf", cf)?
                .add("level", level)?
                .add("output_level", output_level)?
                .add("files", files)?
                .add("bytes", bytes)?,
            Event::CompactionEnd {
                cf,
                level,
                output_level,
                files_in,
                bytes_in,
                files_out,
                bytes_out,
                took,
            } => out
                .word("cf", cf)?
                .add("level", level)?
                .add("output_level", output_level)?
                .add("files_in", files_in)?
                .add("bytes_in", bytes_in)?
                .add("files_out", files_out)?
                .add("bytes_out", bytes_out)?
                .us("took_us", *took)?,
            Event::CompactionFailed { cf, level, output_level, kind, message } => out
                .word("cf", cf)?
                .add("level", level)?
                .add("output_level", output_level)?
                .add("kind", format_args!("{kind:?}"))?
                .word("message", message)?,
            Event::DrainBegin { status }
            | Event::DrainProgress { status }
            | Event::DrainEnd { status } => out
                .word("cf", &status.cf)?
                .word("schema", &status.id.name)?
                .add("version", status.id.version)?
                .add("hash", format_args!("{:016x}", status.id.hash))?
                .add("state", status.state.name())?
                .add("tables_left", status.tables_left)?
                .add("bytes_left", status.bytes_left)?
                .add("tables_done", status.tables_done)?
                .add("bytes_done", status.bytes_done)?,
        };
        Ok(())
    }
}

/// The event's text, then `serial` and `at_unix_ms`.
impl Display for EventRecord {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let EventRecord { serial, at_unix_ms, event } = self;
        write!(f, "{event} serial={serial} at_unix_ms={at_unix_ms}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flush::FlushReason;
    use sluice_base::{ErrorKind, Position, SeqNo};

    #[test]
    fn a_text_is_one_line_of_fields_whatever_the_names_and_messages() {
        let event = Event::FlushFailed {
            group: 7,
            reason: FlushReason::Manual,
            cfs: vec!["default".to_owned(), "a b,c".to_owned()],
            kind: ErrorKind::DiskFull,
            message: "no \"space\"\nleft".to_owned(),
            attempts: 2,
            retry_in: Duration::from_millis(100),
            position: Position { epoch: 3, seq: SeqNo(9) },
        };
        assert_eq!(
            event.to_string(),
            "flush-failed group=7 reason=manual cfs=default,\"a b,c\" position=3:9 attempts=2 \
             retry_in_us=100000 kind=DiskFull message=\"no \\\"space\\\"\\nleft\""
        );
        let record = EventRecord { serial: 4, at_unix_ms: 5, event: Event::LogHealed };
        assert_eq!(record.to_string(), "log-healed serial=4 at_unix_ms=5");
        let ends = Event::StallEnd {
            cause: StallCause::MemoryBudget,
            cf: None,
            waited: Duration::from_micros(12),
            writes: 3,
            refused: 1,
        };
        assert_eq!(
            ends.to_string(),
            "stall-end cause=memory-budget waited_us=12 writes=3 refused=1"
        );
    }

    #[test]
    fn names_are_unique_and_in_kebab_case() {
        for (index, (name, _)) in Event::NAMES.iter().enumerate() {
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{name}");
            assert!(Event::NAMES[..index].iter().all(|(other, _)| other != name), "{name}");
        }
        assert!(Topic::ALL.iter().all(|topic| Event::NAMES.iter().any(|(_, t)| t == topic)));
    }
}
