//! Forwards one call: gets a token, waits for the call's turn, sends the request, judges the answer, and streams it to
//! the client.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use alvys_auth_core::{CallOptions, CallStep, Error, Hold, Token, TransportFault};
use alvys_auth_driver::{Caller, LOOK_TIME, Passage, Time, look};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use crate::accounts::{Account, NotServed};
use crate::answer::Answer;
use crate::headers;
use crate::places::{Place, Tenant};
use crate::problem::Problem;
use crate::proxy::Inner;
use crate::route::Route;
use crate::upload::{Failure, Progress, Source, Upload};
use crate::upstream::Destination;
use crate::watch::Subject;

impl Inner {
    /// Forwards a request that [`door::check`](crate::door::check) has accepted.
    pub(crate) async fn forward(&self, request: Request<Source>, route: Route) -> Response<Answer> {
        let began = Instant::now();
        let response = match self.pass(request, &route).await {
            Ok(response) => response,
            Err(problem) => problem.into_response(),
        };
        self.watch.answered(response.status(), began.elapsed());
        response
    }

    async fn pass(&self, request: Request<Source>, route: &Route) -> Result<Response<Answer>, Problem> {
        let destination = self.upstream.destination(&route.target)?;
        let account = self.account(route).await?;
        let tenant: Tenant = route.tenant.as_deref().map(Into::into);
        // Checked before the body is read: a call that has no place would be refused after it.
        if !self.calls.has_room(&tenant) {
            return Err(Problem::too_many());
        }
        let arrival = self.arrivals.take(&tenant).ok_or_else(Problem::too_many)?;
        let (parts, body) = request.into_parts();
        let progress = Progress::new();
        let lingers = !parts.headers.contains_key(EXPECT);
        let upload = Upload::take(body, lingers, &self.settings, &progress, self.memory.none(&tenant)).await;
        let upload = upload.map_err(Failure::problem)?;
        let waits = self.waits.take(&tenant).ok_or_else(Problem::too_many)?;
        drop(arrival);
        let mut headers = parts.headers;
        let mut options = CallOptions::new();
        if headers::says_true(&headers, headers::IDEMPOTENT) {
            options = options.idempotent();
        }
        if matches!(upload, Upload::Streamed(_)) {
            options = options.single_use_body();
        }
        headers::towards_api(&mut headers, parts.version);
        if matches!(upload, Upload::None) && [Method::POST, Method::PUT, Method::PATCH].contains(&parts.method) {
            // On HTTP/2 the client may show that the body is empty by ending the stream, without a Content-Length. The
            // API needs one (RFC 9110, section 8.6).
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }

        let Account { tokens, pace } = &account;
        let caller = Caller { tokens, api: self.upstream.api.clone(), pace: pace.clone(), time: Time::boot() };
        let call = caller.begin(&parts.method, &destination.uri, &headers, options);
        let call = call.map_err(|error| Problem::failed_call(&error))?.ok_or_else(|| {
            Problem::failed_call(&Error::configuration(
                "an Authorization header was left on the request",
                "report this",
            ))
        })?;
        let endpoint = call.endpoint();
        let subject = Subject::new(tenant, endpoint, account.limit(endpoint));
        let stand = Stand::Waits(waits);
        let passage = Forwarding { inner: self, account, destination, progress, subject, stand, call };
        passage.run(parts.method, headers, upload, route).await
    }

    /// Finds the account of the tenant that the request names. Never gives the account of another tenant.
    pub(crate) async fn account(&self, route: &Route) -> Result<Account, Problem> {
        let found = self.accounts.find(route.tenant.as_deref()).await;
        let tenant = || route.tenant.as_deref().map(Into::into);
        match &found {
            Err(NotServed::Unknown) => self.watch.is_unknown(&tenant()),
            Err(NotServed::Failed(error)) => self.watch.no_token(&Subject::check(tenant(), ""), None, error),
            _ => {}
        }
        found.map_err(|reason| match reason {
            NotServed::Unnamed => Problem::new(
                StatusCode::BAD_REQUEST,
                "tenant",
                "the request names no tenant",
                "put /t/ and the tenant in front of the path, or name it in X-Alvys-Tenant",
            ),
            NotServed::Unknown => Problem::new(
                StatusCode::NOT_FOUND,
                "tenant",
                "this proxy serves no such tenant",
                "check the tenant's name; a proxy for a single application takes none",
            ),
            NotServed::Failed(error) => Problem::no_token(&error),
        })
    }
}

/// A call that is being forwarded, and what it needs.
struct Forwarding<'a> {
    inner: &'a Inner,
    account: Account,
    destination: Destination,
    progress: Arc<Progress>,
    subject: Subject,
    stand: Stand,
    call: Passage,
}

