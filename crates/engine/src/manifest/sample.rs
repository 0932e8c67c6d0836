//! Values for tests: random edits, a fixed database for the golden dump, and a random but legal
//! history.

use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
};
use sluice_base::{CfId, FileNo, Kind, Level, SeqNo, Trailer};
use sluice_env::Rng;
use sluice_table::KeySchema;

use crate::version::{
    CfCreate, CfEdit, Drain, InternalKey, OptionFields, SchemaDefinition, SchemaMap, TableMeta,
    VersionEdit, VersionState,
};

/// A table of `file` from `first` to `last` with sequence numbers from `min` to `max`.
pub(crate) fn table(file: u64, first: &str, last: &str, min: u64, max: u64) -> TableMeta {
    TableMeta {
        file: FileNo(file),
        bytes: 1000 + file,
        entries: max - min + 1,
        tombstones: 0,
        smallest: InternalKey::new(first.as_bytes(), Trailer::new(SeqNo(max), Kind::Put)),
        largest: InternalKey::new(last.as_bytes(), Trailer::new(SeqNo(min), Kind::Put)),
        min_seq: SeqNo(min),
        max_seq: SeqNo(max),
        schema: 0,
        created_ms: 0,
    }
}

fn any_options() -> impl Strategy<Value = OptionFields> {
    btree_map(any::<u32>(), vec(any::<u8>(), 0..6), 0..4).prop_map(|fields| {
        let mut options = OptionFields::new();
        for (tag, body) in fields {
            options.set_bytes(tag, body);
        }
        options
    })
}

fn any_schema_map() -> impl Strategy<Value = SchemaMap> {
    vec((vec(any::<u8>(), 0..4), any::<u32>()), 0..5).prop_map(|steps| {
        let set = |map: SchemaMap, (start, schema): (Vec<u8>, u32)| {
            map.with(&start, None, schema).unwrap()
        };
        steps.into_iter().fold(SchemaMap::default(), set)
    })
}

prop_compose! {
    fn any_drain()(schema: u32, is_paused: bool, tables: u64, bytes: u64) -> Drain {
        Drain { schema, is_paused, tables, bytes }
    }
}

prop_compose! {
    fn any_table()(
        file: u64, bytes: u64, extra: u32, tombstones: u32,
        mut keys in [vec(any::<u8>(), 0..12), vec(any::<u8>(), 0..12)],
        mut seqs in [0..=SeqNo::MAX.0, 0..=SeqNo::MAX.0],
        schema: u32, created_ms: u64,
    ) -> TableMeta {
        keys.sort();
        seqs.sort();
        let [first, last] = keys;
        let key = |key: Vec<u8>, seq| InternalKey::new(key, Trailer::new(SeqNo(seq), Kind::Put));
        TableMeta {
            file: FileNo(file),
            bytes,
            entries: u64::from(tombstones) + u64::from(extra) + 1,
            tombstones: u64::from(tombstones),
            smallest: key(first, seqs[1]),
            largest: key(last, seqs[0]),
            min_seq: SeqNo(seqs[0]),
            max_seq: SeqNo(seqs[1]),
            schema,
            created_ms,
        }
    }
}

prop_compose! {
    fn any_cf_edit()(
        cf: u32,
        added in vec((0..7u8, any_table()), 0..3),
        removed in vec((0..7u8, any::<u64>()), 0..3),
        flushed_seq in option::of(0..=SeqNo::MAX.0),
        counters in vec(any::<(u32, i64)>(), 0..3),
        options in option::of(any_options()),
        schema_map in option::of(any_schema_map()),
        drains in option::of(vec(any_drain(), 0..3)),
    ) -> CfEdit {
        CfEdit {
            cf: CfId(cf),
            added: added.into_iter().map(|(level, meta)| (Level(level), meta)).collect(),
            removed: removed.into_iter().map(|(level, no)| (Level(level), FileNo(no))).collect(),
            flushed_seq: flushed_seq.map(SeqNo),
            counters,
            options,
            schema_map,
            drains,
        }
    }
}

prop_compose! {
    /// Any edit that can be encoded, sensible or not.
    pub(crate) fn any_edit()(
        epoch: Option<u64>, next_file: Option<u64>, next_cf: Option<u32>, log_first: Option<u64>,
        last_seq in option::of(0..=SeqNo::MAX.0),
        dropped in vec(any::<u32>(), 0..3),
        schemas in vec((1..u32::MAX, any::<u64>(), vec(any::<u8>(), 0..9)), 0..3),
        created in vec((any::<u32>(), ".{0,9}", any_options()), 0..3),
        cfs in vec(any_cf_edit(), 0..3),
    ) -> VersionEdit {
        VersionEdit {
            epoch,
            next_file: next_file.map(FileNo),
            next_cf: next_cf.map(CfId),
            last_seq: last_seq.map(SeqNo),
            log_first: log_first.map(FileNo),
            schemas: schemas
                .into_iter()
                .map(|(index, hash, descriptor)| SchemaDefinition {
                    index,
                    hash,
                    descriptor: descriptor.into(),
                })
                .collect(),
            dropped: dropped.into_iter().map(CfId).collect(),
            created: created
                .into_iter()
                .map(|(id, name, options)| CfCreate { id: CfId(id), name, options })
                .collect(),
            cfs,
        }
    }
}

