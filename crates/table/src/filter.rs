//! The filter: which keys a table certainly does not hold.
//!
//! A Bloom filter cut into lines of 64 bytes (Putze, Sanders, Singler 2007, "Cache-, Hash- and
//! Space-Efficient Bloom Filters"): a key sets and tests bits of one line only, so a probe costs
//! one cache miss. At 10 bits a key and 6 probes about 1 % of absent keys pass, against 0.8 % for
//! a filter of one piece.
//!
//! ```text
//! +--------------------+-----------+--------+---------------+----------------------+
//! | kind u8 = 1        | probes u8 | 0 u16  | lines u32     | lines x 64 bytes     |
//! +--------------------+-----------+--------+---------------+----------------------+
//! h = XXH3-64 of the whole user key
//! line   = (h >> 32) * lines >> 32
//! bits   = h * 0x9e3779b97f4a7c15 (mod 2^64)
//! bit i  = bits >> (1 + 9 * i) & 511, for i in 0..probes; bit b is bit b % 64 of the
//!          line's little-endian u64 number b / 64
//! ```
//! One multiplication yields all (at most seven) bit numbers: they lie in different bits of a
//! product into which every bit of the hash below them went.

use std::sync::Arc;

use sluice_base::{Error, Result, checksum};

use crate::{fault::Fault, schema::KeySchema};

const KIND: u8 = 1;
const HEAD_BYTES: usize = 8;
const LINE_BYTES: usize = 64;
const PROBES_MAX: u8 = 7;
/// Bits a prefix where the table has no filter of keys whose number would do.
const PREFIX_BITS: u32 = 10;
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash of a user key that every table's filter takes: computed once for a lookup, whatever
/// the number of tables.
#[inline]
pub fn filter_hash(key: &[u8]) -> u64 {
    checksum::xxh3(key)
}

/// One cache line of bits.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Line([u64; 8]);

/// A filter in memory.
#[derive(Debug)]
pub struct Filter {
    lines: Box<[Line]>,
    probes: u8,
}

impl Filter {
    /// Parses an unpacked filter block.
    pub fn parse(bytes: &[u8]) -> Result<Filter, Fault> {
        let Some((head, body)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
            return Err(Fault::damaged("a filter header of 8 bytes", bytes.len()));
        };
        if head[0] != KIND {
            return Err(Fault::unsupported(format!("filter kind {}", head[0])));
        }
        let probes = head[1];
        let lines = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if !(1..=PROBES_MAX).contains(&probes) || head[2..4] != [0, 0] {
            return Err(Fault::damaged(format!("1 to {PROBES_MAX} probes"), probes));
        }
        if lines == 0 || body.len() != lines * LINE_BYTES {
            return Err(Fault::damaged(format!("{lines} (not 0) lines of 64 bytes"), body.len()));
        }
        let lines = body
            .chunks_exact(LINE_BYTES)
            .map(|chunk| {
                let mut line = Line::default();
                for (word, bytes) in line.0.iter_mut().zip(chunk.chunks_exact(8)) {
                    let mut raw = [0; 8];
                    raw.copy_from_slice(bytes);
                    *word = u64::from_le_bytes(raw);
                }
                line
            })
            .collect();
        Ok(Filter { lines, probes })
    }

    pub fn memory_bytes(&self) -> usize {
        self.lines.len() * LINE_BYTES
    }

    pub fn probes(&self) -> u8 {
        self.probes
    }

    /// False only when no key with this hash was added.
    #[inline]
    pub fn may_contain(&self, hash: u64) -> bool {
        let line = &self.lines[line_of(hash, self.lines.len())].0;
        // No early way out: seven loads from one line cost less than one wrong guess.
        let mut missing = 0;
        let mut bits = hash.wrapping_mul(MIX) >> 1;
        for _ in 0..self.probes {
            missing |= !line[(bits >> 6 & 7) as usize] & 1 << (bits & 63);
            bits >>= 9;
        }
        missing == 0
    }
}

#[inline]
fn line_of(hash: u64, lines: usize) -> usize {
    // lines < 2^32, so the product stays below 2^64 and the result below `lines`.
    (((hash >> 32) * lines as u64) >> 32) as usize
}

/// Collects the prefixes made of the first fields of a table's keys, which come in order. Every key
/// that *begins* with so many fields counts, whether it splits as a whole or not: so a reader who
/// wants the keys that begin with certain bytes may trust the filter.
#[derive(Debug)]
pub struct PrefixFilterBuilder {
    schema: Arc<KeySchema>,
    fields: usize,
    /// Bytes of the prefix of the last key; 0: it had none.
    end: usize,
    filter: FilterBuilder,
}

