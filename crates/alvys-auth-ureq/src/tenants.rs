//! Tokens for any number of tenants, each with its own flow, credentials and token.

use std::ops::Deref;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use alvys_auth_core::{Credentials, CredentialsProvider, Error, Given, Mark, TenantProvider, Token};
use alvys_auth_driver::{Action, OfTenant, TenantDriver, Worker};
use event_listener::Listener;

use crate::{TokenSource, Ureq};

/// Settings of [`Tenants`]; from [`Tenants::builder`].
pub type TenantsBuilder = alvys_auth_driver::TenantsBuilder<Ureq>;

/// A token source for each tenant: made on first use, and a bounded number of them kept.
///
/// Tenants share nothing but their HTTP agent: a failure, a pause or a lock of one never touches another. A tenant that
/// the provider does not know is an error, and gets nobody else's token. If the provider no longer knows a tenant, the
/// tenant keeps its token until the token is due for renewal, and is forgotten then. Each token must name its tenant as
/// the organization it is for, unless the flow expects another one. Cheap to clone; clones share the sources.
///
/// [`with_token`](alvys_auth_driver::Tenants::with_token), [`forget`](alvys_auth_driver::Tenants::forget) and
/// [`len`](alvys_auth_driver::Tenants::len) are methods of the driver crate's [`Tenants`](alvys_auth_driver::Tenants).
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
#[derive(Debug, Clone)]
pub struct Tenants(alvys_auth_driver::Tenants<Ureq>);

impl Tenants {
    /// Tenants with default settings.
    pub fn new(provider: impl TenantProvider + 'static) -> Self {
        Self::builder(provider).build()
    }

    /// Tenants with settings of your own.
    pub fn builder(provider: impl TenantProvider + 'static) -> TenantsBuilder {
        let limit = provider.time_limit();
        TenantsBuilder::new(Arc::new(provider), limit)
    }

    /// A token of `tenant` that is usable now; see [`TokenSource::token`]. Marks the tenant as used.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownTenant`](crate::ErrorKind::UnknownTenant) when there is no such tenant, the reason why the
    /// provider could not answer, or as [`TokenSource::token`].
    pub fn token(&self, tenant: &str) -> Result<Token, Error> {
        match self.with_token(tenant, Token::clone) {
            Some(token) => Ok(token),
            None => self.source(tenant)?.token(),
        }
    }

    /// The source of `tenant`, for example to make a [`Client`](crate::Client) for it. Marks the tenant as used.
    ///
    /// Later uses of the source mark the tenant as used only when a token is fetched, or when a caller gets a token
    /// whose renewal is due. The source is made once for all callers who ask at the same time. They wait for the
    /// provider until its time limit; a later answer counts for later callers.
    ///
    /// # Errors
    /// As [`token`](Self::token), except the errors of the token request.
    pub fn source(&self, tenant: &str) -> Result<TokenSource, Error> {
        let mut search = self.search(tenant);
        loop {
            match search.step() {
                Action::Over(result) => return result,
                Action::Do(making) => {
                    let ask = move || {
                        if making.asks(true).is_some() {
                            let given = making.provider().tenant(&making.tenant(), None);
                            making.given(given);
                        }
                    };
                    // If the system has no free thread, the search tries again and ends with an error.
                    let _ = thread::Builder::new().name("alvys-auth-provider".to_owned()).spawn(ask);
                }
                Action::Wait(change, timer) => drop(change.wait_timeout(timer)),
            }
        }
    }
}

/// Renews due tokens, one at a time, until the tenants are gone.
fn work(worker: &Worker<TokenSource>) {
    loop {
        match worker.next() {
            Action::Over(_) => return,
            Action::Do(renewing) => renewing.source().renew(),
            Action::Wait(change, timer) => drop(change.wait_timeout(timer)),
        }
    }
}

impl TenantDriver for Ureq {
    type TenantProvider = dyn TenantProvider;
    type Tenants = Tenants;

    fn provider(tenant: OfTenant<Self>) -> Arc<dyn CredentialsProvider> {
        Arc::new(Asked(tenant))
    }

    fn start(worker: Worker<TokenSource>) {
        // If the system has no free thread, callers renew the tokens.
        let _ = thread::Builder::new().name("alvys-auth-renewal".to_owned()).spawn(move || work(&worker));
    }
}

struct Asked(OfTenant<Ureq>);

impl CredentialsProvider for Asked {
    fn credentials(&self, known: Option<Mark>) -> Result<Given<Credentials>, Error> {
        self.0.given(self.0.provider().tenant(self.0.tenant(), known)?)
    }

    fn time_limit(&self) -> Option<Duration> {
        self.0.provider().time_limit()
    }
}

impl From<alvys_auth_driver::Tenants<Ureq>> for Tenants {
    fn from(tenants: alvys_auth_driver::Tenants<Ureq>) -> Self {
        Self(tenants)
    }
}

impl Deref for Tenants {
    type Target = alvys_auth_driver::Tenants<Ureq>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
