//! Many tenants: one face for those of both drivers, and a directory that knows them.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use alvys_auth_core::share::{Operation, Subject};
use alvys_auth_core::{
    Change, Credentials, Error, Flow, Given, Mark, Policy, Tenant, TenantProvider, Token, TokenResponse,
};
use alvys_auth_driver::{AsyncSharing, BlockingSharing, ManualClock, Shared, SharedFuture, Time};
use alvys_auth_sandbox::{Application, Sandbox};
use tokio::runtime::{Builder, Runtime};

use crate::credentials;

/// How the tenants under test are set up; everything not given is the driver's default.
#[derive(Debug, Default)]
pub struct Wanted {
    /// When to renew and to back off.
    pub policy: Policy,
    /// How long a caller waits.
    pub patience: Option<Duration>,
    /// How many tenants there is room for.
    pub capacity: Option<usize>,
    /// Whether tokens may name any organization.
    pub unguarded: bool,
    /// How many token requests in the background at a time.
    pub workers: usize,
    /// A clock that is moved by hand.
    pub clock: Option<Arc<ManualClock>>,
    /// Whether tokens are shared through a store that is never there.
    pub without_its_store: bool,
    /// Where to note changes.
    pub changes: Option<Arc<Mutex<Vec<String>>>>,
}

impl Wanted {
    /// Tenants whose clock stands still until it is moved.
    #[must_use]
    pub fn on(clock: &Arc<ManualClock>) -> Self {
        Self { clock: Some(Arc::clone(clock)), ..Self::default() }
    }

    /// The clock.
    fn time(&self) -> Time {
        self.clock.as_ref().map_or_else(Time::boot, |clock| Time::from(Arc::clone(clock)))
    }
}

/// A store that cannot be used.
struct Away;

impl AsyncSharing for Away {
    fn share(&self, _: Subject, _: Operation<TokenResponse, Error>) -> SharedFuture<'_> {
        Box::pin(async { Err(Error::transport("the store is away", "on purpose")) })
    }
}

impl BlockingSharing for Away {
    fn share(&self, _: &Subject, _: Operation<TokenResponse, Error>) -> Shared {
        Err(Error::transport("the store is away", "on purpose"))
    }
}

/// Notes what has changed about whom.
fn note(changes: Option<&Mutex<Vec<String>>>, tenant: &str, change: &Change) {
    let what = match change {
        Change::Obtained(_) => "obtained",
        Change::Renewed(_) => "renewed",
        _ => "other",
    };
    let Some(changes) = changes else { return };
    changes.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{what} {tenant}"));
}

/// The tenants of either driver, seen from blocking code.
pub trait Many: Clone + Send + Sync + 'static {
    /// Builds tenants.
    fn build(wanted: Wanted, provider: &Directory) -> Self;
    /// One caller asks for a tenant's token.
    fn token(&self, tenant: &str) -> Result<Token, Error>;
    /// See the drivers.
    fn with_token<R>(&self, tenant: &str, read: impl FnOnce(&Token) -> R) -> Option<R>;
    /// One caller asks the tenant's own source for a token.
    fn token_of_source(&self, tenant: &str) -> Result<Token, Error>;
    /// See the drivers.
    fn forget(&self, tenant: &str) -> bool;
    /// How many tenants there are; see the drivers.
    fn count(&self) -> usize;

    /// Tenants with the driver's defaults.
    fn new(provider: &Directory) -> Self {
        Self::build(Wanted::default(), provider)
    }

    /// Whether a tenant's token is there; a use of the tenant.
    fn holds(&self, tenant: &str) -> bool {
        self.with_token(tenant, |_| ()).is_some()
    }
}

macro_rules! many {
    ($tenants:ty, $build:path, $call:expr, $source:expr) => {
        fn build(wanted: Wanted, provider: &Directory) -> Self {
            let builder = $build(provider.clone()).clock(wanted.time()).renew_in_background(wanted.workers);
            let (builder, changes) = (builder.policy(wanted.policy), wanted.changes);
            let builder = builder.on_change(move |tenant, change| note(changes.as_deref(), tenant, change));
            let builder = match wanted.patience {
                Some(patience) => builder.patience(patience),
                None => builder,
            };
            let builder = match wanted.capacity {
                Some(tenants) => builder.capacity(tenants),
                None => builder,
            };
            let builder = if wanted.without_its_store { builder.store(Arc::new(Away)) } else { builder };
            Self::from(if wanted.unguarded { builder.without_organization_guard() } else { builder }.build())
        }

        fn token(&self, tenant: &str) -> Result<Token, Error> {
            $call(self, tenant)
        }

        fn with_token<R>(&self, tenant: &str, read: impl FnOnce(&Token) -> R) -> Option<R> {
            self.0.with_token(tenant, read)
        }

        fn token_of_source(&self, tenant: &str) -> Result<Token, Error> {
            $source(self, tenant)
        }

        fn forget(&self, tenant: &str) -> bool {
            self.0.forget(tenant)
        }

        fn count(&self) -> usize {
            self.0.len()
        }
    };
}

/// The async driver on a multi-threaded runtime of its own.
#[derive(Debug, Clone)]
pub struct Async(alvys_auth_reqwest::Tenants, Arc<Runtime>);

