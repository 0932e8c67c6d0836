//! Total functions over raw bytes, one per decoder, for the fuzz targets and the mutation tests:
//! each decodes and then reads everything that the decoder accepted. They must return, whatever
//! the bytes.

use sluice_base::Trailer;

use crate::{
    block::Block,
    column::{Bitmap, Column, Integers, KeyCursor, PrefixBytes, RawBytes},
    envelope,
    filter::{Filter, filter_hash},
    footer::Footer,
    format::{FOOTER_BYTES, encoding},
    index::Index,
    properties::Properties,
    schema::Schema,
};

/// Most rows that are read one by one: constant columns may claim four billion.
const ROWS_MAX: usize = 4096;

/// A block: envelope, data block, index block, filter. True when any of them accepted the bytes.
pub fn block(bytes: &[u8]) -> bool {
    let opened = envelope::open(bytes).or_else(|_| envelope::unpack(bytes));
    let payload: Box<[u8]> = bytes.into();
    let index = Index::parse(payload.clone(), bytes.len() as u64 * 64);
    if let Ok(index) = &index {
        for at in 0..index.blocks().min(ROWS_MAX) {
            let (key, trailer) = index.separator(at);
            let found = index.find(&key, trailer);
            assert!(found <= index.blocks());
            let _ = (index.handle(at), index.stats(at));
        }
    }
    let filter = Filter::parse(bytes);
    if let Ok(filter) = &filter {
        filter.may_contain(filter_hash(bytes));
    }
    let data = Block::parse(payload);
    if let Ok(data) = &data {
        let mut cursor = KeyCursor::new();
        for row in 0..data.rows().min(ROWS_MAX) {
            data.move_cursor(&mut cursor, row);
            let (found, _) = data.find(cursor.key(), data.trailer(row));
            assert!(found <= data.rows());
            assert!(data.next_key_row(row) <= data.rows());
            let _ = (data.value(row), data.is_same_key(row));
        }
        let _ = data.find(b"", Trailer(u64::MAX));
        let _ = data.find(bytes, Trailer(0));
    }
    opened.is_ok() || index.is_ok() || filter.is_ok() || data.is_ok()
}

/// A column: the first byte chooses the encoding, the next two the number of rows.
pub fn column(bytes: &[u8]) -> bool {
    let Some((head, body)) = bytes.split_first_chunk::<3>() else { return false };
    let rows = usize::from(u16::from_le_bytes([head[1], head[2]])).max(1);
    let encoding = head[0] % 5;
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
pub fn footer(bytes: &[u8]) -> bool {
    let properties = Properties::decode(bytes);
    if let Ok(properties) = &properties {
        assert_eq!(Properties::decode(&properties.encode()).as_ref(), Ok(properties));
    }
    let schema = Schema::decode(bytes);
    let footer = match bytes.last_chunk::<FOOTER_BYTES>() {
        Some(raw) => Footer::decode(raw, bytes.len() as u64).is_ok(),
        None => false,
    };
    properties.is_ok() || schema.is_ok() || footer
}
