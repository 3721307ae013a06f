//! The layer: what all services that it wraps have in common.

use std::fmt;
use std::sync::Arc;

use alvys_auth_core::Api;
use alvys_auth_driver::{AsyncTokens, Pace, Time, Tokens};

/// What calls need: tokens, the API and the rate limits.
pub(crate) type Caller = alvys_auth_driver::Caller<Tokens<dyn AsyncTokens>>;

/// Authorizes every request that passes. Renews the token and repeats the request where that is safe and of use.
///
/// `B` is the body of the requests. [`new`](Self::new) sends a body again by cloning it; [`single_use`](Self::single_use)
/// takes bodies that cannot be cloned.
#[must_use = "its setters give back the changed value"]
pub struct AuthorizeLayer<B> {
    pub(crate) caller: Arc<Caller>,
    pub(crate) copy: fn(&B) -> Option<B>,
}

impl<B> AuthorizeLayer<B> {
    /// For bodies that can be cloned, such as `Full<Bytes>`, `Empty<Bytes>` or `String`.
    pub fn new(tokens: impl AsyncTokens + 'static, api: Api) -> Self
    where
        B: Clone,
    {
        Self::copying(tokens, api, |body| Some(body.clone()))
    }

    /// For bodies that are streams: no request is ever sent twice.
    pub fn single_use(tokens: impl AsyncTokens + 'static, api: Api) -> Self {
        Self::copying(tokens, api, |_| None)
    }

    /// For bodies of which only some can be copied. A request whose body gives no copy is sent once.
    pub fn copying(tokens: impl AsyncTokens + 'static, api: Api, copy: fn(&B) -> Option<B>) -> Self {
        Self { caller: Arc::new(Caller::new(tokens.into(), api)), copy }
    }

    /// Keeps the calls within rate limits. Without a pace, calls are sent at once. The layer uses the clock of the
    /// pace.
    pub fn pace(self, pace: Pace) -> Self {
        self.with(|caller| caller.keep_to(pace))
    }

    /// Another clock than the system's, such as a `ManualClock` in tests.
    pub fn clock(self, time: impl Into<Time>) -> Self {
        self.with(|caller| caller.time = time.into())
    }

    fn with(mut self, change: impl FnOnce(&mut Caller)) -> Self {
        change(Arc::make_mut(&mut self.caller));
        self
    }
}

impl<B> Clone for AuthorizeLayer<B> {
    fn clone(&self) -> Self {
        Self { caller: Arc::clone(&self.caller), copy: self.copy }
    }
}

impl<B> fmt::Debug for AuthorizeLayer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizeLayer").field("caller", &self.caller).finish_non_exhaustive()
    }
}
