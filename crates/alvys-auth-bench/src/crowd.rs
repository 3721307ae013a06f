//! Many tenants of one server, with either driver.

use std::sync::Arc;
use std::time::Duration;

use alvys_auth_core::{Credentials, Error, Flow, Given, Mark, Tenant, Token};
use alvys_auth_reqwest::ProviderFuture;
use tokio::runtime::Runtime;

use crate::input;
use crate::loopback::Loopback;

/// Room for all that are measured, so that nobody is pushed out.
const CAPACITY: usize = 1_000_000;

/// Tenants that can be measured; as few or as many as are asked for.
pub trait Crowd {
    /// As tables name it.
    const NAME: &'static str;

    /// Tenants of `server`, renewed in the background by so many workers.
    fn new(server: &Loopback, workers: usize) -> Self;

    /// Fetches the token of a tenant, where there is none.
    fn fetch(&self, tenant: &str);

    /// Lends the token of a tenant that is there.
    fn with_token<R>(&self, tenant: &str, read: impl FnOnce(&Token) -> R) -> Option<R>;

    /// Lends the token of the one source of a tenant.
    fn lend_single(&self, tenant: &str) -> impl Fn() -> Option<usize>;
}

/// What every tenant has. Its tokens name their organization, as the guard wants it.
fn given(server: &Loopback) -> impl Fn() -> Result<Option<(Flow, Credentials)>, Error> + Clone + use<> {
    let flow = Flow::current().endpoint(server.url()).expect_organization("va336");
    move || Ok(Some((flow.clone(), input::credentials())))
}

/// The async driver, on a runtime of one thread beside this one.
#[derive(Debug)]
pub struct Reqwest {
    /// The tenants.
    pub tenants: alvys_auth_reqwest::Tenants,
    runtime: Runtime,
}

struct AtOnce<F>(F);

impl<F> alvys_auth_reqwest::AsyncTenantProvider for AtOnce<F>
where
    F: Fn() -> Result<Option<(Flow, Credentials)>, Error> + Send + Sync + 'static,
{
    fn tenant(self: Arc<Self>, _: Arc<str>, known: Option<Mark>) -> ProviderFuture<Option<Tenant>> {
        let given = Given::unless(known, Mark::new(0), &self.0);
        Box::pin(async { given })
    }
}

impl Crowd for Reqwest {
    const NAME: &'static str = "alvys-auth-reqwest";

    fn new(server: &Loopback, workers: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let tenants = alvys_auth_reqwest::Tenants::builder(AtOnce(given(server)));
        Self {
            tenants: tenants.capacity(CAPACITY).renew_in_background(workers).build(),
            runtime: runtime.expect("a runtime"),
        }
    }

    fn fetch(&self, tenant: &str) {
        self.runtime.block_on(self.tenants.token(tenant)).expect("a token");
    }

    fn with_token<R>(&self, tenant: &str, read: impl FnOnce(&Token) -> R) -> Option<R> {
        self.tenants.with_token(tenant, read)
    }

    fn lend_single(&self, tenant: &str) -> impl Fn() -> Option<usize> {
        let source = self.runtime.block_on(self.tenants.source(tenant)).expect("a source");
        move || source.with_token(|token| token.header().len())
    }
}

/// The blocking driver.
#[derive(Debug)]
pub struct Ureq {
    /// The tenants.
    pub tenants: alvys_auth_ureq::Tenants,
}

impl Crowd for Ureq {
    const NAME: &'static str = "alvys-auth-ureq";

    fn new(server: &Loopback, workers: usize) -> Self {
        let given = given(server);
        let tenants = alvys_auth_ureq::Tenants::builder(move |_: &str| given());
        Self { tenants: tenants.capacity(CAPACITY).renew_in_background(workers).build() }
    }

    fn fetch(&self, tenant: &str) {
        self.tenants.token(tenant).expect("a token");
    }

    fn with_token<R>(&self, tenant: &str, read: impl FnOnce(&Token) -> R) -> Option<R> {
        self.tenants.with_token(tenant, read)
    }

    fn lend_single(&self, tenant: &str) -> impl Fn() -> Option<usize> {
        let source = self.tenants.source(tenant).expect("a source");
        move || source.with_token(|token| token.header().len())
    }
}

/// Tenant ids of six characters.
#[must_use]
pub fn names(tenants: usize) -> Vec<String> {
    (0..tenants).map(|number| format!("{number:06}")).collect()
}

/// The longest that anything here is given to come to rest.
pub const REST: Duration = Duration::from_millis(300);
