//! Where credentials come from, and come from again when they change.

use std::sync::Arc;
use std::time::Duration;

use alvys_auth_core::{Credentials, Error};

mod command;
mod environment;
mod file;
mod running;
mod text;
mod variables;

pub use command::CommandProvider;
pub use environment::EnvironmentProvider;
pub use file::FileProvider;
pub(crate) use variables::Found;
pub use variables::Variables;

/// Where credentials come from, and come from again when they change.
///
/// [`Credentials`] provide themselves; the environment, files and the output of a command have providers here; anything
/// else is a few lines. Both methods may block for as long as reading takes, so an async program calls them where blocking
/// is allowed. A provider keeps no account of who has read what, so that any number of token sources may share one.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use alvys_auth_core::{Credentials, Error};
/// use alvys_auth_driver::CredentialsProvider;
///
/// /// The application of one customer, from a store of your own.
/// struct Store {
///     rotations: AtomicU64,
/// }
///
/// impl CredentialsProvider for Store {
///     fn credentials(&self) -> Result<Credentials, Error> {
///         Credentials::new("my-client", format!("s3cret-{}", self.rotations.load(Ordering::Acquire)))
///     }
///
///     fn revision(&self) -> u64 {
///         self.rotations.load(Ordering::Acquire)
///     }
/// }
///
/// let store = Store { rotations: AtomicU64::new(0) };
/// let (seen, first) = (store.revision(), store.credentials()?);
/// store.rotations.fetch_add(1, Ordering::Release);
/// assert_ne!(store.revision(), seen, "so it is worth asking again");
/// assert_ne!(store.credentials()?, first);
/// # Ok::<(), Error>(())
/// ```
pub trait CredentialsProvider: Send + Sync {
    /// The credentials as they are now.
    ///
    /// Called when a source is made, when [`revision`](Self::revision) has changed, and once for each time that the server
    /// refuses the credentials in use, their application, or gives a token of another organization than the one expected.
    ///
    /// # Errors
    /// What kept the credentials from being read, without showing any of it.
    fn credentials(&self) -> Result<Credentials, Error>;

    /// A mark of what [`credentials`](Self::credentials) would give: as long as it stays the same, asking again is not
    /// worth it. Called before every token request, so it must be cheap; the default never changes.
    ///
    /// Take it *before* asking for the credentials: then a change in between is noticed the next time.
    fn revision(&self) -> u64 {
        0
    }

    /// How long an answer may take before it is given up; none for as long as a token request. Callers wait no longer than
    /// their patience meanwhile.
    fn time_limit(&self) -> Option<Duration> {
        None
    }
}

impl CredentialsProvider for Credentials {
    fn credentials(&self) -> Result<Credentials, Error> {
        Ok(self.clone())
    }
}

impl<P: CredentialsProvider + ?Sized> CredentialsProvider for Arc<P> {
    fn credentials(&self) -> Result<Credentials, Error> {
        (**self).credentials()
    }

    fn revision(&self) -> u64 {
        (**self).revision()
    }

    fn time_limit(&self) -> Option<Duration> {
        (**self).time_limit()
    }
}

impl<P: CredentialsProvider + ?Sized> CredentialsProvider for Box<P> {
    fn credentials(&self) -> Result<Credentials, Error> {
        (**self).credentials()
    }

    fn revision(&self) -> u64 {
        (**self).revision()
    }

    fn time_limit(&self) -> Option<Duration> {
        (**self).time_limit()
    }
}
