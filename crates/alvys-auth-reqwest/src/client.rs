//! A client for the Alvys API whose calls are authorized.

use std::error::Error as _;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use alvys_auth_driver::header;
use http::{HeaderName, HeaderValue, Method};
use reqwest::redirect::Policy;
use reqwest::{Request, Response, Url};
use serde::Serialize;

use crate::caller::{Caller, Exchange, Failure};
use crate::connections::Connections;
use crate::transport::Http;
use crate::{Api, CallOptions, Error, Pace, Scope, TokenSource};

const MOST_REDIRECTS: usize = 10;

/// Calls the Alvys API: authorized, renewed and repeated where that is safe.
///
/// What the API answers arrives as a [`reqwest::Response`], with whatever status, except where the answer is about the
/// token or about waiting: a 401 that a renewal does not mend, a 403, a 429 or 503 that outlasts the patience, and an HTML
/// page in place of the API are [`Error`]s. Cheap to clone; clones share connections and token.
///
/// ```no_run
/// use alvys_auth_reqwest::{Api, Client, Credentials, Flow, TokenSource};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let tokens = TokenSource::new(Flow::current(), Credentials::new("my-client", "s3cret")?)?;
/// let alvys = Client::new(tokens, Api::production())?;
/// let load: serde_json::Value = alvys.get("loads/4711").send().await?.error_for_status()?.json().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    caller: Caller,
    http: Connections,
    proxied: bool,
}

/// Settings of a [`Client`]; from [`Client::builder`].
#[must_use = "a builder does nothing until it is built"]
pub struct ClientBuilder {
    caller: Caller,
    http: Option<Http>,
}

/// One call on its way; from [`Client::get`] and its like.
#[must_use = "a call does nothing until it is sent"]
pub struct RequestBuilder {
    client: Client,
    request: Result<reqwest::RequestBuilder, Error>,
    options: CallOptions,
}

impl Client {
    /// A client with default settings: 10 seconds for a connection, 30 for the head of an answer, which includes the sending
    /// of the request, and for each further piece.
    ///
    /// A request whose body is a stream or longer than 256 KiB may take 10 minutes each instead, because reqwest cannot tell
    /// a long upload from a silent server.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when no HTTP client can be built.
    pub fn new(tokens: TokenSource, api: Api) -> Result<Self, Error> {
        Self::builder(tokens, api).build()
    }

    /// A client with settings of your own.
    pub fn builder(tokens: TokenSource, api: Api) -> ClientBuilder {
        ClientBuilder { caller: Caller { tokens, api, pace: None }, http: None }
    }

    /// A client on top of a finished `http`, whose connections it shares: for many tenants, each with its own tokens.
    ///
    /// That is taken as it is. Build it with [`redirects`], with time limits, of which it has none by itself, and for an API
    /// base that is plain http with [`no_proxy`](reqwest::ClientBuilder::no_proxy), or a proxy that the environment names
    /// gets the token unencrypted.
    #[must_use]
    pub fn sharing(http: reqwest::Client, tokens: TokenSource, api: Api) -> Self {
        let proxied = !is_plain_http(&api);
        Self { caller: Caller { tokens, api, pace: None }, http: Connections::of(http), proxied }
    }

    /// Shapes the rate of the calls; without it they go out as they come.
    ///
    /// A [`Pace`] keeps the limits of one token: give each tenant its own.
    #[must_use]
    pub fn pace(mut self, pace: Pace) -> Self {
        self.caller.pace = Some(pace);
        self
    }

    /// `GET` on a path below the API base, such as `loads/4711`, or on a full URL that a token may go to.
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    /// `POST`, likewise.
    pub fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    /// `PUT`, likewise.
    pub fn put(&self, path: &str) -> RequestBuilder {
        self.request(Method::PUT, path)
    }

    /// `PATCH`, likewise.
    pub fn patch(&self, path: &str) -> RequestBuilder {
        self.request(Method::PATCH, path)
    }

    /// `DELETE`, likewise.
    pub fn delete(&self, path: &str) -> RequestBuilder {
        self.request(Method::DELETE, path)
    }

