//! What a client of the API needs from a token source, whichever driver that is from.

use alvys_auth_core::{Error, Token};

/// An async source of tokens.
///
/// A stack that sends requests itself, such as a tower layer, takes its tokens through this, so that it does not depend on
/// how they are fetched.
pub trait Tokens: Send + Sync {
    /// A token that is usable now, fetched first when none is.
    ///
    /// # Errors
    /// Why no token is to be had.
    fn token(&self) -> impl Future<Output = Result<Token, Error>> + Send;

    /// The API answered 401 to `token`: gives it up, and says whether one retry with another token is worth it; see
    /// [`Engine::reject`](crate::Engine::reject).
    fn reject(&self, token: &Token) -> bool;
}
