//! The traits of a store.

use std::pin::Pin;
use std::sync::Arc;

use alvys_auth_core::Error;
use alvys_auth_core::share::{Answer, Operation};

use crate::Name;

/// An operation as a store sees it: tokens and failures are sealed text.
pub type SealedOperation = Operation<String, String>;

/// The answer of a store.
pub type SealedAnswer = Answer<String, String>;

/// The future of an answer; from [`AsyncStore::run`].
pub type StoreFuture<'a> = Pin<Box<dyn Future<Output = Result<SealedAnswer, Error>> + Send + 'a>>;

/// A store whose operations block.
///
/// Each operation is one atomic step on the entry of that name. What it means is defined by
/// [`Cell::run`](alvys_auth_core::share::Cell::run), and [`kit::check`](crate::kit::check) tries it on a store of your own.
pub trait BlockingStore: Send + Sync {
    /// Carries out an operation on the entry of that name. It ends within seconds.
    ///
    /// # Errors
    /// When the store cannot be used now.
    fn run(&self, name: &Name, operation: SealedOperation) -> Result<SealedAnswer, Error>;
}

/// A store whose operations are futures; see [`BlockingStore`].
pub trait AsyncStore: Send + Sync {
    /// Carries out an operation on the entry of that name. It ends within seconds, with an error when the store cannot be used
    /// now.
    fn run<'a>(&'a self, name: &'a Name, operation: SealedOperation) -> StoreFuture<'a>;
}

impl<S: BlockingStore + ?Sized> BlockingStore for Arc<S> {
    fn run(&self, name: &Name, operation: SealedOperation) -> Result<SealedAnswer, Error> {
        (**self).run(name, operation)
    }
}

impl<S: AsyncStore + ?Sized> AsyncStore for Arc<S> {
    fn run<'a>(&'a self, name: &'a Name, operation: SealedOperation) -> StoreFuture<'a> {
        (**self).run(name, operation)
    }
}
