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

/// How much unsent output closes a connection: more than `hard` bytes, or more than `soft` for
/// `soft_time`; 0: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputLimit {
    pub hard: usize,
    pub soft: usize,
    pub soft_time: Duration,
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
    /// `client-output-buffer-limit normal`, and `pubsub` for connections that subscribe.
    pub output: OutputLimit,
    pub output_of_subscribers: OutputLimit,
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
        // Groups of `class hard soft seconds`.
        let limits: Vec<&str> =
            config.get("client-output-buffer-limit").split_whitespace().collect();
        let output = |class: &str| {
            let group = limits.chunks(4).find(|group| group.first() == Some(&class));
            let word = |index: usize| group.and_then(|group| group.get(index));
            let value = |index: usize| word(index).and_then(|word| parse_memory(word)).unwrap_or(0);
            OutputLimit {
                hard: value(1) as usize,
                soft: value(2) as usize,
                soft_time: Duration::from_secs(value(3)),
            }
        };
        Settings {
            databases: number("databases") as u32,
            maxclients: size("maxclients"),
            timeout: seconds("timeout"),
            tcp_keepalive: seconds("tcp-keepalive"),
            bulk_bytes_max: size("proto-max-bulk-len"),
            query_bytes_max: size("client-query-buffer-limit"),
            output: output("normal"),
            output_of_subscribers: output("pubsub"),
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
