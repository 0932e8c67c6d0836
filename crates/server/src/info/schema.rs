//! The section of INFO about key schemas: what is under each, and how far drains are.

use super::Section;
use crate::shared::Shared;

pub(super) fn schema(shared: &Shared, out: &mut Section) {
    let (usage, drains) = (shared.db.schema_usage(), shared.db.drains());
    let is_running = |drain: &&sluicedb::DrainStatus| drain.state != sluicedb::DrainState::Done;
    out.line("schemas", usage.len());
    out.line("schema_drains", drains.iter().filter(is_running).count());
    // What an operator waits for to be zero after a change.
    let old = || usage.iter().filter(|usage| usage.ranges == 0);
    out.line("schema_old_tables", old().map(|usage| usage.tables).sum::<u64>());
    out.line("schema_old_bytes", old().map(|usage| usage.bytes).sum::<u64>());
    for (index, usage) in usage.iter().enumerate() {
        out.line(
            &format!("schema{index}"),
            format!(
                "column_family={},name={},version={},hash={:016x},ranges={},tables={},bytes={},\
                 entries={}",
                usage.cf,
                usage.schema.public_name(),
                usage.id.version,
                usage.id.hash,
                usage.ranges,
                usage.tables,
                usage.bytes,
                usage.entries,
            ),
        );
    }
    for (index, drain) in drains.iter().enumerate() {
        out.line(
            &format!("drain{index}"),
            format!(
                "column_family={},name={},version={},hash={:016x},state={},tables_left={},\
                 bytes_left={},tables_done={},bytes_done={}",
                drain.cf,
                drain.id.public_name(),
                drain.id.version,
                drain.id.hash,
                drain.state.name(),
                drain.tables_left,
                drain.bytes_left,
                drain.tables_done,
                drain.bytes_done,
            ),
        );
    }
}
