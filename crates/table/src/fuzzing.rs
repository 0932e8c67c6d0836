//! Total functions over raw bytes, one per decoder, for the fuzz targets and the mutation tests:
//! each decodes and then reads everything that the decoder accepted. They must return, whatever
//! the bytes.

use std::{path::Path, sync::Arc};

use sluice_base::{ErrorKind, FileNo, Trailer, checksum::crc32c};
use sluice_env::{Fs, MemFs};

use crate::{
    BlockCache, IterOptions, Table, TableIter,
    block::Block,
    column::{
        Bitmap, Column, Dictionary, Exceptions, Groups, Integers, KeyCursor, PrefixBytes, RawBytes,
    },
    envelope,
    filter::{Filter, filter_hash},
    footer::Footer,
    format::{BLOCK_TRAILER_BYTES, FOOTER_BYTES, block_kind, encoding},
    index::{Handle, Index},
    layout::Layout,
    properties::Properties,
    schema::{KeySchema, SCHEMA_FIELDS_MAX, Schema},
    two_level::TopIndex,
};

pub mod samples;

pub use crate::schema::sample;

#[cfg(debug_assertions)]
thread_local! {
    static VALUES_READ: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Notes that a block's column of values was read.
#[cfg(debug_assertions)]
pub(crate) fn count_value_read() {
    VALUES_READ.with(|count| count.set(count.get() + 1));
}

/// How often this thread has read a column of values. In debug builds only: for tests that prove
/// that a read of keys touches none.
#[cfg(debug_assertions)]
pub fn values_read() -> u64 {
    VALUES_READ.with(std::cell::Cell::get)
}

/// Most rows that are read one by one: constant columns may claim four billion.
const ROWS_MAX: usize = 4096;

/// A block: envelope, data block, index block, filter. True when any of them accepted the bytes.
pub fn block(bytes: &[u8]) -> bool {
    let opened = envelope::open(bytes).or_else(|_| envelope::unpack(bytes));
    let payload: Box<[u8]> = bytes.into();
    let end = bytes.len() as u64 * 64;
    let parse = |schema: &KeySchema| {
        let one = Index::parse(payload.clone(), block_kind::INDEX, 0..end, schema);
        one.or_else(|_| Index::parse(payload.clone(), block_kind::TOP_INDEX, end / 2..end, schema))
    };
    let mut index = parse(&KeySchema::whole_key());
    let schemas = samples::schemas();
    for schema in &schemas {
        index = index.or_else(|_| parse(schema));
    }
    if let Ok(index) = &index {
        for at in 0..index.blocks().min(ROWS_MAX) {
            let (key, trailer) = index.separator(at);
            let found = index.find(&key, trailer);
            assert!(found <= index.blocks());
            let _ = (index.handle(at), index.stats(at), index.part(at));
            for predicate in samples::predicates() {
                let _ = index.may_match(at, &predicate);
            }
            let _ = index.field_bounds(at, at % 4);
        }
    }
    let filter = Filter::parse(bytes);
    if let Ok(filter) = &filter {
        filter.may_contain(filter_hash(bytes));
    }
    let mut data = Block::parse(payload.clone(), &KeySchema::whole_key()).ok();
    for schema in &schemas {
        // Blocks do not say their schema; at most one of these has the columns.
        data = data.or_else(|| Block::parse(payload.clone(), schema).ok());
    }
    if let Some(data) = &data {
        let (mut cursor, mut other, mut ends) = (KeyCursor::new(), KeyCursor::new(), Vec::new());
        for row in 0..data.rows().min(ROWS_MAX) {
            data.move_cursor(&mut cursor, row);
            if data.split_row(&mut other, row, &mut ends) {
                assert_eq!(ends.last(), Some(&cursor.key().len()));
            }
            assert_eq!(cursor.key(), other.key());
            let (found, _) = data.find(cursor.key(), data.trailer(row));
            assert!(found <= data.rows());
            assert!(data.next_key_row(row) <= data.rows());
            let _ = (data.value(row), data.is_same_key(row));
        }
        let _ = data.find(b"", Trailer(u64::MAX));
        let _ = data.find(bytes, Trailer(0));
    }
    opened.is_ok() || index.is_ok() || filter.is_ok() || data.is_some()
}

/// A column: the first byte chooses the encoding, the next two the number of rows.
pub fn column(bytes: &[u8]) -> bool {
    let Some((head, body)) = bytes.split_first_chunk::<3>() else { return false };
    let rows = usize::from(u16::from_le_bytes([head[1], head[2]])).max(1);
    let encoding = head[0] % 8;
    let Ok(end) = u32::try_from(body.len()) else { return false };
    let column = Column { role: 1, encoding, start: 0, end };
    let shown = rows.min(ROWS_MAX);
    match encoding {
        encoding::PREFIX_BYTES => {
            let Ok(strings) = PrefixBytes::parse(body, &column, rows) else { return false };
            let heads = strings.bundle_heads(body);
            let mut cursor = KeyCursor::new();
            let mut out = Vec::new();
            for row in 0..shown {
                cursor.move_to(&strings, body, row);
                out.clear();
                strings.append_to(body, row, &mut out);
                assert_eq!(out, cursor.key());
                assert!(strings.find(body, &heads, &out).0 <= rows);
                let _ = strings.compare(body, row, body);
            }
            assert!(strings.find(body, &heads, body).0 <= rows);
        }
        encoding::RAW_BYTES => {
            let Ok(strings) = RawBytes::parse(body, &column, rows) else { return false };
            for row in 0..shown {
                let (start, end) = strings.range(body, row);
                let _ = &body[start..end];
            }
        }
        encoding::INTEGERS => {
            let Ok(integers) = Integers::parse(body, &column, rows) else { return false };
            for row in 0..shown {
                let _ = integers.get(body, row);
            }
        }
        encoding::DICTIONARY => {
            let Ok(strings) = Dictionary::parse(body, &column, rows) else { return false };
            let heads = strings.heads(body);
            for row in 0..shown {
                let (code, found) = strings.find(body, &heads, strings.get(body, row));
                assert!(found && code == strings.codes().get(body, row));
            }
            let _ = strings.find(body, &heads, body);
        }
        encoding::GROUPS => {
            let Ok(groups) = Groups::parse(body, &column, rows, SCHEMA_FIELDS_MAX) else {
                return false;
            };
            assert_eq!(groups.start(groups.count()), rows);
            for row in 0..shown {
                let group = groups.of(row);
                assert!((groups.start(group)..groups.start(group + 1)).contains(&row));
                assert_eq!(groups.begins(row), groups.start(group) == row);
            }
        }
        encoding::EXCEPTIONS => {
            let Ok(keys) = Exceptions::parse(body, &column, rows) else { return false };
            let mut key = Vec::new();
            for row in 0..shown {
                if let Some(index) = keys.index(body, row) {
                    key.clear();
                    for (start, end) in keys.ranges(body, index) {
                        key.extend_from_slice(&body[start..end]);
                    }
                    assert!(keys.compare(body, index, &key).is_eq());
                    let _ = keys.compare(body, index, body);
                }
            }
        }
        _ => {
            let Ok(bitmap) = Bitmap::parse(body, &column, rows) else { return false };
            for row in 0..shown {
                let _ = bitmap.get(body, row);
                assert!(bitmap.next_clear(body, row, rows) <= rows);
            }
        }
    }
    true
}

/// The end of a file: the footer in the last 80 bytes, properties and schema in what is before.
/// The footer's checksum does not keep anyone out.
pub fn footer(bytes: &[u8]) -> bool {
    let properties = Properties::decode(bytes);
    if let Ok(properties) = &properties {
        assert_eq!(Properties::decode(&properties.encode()).as_ref(), Ok(properties));
    }
    let schema = descriptor(bytes);
    let footer = match bytes.last_chunk::<FOOTER_BYTES>() {
        Some(raw) => {
            let mut repaired = *raw;
            repair_footer(&mut repaired);
            // What is before the footer counts as properties: their size may be anything.
            let _ = Footer::decode(&repaired, bytes.len() as u64);
            Footer::decode(raw, bytes.len() as u64).is_ok()
        }
        None => false,
    };
    properties.is_ok() || schema || footer
}

/// A schema's descriptor, and behind its length (one byte) a key to be split by it: what splits
/// joins to the same bytes. True when there was a descriptor.
fn descriptor(bytes: &[u8]) -> bool {
    let whole = Schema::decode(bytes).is_ok();
    let Some((&length, rest)) = bytes.split_first() else { return whole };
    let Some((descriptor, key)) = rest.split_at_checked(usize::from(length)) else { return whole };
    let Ok(schema) = Schema::decode(descriptor) else { return whole };
    assert_eq!(schema.encode(), descriptor);
    let Ok(schema) = KeySchema::from_descriptor(schema) else { return true };
    // A custom schema splits where its splitter is.
    let known = samples::schemas().into_iter().find(|known| *known == schema);
    let schema = known.unwrap_or(schema);
    if let Some(values) = schema.split(key) {
        assert_eq!(schema.join(&values).as_deref().ok(), Some(key), "{schema}");
    }
    // A text is a schema or is refused; what it is prints as a text of the same.
    let text = String::from_utf8_lossy(key);
    for text in [&*text, &schema.to_string()] {
        if let Ok(parsed) = KeySchema::parse("fuzz", 1, text) {
            assert_eq!(KeySchema::parse("fuzz", 1, &parsed.to_string()).ok(), Some(parsed));
        }
    }
    true
}

/// A whole table: open, both scans, gets, dump, verification. The first byte asks for the checksums
/// of footer, properties, index, filter and every data block to be put right first.
pub fn file(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if first & 1 != 0 {
        repair(&mut bytes);
    }
    let mem = MemFs::new();
    let path = Path::new("/000001.sst");
    mem.write(path, &bytes).expect("an empty file system takes a file");
    let fs: Arc<dyn Fs> = Arc::new(mem);
    let cache = BlockCache::new(1 << 20);
    let table = match Table::open(&fs, path, FileNo(1), &cache) {
        Ok(mut table) => {
            // As the engine does: custom schemas get their splitters.
            let schemas = samples::schemas().into_iter().map(Arc::new);
            schemas.for_each(|schema| table.share_schema(&schema));
            Arc::new(table)
        }
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Unsupported));
            return;
        }
    };
    let mut keys = Vec::new();
    for options in [IterOptions::default(), IterOptions::sequential()] {
        let mut iter = TableIter::new(Arc::clone(&table), options);
        let mut on = iter.seek_to_first();
        for _ in 0..ROWS_MAX {
            let Ok(true) = on else { break };
            keys.push((iter.key().to_vec(), iter.trailer(), iter.value().len()));
            on = iter.next();
        }
        on = iter.seek_to_last();
        for _ in 0..ROWS_MAX {
            let Ok(true) = on else { break };
            let _ = (iter.key(), iter.value(), iter.trailer());
            on = iter.prev();
        }
    }
    for predicate in samples::predicates() {
        let predicate = Some(Arc::new(predicate));
        let options = IterOptions { predicate, ..IterOptions::default() };
        let mut iter = TableIter::new(Arc::clone(&table), options);
        let mut on = iter.seek_to_first();
        for _ in 0..ROWS_MAX {
            let Ok(true) = on else { break };
            let _ = (iter.key(), iter.trailer());
            on = iter.next();
        }
        on = iter.seek_to_last();
        for _ in 0..ROWS_MAX {
            let Ok(true) = on else { break };
            on = iter.prev();
        }
        for (key, trailer, _) in keys.iter().take(20) {
            let _ = iter.seek(key, *trailer);
            let _ = iter.seek_for_prev(key, *trailer);
        }
    }
    keys.push((bytes, Trailer(u64::MAX), 0));
    let mut iter = TableIter::new(Arc::clone(&table), IterOptions::default());
    for (key, trailer, _) in keys.iter().take(ROWS_MAX) {
        let _ = table.get(key, filter_hash(key), *trailer);
        let _ = (table.approximate_offset(key), table.may_contain_prefix(key));
        if let Ok(true) = iter.seek(key, *trailer) {
            let _ = (iter.key(), iter.value());
            let _ = iter.next_key();
        }
        let _ = iter.seek_for_prev(key, *trailer);
    }
    let report = table.verify();
    assert_eq!(report.errors.is_empty(), report.errors_total == 0);
    let _ = (table.inspect(), table.inspect_columns());
    let mut rows = 0;
    let _ = table.for_each_row(0..table.blocks(), |_| {
        rows += 1;
        rows < ROWS_MAX
    });
}

