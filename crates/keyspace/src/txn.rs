//! One transaction: what a command, or a whole EXEC, reads and writes.
//!
//! ```text
//! idle ──begin_read──▶ reading ──end──────────────────────▶ idle
//!   └──begin_write──▶ writing ──commit Ok / end──────────▶ idle
//!                        └─────commit Err: still writing, nothing lost: commit again or end
//! ```
//!
//! Reading takes no latch and writes nothing. Writing holds the latches it was given, reads a view
//! taken after them, sees its own writes, and commits one batch.
//!
//! A thread must not begin to write while another transaction of its holds latches, and must not
//! park a writing transaction (for room in the memtable, say): end it and run the command again.
//!
//! Steady state allocates nothing here: keys, rows and pending writes live in buffers that stay.

use crate::{
    databases::{Change, Mapping},
    keyspace::Shared,
    latch::LatchSet,
    layout::{self, Namespace, USER_KEY_BYTES_MAX},
    overlay::{Mark, Overlay, Presence},
    row::{Head, Row},
    watch::{Outcome, WatchList},
};
use sluicedb::{Error, Position, ReadView, Result, WriteBatch, WriteOptions, env::Rng};
use std::{hash::BuildHasher, sync::Arc};

/// Bytes of a handler's buffer kept between commands.
const BUFFER_KEPT_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Reading,
    Writing,
}

/// A change that watchers hear of besides the entries of the overlay.
#[derive(Debug)]
struct Touch {
    /// Happened before the overlay entry of this index.
    before_entry: usize,
    db: u32,
    key: Box<[u8]>,
    outcome: Outcome,
}

/// See the module's head. Reuse it: begin, work, commit or end, begin …
#[derive(Debug)]
pub struct Txn {
    pub(crate) shared: Arc<Shared>,
    state: State,
    now_ms: u64,
    pub(crate) view: Option<ReadView>,
    mapping: Arc<Mapping>,
    /// Pending FLUSHDB and SWAPDB, oldest first.
    changes: Vec<Change>,
    /// Sorted and without duplicates; held exactly while `state` is `Writing`.
    held: LatchSet,
    pub(crate) overlay: Overlay,
    touches: Vec<Touch>,
    /// The `meta` key of the last key looked at.
    key_buf: Vec<u8>,
    /// What the row of `key_buf` was, when known: spares a SET after a GET the second read.
    memo: Option<Presence>,
    index_buf: Vec<u8>,
    batch: WriteBatch,
    abandoned: Vec<Namespace>,
    counts: Vec<(Namespace, i64, i64)>,
    buffer: Vec<u8>,
    pub(crate) rng: Rng,
}

/// A moment in a transaction to go back to.
#[derive(Debug, Clone, Copy)]
pub struct Savepoint {
    overlay: Mark,
    changes: usize,
    touches: usize,
}

impl Txn {
    pub(crate) fn new(shared: Arc<Shared>) -> Txn {
        let mapping = shared.databases.current();
        let seed = std::hash::RandomState::new().hash_one(0u8);
        Txn {
            shared,
            state: State::Idle,
            now_ms: 0,
            view: None,
            mapping,
            changes: Vec::new(),
            held: LatchSet::new(),
            overlay: Overlay::default(),
            touches: Vec::new(),
            key_buf: Vec::new(),
            memo: None,
            index_buf: Vec::new(),
            batch: WriteBatch::new(),
            abandoned: Vec::new(),
            counts: Vec::new(),
            buffer: Vec::new(),
            rng: Rng::new(seed),
        }
    }

    /// Begins to read at `now_ms` (Unix milliseconds): one view, no latch. What was begun before is
    /// ended.
    pub fn begin_read(&mut self, now_ms: u64) {
        self.end();
        self.now_ms = now_ms;
        self.take_view();
        self.state = State::Reading;
    }

    /// Begins to write at `now_ms`: waits for `latches`, then takes the view. What was begun before
    /// is ended.
    pub fn begin_write(&mut self, now_ms: u64, latches: &LatchSet) {
        self.end();
        self.now_ms = now_ms;
        self.held.copy_from(latches);
        self.shared.latches.acquire(&self.held);
        self.state = State::Writing;
        self.take_view();
    }

