//! [`Plan`]: what a run does, as values and as text.
//!
//! ```text
//! epoch 81723          an opening; the number decides its options
//! open doom 551        what happens to the opening itself: clean, doom (the machine dies at some
//!                      call) or fault (one call fails)
//! write 9912           a step and the number that decides its details
//! ...
//! end power 77         how it ends
//! ```
//!
//! Weights are drawn for each plan, some of them zero: a plan that never compacts, or that does
//! nearly nothing but create and drop families, reaches states that an even mix would not (swarm
//! testing: Groce et al., ISSTA 2012).

use sluice_env::Rng;
use std::{fmt, str::FromStr};

/// One history of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub epochs: Vec<Epoch>,
}

/// One opening, from start to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    pub settings: u64,
    pub open: (Opening, u64),
    pub steps: Vec<(Act, u64)>,
    pub end: (End, u64),
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$of])* $variant,)* }

        impl $name {
            pub const ALL: &[$name] = &[$($name::$variant),*];

            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }

            fn of(word: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|this| this.word() == word)
            }
        }
    };
}

words! {
    /// What happens to an opening.
    Opening {
        /// Nothing.
        Clean = "clean",
        /// The machine dies at one of its calls that change the disk, or soon after.
        Doom = "doom",
        /// One of its calls fails.
        Fault = "fault",
    }
}

words! {
    /// How an opening ends. Whatever it is, a machine that died before ends it by a power cut or a
    /// kill.
    End {
        Kill = "kill",
        Power = "power",
        Close = "close",
        CloseWithFlush = "close-flush",
    }
}

words! {
    /// One thing that a user, an operator, time or a disk does.
    Act {
        Write = "write",
        /// Several writes in a row.
        Burst = "burst",
        /// One piece of background work.
        Work = "work",
        /// Background work until there is none.
        Settle = "settle",
        /// A flush that is waited for.
        Flush = "flush",
        /// A flush that is not.
        FlushAsk = "flush-ask",
        Sync = "sync",
        /// Asks to be told when a position is durable, or flushed.
        Await = "await",
        FlushLog = "flush-log",
        Time = "time",
        Tune = "tune",
        Pause = "pause",
        Resume = "resume",
        Rotate = "rotate",
        Create = "create",
        Drop = "drop",
        /// Another key schema for the next tables of a range of a family.
        Schema = "schema",
        /// Tables of a schema that no range writes are to be rewritten.
        Drain = "drain",
        /// A drain is paused, resumed or cancelled.
        Steer = "steer",
        Compact = "compact",
        Checkpoint = "checkpoint",
        Snapshot = "snapshot",
        Iterate = "iterate",
        Move = "move",
        Release = "release",
        Get = "get",
        Scan = "scan",
        ClearCache = "clear-cache",
        /// A write that must be refused.
        Refused = "refused",
        /// One call that changes the disk fails.
        Fault = "fault",
        /// One sync fails and loses what it was to write: see [`sluice_env::MemFs::lose_at_sync`].
        LossySync = "lossy-sync",
        /// One read fails.
        ReadFault = "read-fault",
        /// The disk has hardly any room left.
        Full = "full",
        /// And has again.
        Room = "room",
        /// The machine will die at some call.
        Doom = "doom",
        /// Faults are over; the database must work again by itself.
        Heal = "heal",
    }
}

