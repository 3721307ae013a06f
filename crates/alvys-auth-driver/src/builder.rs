//! The builders of a token source and of many tenants, for any driver.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use alvys_auth_core::{Change, Credentials, Error, Flow, Mark, Policy, TokenRequest, TokenResponse};

use crate::engine::Watch;
use crate::{Engine, TenantDriver, Tenants, Time};

/// How long a caller waits for a token by default.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a driver adds to a [`Builder`].
pub trait Driver: Sized {
    /// The transport settings of the HTTP client.
    type Http;
    /// The transport of token requests. Several sources may share one.
    type Transport;
    /// The type of the provider of credentials.
    type Provider: ?Sized;
    /// The type of the store that the token is shared through.
    type Store: ?Sized;
    /// The token source.
    type Source;

    /// How long the provider may take to answer; none for as long as a token request.
    fn time_limit(provider: &Self::Provider) -> Option<Duration>;

    /// Makes a transport for requests like this one. Each may take `timeout`.
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
    pub engine: Engine,
    /// The provider of credentials, if there is one.
    pub provider: Option<Arc<D::Provider>>,
    /// The parts that several sources may share.
    pub common: Arc<Common<D>>,
}

/// The parts that the sources of many tenants share.
pub struct Common<D: Driver> {
    /// What sends token requests.
    pub transport: D::Transport,
    /// The store that the token is shared through, if there is one.
    pub store: Option<Arc<D::Store>>,
    /// How long the provider may take to answer.
    pub time_limit: Duration,
    /// How long callers wait for a token.
    pub patience: Duration,
}

impl<D: Driver> AsRef<Engine> for Parts<D> {
    fn as_ref(&self) -> &Engine {
        &self.engine
    }
}

impl<D: Driver> fmt::Debug for Parts<D> {
    /// Leaves the transport and the provider out, because they may be of any type.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.engine, f)
    }
}

/// Settings of a token source; from `TokenSource::builder` of a driver. [`TenantsBuilder`] makes the sources of many tenants.
#[must_use = "a builder does nothing until it is built"]
pub struct Builder<D: Driver, K = One<D>> {
    settings: Settings<D>,
    kind: K,
}

/// Settings of many tenants; from `Tenants::builder` of a driver.
pub type TenantsBuilder<D> = Builder<D, Many<D>>;

/// The settings of every builder.
pub(crate) struct Settings<D: Driver> {
    pub(crate) policy: Arc<Policy>,
    pub(crate) patience: Duration,
    pub(crate) http: Option<D::Http>,
    pub(crate) store: Option<Arc<D::Store>>,
    pub(crate) time: Time,
}

/// The further settings of one source.
pub struct One<D: Driver> {
    flow: Flow,
    credentials: Credentials,
    provider: Option<(Arc<D::Provider>, Option<Mark>)>,
    watch: Option<Box<dyn Watch>>,
    held: Option<TokenResponse>,
}

/// The further settings of many tenants.
pub struct Many<D: TenantDriver> {
    pub(crate) provider: Arc<D::TenantProvider>,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) capacity: NonZeroUsize,
    pub(crate) guard: bool,
    pub(crate) workers: usize,
    pub(crate) hook: Option<TenantHook>,
}

/// Called after each change of each tenant.
type TenantHook = Box<dyn Fn(&str, &Change) + Send + Sync>;

impl<D: Driver, K> Builder<D, K> {
    fn of(kind: K) -> Self {
        let (policy, patience, time) = (Arc::default(), PATIENCE, Time::boot());
        Self { settings: Settings { policy, patience, http: None, store: None, time }, kind }
    }

    /// When to renew, how long a request may take, how long to back off.
    pub fn policy(mut self, policy: impl Into<Arc<Policy>>) -> Self {
        self.settings.policy = policy.into();
        self
    }

    /// How long one call of `token()` may wait for a token; 15 seconds. The first callers of one of many tenants wait for the
    /// provider in addition.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.settings.patience = patience;
        self
    }

    /// Your own transport settings: certificates, proxies, name resolution, user agent. The driver overrides some of
    /// them; see its `TokenSource`.
    pub fn http(mut self, http: impl Into<D::Http>) -> Self {
        self.settings.http = Some(http.into());
        self
    }

    /// Shares tokens with all processes that use the same store, on this host or in a fleet. One of them requests a
    /// token, and the others take it from the store. By default nothing is shared.
    ///
    /// While a token is held and is not due for renewal, the store is not asked. When the store cannot be used, the
    /// source goes on alone, and reports that once.
    pub fn store(mut self, store: Arc<D::Store>) -> Self {
        self.settings.store = Some(store);
        self
    }

    /// Another clock than the system's, such as a [`ManualClock`](crate::ManualClock) in tests.
    pub fn clock(mut self, time: impl Into<Time>) -> Self {
        self.settings.time = time.into();
        self
    }
}

impl<D: Driver> Builder<D> {
    /// The default settings, each stated at its setter.
    pub fn new(flow: Flow, credentials: Credentials) -> Self {
        Self::of(One { flow, credentials, provider: None, watch: None, held: None })
    }

