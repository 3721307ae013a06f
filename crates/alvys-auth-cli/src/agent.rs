//! The HTTP agent: made when something is to be sent, and not before.

use http::header::{AUTHORIZATION, COOKIE, LOCATION, PROXY_AUTHORIZATION, SET_COOKIE};
use http::{HeaderMap, Request, Response, Uri};
use tracing::{enabled, trace};
use ureq::config::ConfigBuilder;
use ureq::middleware::{Middleware, MiddlewareNext};
use ureq::typestate::AgentScope;
use ureq::{Agent, Body, SendBody};

/// The settings of an agent, which shows requests and responses with `-vv`.
pub(crate) fn config() -> ConfigBuilder<AgentScope> {
    let config = Agent::config_builder().user_agent(concat!("alvys-auth/", env!("CARGO_PKG_VERSION")));
    if enabled!(target: "alvys_auth", tracing::Level::TRACE) { config.middleware(Shown) } else { config }
}

/// Shows what is sent and received: no body, no query, no header that may hold a secret.
struct Shown;

impl Middleware for Shown {
    fn handle(&self, request: Request<SendBody>, next: MiddlewareNext) -> Result<Response<Body>, ureq::Error> {
        trace!(target: "alvys_auth", headers = shown(request.headers()), "> {} {}", request.method(), place(request.uri()));
        let answer = next.handle(request);
        match &answer {
            Ok(answer) => {
                trace!(target: "alvys_auth", headers = shown(answer.headers()), "< {}", answer.status().as_u16());
            }
            Err(error) => trace!(target: "alvys_auth", "< no answer: {error}"),
        }
        answer
    }
}

fn place(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let query = if uri.query().is_some() { "?[redacted]" } else { "" };
    format!("{}://{authority}{}{query}", uri.scheme_str().unwrap_or_default(), uri.path())
}

fn shown(headers: &HeaderMap) -> String {
    // A location may be a pre-signed link.
    let secret = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, SET_COOKIE, LOCATION];
    let lines = headers.iter().map(|(name, value)| {
        let hidden = value.is_sensitive() || secret.contains(name);
        format!("{name}: {}", if hidden { "[redacted]".into() } else { String::from_utf8_lossy(value.as_bytes()) })
    });
    lines.collect::<Vec<_>>().join("; ")
}
