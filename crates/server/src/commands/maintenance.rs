//! COMPACT and FLUSHBLOCKCACHE: work on the tables by hand, on threads of its own (`jobs.rs`).

use std::sync::Arc;

use sluicedb::{Db, FlushRequest};

use super::container::{ADMIN, row};
use crate::answer::{Answer, Outcome};
use crate::command::{Args, CmdError, CmdResult, Command, Flags};
use crate::exec::Call;
use crate::jobs::Refused;
use crate::log::Level;

const GROUP: &str = "server";

#[rustfmt::skip]
pub(crate) const COMMANDS: &[Command] = &[
    row(("compact", 1, ADMIN), GROUP, "7.0.0",
        "Compacts all tables in the background.", "O(N) where N is the number of entries, in the background",
        compact),
    row(("flushblockcache", 1, ADMIN.and(Flags::NO_MULTI)), GROUP, "7.0.0",
        "Empties the block cache.", "O(N) where N is the number of cached blocks, on another thread",
        flushblockcache),
];

/// Runs `work` where it may read and write files, and answers with what comes of it.
pub(super) fn answer_from_job(
    call: &mut Call<'_>,
    work: impl FnOnce() -> Outcome + Send + 'static,
) -> CmdResult {
    let answerer = call.wait_for(None)?;
    let lane = Arc::clone(&call.worker.shared.jobs.short);
    let started = lane.start(Box::new(move || answerer.send(work())));
    started.map_err(|refused| {
        call.stop_waiting();
        refusal(refused, "ERR too many commands wait for files already; try again")
    })
}

fn refusal(refused: Refused, busy: &'static str) -> CmdError {
    match refused {
        Refused::Busy => CmdError::new(busy),
        Refused::Failed(reason) => CmdError::new(format!("ERR {reason}")),
    }
}

fn flushblockcache(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    let shared = Arc::clone(&call.worker.shared);
    answer_from_job(call, move || {
        shared.db.clear_block_cache();
        Ok(Answer::Ok)
    })
}

/// `COMPACT`, as Kvrocks has it: all column families, in the background, one at a time. How it went
/// is in the log.
fn compact(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    let shared = Arc::clone(&call.worker.shared);
    let job = Box::new(move || {
        shared.note(Level::Notice, "compacting everything");
        match compact_all(&shared.db) {
            Ok(()) => shared.note(Level::Notice, "compacted everything"),
            Err(error) => {
                shared.note(Level::Warning, &format!("compacting everything failed: {error}"));
            }
        }
    });
    let started = call.worker.shared.jobs.compact.start(job);
    started.map_err(|refused| refusal(refused, "ERR compact in-progress"))?;
    call.reply.ok();
    Ok(())
}

/// Flushes first: what is only in memory is compacted too.
fn compact_all(db: &Db) -> sluicedb::Result<()> {
    let request = FlushRequest { allow_stall: true, ..FlushRequest::default() };
    db.flush(request)?.wait(None)?;
    for cf in db.list_column_families() {
        match db.compact(&cf, None, None) {
            // Dropped in between.
            Err(error) if error.kind() == sluicedb::ErrorKind::NotFound => {}
            outcome => outcome?,
        }
    }
    Ok(())
}
