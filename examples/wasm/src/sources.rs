//! What the module does, without any unsafe code: lifecycles, their attempts under way, and JSON both ways.

use std::collections::BTreeMap;
use std::time::Duration;

use alvys_auth_core::{
    Attempt, Change, Credentials, Error, Flow, Lifecycle, Next, Policy, Step, Timestamp, Token, TokenRequest,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// How many attempts of one source are remembered: one that is never reported is lost, not kept for ever.
const MOST_ATTEMPTS: usize = 8;

/// The sources by their numbers.
#[derive(Default)]
pub(crate) struct Sources {
    sources: BTreeMap<u32, Source>,
    newest: u32,
}

struct Source {
    lifecycle: Lifecycle,
    attempts: BTreeMap<u32, Attempt>,
    newest: u32,
    /// The token that was handed out last.
    used: Option<Token>,
}

/// How a source is configured. The seed spreads renewals: give each source a random one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    client_id: Zeroizing<String>,
    client_secret: Zeroizing<String>,
    token_url: Option<String>,
    audience: Option<String>,
    /// Chooses the legacy flow.
    tenant: Option<String>,
    seed: u32,
}

/// What JavaScript's `fetch` got.
#[derive(Deserialize)]
struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// What goes back to JavaScript: one member, named for what it is.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Answer<'a> {
    Source(u32),
    Use { header: &'a str, expires_at: u64 },
    Fetch(Fetch<'a>),
    Wait { until: u64, in_flight: bool, error: Option<Failure<'a>> },
    Fail(Failure<'a>),
    Completed(Completed<'a>),
    Retry(bool),
    Status { expires_in: Option<u64>, in_flight: bool, paused_for: Option<u64>, error: Option<Failure<'a>> },
}

#[derive(Serialize)]
struct Fetch<'a> {
    attempt: u32,
    renewal: bool,
    timeout: u64,
    method: &'a str,
    url: String,
    headers: Vec<(&'a str, &'a str)>,
    body: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Completed<'a> {
    Obtained { expires_at: u64 },
    Renewed { expires_at: u64 },
    Paused { until: u64, error: Failure<'a> },
    Superseded,
}

#[derive(Serialize)]
struct Failure<'a> {
    message: String,
    hint: &'a str,
    retryable: bool,
    cause: Option<String>,
}

impl Sources {
    pub(crate) fn create(&mut self, config: &[u8]) -> Vec<u8> {
        let lifecycle = serde_json::from_slice(config)
            .map_err(|error| {
                Error::configuration(format!("the configuration cannot be read: {error}"), "mend its JSON")
            })
            .and_then(|config| lifecycle(&config));
        match lifecycle {
            Ok(lifecycle) => {
                self.newest = self.newest.wrapping_add(1);
                let source = Source { lifecycle, attempts: BTreeMap::new(), newest: 0, used: None };
                self.sources.insert(self.newest, source);
                Answer::Source(self.newest).to_json()
            }
            Err(error) => Answer::Fail(Failure::new(&error)).to_json(),
        }
    }

    pub(crate) fn remove(&mut self, source: u32) {
        self.sources.remove(&source);
    }

    pub(crate) fn poll(&mut self, source: u32, now: Timestamp) -> Vec<u8> {
        self.with(source, |source| source.poll(now))
    }

    pub(crate) fn complete(&mut self, source: u32, attempt: u32, response: &[u8], now: Timestamp) -> Vec<u8> {
        let outcome = |attempt: Attempt| match serde_json::from_slice::<Response>(response) {
            Ok(response) => response.outcome(attempt),
            Err(error) => attempt.failed(Error::transport("the driver's report cannot be read", error)),
        };
        self.with(source, |source| source.complete(attempt, outcome, now))
    }

    pub(crate) fn failed(&mut self, source: u32, attempt: u32, reason: &[u8], now: Timestamp) -> Vec<u8> {
        let reason = String::from_utf8_lossy(reason).into_owned();
        let outcome = |attempt: Attempt| attempt.failed(Error::transport("the token request failed", reason));
        self.with(source, |source| source.complete(attempt, outcome, now))
    }

    pub(crate) fn reject(&mut self, source: u32, header: &[u8], now: Timestamp) -> Vec<u8> {
        self.with(source, |source| {
            let rejected = source.used.as_ref().filter(|token| token.header().as_bytes() == header);
            // Another token than the one handed out last has been replaced already.
            let retry = rejected.is_none_or(|token| source.lifecycle.reject(token, now));
            Answer::Retry(retry).to_json()
        })
    }

    pub(crate) fn status(&mut self, source: u32, now: Timestamp) -> Vec<u8> {
        self.with(source, |source| {
            let status = source.lifecycle.snapshot().status(now);
            let answer = Answer::Status {
                expires_in: status.expires_in.map(millis),
                in_flight: status.in_flight,
                paused_for: status.paused_for.map(millis),
                error: status.last_error.as_ref().map(Failure::new),
            };
            answer.to_json()
        })
    }

    fn with(&mut self, source: u32, work: impl FnOnce(&mut Source) -> Vec<u8>) -> Vec<u8> {
        match self.sources.get_mut(&source) {
            Some(source) => work(source),
            None => {
                let error = Error::configuration(format!("there is no source {source}"), "make one with source_new");
                Answer::Fail(Failure::new(&error)).to_json()
            }
        }
    }
}

impl Source {
    fn poll(&mut self, now: Timestamp) -> Vec<u8> {
        match self.lifecycle.poll(now) {
            Step::Use(token) => {
                let token = self.used.insert(token);
                let answer = Answer::Use {
                    header: token.header().to_str().unwrap_or_default(),
                    expires_at: token.expires_at().as_millis(),
                };
                answer.to_json()
            }
            Step::Fetch(attempt) => self.fetch(attempt),
            Step::Wait(wait) => {
                let answer = Answer::Wait {
                    until: wait.until().as_millis(),
                    in_flight: wait.is_in_flight(),
                    error: wait.error().map(Failure::new),
                };
                answer.to_json()
            }
            Step::Fail(error) => Answer::Fail(Failure::new(&error)).to_json(),
        }
    }

    /// Hands the request out under a number, by which the attempt is found again.
    fn fetch(&mut self, attempt: Attempt) -> Vec<u8> {
        self.newest = self.newest.wrapping_add(1);
        let (parts, body) = attempt.to_http().into_parts();
        let body = Zeroizing::new(body);
        let headers = parts.headers.iter();
        let fetch = Fetch {
            attempt: self.newest,
            renewal: attempt.is_renewal(),
            timeout: millis(self.lifecycle.policy().timeout()),
            method: parts.method.as_str(),
            url: parts.uri.to_string(),
            headers: headers.map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default())).collect(),
            body: std::str::from_utf8(&body).unwrap_or_default(),
        };
        let json = Answer::Fetch(fetch).to_json();
        self.attempts.insert(self.newest, attempt);
        if self.attempts.len() > MOST_ATTEMPTS {
            self.attempts.pop_first();
        }
        json
    }

    fn complete(&mut self, attempt: u32, outcome: impl FnOnce(Attempt) -> Attempt, now: Timestamp) -> Vec<u8> {
        let Some(attempt) = self.attempts.remove(&attempt) else {
            return Answer::Completed(Completed::Superseded).to_json();
        };
        let next = self.lifecycle.next(outcome(attempt), now);
        let completed = match &next {
            Next::Over(Change::Obtained(token)) => Completed::Obtained { expires_at: token.expires_at().as_millis() },
            Next::Over(Change::Renewed(token)) => Completed::Renewed { expires_at: token.expires_at().as_millis() },
            Next::Over(Change::Paused { until, error }) => {
                Completed::Paused { until: until.as_millis(), error: Failure::new(error) }
            }
            _ => Completed::Superseded,
        };
        Answer::Completed(completed).to_json()
    }
}

impl Response {
    fn outcome(self, attempt: Attempt) -> Attempt {
        let mut response = http::Response::builder().status(self.status);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        match response.body(self.body) {
            Ok(response) => attempt.answered(&response),
            Err(error) => attempt.failed(Error::transport("the driver's report is no HTTP answer", error)),
        }
    }
}

impl<'a> Failure<'a> {
    fn new(error: &'a Error) -> Self {
        Self {
            message: error.to_string(),
            hint: error.hint(),
            retryable: error.is_retryable(),
            cause: std::error::Error::source(error).map(ToString::to_string),
        }
    }
}

impl Answer<'_> {
    /// Never empty: the answers hold nothing that JSON could not.
    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn lifecycle(config: &Config) -> Result<Lifecycle, Error> {
    let mut flow = match &config.tenant {
        Some(tenant) => Flow::legacy(tenant),
        None => Flow::current(),
    };
    if let Some(url) = &config.token_url {
        flow = flow.endpoint(url);
    }
    if let Some(audience) = &config.audience {
        flow = flow.audience(audience);
    }
    let credentials = Credentials::new(config.client_id.as_str(), config.client_secret.as_str())?;
    let request = TokenRequest::new(flow, credentials)?;
    Ok(Lifecycle::new(request, Policy::new(), config.seed.into()))
}
