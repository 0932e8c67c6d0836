//! SUBSCRIBE and its relatives, PUBLISH, SPUBLISH, PUBSUB.
//!
//! A confirmation is a push: outside of EXEC it goes out with the connection's other pushes, in
//! order with them and whatever `CLIENT REPLY` says. Inside EXEC it is an element of the reply, and
//! messages go out behind that.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sluice_resp::ReplyBuf;

use super::container::{BASE, HELP, container, help as write_help, row};
use crate::command::{Args, CmdError, CmdResult, Command, Flags, KeySpec};
use crate::exec::{Call, Flow};
use crate::pubsub::{Kind, Subscriber, Urgency};
use crate::registry::Entry;
use crate::session::Session;

const GROUP: &str = "pubsub";
const FLAGS: Flags = BASE.and(Flags::PUBSUB);
const PUBLISH: Flags = Flags::PUBSUB.and(Flags::LOADING).and(Flags::STALE).and(Flags::FAST);
const LOOK: Flags = Flags::PUBSUB.and(Flags::LOADING).and(Flags::STALE);

/// Shard channels have a place in a cluster, as keys have.
const fn sharded(last: i32, row: Command) -> Command {
    Command { keys: KeySpec { first: 1, last, step: 1 }, ..row }
}

#[rustfmt::skip]
pub(crate) const COMMANDS: &[Command] = &[
    row(("subscribe", -2, FLAGS), GROUP, "2.0.0",
        "Listens for messages published to channels.",
        "O(N) where N is the number of channels to subscribe to.", subscribe),
    row(("unsubscribe", -1, FLAGS), GROUP, "2.0.0",
        "Stops listening to messages posted to channels.",
        "O(N) where N is the number of channels to unsubscribe.", unsubscribe),
    row(("psubscribe", -2, FLAGS), GROUP, "2.0.0",
        "Listens for messages published to channels that match one or more patterns.",
        "O(N) where N is the number of patterns to subscribe to.", psubscribe),
    row(("punsubscribe", -1, FLAGS), GROUP, "2.0.0",
        "Stops listening to messages published to channels that match one or more patterns.",
        "O(N) where N is the number of patterns to unsubscribe.", punsubscribe),
    sharded(-1, row(("ssubscribe", -2, FLAGS), GROUP, "7.0.0",
        "Listens for messages published to shard channels.",
        "O(N) where N is the number of shard channels to subscribe to.", ssubscribe)),
    sharded(-1, row(("sunsubscribe", -1, FLAGS), GROUP, "7.0.0",
        "Stops listening to messages posted to shard channels.",
        "O(N) where N is the number of shard channels to unsubscribe.", sunsubscribe)),
    row(("publish", 3, PUBLISH), GROUP, "2.0.0",
        "Posts a message to a channel.",
        "O(N+M) where N is the number of clients subscribed to the receiving channel and M is the total number of subscribed patterns (by any client).",
        publish),
    sharded(1, row(("spublish", 3, PUBLISH), GROUP, "7.0.0",
        "Post a message to a shard channel",
        "O(N) where N is the number of clients subscribed to the receiving shard channel.", spublish)),
    container("pubsub", GROUP, "2.8.0", "A container for Pub/Sub commands."),
];

#[rustfmt::skip]
pub(crate) const SUBCOMMANDS: &[(&str, Command)] = &[
    ("pubsub", row(("channels", -2, LOOK), GROUP, "2.8.0",
        "Returns the active channels.", "O(N) where N is the number of active channels", channels)),
    ("pubsub", row(("numsub", -2, LOOK), GROUP, "2.8.0",
        "Returns a count of subscribers to channels.",
        "O(N) for the NUMSUB subcommand, where N is the number of requested channels", numsub)),
    ("pubsub", row(("numpat", 2, LOOK), GROUP, "2.8.0",
        "Returns a count of unique pattern subscriptions.", "O(1)", numpat)),
    ("pubsub", row(("shardchannels", -2, LOOK), GROUP, "7.0.0",
        "Returns the active shard channels.",
        "O(N) where N is the number of active shard channels", shardchannels)),
    ("pubsub", row(("shardnumsub", -2, LOOK), GROUP, "7.0.0",
        "Returns the count of subscribers of shard channels.",
        "O(N) for the SHARDNUMSUB subcommand, where N is the number of requested shard channels", shardnumsub)),
    ("pubsub", row(("help", 2, HELP), GROUP, "6.2.0",
        "Returns helpful text about the different subcommands.", "O(1)", help)),
];

/// A subscriber that speaks RESP2 cannot tell a reply from a message: most commands are refused.
pub(crate) fn is_refused(session: &Session, entry: &Entry) -> bool {
    let is_allowed = entry.parent.is_none()
        && matches!(
            entry.row.name,
            "subscribe"
                | "unsubscribe"
                | "psubscribe"
                | "punsubscribe"
                | "ssubscribe"
                | "sunsubscribe"
                | "ping"
                | "quit"
                | "reset"
        );
    !is_allowed && session.is_subscriber() && session.client.protocol.load(Ordering::Relaxed) == 2
}

pub(crate) fn refusal(name: &str) -> CmdError {
    CmdError::new(format!(
        "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are \
         allowed in this context"
    ))
}

fn subscribe(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    add_all(call, Kind::Channel, "subscribe", &args[1..])
}

fn psubscribe(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    add_all(call, Kind::Pattern, "psubscribe", &args[1..])
}

fn ssubscribe(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    if call.session.runs_transaction() {
        return Err(CmdError::new("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client"));
    }
    add_all(call, Kind::Shard, "ssubscribe", &args[1..])
}

fn unsubscribe(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    remove_all(call, Kind::Channel, "unsubscribe", &args[1..])
}

