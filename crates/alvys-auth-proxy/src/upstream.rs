//! The API and the MCP server, and the HTTP client that calls them.

use std::error::Error as _;
use std::time::Duration;

use alvys_auth_core::{Api, Error};
use alvys_auth_reqwest::Http;
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use reqwest::{Client, ClientBuilder, Url, redirect};

use crate::problem::Problem;
use crate::route::{Route, Target};
use crate::settings::Settings;

/// How long it may take to connect.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How often an HTTP/2 connection is checked with a PING.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// The destinations of requests: the API's origin and the MCP server.
pub(crate) struct Upstream {
    pub(crate) api: Api,
    client: Client,
    /// Keeps no connection for the next request.
    anew: Client,
    base: Url,
    mcp: Option<Url>,
}

/// The destination of one request.
pub(crate) struct Destination {
    pub(crate) url: Url,
    pub(crate) uri: Uri,
}

impl Upstream {
    /// Checks the URLs and builds the client. Some rules override the settings of its builder.
    pub(crate) fn new(mut api: Api, http: &Http, settings: &Settings) -> Result<Self, Error> {
        let base = url("API base", api.base())?;
        let mcp = settings.mcp.as_deref().map(|mcp| url("MCP server", mcp)).transpose()?;
        if let Some(mcp) = &mcp {
            api = api.allow(mcp.as_str())?;
        }
        let plain = base.scheme() == "http" || mcp.as_ref().is_some_and(|mcp| mcp.scheme() == "http");
        let ruled = |client: ClientBuilder| {
            client
                // The caller gets the redirect, and a redirect must not take the token to another server.
                .redirect(redirect::Policy::none())
                .referer(false)
                // Bodies are forwarded unchanged.
                .no_gzip()
                .no_brotli()
                .no_zstd()
                .no_deflate()
                .connect_timeout(CONNECT_WITHIN)
                .http1_allow_obsolete_multiline_headers_in_responses(true)
                .http2_keep_alive_interval(ASK_EVERY)
                .tcp_nodelay(true)
        };
        // Plain http is for this machine only. An HTTP proxy would take the token off this machine, unencrypted.
        let built = |client: ClientBuilder| {
            let client = if plain { ruled(client).no_proxy() } else { ruled(client).https_only(true) };
            client.build().map_err(|error| {
                let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                Error::configuration(
                    format!("the HTTP client cannot be built{cause}"),
                    "check its certificates, proxies and TLS settings",
                )
            })
        };
        let (client, anew) = (built(http.builder())?, built(http.builder().pool_max_idle_per_host(0))?);
        Ok(Self { api, client, anew, base, mcp })
    }

    /// What sends a request, on a new connection where it is sent `anew`.
    pub(crate) fn client(&self, anew: bool) -> &Client {
        if anew { &self.anew } else { &self.client }
    }

    /// The destination of a request. Only the path and the query come from the request.
    pub(crate) fn destination(&self, target: &Target) -> Result<Destination, Problem> {
        let (place, path) = match (target, &self.mcp) {
            (Target::Api(path), _) => (&self.base, path.clone()),
            (Target::Mcp(rest), Some(mcp)) => (mcp, format!("{}{rest}", mcp.path().trim_end_matches('/'))),
            _ => {
                return Err(Problem::new(
                    StatusCode::NOT_FOUND,
                    "not_served",
                    "this proxy does not serve this path",
                    "set an MCP server for /mcp with --mcp-url or Settings::mcp",
                ));
            }
        };
        let origin = place.origin();
        let url = Url::parse(&format!("{}{path}", origin.ascii_serialization())).ok();
        let url = url.filter(|url| url.origin() == origin && url.username().is_empty());
        let destination = url.and_then(|url| Some(Destination { uri: url.as_str().parse().ok()?, url }));
        destination.ok_or_else(|| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "path",
                "the path makes no valid URL",
                "percent-encode the characters that a URL must not contain",
            )
        })
    }

    /// The URLs of the API and of the MCP server, for people.
    pub(crate) fn places(&self) -> (&str, Option<&str>) {
        (self.api.base(), self.mcp.as_ref().map(Url::as_str))
    }

    /// Changes a `Location` within the API to a URL of the proxy, so that the next request gets its token.
    ///
    /// Any other `Location`, such as a pre-signed document link, stays the same, as a full URL.
    pub(crate) fn relocate(&self, headers: &mut HeaderMap, from: &Destination, route: &Route) {
        let Some(location) = headers.get(LOCATION).and_then(|value| value.to_str().ok()) else { return };
        let Ok(target) = from.url.join(location) else { return };
        let below = |place: &str, path: &str| {
            path.strip_prefix(place)
                .is_some_and(|rest| rest.is_empty() || place.ends_with('/') || rest.starts_with('/'))
        };
        let local = match (&route.target, &self.mcp) {
            (Target::Mcp(_), Some(mcp)) if target.origin() == mcp.origin() => {
                let place = mcp.path().trim_end_matches('/');
                below(place, target.path()).then(|| format!("/mcp{}", &target.path()[place.len()..]))
            }
            (Target::Api(_), _) if target.origin() == self.base.origin() => {
                below(versions(&self.base), target.path()).then(|| target.path().to_owned())
            }
            _ => None,
        };
        let relocated = match local {
            Some(path) => {
                let query = target.query().map(|query| format!("?{query}")).unwrap_or_default();
                let fragment = target.fragment().map(|fragment| format!("#{fragment}")).unwrap_or_default();
                format!("{}{path}{query}{fragment}", route.prefix)
            }
            None => target.to_string(),
        };
        if let Ok(value) = HeaderValue::try_from(relocated) {
            headers.insert(LOCATION, value);
        }
    }
}

/// The path that all versions of the API have in common: `/api/p/` for `/api/p/v1`.
fn versions(base: &Url) -> &str {
    let path = base.path().trim_end_matches('/');
    path.rfind('/').and_then(|at| path.get(..=at)).unwrap_or("/")
}

fn url(name: &'static str, url: &str) -> Result<Url, Error> {
    let parsed = Url::parse(url).ok().filter(|url| url.query().is_none() && url.fragment().is_none());
    parsed.ok_or_else(|| {
        Error::configuration(
            format!("the {name} is not a URL that requests can be sent to"),
            "give a full URL without a query, such as https://integrations.alvys.com/api/p/v1",
        )
    })
}
