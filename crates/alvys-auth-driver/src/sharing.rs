//! The store that a token is shared through, as a driver asks it.

use std::pin::Pin;

use alvys_auth_core::share::{Answer, Operation};
use alvys_auth_core::{Error, TokenRequest, TokenResponse};

/// What a store answers, unless it cannot be used now.
pub type Shared = Result<Answer<TokenResponse, Error>, Error>;

/// An answer that is on its way; from [`AsyncSharing::share`].
pub type SharedFuture<'a> = Pin<Box<dyn Future<Output = Shared> + Send + 'a>>;

/// A store whose operations are futures; see [`Builder::store`](crate::Builder::store). The crate `alvys-auth-store` has some.
pub trait AsyncSharing: Send + Sync {
    /// Carries out an operation on the token that `request` gets. It ends within seconds.
    fn share(&self, request: TokenRequest, operation: Operation<TokenResponse, Error>) -> SharedFuture<'_>;
}

/// A store whose operations block; see [`AsyncSharing`].
pub trait BlockingSharing: Send + Sync {
    /// Carries out an operation on the token that `request` gets. It ends within seconds.
    ///
    /// # Errors
    /// When the store cannot be used now.
    fn share(&self, request: &TokenRequest, operation: Operation<TokenResponse, Error>) -> Shared;
}
