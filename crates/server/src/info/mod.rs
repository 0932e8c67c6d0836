//! INFO: which sections, and their text. The sections themselves are in `sections.rs`, `gate.rs`,
//! `schema.rs` and `counters.rs`; process numbers come from `process.rs`.

mod counters;
mod gate;
mod process;
mod schema;
mod sections;

use crate::shared::{Shared, WorkerContext};

type Write = fn(&Shared, &mut Section);

/// Sections in the order INFO gives them.
const SECTIONS: [(&str, Write); 15] = [
    ("server", sections::server),
    ("clients", sections::clients),
    ("memory", sections::memory),
    ("persistence", sections::persistence),
    ("memtable", gate::memtable),
    ("wal", gate::wal),
    ("stall", gate::stall),
    ("schema", schema::schema),
    ("stats", counters::stats),
    ("replication", sections::replication),
    ("cpu", sections::cpu),
    ("commandstats", counters::commandstats),
    ("errorstats", counters::errorstats),
    ("cluster", sections::cluster),
    ("keyspace", sections::keyspace),
];

/// Not part of the default answer.
const EXTRA: [&str; 1] = ["commandstats"];

/// One section's lines.
#[derive(Debug, Default)]
pub(crate) struct Section(String);

impl Section {
    pub(crate) fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        use std::fmt::Write as _;
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{name}:{value}\r\n");
    }

    /// A byte count, and the same for people.
    pub(crate) fn bytes(&mut self, name: &str, value: u64) {
        self.line(name, value);
        self.line(&format!("{name}_human"), human(value));
    }
}

/// `1.09M`.
fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    for unit in ["K", "M", "G", "T"] {
        value /= 1024.0;
        if value < 1024.0 || unit == "T" {
            return format!("{value:.2}{unit}");
        }
    }
    format!("{bytes}B")
}

/// The text of the sections asked for; of the default ones when none is.
pub(crate) fn report(worker: &WorkerContext, wanted: &[&[u8]]) -> String {
    let asks = |name: &str| wanted.iter().any(|word| word.eq_ignore_ascii_case(name.as_bytes()));
    let everything = asks("all") || asks("everything");
    let defaults = wanted.is_empty() || asks("default");
    let mut text = String::new();
    for (name, write) in SECTIONS {
        let shown = everything || asks(name) || (defaults && !EXTRA.contains(&name));
        if !shown {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        let mut title = name.to_owned();
        title[..1].make_ascii_uppercase();
        let title = if name == "cpu" { "CPU" } else { &title };
        let mut section = Section::default();
        write(&worker.shared, &mut section);
        text.push_str(&format!("# {title}\r\n{}", section.0));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn sizes_for_people() {
        assert_eq!(human(12), "12B");
        assert_eq!(human(1_138_344), "1.09M");
        assert_eq!(human(5 << 40), "5.00T");
    }
}
