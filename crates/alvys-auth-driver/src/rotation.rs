//! Credentials that change: when to look for others, and how to go on with them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use alvys_auth_core::{Attempt, Credentials, Error, Step};

use crate::{Engine, events};

/// When a driver asks the provider `P` of its source again.
///
/// Before a request, when the provider's revision has changed; and once when the server refuses the credentials, before
/// anybody hears of that. Should the next ones be refused as well, the refusal is reported, and the provider is asked again
/// for the attempt after that.
pub struct Rotation<P: ?Sized> {
    provider: Arc<P>,
    revision: AtomicU64,
    swapped: AtomicBool,
}

/// What came of other credentials.
#[derive(Debug)]
pub enum Rotated {
    /// They are the ones in use, or none could be read: go on as if nothing had been asked.
    Unchanged,
    /// They are in use, and somebody else is fetching, or nobody needs to.
    Elsewhere,
    /// They are in use: launch this attempt.
    Here(Attempt),
}

impl<P: ?Sized> Rotation<P> {
    /// Watches `provider`, of which `revision` is in use.
    pub fn new(provider: Arc<P>, revision: u64) -> Self {
        Self { provider, revision: AtomicU64::new(revision), swapped: AtomicBool::new(false) }
    }

    /// Where to ask.
    #[must_use]
    pub fn provider(&self) -> Arc<P> {
        Arc::clone(&self.provider)
    }

    /// Whether `revision` is another one than the last that was read.
    pub fn is_new(&self, revision: u64) -> bool {
        self.revision.load(Ordering::Acquire) != revision
    }

    /// The server refused the credentials: whether to ask the provider before that is reported.
    pub fn may_ask(&self) -> bool {
        !self.swapped.swap(true, Ordering::AcqRel)
    }

    /// An attempt has ended and is reported: the next refusal is worth asking again.
    pub fn reported(&self) {
        self.swapped.store(false, Ordering::Release);
    }

    /// Goes on with what the provider gave at `revision`.
    pub fn rotate(&self, engine: &Arc<Engine>, revision: u64, given: Result<Credentials, Error>) -> Rotated {
        let changed = given.and_then(|credentials| {
            self.revision.store(revision, Ordering::Release);
            engine.set_credentials(credentials)
        });
        match changed {
            Ok(false) => Rotated::Unchanged,
            Ok(true) => match engine.poll() {
                Step::Fetch(attempt) => Rotated::Here(attempt),
                _ => Rotated::Elsewhere,
            },
            Err(error) => {
                events::unreadable_credentials(&error);
                Rotated::Unchanged
            }
        }
    }
}

impl<P: ?Sized> fmt::Debug for Rotation<P> {
    /// Leaves the provider out: it may be of any type.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rotation").field("revision", &self.revision).finish_non_exhaustive()
    }
}