/// Puts the checksums of a table right as far as its own offsets lead.
pub fn repair(bytes: &mut [u8]) {
    let Some(footer_at) = bytes.len().checked_sub(FOOTER_BYTES) else { return };
    let number = |bytes: &[u8], at: usize| {
        bytes
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .map_or(0, |raw| u64::from_le_bytes(*raw))
    };
    let handle = |bytes: &[u8], at: usize| Handle {
        offset: number(bytes, footer_at + at),
        bytes: number(bytes, footer_at + at + 8),
    };
    let (index, filter, properties) = (handle(bytes, 0), handle(bytes, 16), handle(bytes, 32));
    for block in [index, filter, properties] {
        repair_block(bytes, block);
    }
    let mut known = None;
    if let Some(Ok(payload)) = stored(bytes, properties).map(envelope::open) {
        if let Ok(properties) = Properties::decode(&payload) {
            known = Some(properties.clone());
            let hash = properties.schema.hash().to_le_bytes();
            bytes[footer_at + 48..footer_at + 56].copy_from_slice(&hash);
        }
        let crc = crc32c(&payload).to_le_bytes();
        bytes[footer_at + 56..footer_at + 60].copy_from_slice(&crc);
    }
    if let Some(properties) = known {
        repair_body(bytes, index, filter, &properties);
    }
    if let Some(footer) = bytes[footer_at..].first_chunk_mut() {
        repair_footer(footer);
    }
}

