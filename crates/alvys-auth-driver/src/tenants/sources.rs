//! The sources of many tenants: made on first use, and kept by the core's [`Registry`].

use std::fmt;
use std::ops::Deref;
use std::ptr;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use alvys_auth_core::{Change, Credentials, Error, Flow, Given, Maker, Registry, Tenant, Token, TokenRequest};

use super::members::{Member, Members, lock};
use super::place::{Gate, Place};
use super::renewal::{Renewals, Worker};
use crate::builder::{Common, Many, Settings};
use crate::{Driver, Engine, Parts, Watch};

/// What a driver adds to [`Tenants`].
pub trait TenantDriver:
    Driver<
        Http: Clone + Send + Sync,
        Transport: Send + Sync,
        Store: Send + Sync,
        Source: Clone + Deref<Target = Engine> + Send + Sync,
    > + 'static
{
    /// The provider that knows the tenants.
    type TenantProvider: ?Sized + Send + Sync;
    /// The driver's own type around [`Tenants`].
    type Tenants: From<Tenants<Self>>;

    /// One tenant as a provider of credentials.
    fn provider(tenant: OfTenant<Self>) -> Arc<Self::Provider>;

    /// Starts a worker in the background.
    fn start(worker: Worker<Self::Source>);
}

/// A token source for each tenant. Cheap to clone; clones share the sources.
pub struct Tenants<D: TenantDriver>(pub(super) Arc<Inner<D>>);

pub(super) struct Inner<D: TenantDriver> {
    pub(super) settings: Settings<D>,
    pub(super) many: Many<D>,
    pub(super) registry: Mutex<Sources<D::Source>>,
    /// The same sources, for look-ups from many threads.
    pub(super) members: Members<D::Source>,
    pub(super) gate: Gate,
    /// The flow of the first tenant. Mostly all tenants have the same flow, and then they share its values.
    flow: OnceLock<Flow>,
    /// What the sources have in common: once with an HTTP client for https, once with one for plain http to this
    /// machine.
    common: Mutex<[Option<Arc<Common<D>>>; 2]>,
    renewals: Arc<Renewals<D::Source>>,
}

pub(super) type Sources<S> = Registry<Arc<Member<S>>, Arc<Place<S>>>;

impl<D: TenantDriver> Tenants<D> {
    pub(crate) fn new(settings: Settings<D>, many: Many<D>) -> Self {
        let (time, members) = (&settings.time, Members::new());
        Self(Arc::new(Inner {
            registry: Mutex::new(Registry::new(many.capacity)),
            gate: Gate::new(time),
            flow: OnceLock::new(),
            common: Mutex::default(),
            renewals: Arc::new(Renewals::new(members.clone(), time)),
            members,
            settings,
            many,
        }))
    }

    /// Lends the token of `tenant` that is usable without polling, and marks the tenant as used; none when `token()`
    /// must be called.
    pub fn with_token<R>(&self, tenant: &str, read: impl FnOnce(&Token) -> R) -> Option<R> {
        let member = self.0.members.get(tenant)?;
        let lent = member.source.with_token(read);
        self.0.used(&member);
        lent
    }

    /// Forgets a tenant: drops its token, and asks the provider again when the tenant is next used. Returns whether the
    /// tenant was known.
    pub fn forget(&self, tenant: &str) -> bool {
        self.0.forget(tenant)
    }

    /// How many tenants have a source now.
    pub fn len(&self) -> usize {
        lock(&self.0.registry).len()
    }

    /// Whether no tenant has a source now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<D: TenantDriver> Inner<D> {
    /// How long the provider may take.
    pub(super) fn time_limit(&self) -> Duration {
        self.many.time_limit.unwrap_or_else(|| self.settings.policy.timeout())
    }

    /// Marks a tenant as used: for the next eviction, and for the renewal of its token.
    pub(super) fn used(&self, member: &Member<D::Source>) {
        if !member.is_marked() {
            self.mark(member);
        }
    }

    #[cold]
    fn mark(&self, member: &Member<D::Source>) {
        member.mark();
        if self.many.workers > 0 {
            self.renewals.used(member);
        }
    }

    /// Makes the source of a tenant from the provider's answer.
    pub(super) fn make(self: &Arc<Self>, tenant: &Arc<str>, given: Given<Option<Tenant>>) -> Result<D::Source, Error> {
        let Settings { policy, time, store, .. } = &self.settings;
        let (given, mark) = given.first()?;
        let (flow, credentials) = given.ok_or_else(|| Error::unknown_tenant(tenant))?;
        let guarded = self.many.guard && flow.expected_organization().is_none();
        let mut flow = if guarded { flow.expect_organization(&**tenant) } else { flow };
        flow.share(self.flow.get_or_init(|| flow.clone()));
        let request = TokenRequest::new(flow, credentials)?;
        let common = self.common(&request)?;
        let known = Some((Some(mark), Some(time.now()), common.time_limit));
        let engine = Engine::new(request, Arc::clone(policy), known, store.is_some(), time.clone(), self.watch(tenant));
        let own = OfTenant {
            provider: Arc::clone(&self.many.provider),
            tenant: Arc::clone(tenant),
            tenants: Arc::downgrade(self),
        };
        Ok(D::source(Arc::new(Parts { engine, provider: Some(D::provider(own)), common })))
    }

