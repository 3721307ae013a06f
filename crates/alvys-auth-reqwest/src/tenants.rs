//! Tokens for any number of tenants, each with its own flow, credentials and token.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use alvys_auth_core::{Credentials, Error, Mark, Token};
use alvys_auth_driver::{Action, Making, OfTenant, TenantDriver, Worker};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::Instrument;

use crate::{AsyncCredentialsProvider, AsyncTenantProvider, ProviderFuture, Reqwest, TokenSource};

/// Settings of [`Tenants`]; from [`Tenants::builder`].
pub type TenantsBuilder = alvys_auth_driver::TenantsBuilder<Reqwest>;

/// A token source for each tenant: made on first use, and a bounded number of them kept.
///
/// Tenants share nothing but their HTTP client: a failure, a pause or a lock of one never touches another. A tenant
/// that the provider does not know is an error, and gets nobody else's token. If the provider no longer knows a tenant,
/// the tenant keeps its token until the token is due for renewal, and is forgotten then. Each token must name its
/// tenant as the organization it is for, unless the flow expects another one. Cheap to clone; clones share the sources.
///
/// [`with_token`](alvys_auth_driver::Tenants::with_token), [`forget`](alvys_auth_driver::Tenants::forget) and
/// [`len`](alvys_auth_driver::Tenants::len) are methods of the driver crate's [`Tenants`](alvys_auth_driver::Tenants).
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
#[derive(Debug, Clone)]
pub struct Tenants(alvys_auth_driver::Tenants<Reqwest>);

impl Tenants {
    /// Tenants with default settings.
    pub fn new(provider: impl AsyncTenantProvider) -> Self {
        Self::builder(provider).build()
    }

    /// Tenants with settings of your own.
    pub fn builder(provider: impl AsyncTenantProvider) -> TenantsBuilder {
        let limit = provider.time_limit();
        TenantsBuilder::new(Arc::new(provider), limit)
    }

    /// A token of `tenant` that is usable now; see [`TokenSource::token`]. Marks the tenant as used.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownTenant`](crate::ErrorKind::UnknownTenant) when there is no such tenant, the reason why the
    /// provider could not answer, or as [`TokenSource::token`].
    pub async fn token(&self, tenant: &str) -> Result<Token, Error> {
        match self.with_token(tenant, Token::clone) {
            Some(token) => Ok(token),
            None => self.source(tenant).await?.token().await,
        }
    }

    /// The source of `tenant`, for example to make a [`Client`](crate::Client) for it. Marks the tenant as used.
    ///
    /// Later uses of the source mark the tenant as used only when a token is fetched, or when a caller gets a token
    /// whose renewal is due. The source is made once for all callers who ask at the same time, on a task of its own.
    /// They wait for the provider until its time limit; a later answer of a provider that blocks counts for later
    /// callers.
    ///
    /// # Errors
    /// As [`token`](Self::token), except the errors of the token request.
    pub async fn source(&self, tenant: &str) -> Result<TokenSource, Error> {
        let mut search = self.search(tenant);
        loop {
            let action = search.step();
            if let Action::Over(result) = action {
                return result;
            }
            let Ok(runtime) = Handle::try_current() else {
                return Err(Error::configuration(
                    "a tenant was first used outside of a tokio runtime",
                    "use it from a task of a tokio runtime, or use the blocking driver",
                ));
            };
            match action {
                Action::Over(result) => return result,
                Action::Do(making) => drop(runtime.spawn(ask(making).in_current_span())),
                // Whichever came first, the search says what to do next.
                Action::Wait(change, timer) => drop(timeout(timer, change).await),
            }
        }
    }
}

async fn ask(making: Making<Reqwest>) {
    let provider = Arc::clone(making.provider());
    let blocks = provider.blocks();
    let Some(limit) = making.asks(blocks) else { return };
    let answer = provider.tenant(making.tenant(), None);
    let late = |_| Err(Error::timed_out("the tenant provider did not answer in time"));
    let given = if blocks { answer.await } else { timeout(limit, answer).await.unwrap_or_else(late) };
    making.given(given);
}

/// Renews due tokens, one at a time, until the tenants are gone.
async fn work(worker: Worker<TokenSource>) {
    loop {
        match worker.next() {
            Action::Over(_) => return,
            Action::Do(renewing) => renewing.source().renew(&Handle::current()).await,
            Action::Wait(change, timer) => drop(timeout(timer, change).await),
        }
    }
}

impl TenantDriver for Reqwest {
    type TenantProvider = dyn AsyncTenantProvider;
    type Tenants = Tenants;

    fn provider(tenant: OfTenant<Self>) -> Arc<dyn AsyncCredentialsProvider> {
        Arc::new(Asked(tenant))
    }

    fn start(worker: Worker<TokenSource>) {
        tokio::spawn(work(worker));
    }
}

struct Asked(OfTenant<Reqwest>);

impl AsyncCredentialsProvider for Asked {
    fn credentials(self: Arc<Self>, known: Option<Mark>) -> ProviderFuture<Credentials> {
        let answer = Arc::clone(self.0.provider()).tenant(Arc::clone(self.0.tenant()), known);
        Box::pin(async move { self.0.given(answer.await?) })
    }

    fn time_limit(&self) -> Option<Duration> {
        self.0.provider().time_limit()
    }

    fn blocks(&self) -> bool {
        self.0.provider().blocks()
    }
}

impl From<alvys_auth_driver::Tenants<Reqwest>> for Tenants {
    fn from(tenants: alvys_auth_driver::Tenants<Reqwest>) -> Self {
        Self(tenants)
    }
}

impl Deref for Tenants {
    type Target = alvys_auth_driver::Tenants<Reqwest>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
