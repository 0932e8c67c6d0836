//! FLUSHMEMTABLE and the container MEMTABLE: the gate between memory and disk, by hand.
//!
//! A flush never holds up this thread: the engine hands out a ticket, the connection waits for it
//! (`answer.rs`), everything else goes on. A wait that ends, by its TIMEOUT or because the client has
//! gone, never cancels a flush.

use std::borrow::Cow;

use sluice_resp::parse_i64;
use sluicedb::{FlushReason, FlushReport, FlushRequest, FlushTicket, Position};

use super::container::{ADMIN, admin_container, help as write_help, row};
use super::memtable_args::{families, flush_args, optional_timeout, shown};
use super::memtable_report as report;
use crate::answer::{Answer, Limit, Outcome};
use crate::command::{Args, CmdError, CmdResult, Command, Flags};
use crate::exec::{Call, engine_error};
use crate::tickets::Found;

const GROUP: &str = "server";
/// Replies that wait cannot be part of EXEC's.
const WAITS: Flags = ADMIN.and(Flags::NO_MULTI);
const FLUSH_COST: &str = "O(N) where N is the number of entries in memory, on other threads";

#[rustfmt::skip]
pub(crate) const COMMANDS: &[Command] = &[
    row(("flushmemtable", -1, WAITS), GROUP, "7.0.0",
        "Writes the memtables to disk as tables.", FLUSH_COST, flushmemtable),
    admin_container("memtable", GROUP, "7.0.0", "A container for commands about memtables."),
];

#[rustfmt::skip]
pub(crate) const SUBCOMMANDS: &[(&str, Command)] = &[
    ("memtable", row(("flush", -2, WAITS), GROUP, "7.0.0",
        "Writes the memtables to disk as tables and reports what was written.", FLUSH_COST, flush)),
    ("memtable", row(("wait", -3, WAITS), GROUP, "7.0.0",
        "Waits until a flush is done or a position is in tables.", "O(1)", wait)),
    ("memtable", row(("list", 2, ADMIN), GROUP, "7.0.0",
        "Lists the memtables in memory.", "O(N) where N is the number of memtables", list)),
    ("memtable", row(("info", -2, ADMIN), GROUP, "7.0.0",
        "Returns how much of each column family is only in memory.",
        "O(N) where N is the number of tables", info)),
    ("memtable", row(("pause", 2, ADMIN), GROUP, "7.0.0",
        "Holds automatic flushes back.", "O(1)", pause)),
    ("memtable", row(("resume", 2, ADMIN), GROUP, "7.0.0",
        "Lets automatic flushes go on.", "O(1)", resume)),
    ("memtable", row(("help", 2, ADMIN), GROUP, "7.0.0",
        "Returns helpful text about the different subcommands.", "O(1)", help)),
];

/// `FLUSHMEMTABLE [ASYNC] [CF name [name ...]] [TIMEOUT ms] [REPORT]`.
fn flushmemtable(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    run_flush(call, &args[1..], false)
}

/// `MEMTABLE FLUSH ...`: the same, and reports without being asked.
fn flush(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    run_flush(call, &args[2..], true)
}

fn run_flush(call: &mut Call<'_>, args: &Args<'_>, reports: bool) -> CmdResult {
    let options = flush_args(args)?;
    let reports = reports || options.report;
    let shared = std::sync::Arc::clone(&call.worker.shared);
    let cfs = families(&shared.db, &options.families)?;
    if options.is_async && reports && !shared.tickets.has_room() {
        return Err(CmdError::new(
            "ERR too many flushes are under way to give out another ticket: MEMTABLE WAIT for one",
        ));
    }
    // `allow_stall`: a full queue of sealed memtables takes this one too, instead of making this
    // thread and all its connections wait for room. It stays bounded: writes are stalled by then.
    let request =
        FlushRequest { cfs, reason: FlushReason::Manual, allow_stall: true, deadline: None };
    let ticket = shared.db.flush(request).map_err(|error| engine_error(&error))?;
    if options.is_async {
        let reply = match reports {
            true => report::ticket(shared.tickets.add(ticket.clone()), &ticket),
            false => Answer::Ok,
        };
        call.answer(&reply);
        return Ok(());
    }
    let again = ticket.position().to_string();
    wait_for_flush(call, &ticket, (options.timeout_ms, &again), reports)
}

/// Replies with the end of a flush; `again`: what MEMTABLE WAIT takes to go on waiting.
fn wait_for_flush(
    call: &mut Call<'_>,
    ticket: &FlushTicket,
    (timeout_ms, again): (u64, &str),
    reports: bool,
) -> CmdResult {
    let outcome = move |result: sluicedb::Result<FlushReport>| -> Outcome {
        let report = result.map_err(|error| engine_error(&error))?;
        Ok(if reports { report::report(&report) } else { Answer::Ok })
    };
    if let Some(result) = ticket.poll() {
        call.answer(&outcome(result)?);
        return Ok(());
    }
    let late = Err(timed_out(timeout_ms, again));
    let answerer = call.wait_for(Some(Limit { ms: timeout_ms, late }))?;
    ticket.on_done(move |result| answerer.send(outcome(result)));
    Ok(())
}

fn timed_out(ms: u64, again: &str) -> CmdError {
    CmdError::new(format!(
        "TIMEOUT the flush has not finished within {ms} ms; it goes on (MEMTABLE WAIT {again})"
    ))
}

