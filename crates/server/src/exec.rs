//! One command, from arguments to reply: find the row, check, queue or run, count.
//!
//! ```text
//! args ─ find ─ arity ─ auth ─┬─ inside MULTI ──▶ queue, +QUEUED
//!                             ├─ Connection row ▶ handler(Call)            ─┐
//!                             └─ Data row ──────▶ latches, Txn, handler,    ├─ statistics, slow log
//!                                                 commit                   ─┘
//! ```
//!
//! Order of the checks and their texts are Redis's. Nothing here touches a socket, and nothing
//! waits except for a latch that another thread holds for the length of a command.

use sluice_keyspace::LatchSet;
use sluice_resp::ReplyBuf;
use sluicedb::{Ack, ErrorKind, Position, WriteOptions};

use crate::command::{Args, CmdError, Command, Ctx, Flags, Handler, HandlerKind};
pub(crate) use crate::refusal::{engine_error, wrong_arity};
use crate::refusal::{unknown_command, unknown_subcommand};
use crate::registry::{CommandId, Entry, table};
use crate::session::{ReplyMode, Session};
use crate::shared::WorkerContext;

/// What happens to the connection after a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// The reply is complete; go on.
    Next,
    /// Send what there is, then close.
    Close,
    /// Close at once, without a reply.
    Drop,
    /// The command found no memtable room, or no room for a message: nothing of it happened; run it
    /// again later.
    Park,
    /// The reply comes later, as a message with this number; or at this moment, in monotonic
    /// microseconds, from the session.
    Wait { wait: u64, deadline_us: u64 },
    /// The reply is written; the connection's next command runs at this moment at the earliest, in
    /// monotonic microseconds.
    Sleep(u64),
}

/// What a connection command gets.
pub struct Call<'a> {
    pub(crate) worker: &'a mut WorkerContext,
    pub(crate) session: &'a mut Session,
    pub(crate) reply: &'a mut ReplyBuf,
    /// Its own row.
    pub(crate) entry: &'static Entry,
    /// The connection's place in its worker, for messages that come back.
    pub(crate) place: usize,
    /// False where the reply cannot come later: inside EXEC.
    pub(crate) may_wait: bool,
    pub(crate) flow: Flow,
}

impl std::fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("command", &self.entry.full_name).finish_non_exhaustive()
    }
}

/// Runs one command. The arguments are not empty.
pub(crate) fn run(
    worker: &mut WorkerContext,
    session: &mut Session,
    reply: &mut ReplyBuf,
    place: usize,
    args: &Args<'_>,
) -> Flow {
    let start = reply.len();
    if session.reply_mode == ReplyMode::SkipNext {
        session.reply_mode = ReplyMode::Skip;
    }
    let mode_before = session.reply_mode;
    let flow = match accept(worker, session, args) {
        Err(error) => {
            let error = refuse(session, error, args);
            worker.fail(reply, &error);
            Flow::Next
        }
        Ok(entry) if session.multi.is_some() && !runs_inside_multi(entry) => {
            queue(session, reply, entry, args, worker.settings.query_bytes_max)
        }
        Ok(entry) => invoke(worker, session, reply, place, entry, args),
    };
    if let Some(awaited) = &mut session.awaited {
        awaited.silent = matches!(mode_before, ReplyMode::Skip | ReplyMode::Off);
    }
    // A parked command runs again: its reply mode must still be ahead of it.
    match (flow, mode_before) {
        (Flow::Park, ReplyMode::Skip) => session.reply_mode = ReplyMode::SkipNext,
        (Flow::Park, _) => {}
        (_, ReplyMode::Skip) => {
            reply.truncate(start);
            if session.reply_mode == ReplyMode::Skip {
                session.reply_mode = ReplyMode::On;
            }
        }
        (_, ReplyMode::Off) if session.reply_mode == ReplyMode::Off => reply.truncate(start),
        _ => {}
    }
    flow
}

