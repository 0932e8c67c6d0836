//! Which key schema a name, a version and fields mean: one that is known, or the next version of it.
//!
//! *Known* are the built-in ones and all that the database has met since it was opened: those of its
//! tables and ranges, and those drained since. Names of
//! built-in schemas belong to them: nobody gives one other fields, so what a name says in a manual
//! is what it says here. Of all others an operator may make the next version at any time, because
//! every table carries its own fields.

use std::sync::Arc;

use sluice_keyspace::FAMILY_SCHEMAS;
use sluicedb::{Db, KeySchema};

use super::memtable_args::shown;
use super::schema_args::{Named, SchemaText};
use crate::command::CmdError;
use crate::exec::engine_error;

/// Names that an error lists at most.
const LISTED_MAX: usize = 20;

/// The key schemas that go by a name here.
#[derive(Debug)]
pub(super) struct Known {
    built_in: Vec<Arc<KeySchema>>,
    /// Without the built-in ones, each once.
    others: Vec<Arc<KeySchema>>,
}

impl Known {
    pub(super) fn of(db: &Db) -> Known {
        Known::new(db.known_schemas().into_iter())
    }

    fn new(used: impl Iterator<Item = Arc<KeySchema>>) -> Known {
        let engine = KeySchema::BUILTIN_NAMES.iter().filter_map(|name| KeySchema::builtin(name));
        let server = FAMILY_SCHEMAS.iter().filter_map(|own| own.schema().ok());
        let built_in: Vec<_> = engine.chain(server).map(Arc::new).collect();
        let mut others: Vec<Arc<KeySchema>> = Vec::new();
        for schema in used {
            if !built_in.contains(&schema) && !others.contains(&schema) {
                others.push(schema);
            }
        }
        Known { built_in, others }
    }

    pub(super) fn is_built_in(&self, schema: &KeySchema) -> bool {
        self.built_in.iter().any(|known| **known == *schema)
    }

    fn all(&self) -> impl Iterator<Item = &Arc<KeySchema>> {
        self.built_in.iter().chain(&self.others)
    }

    /// All that are meant, in ascending order of their versions; at least one.
    pub(super) fn named(&self, named: &Named) -> Result<Vec<Arc<KeySchema>>, CmdError> {
        let mut of_name: Vec<_> =
            self.all().filter(|schema| has_name(schema, &named.name)).cloned().collect();
        if of_name.is_empty() {
            let mut names: Vec<&str> = self.all().map(|schema| schema.public_name()).collect();
            names.sort_unstable();
            names.dedup();
            let more = if names.len() > LISTED_MAX { ", .." } else { "" };
            names.truncate(LISTED_MAX);
            return Err(CmdError::new(format!(
                "ERR there is no key schema '{}'; there are: {}{more}",
                shown(named.name.as_bytes()),
                names.join(", ")
            )));
        }
        of_name.sort_by_key(|schema| (schema.version(), schema.id().hash));
        let Some(version) = named.version else { return Ok(of_name) };
        let versions: Vec<String> =
            of_name.iter().map(|schema| schema.version().to_string()).collect();
        of_name.retain(|schema| schema.version() == version);
        if of_name.is_empty() {
            return Err(CmdError::new(format!(
                "ERR there is no version {version} of key schema '{}'; there are: {}",
                named.name,
                versions.join(", ")
            )));
        }
        Ok(of_name)
    }

    /// The schema that a text means.
    pub(super) fn choose(&self, text: &SchemaText) -> Result<KeySchema, CmdError> {
        let Named { name, version } = &text.named;
        let Some(fields) = &text.fields else { return self.choose_known(&text.named) };
        let parse =
            |version| KeySchema::parse(name, version, fields).map_err(|error| engine_error(&error));
        let parsed = parse(version.unwrap_or(1))?;
        let mut same_name: Vec<_> = self.all().filter(|schema| has_name(schema, name)).collect();
        let same_fields =
            |schema: &KeySchema| schema.descriptor().fields == parsed.descriptor().fields;
        if let Some(own) = self.built_in.iter().find(|schema| has_name(schema, name)) {
            if same_fields(own) && version.is_none_or(|version| version == own.version()) {
                return Ok(KeySchema::clone(own));
            }
            return Err(CmdError::new(format!(
                "ERR key schema '{name}' is built in as version {} with the fields {own}: give yours \
                 another name",
                own.version()
            )));
        }
        if let Some(version) = version {
            let other =
                |schema: &&Arc<KeySchema>| schema.version() == *version && !same_fields(schema);
            return match same_name.into_iter().find(other) {
                None => Ok(parsed),
                Some(other) => Err(CmdError::new(format!(
                    "ERR key schema '{name}' version {version} has the fields {other}: leave the \
                     version out to make the next one"
                ))),
            };
        }
        same_name.sort_by_key(|schema| schema.version());
        if let Some(same) = same_name.iter().rfind(|schema| same_fields(schema)) {
            return Ok(KeySchema::clone(same));
        }
        let next = match same_name.last() {
            None => 1,
            Some(last) => last.version().checked_add(1).ok_or_else(|| {
                CmdError::new(format!("ERR key schema '{name}' has no versions left: rename it"))
            })?,
        };
        parse(next)
    }

