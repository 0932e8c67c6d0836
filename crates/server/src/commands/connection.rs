//! PING, ECHO, HELLO, AUTH, SELECT, QUIT, RESET.

use std::sync::atomic::Ordering;

use sluice_resp::{Proto, parse_i64};

use super::container::{BASE, row};
use crate::REDIS_VERSION;
use crate::ack::AckChoice;
use crate::command::{Args, CmdError, CmdResult, Command, Flags};
use crate::exec::{Call, Flow, wrong_arity};
use crate::session::ReplyMode;

const GROUP: &str = "connection";

pub(crate) const COMMANDS: &[Command] = &[
    row(
        ("ping", -1, Flags::FAST),
        GROUP,
        "1.0.0",
        "Returns the server's liveliness response.",
        "O(1)",
        ping,
    ),
    row(
        ("echo", 2, Flags::LOADING.and(Flags::STALE).and(Flags::FAST)),
        GROUP,
        "1.0.0",
        "Returns the given string.",
        "O(1)",
        echo,
    ),
    row(
        ("hello", -1, BASE.and(Flags::FAST).and(Flags::NO_AUTH).and(Flags::ALLOW_BUSY)),
        GROUP,
        "6.0.0",
        "Handshakes with the server.",
        "O(1)",
        hello,
    ),
    row(
        ("auth", -2, BASE.and(Flags::FAST).and(Flags::NO_AUTH).and(Flags::ALLOW_BUSY)),
        GROUP,
        "1.0.0",
        "Authenticates the connection.",
        "O(N) where N is the number of passwords defined for the user",
        auth,
    ),
    row(
        ("select", 2, Flags::LOADING.and(Flags::STALE).and(Flags::FAST)),
        GROUP,
        "1.0.0",
        "Changes the selected database.",
        "O(1)",
        select,
    ),
    row(
        ("quit", -1, BASE.and(Flags::FAST).and(Flags::NO_AUTH).and(Flags::ALLOW_BUSY)),
        GROUP,
        "1.0.0",
        "Closes the connection.",
        "O(1)",
        quit,
    ),
    row(
        ("reset", 1, BASE.and(Flags::FAST).and(Flags::NO_AUTH).and(Flags::ALLOW_BUSY)),
        GROUP,
        "6.2.0",
        "Resets the connection.",
        "O(1)",
        reset,
    ),
];

fn ping(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    if args.len() <= 2 && call.reply.proto() == Proto::Resp2 && call.session.is_subscriber() {
        // In the form of a message: such a client reads nothing else.
        call.reply.array(2);
        call.reply.bulk(b"pong");
        call.reply.bulk(args.get(1).copied().unwrap_or_default());
        return Ok(());
    }
    match args {
        [_] => call.reply.simple("PONG"),
        [_, text] => call.reply.bulk(text),
        _ => return Err(wrong_arity("ping")),
    }
    Ok(())
}

fn echo(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    call.reply.bulk(args[1]);
    Ok(())
}

fn select(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let index = parse_i64(args[1]).ok_or(CmdError::NOT_INTEGER)?;
    if i32::try_from(index).is_err() {
        return Err(CmdError::new(
            "ERR value is out of range, value must between -2147483648 and 2147483647",
        ));
    }
    match u32::try_from(index).ok().filter(|index| *index < call.worker.settings.databases) {
        Some(db) => call.session.db = db,
        None => return Err(CmdError::new("ERR DB index is out of range")),
    }
    call.reply.ok();
    Ok(())
}

fn quit(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    call.reply.ok();
    call.flow = Flow::Close;
    Ok(())
}

fn reset(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    call.session.end_transaction();
    super::pubsub::unsubscribe_silently(call);
    call.session.db = 0;
    call.session.reply_mode = ReplyMode::On;
    call.session.authenticated = call.worker.settings.password.is_empty();
    set_ack(call, AckChoice::Default);
    call.session.client.no_evict.store(false, Ordering::Relaxed);
    call.session.client.no_touch.store(false, Ordering::Relaxed);
    crate::lock(&call.session.client.text).name.clear();
    set_protocol(call, Proto::Resp2);
    call.reply.simple("RESET");
    Ok(())
}

/// Chooses what the connection's replies promise from the next command on.
pub(super) fn set_ack(call: &mut Call<'_>, choice: AckChoice) {
    call.session.ack = choice;
    call.session.client.ack.store(choice as u8, Ordering::Relaxed);
    if matches!(choice, AckChoice::Os | AckChoice::Disk) {
        call.worker.shared.log_asked_for.store(true, Ordering::Relaxed);
    }
}

fn set_protocol(call: &mut Call<'_>, proto: Proto) {
    call.reply.set_proto(proto);
    let number = if proto == Proto::Resp3 { 3 } else { 2 };
    call.session.client.protocol.store(number, Ordering::Relaxed);
}

/// Compares without an early end, so that the time taken says nothing about the password.
fn is_password(given: &[u8], password: &[u8]) -> bool {
    let mut difference = given.len() ^ password.len();
    for (at, byte) in given.iter().enumerate() {
        let expected = password.get(at % password.len().max(1)).copied().unwrap_or(0);
        difference |= usize::from(byte ^ expected);
    }
    difference == 0
}

/// Without a password the user `default` is let in with any.
fn authenticate(call: &mut Call<'_>, user: &[u8], given: &[u8]) -> CmdResult {
    let password = &call.worker.settings.password;
    if user == b"default" && (password.is_empty() || is_password(given, password)) {
        call.session.authenticated = true;
        return Ok(());
    }
    Err(CmdError::new("WRONGPASS invalid username-password pair or user is disabled."))
}

fn auth(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    match args {
        [_, _] if call.worker.settings.password.is_empty() => {
            return Err(CmdError::new(
                "ERR AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?",
            ));
        }
        [_, password] => authenticate(call, b"default", password)?,
        [_, user, password] => authenticate(call, user, password)?,
        _ => return Err(CmdError::SYNTAX),
    }
    call.reply.ok();
    Ok(())
}

/// A name without blanks, line breaks or control characters.
pub(super) fn check_name(name: &[u8]) -> CmdResult {
    if name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(());
    }
    Err(CmdError::new("ERR Client names cannot contain spaces, newlines or special characters."))
}

fn hello(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let proto = match args.get(1).map(|text| parse_i64(text)) {
        None => call.reply.proto(),
        Some(Some(2)) => Proto::Resp2,
        Some(Some(3)) => Proto::Resp3,
        Some(Some(_)) => return Err(CmdError::new("NOPROTO unsupported protocol version")),
        Some(None) => {
            return Err(CmdError::new("ERR Protocol version is not an integer or out of range"));
        }
    };
    let mut name = None;
    let mut rest = args.get(2..).unwrap_or_default();
    while let Some(option) = rest.first() {
        if option.eq_ignore_ascii_case(b"auth") && rest.len() >= 3 {
            authenticate(call, rest[1], rest[2])?;
            rest = &rest[3..];
        } else if option.eq_ignore_ascii_case(b"setname") && rest.len() >= 2 {
            check_name(rest[1])?;
            name = Some(rest[1]);
            rest = &rest[2..];
        } else {
            return Err(CmdError::new(format!(
                "ERR Syntax error in HELLO option '{}'",
                String::from_utf8_lossy(option)
            )));
        }
    }
    if !call.session.authenticated {
        return Err(CmdError::new(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        crate::lock(&call.session.client.text).name = name.to_vec();
    }
    set_protocol(call, proto);
    let reply = &mut *call.reply;
    reply.map(7);
    for (key, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.integer(if proto == Proto::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(call.session.client.id as i64);
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}
