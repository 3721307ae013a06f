//! Reads the token response (RFC 6749, section 5.1) in every form that servers are known to send.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Response, StatusCode};
use memchr::memchr_iter;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::Inner;
use crate::token::claims::{Field, Payload, object, with_payload};
use crate::token::diagnosis::{Answer, diagnose, unreadable};
use crate::{Error, ErrorKind, Flow, Quota, Scopes, TokenRequest, UnverifiedClaims};
use crate::{quota, words};

/// The longest access token that is accepted, in bytes.
const LONGEST_TOKEN: usize = 16 * 1024;
/// The longest list of scopes that is accepted, in bytes. A longer one is ignored.
const LONGEST_SCOPES: usize = 8 * 1024;
/// The longest lifetime in seconds, about 30 years. A longer one is cut to this.
const LONGEST_LIFETIME: f64 = 1e9;
const BEARER: &str = "Bearer ";

/// A token response (RFC 6749, section 5.1): an access token, its scopes and its lifetime.
///
/// The lifetime counts from the token request, so reading the response needs no clock. [`Lifecycle`](crate::Lifecycle)
/// makes a [`Token`](crate::Token) with an end from it. `Debug` does not show the access token.
#[derive(Clone)]
pub struct TokenResponse {
    /// The value of the `Authorization` header: `Bearer ` and the access token.
    header: HeaderValue,
    scopes: Arc<str>,
    lifetime: Option<Duration>,
    read_only: bool,
    opaque: bool,
    /// The quota, if it is low: how many requests are left, and the seconds until the quota starts again; zero seconds
    /// if it is not low.
    left: u16,
    resets_in: u32,
}

/// The members of a token response (RFC 6749, sections 5.1 and 5.2) that are used.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a, T: Default + Deserialize<'de>"))]
struct Members<'a, T> {
    access_token: T,
    token_type: Field<'a>,
    expires_in: Field<'a>,
    scope: Field<'a>,
    error: Field<'a>,
}

/// A string that the JSON parser does not check for UTF-8, because the token's own check is stricter.
#[derive(Deserialize)]
struct Unchecked<'a>(#[serde(borrow)] Cow<'a, [u8]>);

impl TokenResponse {
    /// How many bytes of an answer are worth reading: one more than the longest body that is accepted, 64 KiB, so that
    /// a longer body is recognized.
    pub const LOOK: usize = 64 * 1024 + 1;

