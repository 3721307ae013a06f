//! The loop around one authorized call.

use alvys_auth_core::{CallOptions, CallStep, Error};
use alvys_auth_driver::{AsyncTokens, Failure, LOOK_TIME, Passage, is_unanswered, look};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Uri};
use reqwest::{Request, Response, Url};

/// What calls need: tokens, the API and the rate limits.
pub(crate) type Caller = alvys_auth_driver::Caller<Tokens>;

/// Any async source of tokens.
pub(crate) type Tokens = alvys_auth_driver::Tokens<dyn AsyncTokens>;

/// Something that sends a request once.
pub(crate) trait Exchange {
    type Error: std::error::Error + Send + Sync + 'static;

    /// Sends the request, on a new connection if it is sent `anew`.
    fn send(
        &mut self,
        request: Request,
        anew: bool,
    ) -> impl Future<Output = Result<Response, Failure<Self::Error>>> + Send;
}

pub(crate) async fn call<X: Exchange>(
    caller: &Caller,
    mut request: Request,
    options: CallOptions,
    mut client: X,
) -> Result<Response, Failure<X::Error>> {
    let streamed = request.body().is_some_and(|body| body.as_bytes().is_none());
    let options = if streamed { options.single_use_body() } else { options };
    let uri = to_uri(request.url())?;
    let Some(mut call) = caller.begin(request.method(), &uri, request.headers(), options)? else {
        return client.send(request, false).await;
    };
    state_empty_body(&mut request);
    let (mut request, mut answer, mut anew) = (Some(request), None, false);
    loop {
        match (call.step(), answer.take()) {
            (CallStep::NeedToken, _) => {
                call.token(caller.tokens.token().await?);
            }
            (CallStep::Wait(until), _) => {
                let (bell, timer) = call.wait(until);
                let _ = tokio::time::timeout(timer, bell).await;
            }
            (CallStep::Send, _) => {
                let mut next = request.take().ok_or_else(Passage::lost)?;
                request = next.try_clone();
                call.authorize(next.headers_mut());
                match client.send(next, anew).await {
                    Ok(head) => {
                        call.answered(head.status(), head.headers(), Some(&to_uri(head.url())?));
                        answer = Some(head);
                    }
                    Err(Failure::Transport(error)) if call.failed(is_unanswered(&error)) => anew = true,
                    Err(failure) => return Err(failure),
                }
            }
            (CallStep::Look, Some(refused)) => {
                let refused = look(refused.into(), tokio::time::sleep(LOOK_TIME)).await;
                call.looked(&refused, |token| caller.tokens.reject(token));
            }
            (CallStep::Deliver, Some(answer)) => return Ok(answer),
            (CallStep::Fail(error), _) => return Err(error.into()),
            (_, None) => return Err(Passage::lost().into()),
        }
    }
}

/// Says with a Content-Length that there is no body where one is expected. Servers refuse such a request without it
/// (411), and reqwest leaves it out.
fn state_empty_body(request: &mut Request) {
    let expected = [Method::POST, Method::PUT, Method::PATCH].contains(request.method());
    if expected && request.body().is_none() && !request.headers().contains_key(TRANSFER_ENCODING) {
        request.headers_mut().entry(CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
    }
}

/// reqwest has checked the URL more strictly than `http` does, so this fails only in theory.
pub(crate) fn to_uri(url: &Url) -> Result<Uri, Error> {
    url.as_str().parse().map_err(|_| Error::configuration("the URL cannot be called", "correct its host or path"))
}
