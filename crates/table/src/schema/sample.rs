//! Random schemas, and keys that are apt to break them; custom ones are in [`splitters`]. For tests, of
//! this crate and of others.

pub mod splitters;

use sluice_env::Rng;

use super::{FieldType, IntWidth, KeySchema};

const WIDTHS: [IntWidth; 4] = [IntWidth::One, IntWidth::Two, IntWidth::Four, IntWidth::Eight];

/// A schema of one to six fields of every type.
pub fn schema(rng: &mut Rng) -> KeySchema {
    let count = 1 + rng.below(6);
    let mut builder = KeySchema::builder("random", 1);
    for index in 0..count {
        let last = index + 1 == count;
        let of_type = match rng.below(if last { 7 } else { 5 }) {
            0 => FieldType::Fixed(1 + rng.below(6) as u16),
            1 => FieldType::Escaped,
            2 => FieldType::Counted(WIDTHS[rng.below(3) as usize]),
            3 => FieldType::Uint { width: WIDTHS[rng.below(4) as usize], desc: true },
            4 => FieldType::Uint { width: WIDTHS[rng.below(4) as usize], desc: false },
            _ => FieldType::Rest,
        };
        builder = builder.field(&format!("f{index}"), of_type);
    }
    builder.build().unwrap_or_else(|_| KeySchema::whole_key())
}

/// A key that most often splits; else cut, continued, a field of another, or a run of 00 and ff.
pub fn key(rng: &mut Rng, schema: &KeySchema) -> Vec<u8> {
    let mut key = Vec::new();
    if rng.one_in(12) {
        key.resize(rng.below(12) as usize, if rng.one_in(2) { 0 } else { 0xff });
        return key;
    }
    for of_type in schema.types() {
        let bytes = bytes(rng);
        match *of_type {
            FieldType::Rest | FieldType::Custom => key.extend_from_slice(&bytes),
            FieldType::Fixed(count) => {
                let repeated = bytes.iter().chain(&[0]).cycle().take(usize::from(count));
                key.extend(repeated);
            }
            FieldType::Uint { width, .. } => {
                let number = match rng.below(4) {
                    0 => rng.next_u64(),
                    1 => u64::MAX - rng.below(3),
                    _ => rng.below(5),
                };
                width.store(number, &mut key);
            }
            FieldType::Escaped => {
                for byte in bytes {
                    key.push(byte);
                    if byte == 0 {
                        key.push(0xff);
                    }
                }
                key.extend_from_slice(&[0, 1]);
            }
            FieldType::Counted(width) => {
                width.store(bytes.len() as u64, &mut key);
                key.extend_from_slice(&bytes);
            }
        }
    }
    match rng.below(16) {
        0 => key.truncate(rng.below(key.len() as u64 + 1) as usize),
        1 => key.push([0, 1, 0xff][rng.below(3) as usize]),
        2 if !key.is_empty() => {
            let at = rng.below(key.len() as u64) as usize;
            key[at] = [0, 1, 2, 0xfe, 0xff][rng.below(5) as usize];
        }
        _ => {}
    }
    key
}

/// Few letters, so that fields repeat, with what escapes and ends are made of among them.
fn bytes(rng: &mut Rng) -> Vec<u8> {
    match rng.below(8) {
        0 => Vec::new(),
        1 => vec![b'a'; rng.below(40) as usize],
        _ => (0..rng.below(4)).map(|_| [0, 1, b'a', b'b', 0xff][rng.below(5) as usize]).collect(),
    }
}
