//! The API and the MCP server, and the HTTP client that calls them.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alvys_auth_core::{Api, Error, TransportFault};
use alvys_auth_driver::{Refusals, Time, fault, is_unanswered};
use alvys_auth_reqwest::{Http, explain};
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};
use hyper::ext::on_informational;
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use reqwest::{Client, ClientBuilder, Url, redirect};
use tokio::sync::Notify;

use crate::problem::Problem;
use crate::route::{Route, Target};
use crate::settings::Settings;

/// How long it may take to connect.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How often an HTTP/2 connection is checked with a PING.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// How many bytes of an answer HTTP/2 keeps for each call that its client does not read.
const WINDOW: u32 = 128 * 1024;
/// How many bytes of an answer the system keeps for the client for plain http. Linux takes twice as many. With fewer
/// bytes downloads are slow; with many more, the bytes of all calls would not fit into 128 MiB.
const UNREAD: usize = 56 * 1024;
/// The most headers of an answer, as in `alvys-auth-reqwest`.
const MOST_HEADERS: usize = 256;
/// How many bytes of a response the client for plain http reads at once; also the longest head of one.
const MOST_KEPT: usize = 64 * 1024;
/// How many interim answers (status 1xx) may come before an answer over plain http. Over TLS, the time limit alone ends them.
const MOST_INTERIM: usize = 64;
/// The path that Alvys documents for asking who owns the token. It is not below the API's base URL.
const ME: &str = "/v1/me";

/// The destinations of requests: the API and the MCP server.
pub(crate) struct Upstream {
    pub(crate) api: Api,
    client: Client,
    /// A client that keeps no connection for the next request.
    anew: Client,
    /// Both call an API or an MCP server on this machine over plain http. The second one keeps no connection.
    plain: [PlainClient; 2],
    base: Url,
    mcp: Option<Url>,
    allowed: Vec<String>,
    http: Http,
    /// The refusals of the forward proxy, remembered for all tenants together.
    pub(crate) refusals: Refusals,
}

