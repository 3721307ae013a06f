//! One `tracing` event per decision, target `alvys_auth`. Never a secret, never a token.

use std::time::Duration;

use alvys_auth_core::{Completion, Endpoint, Error, Flow, Timestamp, Token, Verdict};
use http::StatusCode;
use tracing::{debug, error, info, warn};

const TARGET: &str = "alvys_auth";

pub(crate) fn created(flow: &Flow) {
    if let Some(deprecation) = flow.deprecation() {
        warn!(target: TARGET, "{deprecation}");
    }
}

pub(crate) fn fetching(client_id: &str, renewal: bool) {
    debug!(target: TARGET, client_id, renewal, "fetching an access token");
}

pub(crate) fn completed(client_id: &str, completion: &Completion, now: Timestamp) {
    match completion {
        Completion::Obtained(token) => {
            info!(target: TARGET, client_id, expires_in_ms = millis_left(token, now), scopes = %token.scopes(), "obtained an access token");
            warn_of(client_id, token);
        }
        Completion::Renewed(token) => {
            info!(target: TARGET, client_id, expires_in_ms = millis_left(token, now), scopes = %token.scopes(), "refreshed the access token");
            warn_of(client_id, token);
        }
        Completion::Paused { until, error } if error.is_retryable() => {
            let pause_ms = until.saturating_duration_since(now).as_millis() as u64;
            warn!(target: TARGET, client_id, pause_ms, %error, "paused: the token request failed");
        }
        Completion::Paused { until, error } => {
            let pause_ms = until.saturating_duration_since(now).as_millis() as u64;
            error!(target: TARGET, client_id, pause_ms, %error, "failed: the token request was refused");
        }
        Completion::Abandoned => debug!(target: TARGET, client_id, "the token request was abandoned"),
        _ => debug!(target: TARGET, client_id, "the token request ended too late to matter"),
    }
}

pub(crate) fn rejected(client_id: &str) {
    info!(target: TARGET, client_id, "the API rejected the held access token");
}

pub(crate) fn invalidated(client_id: &str) {
    info!(target: TARGET, client_id, "gave up the held access token");
}

pub(crate) fn adopted(client_id: &str, adopted: bool) {
    debug!(target: TARGET, client_id, adopted, "was offered an access token from elsewhere");
}

pub(crate) fn credentials_changed(client_id: &str) {
    info!(target: TARGET, client_id, "took other credentials");
}

pub(crate) fn unreadable_credentials(error: &Error) {
    warn!(target: TARGET, %error, "looked for other credentials and got none; goes on with those in use");
}

/// A request is sent as it is, because it carries an `Authorization` of its own.
pub fn left_alone(host: Option<&str>) {
    debug!(target: TARGET, host, "left a request alone: it carries an Authorization header of its own");
}

/// A request waits for its turn within the rate limits.
pub(crate) fn shaped(endpoint: &Endpoint, wait: Duration) {
    debug!(target: TARGET, endpoint = endpoint.name(), wait_ms = wait.as_millis() as u64, "held a call back to stay within the rate limits");
}

/// What was decided about an answer that is not delivered.
pub(crate) fn judged(endpoint: &Endpoint, status: StatusCode, verdict: &Verdict) {
    let (endpoint, status) = (endpoint.name(), status.as_u16());
    match verdict {
        Verdict::Repeat { after } => {
            let wait_ms = after.as_millis() as u64;
            info!(target: TARGET, endpoint, status, wait_ms, "repeats a call");
        }
        Verdict::Fail(error) => warn!(target: TARGET, endpoint, status, %error, "a call failed"),
    }
}

fn warn_of(client_id: &str, token: &Token) {
    if let Some(warning) = token.warning() {
        warn!(target: TARGET, client_id, "{warning}");
    }
}

fn millis_left(token: &Token, now: Timestamp) -> u64 {
    token.expires_in(now).as_millis() as u64
}
