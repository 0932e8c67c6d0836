//! A worker's post: messages that publishers have put there and the worker has not delivered yet.
//!
//! `bytes` counts a message from the push until the worker has delivered it, so that it bounds the
//! worker's [`Desk`](super::Desk) too. A publisher that finds the post full says so (`awaited`) and
//! looks again; the worker takes its bytes off and then looks whether it is awaited. Both in
//! sequentially consistent order, so one of the two sees the other and no publisher waits for ever.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::{Kind, POST_BYTES_MAX};

/// A published message.
#[derive(Debug, Clone)]
pub(crate) struct Publication {
    /// Its place in the order of all messages, from 1.
    pub(crate) number: u64,
    /// `Channel` or `Shard`.
    pub(crate) kind: Kind,
    /// Channel and payload as two bulk strings: how every form of the message ends.
    pub(crate) tail: Arc<[u8]>,
    channel: Range<usize>,
}

/// What a queued message costs beside its bytes: the entry, and its share of the `Arc`.
const OVERHEAD: usize = 64;

impl Publication {
    /// Encodes a message; its number comes later.
    pub(crate) fn new(kind: Kind, channel: &[u8], payload: &[u8]) -> Publication {
        let mut tail = sluice_resp::ReplyBuf::default();
        tail.buffer_mut().reserve(channel.len() + payload.len() + 32);
        tail.bulk(channel);
        let end = tail.len() - 2;
        tail.bulk(payload);
        Publication {
            number: 0,
            kind,
            tail: tail.bytes().into(),
            channel: end - channel.len()..end,
        }
    }

    pub(crate) fn channel(&self) -> &[u8] {
        &self.tail[self.channel.clone()]
    }

    /// What it counts in a post.
    pub(super) fn cost(&self) -> usize {
        self.tail.len() + OVERHEAD
    }
}

/// One worker's queue.
#[derive(Debug, Default)]
pub(crate) struct Post {
    queue: Mutex<Vec<Publication>>,
    bytes: AtomicUsize,
    /// The number of the newest message that was ever put here.
    newest: AtomicU64,
    /// The worker was woken for what is in the queue, or looks by itself.
    signalled: AtomicBool,
    /// A publisher waits for room.
    awaited: AtomicBool,
    /// A message was not put here because even the hard limit was reached.
    missed: AtomicBool,
}

impl Post {
    /// Puts a message in. True: the worker must be woken. Under the registry's lock.
    pub(super) fn push(&self, publication: Publication) -> bool {
        self.bytes.fetch_add(publication.cost(), Ordering::SeqCst);
        let number = publication.number;
        crate::lock(&self.queue).push(publication);
        // In this order: who knows the number and collects, which needs the signal, has it.
        let wakes = !self.signalled.swap(true, Ordering::AcqRel);
        self.newest.store(number, Ordering::Release);
        wakes
    }

    /// True: it is full, and the worker will say when it is not.
    pub(super) fn refuses(&self) -> bool {
        let is_full = || self.bytes.load(Ordering::SeqCst) >= POST_BYTES_MAX;
        if !is_full() {
            return false;
        }
        self.awaited.store(true, Ordering::SeqCst);
        is_full()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The number of the newest message that was ever put here.
    #[inline]
    pub(crate) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    pub(super) fn note_missed(&self) {
        self.missed.store(true, Ordering::Release);
        self.signalled.store(true, Ordering::Release);
    }

    /// Whether a message was missed since the last look.
    pub(crate) fn take_missed(&self) -> bool {
        self.missed.load(Ordering::Relaxed) && self.missed.swap(false, Ordering::AcqRel)
    }

    /// There is something the worker has not collected.
    pub(crate) fn is_signalled(&self) -> bool {
        self.signalled.load(Ordering::Acquire)
    }

    /// Moves everything behind what `into` has. The signal is cleared first: what comes afterwards
    /// wakes again.
    pub(super) fn take(&self, into: &mut impl Extend<Publication>) {
        if self.is_signalled() {
            self.signalled.store(false, Ordering::Release);
            into.extend(crate::lock(&self.queue).drain(..));
        }
    }

    /// Messages of this cost are delivered. True: publishers wait and there is room for them.
    pub(super) fn delivered(&self, cost: usize) -> bool {
        let left = self.bytes.fetch_sub(cost, Ordering::SeqCst) - cost;
        left < POST_BYTES_MAX
            && self.awaited.load(Ordering::SeqCst)
            && self.awaited.swap(false, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(number: u64, payload: &[u8]) -> Publication {
        Publication { number, ..Publication::new(Kind::Channel, b"news", payload) }
    }

    #[test]
    fn a_message_is_encoded_once_and_knows_its_channel() {
        let publication = numbered(1, b"a\r\nb");
        assert_eq!(publication.channel(), b"news");
        assert_eq!(&publication.tail[..], b"$4\r\nnews\r\n$4\r\na\r\nb\r\n");
    }

    #[test]
    fn the_worker_is_woken_once_for_what_it_has_not_collected() {
        let post = Post::default();
        assert!(post.push(numbered(1, b"")) && !post.push(numbered(2, b"")));
        let mut taken = Vec::new();
        post.take(&mut taken);
        assert_eq!(taken.iter().map(|publication| publication.number).collect::<Vec<_>>(), [1, 2]);
        assert!(post.push(numbered(3, b"")));
        assert_eq!(post.newest(), 3);
    }

    #[test]
    fn a_full_post_refuses_until_enough_is_delivered() {
        let post = Post::default();
        let big = numbered(1, &vec![0; POST_BYTES_MAX]);
        assert!(!post.refuses());
        post.push(big.clone());
        assert!(post.refuses());
        // Collecting is not delivering.
        post.take(&mut Vec::new());
        assert!(post.refuses());
        assert!(post.delivered(big.cost()), "somebody waits");
        assert!(!post.refuses());
        post.push(big.clone());
        assert!(!post.delivered(big.cost()), "nobody waits");
    }
}
