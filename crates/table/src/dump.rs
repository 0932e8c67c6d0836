//! A table's structure as text, for `sluice inspect`: footer, properties, blocks, and what each
//! column costs. Reads the whole file when columns are asked for; prints no values.

use std::{collections::BTreeMap, fmt::Write};

use sluice_base::{Result, Trailer};

use crate::{
    field_stats::FieldBounds,
    format::{block_kind, role},
    index::Index,
    layout::Layout,
    schema::hex,
    table::{Table, read_payload},
    two_level::{IndexWalker, PartitionSource},
};

/// What a dump shows besides footer and properties.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DumpOptions {
    /// One line per data block, from the index.
    pub blocks: bool,
    /// Bytes per column, summed over all data blocks; reads them all.
    pub columns: bool,
}

impl Table {
    /// Describes the table, one fact a line.
    pub fn dump(&self, options: DumpOptions) -> Result<String> {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.dump_head(&mut out);
        if options.blocks {
            self.dump_blocks(&mut out)?;
        }
        if options.columns {
            self.dump_columns(&mut out)?;
        }
        Ok(out)
    }

    fn dump_head(&self, out: &mut String) -> std::fmt::Result {
        let (footer, properties) = (self.footer(), self.properties());
        writeln!(out, "table {} ({} bytes)", self.path().display(), self.file_bytes())?;
        writeln!(out, "footer: format {}", crate::format::FORMAT_VERSION)?;
        for (name, handle) in
            [("filter", footer.filter), ("index", footer.index), ("properties", footer.properties)]
        {
            writeln!(out, "  {name}: offset {}, {} bytes", handle.offset, handle.bytes)?;
        }
        if self.index_partitions() > 0 {
            let (partitions, bytes) = (self.index_partitions(), properties.partition_bytes);
            writeln!(out, "  index: two levels, {partitions} partitions of {bytes} bytes")?;
        }
        let schema = self.schema();
        writeln!(
            out,
            "  key schema: {} version {} ({schema}) hash {:016x}",
            schema.name(),
            schema.version(),
            footer.schema_hash
        )?;
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
            ("data blocks", properties.data_blocks),
            ("data bytes", properties.data_bytes),
            ("filter bits per key", properties.filter_bits_per_key),
            ("created (ms since 1970)", properties.created_unix_ms),
        ] {
            writeln!(out, "  {name}: {number}")?;
        }
        writeln!(out, "  created by: {}", properties.created_by)?;
        writeln!(out, "  created for: {}", properties.created_for)?;
        dump_entry(out, "smallest", &properties.smallest)?;
        dump_entry(out, "largest", &properties.largest)?;
        if let Some(filter) = self.filter() {
            let bits = filter.memory_bytes() as f64 * 8.0 / properties.keys as f64;
            let probes = filter.probes();
            writeln!(out, "filter: blocked bloom, {probes} probes, {bits:.2} bits per key")?;
        }
        if properties.prefix_filter_bytes > 0 {
            let (fields, bytes) = (properties.prefix_filter_fields, properties.prefix_filter_bytes);
            writeln!(out, "filter of prefixes: first {fields} fields, {bytes} bytes")?;
        }
        writeln!(out, "pinned: {} bytes", self.pinned_bytes())
    }

    fn dump_blocks(&self, out: &mut String) -> Result<()> {
        let mut walker = IndexWalker::new(PartitionSource::Peek);
        let _ = writeln!(out, "blocks:");
        for at in 0..self.blocks() {
            let (index, row) = walker.locate(self, at)?;
            let _ = self.dump_block(at, index, row, out);
        }
        Ok(())
    }

    fn dump_block(
        &self,
        at: usize,
        index: &Index,
        row: usize,
        out: &mut String,
    ) -> std::fmt::Result {
        let (handle, stats) = (index.handle(row), index.stats(row));
        let (separator, _) = index.separator(row);
        writeln!(
            out,
            "  {at}: offset {}, {} bytes, {} rows, {} tombstones, separator \"{}\"",
            handle.offset,
            handle.bytes,
            stats.rows,
            stats.tombstones,
            separator.escape_ascii()
        )?;
        if stats.exceptions > 0 {
            writeln!(out, "    exceptions: {}", stats.exceptions)?;
        }
        for (field, of) in self.properties().schema.fields.iter().enumerate() {
            match index.field_bounds(row, field) {
                Some(FieldBounds::Numbers(min, max)) => {
                    writeln!(out, "    {}: {min:#x} to {max:#x}", of.name)?;
                }
                Some(FieldBounds::Strings(min, max)) => {
                    let (min, max) = (min.escape_ascii(), max.escape_ascii());
                    writeln!(out, "    {}: \"{min}\" to \"{max}\"", of.name)?;
                }
                None => {}
            }
        }
        Ok(())
    }

    fn dump_columns(&self, out: &mut String) -> Result<()> {
        let mut columns: BTreeMap<u8, u64> = BTreeMap::new();
        let (mut raw, mut heads) = (0u64, 0u64);
        let mut walker = IndexWalker::new(PartitionSource::Peek);
        for at in 0..self.blocks() {
            let handle = walker.handle(self, at)?;
            let payload = read_payload(self.file(), self.path(), handle)?;
            let layout = Layout::parse(&payload, block_kind::DATA)
                .map_err(|fault| fault.at(self.path(), handle.offset))?;
            raw += payload.len() as u64;
            heads += payload.len() as u64;
            for column in layout.columns() {
                *columns.entry(column.role).or_default() += column.bytes() as u64;
                heads -= column.bytes() as u64;
            }
        }
        let entries = self.properties().entries as f64;
        let stored = self.properties().data_bytes;
        let _ = writeln!(out, "data: {raw} bytes unpacked, {stored} stored");
        let _ = writeln!(out, "  heads: {heads} bytes, {:.2} an entry", heads as f64 / entries);
        for (role, bytes) in columns {
            let field = role.wrapping_sub(role::KEY_FIELD);
            let name = match self.properties().schema.fields.get(usize::from(field)) {
                Some(field) => format!("key {}", field.name),
                None => role::name(role).to_owned(),
            };
            let _ =
                writeln!(out, "  {name}: {bytes} bytes, {:.2} an entry", bytes as f64 / entries);
        }
        Ok(())
    }
}

fn dump_entry(out: &mut String, name: &str, entry: &(Vec<u8>, Trailer)) -> std::fmt::Result {
    let (key, trailer) = entry;
    let shown = if key.len() > 64 { hex(key) } else { format!("\"{}\"", key.escape_ascii()) };
    writeln!(out, "  {name}: {shown} at {} ({:?})", trailer.seq(), trailer.kind())
}
