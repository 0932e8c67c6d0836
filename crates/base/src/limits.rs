//! Every bound of the engine that is not an option, in one place, with its arithmetic.

/// Longest key, in bytes. Keys live whole in index separators and manifest bounds, so a long one
/// costs memory for as long as its table lives; 1 MiB keeps the worst manifest edit (two bounds a
/// table) far below [`MANIFEST_EDIT_BYTES_MAX`].
pub const KEY_BYTES_MAX: usize = 1 << 20;

/// Longest value, in bytes: Redis's `proto-max-bulk-len` default (512 MiB) plus 1 MiB for what the
/// layer above puts in front of it.
pub const VALUE_BYTES_MAX: usize = (512 << 20) + (1 << 20);

/// Most bytes a batch may take in the log. Frames carry a `u32` length; 1 GiB leaves room for one
/// largest value and everything around it, and keeps every sum of two sizes inside 32 bits.
pub const BATCH_BYTES_MAX: usize = 1 << 30;

/// Most entries in one batch: an entry takes at least 5 bytes in the log, so
/// `BATCH_BYTES_MAX / 5` would be 214 million; 2^27 bounds the sequence numbers one batch takes.
pub const BATCH_ENTRIES_MAX: usize = 1 << 27;

/// Largest edit of the manifest.
pub const MANIFEST_EDIT_BYTES_MAX: usize = 64 << 20;

/// Longest name of a column family, in bytes.
pub const CF_NAME_BYTES_MAX: usize = 255;

/// Most column families in a database at one time.
pub const CF_COUNT_MAX: usize = 4096;

/// Largest number of a file in a name, so that names have at most 18 digits.
pub const FILE_NO_MAX: u64 = 999_999_999_999_999_999;

/// Largest number that a file found in a directory may push the next number above: a million files
/// a second for three thousand years. A stray file with a larger one must not use the numbers up.
pub const FILE_NO_FOUND_MAX: u64 = FILE_NO_MAX / 10;
