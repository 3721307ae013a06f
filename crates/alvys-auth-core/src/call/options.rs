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
    /// The defaults: a call is repeated only if nothing can take effect twice.
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

    /// Names scopes that the token must have. If it lacks one, the request is not sent.
    ///
    /// If the scopes of a token are not known, as with an opaque token, the request is sent and the API decides.
    pub fn require<S: Into<Scope>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.required.extend(scopes.into_iter().map(Into::into));
        self
    }
}
