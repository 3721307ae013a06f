//! How a token source of any driver is put together.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use alvys_auth_core::{Change, Credentials, Error, Flow, Mark, Policy, TokenRequest, TokenResponse};

use crate::engine::Hook;
use crate::{Engine, Time};

/// How long a caller waits for a token by default.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// What a driver adds to a [`Builder`].
pub trait Driver: Sized {
    /// The transport settings of the HTTP client.
    type Http;
    /// What sends token requests, which several sources may share.
    type Transport;
    /// What is asked for credentials.
    type Provider: ?Sized;
    /// What the token is shared through.
    type Store: ?Sized;
    /// The token source.
    type Source;

    /// How long the provider may take to answer; none for as long as a token request.
    fn time_limit(provider: &Self::Provider) -> Option<Duration>;

    /// Makes a transport for requests like this one, which may take so long.
    ///
    /// # Errors
    /// When no HTTP client can be built, or it does not take the URL of the request.
    fn transport(http: Option<Self::Http>, request: &TokenRequest, timeout: Duration)
    -> Result<Self::Transport, Error>;

    /// Makes the source.
    fn source(parts: Arc<Parts<Self>>) -> Self::Source;
}

/// What a token source is made of.
pub struct Parts<D: Driver> {
    /// The state that callers share.
    pub engine: Arc<Engine>,
    /// What sends token requests.
    pub transport: Arc<D::Transport>,
    /// What is asked for credentials, if anything.
    pub provider: Option<Arc<D::Provider>>,
    /// What the token is shared through, if anything.
    pub store: Option<Arc<D::Store>>,
    /// How long the provider may take to answer.
    pub time_limit: Duration,
    /// How long callers wait for a token.
    pub patience: Duration,
}

impl<D: Driver> fmt::Debug for Parts<D> {
    /// Leaves the transport and the provider out, which may be of any type.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.engine, f)
    }
}

/// Settings of a token source; from `TokenSource::builder` of a driver.
#[must_use = "a builder does nothing until it is built"]
pub struct Builder<D: Driver> {
    flow: Flow,
    credentials: Credentials,
    provider: Option<(Arc<D::Provider>, Option<Mark>)>,
    store: Option<Arc<D::Store>>,
    policy: Arc<Policy>,
    patience: Duration,
    http: Option<D::Http>,
    transport: Option<Arc<D::Transport>>,
    time: Time,
    hook: Option<Hook>,
    held: Option<TokenResponse>,
}

impl<D: Driver> Builder<D> {
    /// The default settings, each stated at its setter.
    pub fn new(flow: Flow, credentials: Credentials) -> Self {
        Self {
            flow,
            credentials,
            provider: None,
            store: None,
            policy: Arc::default(),
            patience: PATIENCE,
            http: None,
            transport: None,
            time: Time::boot(),
            hook: None,
            held: None,
        }
    }

    /// When to renew, how long a request may take, how long to back off.
    pub fn policy(mut self, policy: impl Into<Arc<Policy>>) -> Self {
        self.policy = policy.into();
        self
    }

    /// How long one call of `token()` may wait for a token; 15 seconds.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Where to look for other credentials: before each token request, and once more when the server refuses the ones in use
    /// or gives a token of another organization, before that is reported.
    pub fn provider(self, provider: Arc<D::Provider>) -> Self {
        // Nobody knows what is in use already: the provider is asked for it before the first request.
        self.provider_of(provider, None)
    }

    /// Like [`provider`](Self::provider), where the mark of the credentials in use is known.
    pub fn provider_of(mut self, provider: Arc<D::Provider>, known: Option<Mark>) -> Self {
        self.provider = Some((provider, known));
        self
    }

    /// Shares the token with everybody who uses the same store: other processes of this host, or of a fleet. One of them asks
    /// for a token, and the others take it from there. By default nothing is shared.
    ///
    /// While a token is held and is not due for renewal, the store is not asked. When it cannot be used, the source goes on
    /// alone, and tells of that once.
    pub fn store(mut self, store: Arc<D::Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Your own transport settings: certificates, proxies, name resolution, user agent. See the driver's `TokenSource` for
    /// those that are set over yours.
    pub fn http(mut self, http: impl Into<D::Http>) -> Self {
        self.http = Some(http.into());
        self
    }

    /// Sends through a transport that other sources use too.
    #[doc(hidden)]
    pub fn transport(mut self, transport: Arc<D::Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Another clock than the system's, such as a [`ManualClock`](crate::ManualClock) in tests.
    pub fn clock(mut self, time: impl Into<Time>) -> Self {
        self.time = time.into();
        self
    }

    /// Is called with every change: a token was obtained, renewed or rejected, a failure pauses, the credentials have
    /// changed. It must not block, and may use the source.
    pub fn on_change(mut self, hook: impl Fn(&Change) + Send + Sync + 'static) -> Self {
        self.hook = Some(Box::new(hook));
        self
    }

    /// Starts with a token that is already there, such as one that was kept from the last run; see [`Engine::adopt`].
    pub fn holding(mut self, response: TokenResponse) -> Self {
        self.held = Some(response);
        self
    }

    /// Checks everything and makes the source.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](alvys_auth_core::ErrorKind::Configuration) when a value is refused or no HTTP client can
    /// be built.
    pub fn build(self) -> Result<D::Source, Error> {
        let request = TokenRequest::new(self.flow, self.credentials)?;
        let timeout = self.policy.timeout();
        let transport = match self.transport {
            Some(shared) => shared,
            None => Arc::new(D::transport(self.http, &request, timeout)?),
        };
        let (provider, known) = self.provider.unzip();
        let time_limit = provider.as_deref().and_then(D::time_limit).unwrap_or(timeout);
        let asked = provider.is_some().then(|| (known.flatten(), None, time_limit));
        let engine = Engine::new(request, self.policy, asked, self.store.is_some(), self.time, self.hook);
        if let Some(held) = self.held {
            engine.adopt(held);
        }
        let (engine, patience) = (Arc::new(engine), self.patience);
        Ok(D::source(Arc::new(Parts { engine, transport, provider, store: self.store, time_limit, patience })))
    }
}

impl<D: Driver> fmt::Debug for Builder<D> {
    /// Leaves the transport settings out, which may hold a password, and the provider, which may be of any type.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("flow", &self.flow)
            .field("credentials", &self.credentials)
            .field("policy", &self.policy)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}
