//! LCS: the longest common subsequence of two strings, by the classic table of
//! (length + 1) × (length + 1) prefixes. The walk back through the table, and with it which of
//! several longest answers is given, is Redis's: on a tie it drops a byte of the second string.

use crate::{
    command::{Args, CmdError, CmdResult, Ctx},
    commands::args::{STRING_BYTES_MAX, engine, integer},
};
use sluice_keyspace::ValueType;
use sluice_resp::ReplyBuf;

#[derive(Debug, Default)]
struct Options {
    length: bool,
    indexes: bool,
    with_match_length: bool,
    match_length_min: i64,
}

/// A run of equal bytes: where it begins and ends (inclusive) in both strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Match {
    a: (usize, usize),
    b: (usize, usize),
}

impl Match {
    fn length(&self) -> i64 {
        (self.a.1 - self.a.0 + 1) as i64
    }
}

pub(super) fn lcs(ctx: &mut Ctx<'_>, args: &Args<'_>) -> CmdResult {
    let (a, b) = (value(ctx, args[1])?, value(ctx, args[2])?);
    let options = parse(&args[3..])?;
    let table = Table::build(&a, &b)?;
    if options.length {
        ctx.reply.integer(i64::from(table.at(a.len(), b.len())));
        return Ok(());
    }
    let (common, matches) = table.walk_back(&a, &b);
    if options.indexes {
        write_matches(ctx.reply, &options, &matches, common.len());
    } else {
        ctx.reply.bulk(&common);
    }
    Ok(())
}

/// A copy, since two values are needed at a time; the table dwarfs it.
fn value(ctx: &mut Ctx<'_>, key: &[u8]) -> Result<Vec<u8>, CmdError> {
    match ctx.txn.lookup(ctx.db, key).map_err(engine)? {
        None => Ok(Vec::new()),
        Some(row) if row.kind() == ValueType::String => Ok(row.payload().to_vec()),
        Some(_) => Err(CmdError::new("ERR The specified keys must contain string values")),
    }
}

fn parse(args: &[&[u8]]) -> Result<Options, CmdError> {
    let mut options = Options::default();
    let mut rest = args.iter();
    while let Some(option) = rest.next() {
        if option.eq_ignore_ascii_case(b"idx") {
            options.indexes = true;
        } else if option.eq_ignore_ascii_case(b"len") {
            options.length = true;
        } else if option.eq_ignore_ascii_case(b"withmatchlen") {
            options.with_match_length = true;
        } else if option.eq_ignore_ascii_case(b"minmatchlen") {
            let length = rest.next().ok_or(CmdError::SYNTAX)?;
            options.match_length_min = integer(length)?.max(0);
        } else {
            return Err(CmdError::SYNTAX);
        }
    }
    if options.indexes && options.length {
        return Err(CmdError::new(
            "ERR If you want both the length and indexes, please just use IDX.",
        ));
    }
    Ok(options)
}

fn write_matches(reply: &mut ReplyBuf, options: &Options, matches: &[Match], length: usize) {
    reply.map(2);
    reply.bulk(b"matches");
    let long_enough = |m: &&Match| m.length() >= options.match_length_min;
    reply.array(matches.iter().filter(long_enough).count());
    for found in matches.iter().filter(long_enough) {
        reply.array(2 + usize::from(options.with_match_length));
        for (start, end) in [found.a, found.b] {
            reply.array(2);
            reply.integer(start as i64);
            reply.integer(end as i64);
        }
        if options.with_match_length {
            reply.integer(found.length());
        }
    }
    reply.bulk(b"len");
    reply.integer(length as i64);
}

/// `at(i, j)`: the length of the answer for the first `i` bytes of one and `j` of the other.
struct Table {
    cells: Vec<u32>,
    width: usize,
}

impl Table {
    fn build(a: &[u8], b: &[u8]) -> Result<Table, CmdError> {
        // Both lengths are at most 2^29, so their product fits a u64.
        let width = b.len() + 1;
        let cells = (a.len() as u64 + 1) * width as u64;
        if cells * size_of::<u32>() as u64 > STRING_BYTES_MAX as u64 {
            return Err(CmdError::new(
                "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
            ));
        }
        let mut cells = vec![0; cells as usize];
        let mut rows = cells.chunks_exact_mut(width);
        let mut above = rows.next();
        for (byte_a, row) in a.iter().zip(rows) {
            if let Some(above) = &above {
                for (j, byte_b) in b.iter().enumerate() {
                    row[j + 1] =
                        if byte_a == byte_b { above[j] + 1 } else { above[j + 1].max(row[j]) };
                }
            }
            above = Some(row);
        }
        Ok(Table { cells, width })
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.cells[i * self.width + j]
    }

    /// The common bytes, and the runs they make, last run first.
    fn walk_back(&self, a: &[u8], b: &[u8]) -> (Vec<u8>, Vec<Match>) {
        let (mut i, mut j) = (a.len(), b.len());
        let mut common = Vec::new();
        let mut matches = Vec::new();
        let mut run: Option<Match> = None;
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                i -= 1;
                j -= 1;
                common.push(a[i]);
                // Equal bytes directly before a run always touch it: a step aside ends the run.
                run = Some(match run {
                    Some(run) => Match { a: (i, run.a.1), b: (j, run.b.1) },
                    None => Match { a: (i, i), b: (j, j) },
                });
            } else {
                if self.at(i - 1, j) > self.at(i, j - 1) {
                    i -= 1;
                } else {
                    j -= 1;
                }
                matches.extend(run.take());
            }
        }
        matches.extend(run);
        common.reverse();
        (common, matches)
    }
}
