//! The settings of the command's HTTP agents, and what `-vv` shows of their requests.

use std::sync::OnceLock;

use alvys_auth_core::{Credentials, echoes};
use alvys_auth_driver::in_words;
use http::header::{AUTHORIZATION, COOKIE, LOCATION, PROXY_AUTHORIZATION, SET_COOKIE};
use http::{HeaderMap, Request, Response, Uri};
use tracing::{enabled, trace};
use ureq::config::ConfigBuilder;
use ureq::middleware::{Middleware, MiddlewareNext};
use ureq::typestate::AgentScope;
use ureq::{Agent, Body, SendBody};
use zeroize::Zeroizing;

/// The settings of an agent, which shows requests and responses with `-vv`.
pub(crate) fn config() -> ConfigBuilder<AgentScope> {
    let config = Agent::config_builder().user_agent(concat!("alvys-auth/", env!("CARGO_PKG_VERSION")));
    if enabled!(target: "alvys_auth", tracing::Level::TRACE) { config.middleware(Shown) } else { config }
}

/// The credentials, which a server may repeat in its headers.
static CONCEALED: OnceLock<Credentials> = OnceLock::new();

/// Keeps these credentials out of what `-vv` shows.
pub(crate) fn conceal(credentials: &Credentials) {
    // A run has one application.
    let _ = CONCEALED.set(credentials.clone());
}

/// Shows what is sent and received: no body, no query, no header that may hold a secret.
struct Shown;

impl Middleware for Shown {
    fn handle(&self, request: Request<SendBody>, next: MiddlewareNext) -> Result<Response<Body>, ureq::Error> {
        let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let token = Zeroizing::new(token.trim_start_matches("Bearer ").to_owned());
        let headers = shown(request.headers(), &token);
        trace!(target: "alvys_auth", headers, "> {} {}", request.method(), place(request.uri()));
        let answer = next.handle(request);
        match &answer {
            Ok(answer) => {
                let headers = shown(answer.headers(), &token);
                trace!(target: "alvys_auth", headers, "< {}", answer.status().as_u16());
            }
            Err(error) => trace!(target: "alvys_auth", "< no answer: {}", told(error)),
        }
        answer
    }
}

/// An error of an agent, in which errors of TLS are described in plain words.
pub(crate) fn told(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Rustls(error) => in_words(error),
        other => other.to_string(),
    }
}

fn place(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let query = if uri.query().is_some() { "?[redacted]" } else { "" };
    format!("{}://{authority}{}{query}", uri.scheme_str().unwrap_or_default(), uri.path())
}

/// The headers as text. Values that may be secret, or that repeat the client secret or `token`, are left out.
fn shown(headers: &HeaderMap, token: &str) -> String {
    // A location may be a pre-signed link.
    let secret = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, SET_COOKIE, LOCATION];
    let lines = headers.iter().map(|(name, value)| {
        let text = String::from_utf8_lossy(value.as_bytes());
        let echo = || echoes(&text, token) || CONCEALED.get().is_some_and(|secret| secret.are_echoed_in(&text));
        let hidden = value.is_sensitive() || secret.contains(name) || echo();
        format!("{name}: {}", if hidden { "[redacted]" } else { &text })
    });
    lines.collect::<Vec<_>>().join("; ")
}