    /// Makes a token response from an access token that a program already has, for example from a store.
    ///
    /// `lifetime` is the rest of the token's lifetime. `scope` lists the scopes, separated by spaces. When it is empty, the
    /// scopes are read from the token's claims.
    ///
    /// ```
    /// use alvys_auth_core::TokenResponse;
    /// use std::time::Duration;
    ///
    /// let response = TokenResponse::new("an.access.token", Duration::from_secs(1800), "load:read")?;
    /// assert_eq!(response.lifetime(), Some(Duration::from_secs(1800)));
    /// # Ok::<(), alvys_auth_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidResponse`] when the token is empty, longer than 16 KiB or not legal in a header, or when
    /// nothing is left of its lifetime.
    pub fn new(access_token: &str, lifetime: Duration, scope: &str) -> Result<Self, Error> {
        let lifetime = Some(lifetime.as_secs_f64());
        let access_token = access_token.as_bytes();
        let granted = |claims: Option<&Payload<'_>>| {
            let scope = Some(scope).filter(|scope| !scope.is_empty()).or_else(|| claims?.scope()).unwrap_or_default();
            Self::checked(access_token, lifetime, scope, None, claims.is_none())
        };
        with_payload(access_token, granted).map_err(|refusal| Error::build(refusal.inner()))
    }

    /// Reads the answer of the token endpoint to `request`.
    ///
    /// It accepts what servers are known to send: `expires_in` as a number, as text, with a fraction or not at all;
    /// `token_type` in any case; nulls and unknown members; a byte order mark; another content type than JSON. The secret of
    /// `request` is removed from what an error repeats of the answer.
    ///
    /// ```
    /// use alvys_auth_core::{Credentials, ErrorKind, Flow, TokenResponse, TokenRequest};
    /// use std::time::Duration;
    ///
    /// let request = TokenRequest::new(Flow::current(), Credentials::new("my-client", "s3cret")?)?;
    ///
    /// let answer = http::Response::new(r#"{"access_token":"abc","expires_in":3600,"token_type":"Bearer"}"#);
    /// let response = TokenResponse::from_http(&request, &answer)?;
    /// assert_eq!(response.lifetime(), Some(Duration::from_secs(3600)));
    ///
    /// let answer = http::Response::builder().status(401).body(r#"{"error":"access_denied"}"#).unwrap();
    /// let error = TokenResponse::from_http(&request, &answer).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Credentials);
    /// # Ok::<(), alvys_auth_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the answer contains no usable token. The error's kind and hint say the likely cause.
    pub fn from_http<B: AsRef<[u8]>>(request: &TokenRequest, response: &Response<B>) -> Result<Self, Error> {
        let body = words::bare(response.body().as_ref());
        let answer = Answer { request, status: response.status(), headers: response.headers(), body };
        if !answer.status.is_success() || body.is_empty() || body.starts_with(b"<") {
            return Err(diagnose(&answer));
        }
        if body.len() >= Self::LOOK {
            return Err(unreadable(&answer, "the answer of the token endpoint is longer than 64 KiB"));
        }
        let Some(members) = object::<Members<'_, Option<Unchecked<'_>>>>(body) else {
            let holds_another_type = object::<Members<'_, IgnoredAny>>(body).is_some();
            return Err(if holds_another_type {
                diagnose(&answer)
            } else {
                unreadable(&answer, "the answer of the token endpoint is not one JSON object")
            });
        };
        let reports_an_error = members.error.text().is_some_and(|error| !error.is_empty());
        let (Some(Unchecked(token)), false) = (&members.access_token, reports_an_error) else {
            return Err(diagnose(&answer));
        };
        let mut response = Self::from_members(request, &members, token).map_err(|refusal| refusal.about(&answer))?;
        response.note(quota::low(answer.headers));
        Ok(response)
    }

    /// Applies the rules of `flow` to a token from a store. None when it is not of the expected organization.
    pub(crate) fn under(mut self, flow: &Flow) -> Option<Self> {
        if flow.expected_organization().is_some() {
            with_payload(self.access_token().as_bytes(), |claims| check_organization(flow, claims)).ok()?;
        }
        self.read_only = flow.is_legacy();
        Some(self)
    }

    fn from_members<T>(request: &TokenRequest, members: &Members<'_, T>, token: &[u8]) -> Result<Self, Refusal> {
        let flow = request.flow();
        if let Some(kind) = members.token_type.text()
            && !kind.trim().eq_ignore_ascii_case("bearer")
        {
            return Err(Refusal::response("the token endpoint issued a token that is not a bearer token"));
        }
        // Both the answer and the token may name a lifetime. The shorter one counts.
        let granted = |claims: Option<&Payload<'_>>| -> Result<Self, Refusal> {
            check_organization(flow, claims)?;
            let stated = members.expires_in.number();
            let claimed = claims.and_then(Payload::lifetime);
            let lifetime = stated.zip(claimed).map(|(one, other)| one.min(other)).or(stated).or(claimed);
            let scope = members.scope.texts().or_else(|| claims?.scope()).unwrap_or_default();
            // Scopes are shown and logged, so they must not contain the token or the secret.
            let hides = holds(scope, token) || holds(scope, request.client_secret().as_bytes());
            let scope = if hides { "" } else { scope };
            Self::checked(token, lifetime, scope, Some(request), claims.is_none())
        };
        with_payload(token, granted)
    }

    fn checked(
        token: &[u8],
        lifetime: Option<f64>,
        scope: &str,
        request: Option<&TokenRequest>,
        opaque: bool,
    ) -> Result<Self, Refusal> {
        if token.is_empty() {
            return Err(Refusal::response("the access token is empty"));
        }
        if token.len() > LONGEST_TOKEN {
            return Err(Refusal::response("the access token is longer than 16 KiB"));
        }
        if lifetime.is_some_and(|seconds| seconds < 0.001) {
            return Err(Refusal::response("the access token had expired when it was issued"));
        }
        // Text that is too long or not printable is not a list of scopes.
        let scope = if scope.len() <= LONGEST_SCOPES && is_printable(scope.as_bytes(), b' ') { scope } else { "" };
        let header = HeaderValue::from_maybe_shared(Bytes::from([BEARER.as_bytes(), token].concat()));
        // A bearer token must not contain spaces, tabs and bytes beyond ASCII, although a header value may.
        let (Ok(mut header), true) = (header, is_printable(token, b'!')) else {
            return Err(Refusal::response("the access token contains characters that are not legal in a header"));
        };
        header.set_sensitive(true);
        let lifetime = lifetime.map(|seconds| Duration::from_secs_f64(seconds.min(LONGEST_LIFETIME)));
        let first = request.map(|request| request.head().scopes.get_or_init(|| scope.into()));
        let scopes = first.filter(|first| ***first == *scope).cloned().unwrap_or_else(|| scope.into());
        let read_only = request.is_some_and(|request| request.flow().is_legacy());
        Ok(Self { header, scopes, lifetime, read_only, opaque, left: 0, resets_in: 0 })
    }

    /// The token's lifetime, counted from the token request. None when neither the answer nor the token tells it.
    pub fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// The server's quota of token requests, if the server said with this token that few requests are left. A renewal
    /// that can wait is put off until the quota starts again, and at most until a tenth of the margin is left.
    ///
    /// It is read from `Auth0-Client-Quota-Limit` and `Auth0-Organization-Quota-Limit`, and is low when a tenth is left.
    pub fn low_quota(&self) -> Option<Quota> {
        let resets_in = Duration::from_secs(self.resets_in.into());
        (!resets_in.is_zero()).then_some(Quota { left: self.left, resets_in })
    }

    pub(crate) fn note(&mut self, quota: Option<Quota>) {
        if let Some(Quota { left, resets_in }) = quota {
            (self.left, self.resets_in) = (left, u32::try_from(resets_in.as_secs()).unwrap_or(u32::MAX));
        }
    }

    /// The token's scopes: from the answer, or from the token's claims when the answer lists none.
    pub fn scopes(&self) -> Scopes<'_> {
        Scopes::new(&self.scopes, self.read_only)
    }

    /// The token's claims, **not verified**. None when the token is opaque.
    pub fn unverified_claims(&self) -> Option<UnverifiedClaims> {
        UnverifiedClaims::read(self.access_token())
    }

    /// A warning about a token that may not work, in one sentence: the token is opaque.
    pub fn warning(&self) -> Option<&'static str> {
        (self.opaque && !self.read_only).then_some(
            "the token is opaque, not a JWT: the Alvys API will probably refuse it; \
             check that the audience is https://api.alvys.com/public/ with the slash at the end",
        )
    }

    /// The value for the `Authorization` header, `Bearer …`: built once, marked sensitive.
    pub fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// The access token alone, for protocols that use it without `Bearer`. Handle it like a password.
    pub fn access_token(&self) -> &str {
        let token = self.header.as_bytes().get(BEARER.len()..).unwrap_or_default();
        std::str::from_utf8(token).unwrap_or_default()
    }
}

