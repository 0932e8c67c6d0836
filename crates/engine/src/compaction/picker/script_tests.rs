//! Runs the scripts of `testdata/compaction`: levels drawn as text, and what is picked from them.
//!
//! A script is a list of blocks, divided by empty lines:
//!
//! ```text
//!   # remark
//!   define base=256M trigger=4        command and arguments
//!   L0: 9:[a-m] 64M seq=90-99 tomb=60     body: one table a line
//!   ----
//!   ok                                what the command must print
//! ```
//! Commands: `define` (draws the tree; options it does not name keep their defaults), `pick`,
//! `start` (pick, and leave it running), `clear` (nothing runs any more), `range LEVEL [a-b]` (a manual
//! step; `start=yes` leaves it running), `drain SCHEMA` (a drain's next step), `add` (draws more tables), `targets`, `pressure`, `find KEY`.
//! `pick`, `start` and `range` take `snapshot=N` and `busy=1,2`; busy tables stay so until `clear`.
//! A table has 100 entries, `tomb` of them tombstones; its sequence numbers come from its file number
//! when not given; `schema` is the index of its key schema. `define` takes `schemas=0,m:1`, the map.
//! `UPDATE_EXPECT=1` writes what was printed into the scripts.

use std::{collections::HashMap, fmt::Write, fs, path::Path};

use sluice_base::{CfId, FileNo, Kind, Level, SeqNo, Trailer};

use super::{targets::Pressure, *};
use crate::version::InternalKey;

#[test]
fn scripts_print_what_they_expect() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/compaction");
    let mut paths: Vec<_> =
        fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    for path in paths {
        let script = fs::read_to_string(&path).unwrap();
        let printed = run_script(&script);
        if update {
            fs::write(&path, printed).unwrap();
        } else {
            let name = path.file_name().unwrap().to_string_lossy();
            assert!(script == printed, "{name}: expected\n\n{script}\n\nbut printed\n\n{printed}");
        }
    }
}

fn run_script(script: &str) -> String {
    let mut world = World::default();
    let mut blocks = Vec::new();
    for block in script.trim_end().split("\n\n") {
        let (head, _) = block.split_once("\n----").unwrap_or((block, ""));
        let is_remark = |line: &&str| line.starts_with('#') || line.is_empty();
        let mut lines = head.lines().skip_while(is_remark);
        let Some(command) = lines.next() else {
            blocks.push(head.to_owned());
            continue;
        };
        let printed = world.run(command, lines.collect());
        blocks.push(format!("{head}\n----\n{}", printed.trim_end()));
    }
    blocks.join("\n\n") + "\n"
}

#[derive(Default)]
struct World {
    version: CfVersion<()>,
    options: PickerOptions,
    schemas: SchemaMap,
    in_progress: InProgress,
}

impl Default for CfVersion<()> {
    fn default() -> Self {
        CfVersion::empty()
    }
}

impl World {
    fn run(&mut self, command: &str, body: Vec<&str>) -> String {
        let mut words = command.split_whitespace();
        let name = words.next().unwrap();
        let words: Vec<&str> = words.collect();
        let arguments: HashMap<&str, &str> =
            words.iter().filter_map(|word| word.split_once('=')).collect();
        match name {
            "define" => self.define(&arguments, &body),
            "add" => self.add(&body),
            "pick" => self.with_input(&arguments, |input| {
                pick(input).map_or("nothing".to_owned(), |picked| describe(&picked))
            }),
            "start" => {
                let Some(picked) = self.with_input(&arguments, pick) else {
                    return "nothing".to_owned();
                };
                self.in_progress.start(&picked);
                describe(&picked)
            }
            "drain" => self.with_input(&arguments, |input| {
                let schema = words[0].parse().unwrap();
                pick_drain(input, schema).map_or("nothing".to_owned(), |picked| describe(&picked))
            }),
            "clear" => {
                self.in_progress = InProgress::new();
                "ok".to_owned()
            }
            "range" => {
                let (first, last) = parse_range(words[1]);
                let range = KeyRange::new(first.as_bytes(), last.as_bytes());
                let level = parse_level(words[0]);
                match self.with_input(&arguments, |input| pick_range(input, range, level)) {
                    RangePick::Compact(picked) => {
                        if arguments.contains_key("start") {
                            self.in_progress.start(&picked);
                        }
                        describe(&picked)
                    }
                    other => format!("{other:?}").to_lowercase(),
                }
            }
            "targets" => self.targets(),
            "pressure" => {
                let pressure = pressure(&self.version, &self.schemas, &self.options);
                let Pressure { l0_files, l0_bytes, base_level, debt_bytes } = pressure;
                let (l0_bytes, debt) = (size(l0_bytes), size(debt_bytes));
                format!("l0 {l0_files} tables {l0_bytes}, base {base_level}, debt {debt}")
            }
            "find" => self.find(words[0].as_bytes()),
            _ => panic!("no command {name}"),
        }
    }

    fn define(&mut self, arguments: &HashMap<&str, &str>, body: &[&str]) -> String {
        self.options = PickerOptions::default();
        self.schemas = SchemaMap::default();
        for (name, value) in arguments {
            if *name == "schemas" {
                self.schemas = parse_schemas(value);
                continue;
            }
            let bytes = parse_size(value);
            match *name {
                "base" => self.options.level_base_bytes = bytes,
                "ratio" => self.options.level_ratio = bytes,
                "trigger" => self.options.l0_trigger = bytes as usize,
                "table" => self.options.table_bytes = bytes,
                "grandparents" => self.options.grandparent_bytes_max = bytes,
                "max" => self.options.compaction_bytes_max = bytes,
                _ => panic!("no option {name}"),
            }
        }
        self.version = CfVersion::empty();
        self.in_progress = InProgress::new();
        self.add(body)
    }

