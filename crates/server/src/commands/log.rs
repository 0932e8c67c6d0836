//! The container WAL, FLUSHWAL, WAITAOF: the log by hand.
//!
//! A sync is asked for and answered by the log's own thread; nothing here waits for a disk.

use std::sync::Arc;

use sluice_resp::parse_i64;
use sluicedb::{Ack, LogInfo, LogSegment};

use super::container::{ADMIN, admin_container, help as write_help, row};
use super::maintenance::answer_from_job;
use super::memtable_args::timeout;
use crate::answer::{Answer, Limit, is_durable};
use crate::command::{Args, CmdError, CmdResult, Command, Flags};
use crate::exec::{Call, engine_error};

const GROUP: &str = "server";
const WAITS: Flags = ADMIN.and(Flags::NO_MULTI);

#[rustfmt::skip]
pub(crate) const COMMANDS: &[Command] = &[
    admin_container("wal", GROUP, "7.0.0", "A container for commands about the write-ahead log."),
    row(("flushwal", 1, WAITS), GROUP, "7.0.0",
        "Syncs the write-ahead log to disk.", "O(1)", sync),
    row(("waitaof", 4, Flags::BLOCKING), "generic", "7.2.0",
        "Blocks until all of the preceding write commands sent by the connection are written to the append-only file of the master and/or replicas.",
        "O(1)", waitaof),
];

#[rustfmt::skip]
pub(crate) const SUBCOMMANDS: &[(&str, Command)] = &[
    ("wal", row(("sync", 2, WAITS), GROUP, "7.0.0",
        "Syncs the write-ahead log to disk.", "O(1)", sync)),
    ("wal", row(("info", 2, ADMIN), GROUP, "7.0.0",
        "Returns the state of the write-ahead log.", "O(N) where N is the number of segments", info)),
    ("wal", row(("rotate", 2, WAITS), GROUP, "7.0.0",
        "Ends the segment in use of the write-ahead log and begins the next.", "O(1)", rotate)),
    ("wal", row(("help", 2, ADMIN), GROUP, "7.0.0",
        "Returns helpful text about the different subcommands.", "O(1)", help)),
];

/// A barrier: replies with the durable position once everything logged before is synced.
fn sync(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    let answerer = call.wait_for(None)?;
    let db = &call.worker.shared.db;
    let visible = db.positions().visible;
    db.on_durable(
        visible,
        Box::new(move |result| {
            // The log's end is durable now. How far that reaches is asked for when the reply is
            // written: what was never logged (`appendonly no`) is not in it.
            answerer.send(result.map(|_| Answer::Durable).map_err(|error| engine_error(&error)));
        }),
    );
    Ok(())
}

/// `WAITAOF numlocal numreplicas timeout`, about the connection's own last write. There are no
/// replicas: a count of them above zero waits for its timeout, as in Redis without any.
fn waitaof(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let local = parse_i64(args[1]).ok_or(CmdError::NOT_INTEGER)?;
    if !(0..=1).contains(&local) {
        return Err(CmdError::new("ERR value is out of range, value must between 0 and 1"));
    }
    let replicas = parse_i64(args[2])
        .filter(|count| *count >= 0)
        .ok_or(CmdError::new("ERR value is out of range, must be positive"))?;
    let ms = timeout(args[3])?;
    let write = call.session.last_write;
    if local == 1 {
        // A connection that asked for logged writes has a log to wait for, `appendonly` or not.
        let is_logged = call.session.ack.level(&call.worker.settings) > Ack::Memory;
        if !call.worker.settings.log && !is_logged {
            return Err(CmdError::new(
                "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
            ));
        }
        if write.is_some_and(|(_, level)| level == Ack::Memory) {
            return Err(CmdError::new(
                "ERR WAITAOF cannot be used when numlocal is set but the connection's last write \
                 was not logged (CLIENT ACK, appendonly): FLUSHMEMTABLE makes it durable.",
            ));
        }
    }
    let position = write.map(|(position, _)| position);
    let is_local = is_durable(&call.worker.shared, position);
    if (replicas == 0 && (local == 0 || is_local)) || !call.may_wait {
        call.answer(&Answer::LocalAck(position));
        return Ok(());
    }
    let answerer = call.wait_for(Some(Limit { ms, late: Ok(Answer::LocalAck(position)) }))?;
    if replicas > 0 {
        call.end_wait_with_client();
    }
    let Some(position) = position.filter(|_| !is_local) else {
        answerer.leave_to_deadline();
        return Ok(());
    };
    call.worker.shared.db.on_durable(
        position,
        Box::new(move |result| match result {
            // Not `LocalAck`: that asks for everything before the position too, and others may
            // have written without a log.
            Ok(_) if replicas == 0 => {
                answerer.send(Ok(Answer::Array(vec![Answer::Integer(1), Answer::Integer(0)])));
            }
            Ok(_) => answerer.leave_to_deadline(),
            Err(error) => answerer.send(Err(engine_error(&error))),
        }),
    );
    Ok(())
}

