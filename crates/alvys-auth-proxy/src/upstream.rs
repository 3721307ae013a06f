//! The two places that requests go to, and the way there.

use std::error::Error as _;
use std::time::Duration;

use alvys_auth_core::{Api, Error};
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use reqwest::{Client, ClientBuilder, Url, redirect};

use crate::problem::Problem;
use crate::route::{Route, Target};
use crate::settings::Settings;

/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How often a peer on HTTP/2 is asked whether it is still there.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// Where requests go: the API's origin, the MCP server, and nowhere else.
pub(crate) struct Upstream {
    pub(crate) api: Api,
    pub(crate) client: Client,
    base: Url,
    mcp: Option<Url>,
}

/// One request's destination.
pub(crate) struct Destination {
    pub(crate) url: Url,
    pub(crate) uri: Uri,
}

impl Upstream {
    /// Checks the places and finishes the client, under rules that its builder cannot loosen.
    pub(crate) fn new(mut api: Api, client: ClientBuilder, settings: &Settings) -> Result<Self, Error> {
        let base = url("API base", api.base())?;
        let mcp = settings.mcp.as_deref().map(|mcp| url("MCP server", mcp)).transpose()?;
        if let Some(mcp) = &mcp {
            api = api.allow(mcp.as_str())?;
        }
        let plain = base.scheme() == "http" || mcp.as_ref().is_some_and(|mcp| mcp.scheme() == "http");
        let client = client
            // What the API answers is the caller's business, and a redirect must not take the token along.
            .redirect(redirect::Policy::none())
            .referer(false)
            // Bodies pass as they are.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .connect_timeout(CONNECT_WITHIN)
            .http2_keep_alive_interval(ASK_EVERY)
            .tcp_nodelay(true);
        // Plain http is for this machine alone: a proxy would carry the token off it, unencrypted.
        let client = if plain { client.no_proxy() } else { client.https_only(true) };
        let client = client.build().map_err(|error| {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            Error::configuration(
                format!("the HTTP client could not be built{cause}"),
                "check the certificates, proxies and TLS settings given to it",
            )
        })?;
        Ok(Self { api, client, base, mcp })
    }

    /// Where a request goes. Only the path and the query come from the request.
    pub(crate) fn destination(&self, target: &Target) -> Result<Destination, Problem> {
        let (place, path) = match (target, &self.mcp) {
            (Target::Api(path), _) => (&self.base, path.clone()),
            (Target::Mcp(rest), Some(mcp)) => (mcp, format!("{}{rest}", mcp.path().trim_end_matches('/'))),
            _ => {
                return Err(Problem::new(
                    StatusCode::NOT_FOUND,
                    "not_served",
                    "this proxy serves no such path",
                    "set an MCP server for /mcp; for everything else see the paths that it serves",
                ));
            }
        };
        let origin = place.origin();
        let url = Url::parse(&format!("{}{path}", origin.ascii_serialization())).ok();
        let url = url.filter(|url| url.origin() == origin && url.username().is_empty());
        let destination = url.and_then(|url| Some(Destination { uri: url.as_str().parse().ok()?, url }));
        destination.ok_or_else(|| {
            Problem::new(StatusCode::BAD_REQUEST, "path", "the path makes no URL", "escape it with per cent signs")
        })
    }

    /// Where the requests go, for people.
    pub(crate) fn places(&self) -> (&str, Option<&str>) {
        (self.api.base(), self.mcp.as_ref().map(Url::as_str))
    }

    /// Makes a `Location` within the API lead through the proxy again, where the next request gets its token.
    ///
    /// Everything else, such as a pre-signed document link, leads where it leads, written out in full.
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

/// The path that all versions of the API share: `/api/p/` of `/api/p/v1`.
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
