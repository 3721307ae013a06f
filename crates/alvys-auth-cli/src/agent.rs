//! The HTTP agent: made when something is to be sent, and not before.

use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use alvys_auth_core::{Credentials, echoes};
use http::header::{AUTHORIZATION, COOKIE, LOCATION, PROXY_AUTHORIZATION, SET_COOKIE};
use http::{HeaderMap, Request, Response, Uri};
use tracing::{enabled, trace};
use ureq::config::ConfigBuilder;
use ureq::middleware::{Middleware, MiddlewareNext};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::typestate::AgentScope;
use ureq::{Agent, Body, SendBody};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// An agent that trusts the certificates of `ca_bundle`, or the built-in ones, uses the proxies of the environment, and
/// shows requests and responses with `-vv`.
///
/// # Errors
/// When the bundle cannot be read, or holds no certificate.
pub(crate) fn new(ca_bundle: Option<&Path>) -> Result<Agent, Failure> {
    Ok(config(ca_bundle)?.build().into())
}

/// The settings of such an agent, for a caller who adds to them.
///
/// # Errors
/// As [`new`].
pub(crate) fn config(ca_bundle: Option<&Path>) -> Result<ConfigBuilder<AgentScope>, Failure> {
    let mut config = Agent::config_builder().user_agent(concat!("alvys-auth/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = ca_bundle {
        config = config.tls_config(TlsConfig::builder().root_certs(roots(path)?).build());
    }
    if enabled!(target: "alvys_auth", tracing::Level::TRACE) {
        config = config.middleware(Shown);
    }
    Ok(config)
}

fn roots(path: &Path) -> Result<RootCerts, Failure> {
    let refused = |what: String| {
        let hint = "name a PEM file with certificates in ALVYS_CA_BUNDLE, SSL_CERT_FILE or --ca-bundle, or none";
        Failure::configuration(format!("the CA bundle {} {what}", path.display()), hint)
    };
    let pem = fs::read(path).map_err(|error| refused(format!("cannot be read: {error}")))?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(refused("holds no certificate".to_owned()));
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}

/// What a server may repeat in its headers.
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

/// Without what repeats the secret or `token`.
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
