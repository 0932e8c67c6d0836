//! [`SkipList`]: the ordered set of entries behind a memtable. Many threads insert at once, readers
//! take no lock and never wait, nothing is ever removed. Not a map: two versions of one user key
//! are two entries. Order: user key bytewise ascending, then [`Trailer`] descending (newest first).
//!
//! # The prefix beside the link
//!
//! `prefix` stands for the first 8 bytes of the key of the node that `next` points to (big endian,
//! zero padded, `u64::MAX` for the end of the list), so most comparisons of a search never touch
//! that node: a step that fails costs nothing, only a step that succeeds loads memory. Equal
//! prefixes decide nothing; then whole keys are compared.
//!
//! The two words of a link ([`super::node`]) do not change together. An inserter first swaps `next`
//! from `succ` to `node` (CAS, Release), then lowers `prefix` to at most node's (CAS loop, Release).
//! A reader loads `prefix` first and `next` second, both Acquire. **Claim: the prefix read is never
//! below the true prefix of the `next` read.**
//!
//! 1. `next` of one link only ever moves to smaller keys: each CAS puts `node` where `succ` was, and
//!    pred < node < succ. So the true prefix of `next` only ever falls.
//! 2. Every value of `prefix` is the initial value, stored with the initial `next` before the link
//!    became reachable, or was written by an inserter *after* its own CAS of `next`.
//! 3. The reader's Acquire load of `prefix` synchronises with that writer (writes to `prefix` are
//!    Release read-modify-writes, so a later one continues the release sequence of an earlier one).
//!    By coherence its later load of `next` sees that CAS or something newer, that is, by 1, a node
//!    whose prefix is at most the one read. ∎
//!
//! Hence for a search with prefix t and a link read as p:
//!
//! - t > p: the next node is before the target. Step onto it without looking at it. It is not the
//!   end of the list, because the end is `u64::MAX`, which nothing exceeds.
//! - t = p: compare whole keys with the node itself (this covers keys that begin with 0xff × 8, and
//!   the end of the list: `next` is null then).
//! - t < p: the next node is at or after the target, *unless* an inserter is between its two
//!   writes. Where the answer only steers the search (`walk` not `EXACT`), believe it: descending
//!   early costs steps, never correctness, because level 0 holds every node. For the answer on
//!   level 0, and for the place of a new link on any level, ask the node itself (`EXACT`).
//!
//! # Stopping early
//!
//! A search for the newest version of a key often meets its node levels above 0. Whether something
//! newer stands right before it is known without going down: before an inserter makes a newer
//! version reachable it flags the version behind it as superseded, and a node that is linked right
//! behind a newer version of its own key is born flagged. So of two versions of a key that are both
//! linked the older one is flagged, and meeting an unflagged one ends the search. That spares the
//! lowest levels, where every step is a cache miss.
//!
//! # The hints
//!
//! `prev` of a node is some node before it; `tails[l]` is some node linked at level l. Both are
//! only ever raised in key order, each inserter raises them after it has linked its node, and both
//! are good from wherever they stand: a walk forward from them finds the exact place. So they are
//! behind by at most the inserts that are in flight. `prev` makes backward iteration cheap, `tails`
//! makes ascending inserts cheap.

use super::{
    Memtable,
    arena::Arena,
    node::{Header, Node, Slot, key_prefix},
    sync::{Arc, AtomicUsize, Ordering},
};
use sluice_base::Trailer;
use std::{cmp, fmt, ptr::NonNull};

/// Tallest tower. With one node in two rising a level, 20 levels serve a million entries at full
/// speed, and more at a slowly falling one: the head's level is then walked further.
const HEIGHT_MAX: usize = match cfg!(sluice_loom) {
    false => 20,
    true => 2, // the lowest level and one that is not
};

/// One node in 2^this rises to the next level. A failing step is free, so what counts is succeeding
/// ones: (1-p)/p a level on ln n / ln(1/p) levels, 2.2 ln n for p = 1/4 and 1.4 ln n for p = 1/2,
/// for 11 bytes an entry more. Measured: a get from 550,000 entries in half the time.
const RISE_BITS: u32 = 1;

/// What a search looks for.
struct Probe<'k> {
    prefix: u64,
    key: &'k [u8],
    trailer: Trailer,
}

