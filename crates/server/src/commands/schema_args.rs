//! What stands behind SCHEMA's subcommands: names, ranges, texts. Pure: knows no engine.

use super::memtable_args::shown;
use crate::command::{Args, CmdError};

/// Bytes of a schema's text: 62 fields with the longest names fit.
const TEXT_BYTES_MAX: usize = 8192;

/// `name [version]`: a schema, or all versions of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) version: Option<u32>,
}

/// What DRAIN does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Start,
    Pause,
    Resume,
    Cancel,
    Status,
}

/// The text of SET: `name [version] [fields]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SchemaText {
    pub(super) named: Named,
    /// In the text form.
    pub(super) fields: Option<String>,
}

impl Named {
    pub(super) fn parse(args: &Args<'_>) -> Result<Named, CmdError> {
        match args {
            [name] => Ok(Named { name: text(name)?, version: None }),
            [name, word] => Ok(Named { name: text(name)?, version: Some(version(word)?) }),
            _ => Err(CmdError::SYNTAX),
        }
    }

    /// `name [version] [PAUSE|RESUME|CANCEL|STATUS]`.
    pub(super) fn parse_with_action(args: &Args<'_>) -> Result<(Named, Action), CmdError> {
        let Some((last, before)) = args.split_last() else { return Err(CmdError::SYNTAX) };
        let words: [(&[u8], Action); 4] = [
            (b"pause", Action::Pause),
            (b"resume", Action::Resume),
            (b"cancel", Action::Cancel),
            (b"status", Action::Status),
        ];
        let action = words.iter().find(|(word, _)| last.eq_ignore_ascii_case(word));
        match action {
            // The first word is a name, whatever it is.
            Some((_, action)) if !before.is_empty() => Ok((Named::parse(before)?, *action)),
            _ if args.len() == 2 && !is_number(last) => Err(CmdError::new(format!(
                "ERR unknown option '{}': there are a version, PAUSE, RESUME, CANCEL and STATUS",
                shown(last)
            ))),
            _ => Ok((Named::parse(args)?, Action::Start)),
        }
    }
}

fn is_number(word: &[u8]) -> bool {
    !word.is_empty() && word.iter().all(u8::is_ascii_digit)
}

fn version(word: &[u8]) -> Result<u32, CmdError> {
    let number = std::str::from_utf8(word).ok().filter(|_| is_number(word));
    number.and_then(|number| number.parse().ok()).ok_or_else(|| {
        CmdError::new(format!("ERR '{}' is not a version: give a number", shown(word)))
    })
}

fn text(arg: &[u8]) -> Result<String, CmdError> {
    if arg.len() > TEXT_BYTES_MAX {
        let bytes = arg.len();
        let error = format!("ERR {bytes} bytes of text; {TEXT_BYTES_MAX} are allowed");
        return Err(CmdError::new(error));
    }
    String::from_utf8(arg.to_vec())
        .map_err(|_| CmdError::new("ERR a key schema's text must be UTF-8"))
}

/// The range from `start` to before `end`; `None`: without an end. Keys are any bytes.
pub(super) fn range(start: &[u8], end: &[u8]) -> Result<(Vec<u8>, Option<Vec<u8>>), CmdError> {
    let wrong = |text: &str| Err(CmdError::new(format!("ERR {text}")));
    if start == b"+" {
        return wrong("a range cannot start at +, behind the last key: - is the first");
    }
    if end == b"-" {
        return wrong("a range cannot end at -, before the first key: + is behind the last");
    }
    let start = if start == b"-" { &[][..] } else { start };
    if end.is_empty() || end == b"+" {
        return Ok((start.to_vec(), None));
    }
    if start >= end {
        return wrong("the range has no keys: its start must sort before its end");
    }
    Ok((start.to_vec(), Some(end.to_vec())))
}

/// Reads `name [version] [fields]`, which may be one argument or several.
pub(super) fn schema_text(args: &Args<'_>) -> Result<SchemaText, CmdError> {
    let whole = text(&args.join(&b' '))?;
    let (name, rest) = first_word(&whole);
    if name.is_empty() {
        return Err(CmdError::new(
            "ERR name a key schema: its name, [its version], [its fields], such as \
             events tenant escaped, ts u64 desc, rest",
        ));
    }
    let (word, behind) = first_word(rest);
    let (version, fields) = match is_number(word.as_bytes()) {
        true => (Some(version(word.as_bytes())?), behind),
        false => (None, rest),
    };
    let fields = (!fields.is_empty()).then(|| fields.to_owned());
    Ok(SchemaText { named: Named { name: name.to_owned(), version }, fields })
}

