//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! EXEC takes the latches of every key its commands name, read or written, and of every watched key
//! (of these alone when no command writes), asks the watch list, runs the commands one after the
//! other on one transaction, and commits one batch: all of it is in the log or none of it.
//!
//! Its Pub/Sub commands run after that, while the latches are still held: a message goes out when
//! what it tells of has happened, in the order of the commits, and never for a transaction that did
//! not commit. Data commands do not see the difference; the replies stand in the order of the queue.

use std::sync::atomic::Ordering;

use sluice_resp::Proto;

use crate::command::{Args, CmdError, CmdResult, Command, Flags, HandlerKind, KeySpec};
use crate::exec::{self, Call, Flow, Stop, add_latches};
use crate::refusal::engine_error;
use crate::registry::{CommandId, table};
use crate::session::Queue;

const FLAGS: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE).and(Flags::ALLOW_BUSY);

const fn row(
    name: &'static str,
    arity: i32,
    flags: Flags,
    since: &'static str,
    summary: &'static str,
    handler: crate::command::CallHandler,
) -> Command {
    Command {
        name,
        arity,
        flags: FLAGS.and(flags),
        keys: KeySpec::NONE,
        group: "transactions",
        since,
        summary,
        complexity: "O(1)",
        handler: HandlerKind::Connection(handler),
    }
}

pub(crate) const COMMANDS: &[Command] = &[
    row("multi", 1, Flags::FAST, "1.2.0", "Starts a transaction", multi),
    Command {
        complexity: "Depends on commands in the transaction",
        ..row(
            "exec",
            1,
            Flags::SKIP_SLOWLOG,
            "1.2.0",
            "Executes all commands in a transaction",
            exec,
        )
    },
    Command {
        complexity: "O(N), when N is the number of queued commands",
        ..row("discard", 1, Flags::FAST, "2.0.0", "Discards a transaction", discard)
    },
    Command {
        keys: KeySpec { first: 1, last: -1, step: 1 },
        complexity: "O(1) for every key.",
        ..row(
            "watch",
            -2,
            Flags::FAST,
            "2.2.0",
            "Monitors changes to keys to determine the execution of a transaction",
            watch,
        )
    },
    row("unwatch", 1, Flags::FAST, "2.2.0", "Forgets about watched keys of a transaction", unwatch),
];

fn multi(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    if call.session.multi.is_some() {
        return Err(CmdError::new("ERR MULTI calls can not be nested"));
    }
    call.session.multi = Some(Box::new(Queue::default()));
    call.session.client.queued.store(0, Ordering::Relaxed);
    call.reply.ok();
    Ok(())
}

fn discard(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    if call.session.multi.is_none() {
        return Err(CmdError::new("ERR DISCARD without MULTI"));
    }
    call.session.end_transaction();
    call.reply.ok();
    Ok(())
}

fn watch(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    if call.session.multi.is_some() {
        return Err(CmdError::new("ERR WATCH inside MULTI is not allowed"));
    }
    let (db, now_ms) = (call.session.db, call.worker.now_ms);
    let shared = &call.worker.shared;
    let watches = call.session.watches.get_or_insert_with(|| shared.keyspace.watch_list());
    for key in &args[1..] {
        watches.watch(db, key, now_ms).map_err(|error| engine_error(&error))?;
        call.session.client.watching.fetch_add(1, Ordering::Relaxed);
    }
    call.reply.ok();
    Ok(())
}

fn unwatch(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    call.session.unwatch();
    call.reply.ok();
    Ok(())
}

