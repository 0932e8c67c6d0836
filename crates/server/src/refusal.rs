//! Texts of refusals that every command shares, in Redis's words.

use crate::command::{Args, CmdError};
use sluicedb::ErrorKind;

pub(crate) fn wrong_arity(full_name: &str) -> CmdError {
    CmdError::new(format!("ERR wrong number of arguments for '{full_name}' command"))
}

pub(crate) fn unknown_subcommand(parent: &str, name: &[u8]) -> CmdError {
    CmdError::new(format!(
        "ERR unknown subcommand '{}'. Try {} HELP.",
        clipped(name, 128),
        parent.to_ascii_uppercase()
    ))
}

pub(crate) fn unknown_command(args: &Args<'_>) -> CmdError {
    let mut text =
        format!("ERR unknown command '{}', with args beginning with: ", clipped(args[0], 128));
    let mut room = 128usize;
    for arg in &args[1..] {
        if room == 0 {
            break;
        }
        let shown = clipped(arg, room);
        room = room.saturating_sub(shown.len() + 3);
        text.push_str(&format!("'{shown}' "));
    }
    CmdError::new(text)
}

/// At most `max` bytes of an argument, up to a NUL byte as C's `%.*s` has it, readable as text.
fn clipped(arg: &[u8], max: usize) -> String {
    let end = arg.iter().position(|byte| *byte == 0).unwrap_or(arg.len()).min(max);
    String::from_utf8_lossy(&arg[..end]).into_owned()
}

/// The error reply for an engine error.
pub(crate) fn engine_error(error: &sluicedb::Error) -> CmdError {
    let code = match error.kind() {
        ErrorKind::Stalled => "STALLED",
        ErrorKind::DiskFull | ErrorKind::ReadOnly => "MISCONF",
        ErrorKind::Corruption => "CORRUPT",
        _ => "ERR",
    };
    CmdError::new(format!("{code} {error}"))
}
