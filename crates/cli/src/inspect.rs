//! `sluice inspect table FILE`: what a table's file holds, as text. Reads the file and nothing else: it
//! needs no database, takes no lock, and changes nothing.
//!
//! Only the printing is here; `sluice_table::inspect` looks. Bytes and names from the file are escaped,
//! so that no file can steer a terminal.
//!
//! Exit status: 0; 1 with a sentence on stderr for a file that is no table, damaged or of a newer
//! format. What could be read of a damaged table stands on stdout by then.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use sluice_table::{
    BlockFacts, ColumnTotals, FieldValue, InspectedRow, Inspection, KeySchema, Table,
    open_to_inspect,
};
use sluicedb::env::{DiskFs, Fs};

/// Bytes of a key, a field or a value that are shown.
const SHOWN_BYTES_MAX: usize = 64;
/// Rows that `--rows` shows when it is given no number.
const ROWS_DEFAULT: &str = "10";

#[derive(Debug, Subcommand)]
pub(crate) enum What {
    /// A table: footer, properties, key schema, columns, blocks; with --rows its entries
    Table(TableArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TableArgs {
    /// A table's file, such as data/db/000012.sst
    file: PathBuf,
    /// Show the first N entries, their keys split into fields; 10 without a number, 0: all
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = ROWS_DEFAULT)]
    rows: Option<u64>,
    /// Show one data block instead of the whole table; with --rows its entries
    #[arg(long, value_name = "N")]
    block: Option<usize>,
    /// List all data blocks
    #[arg(long, conflicts_with = "block")]
    blocks: bool,
    /// Read everything and check it: checksums, order, index, filter, counts
    #[arg(long)]
    verify: bool,
}

/// Why it ends early.
enum Stop {
    /// To be said, with status 1.
    Failed(String),
    /// Nobody reads what is printed: no error.
    NobodyReads,
}

impl From<sluicedb::Error> for Stop {
    fn from(error: sluicedb::Error) -> Stop {
        Stop::Failed(error.to_string())
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Stop::NobodyReads,
            _ => Stop::Failed(format!("cannot print: {error}")),
        }
    }
}

pub(crate) fn run(what: What) -> ExitCode {
    let What::Table(args) = what;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let ended = table(&args, &mut out).and_then(|()| Ok(out.flush()?));
    // What was found before an error is printed before it.
    let _ = out.flush();
    match ended {
        Ok(()) | Err(Stop::NobodyReads) => ExitCode::SUCCESS,
        Err(Stop::Failed(sentence)) => {
            eprintln!("sluice: {}", printable(&sentence));
            ExitCode::FAILURE
        }
    }
}

fn table(args: &TableArgs, out: &mut impl Write) -> Result<(), Stop> {
    let fs: Arc<dyn Fs> = Arc::new(DiskFs);
    let table = open_to_inspect(&fs, &args.file)?;
    let schema = table.schema();
    match args.block {
        Some(number) => {
            let block = table.inspect_block(number)?.ok_or_else(|| {
                let last = table.blocks() - 1;
                Stop::Failed(format!("there is no data block {number}; they are 0 to {last}"))
            })?;
            write_block(out, number, &block)?;
        }
        None => {
            let facts = table.inspect();
            write_head(out, &facts)?;
            let totals = table.inspect_columns()?;
            write_columns(out, &facts, &totals)?;
            write_blocks(out, &table, &totals, args.blocks)?;
        }
    }
    if let Some(count) = args.rows {
        writeln!(out, "rows:")?;
        write_rows(out, &table, schema, args.block, count)?;
    }
    if args.verify {
        let report = table.verify();
        if report.errors_total > 0 {
            let all: Vec<String> = report.errors.iter().map(ToString::to_string).collect();
            let count = report.errors_total;
            return Err(Stop::Failed(format!("{count} errors in the table: {}", all.join("; "))));
        }
        writeln!(out, "verified: {} blocks, {} entries", report.blocks, report.entries)?;
    }
    Ok(())
}

