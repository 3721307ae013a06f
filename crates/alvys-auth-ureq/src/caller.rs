//! The loop around one authorized call.

use std::io::Read;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use alvys_auth_core::{Call, CallOptions, CallStep};
use alvys_auth_driver::{BlockingTokens, Failure, LOOK_TIME, Passage, is_unanswered};
use event_listener::Listener;
use ureq::config::RedirectAuthHeaders;
use ureq::http::header::EXPECT;
use ureq::http::request::Parts;
use ureq::http::{HeaderValue, Method, Request, Response};
use ureq::{Agent, AsSendBody, Body, ResponseExt};

/// What calls need: tokens, the API and the rate limits.
pub(crate) type Caller = alvys_auth_driver::Caller<Tokens>;

/// Any blocking source of tokens.
pub(crate) type Tokens = alvys_auth_driver::Tokens<dyn BlockingTokens>;

/// Makes a call. `send` adds the body, and uses a new connection when its argument says so. It is called again when the
/// call is repeated, unless `options` say that the body can be used only once.
pub(crate) fn call(
    caller: &Caller,
    parts: Parts,
    options: CallOptions,
    mut send: impl FnMut(Request<()>, bool) -> Result<Response<Body>, ureq::Error>,
) -> Result<Response<Body>, Failure<ureq::Error>> {
    let Some(mut call) = caller.begin(&parts.method, &parts.uri, &parts.headers, options)? else {
        return send(Request::from_parts(parts, ()), false).map_err(Failure::Transport);
    };
    let (mut answer, mut anew) = (None, false);
    loop {
        match (call.step(), answer.take()) {
            (CallStep::NeedToken, _) => {
                call.token(caller.tokens.token()?);
            }
            (CallStep::Wait(until), _) => {
                let (bell, timer) = call.wait(until);
                let _ = bell.wait_timeout(timer);
            }
            (CallStep::Send, _) => {
                let mut next = Request::from_parts(parts.clone(), ());
                call.authorize(next.headers_mut());
                match send(next, anew) {
                    Ok(head) => {
                        // The token was not sent to the URL to which a redirect led.
                        let redirected = head.get_redirect_history().is_some_and(|history| history.len() > 1);
                        call.answered(head.status(), head.headers(), Some(&parts.uri).filter(|_| !redirected));
                        answer = Some(head);
                    }
                    Err(ureq::Error::Io(cause)) if call.failed(is_unanswered(&cause)) => anew = true,
                    Err(error) => return Err(Failure::Transport(error)),
                }
            }
            (CallStep::Look, Some(refused)) => {
                call.looked(&look(refused), |token| caller.tokens.reject(token));
            }
            (CallStep::Deliver, Some(answer)) => return Ok(answer),
            (CallStep::Fail(error), _) => return Err(error.into()),
            (_, None) => return Err(Passage::lost().into()),
        }
    }
}

/// The settings of every request. A refusal is read before it becomes an error. A redirect is followed without the
/// token, because ureq could only send it to every port of the same host. No proxy carries an unencrypted token off
/// this machine.
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

/// The request, on a new connection if it is sent `anew`.
pub(crate) fn on_connection<S: AsSendBody>(agent: &Agent, request: Request<S>, anew: bool) -> Request<S> {
    if anew { agent.configure_request(request).max_idle_age(Duration::ZERO).build() } else { request }
}

/// Lets a long body wait until the server has agreed to take it, for a second at the most (RFC 9110, section 10.1.1).
pub(crate) fn expect_consent<S>(request: &mut Request<S>) {
    request.headers_mut().entry(EXPECT).or_insert(HeaderValue::from_static("100-continue"));
}

/// Whether requests of this method state the length of their body even if it is zero (RFC 9110, section 8.6).
pub(crate) fn expects_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Reads the part of an answer that the call looks at. If the body cannot be read, what was read so far is used
/// together with the status.
///
/// ureq ends a read only after the time limit of its agent, if there is one, and that limit is meant for bodies that
/// are delivered. So a thread reads. If nothing comes, nobody waits for the thread any more, and it ends with its
/// connection.
fn look(answer: Response<Body>) -> Response<Vec<u8>> {
    let (parts, body) = answer.into_parts();
    let (sender, pieces) = mpsc::channel();
    let read = move || {
        let (mut reader, mut piece) = (body.into_reader().take(Call::LOOK as u64), [0; 1024]);
        while let Ok(read @ 1..) = reader.read(&mut piece)
            && sender.send(piece[..read].to_vec()).is_ok()
        {}
    };
    // If the system has no free thread, nothing is read.
    let _ = thread::Builder::new().name("alvys-auth-look".to_owned()).spawn(read);
    let (started, mut body) = (Instant::now(), Vec::new());
    while let Ok(piece) = pieces.recv_timeout(LOOK_TIME.saturating_sub(started.elapsed())) {
        body.extend(piece);
    }
    Response::from_parts(parts, body)
}