    /// The provider of the credentials. It is asked for other credentials before each token request. It is asked once
    /// more when the server refuses the credentials in use, or gives a token of another organization, before that is
    /// reported.
    pub fn provider(self, provider: Arc<D::Provider>) -> Self {
        // The mark of the credentials in use is not known, so the provider is asked before the first request.
        self.provider_of(provider, None)
    }

    /// Like [`provider`](Self::provider), where the mark of the credentials in use is known.
    pub fn provider_of(mut self, provider: Arc<D::Provider>, known: Option<Mark>) -> Self {
        self.kind.provider = Some((provider, known));
        self
    }

    /// Calls `hook` after each change: a token was obtained, renewed or rejected, a failure pauses, or the credentials
    /// have changed. The hook must not block, and may use the source.
    pub fn on_change(mut self, hook: impl Fn(&Change) + Send + Sync + 'static) -> Self {
        self.kind.watch = Some(Box::new(hook));
        self
    }

    /// Starts with a token that you have already, such as one from the last run; see [`Engine::adopt`].
    pub fn holding(mut self, response: TokenResponse) -> Self {
        self.kind.held = Some(response);
        self
    }

    /// Checks everything and makes the source.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](alvys_auth_core::ErrorKind::Configuration) when a value is refused or no HTTP client can
    /// be built.
    pub fn build(self) -> Result<D::Source, Error> {
        let (Settings { policy, patience, http, store, time }, one) = (self.settings, self.kind);
        let request = TokenRequest::new(one.flow, one.credentials)?;
        let timeout = policy.timeout();
        let transport = D::transport(http, &request, timeout)?;
        let (provider, known) = one.provider.unzip();
        let time_limit = provider.as_deref().and_then(D::time_limit).unwrap_or(timeout);
        let asked = provider.is_some().then(|| (known.flatten(), None, time_limit));
        let engine = Engine::new(request, policy, asked, store.is_some(), time, one.watch);
        if let Some(held) = one.held {
            engine.adopt(held);
        }
        let common = Arc::new(Common { transport, store, time_limit, patience });
        Ok(D::source(Arc::new(Parts { engine, provider, common })))
    }
}

impl<D: TenantDriver> TenantsBuilder<D> {
    /// The default settings, each stated at its setter. The provider may take as long as `time_limit` to answer; none for as
    /// long as a token request.
    pub fn new(provider: Arc<D::TenantProvider>, time_limit: Option<Duration>) -> Self {
        let capacity = const { NonZeroUsize::new(100_000).unwrap() };
        Self::of(Many { provider, time_limit, capacity, guard: true, workers: 0, hook: None })
    }

    /// How many tenants are kept, at least 1; 100,000. For one more, the tenant that was kept longest and not used
    /// lately is evicted.
    pub fn capacity(mut self, tenants: usize) -> Self {
        self.kind.capacity = NonZeroUsize::new(tenants).unwrap_or(NonZeroUsize::MIN);
        self
    }

    /// Accepts tokens that do not name their tenant as the organization that they are for.
    ///
    /// Use this if your tenant ids are not those of Alvys. It is better to give each flow the organization that it
    /// expects; see [`Flow::expect_organization`](alvys_auth_core::Flow::expect_organization).
    pub fn without_organization_guard(mut self) -> Self {
        self.kind.guard = false;
        self
    }

    /// Renews tokens that were used since their last renewal in the background, at most `concurrency` at a time; off.
    ///
    /// Without background renewal, a token is renewed when somebody asks for it near its end. Nobody waits for that
    /// renewal, as long as somebody asks before the token expires. With background renewal, a caller who asks near the
    /// end gets the token that is held, and a worker renews it. If no worker has renewed it shortly before its end, a
    /// caller does. The same holds for the source of a tenant until the tenant is forgotten or evicted.
    ///
    /// The workers begin with the first tenant and end with the tenants: threads of the blocking driver, tasks of the async
    /// driver on the tokio runtime of that first call.
    pub fn renew_in_background(mut self, concurrency: usize) -> Self {
        self.kind.workers = concurrency;
        self
    }

    /// Calls `hook` with the tenant after each change of its token; see [`Builder::on_change`].
    pub fn on_change(mut self, hook: impl Fn(&str, &Change) + Send + Sync + 'static) -> Self {
        self.kind.hook = Some(Box::new(hook));
        self
    }

    /// Makes the tenants. Nothing is requested yet.
    pub fn build(self) -> D::Tenants {
        Tenants::new(self.settings, self.kind).into()
    }
}

impl<D: Driver, K> fmt::Debug for Builder<D, K> {
    /// Leaves out the transport settings, because they may hold a password, and providers, because they may be of any
    /// type.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { policy, patience, .. } = &self.settings;
        f.debug_struct("Builder").field("policy", policy).field("patience", patience).finish_non_exhaustive()
    }
}

impl<D: Driver> fmt::Debug for Common<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Common")
    }
}

impl<D: Driver> fmt::Debug for One<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("One")
    }
}

impl<D: TenantDriver> fmt::Debug for Many<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Many")
    }
}
