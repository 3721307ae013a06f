//! One authorized call: a state machine that says what to do next.

use std::fmt;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};

use crate::call::refusal::{self, Refused};
use crate::retry_after::retry_after;
use crate::url::Origin;
use crate::words;
use crate::{CallOptions, Endpoint, Error, Hold, Scope, Timestamp, Token, Verdict};

/// The first pause before a call is repeated to an unavailable server that names no time; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The pause that Alvys documents for a rate limit whose answer names no time.
const RATE_LIMIT_PAUSE: Duration = Duration::from_secs(60);

/// One authorized call on its way; made by [`Api::call`](crate::Api::call).
///
/// A driver asks [`next`](Self::next) what to do, does it, reports the result, and asks again:
///
/// ```text
///         ┌──────────── ask again later ────────────┐
///         ▼                                         │
/// ──▶ NeedToken ──token()──▶ Send ──answered()──▶ Look ──looked()──▶ Fail
///         ▲   │                │  │                 │
///         │   └─▶ Wait ──┐     │  └─▶ Deliver       └─▶ Wait ──┐
///         └──────────────┘     └─ failed(): Send again once ◀──┘
/// ```
///
/// ```
/// use std::time::Duration;
///
/// use alvys_auth_core::{Api, CallOptions, CallStep, TokenResponse};
/// use alvys_auth_core::{Credentials, Flow, Lifecycle, Policy, Step, Timestamp, TokenRequest};
/// use http::{HeaderMap, Method, Response};
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
/// assert!(matches!(call.next(now), CallStep::NeedToken));
/// let Step::Use(token) = lifecycle.poll(now) else { unreachable!() };
/// call.token(token, now, || None);
/// assert!(matches!(call.next(now), CallStep::Send));
/// call.authorize(&mut headers);
/// assert_eq!(headers["authorization"], "Bearer abc");
///
/// let answer = Response::builder().status(429).header("retry-after", "7").body(b"").unwrap();
/// call.answered(answer.status(), answer.headers(), Some(&uri));
/// assert!(matches!(call.next(now), CallStep::Look));
/// call.looked(&answer, now, |token| lifecycle.reject(token, now));
/// let later = now.saturating_add(Duration::from_secs(7));
/// assert!(matches!(call.next(now), CallStep::Wait(until) if until == later));
/// assert!(matches!(call.next(later), CallStep::NeedToken));
/// # Ok::<(), alvys_auth_core::Error>(())
/// ```
#[must_use = "a call does nothing until its request is sent"]
pub struct Call {
    method: Method,
    uri: Uri,
    options: CallOptions,
    wants_html: bool,
    patience: Duration,
    state: State,
    /// The token that is on the request.
    token: Option<Token>,
    pauses: u32,
    renewed: bool,
    resent: bool,
    /// The status of the last answer; none before the first one.
    answered: Option<StatusCode>,
    /// Whether the last answer came from another URL than the called one.
    redirected: bool,
    /// Whether the last answer is to a request without the token, after a redirect.
    bare: bool,
}

/// What to do next about a [`Call`].
#[derive(Debug, Clone)]
#[must_use = "the call goes on when this is done"]
pub enum CallStep {
    /// Get a token that is usable now; then [`Call::token`].
    NeedToken,
    /// Wait until then, or until a call before this one has left the queue; then ask [`Call::next`] again.
    Wait(Timestamp),
    /// [Authorize](Call::authorize) the request and send it at once; then [`Call::answered`], or [`Call::failed`].
    Send,
    /// Read the first [`Call::LOOK`] bytes of the answer; then [`Call::looked`].
    Look,
    /// Give the caller the answer as it is, without reading its body.
    Deliver,
    /// Give the caller this error.
    Fail(Error),
}

#[derive(Debug)]
enum State {
    Begun,
    /// Held back since the first time. At the second time the call asks for its turn again.
    Held(Timestamp, Timestamp),
    /// Held back, and the driver was told to wait. The next step is the end of that wait.
    Waiting(Timestamp, Timestamp),
    /// Waits between an answer and the next try, until this time.
    Paused(Timestamp),
    Ready,
    Refused,
    Delivered,
    Failed(Error),
}

impl Call {
    /// How many bytes of an answer the driver reads for a look, at most.
    pub const LOOK: usize = 16 * 1024;

