//! Sends one token request with reqwest, under rules that the caller's settings cannot loosen.

use std::time::Duration;

use alvys_auth_core::{Error, TokenRequest, TokenResponse, TransportFault};
use alvys_auth_driver::{Proxy, farewell, fault, plain};
use reqwest::redirect;

use crate::runtimes::PerRuntime;
use crate::settings::Http;

/// How long a connection is kept for the next token request. That is long enough for a wave of tenants. It is shorter than
/// the time after which servers close idle connections, so no token request, which cannot be repeated, meets a closed one.
const KEPT_FOR: Duration = Duration::from_secs(2);

const PEER: &str = "the token endpoint";

/// The HTTP client that sends token requests.
#[derive(Debug)]
pub struct Transport {
    clients: PerRuntime,
    http: Http,
    timeout: Duration,
}

impl Transport {
    /// Adds to the caller's settings: no redirects, no retries, no proxy for plain http, a bound on every wait.
    pub(crate) fn new(http: Http, plain_http: bool, timeout: Duration) -> Result<Self, Error> {
        let settings = http.clone();
        let clients = PerRuntime::new(move || {
            let http = settings.builder();
            let http = http
                // A redirect would take the secret along in the body, whatever the status says about methods.
                .redirect(redirect::Policy::none())
                .referer(false)
                // Only the lifecycle decides whether and when to try again.
                .retry(reqwest::retry::never())
                .pool_idle_timeout(KEPT_FOR)
                // A folded header is read as RFC 9112, section 5.2, asks.
                .http1_allow_obsolete_multiline_headers_in_responses(true)
                .connect_timeout(timeout / 2)
                .https_only(!plain_http);
            // Plain http is for this machine only. A proxy would carry the secret off this machine unencrypted.
            if plain_http { http.no_proxy() } else { http }
        });
        clients.client()?;
        Ok(Self { clients, http, timeout })
    }

    /// Refuses an endpoint that reqwest would not take.
    pub(crate) fn check(request: &TokenRequest) -> Result<(), Error> {
        let url = request.to_http().uri().to_string();
        let refused = |error| {
            Error::configuration(
                format!("the token endpoint is not a URL that reqwest accepts: {error}"),
                "correct its host name or address",
            )
        };
        reqwest::Url::parse(&url).map(|_| ()).map_err(refused)
    }

    /// Sends the request once and reads the answer, whatever its status.
    pub(crate) async fn send(&self, request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, Error> {
        let (parts, body) = request.into_parts();
        let request =
            self.clients.client()?.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body);
        let sent = request.timeout(self.timeout).send().await;
        let mut answer = sent.map_err(|error| self.http.explain(PEER, error))?;

        let success = answer.status().is_success();
        let cut_short = |error: reqwest::Error| match error {
            error if success && !error.is_timeout() => {
                Error::on_the_way(TransportFault::Unreadable, PEER, error.without_url())
            }
            error => self.http.explain(PEER, error),
        };
        let mut body = Vec::new();
        while body.len() < TokenResponse::LOOK
            && let Some(chunk) = answer.chunk().await.map_err(cut_short)?
        {
            body.extend_from_slice(&chunk);
        }
        body.truncate(TokenResponse::LOOK);
        let mut response = http::Response::new(body);
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

/// Explains an error of reqwest for a request to `peer`, such as `the API`. [`Http::explain`] also names the proxy.
pub fn explain(peer: &str, error: reqwest::Error) -> Error {
    explained(peer, None, error)
}

/// Like [`explain`], when it is known which proxy the request went through, if any.
pub(crate) fn explained(peer: &str, proxy: Option<&Proxy>, error: reqwest::Error) -> Error {
    use TransportFault::{Certificate, Configuration, MayHaveArrived, NeverArrived, ProxyCredentials, ProxyUnreached};

    // reqwest reports the errors of a proxy only as text.
    let shown = if error.is_connect() { format!("{error:?}") } else { String::new() };
    let says = |words: &[&str]| words.iter().any(|words| shown.contains(words));
    let reached = !says(&["ConnectFailed(", "SocksConnect(Inner("]);
    let through = |proxy: &Proxy| if reached { format!("{peer} through {proxy}") } else { proxy.in_words() };
    let way = proxy.map_or_else(|| if reached { peer } else { "the proxy" }.to_owned(), through);
    if error.is_timeout() {
        return Error::timed_out(match error.is_connect() {
            true => format!("no connection to {way} in time"),
            false => format!("{peer} did not answer in time"),
        });
    }
    let known = match fault(&error) {
        None | Some(NeverArrived) if !reached => ProxyUnreached,
        None if says(&["ProxyAuthRequired", "V5(Auth("]) => ProxyCredentials,
        None if error.is_connect() => NeverArrived,
        None if error.is_builder() => Configuration,
        None => MayHaveArrived,
        Some(fault) => fault,
    };
    let peer = match known {
        NeverArrived | ProxyUnreached => &way,
        Certificate if !reached => &way,
        _ => peer,
    };
    match farewell(&error) {
        Some(reason) => Error::on_the_way(known, peer, reason),
        None => Error::on_the_way(known, peer, plain(error.without_url())),
    }
}