/// The row, when the command may be run or queued.
fn accept(
    worker: &mut WorkerContext,
    session: &Session,
    args: &Args<'_>,
) -> Result<&'static Entry, CmdError> {
    let table = table();
    let Some(mut entry) = table.find(args[0]) else {
        return Err(unknown_command(args));
    };
    if !entry.subcommands.is_empty() && args.len() > 1 {
        entry = table
            .find_subcommand(entry, args[1])
            .ok_or_else(|| unknown_subcommand(entry.row.name, args[1]))?;
    }
    let refused = if !arity_fits(&entry.row, args.len()) {
        wrong_arity(&entry.full_name)
    } else if !session.authenticated && !entry.has(Flags::NO_AUTH) {
        CmdError::new("NOAUTH Authentication required.")
    } else if session.multi.is_some() && entry.has(Flags::NO_MULTI) {
        CmdError::new("ERR Command not allowed inside a transaction")
    } else if session.pubsub.is_some() && crate::commands::pubsub::is_refused(session, entry) {
        crate::commands::pubsub::refusal(&entry.full_name)
    } else {
        return Ok(entry);
    };
    worker.stats.commands[usize::from(entry.id.0)].rejected.add(1);
    Err(refused)
}

/// A refused command spoils its transaction; a refused EXEC ends it.
fn refuse(session: &mut Session, error: CmdError, args: &Args<'_>) -> CmdError {
    session.spoil_transaction();
    if !args[0].eq_ignore_ascii_case(b"exec") {
        return error;
    }
    session.end_transaction();
    let reason = error.0.strip_prefix("ERR ").unwrap_or(&error.0);
    CmdError::new(format!("EXECABORT Transaction discarded because of: {reason}"))
}

pub(crate) fn arity_fits(row: &Command, count: usize) -> bool {
    let wanted = row.arity.unsigned_abs() as usize;
    if row.arity < 0 { count >= wanted } else { count == wanted }
}

/// Inside MULTI these run at once instead of being queued.
fn runs_inside_multi(entry: &Entry) -> bool {
    // `SLOWLOG RESET` is another thing than `RESET`.
    entry.parent.is_none()
        && matches!(entry.row.name, "exec" | "discard" | "multi" | "watch" | "quit" | "reset")
}

fn queue(
    session: &mut Session,
    reply: &mut ReplyBuf,
    entry: &'static Entry,
    args: &Args<'_>,
    bytes_max: usize,
) -> Flow {
    let Some(queue) = &mut session.multi else { return Flow::Next };
    // A spoiled transaction keeps nothing: it can only be refused.
    if !queue.spoiled {
        queue.push(entry.id, args);
    }
    let (count, bytes) = (queue.len(), queue.byte_len());
    session.client.queued.store(count as i64, std::sync::atomic::Ordering::Relaxed);
    session.client.queued_bytes.store(bytes as u64, std::sync::atomic::Ordering::Relaxed);
    if bytes > bytes_max {
        return Flow::Drop;
    }
    reply.simple("QUEUED");
    Flow::Next
}

