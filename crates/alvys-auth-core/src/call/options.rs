//! What a caller says of one call.

use crate::Scope;

/// What a caller says of one call.
///
/// ```
/// use alvys_auth_core::{CallOptions, Scope};
///
/// let options = CallOptions::new().idempotent().require([Scope::LOAD_CREATE]);
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "its setters give back the changed value"]
pub struct CallOptions {
    pub(crate) idempotent: bool,
    pub(crate) single_use_body: bool,
    pub(crate) required: Vec<Scope>,
}

impl CallOptions {
    /// A call that is repeated only where nothing can happen twice.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that sending the request twice does the same as sending it once, so that it may be repeated after a rate
    /// limit or an outage even though its method is not a safe one (RFC 9110, section 9.2.1).
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Says that the body cannot be sent again, because it is a stream; for drivers. Such a call is never repeated.
    pub fn single_use_body(mut self) -> Self {
        self.single_use_body = true;
        self
    }

    /// Names scopes that the token must have; without them nothing is sent.
    ///
    /// Scopes that nothing is known of, as with an opaque token, are left for the API to judge.
    pub fn require<S: Into<Scope>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.required.extend(scopes.into_iter().map(Into::into));
        self
    }
}