    /// The newest version of a known schema, or the one that was asked for.
    fn choose_known(&self, named: &Named) -> Result<KeySchema, CmdError> {
        let found = self.named(named).map_err(|error| {
            CmdError::new(format!("{}; or write its fields behind the name", error.0))
        })?;
        let newest = found.last().map_or(0, |schema| schema.version());
        match &found.iter().filter(|schema| schema.version() == newest).collect::<Vec<_>>()[..] {
            [only] => Ok(KeySchema::clone(only)),
            several => Err(CmdError::new(format!(
                "ERR there are {} key schemas '{}' version {newest}: write the fields too",
                several.len(),
                named.name
            ))),
        }
    }
}

/// The name that tables have, or the one for people.
fn has_name(schema: &KeySchema, name: &str) -> bool {
    schema.public_name() == name || schema.name() == name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::schema_args::schema_text;

    fn known(used: &[(&str, u32, &str)]) -> Known {
        let parse = |(name, version, fields): &(&str, u32, &str)| {
            Arc::new(KeySchema::parse(name, *version, fields).unwrap())
        };
        Known::new(used.iter().map(parse))
    }

    /// `name version (fields)`, or the error.
    fn choose(known: &Known, text: &str) -> String {
        match known.choose(&schema_text(&[text.as_bytes()]).unwrap()) {
            Ok(schema) => format!("{} {} ({schema})", schema.name(), schema.version()),
            Err(error) => error.0.into_owned(),
        }
    }

    #[test]
    fn a_version_counts_on_when_the_fields_change_and_only_then() {
        let known = known(&[
            ("events", 1, "a u8, rest"),
            ("events", 4, "a u16, rest"),
            ("logs", 2, "rest"),
        ]);
        for (text, wanted) in [
            ("events", "events 4 (a u16, rest)"),
            ("events 1", "events 1 (a u8, rest)"),
            ("events a u8, rest", "events 1 (a u8, rest)"),
            ("events a u16,rest", "events 4 (a u16, rest)"),
            ("events a u32, rest", "events 5 (a u32, rest)"),
            ("events 9 a u32, rest", "events 9 (a u32, rest)"),
            ("events 4 a u16, rest", "events 4 (a u16, rest)"),
            ("new a u8", "new 1 (a u8)"),
            ("new 7 a u8", "new 7 (a u8)"),
            ("default", "whole-key 1 (key rest)"),
            ("default key rest", "whole-key 1 (key rest)"),
            ("redis-meta", "redis-meta 1 (ns u16, slot u16, key rest)"),
            ("mvcc 1 key escaped, ts u64 desc", "mvcc 1 (key escaped, ts u64 desc)"),
        ] {
            assert_eq!(choose(&known, text), wanted, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_way_out() {
        let known = known(&[
            ("events", u32::MAX, "a u8, rest"),
            ("twice", 1, "a u8, rest"),
            ("twice", 1, "b u8, rest"),
        ]);
        for (text, wanted) in [
            (
                "none",
                "ERR there is no key schema 'none'; there are: default, events, mvcc, redis-data, \
                 redis-expire, redis-meta, redis-score, twice; or write its fields behind the name",
            ),
            (
                "events 1",
                "ERR there is no version 1 of key schema 'events'; there are: 4294967295; or write \
                 its fields behind the name",
            ),
            ("events a u16", "ERR key schema 'events' has no versions left: rename it"),
            (
                "events 4294967295 b u8",
                "ERR key schema 'events' version 4294967295 has the fields a u8, rest: leave the \
                 version out to make the next one",
            ),
            ("twice", "ERR there are 2 key schemas 'twice' version 1: write the fields too"),
            (
                "redis-meta 2 ns u16, rest",
                "ERR key schema 'redis-meta' is built in as version 1 with the fields ns u16, slot \
                 u16, key rest: give yours another name",
            ),
            (
                "whole-key 2 key rest",
                "ERR key schema 'whole-key' is built in as version 1 with the fields key rest: give \
                 yours another name",
            ),
        ] {
            assert_eq!(choose(&known, text), wanted, "{text}");
        }
        assert!(choose(&known, "x a u24").contains("use one of u8"));
        assert!(choose(&known, "9x a u8").contains("not a name"));
        assert_eq!(choose(&known, "twice b u8, rest"), "twice 1 (b u8, rest)");
    }
}
