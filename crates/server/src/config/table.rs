//! The one table of parameters. Redis's names where Redis has one; those that this server does not
//! act on are there because tools ask for them, and answer what is true here.

use super::kind::Kind;

#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Canonical text.
    pub(crate) default: &'static str,
    /// Only the file and the command line may set it.
    pub(crate) immutable: bool,
}

const fn row(name: &'static str, kind: Kind, default: &'static str) -> Parameter {
    Parameter { name, kind, default, immutable: false }
}

const fn fixed(name: &'static str, kind: Kind, default: &'static str) -> Parameter {
    Parameter { name, kind, default, immutable: true }
}

const INT: Kind = Kind::Int { min: 0, max: i32::MAX as i64 };
const LONG: Kind = Kind::Int { min: 0, max: i64::MAX };
const COUNT: Kind = Kind::Int { min: 1, max: i32::MAX as i64 };
const BYTES: Kind = Kind::Memory { min: 0, max: i64::MAX };
const POLICIES: Kind = Kind::Enum(&[
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "noeviction",
]);

#[rustfmt::skip]
pub(crate) static PARAMETERS: &[Parameter] = &[
    // network
    fixed("bind", Kind::Words, "127.0.0.1 -::1"),
    fixed("port", Kind::Int { min: 0, max: 65535 }, "6379"),
    fixed("tcp-backlog", INT, "511"),
    row("tcp-keepalive", INT, "300"),
    row("timeout", INT, "0"),
    row("protected-mode", Kind::Bool, "yes"),
    row("maxclients", Kind::Int { min: 1, max: u32::MAX as i64 }, "10000"),
    row("proto-max-bulk-len", Kind::Memory { min: 1 << 20, max: i64::MAX }, "536870912"),
    row("client-query-buffer-limit", Kind::Memory { min: 1 << 20, max: i64::MAX }, "1073741824"),
    row("client-output-buffer-limit", Kind::OutputLimits,
        "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"),
    row("client-output-buffer-pause", BYTES, "268435456"),
    fixed("workers", Kind::Int { min: 0, max: 256 }, "0"),
    fixed("unixsocket", Kind::Text, ""),
    fixed("tls-port", INT, "0"),
    // identity, files, log
    fixed("dir", Kind::Text, "./"),
    fixed("databases", Kind::Int { min: 1, max: 16384 }, "16"),
    row("loglevel", Kind::Enum(&["debug", "verbose", "notice", "warning"]), "notice"),
    fixed("logfile", Kind::Text, ""),
    fixed("pidfile", Kind::Text, ""),
    fixed("daemonize", Kind::Bool, "no"),
    fixed("supervised", Kind::Enum(&["upstart", "systemd", "auto", "no"]), "no"),
    row("requirepass", Kind::Text, ""),
    fixed("enable-debug-command", Kind::Enum(&["no", "yes", "local"]), "no"),
    row("shutdown-timeout", INT, "10"),
    row("shutdown-on-sigterm", Kind::Words, "default"),
    row("shutdown-on-sigint", Kind::Words, "default"),
    // durability and memory
    row("appendonly", Kind::Bool, "yes"),
    row("appendfsync", Kind::Enum(&["everysec", "always", "no"]), "everysec"),
    row("save", Kind::Save, ""),
    row("memory-budget", Kind::Memory { min: 0, max: 1 << 50 }, "0"),
    row("memtable-bytes", Kind::Memory { min: 64 << 10, max: 2 << 30 }, "67108864"),
    row("memtable-count", Kind::Int { min: 2, max: 64 }, "5"),
    row("memtable-wait-timeout", Kind::Int { min: -1, max: i32::MAX as i64 }, "100"),
    row("flush-age", INT, "3600"),
    row("flush-idle", INT, "0"),
    row("flush-tombstones", LONG, "100000"),
    row("flush-threads", Kind::Int { min: 1, max: 64 }, "1"),
    row("recovery-time-target", INT, "0"),
    row("wal-segment-bytes", Kind::Memory { min: 1 << 20, max: 1 << 30 }, "67108864"),
    row("wal-max-bytes", Kind::Memory { min: 1 << 20, max: 1 << 50 }, "536870912"),
    fixed("compaction-threads", Kind::Int { min: 1, max: 64 }, "1"),
    row("maxmemory", BYTES, "0"),
    row("maxmemory-policy", POLICIES, "noeviction"),
    row("maxmemory-samples", COUNT, "5"),
    row("maxmemory-clients", BYTES, "0"),
    // observation
    row("slowlog-log-slower-than", Kind::Int { min: -1, max: i64::MAX }, "10000"),
    row("slowlog-max-len", LONG, "128"),
    row("latency-monitor-threshold", LONG, "0"),
    row("latency-tracking", Kind::Bool, "yes"),
    row("notify-keyspace-events", Kind::Events, ""),
    row("hz", Kind::Int { min: 0, max: i32::MAX as i64 }, "10"),
    row("dynamic-hz", Kind::Bool, "yes"),
    // asked for by tools and clients
    row("lfu-log-factor", INT, "10"),
    row("lfu-decay-time", INT, "1"),
    row("lazyfree-lazy-eviction", Kind::Bool, "no"),
    row("lazyfree-lazy-expire", Kind::Bool, "no"),
    row("lazyfree-lazy-server-del", Kind::Bool, "no"),
    row("lazyfree-lazy-user-del", Kind::Bool, "no"),
    row("lazyfree-lazy-user-flush", Kind::Bool, "no"),
    row("activerehashing", Kind::Bool, "yes"),
    row("activedefrag", Kind::Bool, "no"),
    row("active-expire-effort", Kind::Int { min: 1, max: 10 }, "1"),
    fixed("io-threads", Kind::Int { min: 1, max: 128 }, "1"),
    fixed("io-threads-do-reads", Kind::Bool, "no"),
    fixed("cluster-enabled", Kind::Bool, "no"),
    row("lua-time-limit", LONG, "5000"),
    row("busy-reply-threshold", LONG, "5000"),
    row("dbfilename", Kind::Text, "dump.rdb"),
    row("rdbcompression", Kind::Bool, "yes"),
    row("rdbchecksum", Kind::Bool, "yes"),
    row("stop-writes-on-bgsave-error", Kind::Bool, "yes"),
    fixed("appendfilename", Kind::Text, "appendonly.aof"),
    fixed("appenddirname", Kind::Text, "appendonlydir"),
    row("no-appendfsync-on-rewrite", Kind::Bool, "no"),
    row("auto-aof-rewrite-percentage", INT, "100"),
    row("auto-aof-rewrite-min-size", BYTES, "67108864"),
    row("aof-load-truncated", Kind::Bool, "yes"),
    fixed("aof-use-rdb-preamble", Kind::Bool, "yes"),
    row("replica-read-only", Kind::Bool, "yes"),
    row("replica-serve-stale-data", Kind::Bool, "yes"),
    row("replica-priority", INT, "100"),
    row("replica-announce-ip", Kind::Text, ""),
    row("replica-announce-port", Kind::Int { min: 0, max: 65535 }, "0"),
    row("repl-backlog-size", Kind::Memory { min: 1, max: i64::MAX }, "1048576"),
    row("repl-backlog-ttl", LONG, "3600"),
    row("repl-timeout", COUNT, "60"),
    row("repl-ping-replica-period", COUNT, "10"),
    row("repl-diskless-sync", Kind::Bool, "yes"),
    row("repl-disable-tcp-nodelay", Kind::Bool, "no"),
    row("min-replicas-to-write", INT, "0"),
    row("min-replicas-max-lag", INT, "10"),
    fixed("replicaof", Kind::Words, ""),
    row("masterauth", Kind::Text, ""),
    row("masteruser", Kind::Text, ""),
    row("tracking-table-max-keys", LONG, "1000000"),
    row("hash-max-listpack-entries", LONG, "512"),
    row("hash-max-listpack-value", LONG, "64"),
    row("list-max-listpack-size", Kind::Int { min: i32::MIN as i64, max: i32::MAX as i64 }, "-2"),
    row("list-compress-depth", INT, "0"),
    row("set-max-intset-entries", LONG, "512"),
    row("set-max-listpack-entries", LONG, "128"),
    row("set-max-listpack-value", LONG, "64"),
    row("zset-max-listpack-entries", LONG, "128"),
    row("zset-max-listpack-value", LONG, "64"),
    row("hll-sparse-max-bytes", BYTES, "3000"),
    row("stream-node-max-bytes", BYTES, "4096"),
    row("stream-node-max-entries", LONG, "100"),
    row("acllog-max-len", LONG, "128"),
    row("sanitize-dump-payload", Kind::Enum(&["no", "yes", "clients"]), "no"),
];

