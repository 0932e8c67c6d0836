//! The text form of a schema's fields: `table u32, tenant escaped, ts u64 desc, rest`.
//!
//! ```text
//! field = name type | "rest"                    the last is short for `rest rest`
//! type  = ("u8" | "u16" | "u32" | "u64") ["asc" | "desc"] | "fixed" N | "escaped"
//!       | "counted" ("u8" | "u16" | "u32") | "rest"
//! ```
//! What is parsed prints the same, but for spaces and a superfluous `asc`. Names are checked by the
//! builder.

use std::fmt;

use sluice_base::{Error, Result};

use super::{FieldType, IntWidth};

const TYPES: &str =
    "u8, u16, u32, u64 (asc or desc), fixed N, escaped, counted u8, counted u16, counted u32, rest";

/// The names and types of the fields in `text`.
pub(super) fn parse(text: &str) -> Result<Vec<(String, FieldType)>> {
    let mut fields = Vec::new();
    let mut at = 0;
    for (index, field) in text.split(',').enumerate() {
        let words: Vec<&str> = field.split_ascii_whitespace().collect();
        let wrong = |what: String| {
            let place = at + (field.len() - field.trim_start().len());
            Err(Error::invalid(format!("field {} at byte {place}: {what}", index + 1)))
        };
        let (name, of_type) = match &words[..] {
            [] => return wrong(format!("nothing; write a name and a type ({TYPES})")),
            ["rest"] => ("rest", FieldType::Rest),
            [name] => return wrong(format!("{name:?} has no type; add one of {TYPES}")),
            [name, of_type @ ..] => match parse_type(of_type) {
                Some(of_type) => (*name, of_type),
                None => {
                    let found = of_type.join(" ");
                    return wrong(format!("{name:?} has type {found:?}; use one of {TYPES}"));
                }
            },
        };
        fields.push((name.to_owned(), of_type));
        at += field.len() + 1;
    }
    Ok(fields)
}

fn parse_type(words: &[&str]) -> Option<FieldType> {
    let width = |word: &str| match word {
        "u8" => Some(IntWidth::One),
        "u16" => Some(IntWidth::Two),
        "u32" => Some(IntWidth::Four),
        "u64" => Some(IntWidth::Eight),
        _ => None,
    };
    match words {
        ["rest"] => Some(FieldType::Rest),
        ["escaped"] => Some(FieldType::Escaped),
        ["fixed", bytes] => bytes.parse().ok().map(FieldType::Fixed),
        ["counted", length] => width(length).map(FieldType::Counted),
        [uint] | [uint, "asc"] => width(uint).map(|width| FieldType::Uint { width, desc: false }),
        [uint, "desc"] => width(uint).map(|width| FieldType::Uint { width, desc: true }),
        _ => None,
    }
}

/// Writes one field of a custom schema. No text is one: it is made of its splitter.
pub(super) fn print_custom(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    of_type: FieldType,
) -> fmt::Result {
    match of_type {
        FieldType::Uint { width, .. } => write!(f, "{name} custom u{}", width.bytes() * 8),
        _ => write!(f, "{name} custom"),
    }
}

/// Writes one field.
pub(super) fn print(f: &mut fmt::Formatter<'_>, name: &str, of_type: FieldType) -> fmt::Result {
    match of_type {
        FieldType::Rest if name == "rest" => f.write_str("rest"),
        FieldType::Rest => write!(f, "{name} rest"),
        FieldType::Fixed(bytes) => write!(f, "{name} fixed {bytes}"),
        FieldType::Uint { width, desc: false } => write!(f, "{name} u{}", width.bytes() * 8),
        FieldType::Uint { width, desc: true } => write!(f, "{name} u{} desc", width.bytes() * 8),
        FieldType::Escaped => write!(f, "{name} escaped"),
        FieldType::Counted(width) => write!(f, "{name} counted u{}", width.bytes() * 8),
        FieldType::Custom => write!(f, "{name} custom"),
    }
}
