//! The gate worked by hand while the writers write: every way to flush, to sync and to save.
//!
//! Each flush that returns covers what was acknowledged before its command was sent; each save holds
//! at least that.

use std::io;
use std::sync::atomic::Ordering::SeqCst;

use sluicedb::env::Rng;

use super::{Progress, Shared};
use crate::common::client::{Client, Reply};

/// One connection's work.
pub struct Gate<'a> {
    pub client: Client,
    pub progress: &'a [Progress],
    pub shared: &'a Shared,
}

impl Gate<'_> {
    /// One thing, drawn.
    pub fn work(&mut self, rng: &mut Rng) -> io::Result<()> {
        match rng.below(20) {
            0..3 => self.flush(&["FLUSHMEMTABLE"]),
            3 => self.flush(&["FLUSHMEMTABLE", "CF", "meta", "expire"]),
            4 => self.flush(&["FLUSHMEMTABLE", "REPORT"]),
            5 => self.flush(&["MEMTABLE", "FLUSH", "TIMEOUT", "1"]),
            6..9 => self.flush_by_ticket(false),
            9 => self.flush_by_ticket(true),
            10..13 => self.save(&["SAVE"]),
            13..15 => self.save(&["BGSAVE"]),
            15 => self.ask(&["WAL", "SYNC"]).map(drop),
            16 => self.ask(&["WAL", "ROTATE"]).map(drop),
            17 => self.client.ask(&["COMPACT"]).map(drop),
            _ => {
                let level = ["always", "everysec", "no"][rng.below(3) as usize];
                self.ask(&["CONFIG", "SET", "appendfsync", level]).map(drop)
            }
        }
    }

    fn ask(&mut self, command: &[&str]) -> io::Result<Reply> {
        let reply = self.client.ask(command)?;
        assert!(!matches!(reply, Reply::Error(_)), "{command:?} was answered {reply:?}");
        Ok(reply)
    }

    /// The value of a line of INFO persistence.
    fn persistence(&mut self, name: &str) -> io::Result<String> {
        let info = self.client.ask(&["INFO", "persistence"])?.text();
        let line = info.lines().find_map(|line| line.strip_prefix(name));
        Ok(line.expect("a line of INFO").to_owned())
    }

    fn acked(&self) -> (Vec<u64>, u64) {
        let each = self.progress.iter().map(|progress| progress.acked.load(SeqCst));
        (each.collect(), self.shared.acked.load(SeqCst))
    }

    fn covered(&self, (acked, shared): (Vec<u64>, u64)) {
        for (progress, acked) in self.progress.iter().zip(acked) {
            progress.covered.fetch_max(acked, SeqCst);
        }
        self.shared.covered.fetch_max(shared, SeqCst);
    }

    fn flush(&mut self, command: &[&str]) -> io::Result<()> {
        let acked = self.acked();
        match self.client.ask(command)? {
            Reply::Error(text) if text.starts_with("TIMEOUT") => return Ok(()),
            reply => assert!(!matches!(reply, Reply::Error(_)), "{command:?}: {reply:?}"),
        }
        self.covered(acked);
        Ok(())
    }

    /// ASYNC, and a wait for the ticket, or for the position that was visible before.
    fn flush_by_ticket(&mut self, by_position: bool) -> io::Result<()> {
        let acked = self.acked();
        let visible = match by_position {
            true => Some(self.persistence("position_visible:")?),
            false => None,
        };
        let ticket = self.ask(&["FLUSHMEMTABLE", "ASYNC", "REPORT"])?;
        let ticket = ticket.array()[1].integer().to_string();
        self.ask(&["MEMTABLE", "WAIT", visible.as_deref().unwrap_or(&ticket)])?;
        self.covered(acked);
        Ok(())
    }

    /// SAVE or BGSAVE, and waits for its end.
    pub fn save(&mut self, command: &[&str]) -> io::Result<()> {
        let (acked, shared) = self.acked();
        self.ask(command)?;
        while self.persistence("rdb_bgsave_in_progress:")? != "0" {
            std::thread::yield_now();
        }
        assert_eq!(self.persistence("rdb_last_bgsave_status:")?, "ok");
        // A save flushes everything first.
        for (progress, acked) in self.progress.iter().zip(&acked) {
            progress.saved.fetch_max(*acked, SeqCst);
        }
        self.shared.saved.fetch_max(shared, SeqCst);
        self.shared.has_save.store(true, SeqCst);
        self.covered((acked, shared));
        Ok(())
    }
}
