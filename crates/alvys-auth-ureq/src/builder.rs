//! How a token source is put together.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use alvys_auth_core::{Credentials, Error, Flow, Policy, TokenRequest};
use alvys_auth_driver::{CredentialsProvider, Engine, Rotation};
use ureq::Agent;

use crate::TokenSource;
use crate::agent::{agent, config};
use crate::signal::Signal;
use crate::source::Inner;
use crate::transport::Transport;

/// Settings of a [`TokenSource`]; from [`TokenSource::builder`].
#[must_use = "a builder does nothing until it is built"]
pub struct Builder {
    flow: Flow,
    credentials: Credentials,
    rotation: Option<Rotation<dyn CredentialsProvider>>,
    policy: Policy,
    patience: Duration,
    agent: Agent,
}

impl fmt::Debug for Builder {
    /// Leaves the agent out: its settings may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flow, credentials, rotation, policy, patience, agent: _ } = self;
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
            agent: agent(config().build()),
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
    pub fn provider(self, provider: impl CredentialsProvider + 'static) -> Self {
        // Nobody knows what is in use already: the provider is asked before the first request.
        self.rotation(Arc::new(provider), None)
    }

    pub(crate) fn rotation(mut self, provider: Arc<dyn CredentialsProvider>, revision: Option<u64>) -> Self {
        self.rotation = Some(Rotation::new(provider, revision));
        self
    }

    /// Your own transport settings: certificates, proxies, name resolution, user agent.
    ///
    /// Redirects, timeouts, `https_only` and `http_status_as_error` are set over yours for the token request, and proxies
    /// are taken off an endpoint on this machine.
    pub fn agent(mut self, agent: Agent) -> Self {
        self.agent = agent;
        self
    }

    /// Checks everything and makes the source.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when a value is refused.
    pub fn build(self) -> Result<TokenSource, Error> {
        let request = TokenRequest::new(self.flow, self.credentials)?;
        let transport = Transport::new(self.agent, &request, self.policy.timeout());
        let changed = Arc::new(Signal::default());
        let waiters = Arc::clone(&changed);
        let engine = Engine::new(request, self.policy, move || waiters.notify());
        Ok(TokenSource(Arc::new(Inner {
            engine: Arc::new(engine),
            changed,
            transport: Arc::new(transport),
            rotation: self.rotation,
            patience: self.patience,
            workers: OnceLock::new(),
        })))
    }
}