    fn common(&self, request: &TokenRequest) -> Result<Arc<Common<D>>, Error> {
        let mut common = lock(&self.common);
        let place = &mut common[usize::from(request.is_plain_http())];
        if let Some(common) = place {
            return Ok(Arc::clone(common));
        }
        let Settings { policy, patience, http, store, .. } = &self.settings;
        let transport = D::transport(http.clone(), request, policy.timeout())?;
        let (time_limit, patience, store) = (self.time_limit(), *patience, store.clone());
        let made = Common { transport, store, time_limit, patience };
        Ok(Arc::clone(place.insert(Arc::new(made))))
    }

    /// Keeps the source that a caller has made, unless another caller has become the maker meanwhile.
    pub(super) fn keep(self: &Arc<Self>, maker: Maker, source: &D::Source) -> bool {
        let renewed = self.many.workers > 0;
        let member = Arc::new(Member::new(Arc::clone(maker.tenant()), source.clone(), renewed));
        let mut registry = lock(&self.registry);
        let Ok(evicted) = registry.made(maker, Arc::clone(&member), |member| member.take_use()) else { return false };
        // The members are changed under the registry's lock, so that both hold the same tenants.
        self.members.replace(evicted.as_ref().map(|(tenant, _)| &**tenant), member);
        drop(registry);
        if let Some((tenant, _)) = evicted {
            self.renewals.forget(&tenant);
        }
        Renewals::missing(&self.renewals, self.many.workers).for_each(D::start);
        true
    }

    fn forget(&self, tenant: &str) -> bool {
        let mut registry = lock(&self.registry);
        let forgotten = registry.forget(tenant);
        self.members.remove(tenant);
        drop(registry);
        // The source is dropped outside of the lock, because dropping it may run other code.
        forgotten.map(|member| self.renewals.forget(&member.tenant)).is_some()
    }

    fn watch(self: &Arc<Self>, tenant: &Arc<str>) -> Option<Box<dyn Watch>> {
        let watched = self.many.workers > 0 || self.many.hook.is_some();
        watched
            .then(|| Box::new(Watched { tenants: Arc::downgrade(self), tenant: Arc::clone(tenant) }) as Box<dyn Watch>)
    }
}

/// Watches the source of a tenant while its `Tenants` exist.
struct Watched<D: TenantDriver> {
    tenants: Weak<Inner<D>>,
    tenant: Arc<str>,
}

impl<D: TenantDriver> Watch for Watched<D> {
    fn changed(&self, change: &Change) {
        let Some(inner) = self.tenants.upgrade() else { return };
        // A first token counts as a use of the tenant, wherever the token came from.
        if let Change::Obtained(_) | Change::Adopted(_) = change
            && inner.many.workers > 0
            && let Some(member) = inner.members.get(&self.tenant)
        {
            inner.renewals.used(&member);
        }
        if let Some(hook) = &inner.many.hook {
            hook(&self.tenant, change);
        }
    }

    /// Leaves a due renewal to the workers.
    fn renews(&self, source: &Engine) -> bool {
        let inner = self.tenants.upgrade().filter(|inner| inner.many.workers > 0);
        // After its tenant was forgotten or evicted, no worker renews a source.
        let own = |member: &Arc<Member<D::Source>>| ptr::eq(&raw const *member.source, source);
        let found = inner.and_then(|inner| inner.members.get(&self.tenant).filter(own).map(|member| (inner, member)));
        found.map(|(inner, member)| inner.renewals.hurry(&member)).is_some()
    }
}

impl<D: TenantDriver> Clone for Tenants<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D: TenantDriver> fmt::Debug for Tenants<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenants").field("registry", &*lock(&self.0.registry)).finish_non_exhaustive()
    }
}

/// One tenant of a provider, as a provider of credentials. If the provider answers that the tenant no longer exists,
/// the tenant is forgotten.
pub struct OfTenant<D: TenantDriver> {
    provider: Arc<D::TenantProvider>,
    tenant: Arc<str>,
    tenants: Weak<Inner<D>>,
}

impl<D: TenantDriver> OfTenant<D> {
    /// The provider that knows the tenants.
    pub fn provider(&self) -> &Arc<D::TenantProvider> {
        &self.provider
    }

    /// The tenant to ask about.
    pub fn tenant(&self) -> &Arc<str> {
        &self.tenant
    }

    /// The credentials in the provider's answer.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownTenant`](alvys_auth_core::ErrorKind::UnknownTenant) when there is no such tenant any more.
    pub fn given(&self, given: Given<Option<Tenant>>) -> Result<Given<Credentials>, Error> {
        match given {
            Given::Unchanged => Ok(Given::Unchanged),
            Given::These(Some((_, credentials)), mark) => Ok(Given::These(credentials, mark)),
            Given::These(None, _) => {
                if let Some(tenants) = self.tenants.upgrade() {
                    tenants.forget(&self.tenant);
                }
                Err(Error::unknown_tenant(&self.tenant))
            }
        }
    }
}

impl<D: TenantDriver> fmt::Debug for OfTenant<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfTenant").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}
