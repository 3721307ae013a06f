//! What a client of the API needs from a token source, whichever driver that is from.

use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use alvys_auth_core::{Error, Snapshot, Status, Timestamp, Token, TokenResponse};

/// A token that is on its way; from [`AsyncTokens::token`].
pub type TokenFuture<'a> = Pin<Box<dyn Future<Output = Result<Token, Error>> + Send + 'a>>;

/// An async source of tokens.
///
/// Clients, middlewares and layers take their tokens through this, so that they do not depend on how they are fetched.
/// `Arc`, `Box` and references of a source are sources too.
pub trait AsyncTokens: Send + Sync {
    /// A token that is usable now, fetched first when none is. The future fails with the reason why no token is to be had.
    fn token(&self) -> TokenFuture<'_>;

    /// The API answered 401 to `token`: gives it up, and says whether one retry with another token is worth it.
    fn reject(&self, token: &Token) -> bool;

    /// The state now, for health endpoints. Asks nobody and waits for nothing.
    fn status(&self) -> Status;
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
}

/// A source that always has the same token and asks nobody: for tests of code that takes a source.
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
    /// Holds this access token, which may do what `scope` lists, separated by spaces, and never expires.
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

    /// No: there is no other token.
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
        }
    )*};
}

forward!(AsyncTokens, TokenFuture<'_>, &T, Box<T>, Arc<T>);
forward!(BlockingTokens, Result<Token, Error>, &T, Box<T>, Arc<T>);
