//! Numbers about a running process: counters, gauges and histograms, cheap enough to be always on.
//!
//! What it is not: there is no registry, there are no names and no labels; whoever owns a number
//! knows what it means and how to print it.
//!
//! Everything is relaxed atomics: recording never waits, and orders nothing. A number read while
//! others record is some recent number, and two numbers read one after the other need not belong
//! to the same moment. A histogram that many threads record into at once shares cache lines; give
//! each thread its own and merge the snapshots.

use std::{
    fmt,
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

/// A number that only grows.
///
/// ```
/// use sluice_env::metrics::Counter;
///
/// static WRITES: Counter = Counter::new();
/// WRITES.inc();
/// WRITES.add(2);
/// assert_eq!(WRITES.get(), 3);
/// ```
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub const fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    #[inline]
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Starts again at zero, for an operator who asks for it. Returns what was counted.
    pub fn reset(&self) -> u64 {
        self.0.swap(0, Relaxed)
    }
}

/// A number that goes up and down. Signed, because a decrease may be recorded before the increase
/// it belongs to.
///
/// ```
/// use sluice_env::metrics::Gauge;
///
/// let open_files = Gauge::new();
/// open_files.add(5);
/// open_files.sub(2);
/// assert_eq!(open_files.get(), 3);
/// ```
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    pub const fn new() -> Gauge {
        Gauge(AtomicI64::new(0))
    }

    #[inline]
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    #[inline]
    pub fn add(&self, delta: i64) {
        self.0.fetch_add(delta, Relaxed);
    }

    #[inline]
    pub fn sub(&self, delta: i64) {
        self.0.fetch_sub(delta, Relaxed);
    }

    #[inline]
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Each power of two is cut into 2^4 buckets, so a bucket is between 1/16 and 1/32 of its values
/// wide (3 to 6 percent), and values below 32 have a bucket each.
const SUB_BITS: u32 = 4;

/// The last bucket is that of `u64::MAX`: 59 shifts of 16 buckets, and 32 before the first shift.
const BUCKETS: usize = bucket_of(u64::MAX) + 1;

/// ```text
/// value      ...0001 mmmm xxxxxxxx      m: the 4 bits after the leading one
///                    └──┘ └ shift ┘     bucket = shift * 16 + (1mmmm)
/// ```
#[inline]
const fn bucket_of(value: u64) -> usize {
    // Setting bit 4 gives values below 16 the shift 0, and them alone changes nothing else.
    let top_bit = u64::BITS - 1 - (value | 1 << SUB_BITS).leading_zeros();
    let shift = top_bit - SUB_BITS;
    ((shift as usize) << SUB_BITS) + (value >> shift) as usize
}

/// The largest value that falls into a bucket.
const fn bucket_max(bucket: usize) -> u64 {
    let shift = (bucket >> SUB_BITS).saturating_sub(1);
    let first = ((bucket - (shift << SUB_BITS)) as u64) << shift;
    first + ((1 << shift) - 1)
}

/// How often values of which size were recorded, in fixed buckets about 5 percent wide. Takes any
/// `u64`; the unit is the owner's (microseconds, bytes). 7.8 KiB.
///
/// ```
/// use sluice_env::metrics::Histogram;
///
/// let waits_us = Histogram::new();
/// for us in 1..=1000 {
///     waits_us.record(us);
/// }
/// let snapshot = waits_us.snapshot();
/// assert_eq!((snapshot.count(), snapshot.sum(), snapshot.max()), (1000, 500_500, 1000));
/// assert!((500..=531).contains(&snapshot.percentile(50.0)));
/// ```
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
    max: AtomicU64,
}

impl Histogram {
    pub const fn new() -> Histogram {
        Histogram {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }

    /// Two atomic additions; a third operation only for a new maximum. The count is not kept: a
    /// snapshot adds up the buckets.
    #[inline]
    pub fn record(&self, value: u64) {
        self.buckets[bucket_of(value)].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
        if value > self.max.load(Relaxed) {
            self.max.fetch_max(value, Relaxed);
        }
    }

    /// What was recorded so far. Values recorded meanwhile may be in it in part.
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            buckets: self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect(),
            sum: self.sum.load(Relaxed),
            max: self.max.load(Relaxed),
        }
    }

    /// Starts again at zero, for an operator who asks for it. Values recorded meanwhile may be
    /// forgotten in part.
    pub fn reset(&self) {
        for bucket in &self.buckets {
            bucket.store(0, Relaxed);
        }
        self.sum.store(0, Relaxed);
        self.max.store(0, Relaxed);
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram::new()
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.snapshot(), f)
    }
}

/// The state of a [`Histogram`] at one moment.
///
/// ```
/// use sluice_env::metrics::{Histogram, HistogramSnapshot};
///
/// let (one, other) = (Histogram::new(), Histogram::new());
/// one.record(10);
/// other.record(20);
/// let mut both = HistogramSnapshot::default();
/// both.merge(&one.snapshot());
/// both.merge(&other.snapshot());
/// assert_eq!((both.count(), both.mean(), both.max()), (2, 15.0, 20));
/// ```
#[derive(Clone)]
pub struct HistogramSnapshot {
    buckets: Box<[u64]>,
    sum: u64,
    max: u64,
}