impl fmt::Debug for TokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenResponse")
            .field("access_token", &"[redacted]")
            .field("lifetime", &self.lifetime)
            .field("scopes", &self.scopes().to_string())
            .finish()
    }
}

/// Whether `text` contains `part`. A search with a better worst case costs more here than it saves, because `part` is long.
fn holds(text: &str, part: &[u8]) -> bool {
    let text = text.as_bytes();
    let room = text.len().checked_sub(part.len()).and_then(|last| text.get(..=last)).unwrap_or_default();
    let starts = |at| text.get(at..).is_some_and(|rest| rest.starts_with(part));
    part.first().is_some_and(|first| memchr_iter(*first, room).any(starts))
}

/// Whether `text` is ASCII from `lowest` to `~`. It reads every byte, so that the compiler can check many at a time.
fn is_printable(text: &[u8], lowest: u8) -> bool {
    text.iter().fold(true, |printable, byte| printable & (lowest..=b'~').contains(byte))
}

fn check_organization(flow: &Flow, claims: Option<&Payload<'_>>) -> Result<(), Refusal> {
    let Some(expected) = flow.expected_organization() else { return Ok(()) };
    match claims.map(|claims| claims.names_organization(expected)) {
        Some(Ok(())) => Ok(()),
        Some(Err(Some(_))) => Err(Refusal::organization("the token belongs to another organization")),
        // The claims of a legacy token are not documented. Its tenant is part of the URL of the token endpoint.
        None | Some(Err(None)) if flow.tenant().is_some_and(|tenant| tenant.eq_ignore_ascii_case(expected)) => Ok(()),
        None | Some(Err(None)) => {
            Err(Refusal::organization("the token names no organization, so it cannot be the expected one"))
        }
    }
}

/// Why a successful answer contains no usable token.
struct Refusal {
    kind: ErrorKind,
    what: &'static str,
}

impl Refusal {
    fn response(what: &'static str) -> Self {
        Self { kind: ErrorKind::InvalidResponse, what }
    }

    fn organization(what: &'static str) -> Self {
        Self { kind: ErrorKind::WrongOrganization, what }
    }

    fn about(self, answer: &Answer<'_>) -> Error {
        let status: Option<StatusCode> = Some(answer.status);
        Error::build(Inner { status, support_headers: answer.support_headers(), ..self.inner() })
    }

    fn inner(self) -> Inner {
        let hint = match self.kind {
            ErrorKind::WrongOrganization => {
                "check which tenant the configured credentials belong to, and which organization is expected"
            }
            _ => "check that the token URL is the Alvys token endpoint; if it is, report this to Alvys support",
        };
        Inner::new(self.kind, self.what, hint)
    }
}
