//! Holds what is written about the engine to the engine: the documented defaults of every options
//! type, the bytes of a batch in the log, the Rust in the pages; and every page to the others: no
//! link may lead nowhere.
//!
//! ```text
//! UPDATE_EXPECT=1 cargo test -p sluicedb --test documents     rewrites docs/guide/options.md
//! ```

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "documents/snippets.rs"]
mod snippets;

use sluice_base::SeqNo;
use sluice_wal::{DecodeOptions, decode_segment};
use sluicedb::{
    CfOptions, Db, Event, EventOptions, FlushRequest, Options, ReadOptions, WriteBatch,
    WriteOptions,
};
use std::{
    collections::BTreeMap,
    fmt::{Debug, Write as _},
    path::{Path, PathBuf},
};

const SOURCES: [&str; 3] = [
    include_str!("../src/options.rs"),
    include_str!("../src/flush/mod.rs"),
    include_str!("../src/events/channel.rs"),
];

/// One field of an options type, as its source documents it.
struct Field {
    name: String,
    kind: String,
    /// The documentation, in one line.
    text: String,
}

impl Field {
    /// What stands behind `Default:` up to the end of its clause.
    fn default_text(&self) -> Option<&str> {
        let text = self.text.split_once("Default: ")?.1;
        let end = text.find([',', '.']).unwrap_or(text.len());
        Some(&text[..end])
    }

    /// The documentation without the default.
    fn meaning(&self) -> String {
        self.text.split("Default: ").next().unwrap().trim().replace('|', "\\|")
    }
}

/// The public fields of `pub struct name`, in the order of the source.
fn fields_of(name: &str) -> Vec<Field> {
    let head = format!("pub struct {name} {{\n");
    let body = SOURCES.iter().find_map(|source| source.split_once(&head)).unwrap().1;
    let (body, _) = body.split_once("\n}").unwrap();
    let mut fields = Vec::new();
    let mut text = String::new();
    for line in body.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("///") {
            text.push_str(comment);
        } else if let Some(field) = line.strip_prefix("pub ") {
            let (name, kind) = field.trim_end_matches(',').split_once(": ").unwrap();
            let text = std::mem::take(&mut text).replace("crate::", "").trim().to_owned();
            fields.push(Field { name: name.to_owned(), kind: kind.to_owned(), text });
        }
    }
    fields
}

/// The top-level fields of a value's `Debug` form.
fn values_of(value: &impl Debug) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let mut last = String::new();
    for line in format!("{value:#?}").lines() {
        let own = line.strip_prefix("    ").filter(|rest| !rest.starts_with([' ', '}', ')', ']']));
        if let Some((name, value)) = own.and_then(|rest| rest.split_once(": ")) {
            last = name.to_owned();
            values.insert(last.clone(), value.trim_end_matches(',').to_owned());
        } else if line != "}"
            && let Some(value) = values.get_mut(&last)
        {
            value.push_str(line.trim().trim_end_matches(','));
        }
    }
    values
}

/// A value of the code in the words of the documentation.
fn in_words(kind: &str, value: &str) -> String {
    let inner = value.strip_prefix("Some(").and_then(|rest| rest.strip_suffix(')'));
    let value = inner.unwrap_or(value).trim_end_matches(',');
    if value == "None" && kind.starts_with("Option") {
        return "none".to_owned();
    }
    match kind {
        "u64" | "u32" => {
            let number: u64 = value.parse().unwrap();
            [(30, "GiB"), (20, "MiB"), (10, "KiB")]
                .into_iter()
                .find(|(shift, _)| number > 0 && number.is_multiple_of(1u64 << shift))
                .map_or(number.to_string(), |(shift, unit)| format!("{} {unit}", number >> shift))
        }
        "Duration" | "Option<Duration>" if value == "0ns" => "0 s".to_owned(),
        "Duration" | "Option<Duration>" => value
            .strip_suffix("ms")
            .map(|ms| format!("{ms} ms"))
            .or_else(|| value.strip_suffix('s').map(|s| format!("{} s", s.trim_end_matches(".0"))))
            .unwrap(),
        _ => value.to_owned(),
    }
}

