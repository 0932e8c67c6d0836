//! The arguments of FLUSHMEMTABLE and MEMTABLE FLUSH, and the other things that the gate's commands
//! read: timeouts, names of column families. Pure: arguments in, values or an error text out.

use sluice_resp::parse_i64;
use sluicedb::{ColumnFamily, Db};

use crate::command::{Args, CmdError};

/// `[ASYNC] [CF name [name ...]] [TIMEOUT ms] [REPORT]`, in any order.
///
/// CF takes names until the next option word. A name directly behind CF is always a name, so a
/// family called like an option is named by a CF of its own: `CF data CF timeout CF report`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FlushArgs<'a> {
    pub(super) is_async: bool,
    /// Empty: all.
    pub(super) families: Vec<&'a [u8]>,
    /// Milliseconds; 0: without limit.
    pub(super) timeout_ms: u64,
    pub(super) report: bool,
}

/// The option words of [`FlushArgs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Async,
    Families,
    Timeout,
    Report,
}

impl Word {
    fn of(arg: &[u8]) -> Option<Word> {
        let words = [
            (&b"async"[..], Word::Async),
            (b"cf", Word::Families),
            (b"timeout", Word::Timeout),
            (b"report", Word::Report),
        ];
        words.into_iter().find(|(name, _)| arg.eq_ignore_ascii_case(name)).map(|(_, word)| word)
    }
}

/// Reads what follows the command's name. Where none of the words is one that Kvrocks does not
/// have, the error texts are those of Kvrocks.
pub(super) fn flush_args<'a>(args: &Args<'a>) -> Result<FlushArgs<'a>, CmdError> {
    let mut parsed =
        FlushArgs { is_async: false, families: Vec::new(), timeout_ms: 0, report: false };
    let mut has_timeout = false;
    let mut rest = args;
    while let Some((&arg, behind)) = rest.split_first() {
        rest = behind;
        match Word::of(arg) {
            Some(Word::Async) => parsed.is_async = true,
            Some(Word::Report) => parsed.report = true,
            Some(Word::Timeout) => {
                let Some((&ms, behind)) = rest.split_first() else {
                    return Err(CmdError::new("ERR TIMEOUT needs a number of milliseconds"));
                };
                rest = behind;
                parsed.timeout_ms = timeout(ms)?;
                has_timeout = true;
            }
            Some(Word::Families) => {
                let Some((&first, behind)) = rest.split_first() else {
                    return Err(CmdError::new("ERR CF needs the name of a column family"));
                };
                let more = behind.iter().take_while(|arg| Word::of(arg).is_none()).count();
                parsed.families.push(first);
                parsed.families.extend_from_slice(&behind[..more]);
                rest = &behind[more..];
            }
            None => return Err(unknown(args, arg)),
        }
    }
    if parsed.is_async && has_timeout {
        return Err(CmdError::new("ERR ASYNC does not wait: leave out ASYNC or TIMEOUT"));
    }
    Ok(parsed)
}

fn unknown(args: &Args<'_>, arg: &[u8]) -> CmdError {
    let is_plain = args.iter().all(|arg| matches!(Word::of(arg), None | Some(Word::Async)));
    match (is_plain, args.len()) {
        (true, 1) => CmdError::new("ERR parameter must be 'ASYNC'"),
        (true, _) => CmdError::new("ERR wrong number of arguments"),
        (false, _) => CmdError::new(format!(
            "ERR unknown option '{}': there are ASYNC, CF name [name ...], TIMEOUT ms and REPORT",
            shown(arg)
        )),
    }
}

/// An argument as it may stand in an error text.
pub(super) fn shown(arg: &[u8]) -> String {
    String::from_utf8_lossy(&arg[..arg.len().min(128)]).into_owned()
}

/// Milliseconds, with Redis's error texts.
pub(super) fn timeout(arg: &[u8]) -> Result<u64, CmdError> {
    let ms =
        parse_i64(arg).ok_or(CmdError::new("ERR timeout is not an integer or out of range"))?;
    u64::try_from(ms).map_err(|_| CmdError::new("ERR timeout is negative"))
}

/// What may follow in `... [TIMEOUT ms]`; 0: without limit.
pub(super) fn optional_timeout(args: &Args<'_>) -> Result<u64, CmdError> {
    match args {
        [] => Ok(0),
        [word, ms] if word.eq_ignore_ascii_case(b"timeout") => timeout(ms),
        _ => Err(CmdError::SYNTAX),
    }
}

