//! Holds pages of `docs` to the code: which commands there are, which parameters, of what type and
//! with what default, and how keys look in the engine. Everything is asked for through the public
//! face, as a client or an embedding program would.
//!
//! ```text
//! UPDATE_EXPECT=1 cargo test -p sluice-server --test documents     rewrites the pages' tables
//! ```
//!
//! A page's words (notes, meanings) are written by people and kept by a rewrite; its facts come
//! from here. What a page must say and does not (why a command is partial, what a parameter means)
//! fails the test, with or without `UPDATE_EXPECT`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "documents/redis_commands.rs"]
mod redis_commands;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use common::{Client, start};
use redis_commands::REDIS_COMMANDS;
use sluice_keyspace::element::Collection;
use sluice_keyspace::{FAMILY_SCHEMAS, Head, Keyspace, KeyspaceOptions, LatchSet};
use sluice_server::Config;
use sluicedb::{Db, FieldValue, KeySchema, Options, ReadOptions, WriteOptions};

/// A page with one generated part between two marker lines.
struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    /// `name` is below `docs`.
    fn read(name: &str) -> Page {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        Page { path, text }
    }

    /// The text before, inside and after the part called `part`.
    fn split(&self, part: &str) -> (&str, &str, &str) {
        self.split_at(&format!("<!-- {part} -->\n"), &format!("<!-- end of {part} -->"))
    }

    fn split_at(&self, begin: &str, end: &str) -> (&str, &str, &str) {
        let at = self.text.find(begin).expect("the part's first marker") + begin.len();
        let length = self.text[at..].find(end).expect("the part's last marker");
        (&self.text[..at], &self.text[at..at + length], &self.text[at + length..])
    }

    /// The table rows of a part, each as its cells.
    fn rows(&self, part: &str) -> Vec<Vec<String>> {
        let (_, text, _) = self.split(part);
        text.lines().filter_map(cells).collect()
    }

    /// Replaces a part when asked to, and complains when it differs otherwise.
    fn expect(&mut self, part: &str, wanted: &str) {
        let (begin, end) = (format!("<!-- {part} -->\n"), format!("<!-- end of {part} -->"));
        self.expect_between(&begin, &end, wanted);
    }

    fn expect_between(&mut self, begin: &str, end: &str, wanted: &str) {
        let (before, found, after) = self.split_at(begin, end);
        if found == wanted {
            return;
        }
        let name = self.path.file_name().unwrap().to_string_lossy().into_owned();
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            self.text = format!("{before}{wanted}{after}");
            std::fs::write(&self.path, &self.text).unwrap();
            return;
        }
        let pair = found.lines().zip(wanted.lines()).find(|(found, wanted)| found != wanted);
        panic!(
            "{name} and the server disagree, first here (page, server): {pair:#?}\n\
             UPDATE_EXPECT=1 cargo test -p sluice-server --test documents rewrites the page"
        );
    }
}

/// The cells of a table row; `None` for other lines, for a head and for the rule under it.
fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.strip_prefix('|')?.strip_suffix('|')?;
    let cells: Vec<String> = inner.split('|').map(|cell| cell.trim().to_owned()).collect();
    cells[0].starts_with('`').then_some(cells)
}

/// The bulk strings of a flat reply of them.
fn bulks(reply: &str) -> Vec<String> {
    let mut lines = reply.split("\r\n").skip(1);
    let mut found = Vec::new();
    while let Some(length) = lines.next().and_then(|line| line.strip_prefix('$')) {
        let text = lines.next().unwrap();
        assert_eq!(Ok(text.len()), length.parse(), "a value with a line break in {reply}");
        found.push(text.to_owned());
    }
    found
}

/// Every row of the command table with its group, subcommands included.
fn own_commands(client: &mut Client) -> BTreeMap<String, String> {
    let names = bulks(&client.ask(&["COMMAND", "LIST", "FILTERBY", "PATTERN", "*"]));
    assert!(names.len() > 100, "{names:?}");
    let group_of = |name: String| {
        let docs = client.ask(&["COMMAND", "DOCS", &name]);
        let group = docs.split("$5\r\ngroup\r\n").nth(1).unwrap().split("\r\n").nth(1).unwrap();
        (name, group.to_owned())
    };
    names.into_iter().map(group_of).collect()
}

/// `client|kill` as people write it.
fn shown(name: &str) -> String {
    format!("`{}`", name.replace('|', " ").to_ascii_uppercase())
}