/// `MEMTABLE WAIT ticket|position [TIMEOUT ms]`: a ticket's report, or the position.
fn wait(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let timeout_ms = optional_timeout(&args[3..])?;
    let text = shown(args[2]);
    if text.contains(':') {
        let position: Position = text.parse().map_err(|error| engine_error(&error))?;
        return wait_for_position(call, position, timeout_ms);
    }
    let number = parse_i64(args[2]).and_then(|number| u64::try_from(number).ok());
    let number = number.ok_or(CmdError::new(
        "ERR give the number of a ticket, as FLUSHMEMTABLE ASYNC REPORT returns it, or a position, \
         epoch:seq, as INFO persistence shows it",
    ))?;
    match call.worker.shared.tickets.find(number) {
        Found::Ticket(ticket) => wait_for_flush(call, &ticket, (timeout_ms, &text), true),
        Found::Forgotten => Err(CmdError::new(format!(
            "ERR ticket {number} has ended and its report is forgotten; to be sure of a position, \
             MEMTABLE WAIT for it"
        ))),
        Found::Unknown => Err(CmdError::new(format!(
            "ERR ticket {number} was not given out by this server since it started"
        ))),
    }
}

/// Until tables cover the position in every column family. Starts no flush.
fn wait_for_position(call: &mut Call<'_>, position: Position, timeout_ms: u64) -> CmdResult {
    let db = call.worker.shared.db.clone();
    let positions = db.positions();
    if position.epoch != positions.visible.epoch {
        return Err(CmdError::new(format!(
            "ERR position {position} is of another opening of the database than this one, {}: what \
             was kept of it is known since the start",
            positions.visible.epoch
        )));
    }
    if position.seq > positions.visible.seq {
        return Err(CmdError::new(format!(
            "ERR position {position} is not written yet; the last one is {}",
            positions.visible
        )));
    }
    if position.seq <= positions.flushed.seq {
        call.answer(&Answer::text(positions.flushed));
        return Ok(());
    }
    let late = Err(timed_out(timeout_ms, &position.to_string()));
    let answerer = call.wait_for(Some(Limit { ms: timeout_ms, late }))?;
    call.end_wait_with_client();
    db.on_flushed(
        position,
        Box::new(move |result| {
            answerer.send(result.map(Answer::text).map_err(|error| engine_error(&error)));
        }),
    );
    Ok(())
}

fn list(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    let memtables = call.worker.shared.db.memtables();
    call.answer(&Answer::Array(memtables.iter().map(report::memtable).collect()));
    Ok(())
}

/// `MEMTABLE INFO [cf]`.
fn info(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let db = call.worker.shared.db.clone();
    let (stats, memtables) = (db.stats(), db.memtables());
    let answer = match &args[2..] {
        [] => {
            let of = |name: &str| {
                let family = report::family(&db, &stats, &memtables, name)?;
                Some((Cow::Owned(name.to_owned()), family))
            };
            let positions = db.positions();
            Answer::map([
                ("flushes_paused", Answer::number(db.flushes_paused().into())),
                ("memtable_bytes", Answer::number(stats.memtable_bytes)),
                ("visible", Answer::text(positions.visible)),
                ("durable", Answer::text(positions.durable)),
                ("flushed", Answer::text(positions.flushed)),
                (
                    "column_families",
                    Answer::Map(stats.cfs.iter().filter_map(|cf| of(&cf.name)).collect()),
                ),
            ])
        }
        [name] => {
            // First the error that names the families there are.
            let cf = families(&db, &[name])?.remove(0);
            report::family(&db, &stats, &memtables, cf.name()).ok_or(CmdError::SYNTAX)?
        }
        _ => return Err(crate::exec::wrong_arity("memtable|info")),
    };
    call.answer(&answer);
    Ok(())
}

fn pause(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    call.worker.shared.db.pause_flushes();
    let text = "automatic flushes are paused; writes stall when the memtables are full";
    call.worker.shared.note(crate::log::Level::Warning, text);
    call.reply.ok();
    Ok(())
}

fn resume(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    call.worker.shared.db.resume_flushes();
    call.worker.shared.note(crate::log::Level::Notice, "automatic flushes go on");
    call.reply.ok();
    Ok(())
}

fn help(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    write_help(
        call,
        "MEMTABLE",
        &[
            "FLUSH [ASYNC] [CF name [name ...]] [TIMEOUT ms] [REPORT]",
            "    Write the memtables of all or of some column families as tables, and report what",
            "    was written. ASYNC: return a ticket and a position at once. CF: take names until",
            "    the next option; a name directly behind CF is always a name. TIMEOUT: end the",
            "    wait after so many milliseconds (0: never); the flush goes on.",
            "WAIT <ticket|position> [TIMEOUT ms]",
            "    Wait for the flush of a ticket, or until tables cover a position. Starts no flush.",
            "LIST",
            "    Return every memtable: column family, state, bytes, entries, positions, age.",
            "INFO [cf]",
            "    Return how much is only in memory, for each column family or for one.",
            "PAUSE",
            "    Hold automatic flushes back. Writes stall once the memtables are full.",
            "RESUME",
            "    Let automatic flushes go on.",
        ],
    )
}