/// The column families of these names; none where one is unknown.
pub(super) fn families(db: &Db, names: &[&[u8]]) -> Result<Vec<ColumnFamily>, CmdError> {
    let all = db.list_column_families();
    let find = |name: &&[u8]| {
        all.iter().find(|cf| cf.name().as_bytes() == *name).cloned().ok_or_else(|| {
            let there: Vec<&str> = all.iter().map(ColumnFamily::name).collect();
            CmdError::new(format!(
                "ERR there is no column family '{}'; there are: {}",
                shown(name),
                there.join(", ")
            ))
        })
    };
    names.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a line of arguments means, or its error.
    fn parse(line: &str) -> Result<(bool, String, u64, bool), String> {
        let args: Vec<&[u8]> = line.split_whitespace().map(str::as_bytes).collect();
        let parsed = flush_args(&args).map_err(|error| error.0.into_owned())?;
        let names: Vec<_> = parsed.families.iter().map(|name| shown(name)).collect();
        Ok((parsed.is_async, names.join(","), parsed.timeout_ms, parsed.report))
    }

    #[test]
    fn options_come_in_any_order_and_case() {
        let parsed =
            |is_async, names: &str, ms, report| Ok((is_async, names.to_owned(), ms, report));
        for (line, expected) in [
            ("", parsed(false, "", 0, false)),
            ("async", parsed(true, "", 0, false)),
            ("ASYNC async", parsed(true, "", 0, false)),
            ("REPORT", parsed(false, "", 0, true)),
            ("timeout 5 report", parsed(false, "", 5, true)),
            ("CF data", parsed(false, "data", 0, false)),
            ("cf data meta REPORT", parsed(false, "data,meta", 0, true)),
            ("CF data TIMEOUT 7 CF meta x", parsed(false, "data,meta,x", 7, false)),
            // Names that are option words: directly behind a CF.
            ("CF cf", parsed(false, "cf", 0, false)),
            (
                "CF timeout CF report CF async REPORT",
                parsed(false, "timeout,report,async", 0, true),
            ),
            ("CF data timeout 3", parsed(false, "data", 3, false)),
            ("ASYNC REPORT CF data", parsed(true, "data", 0, true)),
        ] {
            assert_eq!(parse(line), expected, "{line}");
        }
    }

    #[test]
    fn nonsense_is_refused_in_the_words_of_kvrocks_where_it_has_words() {
        let options = "there are ASYNC, CF name [name ...], TIMEOUT ms and REPORT";
        for (line, expected) in [
            ("NOW", "ERR parameter must be 'ASYNC'"),
            ("ASYNC x", "ERR wrong number of arguments"),
            ("x ASYNC", "ERR wrong number of arguments"),
            ("x y z", "ERR wrong number of arguments"),
            ("REPORT x", &format!("ERR unknown option 'x': {options}")),
            ("TIMEOUT 5 data", &format!("ERR unknown option 'data': {options}")),
            ("CF", "ERR CF needs the name of a column family"),
            ("CF data CF", "ERR CF needs the name of a column family"),
            ("TIMEOUT", "ERR TIMEOUT needs a number of milliseconds"),
            ("CF data TIMEOUT", "ERR TIMEOUT needs a number of milliseconds"),
            ("TIMEOUT x", "ERR timeout is not an integer or out of range"),
            ("TIMEOUT 99999999999999999999", "ERR timeout is not an integer or out of range"),
            ("TIMEOUT -1", "ERR timeout is negative"),
            ("ASYNC TIMEOUT 0", "ERR ASYNC does not wait: leave out ASYNC or TIMEOUT"),
        ] {
            assert_eq!(parse(line), Err(expected.to_owned()), "{line}");
        }
    }

    #[test]
    fn no_arguments_can_cause_a_panic() {
        let words = ["ASYNC", "CF", "TIMEOUT", "REPORT", "x", "7", "-7", "", "\u{ff}"];
        for seed in 0..2000 {
            let mut rng = sluicedb::env::Rng::new(seed);
            let args: Vec<&[u8]> = (0..rng.below(8))
                .map(|_| words[rng.below(words.len() as u64) as usize].as_bytes())
                .collect();
            if let Ok(parsed) = flush_args(&args) {
                let names = parsed.families.len();
                assert!(names < args.len().max(1), "seed {seed}: {args:?}");
            }
        }
    }
}