/// Puts right what lies in front of the blocks that the footer names.
fn repair_body(bytes: &mut [u8], index: Handle, filter: Handle, properties: &Properties) {
    let flags = u32::from(properties.partition_bytes > 0)
        + 2 * u32::from(properties.prefix_filter_bytes > 0);
    let footer = Footer { index, filter, flags, ..Footer::default() };
    let Ok(extents) = footer.extents(properties) else { return };
    repair_block(bytes, extents.prefix_filter);
    let Ok(schema) = KeySchema::from_descriptor(properties.schema.clone()) else { return };
    let Some(Ok(payload)) = stored(bytes, index).map(envelope::open) else { return };
    if properties.partition_bytes == 0 {
        let data = 0..extents.data_end;
        if let Ok(index) = Index::parse(payload, block_kind::INDEX, data, &schema) {
            (0..index.blocks()).for_each(|block| repair_block(bytes, index.handle(block)));
        }
        return;
    }
    let partitions = extents.data_end..extents.partitions_end;
    let blocks = properties.data_blocks;
    let Ok(top) = TopIndex::parse(payload, partitions, blocks, &schema) else { return };
    for at in 0..top.partitions() {
        let handle = top.index().handle(at);
        repair_block(bytes, handle);
        if let Some(Ok(payload)) = stored(bytes, handle).map(envelope::open)
            && let Ok(index) = top.parse_partition(at, payload, &schema)
        {
            (0..index.blocks()).for_each(|block| repair_block(bytes, index.handle(block)));
        }
    }
}

