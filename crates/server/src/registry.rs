//! The command table: every row of every family, found by name without an allocation, in any case.
//!
//! Rows come from the families' `COMMANDS`; a container's subcommands are rows of their own, with
//! a full name like `client|kill`. A row's number ([`CommandId`]) is its index here: statistics,
//! queued commands and the client list keep that number.

use std::sync::OnceLock;

use crate::command::{Command, Flags};
use crate::commands;

/// The number of a row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommandId(pub(crate) u16);

/// A row as the server uses it.
pub struct Entry {
    pub(crate) id: CommandId,
    pub(crate) row: Command,
    /// `get`, `client|kill`.
    pub(crate) full_name: String,
    pub(crate) parent: Option<CommandId>,
    pub(crate) subcommands: Vec<CommandId>,
}

impl Entry {
    pub(crate) fn has(&self, flag: Flags) -> bool {
        self.row.flags.has(flag)
    }
}

/// All rows and the index from name to row.
pub(crate) struct Table {
    entries: Vec<Entry>,
    /// Open addressing with linear probing; `EMPTY` or a row number. At most a quarter is in use,
    /// so a search ends after a step or two.
    slots: Box<[u16]>,
}

const EMPTY: u16 = u16::MAX;

/// The table; built at the first call.
pub(crate) fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| Table::new(&commands::ALL, &commands::SUBCOMMANDS))
}

impl Table {
    fn new(families: &[&[Command]], subcommands: &[&[(&str, Command)]]) -> Table {
        let mut entries: Vec<Entry> = Vec::new();
        for row in families.iter().copied().flatten() {
            if entries.iter().any(|entry| entry.row.name == row.name) {
                debug_assert!(false, "the command {} has two rows", row.name);
                continue;
            }
            entries.push(Entry {
                id: CommandId(entries.len() as u16),
                row: *row,
                full_name: row.name.to_owned(),
                parent: None,
                subcommands: Vec::new(),
            });
        }
        let top_count = entries.len();
        for (parent, row) in subcommands.iter().copied().flatten() {
            let Some(at) = entries[..top_count].iter().position(|entry| entry.row.name == *parent)
            else {
                debug_assert!(false, "{parent}|{} has no parent", row.name);
                continue;
            };
            let id = CommandId(entries.len() as u16);
            entries[at].subcommands.push(id);
            entries.push(Entry {
                id,
                row: *row,
                full_name: format!("{parent}|{}", row.name),
                parent: Some(CommandId(at as u16)),
                subcommands: Vec::new(),
            });
        }
        let size = (top_count * 4).next_power_of_two().max(16);
        let mut slots = vec![EMPTY; size].into_boxed_slice();
        for entry in &entries[..top_count] {
            let mut slot = hash(entry.row.name.as_bytes()) as usize & (size - 1);
            while slots[slot] != EMPTY {
                slot = (slot + 1) & (size - 1);
            }
            slots[slot] = entry.id.0;
        }
        Table { entries, slots }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Top-level commands, in table order.
    pub(crate) fn commands(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.parent.is_none())
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub(crate) fn entry(&self, id: CommandId) -> &Entry {
        &self.entries[usize::from(id.0)]
    }

    /// The top-level command called `name`, in any case.
    #[inline]
    pub(crate) fn find(&self, name: &[u8]) -> Option<&Entry> {
        let mask = self.slots.len() - 1;
        let mut slot = hash(name) as usize & mask;
        loop {
            let number = self.slots[slot];
            if number == EMPTY {
                return None;
            }
            let entry = &self.entries[usize::from(number)];
            if entry.row.name.as_bytes().eq_ignore_ascii_case(name) {
                return Some(entry);
            }
            slot = (slot + 1) & mask;
        }
    }

    pub(crate) fn find_subcommand(&self, parent: &Entry, name: &[u8]) -> Option<&Entry> {
        let mut subcommands = parent.subcommands.iter().map(|id| self.entry(*id));
        subcommands.find(|entry| entry.row.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// `get`, `client|kill`.
    pub(crate) fn find_full(&self, name: &[u8]) -> Option<&Entry> {
        match name.iter().position(|byte| *byte == b'|') {
            None => self.find(name),
            Some(split) => self.find_subcommand(self.find(&name[..split])?, &name[split + 1..]),
        }
    }
}

/// Folds a name eight bytes at a time; the case bit is set in every byte, so that names that differ
/// in case alone meet (other bytes that meet are told apart by the comparison).
#[inline]
fn hash(name: &[u8]) -> u64 {
    let mut state = name.len() as u64;
    for chunk in name.chunks(8).take(4) {
        let mut bytes = [0u8; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        let word = u64::from_le_bytes(bytes) | 0x2020_2020_2020_2020;
        state = (state ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        state ^= state >> 29;
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case() {
        let table = table();
        for entry in table.commands() {
            let found = table.find(entry.row.name.to_ascii_uppercase().as_bytes()).unwrap();
            assert_eq!(found.id, entry.id);
            assert_eq!(entry.row.name, entry.row.name.to_ascii_lowercase());
        }
        assert!(table.find(b"no-such-command").is_none());
        assert!(table.find(b"").is_none());
        assert!(table.find(&[0xff; 100]).is_none());
        assert_eq!(table.find_full(b"CLIENT|Kill").unwrap().full_name, "client|kill");
    }
}