/// The edits of the golden dump: two families are created, one is flushed, its table moves; then
/// its key schemas change, the former one is to be drained, and a table comes under a new one.
pub(crate) fn golden_edits() -> Vec<VersionEdit> {
    let mut options = OptionFields::new();
    options.set_number(2, 64 << 20);
    let create = |id, name: &str, options| CfCreate { id: CfId(id), name: name.into(), options };
    let mut flushed = table(7, "apple", "pear", 5, 9);
    flushed.tombstones = 1;
    flushed.created_ms = 1_700_000_000_000;
    vec![
        VersionEdit {
            epoch: Some(1),
            created: vec![create(0, "default", options), create(1, "meta", OptionFields::new())],
            ..VersionEdit::default()
        },
        VersionEdit {
            log_first: Some(FileNo(6)),
            cfs: vec![CfEdit {
                added: vec![(Level(0), flushed.clone())],
                flushed_seq: Some(SeqNo(9)),
                counters: vec![(0, -3)],
                ..CfEdit::new(CfId(0))
            }],
            ..VersionEdit::default()
        },
        CfEdit {
            removed: vec![(Level(0), FileNo(7))],
            added: vec![(Level(6), flushed)],
            ..CfEdit::new(CfId(0))
        }
        .into(),
        VersionEdit {
            schemas: vec![
                define(1, &KeySchema::parse("days", 1, "day u32, rest").unwrap()),
                define(2, &KeySchema::parse("days", 2, "day u32 desc, rest").unwrap()),
            ],
            ..CfEdit {
                schema_map: Some(SchemaMap::whole(1).with(b"m", None, 2).unwrap()),
                drains: Some(vec![Drain { schema: 0, is_paused: true, tables: 1, bytes: 1007 }]),
                ..CfEdit::new(CfId(0))
            }
            .into()
        },
        CfEdit {
            added: vec![(Level(0), TableMeta { schema: 2, ..table(9, "mint", "pear", 10, 12) })],
            ..CfEdit::new(CfId(0))
        }
        .into(),
    ]
}

fn define(index: u32, schema: &KeySchema) -> SchemaDefinition {
    SchemaDefinition { index, hash: schema.id().hash, descriptor: schema.encode().into() }
}

/// The state after `edits`.
pub(crate) fn state_of(edits: &[VersionEdit]) -> VersionState<()> {
    edits.iter().fold(VersionState::empty(), |state, edit| state.apply(edit).unwrap())
}

/// A random edit that fits `state`: families come and go, tables are flushed, merged and moved.
pub(crate) fn legal_edit(rng: &mut Rng, state: &VersionState<()>) -> VersionEdit {
    let ids: Vec<CfId> = state.cfs.keys().copied().collect();
    if ids.len() < 2 || rng.one_in(12) {
        let mut options = OptionFields::new();
        options.set_number(2, rng.below(1 << 30));
        let id = state.next_cf;
        let created = vec![CfCreate { id, name: format!("cf-{id}"), options }];
        return VersionEdit { created, ..VersionEdit::default() };
    }
    let id = ids[rng.below(ids.len() as u64) as usize];
    if ids.len() > 3 && rng.one_in(12) {
        return VersionEdit { dropped: vec![id], ..VersionEdit::default() };
    }
    let cf = &state.cfs[&id];
    let mut edit = CfEdit::new(id);
    if rng.one_in(8) {
        // Another schema for all keys but some, and a drain of one that is left.
        let index = state.schemas.len() as u32 + 1;
        let schema = KeySchema::parse("legal", index, "lead u8, rest").unwrap();
        let some = rng.below(u64::from(index) + 1) as u32;
        let map = SchemaMap::whole(index).with(b"500", Some(b"600"), some).unwrap();
        let drained = (0..index).find(|schema| !map.writes(*schema));
        let (is_paused, tables, bytes) = (rng.one_in(2), rng.below(9), rng.below(1 << 40));
        let drain = drained.map(|schema| Drain { schema, is_paused, tables, bytes });
        edit.schema_map = Some(map);
        edit.drains = Some(drain.into_iter().collect());
        return VersionEdit { schemas: vec![define(index, &schema)], ..edit.into() };
    }
    let l0 = cf.version.level(Level(0));
    if l0.len() < 3 || !rng.one_in(3) {
        let (min, max) = (state.last_seq.0 + 1, state.last_seq.0 + 1 + rng.below(50));
        let first = format!("{:03}", rng.below(500));
        let meta = table(state.next_file.0 + rng.below(2), &first, "900", min, max);
        edit.added.push((Level(0), meta));
        edit.flushed_seq = Some(SeqNo(max));
        edit.counters.push((rng.below(3) as u32, rng.next_u64() as i64));
        return VersionEdit { log_first: Some(FileNo(max)), ..edit.into() };
    }
    // Everything goes to L6 as one table.
    for (level, old) in cf.version.tables() {
        edit.removed.push((level, old.meta.file));
    }
    edit.added.push((Level(6), table(state.next_file.0, "000", "900", 1, state.last_seq.0)));
    edit.into()
}
