//! One authorized call: what the answer means, and whether to send the request again.

use std::fmt;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};

use crate::call::refusal::{self, Refused};
use crate::retry_after::retry_after;
use crate::url::Origin;
use crate::words;
use crate::{Endpoint, Error, Scope, Token};

/// The pause before an unavailable server that names no time is asked again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// What Alvys documents for a rate limit, where the answer names no time.
const RATE_LIMIT_PAUSE: Duration = Duration::from_secs(60);

/// What a caller says of one call.
///
/// ```
/// use alvys_auth_core::{CallOptions, Scope};
///
/// let options = CallOptions::new().idempotent().require([Scope::LOAD_CREATE]);
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallOptions {
    idempotent: bool,
    single_use_body: bool,
    required: Vec<Scope>,
}

impl CallOptions {
    /// A call that is repeated only where nothing can happen twice.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that sending the request twice does the same as sending it once, so that it may be repeated after a rate
    /// limit or an outage even though its method is not a safe one (RFC 9110, section 9.2.1).
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Says that the body cannot be sent again, because it is a stream; for drivers. Such a call is never repeated.
    #[must_use]
    pub fn single_use_body(mut self) -> Self {
        self.single_use_body = true;
        self
    }

    /// Names scopes that the token must have; without them nothing is sent.
    ///
    /// Scopes that nothing is known of, as with an opaque token, are left for the API to judge.
    #[must_use]
    pub fn require<S: Into<Scope>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.required.extend(scopes.into_iter().map(Into::into));
        self
    }
}

/// One authorized call on its way; made by [`Api::call`](crate::Api::call).
///
/// A driver loops: get a token, [`authorize`](Self::authorize) the request, send it. An answer that
/// [`delivers`](Self::delivers) goes to the caller unread; of any other one it reads the first [`Self::LOOK`] bytes and
/// [`judge`](Self::judge)s.
///
/// ```
/// use alvys_auth_core::{Api, CallOptions, TokenResponse, Verdict};
/// use alvys_auth_core::{Credentials, Flow, Lifecycle, Policy, Step, Timestamp, TokenRequest};
/// use http::{HeaderMap, Method, Response};
/// use std::time::Duration;
/// # let request = TokenRequest::new(Flow::current(), Credentials::new("my-client", "s3cret")?)?;
/// # let mut lifecycle = Lifecycle::new(request, Policy::new(), 0);
/// # let now = Timestamp::from_millis(0);
/// # lifecycle.adopt(TokenResponse::new("abc", Duration::from_secs(3600), "load:read")?, now);
///
/// let api = Api::production();
/// let uri = api.url("loads")?;
/// let mut headers = HeaderMap::new();
/// let mut call = api.call(&Method::GET, &uri, &headers, CallOptions::new())?.expect("no Authorization of its own");
///
/// let Step::Use(token) = lifecycle.poll(now) else { unreachable!() };
/// call.authorize(&token, &mut headers)?;
/// assert_eq!(headers["authorization"], "Bearer abc");
///
/// let answer = Response::builder().status(429).header("retry-after", "7").body(b"").unwrap();
/// assert!(!call.delivers(answer.status(), answer.headers(), &uri));
/// let verdict = call.judge(&answer, &token, |token| lifecycle.reject(token, now));
/// assert!(matches!(verdict, Verdict::Repeat { after } if after == Duration::from_secs(7)));
/// # Ok::<(), alvys_auth_core::Error>(())
/// ```
#[must_use = "a call does nothing until its request is sent"]
pub struct Call {
    method: Method,
    uri: Uri,
    options: CallOptions,
    wants_html: bool,
    patience: Duration,
    pauses: u32,
    renewed: bool,
    /// What the request was answered when it was sent last; none before it is sent at all.
    answered: Option<StatusCode>,
    /// Whether the answer in question came from another URL than was called.
    redirected: bool,
    /// Whether it answered a request without the token.
    bare: bool,
}

