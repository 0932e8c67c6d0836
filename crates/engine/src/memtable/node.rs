//! [`Node`]: the bytes of one skiplist entry in the arena, and every raw access to them. Knows no
//! search and no order: that is [`super::skiplist`]'s.
//!
//! The tower grows downwards from the node pointer, so links and key lie at fixed distances from
//! it, side by side for the levels where most steps are made, and the height need not be stored:
//!
//! ```text
//!  | link[h-1] | ... | link[1] | link[0] | trailer | prev | key_len value_len | key | value |
//!                                        ^ node pointer
//!  link = { prefix: u64, next: pointer }
//! ```
//!
//! Everything but links and `prev` is written once, before a Release store of the node's pointer
//! publishes it, and never changes.

use super::{
    arena::{ALIGN, Arena},
    sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering},
};
use sluice_base::{Trailer, limits};
use std::{
    marker::PhantomData,
    mem::size_of,
    ptr::{self, NonNull},
};

/// The fixed part of a node.
#[repr(C)]
pub(super) struct Header {
    trailer: Trailer,
    /// A hint: the head or a node before this one.
    prev: Slot,
    /// `key length << 1 | superseded`; see [`Node::superseded`].
    key_len: AtomicU32,
    value_len: u32,
    /// Stands for key and value, which loom does not watch.
    #[cfg(sluice_loom)]
    bytes: loom::cell::UnsafeCell<()>,
}

/// The flag beside the key length.
const SUPERSEDED: u32 = 1;

/// One step of a tower: where the next node of this level is, and what its key begins with. The
/// order in which the two words are read and written is proved in [`super::skiplist`].
#[repr(C)]
pub(super) struct Link {
    prefix: AtomicU64,
    pub(super) next: Slot,
}

const _: () = assert!(ALIGN.is_multiple_of(align_of::<Link>()));
const _: () = assert!(size_of::<Link>().is_multiple_of(align_of::<Header>()));
const _: () = assert!(limits::KEY_BYTES_MAX <= u32::MAX as usize / 2);
const _: () = assert!(limits::VALUE_BYTES_MAX <= u32::MAX as usize);

/// An entry of a list that lives for `'a`.
///
/// Type invariant: points to what [`Node::write`] wrote in the arena of a list that lives for `'a`,
/// and that write happened before this value came to its thread.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Node<'a> {
    pointer: NonNull<Header>,
    list: PhantomData<&'a Header>,
}

impl<'a> Node<'a> {
    /// # Safety
    /// `pointer` fulfils the type's invariant for `'a`.
    #[inline]
    pub(super) unsafe fn from_pointer(pointer: NonNull<Header>) -> Node<'a> {
        Node { pointer, list: PhantomData }
    }

    /// The node without its lifetime, for those who keep the list alive in another way.
    #[inline]
    pub(super) fn pointer(self) -> NonNull<Header> {
        self.pointer
    }

    /// Writes a node of `height` links, not reachable yet: its links are at the end of the list.
    ///
    /// Panics when key or value is over the engine's limits, which batches refuse long before.
    #[inline]
    pub(super) fn write(
        arena: &'a Arena,
        key: &[u8],
        trailer: Trailer,
        value: &[u8],
        height: usize,
    ) -> Node<'a> {
        assert!(key.len() <= limits::KEY_BYTES_MAX && value.len() <= limits::VALUE_BYTES_MAX);
        let tower_bytes = height * size_of::<Link>();
        let start = arena.alloc(tower_bytes + size_of::<Header>() + key.len() + value.len());
        // SAFETY: the arena handed out exactly the bytes of tower, header, key and value, for this
        // thread alone and aligned for `Link`; they are written in this order. The header is
        // aligned because the size of a link is a multiple of its alignment (asserted above).
        unsafe {
            for level in 0..height {
                start
                    .cast::<Link>()
                    .add(level)
                    .write(Link { prefix: AtomicU64::new(u64::MAX), next: Slot::new(None) });
            }
            let pointer = start.add(tower_bytes).cast::<Header>();
            pointer.write(Header {
                trailer,
                prev: Slot::new(None),
                key_len: AtomicU32::new((key.len() as u32) << 1),
                value_len: value.len() as u32,
                #[cfg(sluice_loom)]
                bytes: loom::cell::UnsafeCell::new(()),
            });
            let key_start = pointer.add(1).cast::<u8>();
            key_start.copy_from_nonoverlapping(NonNull::from(key).cast(), key.len());
            let value_start = key_start.add(key.len());
            value_start.copy_from_nonoverlapping(NonNull::from(value).cast(), value.len());
            #[cfg(sluice_loom)]
            pointer.as_ref().bytes.with_mut(|_| ());
            Node::from_pointer(pointer)
        }
    }

    #[inline]
    fn header(self) -> &'a Header {
        // SAFETY: the type's invariant; a header changes only through its atomic.
        unsafe { self.pointer.as_ref() }
    }

    #[inline]
    pub(super) fn key(self) -> &'a [u8] {
        #[cfg(sluice_loom)]
        self.header().bytes.with(|_| ());
        // SAFETY: `write` put `key_len` bytes behind the header, and nobody changes them.
        unsafe {
            let key = self.pointer.as_ptr().add(1).cast::<u8>();
            std::slice::from_raw_parts(key, self.key_len())
        }
    }

    #[inline]
    fn key_len(self) -> usize {
        // Relaxed: the length never changes, only the flag beside it does.
        (self.header().key_len.load(Ordering::Relaxed) >> 1) as usize
    }

    /// False: no newer entry of the same user key is in the list. True: there may be one, right
    /// before this one. Set before the newer entry can be reached, so a reader that should see
    /// that entry sees the flag.
    #[inline]
    pub(super) fn superseded(self) -> bool {
        self.header().key_len.load(Ordering::Acquire) & SUPERSEDED != 0
    }

    #[inline]
    pub(super) fn set_superseded(self) {
        if !self.superseded() {
            self.header().key_len.fetch_or(SUPERSEDED, Ordering::Release);
        }
    }

    #[inline]
    pub(super) fn trailer(self) -> Trailer {
        self.header().trailer
    }

    #[inline]
    pub(super) fn value(self) -> &'a [u8] {
        #[cfg(sluice_loom)]
        self.header().bytes.with(|_| ());
        let len = self.header().value_len as usize;
        // SAFETY: `write` put `value_len` bytes behind the key, and nobody changes them.
        unsafe {
            let key = self.pointer.as_ptr().add(1).cast::<u8>();
            std::slice::from_raw_parts(key.add(self.key_len()), len)
        }
    }

    #[inline]
    pub(super) fn prev(self) -> &'a Slot {
        &self.header().prev
    }

    /// Asks the processor to load the node while other work goes on.
    #[inline]
    pub(super) fn prefetch(self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch reads nothing the program can see and never faults.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(self.pointer.as_ptr().cast::<i8>());
        }
    }

    /// # Safety
    /// The node's tower is higher than `level`. It is when the node was reached along `level` or a
    /// level above it, and for the head at every level.
    #[inline]
    pub(super) unsafe fn link(self, level: usize) -> &'a Link {
        // SAFETY: by the contract `write` put a link there, in the same allocation; it changes
        // only through its atomics.
        unsafe { self.pointer.cast::<Link>().sub(level + 1).as_ref() }
    }
}

