//! Sends one token request with ureq, under rules that the caller's settings cannot loosen.

use std::io::{self, Read};
use std::time::Duration;

use alvys_auth_core::{Error, TokenRequest, TokenResponse, TransportFault};
use alvys_auth_driver::{fault, plain};
use ureq::http::{Request, Response, Uri};
use ureq::{Agent, Timeout};

use crate::network::{AtProxy, Unreached};

const PEER: &str = "the token endpoint";

/// The agent that sends token requests.
#[derive(Debug)]
pub struct Transport {
    agent: Agent,
    plain_http: bool,
    timeout: Duration,
}

impl Transport {
    pub(crate) fn new(agent: Agent, request: &TokenRequest, timeout: Duration) -> Self {
        Self { agent, plain_http: request.is_plain_http(), timeout }
    }

    /// Sends the request once and reads the answer, whatever its status.
    pub(crate) fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Error> {
        let config = self
            .agent
            .configure_request(request)
            // A redirect would take the secret along in the body, whatever the status says about methods.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // A refusal is read like any answer, because its body says why.
            .http_status_as_error(false)
            .timeout_connect(Some(self.timeout / 2))
            .timeout_global(Some(self.timeout))
            .https_only(!self.plain_http);
        // Plain http is for this machine only. A proxy would carry the secret off this machine unencrypted.
        let config = if self.plain_http { config.proxy(None) } else { config };
        let mut answer = self.agent.run(config.build()).map_err(|error| explain(PEER, error))?;

        let mut body = Vec::new();
        let limit = TokenResponse::LOOK as u64;
        let read = answer.body_mut().as_reader().take(limit).read_to_end(&mut body);
        read.map_err(|error| match ureq::Error::from(error) {
            error @ ureq::Error::Timeout(_) => explain(PEER, error),
            error if answer.status().is_success() => Error::on_the_way(TransportFault::Unreadable, PEER, error),
            error => explain(PEER, error),
        })?;
        let (parts, _) = answer.into_parts();
        Ok(Response::from_parts(parts, body))
    }
}

/// Explains an error of ureq for a request to `peer`, such as `the API`.
pub fn explain(peer: &str, error: ureq::Error) -> Error {
    use TransportFault::{Configuration, MayHaveArrived, NeverArrived, ProxyCredentials, Unreadable};
    use ureq::Error as Told;

    let no_address = |error: &io::Error| {
        error
            .get_ref()
            .is_some_and(|cause| cause.to_string().starts_with("failed to lookup address"))
            .then_some(NeverArrived)
    };
    let known = match &error {
        Told::Timeout(limit) => {
            return Error::timed_out(match limit {
                Timeout::Resolve | Timeout::Connect => format!("no connection to {peer} in time"),
                Timeout::PerWrite | Timeout::SendRequest | Timeout::SendBody => {
                    format!("{peer} did not take the request in time")
                }
                _ => format!("{peer} did not answer in time"),
            });
        }
        Told::Io(error) => fault(error).or_else(|| no_address(error)).unwrap_or(MayHaveArrived),
        Told::Rustls(error) => fault(error).unwrap_or(NeverArrived),
        Told::Other(error) if error.is::<Unreached>() => NeverArrived,
        // ureq reports a 407 to its CONNECT only as text.
        Told::ConnectProxyFailed(reason) if reason.contains("407") => ProxyCredentials,
        Told::HostNotFound | Told::ConnectionFailed | Told::ConnectProxyFailed(_) => NeverArrived,
        Told::Protocol(_) | Told::LargeResponseHeader(..) => Unreadable,
        Told::BadUri(_)
        | Told::Http(_)
        | Told::InvalidProxyUrl
        | Told::Pem(_)
        | Told::RequireHttpsOnly(_)
        | Told::Tls(_)
        | Told::TlsRequired => Configuration,
        _ => MayHaveArrived,
    };
    match error {
        Told::Io(cause) => Error::on_the_way(known, peer, plain(cause)),
        Told::Rustls(cause) => Error::on_the_way(known, peer, plain(cause)),
        Told::Other(cause) => match cause.downcast::<Error>() {
            // The agent's settings have already reported what is wrong.
            Ok(error) => *error,
            Err(cause) => match cause.downcast::<AtProxy>() {
                Ok(failed) => failed.told,
                Err(cause) => Error::on_the_way(known, peer, cause),
            },
        },
        error => Error::on_the_way(known, peer, plain(error)),
    }
}

/// The URL that could not be reached through the proxy, if the connections of [`Http`](crate::Http) report it.
pub(crate) fn not_led_to(error: &ureq::Error) -> Option<Uri> {
    let ureq::Error::Other(cause) = error else { return None };
    cause.downcast_ref().map(|failed: &AtProxy| failed.uri.clone())
}
