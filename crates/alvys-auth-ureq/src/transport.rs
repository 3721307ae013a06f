//! Sends one token request with ureq, under rules that the caller's settings cannot loosen.

use std::io::Read;
use std::time::Duration;

use alvys_auth_core::{Error, TokenRequest};
use alvys_auth_driver::BODY_LIMIT;
use ureq::http::{Request, Response};
use ureq::{Agent, Timeout};

use crate::network::Unreached;

/// What sends token requests.
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
            // The body of a refusal says why.
            .http_status_as_error(false)
            .timeout_connect(Some(self.timeout / 2))
            .timeout_global(Some(self.timeout))
            .https_only(!self.plain_http);
        // Plain http is for this machine alone: a proxy would carry the secret off it, unencrypted.
        let config = if self.plain_http { config.proxy(None) } else { config };
        let mut answer = self.agent.run(config.build()).map_err(|error| failed("the token request failed", error))?;

        let mut body = Vec::new();
        let limit = BODY_LIMIT as u64;
        let read = answer.body_mut().as_reader().take(limit).read_to_end(&mut body);
        read.map_err(|error| match ureq::Error::from(error) {
            error @ ureq::Error::Timeout(_) => failed("", error),
            error if answer.status().is_success() => {
                Error::cut_short("the answer of the token endpoint was cut short", error)
            }
            error => failed("the answer of the token endpoint was cut short", error),
        })?;
        let (parts, _) = answer.into_parts();
        Ok(Response::from_parts(parts, body))
    }
}

fn failed(what: &'static str, error: ureq::Error) -> Error {
    match error {
        ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
            Error::timed_out("no connection to the token endpoint in time")
        }
        ureq::Error::Timeout(_) => Error::timed_out("the token endpoint did not answer in time"),
        ureq::Error::Other(error) if error.is::<Unreached>() => {
            Error::transport("no connection to the token endpoint", error)
        }
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
            Error::transport("no connection to the token endpoint", error)
        }
        error => Error::transport(what, error),
    }
}