const COMMAND_HEAD: &str = "| command | there | notes |\n|---|---|---|\n";

/// One row; `is_there` is the table's word, the rest is what the page said so far.
fn command_row(name: &str, is_there: bool, notes: &BTreeMap<String, [String; 2]>) -> String {
    let name = shown(name);
    let empty = [String::new(), String::new()];
    let [status, note] = notes.get(&name).unwrap_or(&empty);
    let status = match (is_there, status.as_str()) {
        (true, "partial") => "partial",
        (true, _) => "yes",
        (false, _) => "no",
    };
    // What was said of a command that was missing is no longer true once it is there.
    let keep = !is_there || status == "partial" || !note.starts_with("planned");
    let note = match (keep, note.as_str(), is_there) {
        (true, "", false) => "planned",
        (true, note, _) => note,
        (false, ..) => "",
    };
    format!("| {name} | {status} | {note} |\n").replace("|  |\n", "| |\n")
}

#[test]
fn the_compatibility_page_is_the_command_table() {
    let mut page = Page::read("guide/compatibility.md");
    let server = start(&[]);
    let own = own_commands(&mut server.client());
    let mut notes = BTreeMap::new();
    for part in ["commands", "own commands"] {
        for row in page.rows(part) {
            let [name, status, note] = <[String; 3]>::try_from(row).expect("three cells");
            assert!(
                status != "partial" || !note.is_empty(),
                "{name} is partial: say what is missing"
            );
            notes.insert(name, [status, note]);
        }
    }
    let redis: BTreeSet<&str> =
        REDIS_COMMANDS.iter().flat_map(|(_, names)| names.split_whitespace()).collect();
    let mut wanted = String::new();
    let (mut all, mut there) = (0, 0);
    for (group, names) in REDIS_COMMANDS {
        wanted.push_str(&format!("\n### {group}\n\n{COMMAND_HEAD}"));
        for name in names.split_whitespace() {
            all += 1;
            there += usize::from(own.contains_key(name));
            wanted.push_str(&command_row(name, own.contains_key(name), &notes));
        }
    }
    wanted.push('\n');
    let count = format!("\n{there} of {all} commands and subcommands of Redis 7.2 are there.\n");
    page.expect("commands", &format!("{count}{wanted}"));
    let mut added = format!("\n{COMMAND_HEAD}");
    for name in own.keys().filter(|name| !redis.contains(name.as_str())) {
        added.push_str(&command_row(name, true, &notes));
    }
    added.push('\n');
    page.expect("own commands", &added);
}

#[test]
fn a_command_is_in_the_group_that_redis_puts_it_in() {
    let server = start(&[]);
    for (name, group) in own_commands(&mut server.client()) {
        let of_redis = REDIS_COMMANDS
            .iter()
            .find(|(_, names)| names.split_whitespace().any(|other| other == name));
        if let Some((redis_group, _)) = of_redis {
            assert_eq!(group, *redis_group, "{name}");
        }
    }
}

/// What a parameter takes, found out by giving it values that cannot be right.
fn kind_of(name: &str) -> String {
    let refusal =
        |values: &[&str]| Config::default().set_at_start(name, values).err().map(|error| error.0);
    let nonsense = refusal(&["\u{1}"]).unwrap_or_default();
    let limits = |low: &str, high: &str| {
        let text = refusal(&[low]).or_else(|| refusal(&[high]));
        let text = text.as_deref().and_then(|text| text.strip_prefix("argument must be between "));
        text.and_then(|text| text.strip_suffix(" inclusive")).map(str::to_owned)
    };
    let span = |limits: Option<String>, show: fn(i64) -> String| {
        let limits = limits.unwrap_or_else(|| format!("0 and {}", i64::MAX));
        let (low, high) = limits.split_once(" and ").unwrap();
        let (low, high) = (low.parse::<i64>().unwrap(), high.parse::<i64>().unwrap());
        match high {
            i64::MAX => format!("from {}", show(low)),
            high => format!("{} to {}", show(low), show(high)),
        }
    };
    if nonsense.contains("'yes' or 'no'") {
        "yes, no".to_owned()
    } else if nonsense.contains("into an integer") {
        format!("integer, {}", span(limits(&i64::MIN.to_string(), "0"), |n| n.to_string()))
    } else if nonsense.contains("memory value") {
        format!("bytes, {}", span(limits("0", &i64::MAX.to_string()), people_bytes))
    } else if let Some(words) = nonsense.strip_prefix("argument(s) must be one of the following: ")
    {
        words.to_owned()
    } else if nonsense.contains("save parameters") {
        "pairs of seconds and changes".to_owned()
    } else if nonsense.contains("buffer limit") {
        "groups of class, hard, soft, seconds".to_owned()
    } else if nonsense.contains("event class") {
        "event classes".to_owned()
    } else if refusal(&["a", "b"]).is_some() {
        "text".to_owned()
    } else {
        "words".to_owned()
    }
}

