//! Stores for token sources. An entry is sealed before it is stored, and opened after it was read.

use std::sync::atomic::{AtomicBool, Ordering};

use alvys_auth_core::share::{Answer, Operation, Subject};
use alvys_auth_core::{Error, TokenResponse};
use alvys_auth_driver::{AsyncSharing, BlockingSharing, Shared, SharedFuture};
use tracing::warn;

use crate::{AsyncStore, BlockingStore, Key, Name, SealedAnswer, SealedOperation};

/// A store as a token source takes it.
///
/// ```
/// use std::sync::Arc;
///
/// use alvys_auth_store::{MemoryStore, Sealed};
/// use alvys_auth_ureq::{Credentials, Flow, TokenSource};
///
/// let store = Arc::new(Sealed::new(MemoryStore::new()));
/// let tokens = TokenSource::builder(Flow::current(), Credentials::new("my-client", "s3cret")?).store(store).build()?;
/// # Ok::<(), alvys_auth_ureq::Error>(())
/// ```
#[derive(Debug)]
pub struct Sealed<S> {
    store: S,
    /// Whether it was reported that an entry does not open.
    told: AtomicBool,
}

impl<S> Sealed<S> {
    /// Takes a store.
    pub fn new(store: S) -> Self {
        Self { store, told: AtomicBool::new(false) }
    }

    /// Opens an answer. An entry that does not open is reported once.
    fn open(&self, key: &Key, answer: SealedAnswer) -> Answer<TokenResponse, Error> {
        let answer = key.open(answer);
        let closed = answer.token.as_ref().is_some_and(|found| found.token.is_none())
            || answer.pause.as_ref().is_some_and(|(failure, _)| failure.is_none());
        if closed && !self.told.swap(true, Ordering::Relaxed) {
            warn!(
                target: "alvys_auth",
                name = %key.name(),
                "what is shared here does not open with this secret: it counts as absent; was it exchanged or damaged?"
            );
        }
        answer
    }
}

impl<S: BlockingStore> BlockingSharing for Sealed<S> {
    fn share(&self, subject: &Subject, operation: Operation<TokenResponse, Error>) -> Shared {
        let key = Key::about(subject)?;
        let answer = self.store.run(key.name(), key.seal(operation)?)?;
        Ok(self.open(&key, answer))
    }
}

impl<S: AsyncStore> AsyncSharing for Sealed<S> {
    fn share(&self, subject: Subject, operation: Operation<TokenResponse, Error>) -> SharedFuture<'_> {
        Box::pin(async move {
            let key = Key::about(&subject)?;
            let answer = self.store.run(key.name(), key.seal(operation)?).await?;
            Ok(self.open(&key, answer))
        })
    }
}

/// A store, and a second one that is used while the first one cannot be: for example, a store in files below one in the
/// network. An outage of the network then costs one token for each host, and not one for each process. The outage is
/// reported once, until the first store can be used again.
#[derive(Debug)]
pub struct Fallback<F, S> {
    first: F,
    second: S,
    /// Whether it was reported that the first store cannot be used.
    told: AtomicBool,
}

impl<F, S> Fallback<F, S> {
    /// Takes both stores.
    pub fn new(first: F, second: S) -> Self {
        Self { first, second, told: AtomicBool::new(false) }
    }
}

impl<F: BlockingStore, S: BlockingStore> BlockingStore for Fallback<F, S> {
    fn run(&self, name: &Name, operation: SealedOperation) -> Result<SealedAnswer, Error> {
        let failed = match self.first.run(name, operation.clone()) {
            Ok(answer) => {
                self.told.store(false, Ordering::Relaxed);
                return Ok(answer);
            }
            Err(failed) => failed,
        };
        let answer = self.second.run(name, operation).map_err(|_| failed.clone())?;
        if !self.told.swap(true, Ordering::Relaxed) {
            warn!(target: "alvys_auth::notice", error = %failed, "shares tokens on this host only: the store cannot be used");
        }
        Ok(answer)
    }
}
