//! The numbers of the table format, in one place: magic, versions, roles, encodings, limits.
//!
//! Every number here is on disk somewhere. Add, never reuse, never renumber. `docs/format/table.md`
//! draws the bytes that they appear in.

/// The last eight bytes of every table.
pub const MAGIC: [u8; 8] = *b"SLUICSST";

/// The version of the whole file format that this build writes, and the only one it reads.
pub const FORMAT_VERSION: u32 = 1;

/// The version of the block layout (header and column encodings).
pub const BLOCK_VERSION: u8 = 1;

/// Bytes of the footer, which ends the file.
pub const FOOTER_BYTES: usize = 80;

/// Bytes behind every block's payload: the compression kind and the CRC32C.
pub const BLOCK_TRAILER_BYTES: usize = 5;

/// Bytes of a block header before its column directory, and of one entry of the directory.
pub const BLOCK_HEADER_BYTES: usize = 8;
pub const COLUMN_ENTRY_BYTES: usize = 8;

/// Most bytes an LZ4 payload may have when unpacked. Larger blocks (one huge value, the index of a
/// huge table) are stored as they are, so unpacking never allocates more than this on the word of
/// a length field.
pub const LZ4_RAW_BYTES_MAX: usize = 32 << 20;

/// A value of at least this many bytes is written straight from the caller's slice: no copy, no
/// compression. Below it, value + longest key (1 MiB) + columns stay under [`LZ4_RAW_BYTES_MAX`].
pub const DIRECT_VALUE_BYTES: usize = 16 << 20;

/// How many rows share a bundle prefix, as a power of two: 2^4 = 16.
pub const BUNDLE_SHIFT: u8 = 4;

/// Largest bundle shift a reader accepts.
pub const BUNDLE_SHIFT_MAX: u8 = 8;

/// What a reader must know of the file besides its version (footer, offset 60).
pub mod footer_flag {
    /// The index block is a top index; its partitions lie behind the data.
    pub const TWO_LEVELS: u32 = 1;
    /// A filter of key prefixes lies in front of the filter of keys.
    pub const PREFIX_FILTER: u32 = 2;
}

/// Unpacked bytes of a partition of a large index, about. An index of more than twice as many is
/// written in two levels.
pub const INDEX_PARTITION_BYTES: usize = 64 << 10;

/// How many key fields, from the first, the index has statistics of.
pub const STATISTICS_FIELDS: usize = 32;

/// What the statistics keep of a string.
pub const STATISTICS_BYTES: usize = 16;

/// What a block holds (header byte 6).
pub mod block_kind {
    pub const DATA: u8 = 1;
    pub const INDEX: u8 = 2;
    /// The upper level of an index in two.
    pub const TOP_INDEX: u8 = 3;
}

/// How a column is encoded (directory byte 1).
pub mod encoding {
    pub const PREFIX_BYTES: u8 = 1;
    pub const RAW_BYTES: u8 = 2;
    pub const INTEGERS: u8 = 3;
    pub const BITMAP: u8 = 4;
    pub const DICTIONARY: u8 = 5;
    pub const EXCEPTIONS: u8 = 6;
    pub const GROUPS: u8 = 7;

    /// An encoding in words, for dumps and messages.
    pub fn name(encoding: u8) -> &'static str {
        match encoding {
            PREFIX_BYTES => "prefix bytes",
            RAW_BYTES => "raw bytes",
            INTEGERS => "integers",
            BITMAP => "bitmap",
            DICTIONARY => "dictionary",
            EXCEPTIONS => "exceptions",
            GROUPS => "groups",
            _ => "unknown",
        }
    }
}

/// What a column means (directory byte 0). Roles ascend inside a block, so the value column, which
/// may be huge, is the last one and its bytes end the payload.
pub mod role {
    /// Which rows begin a group, and how many key fields have one value a group.
    pub const GROUPS: u8 = 0x00;
    /// Field 0 of the key schema; field `n` is `KEY_FIELD + n`, up to 62.
    pub const KEY_FIELD: u8 = 0x01;
    /// Whole keys of the rows that do not split under the key schema.
    pub const EXCEPTION: u8 = 0x3f;
    pub const TRAILER: u8 = 0x40;
    pub const SAME_KEY: u8 = 0x41;
    /// Expiry in milliseconds since 1970; absent: no row expires. Reserved.
    pub const EXPIRY: u8 = 0x42;
    /// Set bit: the value is a pointer into a value file; absent: none is. Reserved.
    pub const VALUE_POINTER: u8 = 0x43;
    pub const VALUE: u8 = 0x7f;

    pub const SEPARATOR: u8 = 0x81;
    pub const SEPARATOR_TRAILER: u8 = 0x82;
    pub const BLOCK_OFFSET: u8 = 0x83;
    pub const BLOCK_BYTES: u8 = 0x84;
    pub const BLOCK_ROWS: u8 = 0x85;
    pub const BLOCK_TOMBSTONES: u8 = 0x86;
    pub const EXPIRY_MIN: u8 = 0x87;
    pub const EXPIRY_MAX: u8 = 0x88;
    /// Rows whose keys do not split; only under a schema of several fields.
    pub const BLOCK_EXCEPTIONS: u8 = 0x89;
    /// Only in a top index: how many data blocks a partition has, and their bytes.
    pub const PART_BLOCKS: u8 = 0x8a;
    pub const PART_DATA_BYTES: u8 = 0x8b;
    /// Statistics of field 0: the smallest, and behind it the largest; two roles a field.
    pub const FIELD_BOUNDS: u8 = 0xa0;

    /// The roles of the smallest and the largest of key field `field`, which is below
    /// [`super::STATISTICS_FIELDS`].
    pub fn field_bounds(field: usize) -> [u8; 2] {
        let first = FIELD_BOUNDS + 2 * field as u8;
        [first, first + 1]
    }

    /// A role in words, for dumps and messages.
    pub fn name(role: u8) -> &'static str {
        match role {
            GROUPS => "groups",
            KEY_FIELD => "key",
            0x02..EXCEPTION => "key field",
            EXCEPTION => "exception",
            TRAILER => "trailer",
            SAME_KEY => "same_key",
            EXPIRY => "expiry",
            VALUE_POINTER => "value_pointer",
            VALUE => "value",
            SEPARATOR => "separator",
            SEPARATOR_TRAILER => "separator_trailer",
            BLOCK_OFFSET => "block_offset",
            BLOCK_BYTES => "block_bytes",
            BLOCK_ROWS => "block_rows",
            BLOCK_TOMBSTONES => "block_tombstones",
            EXPIRY_MIN => "expiry_min",
            EXPIRY_MAX => "expiry_max",
            BLOCK_EXCEPTIONS => "block_exceptions",
            PART_BLOCKS => "part_blocks",
            PART_DATA_BYTES => "part_data_bytes",
            FIELD_BOUNDS..0xe0 => "field_bounds",
            _ => "unknown",
        }
    }
}

/// How a block's payload is compressed (first byte behind the payload).
pub mod compression {
    pub const NONE: u8 = 0;
    pub const LZ4: u8 = 1;

    /// A kind of compression in words.
    pub fn name(compression: u8) -> &'static str {
        match compression {
            NONE => "none",
            LZ4 => "lz4",
            _ => "unknown",
        }
    }
}