impl<'k> Probe<'k> {
    #[inline]
    fn new(key: &'k [u8], trailer: Trailer) -> Probe<'k> {
        Probe { prefix: key_prefix(key), key, trailer }
    }

    /// Whether `node` stands before the target, by whole keys.
    #[inline]
    fn is_after(&self, node: Node<'_>) -> bool {
        let order = node.key().cmp(self.key).then_with(|| self.trailer.cmp(&node.trailer()));
        order == cmp::Ordering::Less
    }
}

/// Where a walk along one level ended.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// The last node known to be before the target.
    pred: Node<'a>,
    /// A node known not to be before it; the one right behind `pred` if the walk was exact.
    succ: Option<Node<'a>>,
    /// `succ` has the target's user key and nothing newer has: no other node can be the first at
    /// or after the target.
    found: bool,
}

/// The entries of one memtable. See the file's head.
pub(super) struct SkipList {
    arena: Arena,
    /// A node before every entry, with a tower of full height; never handed out.
    head: NonNull<Header>,
    /// Levels in use. A search that reads an old value starts too low, which costs steps only.
    height: AtomicUsize,
    tails: [Slot; HEIGHT_MAX],
    seed: u64,
}

// SAFETY: `head` points into the list's own arena, which lives and dies with the list; nodes hold
// plain bytes and atomics and have no thread of their own.
unsafe impl Send for SkipList {}
// SAFETY: after its publication a node changes only through atomics; why every interleaving of
// those is right is argued in the file's head.
unsafe impl Sync for SkipList {}

impl SkipList {
    /// An empty list. `seed` varies the shape of the towers; the same seed and the same entries
    /// give the same shape.
    pub(super) fn new(seed: u64) -> SkipList {
        let arena = Arena::new();
        // The largest trailer stands before every other one of the same (empty) key, so the head
        // compares as before every entry.
        let head = Node::write(&arena, &[], Trailer(u64::MAX), &[], HEIGHT_MAX).pointer();
        let tails = std::array::from_fn(|_| Slot::default());
        SkipList { arena, head, height: AtomicUsize::new(1), tails, seed }
    }

    pub(super) fn arena(&self) -> &Arena {
        &self.arena
    }

