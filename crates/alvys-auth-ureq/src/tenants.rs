//! Tokens for any number of tenants, each with its own flow, credentials and token.

use std::fmt;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use alvys_auth_core::{Credentials, CredentialsProvider, Error, ErrorKind, Given, Mark, Policy, TenantProvider, Token};
use alvys_auth_driver::{Bell, Entry, Member, Next, Registry, RenewalPlan, Time, known_tenant, open_question};
use event_listener::Listener;
use ureq::Agent;

use crate::TokenSource;
use crate::agent::{agent, config};
use crate::source::asked;

/// A token source for each tenant: made on first use, bounded in number, the least recently used out first.
///
/// Tenants share nothing but their HTTP agent: the failure, the lock or the back-off of one never touches another. A tenant
/// that the provider does not know is an error, and gets nobody else's token. One that the provider stops knowing has its
/// token until that is due to be renewed, and is forgotten then. Each token must name its tenant as the organization it is
/// for, unless the flow expects another one. Cheap to clone; clones share the sources.
///
/// ```no_run
/// use alvys_auth_ureq::{Credentials, Error, Flow, Tenants};
///
/// let tenants = Tenants::new(|tenant: &str| match tenant {
///     "va336" => Ok(Some((Flow::current(), Credentials::new("my-client", "s3cret")?))),
///     _ => Ok(None),
/// });
/// let token = tenants.token("va336")?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Tenants(Arc<Inner>);

struct Inner {
    provider: Arc<dyn TenantProvider>,
    registry: Registry<Arc<Member<TokenSource>>, OnceLock<Result<TokenSource, Error>>>,
    settings: Settings,
    plan: RenewalPlan<TokenSource>,
    added: Bell,
    working: Once,
}

struct Settings {
    policy: Policy,
    patience: Option<Duration>,
    guard: bool,
    workers: usize,
    agent: Agent,
}

/// Settings of [`Tenants`]; from [`Tenants::builder`].
#[must_use = "a builder does nothing until it is built"]
pub struct TenantsBuilder {
    provider: Arc<dyn TenantProvider>,
    capacity: NonZeroUsize,
    settings: Settings,
}

impl Tenants {
    /// Tenants with default settings.
    pub fn new(provider: impl TenantProvider + 'static) -> Self {
        Self::builder(provider).build()
    }

    /// Tenants with settings of your own.
    pub fn builder(provider: impl TenantProvider + 'static) -> TenantsBuilder {
        TenantsBuilder {
            provider: Arc::new(provider),
            capacity: const { NonZeroUsize::new(100_000).unwrap() },
            settings: Settings {
                policy: Policy::new(),
                patience: None,
                guard: true,
                workers: 0,
                agent: agent(config()),
            },
        }
    }

