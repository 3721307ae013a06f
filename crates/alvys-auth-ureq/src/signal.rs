//! Lets threads wait for the next change without missing one.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Counts changes; whoever saw a count can wait until it is another one.
#[derive(Default)]
pub(crate) struct Signal {
    changes: Mutex<u64>,
    changed: Condvar,
}

impl Signal {
    /// The changes so far. Read this before looking at what may change.
    pub(crate) fn seen(&self) -> u64 {
        *self.lock()
    }

    /// Waits for a change after `seen`, or for `timeout`.
    pub(crate) fn wait(&self, seen: u64, timeout: Duration) {
        let unchanged = |changes: &mut u64| *changes == seen;
        drop(self.changed.wait_timeout_while(self.lock(), timeout, unchanged));
    }

    /// Wakes every waiter.
    pub(crate) fn notify(&self) {
        *self.lock() += 1;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
