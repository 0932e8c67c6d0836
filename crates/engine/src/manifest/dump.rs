//! A manifest's bytes, explained: for the format's documentation and for `sluice inspect`.

use std::fmt::Write;

use sluice_base::FileNo;

use super::{
    edit_codec as tags,
    field::{DecodeError, Input},
    frame::{FILE_HEADER_BYTES, FRAME_HEADER_BYTES, FrameKind},
};

/// Bytes shown on one line.
const LINE_BYTES: usize = 16;

/// One line for each piece of `bytes`, a whole manifest: its offset, its bytes, its meaning.
/// Verifies nothing, and stops with a remark where the bytes make no sense.
pub fn dump(bytes: &[u8]) -> String {
    let mut lines = Lines { out: String::new(), at: 0 };
    let Some((header, mut rest)) = bytes.split_at_checked(FILE_HEADER_BYTES) else {
        lines.add(bytes, "a cut header");
        return lines.out;
    };
    let (magic, header) = header.split_at(8);
    let (format, header) = header.split_at(4);
    let (number, crc) = header.split_at(8);
    lines.add(magic, "magic");
    lines.add(format, &format!("format {}", little_endian(format)));
    lines.add(number, &FileNo(little_endian(number)).to_string());
    lines.add(crc, "header crc32c");
    while let Some((header, behind)) = rest.split_at_checked(FRAME_HEADER_BYTES) {
        let (payload_crc, words) = header.split_at(4);
        let (len, header_crc) = words.split_at(4);
        let payload_len = little_endian(len) as usize;
        lines.title(&format!("frame at {}", lines.at));
        lines.add(payload_crc, "payload crc32c");
        lines.add(len, &format!("payload length {payload_len}"));
        lines.add(header_crc, "frame header crc32c");
        let (payload, behind) = behind.split_at_checked(payload_len).unwrap_or((behind, &[]));
        rest = behind;
        let Some((kind, fields)) = payload.split_first() else { continue };
        let name = FrameKind::from_byte(*kind)
            .map_or("unknown kind".to_owned(), |kind| format!("{kind:?}"));
        lines.add(&[*kind], &name);
        let before = lines.at;
        if let Err(error) = lines.add_fields(fields, Place::Edit) {
            let shown = lines.at - before;
            lines.add(&fields[shown.min(fields.len())..], &error.to_string());
        }
    }
    if !rest.is_empty() {
        lines.add(rest, "a cut frame header");
    }
    lines.out
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Where a field stands: tags mean different things in different places.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Edit,
    Family,
}

struct Lines {
    out: String,
    at: usize,
}

impl Lines {
    fn title(&mut self, text: &str) {
        writeln!(self.out, "--- {text}").ok();
    }

    fn add(&mut self, bytes: &[u8], meaning: &str) {
        let mut meaning = meaning;
        for chunk in bytes.chunks(LINE_BYTES) {
            let mut hex = String::new();
            for byte in chunk {
                write!(hex, "{byte:02x} ").ok();
            }
            let line = format!("{:06x}  {hex:<48} {meaning}", self.at);
            writeln!(self.out, "{}", line.trim_end()).ok();
            self.at += chunk.len();
            meaning = "";
        }
    }

    fn add_fields(&mut self, bytes: &[u8], place: Place) -> Result<(), DecodeError> {
        let mut input = Input::new(bytes);
        while !input.is_empty() {
            let start = input.at();
            let mut field = input.field()?;
            let (body_at, body_len) = (field.body.at(), field.body.len());
            let name = name(place, field.tag);
            let required = if field.tag & 1 == 1 { "!" } else { "" };
            let body = field.body.raw(body_len, "a body")?;
            let head = &bytes[start..body_at];
            if (place, field.tag) == (Place::Edit, tags::FAMILY) {
                let mut inner = Input::new(body);
                let id = inner.u32("a column family id")?;
                let id_len = inner.at();
                self.add(head, &format!("{name}({}){required}, {body_len} bytes", field.tag >> 1));
                self.add(&body[..id_len], &format!("  family {id}"));
                self.add_fields(&body[id_len..], Place::Family)?;
                continue;
            }
            let mut number = Input::new(body);
            let value = match number.u64("a number") {
                Ok(value) if number.is_empty() => format!(" = {value}"),
                _ => String::new(),
            };
            let indent = if place == Place::Family { "  " } else { "" };
            self.add(head, &format!("{indent}{name}({}){required}{value}", field.tag >> 1));
            self.add(body, "");
        }
        Ok(())
    }
}

fn name(place: Place, tag: u32) -> &'static str {
    match (place, tag) {
        (Place::Edit, tags::EPOCH) => "epoch",
        (Place::Edit, tags::NEXT_FILE) => "next_file",
        (Place::Edit, tags::LAST_SEQ) => "last_seq",
        (Place::Edit, tags::LOG_FIRST) => "log_first",
        (Place::Edit, tags::NEXT_CF) => "next_cf",
        (Place::Edit, tags::DROPPED) => "dropped",
        (Place::Edit, tags::CREATED) => "created",
        (Place::Edit, tags::FAMILY) => "family",
        (Place::Edit, tags::SCHEMA) => "schema",
        (Place::Family, tags::REMOVED) => "removed",
        (Place::Family, tags::ADDED) => "added",
        (Place::Family, tags::FLUSHED_SEQ) => "flushed_seq",
        (Place::Family, tags::COUNTER) => "counter",
        (Place::Family, tags::OPTIONS) => "options",
        (Place::Family, tags::SCHEMA_MAP) => "schema_map",
        (Place::Family, tags::DRAINS) => "drains",
        _ => "unknown",
    }
}