impl PrefixFilterBuilder {
    /// Over the first `fields` fields. Refuses a number of fields that the schema does not have, or of
    /// which the last would be all that is left of the key.
    pub fn new(schema: &Arc<KeySchema>, fields: u8, bits: u32) -> Result<PrefixFilterBuilder> {
        let most = schema.delimited_fields();
        let fields = usize::from(fields);
        if !(1..=most).contains(&fields) {
            let text = format!(
                "a filter on the first {fields} fields of keys of {schema}: 1 to {most} are possible,                  and none where that is 0"
            );
            return Err(Error::invalid(text));
        }
        let filter = FilterBuilder::new(if bits == 0 { PREFIX_BITS } else { bits });
        Ok(PrefixFilterBuilder { schema: Arc::clone(schema), fields, end: 0, filter })
    }

    /// Adds a key that shares its first `shared` bytes with the one before.
    #[inline]
    pub fn push(&mut self, key: &[u8], shared: usize) {
        if self.end == 0 || self.end > shared {
            self.end = self.schema.prefix_end(key, self.fields).unwrap_or(0);
            if self.end > 0 {
                self.filter.push(&key[..self.end]);
            }
        }
    }

    pub fn fields(&self) -> u64 {
        self.fields as u64
    }

    pub fn estimated_bytes(&self) -> usize {
        self.filter.estimated_bytes()
    }

    /// The payload; `None` when no key begins with so many fields.
    pub fn encode(&self) -> Option<Vec<u8>> {
        self.filter.encode()
    }
}

/// Collects the hashes of a table's distinct keys.
#[derive(Debug)]
pub struct FilterBuilder {
    hashes: Vec<u64>,
    bits_per_key: u32,
}

impl FilterBuilder {
    /// `bits_per_key` 0 builds no filter.
    pub fn new(bits_per_key: u32) -> FilterBuilder {
        FilterBuilder { hashes: Vec::new(), bits_per_key: bits_per_key.min(32) }
    }

    #[inline]
    pub fn push(&mut self, key: &[u8]) {
        if self.bits_per_key > 0 {
            self.hashes.push(filter_hash(key));
        }
    }

    /// About how many bytes the filter would have now.
    pub fn estimated_bytes(&self) -> usize {
        self.hashes.len() * self.bits_per_key as usize / 8
    }

    /// The payload, `None` without keys or bits.
    pub fn encode(&self) -> Option<Vec<u8>> {
        if self.hashes.is_empty() {
            return None;
        }
        let bits = self.hashes.len() as u64 * u64::from(self.bits_per_key);
        let lines = bits.div_ceil(LINE_BYTES as u64 * 8).clamp(1, u64::from(u32::MAX)) as usize;
        // The best number of probes for a plain Bloom filter is ln 2 * bits per key; lines that
        // fill unevenly want a little less.
        let probes = (self.bits_per_key * 6 / 10).clamp(1, u32::from(PROBES_MAX)) as u8;
        let mut words = vec![[0u64; 8]; lines];
        for &hash in &self.hashes {
            let line = &mut words[line_of(hash, lines)];
            let mut bits = hash.wrapping_mul(MIX) >> 1;
            for _ in 0..probes {
                line[(bits >> 6 & 7) as usize] |= 1 << (bits & 63);
                bits >>= 9;
            }
        }
        let mut out = Vec::with_capacity(HEAD_BYTES + lines * LINE_BYTES);
        out.extend_from_slice(&[KIND, probes, 0, 0]);
        out.extend_from_slice(&(lines as u32).to_le_bytes());
        for word in words.iter().flatten() {
            out.extend_from_slice(&word.to_le_bytes());
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_keys_pass_and_few_others_do() {
        for keys in [1u64, 3, 100, 50_000] {
            let mut builder = FilterBuilder::new(10);
            for key in 0..keys {
                builder.push(&key.to_be_bytes());
            }
            let filter = Filter::parse(&builder.encode().unwrap()).unwrap();
            for key in 0..keys {
                assert!(filter.may_contain(filter_hash(&key.to_be_bytes())));
            }
            if keys < 1000 {
                continue;
            }
            let probes = 200_000;
            let passed = (0..probes)
                .filter(|probe| filter.may_contain(filter_hash(&(u64::MAX - probe).to_be_bytes())))
                .count();
            // Fixed keys and a fixed hash: the number is the same everywhere.
            println!("{keys} keys: {:.3} % pass", passed as f64 * 100.0 / probes as f64);
            assert!(passed * 1000 < probes as usize * 12, "{passed} of {probes}");
        }
    }

    #[test]
    fn hostile_headers_are_refused() {
        let good = {
            let mut builder = FilterBuilder::new(10);
            builder.push(b"key");
            builder.encode().unwrap()
        };
        assert!(Filter::parse(&good).is_ok());
        for (at, byte) in [(0, 2), (1, 0), (1, 8), (2, 1), (4, 0), (4, 2), (7, 0xff)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(Filter::parse(&bad).is_err(), "byte {at} = {byte}");
        }
        for cut in 0..good.len() {
            assert!(Filter::parse(&good[..cut]).is_err());
        }
    }
}
