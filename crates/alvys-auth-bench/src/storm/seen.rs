//! What the callers of one driver see.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Seen {
    answered: AtomicU64,
    slowest_millis: AtomicU64,
    others: Mutex<BTreeMap<String, u64>>,
    looks: AtomicU64,
    at_hand: AtomicU64,
}

impl Seen {
    /// A call has ended: with a status, or with the kind of its error.
    pub(super) fn note(&self, took: Duration, result: Result<u16, &str>) {
        self.slowest_millis.fetch_max(took.as_millis() as u64, Ordering::Relaxed);
        let name = match result {
            Ok(200) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Ok(status) => format!("status {status}"),
            Err(kind) => kind.to_owned(),
        };
        *self.others.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
    }

    /// Somebody looked whether a token is at hand.
    pub(super) fn look(&self, at_hand: bool) {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.at_hand.fetch_add(u64::from(at_hand), Ordering::Relaxed);
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    pub(super) fn slowest(&self) -> Duration {
        Duration::from_millis(self.slowest_millis.load(Ordering::Relaxed))
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let looks = self.looks.load(Ordering::Relaxed).max(1);
        let percent = self.at_hand.load(Ordering::Relaxed) as f64 * 100.0 / looks as f64;
        let (answered, slowest) = (self.answered(), self.slowest());
        write!(
            f,
            "a token at hand {percent:.1} % of the time, {answered} calls answered, the slowest in {slowest:.1?}"
        )?;
        for (name, times) in &*self.others.lock().unwrap_or_else(PoisonError::into_inner) {
            write!(f, ", {name}: {times}")?;
        }
        Ok(())
    }
}
