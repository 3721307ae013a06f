//! What the tests share: requests, answers, tokens, and a clock that moves only when told to.

#![allow(dead_code, reason = "every test binary uses its own part")]

use std::time::Duration;

use alvys_auth_core::{
    Api, Attempt, Call, CallOptions, CallStep, Change, Credentials, Error, Flow, Given, Hold, Lifecycle, Mark, Next,
    Policy, Step, Timestamp, Token, TokenRequest, TokenResponse, TransportFault, Verdict, Wait,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

/// The point so many seconds after the origin.
pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

/// One millisecond earlier.
pub(crate) fn just_before(moment: Timestamp) -> Timestamp {
    moment.saturating_sub(Duration::from_millis(1))
}

pub(crate) fn credentials() -> Credentials {
    Credentials::new("my-client", "s3cret").expect("legal credentials")
}

pub(crate) fn request(flow: Flow) -> TokenRequest {
    TokenRequest::new(flow, credentials()).expect("a legal request")
}

pub(crate) fn lifecycle() -> Lifecycle {
    with_policy(Policy::new(), 7)
}

pub(crate) fn with_policy(policy: Policy, seed: u64) -> Lifecycle {
    Lifecycle::new(request(Flow::current()), policy, seed)
}

/// A lifecycle that holds `token` since the origin, granted for `seconds`.
pub(crate) fn holding(token: &str, seconds: u64) -> Lifecycle {
    let mut lifecycle = lifecycle();
    obtain(&mut lifecycle, token, seconds, at(0));
    lifecycle
}

/// Hands in an attempt that must be over then.
#[track_caller]
pub(crate) fn complete(lifecycle: &mut Lifecycle, attempt: Attempt, now: Timestamp) -> Change {
    match lifecycle.next(attempt, now) {
        Next::Over(change) => change,
        other => panic!("expected the end at {now:?}, not {other:?}"),
    }
}

/// The attempt that must ask its provider now, and the mark that it shows it.
#[track_caller]
pub(crate) fn asked(lifecycle: &mut Lifecycle, attempt: Attempt, now: Timestamp) -> (Attempt, Option<Mark>) {
    match lifecycle.next(attempt, now) {
        Next::Ask(attempt, known) => (attempt, known),
        other => panic!("expected a question at {now:?}, not {other:?}"),
    }
}

/// The attempt that must send its request now.
#[track_caller]
pub(crate) fn sent(lifecycle: &mut Lifecycle, attempt: Attempt, now: Timestamp) -> Attempt {
    match lifecycle.next(attempt, now) {
        Next::Send(attempt) => attempt,
        other => panic!("expected a request at {now:?}, not {other:?}"),
    }
}

/// What a provider gives: credentials, and their mark.
pub(crate) fn given(client_id: &str, secret: &str, mark: u64) -> Given<Credentials> {
    Given::These(Credentials::new(client_id, secret).expect("legal credentials"), Mark::new(mark))
}

/// Polls for an attempt and completes it with a granted token, all at `now`.
pub(crate) fn obtain(lifecycle: &mut Lifecycle, token: &str, seconds: u64, now: Timestamp) -> Token {
    let attempt = fetched(lifecycle, now);
    complete(lifecycle, attempt.answered(&granted(token, seconds)), now);
    used(lifecycle, now)
}

pub(crate) fn answer(status: u16, body: impl Into<Vec<u8>>) -> Response<Vec<u8>> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status.try_into().expect("a legal status");
    response
}

