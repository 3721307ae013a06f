//! Lets threads wait for the next change without missing one.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Counts changes; whoever saw a count can wait until it is another one.
#[derive(Default)]
pub(crate) struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    changes: u32,
    waiting: u32,
}

impl Signal {
    /// The changes so far. Read this before looking at what may change.
    pub(crate) fn seen(&self) -> u32 {
        self.lock().changes
    }

    /// Waits for a change after `seen`, or for `timeout`.
    pub(crate) fn wait(&self, seen: u32, timeout: Duration) {
        let mut state = self.lock();
        state.waiting += 1;
        let unchanged = |state: &mut State| state.changes == seen;
        let waited = self.changed.wait_timeout_while(state, timeout, unchanged);
        waited.unwrap_or_else(PoisonError::into_inner).0.waiting -= 1;
    }

    /// Wakes every waiter. Without any it does not bother the system, which would look for them.
    pub(crate) fn notify(&self) {
        let mut state = self.lock();
        state.changes = state.changes.wrapping_add(1);
        let is_awaited = state.waiting > 0;
        drop(state);
        if is_awaited {
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
