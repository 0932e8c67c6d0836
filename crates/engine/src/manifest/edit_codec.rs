//! The bytes of a [`VersionEdit`]: fields within fields.
//!
//! ```text
//!   edit        epoch(1)! next_file(2)! last_seq(3)! log_first(4)! next_cf(5)!
//!               dropped(6)! created(7)! family(8)! schema(10)!    reserved: 9 WAL options
//!   created     id, name, options as fields            │ then fields
//!   schema      index, hash (8 bytes LE), descriptor   │ then fields
//!   family      id                                     │ then fields:
//!               removed(1)! added(2)! flushed_seq(3)! counter(4)! options(5)!
//!               schema_map(6)! drains(9)!
//!               reserved: 7 value file added, 8 value file removed
//!   schema_map  count of ranges, then each: start, schema index
//!   drains      count, then each: schema index, paused (0 or 1), tables, bytes
//!   removed     level, file
//!   added       level, file, bytes, entries, tombstones, smallest key, trailer, largest key,
//!               trailer, min_seq, max_seq              │ then fields: schema(1)! created_ms(2)
//!   counter     id, zigzag value
//! ```
//! `!` marks "must understand". Numbers are varints, keys and names are length-prefixed. What comes
//! before `│` is always there and in this order; what comes after may be missing or repeated.

use sluice_base::{CfId, FileNo, Level, SeqNo, Trailer, limits, varint};

use super::field::{DecodeError, Field, Input, optional, put_field, put_number, required};
use crate::version::{
    CfCreate, CfEdit, Drain, InternalKey, OptionFields, SCHEMA_DESCRIPTOR_BYTES_MAX,
    SCHEMA_RANGES_MAX, SCHEMAS_MAX, SchemaDefinition, SchemaMap, TableMeta, VersionEdit,
};

// Numbers of the fields of an edit. Never reuse one.
pub(super) const EPOCH: u32 = required(1);
pub(super) const NEXT_FILE: u32 = required(2);
pub(super) const LAST_SEQ: u32 = required(3);
pub(super) const LOG_FIRST: u32 = required(4);
pub(super) const NEXT_CF: u32 = required(5);
pub(super) const DROPPED: u32 = required(6);
pub(super) const CREATED: u32 = required(7);
pub(super) const FAMILY: u32 = required(8);
// Who cannot read a schema cannot read the tables under it.
pub(super) const SCHEMA: u32 = required(10);

// Numbers of the fields of a family's part.
pub(super) const REMOVED: u32 = required(1);
pub(super) const ADDED: u32 = required(2);
pub(super) const FLUSHED_SEQ: u32 = required(3);
pub(super) const COUNTER: u32 = required(4);
pub(super) const OPTIONS: u32 = required(5);
// Who does not know ranges would write tables across their ends.
pub(super) const SCHEMA_MAP: u32 = required(6);
pub(super) const DRAINS: u32 = required(9);

// Numbers of the fields of a table. Who cannot read the schema cannot read the table.
pub(super) const TABLE_SCHEMA: u32 = required(1);
pub(super) const TABLE_CREATED_MS: u32 = optional(2);

/// Most families one edit may name in each of its lists: legal edits stay below, and a hostile one
/// cannot turn its bytes into many times as much memory.
const FAMILIES_MAX: usize = limits::CF_COUNT_MAX;

/// The bytes of `edit`.
pub fn encode_edit(edit: &VersionEdit) -> Vec<u8> {
    let mut out = Vec::new();
    put_edit(&mut out, edit);
    out
}