/// The first word of `text`, and the rest without blanks around it.
fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim_ascii();
    let (word, rest) = text.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((text, ""));
    (word, rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<&[u8]> {
        line.split_whitespace().map(str::as_bytes).collect()
    }

    fn named(name: &str, version: Option<u32>) -> Named {
        Named { name: name.to_owned(), version }
    }

    #[test]
    fn a_text_is_a_name_a_version_and_fields_in_one_argument_or_many() {
        for (line, version, fields) in [
            ("events", None, None),
            ("events 2", Some(2), None),
            ("events a u8", None, Some("a u8")),
            ("events 3 a u8, rest", Some(3), Some("a u8, rest")),
            // A field's name begins with a letter: this is no version.
            ("events v2 u8", None, Some("v2 u8")),
        ] {
            let wanted =
                SchemaText { named: named("events", version), fields: fields.map(str::to_owned) };
            assert_eq!(schema_text(&words(line)).unwrap(), wanted, "{line}");
            let padded = format!("  {line} ");
            assert_eq!(schema_text(&[padded.as_bytes()]).unwrap(), wanted, "{line}");
        }
        for (line, wanted) in [
            (&b""[..], "ERR name a key schema"),
            (b" \t", "ERR name a key schema"),
            (b"events 99999999999", "ERR '99999999999' is not a version"),
            (b"\xff\xfe", "ERR a key schema's text must be UTF-8"),
            (&[b'a'; 9000], "ERR 9000 bytes of text; 8192 are allowed"),
        ] {
            let error = schema_text(&[line]).unwrap_err();
            assert!(error.0.starts_with(wanted), "{}", error.0);
        }
    }

    #[test]
    fn a_range_may_be_open_and_is_never_empty() {
        let range =
            |start: &[u8], end: &[u8]| range(start, end).map_err(|error| error.0.into_owned());
        assert_eq!(range(b"-", b"+"), Ok((vec![], None)));
        assert_eq!(range(b"", b""), Ok((vec![], None)));
        assert_eq!(range(b"\0\xff", b"\x01"), Ok((vec![0, 255], Some(vec![1]))));
        assert_eq!(
            range(b"--", b"++"),
            Err("ERR the range has no keys: its start must sort before its end".into())
        );
        assert_eq!(range(b"a", b"a"), range(b"b", b"a"));
        assert!(range(b"+", b"-").unwrap_err().contains("cannot start at +"));
        assert!(range(b"a", b"-").unwrap_err().contains("cannot end at -"));
    }

    #[test]
    fn a_drain_takes_a_version_and_one_word() {
        let parse = |line: &str| {
            Named::parse_with_action(&words(line)).map_err(|error| error.0.into_owned())
        };
        assert_eq!(parse("events"), Ok((named("events", None), Action::Start)));
        assert_eq!(parse("events 1"), Ok((named("events", Some(1)), Action::Start)));
        assert_eq!(parse("events pause"), Ok((named("events", None), Action::Pause)));
        assert_eq!(parse("events 7 Cancel"), Ok((named("events", Some(7)), Action::Cancel)));
        assert_eq!(parse("status STATUS"), Ok((named("status", None), Action::Status)));
        assert_eq!(parse("resume"), Ok((named("resume", None), Action::Start)));
        let unknown =
            "ERR unknown option 'stop': there are a version, PAUSE, RESUME, CANCEL and STATUS";
        assert_eq!(parse("events stop"), Err(unknown.to_owned()));
        assert_eq!(parse("events x 1"), Err("ERR syntax error".to_owned()));
        assert_eq!(
            parse("events x pause"),
            Err("ERR 'x' is not a version: give a number".to_owned())
        );
        assert_eq!(parse("events 1 2"), Err("ERR syntax error".to_owned()));
        assert!(parse("events 1 pause x").is_err() && parse("").is_err());
    }
}
