//! Tokens for any number of tenants, each with its own flow, credentials and token.

use std::fmt;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use alvys_auth_core::{Credentials, Error, ErrorKind, Given, Mark, Policy, Token, TokenRequest};
use alvys_auth_driver::{Entry, Member, Next, Registry, RenewalPlan, known_tenant};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OnceCell};

use crate::transport::{Http, Transport};
use crate::{AsyncCredentialsProvider, AsyncTenantProvider, ProviderFuture, TokenSource};

/// A token source for each tenant: made on first use, bounded in number, the least recently used out first.
///
/// Tenants share nothing but their HTTP client: the failure, the lock or the back-off of one never touches another. A tenant
/// that the provider does not know is an error, and gets nobody else's token. One that the provider stops knowing has its
/// token until that is due to be renewed, and is forgotten then. Each token must name its tenant as the organization it is
/// for, unless the flow expects another one. Cheap to clone; clones share the sources.
///
/// ```no_run
/// use alvys_auth_reqwest::{Credentials, Error, Flow, Tenants};
///
/// # async fn run() -> Result<(), Error> {
/// let tenants = Tenants::new(|tenant: &str| match tenant {
///     "va336" => Ok(Some((Flow::current(), Credentials::new("my-client", "s3cret")?))),
///     _ => Ok(None),
/// });
/// let token = tenants.token("va336").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Tenants(Arc<Inner>);

struct Inner {
    provider: Arc<dyn AsyncTenantProvider>,
    registry: Registry<Arc<Member<TokenSource>>, OnceCell<Result<TokenSource, Error>>>,
    settings: Settings,
    /// One for https, one for plain http to this machine.
    transports: [OnceCell<Arc<Transport>>; 2],
    plan: RenewalPlan<TokenSource>,
    changed: Arc<Notify>,
    working: OnceLock<()>,
}

struct Settings {
    policy: Policy,
    patience: Option<Duration>,
    guard: bool,
    workers: usize,
    client: Http,
}

/// Settings of [`Tenants`]; from [`Tenants::builder`].
#[must_use = "a builder does nothing until it is built"]
pub struct TenantsBuilder {
    provider: Arc<dyn AsyncTenantProvider>,
    capacity: NonZeroUsize,
    settings: Settings,
}

impl Tenants {
    /// Tenants with default settings.
    pub fn new(provider: impl AsyncTenantProvider) -> Self {
        Self::builder(provider).build()
    }

    /// Tenants with settings of your own.
    pub fn builder(provider: impl AsyncTenantProvider) -> TenantsBuilder {
        TenantsBuilder {
            provider: Arc::new(provider),
            capacity: const { NonZeroUsize::new(100_000).unwrap() },
            settings: Settings {
                policy: Policy::new(),
                patience: None,
                guard: true,
                workers: 0,
                client: Http::default(),
            },
        }
    }

    /// A token of `tenant` that is usable now; see [`TokenSource::token`].
    ///
    /// # Errors
    /// [`ErrorKind::UnknownTenant`](crate::ErrorKind::UnknownTenant) when there is no such tenant, what kept the provider
    /// from telling, or as [`TokenSource::token`].
    pub async fn token(&self, tenant: &str) -> Result<Token, Error> {
        match self.with_token(tenant, Token::clone) {
            Some(token) => Ok(token),
            None => self.source(tenant).await?.token().await,
        }
    }

    /// Lends the token of `tenant` that is usable without asking; none when [`token`](Self::token) has something to do.
    pub fn with_token<R>(&self, tenant: &str, read: impl FnOnce(&Token) -> R) -> Option<R> {
        let member = self.0.registry.ready(tenant)?;
        member.touch();
        member.source.with_token(read)
    }