/// Appends the bytes of `edit`.
pub(super) fn put_edit(out: &mut Vec<u8>, edit: &VersionEdit) {
    let facts = [
        (EPOCH, edit.epoch),
        (NEXT_FILE, edit.next_file.map(|file| file.0)),
        (LAST_SEQ, edit.last_seq.map(|seq| seq.0)),
        (LOG_FIRST, edit.log_first.map(|file| file.0)),
        (NEXT_CF, edit.next_cf.map(|id| u64::from(id.0))),
    ];
    for (tag, value) in facts {
        if let Some(value) = value {
            put_number(out, tag, value);
        }
    }
    let mut body = Vec::new();
    for SchemaDefinition { index, hash, descriptor } in &edit.schemas {
        body.clear();
        varint::put_u32(&mut body, *index);
        body.extend(hash.to_le_bytes());
        varint::put_bytes(&mut body, descriptor);
        put_field(out, SCHEMA, &body);
    }
    for id in &edit.dropped {
        put_number(out, DROPPED, u64::from(id.0));
    }
    for create in &edit.created {
        body.clear();
        varint::put_u32(&mut body, create.id.0);
        varint::put_bytes(&mut body, create.name.as_bytes());
        varint::put_bytes(&mut body, &options_bytes(&create.options));
        put_field(out, CREATED, &body);
    }
    for cf in &edit.cfs {
        body.clear();
        put_family(&mut body, cf);
        put_field(out, FAMILY, &body);
    }
}

fn put_family(out: &mut Vec<u8>, edit: &CfEdit) {
    varint::put_u32(out, edit.cf.0);
    let mut body = Vec::new();
    for (level, file) in &edit.removed {
        body.clear();
        varint::put_u32(&mut body, u32::from(level.0));
        varint::put_u64(&mut body, file.0);
        put_field(out, REMOVED, &body);
    }
    for (level, meta) in &edit.added {
        body.clear();
        put_table(&mut body, *level, meta);
        put_field(out, ADDED, &body);
    }
    if let Some(seq) = edit.flushed_seq {
        put_number(out, FLUSHED_SEQ, seq.0);
    }
    for (id, value) in &edit.counters {
        body.clear();
        varint::put_u32(&mut body, *id);
        varint::put_u64(&mut body, varint::zigzag(*value));
        put_field(out, COUNTER, &body);
    }
    if let Some(options) = &edit.options {
        put_field(out, OPTIONS, &options_bytes(options));
    }
    if let Some(map) = &edit.schema_map {
        body.clear();
        varint::put_u64(&mut body, map.ranges().len() as u64);
        for (start, schema) in map.ranges() {
            varint::put_bytes(&mut body, start);
            varint::put_u32(&mut body, *schema);
        }
        put_field(out, SCHEMA_MAP, &body);
    }
    if let Some(drains) = &edit.drains {
        body.clear();
        varint::put_u64(&mut body, drains.len() as u64);
        for Drain { schema, is_paused, tables, bytes } in drains {
            varint::put_u32(&mut body, *schema);
            body.push(u8::from(*is_paused));
            varint::put_u64(&mut body, *tables);
            varint::put_u64(&mut body, *bytes);
        }
        put_field(out, DRAINS, &body);
    }
}

fn put_table(out: &mut Vec<u8>, level: Level, meta: &TableMeta) {
    varint::put_u32(out, u32::from(level.0));
    for number in [meta.file.0, meta.bytes, meta.entries, meta.tombstones] {
        varint::put_u64(out, number);
    }
    for bound in [&meta.smallest, &meta.largest] {
        varint::put_bytes(out, &bound.key);
        varint::put_u64(out, bound.trailer.0);
    }
    varint::put_u64(out, meta.min_seq.0);
    varint::put_u64(out, meta.max_seq.0);
    if meta.schema != 0 {
        put_number(out, TABLE_SCHEMA, u64::from(meta.schema));
    }
    if meta.created_ms != 0 {
        put_number(out, TABLE_CREATED_MS, meta.created_ms);
    }
}

fn options_bytes(options: &OptionFields) -> Vec<u8> {
    let mut out = Vec::new();
    for (tag, body) in options.iter() {
        put_field(&mut out, tag, body);
    }
    out
}

/// Decodes an edit. Total: any input gives a value or an error. It checks form, not sense: whether
/// the edit fits a state is for `VersionState::apply` to say.
pub fn decode_edit(bytes: &[u8]) -> Result<VersionEdit, DecodeError> {
    take_edit(Input::new(bytes))
}

