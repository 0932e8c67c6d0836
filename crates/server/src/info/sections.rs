//! The sections of INFO about state: server, clients, memory, persistence, replication, cpu,
//! cluster, keyspace.

use std::sync::atomic::Ordering;

use super::{Section, process};
use crate::REDIS_VERSION;
use crate::shared::Shared;

pub(super) fn server(shared: &Shared, out: &mut Section) {
    let uptime = shared.clock.monotonic_us().saturating_sub(shared.started_us) / 1_000_000;
    let now_ms = shared.clock.unix_ms();
    let port = shared.addresses.get().and_then(|all| all.first()).map_or(0, |first| first.port());
    let config = shared.config();
    out.line("redis_version", REDIS_VERSION);
    out.line("redis_git_sha1", "00000000");
    out.line("redis_git_dirty", 0);
    out.line("redis_build_id", 0);
    out.line("redis_mode", "standalone");
    out.line("sluicedb_version", env!("CARGO_PKG_VERSION"));
    out.line("os", process::system());
    out.line("arch_bits", usize::BITS);
    out.line("monotonic_clock", "POSIX clock_gettime");
    out.line("multiplexing_api", "epoll");
    out.line("process_id", std::process::id());
    out.line("process_supervised", "no");
    out.line("run_id", &shared.run_id);
    out.line("tcp_port", port);
    out.line("server_time_usec", now_ms * 1000);
    out.line("uptime_in_seconds", uptime);
    out.line("uptime_in_days", uptime / 86_400);
    out.line("hz", config.get("hz"));
    out.line("configured_hz", config.get("hz"));
    out.line("lru_clock", (now_ms / 1000) & 0xff_ffff);
    out.line("executable", std::env::current_exe().unwrap_or_default().display());
    out.line("config_file", config.path().map_or(String::new(), |path| path.display().to_string()));
    out.line("io_threads_active", u8::from(shared.stats.len() > 1));
    out.line("workers_active", shared.active_workers.load(Ordering::Relaxed));
    out.line("workers", shared.stats.len());
}

pub(super) fn clients(shared: &Shared, out: &mut Section) {
    let all = shared.clients.all();
    let waiting = all.iter().filter(|client| client.waiting.load(Ordering::Relaxed)).count();
    let largest = |of: fn(&crate::clients::Client) -> u64| {
        all.iter().map(|client| of(client)).max().unwrap_or(0)
    };
    out.line("connected_clients", shared.clients.count());
    out.line("cluster_connections", 0);
    out.line("maxclients", shared.settings().maxclients);
    out.line(
        "client_recent_max_input_buffer",
        largest(|client| client.input_bytes.load(Ordering::Relaxed)),
    );
    out.line(
        "client_recent_max_output_buffer",
        largest(|client| client.output_bytes.load(Ordering::Relaxed)),
    );
    out.line("blocked_clients", waiting);
    out.line("tracking_clients", 0);
    out.line("pubsub_clients", all.iter().filter(|client| client.is_subscriber()).count());
    out.line("clients_in_timeout_table", 0);
}

pub(super) fn memory(shared: &Shared, out: &mut Section) {
    let engine = shared.db.stats();
    let clients: u64 = shared
        .clients
        .all()
        .iter()
        .map(|client| {
            client.output_bytes.load(Ordering::Relaxed)
                + client.input_bytes.load(Ordering::Relaxed)
                + client.input_room.load(Ordering::Relaxed)
                + client.queued_bytes.load(Ordering::Relaxed)
        })
        .sum();
    let engine_bytes = engine.memtable_bytes + engine.block_cache_bytes + engine.table_pinned_bytes;
    let used = engine_bytes + clients;
    let resident = process::resident_bytes();
    let peak = shared.peak_memory.fetch_max(used, Ordering::Relaxed).max(used);
    let config = shared.config();
    let number = |name: &str| config.get(name).parse::<u64>().unwrap_or(0);
    out.bytes("used_memory", used);
    out.bytes("used_memory_rss", resident);
    out.bytes("used_memory_peak", peak);
    out.line("used_memory_peak_perc", format!("{:.2}%", used as f64 * 100.0 / peak.max(1) as f64));
    out.line("used_memory_overhead", clients);
    out.line("used_memory_startup", 0);
    out.line("used_memory_dataset", engine_bytes);
    out.bytes("total_system_memory", process::machine_bytes());
    out.bytes("used_memory_lua", 0);
    out.bytes("maxmemory", number("maxmemory"));
    out.line("maxmemory_policy", config.get("maxmemory-policy"));
    out.bytes("memory_budget", shared.db.tunables().memory_budget);
    out.line("memtable_bytes", engine.memtable_bytes);
    out.line("sealed_memtables", engine.sealed_memtables);
    out.line("block_cache_bytes", engine.block_cache_bytes);
    out.line("table_pinned_bytes", engine.table_pinned_bytes);
    out.line("mem_fragmentation_ratio", format!("{:.2}", resident as f64 / used.max(1) as f64));
    out.line("mem_clients_slaves", 0);
    out.line("mem_clients_normal", clients);
    out.line("mem_allocator", "mimalloc");
    out.line("active_defrag_running", 0);
    out.line("lazyfree_pending_objects", 0);
}