    /// A token of `tenant` that is usable now; see [`TokenSource::token`].
    ///
    /// # Errors
    /// [`ErrorKind::UnknownTenant`](crate::ErrorKind::UnknownTenant) when there is no such tenant, what kept the provider
    /// from telling, or as [`TokenSource::token`].
    pub fn token(&self, tenant: &str) -> Result<Token, Error> {
        match self.with_token(tenant, Token::clone) {
            Some(token) => Ok(token),
            None => self.source(tenant)?.token(),
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
    /// provider that has not answered within its time limit is not waited for any longer.
    ///
    /// # Errors
    /// As [`token`](Self::token), but for what asking for the token itself may end in.
    pub fn source(&self, tenant: &str) -> Result<TokenSource, Error> {
        let making = match self.0.registry.find(tenant) {
            Entry::Ready(member) => {
                member.touch();
                return Ok(member.source.clone());
            }
            Entry::Making(making) => making,
        };
        let made = making.get_or_init(|| self.make(tenant.into())).clone();
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

    fn make(&self, tenant: Arc<str>) -> Result<TokenSource, Error> {
        let Inner { provider, settings, .. } = &*self.0;
        let limit = provider.time_limit().unwrap_or_else(|| settings.policy.timeout());
        let (asking, wanted, question) = (Arc::clone(provider), Arc::clone(&tenant), open_question(provider, &tenant)?);
        let given = asked(limit, move || {
            let _question = question;
            asking.tenant(&wanted, None)
        });
        let late = || Err(Error::timed_out("the tenant provider did not answer in time"));
        let (given, mark) = given.unwrap_or_else(late)?.first()?;
        let (flow, credentials) = known_tenant(&tenant, given, settings.guard)?;
        let own = Arc::new(OfTenant { provider: Arc::clone(provider), tenant, tenants: Arc::downgrade(&self.0) });
        let builder = TokenSource::builder(flow, credentials).policy(settings.policy.clone());
        let builder = match settings.patience {
            Some(patience) => builder.patience(patience),
            None => builder,
        };
        builder.http(settings.agent.clone()).provider_of(own, Some(mark)).build()
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
        self.0.working.call_once(|| {
            for _ in 0..self.0.settings.workers {
                let (tenants, added) = (Arc::downgrade(&self.0), self.0.added.clone());
                // Without a thread to spare, tokens are replaced once they have expired.
                let _ =
                    thread::Builder::new().name("alvys-auth-renewal".to_owned()).spawn(move || work(&tenants, &added));
            }
        });
    }
}

/// Renews what is due, one source at a time, until the tenants are gone.
fn work(tenants: &Weak<Inner>, added: &Bell) {
    loop {
        let change = added.listen();
        let Some(inner) = tenants.upgrade() else { return };
        match inner.plan.next(|source: &TokenSource| source.renewal_due()) {
            Next::Due(member) => {
                drop(inner);
                // A panic ends the attempt, which counts as a failure, and not the worker.
                let renewed = catch_unwind(AssertUnwindSafe(|| member.source.renew())).is_ok()
                    && member.source.status().last_error.is_none();
                if let Some(inner) = tenants.upgrade() {
                    inner.plan.put_back(&member, renewed);
                }
            }
            Next::Idle(wait) => {
                drop(inner);
                let _ = change.wait_timeout(wait);
            }
        }
    }
}

impl Drop for Inner {
    /// Lets the workers see that there is nothing left to do.
    fn drop(&mut self) {
        self.added.ring();
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
    /// [`source`](Tenants::source) until its tenant is forgotten or pushed out. The workers are
    /// threads that begin with the first tenant and end with the tenants.
    pub fn renew_in_background(mut self, concurrency: usize) -> Self {
        self.settings.workers = concurrency;
        self
    }

    /// Your own transport settings; see [`Builder::http`](crate::Builder::http).
    pub fn http(mut self, agent: Agent) -> Self {
        self.settings.agent = agent;
        self
    }

    /// Makes the tenants. Nobody is asked for anything yet.
    pub fn build(self) -> Tenants {
        let added = Time::boot().bell();
        let sleepers = added.clone();
        Tenants(Arc::new(Inner {
            provider: self.provider,
            registry: Registry::new(self.capacity),
            settings: self.settings,
            plan: RenewalPlan::new(move || sleepers.ring()),
            added,
            working: Once::new(),
        }))
    }
}

/// One tenant of a provider, as a provider of credentials; forgotten when there is no such tenant any more.
struct OfTenant {
    provider: Arc<dyn TenantProvider>,
    tenant: Arc<str>,
    tenants: Weak<Inner>,
}

impl CredentialsProvider for OfTenant {
    fn credentials(&self, known: Option<Mark>) -> Result<Given<Credentials>, Error> {
        let Given::These(given, mark) = self.provider.tenant(&self.tenant, known)? else { return Ok(Given::Unchanged) };
        let given = known_tenant(&self.tenant, given, false);
        if given.as_ref().is_err_and(|error| error.kind() == ErrorKind::UnknownTenant)
            && let Some(tenants) = self.tenants.upgrade()
        {
            tenants.registry.forget(&self.tenant);
        }
        given.map(|(_, credentials)| Given::These(credentials, mark))
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
