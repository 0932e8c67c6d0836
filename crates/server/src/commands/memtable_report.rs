//! What FLUSHMEMTABLE and MEMTABLE reply, as values. Field names are part of the interface: they are
//! added to, never changed.

use sluicedb::{Db, FlushReport, FlushTicket, MemtableInfo, Position, Stats};

use crate::answer::Answer;

pub(super) fn report(report: &FlushReport) -> Answer {
    let names = report.cfs.iter().map(Answer::text).collect();
    let files = report.files.iter().map(|file| Answer::number(file.0)).collect();
    Answer::map([
        ("reason", Answer::text(report.reason)),
        ("column_families", Answer::Array(names)),
        ("position", Answer::text(report.position)),
        ("entries", Answer::number(report.entries)),
        ("entries_dropped", Answer::number(report.entries_dropped)),
        ("bytes_in", Answer::number(report.bytes_in)),
        ("bytes_out", Answer::number(report.bytes_out)),
        ("files", Answer::Array(files)),
        ("wal_bytes_released", Answer::number(report.wal_bytes_released)),
        ("queued_us", Answer::number(report.queued.as_micros() as u64)),
        ("took_us", Answer::number(report.took.as_micros() as u64)),
    ])
}

/// The reply of `ASYNC REPORT`.
pub(super) fn ticket(number: u64, ticket: &FlushTicket) -> Answer {
    Answer::map([("ticket", Answer::number(number)), ("position", Answer::text(ticket.position()))])
}

fn position(position: Option<Position>) -> Answer {
    Answer::optional(position, Answer::text)
}

/// One row of MEMTABLE LIST.
pub(super) fn memtable(info: &MemtableInfo) -> Answer {
    Answer::map([
        ("column_family", Answer::text(&info.cf)),
        ("id", Answer::number(info.id)),
        ("state", Answer::text(info.state.name())),
        ("bytes", Answer::number(info.bytes)),
        ("allocated_bytes", Answer::number(info.allocated_bytes)),
        ("entries", Answer::number(info.entries)),
        ("tombstones", Answer::number(info.tombstones)),
        ("first", position(info.first)),
        ("cut", position(info.cut)),
        ("age_ms", Answer::optional(info.age, |age| Answer::number(age.as_millis() as u64))),
        ("reason", Answer::optional(info.reason, Answer::text)),
    ])
}

/// What MEMTABLE INFO says of one column family; `None` where there is none of that name.
pub(super) fn family(
    db: &Db,
    stats: &Stats,
    memtables: &[MemtableInfo],
    name: &str,
) -> Option<Answer> {
    let cf = stats.cfs.iter().find(|cf| cf.name == name)?;
    // Dropped in between: as if it had not been there.
    let flushed = db.column_family(name).and_then(|cf| db.flushed(&cf).ok())?;
    let own = || memtables.iter().filter(|memtable| memtable.cf == name);
    Some(Answer::map([
        ("active_bytes", Answer::number(cf.active_bytes)),
        ("active_entries", Answer::number(cf.active_entries)),
        ("active_tombstones", Answer::number(cf.active_tombstones)),
        ("sealed_memtables", Answer::number(cf.sealed_memtables)),
        ("sealed_bytes", Answer::number(cf.sealed_bytes)),
        ("flushed", Answer::text(flushed)),
        ("oldest_unflushed", position(own().filter_map(|memtable| memtable.first).min())),
        (
            "oldest_unflushed_ms",
            Answer::optional(own().filter_map(|memtable| memtable.age).max(), |age| {
                Answer::number(age.as_millis() as u64)
            }),
        ),
    ]))
}