/// Names of values that the documentation says in a sentence instead.
const SAID: &[(&str, &str, &str)] = &[
    ("env", "", "the operating system's"),
    ("wal_recovery", "Tolerant", "tolerate a torn tail"),
    ("background", "Threads", "the engine's own threads"),
    ("key_splitters", "[]", "none"),
    ("reserve_bytes", "None", "the largest memtable and 1 MiB"),
    ("compression_upper", "None", "none"),
    ("compression_lower", "Lz4", "LZ4"),
    ("ack", "Os", "[`Ack::Os`]"),
    ("cfs", "[]", "all"),
    ("topics", "[]", "all"),
    ("reason", "Manual", "[`FlushReason::Manual`]"),
];

fn documented(field: &Field, value: &str) -> String {
    let said = SAID
        .iter()
        .find(|(name, code, _)| *name == field.name && (code.is_empty() || *code == value));
    said.map_or_else(|| in_words(&field.kind, value), |(_, _, words)| (*words).to_owned())
}

#[test]
fn the_defaults_in_the_source_are_the_defaults_of_the_code() {
    for (name, values) in [
        ("Options", values_of(&Options::default())),
        ("WriteOptions", values_of(&WriteOptions::default())),
        ("EventOptions", values_of(&EventOptions::default())),
    ] {
        for field in fields_of(name) {
            let value = &values[&field.name];
            assert_eq!(
                field.default_text(),
                Some(documented(&field, value).as_str()),
                "{name}::{}: the code has {value}",
                field.name
            );
        }
    }
}

fn page() -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/options.md");
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}

fn table(name: &str, values: &BTreeMap<String, String>) -> String {
    let mut out = String::from("\n| field | type | default | meaning |\n|---|---|---|---|\n");
    for field in fields_of(name) {
        let default = documented(&field, &values[&field.name]);
        let default = default.replace(['[', ']'], "");
        let (kind, meaning) = (&field.kind, field.meaning().replace("[`", "`").replace("`]", "`"));
        writeln!(out, "| `{}` | `{kind}` | {default} | {meaning} |", field.name).unwrap();
    }
    out.push('\n');
    out
}

#[test]
fn the_page_of_options_is_the_source_and_its_defaults() {
    let (path, before) = page();
    let mut text = before.clone();
    for (name, values) in [
        ("Options", values_of(&Options::default())),
        ("CfOptions", values_of(&CfOptions::default())),
        ("WriteOptions", values_of(&WriteOptions::default())),
        ("ReadOptions", values_of(&ReadOptions::default())),
        ("FlushRequest", values_of(&FlushRequest::default())),
        ("EventOptions", values_of(&EventOptions::default())),
    ] {
        let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
        let from = text.find(&begin).unwrap() + begin.len();
        let to = from + text[from..].find(&end).unwrap();
        text.replace_range(from..to, &table(name, &values));
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &text).unwrap();
    } else {
        let pair = before.lines().zip(text.lines()).find(|(page, code)| page != code);
        assert!(before == text, "options.md and the source disagree (page, source): {pair:#?}");
    }
}

#[test]
fn the_page_of_events_names_every_event_with_its_topic() {
    let page = include_str!("../../../docs/guide/operations.md");
    let (_, table) = page.split_once("<!-- events -->\n").unwrap();
    let (table, _) = table.split_once("<!-- end of events -->").unwrap();
    let rows: Vec<String> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').skip(1).take(2).map(str::trim).collect::<Vec<_>>().join(" "))
        .collect();
    let events: Vec<String> =
        Event::NAMES.iter().map(|(name, topic)| format!("`{name}` {topic}")).collect();
    assert_eq!(rows, events);
}

#[test]
fn every_range_on_the_page_is_the_one_that_validate_enforces() {
    let (_, text) = page();
    let (_, ranges) = text.split_once("<!-- ranges -->\n").unwrap();
    let (ranges, _) = ranges.split_once("<!-- end of ranges -->").unwrap();
    let mut seen = 0;
    for line in ranges.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let name = cells[0].trim_matches('`');
        let number = |cell: &str| cell.replace(',', "").parse::<u64>().ok();
        for (limit, beyond) in [(number(cells[1]), -1i64), (number(cells[2]), 1)] {
            let Some(limit) = limit else { continue };
            let with = |value: u64| {
                let mut options = Options::default();
                set(&mut options, name, value);
                options.validate()
            };
            let refused = |value: u64| {
                with(value)
                    .is_err_and(|e| e.to_string().contains(&format!("option {name} is {value};")))
            };
            assert!(!refused(limit), "{name} = {limit}");
            if let Some(outside) = limit.checked_add_signed(beyond) {
                assert!(refused(outside), "{name} = {outside}");
            }
        }
        seen += 1;
    }
    assert_eq!(seen, 15, "validate() checks 15 options");
}