/// The place that a call holds: one among the waiting calls, or one among the calls that are sent. A call that waits
/// leaves its place among the sent calls to others.
enum Stand {
    Waits(#[expect(dead_code, reason = "held until it is dropped")] Place),
    Goes(Place),
}

impl Forwarding<'_> {
    async fn run(
        mut self,
        method: Method,
        headers: HeaderMap,
        upload: Upload,
        route: &Route,
    ) -> Result<Response<Answer>, Problem> {
        let (mut upload, mut answer, mut held, mut anew) = (Some(upload), None, None, false);
        loop {
            match (self.call.step(), answer.take()) {
                (CallStep::NeedToken, _) => {
                    self.waits()?;
                    held = self.token().await?;
                }
                (CallStep::Wait(until), _) => {
                    self.waits()?;
                    let _waiting = held.take().map(|_| self.inner.watch.waiting(&self.subject));
                    let (bell, timer) = self.call.wait(until);
                    let _ = tokio::time::timeout(timer, bell).await;
                }
                (CallStep::Send, _) => {
                    self.goes()?;
                    let (body, again) = upload.take().ok_or_else(|| self.failed(&Passage::lost()))?.split();
                    upload = again;
                    let mut next = reqwest::Request::new(method.clone(), self.destination.url.clone());
                    *next.headers_mut() = headers.clone();
                    *next.body_mut() = body;
                    self.call.authorize(next.headers_mut());
                    match self.send(next, anew).await {
                        Ok(head) => {
                            self.call.answered(head.status(), head.headers(), Some(&self.destination.uri));
                            answer = Some(head);
                        }
                        Err((error, unanswered)) if !self.call.failed(unanswered) => {
                            // Where the client did not finish its body, that is reported, and not a failure of the API.
                            let failure = self.progress.failure().map(Failure::problem);
                            return Err(failure.unwrap_or_else(|| self.failed(&error)));
                        }
                        Err(_) => anew = true,
                    }
                }
                (CallStep::Look, Some(refused)) => {
                    let refused = look(refused, tokio::time::sleep(LOOK_TIME)).await;
                    self.looked(&refused);
                }
                (CallStep::Deliver, Some(answer)) => return self.deliver(answer, route),
                (CallStep::Fail(error), _) => return Err(self.failed(&error)),
                (_, None) => return Err(self.failed(&Passage::lost())),
            }
        }
    }

    /// Moves the call to a place among the waiting calls, which frees its place among the sent calls.
    fn waits(&mut self) -> Result<(), Problem> {
        if matches!(self.stand, Stand::Goes(_)) {
            self.stand = Stand::Waits(self.inner.waits.take(&self.subject.tenant).ok_or_else(Problem::too_many)?);
        }
        Ok(())
    }

    /// Moves the call to a place among the sent calls.
    fn goes(&mut self) -> Result<(), Problem> {
        if matches!(self.stand, Stand::Waits(_)) {
            self.stand = Stand::Goes(self.inner.calls.take(&self.subject.tenant).ok_or_else(Problem::too_many)?);
        }
        Ok(())
    }

    /// Gets a token and asks for the call's turn. Returns the hold if the rate limits keep the call back.
    async fn token(&mut self) -> Result<Option<Hold>, Problem> {
        let Self { inner, account, subject, call, .. } = self;
        let token = inner.token_of(account, subject).await.map_err(|error| Problem::no_token(&error))?;
        let held = call.token(token);
        if let Some(hold) = &held {
            inner.watch.shaped(subject, hold.until.saturating_duration_since(call.time().now()));
        }
        Ok(held)
    }

    /// Sends the request once, and waits for the head of the answer while the request makes progress. The `bool` beside
    /// an error says whether the connection closed before any byte of an answer arrived.
    async fn send(&self, request: reqwest::Request, anew: bool) -> Result<Response<reqwest::Body>, (Error, bool)> {
        self.inner.watch.sends(&self.subject);
        self.progress.note();
        let mut sending = pin!(self.inner.upstream.send(request, anew));
        let limit = self.inner.settings.answer_within;
        loop {
            return tokio::select! {
                sent = &mut sending => match sent {
                    // The request asked for no other protocol, so what follows this head is not HTTP.
                    Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                        let cause = "it changed the protocol although nobody asked for that (status 101)";
                        Err((Error::on_the_way(TransportFault::Unreadable, "the API", cause), false))
                    }
                    sent => sent,
                },
                () = tokio::time::sleep(self.progress.left(limit)) => {
                    if !self.progress.left(limit).is_zero() {
                        continue;
                    }
                    Err((Error::timed_out("the API did not answer in time"), false))
                }
            };
        }
    }

    fn looked(&mut self, answer: &Response<Vec<u8>>) {
        let Self { account, call, inner, subject, .. } = self;
        let reject = |token: &Token| {
            let another = account.tokens.reject(token);
            if another {
                inner.watch.rejected(subject, token);
            }
            another
        };
        let verdict = call.looked(answer, reject);
        inner.watch.judged(subject, answer.status(), &verdict);
    }

    fn deliver(self, answer: Response<reqwest::Body>, route: &Route) -> Result<Response<Answer>, Problem> {
        let Stand::Goes(place) = self.stand else { return Err(Problem::failed_call(&Passage::lost())) };
        let (mut parts, body) = answer.into_parts();
        headers::towards_client(&mut parts.headers);
        self.inner.upstream.relocate(&mut parts.headers, &self.destination, route);
        // The extensions are left out: they hold internal values of the HTTP client.
        let mut response = Response::new(Answer::Streamed(body, place));
        *response.status_mut() = parts.status;
        *response.headers_mut() = parts.headers;
        Ok(response)
    }

    fn failed(&self, error: &Error) -> Problem {
        self.inner.watch.failed(&self.subject, error);
        Problem::failed_call(error)
    }
}

impl Upload {
    /// Splits into the body for this request, and what is left to send the request again; none when it cannot be sent
    /// again.
    fn split(self) -> (Option<reqwest::Body>, Option<Self>) {
        match self {
            Self::None => (None, Some(Self::None)),
            Self::Held(bytes, memory) => (Some(Bytes::clone(&bytes).into()), Some(Self::Held(bytes, memory))),
            Self::Streamed(stream) => (Some(reqwest::Body::wrap(stream)), None),
        }
    }
}
