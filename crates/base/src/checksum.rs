//! The two hashes of the formats: CRC32C guards bytes on disk (hardware speed, and files can be
//! checked by outside tools), XXH3 spreads keys over filters.

/// CRC32C (Castagnoli) of `bytes`.
///
/// ```
/// assert_eq!(sluice_base::checksum::crc32c(b"123456789"), 0xe306_9283);
/// ```
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// CRC32C of what `crc` covered followed by `bytes`.
#[inline]
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}

/// XXH3 (64 bit, seed 0) of `bytes`: the filter hash. Part of the table format.
#[inline]
pub fn xxh3(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}
