//! [`MergeIter`]: the entries of many sorted sources as one, forward and backward. Shows every
//! version of every key; which of them a reader may see is [`super::DbIter`]'s business.
//!
//! ```text
//! winner: the child the iterator stands on, outside the heap
//! heap:   the other children that stand on an entry, a binary heap with the next one on top
//! ```
//!
//! After a step of the winner one comparison with the top of the heap decides whether it stays the
//! winner, so a stretch of entries from one child costs one comparison each, and most of those
//! compare the 8-byte key prefixes kept beside the child numbers.
//!
//! Invariants:
//! - Forward, every child stands on its first entry at or after the winner's, or nowhere if it has
//!   none; backward, on its last entry at or before it.
//! - A change of direction seeks the other children anew instead of stepping them: an active
//!   memtable may have got entries since, in between.
//! - Equal entries of two children (none are expected) are shown both while the direction stays,
//!   the one of the earlier child first going forward.

use super::Cursor;
use crate::memtable::key_prefix;
use sluice_base::{Error, Result, Trailer};
use sluice_table::RowRun;
use std::cmp::Ordering;

/// A child that stands on an entry, and what that entry's key begins with.
#[derive(Debug, Clone, Copy)]
struct Head {
    prefix: u64,
    child: usize,
}

/// See the file's head. An error of a child is returned, leaves the iterator nowhere, and is
/// repeated by every `next` and `prev` until a seek succeeds.
#[derive(Debug)]
pub(crate) struct MergeIter<C> {
    children: Vec<C>,
    winner: Option<Head>,
    heap: Vec<Head>,
    forward: bool,
    error: Option<Error>,
    /// Where a change of direction happens; kept for its memory.
    turn_key: Vec<u8>,
}

impl<C: Cursor> MergeIter<C> {
    /// Stands nowhere yet. Of equal entries the one of the earlier child comes first.
    pub(crate) fn new(children: Vec<C>) -> MergeIter<C> {
        let heap = Vec::with_capacity(children.len());
        let (winner, error, turn_key) = (None, None, Vec::new());
        MergeIter { children, winner, heap, forward: true, error, turn_key }
    }

    pub(crate) fn seek_to_first(&mut self) -> Result<bool> {
        self.place(true, C::seek_to_first)
    }

    pub(crate) fn seek_to_last(&mut self) -> Result<bool> {
        self.place(false, C::seek_to_last)
    }

    /// To the first entry at or after (`key`, `trailer`).
    pub(crate) fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<bool> {
        self.place(true, |child| child.seek(key, trailer))
    }

    /// To the last entry at or before (`key`, `trailer`).
    pub(crate) fn seek_for_prev(&mut self, key: &[u8], trailer: Trailer) -> Result<bool> {
        self.place(false, |child| child.seek_for_prev(key, trailer))
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Result<bool> {
        let Some(winner) = self.winner else { return self.nowhere() };
        if !self.forward {
            self.turn(winner.child)?;
        }
        match self.children[winner.child].next() {
            Ok(found) => Ok(self.settle(winner.child, found)),
            Err(error) => self.fail(error),
        }
    }

    #[inline]
    pub(crate) fn prev(&mut self) -> Result<bool> {
        let Some(winner) = self.winner else { return self.nowhere() };
        if self.forward {
            self.turn(winner.child)?;
        }
        match self.children[winner.child].prev() {
            Ok(found) => Ok(self.settle(winner.child, found)),
            Err(error) => self.fail(error),
        }
    }

    #[inline]
    pub(crate) fn valid(&self) -> bool {
        self.winner.is_some()
    }

    /// The user key; empty when the iterator stands nowhere, as the value then is.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        self.winner.map_or(&[], |winner| self.children[winner.child].key())
    }

