//! One `tracing` event per decision, target `alvys_auth`. Never a secret, never a token.

use std::time::Duration;

use alvys_auth_core::{Change, Endpoint, Flow, Timestamp, Token, Verdict};
use http::StatusCode;
use tracing::{debug, error, info, warn};

const TARGET: &str = "alvys_auth";
/// The target of notices that a person must see, even if nobody reads logs.
const NOTICES: &str = "alvys_auth::notice";

pub(crate) fn created(flow: &Flow) {
    if let Some(deprecation) = flow.deprecation() {
        warn!(target: TARGET, "{deprecation}");
    }
}

pub(crate) fn fetching(client_id: &str, renewal: bool) {
    debug!(target: TARGET, client_id, renewal, "fetching an access token");
}

pub(crate) fn changed(client_id: &str, change: &Change, now: Timestamp) {
    match change {
        Change::Obtained(token) => {
            info!(target: TARGET, client_id, expires_in_ms = millis_left(token, now), scopes = %token.scopes(), "obtained an access token");
            warn_of(client_id, token);
        }
        Change::Renewed(token) => {
            info!(target: TARGET, client_id, expires_in_ms = millis_left(token, now), scopes = %token.scopes(), "renewed the access token");
            warn_of(client_id, token);
        }
        Change::Paused { until, error } => {
            let pause_ms = until.saturating_duration_since(now).as_millis() as u64;
            if error.is_retryable() {
                warn!(target: TARGET, client_id, pause_ms, error = format_args!("{error:#}"), "paused: the token request failed");
            } else {
                error!(target: TARGET, client_id, pause_ms, error = format_args!("{error:#}"), "failed: the token request was refused");
            }
        }
        Change::ProviderFailed(error) => {
            warn!(target: TARGET, client_id, error = format_args!("{error:#}"), "looked for other credentials and got none; goes on with those in use");
        }
        Change::Rejected => info!(target: TARGET, client_id, "the API rejected the held access token"),
        Change::Invalidated => info!(target: TARGET, client_id, "gave up the held access token"),
        Change::CredentialsChanged => info!(target: TARGET, client_id, "took other credentials"),
        Change::Adopted(_) => debug!(target: TARGET, client_id, "took an access token from elsewhere"),
        Change::Abandoned => debug!(target: TARGET, client_id, "the token request was abandoned"),
        Change::Unchanged => debug!(target: TARGET, client_id, "there are no other credentials behind the refusal"),
        Change::Hedged => {
            warn!(target: TARGET, client_id, "the token request has not been answered for a while: sends a second one, which may be billed");
        }
        Change::StoreFailed(error) => {
            warn!(target: NOTICES, client_id, %error, "the token is not shared now: the store cannot be used");
        }
        Change::Shared => debug!(target: TARGET, client_id, "told the others who share the token"),
        Change::AskedByOthers => debug!(target: TARGET, client_id, "waits for the token that another process asks for"),
        Change::PauseEnded => info!(target: TARGET, client_id, "a pause was ended by hand"),
        _ => debug!(target: TARGET, client_id, "the token request ended too late to matter"),
    }
}

/// A request is sent as it is, because it carries an `Authorization` of its own.
pub(crate) fn left_alone(host: Option<&str>) {
    debug!(target: TARGET, host, "left a request alone: it carries an Authorization header of its own");
}

/// A request waits for its turn within the rate limits.
pub(crate) fn shaped(endpoint: &Endpoint, wait: Duration) {
    debug!(target: TARGET, endpoint = endpoint.name(), wait_ms = wait.as_millis() as u64, "held a call back to stay within the rate limits");
}

/// A call is sent again, because its connection closed before an answer came.
pub(crate) fn unanswered(endpoint: &Endpoint) {
    info!(target: TARGET, endpoint = endpoint.name(), "repeats a call: its connection closed before an answer came");
}

/// A verdict was given on an answer that is not delivered.
pub(crate) fn judged(endpoint: &Endpoint, status: StatusCode, verdict: &Verdict) {
    let (endpoint, status) = (endpoint.name(), status.as_u16());
    match verdict {
        Verdict::Repeat { after } => {
            let wait_ms = after.as_millis() as u64;
            info!(target: TARGET, endpoint, status, wait_ms, "repeats a call");
        }
        Verdict::Fail(error) => {
            warn!(target: TARGET, endpoint, status, error = format_args!("{error:#}"), "a call failed")
        }
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
