//! How reqwest sends the calls of a client.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use alvys_auth_driver::{Failure, Transport};
use reqwest::redirect::Policy;
use reqwest::{Body, Request, Response, Url};

use crate::caller::{self, Caller, Exchange, Tokens};
use crate::connections::Connections;
use crate::{Api, CallOptions, Error, Http};

const MOST_REDIRECTS: usize = 10;

/// The future of the answer to a call.
pub type AnswerFuture = Pin<Box<dyn Future<Output = Result<Response, Error>> + Send>>;

/// Sends the calls of a [`Client`](crate::Client) with reqwest.
///
/// By default, a call waits up to 10 seconds for a connection, up to 30 seconds for the head of an answer, which
/// includes the time to send the request, and up to 30 seconds for each further piece. If the body is a stream or
/// longer than 256 KiB, the two limits of 30 seconds are 10 minutes, because reqwest cannot distinguish a long upload
/// from a silent server. The same holds for a request with a [`timeout`](alvys_auth_driver::RequestBuilder::timeout) of
/// its own, besides that.
///
/// If a server answers before the body is sent and closes at once, reqwest may report the broken connection in place of
/// the answer. A program on the same machine got 83 to 100 of 100 answers; the longer the body, the fewer.
///
/// An answer may have 256 headers, over HTTP/2 of 256 KiB in all. With settings of your own, the limits of reqwest
/// hold, unless `http1_max_headers` and `http2_max_header_list_size` change them.
///
/// Settings of your own ([`http`](alvys_auth_driver::ClientBuilder::http)) hold for uploads too: a `read_timeout`
/// begins when the request does. Your redirect policy is replaced by [`redirects`]. Plain http is sent to this machine
/// only, and to no proxy. If the API base is https, no plain http is sent at all.
///
/// A proxy that refuses its user name and password is not asked again for 5 minutes: calls of that origin fail at once. Another
/// client, which has other settings, does not wait.
///
/// A finished [`reqwest::Client`] ([`sharing`](alvys_auth_driver::ClientBuilder::sharing)) is used as it is. Build it
/// with [`redirects`], and with time limits, because it has none by itself. For an API base that is plain http, also
/// build it with [`no_proxy`](reqwest::ClientBuilder::no_proxy), because otherwise a proxy that the environment names
/// would get the token unencrypted.
#[derive(Clone)]
pub struct Calls {
    connections: Connections,
    proxied: bool,
}

impl Transport for Calls {
    type Tokens = Tokens;
    type Http = Http;
    type Shared = reqwest::Client;
    type Body = Body;
    type Request = Request;
    type Sent = AnswerFuture;

    fn new(http: Option<Http>, api: &Api) -> Result<Self, Error> {
        let proxied = !is_plain_http(api);
        let finish = |http: reqwest::ClientBuilder| {
            // Without this, the URL of a call would be sent to the target of a redirect.
            http.referer(false).redirect(redirects()).http1_allow_obsolete_multiline_headers_in_responses(true)
        };
        let base = api.base().parse().map_err(|_| {
            Error::configuration("the base URL of the API cannot be called", "correct its host or path")
        })?;
        Ok(Self { connections: Connections::new(http, &base, finish)?, proxied })
    }

    fn sharing(shared: reqwest::Client, api: &Api) -> Self {
        Self { connections: Connections::Shared(shared), proxied: !is_plain_http(api) }
    }

    fn request(&self, request: http::Request<Body>, timeout: Option<Duration>) -> Result<Request, Error> {
        let refused = |_| Error::configuration("the URL cannot be called", "correct its host or path");
        let mut request = Request::try_from(request).map_err(refused)?;
        // reqwest also reports a body when it is empty.
        if request.body().and_then(Body::as_bytes).is_some_and(<[u8]>::is_empty) {
            *request.body_mut() = None;
        }
        *request.timeout_mut() = timeout;
        Ok(request)
    }

    fn send(&self, caller: Arc<Caller>, request: Result<Request, Error>, options: CallOptions) -> AnswerFuture {
        let this = self.clone();
        Box::pin(async move {
            let request = request?;
            if this.proxied && request.url().scheme() == "http" {
                return Err(Error::configuration(
                    "a call over plain http could pass a proxy, because the API base is https",
                    "call it with a client of its own, whose API base is plain http too",
                ));
            }
            let uri = caller::to_uri(request.url())?;
            this.connections.check(&uri, caller.time().now())?;
            let sent = caller::call(&caller, request, options, this.connections.clone()).await;
            sent.map_err(|failure| {
                failure.explained(|_, error| this.connections.explain(&uri, error, caller.time().now()))
            })
        })
    }
}

impl fmt::Debug for Calls {
    /// Leaves the HTTP clients out, because default headers may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Calls")
    }
}

/// The redirect policy of a client whose calls are authorized. Up to 10 redirects are followed. Other origins do not
/// get the token.
///
/// Set this on the client to which the middleware `Authorize` is added, and on one that a [`Client`](crate::Client)
/// shares. Some redirects are not followed but delivered as an answer. One is a redirect that stays on another origin
/// after an earlier one has led there: reqwest removes the token when a redirect leaves an origin, but adds it again
/// when the next redirect stays there. Another is a redirect back to the called URL: its answer could not be
/// distinguished from the first one, and a request that was carried out already would be sent again. Redirects from
/// https to plain http, or from this machine to plain http elsewhere, are not followed either, because they would take
/// the body along.
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

/// Whether a request that is redirected from `last` to `next` could be read on the way, although it could not be
/// before.
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

/// Plain clients, without middleware.
impl Exchange for Connections {
    type Error = reqwest::Error;

    async fn send(&mut self, request: Request, anew: bool) -> Result<Response, Failure<reqwest::Error>> {
        self.sending(&request, anew)?.execute(request).await.map_err(Failure::Transport)
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
