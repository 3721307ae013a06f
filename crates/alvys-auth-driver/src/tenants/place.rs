//! The places where callers wait for the source of a tenant.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use alvys_auth_core::Error;

use crate::{Bell, Time};

/// How many questions to the provider may be open at a time: half of the blocking threads that a tokio runtime has by
/// default.
const OPEN_AT_MOST: usize = 256;
/// The place where callers wait for a source that another caller makes.
pub(super) struct Place<S> {
    /// The result, once it is known; none inside when the maker gave up, so that another caller may make the source.
    pub(super) result: OnceLock<Option<Result<S, Error>>>,
    pub(super) bell: Bell,
}

/// Lets a limited number of questions to the provider through at a time. The others wait.
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
