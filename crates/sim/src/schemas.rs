//! What a session does with key schemas: it changes them by range, drains what is left of one, and
//! holds the database to what it said of both.

use crate::session::Session;
use sluice_env::Rng;
use sluicedb::{DrainState, ErrorKind, KeySchema};

/// Where ranges begin and end: among the keys of the sessions.
const ENDS: [&[u8]; 5] = [b"", b"k030", b"k060", b"k0\xff", b"k1"];

/// A key schema: some that the keys fit in part, some that none fits.
pub fn any(rng: &mut Rng) -> KeySchema {
    let text = [
        "key rest",
        "lead fixed 1, number fixed 3",
        "lead u8, first u8 desc, rest",
        "lead u16, rest",
        "lead fixed 2, last u16 desc",
        "name escaped, rest",
        "part counted u8, rest",
        "id u64",
    ];
    let text = text[rng.below(text.len() as u64) as usize];
    KeySchema::parse("sim", rng.below(3) as u32, text).expect("a key schema")
}

/// New tables of some keys of a family are written another way; what is read stays.
pub(crate) fn change(session: &mut Session<'_>, rng: &mut Rng) {
    note_ended(session);
    let cf = session.family(rng);
    let (schema, from) = (any(rng), rng.below(5) as usize);
    let whole = rng.one_in(3);
    let start = if whole { b"" } else { ENDS[from] };
    let end = ENDS.get(from + 1 + rng.below(5) as usize).copied().filter(|_| !whole);
    let before = session.db().key_schemas(&cf);
    let outcome = session.db().set_key_schema_in(&cf, start, end, schema.clone());
    let after = session.db().key_schemas(&cf);
    let at = |ranges: &[sluicedb::SchemaRange], key: &[u8]| {
        let range = ranges.iter().rfind(|range| *range.start <= *key).expect("the first range");
        (*range.schema).clone()
    };
    let schemas = match outcome {
        Ok(()) => {
            for key in ENDS {
                let inside = start <= key && end.is_none_or(|end| key < end);
                let expected = if inside { schema.clone() } else { at(&before, key) };
                assert_eq!(at(&after, key), expected, "the schema of {key:?}");
            }
            Some(after)
        }
        Err(error) if error.kind() == ErrorKind::Invalid => {
            let drains = session.db().drains();
            let is_it = drains.iter().any(|drain| {
                drain.cf == cf.name() && drain.id == schema.id() && drain.state != DrainState::Done
            });
            assert!(is_it, "refused without a drain: {error}");
            return;
        }
        Err(error) => {
            assert!(session.excused(&error), "a key schema was not set: {error}");
            None // the manifest may hold it all the same
        }
    };
    if let Some(family) = session.families().get_mut(&cf.id()) {
        family.drained.remove(&schema.id());
        family.schemas = schemas;
    }
}

/// What is left under some schema is to be rewritten.
pub(crate) fn drain(session: &mut Session<'_>, rng: &mut Rng) {
    note_ended(session);
    let cf = session.family(rng);
    let usage: Vec<_> =
        session.db().schema_usage().into_iter().filter(|usage| usage.cf == cf.name()).collect();
    let left: Vec<_> = usage.iter().filter(|usage| usage.ranges == 0).collect();
    let any = match left.len() {
        0 => &usage[rng.below(usage.len() as u64) as usize],
        count => left[rng.below(count as u64) as usize],
    };
    match session.db().drain_schema(&cf, &any.id) {
        Ok(status) => assert!(any.ranges == 0 && status.id == any.id, "a drain of {any:?}"),
        Err(error) if error.kind() == ErrorKind::Invalid => {
            assert!(any.ranges > 0, "{error}");
        }
        // It may have ended since it was listed; or somebody holds a family that is gone.
        Err(error) => {
            let excused = error.kind() == ErrorKind::NotFound || session.excused(&error);
            assert!(excused, "a drain was not begun: {error}");
        }
    }
}

/// A drain is paused, resumed or cancelled.
pub(crate) fn steer(session: &mut Session<'_>, rng: &mut Rng) {
    note_ended(session);
    let cf = session.family(rng);
    let drains: Vec<_> =
        session.db().drains().into_iter().filter(|drain| drain.cf == cf.name()).collect();
    if drains.is_empty() {
        return;
    }
    let id = &drains[rng.below(drains.len() as u64) as usize].id;
    let outcome = match rng.below(5) {
        0 | 1 => session.db().pause_drain(&cf, id),
        2 | 3 => session.db().resume_drain(&cf, id),
        _ => session.db().cancel_drain(&cf, id),
    };
    if let Err(error) = outcome {
        assert!(session.excused(&error), "a drain was not steered: {error}");
    }
}

/// Checks the drains that have ended, and keeps what they said for the next openings.
fn note_ended(session: &mut Session<'_>) {
    for status in session.db().drains().into_iter().filter(|s| s.state == DrainState::Done) {
        let left = session.db().schema_tables(&status.id.name);
        let left = left.iter().find(|table| table.cf == status.cf && table.id == status.id);
        assert!(left.is_none(), "drained, and there is {left:?}");
        let Some(cf) = session.db().column_family(&status.cf) else { continue };
        if let Some(family) = session.families().get_mut(&cf.id()) {
            family.drained.insert(status.id);
        }
    }
}