impl Act {
    /// How often it is done in an even mix.
    fn weight(self) -> u64 {
        match self {
            Act::Write => 500,
            Act::Work => 250,
            Act::Burst | Act::Time | Act::Move => 40,
            Act::Get | Act::Flush | Act::FlushAsk | Act::Snapshot | Act::Iterate => 25,
            Act::Sync
            | Act::Await
            | Act::FlushLog
            | Act::Tune
            | Act::Rotate
            | Act::Release
            | Act::Create
            | Act::Resume
            | Act::Settle => 15,
            Act::Drop
            | Act::Schema
            | Act::Drain
            | Act::Steer
            | Act::Compact
            | Act::Checkpoint
            | Act::Pause
            | Act::Scan
            | Act::Refused
            | Act::Room
            | Act::Heal => 10,
            Act::ClearCache | Act::ReadFault | Act::Doom => 6,
            Act::Fault | Act::Full | Act::LossySync => 8,
        }
    }
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64) -> Plan {
        let mut rng = Rng::new(seed);
        let calm = rng.one_in(3);
        let steps_max = [30, 100, 250, 400][rng.below(4) as usize];
        let weights: Vec<u64> = Act::ALL
            .iter()
            .map(|act| match act {
                Act::Fault | Act::LossySync | Act::ReadFault | Act::Full | Act::Doom if calm => 0,
                Act::Write | Act::Work => act.weight() * [1, 1, 2][rng.below(3) as usize],
                _ => act.weight() * [0, 1, 1, 4][rng.below(4) as usize],
            })
            .collect();
        let total = weights.iter().sum();
        let epochs = 2 + rng.below(5);
        let epoch = |rng: &mut Rng| {
            let open = match rng.below(12) {
                0 | 1 => Opening::Doom,
                2 if !calm => Opening::Fault,
                _ => Opening::Clean,
            };
            let steps = (0..rng.below(steps_max))
                .map(|_| (draw(&weights, total, rng), rng.next_u64() >> 32))
                .collect();
            let end = match rng.below(8) {
                0..=2 => End::Kill,
                3..=5 => End::Power,
                6 => End::Close,
                _ => End::CloseWithFlush,
            };
            let mut seed = || rng.next_u64() >> 32;
            Epoch { settings: seed(), open: (open, seed()), steps, end: (end, seed()) }
        };
        Plan { epochs: (0..epochs).map(|_| epoch(&mut rng)).collect() }
    }

    /// How many steps there are, openings and ends included.
    pub fn len(&self) -> usize {
        self.epochs.iter().map(|epoch| epoch.steps.len() + 2).sum()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.epochs.is_empty()
    }
}

fn draw(weights: &[u64], total: u64, rng: &mut Rng) -> Act {
    let mut at = rng.below(total);
    for (act, weight) in Act::ALL.iter().zip(weights) {
        if at < *weight {
            return *act;
        }
        at -= weight;
    }
    Act::Write
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for epoch in &self.epochs {
            writeln!(f, "epoch {}", epoch.settings)?;
            writeln!(f, "open {} {}", epoch.open.0.word(), epoch.open.1)?;
            for (act, seed) in &epoch.steps {
                writeln!(f, "{} {seed}", act.word())?;
            }
            writeln!(f, "end {} {}", epoch.end.0.word(), epoch.end.1)?;
        }
        Ok(())
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Plan, String> {
        let mut plan = Plan { epochs: Vec::new() };
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            if !words.is_empty() {
                plan.line(&words).map_err(|why| format!("line {}: {why}: {line}", index + 1))?;
            }
        }
        Ok(plan)
    }
}

impl Plan {
    fn line(&mut self, words: &[&str]) -> Result<(), &'static str> {
        let number = words.last().and_then(|word| word.parse().ok()).ok_or("ends in no number")?;
        if words[0] == "epoch" {
            let (open, end) = ((Opening::Clean, 0), (End::Power, 0));
            self.epochs.push(Epoch { settings: number, open, steps: Vec::new(), end });
            return Ok(());
        }
        let epoch = self.epochs.last_mut().ok_or("comes before the first epoch")?;
        match words {
            ["open", word, _] => {
                epoch.open = (Opening::of(word).ok_or("is no kind of opening")?, number);
            }
            ["end", word, _] => epoch.end = (End::of(word).ok_or("is no kind of end")?, number),
            [word, _] => epoch.steps.push((Act::of(word).ok_or("is no act")?, number)),
            _ => return Err("has too many words"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_its_text() {
        for seed in 0..50 {
            let plan = Plan::new(seed);
            assert_eq!(plan.to_string().parse::<Plan>().unwrap(), plan, "seed {seed}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_its_line() {
        let refused = |text: &str| text.parse::<Plan>().unwrap_err();
        assert!(refused("write 1").starts_with("line 1: comes before"));
        assert!(refused("epoch 1\nwrote 2").starts_with("line 2: is no act"));
        assert!(refused("epoch x").contains("no number"));
    }

    #[test]
    fn every_act_is_drawn_by_some_plan() {
        let mut missing: Vec<Act> = Act::ALL.to_vec();
        for seed in 0..200 {
            for (act, _) in Plan::new(seed).epochs.iter().flat_map(|epoch| &epoch.steps) {
                missing.retain(|other| other != act);
            }
        }
        assert_eq!(missing, []);
    }
}