impl From<alvys_auth_reqwest::Tenants> for Async {
    fn from(tenants: alvys_auth_reqwest::Tenants) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        Self(tenants, Arc::new(runtime))
    }
}

impl Many for Async {
    many!(
        alvys_auth_reqwest::Tenants,
        alvys_auth_reqwest::Tenants::builder,
        |tenants: &Self, tenant| tenants.1.block_on(tenants.0.token(tenant)),
        |tenants: &Self, tenant| tenants.1.block_on(async { tenants.0.source(tenant).await?.token().await })
    );
}

/// The blocking driver.
#[derive(Debug, Clone)]
pub struct Blocking(alvys_auth_ureq::Tenants);

impl From<alvys_auth_ureq::Tenants> for Blocking {
    fn from(tenants: alvys_auth_ureq::Tenants) -> Self {
        Self(tenants)
    }
}

impl Many for Blocking {
    many!(
        alvys_auth_ureq::Tenants,
        alvys_auth_ureq::Tenants::builder,
        |tenants: &Self, tenant| tenants.0.token(tenant),
        |tenants: &Self, tenant| tenants.0.source(tenant)?.token()
    );
}

/// What a directory answers.
pub type Answer = Result<Option<(Flow, Credentials)>, Error>;
type Look = Box<dyn Fn() -> Answer + Send + Sync>;

/// The tenant whose revision changes with [`Directory::changed`].
pub const CHANGES: &str = "changes";

/// Knows what it was told about each tenant, and counts how often it is asked.
#[derive(Clone, Default)]
pub struct Directory(Arc<Shelves>);

#[derive(Default)]
struct Shelves {
    looks: RwLock<HashMap<String, Look>>,
    asked: Mutex<HashMap<String, usize>>,
    revision: AtomicU64,
    questions: AtomicU64,
}

impl Directory {
    /// Answers questions about a tenant like this from now on.
    pub fn set(&self, tenant: &str, look: impl Fn() -> Answer + Send + Sync + 'static) {
        self.0.looks.write().unwrap_or_else(PoisonError::into_inner).insert(tenant.to_owned(), Box::new(look));
    }

    /// Knows a tenant of `sandbox`, whose application it makes, by the current flow.
    pub fn add(&self, sandbox: &Sandbox, tenant: &str) {
        sandbox.add(application(tenant));
        self.give(tenant, current(sandbox), &secret(tenant));
    }

    /// Knows a tenant by this flow and with this secret.
    pub fn give(&self, tenant: &str, flow: Flow, secret: &str) {
        let credentials = credentials(&client_id(tenant), secret);
        self.set(tenant, move || Ok(Some((flow.clone(), credentials.clone()))));
    }

    /// Marks the credentials of [`CHANGES`] as changed.
    pub fn changed(&self) {
        self.0.revision.fetch_add(1, Ordering::SeqCst);
    }

    /// How often it was asked about a tenant.
    pub fn asked(&self, tenant: &str) -> usize {
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).copied().unwrap_or_default()
    }

    /// How often it was asked in all, also where nothing had changed.
    pub fn questions(&self) -> u64 {
        self.0.questions.load(Ordering::SeqCst)
    }
}

impl TenantProvider for Directory {
    fn tenant(&self, tenant: &str, known: Option<Mark>) -> Result<Given<Option<Tenant>>, Error> {
        self.0.questions.fetch_add(1, Ordering::SeqCst);
        let version = if tenant == CHANGES { self.0.revision.load(Ordering::SeqCst) } else { 0 };
        Given::unless(known, Mark::new(version), || self.look(tenant))
    }
}

impl Directory {
    fn look(&self, tenant: &str) -> Answer {
        *self.0.asked.lock().unwrap_or_else(PoisonError::into_inner).entry(tenant.to_owned()).or_default() += 1;
        self.0.looks.read().unwrap_or_else(PoisonError::into_inner).get(tenant).map_or(Ok(None), |look| look())
    }
}

/// The client id of a tenant.
pub fn client_id(tenant: &str) -> String {
    format!("client-of-{tenant}")
}

/// The secret that a tenant has at first.
pub fn secret(tenant: &str) -> String {
    format!("s3cret-of-{tenant}")
}

fn application(tenant: &str) -> Application {
    Application::new(client_id(tenant), secret(tenant), tenant)
}

/// The current flow against `sandbox`.
pub fn current(sandbox: &Sandbox) -> Flow {
    Flow::current().endpoint(sandbox.token_url())
}

/// A sandbox with these tenants, and a directory that knows them.
///
/// # Panics
/// When the system has no thread or no socket to spare.
pub fn knowing(tenants: &[&str]) -> (Sandbox, Directory) {
    let (sandbox, directory) = (Sandbox::start().expect("a sandbox"), Directory::default());
    for tenant in tenants {
        directory.add(&sandbox, tenant);
    }
    (sandbox, directory)
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}

/// The one whom the sandbox takes the bearer of a token for.
///
/// # Panics
/// When it takes it for nobody's.
pub fn owner(sandbox: &Sandbox, token: &Token) -> String {
    let request = ureq::get(sandbox.me_url()).header("authorization", token.header());
    request.call().expect("an answer").body_mut().read_to_string().expect("text")
}
