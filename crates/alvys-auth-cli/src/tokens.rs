//! The tokens of an application during one run.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use alvys_auth_core::{Policy, Token};
use alvys_auth_driver::Time;
use alvys_auth_ureq::TokenSource;

use crate::agent;
use crate::failure::Failure;
use crate::messages;
use crate::settings::Settings;
use crate::time::in_words;

/// How long a run waits for a token. It is long enough for the lease of a stopped process to end, and for a request of
/// the run's own after that.
const PATIENCE: Duration = Duration::from_secs(18);
/// How long a run waits for its own renewal of a token that is still valid.
const RENEWAL: Duration = Duration::from_secs(5);

/// What kind of token is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// How long the token must still be usable; by default, until its renewal is due.
    pub(crate) min_ttl: Option<Duration>,
    /// Whether the token must have been obtained in this run.
    pub(crate) force: bool,
}

/// Makes the token source of these settings. It shares its tokens with other processes. Nothing is requested yet.
///
/// # Errors
/// When no token request can be made from the flow and the credentials.
pub(crate) fn source(settings: &Settings) -> Result<TokenSource, Failure> {
    let Settings { credentials, setup, network, store } = settings;
    agent::conceal(credentials);
    let source = TokenSource::builder(setup.flow.clone(), credentials.clone())
        .policy(Policy::new().wait_for_renewal(RENEWAL))
        .patience(PATIENCE)
        .http(network.later(agent::config()));
    let source = match store.shared() {
        Some(store) => source.store(Arc::new(store)),
        None => source,
    };
    Ok(source.build()?)
}

/// Gets a token of `source` that is as `wanted`.
///
/// # Errors
/// The reason why there is no token.
pub(crate) fn token(source: &TokenSource, wanted: Wanted) -> Result<Token, Failure> {
    let started = source.time().now();
    let mut token = source.token()?;
    let is_too_old = wanted.force && token.obtained_at().is_some_and(|obtained| obtained < started);
    let least = wanted.min_ttl.unwrap_or_default();
    // If the whole lifetime of a token is shorter than that, another token would not help.
    if is_too_old || token.expires_in(source.time().now()) < least && least < lifetime(&token) {
        source.invalidate();
        token = source.token()?;
    }
    if token.expires_in(source.time().now()) < least {
        return Err(Failure::configuration(
            format!(
                "tokens live for {} here, which is too short for --min-ttl {}",
                in_words(lifetime(&token)),
                in_words(least)
            ),
            "ask for a shorter --min-ttl",
        ));
    }
    if let Some(error) = source.status().last_error {
        messages::warn(&format!("the token was not renewed and is used on: {}", error.what()));
    }
    Ok(token)
}

/// When the token expires, on the wall clock.
pub(crate) fn expires_at(token: &Token) -> SystemTime {
    SystemTime::now() + left(token)
}

/// The rest of the token's lifetime.
pub(crate) fn left(token: &Token) -> Duration {
    token.expires_in(Time::boot().now())
}

/// The token's scopes, separated by spaces. None when it has none, or when they are not known.
pub(crate) fn scope(token: &Token) -> Option<String> {
    let scopes: Vec<&str> = token.scopes().iter().collect();
    Some(scopes.join(" ")).filter(|scopes| !scopes.is_empty())
}

/// The token's whole lifetime, rounded up to seconds. The lifetime of a shared token counts from when it was shared, a
/// moment after it was obtained.
fn lifetime(token: &Token) -> Duration {
    let lifetime = token.expires_at().saturating_duration_since(token.obtained_at().unwrap_or_default());
    Duration::from_millis(lifetime.as_millis().next_multiple_of(1000) as u64)
}
