//! What is to be looked at when: one timer for any number of sources.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use alvys_auth_core::Timestamp;

use crate::Time;

/// Items in the order of their times. Workers take what is due and put it back with its next time.
pub struct Agenda<T> {
    items: Mutex<Items<T>>,
}

struct Items<T> {
    by_time: BTreeMap<(Timestamp, u64), T>,
    added: u64,
}

/// What a worker is to do.
#[derive(Debug)]
pub enum Next<T> {
    /// Look at this.
    Due(T),
    /// Nothing before so long, as things are.
    Idle(Duration),
}

/// How long a worker sleeps when there is nothing on the agenda.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

impl<T> Agenda<T> {
    /// An empty agenda.
    #[must_use]
    pub fn new() -> Self {
        Self { items: Mutex::new(Items { by_time: BTreeMap::new(), added: 0 }) }
    }

    /// Puts an item down for `at`; true when nothing is due earlier, so that sleeping workers should be woken.
    pub fn add(&self, at: Timestamp, item: T) -> bool {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        items.added += 1;
        let key = (at, items.added);
        items.by_time.insert(key, item);
        items.by_time.first_key_value().is_some_and(|(first, _)| *first == key)
    }

    /// Takes the earliest item if it is due.
    pub fn next(&self) -> Next<T> {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = items.by_time.first_entry() else { return Next::Idle(LONGEST_SLEEP) };
        let left = first.key().0.saturating_duration_since(Time::boot().now());
        if left.is_zero() { Next::Due(first.remove()) } else { Next::Idle(left.min(LONGEST_SLEEP)) }
    }

    /// Drops the items that are not worth keeping.
    pub fn retain(&self, mut keep: impl FnMut(&T) -> bool) {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        items.by_time.retain(|_, item| keep(item));
    }

    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.lock().unwrap_or_else(PoisonError::into_inner).by_time.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Agenda<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agenda").field("len", &self.len()).finish()
    }
}
