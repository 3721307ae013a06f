//! A store in the memory of one process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use alvys_auth_core::Error;
use alvys_auth_core::share::Cell;
use alvys_auth_driver::Time;

use crate::{AsyncStore, BlockingStore, Name, SealedAnswer, SealedOperation, StoreFuture};

/// A store in memory: several sources of one process share a token through it, and tests need no server.
#[derive(Debug, Default)]
pub struct MemoryStore {
    time: Time,
    cells: Mutex<HashMap<Name, Cell>>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store with a clock of your own.
    #[must_use]
    pub fn with_clock(time: impl Into<Time>) -> Self {
        Self { time: time.into(), ..Self::default() }
    }
}

impl BlockingStore for MemoryStore {
    fn run(&self, name: &Name, operation: SealedOperation) -> Result<SealedAnswer, Error> {
        let now = self.time.now();
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = cells.get_mut(name) {
            return Ok(cell.run(operation, now));
        }
        let mut cell = Cell::default();
        let answer = cell.run(operation, now);
        // Before a new name is kept, the entries that have ended are forgotten.
        cells.retain(|_, cell| cell.ends().is_some_and(|ends| now < ends));
        if cell.ends().is_some() {
            cells.insert(name.clone(), cell);
        }
        Ok(answer)
    }
}

impl AsyncStore for MemoryStore {
    fn run<'a>(&'a self, name: &'a Name, operation: SealedOperation) -> StoreFuture<'a> {
        Box::pin(async move { BlockingStore::run(self, name, operation) })
    }
}