type PlainClient = legacy::Client<HttpConnector, reqwest::Body>;

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
                // Calls that share a connection must not fill its window, because the other calls could not go on then.
                .http2_initial_stream_window_size(WINDOW)
                .http2_initial_connection_window_size(connection_window(settings.most_at_once))
                .http1_allow_obsolete_multiline_headers_in_responses(true)
                .http2_keep_alive_interval(ASK_EVERY)
                .tcp_nodelay(true)
        };
        let built = |client: ClientBuilder| {
            ruled(client).https_only(true).build().map_err(|error| {
                let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                Error::configuration(
                    format!("the HTTP client cannot be built{cause}"),
                    "check its certificates, proxies and TLS settings",
                )
            })
        };
        let (client, anew) = (built(http.builder())?, built(http.builder().pool_max_idle_per_host(0))?);
        let allowed = settings.paths.iter().map(|path| allowed(path)).collect::<Result<_, _>>()?;
        let plain = [plain_client(usize::MAX), plain_client(0)];
        let (http, refusals) = (http.clone(), Refusals::default());
        Ok(Self { api, client, anew, plain, base, mcp, allowed, http, refusals })
    }

    /// Sends a request and waits for the head of its answer. `anew` says that it is sent again, and opens a new
    /// connection.
    ///
    /// # Errors
    /// The reason why there is no answer. The `bool` says whether the connection closed before any byte of an answer
    /// arrived.
    pub(crate) async fn send(
        &self,
        request: reqwest::Request,
        anew: bool,
    ) -> Result<Response<reqwest::Body>, (Error, bool)> {
        const PEER: &str = "the API";
        if request.url().scheme() != "http" {
            let uri = request.url().as_str().parse().unwrap_or_default();
            self.refusals.check(&uri, Time::boot().now()).map_err(|error| (error, false))?;
            let client = if anew { &self.anew } else { &self.client };
            return client.execute(request).await.map(Into::into).map_err(|error| {
                let unanswered = is_unanswered(&error);
                let error = self.http.explain(PEER, error);
                self.refusals.failed(&uri, &error, Time::boot().now());
                (error, unanswered)
            });
        }
        let mut request = http::Request::try_from(request).map_err(|error| (explain(PEER, error), false))?;
        let (interim, too_many) = (AtomicUsize::new(0), Arc::new(Notify::new()));
        let told = Arc::clone(&too_many);
        on_informational(&mut request, move |_| {
            if interim.fetch_add(1, Ordering::Relaxed) == MOST_INTERIM {
                told.notify_one();
            }
        });
        let answer = tokio::select! {
            answer = self.plain[usize::from(anew)].request(request) => answer,
            () = too_many.notified() => {
                let cause = format!("more than {MOST_INTERIM} interim answers (status 1xx) came in its place");
                return Err((Error::on_the_way(TransportFault::Unreadable, PEER, cause), false));
            }
        };
        answer.map(|answer| answer.map(reqwest::Body::wrap)).map_err(|error| {
            let unknown =
                if error.is_connect() { TransportFault::NeverArrived } else { TransportFault::MayHaveArrived };
            let (known, unanswered) = (fault(&error).unwrap_or(unknown), is_unanswered(&error));
            (Error::on_the_way(known, PEER, error), unanswered)
        })
    }

    /// The destination of a request. Only the path and the query come from the request.
    pub(crate) fn destination(&self, target: &Target) -> Result<Destination, Problem> {
        let (place, path) = match (target, &self.mcp) {
            (Target::Api(path), _) if self.serves(path.split('?').next().unwrap_or_default()) => {
                (&self.base, path.clone())
            }
            (Target::Api(_), _) => {
                return Err(Problem::new(
                    StatusCode::NOT_FOUND,
                    "not_served",
                    "this path is not one of the API, so the proxy does not send the access token there",
                    "call a path below the base URL of the API, or allow this one with --allow-path or \
                     Settings::allow_path",
                ));
            }
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
        let written = format!("{}{path}", origin.ascii_serialization());
        // Checked before the URL is parsed, because parsing would resolve `..`.
        if let Ok(uri) = written.parse()
            && let Err(error) = self.api.permits(&uri)
        {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "path", error.what(), error.hint()));
        }
        let url = Url::parse(&written).ok();
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

    /// Whether a token may go to this path of the API's host.
    fn serves(&self, path: &str) -> bool {
        let own = self.base.path().trim_end_matches('/');
        let versioned = own.rsplit_once('/').filter(|(_, last)| is_version(last));
        let is_api = match versioned {
            // Any version of the API.
            Some((parent, _)) => below(parent, path).is_some_and(|rest| rest.split('/').nth(1).is_some_and(is_version)),
            None => below(own, path).is_some(),
        };
        is_api || path == ME || self.allowed.iter().any(|allowed| below(allowed, path).is_some())
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
        let local = match (&route.target, &self.mcp) {
            (Target::Mcp(_), Some(mcp)) if target.origin() == mcp.origin() => {
                let place = mcp.path().trim_end_matches('/');
                below(place, target.path()).map(|rest| format!("/mcp{rest}"))
            }
            (Target::Api(_), _) if target.origin() == self.base.origin() => {
                self.serves(target.path()).then(|| target.path().to_owned())
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

/// A client for plain http, which keeps little of an answer that its reader does not take, in this process and in the system.
///
/// reqwest has no such settings: over plain http it keeps most of a megabyte. Over TLS, it reads the answer record by record, of
/// 16 KiB at most.
fn plain_client(most_idle: usize) -> PlainClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_recv_buffer_size(Some(UNREAD));
    connector.set_connect_timeout(Some(CONNECT_WITHIN));
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(most_idle)
        .http1_max_buf_size(MOST_KEPT)
        .http1_max_headers(MOST_HEADERS)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .build(connector)
}

/// The rest of `path`, if it is `place` or below it.
fn below<'a>(place: &str, path: &'a str) -> Option<&'a str> {
    path.strip_prefix(place).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a segment is the version of an API, such as `v1` or `v2.0`.
fn is_version(segment: &str) -> bool {
    let mut letters = segment.bytes();
    letters.next() == Some(b'v')
        && letters.next().is_some_and(|digit| digit.is_ascii_digit())
        && letters.all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// A path that was allowed, without a slash at its end.
fn allowed(path: &str) -> Result<String, Error> {
    let url = Url::parse(&format!("http://localhost{path}")).ok();
    let plain = path.starts_with('/') && url.is_some_and(|url| url.path() == path && !path.contains(['?', '#']));
    let trimmed = path.trim_end_matches('/');
    if plain && !trimmed.is_empty() {
        return Ok(trimmed.to_owned());
    }
    Err(Error::configuration(
        "an allowed path is not a plain path",
        "write it as requests have it, such as /reports/v2, without . and .. segments and without a query",
    ))
}

/// Room for what all calls keep on one HTTP/2 connection.
fn connection_window(calls: usize) -> u32 {
    let most = (1 << 31) - 1;
    u32::try_from(calls).unwrap_or(u32::MAX).saturating_mul(WINDOW).min(most)
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
