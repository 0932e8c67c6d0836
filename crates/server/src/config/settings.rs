//! The values that hot paths read, typed. Built from a [`Config`] at each change; a thread keeps
//! an `Arc` of one until the version moves on.

use std::time::Duration;

use super::{Config, parse_memory};

/// Who may use DEBUG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DebugCommands {
    No,
    /// Connections from this machine.
    Local,
    Yes,
}

/// When a reply to a write may leave, and when the log is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Replies wait until the log is durable.
    Always,
    /// Replies wait until the operating system has the log; it is synced every second.
    EverySecond,
    /// As `EverySecond`, without a sync of our own.
    No,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub databases: u32,
    pub maxclients: usize,
    /// Idle clients are closed after this long; zero: never.
    pub timeout: Duration,
    pub tcp_keepalive: Duration,
    pub bulk_bytes_max: usize,
    pub query_bytes_max: usize,
    /// `client-output-buffer-limit normal`: close above `hard`, or above `soft` for `soft_time`.
    pub output_hard: usize,
    pub output_soft: usize,
    pub output_soft_time: Duration,
    /// Above this much unsent output a client's commands wait until it reads; 0: never.
    pub output_pause: usize,
    pub password: Vec<u8>,
    pub protected: bool,
    pub log: bool,
    pub fsync: Fsync,
    /// Longest wait for memtable room; `None`: for ever.
    pub stall_wait: Option<Duration>,
    /// Microseconds; negative: off.
    pub slowlog_us: i64,
    pub slowlog_len: usize,
    pub debug_commands: DebugCommands,
}

impl Settings {
    pub(crate) fn new(config: &Config) -> Settings {
        let number = |name: &str| config.get(name).parse::<i64>().unwrap_or(0);
        let size = |name: &str| usize::try_from(number(name)).unwrap_or(usize::MAX);
        let seconds = |name: &str| Duration::from_secs(number(name).max(0) as u64);
        let yes = |name: &str| config.get(name) == "yes";
        // The first group is `normal hard soft seconds`.
        let limits: Vec<u64> = config
            .get("client-output-buffer-limit")
            .split_whitespace()
            .take(4)
            .skip(1)
            .map(|word| parse_memory(word).unwrap_or(0))
            .collect();
        let limit = |index: usize| limits.get(index).copied().unwrap_or(0);
        Settings {
            databases: number("databases") as u32,
            maxclients: size("maxclients"),
            timeout: seconds("timeout"),
            tcp_keepalive: seconds("tcp-keepalive"),
            bulk_bytes_max: size("proto-max-bulk-len"),
            query_bytes_max: size("client-query-buffer-limit"),
            output_hard: limit(0) as usize,
            output_soft: limit(1) as usize,
            output_soft_time: Duration::from_secs(limit(2)),
            output_pause: size("client-output-buffer-pause"),
            password: config.get("requirepass").as_bytes().to_vec(),
            protected: yes("protected-mode"),
            log: yes("appendonly"),
            fsync: match config.get("appendfsync") {
                "always" => Fsync::Always,
                "no" => Fsync::No,
                _ => Fsync::EverySecond,
            },
            stall_wait: u64::try_from(number("memtable-wait-timeout"))
                .ok()
                .map(Duration::from_millis),
            slowlog_us: number("slowlog-log-slower-than"),
            slowlog_len: size("slowlog-max-len"),
            debug_commands: match config.get("enable-debug-command") {
                "yes" => DebugCommands::Yes,
                "local" => DebugCommands::Local,
                _ => DebugCommands::No,
            },
        }
    }
}
