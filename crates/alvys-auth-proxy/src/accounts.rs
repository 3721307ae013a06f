//! Decides which account's tokens a request is sent with.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use alvys_auth_core::{Endpoint, Error, ErrorKind, RateLimits};
use alvys_auth_driver::{AsyncTokens, Pace};

/// When the limits of this many tenants are remembered, the unused limits are forgotten. That happens again when there
/// are twice as many as were left.
const MANY: usize = 64;

/// The names of the MCP server's endpoints.
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
    /// An account that uses these tokens and keeps the published rate limits.
    ///
    /// Calls to the MCP server count against the limits of the token and of the organization. They have no limit of
    /// their own, because the MCP server is no endpoint of the API.
    #[must_use]
    pub fn new(tokens: impl AsyncTokens + 'static) -> Self {
        let account = Self { tokens: tokens.into(), pace: None };
        account.pace(Pace::new(published()))
    }

    /// Keeps the limits of this pace in place of the published ones.
    #[must_use]
    pub fn pace(mut self, pace: Pace) -> Self {
        self.pace = Some(pace.sharing(self.tokens.waits()));
        self
    }

    /// Keeps no rate limits: each call is sent at once.
    #[must_use]
    pub fn unpaced(mut self) -> Self {
        self.pace = None;
        self
    }

    /// Describes the limits that calls to `endpoint` count against, as text for people.
    pub(crate) fn limit(&self, endpoint: &Endpoint) -> String {
        let limits = self.pace.iter().flat_map(|pace| pace.limits(endpoint));
        let limits: Vec<String> = limits.map(|limit| limit.to_string()).collect();
        if limits.is_empty() { "none of its own".to_owned() } else { limits.join(", ") }
    }
}

/// Finds the account of a tenant.
///
/// [`Account`] serves a proxy with a single tenant. [`PerTenant`] serves several: it asks a function for the tokens of
/// each tenant.
pub trait Accounts: Send + Sync + 'static {
    /// Finds the account of `tenant`, or the account for requests that name no tenant. Must never return the account of
    /// another tenant.
    fn find<'a>(&'a self, tenant: Option<&'a str>) -> Finding<'a>;

    /// The account that serves all requests, if there is only one. The proxy gets its token when it starts.
    fn sole(&self) -> Option<&Account> {
        None
    }
}

/// The future that [`Accounts::find`] returns: an account, or the reason why there is none.
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
    /// An error about an unknown tenant becomes [`Unknown`](Self::Unknown), any other error becomes
    /// [`Failed`](Self::Failed).
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

/// Accounts of several tenants. Each request must name its tenant, and a function gives the tokens of that tenant.
///
/// The function is called for every request, so it should answer from memory where it can. It may use `?` on an
/// [`Error`]: an error about an unknown tenant becomes [`NotServed::Unknown`], any other one becomes
/// [`NotServed::Failed`].
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

/// The rate limits of the tenants that called recently.
#[derive(Default)]
struct Paces {
    by_tenant: HashMap<String, Pace>,
    /// How many limits were left after unused limits were last forgotten.
    left: usize,
}

impl PerTenant {
    /// Asks `find` for the tokens of each tenant. Each tenant is an organization of its own, and keeps the published
    /// rate limits.
    ///
    /// The limits of a tenant that `find` knows are remembered while a call counts against one of them, however many
    /// tenants there are.
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

    /// Sets the limits of each tenant. With `None` calls are sent at once.
    #[must_use]
    pub fn limits(mut self, limits: Option<RateLimits>) -> Self {
        self.limits = limits;
        self
    }

    /// The pace of a tenant. Through `tokens`, all processes that share the tenant's token learn of a wait that the API
    /// asks for.
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
