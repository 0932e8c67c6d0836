//! Runs commands in tests as the connection machinery does, without a connection: finds the row,
//! takes latches, calls the handler, commits or drops.

use crate::command::{CmdError, Command, Ctx, Flags, HandlerKind};
use sluice_keyspace::{Keyspace, KeyspaceOptions, LatchSet, Txn};
use sluice_resp::{Proto, ReplyBuf};

pub(crate) struct Harness {
    pub(crate) keyspace: Keyspace,
    pub(crate) txn: Txn,
    pub(crate) db: u32,
    pub(crate) now_ms: u64,
    _dir: tempfile::TempDir,
}

impl Harness {
    pub(crate) fn new() -> Harness {
        let dir = tempfile::tempdir().unwrap();
        let db = sluicedb::Db::open(dir.path(), sluicedb::Options::default()).unwrap();
        let keyspace = Keyspace::open(db, KeyspaceOptions::default()).unwrap();
        let txn = keyspace.transaction();
        Harness { keyspace, txn, db: 0, now_ms: 1_000_000, _dir: dir }
    }

    fn find(args: &[&[u8]]) -> Command {
        let table = crate::registry::table();
        let entry = table.find(args[0]).expect("a command");
        let subcommand = args.get(1).and_then(|name| table.find_subcommand(entry, name));
        subcommand.unwrap_or(entry).row
    }

    /// The reply of one command, as RESP2 bytes.
    pub(crate) fn run_bytes(&mut self, args: &[&[u8]]) -> Vec<u8> {
        let row = Harness::find(args);
        let mut reply = ReplyBuf::new(Proto::Resp2);
        if let Err(CmdError(text)) = self.run_row(&row, args, &mut reply) {
            reply.truncate(0);
            reply.error(&text);
        }
        reply.bytes().to_vec()
    }

    fn run_row(
        &mut self,
        row: &Command,
        args: &[&[u8]],
        reply: &mut ReplyBuf,
    ) -> Result<(), CmdError> {
        let count = args.len() as i32;
        if if row.arity < 0 { count < -row.arity } else { count != row.arity } {
            return Err(super::args::wrong_arity(row.name));
        }
        if row.flags.has(Flags::WRITE) {
            let mut latches = LatchSet::new();
            if row.flags.has(Flags::WHOLE_DB) {
                latches.add_all();
            }
            if row.keys.first > 0 {
                let last = if row.keys.last < 0 { count + row.keys.last } else { row.keys.last };
                for at in (row.keys.first..=last).step_by(row.keys.step as usize) {
                    latches.add_key(args[at as usize]);
                }
            }
            self.txn.begin_write(self.now_ms, &latches);
        } else {
            self.txn.begin_read(self.now_ms);
        }
        let HandlerKind::Data(handler) = row.handler else { panic!("not a data command") };
        let mut ctx = Ctx { txn: &mut self.txn, db: self.db, now_ms: self.now_ms, reply };
        let result = handler(&mut ctx, args);
        match result {
            Ok(()) => {
                self.txn.commit(&sluicedb::WriteOptions::default()).unwrap();
            }
            Err(_) => self.txn.end(),
        }
        result
    }

    /// Words separated by spaces in, the reply on one line out: line ends shown as `|`.
    pub(crate) fn run(&mut self, line: &str) -> String {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let reply = String::from_utf8_lossy(&self.run_bytes(&args)).replace("\r\n", "|");
        reply.strip_suffix('|').unwrap_or(&reply).to_owned()
    }

    /// Runs a script of `command => reply` lines.
    pub(crate) fn script(&mut self, script: &str) {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (command, expected) = line.split_once(" => ").expect("command => reply");
            assert_eq!(self.run(command), expected, "{command}");
        }
    }
}
