//! `CLIENT KILL`, with one address (the old form) or with filters.

use std::sync::atomic::Ordering;

use sluice_resp::parse_i64;

use crate::clients::Client;
use crate::command::{Args, CmdError, CmdResult};
use crate::exec::{Call, Flow};
use crate::net::Message;

/// What a connection must be to be closed. `None`: anything.
#[derive(Default)]
pub(super) struct Filter {
    id: Option<u64>,
    peer: Option<Vec<u8>>,
    local: Option<Vec<u8>>,
    class: Option<Class>,
    age_seconds: Option<u64>,
    keep_me: bool,
}

impl Filter {
    fn takes(&self, client: &Client, me: u64, now_ms: u64) -> bool {
        let is = |wanted: &Option<Vec<u8>>, address: std::net::SocketAddr| {
            wanted.as_ref().is_none_or(|wanted| *wanted == address.to_string().into_bytes())
        };
        self.id.is_none_or(|id| id == client.id)
            && is(&self.peer, client.peer)
            && is(&self.local, client.local)
            && self.class.is_none_or(|class| class.takes(client))
            && self
                .age_seconds
                .is_none_or(|age| now_ms.saturating_sub(client.created_ms) / 1000 >= age)
            && !(self.keep_me && client.id == me)
    }
}

/// A type of client.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Normal,
    Subscriber,
    /// Masters and replicas: there are none.
    Absent,
}

impl Class {
    pub(super) fn takes(self, client: &Client) -> bool {
        match self {
            Class::Normal => !client.is_subscriber(),
            Class::Subscriber => client.is_subscriber(),
            Class::Absent => false,
        }
    }
}

pub(super) fn class(name: &[u8]) -> Result<Class, CmdError> {
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    if is("normal") {
        return Ok(Class::Normal);
    }
    if is("pubsub") {
        return Ok(Class::Subscriber);
    }
    if ["master", "replica", "slave"].into_iter().any(is) {
        return Ok(Class::Absent);
    }
    Err(CmdError::new(format!("ERR Unknown client type '{}'", String::from_utf8_lossy(name))))
}

pub(super) fn parse_filter(pairs: &[&[u8]]) -> Result<Filter, CmdError> {
    let mut filter = Filter { keep_me: true, ..Filter::default() };
    for pair in pairs.chunks(2) {
        let [option, value] = pair else { return Err(CmdError::SYNTAX) };
        let is = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
        if is("id") {
            let id = parse_i64(value).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
            filter.id = Some(id.ok_or(CmdError::new("ERR client-id should be greater than 0"))?);
        } else if is("addr") {
            filter.peer = Some(value.to_vec());
        } else if is("laddr") {
            filter.local = Some(value.to_vec());
        } else if is("type") {
            filter.class = Some(class(value)?);
        } else if is("user") {
            if *value != b"default" {
                return Err(CmdError::new(format!(
                    "ERR No such user '{}'",
                    String::from_utf8_lossy(value)
                )));
            }
        } else if is("maxage") {
            let age = parse_i64(value).and_then(|age| u64::try_from(age).ok());
            filter.age_seconds =
                Some(age.ok_or(CmdError::new("ERR maxage is not an integer or out of range"))?);
        } else if is("skipme") && value.eq_ignore_ascii_case(b"yes") {
            filter.keep_me = true;
        } else if is("skipme") && value.eq_ignore_ascii_case(b"no") {
            filter.keep_me = false;
        } else {
            return Err(CmdError::SYNTAX);
        }
    }
    Ok(filter)
}

pub(super) fn kill(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let is_old_form = args.len() == 3;
    let filter = match args {
        [_, _, address] => Filter { peer: Some(address.to_vec()), ..Filter::default() },
        _ => parse_filter(&args[2..])?,
    };
    let me = call.session.client.id;
    let mut count = 0;
    for client in call.worker.shared.clients.all() {
        let is_closing = client.closing.load(Ordering::Relaxed);
        if is_closing || !filter.takes(&client, me, call.worker.now_ms) {
            continue;
        }
        count += 1;
        client.closing.store(true, Ordering::Relaxed);
        if client.id == me {
            // It gets its reply first.
            call.flow = Flow::Close;
        } else if let Some(mailboxes) = call.worker.shared.mailboxes.get() {
            // In this order: see net/migrate.rs.
            client.killed.store(true, Ordering::SeqCst);
            let owner = client.worker.load(Ordering::SeqCst);
            mailboxes[owner].send(Message::Kill { client: client.id });
        }
    }
    match (is_old_form, count) {
        (true, 0) => return Err(CmdError::new("ERR No such client")),
        (true, _) => call.reply.ok(),
        (false, count) => call.reply.integer(count),
    }
    Ok(())
}
