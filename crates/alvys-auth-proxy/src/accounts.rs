//! Whose tokens a request goes out with.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use alvys_auth_core::{Endpoint, Error, ErrorKind, RateLimits};
use alvys_auth_driver::{AsyncTokens, Pace};

/// With this many tenants remembered, those whose limits are unused are forgotten; with twice as many as were left then, again.
const MANY: usize = 64;

/// The MCP server, by the names of its endpoints.
const MCP: [&str; 3] = ["POST mcp", "GET mcp", "DELETE mcp"];

/// The tokens of one application, and the rate limits that its calls keep to.
#[derive(Debug, Clone)]
pub struct Account {
    pub(crate) tokens: Tokens,
    pub(crate) pace: Option<Pace>,
}

/// Any async source of tokens.
pub(crate) type Tokens = alvys_auth_driver::Tokens<dyn AsyncTokens>;

impl Account {
    /// Calls with these tokens, within the published rate limits.
    ///
    /// The MCP server is no endpoint of the API: its calls count for the token and the organization only.
    #[must_use]
    pub fn new(tokens: impl AsyncTokens + 'static) -> Self {
        let account = Self { tokens: tokens.into(), pace: None };
        account.pace(Pace::new(published()))
    }

    /// Calls at another pace.
    #[must_use]
    pub fn pace(mut self, pace: Pace) -> Self {
        self.pace = Some(pace.sharing(self.tokens.waits()));
        self
    }

    /// Calls go out as they come.
    #[must_use]
    pub fn unpaced(mut self) -> Self {
        self.pace = None;
        self
    }

    /// What the calls to `endpoint` count against, for people.
    pub(crate) fn limit(&self, endpoint: &Endpoint) -> String {
        let limits = self.pace.iter().flat_map(|pace| pace.limits(endpoint));
        let limits: Vec<String> = limits.map(|limit| limit.to_string()).collect();
        if limits.is_empty() { "none of its own".to_owned() } else { limits.join(", ") }
    }
}

/// Finds the account of a tenant.
///
/// [`Account`] is the one of a proxy that serves a single tenant, [`PerTenant`] asks a function for each.
pub trait Accounts: Send + Sync + 'static {
    /// The account of `tenant`, or of the requests that name none. Must never answer with that of another one.
    fn find<'a>(&'a self, tenant: Option<&'a str>) -> Finding<'a>;

    /// The account that serves all requests, if there is just one: its token is fetched when the proxy starts.
    fn sole(&self) -> Option<&Account> {
        None
    }
}

/// What [`Accounts::find`] gives: an account, or the reason why there is none.
type Finding<'a> = Pin<Box<dyn Future<Output = Result<Account, NotServed>> + Send + 'a>>;

/// Why a request has no account.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum NotServed {
    /// The request names no tenant, and there is no account without one (400).
    Unnamed,
    /// There is no such tenant (404).
    Unknown,
    /// The account could not be made.
    Failed(Error),
}

impl From<Error> for NotServed {
    /// An unknown tenant is not served; anything else is a failure of one that is known.
    fn from(error: Error) -> Self {
        if error.kind() != ErrorKind::UnknownTenant {
            return Self::Failed(error);
        }
        Self::Unknown
    }
}

impl Accounts for Account {
    fn find<'a>(&'a self, tenant: Option<&'a str>) -> Finding<'a> {
        let found = if tenant.is_none() { Ok(self.clone()) } else { Err(NotServed::Unknown) };
        Box::pin(std::future::ready(found))
    }

    fn sole(&self) -> Option<&Account> {
        Some(self)
    }
}

/// Accounts by tenant: each request must name its tenant, whose tokens a function gives.
///
/// The function is asked for every request and is to answer from memory where it can. With `?` an [`Error`] of its own becomes
/// a [`NotServed`]: one about an unknown tenant says that there is no such tenant.
///
/// ```
/// use alvys_auth_proxy::{NotServed, PerTenant};
/// # use alvys_auth_reqwest::{Credentials, Flow, TokenSource};
/// # let tokens = TokenSource::new(Flow::current(), Credentials::new("my-client", "s3cret")?)?;
///
/// let accounts = PerTenant::new(move |tenant| {
///     let found = (tenant == "va336").then(|| tokens.clone());
///     async move { found.ok_or(NotServed::Unknown) }
/// });
/// # let _ = accounts;
/// # Ok::<(), alvys_auth_reqwest::Error>(())
/// ```
pub struct PerTenant {
    find: Box<dyn Fn(String) -> FindingTokens + Send + Sync>,
    limits: Option<RateLimits>,
    paces: Mutex<Paces>,
}

type FindingTokens = Pin<Box<dyn Future<Output = Result<Tokens, NotServed>> + Send>>;

/// The rate limits of the tenants that have called lately.
#[derive(Default)]
struct Paces {
    by_tenant: HashMap<String, Pace>,
    /// How many were left when the unused ones were forgotten last.
    left: usize,
}

