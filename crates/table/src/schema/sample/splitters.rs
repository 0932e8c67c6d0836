//! Splitters that tests are made with: two that keep their word, and two that do not.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use sluice_env::Rng;

use crate::schema::{IntWidth, KeySchema, KeySplitter, SplitField};

/// Up to the last `a`, and what is behind it: two keys may have the same first field and others in
/// between, and the first field does not ascend.
#[derive(Debug)]
pub struct LastLetter;

impl KeySplitter for LastLetter {
    fn name(&self) -> &str {
        "last-letter"
    }

    fn version(&self) -> u32 {
        1
    }

    fn fields(&self) -> Vec<SplitField> {
        vec![SplitField::bytes("lead"), SplitField::bytes("tail")]
    }

    fn contract(&self) -> &str {
        "lead ends with the last letter a, or is nothing"
    }

    fn split(&self, key: &[u8], ends: &mut Vec<usize>) -> bool {
        let lead = key.iter().rposition(|&byte| byte == b'a').map_or(0, |at| at + 1);
        ends.extend([lead, key.len()]);
        true
    }
}

/// A byte, what is between, and the last two as an integer. Shorter keys do not split.
#[derive(Debug)]
pub struct Framed {
    pub version: u32,
    pub contract: &'static str,
}

impl Default for Framed {
    fn default() -> Framed {
        Framed { version: 1, contract: "the first byte and the last two are integers" }
    }
}

impl KeySplitter for Framed {
    fn name(&self) -> &str {
        "framed"
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn fields(&self) -> Vec<SplitField> {
        vec![
            SplitField::uint("kind", IntWidth::One),
            SplitField::bytes("body"),
            SplitField::uint("id", IntWidth::Two),
        ]
    }

    fn contract(&self) -> &str {
        self.contract
    }

    fn split(&self, key: &[u8], ends: &mut Vec<usize>) -> bool {
        if key.len() < 3 {
            return false;
        }
        ends.extend([1, key.len() - 2, key.len()]);
        true
    }
}

/// [`Framed`] with lies: of some keys, the same each time, or of any key at any time.
#[derive(Debug)]
pub struct Liar {
    /// Counts the calls of one that is fickle.
    calls: Option<AtomicU64>,
}

impl KeySplitter for Liar {
    fn name(&self) -> &str {
        if self.calls.is_some() { "fickle" } else { "liar" }
    }

    fn version(&self) -> u32 {
        1
    }

    fn fields(&self) -> Vec<SplitField> {
        Framed::default().fields()
    }

    fn contract(&self) -> &str {
        "none that it keeps"
    }

    fn split(&self, key: &[u8], ends: &mut Vec<usize>) -> bool {
        let seed = match &self.calls {
            Some(calls) => calls.fetch_add(1, Ordering::Relaxed),
            None => key.iter().fold(7, |seed, &byte| seed * 31 % 1009 + u64::from(byte)),
        };
        let mut rng = Rng::new(seed);
        let said = Framed::default().split(key, ends);
        if !rng.one_in(4) {
            return said;
        }
        let any = rng.below(key.len() as u64 + 3) as usize;
        match rng.below(8) {
            0 => ends.reverse(),
            1 => ends.push(key.len()),
            2 => drop(ends.pop()),
            3 => ends.clear(),
            4 => ends.iter_mut().for_each(|end| *end += 1),
            5 => *ends = vec![1, any, key.len()],
            6 => *ends = vec![usize::MAX, any, key.len()],
            _ => *ends = vec![1, any, any + 2],
        }
        !rng.one_in(6)
    }
}

/// A custom schema of one of the splitters that say the same each time.
pub fn schema(rng: &mut Rng) -> KeySchema {
    let splitter: Arc<dyn KeySplitter> = match rng.below(3) {
        0 => Arc::new(LastLetter),
        1 => Arc::new(Framed::default()),
        _ => Arc::new(Liar { calls: None }),
    };
    of(splitter)
}

/// The schema of one that says now this, now that.
pub fn fickle() -> KeySchema {
    of(fickle_splitter())
}

/// The splitter of [`fickle`].
pub fn fickle_splitter() -> Arc<dyn KeySplitter> {
    Arc::new(Liar { calls: Some(AtomicU64::new(0)) })
}

/// The schema of `splitter`.
pub fn of(splitter: Arc<dyn KeySplitter>) -> KeySchema {
    KeySchema::custom(splitter).expect("the names are names")
}
