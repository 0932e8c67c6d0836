//! A worker's desk: which of its own connections subscribe to what, by their place, and the messages
//! it has collected from its post and not delivered yet, oldest first.
//!
//! A message leaves the desk when every connection has it. A connection may be ahead of that
//! ([`Desk::catch_up`]): its `seen` says so.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use sluice_keyspace::glob;
use sluice_resp::Proto;

use super::subscriber::{head, write};
use super::{Kind, Publication, Registry, Subscriber};

/// The place of a connection, and the number of the first message that is for it.
type Places = BTreeMap<usize, u64>;

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Desk {
    worker: usize,
    places: [HashMap<Arc<[u8]>, Places>; 3],
    collected: VecDeque<Publication>,
}

impl Desk {
    pub(crate) fn new(worker: usize) -> Desk {
        Desk { worker, places: Default::default(), collected: VecDeque::new() }
    }

    pub(crate) fn worker(&self) -> usize {
        self.worker
    }

    /// False: it had subscribed already.
    pub(crate) fn subscribe(
        &mut self,
        registry: &Registry,
        (subscriber, place): (&mut Subscriber, usize),
        kind: Kind,
        name: &[u8],
    ) -> bool {
        if subscriber.names(kind).contains(name) {
            return false;
        }
        let (name, since) = registry.subscribe(kind, name, self.worker);
        self.places[kind.index()].entry(Arc::clone(&name)).or_default().insert(place, since);
        subscriber.add(kind, name);
        true
    }

    /// Ends a subscription, after everything that was published before is among the subscriber's
    /// pushes. False: there was none.
    pub(crate) fn unsubscribe(
        &mut self,
        registry: &Registry,
        (subscriber, place): (&mut Subscriber, usize),
        (kind, name): (Kind, &[u8]),
        proto: Proto,
    ) -> bool {
        if !subscriber.names(kind).contains(name) {
            return false;
        }
        // In this order: what the registry counted until now is in the post.
        registry.unsubscribe(kind, name, self.worker);
        self.catch_up(registry, (subscriber, place), proto);
        self.forget(kind, name, place);
        subscriber.remove(kind, name);
        true
    }

    /// The connection is gone: all its subscriptions end.
    pub(crate) fn leave(&mut self, registry: &Registry, subscriber: &Subscriber, place: usize) {
        for kind in Kind::ALL {
            for name in subscriber.names(kind) {
                registry.unsubscribe(kind, name, self.worker);
            }
        }
        self.give_away(subscriber, place);
    }

    /// The connection goes to another worker: it is not at its place any more.
    pub(crate) fn give_away(&mut self, subscriber: &Subscriber, place: usize) {
        for kind in Kind::ALL {
            for name in subscriber.names(kind) {
                self.forget(kind, name, place);
            }
        }
    }

    /// A connection came from another worker, which has told the registry.
    pub(crate) fn take_over(&mut self, subscriber: &Subscriber, place: usize) {
        for kind in Kind::ALL {
            for name in subscriber.names(kind) {
                let places = self.places[kind.index()].entry(Arc::clone(name)).or_default();
                // `seen` says what it has had.
                places.insert(place, 0);
            }
        }
    }

    fn forget(&mut self, kind: Kind, name: &[u8], place: usize) {
        let names = &mut self.places[kind.index()];
        if let Some(places) = names.get_mut(name) {
            places.remove(&place);
            if places.is_empty() {
                names.remove(name);
            }
        }
    }

    /// Fetches what is in the post.
    pub(crate) fn collect(&mut self, registry: &Registry) {
        registry.post(self.worker).take(&mut self.collected);
    }

    /// The oldest message that is not delivered to all.
    pub(crate) fn next(&mut self) -> Option<Publication> {
        self.collected.pop_front()
    }

    /// Nothing is left to deliver.
    pub(crate) fn is_idle(&self, registry: &Registry) -> bool {
        self.collected.is_empty() && !registry.post(self.worker).is_signalled()
    }

