//! What one boot of the machine does: the server's options, what each writer is promised, how long.

use sluice_env::Rng;

pub const WRITERS: usize = 5;

/// What a writer's connection asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// What `appendonly` and `appendfsync` say.
    Default,
    Memory,
    Os,
    Disk,
}

#[derive(Debug, Clone)]
pub struct Plan {
    options: Vec<String>,
    /// `appendonly yes`.
    log: bool,
    /// `appendfsync always`.
    always: bool,
    acks: [Ack; WRITERS],
    /// Somebody sends FLUSHMEMTABLE now and then. Each commits the file system's journal, and so hides
    /// what else was not synced.
    pub flushes: bool,
    /// How the machine mounts its disk.
    pub mount: String,
    /// The machine's kernel writes dirty pages out at once, instead of after seconds.
    pub writes_early: bool,
    /// From the first write to the cut.
    pub load_ms: u64,
}

impl Default for Plan {
    /// A server as it comes.
    fn default() -> Plan {
        let acks = [Ack::Default; WRITERS];
        let (options, mount) = (Vec::new(), String::new());
        Plan {
            options,
            log: true,
            always: false,
            acks,
            flushes: false,
            mount,
            writes_early: false,
            load_ms: 0,
        }
    }
}

impl Plan {
    /// `mixed`: one writer of each kind and another of `Disk`. Otherwise all are as the server says.
    pub fn random(mixed: bool, fs: &str, rng: &mut Rng) -> Plan {
        let pick = |rng: &mut Rng, of: &[&str]| of[rng.below(of.len() as u64) as usize].to_owned();
        // Large memtables, a small log that is recycled, and nothing else that would commit the file
        // system's journal: what the log's own directory syncs are worth shows here alone.
        let recycles = rng.one_in(5);
        let (memtables, segments, logs): (&[&str], &[&str], &[&str]) = match recycles {
            true => (&["64mb"], &["1mb"], &["8mb"]),
            false => (&["64kb", "256kb", "1mb", "64mb"], &["1mb", "4mb"], &["8mb", "64mb"]),
        };
        let log = recycles || !rng.one_in(4);
        let sync = pick(rng, &["always", "always", "everysec", "no"]);
        let acks = match mixed {
            true => [Ack::Disk, Ack::Os, Ack::Memory, Ack::Default, Ack::Disk],
            false => [Ack::Default; WRITERS],
        };
        let options = vec![
            format!("--appendonly {}", if log { "yes" } else { "no" }),
            format!("--appendfsync {sync}"),
            format!("--memtable-bytes {}", pick(rng, memtables)),
            format!("--memtable-count {}", pick(rng, &["2", "3", "5"])),
            format!("--wal-segment-bytes {}", pick(rng, segments)),
            format!("--wal-max-bytes {}", pick(rng, logs)),
            format!("--flush-threads {}", pick(rng, &["1", "2"])),
            "--memory-budget 64mb --memtable-wait-timeout -1 --workers 2".to_owned(),
        ];
        let longest_ms = if rng.one_in(3) { 8000 } else { 2500 };
        let load_ms = if recycles { 15_000 } else { 200 } + rng.below(longest_ms);
        let mount = match fs {
            // ext4 writes out a file that is renamed over another, unless it is told not to; and what
            // a file holds before its name, unless it is told that this does not matter.
            "ext4" if recycles => "errors=panic,commit=60".to_owned(),
            "ext4" => pick(
                rng,
                &[
                    "errors=panic",
                    "errors=panic,noauto_da_alloc,commit=1",
                    "errors=panic,noauto_da_alloc,data=writeback,commit=1",
                ],
            ),
            _ => "rw".to_owned(),
        };
        let writes_early = !recycles && rng.one_in(2);
        let flushes = !recycles && !rng.one_in(3);
        let always = sync == "always";
        Plan { options, log, always, acks, flushes, mount, writes_early, load_ms }
    }

    /// The server's arguments.
    pub fn words(&self) -> Vec<&str> {
        self.options.iter().flat_map(|option| option.split(' ')).collect()
    }

    pub fn ack(&self, writer: usize) -> Ack {
        self.acks[writer]
    }

    /// True when the writer's operations are in the log.
    pub fn is_logged(&self, writer: usize) -> bool {
        match self.acks[writer] {
            Ack::Default => self.log,
            Ack::Memory => false,
            Ack::Os | Ack::Disk => true,
        }
    }

    /// True when a reply to the writer means that the write survives a power cut.
    pub fn is_durable(&self, writer: usize) -> bool {
        match self.acks[writer] {
            Ack::Default => self.log && self.always,
            Ack::Memory | Ack::Os => false,
            Ack::Disk => true,
        }
    }
}