pub(super) fn persistence(shared: &Shared, out: &mut Section) {
    let settings = shared.settings();
    let engine = shared.db.stats();
    let positions = shared.db.positions();
    out.line("loading", 0);
    out.line("async_loading", 0);
    let save = shared.saves.state();
    let saved = save.last_position.map_or(0, |position| position.seq.0);
    let second = |us: u64| (us / 1_000_000) as i64;
    let running =
        save.running_since_us.map(|since| shared.clock.monotonic_us().saturating_sub(since));
    out.line("rdb_changes_since_last_save", positions.visible.seq.0.saturating_sub(saved));
    out.line("rdb_bgsave_in_progress", u8::from(running.is_some()));
    out.line("rdb_last_save_time", save.last_ms.unwrap_or(shared.started_ms) / 1000);
    out.line("rdb_last_bgsave_status", if save.failed { "err" } else { "ok" });
    out.line("rdb_last_bgsave_time_sec", save.last_took_us.map_or(-1, second));
    out.line("rdb_current_bgsave_time_sec", running.map_or(-1, second));
    out.line("rdb_saves", save.count);
    out.line("aof_enabled", u8::from(settings.log));
    out.line("aof_rewrite_in_progress", 0);
    out.line("aof_rewrite_scheduled", 0);
    out.line("aof_last_rewrite_time_sec", -1);
    out.line("aof_current_rewrite_time_sec", -1);
    out.line("aof_last_bgrewrite_status", "ok");
    let errors = &engine.background_errors;
    let log_fails = errors.iter().any(|error| error.job == "log");
    out.line("aof_last_write_status", if log_fails { "err" } else { "ok" });
    out.line("position_visible", positions.visible);
    out.line("position_durable", positions.durable);
    out.line("position_flushed", positions.flushed);
    out.line("wal_bytes", engine.wal_bytes);
    out.line("table_files", engine.table_files);
    out.line("table_bytes", engine.table_bytes);
    out.line("flushes", engine.flushes);
    out.line("compactions", engine.compactions);
    out.line("reserved_bytes", engine.reserved_bytes);
    out.line("background_errors", errors.len());
    for (index, error) in errors.iter().enumerate() {
        let line = format!("background_error_{index}");
        out.line(&line, error.to_string().replace(['\r', '\n'], " "));
        out.line(&format!("{line}_kind"), error.kind.name());
        out.line(&format!("{line}_attempts"), error.attempts);
        out.line(&format!("{line}_since"), error.since_unix_ms / 1000);
        out.line(&format!("{line}_blocks_writes"), u8::from(error.blocks_writes));
    }
}

pub(super) fn replication(shared: &Shared, out: &mut Section) {
    out.line("role", "master");
    out.line("connected_slaves", 0);
    out.line("master_failover_state", "no-failover");
    out.line("master_replid", &shared.run_id);
    out.line("master_replid2", "0".repeat(40));
    out.line("master_repl_offset", 0);
    out.line("second_repl_offset", -1);
    out.line("repl_backlog_active", 0);
    out.line("repl_backlog_size", 0);
    out.line("repl_backlog_first_byte_offset", 0);
    out.line("repl_backlog_histlen", 0);
}

pub(super) fn cpu(_: &Shared, out: &mut Section) {
    let time = process::cpu_time();
    out.line("used_cpu_sys", format!("{:.6}", time.system));
    out.line("used_cpu_user", format!("{:.6}", time.user));
    out.line("used_cpu_sys_children", format!("{:.6}", time.children_system));
    out.line("used_cpu_user_children", format!("{:.6}", time.children_user));
}

pub(super) fn cluster(_: &Shared, out: &mut Section) {
    out.line("cluster_enabled", 0);
}

pub(super) fn keyspace(shared: &Shared, out: &mut Section) {
    for db in 0..shared.settings().databases {
        let stats = shared.keyspace.stats(db);
        if stats.keys > 0 {
            let (keys, expires) = (stats.keys, stats.expires);
            out.line(&format!("db{db}"), format!("keys={keys},expires={expires},avg_ttl=0"));
        }
    }
}