/// The answer to wrong credentials.
pub(crate) fn denied() -> Response<Vec<u8>> {
    answer(401, r#"{"error":"access_denied","error_description":"Unauthorized"}"#)
}

/// The same answer with one more header.
pub(crate) fn with(mut response: Response<Vec<u8>>, name: &'static str, value: &str) -> Response<Vec<u8>> {
    response.headers_mut().append(name, value.parse().expect("a legal header value"));
    response
}

pub(crate) fn granted(token: &str, seconds: u64) -> Response<Vec<u8>> {
    let body = json!({"access_token": token, "expires_in": seconds, "token_type": "Bearer"});
    answer(200, body.to_string())
}

/// What the current flow makes of an answer.
pub(crate) fn read(response: &Response<Vec<u8>>) -> Result<TokenResponse, Error> {
    TokenResponse::from_http(&request(Flow::current()), response)
}

/// The grant that is in this body.
#[track_caller]
pub(crate) fn accepted(body: &str) -> TokenResponse {
    match read(&answer(200, body)) {
        Ok(grant) => grant,
        Err(error) => panic!("{body} was refused: {error}"),
    }
}

/// Why no grant is in this body.
#[track_caller]
pub(crate) fn refusal(body: impl Into<Vec<u8>>) -> Error {
    read(&answer(200, body)).expect_err("no token is in this answer")
}

/// The body of an answer that grants `token`, whatever it is, for an hour.
pub(crate) fn answer_with_token(token: &Value) -> String {
    json!({"access_token": token, "expires_in": 3600}).to_string()
}

pub(crate) fn jwt(claims: &Value) -> String {
    let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
    format!("eyJhbGciOiJSUzI1NiJ9.{payload}.c2lnbmF0dXJl")
}

/// The attempt that a poll at `now` must give.
#[track_caller]
pub(crate) fn fetched(lifecycle: &mut Lifecycle, now: Timestamp) -> Attempt {
    match lifecycle.poll(now) {
        Step::Fetch(attempt) => attempt,
        other => panic!("expected a fetch at {now:?}, not {other:?}"),
    }
}

/// The token that a poll at `now` must give.
#[track_caller]
pub(crate) fn used(lifecycle: &mut Lifecycle, now: Timestamp) -> Token {
    match lifecycle.poll(now) {
        Step::Use(token) => token,
        other => panic!("expected a token at {now:?}, not {other:?}"),
    }
}

/// The wait that a poll at `now` must give.
#[track_caller]
pub(crate) fn waited(lifecycle: &mut Lifecycle, now: Timestamp) -> Wait {
    match lifecycle.poll(now) {
        Step::Wait(wait) => wait,
        other => panic!("expected a wait at {now:?}, not {other:?}"),
    }
}

/// The error that a poll at `now` must give.
#[track_caller]
pub(crate) fn refused(lifecycle: &mut Lifecycle, now: Timestamp) -> Error {
    match lifecycle.poll(now) {
        Step::Fail(error) => error,
        other => panic!("expected a failure at {now:?}, not {other:?}"),
    }
}

/// A token of the current flow with these scopes; where there are none, nothing is known of an opaque one.
pub(crate) fn token(text: &str, scope: &str) -> Token {
    let mut lifecycle = lifecycle();
    lifecycle.adopt(TokenResponse::new(text, Duration::from_secs(3600), scope).expect("a legal token"), at(0));
    used(&mut lifecycle, at(0))
}

/// A token of the legacy flow, which has no scopes.
pub(crate) fn legacy_token(claims: &Value) -> Token {
    obtain(&mut Lifecycle::new(request(Flow::legacy("va336")), Policy::new(), 7), &jwt(claims), 3600, at(0))
}

/// A call of the production API with a patience of 60 seconds.
pub(crate) fn call(method: &str, path: &str, options: CallOptions) -> Call {
    call_of(&Api::production(), method, path, options)
}

pub(crate) fn call_of(api: &Api, method: &str, path: &str, options: CallOptions) -> Call {
    let uri = api.url(path).expect("a path of the API");
    let method: Method = method.parse().expect("a method");
    api.call(&method, &uri, &HeaderMap::new(), options).expect("an allowed destination").expect("an authorized call")
}

/// The error that an answer must end the call with.
#[track_caller]
pub(crate) fn failed(verdict: Verdict) -> Error {
    match verdict {
        Verdict::Fail(error) => error,
        Verdict::Repeat { after } => panic!("expected a failure, not another try after {after:?}"),
    }
}

/// The wait after which the call must be repeated.
#[track_caller]
pub(crate) fn repeated(verdict: Verdict) -> Duration {
    match verdict {
        Verdict::Repeat { after } => after,
        Verdict::Fail(error) => panic!("expected another try, not {error}"),
    }
}

pub(crate) fn unreachable_server() -> Error {
    Error::transport("the connection failed", "connection refused")
}

/// What cannot be read and may hold a token.
pub(crate) fn half_an_answer() -> Error {
    Error::on_the_way(TransportFault::Unreadable, "the token endpoint", "reset")
}

pub(crate) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

/// Any text that is documented as a legal value: no white space, no byte order mark and no quotes round it, and no
/// `<placeholder>`, `{placeholder}`, `${variable}` or template.
pub(crate) fn value() -> impl Strategy<Value = String> {
    let awkward: Vec<char> = "\"'`&=+%#?/\\{}<>[];,:@!$*()~|^ \t\n\r\0\u{7f}\u{85}\u{2028}é🚚.a0".chars().collect();
    let stray = |c: char| c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}');
    let character = prop_oneof![3 => prop::sample::select(awkward), 2 => any::<char>()];
    vec(character, 1..40)
        .prop_map(move |characters| String::from_iter(characters).trim_matches(stray).to_owned())
        .prop_filter("documented as refused", |text| {
            let refused = [
                ("<", ">"),
                ("{", "}"),
                ("\"", "\""),
                ("'", "'"),
                ("\u{201c}", "\u{201d}"),
                ("${", "}"),
                ("#{", "}"),
                ("$(", ")"),
                ("%", "%"),
                ("$", ""),
            ];
            !text.is_empty() && !refused.iter().any(|(open, close)| text.starts_with(open) && text.ends_with(close))
        })
}

