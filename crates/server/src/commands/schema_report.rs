//! What SCHEMA replies, as values. Field names are part of the interface: they are added to, never
//! changed.

use std::borrow::Cow;
use std::sync::Arc;

use sluicedb::{Db, DrainStatus, KeySchema, SchemaId, SchemaTable, SchemaUsage};

use super::schema_choice::Known;
use crate::answer::Answer;

fn hash(id: &SchemaId) -> Answer {
    Answer::Bulk(format!("{:016x}", id.hash))
}

fn key(bytes: &[u8]) -> Answer {
    Answer::Bytes(bytes.to_vec())
}

fn drain_of<'a>(drains: &'a [DrainStatus], cf: &str, id: &SchemaId) -> Option<&'a DrainStatus> {
    drains.iter().find(|drain| drain.cf == cf && drain.id == *id)
}

/// One row of SCHEMA LIST.
pub(super) fn usage(usage: &SchemaUsage, drains: &[DrainStatus]) -> Answer {
    let drain = drain_of(drains, &usage.cf, &usage.id);
    Answer::map([
        ("column_family", Answer::text(&usage.cf)),
        ("name", Answer::text(usage.schema.public_name())),
        ("version", Answer::number(usage.id.version.into())),
        ("hash", hash(&usage.id)),
        ("fields", Answer::text(&usage.schema)),
        ("ranges", Answer::number(usage.ranges)),
        ("tables", Answer::number(usage.tables)),
        ("bytes", Answer::number(usage.bytes)),
        ("entries", Answer::number(usage.entries)),
        ("drain", Answer::optional(drain, |drain| Answer::text(drain.state.name()))),
    ])
}

/// What SCHEMA INFO says of the versions of one name.
pub(super) fn info(db: &Db, schemas: &[Arc<KeySchema>], known: &Known) -> Answer {
    let (usage, drains) = (db.schema_usage(), db.drains());
    let of_version = |schema: &Arc<KeySchema>| {
        let id = schema.id();
        let families = usage
            .iter()
            .filter(|usage| usage.id == id)
            .map(|usage| (Cow::Owned(usage.cf.clone()), family(db, usage, &drains)));
        Answer::map([
            ("version", Answer::number(id.version.into())),
            ("hash", hash(&id)),
            ("fields", Answer::text(schema)),
            ("column_families", Answer::Map(families.collect())),
        ])
    };
    Answer::map([
        ("name", Answer::text(schemas[0].public_name())),
        ("built_in", Answer::number(known.is_built_in(&schemas[0]).into())),
        ("versions", Answer::Array(schemas.iter().map(of_version).collect())),
    ])
}

fn family(db: &Db, usage: &SchemaUsage, drains: &[DrainStatus]) -> Answer {
    let all = db.column_family(&usage.cf).map(|cf| db.key_schemas(&cf)).unwrap_or_default();
    let own = all.iter().filter(|range| range.schema.id() == usage.id);
    let range = |range: &sluicedb::SchemaRange| {
        let end = Answer::optional(range.end.as_deref(), key);
        Answer::map([("start", key(&range.start)), ("end", end)])
    };
    Answer::map([
        ("ranges", Answer::Array(own.map(range).collect())),
        ("tables", Answer::number(usage.tables)),
        ("bytes", Answer::number(usage.bytes)),
        ("entries", Answer::number(usage.entries)),
        ("drain", Answer::optional(drain_of(drains, &usage.cf, &usage.id), drain)),
    ])
}

/// One row of SCHEMA TABLES.
pub(super) fn table(table: &SchemaTable) -> Answer {
    Answer::map([
        ("column_family", Answer::text(&table.cf)),
        ("version", Answer::number(table.id.version.into())),
        ("hash", hash(&table.id)),
        ("level", Answer::number(table.level.0.into())),
        ("file", Answer::number(table.file.0)),
        ("bytes", Answer::number(table.bytes)),
        ("entries", Answer::number(table.entries)),
        ("smallest", key(&table.smallest)),
        ("largest", key(&table.largest)),
    ])
}

/// What SCHEMA SET made of its text.
pub(super) fn chosen(cf: &str, schema: &KeySchema) -> Answer {
    let id = schema.id();
    Answer::map([
        ("column_family", Answer::text(cf)),
        ("name", Answer::text(schema.public_name())),
        ("version", Answer::number(id.version.into())),
        ("hash", hash(&id)),
        ("fields", Answer::text(schema)),
    ])
}

fn drain(status: &DrainStatus) -> Answer {
    Answer::map([
        ("column_family", Answer::text(&status.cf)),
        ("version", Answer::number(status.id.version.into())),
        ("hash", hash(&status.id)),
        ("state", Answer::text(status.state.name())),
        ("tables_left", Answer::number(status.tables_left)),
        ("bytes_left", Answer::number(status.bytes_left)),
        ("tables_done", Answer::number(status.tables_done)),
        ("bytes_done", Answer::number(status.bytes_done)),
    ])
}

/// What SCHEMA DRAIN replies.
pub(super) fn drains(drains: &[DrainStatus]) -> Answer {
    Answer::Array(drains.iter().map(drain).collect())
}