pub(super) fn take_edit(mut input: Input<'_>) -> Result<VersionEdit, DecodeError> {
    let mut edit = VersionEdit::default();
    while !input.is_empty() {
        let field = input.field()?;
        match field.tag {
            EPOCH => edit.epoch = Some(field.number()?),
            NEXT_FILE => edit.next_file = Some(FileNo(field.number()?)),
            LAST_SEQ => edit.last_seq = Some(seq(field)?),
            LOG_FIRST => edit.log_first = Some(FileNo(field.number()?)),
            NEXT_CF => edit.next_cf = Some(cf_id(field)?),
            SCHEMA => {
                let definition = take_schema(field.body)?;
                if edit.schemas.len() >= SCHEMAS_MAX {
                    return Err(input.malformed("no more key schemas than there may be"));
                }
                edit.schemas.push(definition);
            }
            DROPPED => push_bounded(&mut edit.dropped, cf_id(field)?, input)?,
            CREATED => push_bounded(&mut edit.created, take_created(field.body)?, input)?,
            FAMILY => push_bounded(&mut edit.cfs, take_family(field.body)?, input)?,
            _ => field.skip("manifest edit field")?,
        }
    }
    Ok(edit)
}

fn push_bounded<V>(list: &mut Vec<V>, value: V, input: Input<'_>) -> Result<(), DecodeError> {
    if list.len() >= FAMILIES_MAX {
        return Err(input.malformed("no more column families than there may be"));
    }
    list.push(value);
    Ok(())
}

fn take_created(mut body: Input<'_>) -> Result<CfCreate, DecodeError> {
    let id = CfId(body.u32("a column family id")?);
    let at = body;
    let name = body.bytes("a column family name")?;
    let name = match std::str::from_utf8(name) {
        Ok(name) if name.len() <= limits::CF_NAME_BYTES_MAX => name.to_owned(),
        _ => return Err(at.malformed("a UTF-8 name of legal length")),
    };
    let options = take_options(body.part("column family options")?)?;
    while !body.is_empty() {
        body.field()?.skip("column family field")?;
    }
    Ok(CfCreate { id, name, options })
}

fn take_schema(mut body: Input<'_>) -> Result<SchemaDefinition, DecodeError> {
    let at = body;
    let index = body.u32("a key schema index")?;
    let hash = body.raw(8, "a key schema hash")?;
    let hash = hash.iter().rev().fold(0, |hash, byte| hash << 8 | u64::from(*byte));
    let descriptor = body.bytes("a key schema descriptor")?;
    if index == 0 || descriptor.len() > SCHEMA_DESCRIPTOR_BYTES_MAX {
        return Err(at.malformed("a key schema of legal index and length"));
    }
    while !body.is_empty() {
        body.field()?.skip("key schema field")?;
    }
    Ok(SchemaDefinition { index, hash, descriptor: descriptor.into() })
}

fn take_schema_map(mut body: Input<'_>) -> Result<SchemaMap, DecodeError> {
    let at = body;
    let count = body.u64("a count of ranges")?;
    let mut ranges = Vec::new();
    for _ in 0..count {
        if ranges.len() > SCHEMA_RANGES_MAX {
            break;
        }
        let start = body.bytes("the start of a range")?;
        ranges.push((start.into(), body.u32("a key schema index")?));
    }
    let map = SchemaMap::from_ranges(ranges);
    let map = map.map_err(|_| at.malformed("ranges in order that cover every key"))?;
    body.end("the end of a key schema map")?;
    Ok(map)
}

fn take_drains(mut body: Input<'_>) -> Result<Vec<Drain>, DecodeError> {
    let count = body.u64("a count of drains")?;
    let mut drains: Vec<Drain> = Vec::new();
    for _ in 0..count {
        if drains.len() >= SCHEMAS_MAX {
            return Err(body.malformed("no more drains than key schemas"));
        }
        let schema = body.u32("a key schema index")?;
        let at = body;
        let is_paused = match body.u8("whether a drain is paused")? {
            0 => false,
            1 => true,
            _ => return Err(at.malformed("0 or 1")),
        };
        let tables = body.u64("a drain's tables")?;
        drains.push(Drain { schema, is_paused, tables, bytes: body.u64("a drain's bytes")? });
    }
    body.end("the end of the drains")?;
    Ok(drains)
}

