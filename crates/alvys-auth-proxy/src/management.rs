//! The pages of the proxy: health, readiness, metrics, the status page and, if allowed, the token.

use std::time::Duration;

use alvys_auth_driver::Time;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use crate::answer::Answer;
use crate::headers::{TOKEN_REQUEST, says_true};
use crate::problem::Problem;
use crate::proxy::Inner;
use crate::route::{Page, Route};
use crate::watch::Subject;
use crate::{metrics, status};

/// How long a readiness check may wait for a token.
const READY_WITHIN: Duration = Duration::from_secs(2);

impl Inner {
    /// Answers a request for a page of the proxy.
    pub(crate) async fn page<B>(&self, page: Page, request: &Request<B>, route: Option<&Route>) -> Response<Answer> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "this page of the proxy only accepts GET",
                "send GET",
            )
            .allow("GET, HEAD")
            .into_response();
        }
        match page {
            Page::Health => text("ok\n"),
            Page::Ready => self.ready(route).await,
            Page::Metrics => {
                self.long(|| typed(metrics::CONTENT_TYPE, self.watch.metrics.text(self.in_flight(), self.expiry())))
            }
            Page::Status => self.long(|| status_page(self)),
            Page::Icon => none(),
            Page::Token => match self.token(request, route).await {
                Ok(response) => response,
                Err(problem) => problem.into_response(),
            },
        }
    }

    /// A long page, if not too many of them are being sent.
    fn long(&self, page: impl FnOnce() -> Response<Answer>) -> Response<Answer> {
        let Some(place) = self.pages.take(&None) else { return Problem::too_many().into_response() };
        self.watch.look();
        page().map(|answer| match answer {
            Answer::Full(body) => Answer::Page(body, place),
            other => other,
        })
    }

    /// Whether a call would get a token: one is held, or one was held before and nothing prevents a new one.
    ///
    /// Without a token, each check asks the source for one. So a proxy that gets no calls, because it is not ready, becomes
    /// ready again. The source limits the token requests. With several tenants and no tenant in the request, the proxy is
    /// always ready, because one tenant in trouble must not keep calls of the others away.
    async fn ready(&self, route: Option<&Route>) -> Response<Answer> {
        match self.check_ready(route).await {
            Ok(()) => text("ready\n"),
            Err(problem) if problem.status == StatusCode::NOT_FOUND => problem.into_response(),
            Err(problem) => not_ready(problem),
        }
    }

    async fn check_ready(&self, route: Option<&Route>) -> Result<(), Problem> {
        let give_up = Instant::now() + READY_WITHIN;
        let late = || {
            let what = "the access token did not arrive within 2 s";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timed_out", what, "ask again")
        };
        let account = match (route.filter(|route| route.tenant.is_some()), self.accounts.sole()) {
            (Some(route), _) => timeout_at(give_up, self.account(route)).await.map_err(|_| late())??,
            (None, Some(account)) => account.clone(),
            (None, None) => return Ok(()),
        };
        let tenant = route.and_then(|route| route.tenant.as_deref()).map(Into::into);
        let status = account.tokens.status();
        let renewable = self.watch.had_token(&tenant) && status.last_error.is_none() && !status.in_flight;
        if status.is_ready() || renewable {
            return Ok(());
        }
        let subject = Subject::check(tenant, "/readyz");
        match timeout_at(give_up, self.token_of(&account, &subject)).await {
            Ok(token) => token.map(drop).map_err(|error| Problem::no_token(&error)),
            // The reason why no token arrives, if it is known.
            Err(_) => Err(account.tokens.status().last_error.map_or_else(late, |error| Problem::no_token(&error))),
        }
    }

    /// The token, for programs that call the API without this proxy.
    async fn token<B>(&self, request: &Request<B>, route: Option<&Route>) -> Result<Response<Answer>, Problem> {
        let Some(route) = route.filter(|_| self.settings.hands_out_tokens) else { return Err(Problem::not_found()) };
        if *request.method() != Method::GET || !says_true(request.headers(), TOKEN_REQUEST) {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "token_request",
                "the request lacks the header that asks for the token",
                "send GET with the header X-Alvys-Token-Request: true",
            ));
        }
        let account = self.account(route).await?;
        let subject = Subject::check(route.tenant.as_deref().map(Into::into), "/token");
        let token = self.token_of(&account, &subject).await.map_err(|error| Problem::no_token(&error))?;
        let document = json!({
            "access_token": token.access_token(),
            "token_type": "Bearer",
            "expires_in": token.expires_in(Time::boot().now()).as_secs(),
        });
        Ok(typed("application/json", document.to_string()))
    }
}

fn status_page(inner: &Inner) -> Response<Answer> {
    let mut response = typed("text/html; charset=utf-8", status::page(inner));
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(status::POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// The answer when the proxy is not ready. It always has the status 503, which probes expect.
fn not_ready(mut problem: Problem) -> Response<Answer> {
    problem.status = StatusCode::SERVICE_UNAVAILABLE;
    problem.into_response()
}

fn none() -> Response<Answer> {
    let mut response = Response::new(Answer::full(bytes::Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn text(text: &'static str) -> Response<Answer> {
    typed("text/plain; charset=utf-8", text)
}

fn typed(content_type: &'static str, body: impl Into<bytes::Bytes>) -> Response<Answer> {
    let mut response = Response::new(Answer::full(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
