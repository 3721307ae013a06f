//! The floors: the least code that does the same work with the same crates. No checks, no errors, no lifecycle.

use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use alvys_auth_core::Timestamp;
use alvys_auth_driver::Time;
use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::Simd;
use base64::engine::general_purpose::NO_PAD;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Uri};
use memchr::{memchr, memrchr};
use serde::{Deserialize, Serialize};

use crate::input;

const BEARER: &str = "Bearer ";

#[derive(Serialize)]
struct Body<'a> {
    client_id: &'a str,
    client_secret: &'a str,
    audience: &'a str,
    grant_type: &'a str,
}

fn body(client_id: &str, client_secret: &str) -> Vec<u8> {
    let body = Body { client_id, client_secret, audience: input::AUDIENCE, grant_type: "client_credentials" };
    serde_json::to_vec(&body).expect("text is JSON")
}

/// A request from its ingredients.
pub(crate) fn render(client_id: &str, client_secret: &str) -> Request<Vec<u8>> {
    let mut request = Request::new(body(client_id, client_secret));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(input::ENDPOINT);
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    request
}

#[derive(Deserialize)]
struct Answer<'a> {
    /// Bytes, because JSON looks at text letter by letter.
    access_token: &'a [u8],
    expires_in: u64,
    scope: &'a str,
}

#[derive(Deserialize)]
struct Claims {
    iat: u64,
    exp: u64,
}

/// A token with its header ready, its scopes readable and its lifetime known.
#[derive(Debug)]
pub(crate) struct Usable {
    _header: HeaderValue,
    _scope: Bytes,
    _lifetime: u64,
}

/// An answer read, and the claims of its token too where a lifetime in them is to count.
pub(crate) fn read(answer: &[u8], claims: bool) -> Usable {
    let answer: Answer<'_> = parsed(answer);
    let mut lifetime = answer.expires_in;
    if claims {
        let claims = self::claims(answer.access_token);
        lifetime = lifetime.min(claims.exp - claims.iat);
    }
    let token_ends = BEARER.len() + answer.access_token.len();
    let mut text = Vec::with_capacity(token_ends + answer.scope.len());
    text.extend_from_slice(BEARER.as_bytes());
    text.extend_from_slice(answer.access_token);
    text.extend_from_slice(answer.scope.as_bytes());
    // The header value and the scopes are two windows on one buffer.
    let mut text = Bytes::from(text);
    let scope = text.split_off(token_ends);
    Usable { _header: sensitive(text), _scope: scope, _lifetime: lifetime }
}

fn claims(access_token: &[u8]) -> Claims {
    static ENGINE: LazyLock<Simd> = LazyLock::new(|| Simd::url_safe(NO_PAD));
    let begins = memchr(b'.', access_token).expect("a JWT") + 1;
    let ends = memrchr(b'.', access_token).expect("a JWT");
    let mut buffer = [0; 2048];
    let decoded = ENGINE.decode_slice(&access_token[begins..ends], &mut buffer).expect("base64");
    parsed(&buffer[..decoded])
}

/// Checked as UTF-8 in one go: text by text, as `from_slice` does it, costs several times as much.
fn parsed<'a, T: Deserialize<'a>>(json: &'a [u8]) -> T {
    serde_json::from_str(str::from_utf8(json).expect("UTF-8")).expect("JSON with these members")
}

fn sensitive(text: Bytes) -> HeaderValue {
    let mut header = HeaderValue::from_maybe_shared(text).expect("legal in a header");
    header.set_sensitive(true);
    header
}

fn header(access_token: &str) -> HeaderValue {
    sensitive(Bytes::from([BEARER, access_token].concat()))
}

/// A held token that readers look at without a lock.
#[derive(Debug)]
pub(crate) struct Swapped(ArcSwap<(HeaderValue, Timestamp)>);

impl Swapped {
    pub(crate) fn new() -> Self {
        let until = Time::boot().now().saturating_add(Duration::from_secs(input::LIFETIME));
        Self(ArcSwap::from_pointee((header(&input::access_token()), until)))
    }

    pub(crate) fn length(&self) -> Option<usize> {
        let held = self.0.load();
        (Time::boot().now() < held.1).then(|| held.0.len())
    }
}

/// A held token behind a lock, its header copied for each reader.
#[derive(Debug)]
pub(crate) struct Locked(Mutex<(HeaderValue, Instant)>);

impl Locked {
    pub(crate) fn new() -> Self {
        let until = Instant::now() + Duration::from_secs(input::LIFETIME);
        Self(Mutex::new((header(&input::access_token()), until)))
    }

    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let held = self.0.lock().expect("no panic under the lock");
        (Instant::now() < held.1).then(|| held.0.clone())
    }
}

/// How long the drivers let a request take by default, and half of it for connecting.
const LIMIT: Duration = Duration::from_secs(10);

/// A plain client, or one with the settings of the driver: its time limits, and connections kept for as long.
pub(crate) fn client(same_settings: bool) -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy();
    let builder = if same_settings {
        builder.timeout(LIMIT).connect_timeout(LIMIT / 2).pool_idle_timeout(Duration::from_secs(2))
    } else {
        builder
    };
    builder.build().expect("an HTTP client")
}

/// A token fetched with reqwest.
pub(crate) async fn with_reqwest(client: &reqwest::Client, url: &str) -> Usable {
    let request = client
        .post(url)
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json")
        .body(body(input::CLIENT_ID, input::CLIENT_SECRET));
    let answer = request.send().await.expect("an answer");
    read(&answer.bytes().await.expect("a body"), false)
}

/// A plain agent, or one with the settings of the driver: its time limits. Either keeps its connection.
pub(crate) fn agent(same_settings: bool) -> ureq::Agent {
    let builder = ureq::Agent::config_builder().proxy(None);
    let builder =
        if same_settings { builder.timeout_global(Some(LIMIT)).timeout_connect(Some(LIMIT / 2)) } else { builder };
    builder.build().into()
}

/// A token fetched with ureq.
pub(crate) fn with_ureq(agent: &ureq::Agent, url: &str) -> Usable {
    let request = agent.post(url).header(CONTENT_TYPE, "application/json").header(ACCEPT, "application/json");
    let mut answer = request.send(body(input::CLIENT_ID, input::CLIENT_SECRET)).expect("an answer");
    read(&answer.body_mut().read_to_vec().expect("a body"), false)
}