    /// Any method, likewise.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.caller.api.url(path).map(|url| self.http.builder().request(method, url.to_string()));
        RequestBuilder { client: self.clone(), request, options: CallOptions::new() }
    }

    /// Sends a request that was built elsewhere.
    ///
    /// # Errors
    /// As [`RequestBuilder::send`].
    pub async fn execute(&self, request: Request, options: CallOptions) -> Result<Response, Error> {
        if self.proxied && request.url().scheme() == "http" {
            return Err(Error::configuration(
                "a call over plain http could pass a proxy, because the API base is https",
                "call it with a client of its own, whose API base is plain http too",
            ));
        }
        let http = self.http.sending(&request)?;
        self.caller.call(request, options, Plain(http)).await.map_err(|failure| match failure {
            Failure::Call(error) => error,
            Failure::Transport(error) if error.is_timeout() => Error::timed_out("the API did not answer in time"),
            Failure::Transport(error) if error.is_connect() => {
                Error::transport("no connection to the API", error.without_url())
            }
            Failure::Transport(error) => Error::transport("the call failed on the way", error.without_url()),
        })
    }

    /// Where the tokens come from.
    #[must_use]
    pub fn tokens(&self) -> &TokenSource {
        &self.caller.tokens
    }
}

impl ClientBuilder {
    /// Shapes the rate of the calls; without it they go out as they come.
    pub fn pace(mut self, pace: Pace) -> Self {
        self.caller.pace = Some(pace);
        self
    }

    /// Your own transport settings: certificates, proxies, time limits, user agent. `http` is called now and for each further
    /// tokio runtime, because runtimes share no connections.
    ///
    /// The settings replace the default ones of [`Client::new`], time limits included, and hold for uploads too: a `read_timeout`
    /// begins when the request does. Redirects are set over yours, to [`redirects`]. Plain http is sent to this machine only,
    /// and to no proxy: where the API base is https, not at all.
    pub fn http(mut self, http: impl Into<Http>) -> Self {
        self.http = Some(http.into());
        self
    }

    /// Makes the client.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when no HTTP client can be built.
    pub fn build(self) -> Result<Client, Error> {
        let proxied = !is_plain_http(&self.caller.api);
        let finish = move |http: reqwest::ClientBuilder| {
            // The URL of a call would go along to wherever a redirect leads.
            let http = http.referer(false).redirect(redirects());
            if proxied { http } else { http.no_proxy() }
        };
        Ok(Client { caller: self.caller, http: Connections::new(self.http, finish)?, proxied })
    }
}

impl fmt::Debug for Client {
    /// Leaves the HTTP client out: its default headers may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("caller", &self.caller).finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientBuilder {
    /// Leaves the HTTP client out, likewise.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("caller", &self.caller).finish_non_exhaustive()
    }
}

impl RequestBuilder {
    /// Adds a header. One that cannot be sent fails in [`send`](Self::send).
    pub fn header(mut self, name: impl TryInto<HeaderName>, value: impl TryInto<HeaderValue>) -> Self {
        self.request = self.request.and_then(|request| {
            let (name, value) = header(name, value)?;
            Ok(request.header(name, value))
        });
        self
    }

    /// Adds parameters to the query: a map, a struct, or pairs such as `[("page", 1)]`.
    pub fn query<T: Serialize + ?Sized>(self, parameters: &T) -> Self {
        self.with(|request| request.query(parameters))
    }

