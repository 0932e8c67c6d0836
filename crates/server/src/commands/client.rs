//! CLIENT: names, listing, reply mode. `CLIENT KILL` has its own file.

use std::sync::atomic::Ordering;

use sluice_resp::parse_i64;

use super::client_kill::{class, kill};
use super::connection::{check_name, set_ack};
use super::container::{ADMIN, BASE, HELP, container, help as write_help, row};
use crate::ack::AckChoice;
use crate::command::{Args, CmdError, CmdResult, Command, Flags};
use crate::exec::Call;
use crate::session::ReplyMode;

const GROUP: &str = "connection";

pub(crate) const COMMANDS: &[Command] =
    &[container("client", GROUP, "2.4.0", "A container for client connection commands.")];

#[rustfmt::skip]
pub(crate) const SUBCOMMANDS: &[(&str, Command)] = &[
    ("client", row(("id", 2, BASE), GROUP, "5.0.0",
        "Returns the unique client ID of the connection.", "O(1)", id)),
    ("client", row(("getname", 2, BASE), GROUP, "2.6.9",
        "Returns the name of the connection.", "O(1)", getname)),
    ("client", row(("setname", 3, BASE), GROUP, "2.6.9",
        "Sets the connection name.", "O(1)", setname)),
    ("client", row(("setinfo", 4, BASE), GROUP, "7.2.0",
        "Sets information specific to the client or connection.", "O(1)", setinfo)),
    ("client", row(("list", -2, ADMIN), GROUP, "2.4.0",
        "Lists open connections.", "O(N) where N is the number of client connections", list)),
    ("client", row(("info", 2, BASE), GROUP, "6.2.0",
        "Returns information about the connection.", "O(1)", info)),
    ("client", row(("kill", -3, ADMIN), GROUP, "2.4.0",
        "Terminates open connections.", "O(N) where N is the number of client connections", kill)),
    ("client", row(("reply", 3, BASE), GROUP, "3.2.0",
        "Instructs the server whether to reply to commands.", "O(1)", reply)),
    ("client", row(("no-evict", 3, ADMIN), GROUP, "7.0.0",
        "Sets the client eviction mode of the connection.", "O(1)", no_evict)),
    ("client", row(("no-touch", 3, BASE), GROUP, "7.2.0",
        "Controls whether commands sent by the client affect the LRU/LFU of accessed keys.", "O(1)", no_touch)),
    ("client", row(("getredir", 2, BASE), GROUP, "6.0.0",
        "Returns the client ID to which the connection's tracking notifications are redirected.", "O(1)", getredir)),
    ("client", row(("unpause", 2, ADMIN), GROUP, "6.2.0",
        "Resumes processing commands from paused clients.", "O(N) where N is the number of paused clients", unpause)),
    ("client", row(("ack", 3, ADMIN.and(Flags::NO_MULTI)), GROUP, "7.2.0",
        "Chooses what the replies to the connection's writes promise.", "O(1)", ack)),
    ("client", row(("help", 2, HELP), GROUP, "5.0.0",
        "Returns helpful text about the different subcommands.", "O(1)", help)),
];

fn id(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    call.reply.integer(call.session.client.id as i64);
    Ok(())
}

fn getname(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    let text = crate::lock(&call.session.client.text);
    match text.name.is_empty() {
        true => call.reply.null(),
        false => call.reply.bulk(&text.name),
    }
    Ok(())
}

fn setname(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    check_name(args[2])?;
    crate::lock(&call.session.client.text).name = args[2].to_vec();
    call.reply.ok();
    Ok(())
}

fn setinfo(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let option = args[2];
    let shown = String::from_utf8_lossy(option).to_ascii_lowercase();
    let clean = args[3].iter().all(|byte| (b'!'..=b'~').contains(byte));
    let mut text = crate::lock(&call.session.client.text);
    let field = match shown.as_str() {
        "lib-name" => &mut text.lib_name,
        "lib-ver" => &mut text.lib_version,
        _ => {
            return Err(CmdError::new(format!(
                "ERR Unrecognized option '{}'",
                String::from_utf8_lossy(option)
            )));
        }
    };
    if !clean {
        return Err(CmdError::new(format!(
            "ERR {shown} cannot contain spaces, newlines or special characters."
        )));
    }
    *field = args[3].to_vec();
    drop(text);
    call.reply.ok();
    Ok(())
}

