//! How fast writes may come: a smooth delay before the stop. Pure: numbers in, a rate and a delay
//! out; `brakes.rs` gathers the numbers.
//!
//! Each thing that can stop writes has a mark where slowing begins and one where writing stops.
//! The *share* says how far between the two it stands. The rate is what the background has been
//! measured to drain, over twice the share:
//!
//! ```text
//! share    0      1/8     1/4     1/2      1
//! rate    free    4x      2x      1x      1/2     of the drain
//! ```
//!
//! So slowing begins with next to nothing, and at the middle no more comes in than goes out: load
//! that goes on too fast settles there, and does not run into the stop. A faster drain, or a
//! slower writer, moves the settling point towards free.
//!
//! Rejected: RocksDB's rate that is multiplied up and down at each look. It needs to be tuned to
//! how often one looks, and is known to collapse to a trickle (anchors: 26 KB/s).
//!
//! A [`Brake`] turns a rate into delays: writes queue up in time, each takes as long as its bytes
//! at the rate. Less than [`DELAY_MIN_US`] is not slept, because a sleep is not that exact; the
//! debt stays, and a later write sleeps for all of them.

/// Shortest delay that is slept.
pub(crate) const DELAY_MIN_US: u64 = 1_000;

/// Longest delay of one write: longer ones are left to those that come after it.
pub(crate) const DELAY_MAX_US: u64 = 100_000;

/// Least rate. Even a drain that stands still lets small writes trickle, until the stop.
const RATE_MIN: u64 = 64 << 10;

/// How far `used` is from `soft` (0.0) to `hard` (1.0), and beyond.
pub(crate) fn share(used: u64, soft: u64, hard: u64) -> f64 {
    if used <= soft {
        return 0.0;
    }
    (used - soft) as f64 / hard.saturating_sub(soft).max(1) as f64
}

/// Bytes a second at a share, where `drain` bytes a second go away; `None`: no limit.
pub(crate) fn rate(share: f64, drain: u64) -> Option<u64> {
    (share > 0.0).then(|| ((drain as f64 / (2.0 * share)) as u64).max(RATE_MIN))
}

/// A smoothed measurement: the newest counts half.
pub(crate) fn smooth(before: u64, measured: u64) -> u64 {
    before / 2 + measured / 2
}

/// The queue in time of one cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Brake {
    /// Bytes a second; `None`: off.
    pub rate: Option<u64>,
    /// When the queue ends, in monotonic microseconds.
    pub next_us: u64,
}

impl Brake {
    /// Sets the rate. A brake let go forgets its queue.
    pub(crate) fn set(&mut self, rate: Option<u64>) {
        self.rate = rate;
        if rate.is_none() {
            self.next_us = 0;
        }
    }

    /// Queues `bytes` up; says when they may be written.
    pub(crate) fn charge(&mut self, bytes: u64, now_us: u64) -> Option<u64> {
        let rate = self.rate?;
        let starts_us = self.next_us.max(now_us);
        let takes_us = (u128::from(bytes) * 1_000_000 / u128::from(rate.max(1))) as u64;
        // A queue far in the future helps nobody: it is cut where the rate has time to change.
        self.next_us = (starts_us + takes_us).min(now_us + 10 * DELAY_MAX_US);
        Some(starts_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slowing_begins_with_nothing_and_settles_at_the_drain() {
        assert_eq!(share(50, 50, 100), 0.0);
        assert_eq!(share(75, 50, 100), 0.5);
        assert_eq!(share(150, 50, 100), 2.0);
        assert_eq!(share(2, 1, 1), 1.0, "no way between the marks");
        let drain = 100 << 20;
        assert_eq!(rate(0.0, drain), None);
        assert_eq!(rate(0.125, drain), Some(4 * drain));
        assert_eq!(rate(0.5, drain), Some(drain));
        assert_eq!(rate(1.0, drain), Some(drain / 2));
        assert_eq!(rate(1.0, 0), Some(RATE_MIN));
    }

    /// Load against drain over simulated time: where the fill settles.
    #[test]
    fn too_much_load_settles_below_the_stop() {
        let (soft, hard, drain) = (160_u64 << 20, 320_u64 << 20, 100_u64 << 20);
        for load in [50_u64 << 20, 150 << 20, 1000 << 20, 10_000 << 20] {
            let mut used = 0_u64;
            let mut most = 0;
            for _millisecond in 0..60_000 {
                let allowed = rate(share(used, soft, hard), drain).unwrap_or(u64::MAX);
                used = (used + load.min(allowed) / 1000).saturating_sub(drain / 1000);
                most = most.max(used);
            }
            assert!(most < hard / 20 * 19, "{load}: {most} of {hard}");
            assert_eq!(used > soft, load > drain, "{load}: {used}");
        }
    }

    #[test]
    fn writes_queue_up_in_time() {
        let mut brake = Brake::default();
        assert_eq!(brake.charge(1000, 7), None, "off");
        brake.set(Some(1_000_000)); // a byte a microsecond
        assert_eq!(brake.charge(1000, 5_000), Some(5_000));
        assert_eq!(brake.charge(500, 5_100), Some(6_000));
        assert_eq!(brake.charge(1, 10_000), Some(10_000), "the queue was empty again");
        brake.charge(u64::MAX >> 1, 10_000);
        assert!(brake.next_us <= 10_000 + 10 * DELAY_MAX_US);
        brake.set(None);
        assert_eq!(brake, Brake::default());
    }

    #[test]
    fn a_measurement_moves_slowly() {
        let mut rate = 100;
        for _ in 0..20 {
            rate = smooth(rate, 1000);
        }
        assert!((900..=1000).contains(&rate), "{rate}");
    }
}
