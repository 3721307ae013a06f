//! Reads the destination of a request: a page of the proxy, the API or the MCP server, and its tenant.

use http::{HeaderMap, StatusCode, Uri};

use crate::headers::TENANT;
use crate::problem::Problem;

const TENANT_PREFIX: &str = "/t/";
const LONGEST_TENANT: usize = 64;

/// The destination of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) tenant: Option<String>,
    pub(crate) target: Target,
    /// The prefix of the path, which a `Location` gets back: nothing, or `/t/{tenant}`.
    pub(crate) prefix: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Page(Page),
    /// The path and the query at the API's origin.
    Api(String),
    /// The part of the path after `/mcp`, and the query.
    Mcp(String),
}

/// A page of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    Health,
    Ready,
    Metrics,
    Status,
    /// The icon that browsers request with the status page. It is not requested from the API.
    Icon,
    Token,
}

impl Page {
    pub(crate) fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/healthz" => Self::Health,
            "/readyz" => Self::Ready,
            "/metrics" => Self::Metrics,
            "/status" => Self::Status,
            "/favicon.ico" => Self::Icon,
            "/token" => Self::Token,
            _ => return None,
        })
    }
}

impl Route {
    /// Reads the path and the headers.
    pub(crate) fn of(uri: &Uri, headers: &HeaderMap) -> Result<Self, Problem> {
        check_path(uri.path())?;
        let (prefix, named, path) = split(uri.path())?;
        let mut tenants = headers.get_all(TENANT).iter();
        let header = tenants.next().map(|value| value.to_str().unwrap_or_default());
        if tenants.next().is_some() || named.is_some() && header.is_some() && named != header {
            return Err(bad(
                "tenant",
                "the request names more than one tenant",
                "name one tenant, in the path or in the header X-Alvys-Tenant",
            ));
        }
        let tenant = named.or(header);
        if tenant.is_some_and(|tenant| !is_tenant(tenant)) {
            return Err(bad(
                "tenant",
                "the tenant is not a valid tenant name",
                "use 1 to 64 letters, digits, dots, hyphens and underscores, as in /t/va336/api/p/v1/loads",
            ));
        }
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let target = match (Page::at(path), path.strip_prefix("/mcp")) {
            (Some(page), _) => Target::Page(page),
            (None, Some(rest)) if rest.is_empty() || rest.starts_with('/') => Target::Mcp(format!("{rest}{query}")),
            _ => Target::Api(format!("{path}{query}")),
        };
        Ok(Self { tenant: tenant.map(str::to_owned), target, prefix: prefix.to_owned() })
    }
}

/// Splits the path into the prefix `/t/{tenant}`, the tenant, and the rest.
fn split(path: &str) -> Result<(&str, Option<&str>, &str), Problem> {
    let Some(rest) = path.strip_prefix(TENANT_PREFIX) else { return Ok(("", None, path)) };
    let tenant = rest.split('/').next().unwrap_or_default();
    let end = TENANT_PREFIX.len() + tenant.len();
    match (path.get(..end), path.get(end..)) {
        (Some(prefix), Some(path)) if path.starts_with('/') => Ok((prefix, Some(tenant), path)),
        _ => Err(bad(
            "tenant",
            "the path ends after the tenant",
            "call a path after the tenant, as in /t/va336/api/p/v1/loads",
        )),
    }
}

/// Refuses text that is not a valid path, and a path that a client library would rewrite.
fn check_path(path: &str) -> Result<(), Problem> {
    if !path.starts_with('/') || path.contains(['\\', '#']) {
        return Err(bad(
            "path",
            "the path has a backslash, or does not begin with a slash",
            "send the plain path, such as /api/p/v1/loads",
        ));
    }
    Ok(())
}

fn is_tenant(tenant: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !tenant.is_empty() && tenant.len() <= LONGEST_TENANT && tenant.bytes().all(allowed)
}

fn bad(reason: &'static str, detail: &'static str, hint: &'static str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, reason, detail, hint)
}
