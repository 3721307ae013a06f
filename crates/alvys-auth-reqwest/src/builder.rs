//! How a token source is put together.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use alvys_auth_core::{Credentials, Error, Flow, Policy, TokenRequest};
use alvys_auth_driver::{Engine, Rotation};
use tokio::sync::Notify;

use crate::runtimes::Http;
use crate::source::Inner;
use crate::tls::default_http;
use crate::transport::Transport;
use crate::{CredentialsProvider, TokenSource};

/// Settings of a [`TokenSource`]; from [`TokenSource::builder`].
#[must_use = "a builder does nothing until it is built"]
pub struct Builder {
    flow: Flow,
    credentials: Credentials,
    rotation: Option<Rotation<dyn CredentialsProvider>>,
    policy: Policy,
    patience: Duration,
    http: Http,
    transport: Option<Arc<Transport>>,
}

impl fmt::Debug for Builder {
    /// Leaves the client out: its default headers may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flow, credentials, rotation, policy, patience, http: _, transport: _ } = self;
        f.debug_struct("Builder")
            .field("flow", flow)
            .field("credentials", credentials)
            .field("rotation", rotation)
            .field("policy", policy)
            .field("patience", patience)
            .finish_non_exhaustive()
    }
}

impl Builder {
    pub(crate) fn new(flow: Flow, credentials: Credentials) -> Self {
        Self {
            flow,
            credentials,
            rotation: None,
            policy: Policy::new(),
            patience: Duration::from_secs(15),
            http: Arc::new(default_http),
            transport: None,
        }
    }

    /// When to renew, how long a request may take, how long to back off.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// How long one call of [`TokenSource::token`] may wait for a token; 15 seconds.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Where to look for other credentials: before a token request when the provider's revision has changed, and once when the
    /// server refuses the ones in use or gives a token of another organization, before that is reported.
    pub fn provider(self, provider: impl CredentialsProvider) -> Self {
        // Nobody knows what is in use already: the provider is asked before the first request.
        self.rotation(Arc::new(provider), None)
    }

    pub(crate) fn rotation(mut self, provider: Arc<dyn CredentialsProvider>, revision: Option<u64>) -> Self {
        self.rotation = Some(Rotation::new(provider, revision));
        self
    }

    /// Your own transport settings: certificates, proxies, name resolution, user agent. `http` is called when the source is
    /// built and for each further tokio runtime, because runtimes share no connections.
    ///
    /// Redirects, retries, timeouts, `pool_idle_timeout` (2 seconds) and `https_only` are set over yours, and proxies are
    /// taken off an endpoint on this machine. A builder is asked for because a finished client does not tell its redirect
    /// policy.
    pub fn http(mut self, http: impl Fn() -> reqwest::ClientBuilder + Send + Sync + 'static) -> Self {
        self.http = Arc::new(http);
        self
    }

    /// Sends through a transport that other sources use too.
    pub(crate) fn transport(mut self, transport: Arc<Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Checks everything and makes the source.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when a value is refused or no HTTP client can be
    /// built.
    pub fn build(self) -> Result<TokenSource, Error> {
        let request = TokenRequest::new(self.flow, self.credentials)?;
        Transport::check(&request)?;
        let transport = match self.transport {
            Some(shared) => shared,
            None => Arc::new(Transport::new(self.http, request.is_plain_http(), self.policy.timeout())?),
        };
        let changed = Arc::new(Notify::new());
        let waiters = Arc::clone(&changed);
        let engine = Engine::new(request, self.policy, move || waiters.notify_waiters());
        Ok(TokenSource(Arc::new(Inner {
            engine: Arc::new(engine),
            changed,
            transport,
            rotation: self.rotation,
            patience: self.patience,
            workers: OnceLock::new(),
        })))
    }
}