impl HistogramSnapshot {
    /// How many values were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, &count| sum.wrapping_add(count))
    }

    /// The sum of all values, exact as long as it is below 2^64.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest value, exact; 0 when there is none.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The mean of all values; 0 when there is none.
    pub fn mean(&self) -> f64 {
        let count = self.count();
        if count == 0 { 0.0 } else { self.sum as f64 / count as f64 }
    }

    /// The value that `percent` percent of the values do not exceed, rounded up to the end of its
    /// bucket (at most 6.3 percent more) but never above the maximum. 0 when there is none.
    pub fn percentile(&self, percent: f64) -> u64 {
        let count = self.count();
        // Values are counted from 1. A percentage that is not a number asks for the first.
        let rank = ((percent / 100.0 * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut below = 0_u64;
        for (bucket, &here) in self.buckets.iter().enumerate() {
            below = below.wrapping_add(here);
            if below >= rank {
                return bucket_max(bucket).min(self.max);
            }
        }
        self.max
    }

    /// The buckets that hold values, ascending, as `(largest value of the bucket, count)`.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let all = self.buckets.iter().enumerate();
        all.filter(|(_, count)| **count > 0).map(|(bucket, &count)| (bucket_max(bucket), count))
    }

    /// Adds what another histogram recorded.
    pub fn merge(&mut self, other: &HistogramSnapshot) {
        for (own, &more) in self.buckets.iter_mut().zip(&other.buckets) {
            *own = own.wrapping_add(more);
        }
        self.sum = self.sum.wrapping_add(other.sum);
        self.max = self.max.max(other.max);
    }
}

impl Default for HistogramSnapshot {
    fn default() -> Self {
        HistogramSnapshot { buckets: vec![0; BUCKETS].into(), sum: 0, max: 0 }
    }
}

impl fmt::Debug for HistogramSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistogramSnapshot")
            .field("count", &self.count())
            .field("sum", &self.sum)
            .field("p50", &self.percentile(50.0))
            .field("p99", &self.percentile(99.0))
            .field("max", &self.max)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn buckets_cover_every_value_once_in_order() {
        assert_eq!(BUCKETS, 976);
        assert_eq!(bucket_max(BUCKETS - 1), u64::MAX);
        for bucket in 0..BUCKETS {
            let last = bucket_max(bucket);
            assert_eq!(bucket_of(last), bucket);
            if let Some(next) = last.checked_add(1) {
                assert_eq!(bucket_of(next), bucket + 1);
            }
        }
    }

    #[test]
    fn buckets_are_at_most_one_sixteenth_wide() {
        for bucket in 32..BUCKETS {
            let (first, last) = (bucket_max(bucket - 1) + 1, bucket_max(bucket));
            assert!((last - first) as f64 / first as f64 <= 1.0 / 16.0, "bucket {bucket}");
        }
    }

    #[test]
    fn percentiles_agree_with_sorting() {
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let histogram = Histogram::new();
            let mut values: Vec<u64> =
                (0..1 + rng.below(2000)).map(|_| rng.next_u64() >> rng.below(64)).collect();
            values.iter().for_each(|&value| histogram.record(value));
            values.sort_unstable();
            let snapshot = histogram.snapshot();
            for percent in [0.0, 1.0, 50.0, 90.0, 99.0, 99.9, 100.0] {
                let rank = (percent / 100.0 * values.len() as f64).ceil().max(1.0) as usize;
                let (exact, got) = (values[rank - 1], snapshot.percentile(percent));
                assert!(exact <= got, "seed {seed}, p{percent}: {got} < {exact}");
                assert!(got - exact <= exact / 16, "seed {seed}, p{percent}: {got} > {exact}");
            }
        }
    }

    #[test]
    fn an_empty_histogram_is_zero_throughout() {
        let snapshot = Histogram::new().snapshot();
        let numbers = [snapshot.count(), snapshot.sum(), snapshot.max(), snapshot.percentile(99.0)];
        assert_eq!(numbers, [0; 4]);
        assert_eq!(snapshot.mean(), 0.0);
        assert_eq!(snapshot.percentile(f64::NAN), 0);
    }

    #[test]
    fn merging_equals_recording_into_one() {
        let (a, b, both) = (Histogram::new(), Histogram::new(), Histogram::new());
        for value in 0..5000 {
            if value % 3 == 0 {
                a.record(value)
            } else {
                b.record(value)
            }
            both.record(value);
        }
        let mut merged = a.snapshot();
        merged.merge(&b.snapshot());
        let both = both.snapshot();
        assert_eq!((merged.sum(), merged.max()), (both.sum(), both.max()));
        assert!(merged.buckets().eq(both.buckets()));
        a.reset();
        assert_eq!(a.snapshot().count(), 0);
    }

    #[test]
    fn threads_lose_nothing() {
        let (counter, gauge, histogram) = (Counter::new(), Gauge::new(), Histogram::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for value in 0..10_000 {
                        counter.inc();
                        gauge.add(2);
                        gauge.sub(1);
                        histogram.record(value);
                    }
                });
            }
        });
        assert_eq!((counter.get(), gauge.get()), (40_000, 40_000));
        assert_eq!(histogram.snapshot().count(), 40_000);
        assert_eq!(histogram.snapshot().max(), 9_999);
    }
}