    #[inline]
    pub(crate) fn trailer(&self) -> Trailer {
        self.winner.map_or(Trailer(0), |winner| self.children[winner.child].trailer())
    }

    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        self.winner.map_or(&[], |winner| self.children[winner.child].value())
    }

    /// The child that it stands on.
    #[inline]
    pub(crate) fn winner(&self) -> Option<usize> {
        self.winner.map(|winner| winner.child)
    }

    /// Whether the present entry is the first of a block of its child.
    #[inline]
    pub(crate) fn begins_block(&self) -> bool {
        self.winner.is_some_and(|winner| self.children[winner.child].begins_block())
    }

    /// Going forward: the entries from the present one on that come next, from one block of its child,
    /// before `until` and before the next key of any other child.
    pub(crate) fn run(&self, until: Option<(&[u8], Trailer)>) -> Option<RowRun<'_>> {
        let child = &self.children[self.winner?.child];
        let next = self.heap.first().map(|top| self.children[top.child].key());
        let end = match (until, next) {
            // Equal keys: of the other's versions some may be newer.
            (Some(until), Some(next)) if until.0 < next => Some(until),
            (until, None) => until,
            (_, Some(next)) => Some((next, Trailer(u64::MAX))),
        };
        child.run(end)
    }

    /// Goes forward by `entries` of the run, its length less one at most. The child stays the winner.
    pub(crate) fn advance(&mut self, entries: usize) {
        if let Some(winner) = self.winner {
            self.children[winner.child].advance(entries);
            self.winner = Some(self.head_of(winner.child));
        }
    }

    /// Moves every child by itself and starts over.
    fn place(&mut self, forward: bool, mut go: impl FnMut(&mut C) -> Result<bool>) -> Result<bool> {
        self.forward = forward;
        self.error = None;
        self.heap.clear();
        self.winner = None;
        for at in 0..self.children.len() {
            match go(&mut self.children[at]) {
                Ok(true) => self.heap.push(self.head_of(at)),
                Ok(false) => {}
                Err(error) => return self.fail(error),
            }
        }
        self.build();
        self.winner = self.pop();
        Ok(self.winner.is_some())
    }

    /// Changes the direction: brings every child but the winner to the other side of its entry.
    /// The winner stays where it is and the winner.
    #[cold]
    fn turn(&mut self, winner: usize) -> Result<()> {
        self.turn_key.clear();
        self.turn_key.extend_from_slice(self.children[winner].key());
        let (key, trailer) = (&self.turn_key[..], self.children[winner].trailer());
        self.forward = !self.forward;
        self.heap.clear();
        for at in (0..self.children.len()).filter(|&at| at != winner) {
            let child = &mut self.children[at];
            let moved = if self.forward {
                child.seek(key, trailer)
            } else {
                child.seek_for_prev(key, trailer)
            };
            // Past an equal entry: it was shown, or will be when the direction changes again.
            let moved =
                match moved {
                    Ok(true) if child.trailer() == trailer && child.key() == key => {
                        if self.forward { child.next() } else { child.prev() }
                    }
                    moved => moved,
                };
            match moved {
                Ok(true) => self.heap.push(self.head_of(at)),
                Ok(false) => {}
                Err(error) => return self.fail(error).map(|_| ()),
            }
        }
        self.build();
        Ok(())
    }

    /// Finds the winner after the last one, `child`, was moved; `found` says whether it still
    /// stands on an entry.
    #[inline]
    fn settle(&mut self, child: usize, found: bool) -> bool {
        if found {
            let mut head = self.head_of(child);
            if let Some(&top) = self.heap.first()
                && self.is_before(top, head)
            {
                self.heap[0] = head;
                head = top;
                self.sift_down(0);
            }
            self.winner = Some(head);
        } else {
            self.winner = self.pop();
        }
        self.winner.is_some()
    }

    #[inline]
    fn head_of(&self, child: usize) -> Head {
        Head { prefix: key_prefix(self.children[child].key()), child }
    }

    /// Whether `a` is met before `b` in the present direction.
    #[inline]
    fn is_before(&self, a: Head, b: Head) -> bool {
        if a.prefix != b.prefix {
            return (a.prefix < b.prefix) == self.forward;
        }
        let (left, right) = (&self.children[a.child], &self.children[b.child]);
        let order = left
            .key()
            .cmp(right.key())
            .then_with(|| right.trailer().cmp(&left.trailer()))
            .then_with(|| a.child.cmp(&b.child));
        (order == Ordering::Less) == self.forward
    }

    fn build(&mut self) {
        for at in (0..self.heap.len() / 2).rev() {
            self.sift_down(at);
        }
    }

    fn pop(&mut self) -> Option<Head> {
        if self.heap.is_empty() {
            return None;
        }
        let top = self.heap.swap_remove(0);
        self.sift_down(0);
        Some(top)
    }

    /// Lets the head at `at` sink until none below it is met before it.
    fn sift_down(&mut self, mut at: usize) {
        loop {
            let mut first = 2 * at + 1;
            if first >= self.heap.len() {
                return;
            }
            if first + 1 < self.heap.len() && self.is_before(self.heap[first + 1], self.heap[first])
            {
                first += 1;
            }
            if !self.is_before(self.heap[first], self.heap[at]) {
                return;
            }
            self.heap.swap(first, at);
            at = first;
        }
    }

    #[cold]
    fn nowhere(&self) -> Result<bool> {
        self.error.as_ref().map_or(Ok(false), |error| Err(error.duplicate()))
    }

    #[cold]
    fn fail(&mut self, error: Error) -> Result<bool> {
        self.winner = None;
        self.heap.clear();
        self.error = Some(error.duplicate());
        Err(error)
    }
}