fn exec(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    let Some(queue) = call.session.multi.take() else {
        return Err(CmdError::new("ERR EXEC without MULTI"));
    };
    if queue.spoiled {
        call.session.end_transaction();
        return Err(CmdError::new("EXECABORT Transaction discarded because of previous errors."));
    }
    let db_before = call.session.db;
    match run(call, &queue) {
        Ok(()) => {
            call.session.end_transaction();
            Ok(())
        }
        Err(Stop::Park) => {
            // Nothing happened: the queue waits, and EXEC runs again.
            call.session.db = db_before;
            call.session.multi = Some(queue);
            call.flow = Flow::Park;
            Ok(())
        }
        Err(Stop::Error(error)) => {
            call.session.end_transaction();
            Err(error)
        }
    }
}

fn run(call: &mut Call<'_>, queue: &Queue) -> Result<(), Stop> {
    let worker = &mut *call.worker;
    let publishes = queue.commands().any(|(id, _)| is_publish(id));
    if publishes && worker.shared.pubsub.is_congested() {
        // It waits as a PUBLISH does.
        call.session.stall_deadline_us = None;
        return Err(Stop::Park);
    }
    worker.latches.clear();
    if let Some(watches) = &call.session.watches {
        watches.add_latches(&mut worker.latches);
    }
    // What is read, too: two transactions that each read what the other one writes would both
    // miss the other's write. A transaction that writes nothing is a view of one moment.
    if queue.commands().any(|(id, _)| table().entry(id).has(Flags::WRITE)) {
        for (id, args) in queue.commands() {
            add_latches(&mut worker.latches, table().entry(id), &args);
        }
    }
    worker.txn.begin_write(worker.now_ms, &worker.latches);
    // Even the null reply tells of what another connection committed.
    worker.ran_data = true;
    if let Some(watches) = call.session.watches.as_ref().filter(|watches| !watches.is_empty()) {
        match worker.txn.watches_hold(watches) {
            Ok(true) => {}
            Ok(false) => {
                worker.txn.end();
                call.reply.null_array();
                return Ok(());
            }
            Err(error) => {
                worker.txn.end();
                return Err(Stop::Error(engine_error(&error)));
            }
        }
    }
    call.reply.array(queue.len());
    let mut later = Vec::new();
    for (id, args) in queue.commands() {
        if runs_after_commit(id) {
            later.push(Later { at: call.reply.len(), proto: call.reply.proto(), id, args });
            continue;
        }
        // An error is the command's own reply; the others run all the same, as in Redis.
        let flow = exec::run_queued(worker, call.session, call.reply, call.place, (id, &args));
        if matches!(flow, Flow::Close | Flow::Drop) {
            call.flow = flow;
        }
    }
    exec::commit_and_hold(worker, call.session)?;
    if !later.is_empty() {
        run_later(call, &later);
    }
    call.worker.txn.end();
    Ok(())
}

/// A command of the queue that runs when the others are committed.
struct Later<'a> {
    /// Where its reply belongs, among those of the others.
    at: usize,
    /// HELLO may change the protocol on the way.
    proto: Proto,
    id: CommandId,
    args: Vec<&'a [u8]>,
}

fn is_publish(id: CommandId) -> bool {
    matches!(table().entry(id).row.name, "publish" | "spublish")
}

/// Commands of Pub/Sub, and PING, which answers subscribers in another form.
fn runs_after_commit(id: CommandId) -> bool {
    let entry = table().entry(id);
    entry.has(Flags::PUBSUB) || entry.row.name == "ping"
}

fn run_later(call: &mut Call<'_>, later: &[Later<'_>]) {
    let Some(first) = later.first() else { return };
    let proto = call.reply.proto();
    // The replies from there on are written again, with the missing ones between them.
    let rest = call.reply.buffer_mut().split_off(first.at);
    for (index, command) in later.iter().enumerate() {
        call.reply.set_proto(command.proto);
        let (id, args) = (command.id, &command.args[..]);
        exec::run_queued(call.worker, call.session, call.reply, call.place, (id, args));
        let end = later.get(index + 1).map_or(rest.len(), |next| next.at - first.at);
        call.reply.buffer_mut().extend_from_slice(&rest[command.at - first.at..end]);
    }
    call.reply.set_proto(proto);
}