    fn add(&mut self, body: &[&str]) -> String {
        let mut edit = CfEdit::new(CfId(0));
        edit.added.extend(body.iter().map(|line| parse_table(line)));
        match self.version.apply(&edit) {
            Ok(version) => {
                self.version = version;
                "ok".to_owned()
            }
            Err(error) => error.to_string(),
        }
    }

    fn with_input<R>(
        &mut self,
        arguments: &HashMap<&str, &str>,
        decide: impl FnOnce(&PickInput<'_, ()>) -> R,
    ) -> R {
        for file in arguments.get("busy").into_iter().flat_map(|files| files.split(',')) {
            self.in_progress.hold(FileNo(file.parse().unwrap()));
        }
        let snapshot = arguments.get("snapshot").map(|seq| SeqNo(seq.parse().unwrap()));
        decide(&PickInput {
            cf: CfId(0),
            version: &self.version,
            options: &self.options,
            schemas: &self.schemas,
            in_progress: &self.in_progress,
            oldest_snapshot: snapshot.unwrap_or(SeqNo::MAX),
        })
    }

    fn targets(&mut self) -> String {
        let targets = LevelTargets::new(&self.version, &self.options);
        let scores = self.with_input(&HashMap::new(), |input| targets.scores(input));
        let mut out = format!("base {}\n", targets.base_level);
        for (level, score) in scores {
            let (bytes, target) = (self.version.level_bytes(level), targets.of(level));
            writeln!(out, "{level}: {} of {}, score {score:.2}", size(bytes), size(target))
                .unwrap();
        }
        out
    }

    fn find(&self, key: &[u8]) -> String {
        let mut out = String::new();
        for table in self.version.l0_candidates(key) {
            writeln!(out, "L0: {}", table.meta.file.0).unwrap();
        }
        for level in (1..Level::COUNT as u8).map(Level) {
            if let Some(table) = self.version.level_candidate(level, key) {
                writeln!(out, "{level}: {}", table.meta.file.0).unwrap();
            }
        }
        writeln!(out, "read amplification {}", self.version.read_amplification()).unwrap();
        out
    }
}

fn describe(compaction: &Compaction<()>) -> String {
    let Compaction { kind, reason, level, output_level, score, .. } = compaction;
    let mut out = format!("{kind:?} {level} -> {output_level} for {reason:?}, score {score:.2}");
    out += if compaction.is_bottommost { ", bottommost\n" } else { "\n" };
    let grandparents = ("grandparents".to_owned(), &compaction.grandparents);
    let inputs = compaction.inputs.iter().map(|(level, tables)| (level.to_string(), tables));
    for (name, tables) in inputs.chain([grandparents]) {
        if !tables.is_empty() {
            let files: Vec<String> = tables.iter().map(|t| t.meta.file.0.to_string()).collect();
            writeln!(out, "  {name}: {}", files.join(" ")).unwrap();
        }
    }
    out
}

/// `0,m:1`: schema 0 below m, 1 from there on.
fn parse_schemas(text: &str) -> SchemaMap {
    text.split(',').fold(SchemaMap::default(), |map, range| {
        let (start, schema) = range.split_once(':').unwrap_or(("", range));
        map.with(start.as_bytes(), None, schema.parse().unwrap()).unwrap()
    })
}

/// `L1: 7:[a-f] 64M tomb=60 seq=1-10`
fn parse_table(line: &str) -> (Level, TableMeta) {
    let mut words = line.split_whitespace();
    let level = parse_level(words.next().unwrap().trim_end_matches(':'));
    let (file, range) = words.next().unwrap().split_once(':').unwrap();
    let file: u64 = file.parse().unwrap();
    let (first, last) = parse_range(range);
    let bytes = parse_size(words.next().unwrap());
    let (mut tombstones, mut seqs, mut schema) = (0, (file * 10, file * 10 + 9), 0);
    for (name, value) in words.filter_map(|word| word.split_once('=')) {
        match name {
            "tomb" => tombstones = value.parse().unwrap(),
            "schema" => schema = value.parse().unwrap(),
            "seq" => {
                let (min, max) = value.split_once('-').unwrap();
                seqs = (min.parse().unwrap(), max.parse().unwrap());
            }
            _ => panic!("no table field {name}"),
        }
    }
    let key =
        |key: &str, seq| InternalKey::new(key.as_bytes(), Trailer::new(SeqNo(seq), Kind::Put));
    let meta = TableMeta {
        file: FileNo(file),
        bytes,
        entries: 100,
        tombstones,
        smallest: key(first, seqs.1),
        largest: key(last, seqs.0),
        min_seq: SeqNo(seqs.0),
        max_seq: SeqNo(seqs.1),
        schema,
        created_ms: 0,
    };
    (level, meta)
}

fn parse_level(text: &str) -> Level {
    Level(text.trim_start_matches('L').parse().unwrap())
}

fn parse_range(text: &str) -> (&str, &str) {
    text.trim_matches(['[', ']']).split_once('-').unwrap()
}

const UNITS: [(&str, u32); 3] = [("G", 30), ("M", 20), ("K", 10)];

fn parse_size(text: &str) -> u64 {
    for (unit, shift) in UNITS {
        if let Some(number) = text.strip_suffix(unit) {
            return number.parse::<u64>().unwrap() << shift;
        }
    }
    text.parse().unwrap()
}

fn size(bytes: u64) -> String {
    match UNITS.iter().find(|(_, shift)| bytes > 0 && bytes.trailing_zeros() >= *shift) {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None if bytes >= 1 << 20 => format!("{:.1}M", bytes as f64 / f64::from(1 << 20)),
        None => bytes.to_string(),
    }
}