/// Runs an accepted command now and counts it.
fn invoke(
    worker: &mut WorkerContext,
    session: &mut Session,
    reply: &mut ReplyBuf,
    place: usize,
    entry: &'static Entry,
    args: &Args<'_>,
) -> Flow {
    let start = reply.len();
    let began_us = worker.now_us;
    session.client.last_command.store(entry.id.0, std::sync::atomic::Ordering::Relaxed);
    let (result, flow) = match entry.row.handler {
        HandlerKind::Data(handler) => {
            match run_data(worker, session, reply, entry, handler, args) {
                Err(Stop::Park) => (Ok(()), Flow::Park),
                Err(Stop::Error(error)) => (Err(error), Flow::Next),
                Ok(()) => (Ok(()), Flow::Next),
            }
        }
        HandlerKind::Connection(handler) => {
            let mut call =
                Call { worker, session, reply, entry, place, may_wait: true, flow: Flow::Next };
            let result = handler(&mut call, args);
            let flow = call.flow;
            (result, flow)
        }
    };
    if flow == Flow::Park {
        reply.truncate(start);
        return flow;
    }
    session.stall_deadline_us = None;
    let failed = result.is_err();
    if let Err(error) = result {
        reply.truncate(start);
        worker.fail(reply, &error);
    }
    worker.count(entry, began_us, failed);
    let usec = worker.now_us - began_us;
    let limit = worker.settings.slowlog_us;
    if limit >= 0 && usec >= limit as u64 && !entry.has(Flags::SKIP_SLOWLOG) {
        worker.log_slow(session, usec, args);
    }
    match std::mem::take(&mut worker.pause) {
        pause if pause.is_zero() || flow != Flow::Next => flow,
        pause => {
            worker.stats.delays.add(1);
            worker.stats.delayed_us.add(pause.as_micros() as u64);
            Flow::Sleep(worker.now_us + pause.as_micros() as u64)
        }
    }
}

/// Why a data command has no reply of its own.
pub(crate) enum Stop {
    Error(CmdError),
    Park,
}

/// Adds the latches of all that a command names, read or written. One that only reads needs none
/// for itself: its view is of one moment. In a transaction that writes it does.
pub(crate) fn add_latches(latches: &mut LatchSet, entry: &Entry, args: &Args<'_>) {
    if entry.has(Flags::WHOLE_DB) {
        latches.add_all();
        return;
    }
    for at in entry.row.keys.positions(args.len()) {
        latches.add_key(args[at]);
    }
}

fn run_data(
    worker: &mut WorkerContext,
    session: &mut Session,
    reply: &mut ReplyBuf,
    entry: &'static Entry,
    handler: Handler,
    args: &Args<'_>,
) -> Result<(), Stop> {
    let writes = entry.has(Flags::WRITE);
    if writes {
        worker.latches.clear();
        add_latches(&mut worker.latches, entry, args);
        worker.txn.begin_write(worker.now_ms, &worker.latches);
    } else {
        worker.txn.begin_read(worker.now_ms);
    }
    worker.ran_data = true;
    let mut ctx = Ctx { txn: &mut worker.txn, db: session.db, now_ms: worker.now_ms, reply };
    match handler(&mut ctx, args) {
        Ok(()) if writes => commit(worker, session),
        Ok(()) => {
            worker.txn.end();
            Ok(())
        }
        Err(error) => {
            worker.txn.end();
            Err(Stop::Error(error))
        }
    }
}

/// Commits the worker's transaction at ack `Memory`; the turn's end raises the ack to the level that
/// the server, or the connection for itself, has chosen. A stalled commit parks the connection
/// until its deadline.
pub(crate) fn commit(worker: &mut WorkerContext, session: &mut Session) -> Result<(), Stop> {
    commit_and_hold(worker, session)?;
    worker.txn.end();
    Ok(())
}

/// As [`commit`]; after an `Ok` the caller ends the transaction, which gives back the latches.
pub(crate) fn commit_and_hold(
    worker: &mut WorkerContext,
    session: &mut Session,
) -> Result<(), Stop> {
    let level = session.ack.level(&worker.settings);
    let options = WriteOptions {
        ack: Ack::Memory,
        wal: level > Ack::Memory,
        deadline: Some(std::time::Duration::ZERO),
    };
    match worker.txn.commit_and_hold(&options) {
        Ok(None) => Ok(()),
        Ok(Some(position)) => {
            worker.wrote(position, level);
            // Memory fills faster than it drains: this connection's next command waits a little.
            worker.pause = worker.pause.max(worker.shared.db.throttle());
            session.last_write = Some((position, level));
            Ok(())
        }
        Err(error) => {
            // Nothing of it was kept; the latches go back before anyone waits.
            worker.txn.end();
            match error.kind() {
                ErrorKind::Stalled => stalled(worker, session, &error),
                _ => Err(Stop::Error(engine_error(&error))),
            }
        }
    }
}