impl PerTenant {
    /// Asks `find` for the tokens of each tenant; every tenant is an organization of its own, within the published rate
    /// limits.
    ///
    /// A tenant that `find` knows has its limits for as long as a call counts against one of them, however many tenants there
    /// are.
    pub fn new<F, R, S>(find: F) -> Self
    where
        F: Fn(String) -> R + Send + Sync + 'static,
        R: Future<Output = Result<S, NotServed>> + Send + 'static,
        S: AsyncTokens + 'static,
    {
        Self {
            find: Box::new(move |tenant| {
                let found = find(tenant);
                Box::pin(async move { found.await.map(Into::into) })
            }),
            limits: Some(published()),
            paces: Mutex::default(),
        }
    }

    /// Keeps each tenant to other limits; none lets calls go out as they come.
    #[must_use]
    pub fn limits(mut self, limits: Option<RateLimits>) -> Self {
        self.limits = limits;
        self
    }

    /// The limits of a tenant, and how all who share its token hear of the waits that the API asks for.
    fn pace(&self, tenant: &str, tokens: &Tokens) -> Option<Pace> {
        Some(self.remembered(tenant)?.sharing(tokens.waits()))
    }

    fn remembered(&self, tenant: &str) -> Option<Pace> {
        let limits = self.limits.as_ref()?;
        let Paces { by_tenant, left } = &mut *self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pace) = by_tenant.get(tenant) {
            return Some(pace.clone());
        }
        if by_tenant.len() >= MANY.max(*left * 2) {
            by_tenant.retain(|_, pace| !pace.is_idle());
            *left = by_tenant.len();
        }
        let pace = Pace::new(limits.clone());
        by_tenant.insert(tenant.to_owned(), pace.clone());
        Some(pace)
    }
}

impl Accounts for PerTenant {
    fn find<'a>(&'a self, tenant: Option<&'a str>) -> Finding<'a> {
        Box::pin(async move {
            let tenant = tenant.ok_or(NotServed::Unnamed)?;
            let tokens = (self.find)(tenant.to_owned()).await?;
            Ok(Account { pace: self.pace(tenant, &tokens), tokens })
        })
    }
}

impl fmt::Debug for PerTenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerTenant").field("limits", &self.limits).finish_non_exhaustive()
    }
}

fn published() -> RateLimits {
    MCP.into_iter().fold(RateLimits::published(), |limits, name| limits.endpoint(name, []))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use alvys_auth_core::Limit;
    use alvys_auth_driver::FixedTokens;
    use http::{Method, Uri};

    use super::*;

    /// Accounts of every tenant but one, each of which may call a list once in an hour.
    fn accounts() -> PerTenant {
        let accounts = PerTenant::new(|tenant: String| async move {
            let tokens = FixedTokens::holding("abc", "load:read")?;
            if tenant == "unknown" { Err(NotServed::Unknown) } else { Ok(tokens) }
        });
        accounts.limits(Some(RateLimits::none().lists([Limit::new(1, Duration::from_secs(3600))])))
    }

    fn remembered(accounts: &PerTenant) -> usize {
        accounts.paces.lock().expect("no panic").by_tenant.len()
    }

    #[tokio::test]
    async fn the_limits_of_a_tenant_outlive_any_number_of_others() {
        let (accounts, loads) = (accounts(), Endpoint::of(&Method::GET, &Uri::from_static("/api/p/v1/loads")));
        for tenant in 0..3000 {
            let account = accounts.find(Some(&tenant.to_string())).await.expect("an account");
            assert!(account.pace.expect("limits").turn(&loads).wait().is_none(), "its first call");
        }
        for tenant in [0, 1500, 2999] {
            let account = accounts.find(Some(&tenant.to_string())).await.expect("an account");
            assert!(account.pace.expect("limits").turn(&loads).wait().is_some(), "its second call");
        }
    }

    #[tokio::test]
    async fn limits_that_nobody_uses_are_forgotten_and_unknown_tenants_have_none() {
        let accounts = accounts();
        let kept = accounts.find(Some("kept")).await.expect("an account");
        for tenant in 0..3000 {
            accounts.find(Some(&tenant.to_string())).await.expect("an account");
        }
        assert!(remembered(&accounts) <= MANY + 1, "{} are remembered", remembered(&accounts));
        let loads = Endpoint::of(&Method::GET, &Uri::from_static("/api/p/v1/loads"));
        assert!(kept.pace.expect("limits").turn(&loads).wait().is_none());
        let again = accounts.find(Some("kept")).await.expect("an account");
        assert!(again.pace.expect("limits").turn(&loads).wait().is_some(), "whoever held its limits shares them still");
        let before = remembered(&accounts);
        assert!(matches!(accounts.find(Some("unknown")).await, Err(NotServed::Unknown)));
        assert_eq!(remembered(&accounts), before);
    }
}