/// What to do about an answer that is not delivered.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Wait, ask for a token again, and send the request once more with that.
    Repeat {
        /// How long to wait first; zero after a rejected token.
        after: Duration,
    },
    /// Give the caller this error.
    Fail(Error),
}

impl Call {
    /// How many bytes of an answer are worth a look, at the most.
    pub const LOOK: usize = 16 * 1024;

    pub(crate) fn new(
        patience: Duration,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        options: CallOptions,
    ) -> Self {
        let wants_html = headers.get_all(ACCEPT).iter().any(names_html);
        let (method, uri) = (method.clone(), uri.clone());
        Self {
            method,
            uri,
            options,
            wants_html,
            patience,
            pauses: 0,
            renewed: false,
            answered: None,
            redirected: false,
            bare: false,
        }
    }

    /// Puts the token on the request, as the ready and sensitive `Authorization` header.
    ///
    /// # Errors
    /// [`ErrorKind::MissingScope`](crate::ErrorKind::MissingScope) when the token lacks a scope that the caller requires.
    pub fn authorize(&self, token: &Token, headers: &mut HeaderMap) -> Result<(), Error> {
        let scopes = token.scopes();
        let missing: Vec<Scope> = self
            .options
            .required
            .iter()
            .filter(|scope| scopes.is_known() && !scopes.contains(scope))
            .cloned()
            .collect();
        if !missing.is_empty() {
            return Err(refusal::required(token, missing, self.answered));
        }
        headers.insert(AUTHORIZATION, token.header().clone());
        Ok(())
    }

    /// Whether an answer goes to the caller as it is.
    ///
    /// `answered_by` is where it came from. Another host got no token, as [`delivers_bare`](Self::delivers_bare) has it.
    /// Another URL of the same host says that the request was answered there and may have been carried out, so that
    /// [`judge`](Self::judge) repeats it only where that is safe.
    pub fn delivers(&mut self, status: StatusCode, headers: &HeaderMap, answered_by: &Uri) -> bool {
        if Origin::of(answered_by) != Origin::of(&self.uri) {
            return self.delivers_bare(status, headers);
        }
        (self.redirected, self.bare) = (*answered_by != self.uri, false);
        let refused = matches!(
            status,
            StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::TOO_MANY_REQUESTS
                | StatusCode::SERVICE_UNAVAILABLE
        );
        !refused && !self.is_page(status, headers)
    }

    /// The same for an answer from where a redirect led that the HTTP client followed without the token, to whatever host.
    ///
    /// It says nothing about the token and is delivered, whatever its status, unless it is a page of HTML in place of the
    /// API, such as that of a captive portal.
    pub fn delivers_bare(&mut self, status: StatusCode, headers: &HeaderMap) -> bool {
        (self.redirected, self.bare) = (true, true);
        !self.is_page(status, headers)
    }

    /// Decides about an answer that does not [`deliver`](Self::delivers), of which at most [`Self::LOOK`] bytes were read.
    ///
    /// `reject` tells the token's owner that the API refused `token`, and says whether another one is worth trying; see
    /// [`Lifecycle::reject`](crate::Lifecycle::reject). It is called on a 401 only.
    pub fn judge<B: AsRef<[u8]>>(
        &mut self,
        answer: &Response<B>,
        token: &Token,
        reject: impl FnOnce(&Token) -> bool,
    ) -> Verdict {
        let (status, headers) = (answer.status(), answer.headers());
        self.answered = Some(status);
        let body = words::bare(answer.body().as_ref());
        let uri = self.uri.clone();
        let refused = Refused { status, headers, body, token, uri: &uri };
        let asked = retry_after(status, headers);
        // Whatever it is labelled as: this is no JSON.
        let html = is_html(headers) || body.starts_with(b"<");
        match status {
            _ if self.bare => Verdict::Fail(refused.intercepted(self.may_be_done())),
            StatusCode::SERVICE_UNAVAILABLE => self.pause(&refused, asked, html),
            StatusCode::TOO_MANY_REQUESTS if asked.is_some() || !html => self.pause(&refused, asked, html),
            // A gateway in front of the API may say in a page of its own that the token has expired.
            StatusCode::UNAUTHORIZED if !html || refused.is_about_token() => {
                let another = reject(token);
                if self.may_be_done() {
                    Verdict::Fail(refused.unauthorized_later())
                } else if !another || self.renewed {
                    Verdict::Fail(refused.unauthorized())
                } else if self.options.single_use_body {
                    Verdict::Fail(refused.renewed_too_late())
                } else {
                    self.renewed = true;
                    Verdict::Repeat { after: Duration::ZERO }
                }
            }
            _ if html => Verdict::Fail(refused.intercepted(self.may_be_done())),
            _ => Verdict::Fail(refused.forbidden(&self.endpoint())),
        }
    }

