//! The one key that all writers touch: a counter that each increments, at whatever level it writes.
//!
//! INCR leaves a number, and a later one is larger. So what survives is at least the largest that
//! was acknowledged to a logged writer, or to any writer before a flush; and at most what was sent.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use crate::common::client::Client;

const KEY: &str = "shared";

#[derive(Debug, Default)]
pub struct Shared {
    /// What the last start has shown.
    base: u64,
    /// Increments that were sent since.
    sent: AtomicU64,
    /// The highest reply.
    pub acked: AtomicU64,
    /// The highest reply to a logged writer.
    logged: AtomicU64,
    /// As `acked`, at the begin of the last flush that returned.
    pub covered: AtomicU64,
    /// As `acked`, at the begin of the last save that was made.
    pub saved: AtomicU64,
    pub has_save: AtomicBool,
}

impl Shared {
    pub fn increment(&self, client: &mut Client, logged: bool) -> io::Result<()> {
        self.sent.fetch_add(1, SeqCst);
        let value = client.ask(&["INCR", KEY])?.integer() as u64;
        self.acked.fetch_max(value, SeqCst);
        if logged {
            self.logged.fetch_max(value, SeqCst);
        }
        Ok(())
    }

    /// The process has ended; `keeps_all`: by itself.
    pub fn ended(&mut self, keeps_all: bool) {
        let floor = if keeps_all { self.acked.get_mut() } else { self.logged.get_mut() };
        self.covered.fetch_max(*floor, SeqCst);
    }

    /// Whether a save was made since the start.
    pub fn was_saved(&self) -> bool {
        self.has_save.load(SeqCst)
    }

    pub fn check_save(&self, client: &mut Client) {
        self.read(client, self.base.max(self.saved.load(SeqCst)));
    }

    /// Goes on from what is found: the key, if it is there.
    pub fn check(&mut self, client: &mut Client) -> Option<Vec<u8>> {
        let found = self.read(client, self.base.max(self.covered.load(SeqCst)));
        *self = Shared { base: found, ..Shared::default() };
        (found > 0).then(|| KEY.as_bytes().to_vec())
    }

    fn read(&self, client: &mut Client, floor: u64) -> u64 {
        let reply = client.ask(&["GET", KEY]).unwrap();
        let found = reply.bulk().map_or(0, |text| String::from_utf8_lossy(text).parse().unwrap());
        let ceiling = self.base + self.sent.load(SeqCst);
        assert!((floor..=ceiling).contains(&found), "{KEY} is {found}, not {floor}..={ceiling}");
        found
    }
}