fn people_bytes(bytes: i64) -> String {
    for (shift, unit) in [(30, "gb"), (20, "mb"), (10, "kb")] {
        if bytes > 0 && bytes % (1 << shift) == 0 {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// The newer name of a parameter, when `name` is an older one: whatever is set by one of the two is
/// read by the other.
fn newer_name(name: &str, all: &[String]) -> Option<String> {
    if !name.contains("ziplist") && !name.contains("slave") {
        return None;
    }
    let (mut changed, before) = (Config::default(), Config::default());
    let value = ["77", "no"].into_iter().find(|value| changed.set_at_start(name, &[value]).is_ok());
    let follows = |other: &&String| {
        *other != name
            && changed.get(other) != before.get(other)
            && Some(changed.get(other)) == value
    };
    let newer: Vec<&String> = all.iter().filter(follows).collect();
    assert_eq!(newer.len(), 1, "{name} stands for {newer:?}");
    Some(newer[0].clone())
}

#[test]
fn the_configuration_page_is_the_table_of_parameters() {
    let mut page = Page::read("guide/configuration.md");
    let server = start(&[]);
    let mut client = server.client();
    let values: BTreeMap<String, String> = bulks(&client.ask(&["CONFIG", "GET", "*"]))
        .chunks(2)
        .map(|pair| (pair[0].clone(), pair[1].clone()))
        .collect();
    assert!(values.len() > 80, "{values:?}");
    let names: Vec<String> = values.keys().cloned().collect();
    let older: BTreeMap<&String, String> =
        names.iter().filter_map(|name| Some((name, newer_name(name, &names)?))).collect();
    let mut meanings: BTreeMap<String, String> = BTreeMap::new();
    let mut idle_names = BTreeSet::new();
    for (part, is_idle) in [("parameters", false), ("accepted parameters", true)] {
        for row in page.rows(part) {
            let name = row[0].trim_matches('`').to_owned();
            if is_idle {
                idle_names.insert(name.clone());
            }
            meanings.insert(name, row.last().unwrap().clone());
        }
    }
    let defaults = Config::default();
    let (mut acting, mut idle) = (String::new(), String::new());
    for name in names.iter().filter(|name| !older.contains_key(name)) {
        let takes = kind_of(name);
        let default = match (defaults.get(name), defaults.get(name).parse::<i64>()) {
            ("", _) => "empty".to_owned(),
            (_, Ok(bytes)) if takes.starts_with("bytes") => format!("`{}`", people_bytes(bytes)),
            (text, _) => format!("`{text}`"),
        };
        // The value it has already is refused when, and only when, it can never change.
        let running = match client.ask(&["CONFIG", "SET", name, &values[name]]).as_str() {
            "+OK\r\n" => "yes",
            refused if refused.contains("can't set immutable config") => "no",
            other => panic!("{name}: {other}"),
        };
        let meaning = meanings.get(name).map_or("", String::as_str);
        assert!(
            !meaning.is_empty() || std::env::var_os("UPDATE_EXPECT").is_some(),
            "{name}: say in configuration.md what it means"
        );
        let rows = if idle_names.contains(name) { &mut idle } else { &mut acting };
        rows.push_str(&format!("| `{name}` | {takes} | {default} | {running} | {meaning} |\n"));
    }
    let old: String = older.iter().map(|(old, new)| format!("| `{old}` | `{new}` |\n")).collect();
    let head = "| parameter | takes | default | changes while running | meaning |\n\
                |---|---|---|---|---|\n";
    page.expect("parameters", &format!("\n{head}{acting}\n"));
    page.expect("accepted parameters", &format!("\n{head}{idle}\n"));
    page.expect("older names", &format!("\n| older name | stands for |\n|---|---|\n{old}\n"));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// When this fails the layout changed: that needs a new version of the row, not a new dump.
#[test]
fn keys_look_as_the_specification_says() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::default()).unwrap();
    let keyspace = Keyspace::open(db.clone(), KeyspaceOptions::default()).unwrap();
    let mut txn = keyspace.transaction();
    let mut latches = LatchSet::new();
    latches.add_all();
    txn.begin_write(1_600_000_000_000, &latches);
    txn.put(2, b"x", Head::string(None), &[b"1"]).unwrap();
    txn.commit(&WriteOptions::default()).unwrap();
    txn.begin_write(1_600_000_000_000, &latches);
    txn.put(1, b"{a}b", Head::string(None), &[b"hi"]).unwrap();
    txn.put(1, b"n", Head::string(Some(1_700_000_000_000)), &[b"7"]).unwrap();
    txn.flush_database(2).unwrap();
    txn.commit(&WriteOptions::default()).unwrap();
    let mut dump = String::new();
    for family in db.list_column_families() {
        let mut rows = db.iter(&family, ReadOptions::default()).unwrap();
        let mut more = rows.seek_to_first().unwrap();
        while more {
            let (name, key, value) = (family.name(), hex(rows.key()), hex(rows.value()));
            dump.push_str(format!("{name:<8} {key} -> {value}").trim_end());
            dump.push('\n');
            more = rows.next().unwrap();
        }
        if let count @ 1.. = db.counter(&family, 1) {
            dump.push_str(&format!("{:<8} counter 1 = {count}\n", family.name()));
        }
    }
    let text = Page::read("format/keys.md").text;
    let (_, found) = text.split_once("<!-- golden -->\n```text\n").unwrap();
    let (found, _) = found.split_once("```").unwrap();
    let found: Vec<&str> =
        found.lines().map(|line| line[..58.min(line.len())].trim_end()).collect();
    assert_eq!(found.join("\n"), dump.trim_end(), "the bytes are\n{dump}");
}

/// One line: the family, the key's bytes, and its fields as the family's schema splits them.
fn element_line(family: &str, schema: &KeySchema, key: &[u8]) -> String {
    let values = schema.split(key).expect("a key that splits");
    let names = schema.descriptor().fields.iter().map(|field| field.name.as_str());
    let fields: Vec<String> = names
        .zip(values)
        .map(|(name, value)| match value {
            FieldValue::Number(number) => format!("{name}={number}"),
            FieldValue::Bytes(bytes) => format!("{name}=\"{}\"", bytes.escape_ascii()),
        })
        .collect();
    format!("{family:<8} {:<98} {}\n", hex(key), fields.join(" "))
}

#[test]
fn elements_and_versions_look_as_the_specification_says() {
    let of = |name: &str| {
        let own = FAMILY_SCHEMAS.iter().find(|own| own.name == name).expect("a schema");
        (own.family, own.schema().unwrap())
    };
    let mut wanted = String::from("```text\n");
    let mut key = Vec::new();
    let hash = Collection { namespace: 1, key: b"h", version: 3 };
    let (family, schema) = of("redis-data");
    for field in [&b""[..], b"f"] {
        hash.data_key(&mut key, field);
        wanted.push_str(&element_line(family, &schema, &key));
    }
    let board = Collection { namespace: 0, key: b"{a}b", version: 258 };
    let (family, schema) = of("redis-score");
    for score in [-1.5, 0.0, 1.5] {
        assert!(board.score_key(&mut key, score, b"ann"));
        let line = element_line(family, &schema, &key);
        wanted.push_str(&format!("{}, of {score}\n", line.trim_end()));
    }
    let mvcc = KeySchema::builtin("mvcc").unwrap();
    for ts in [7, 6] {
        let fields = [FieldValue::Bytes(b"k\0"[..].into()), FieldValue::Number(ts)];
        wanted.push_str(&element_line("(mvcc)", &mvcc, &mvcc.join(&fields).unwrap()));
    }
    wanted.push_str("```\n");
    let mut page = Page::read("format/keys.md");
    page.expect_between("<!-- golden elements -->\n", "<!-- end of elements -->", &wanted);
    // The page's table of schemas is the one in the code.
    for own in FAMILY_SCHEMAS {
        let row =
            format!("| `{}` | `{}` | {} | `{}` |", own.family, own.name, own.version, own.text);
        assert!(page.text.contains(&row), "{row}");
    }
}
