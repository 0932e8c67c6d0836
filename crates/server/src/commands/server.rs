//! Commands about the server: TIME, INFO, SHUTDOWN, ROLE, REPLICAOF, WAIT,
//! LOLWUT, DEBUG.

use sluice_resp::parse_i64;

use super::container::{ADMIN, BASE, row};
use crate::REDIS_VERSION;
use crate::command::{Args, CmdError, CmdResult, Command, Flags};
use crate::config::DebugCommands;
use crate::exec::{Call, Flow};
use crate::shared::StopMode;

const GROUP: &str = "server";

#[rustfmt::skip]
pub(crate) const COMMANDS: &[Command] = &[
    row(("time", 1, Flags::LOADING.and(Flags::STALE).and(Flags::FAST)), GROUP, "2.6.0",
        "Returns the server time.", "O(1)", time),
    row(("info", -1, Flags::LOADING.and(Flags::STALE)), GROUP, "1.0.0",
        "Returns information and statistics about the server.", "O(1)", info),
    row(("shutdown", -1, ADMIN.and(Flags::NO_MULTI).and(Flags::ALLOW_BUSY)), GROUP, "1.0.0",
        "Synchronously saves the database(s) to disk and shuts down the server.",
        "O(N) when saving, where N is the total number of keys in all databases when saving data, otherwise O(1)",
        shutdown),
    row(("role", 1, BASE.and(Flags::FAST)), GROUP, "2.8.12",
        "Returns the replication role.", "O(1)", role),
    row(("replicaof", 3, ADMIN), GROUP, "5.0.0",
        "Configures a server as replica of another, or promotes it to a master.", "O(1)", replicaof),
    row(("slaveof", 3, ADMIN), GROUP, "1.0.0",
        "Sets a server as a replica of another, or promotes it to being a master.", "O(1)", replicaof),
    row(("wait", 3, Flags::NOSCRIPT), "generic", "3.0.0",
        "Returns how many replicas have acknowledged the connection's writes.", "O(1)", wait),
    row(("lolwut", -1, Flags::FAST), GROUP, "5.0.0",
        "Displays computer art and the server version", "", lolwut),
    row(("debug", -2, ADMIN), GROUP, "1.0.0",
        "A container for debugging commands.", "Depends on subcommand.", debug),
];

fn time(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    let now_ms = call.worker.clock.unix_ms();
    // The clock door gives milliseconds: microseconds come from the monotonic clock's remainder,
    // which keeps two calls in one millisecond in order.
    let micros = now_ms % 1000 * 1000 + call.worker.clock.monotonic_us() % 1000;
    call.reply.array(2);
    call.reply.bulk_integer((now_ms / 1000) as i64);
    call.reply.bulk_integer(micros as i64);
    Ok(())
}

fn info(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let text = crate::info::report(call.worker, &args[1..]);
    call.reply.verbatim(text.as_bytes());
    Ok(())
}

fn shutdown(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let (mut save, mut nosave, mut abort, mut other) = (false, false, false, false);
    for word in &args[1..] {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if is("save") {
            save = true;
        } else if is("nosave") {
            nosave = true;
        } else if is("abort") {
            abort = true;
        } else if is("now") || is("force") {
            other = true;
        } else {
            return Err(CmdError::SYNTAX);
        }
    }
    if (abort && (save || nosave || other)) || (save && nosave) {
        return Err(CmdError::SYNTAX);
    }
    if abort {
        return Err(CmdError::new("ERR No shutdown in progress."));
    }
    let mode = match (save, nosave) {
        (true, _) => StopMode::Flush,
        (_, true) => StopMode::NoFlush,
        _ => StopMode::Default,
    };
    call.worker.shared.note(crate::log::Level::Warning, "User requested shutdown...");
    call.worker.shared.stop(mode);
    call.flow = Flow::Close;
    Ok(())
}

fn role(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    call.reply.array(3);
    call.reply.bulk(b"master");
    call.reply.integer(0);
    call.reply.array(0);
    Ok(())
}

fn replicaof(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let promotes = args[1].eq_ignore_ascii_case(b"no") && args[2].eq_ignore_ascii_case(b"one");
    if !promotes {
        return Err(CmdError::new("ERR replication is not supported yet"));
    }
    call.reply.ok();
    Ok(())
}

fn wait(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    parse_i64(args[1]).ok_or(CmdError::NOT_INTEGER)?;
    let timeout =
        parse_i64(args[2]).ok_or(CmdError::new("ERR timeout is not an integer or out of range"))?;
    if timeout < 0 {
        return Err(CmdError::new("ERR timeout is negative"));
    }
    call.reply.integer(0);
    Ok(())
}

fn lolwut(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    let gate = "   ~~~~~|#|~ ~ ~\n   ~~~~~|#| ~ ~\n   ~~~~~|_|~  ~\n";
    call.reply.verbatim(format!("{gate}\nSluiceDB, Redis ver. {REDIS_VERSION}\n").as_bytes());
    Ok(())
}

fn debug(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let allowed = match call.worker.settings.debug_commands {
        DebugCommands::No => false,
        DebugCommands::Local => call.session.client.peer.ip().is_loopback(),
        DebugCommands::Yes => true,
    };
    if !allowed {
        return Err(CmdError::new(
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", \
             you can run it from a local connection, otherwise you need to set this option in the \
             configuration file, and then restart the server.",
        ));
    }
    match &args[1..] {
        [name, seconds] if name.eq_ignore_ascii_case(b"sleep") => {
            let seconds = std::str::from_utf8(seconds).ok().and_then(|text| text.parse().ok());
            let seconds: f64 = seconds.ok_or(CmdError::NOT_FLOAT)?;
            // Only this connection sleeps; a cast of a nonsensical number saturates.
            let until = call.worker.now_us.saturating_add((seconds * 1e6) as u64);
            call.reply.ok();
            call.flow = Flow::Sleep(until);
            Ok(())
        }
        [name] if name.eq_ignore_ascii_case(b"jmap") => {
            call.reply.ok();
            Ok(())
        }
        _ => Err(CmdError::new(format!(
            "ERR unknown subcommand or wrong number of arguments for '{}'. Try DEBUG HELP.",
            String::from_utf8_lossy(args[1])
        ))),
    }
}
