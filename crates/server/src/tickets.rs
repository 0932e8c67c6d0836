//! The numbers under which `FLUSHMEMTABLE ASYNC REPORT` can be asked about later: a bounded table of
//! recent flushes, common to all connections. Numbers begin at 1 and are never used twice; the
//! oldest finished flush is forgotten when room is needed, one under way never.

use std::collections::VecDeque;
use std::sync::Mutex;

use sluicedb::FlushTicket;

/// Flushes kept. A finished one is a report of a few hundred bytes.
const KEPT_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Tickets(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: u64,
    kept: VecDeque<(u64, FlushTicket)>,
}

/// What the table knows of a number.
#[derive(Debug)]
pub(crate) enum Found {
    Ticket(FlushTicket),
    /// It was given out once.
    Forgotten,
    Unknown,
}

impl Tickets {
    /// Whether another flush can be kept, as far as one can know before it begins.
    pub(crate) fn has_room(&self) -> bool {
        let state = crate::lock(&self.0);
        state.kept.len() < KEPT_MAX || state.kept.iter().any(|(_, ticket)| is_done(ticket))
    }

    /// Keeps a ticket and gives it a number. Beyond the bound by as many as are added between the
    /// look of [`has_room`](Self::has_room) and here: one a worker thread.
    pub(crate) fn add(&self, ticket: FlushTicket) -> u64 {
        let mut state = crate::lock(&self.0);
        if state.kept.len() >= KEPT_MAX
            && let Some(at) = state.kept.iter().position(|(_, ticket)| is_done(ticket))
        {
            state.kept.remove(at);
        }
        state.last += 1;
        let number = state.last;
        state.kept.push_back((number, ticket));
        number
    }

    pub(crate) fn find(&self, number: u64) -> Found {
        let state = crate::lock(&self.0);
        let ticket = state.kept.iter().find(|(kept, _)| *kept == number);
        match ticket {
            Some((_, ticket)) => Found::Ticket(ticket.clone()),
            None if (1..=state.last).contains(&number) => Found::Forgotten,
            None => Found::Unknown,
        }
    }
}

fn is_done(ticket: &FlushTicket) -> bool {
    ticket.poll().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluicedb::{Background, Db, FlushRequest, Options};

    #[test]
    fn finished_flushes_are_forgotten_oldest_first_and_others_never() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { background: Background::Stepped, ..Options::default() };
        let db = Db::open(dir.path(), options).unwrap();
        let tickets = Tickets::default();
        assert!(matches!(tickets.find(0), Found::Unknown));
        db.put(&db.default_cf(), b"k", b"v").unwrap();
        // The first one stands until a step is taken; those without data end at once.
        let first = db.flush(FlushRequest::default()).unwrap();
        assert_eq!(tickets.add(first.clone()), 1);
        while db.step() {}
        let empty = || db.flush(FlushRequest::default()).unwrap();
        db.put(&db.default_cf(), b"k", b"w").unwrap();
        let standing = empty();
        assert!(standing.poll().is_none());
        assert_eq!(tickets.add(standing), 2);
        for number in 3..=KEPT_MAX as u64 {
            assert_eq!(tickets.add(first.clone()), number);
        }
        assert!(matches!(tickets.find(1), Found::Ticket(_)));
        assert!(tickets.has_room(), "finished ones can go");
        for _ in 0..3 {
            tickets.add(first.clone());
        }
        assert!(matches!(tickets.find(1), Found::Forgotten));
        assert!(matches!(tickets.find(2), Found::Ticket(_)), "it has not finished");
        assert!(matches!(tickets.find(3), Found::Forgotten));
        assert!(matches!(tickets.find(4), Found::Forgotten));
        assert!(matches!(tickets.find(5), Found::Ticket(_)));
        assert!(matches!(tickets.find(KEPT_MAX as u64 + 4), Found::Unknown));
        assert_eq!(crate::lock(&tickets.0).kept.len(), KEPT_MAX);
    }
}