    /// Sends `value` as JSON.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Self {
        self.with(|request| request.json(value))
    }

    /// Sends a body: bytes, text, or a stream, which is sent once and never again.
    pub fn body(self, body: impl Into<reqwest::Body>) -> Self {
        self.with(|request| request.body(body))
    }

    /// How long the request may take, from its sending until its answer has been read to the end; sent again, it may take as
    /// long again.
    ///
    /// This stands in place of the default time limits, except those of 10 seconds for a connection and of 10 minutes without
    /// a byte. A `read_timeout` of your own client holds beside it. Waiting for a token, and [`Api::patience`], are not part of
    /// it.
    pub fn timeout(self, limit: Duration) -> Self {
        self.with(|request| request.timeout(limit))
    }

    /// Whatever else a [`reqwest::RequestBuilder`] can be told.
    pub fn with(mut self, change: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder) -> Self {
        self.request = self.request.map(change);
        self
    }

    /// Says that sending this twice does the same as sending it once; see [`CallOptions::idempotent`].
    pub fn idempotent(mut self) -> Self {
        self.options = self.options.idempotent();
        self
    }

    /// Names scopes that the token must have; without them nothing is sent.
    pub fn require<S: Into<Scope>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.options = self.options.require(scopes);
        self
    }

    /// Sends the request, again where the rules say so, and gives the answer.
    ///
    /// # Errors
    /// Why there is no token, why none may go there, or what the API's refusal means; see [`Client`].
    pub async fn send(self) -> Result<Response, Error> {
        let request = self.request?.build().map_err(|error| {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            Error::configuration(format!("the request could not be built{cause}"), "correct its body, query or headers")
        })?;
        self.client.execute(request, self.options).await
    }
}

impl fmt::Debug for RequestBuilder {
    /// Leaves the request out: its body is the caller's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBuilder").field("options", &self.options).finish_non_exhaustive()
    }
}

/// The redirects of a client whose calls are authorized: up to 10 are followed, to other origins without the token.
///
/// Set this on the client to which the middleware `Authorize` is added, and on one for [`Client::sharing`]. By itself
/// reqwest takes the token off where a redirect leaves an origin, and puts it on again where the next one stays there. That
/// one is not followed but delivered as an answer, and so is one that leads back to the URL that was called: what came of it
/// could not be told from the first answer, and a request that was carried out already would be sent again. Nor is one
/// followed from https to plain http, or from this machine to plain http elsewhere, which would take the body along.
#[must_use]
pub fn redirects() -> Policy {
    Policy::custom(|attempt| {
        let (first, last) = (attempt.previous().first(), attempt.previous().last());
        let next = attempt.url().origin();
        let stays = |url: Option<&Url>| url.is_some_and(|url| url.origin() == next);
        let exposes = last.is_some_and(|last| exposes(last, attempt.url()));
        if attempt.previous().len() > MOST_REDIRECTS {
            attempt.error("too many redirects")
        } else if exposes || stays(last) && !stays(first) || first.is_some_and(|first| is_same(first, attempt.url())) {
            attempt.stop()
        } else {
            attempt.follow()
        }
    })
}

/// Whether both name the same resource; a fragment is not sent.
fn is_same(one: &Url, other: &Url) -> bool {
    one.as_str().split('#').next() == other.as_str().split('#').next()
}

/// Whether what is sent from `last` on to `next` could be read on the way, as it could not be before.
fn exposes(last: &Url, next: &Url) -> bool {
    next.scheme() == "http" && (last.scheme() != "http" || is_here(last) && !is_here(next))
}

fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_plain_http(api: &Api) -> bool {
    api.base().get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"))
}

/// A plain client, without middleware.
struct Plain(reqwest::Client);

impl Exchange for Plain {
    type Error = reqwest::Error;

    async fn send(&mut self, request: Request) -> Result<Response, reqwest::Error> {
        self.0.execute(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_exposes_a_request_where_it_goes_on_unencrypted() {
        let url = |url: &str| url.parse::<Url>().expect("a URL");
        let https = url("https://localhost");
        let far = ["http://files.example.net", "http://0.0.0.0", "http://127.0.0.1.example.net", "http://[::2]"];
        let here = ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:8080", "http://127.255.0.1"];
        for (far, here) in far.map(url).iter().zip(&here.map(url)) {
            assert!(exposes(&https, far) && exposes(&https, here) && exposes(here, far), "{far} {here}");
            assert!([&https, here, far].iter().all(|last| !exposes(last, &https)), "{far} {here}");
            assert!(!exposes(here, here) && !exposes(far, here) && !exposes(far, far), "{far} {here}");
        }
    }
}
