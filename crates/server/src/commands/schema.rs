//! The container SCHEMA: how keys split into columns, family by family and range by range.
//!
//! What reads does so from memory, at once. What changes (SET, and a DRAIN that starts, ends, pauses or
//! goes on) writes the manifest, so it runs on the thread for short jobs (`jobs.rs`) and its connection
//! waits; no other one does. A drain itself is the engine's: it goes on in the background and over
//! restarts, and nobody waits for it.

use std::sync::Arc;

use sluicedb::{DrainStatus, KeySchema};

use super::container::{ADMIN, admin_container, help as write_help, row};
use super::maintenance::answer_from_job;
use super::memtable_args::families;
use super::schema_args::{Action, Named, range, schema_text};
use super::schema_choice::Known;
use super::schema_report as report;
use crate::answer::Answer;
use crate::command::{Args, CmdError, CmdResult, Command, Flags};
use crate::exec::{Call, engine_error};
use crate::log::Level;
use crate::shared::Shared;

const GROUP: &str = "server";
/// Replies that come from a job cannot be part of EXEC's.
const WAITS: Flags = ADMIN.and(Flags::NO_MULTI);
const COST: &str = "O(N) where N is the number of tables";

#[rustfmt::skip]
pub(crate) const COMMANDS: &[Command] = &[
    admin_container("schema", GROUP, "7.0.0", "A container for commands about key schemas."),
];

#[rustfmt::skip]
pub(crate) const SUBCOMMANDS: &[(&str, Command)] = &[
    ("schema", row(("list", 2, ADMIN), GROUP, "7.0.0",
        "Lists the key schemas in use, with what is stored under each.", COST, list)),
    ("schema", row(("info", -3, ADMIN), GROUP, "7.0.0",
        "Returns the versions, fields and ranges of a key schema.", COST, info)),
    ("schema", row(("tables", -3, ADMIN), GROUP, "7.0.0",
        "Lists the tables that are written under a key schema.", COST, tables)),
    ("schema", row(("set", -6, WAITS), GROUP, "7.0.0",
        "Changes the key schema of a range of keys for all tables written from now on.",
        "O(N) where N is the number of ranges, on another thread", set)),
    ("schema", row(("drain", -3, WAITS), GROUP, "7.0.0",
        "Rewrites the tables that are left under a key schema, in the background.",
        "O(N) where N is the number of tables, on another thread", drain)),
    ("schema", row(("help", 2, ADMIN), GROUP, "7.0.0",
        "Returns helpful text about the different subcommands.", "O(1)", help)),
];

fn list(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    let db = &call.worker.shared.db;
    let drains = db.drains();
    let rows = db.schema_usage().iter().map(|usage| report::usage(usage, &drains)).collect();
    call.answer(&Answer::Array(rows));
    Ok(())
}

/// `SCHEMA INFO name [version]`.
fn info(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let named = Named::parse(&args[2..])?;
    let db = &call.worker.shared.db;
    let known = Known::of(db);
    let schemas = known.named(&named)?;
    let answer = report::info(db, &schemas, &known);
    call.answer(&answer);
    Ok(())
}

/// `SCHEMA TABLES name [version]`.
fn tables(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let named = Named::parse(&args[2..])?;
    let db = &call.worker.shared.db;
    let schemas = Known::of(db).named(&named)?;
    // The engine goes by the name that tables have.
    let tables = db.schema_tables(schemas[0].name());
    let of_these = tables.iter().filter(|table| schemas.iter().any(|s| s.id() == table.id));
    let rows = of_these.map(report::table).collect();
    call.answer(&Answer::Array(rows));
    Ok(())
}

/// `SCHEMA SET cf range-start range-end text`.
fn set(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let shared = Arc::clone(&call.worker.shared);
    let cf = families(&shared.db, &args[2..3])?.remove(0);
    let (start, end) = range(args[3], args[4])?;
    let text = schema_text(&args[5..])?;
    // Refused here when it is refused at all: what follows waits for a thread.
    Known::of(&shared.db).choose(&text)?;
    answer_from_job(call, move || {
        // Again, behind the changes that were before this one: the version counts on from theirs.
        let schema = Known::of(&shared.db).choose(&text)?;
        let id = schema.id();
        let answer = report::chosen(cf.name(), &schema);
        shared
            .keyspace
            .choose_key_schema(&cf, &start, end.as_deref(), schema)
            .map_err(|error| engine_error(&error))?;
        let end = match &end {
            Some(end) => format!("to before \"{}\"", end.escape_ascii()),
            None => "on".to_owned(),
        };
        let (name, start) = (cf.name(), start.escape_ascii());
        let text = format!(
            "column family '{name}': keys from \"{start}\" {end} are written under {id} now"
        );
        shared.note(Level::Notice, &text);
        Ok(answer)
    })
}