fn punsubscribe(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    remove_all(call, Kind::Pattern, "punsubscribe", &args[1..])
}

fn sunsubscribe(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    remove_all(call, Kind::Shard, "sunsubscribe", &args[1..])
}

fn add_all(call: &mut Call<'_>, kind: Kind, word: &str, names: &Args<'_>) -> CmdResult {
    let (place, inline) = (call.place, call.session.runs_transaction());
    let mut subscriber = call.session.pubsub.take().unwrap_or_default();
    for name in names {
        let who = (&mut *subscriber, place);
        call.worker.pubsub.subscribe(&call.worker.shared.pubsub, who, kind, name);
        confirm(call.reply, &mut subscriber, inline, word, (kind, Some(name)));
    }
    keep(call, subscriber);
    Ok(())
}

fn remove_all(call: &mut Call<'_>, kind: Kind, word: &str, names: &Args<'_>) -> CmdResult {
    let (place, inline) = (call.place, call.session.runs_transaction());
    let proto = call.reply.proto();
    let mut subscriber = call.session.pubsub.take().unwrap_or_default();
    // Without names: all that there are.
    let all: Vec<Arc<[u8]>> = match names {
        [] => subscriber.names(kind).iter().cloned().collect(),
        _ => Vec::new(),
    };
    for name in names.iter().copied().chain(all.iter().map(|name| &name[..])) {
        let who = (&mut *subscriber, place);
        call.worker.pubsub.unsubscribe(&call.worker.shared.pubsub, who, (kind, name), proto);
        confirm(call.reply, &mut subscriber, inline, word, (kind, Some(name)));
    }
    if names.is_empty() && all.is_empty() {
        confirm(call.reply, &mut subscriber, inline, word, (kind, None));
    }
    keep(call, subscriber);
    Ok(())
}

/// RESET: no confirmations, and what came before is no longer wanted.
pub(super) fn unsubscribe_silently(call: &mut Call<'_>) {
    if let Some(mut subscriber) = call.session.pubsub.take() {
        call.worker.pubsub.leave(&call.worker.shared.pubsub, &subscriber, call.place);
        subscriber.clear();
        keep(call, subscriber);
    }
}

fn confirm(
    reply: &mut ReplyBuf,
    subscriber: &mut Subscriber,
    inline: bool,
    word: &str,
    (kind, name): (Kind, Option<&[u8]>),
) {
    let (count, proto) = (subscriber.count_beside(kind), reply.proto());
    let out = if inline { reply } else { &mut subscriber.pushes };
    out.set_proto(proto);
    out.push(3);
    out.bulk(word.as_bytes());
    match name {
        Some(name) => out.bulk(name),
        None => out.null(),
    }
    out.integer(count as i64);
}

/// Puts the connection's part back, and its numbers where others see them.
fn keep(call: &mut Call<'_>, subscriber: Box<Subscriber>) {
    for (kind, shown) in Kind::ALL.into_iter().zip(&call.session.client.subscriptions) {
        shown.store(subscriber.names(kind).len() as u32, Ordering::Relaxed);
    }
    call.session.pubsub = (!subscriber.is_over()).then_some(subscriber);
}

fn publish(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    send(call, Kind::Channel, args)
}

fn spublish(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    send(call, Kind::Shard, args)
}

fn send(call: &mut Call<'_>, kind: Kind, args: &Args<'_>) -> CmdResult {
    let worker = &mut *call.worker;
    let urgency = match call.session.runs_transaction() {
        true => Urgency::Now { bytes_max: worker.settings.output_of_subscribers.hard },
        false => Urgency::CanWait,
    };
    let from = Some(worker.pubsub.worker());
    match worker.shared.publish_as(kind, args[1], args[2], urgency, from) {
        Some(receivers) => call.reply.integer(receivers as i64),
        None => call.flow = Flow::Park,
    }
    Ok(())
}

fn channels(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    list(call, Kind::Channel, args)
}

fn shardchannels(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    list(call, Kind::Shard, args)
}

fn list(call: &mut Call<'_>, kind: Kind, args: &Args<'_>) -> CmdResult {
    if args.len() > 3 {
        return Err(CmdError::new(format!(
            "ERR unknown subcommand or wrong number of arguments for '{}'. Try PUBSUB HELP.",
            String::from_utf8_lossy(args[1])
        )));
    }
    let names = call.worker.shared.pubsub.list(kind, args.get(2).copied());
    call.reply.array(names.len());
    names.iter().for_each(|name| call.reply.bulk(name));
    Ok(())
}

fn numsub(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    count(call, Kind::Channel, &args[2..])
}

fn shardnumsub(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    count(call, Kind::Shard, &args[2..])
}

fn count(call: &mut Call<'_>, kind: Kind, names: &Args<'_>) -> CmdResult {
    call.reply.array(names.len() * 2);
    for name in names {
        call.reply.bulk(name);
        call.reply.integer(call.worker.shared.pubsub.subscribers(kind, name) as i64);
    }
    Ok(())
}

fn numpat(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    call.reply.integer(call.worker.shared.pubsub.count(Kind::Pattern) as i64);
    Ok(())
}

fn help(call: &mut Call<'_>, _: &Args<'_>) -> CmdResult {
    write_help(
        call,
        "PUBSUB",
        &[
            "CHANNELS [<pattern>]",
            "    Return the channels with a subscriber, all or those that match.",
            "NUMPAT",
            "    Return how many patterns have a subscriber.",
            "NUMSUB [<channel> ...]",
            "    Return how many subscribe to each channel by its name.",
            "SHARDCHANNELS [<pattern>]",
            "    Return the shard channels with a subscriber, all or those that match.",
            "SHARDNUMSUB [<channel> ...]",
            "    Return how many subscribe to each shard channel.",
        ],
    )
}