/// Parks the command until its deadline; there the reply is the engine's own sentence, which says
/// what is full and what to do.
fn stalled(
    worker: &mut WorkerContext,
    session: &mut Session,
    error: &sluicedb::Error,
) -> Result<(), Stop> {
    worker.stats.stalls.add(1);
    let wait = worker.settings.stall_wait;
    let deadline = *session.stall_deadline_us.get_or_insert_with(|| match wait {
        None => u64::MAX,
        Some(wait) => worker.now_us.saturating_add(wait.as_micros() as u64),
    });
    if worker.now_us < deadline {
        return Err(Stop::Park);
    }
    worker.stats.refusals.add(1);
    Err(Stop::Error(engine_error(error)))
}

impl WorkerContext {
    /// Writes an error reply and counts it.
    pub(crate) fn fail(&mut self, reply: &mut ReplyBuf, error: &CmdError) {
        self.shared.errors.count(&error.0);
        reply.error(&error.0);
    }

    /// A batch was committed: its log bytes and its reply wait for the end of the turn.
    pub(crate) fn wrote(&mut self, position: Position, level: Ack) {
        self.turn_position =
            Some(self.turn_position.map_or(position, |before| before.max(position)));
        self.conn_wrote = self.conn_wrote.max(Some(level));
        self.turn_logged |= level > Ack::Memory;
    }

    /// Counts a command that ran since `began_us`; moves `now_us` to its end.
    #[inline]
    pub(crate) fn count(&mut self, entry: &Entry, began_us: u64, failed: bool) {
        self.now_us = self.clock.monotonic_us();
        let stats = &self.stats.commands[usize::from(entry.id.0)];
        stats.calls.add(1);
        let usec = self.now_us.saturating_sub(began_us);
        stats.usec.add(usec);
        self.executed_us += usec;
        if failed {
            stats.failed.add(1);
        }
        self.stats.processed.add(1);
    }

    #[cold]
    fn log_slow(&mut self, session: &Session, usec: u64, args: &Args<'_>) {
        let name = crate::lock(&session.client.text).name.clone();
        self.shared.slowlog.add(
            self.settings.slowlog_len,
            (self.now_ms / 1000, usec),
            args,
            (session.client.peer.to_string(), name),
        );
    }
}

/// Runs one queued command of a transaction that has begun. Its error becomes its own reply.
pub(crate) fn run_queued(
    worker: &mut WorkerContext,
    session: &mut Session,
    reply: &mut ReplyBuf,
    place: usize,
    (id, args): (CommandId, &Args<'_>),
) -> Flow {
    let entry = table().entry(id);
    let start = reply.len();
    let began_us = worker.now_us;
    let mut flow = Flow::Next;
    let result = match entry.row.handler {
        HandlerKind::Data(handler) => {
            worker.ran_data = true;
            let savepoint = worker.txn.savepoint();
            let (db, now_ms) = (session.db, worker.now_ms);
            let mut ctx = Ctx { txn: &mut worker.txn, db, now_ms, reply };
            let result = handler(&mut ctx, args);
            if result.is_err() {
                // A command that fails half way leaves nothing behind.
                worker.txn.rollback_to(savepoint);
            }
            result
        }
        HandlerKind::Connection(handler) => {
            let mut call =
                Call { worker, session, reply, entry, place, may_wait: false, flow: Flow::Next };
            let result = handler(&mut call, args);
            flow = call.flow;
            result
        }
    };
    let failed = result.is_err();
    if let Err(error) = &result {
        reply.truncate(start);
        worker.fail(reply, error);
    }
    worker.count(entry, began_us, failed);
    flow
}
