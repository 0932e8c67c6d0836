//! [`probe!`](crate::probe!): marks a rare branch, so that a long test run can tell whether it ever
//! went there. A branch that no run reaches is a branch that no run tests.
//!
//! Without the feature `probes` a probe is nothing at all. With it each is a counter that enters
//! itself into one list when it is first reached: the only global state in these crates, and only
//! in builds made for testing. Which probes exist is known from the source (`probe!("...")`).

/// How often each probe was reached, by name; those never reached are missing. Empty in builds
/// without the feature `probes`.
pub fn reached() -> Vec<(&'static str, u64)> {
    #[cfg(feature = "probes")]
    {
        counting::reached()
    }
    #[cfg(not(feature = "probes"))]
    Vec::new()
}

/// Notes that the branch was taken.
///
/// ```
/// use sluice_env::probe;
/// if "rare".len() == 4 {
///     probe!("documentation: rare");
/// }
/// ```
#[cfg(not(feature = "probes"))]
#[macro_export]
macro_rules! probe {
    ($name:literal) => {};
}

/// Notes that the branch was taken.
#[cfg(feature = "probes")]
#[macro_export]
macro_rules! probe {
    ($name:literal) => {{
        static PROBE: $crate::probe::Probe = $crate::probe::Probe::new($name);
        PROBE.hit();
    }};
}

#[cfg(feature = "probes")]
pub use counting::Probe;

#[cfg(feature = "probes")]
mod counting {
    use std::{
        collections::BTreeMap,
        sync::{
            Mutex, PoisonError,
            atomic::{AtomicU64, Ordering::Relaxed},
        },
    };

    static LIST: Mutex<Vec<&'static Probe>> = Mutex::new(Vec::new());

    /// One marked branch.
    #[derive(Debug)]
    pub struct Probe {
        name: &'static str,
        hits: AtomicU64,
    }

    impl Probe {
        pub const fn new(name: &'static str) -> Probe {
            Probe { name, hits: AtomicU64::new(0) }
        }

        pub fn hit(&'static self) {
            if self.hits.fetch_add(1, Relaxed) == 0 {
                LIST.lock().unwrap_or_else(PoisonError::into_inner).push(self);
            }
        }
    }

    pub fn reached() -> Vec<(&'static str, u64)> {
        let mut all = BTreeMap::new();
        for probe in LIST.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            *all.entry(probe.name).or_default() += probe.hits.load(Relaxed);
        }
        all.into_iter().collect()
    }
}