impl Link {
    /// At least the prefix of the node that a later load of `next` gives.
    #[inline]
    pub(super) fn prefix(&self) -> u64 {
        self.prefix.load(Ordering::Acquire)
    }

    /// Sets both words of a link that nobody can reach yet.
    ///
    /// # Safety
    /// `next` is of the same list.
    #[inline]
    pub(super) unsafe fn init(&self, next: Option<Node<'_>>) {
        let prefix = next.map_or(u64::MAX, |next| key_prefix(next.key()));
        self.prefix.store(prefix, Ordering::Relaxed);
        // SAFETY: the contract.
        unsafe { self.next.init(next) };
    }

    /// Makes the prefix at most `prefix`. A link that is as low already needs no write: what it
    /// holds is right for the node it is about, and that is this one or one before it.
    #[inline]
    pub(super) fn lower_prefix(&self, prefix: u64) {
        let mut seen = self.prefix.load(Ordering::Relaxed);
        while prefix < seen {
            let swap = self.prefix.compare_exchange_weak(
                seen,
                prefix,
                Ordering::Release,
                Ordering::Relaxed,
            );
            match swap {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }
}

/// A place that holds a node of the list it belongs to, or nothing.
///
/// Type invariant: null, or a node of the same list, stored with Release after it was written.
pub(super) struct Slot(AtomicPtr<Header>);

impl Slot {
    #[inline]
    fn new(node: Option<Node<'_>>) -> Slot {
        Slot(AtomicPtr::new(raw(node)))
    }

    #[inline]
    pub(super) fn load(&self) -> Option<Node<'_>> {
        // SAFETY: the type's invariant, with this Acquire for the Release. The slot is a part of
        // the list, so the list lives for as long as the slot is borrowed.
        NonNull::new(self.0.load(Ordering::Acquire)).map(|p| unsafe { Node::from_pointer(p) })
    }

    /// Sets a slot that nobody can reach yet.
    ///
    /// # Safety
    /// `node` is of the same list.
    #[inline]
    pub(super) unsafe fn init(&self, node: Option<Node<'_>>) {
        self.0.store(raw(node), Ordering::Relaxed);
    }

    /// Replaces `seen` by `node`; false when something else stands there.
    ///
    /// # Safety
    /// `node` is of the same list.
    #[inline]
    pub(super) unsafe fn replace(&self, seen: Option<Node<'_>>, node: Node<'_>) -> bool {
        let new = node.pointer.as_ptr();
        self.0.compare_exchange(raw(seen), new, Ordering::Release, Ordering::Relaxed).is_ok()
    }
}

impl Default for Slot {
    fn default() -> Slot {
        Slot::new(None)
    }
}

#[inline]
fn raw(node: Option<Node<'_>>) -> *mut Header {
    node.map_or(ptr::null_mut(), |node| node.pointer.as_ptr())
}

/// The first 8 bytes of `key`, zero padded, as a number that orders as the bytes do, except that
/// different keys may share one.
#[inline]
pub(crate) fn key_prefix(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 8];
            bytes[..key.len()].copy_from_slice(key);
            u64::from_be_bytes(bytes)
        }
    }
}