/// Older names, accepted wherever the new one is.
const ALIASES: &[(&str, &str)] = &[
    ("hash-max-ziplist-entries", "hash-max-listpack-entries"),
    ("hash-max-ziplist-value", "hash-max-listpack-value"),
    ("list-max-ziplist-size", "list-max-listpack-size"),
    ("zset-max-ziplist-entries", "zset-max-listpack-entries"),
    ("zset-max-ziplist-value", "zset-max-listpack-value"),
    ("slaveof", "replicaof"),
    ("slave-read-only", "replica-read-only"),
    ("slave-priority", "replica-priority"),
];

/// The index of a parameter in [`PARAMETERS`], by its name or an older one, in any case.
pub(crate) fn find(name: &[u8]) -> Option<usize> {
    let name = ALIASES
        .iter()
        .find(|(old, _)| old.as_bytes().eq_ignore_ascii_case(name))
        .map_or(name, |(_, new)| new.as_bytes());
    PARAMETERS.iter().position(|parameter| parameter.name.as_bytes().eq_ignore_ascii_case(name))
}

/// Every name with its index, older names included.
pub(crate) fn names() -> impl Iterator<Item = (&'static str, usize)> {
    let own = PARAMETERS.iter().enumerate().map(|(index, parameter)| (parameter.name, index));
    let old = ALIASES.iter().filter_map(|(old, new)| Some((*old, find(new.as_bytes())?)));
    own.chain(old)
}