    /// The source of `tenant`, for what else a source can do, such as a [`Client`](crate::Client) of its own.
    ///
    /// Asking for it is a use of the tenant; what is done with it afterwards is seen here near its token's end only. A
    /// provider that has not answered within its time limit is not waited for any longer; where another call was first, and
    /// nobody goes on with that, the provider is asked again after twice as long.
    ///
    /// # Errors
    /// As [`token`](Self::token), but for what asking for the token itself may end in.
    pub async fn source(&self, tenant: &str) -> Result<TokenSource, Error> {
        let making = match self.0.registry.find(tenant) {
            Entry::Ready(member) => {
                member.touch();
                return Ok(member.source.clone());
            }
            Entry::Making(making) => making,
        };
        if Handle::try_current().is_err() {
            return Err(Error::configuration(
                "a tenant was first used outside of a tokio runtime",
                "use it from a task of a tokio runtime, or use the blocking driver",
            ));
        }
        // The first one makes it inside of its own future, which may rest for ever, half-way.
        let waiting = making.get_or_init(|| self.make(tenant.into()));
        let made = match tokio::time::timeout(self.time_limit().saturating_mul(2), waiting).await {
            Ok(made) => made.clone(),
            Err(_) => self.make(tenant.into()).await,
        };
        let member = made.as_ref().ok().map(|source| Arc::new(Member::new(source.clone())));
        if self.0.registry.settle(tenant, &making, member.clone())
            && let Some(member) = member
        {
            self.plan(&member);
        }
        made
    }

    /// Forgets a tenant: its token is dropped, and its provider is asked again when it is next used. Says whether it was
    /// there.
    pub fn forget(&self, tenant: &str) -> bool {
        self.0.registry.forget(tenant)
    }

    /// How many tenants have a source now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.registry.len()
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    async fn make(&self, tenant: Arc<str>) -> Result<TokenSource, Error> {
        let Inner { provider, settings, .. } = &*self.0;
        let given = Arc::clone(provider).tenant(Arc::clone(&tenant), None);
        let given = tokio::time::timeout(self.time_limit(), given).await;
        let late = |_| Err(Error::timed_out("the tenant provider did not answer in time"));
        let (given, mark) = given.unwrap_or_else(late)?.first()?;
        let (flow, credentials) = known_tenant(&tenant, given, settings.guard)?;
        let plain_http = TokenRequest::new(flow.clone(), credentials.clone())?.is_plain_http();
        let transport = self.0.transport(plain_http).await?;
        let own = Arc::new(OfTenant { provider: Arc::clone(provider), tenant, tenants: Arc::downgrade(&self.0) });
        let builder = TokenSource::builder(flow, credentials).policy(settings.policy.clone()).transport(transport);
        let builder = match settings.patience {
            Some(patience) => builder.patience(patience),
            None => builder,
        };
        builder.provider_of(own, Some(mark)).build()
    }

    /// How long the provider may take.
    fn time_limit(&self) -> Duration {
        self.0.provider.time_limit().unwrap_or_else(|| self.0.settings.policy.timeout())
    }

    /// Sees to a new member's renewal, if that is wanted, by workers that begin with the first one.
    fn plan(&self, member: &Arc<Member<TokenSource>>) {
        if self.0.settings.workers == 0 {
            return;
        }
        let (tenants, planned) = (Arc::downgrade(&self.0), Arc::downgrade(member));
        // Once it was forgotten or pushed out, the source is on its own.
        let renewed = move || match (tenants.upgrade(), planned.upgrade()) {
            (Some(inner), Some(member)) => {
                inner.plan.hurry(&member);
                true
            }
            _ => false,
        };
        member.source.leave_renewals_to(renewed);
        self.0.plan.add(member);
        self.0.working.get_or_init(|| {
            for _ in 0..self.0.settings.workers {
                tokio::spawn(work(Arc::downgrade(&self.0), Arc::clone(&self.0.changed)));
            }
        });
    }
}

/// Renews what is due, one source at a time, until the tenants are gone.
async fn work(tenants: Weak<Inner>, changed: Arc<Notify>) {
    loop {
        // Listening begins before the look, so that no change falls between the two.
        let mut change = pin!(changed.notified());
        change.as_mut().enable();
        let Some(inner) = tenants.upgrade() else { return };
        match inner.plan.next(|source: &TokenSource| source.renewal_due()) {
            Next::Due(member) => {
                drop(inner);
                let source = member.source.clone();
                // A panic ends this task, which counts as a failure, and not the worker.
                let renewed = tokio::spawn(async move {
                    source.renew().await;
                    source.status().last_error.is_none()
                })
                .await
                .unwrap_or(false);
                if let Some(inner) = tenants.upgrade() {
                    inner.plan.put_back(&member, renewed);
                }
            }
            Next::Idle(wait) => {
                drop(inner);
                // Either way the plan tells what is due.
                let _ = tokio::time::timeout(wait, change).await;
            }
        }
    }
}