    pub(crate) fn new(
        patience: Duration,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        options: CallOptions,
    ) -> Self {
        Self {
            method: method.clone(),
            uri: uri.clone(),
            options,
            wants_html: headers.get_all(ACCEPT).iter().any(names_html),
            patience,
            state: State::Begun,
            token: None,
            pauses: 0,
            renewed: false,
            resent: false,
            answered: None,
            redirected: false,
            bare: false,
        }
    }

    /// What to do now.
    pub fn next(&mut self, now: Timestamp) -> CallStep {
        match &self.state {
            &State::Held(since, until) => {
                self.state = State::Waiting(since, until);
                return CallStep::Wait(until);
            }
            &State::Waiting(since, until) => {
                self.patience = self.patience.saturating_sub(now.min(until).saturating_duration_since(since));
            }
            &State::Paused(until) if until > now => return CallStep::Wait(until),
            State::Begun | State::Paused(_) => {}
            State::Ready => return CallStep::Send,
            State::Refused => return CallStep::Look,
            State::Delivered => return CallStep::Deliver,
            State::Failed(error) => return CallStep::Fail(error.clone()),
        }
        self.state = State::Begun;
        CallStep::NeedToken
    }

    /// Hands in a token. The call fails if the token lacks a scope that the caller requires.
    ///
    /// Otherwise `turn` is called, and says whether the call is held back; see [`Limiter::ask`](crate::Limiter::ask). A
    /// call gets its token before each look at the queue, and is sent as soon as its turn comes. So no call takes a
    /// turn and then waits for a token, and no burst forms.
    pub fn token(&mut self, token: Token, now: Timestamp, turn: impl FnOnce() -> Option<Hold>) {
        let scopes = token.scopes();
        let lacks = |scope: &&Scope| scopes.is_known() && !scopes.contains(scope);
        let missing: Vec<Scope> = self.options.required.iter().filter(lacks).cloned().collect();
        if !missing.is_empty() {
            self.state = State::Failed(refusal::required(&token, missing, self.answered));
            return;
        }
        self.token = Some(token);
        self.state = State::Ready;
        if let Some(Hold { until, ask_at, asked_by }) = turn() {
            let wait = until.saturating_duration_since(now);
            let too_long = || State::Failed(refusal::held_back(wait, asked_by, self.answered));
            self.state = if wait > self.patience { too_long() } else { State::Held(now, ask_at) };
        }
    }

