//! Who subscribes to what, as publishers must know it: for each name how many subscribers each
//! worker has. Which connections these are only their worker knows ([`Desk`](super::Desk)).
//!
//! One lock, held for a lookup, a walk over the patterns and a push for each worker that has
//! receivers. Not a lock for each part of the names: they would let two messages reach two
//! subscribers in different orders, which Redis never does. While nobody subscribes to anything,
//! publishing takes no lock.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use sluice_keyspace::glob;

use super::{Kind, POST_BYTES_MAX, Post, Publication, Subscriber};

/// What to do when a worker has not kept up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Publish nothing: the publisher tries again.
    CanWait,
    /// Leave the workers out whose post has more bytes than this and is full; 0: none.
    Now { bytes_max: usize },
}

/// The subscribers of one name.
#[derive(Debug, Default)]
struct Count {
    total: usize,
    /// Worker and number of subscribers; only workers that have some.
    by_worker: Vec<(usize, usize)>,
}

impl Count {
    fn add(&mut self, worker: usize) {
        self.total += 1;
        match self.by_worker.iter_mut().find(|(number, _)| *number == worker) {
            Some((_, count)) => *count += 1,
            None => self.by_worker.push((worker, 1)),
        }
    }

    fn remove(&mut self, worker: usize) {
        let at = self.by_worker.iter().position(|(number, _)| *number == worker);
        debug_assert!(at.is_some(), "worker {worker} has no subscriber to remove");
        let Some(at) = at else { return };
        self.total -= 1;
        self.by_worker[at].1 -= 1;
        if self.by_worker[at].1 == 0 {
            self.by_worker.swap_remove(at);
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// The number of the newest message.
    newest: u64,
    names: [HashMap<Arc<[u8]>, Count>; 3],
    /// Receivers of the message at hand, by worker. Kept for its room.
    receivers: Vec<usize>,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Registry {
    state: Mutex<State>,
    /// Names with a subscriber.
    names: AtomicUsize,
    posts: Vec<Post>,
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// Counted receivers, and workers to wake.
    To { receivers: usize, wake: Vec<usize> },
    /// A worker has not kept up; nothing happened.
    Full,
}

impl Registry {
    pub(crate) fn new(workers: usize) -> Registry {
        let state = State { receivers: vec![0; workers], ..State::default() };
        let posts = (0..workers).map(|_| Post::default()).collect();
        Registry { state: Mutex::new(state), names: AtomicUsize::new(0), posts }
    }

    pub(crate) fn post(&self, worker: usize) -> &Post {
        &self.posts[worker]
    }

    /// A connection of this worker subscribes. Returns the name to keep and the number of the first
    /// message that is for it.
    pub(crate) fn subscribe(&self, kind: Kind, name: &[u8], worker: usize) -> (Arc<[u8]>, u64) {
        let mut state = crate::lock(&self.state);
        let since = state.newest + 1;
        let names = &mut state.names[kind.index()];
        let kept = match names.get_key_value(name) {
            Some((kept, _)) => Arc::clone(kept),
            None => {
                self.names.fetch_add(1, Ordering::SeqCst);
                Arc::from(name)
            }
        };
        names.entry(Arc::clone(&kept)).or_default().add(worker);
        (kept, since)
    }

    /// What is published from now on is not counted for that connection any more.
    pub(crate) fn unsubscribe(&self, kind: Kind, name: &[u8], worker: usize) {
        let mut state = crate::lock(&self.state);
        let names = &mut state.names[kind.index()];
        let Some(count) = names.get_mut(name) else { return };
        count.remove(worker);
        if count.total == 0 {
            names.remove(name);
            self.names.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Puts a message into the posts of its receivers' workers. It never waits for them.
    pub(crate) fn publish(
        &self,
        kind: Kind,
        channel: &[u8],
        payload: &[u8],
        urgency: Urgency,
    ) -> Published {
        if self.names.load(Ordering::SeqCst) == 0 {
            return Published::To { receivers: 0, wake: Vec::new() };
        }
        // Copied before the lock is taken.
        let mut publication = Publication::new(kind, channel, payload);
        let mut guard = crate::lock(&self.state);
        let State { newest, names, receivers } = &mut *guard;
        receivers.fill(0);
        let exact = names[kind.index()].get(channel);
        let matching = names[Kind::Pattern.index()]
            .iter()
            .filter(|(pattern, _)| kind == Kind::Channel && glob::matches(pattern, channel, false));
        for count in exact.into_iter().chain(matching.map(|(_, count)| count)) {
            count.by_worker.iter().for_each(|(worker, count)| receivers[*worker] += count);
        }
        let concerned =
            || receivers.iter().zip(&self.posts).enumerate().filter(|(_, (n, _))| **n > 0);
        if urgency == Urgency::CanWait && concerned().any(|(_, (_, post))| post.refuses()) {
            return Published::Full;
        }
        *newest += 1;
        publication.number = *newest;
        let (mut total, mut wake) = (0, Vec::new());
        for (worker, (count, post)) in concerned() {
            let is_over = match urgency {
                Urgency::CanWait | Urgency::Now { bytes_max: 0 } => false,
                // Others may fill it that far while its subscribers do keep up.
                Urgency::Now { bytes_max } => post.bytes() > bytes_max.max(POST_BYTES_MAX),
            };
            if is_over {
                post.note_missed();
                wake.push(worker);
                continue;
            }
            total += count;
            if post.push(publication.clone()) {
                wake.push(worker);
            }
        }
        Published::To { receivers: total, wake }
    }

    /// Whether some worker has not kept up: a publisher that can wait should. It will be told.
    pub(crate) fn is_congested(&self) -> bool {
        self.posts.iter().any(Post::refuses)
    }

    /// Stops all publishing until it is dropped, to move a connection.
    pub(crate) fn begin_move(&self) -> Moving<'_> {
        Moving { state: crate::lock(&self.state) }
    }

    /// Names with a subscriber.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        crate::lock(&self.state).names[kind.index()].len()
    }

    pub(crate) fn subscribers(&self, kind: Kind, name: &[u8]) -> usize {
        crate::lock(&self.state).names[kind.index()].get(name).map_or(0, |count| count.total)
    }

    /// The names that match a pattern, sorted.
    pub(crate) fn list(&self, kind: Kind, pattern: Option<&[u8]>) -> Vec<Arc<[u8]>> {
        let matches = |name: &[u8]| pattern.is_none_or(|text| glob::matches(text, name, false));
        let mut found: Vec<Arc<[u8]>> = {
            let state = crate::lock(&self.state);
            let names = state.names[kind.index()].keys();
            names.filter(|name| matches(name)).cloned().collect()
        };
        found.sort_unstable();
        found
    }
}

/// A connection on its way to another worker, while nothing can be published.
pub(crate) struct Moving<'a> {
    state: MutexGuard<'a, State>,
}

impl Moving<'_> {
    /// Later messages go to the worker `to`. The subscriber has had all earlier ones.
    pub(crate) fn transfer(&mut self, subscriber: &mut Subscriber, from: usize, to: usize) {
        for kind in Kind::ALL {
            for name in subscriber.names(kind) {
                let count = self.state.names[kind.index()].get_mut(name);
                debug_assert!(count.is_some(), "a subscription the registry does not know");
                if let Some(count) = count {
                    count.remove(from);
                    count.add(to);
                }
            }
        }
        subscriber.seen = self.state.newest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(registry: &Registry, kind: Kind, channel: &[u8]) -> usize {
        match registry.publish(kind, channel, b"text", Urgency::CanWait) {
            Published::To { receivers, .. } => receivers,
            Published::Full => panic!("full"),
        }
    }

    fn numbers(registry: &Registry, worker: usize) -> Vec<u64> {
        let mut taken = Vec::new();
        registry.post(worker).take(&mut taken);
        taken.iter().map(|publication| publication.number).collect()
    }

    #[test]
    fn receivers_are_counted_and_only_their_workers_get_the_message() {
        let registry = Registry::new(3);
        assert_eq!(sent(&registry, Kind::Channel, b"news"), 0);
        registry.subscribe(Kind::Channel, b"news", 0);
        registry.subscribe(Kind::Channel, b"news", 0);
        registry.subscribe(Kind::Channel, b"news", 2);
        registry.subscribe(Kind::Pattern, b"n*", 2);
        registry.subscribe(Kind::Shard, b"news", 1);
        assert_eq!(sent(&registry, Kind::Channel, b"news"), 4);
        assert_eq!(sent(&registry, Kind::Channel, b"night"), 1);
        assert_eq!(sent(&registry, Kind::Shard, b"news"), 1);
        assert_eq!(sent(&registry, Kind::Shard, b"night"), 0);
        assert_eq!(
            (0..3).map(|worker| numbers(&registry, worker)).collect::<Vec<_>>(),
            [vec![1], vec![3], vec![1, 2]]
        );
        assert_eq!(registry.subscribers(Kind::Channel, b"news"), 3);
        registry.unsubscribe(Kind::Channel, b"news", 0);
        assert_eq!(sent(&registry, Kind::Channel, b"news"), 3);
        registry.unsubscribe(Kind::Channel, b"news", 0);
        registry.unsubscribe(Kind::Channel, b"news", 2);
        assert_eq!(registry.count(Kind::Channel), 0);
        registry.unsubscribe(Kind::Channel, b"news", 2);
        assert_eq!(registry.list(Kind::Pattern, None).len(), 1);
    }

    #[test]
    fn a_subscription_is_for_what_comes_after_it() {
        let registry = Registry::new(1);
        assert_eq!(registry.subscribe(Kind::Channel, b"a", 0).1, 1);
        sent(&registry, Kind::Channel, b"a");
        sent(&registry, Kind::Channel, b"a");
        assert_eq!(registry.subscribe(Kind::Channel, b"a", 0).1, 3);
    }

    #[test]
    fn only_the_worker_concerned_is_woken_and_only_once() {
        let registry = Registry::new(2);
        registry.subscribe(Kind::Channel, b"a", 1);
        let publish = || registry.publish(Kind::Channel, b"a", b"", Urgency::CanWait);
        assert_eq!(publish(), Published::To { receivers: 1, wake: vec![1] });
        assert_eq!(publish(), Published::To { receivers: 1, wake: vec![] });
    }

    #[test]
    fn a_full_post_makes_those_wait_who_can_and_costs_the_others_their_subscribers() {
        let registry = Registry::new(2);
        registry.subscribe(Kind::Channel, b"a", 0);
        registry.subscribe(Kind::Channel, b"a", 1);
        registry.subscribe(Kind::Channel, b"b", 1);
        let big = vec![b'x'; POST_BYTES_MAX];
        let publish =
            |channel: &[u8], urgency| registry.publish(Kind::Channel, channel, &big, urgency);
        assert!(matches!(publish(b"b", Urgency::CanWait), Published::To { receivers: 1, .. }));
        assert!(registry.is_congested());
        assert_eq!(publish(b"a", Urgency::CanWait), Published::Full);
        assert_eq!(registry.post(0).bytes(), 0, "nothing for anyone");
        let now = |bytes_max| publish(b"a", Urgency::Now { bytes_max });
        assert!(matches!(now(0), Published::To { receivers: 2, .. }));
        assert!(!registry.post(1).take_missed());
        // Worker 1 has two of them, worker 0 one.
        assert!(matches!(now(big.len() * 3 / 2), Published::To { receivers: 1, .. }));
        assert!(registry.post(1).take_missed() && !registry.post(0).take_missed());
    }

    #[test]
    fn a_move_takes_the_subscriptions_along() {
        let registry = Registry::new(2);
        let mut subscriber = Subscriber::default();
        for kind in Kind::ALL {
            let (name, _) = registry.subscribe(kind, b"a", 0);
            subscriber.add(kind, name);
        }
        assert_eq!(sent(&registry, Kind::Channel, b"a"), 2);
        registry.begin_move().transfer(&mut subscriber, 0, 1);
        assert_eq!(subscriber.seen, 1);
        assert_eq!(sent(&registry, Kind::Channel, b"a"), 2);
        assert_eq!(sent(&registry, Kind::Shard, b"a"), 1);
        assert_eq!((numbers(&registry, 0), numbers(&registry, 1)), (vec![1], vec![2, 3]));
    }
}
