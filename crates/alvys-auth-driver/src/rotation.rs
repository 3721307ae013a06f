//! Credentials that change: when to look for others, and how to go on with them.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use alvys_auth_core::{Attempt, Credentials, Error, ErrorKind, Step};

use crate::{Engine, events};

/// When a driver asks the provider `P` of its source again.
///
/// Before a request, and while a refusal is remembered, when the provider's revision has changed; once when the server
/// refuses the credentials, or what it gives is of another organization, before anybody hears of that; and before the
/// attempt after that, whatever the revision, so that a store that was mended meanwhile costs no other refusal.
pub struct Rotation<P: ?Sized> {
    provider: Arc<P>,
    /// The revision in use; none when that is not known.
    revision: Mutex<Option<u64>>,
    asking: AtomicBool,
}

/// The right to ask the provider because of a refusal, which one caller has at a time.
#[derive(Debug)]
pub struct Asking<'a>(&'a AtomicBool);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
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
    /// There are none any more, because there is no such tenant: nothing is asked for.
    Unknown(Error),
}

impl<P: ?Sized> Rotation<P> {
    /// Watches `provider`, of which `revision` is in use; none when that is not known.
    pub fn new(provider: Arc<P>, revision: Option<u64>) -> Self {
        Self { provider, revision: Mutex::new(revision), asking: AtomicBool::new(false) }
    }

    /// Where to ask.
    #[must_use]
    pub fn provider(&self) -> Arc<P> {
        Arc::clone(&self.provider)
    }

    /// Whether `revision` is another one than the last that was read.
    pub fn is_new(&self, revision: u64) -> bool {
        *self.revision.lock().unwrap_or_else(PoisonError::into_inner) != Some(revision)
    }

    /// The server refused the credentials: whether to ask the provider before that is reported. None while somebody does.
    pub fn ask(&self) -> Option<Asking<'_>> {
        // Made only when it is wanted: one that is dropped lets the next one ask.
        (!self.asking.swap(true, Ordering::AcqRel)).then(|| Asking(&self.asking))
    }

    /// Goes on with what the provider gave at `revision`. A held token stays: nobody is without one before the new credentials
    /// have proved good.
    pub fn rotate(&self, engine: &Engine, revision: u64, given: Result<Credentials, Error>) -> Rotated {
        let unknown = given.as_ref().is_err_and(|error| error.kind() == ErrorKind::UnknownTenant);
        if given.is_ok() || unknown {
            *self.revision.lock().unwrap_or_else(PoisonError::into_inner) = Some(revision);
        }
        match given.and_then(|credentials| engine.rotate_credentials(credentials)) {
            Ok(None) => Rotated::Unchanged,
            Ok(Some(Step::Fetch(attempt))) => Rotated::Here(attempt),
            Ok(Some(_)) => Rotated::Elsewhere,
            Err(error) if unknown => Rotated::Unknown(error),
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
