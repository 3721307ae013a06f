//! What distinguishes one shared token from another.

use crate::{Endpoint, Scope, TokenRequest};

/// The version of the shared format. Processes with different versions share nothing.
const VERSION: u32 = 1;
/// The number of the token, if several tokens are shared for the same request. There is one today.
const NUMBER: u32 = 0;

impl TokenRequest {
    /// Everything that decides which token the request gets, apart from the secret, as one line of JSON: two requests with the
    /// same text may share a token. The order of the scopes does not matter.
    ///
    /// ```
    /// use alvys_auth_core::{Credentials, Flow, TokenRequest};
    ///
    /// let request = |flow, secret| TokenRequest::new(flow, Credentials::new("my-client", secret)?);
    /// let one = request(Flow::current().scopes(["load:read", "trip:read"]), "s3cret")?;
    /// let other = request(Flow::current().scopes(["trip:read", "load:read"]), "another")?;
    /// assert_eq!(one.identity(), other.identity());
    /// assert_ne!(one.identity(), request(Flow::current(), "s3cret")?.identity());
    /// # Ok::<(), alvys_auth_core::Error>(())
    /// ```
    pub fn identity(&self) -> String {
        let flow = self.flow();
        let mut scopes: Vec<&str> = flow.requested_scopes().iter().map(Scope::as_str).collect();
        scopes.sort_unstable();
        scopes.dedup();
        let kind = if flow.is_legacy() { "legacy" } else { "current" };
        let audience = flow.checked_audience().ok().flatten();
        let values = (kind, self.head().parts.uri.to_string(), self.client_id(), audience, scopes);
        let tenant = (flow.tenant(), flow.body_tenant(), flow.expected_organization());
        // In JSON, two different lists of values are never the same text.
        serde_json::to_string(&("alvys-auth", VERSION, NUMBER, values, tenant)).unwrap_or_default()
    }
}

/// What an entry at a store is about: a token, or the calls to an endpoint. It decides the name of the entry.
///
/// ```
/// use alvys_auth_core::share::Subject;
/// use alvys_auth_core::{Credentials, Endpoint, Flow, TokenRequest};
/// use http::{Method, Uri};
///
/// let request = TokenRequest::new(Flow::current(), Credentials::new("my-client", "s3cret")?)?;
/// let loads = Endpoint::of(&Method::GET, &Uri::from_static("https://api.alvys.com/api/p/v1/loads"));
/// let token = Subject::from(request.clone());
/// let calls = Subject::calls(request, &loads);
/// assert_ne!(token.identity(), calls.identity());
/// # Ok::<(), alvys_auth_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Subject {
    request: TokenRequest,
    endpoint: Option<String>,
}

impl Subject {
    /// The calls to `endpoint` with the token that `request` gets. Their entry holds the wait that the API asked for as a
    /// [failure](super::Operation::Fail), and no token.
    pub fn calls(request: TokenRequest, endpoint: &Endpoint) -> Self {
        Self { request, endpoint: Some(endpoint.name().to_owned()) }
    }

    /// The request that gets the token. The entry is about this token, or about the calls with it. The request's secret
    /// seals the entry.
    pub fn request(&self) -> &TokenRequest {
        &self.request
    }

    /// Everything but the secret that distinguishes the entry from others, as one line of JSON.
    pub fn identity(&self) -> String {
        let request = self.request.identity();
        match &self.endpoint {
            None => request,
            Some(endpoint) => serde_json::to_string(&(request, endpoint)).unwrap_or_default(),
        }
    }
}

impl From<TokenRequest> for Subject {
    /// The entry is about the token that the request gets.
    fn from(request: TokenRequest) -> Self {
        Self { request, endpoint: None }
    }
}
