//! Credentials that change: when to look for others, and how to go on with them.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alvys_auth_core::{Attempt, Credentials, Error, ErrorKind, Step, Timestamp};

use crate::{Engine, events, now};

/// How often it may be looked behind a refusal that is remembered: as long as the first cool-down is by default.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// When a driver asks the provider `P` of its source again.
///
/// Before a request when the provider's revision has changed, and while a refusal is remembered too, but then every five
/// seconds at the most; once when the server refuses the credentials, or what it gives is of another organization, before
/// anybody hears of that; and before the attempt after that, whatever the revision, so that a store that was mended
/// meanwhile costs no other refusal.
pub struct Rotation<P: ?Sized> {
    provider: Arc<P>,
    known: Mutex<Known>,
    asking: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    /// The revision in use; none when that is not known.
    revision: Option<u64>,
    /// When it was last looked behind a refusal.
    looked: Option<Timestamp>,
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
        let known = Mutex::new(Known { revision, looked: None });
        Self { provider, known, asking: AtomicBool::new(false) }
    }

    /// Where to ask.
    #[must_use]
    pub fn provider(&self) -> Arc<P> {
        Arc::clone(&self.provider)
    }

    /// Whether `revision` is another one than the last that was read.
    pub fn is_new(&self, revision: u64) -> bool {
        self.known().revision != Some(revision)
    }

    /// Whether to look for other credentials behind a refusal that is remembered, of which `revision` would be read. Not
    /// again at once, however often it changes or the provider fails: each look may cost a refusal more.
    pub fn is_worth_a_look(&self, revision: u64) -> bool {
        let looked = self.known().looked;
        self.is_new(revision) && looked.is_none_or(|looked| now().saturating_duration_since(looked) >= LOOK_EVERY)
    }

    /// Somebody looks behind a refusal now.
    pub fn looks(&self) {
        self.known().looked = Some(now());
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
            self.known().revision = Some(revision);
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

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: ?Sized> fmt::Debug for Rotation<P> {
    /// Leaves the provider out: it may be of any type.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rotation").field("known", &*self.known()).finish_non_exhaustive()
    }
}