impl Inner {
    async fn transport(&self, plain_http: bool) -> Result<Arc<Transport>, Error> {
        let [https, http] = &self.transports;
        let Settings { client, policy, .. } = &self.settings;
        let make = async || Transport::new(client.clone(), plain_http, policy.timeout()).map(Arc::new);
        (if plain_http { http } else { https }).get_or_try_init(make).await.cloned()
    }
}

impl Drop for Inner {
    /// Lets the workers see that there is nothing left to do.
    fn drop(&mut self) {
        self.changed.notify_waiters();
    }
}

impl TenantsBuilder {
    /// How many tenants are kept, at least 1; 100,000. One more pushes out the one that was not used for longest.
    pub fn capacity(mut self, tenants: usize) -> Self {
        self.capacity = NonZeroUsize::new(tenants).unwrap_or(NonZeroUsize::MIN);
        self
    }

    /// When to renew, how long a request may take, how long to back off; for every tenant.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.settings.policy = policy;
        self
    }

    /// How long one call may wait for a token; see [`Builder::patience`](crate::Builder::patience).
    pub fn patience(mut self, patience: Duration) -> Self {
        self.settings.patience = Some(patience);
        self
    }

    /// Takes tokens that do not name their tenant as the organization they are for.
    ///
    /// For tenant ids that are not the ones Alvys uses. Better give each flow the organization it expects; see
    /// [`Flow::expect_organization`](crate::Flow::expect_organization).
    pub fn without_organization_guard(mut self) -> Self {
        self.settings.guard = false;
        self
    }

    /// Renews tokens that were used since their last renewal in the background, at most `concurrency` at a time; off.
    ///
    /// Without it a token is renewed when somebody asks for it near its end, which makes nobody wait either as long as
    /// somebody does. With it, who asks near its end gets the token that is there and leaves the renewal to the workers. One
    /// that they have not renewed shortly before its end is renewed by who asks, as without them. The same goes for a
    /// [`source`](Tenants::source) until its tenant is forgotten or pushed out. The workers run on
    /// the tokio runtime of the first call and end with the tenants.
    pub fn renew_in_background(mut self, concurrency: usize) -> Self {
        self.settings.workers = concurrency;
        self
    }

    /// Your own transport settings; see [`Builder::http`](crate::Builder::http). In each tokio runtime `http` is called at most
    /// twice, once for https and once for plain http: the tenants share the connections.
    pub fn http(mut self, http: impl Into<Http>) -> Self {
        self.settings.client = http.into();
        self
    }

    /// Makes the tenants. Nobody is asked for anything yet.
    pub fn build(self) -> Tenants {
        let changed: Arc<Notify> = Arc::default();
        let sleepers = Arc::clone(&changed);
        Tenants(Arc::new(Inner {
            provider: self.provider,
            registry: Registry::new(self.capacity),
            settings: self.settings,
            transports: Default::default(),
            plan: RenewalPlan::new(move || sleepers.notify_waiters()),
            changed,
            working: OnceLock::new(),
        }))
    }
}

/// One tenant of a provider, as a provider of credentials; forgotten when there is no such tenant any more.
struct OfTenant {
    provider: Arc<dyn AsyncTenantProvider>,
    tenant: Arc<str>,
    tenants: Weak<Inner>,
}

impl AsyncCredentialsProvider for OfTenant {
    fn credentials(self: Arc<Self>, known: Option<Mark>) -> ProviderFuture<Credentials> {
        Box::pin(async move {
            let given = Arc::clone(&self.provider).tenant(Arc::clone(&self.tenant), known).await?;
            let Given::These(given, mark) = given else { return Ok(Given::Unchanged) };
            let given = known_tenant(&self.tenant, given, false);
            if given.as_ref().is_err_and(|error| error.kind() == ErrorKind::UnknownTenant)
                && let Some(tenants) = self.tenants.upgrade()
            {
                tenants.registry.forget(&self.tenant);
            }
            given.map(|(_, credentials)| Given::These(credentials, mark))
        })
    }

    fn time_limit(&self) -> Option<Duration> {
        self.provider.time_limit()
    }
}

impl fmt::Debug for Tenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenants").field("registry", &self.0.registry).finish_non_exhaustive()
    }
}

impl fmt::Debug for TenantsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantsBuilder").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}
