//! A whole state as a sequence of edits: the beginning of every manifest.
//!
//! A database may have more tables than one edit has room for (a bound may be as long as a key:
//! 1 MiB), so the snapshot is cut into parts. Nobody sees the parts apart: `CURRENT` names the file
//! only after the last one is durable.

use sluice_base::FileNo;

use crate::version::{CfCreate, CfEdit, CfState, SchemaMap, VersionEdit, VersionState};

/// A part ends once its tables and options take about this much: far below the largest edit, even
/// with one more table whose bounds are the longest possible.
const PART_BYTES: usize = 1 << 20;

/// Roughly what a table's facts take besides its bounds.
const TABLE_BYTES_ESTIMATE: usize = 80;

/// The edits that build `state` from nothing, with a `next_file` above `file`, the manifest they
/// are written to. Never empty.
pub(super) fn snapshot_edits<T>(state: &VersionState<T>, file: FileNo) -> Vec<VersionEdit> {
    let next_file = state.next_file.max(FileNo(file.0.saturating_add(1)));
    let mut parts = Parts {
        done: Vec::new(),
        open: VersionEdit {
            epoch: Some(state.epoch),
            next_file: Some(next_file),
            next_cf: Some(state.next_cf),
            last_seq: Some(state.last_seq),
            log_first: Some(state.log_first),
            ..VersionEdit::default()
        },
        open_bytes: 0,
    };
    for definition in state.schemas.values() {
        parts.count(definition.descriptor.len() + 24);
        parts.open.schemas.push(definition.clone());
        if parts.open_bytes >= PART_BYTES {
            parts.cut();
        }
    }
    for cf in state.cfs.values() {
        parts.add_family(cf);
    }
    parts.done.push(parts.open);
    parts.done
}

struct Parts {
    done: Vec<VersionEdit>,
    open: VersionEdit,
    open_bytes: usize,
}

impl Parts {
    fn add_family<T>(&mut self, cf: &CfState<T>) {
        let options: usize = cf.options.iter().map(|(_, body)| body.len() + 8).sum();
        self.open.created.push(CfCreate {
            id: cf.id,
            name: cf.name.clone(),
            options: cf.options.clone(),
        });
        let mut edit = CfEdit {
            flushed_seq: Some(cf.flushed_seq),
            counters: cf.counters.iter().map(|(id, value)| (*id, *value)).collect(),
            ..CfEdit::new(cf.id)
        };
        let mut ranges = 0;
        if *cf.schema_map != SchemaMap::default() {
            edit.schema_map = Some(SchemaMap::clone(&cf.schema_map));
            ranges = cf.schema_map.ranges().iter().map(|(start, _)| start.len() + 8).sum();
        }
        if !cf.drains.is_empty() {
            edit.drains = Some(cf.drains.clone());
        }
        let fixed = 16 * edit.counters.len() + 24 * cf.drains.len() + 16;
        self.count(cf.name.len() + options + ranges + fixed);
        for (level, table) in cf.version.tables() {
            if self.open_bytes >= PART_BYTES {
                self.open.cfs.push(std::mem::replace(&mut edit, CfEdit::new(cf.id)));
                self.cut();
            }
            let meta = &table.meta;
            self.count(meta.smallest.key.len() + meta.largest.key.len() + TABLE_BYTES_ESTIMATE);
            edit.added.push((level, meta.clone()));
        }
        self.open.cfs.push(edit);
        if self.open_bytes >= PART_BYTES {
            self.cut();
        }
    }

    fn count(&mut self, bytes: usize) {
        self.open_bytes += bytes;
    }

    fn cut(&mut self) {
        self.done.push(std::mem::take(&mut self.open));
        self.open_bytes = 0;
    }
}
