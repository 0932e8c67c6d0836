//! [`Arena`]: memory that is handed out by advancing an offset, by many threads at once, and given
//! back all together when the arena drops. Not a general allocator: nothing is freed singly, and
//! nothing that needs `Drop` may live here.
//!
//! ```text
//! current ──> Chunk { capacity, used }        used: one fetch_add hands out one range
//!             | header | a | b | c |····free····|
//! chunks   ── every chunk ever taken, under a lock that only growth and drop touch
//! ```
//!
//! Invariants:
//! - A chunk never moves and is freed by nobody but the arena's `Drop`, so a pointer handed out
//!   stays good for as long as the arena lives.
//! - `used` only grows, and a range is handed out only when its end is within `capacity`, so no two
//!   callers ever get overlapping ranges. A request that does not fit pushes `used` past
//!   `capacity`; the rest of that chunk is lost, at most [`LARGE_BYTES_MIN`] bytes.
//! - Chunks start small, so that an idle column family costs little, and double up to
//!   [`CHUNK_BYTES_MAX`], so that growth is rare. A large request gets a chunk of its own and
//!   leaves `current` alone.

use super::sync::{AtomicPtr, AtomicUsize, Mutex, Ordering};
use sluice_env::sync::PoisonError;
use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    mem::size_of,
    ptr::{self, NonNull},
};

/// Every range begins at a multiple of this.
pub(super) const ALIGN: usize = 16;

/// The first chunk. 4096 idle column families take 64 MiB of address space at this size.
const CHUNK_BYTES_MIN: usize = match cfg!(sluice_loom) {
    false => 16 << 10,
    true => 64, // so that models meet the growth
};

/// Chunks stop doubling here: 64 of them make a default memtable, and the unused rest of the last
/// is under 2 % of it.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// A request of this size or more gets its own chunk, so that at most a quarter of a full-sized
/// chunk is ever lost at its end.
const LARGE_BYTES_MIN: usize = CHUNK_BYTES_MAX / 4;

/// What stands at the front of every chunk; the ranges follow it.
#[repr(C, align(16))]
struct Chunk {
    /// Bytes behind the header.
    capacity: usize,
    /// Bytes handed out; past `capacity` once a request has failed.
    used: AtomicUsize,
}

const HEADER_BYTES: usize = size_of::<Chunk>();
const _: () = assert!(HEADER_BYTES.is_multiple_of(ALIGN) && align_of::<Chunk>() >= ALIGN);

/// One allocation from the system.
struct Owned {
    chunk: NonNull<Chunk>,
    layout: Layout,
}

// SAFETY: an `Owned` is the right to free one allocation, which any thread may do; the chunk's
// contents are reached through the arena's own synchronisation, never through `Owned`.
unsafe impl Send for Owned {}

/// Memory for one memtable. See the file's head.
pub(super) struct Arena {
    current: AtomicPtr<Chunk>,
    chunks: Mutex<Vec<Owned>>,
    allocated: AtomicUsize,
    used: AtomicUsize,
}

impl Arena {
    pub(super) fn new() -> Arena {
        Arena {
            current: AtomicPtr::new(ptr::null_mut()),
            chunks: Mutex::new(Vec::new()),
            allocated: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
        }
    }

    /// Bytes taken from the system, chunk headers included.
    pub(super) fn allocated_bytes(&self) -> usize {
        self.allocated.load(Ordering::Relaxed)
    }