    fn take_view(&mut self) {
        loop {
            let view = self.shared.db.view();
            self.shared.databases.refresh(&mut self.mapping);
            // A mapping newer than the view would show the databases of one moment with the rows
            // of another. Published mappings are of visible writes, so the next view is new enough.
            if self.mapping.since <= view.seq() {
                self.view = Some(view);
                return;
            }
        }
    }

    /// Forgets pending writes and gives back latches and view. Idle afterwards; does nothing when
    /// it is idle already.
    pub fn end(&mut self) {
        if self.state == State::Idle {
            return;
        }
        self.view = None;
        if self.state == State::Writing {
            self.shared.latches.release(&self.held);
            self.held.clear();
            self.overlay.clear();
            self.changes.clear();
            self.touches.clear();
            self.batch.clear();
        }
        self.memo = None;
        self.state = State::Idle;
    }

    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// The time every command of this transaction lives at, in Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub fn database_count(&self) -> u32 {
        self.mapping.namespaces.len() as u32
    }

    /// Whether anything waits for `commit`.
    pub fn has_writes(&self) -> bool {
        !self.overlay.is_empty() || !self.changes.is_empty()
    }

    /// An empty buffer for a handler's work; give it back with [`Txn::give_buffer`].
    pub fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    pub fn give_buffer(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        buffer.shrink_to(BUFFER_KEPT_BYTES_MAX);
        self.buffer = buffer;
    }

    /// The namespace of `db` here and now, pending changes included.
    pub(crate) fn namespace(&self, db: u32) -> Result<Namespace> {
        if let Some(change) = self.changes.iter().rev().find(|change| change.db == db) {
            return Ok(change.namespace);
        }
        let found = self.mapping.namespaces.get(db as usize).copied();
        found.ok_or_else(|| Error::invalid(format!("there is no database {db}")))
    }

    /// The row of a key that is there: not missing, not due. `payload` borrows from the engine, so
    /// a reply can be written from it without a copy in between.
    ///
    /// # Errors
    /// `Invalid` outside begin and end or for a database that does not exist, `Unsupported` or
    /// `Corruption` for a row that cannot be decoded, and what reading may fail with.
    #[inline]
    pub fn lookup(&mut self, db: u32, key: &[u8]) -> Result<Option<Row<'_>>> {
        let now_ms = self.now_ms;
        Ok(self.fetch(db, key)?.filter(|row| !row.head().is_due(now_ms)))
    }

    /// Whether a key is there.
    ///
    /// # Errors
    /// As [`Txn::lookup`].
    pub fn exists(&mut self, db: u32, key: &[u8]) -> Result<bool> {
        Ok(self.lookup(db, key)?.is_some())
    }

    /// The stored row of a key, due or not.
    fn fetch(&mut self, db: u32, key: &[u8]) -> Result<Option<Row<'_>>> {
        let namespace = self.namespace(db)?;
        self.memo = None;
        if key.len() > USER_KEY_BYTES_MAX {
            self.key_buf.clear();
            return Ok(None); // `put` refuses such a key, so there is none
        }
        layout::meta_key(&mut self.key_buf, namespace, key);
        if let Some(index) = self.overlay.find(&self.key_buf) {
            let entry = self.overlay.entry(index);
            self.memo = Some(entry.after);
            return self.overlay.row(entry).map(Row::pending).transpose();
        }
        let view = self.view.as_ref().ok_or_else(not_begun)?;
        let Some(bytes) = view.get(&self.shared.families.meta, &self.key_buf)? else {
            self.memo = Some(Presence::Missing);
            return Ok(None);
        };
        let row = Row::stored(bytes)?;
        self.memo = Some(Presence::Stored { expire_at: row.expire_at() });
        Ok(Some(row))
    }

    /// What is stored under a key; leaves the `meta` key in `key_buf`.
    fn presence(&mut self, db: u32, key: &[u8]) -> Result<Presence> {
        if let Some(presence) = self.memo {
            let namespace = self.namespace(db)?.to_be_bytes();
            let same = self.key_buf.get(..2) == Some(&namespace[..])
                && self.key_buf.get(layout::META_PREFIX_BYTES..) == Some(key);
            if same {
                return Ok(presence);
            }
        }
        self.fetch(db, key)?;
        self.memo.ok_or_else(|| Error::invalid("the key is too long to be stored"))
    }

    /// Sets a key's row: its head, and its payload given in pieces that are joined.
    ///
    /// # Errors
    /// `Invalid` for a key longer than [`USER_KEY_BYTES_MAX`] or outside a writing transaction,
    /// and as [`Txn::lookup`].
    pub fn put(&mut self, db: u32, key: &[u8], head: Head, payload: &[&[u8]]) -> Result<()> {
        self.check_writable(key)?;
        if key.len() > USER_KEY_BYTES_MAX {
            return Err(Error::invalid(format!(
                "the key has {} bytes, the longest that can be stored has {USER_KEY_BYTES_MAX}",
                key.len()
            )));
        }
        let base = self.presence(db, key)?;
        let after = Presence::Stored { expire_at: head.expire_at };
        let write_row = |arena: &mut Vec<u8>| {
            head.encode(arena);
            payload.iter().for_each(|part| arena.extend_from_slice(part));
        };
        self.overlay.push(db, &self.key_buf, base, after, Some(write_row));
        self.memo = Some(after);
        Ok(())
    }

    /// Deletes a key; true when it was there. A key that was stored but due is deleted as well and
    /// counts as not having been there.
    ///
    /// # Errors
    /// As [`Txn::put`].
    pub fn delete(&mut self, db: u32, key: &[u8]) -> Result<bool> {
        self.check_writable(key)?;
        if key.len() > USER_KEY_BYTES_MAX {
            return Ok(false);
        }
        let base = self.presence(db, key)?;
        if !base.is_stored() {
            return Ok(false);
        }
        let due = base.expire_at().is_some_and(|at| at < self.now_ms);
        let no_row: Option<fn(&mut Vec<u8>)> = None;
        self.overlay.push(db, &self.key_buf, base, Presence::Missing, no_row);
        self.memo = Some(Presence::Missing);
        Ok(!due)
    }

    /// Gives a key another expiry, or none, and leaves everything else of it; false when there is
    /// no such key.
    ///
    /// # Errors
    /// As [`Txn::put`].
    pub fn set_expiry(&mut self, db: u32, key: &[u8], expire_at: Option<u64>) -> Result<bool> {
        let mut payload = self.take_buffer();
        let head = self.lookup(db, key)?.map(|row| {
            payload.extend_from_slice(row.payload());
            Head { expire_at, ..*row.head() }
        });
        if let Some(head) = head {
            self.put(db, key, head, &[&payload])?;
        }
        self.give_buffer(payload);
        Ok(head.is_some())
    }

    fn check_writable(&self, key: &[u8]) -> Result<()> {
        debug_assert!(
            self.state != State::Writing || self.held.covers(key),
            "a write to a key whose latch is not held: {:?}",
            String::from_utf8_lossy(key)
        );
        if self.state != State::Writing {
            return Err(Error::invalid("a write outside a writing transaction"));
        }
        Ok(())
    }

    /// Empties a database: FLUSHDB. O(1) but for the keys being watched.
    ///
    /// # Errors
    /// `Invalid` unless every latch is held, `Stalled` when no namespace is free.
    pub fn flush_database(&mut self, db: u32) -> Result<()> {
        self.check_holds_all()?;
        let namespace = self.namespace(db)?;
        let untouched = !self
            .overlay
            .newest()
            .any(|e| self.overlay.key(e).starts_with(&namespace.to_be_bytes()));
        if untouched && self.stored_count(namespace) == 0 {
            return Ok(()); // empty: keep the namespace
        }
        for key in self.shared.watches.keys_of(db) {
            if self.presence(db, &key).is_ok_and(Presence::is_stored) {
                self.touch(db, key, Outcome::Deleted);
            }
        }
        let namespace = self.shared.databases.fresh(&self.changes)?;
        self.changes.push(Change { db, namespace });
        self.memo = None;
        Ok(())
    }

    /// Swaps two databases.
    ///
    /// # Errors
    /// `Invalid` unless every latch is held, or for a database that does not exist.
    pub fn swap_databases(&mut self, one: u32, other: u32) -> Result<()> {
        self.check_holds_all()?;
        let namespaces = (self.namespace(one)?, self.namespace(other)?);
        if one == other {
            return Ok(());
        }
        for (db, replacement) in [(one, other), (other, one)] {
            for key in self.shared.watches.keys_of(db) {
                if let Some(outcome) = self.swap_outcome(db, replacement, &key)? {
                    self.touch(db, key, outcome);
                }
            }
        }
        self.changes.push(Change { db: one, namespace: namespaces.1 });
        self.changes.push(Change { db: other, namespace: namespaces.0 });
        self.memo = None;
        Ok(())
    }

    fn swap_outcome(&mut self, db: u32, replacement: u32, key: &[u8]) -> Result<Option<Outcome>> {
        let before = self.presence(db, key)?;
        let after = self.presence(replacement, key)?;
        let due = after.expire_at().is_some_and(|at| at < self.now_ms);
        Ok(match (before.is_stored(), after.is_stored()) {
            (false, false) => None,
            (true, false) => Some(Outcome::Deleted),
            (false, true) if due => Some(Outcome::BecameDue),
            (true, true) if due => Some(Outcome::ReplacedByDue),
            (_, true) => Some(Outcome::Changed),
        })
    }

    fn touch(&mut self, db: u32, key: Box<[u8]>, outcome: Outcome) {
        let before_entry = self.overlay.all().len();
        self.touches.push(Touch { before_entry, db, key, outcome });
    }

    fn check_holds_all(&self) -> Result<()> {
        if self.state != State::Writing || !self.held.covers_all() {
            return Err(Error::invalid("a change of whole databases needs every latch"));
        }
        Ok(())
    }

    /// How many keys a database holds: DBSIZE. Due keys count until they are deleted.
    ///
    /// # Errors
    /// `Invalid` for a database that does not exist.
    pub fn key_count(&self, db: u32) -> Result<u64> {
        let namespace = self.namespace(db)?;
        let prefix = namespace.to_be_bytes();
        let pending: i64 = self
            .overlay
            .newest()
            .filter(|entry| self.overlay.key(entry).starts_with(&prefix))
            .map(|entry| i64::from(entry.after.is_stored()) - i64::from(entry.base.is_stored()))
            .sum();
        Ok(self.stored_count(namespace).saturating_add(pending).max(0) as u64)
    }

    fn stored_count(&self, namespace: Namespace) -> i64 {
        self.shared.db.counter(&self.shared.families.meta, u32::from(namespace))
    }

    /// Whether EXEC may run: no key of `list` has changed or become due since it was watched.
    /// Final when this transaction holds the latches of [`WatchList::add_latches`].
    ///
    /// # Errors
    /// As [`Txn::lookup`].
    pub fn watches_hold(&mut self, list: &WatchList) -> Result<bool> {
        if list.is_dirty() {
            return Ok(false);
        }
        let now_ms = self.now_ms;
        for (db, key) in list.keys() {
            let stored = self.presence(db, key).unwrap_or(Presence::Missing);
            let due = stored.expire_at().is_some_and(|at| at < now_ms);
            if due && !list.counts_as_missing(db, key) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Marks a moment to go back to.
    pub fn savepoint(&self) -> Savepoint {
        Savepoint {
            overlay: self.overlay.mark(),
            changes: self.changes.len(),
            touches: self.touches.len(),
        }
    }

    /// Forgets everything written since `savepoint`, which was made in this transaction: how a
    /// command that fails inside EXEC leaves nothing behind.
    pub fn rollback_to(&mut self, savepoint: Savepoint) {
        self.overlay.rollback(savepoint.overlay);
        self.changes.truncate(savepoint.changes);
        self.touches.truncate(savepoint.touches);
        self.memo = None;
    }

    /// Writes everything in one batch, tells the watchers, gives back the latches. `None` when
    /// there was nothing to write. Idle after an `Ok`.
    ///
    /// # Errors
    /// Those of [`sluicedb::Db::write`]. The transaction is unchanged then: after `Stalled` it may
    /// be committed again, or ended without a trace.
    pub fn commit(&mut self, options: &WriteOptions) -> Result<Option<Position>> {
        let position = self.commit_and_hold(options)?;
        self.end();
        Ok(position)
    }

    /// As [`commit`](Self::commit), but the latches are held until [`end`](Self::end): for what must
    /// happen in the order of the commits. Nothing more may be written.
    ///
    /// # Errors
    /// Those of [`commit`](Self::commit).
    pub fn commit_and_hold(&mut self, options: &WriteOptions) -> Result<Option<Position>> {
        if !self.has_writes() {
            return Ok(None);
        }
        self.fill_batch();
        let mut position = None;
        // Empty after SET and DEL of a new key in one EXEC; its watchers still hear of it.
        if !self.batch.is_empty() {
            let written = self.shared.db.write(&self.batch, options)?;
            if !self.changes.is_empty() {
                self.shared.databases.publish(written.seq, &self.changes, &self.abandoned);
            }
            position = Some(written);
        }
        if !self.shared.watches.is_idle() {
            self.tell_watchers();
        }
        Ok(position)
    }

    fn fill_batch(&mut self) {
        let Txn { batch, overlay, index_buf, counts, shared, changes, abandoned, .. } = self;
        let (meta, expire) = (&shared.families.meta, &shared.families.expire);
        batch.clear();
        counts.clear();
        abandoned.clear();
        for entry in overlay.newest() {
            let key = overlay.key(entry);
            let (base, after) = (entry.base, entry.after);
            match overlay.row(entry) {
                Some(row) => batch.put(meta, key, row),
                None if base.is_stored() => batch.delete(meta, key),
                None => continue,
            }
            if base.expire_at() != after.expire_at() {
                if let Some(at) = base.expire_at() {
                    layout::index_key(index_buf, at, key);
                    batch.delete(expire, index_buf);
                }
                if let Some(at) = after.expire_at() {
                    layout::index_key(index_buf, at, key);
                    batch.put(expire, index_buf, b"");
                }
            }
            let keys = i64::from(after.is_stored()) - i64::from(base.is_stored());
            let expiring =
                i64::from(after.expire_at().is_some()) - i64::from(base.expire_at().is_some());
            let Some((namespace, _, _)) = layout::split_meta_key(key) else { continue };
            match counts.iter_mut().find(|(n, _, _)| *n == namespace) {
                Some(count) => {
                    count.1 += keys;
                    count.2 += expiring;
                }
                None => counts.push((namespace, keys, expiring)),
            }
        }
        for &(namespace, keys, expiring) in counts.iter() {
            if keys != 0 {
                batch.add_counter(meta, u32::from(namespace), keys);
            }
            if expiring != 0 {
                batch.add_counter(expire, u32::from(namespace), expiring);
            }
        }
        if !changes.is_empty() {
            shared.databases.write_changes(batch, &shared.families.system, changes, abandoned);
        }
    }

    /// Under the latches, after the batch is visible.
    fn tell_watchers(&self) {
        let watches = &self.shared.watches;
        let mut touches = self.touches.iter().peekable();
        for (index, entry) in self.overlay.all().iter().enumerate() {
            while let Some(touch) = touches.next_if(|touch| touch.before_entry <= index) {
                watches.touch(touch.db, &touch.key, touch.outcome);
            }
            let Some((_, _, key)) = layout::split_meta_key(self.overlay.key(entry)) else {
                continue;
            };
            let outcome = if entry.after.is_stored() { Outcome::Changed } else { Outcome::Deleted };
            watches.touch(entry.db, key, outcome);
        }
        touches.for_each(|touch| watches.touch(touch.db, &touch.key, touch.outcome));
    }
}

pub(crate) fn not_begun() -> Error {
    Error::invalid("a read outside begin and end of a transaction")
}

impl Drop for Txn {
    fn drop(&mut self) {
        self.end();
    }
}