fn stored(bytes: &[u8], handle: Handle) -> Option<&[u8]> {
    let start = usize::try_from(handle.offset).ok()?;
    bytes.get(start..start.checked_add(usize::try_from(handle.bytes).ok()?)?)
}

fn repair_block(bytes: &mut [u8], handle: Handle) {
    let Some(block) = stored(bytes, handle) else { return };
    let Some(covered) = (block.len() + 1).checked_sub(BLOCK_TRAILER_BYTES) else { return };
    let crc = crc32c(&block[..covered]).to_le_bytes();
    let at = handle.offset as usize + covered;
    bytes[at..at + 4].copy_from_slice(&crc);
}

fn repair_footer(footer: &mut [u8; FOOTER_BYTES]) {
    let crc = crc32c(&footer[..68]);
    footer[68..72].copy_from_slice(&crc.to_le_bytes());
}

/// What a sound table is made of, as inputs of the functions above. For seeds.
#[derive(Debug, Default)]
pub struct Pieces {
    pub blocks: Vec<Vec<u8>>,
    pub columns: Vec<Vec<u8>>,
    pub ends: Vec<Vec<u8>>,
}

/// Takes the table in `bytes` apart; `None` when it is not one.
pub fn pieces(bytes: &[u8]) -> Option<Pieces> {
    let raw = bytes.last_chunk::<FOOTER_BYTES>()?;
    let footer = Footer::decode(raw, bytes.len() as u64).ok()?;
    let mut out = Pieces::default();
    let mut index_payload = None;
    for handle in [footer.filter, footer.index] {
        if handle.bytes == 0 {
            continue; // no filter
        }
        let block = stored(bytes, handle)?;
        out.blocks.push(block.to_vec());
        let payload = envelope::open(block).ok()?;
        out.blocks.push(payload.to_vec());
        index_payload = Some(payload); // the last one stays
    }
    let index_payload = index_payload?;
    for kind in [block_kind::INDEX, block_kind::TOP_INDEX] {
        out.columns.extend(columns(&index_payload, kind));
    }
    let properties = envelope::open(stored(bytes, footer.properties)?).ok()?;
    out.ends.push(properties.to_vec());
    let known = Properties::decode(&properties).ok()?;
    out.ends.push(known.schema.encode());
    let schema = KeySchema::from_descriptor(known.schema.clone()).ok()?;
    out.ends.push([&properties[..], raw].concat());
    out.ends.push(bytes.to_vec());
    let extents = footer.extents(&known).ok()?;
    let mut indexes = Vec::new();
    if known.partition_bytes > 0 {
        let partitions = extents.data_end..extents.partitions_end;
        let top = TopIndex::parse(index_payload, partitions, known.data_blocks, &schema).ok()?;
        for at in 0..top.partitions() {
            let block = stored(bytes, top.index().handle(at))?;
            let payload = envelope::open(block).ok()?;
            out.blocks.push(payload.to_vec());
            indexes.push(top.parse_partition(at, payload, &schema).ok()?);
        }
    } else {
        let data = 0..extents.data_end;
        indexes.push(Index::parse(index_payload, block_kind::INDEX, data, &schema).ok()?);
    }
    for index in indexes {
        for at in 0..index.blocks() {
            let block = stored(bytes, index.handle(at))?;
            out.blocks.push(block.to_vec());
            let payload = envelope::open(block).ok()?;
            out.columns.extend(columns(&payload, block_kind::DATA));
            out.blocks.push(payload.to_vec());
        }
    }
    Some(out)
}

/// The columns of a block as inputs of [`column`].
fn columns(payload: &[u8], kind: u8) -> Vec<Vec<u8>> {
    let Ok(layout) = Layout::parse(payload, kind) else { return Vec::new() };
    let rows = (layout.rows as u16).to_le_bytes();
    let body = |column: &Column| payload.get(column.start as usize..column.end as usize);
    let input =
        |column: &Column| Some([&[column.encoding, rows[0], rows[1]], body(column)?].concat());
    layout.columns().iter().filter_map(input).collect()
}
