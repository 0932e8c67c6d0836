//! A connection's part of Pub/Sub: its names, what it has had, and what goes out after the reply of
//! the command at work.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use sluice_resp::{Proto, ReplyBuf};

use super::{Kind, Publication};

/// Made at the first subscription; see [`is_over`](Subscriber::is_over).
#[derive(Debug, Default)]
pub(crate) struct Subscriber {
    pub(super) names: [BTreeSet<Arc<[u8]>>; 3],
    /// The number of the newest message it has had, or that was not for it.
    pub(crate) seen: u64,
    /// Confirmations and messages that go out behind the reply at work, or behind replies that wait
    /// for the log. Never the middle of something.
    pub(crate) pushes: ReplyBuf,
    /// Where pushes are among the replies of this turn, counted from `Conn::turn_start`: when the
    /// log fails the replies are taken back, these are not.
    pub(crate) spans: Vec<Range<usize>>,
}

impl Subscriber {
    pub(crate) fn names(&self, kind: Kind) -> &BTreeSet<Arc<[u8]>> {
        &self.names[kind.index()]
    }

    pub(crate) fn add(&mut self, kind: Kind, name: Arc<[u8]>) {
        self.names[kind.index()].insert(name);
    }

    pub(crate) fn remove(&mut self, kind: Kind, name: &[u8]) {
        self.names[kind.index()].remove(name);
    }

    /// Ends all subscriptions. What it sent in this turn it has sent.
    pub(crate) fn clear(&mut self) {
        self.names = Default::default();
        self.pushes.truncate(0);
    }

    /// Subscriptions of all kinds.
    pub(crate) fn len(&self) -> usize {
        self.names.iter().map(BTreeSet::len).sum()
    }

    /// The number in a confirmation: shard channels are counted for themselves.
    pub(crate) fn count_beside(&self, kind: Kind) -> usize {
        match kind {
            Kind::Shard => self.names(Kind::Shard).len(),
            Kind::Channel | Kind::Pattern => {
                self.names(Kind::Channel).len() + self.names(Kind::Pattern).len()
            }
        }
    }

    /// Nothing is left to remember.
    pub(crate) fn is_over(&self) -> bool {
        self.len() == 0 && self.pushes.is_empty() && self.spans.is_empty()
    }
}

/// How a message begins, behind the mark of an array or a push: the number of its elements and the
/// elements before the channel.
pub(super) fn head(publication: &Publication, pattern: Option<&[u8]>) -> Vec<u8> {
    let Some(pattern) = pattern else {
        return match publication.kind {
            Kind::Shard => b"3\r\n$8\r\nsmessage\r\n".to_vec(),
            Kind::Channel | Kind::Pattern => b"3\r\n$7\r\nmessage\r\n".to_vec(),
        };
    };
    let mut head = ReplyBuf::default();
    head.buffer_mut().extend_from_slice(b"4\r\n$8\r\npmessage\r\n");
    head.bulk(pattern);
    std::mem::take(head.buffer_mut())
}

/// Appends a message in the protocol of `proto`. Returns its length.
pub(crate) fn write(out: &mut ReplyBuf, proto: Proto, head: &[u8], tail: &[u8]) -> usize {
    let buffer = out.buffer_mut();
    buffer.reserve(1 + head.len() + tail.len());
    buffer.push(if proto == Proto::Resp3 { b'>' } else { b'*' });
    buffer.extend_from_slice(head);
    buffer.extend_from_slice(tail);
    1 + head.len() + tail.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_in_both_protocols() {
        let message = Publication::new(Kind::Channel, b"ch", b"text");
        let shard = Publication::new(Kind::Shard, b"s", b"");
        let mut out = ReplyBuf::default();
        write(&mut out, Proto::Resp2, &head(&message, None), &message.tail);
        write(&mut out, Proto::Resp3, &head(&message, Some(b"c*")), &message.tail);
        let length = write(&mut out, Proto::Resp3, &head(&shard, None), &shard.tail);
        let expected = "*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$4\r\ntext\r\n\
                        >4\r\n$8\r\npmessage\r\n$2\r\nc*\r\n$2\r\nch\r\n$4\r\ntext\r\n\
                        >3\r\n$8\r\nsmessage\r\n$1\r\ns\r\n$0\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(out.bytes()), expected);
        assert_eq!(length, ">3\r\n$8\r\nsmessage\r\n$1\r\ns\r\n$0\r\n\r\n".len());
    }

    #[test]
    fn shard_channels_are_counted_for_themselves() {
        let mut subscriber = Subscriber::default();
        for (kind, name) in
            [(Kind::Channel, "a"), (Kind::Channel, "b"), (Kind::Pattern, "a"), (Kind::Shard, "a")]
        {
            subscriber.add(kind, Arc::from(name.as_bytes()));
        }
        assert_eq!(subscriber.count_beside(Kind::Pattern), 3);
        assert_eq!(subscriber.count_beside(Kind::Shard), 1);
        assert_eq!(subscriber.len(), 4);
    }
}