fn take_options(mut body: Input<'_>) -> Result<OptionFields, DecodeError> {
    let mut options = OptionFields::new();
    while !body.is_empty() {
        let mut field = body.field()?;
        let len = field.body.len();
        options.set_bytes(field.tag, field.body.raw(len, "an option")?);
    }
    Ok(options)
}

fn take_family(mut body: Input<'_>) -> Result<CfEdit, DecodeError> {
    let mut edit = CfEdit::new(CfId(body.u32("a column family id")?));
    while !body.is_empty() {
        let field = body.field()?;
        match field.tag {
            REMOVED => edit.removed.push(take_removed(field.body)?),
            ADDED => edit.added.push(take_table(field.body)?),
            FLUSHED_SEQ => edit.flushed_seq = Some(seq(field)?),
            COUNTER => edit.counters.push(take_counter(field.body)?),
            OPTIONS => edit.options = Some(take_options(field.body)?),
            SCHEMA_MAP => edit.schema_map = Some(take_schema_map(field.body)?),
            DRAINS => edit.drains = Some(take_drains(field.body)?),
            _ => field.skip("manifest family field")?,
        }
    }
    Ok(edit)
}

fn take_removed(mut body: Input<'_>) -> Result<(Level, FileNo), DecodeError> {
    let level = take_level(&mut body)?;
    let file = FileNo(body.u64("a file number")?);
    body.end("the end of a removal")?;
    Ok((level, file))
}

fn take_counter(mut body: Input<'_>) -> Result<(u32, i64), DecodeError> {
    let id = body.u32("a counter id")?;
    let value = varint::unzigzag(body.u64("a counter value")?);
    body.end("the end of a counter")?;
    Ok((id, value))
}

fn take_table(mut body: Input<'_>) -> Result<(Level, TableMeta), DecodeError> {
    let start = body;
    let level = take_level(&mut body)?;
    let mut meta = TableMeta {
        file: FileNo(body.u64("a file number")?),
        bytes: body.u64("a table's bytes")?,
        entries: body.u64("a table's entries")?,
        tombstones: body.u64("a table's tombstones")?,
        smallest: take_key(&mut body)?,
        largest: take_key(&mut body)?,
        min_seq: SeqNo(body.u64("a lowest sequence number")?),
        max_seq: SeqNo(body.u64("a highest sequence number")?),
        schema: 0,
        created_ms: 0,
    };
    while !body.is_empty() {
        let field = body.field()?;
        match field.tag {
            TABLE_SCHEMA => {
                let at = field.body;
                meta.schema = u32::try_from(field.number()?)
                    .map_err(|_| at.malformed("a key schema id of 32 bits"))?;
            }
            TABLE_CREATED_MS => meta.created_ms = field.number()?,
            _ => field.skip("manifest table field")?,
        }
    }
    meta.check().map_err(|_| start.malformed("table facts that agree with each other"))?;
    Ok((level, meta))
}

fn take_key(body: &mut Input<'_>) -> Result<InternalKey, DecodeError> {
    let at = *body;
    let key = body.bytes("a table bound")?;
    if key.len() > limits::KEY_BYTES_MAX {
        return Err(at.malformed("a bound no longer than a key may be"));
    }
    let trailer = Trailer(body.u64("a table bound's trailer")?);
    Ok(InternalKey::new(key, trailer))
}

fn take_level(body: &mut Input<'_>) -> Result<Level, DecodeError> {
    let at = *body;
    match body.u32("a level")? {
        level if (level as usize) < Level::COUNT => Ok(Level(level as u8)),
        _ => Err(at.malformed("a level from 0 to 6")),
    }
}

fn seq(field: Field<'_>) -> Result<SeqNo, DecodeError> {
    let at = field.body;
    match SeqNo(field.number()?) {
        seq if seq <= SeqNo::MAX => Ok(seq),
        _ => Err(at.malformed("a sequence number of 56 bits")),
    }
}