    /// Bytes handed out, each request rounded up to [`ALIGN`].
    pub(super) fn used_bytes(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Hands out `bytes` uninitialised bytes at a multiple of [`ALIGN`], the caller's alone until
    /// the arena drops. Aborts the process when the system has no memory, as `Vec` does.
    #[inline]
    pub(super) fn alloc(&self, bytes: usize) -> NonNull<u8> {
        let bytes = bytes.checked_next_multiple_of(ALIGN).expect("invariant: entries are bounded");
        self.used.fetch_add(bytes, Ordering::Relaxed);
        if bytes < LARGE_BYTES_MIN {
            // Acquire: pairs with the Release in `grow`, which makes the header visible.
            let chunk = self.current.load(Ordering::Acquire);
            if let Some(range) = NonNull::new(chunk).and_then(|chunk| self.bump(chunk, bytes)) {
                return range;
            }
        }
        self.grow(bytes)
    }

    /// Takes the next `bytes` of `chunk`, `None` when it is full.
    #[inline]
    fn bump(&self, chunk: NonNull<Chunk>, bytes: usize) -> Option<NonNull<u8>> {
        // SAFETY: a chunk that was `current` once has a written header and lives as long as
        // `self`; the header is only read, or changed through its atomic.
        let header = unsafe { chunk.as_ref() };
        // Relaxed: the ranges are disjoint by the atomicity of the addition alone. No overflow:
        // a failed addition is followed by a new chunk, and each adds less than LARGE_BYTES_MIN.
        let start = header.used.fetch_add(bytes, Ordering::Relaxed);
        if start.checked_add(bytes)? > header.capacity {
            return None;
        }
        // SAFETY: HEADER_BYTES + start + bytes is within the chunk's allocation, because `capacity`
        // is what was allocated behind the header.
        Some(unsafe { chunk.cast::<u8>().add(HEADER_BYTES + start) })
    }

    /// Gets `bytes` from a chunk of their own or from the chunk after the current one.
    #[cold]
    fn grow(&self, bytes: usize) -> NonNull<u8> {
        let mut chunks = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes >= LARGE_BYTES_MIN {
            let (owned, range) = self.take_chunk(bytes);
            chunks.push(owned);
            return range;
        }
        // Another thread may have replaced the chunk while this one waited for the lock.
        let chunk = self.current.load(Ordering::Acquire);
        if let Some(range) = NonNull::new(chunk).and_then(|chunk| self.bump(chunk, bytes)) {
            return range;
        }
        let doubled = CHUNK_BYTES_MIN << chunks.len().min(16);
        let chunk_bytes = doubled.max(4 * bytes).min(CHUNK_BYTES_MAX);
        let (owned, _) = self.take_chunk(chunk_bytes - HEADER_BYTES);
        let range = self.bump(owned.chunk, bytes);
        self.current.store(owned.chunk.as_ptr(), Ordering::Release);
        chunks.push(owned);
        range.expect("invariant: a fresh chunk holds three times the request")
    }

    /// Takes a chunk with `capacity` bytes behind its header from the system; also returns where
    /// those bytes begin.
    fn take_chunk(&self, capacity: usize) -> (Owned, NonNull<u8>) {
        let layout = capacity
            .checked_add(HEADER_BYTES)
            .and_then(|bytes| Layout::from_size_align(bytes, align_of::<Chunk>()).ok())
            .expect("invariant: entries are bounded");
        // SAFETY: the layout's size is not zero, it has a header in it.
        let memory = unsafe { alloc(layout) };
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(layout) };
        let chunk = memory.cast::<Chunk>();
        // SAFETY: the allocation is ours alone, aligned for `Chunk` and at least as large.
        unsafe { chunk.write(Chunk { capacity, used: AtomicUsize::new(0) }) };
        self.allocated.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the allocation is at least HEADER_BYTES long.
        (Owned { chunk, layout }, unsafe { memory.add(HEADER_BYTES) })
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let mut chunks = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        for Owned { chunk, layout } in chunks.drain(..) {
            // SAFETY: allocated in `take_chunk` with this very layout, freed only here; `&mut
            // self` proves that nobody uses the arena or borrows from it any more.
            unsafe { dealloc(chunk.as_ptr().cast(), layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_aligned_disjoint_and_counted() {
        let arena = Arena::new();
        assert_eq!((arena.allocated_bytes(), arena.used_bytes()), (0, 0));
        let sizes = [1, 15, 16, 17, 4000, 100_000, 300_000, 2 << 20, 5];
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for round in 0..200 {
            let size = sizes[round % sizes.len()];
            let start = arena.alloc(size);
            assert_eq!(start.as_ptr() as usize % ALIGN, 0);
            // SAFETY: `alloc` handed out `size` bytes for us alone.
            unsafe { start.write_bytes(round as u8, size) };
            ranges.push((start.as_ptr() as usize, size));
        }
        let used: usize = ranges.iter().map(|range| range.1.next_multiple_of(ALIGN)).sum();
        assert_eq!(arena.used_bytes(), used);
        assert!(arena.allocated_bytes() >= used);
        assert!(arena.allocated_bytes() < used + (4 << 20), "waste is bounded");
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
    }

    #[test]
    fn threads_get_disjoint_ranges() {
        let arena = Arena::new();
        let mut ranges: Vec<(usize, usize)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (1..=4usize)
                .map(|worker| {
                    let arena = &arena;
                    scope.spawn(move || {
                        let mut mine = Vec::new();
                        for round in 0..5000 {
                            let size = worker * 7 + round % 300;
                            let start = arena.alloc(size);
                            // SAFETY: `alloc` handed out `size` bytes for this thread alone.
                            unsafe { start.write_bytes(worker as u8, size) };
                            mine.push((start.as_ptr() as usize, size));
                        }
                        mine
                    })
                })
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        let used: usize = ranges.iter().map(|range| range.1.next_multiple_of(ALIGN)).sum();
        assert_eq!(arena.used_bytes(), used);
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
    }
}
