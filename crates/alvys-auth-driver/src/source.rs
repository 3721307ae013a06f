//! What a client of the API needs from a token source of any driver.

use std::fmt;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use alvys_auth_core::{Error, Snapshot, Status, Timestamp, Token, TokenResponse};

use crate::Waits;

/// The future of a token; from [`AsyncTokens::token`].
pub type TokenFuture<'a> = Pin<Box<dyn Future<Output = Result<Token, Error>> + Send + 'a>>;

/// An async source of tokens.
///
/// Clients, middlewares and layers take their tokens through this trait, so that they do not depend on how tokens are
/// fetched. `Arc`, `Box` and references of a source are sources too.
pub trait AsyncTokens: Send + Sync {
    /// Gives a token that is usable now. If none is held, one is fetched first. The future fails with the reason why
    /// there is no token.
    fn token(&self) -> TokenFuture<'_>;

    /// The API answered 401 to `token`: gives it up, and says whether one retry with another token is worth it.
    fn reject(&self, token: &Token) -> bool;

    /// The state now, for health endpoints. Asks nobody and waits for nothing.
    fn status(&self) -> Status;

    /// How a client tells those who share the token of the waits that the API asks for; none where nobody shares it.
    fn waits(&self) -> Option<Arc<dyn Waits>> {
        None
    }
}

/// A blocking source of tokens; see [`AsyncTokens`].
pub trait BlockingTokens: Send + Sync {
    /// A token that is usable now, fetched first when none is.
    ///
    /// # Errors
    /// Why no token is to be had.
    fn token(&self) -> Result<Token, Error>;

    /// The API answered 401 to `token`: gives it up, and says whether one retry with another token is worth it.
    fn reject(&self, token: &Token) -> bool;

    /// The state now, for health endpoints. Asks nobody and waits for nothing.
    fn status(&self) -> Status;

    /// How a client tells those who share the token of the waits that the API asks for; none where nobody shares it.
    fn waits(&self) -> Option<Arc<dyn Waits>> {
        None
    }
}

/// A token source as a client holds it. Any source can be converted into it.
///
/// `T` is `dyn AsyncTokens` or `dyn BlockingTokens`; this type has its methods.
pub struct Tokens<T: ?Sized>(Arc<T>);

impl<S: AsyncTokens + 'static> From<S> for Tokens<dyn AsyncTokens> {
    fn from(source: S) -> Self {
        Self(Arc::new(source))
    }
}

impl<S: BlockingTokens + 'static> From<S> for Tokens<dyn BlockingTokens> {
    fn from(source: S) -> Self {
        Self(Arc::new(source))
    }
}

/// Tokens that may be shared with other processes.
pub trait MayBeShared {
    /// See [`AsyncTokens::waits`].
    fn waits(&self) -> Option<Arc<dyn Waits>>;
}

impl MayBeShared for Tokens<dyn AsyncTokens> {
    fn waits(&self) -> Option<Arc<dyn Waits>> {
        self.0.waits()
    }
}

impl MayBeShared for Tokens<dyn BlockingTokens> {
    fn waits(&self) -> Option<Arc<dyn Waits>> {
        self.0.waits()
    }
}

impl<T: ?Sized> Clone for Tokens<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: ?Sized> Deref for Tokens<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> fmt::Debug for Tokens<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

/// A source that always gives the same token and sends no requests. It is for tests of code that takes a source.
///
/// ```
/// use alvys_auth_driver::{BlockingTokens, FixedTokens};
///
/// let tokens = FixedTokens::holding("an.access.token", "load:read")?;
/// assert_eq!(BlockingTokens::token(&tokens)?.header(), "Bearer an.access.token");
/// # Ok::<(), alvys_auth_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct FixedTokens(Token);

impl FixedTokens {
    /// Holds this access token, which never expires. `scope` lists its scopes, separated by spaces.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidResponse`](alvys_auth_core::ErrorKind::InvalidResponse) when the text cannot be a token.
    pub fn holding(access_token: &str, scope: &str) -> Result<Self, Error> {
        let response = TokenResponse::new(access_token, Duration::from_secs(u32::MAX.into()), scope)?;
        let never = || Error::configuration("the token has no lifetime", "give it one");
        Token::given(response, Timestamp::default()).map(Self).ok_or_else(never)
    }
}

impl AsyncTokens for FixedTokens {
    fn token(&self) -> TokenFuture<'_> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }

    /// Returns false, because there is no other token.
    fn reject(&self, _: &Token) -> bool {
        false
    }

    fn status(&self) -> Status {
        Snapshot::holding(self.0.clone()).status(Timestamp::default())
    }
}

impl BlockingTokens for FixedTokens {
    fn token(&self) -> Result<Token, Error> {
        Ok(self.0.clone())
    }

    fn reject(&self, token: &Token) -> bool {
        AsyncTokens::reject(self, token)
    }

    fn status(&self) -> Status {
        AsyncTokens::status(self)
    }
}

macro_rules! forward {
    ($trait:ident, $token:ty, $($pointer:ty),*) => {$(
        impl<T: $trait + ?Sized> $trait for $pointer {
            fn token(&self) -> $token {
                self.deref().token()
            }

            fn reject(&self, token: &Token) -> bool {
                self.deref().reject(token)
            }

            fn status(&self) -> Status {
                self.deref().status()
            }

            fn waits(&self) -> Option<Arc<dyn Waits>> {
                self.deref().waits()
            }
        }
    )*};
}

forward!(AsyncTokens, TokenFuture<'_>, &T, Box<T>, Arc<T>);
forward!(BlockingTokens, Result<Token, Error>, &T, Box<T>, Arc<T>);
