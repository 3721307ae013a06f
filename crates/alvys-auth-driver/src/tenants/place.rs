//! Where callers wait who want the source of a tenant.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use alvys_auth_core::Error;

use crate::{Bell, Time};

/// So many questions to the provider may be open at a time: half of the blocking threads that a tokio runtime has by default.
const OPEN_AT_MOST: usize = 256;
/// Where callers wait for a source that somebody else makes.
pub(super) struct Place<S> {
    /// What became of it, once that is known; none when it was given up, so that somebody else may make it.
    pub(super) result: OnceLock<Option<Result<S, Error>>>,
    pub(super) bell: Bell,
}

/// Lets a bounded number of questions in. The others wait in front of it.
pub(super) struct Gate {
    open: AtomicUsize,
    pub(super) bell: Bell,
}

impl Gate {
    pub(super) fn new(time: &Time) -> Self {
        Self { open: AtomicUsize::new(0), bell: time.bell() }
    }

    pub(super) fn enter(&self) -> bool {
        let one_more = |open| (open < OPEN_AT_MOST).then_some(open + 1);
        self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_ok()
    }

    pub(super) fn leave(&self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
        self.bell.ring_once();
    }
}
