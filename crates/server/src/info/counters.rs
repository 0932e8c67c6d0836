//! The sections of INFO that count: stats, commandstats, errorstats.

use std::sync::atomic::Ordering;

use super::Section;
use crate::pubsub::Kind;
use crate::registry::table;
use crate::shared::Shared;

pub(super) fn stats(shared: &Shared, out: &mut Section) {
    let engine = shared.db.stats();
    let kbps = |rate: u64| format!("{:.2}", rate as f64 / 1024.0);
    let errors: u64 = shared.errors.all().iter().map(|(_, count)| count).sum();
    out.line("total_connections_received", shared.total(|stats| stats.connections.get()));
    out.line("total_commands_processed", shared.total(|stats| stats.processed.get()));
    out.line("instantaneous_ops_per_sec", shared.ops.per_second());
    out.line("total_net_input_bytes", shared.total(|stats| stats.input_bytes.get()));
    out.line("total_net_output_bytes", shared.total(|stats| stats.output_bytes.get()));
    out.line("total_net_repl_input_bytes", 0);
    out.line("total_net_repl_output_bytes", 0);
    out.line("instantaneous_input_kbps", kbps(shared.input_rate.per_second()));
    out.line("instantaneous_output_kbps", kbps(shared.output_rate.per_second()));
    out.line("rejected_connections", shared.total(|stats| stats.rejected_connections.get()));
    out.line("sync_full", 0);
    out.line("sync_partial_ok", 0);
    out.line("sync_partial_err", 0);
    out.line("expired_keys", shared.expired_keys.load(Ordering::Relaxed));
    out.line("expired_stale_perc", "0.00");
    out.line("evicted_keys", 0);
    out.line("keyspace_hits", 0);
    out.line("keyspace_misses", 0);
    out.line("pubsub_channels", shared.pubsub.count(Kind::Channel));
    out.line("pubsub_patterns", shared.pubsub.count(Kind::Pattern));
    out.line("pubsubshard_channels", shared.pubsub.count(Kind::Shard));
    out.line("latest_fork_usec", 0);
    out.line("total_forks", 0);
    out.line("total_error_replies", errors);
    out.line("total_reads_processed", shared.total(|stats| stats.reads.get()));
    out.line("total_writes_processed", shared.total(|stats| stats.writes.get()));
    out.line("log_handovers", shared.total(|stats| stats.log_flushes.get()));
    out.line("stalled_commits", shared.total(|stats| stats.stalls.get()));
    out.line("block_cache_hits", engine.block_cache_hits);
    out.line("block_cache_misses", engine.block_cache_misses);
    out.line("predicate_blocks_skipped", engine.predicate_blocks_skipped);
    out.line("predicate_rows_skipped", engine.predicate_rows_skipped);
    out.line("prefix_tables_skipped", engine.prefix_tables_skipped);
}

pub(super) fn commandstats(shared: &Shared, out: &mut Section) {
    for entry in table().entries() {
        let index = usize::from(entry.id.0);
        let calls = shared.total(|stats| stats.commands[index].calls.get());
        let rejected = shared.total(|stats| stats.commands[index].rejected.get());
        if calls == 0 && rejected == 0 {
            continue;
        }
        let usec = shared.total(|stats| stats.commands[index].usec.get());
        let failed = shared.total(|stats| stats.commands[index].failed.get());
        let each = if calls == 0 { 0.0 } else { usec as f64 / calls as f64 };
        out.line(
            &format!("cmdstat_{}", entry.full_name),
            format!(
                "calls={calls},usec={usec},usec_per_call={each:.2},rejected_calls={rejected},\
                 failed_calls={failed}"
            ),
        );
    }
}

pub(super) fn errorstats(shared: &Shared, out: &mut Section) {
    for (code, count) in shared.errors.all() {
        out.line(&format!("errorstat_{code}"), format!("count={count}"));
    }
}
