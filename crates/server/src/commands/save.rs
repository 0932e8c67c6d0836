//! SAVE, BGSAVE, LASTSAVE: checkpoints (`saves.rs`). SAVE's reply waits for the end; neither makes
//! anything else wait.

use std::sync::Arc;

use super::container::{ADMIN, row};
use crate::answer::Answer;
use crate::command::{Args, CmdError, CmdResult, Command, Flags};
use crate::exec::Call;
use crate::jobs::Refused;
use crate::log::Level;
use crate::shared::Shared;

const GROUP: &str = "server";
const COST: &str = "O(N) where N is the number of entries in memory, on other threads";

#[rustfmt::skip]
pub(crate) const COMMANDS: &[Command] = &[
    row(("save", 1, ADMIN.and(Flags::NO_MULTI)), GROUP, "1.0.0",
        "Makes a checkpoint of the database and waits for it.", COST, save),
    row(("bgsave", -1, ADMIN), GROUP, "1.0.0",
        "Makes a checkpoint of the database in the background.", COST, bgsave),
    row(("lastsave", 1, Flags::LOADING.and(Flags::STALE).and(Flags::FAST)), GROUP, "1.0.0",
        "Returns the Unix timestamp of the last successful save to disk.", "O(1)", lastsave),
];

/// Makes a save on its thread; `done` hears of the outcome there, when the next one may begin. It
/// is under way when this returns, whether the thread runs already or not.
fn start(
    shared: &Arc<Shared>,
    done: impl FnOnce(Result<(), CmdError>) + Send + 'static,
) -> Result<(), CmdError> {
    let busy = || CmdError::new("ERR Background save already in progress");
    let saving = shared.saves.begin(&*shared.clock).ok_or_else(busy)?;
    let shared = Arc::clone(shared);
    let lane = Arc::clone(&shared.jobs.save);
    let job = Box::new(move || {
        let made = saving.run(&shared.db, &*shared.clock);
        match &made {
            Ok(made) => shared.note(
                Level::Notice,
                &format!(
                    "DB saved on disk: position {}, {} tables, {} bytes, {} ms",
                    made.position,
                    made.files,
                    made.bytes,
                    made.took.as_millis()
                ),
            ),
            Err(error) => shared.note(Level::Warning, &format!("saving failed: {error}")),
        }
        done(made.map(drop).map_err(|error| CmdError::new(format!("ERR {error}"))));
    });
    lane.start(job).map_err(|refused| match refused {
        Refused::Busy => busy(),
        Refused::Failed(reason) => CmdError::new(format!("ERR {reason}")),
    })
}

fn save(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    let shared = Arc::clone(&call.worker.shared);
    let answerer = call.wait_for(None)?;
    start(&shared, move |outcome| answerer.send(outcome.map(|()| Answer::Ok))).inspect_err(|_| {
        call.stop_waiting();
    })
}

/// `BGSAVE [SCHEDULE]`: there is no rewriting of a log that a save would have to wait for.
fn bgsave(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    match args {
        [_] => {}
        [_, word] if word.eq_ignore_ascii_case(b"schedule") => {}
        _ => return Err(CmdError::SYNTAX),
    }
    let shared = Arc::clone(&call.worker.shared);
    start(&shared, |_| ())?;
    call.reply.simple("Background saving started");
    Ok(())
}

/// Without a save, as in Redis: when the server started.
fn lastsave(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    let shared = &call.worker.shared;
    let last_ms = shared.saves.state().last_ms.unwrap_or(shared.started_ms);
    call.reply.integer((last_ms / 1000) as i64);
    Ok(())
}