fn write_head(out: &mut impl Write, facts: &Inspection) -> io::Result<()> {
    let path = printable(&facts.path.display().to_string());
    writeln!(out, "table {path}: {} bytes, format {}", facts.file_bytes, facts.format_version)?;
    writeln!(out, "parts:")?;
    for part in &facts.parts {
        writeln!(out, "  {:<13} at {:<10} {} bytes", part.name, part.offset, part.bytes)?;
    }
    let schema = &facts.schema;
    writeln!(out, "key schema:")?;
    writeln!(out, "  name        {}", printable(schema.public_name()))?;
    writeln!(out, "  version     {}", schema.version())?;
    writeln!(out, "  hash        {:016x}", facts.schema_hash)?;
    writeln!(out, "  fields      {}", printable(&schema.to_string()))?;
    let properties = &facts.properties;
    writeln!(out, "properties:")?;
    for (name, number) in [
        ("file number", properties.file_no.0),
        ("entries", properties.entries),
        ("puts", properties.puts()),
        ("tombstones", properties.tombstones),
        ("distinct keys", properties.keys),
        ("raw key bytes", properties.raw_key_bytes),
        ("raw value bytes", properties.raw_value_bytes),
        ("smallest sequence", properties.seq_min.0),
        ("largest sequence", properties.seq_max.0),
        ("created, Unix ms", properties.created_unix_ms),
    ] {
        writeln!(out, "  {name:<20} {number}")?;
    }
    writeln!(out, "  {:<20} {}", "created by", printable(&properties.created_by))?;
    writeln!(out, "  {:<20} {}", "created for", printable(&properties.created_for))?;
    writeln!(out, "  {:<20} {}", "smallest key", shown(&properties.smallest.0))?;
    writeln!(out, "  {:<20} {}", "largest key", shown(&properties.largest.0))?;
    match facts.filter {
        Some(filter) => writeln!(
            out,
            "  {:<20} blocked bloom, {} probes, {:.2} bits per key",
            "filter", filter.probes, filter.bits_per_key
        )?,
        None => writeln!(out, "  {:<20} none", "filter")?,
    }
    if properties.prefix_filter_fields > 0 {
        let fields = properties.prefix_filter_fields;
        writeln!(out, "  {:<20} on the first {fields} key fields", "prefix filter")?;
    }
    match facts.index_partitions {
        0 => writeln!(out, "  {:<20} one level", "index")?,
        parts => writeln!(out, "  {:<20} two levels, {parts} parts", "index")?,
    }
    writeln!(out, "  {:<20} {} bytes", "in memory when open", facts.pinned_bytes)
}

fn write_columns(
    out: &mut impl Write,
    facts: &Inspection,
    totals: &ColumnTotals,
) -> io::Result<()> {
    let keys = facts.properties.keys.max(1) as f64;
    let bits = |bytes: u64| bytes as f64 * 8.0 / keys;
    writeln!(
        out,
        "columns, in {} blocks: {} bytes before compression, {} in the file ({} blocks compressed)",
        totals.blocks, totals.unpacked_bytes, totals.stored_bytes, totals.compressed_blocks
    )?;
    writeln!(out, "  {:<24} {:>12} {:>10}  encoding", "column", "bytes", "bits/key")?;
    for column in &totals.columns {
        let encodings: Vec<String> = match &column.encodings[..] {
            [(only, _)] => vec![(*only).to_owned()],
            several => several.iter().map(|(name, count)| format!("{name} ({count})")).collect(),
        };
        let (name, encodings) = (printable(&column.name), encodings.join(", "));
        let bytes = column.bytes;
        writeln!(out, "  {name:<24} {bytes:>12} {:>10.2}  {encodings}", bits(bytes))?;
    }
    let (name, heads) = ("heads of blocks", totals.head_bytes);
    writeln!(out, "  {name:<24} {heads:>12} {:>10.2}", bits(heads))?;
    for part in facts.parts.iter().filter(|part| part.name != "data") {
        let (name, bytes) = (format!("({})", part.name), part.bytes);
        writeln!(out, "  {name:<24} {bytes:>12} {:>10.2}", bits(bytes))?;
    }
    Ok(())
}

