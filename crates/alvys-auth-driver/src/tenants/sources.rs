//! The sources of many tenants: made on first use, and kept by the core's [`Registry`].

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use alvys_auth_core::{Change, Credentials, Error, Flow, Given, Maker, Policy, Registry, Tenant, Token, TokenRequest};

use super::members::{Member, Members, lock};
use super::place::{Gate, Place};
use super::renewal::{Renewals, Worker};
use crate::engine::Hook;
use crate::{Driver, Engine, Parts, Time};

/// What a driver adds to [`Tenants`].
pub trait TenantDriver:
    Driver<
        Http: Clone + Send + Sync,
        Transport: Send + Sync,
        Store: Send + Sync,
        Source: Clone + Deref<Target = Engine> + Send + Sync,
    > + 'static
{
    /// What knows the tenants.
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
    pub(super) provider: Arc<D::TenantProvider>,
    pub(super) time_limit: Option<Duration>,
    pub(super) settings: Settings<D>,
    pub(super) registry: Mutex<Sources<D::Source>>,
    /// The same sources, for look-ups from many threads.
    pub(super) members: Members<D::Source>,
    pub(super) gate: Gate,
    /// The flow of the first tenant, which is mostly that of all.
    pub(super) flow: OnceLock<Flow>,
    /// One HTTP client for https, one for plain http to this machine.
    pub(super) transports: Mutex<[Option<Arc<D::Transport>>; 2]>,
    pub(super) renewals: Arc<Renewals<D::Source>>,
}

pub(super) type Sources<S> = Registry<Arc<Member<S>>, Arc<Place<S>>>;

pub(super) struct Settings<D: Driver> {
    pub(super) policy: Arc<Policy>,
    pub(super) patience: Duration,
    pub(super) guard: bool,
    pub(super) workers: usize,
    pub(super) http: Option<D::Http>,
    pub(super) store: Option<Arc<D::Store>>,
    pub(super) time: Time,
    pub(super) hook: Option<TenantHook>,
}

/// Is told of every change of every tenant; see [`TenantsBuilder::on_change`].
pub(super) type TenantHook = Box<dyn Fn(&str, &Change) + Send + Sync>;

impl<D: TenantDriver> Tenants<D> {
    /// Lends the token of `tenant` that is usable without asking, and marks the tenant as used; none when `token()` has
    /// something to do.
    pub fn with_token<R>(&self, tenant: &str, read: impl FnOnce(&Token) -> R) -> Option<R> {
        let member = self.0.members.get(tenant)?;
        let lent = member.source.with_token(read);
        self.0.used(&member);
        lent
    }

    /// Forgets a tenant: drops its token, and asks the provider again when the tenant is next used. Says whether it was there.
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
        self.time_limit.unwrap_or_else(|| self.settings.policy.timeout())
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
        if self.settings.workers > 0 {
            self.renewals.used(member);
        }
    }

    /// Makes the source of a tenant from what the provider gave.
    pub(super) fn make(self: &Arc<Self>, tenant: &Arc<str>, given: Given<Option<Tenant>>) -> Result<D::Source, Error> {
        let Settings { policy, patience, guard, time, store, .. } = &self.settings;
        let (given, mark) = given.first()?;
        let (flow, credentials) = given.ok_or_else(|| Error::unknown_tenant(tenant))?;
        let guarded = *guard && flow.expected_organization().is_none();
        let mut flow = if guarded { flow.expect_organization(&**tenant) } else { flow };
        flow.share(self.flow.get_or_init(|| flow.clone()));
        let request = TokenRequest::new(flow, credentials)?;
        let transport = self.transport(&request)?;
        let time_limit = self.time_limit();
        let known = Some((Some(mark), Some(time.now()), time_limit));
        let shared = store.is_some();
        let engine = Engine::new(request, Arc::clone(policy), known, shared, time.clone(), self.hook(tenant));
        let own = OfTenant {
            provider: Arc::clone(&self.provider),
            tenant: Arc::clone(tenant),
            tenants: Arc::downgrade(self),
        };
        let (engine, provider) = (Arc::new(engine), Some(D::provider(own)));
        let (patience, store) = (*patience, store.clone());
        Ok(D::source(Arc::new(Parts { engine, transport, provider, store, time_limit, patience })))
    }

    fn transport(&self, request: &TokenRequest) -> Result<Arc<D::Transport>, Error> {
        let mut transports = lock(&self.transports);
        let place = &mut transports[usize::from(request.is_plain_http())];
        if let Some(transport) = place {
            return Ok(Arc::clone(transport));
        }
        let made = Arc::new(D::transport(self.settings.http.clone(), request, self.settings.policy.timeout())?);
        Ok(Arc::clone(place.insert(made)))
    }

    /// Keeps the source that a maker has made, unless somebody else is the maker by now.
    pub(super) fn keep(self: &Arc<Self>, maker: Maker, source: &D::Source) -> bool {
        let renewed = self.settings.workers > 0;
        let member = Arc::new(Member::new(Arc::clone(maker.tenant()), source.clone(), renewed));
        if renewed {
            self.renewals.leave(&member);
        }
        let mut registry = lock(&self.registry);
        let Ok(evicted) = registry.made(maker, Arc::clone(&member), |member| member.take_use()) else { return false };
        // Changed under the registry's lock, so that the two hold the same.
        self.members.replace(evicted.as_ref().map(|(tenant, _)| &**tenant), member);
        drop(registry);
        if let Some((tenant, _)) = evicted {
            self.renewals.forget(&tenant);
        }
        Renewals::missing(&self.renewals, self.settings.workers).for_each(D::start);
        true
    }

    fn forget(&self, tenant: &str) -> bool {
        let mut registry = lock(&self.registry);
        let forgotten = registry.forget(tenant);
        self.members.remove(tenant);
        drop(registry);
        // Dropped out of the lock: a source may do more on its way out.
        forgotten.map(|member| self.renewals.forget(&member.tenant)).is_some()
    }

    fn hook(self: &Arc<Self>, tenant: &Arc<str>) -> Option<Hook> {
        if self.settings.workers == 0 && self.settings.hook.is_none() {
            return None;
        }
        let (tenants, tenant) = (Arc::downgrade(self), Arc::clone(tenant));
        Some(Box::new(move |change| {
            let Some(inner) = tenants.upgrade() else { return };
            // Whoever has got hold of a first token, by whatever way, uses it.
            if let Change::Obtained(_) | Change::Adopted(_) = change
                && inner.settings.workers > 0
                && let Some(member) = inner.members.get(&tenant)
            {
                inner.renewals.used(&member);
            }
            if let Some(hook) = &inner.settings.hook {
                hook(&tenant, change);
            }
        }))
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

/// One tenant of a provider, to be asked for credentials. A tenant that is gone is forgotten when it is asked about.
pub struct OfTenant<D: TenantDriver> {
    provider: Arc<D::TenantProvider>,
    tenant: Arc<str>,
    tenants: Weak<Inner<D>>,
}

impl<D: TenantDriver> OfTenant<D> {
    /// What knows the tenants.
    pub fn provider(&self) -> &Arc<D::TenantProvider> {
        &self.provider
    }

    /// The tenant to ask about.
    pub fn tenant(&self) -> &Arc<str> {
        &self.tenant
    }

    /// The credentials of what the provider gave.
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