/// Where [`get`] goes.
pub(crate) const HERE: &str = "https://integrations.alvys.com/api/p/v1/loads";

pub(crate) fn reader() -> Token {
    token("abc", "load:read")
}

/// A call of the list of loads.
pub(crate) fn get() -> Call {
    call("GET", "loads", CallOptions::new())
}

/// A page of somebody else.
pub(crate) fn html(status: u16) -> Response<Vec<u8>> {
    with(answer(status, "<html>Just a moment...</html>"), "content-type", "text/html; charset=utf-8")
}

/// The steps of a call, each with what came before it.
pub(crate) trait Steps {
    /// Puts the token on the request.
    fn authorized(&mut self, token: &Token, headers: &mut HeaderMap) -> Result<(), Error>;

    /// Whether an answer from that URL is delivered.
    fn delivers(&mut self, status: StatusCode, headers: &HeaderMap, answered_by: &Uri) -> bool;

    /// Whether an answer is delivered that came from where a redirect led without the token.
    fn delivers_bare(&mut self, status: StatusCode, headers: &HeaderMap) -> bool;

    /// Decides about an answer to a request with that token.
    fn judge(&mut self, answer: &Response<Vec<u8>>, token: &Token, reject: impl FnOnce(&Token) -> bool) -> Verdict;

    /// Holds the call back, and lets it wait.
    fn hold(&mut self, wait: Duration, asked_by: Option<StatusCode>) -> Result<(), Error>;
}

impl Steps for Call {
    fn authorized(&mut self, token: &Token, headers: &mut HeaderMap) -> Result<(), Error> {
        self.token(token.clone(), at(0), || None);
        match self.next(at(0)) {
            CallStep::Send => {
                Self::authorize(self, headers);
                Ok(())
            }
            CallStep::Fail(error) => Err(error),
            other => panic!("neither sent nor failed: {other:?}"),
        }
    }

    fn delivers(&mut self, status: StatusCode, headers: &HeaderMap, answered_by: &Uri) -> bool {
        self.answered(status, headers, Some(answered_by));
        is_delivered(self)
    }

    fn delivers_bare(&mut self, status: StatusCode, headers: &HeaderMap) -> bool {
        self.answered(status, headers, None);
        is_delivered(self)
    }

    fn judge(&mut self, answer: &Response<Vec<u8>>, token: &Token, reject: impl FnOnce(&Token) -> bool) -> Verdict {
        self.token(token.clone(), at(0), || None);
        let verdict = self.looked(answer, at(0), reject);
        match (self.next(at(0)), &verdict) {
            (CallStep::Fail(next), Verdict::Fail(error)) => assert_eq!(next.to_string(), error.to_string()),
            (CallStep::NeedToken, Verdict::Repeat { after }) => assert!(after.is_zero()),
            (CallStep::Wait(until), Verdict::Repeat { after }) => {
                assert_eq!(until, at(0).saturating_add(*after));
                assert!(matches!(self.next(just_before(until)), CallStep::Wait(again) if again == until));
                assert!(matches!(self.next(until), CallStep::NeedToken));
            }
            (next, verdict) => panic!("{next:?} does not follow from {verdict:?}"),
        }
        verdict
    }

    fn hold(&mut self, wait: Duration, asked_by: Option<StatusCode>) -> Result<(), Error> {
        let until = at(0).saturating_add(wait);
        self.token(reader(), at(0), || Some(Hold { until, ask_at: until, asked_by }));
        match self.next(at(0)) {
            CallStep::Wait(told) => assert_eq!(told, until),
            CallStep::Fail(error) => return Err(error),
            other => panic!("neither held back nor failed: {other:?}"),
        }
        assert!(matches!(self.next(until), CallStep::NeedToken), "it asks for its turn again");
        Ok(())
    }
}

fn is_delivered(call: &mut Call) -> bool {
    match call.next(at(0)) {
        CallStep::Deliver => true,
        CallStep::Look => false,
        other => panic!("neither delivered nor looked at: {other:?}"),
    }
}

pub(crate) fn delivers(call: &mut Call, answer: &Response<Vec<u8>>) -> bool {
    call.delivers(answer.status(), answer.headers(), &Uri::from_static(HERE))
}

/// Judges an answer that is no 401.
#[track_caller]
pub(crate) fn judged(call: &mut Call, answer: &Response<Vec<u8>>) -> Verdict {
    assert!(!delivers(call, answer), "{answer:?} would be delivered");
    call.judge(answer, &reader(), |_| panic!("only a 401 costs a token"))
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The error of an answer with this status.
pub(crate) fn refusal_of(status: u16) -> Error {
    let body = if status == 401 { r#"{"error":"access_denied"}"# } else { "{}" };
    read(&answer(status, body)).expect_err("no token is in this answer")
}