    /// The message is delivered to all. True: publishers wait and there is room for them.
    pub(crate) fn delivered(&self, registry: &Registry, publication: &Publication) -> bool {
        registry.post(self.worker).delivered(publication.cost())
    }

    /// Calls `deliver` with the place of each connection that a message is for and with the
    /// message's head; more than once for one that subscribes by several names.
    pub(crate) fn receivers(
        &self,
        publication: &Publication,
        mut deliver: impl FnMut(usize, &[u8]),
    ) {
        let mut all = |places: &Places, pattern: Option<&[u8]>| {
            let head = head(publication, pattern);
            for (&place, _) in places.iter().filter(|(_, since)| **since <= publication.number) {
                deliver(place, &head);
            }
        };
        if let Some(places) = self.places[publication.kind.index()].get(publication.channel()) {
            all(places, None);
        }
        if publication.kind == Kind::Channel {
            for (pattern, places) in &self.places[Kind::Pattern.index()] {
                if glob::matches(pattern, publication.channel(), false) {
                    all(places, Some(pattern));
                }
            }
        }
    }

    /// Writes what is there for one connection, ahead of the others, among its pushes.
    pub(crate) fn catch_up(
        &mut self,
        registry: &Registry,
        (subscriber, place): (&mut Subscriber, usize),
        proto: Proto,
    ) {
        let newest = registry.post(self.worker).newest();
        if newest <= subscriber.seen {
            return;
        }
        self.collect(registry);
        let first = self.collected.partition_point(|it| it.number <= subscriber.seen);
        let is_for = |kind: Kind, name: &[u8], number: u64| {
            let since = self.places[kind.index()].get(name).and_then(|places| places.get(&place));
            since.is_some_and(|since| *since <= number)
        };
        let Subscriber { names, pushes, .. } = &mut *subscriber;
        for publication in self.collected.range(first..) {
            let (kind, channel, number) =
                (publication.kind, publication.channel(), publication.number);
            if is_for(kind, channel, number) {
                write(pushes, proto, &head(publication, None), &publication.tail);
            }
            if kind == Kind::Channel {
                for pattern in &names[Kind::Pattern.index()] {
                    if glob::matches(pattern, channel, false)
                        && is_for(Kind::Pattern, pattern, number)
                    {
                        let head = head(publication, Some(pattern));
                        write(pushes, proto, &head, &publication.tail);
                    }
                }
            }
        }
        let last = self.collected.back().map_or(0, |publication| publication.number);
        subscriber.seen = newest.max(last);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Published, Urgency};
    use super::*;

    fn publish(registry: &Registry, channel: &str, payload: &str) {
        registry.publish(Kind::Channel, channel.as_bytes(), payload.as_bytes(), Urgency::CanWait);
    }

    /// What one round of delivering gives to each place, as payloads.
    fn round(desk: &mut Desk, registry: &Registry, seen: &[u64]) -> Vec<(usize, String)> {
        let mut got = Vec::new();
        desk.collect(registry);
        while let Some(publication) = desk.next() {
            let text = String::from_utf8_lossy(&publication.tail).into_owned();
            let payload = text.trim_end().rsplit("\r\n").next().unwrap().to_owned();
            desk.receivers(&publication, |place, _| {
                if seen[place] < publication.number {
                    got.push((place, payload.clone()));
                }
            });
            desk.delivered(registry, &publication);
        }
        got
    }

    #[test]
    fn a_connection_that_catches_up_gets_nothing_twice() {
        let (registry, mut desk) = (Registry::new(1), Desk::new(0));
        let (mut one, mut two) = (Subscriber::default(), Subscriber::default());
        desk.subscribe(&registry, (&mut one, 0), Kind::Channel, b"a");
        desk.subscribe(&registry, (&mut one, 0), Kind::Pattern, b"*");
        publish(&registry, "a", "first");
        desk.subscribe(&registry, (&mut two, 1), Kind::Channel, b"a");
        publish(&registry, "a", "second");
        desk.catch_up(&registry, (&mut one, 0), Proto::Resp2);
        let text = String::from_utf8_lossy(one.pushes.bytes()).into_owned();
        assert_eq!(text.matches("first").count(), 2, "by name and by pattern: {text}");
        assert_eq!(text.matches("second").count(), 2);
        publish(&registry, "a", "third");
        let got = round(&mut desk, &registry, &[one.seen, two.seen]);
        // Not "first" for the second one: it subscribed later.
        let wanted = [(1, "second"), (0, "third"), (1, "third"), (0, "third")];
        assert_eq!(got, wanted.map(|(place, text)| (place, text.to_owned())));
        assert!(desk.is_idle(&registry));
    }

