//! The loop around one authorized call: token and turn, send, judge.

use std::io::Read;
use std::sync::mpsc;
use std::thread::sleep;
use std::time::Instant;
use std::{mem, thread};

use alvys_auth_core::{Api, Call, CallOptions, Error, Token, Verdict};
use alvys_auth_driver::{LOOK_TIME, Pace, events, judge};
use ureq::config::RedirectAuthHeaders;
use ureq::http::request::Parts;
use ureq::http::{HeaderMap, Method, Request, Response};
use ureq::{Agent, AsSendBody, Body, ResponseExt};

use crate::TokenSource;

/// What authorizes calls: whose tokens, where to, how fast.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) tokens: TokenSource,
    pub(crate) api: Api,
    pub(crate) pace: Option<Pace>,
}

/// Why a call has no answer.
pub(crate) enum Failure {
    /// Decided here.
    Call(Error),
    /// The request could not be sent, or its answer not be received.
    Transport(ureq::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

impl From<ureq::Error> for Failure {
    fn from(error: ureq::Error) -> Self {
        Self::Transport(error)
    }
}

impl Caller {
    /// `send` adds the body; it is called again unless `options` say that the body can be used once only.
    pub(crate) fn call(
        &self,
        mut parts: Parts,
        options: CallOptions,
        mut send: impl FnMut(Request<()>) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, Failure> {
        let Some(mut call) = self.api.call(&parts.method, &parts.uri, &parts.headers, options)? else {
            events::left_alone(parts.uri.host());
            return Ok(send(Request::from_parts(parts, ()))?);
        };
        loop {
            let token = self.authorize(&mut call, &mut parts.headers)?;
            let mut answer = send(Request::from_parts(parts.clone(), ()))?;
            let (status, headers) = (answer.status(), answer.headers());
            let delivers = if redirected(&answer) {
                call.delivers_bare(status, headers)
            } else {
                call.delivers(status, headers, &parts.uri)
            };
            if delivers {
                return Ok(answer);
            }
            let answer = look(&mut answer);
            match judge(&mut call, &answer, &token, |token| self.tokens.reject(token), self.pace.as_ref()) {
                Verdict::Fail(error) => return Err(error.into()),
                Verdict::Repeat { after } => sleep(after),
            }
        }
    }

    /// Waits for a token and for the turn, and puts the token on the request.
    ///
    /// The token is taken anew before each look at the queue: what was held a moment ago may have been rejected since. And
    /// nothing is waited for between the turn and the request, or all whose turn has come would go at once afterwards.
    fn authorize(&self, call: &mut Call, headers: &mut HeaderMap) -> Result<Token, Error> {
        let mut turn = self.pace.as_ref().map(|pace| pace.turn(&call.endpoint()));
        loop {
            let token = self.tokens.token()?;
            call.authorize(&token, headers)?;
            let Some(turn) = &mut turn else { return Ok(token) };
            let Some(wait) = turn.hold(call)? else { return Ok(token) };
            sleep(wait);
        }
    }
}

/// The settings of every request: a refusal is read before it becomes an error, a redirect is followed without the token,
/// which ureq could only let go along to every port of the same host, and no proxy carries a token off this machine
/// unencrypted.
pub(crate) fn configured<S: AsSendBody>(agent: &Agent, request: Request<S>) -> Request<S> {
    let plain_http = request.uri().scheme_str() == Some("http");
    let config = agent
        .configure_request(request)
        .http_status_as_error(false)
        .redirect_auth_headers(RedirectAuthHeaders::Never)
        .save_redirect_history(true);
    let config = if plain_http { config.proxy(None) } else { config };
    config.build()
}

/// Whether requests of this method tell the length of their body even where that is zero (RFC 9110, section 8.6).
pub(crate) fn expects_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Whether the answer is from where a redirect led, to which the token did not go along.
fn redirected(answer: &Response<Body>) -> bool {
    answer.get_redirect_history().is_some_and(|history| history.len() > 1)
}

/// Reads as much of an answer as is looked at. What cannot be read is missing, and the status then has to do.
///
/// ureq gives a read up only after the time that its agent is set to, if any, which is meant for the bodies that are
/// delivered. So a thread reads, and is left to itself where nothing comes; it ends with its connection.
fn look(answer: &mut Response<Body>) -> Response<Vec<u8>> {
    let body = mem::replace(answer.body_mut(), Body::builder().data(""));
    let (sender, pieces) = mpsc::channel();
    let read = move || {
        let (mut reader, mut piece) = (body.into_reader().take(Call::LOOK as u64), [0; 1024]);
        while let Ok(read @ 1..) = reader.read(&mut piece)
            && sender.send(piece[..read].to_vec()).is_ok()
        {}
    };
    // Without a thread nothing is read.
    let _ = thread::Builder::new().name("alvys-auth-look".to_owned()).spawn(read);
    let (started, mut body) = (Instant::now(), Vec::new());
    while let Ok(piece) = pieces.recv_timeout(LOOK_TIME.saturating_sub(started.elapsed())) {
        body.extend(piece);
    }
    let mut looked = Response::new(body);
    *looked.status_mut() = answer.status();
    *looked.headers_mut() = mem::take(answer.headers_mut());
    looked
}
