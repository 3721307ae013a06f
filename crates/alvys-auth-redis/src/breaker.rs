//! Makes operations fail at once when the server did not answer a moment ago, so that callers do not wait for it again.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use alvys_auth_core::{Error, ErrorKind, Timestamp};
use alvys_auth_driver::Time;

/// How long operations fail at once after one has waited and got no answer.
const REST: Duration = Duration::from_secs(5);

pub(crate) struct Breaker {
    time: Time,
    /// Until when operations fail, and why.
    open: Mutex<Option<(Timestamp, Error)>>,
}

impl Breaker {
    pub(crate) fn new(time: Time) -> Self {
        Self { time, open: Mutex::default() }
    }

    /// Whether an operation may try. After the rest, one operation may, and the others do not wait for it.
    pub(crate) fn pass(&self) -> Result<(), Error> {
        let now = self.time.now();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *open {
            Some((until, error)) if now < *until => Err(error.clone()),
            Some((until, _)) => {
                *until = now.saturating_add(REST);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes in the result of an operation. A failure that comes at once costs no time, so it does not make others
    /// fail.
    pub(crate) fn tell<T>(&self, result: &Result<T, Error>) {
        let waited = result.as_ref().err().filter(|error| error.kind() == ErrorKind::TimedOut);
        let open = waited.map(|error| (self.time.now().saturating_add(REST), error.clone()));
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = open;
    }
}