fn set(options: &mut Options, name: &str, value: u64) {
    let small = || u32::try_from(value).unwrap();
    match name {
        "memtable_bytes" => options.memtable_bytes = value,
        "memtable_count" => options.memtable_count = small(),
        "memory_budget" => options.memory_budget = value,
        "wal_segment_bytes" => options.wal_segment_bytes = value,
        "wal_max_bytes" => options.wal_max_bytes = value,
        "flush_threads" => options.flush_threads = small(),
        "compaction_threads" => options.compaction_threads = small(),
        "block_bytes" => options.block_bytes = small(),
        "filter_bits_per_key" => options.filter_bits_per_key = small(),
        "table_bytes" => options.table_bytes = value,
        "level_base_bytes" => options.level_base_bytes = value,
        "l0_compaction_trigger" => options.l0_compaction_trigger = small(),
        "l0_slowdown" => options.l0_slowdown = small(),
        "l0_stop" => options.l0_stop = small(),
        "reserve_bytes" => options.reserve_bytes = Some(value),
        _ => unreachable!("{name}"),
    }
}

/// Lines of the specification's dump: offset, bytes in pairs, two spaces, meaning.
fn bytes_of_dump(text: &str) -> Vec<u8> {
    let dump = text.split("<!-- golden -->").nth(1).unwrap();
    let mut bytes = Vec::new();
    for line in dump.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_hexdigit())) {
        let (offset, rest) = line.split_once("  ").unwrap();
        assert_eq!(usize::from_str_radix(offset, 16), Ok(bytes.len()), "{line}");
        let pairs = rest.split("  ").next().unwrap();
        bytes.extend(pairs.split(' ').map(|pair| u8::from_str_radix(pair, 16).unwrap()));
    }
    bytes
}

/// When this fails the format of batches changed: that needs a kind of entry or of frame that older
/// builds refuse, not a new dump.
#[test]
fn a_batch_has_the_bytes_of_the_specification() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::default()).unwrap();
    let default = db.default_cf();
    let meta = db.create_column_family("meta", CfOptions::default()).unwrap();
    assert_eq!((default.id().0, meta.id().0), (0, 1));
    let mut batch = WriteBatch::new();
    batch.put(&default, b"from", b"90");
    batch.delete(&meta, b"gone");
    batch.add_counter(&meta, 300, -2);
    db.write(&batch, &WriteOptions::default()).unwrap();
    let mut payloads = Vec::new();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "wal") {
            continue;
        }
        let number = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let options = DecodeOptions { next_seq: SeqNo::ZERO, ..DecodeOptions::default() };
        decode_segment(&bytes, sluicedb::FileNo(number), options, &mut |frame| {
            assert_eq!(frame.count, 3);
            payloads.push(frame.payload.to_vec());
            Ok(())
        })
        .unwrap();
    }
    let specified = bytes_of_dump(include_str!("../../../docs/format/batch.md"));
    assert_eq!(payloads, [specified]);
}

#[test]
fn the_rust_in_the_pages_is_the_rust_that_compiles() {
    let compiled = include_str!("documents/snippets.rs");
    let lines: Vec<&str> = compiled.lines().map(str::trim).collect();
    for (name, page) in [
        ("README.md", include_str!("../../../README.md")),
        ("options.md", include_str!("../../../docs/guide/options.md")),
    ] {
        let (_, code) = page.split_once("```rust\n").unwrap();
        let (code, _) = code.split_once("```").unwrap();
        let code: Vec<&str> = code.lines().map(str::trim).collect();
        let found = lines.windows(code.len()).any(|window| window == code);
        assert!(found, "{name}: put its example into tests/documents/snippets.rs, line for line");
    }
}

/// Every page of the repository, `target` and the like left out.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    for folder in ["", "docs/design", "docs/format", "docs/guide"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 15, "{found:?}");
    found
}

/// The anchors of a page's headings, as code hosts make them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept =
                title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn no_link_leads_nowhere() {
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            assert!(target.exists(), "{}: {link}", page.display());
            if !anchor.is_empty() {
                let there = anchors(&std::fs::read_to_string(&target).unwrap());
                assert!(there.iter().any(|other| other == anchor), "{}: {link}", page.display());
            }
        }
    }
}
