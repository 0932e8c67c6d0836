//! What a reply to a write promises, and who chooses it: the server by `appendonly` and
//! `appendfsync`, or a connection for itself by `CLIENT ACK`.
//!
//! | level | logged | the reply leaves | survives |
//! |---|---|---|---|
//! | `Memory` | no | at once | what was flushed |
//! | `Os` | yes | when the operating system has the log | `kill -9` |
//! | `Disk` | yes | when the log is synced | a power cut |
//!
//! The choice holds from the next command on. `appendonly no` is a default, not a ban: a
//! connection that asks for `Os` or `Disk` on such a server gets logged writes, because the
//! alternative, a flush for each reply, would make a table for each. What that means for P1 is in
//! `docs/guide/operations.md`: recovery then keeps that connection's logged writes, and of the
//! unlogged ones of others what was flushed, even where those came before.

use sluicedb::Ack;

use crate::command::CmdError;
use crate::config::{Fsync, Settings};

/// `CLIENT ACK`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub(crate) enum AckChoice {
    /// As the server's parameters say.
    #[default]
    Default,
    Memory,
    Os,
    Disk,
}

impl AckChoice {
    const ALL: [AckChoice; 4] =
        [AckChoice::Default, AckChoice::Memory, AckChoice::Os, AckChoice::Disk];

    /// The name in `CLIENT LIST`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            AckChoice::Default => "default",
            AckChoice::Memory => "memory",
            AckChoice::Os => "os",
            AckChoice::Disk => "disk",
        }
    }

    pub(crate) fn parse(word: &[u8]) -> Result<AckChoice, CmdError> {
        AckChoice::ALL
            .into_iter()
            .find(|choice| word.eq_ignore_ascii_case(choice.name().as_bytes()))
            .ok_or(CmdError::new("ERR acknowledgement must be DEFAULT, MEMORY, OS or DISK"))
    }

    /// As it is kept in the shared record of a client.
    pub(crate) fn of_number(number: u8) -> AckChoice {
        AckChoice::ALL.get(usize::from(number)).copied().unwrap_or_default()
    }

    /// The level of the next write.
    #[inline]
    pub(crate) fn level(self, settings: &Settings) -> Ack {
        match self {
            AckChoice::Default if !settings.log => Ack::Memory,
            AckChoice::Default if settings.fsync == Fsync::Always => Ack::Disk,
            AckChoice::Default | AckChoice::Os => Ack::Os,
            AckChoice::Memory => Ack::Memory,
            AckChoice::Disk => Ack::Disk,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn levels_follow_the_choice_and_then_the_server() {
        let settings = |log: &str, fsync: &str| {
            let arguments = ["--appendonly", log, "--appendfsync", fsync].map(str::to_owned);
            Settings::new(&Config::from_arguments(arguments).unwrap())
        };
        for (log, fsync, default) in [
            ("yes", "always", Ack::Disk),
            ("yes", "everysec", Ack::Os),
            ("yes", "no", Ack::Os),
            ("no", "always", Ack::Memory),
            ("no", "everysec", Ack::Memory),
        ] {
            let settings = settings(log, fsync);
            let levels = AckChoice::ALL.map(|choice| choice.level(&settings));
            assert_eq!(levels, [default, Ack::Memory, Ack::Os, Ack::Disk], "{log} {fsync}");
        }
    }

    #[test]
    fn names_and_numbers_lead_back() {
        for choice in AckChoice::ALL {
            assert_eq!(AckChoice::parse(choice.name().to_uppercase().as_bytes()), Ok(choice));
            assert_eq!(AckChoice::of_number(choice as u8), choice);
        }
        assert!(AckChoice::parse(b"fsync").is_err());
    }
}