fn segment(segment: &LogSegment) -> Answer {
    let positions = segment.positions;
    Answer::map([
        ("number", Answer::number(segment.number.0)),
        ("bytes", Answer::number(segment.bytes)),
        ("capacity", Answer::number(segment.capacity)),
        ("first", Answer::optional(positions, |(first, _)| Answer::text(first))),
        ("last", Answer::optional(positions, |(_, last)| Answer::text(last))),
        ("sealed", Answer::number(segment.sealed.into())),
    ])
}

fn describe(log: &LogInfo) -> Answer {
    let age_ms = log.unsynced_age.map(|age| age.as_millis() as u64);
    Answer::map([
        ("segments", Answer::number(log.segments.len() as u64)),
        ("bytes", Answer::number(log.segments.iter().map(|segment| segment.bytes).sum())),
        ("appended", Answer::text(log.appended)),
        ("written", Answer::text(log.written)),
        ("durable", Answer::text(log.durable)),
        ("unsynced_bytes", Answer::number(log.unsynced_bytes)),
        ("unsynced_age_ms", Answer::optional(age_ms, Answer::number)),
        ("batches", Answer::number(log.frames)),
        ("writes", Answer::number(log.writes)),
        ("bytes_written", Answer::number(log.bytes_written)),
        ("syncs", Answer::number(log.syncs)),
        ("sync_p50_us", Answer::number(log.sync_us.percentile(50.0))),
        ("sync_p99_us", Answer::number(log.sync_us.percentile(99.0))),
        ("sync_max_us", Answer::number(log.sync_us.max())),
        ("batches_per_sync_p50", Answer::number(log.group.percentile(50.0))),
        ("failures", Answer::number(log.failures)),
        ("rotations", Answer::number(log.rotations)),
        ("rotations_unprepared", Answer::number(log.rotations_unprepared)),
        ("segments_created", Answer::number(log.segments_created)),
        ("segments_recycled", Answer::number(log.segments_recycled)),
        ("failed", Answer::optional(log.failed.as_ref(), Answer::text)),
        ("segment_list", Answer::Array(log.segments.iter().map(segment).collect())),
    ])
}

fn info(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    let log = call.worker.shared.db.log_info();
    call.answer(&describe(&log));
    Ok(())
}

/// Replies with the segment that is in use now and the last position of those before it.
fn rotate(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    let shared = Arc::clone(&call.worker.shared);
    answer_from_job(call, move || {
        shared.db.rotate_log().map_err(|error| engine_error(&error))?;
        let log = shared.db.log_info();
        let active = log.segments.last().map_or(0, |segment| segment.number.0);
        let sealed = log.segments.iter().rev().filter(|segment| segment.sealed);
        let last = sealed.filter_map(|segment| segment.positions).map(|(_, last)| last).next();
        Ok(Answer::map([
            ("segment", Answer::number(active)),
            ("sealed_to", Answer::optional(last, Answer::text)),
        ]))
    })
}

fn help(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    write_help(
        call,
        "WAL",
        &[
            "SYNC",
            "    Sync everything logged before; return the position up to which all is durable.",
            "INFO",
            "    Return segments, positions, unsynced bytes and their age, sync latencies.",
            "ROTATE",
            "    End the segment in use and begin the next; a flush can then release the old one.",
        ],
    )
}
