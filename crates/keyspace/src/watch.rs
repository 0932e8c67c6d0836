//! WATCH, exact: a client's flag is set when, and only when, a key it watches has changed.
//!
//! A writer tells the watchers after its batch is visible and before it gives back its latches.
//! EXEC takes the latches of its watched keys too ([`WatchList::add_latches`]), so between a
//! change and the news of it no transaction that watches the key can begin. A client that
//! registers after the writer looked reads the writer's value; that order is a legal one.
//!
//! Expired keys, as Redis 7 has it: a key that was due when WATCH came counts as missing, so its
//! deletion is no change (`stale`); a key that becomes due afterwards aborts the transaction even
//! when nobody has deleted it yet ([`crate::Txn::watches_hold`]).

use crate::{keyspace::Shared, latch::LatchSet};
use std::{
    collections::HashMap,
    hash::BuildHasher,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

const STRIPE_COUNT: usize = 64;

/// What a write did to a key, as far as its watchers care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Changed,
    Deleted,
    /// A missing key got a value that is already due (SWAPDB can do that): still missing.
    BecameDue,
    /// A stored key got another value that is already due.
    ReplacedByDue,
}

type Watchers = HashMap<Box<[u8]>, Vec<Watcher>, foldhash::fast::RandomState>;

#[derive(Debug)]
struct Watcher {
    db: u32,
    /// The key was stored but due when the watch began.
    stale: bool,
    dirty: Arc<AtomicBool>,
}

#[derive(Debug)]
pub(crate) struct Watches {
    stripes: Box<[Mutex<Watchers>]>,
    /// Registrations in all stripes: zero makes every other function here free.
    count: AtomicUsize,
    hasher: foldhash::fast::RandomState,
}

impl Watches {
    pub(crate) fn new() -> Watches {
        Watches {
            stripes: (0..STRIPE_COUNT).map(|_| Mutex::default()).collect(),
            count: AtomicUsize::new(0),
            hasher: foldhash::fast::RandomState::default(),
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.count.load(SeqCst) == 0
    }

    fn stripe(&self, key: &[u8]) -> MutexGuard<'_, Watchers> {
        let index = self.hasher.hash_one(key) as usize % STRIPE_COUNT;
        self.stripes[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, db: u32, key: &[u8], stale: bool, dirty: &Arc<AtomicBool>) {
        // Before the registration can be found: a writer that reads zero may skip the search.
        self.count.fetch_add(1, SeqCst);
        let watcher = Watcher { db, stale, dirty: Arc::clone(dirty) };
        self.stripe(key).entry(key.into()).or_default().push(watcher);
    }

    fn unregister(&self, db: u32, key: &[u8], dirty: &Arc<AtomicBool>) {
        let mut stripe = self.stripe(key);
        let Some(watchers) = stripe.get_mut(key) else { return };
        let before = watchers.len();
        watchers.retain(|w| w.db != db || !Arc::ptr_eq(&w.dirty, dirty));
        self.count.fetch_sub(before - watchers.len(), SeqCst);
        if watchers.is_empty() {
            stripe.remove(key);
        }
    }

    /// Tells the watchers of a key what happened to it.
    pub(crate) fn touch(&self, db: u32, key: &[u8], outcome: Outcome) {
        let mut stripe = self.stripe(key);
        let Some(watchers) = stripe.get_mut(key) else { return };
        for watcher in watchers.iter_mut().filter(|watcher| watcher.db == db) {
            match (outcome, watcher.stale) {
                (Outcome::Deleted, true) => watcher.stale = false,
                (Outcome::BecameDue, _) => watcher.stale = true,
                (Outcome::ReplacedByDue, true) => {}
                _ => watcher.dirty.store(true, SeqCst),
            }
        }
    }

    /// Every watched key of a database, once each.
    pub(crate) fn keys_of(&self, db: u32) -> Vec<Box<[u8]>> {
        let mut keys = Vec::new();
        if self.is_idle() {
            return keys;
        }
        for stripe in &self.stripes {
            let stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
            let watched = stripe.iter().filter(|(_, list)| list.iter().any(|w| w.db == db));
            keys.extend(watched.map(|(key, _)| key.clone()));
        }
        keys
    }

    fn is_stale(&self, db: u32, key: &[u8], dirty: &Arc<AtomicBool>) -> bool {
        self.stripe(key).get(key).is_some_and(|watchers| {
            watchers.iter().any(|w| w.db == db && w.stale && Arc::ptr_eq(&w.dirty, dirty))
        })
    }
}

/// What one client watches. Dropping it ends the watches.
#[derive(Debug)]
pub struct WatchList {
    shared: Arc<Shared>,
    dirty: Arc<AtomicBool>,
    keys: Vec<(u32, Box<[u8]>)>,
}

impl WatchList {
    pub(crate) fn new(shared: Arc<Shared>) -> WatchList {
        WatchList { shared, dirty: Arc::default(), keys: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a watched key has changed. Only final under the latches of the watched keys, which
    /// is where [`crate::Txn::watches_hold`] asks; before, `true` is already certain.
    pub fn is_dirty(&self) -> bool {
        self.dirty.load(SeqCst)
    }

    /// Watches `key` of `db`. The calling thread holds no latch; a key watched already stays as it
    /// was, and so does everything once the list is dirty.
    ///
    /// # Errors
    /// Reading the key's row failed; the key is not watched then.
    pub fn watch(&mut self, db: u32, key: &[u8], now_ms: u64) -> sluicedb::Result<()> {
        if self.is_dirty() || self.keys.iter().any(|(d, k)| *d == db && **k == *key) {
            return Ok(());
        }
        let mut set = LatchSet::new();
        set.add_key(key);
        self.shared.latches.acquire(&set);
        // Under the latch: whether the key is stale cannot change before it is registered.
        let stale = self.shared.is_stored_and_due(db, key, now_ms);
        if let Ok(stale) = stale {
            self.shared.watches.register(db, key, stale, &self.dirty);
            self.keys.push((db, key.into()));
        }
        self.shared.latches.release(&set);
        stale.map(drop)
    }

    /// Ends every watch and forgets what happened: UNWATCH, and the end of EXEC and DISCARD.
    pub fn clear(&mut self) {
        for (db, key) in self.keys.drain(..) {
            self.shared.watches.unregister(db, &key, &self.dirty);
        }
        // Nobody else has the flag now.
        self.dirty.store(false, Relaxed);
    }

    /// Adds the latches EXEC needs to trust this list.
    pub fn add_latches(&self, set: &mut LatchSet) {
        self.keys.iter().for_each(|(_, key)| set.add_key(key));
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.keys.iter().map(|(db, key)| (*db, &**key))
    }

    pub(crate) fn counts_as_missing(&self, db: u32, key: &[u8]) -> bool {
        self.shared.watches.is_stale(db, key, &self.dirty)
    }
}

impl Drop for WatchList {
    fn drop(&mut self) {
        self.clear();
    }
}