fn info(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    let mut out = Vec::new();
    publish_own(call);
    call.session.client.line(call.worker.now_ms, &mut out);
    call.reply.verbatim(&out);
    Ok(())
}

/// The record of the calling connection is as old as its last turn: bring it up to date.
fn publish_own(call: &Call<'_>) {
    call.session.client.db.store(call.session.db, Ordering::Relaxed);
}

fn list(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let mut kind = None;
    let mut ids: Option<Vec<u64>> = None;
    match &args[2..] {
        [] => {}
        [option, value] if option.eq_ignore_ascii_case(b"type") => {
            kind = Some(class(value)?);
        }
        [option, values @ ..] if option.eq_ignore_ascii_case(b"id") && !values.is_empty() => {
            let parse = |value: &&[u8]| {
                parse_i64(value)
                    .and_then(|id| u64::try_from(id).ok())
                    .filter(|id| *id > 0)
                    .ok_or(CmdError::new("ERR Invalid client ID"))
            };
            ids = Some(values.iter().map(parse).collect::<Result<_, _>>()?);
        }
        _ => return Err(CmdError::SYNTAX),
    }
    publish_own(call);
    let mut out = Vec::new();
    for client in call.worker.shared.clients.all() {
        let is_asked_for = ids.as_ref().is_none_or(|ids| ids.contains(&client.id));
        if is_asked_for && kind.is_none_or(|class| class.takes(&client)) {
            client.line(call.worker.now_ms, &mut out);
        }
    }
    call.reply.verbatim(&out);
    Ok(())
}

fn reply(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let mode = args[2];
    if mode.eq_ignore_ascii_case(b"on") {
        call.session.reply_mode = ReplyMode::On;
        call.reply.ok();
    } else if mode.eq_ignore_ascii_case(b"off") {
        call.session.reply_mode = ReplyMode::Off;
    } else if mode.eq_ignore_ascii_case(b"skip") {
        // Without an effect while replies are off.
        if call.session.reply_mode != ReplyMode::Off {
            call.session.reply_mode = ReplyMode::SkipNext;
        }
    } else {
        return Err(CmdError::SYNTAX);
    }
    Ok(())
}

fn switch(word: &[u8]) -> Result<bool, CmdError> {
    if word.eq_ignore_ascii_case(b"on") {
        Ok(true)
    } else if word.eq_ignore_ascii_case(b"off") {
        Ok(false)
    } else {
        Err(CmdError::SYNTAX)
    }
}

fn no_evict(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    call.session.client.no_evict.store(switch(args[2])?, Ordering::Relaxed);
    call.reply.ok();
    Ok(())
}

fn no_touch(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    call.session.client.no_touch.store(switch(args[2])?, Ordering::Relaxed);
    call.reply.ok();
    Ok(())
}

/// `CLIENT ACK DEFAULT|MEMORY|OS|DISK`: see `ack.rs`. Not inside MULTI, whose commands share one
/// write and so one level.
fn ack(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    set_ack(call, AckChoice::parse(args[2])?);
    call.reply.ok();
    Ok(())
}

/// Tracking does not exist yet: -1 says so.
fn getredir(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    call.reply.integer(-1);
    Ok(())
}

/// Nothing is ever paused.
fn unpause(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    call.reply.ok();
    Ok(())
}

fn help(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    write_help(
        call,
        "CLIENT",
        &[
            "ACK <DEFAULT|MEMORY|OS|DISK>",
            "    Choose what replies to this connection's writes promise: what the server's",
            "    parameters say, nothing before a flush, survival of a kill, of a power cut.",
            "GETNAME",
            "    Return the name of this connection.",
            "ID",
            "    Return the id of this connection.",
            "INFO",
            "    Describe this connection.",
            "KILL <ip:port>",
            "    Close the connection from <ip:port>.",
            "KILL <option> <value> [<option> <value> [...]]",
            "    Close connections by ID, ADDR, LADDR, TYPE, USER, MAXAGE; SKIPME yes|no.",
            "LIST [TYPE <type> | ID <id> ...]",
            "    Describe connections.",
            "NO-EVICT (ON|OFF)",
            "    Protect this connection from client eviction.",
            "NO-TOUCH (ON|OFF)",
            "    Leave access statistics of keys alone.",
            "REPLY (ON|OFF|SKIP)",
            "    Say whether this connection gets replies.",
            "SETINFO (LIB-NAME|LIB-VER) <value>",
            "    Say which library this client uses.",
            "SETNAME <name>",
            "    Name this connection.",
        ],
    )
}