    #[inline]
    fn head(&self) -> Node<'_> {
        // SAFETY: written in `new`, in the arena of this list.
        unsafe { Node::from_pointer(self.head) }
    }

    /// Adds an entry. False, and nothing changes, when the very same key and trailer are there.
    ///
    /// Panics when key or value is over the engine's limits, which batches refuse long before.
    pub(super) fn insert(&self, key: &[u8], trailer: Trailer, value: &[u8]) -> bool {
        let probe = Probe::new(key, trailer);
        let height = self.tower_height(trailer);
        // Written before the search, so that the stores drain while the search waits for loads.
        let node = Node::write(&self.arena, key, trailer, value, height);
        if height > self.height.load(Ordering::Relaxed) {
            self.height.fetch_max(height, Ordering::Relaxed);
        }
        let mut preds = [self.head(); HEIGHT_MAX];
        if !self.tails_before(&probe, &mut preds[..height]) {
            self.descend::<false>(&probe, height, |level, place| {
                if level < height {
                    preds[level] = place.pred;
                    // Its key decides in `link` whether this is the place. So the loads of all
                    // levels run beside the search instead of one after the other.
                    // SAFETY: `pred` was reached along `level`.
                    if let Some(next) = unsafe { place.pred.link(level) }.next.load() {
                        next.prefetch();
                    }
                }
                false
            });
        }
        // From the bottom up: what is reachable on a level is reachable on all below.
        for (level, &pred) in preds[..height].iter().enumerate() {
            if !self.link(node, level, pred, &probe) {
                return false;
            }
        }
        true
    }

    /// Links `node` on `level`, somewhere after `pred`. False when its equal is there.
    #[inline]
    fn link<'a>(
        &'a self,
        node: Node<'a>,
        level: usize,
        mut pred: Node<'a>,
        probe: &Probe<'_>,
    ) -> bool {
        loop {
            let place = self.walk::<true, false>(pred, level, None, probe);
            let succ = place.succ;
            pred = place.pred;
            if level == 0 {
                if let Some(succ) = succ
                    && succ.key() == probe.key
                {
                    if succ.trailer() == probe.trailer {
                        return false; // the new node was never reachable; its bytes stay unused
                    }
                    // Before the node can be reached: see `Node::superseded`.
                    succ.set_superseded();
                }
                if pred.key() == probe.key && pred != self.head() {
                    node.set_superseded();
                }
            }
            // SAFETY: `insert` calls this for the levels of the node's tower, and `pred` was
            // reached along `level`. All nodes are of this list.
            unsafe {
                // Not reachable on this level yet: the swap below releases these plain stores.
                node.link(level).init(succ);
                if level == 0 {
                    node.prev().init(Some(pred));
                }
                let pred_link = pred.link(level);
                if pred_link.next.replace(succ, node) {
                    pred_link.lower_prefix(probe.prefix);
                    match succ {
                        None => raise(&self.tails[level], pred, node, probe),
                        Some(succ) if level == 0 => raise(succ.prev(), pred, node, probe),
                        Some(_) => {}
                    }
                    return true;
                }
            }
            // Another inserter was here first: look again from where this one stood.
        }
    }

    /// The first entry at or after (`key`, `trailer`).
    #[inline]
    pub(super) fn seek<'a>(&'a self, key: &[u8], trailer: Trailer) -> Option<Node<'a>> {
        let probe = Probe::new(key, trailer);
        let place = self.descend::<false>(&probe, 0, |_, place| place.found);
        if place.found {
            return place.succ;
        }
        self.walk::<true, false>(place.pred, 0, place.succ, &probe).succ
    }

    /// The last entry at or before (`key`, `trailer`).
    pub(super) fn seek_for_prev<'a>(&'a self, key: &[u8], trailer: Trailer) -> Option<Node<'a>> {
        let probe = Probe::new(key, trailer);
        let place = self.descend::<true>(&probe, 0, |_, _| false);
        self.unless_head(self.walk::<true, true>(place.pred, 0, place.succ, &probe).pred)
    }

    #[inline]
    pub(super) fn first(&self) -> Option<Node<'_>> {
        self.next(self.head())
    }

    pub(super) fn last(&self) -> Option<Node<'_>> {
        let mut at = self.tails[0].load()?;
        while let Some(next) = self.next(at) {
            at = next;
        }
        Some(at)
    }

    #[inline]
    pub(super) fn next<'a>(&'a self, node: Node<'a>) -> Option<Node<'a>> {
        // SAFETY: every tower has a level 0.
        unsafe { node.link(0) }.next.load()
    }

    #[inline]
    pub(super) fn prev<'a>(&'a self, node: Node<'a>) -> Option<Node<'a>> {
        let mut at = node.prev().load()?;
        while let Some(next) = self.next(at)
            && next != node
        {
            at = next;
        }
        self.unless_head(at)
    }

    #[inline]
    fn unless_head<'a>(&'a self, node: Node<'a>) -> Option<Node<'a>> {
        (node.pointer() != self.head).then_some(node)
    }

    /// Searches from the top down, believing prefixes, and starts at `height` at least. Ends when
    /// `done` says so about the place on a level, or on level 0; the place there is not exact.
    ///
    /// `INCLUSIVE` makes an entry that equals the target count as before it.
    #[inline(always)]
    fn descend<'a, const INCLUSIVE: bool>(
        &'a self,
        probe: &Probe<'_>,
        height: usize,
        mut done: impl FnMut(usize, Place<'a>) -> bool,
    ) -> Place<'a> {
        let mut place = Place { pred: self.head(), succ: None, found: false };
        for level in (0..self.height.load(Ordering::Relaxed).max(height)).rev() {
            place = self.walk::<false, INCLUSIVE>(place.pred, level, place.succ, probe);
            if done(level, place) {
                break;
            }
        }
        place
    }

    /// Walks along `level` from `pred`, which is before the target and was reached along `level` or
    /// above, to the last node before the target. `bound` is a node known not to be before the
    /// target, if one is known.
    ///
    /// `EXACT` asks the node itself where its prefix says that it is not before the target.
    #[inline(always)]
    fn walk<'a, const EXACT: bool, const INCLUSIVE: bool>(
        &'a self,
        mut pred: Node<'a>,
        level: usize,
        bound: Option<Node<'a>>,
        probe: &Probe<'_>,
    ) -> Place<'a> {
        loop {
            // SAFETY: the function's contract, and then: reached along `level`.
            let link = unsafe { pred.link(level) };
            // The order of these two loads matters: see the file's head.
            let prefix = link.prefix();
            if probe.prefix < prefix && !EXACT {
                return Place { pred, succ: bound, found: false };
            }
            let next = link.next.load();
            if probe.prefix <= prefix && next == bound {
                return Place { pred, succ: bound, found: false };
            }
            let Some(next) = next else { return Place { pred, succ: None, found: false } };
            if probe.prefix <= prefix {
                let key_order = next.key().cmp(probe.key);
                let order = key_order.then_with(|| probe.trailer.cmp(&next.trailer()));
                if order.is_gt() || (order.is_eq() && !INCLUSIVE) {
                    let found = key_order.is_eq() && !next.superseded();
                    return Place { pred, succ: Some(next), found };
                }
            }
            pred = next;
        }
    }

    /// Fills `preds` with the last node of each level, and says whether all are before the target:
    /// ascending keys need no search.
    #[inline]
    fn tails_before<'a>(&'a self, probe: &Probe<'_>, preds: &mut [Node<'a>]) -> bool {
        preds.iter_mut().zip(&self.tails).all(|(pred, tail)| match tail.load() {
            Some(tail) => {
                *pred = tail;
                probe.is_after(tail)
            }
            None => true, // no node is on this level: the head is the last
        })
    }

    /// One level, and one more with probability 2^-RISE_BITS each. The trailer is unique in the
    /// list, so its hash is a random number that needs no shared state.
    #[inline]
    fn tower_height(&self, trailer: Trailer) -> usize {
        let mut bits = (trailer.0 ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        bits ^= bits >> 32;
        let rises = (bits.trailing_zeros() / RISE_BITS) as usize;
        (1 + rises).min(HEIGHT_MAX)
    }
}

