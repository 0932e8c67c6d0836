//! Kinds of values: what a text must look like, and its canonical form.

use super::ConfigError;

/// The kind of a parameter's value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// `yes` or `no`.
    Bool,
    Int {
        min: i64,
        max: i64,
    },
    /// Bytes, with units (`64mb`).
    Memory {
        min: i64,
        max: i64,
    },
    Enum(&'static [&'static str]),
    /// Any text.
    Text,
    /// Any number of words.
    Words,
    /// `seconds changes` pairs. Accepted for tools; snapshots are not made on a schedule.
    Save,
    /// `class hard soft seconds` groups; classes not named keep their values.
    OutputLimits,
    /// Characters of `notify-keyspace-events`.
    Events,
}

impl Kind {
    /// The canonical form of `text`; `current` is the value so far.
    pub(crate) fn canonical(self, text: &str, current: &str) -> Result<String, ConfigError> {
        match self {
            Kind::Bool => match () {
                () if text.eq_ignore_ascii_case("yes") => Ok("yes".into()),
                () if text.eq_ignore_ascii_case("no") => Ok("no".into()),
                () => refuse("argument must be 'yes' or 'no'"),
            },
            Kind::Int { min, max } => {
                let Some(value) = sluice_resp::parse_i64(text.as_bytes()) else {
                    return refuse("argument couldn't be parsed into an integer");
                };
                in_range(value, min, max)
            }
            Kind::Memory { min, max } => match parse_memory(text) {
                None => refuse("argument must be a memory value"),
                Some(value) => in_range(i64::try_from(value).unwrap_or(i64::MAX), min, max),
            },
            Kind::Enum(values) => {
                match values.iter().find(|value| value.eq_ignore_ascii_case(text)) {
                    Some(value) => Ok((*value).to_owned()),
                    None => refuse(format!(
                        "argument(s) must be one of the following: {}",
                        values.join(", ")
                    )),
                }
            }
            Kind::Text => Ok(text.to_owned()),
            Kind::Words => Ok(text.split_whitespace().collect::<Vec<_>>().join(" ")),
            Kind::Save => save(text),
            Kind::OutputLimits => output_limits(text, current),
            Kind::Events => events(text),
        }
    }

    /// As [`canonical`](Self::canonical), from the words of a line or an argument list.
    pub(crate) fn canonical_args(
        self,
        words: &[&str],
        current: &str,
    ) -> Result<String, ConfigError> {
        match (self, words) {
            (Kind::Save, words) => {
                // Lines add up; an empty one starts anew.
                let added = save(&words.join(" "))?;
                let both = match (added.is_empty(), current.is_empty()) {
                    (true, _) => String::new(),
                    (false, true) => added,
                    (false, false) => format!("{current} {added}"),
                };
                Ok(both)
            }
            (Kind::OutputLimits | Kind::Words, words) => self.canonical(&words.join(" "), current),
            (_, [one]) => self.canonical(one, current),
            _ => refuse("wrong number of arguments"),
        }
    }
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(reason.into()))
}

fn in_range(value: i64, min: i64, max: i64) -> Result<String, ConfigError> {
    if value < min || value > max {
        return refuse(format!("argument must be between {min} and {max} inclusive"));
    }
    Ok(value.to_string())
}

/// Reads `512mb`, `1g`, `1000`: `k m g` are powers of 1000, `kb mb gb` of 1024, in any case.
pub(crate) fn parse_memory(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1000 * 1000,
        "mb" => 1 << 20,
        "g" => 1000 * 1000 * 1000,
        "gb" => 1 << 30,
        "t" => 1000 * 1000 * 1000 * 1000,
        "tb" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn save(text: &str) -> Result<String, ConfigError> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let numbers: Option<Vec<i64>> =
        words.iter().map(|word| sluice_resp::parse_i64(word.as_bytes())).collect();
    match numbers {
        Some(numbers)
            if numbers.len() % 2 == 0
                && numbers.chunks(2).all(|pair| pair[0] >= 1 && pair[1] >= 0) =>
        {
            Ok(words.join(" "))
        }
        _ => refuse("Invalid save parameters"),
    }
}

/// The classes of `client-output-buffer-limit`, with the older name of the second.
const CLASSES: [(&str, &str); 3] =
    [("normal", "normal"), ("slave", "replica"), ("pubsub", "pubsub")];

fn output_limits(text: &str, current: &str) -> Result<String, ConfigError> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if !words.len().is_multiple_of(4) {
        return refuse("Wrong number of arguments in buffer limit configuration.");
    }
    let mut limits: Vec<String> = current
        .split_whitespace()
        .collect::<Vec<_>>()
        .chunks(4)
        .map(|group| group.join(" "))
        .collect();
    for group in words.chunks(4) {
        let class = CLASSES.iter().position(|(name, other)| {
            name.eq_ignore_ascii_case(group[0]) || other.eq_ignore_ascii_case(group[0])
        });
        let Some(class) = class else {
            return refuse("Invalid client class specified in buffer limit configuration.");
        };
        let (hard, soft) = (parse_memory(group[1]), parse_memory(group[2]));
        let seconds = sluice_resp::parse_i64(group[3].as_bytes()).filter(|seconds| *seconds >= 0);
        let (Some(hard), Some(soft), Some(seconds)) = (hard, soft, seconds) else {
            return refuse(
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
            );
        };
        let text = format!("{} {hard} {soft} {seconds}", CLASSES[class].0);
        match limits.get_mut(class) {
            Some(limit) => *limit = text,
            None => limits.push(text),
        }
    }
    Ok(limits.join(" "))
}

fn events(text: &str) -> Result<String, ConfigError> {
    const KNOWN: &str = "Ag$lshzxeKEtmdn";
    match text.chars().all(|c| KNOWN.contains(c)) {
        true => Ok(text.to_owned()),
        false => refuse(format!("Invalid event class character. Use '{KNOWN}'.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_units() {
        for (text, value) in [
            ("0", Some(0)),
            ("12", Some(12)),
            ("1k", Some(1000)),
            ("1kb", Some(1024)),
            ("512MB", Some(512 << 20)),
            ("2g", Some(2_000_000_000)),
            ("10xb", None),
            ("mb", None),
            ("-1", None),
            ("99999999999gb", None),
        ] {
            assert_eq!(parse_memory(text), value, "{text}");
        }
    }

    #[test]
    fn output_limits_merge_by_class() {
        let before = "normal 0 0 0 slave 1 2 3 pubsub 4 5 6";
        let after = Kind::OutputLimits.canonical("replica 1mb 1kb 60 normal 1 1 1", before);
        assert_eq!(after.as_deref(), Ok("normal 1 1 1 slave 1048576 1024 60 pubsub 4 5 6"));
    }

    #[test]
    fn save_lines_add_up_and_an_empty_one_starts_anew() {
        assert_eq!(Kind::Save.canonical_args(&["60", "10"], "900 1").as_deref(), Ok("900 1 60 10"));
        assert_eq!(Kind::Save.canonical_args(&[""], "900 1").as_deref(), Ok(""));
        assert!(Kind::Save.canonical("x", "").is_err());
    }
}
