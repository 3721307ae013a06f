//! The layer: what is common to all services it wraps.

use std::fmt;
use std::sync::Arc;

use alvys_auth_core::Api;
use alvys_auth_driver::{AsyncTokens, Pace, Time, Tokens};

/// Whose calls are made.
pub(crate) type Caller = alvys_auth_driver::Caller<Tokens<dyn AsyncTokens>>;

/// Authorizes every request that passes, renews the token and repeats the request where the rules say so.
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

    /// For bodies of which some can be copied: a request whose body gives none is sent once.
    pub fn copying(tokens: impl AsyncTokens + 'static, api: Api, copy: fn(&B) -> Option<B>) -> Self {
        Self { caller: Arc::new(Caller::new(tokens.into(), api)), copy }
    }

    /// Shapes the rate of the calls; without it they go out as they come. The clock of the pace is the one of the layer.
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