    /// Takes a wait out of the patience; for rate shaping, which waits before it sends.
    ///
    /// `asked_by` is the status with which the API asked earlier for this wait, 429 or 503; none when its published limits
    /// are kept unasked.
    ///
    /// # Errors
    /// [`ErrorKind::RateLimited`](crate::ErrorKind::RateLimited) or [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable),
    /// with the wait, when the patience does not suffice. Their status is that of the last answer, where the request has been
    /// sent before.
    pub fn spend(&mut self, wait: Duration, asked_by: Option<StatusCode>) -> Result<(), Error> {
        match self.patience.checked_sub(wait) {
            Some(left) => {
                self.patience = left;
                Ok(())
            }
            None => Err(refusal::held_back(wait, asked_by, self.answered)),
        }
    }

    /// What is called, for rate shaping.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::of(&self.method, &self.uri)
    }

    /// The server wants to be left alone for a while: wait if that is safe and short enough.
    fn pause(&mut self, refused: &Refused<'_>, asked: Option<Duration>, html: bool) -> Verdict {
        let limited = refused.status == StatusCode::TOO_MANY_REQUESTS;
        // Zero would be a loop without a pause.
        let told = asked.or_else(|| limited.then_some(RATE_LIMIT_PAUSE)).map(|told| told.max(FIRST_PAUSE));
        let pause = told.unwrap_or_else(|| FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.pauses)));
        if self.may_be_done() {
            return Verdict::Fail(refused.busy_later(told, html));
        }
        if self.options.single_use_body || !self.is_repeatable() {
            return Verdict::Fail(refused.busy(told, html, refusal::NOT_REPEATED));
        }
        if self.spend(pause, None).is_err() {
            return Verdict::Fail(refused.busy(told, html, refusal::TOO_LONG));
        }
        self.pauses += 1;
        Verdict::Repeat { after: pause }
    }

    /// Whether this is HTML that nobody asked for. A success without content is none, whatever its label.
    fn is_page(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let nothing = || headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() == b"0");
        let done = status == StatusCode::NO_CONTENT || status.is_success() && nothing();
        !self.wants_html && !status.is_redirection() && !done && is_html(headers)
    }

    /// Whether sending the request twice does the same as sending it once.
    fn is_repeatable(&self) -> bool {
        self.method.is_safe() || self.options.idempotent
    }

    /// Whether the request was answered with a redirect, after having been carried out perhaps, and must not be so twice.
    fn may_be_done(&self) -> bool {
        self.redirected && !self.is_repeatable()
    }
}

impl fmt::Debug for Call {
    /// Leaves the query out: it may hold secrets of the caller.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("method", &self.method)
            .field("path", &self.uri.path())
            .field("options", &self.options)
            .field("patience", &self.patience)
            .field("answered", &self.answered)
            .finish_non_exhaustive()
    }
}

fn is_html(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(names_html)
}

/// Whether a media type, its parameters left aside, is one of HTML.
fn names_html(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(|value| {
        value.split(',').filter_map(|one| one.split(';').next()).any(|one| one.to_ascii_lowercase().contains("html"))
    })
}