/// `SCHEMA DRAIN name [version] [PAUSE|RESUME|CANCEL|STATUS]`.
fn drain(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let (named, action) = Named::parse_with_action(&args[2..])?;
    let shared = Arc::clone(&call.worker.shared);
    Known::of(&shared.db).named(&named)?;
    answer_from_job(call, move || {
        let schemas = Known::of(&shared.db).named(&named)?;
        let drains = match action {
            Action::Start => start_drains(&shared, &named, &schemas)?,
            Action::Status => drains_of(&shared, &schemas),
            Action::Pause | Action::Resume | Action::Cancel => {
                change_drains(&shared, action, &schemas)?
            }
        };
        Ok(report::drains(&drains))
    })
}

type Schemas = [Arc<KeySchema>];

fn drains_of(shared: &Shared, schemas: &Schemas) -> Vec<DrainStatus> {
    let mut drains = shared.db.drains();
    drains.retain(|drain| schemas.iter().any(|schema| schema.id() == drain.id));
    drains
}

/// Drains every version that no range is written under any more, in every family that has tables of
/// it. A version that is in use is an error only when it alone was asked for: then there is nothing
/// else to drain.
fn start_drains(
    shared: &Shared,
    named: &Named,
    schemas: &Schemas,
) -> Result<Vec<DrainStatus>, CmdError> {
    let usage = shared.db.schema_usage();
    let mut in_use = None;
    let mut begun = Vec::new();
    for usage in usage.iter().filter(|usage| schemas.iter().any(|s| s.id() == usage.id)) {
        let Some(cf) = shared.db.column_family(&usage.cf) else { continue };
        if shared.db.key_schemas(&cf).iter().any(|range| range.schema.id() == usage.id) {
            in_use = Some(usage);
            continue;
        }
        let status = shared.db.drain_schema(&cf, &usage.id);
        begun.push(status.map_err(|error| engine_error(&error))?);
        let text = format!("draining {} from column family '{}'", usage.id, usage.cf);
        shared.note(Level::Notice, &text);
    }
    match in_use {
        Some(usage) if begun.is_empty() => Err(CmdError::new(format!(
            "ERR column family '{}' is written under {} now: SCHEMA SET another key schema for its \
             ranges first, then drain what is left (SCHEMA INFO {} shows the ranges)",
            usage.cf, usage.id, named.name
        ))),
        _ => Ok(begun),
    }
}

fn change_drains(
    shared: &Shared,
    action: Action,
    schemas: &Schemas,
) -> Result<Vec<DrainStatus>, CmdError> {
    let mut changed = Vec::new();
    for drain in drains_of(shared, schemas) {
        let Some(cf) = shared.db.column_family(&drain.cf) else { continue };
        let status = match action {
            Action::Pause => shared.db.pause_drain(&cf, &drain.id),
            Action::Resume => shared.db.resume_drain(&cf, &drain.id),
            _ => shared.db.cancel_drain(&cf, &drain.id),
        };
        changed.push(status.map_err(|error| engine_error(&error))?);
    }
    if changed.is_empty() {
        let name = schemas[0].public_name();
        return Err(CmdError::new(format!("ERR no drain of '{name}' is under way")));
    }
    Ok(changed)
}

fn help(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    write_help(
        call,
        "SCHEMA",
        &[
            "LIST",
            "    Return the key schemas in use: column family, identity, fields, ranges, tables,",
            "    bytes, entries.",
            "INFO <name> [version]",
            "    Return the versions of a key schema, their fields, and where each is in use.",
            "TABLES <name> [version]",
            "    Return the tables written under a key schema, with level, size and key range.",
            "SET <cf> <start> <end> <text>",
            "    Write keys from <start> to before <end> under another key schema from now on.",
            "    Tables that are there stay readable as they are. <start>: - or an empty string is",
            "    the first key. <end>: + or an empty string is behind the last one. <text>: the",
            "    name of a key schema, [its version], [its fields], such as",
            "    events tenant escaped, ts u64 desc, rest. Without fields: one that is known.",
            "    Without a version: the one that has these fields, or the next.",
            "DRAIN <name> [version] [PAUSE|RESUME|CANCEL|STATUS]",
            "    Rewrite what is left under a key schema that no range is written under any more,",
            "    in the background; hold that, go on, give it up; or return how far it is. Returns",
            "    a row for each column family; none where no table is under it and none is written.",
        ],
    )
}