fn write_blocks(
    out: &mut impl Write,
    table: &Table,
    totals: &ColumnTotals,
    all: bool,
) -> Result<(), Stop> {
    let ColumnTotals { blocks, rows, rows_min, rows_max, tombstones, exceptions, .. } = totals;
    writeln!(
        out,
        "blocks: {blocks}, with {rows_min} to {rows_max} rows, {rows} in all; {tombstones} \
         tombstones, {exceptions} keys that do not split"
    )?;
    if !all {
        return Ok(());
    }
    let mut printed = Ok(());
    table.for_each_block(|at, block| {
        printed = writeln!(out, "  {at}: {}", block_line(&block));
        printed.is_ok()
    })?;
    Ok(printed?)
}

fn block_line(block: &BlockFacts) -> String {
    let BlockFacts { offset, bytes, unpacked_bytes, compression, stats, .. } = block;
    let mut line = format!(
        "at {offset}, {bytes} bytes ({unpacked_bytes} unpacked, {compression}), {} rows, {} \
         tombstones",
        stats.rows, stats.tombstones
    );
    if stats.expiry_max > 0 {
        let _ = write!(line, ", expiry {} to {}", stats.expiry_min, stats.expiry_max);
    }
    if stats.exceptions > 0 {
        let _ = write!(line, ", {} keys that do not split", stats.exceptions);
    }
    let _ = write!(line, ", up to {}", shown(&block.separator.0));
    for range in &block.bounds {
        let (name, min, max) = (printable(&range.name), value(&range.min), value(&range.max));
        let _ = write!(line, ", {name} {min} to {max}");
    }
    line
}

fn write_block(out: &mut impl Write, number: usize, block: &BlockFacts) -> io::Result<()> {
    writeln!(out, "block {number}: {}", block_line(block))?;
    writeln!(out, "  {:<24} {:>12} {:>10}  encoding", "column", "bytes", "bits/row")?;
    let bits = |bytes: u64| bytes as f64 * 8.0 / block.stats.rows.max(1) as f64;
    for column in &block.columns {
        let (name, bytes) = (printable(&column.name), column.bytes);
        writeln!(out, "  {name:<24} {bytes:>12} {:>10.2}  {}", bits(bytes), column.encoding)?;
    }
    let (name, bytes) = ("head", block.head_bytes);
    writeln!(out, "  {name:<24} {bytes:>12} {:>10.2}", bits(bytes))
}

fn write_rows(
    out: &mut impl Write,
    table: &Table,
    schema: &KeySchema,
    block: Option<usize>,
    count: u64,
) -> Result<(), Stop> {
    let blocks = block.map_or(0..table.blocks(), |number| number..number + 1);
    let (mut left, mut printed) = (if count == 0 { u64::MAX } else { count }, Ok(()));
    table.for_each_row(blocks, |row| {
        printed = write_row(out, schema, row);
        left -= 1;
        left > 0 && printed.is_ok()
    })?;
    Ok(printed?)
}

fn write_row(out: &mut impl Write, schema: &KeySchema, row: &InspectedRow<'_>) -> io::Result<()> {
    write!(out, "  {}.{}", row.block, row.row)?;
    match &row.fields {
        Some(values) => {
            for (field, field_value) in schema.descriptor().fields.iter().zip(values) {
                write!(out, " {}=", printable(&field.name))?;
                write!(out, "{}", value(field_value))?;
            }
        }
        None => write!(out, " whole key {}", shown(row.key))?,
    }
    match row.is_tombstone {
        false => writeln!(out, " @{} = {}", row.trailer.seq(), shown(row.value)),
        true => writeln!(out, " @{} deleted", row.trailer.seq()),
    }
}

fn value(value: &FieldValue<'_>) -> String {
    match value {
        FieldValue::Number(number) => number.to_string(),
        FieldValue::Bytes(bytes) => shown(bytes),
    }
}

/// Bytes of a file, quoted and escaped; long ones are cut and say so.
fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    let more = match bytes.len() - cut.len() {
        0 => String::new(),
        more => format!(" and {more} bytes"),
    };
    format!("\"{}\"{more}", cut.escape_ascii())
}

/// Text of a file, without what steers a terminal.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}
