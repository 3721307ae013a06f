//! How the tenants of any driver are put together.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use alvys_auth_core::{Change, Policy, Registry};

use super::members::Members;
use super::place::Gate;
use super::renewal::Renewals;
use super::sources::{Inner, Settings, TenantDriver, Tenants};
use crate::Time;
use crate::builder::PATIENCE;

/// Settings of many tenants; from `Tenants::builder` of a driver.
#[must_use = "a builder does nothing until it is built"]
pub struct TenantsBuilder<D: TenantDriver> {
    provider: Arc<D::TenantProvider>,
    time_limit: Option<Duration>,
    capacity: NonZeroUsize,
    settings: Settings<D>,
}

impl<D: TenantDriver> TenantsBuilder<D> {
    /// The default settings, each stated at its setter. The provider may take as long as `time_limit` to answer; none for as
    /// long as a token request.
    pub fn new(provider: Arc<D::TenantProvider>, time_limit: Option<Duration>) -> Self {
        Self {
            provider,
            time_limit,
            capacity: const { NonZeroUsize::new(100_000).unwrap() },
            settings: Settings {
                policy: Arc::default(),
                patience: PATIENCE,
                guard: true,
                workers: 0,
                http: None,
                store: None,
                time: Time::boot(),
                hook: None,
            },
        }
    }

    /// How many tenants are kept, at least 1; 100,000. For one more, the tenant goes that was kept longest and not used
    /// lately.
    pub fn capacity(mut self, tenants: usize) -> Self {
        self.capacity = NonZeroUsize::new(tenants).unwrap_or(NonZeroUsize::MIN);
        self
    }

    /// When to renew, how long a request may take, how long to back off; for every tenant.
    pub fn policy(mut self, policy: impl Into<Arc<Policy>>) -> Self {
        self.settings.policy = policy.into();
        self
    }

    /// How long one call of `token()` may wait for a token; 15 seconds. The first callers of a tenant wait for the provider
    /// in addition.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.settings.patience = patience;
        self
    }

    /// Takes tokens that do not name their tenant as the organization they are for.
    ///
    /// For tenant ids that are not the ones Alvys uses. Better give each flow the organization it expects; see
    /// [`Flow::expect_organization`](alvys_auth_core::Flow::expect_organization).
    pub fn without_organization_guard(mut self) -> Self {
        self.settings.guard = false;
        self
    }

    /// Renews tokens that were used since their last renewal in the background, at most `concurrency` at a time; off.
    ///
    /// Without background renewal, a token is renewed when somebody asks for it near its end. Nobody waits for that either,
    /// as long as somebody asks. With background renewal, a caller who asks near the end gets the token that is held, and a
    /// worker renews it. If no worker has renewed it shortly before its end, a caller does. The same holds for the source of a
    /// tenant until the tenant is forgotten or evicted.
    ///
    /// The workers begin with the first tenant and end with the tenants: threads of the blocking driver, tasks of the async
    /// driver on the tokio runtime of that first call.
    pub fn renew_in_background(mut self, concurrency: usize) -> Self {
        self.settings.workers = concurrency;
        self
    }

    /// Shares the tokens of all tenants through a store; see [`Builder::store`](crate::Builder::store).
    pub fn store(mut self, store: Arc<D::Store>) -> Self {
        self.settings.store = Some(store);
        self
    }

    /// Your own transport settings, for all tenants; see [`Builder::http`](crate::Builder::http).
    pub fn http(mut self, http: impl Into<D::Http>) -> Self {
        self.settings.http = Some(http.into());
        self
    }

    /// Another clock than the system's, such as a [`ManualClock`](crate::ManualClock) in tests.
    pub fn clock(mut self, time: impl Into<Time>) -> Self {
        self.settings.time = time.into();
        self
    }

    /// Is called with the tenant and each change of its token; see [`Builder::on_change`](crate::Builder::on_change).
    pub fn on_change(mut self, hook: impl Fn(&str, &Change) + Send + Sync + 'static) -> Self {
        self.settings.hook = Some(Box::new(hook));
        self
    }

    /// Makes the tenants. Nobody is asked for anything yet.
    pub fn build(self) -> D::Tenants {
        let (time, members) = (&self.settings.time, Members::new());
        Tenants(Arc::new(Inner {
            provider: self.provider,
            time_limit: self.time_limit,
            registry: Mutex::new(Registry::new(self.capacity)),
            gate: Gate::new(time),
            flow: OnceLock::new(),
            transports: Mutex::default(),
            renewals: Arc::new(Renewals::new(members.clone(), time)),
            members,
            settings: self.settings,
        }))
        .into()
    }
}

impl<D: TenantDriver> fmt::Debug for TenantsBuilder<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantsBuilder").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}
