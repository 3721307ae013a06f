//! The layer: what is common to all services it wraps.

use std::fmt;
use std::sync::Arc;

use alvys_auth_core::Api;
use alvys_auth_driver::{AsyncTokens, Pace};
use tower_layer::Layer;

use crate::Authorize;

/// Authorizes every request that passes, renews the token and repeats the request where the rules say so.
///
/// `T` is where the tokens come from, `B` the body of the requests. [`new`](Self::new) sends a body again by cloning it;
/// [`single_use`](Self::single_use) takes bodies that cannot be cloned.
pub struct AuthorizeLayer<T, B> {
    pub(crate) caller: Arc<Caller<T>>,
    pub(crate) copy: fn(&B) -> Option<B>,
}

/// What authorizes calls: whose tokens, where to, how fast.
#[derive(Debug, Clone)]
pub(crate) struct Caller<T> {
    pub(crate) tokens: T,
    pub(crate) api: Api,
    pub(crate) pace: Option<Pace>,
}

impl<T: AsyncTokens, B> AuthorizeLayer<T, B> {
    /// For bodies that can be cloned, such as `Full<Bytes>`, `Empty<Bytes>` or `String`.
    #[must_use]
    pub fn new(tokens: T, api: Api) -> Self
    where
        B: Clone,
    {
        Self::copying(tokens, api, |body| Some(body.clone()))
    }

    /// For bodies that are streams: no request is ever sent twice.
    #[must_use]
    pub fn single_use(tokens: T, api: Api) -> Self {
        Self::copying(tokens, api, |_| None)
    }

    /// For bodies of which some can be copied: a request whose body gives none is sent once.
    #[must_use]
    pub fn copying(tokens: T, api: Api, copy: fn(&B) -> Option<B>) -> Self {
        Self { caller: Arc::new(Caller { tokens, api, pace: None }), copy }
    }

    /// Shapes the rate of the calls; without it they go out as they come.
    #[must_use]
    pub fn pace(self, pace: Pace) -> Self
    where
        T: Clone,
    {
        let caller = Caller { pace: Some(pace), ..Arc::unwrap_or_clone(self.caller) };
        Self { caller: Arc::new(caller), copy: self.copy }
    }
}

impl<S, T, B> Layer<S> for AuthorizeLayer<T, B> {
    type Service = Authorize<S, T, B>;

    fn layer(&self, inner: S) -> Self::Service {
        Authorize { inner, layer: self.clone() }
    }
}

impl<T, B> Clone for AuthorizeLayer<T, B> {
    fn clone(&self) -> Self {
        Self { caller: Arc::clone(&self.caller), copy: self.copy }
    }
}

impl<T, B> fmt::Debug for AuthorizeLayer<T, B> {
    /// Leaves the tokens out: they may be of any type.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizeLayer").field("api", &self.caller.api).finish_non_exhaustive()
    }
}
