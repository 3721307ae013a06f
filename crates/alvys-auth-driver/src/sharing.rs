//! The shared store, as a driver uses it.

use std::pin::Pin;

use alvys_auth_core::share::{Answer, Operation, Subject};
use alvys_auth_core::{Endpoint, Error, TokenResponse};

/// The answer of a store, or the reason why the store cannot be used now.
pub type Shared = Result<Answer<TokenResponse, Error>, Error>;

/// An answer that is on its way; from [`AsyncSharing::share`].
pub type SharedFuture<'a> = Pin<Box<dyn Future<Output = Shared> + Send + 'a>>;

/// A store whose operations are futures; see [`Builder::store`](crate::Builder::store). The crate `alvys-auth-store` has some.
pub trait AsyncSharing: Send + Sync {
    /// Carries out an operation on the entry about `subject`. It ends within seconds.
    fn share(&self, subject: Subject, operation: Operation<TokenResponse, Error>) -> SharedFuture<'_>;
}

/// A store whose operations block; see [`AsyncSharing`].
pub trait BlockingSharing: Send + Sync {
    /// Carries out an operation on the entry about `subject`. It ends within seconds.
    ///
    /// # Errors
    /// When the store cannot be used now.
    fn share(&self, subject: &Subject, operation: Operation<TokenResponse, Error>) -> Shared;
}

/// The way from a [`Pace`](crate::Pace) to the store of a token source. Through it, all processes that share a token
/// learn of the waits that the API asks for.
pub trait Waits: Send + Sync {
    /// Begins an operation on the entry about the calls to `endpoint`, and calls `told` with the result. If the
    /// operation is `urgent`, a blocking driver may finish it before this method returns.
    fn begin(
        &self,
        endpoint: &Endpoint,
        operation: Operation<TokenResponse, Error>,
        urgent: bool,
        told: Box<dyn FnOnce(Shared) + Send>,
    );
}