    #[test]
    fn unsubscribing_takes_what_was_counted_before() {
        let (registry, mut desk) = (Registry::new(1), Desk::new(0));
        let mut one = Subscriber::default();
        let (kind, name) = (Kind::Channel, &b"a"[..]);
        assert!(desk.subscribe(&registry, (&mut one, 0), kind, name));
        assert!(!desk.subscribe(&registry, (&mut one, 0), kind, name));
        publish(&registry, "a", "before");
        assert!(desk.unsubscribe(&registry, (&mut one, 0), (kind, name), Proto::Resp3));
        assert!(!desk.unsubscribe(&registry, (&mut one, 0), (kind, name), Proto::Resp3));
        publish(&registry, "a", "after");
        assert_eq!(one.pushes.bytes(), b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$6\r\nbefore\r\n");
        assert!(round(&mut desk, &registry, &[one.seen]).is_empty());
        assert_eq!(registry.count(kind), 0);
    }

    #[test]
    fn what_moves_leaves_nothing_behind_and_loses_nothing() {
        let registry = Registry::new(2);
        let (mut giver, mut taker) = (Desk::new(0), Desk::new(1));
        let (mut moved, mut other) = (Subscriber::default(), Subscriber::default());
        giver.subscribe(&registry, (&mut moved, 0), Kind::Channel, b"a");
        taker.subscribe(&registry, (&mut other, 0), Kind::Channel, b"a");
        publish(&registry, "a", "first");
        let mut moving = registry.begin_move();
        giver.catch_up(&registry, (&mut moved, 0), Proto::Resp2);
        moving.transfer(&mut moved, 0, 1);
        drop(moving);
        giver.give_away(&moved, 0);
        publish(&registry, "a", "second");
        taker.take_over(&moved, 1);
        assert!(String::from_utf8_lossy(moved.pushes.bytes()).contains("first"));
        assert!(round(&mut giver, &registry, &[0]).is_empty());
        let got = round(&mut taker, &registry, &[other.seen, moved.seen]);
        let wanted = [(0, "first"), (0, "second"), (1, "second")];
        assert_eq!(got, wanted.map(|(place, text)| (place, text.to_owned())));
        taker.leave(&registry, &moved, 1);
        taker.leave(&registry, &other, 0);
        assert_eq!(registry.count(Kind::Channel), 0);
    }

    /// A publisher at work on another thread: what it has announced, a connection that catches up
    /// finds.
    #[test]
    fn nothing_counts_as_seen_before_it_is_collected() {
        const COUNT: usize = 200_000;
        let (registry, mut desk) = (Registry::new(1), Desk::new(0));
        let mut one = Subscriber::default();
        desk.subscribe(&registry, (&mut one, 0), Kind::Channel, b"a");
        let mut got = 0;
        std::thread::scope(|scope| {
            let publisher = scope.spawn(|| {
                for _ in 0..COUNT {
                    let publish = || registry.publish(Kind::Channel, b"a", b"x", Urgency::CanWait);
                    while publish() == Published::Full {
                        std::thread::yield_now();
                    }
                }
            });
            loop {
                let is_last = publisher.is_finished();
                desk.catch_up(&registry, (&mut one, 0), Proto::Resp2);
                let message = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n";
                got += one.pushes.len() / message.len();
                one.pushes.truncate(0);
                while let Some(publication) = desk.next() {
                    got += usize::from(one.seen < publication.number);
                    desk.delivered(&registry, &publication);
                }
                if is_last && desk.is_idle(&registry) {
                    break;
                }
            }
        });
        assert_eq!(got, COUNT);
    }
}
