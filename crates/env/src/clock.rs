//! Time. The engine reads it here and nowhere else.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// A source of time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Milliseconds since the Unix epoch. May jump when an operator sets the clock.
    fn unix_ms(&self) -> u64;

    /// Microseconds since some fixed moment. Never goes back.
    fn monotonic_us(&self) -> u64;
}

/// The operating system's clock.
///
/// ```
/// use sluice_env::{Clock, SystemClock};
///
/// let clock = SystemClock::new();
/// let before = clock.monotonic_us();
/// assert!(clock.monotonic_us() >= before);
/// ```
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the door the rule points to")]
    pub fn new() -> SystemClock {
        SystemClock { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the door the rule points to")]
    fn unix_ms(&self) -> u64 {
        // A clock set before 1970 reads as 0: nothing has expired then, which is the safe side.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }

    fn monotonic_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }
}

/// A clock that stands still until a test moves it.
///
/// ```
/// use sluice_env::{Clock, ManualClock};
///
/// let clock = ManualClock::new(1_700_000_000_000);
/// clock.advance_ms(5);
/// assert_eq!(clock.unix_ms(), 1_700_000_000_005);
/// assert_eq!(clock.monotonic_us(), 5_000);
/// ```
#[derive(Debug, Default)]
pub struct ManualClock {
    /// Time by the calendar. In microseconds, so that small advances add up.
    unix_us: AtomicU64,
    monotonic_us: AtomicU64,
}

impl ManualClock {
    /// Shows `unix_ms` by the calendar and 0 on the monotonic clock.
    pub fn new(unix_ms: u64) -> ManualClock {
        let clock = ManualClock::default();
        clock.set_unix_ms(unix_ms);
        clock
    }

    /// Lets time pass on both clocks.
    pub fn advance_ms(&self, ms: u64) {
        self.advance_us(ms.saturating_mul(1000));
    }

    /// Lets time pass on both clocks.
    pub fn advance_us(&self, us: u64) {
        self.monotonic_us.fetch_add(us, Ordering::SeqCst);
        self.unix_us.fetch_add(us, Ordering::SeqCst);
    }

    /// Sets the calendar, forwards or back, as an operator may. The monotonic clock does not move.
    pub fn set_unix_ms(&self, unix_ms: u64) {
        self.unix_us.store(unix_ms.saturating_mul(1000), Ordering::SeqCst);
    }

    /// Moves the monotonic clock forwards to `us`; it never goes back. The calendar does not move.
    pub fn set_monotonic_us(&self, us: u64) {
        self.monotonic_us.fetch_max(us, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn unix_ms(&self) -> u64 {
        self.unix_us.load(Ordering::SeqCst) / 1000
    }

    fn monotonic_us(&self) -> u64 {
        self.monotonic_us.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_advances_add_up_by_the_calendar() {
        let clock = ManualClock::new(10);
        (0..4).for_each(|_| clock.advance_us(250));
        assert_eq!((clock.unix_ms(), clock.monotonic_us()), (11, 1000));
    }

    #[test]
    fn only_the_calendar_goes_back() {
        let clock = ManualClock::new(10);
        clock.set_monotonic_us(50);
        clock.set_monotonic_us(20);
        clock.set_unix_ms(3);
        assert_eq!((clock.unix_ms(), clock.monotonic_us()), (3, 50));
    }

    #[test]
    fn the_system_clock_is_past_2020_and_does_not_go_back() {
        let clock = SystemClock::new();
        let first = clock.monotonic_us();
        assert!(clock.unix_ms() > 1_577_836_800_000);
        assert!(clock.monotonic_us() >= first);
    }
}
