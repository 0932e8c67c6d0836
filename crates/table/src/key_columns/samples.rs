//! Every 16th value of a column in a dense array: the first step of a search, which so touches a line
//! or two of the column itself.

/// How many rows a sample stands for, as a power of two: two lines of a column of 8 bytes.
const SAMPLE_SHIFT: u8 = 4;

/// Most places of which all are kept: the groups of a block, as a rule. Each probe of the columns that
/// this saves is a cache miss or three, for sixteen bytes a group.
const ALL_MAX: usize = 256;

/// Every 16th value of a column, or what stands for it; none of a constant one.
#[derive(Debug)]
pub(super) struct Samples<T = u64> {
    values: Box<[T]>,
    shift: u8,
}

impl<T: Copy + Ord> Samples<T> {
    pub(super) fn new(values: Box<[T]>, shift: u8) -> Samples<T> {
        Samples { values, shift }
    }

    /// Samples of `places`: of all when they are few, which saves the second step of the search.
    pub(super) fn of(places: usize, value: impl FnMut(usize) -> T) -> Samples<T> {
        let shift = if takes_all(places) { 0 } else { SAMPLE_SHIFT };
        let values = (0..places).step_by(1 << shift).map(value).collect();
        Samples { values, shift }
    }

    /// How many places a sample stands for, as a power of two.
    pub(super) fn shift(&self) -> u8 {
        self.shift
    }

    pub(super) fn values(&self) -> &[T] {
        &self.values
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.values.len() * size_of::<T>()
    }

    /// The part of `low..high`, in which the values ascend, where the first at or after `wanted`
    /// is; its end when there is none.
    #[inline]
    pub(super) fn narrow(&self, low: usize, high: usize, wanted: T) -> (usize, usize) {
        self.narrow_with(low, high, wanted, |_, at| at)
    }

    /// The same, where equal samples say nothing.
    #[inline]
    pub(super) fn narrow_heads(&self, low: usize, high: usize, wanted: T) -> (usize, usize) {
        self.narrow_with(low, high, wanted, |samples, at| {
            at + samples[at..].partition_point(|&value| value <= wanted)
        })
    }

    /// `behind` says, from the number of samples before `wanted`, which is the first not before
    /// the place.
    #[inline]
    fn narrow_with(
        &self,
        low: usize,
        high: usize,
        wanted: T,
        behind: impl Fn(&[T], usize) -> usize,
    ) -> (usize, usize) {
        let first = low.div_ceil(1 << self.shift);
        let end = high.div_ceil(1 << self.shift);
        if first >= end {
            return (low, high);
        }
        let samples = &self.values[first..end];
        let at = samples.partition_point(|&value| value < wanted);
        let behind = behind(samples, at);
        let from = if at > 0 { ((first + at - 1) << self.shift) + 1 } else { low };
        let to = if behind < samples.len() { (first + behind) << self.shift } else { high };
        (from, to)
    }
}

/// Whether samples of so many places are all of them.
pub(super) fn takes_all(places: usize) -> bool {
    places <= ALL_MAX
}

/// The first sixteen bytes as an integer that sorts like them, as [`crate::column::head`] is of eight:
/// what groups share begins with a slot, a length, a name that others have, too.
pub(super) fn long_head(bytes: &[u8]) -> u128 {
    match bytes.first_chunk::<16>() {
        Some(chunk) => u128::from_be_bytes(*chunk),
        None => {
            let mut chunk = [0; 16];
            chunk[..bytes.len()].copy_from_slice(bytes);
            u128::from_be_bytes(chunk)
        }
    }
}