    /// Puts the token on the request that is to be sent, as the ready and sensitive `Authorization` header.
    pub fn authorize(&self, headers: &mut HeaderMap) {
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, token.header().clone());
        }
    }

    /// Hands in the head of the answer to the request.
    ///
    /// `answered_by` is the URL that answered; none when the HTTP client followed a redirect there without the token.
    /// Such an answer, and any answer from another origin, says nothing about the token: it is delivered, whatever its
    /// status, unless it is a page of HTML in place of the API, such as the page of a captive portal. An answer from
    /// another URL of the same origin may mean that the request was carried out before it was redirected. Then the call
    /// is repeated only if that is safe.
    pub fn answered(&mut self, status: StatusCode, headers: &HeaderMap, answered_by: Option<&Uri>) {
        self.redirected = answered_by != Some(&self.uri);
        self.bare = answered_by.is_none_or(|uri| Origin::of(uri) != Origin::of(&self.uri));
        let refused = !self.bare
            && matches!(
                status,
                StatusCode::UNAUTHORIZED
                    | StatusCode::FORBIDDEN
                    | StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::SERVICE_UNAVAILABLE
            );
        let delivered = !refused && !self.is_page(status, headers);
        self.state = if delivered { State::Delivered } else { State::Refused };
    }

    /// Says that no answer came, whether or not the request could be sent. Returns true when the call goes on with
    /// [`next`](Self::next), and false when the caller gets the error of the HTTP client.
    ///
    /// `unanswered` says that the connection closed before any byte of an answer arrived. Most likely the connection
    /// was kept from an earlier request, and the server closed it at that moment without seeing this request. A request
    /// that may be sent twice is then sent once more (RFC 9110, section 9.2.2; RFC 9112, section 9.3.1), best on a new
    /// connection.
    pub fn failed(&mut self, unanswered: bool) -> bool {
        let again = unanswered && !self.resent && !self.options.single_use_body && self.is_repeatable();
        if again {
            self.resent = true;
            self.state = State::Begun;
        }
        again
    }

    /// Hands in the answer, of which at most [`Self::LOOK`] bytes were read. Returns the verdict on it, for events and
    /// for [`Limiter::heed`](crate::Limiter::heed); [`next`](Self::next) follows the verdict by itself.
    ///
    /// `reject` tells the token source that the API refused the token, and returns whether another token is worth
    /// trying; see [`Lifecycle::reject`](crate::Lifecycle::reject). It is called on a 401 only.
    pub fn looked<B: AsRef<[u8]>>(
        &mut self,
        answer: &Response<B>,
        now: Timestamp,
        reject: impl FnOnce(&Token) -> bool,
    ) -> Verdict {
        self.answered = Some(answer.status());
        let verdict = match self.token.take() {
            Some(token) => self.judge(answer, &token, reject),
            None => Verdict::Fail(Error::configuration(
                "an answer came to a call that had no token",
                "report this: the driver of the call does not follow its steps",
            )),
        };
        self.state = match &verdict {
            Verdict::Repeat { after } => State::Paused(now.saturating_add(*after)),
            Verdict::Fail(error) => State::Failed(error.clone()),
        };
        verdict
    }

    /// The endpoint that is called, for rate limits.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::of(&self.method, &self.uri)
    }

    fn judge<B: AsRef<[u8]>>(
        &mut self,
        answer: &Response<B>,
        token: &Token,
        reject: impl FnOnce(&Token) -> bool,
    ) -> Verdict {
        let (status, headers) = (answer.status(), answer.headers());
        let body = words::bare(answer.body().as_ref());
        let uri = self.uri.clone();
        let refused = Refused { status, headers, body, token, uri: &uri };
        let asked = retry_after(status, headers);
        // A body that begins with < is not JSON, whatever its Content-Type.
        let html = is_html(headers) || body.starts_with(b"<");
        match status {
            _ if self.bare => Verdict::Fail(refused.intercepted(self.may_be_done())),
            StatusCode::SERVICE_UNAVAILABLE => self.pause(&refused, asked, html),
            StatusCode::TOO_MANY_REQUESTS if asked.is_some() || !html => self.pause(&refused, asked, html),
            // A gateway in front of the API may say with an HTML page that the token has expired.
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

    /// The server asks to be left alone for a while. The call waits and is repeated if that is safe and the wait is
    /// short enough.
    fn pause(&mut self, refused: &Refused<'_>, asked: Option<Duration>, html: bool) -> Verdict {
        let limited = refused.status == StatusCode::TOO_MANY_REQUESTS;
        // A wait of zero would make a loop without a pause.
        let told = asked.or_else(|| limited.then_some(RATE_LIMIT_PAUSE)).map(|told| told.max(FIRST_PAUSE));
        let pause = told.unwrap_or_else(|| FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.pauses)));
        if self.may_be_done() {
            return Verdict::Fail(refused.busy_later(told, html));
        }
        if self.options.single_use_body || !self.is_repeatable() {
            return Verdict::Fail(refused.busy(told, html, refusal::NOT_REPEATED));
        }
        let Some(left) = self.patience.checked_sub(pause) else {
            return Verdict::Fail(refused.busy(told, html, refusal::TOO_LONG));
        };
        self.patience = left;
        self.pauses += 1;
        Verdict::Repeat { after: pause }
    }

    /// Whether the answer is an HTML page that nobody asked for. A success without content is not such a page, whatever
    /// its Content-Type. Neither is a refusal of the form or the length of the request by a server in front of the API.
    fn is_page(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let nothing = || headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() == b"0");
        let done = status == StatusCode::NO_CONTENT || status.is_success() && nothing();
        let form = matches!(status.as_u16(), 411 | 413 | 414 | 417 | 431);
        !self.wants_html && !status.is_redirection() && !done && !form && is_html(headers)
    }

    /// Whether sending the request twice has the same effect as sending it once.
    fn is_repeatable(&self) -> bool {
        self.method.is_safe() || self.options.idempotent
    }

    /// Whether the request may have been carried out before it was redirected, and must not be carried out twice.
    fn may_be_done(&self) -> bool {
        self.redirected && !self.is_repeatable()
    }
}

impl fmt::Debug for Call {
    /// Leaves the query out, because it may hold secrets of the caller.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("method", &self.method)
            .field("path", &self.uri.path())
            .field("options", &self.options)
            .field("state", &self.state)
            .field("patience", &self.patience)
            .field("answered", &self.answered)
            .finish_non_exhaustive()
    }
}

fn is_html(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(names_html)
}

/// Whether a media type, without its parameters, is HTML or XHTML.
fn names_html(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(|value| {
        value.split(',').filter_map(|one| one.split(';').next()).any(|one| one.to_ascii_lowercase().contains("html"))
    })
}