/// Moves the hint in `slot` to `node` unless it stands there or behind it. `pred` is the node
/// before, where the hint usually stands: then no key is compared.
///
/// # Safety
/// The slot and both nodes are of the same list.
#[inline]
unsafe fn raise(slot: &Slot, pred: Node<'_>, node: Node<'_>, probe: &Probe<'_>) {
    loop {
        let seen = slot.load();
        if seen.is_some_and(|seen| seen != pred && !probe.is_after(seen)) {
            return;
        }
        // SAFETY: the contract.
        if unsafe { slot.replace(seen, node) } {
            return;
        }
    }
}

impl fmt::Debug for SkipList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SkipList").field("used_bytes", &self.arena.used_bytes()).finish()
    }
}

/// A place in the list of a memtable that it keeps alive.
pub(super) struct Cursor {
    memtable: Arc<Memtable>,
    at: Option<NonNull<Header>>,
}

// SAFETY: `at` is a node of the list in `memtable`, which may be used from any thread.
unsafe impl Send for Cursor {}
// SAFETY: as above; a shared cursor only reads.
unsafe impl Sync for Cursor {}

impl Cursor {
    pub(super) fn new(memtable: Arc<Memtable>) -> Cursor {
        Cursor { memtable, at: None }
    }

    #[inline]
    pub(super) fn node(&self) -> Option<Node<'_>> {
        // SAFETY: `at` came from `go` and so from this memtable's list, which the `Arc` keeps.
        self.at.map(|pointer| unsafe { Node::from_pointer(pointer) })
    }

    /// Moves to where `find` says, starting from where the cursor is.
    #[inline]
    pub(super) fn go(
        &mut self,
        find: impl for<'a> FnOnce(&'a SkipList, Option<Node<'a>>) -> Option<Node<'a>>,
    ) -> bool {
        // The lifetime in the signature leaves `find` nothing but nodes of this list to return.
        self.at = find(self.memtable.list(), self.node()).map(Node::pointer);
        self.at.is_some()
    }
}

#[cfg(all(test, sluice_loom))]
mod loom_tests;