fn cf_id(field: Field<'_>) -> Result<CfId, DecodeError> {
    let at = field.body;
    u32::try_from(field.number()?).map(CfId).map_err(|_| at.malformed("a column family id"))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::manifest::sample::any_edit;

    proptest! {
        #[test]
        fn an_edit_round_trips(edit in any_edit()) {
            let bytes = encode_edit(&edit);
            prop_assert_eq!(decode_edit(&bytes), Ok(edit));
        }

        #[test]
        fn hostile_bytes_give_a_value_or_an_error(bytes in vec(any::<u8>(), 0..200)) {
            if let Ok(edit) = decode_edit(&bytes) {
                // What was understood survives being written again.
                prop_assert_eq!(decode_edit(&encode_edit(&edit)), Ok(edit));
            }
        }

        #[test]
        fn a_damaged_edit_never_panics(
            edit in any_edit(),
            changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = encode_edit(&edit);
            bytes.push(0);
            for (index, byte) in changes {
                let len = bytes.len();
                bytes[index.index(len)] = byte;
            }
            drop(decode_edit(&bytes));
            drop(decode_edit(&bytes[..cut.index(bytes.len())]));
        }
    }

    #[test]
    fn unknown_fields_are_skipped_or_refused_by_their_bit() {
        let mut bytes = encode_edit(&VersionEdit { epoch: Some(3), ..VersionEdit::default() });
        put_field(&mut bytes, optional(900), b"whatever");
        let edit = decode_edit(&bytes).unwrap();
        assert_eq!(edit, VersionEdit { epoch: Some(3), ..VersionEdit::default() });

        let at = bytes.len();
        put_field(&mut bytes, required(901), b"whatever");
        let unknown = DecodeError::Unknown { at, what: "manifest edit field", number: 901 };
        assert_eq!(decode_edit(&bytes), Err(unknown));
    }

    #[test]
    fn p12_key_schemas_are_fields_that_a_reader_must_know() {
        for tag in [SCHEMA, SCHEMA_MAP, DRAINS, TABLE_SCHEMA] {
            assert_eq!(tag & 1, 1);
        }
    }

    #[test]
    fn key_schemas_are_bounded_and_in_order() {
        let family = |tag: u32, field: &[u8]| {
            let mut body = vec![0];
            put_field(&mut body, tag, field);
            let mut bytes = Vec::new();
            put_field(&mut bytes, FAMILY, &body);
            decode_edit(&bytes)
        };
        assert!(family(SCHEMA_MAP, &[2, 0, 7, 1, b'm', 8]).is_ok());
        for wrong in [
            &[0][..],                              // no range
            &[1, 1, b'a', 7],                      // begins behind the empty key
            &[2, 0, 7, 0, 8],                      // an empty range
            &[2, 0, 7, 1, b'm', 7],                // an end that divides nothing
            &[3, 0, 7, 1, b'm', 8, 1, b'a', 9],    // out of order
            &[1, 0, 7, 0],                         // more than is said
            &[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 7], // less
        ] {
            assert!(family(SCHEMA_MAP, wrong).is_err(), "{wrong:?}");
        }
        assert!(family(DRAINS, &[1, 3, 1, 9, 9]).is_ok());
        assert!(family(DRAINS, &[1, 3, 2, 9, 9]).is_err(), "paused is 0 or 1");
        let mut bytes = Vec::new();
        put_field(&mut bytes, SCHEMA, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 0]);
        assert!(decode_edit(&bytes).is_err(), "index 0 is the default");
    }

    #[test]
    fn levels_sequence_numbers_and_names_are_bounded() {
        let family = |level: u8| {
            let mut body = vec![0];
            put_field(&mut body, REMOVED, &[level, 9]);
            let mut bytes = Vec::new();
            put_field(&mut bytes, FAMILY, &body);
            decode_edit(&bytes)
        };
        assert!(family(6).is_ok());
        assert!(matches!(family(7), Err(DecodeError::Malformed { at: 5, .. })));

        let mut bytes = Vec::new();
        put_number(&mut bytes, LAST_SEQ, 1 << 56);
        assert!(matches!(decode_edit(&bytes), Err(DecodeError::Malformed { .. })));
    }
}
