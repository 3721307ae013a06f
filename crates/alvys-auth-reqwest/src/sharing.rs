//! Uses a store that blocks without blocking a task.

use std::sync::Arc;

use alvys_auth_core::share::{Operation, Subject};
use alvys_auth_core::{Error, TokenResponse};
use alvys_auth_driver::{AsyncSharing, BlockingSharing, SharedFuture};

use crate::provider::blocking;

/// A store that blocks, such as one in files: it is asked on the runtime's blocking threads.
///
/// ```
/// use std::sync::Arc;
///
/// use alvys_auth_reqwest::{Blocking, Credentials, Flow, TokenSource};
/// use alvys_auth_store::{FileStore, Sealed};
///
/// # let directory = tempfile::tempdir()?;
/// # let directory = directory.path().join("tokens");
/// let store = Sealed::new(FileStore::new(directory)?);
/// let tokens = TokenSource::builder(Flow::current(), Credentials::new("my-client", "s3cret")?)
///     .store(Arc::new(Blocking::new(store)))
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Blocking<S>(Arc<S>);

impl<S: BlockingSharing + 'static> Blocking<S> {
    /// Takes the store.
    pub fn new(store: S) -> Self {
        Self(Arc::new(store))
    }
}

impl<S: BlockingSharing + 'static> AsyncSharing for Blocking<S> {
    fn share(&self, subject: Subject, operation: Operation<TokenResponse, Error>) -> SharedFuture<'_> {
        let store = Arc::clone(&self.0);
        Box::pin(blocking(move || store.share(&subject, operation)))
    }
}
