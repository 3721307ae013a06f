//! What an entry at a shared store holds, before it is sealed and after it was opened: one line of JSON.

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::Inner;
use crate::words::SUPPORT_HEADERS;
use crate::{Error, ErrorKind, Quota, Scope, TokenResponse};

#[derive(Serialize, Deserialize)]
struct Token<'a> {
    access_token: Cow<'a, str>,
    scope: Cow<'a, str>,
    /// How many token requests are left, and in how many seconds the quota starts again; only when the server said that
    /// few are left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota: Option<(u16, u64)>,
}

#[derive(Serialize, Deserialize)]
struct Failure {
    kind: ErrorKind,
    what: String,
    hint: String,
    retryable: bool,
    costly: bool,
    status: Option<u16>,
    oauth_code: Option<String>,
    server_said: Option<String>,
    error_uri: Option<String>,
    support_headers: Vec<(String, String)>,
    missing_scopes: Vec<String>,
}

impl TokenResponse {
    /// The access token and its scopes as text, to be sealed. It holds the token: handle it like a password.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use alvys_auth_core::TokenResponse;
    ///
    /// let token = TokenResponse::new("an.access.token", Duration::from_secs(3600), "load:read")?;
    /// let again = TokenResponse::from_entry(&token.to_entry(), Duration::from_secs(1800)).expect("an entry");
    /// assert!(again.scopes().contains("load:read"));
    /// # Ok::<(), alvys_auth_core::Error>(())
    /// ```
    pub fn to_entry(&self) -> String {
        let scope = self.scopes().iter().collect::<Vec<_>>().join(" ");
        let quota = self.low_quota().map(|quota| (quota.left, quota.resets_in.as_secs()));
        let entry = Token { access_token: self.access_token().into(), scope: scope.into(), quota };
        // The buffer has room for the whole text, because a buffer that grows leaves copies of the token in memory.
        let mut text = Vec::with_capacity(2 * (entry.access_token.len() + entry.scope.len()) + 96);
        let written = serde_json::to_writer(&mut text, &entry).is_ok();
        String::from_utf8(text).ok().filter(|_| written).unwrap_or_default()
    }

    /// Reads what [`to_entry`](Self::to_entry) wrote; `lifetime` is how long the token was valid when it was written.
    pub fn from_entry(text: &str, lifetime: Duration) -> Option<Self> {
        let Token { access_token, scope, quota } = serde_json::from_str(text).ok()?;
        let access_token = Zeroizing::new(access_token.into_owned());
        let mut response = Self::new(&access_token, lifetime, &scope).ok()?;
        response.note(quota.map(|(left, resets_in)| Quota { left, resets_in: Duration::from_secs(resets_in) }));
        Some(response)
    }
}

impl Error {
    /// The failure as text for other processes, to be sealed, without the wait that the server asked for and without its
    /// [source](std::error::Error::source).
    pub fn to_entry(&self) -> String {
        let inner = self.inner();
        let entry = Failure {
            kind: inner.kind,
            what: inner.what.to_string(),
            hint: inner.hint.to_string(),
            retryable: inner.retryable,
            costly: inner.costly,
            status: inner.status.map(|status| status.as_u16()),
            oauth_code: inner.oauth_code.clone(),
            server_said: inner.server_said.clone(),
            error_uri: inner.error_uri.clone(),
            support_headers: self.support_headers().map(|(name, value)| (name.into(), value.into())).collect(),
            missing_scopes: inner.missing_scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        };
        serde_json::to_string(&entry).unwrap_or_default()
    }

    /// Reads what [`to_entry`](Self::to_entry) wrote; `left` is the rest of the pause.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use alvys_auth_core::{Error, ErrorKind};
    ///
    /// let failure = Error::transport("no connection to the token endpoint", "refused");
    /// let again = Error::from_entry(&failure.to_entry(), Duration::from_secs(3)).expect("an entry");
    /// assert_eq!(again.kind(), ErrorKind::Transport);
    /// assert_eq!(again.retry_after(), Some(Duration::from_secs(3)));
    /// ```
    pub fn from_entry(text: &str, left: Duration) -> Option<Self> {
        let entry: Failure = serde_json::from_str(text).ok()?;
        let named = |(name, value): (String, String)| {
            SUPPORT_HEADERS.into_iter().find(|known| *known == name).map(|name| (name, value))
        };
        Some(Self::build(Inner {
            retryable: entry.retryable,
            costly: entry.costly,
            retry_after: Some(left),
            status: entry.status.and_then(|status| StatusCode::from_u16(status).ok()),
            oauth_code: entry.oauth_code,
            server_said: entry.server_said,
            error_uri: entry.error_uri,
            support_headers: entry.support_headers.into_iter().filter_map(named).collect(),
            missing_scopes: entry.missing_scopes.into_iter().map(Scope::from).collect(),
            ..Inner::new(entry.kind, entry.what, entry.hint)
        }))
    }
}
