//! The refusals of proxies, shared by all calls of a client.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alvys_auth_core::{Error, ProxyRefusals, Timestamp};
use http::Uri;

/// [`ProxyRefusals`] behind a lock. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<Mutex<ProxyRefusals>>);

impl Refusals {
    /// Whether a request to `uri` may be sent; see [`ProxyRefusals::check`].
    ///
    /// # Errors
    /// The refusal that is remembered.
    pub fn check(&self, uri: &Uri, now: Timestamp) -> Result<(), Error> {
        self.lock().check(uri, now)
    }

    /// Reports that a request to `uri` failed with `error`; see [`ProxyRefusals::failed`].
    pub fn failed(&self, uri: &Uri, error: &Error, now: Timestamp) {
        self.lock().failed(uri, error, now);
    }

    /// Forgets all refusals; see [`ProxyRefusals::forget`].
    pub fn forget(&self) {
        self.lock().forget();
    }

    fn lock(&self) -> MutexGuard<'_, ProxyRefusals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
