//! The loop around one authorized call: token and turn, send, judge.

use alvys_auth_core::{Api, Call, CallOptions, Error, Token, Verdict};
use alvys_auth_driver::{LOOK_TIME, Pace, events, judge};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Uri};
use reqwest::{Request, Response, Url};

use crate::TokenSource;

/// What authorizes calls: whose tokens, where to, how fast.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) tokens: TokenSource,
    pub(crate) api: Api,
    pub(crate) pace: Option<Pace>,
}

/// Something that sends a request once.
pub(crate) trait Exchange {
    type Error: Send;

    fn send(&mut self, request: Request) -> impl Future<Output = Result<Response, Self::Error>> + Send;
}

/// Why a call has no answer.
pub(crate) enum Failure<E> {
    /// Decided here.
    Call(Error),
    /// The request could not be sent, or its answer not be received.
    Transport(E),
}

impl<E> From<Error> for Failure<E> {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

impl Caller {
    pub(crate) async fn call<X: Exchange>(
        &self,
        mut request: Request,
        options: CallOptions,
        mut client: X,
    ) -> Result<Response, Failure<X::Error>> {
        let uri = to_uri(request.url())?;
        let streamed = request.body().is_some_and(|body| body.as_bytes().is_none());
        let options = if streamed { options.single_use_body() } else { options };
        let Some(mut call) = self.api.call(request.method(), &uri, request.headers(), options)? else {
            events::left_alone(uri.host());
            return client.send(request).await.map_err(Failure::Transport);
        };
        state_empty_body(&mut request);
        loop {
            let token = self.authorize(&mut call, request.headers_mut()).await?;
            let copy = request.try_clone();
            let mut answer = client.send(request).await.map_err(Failure::Transport)?;
            let answered_by = to_uri(answer.url())?;
            if call.delivers(answer.status(), answer.headers(), &answered_by) {
                return Ok(answer);
            }
            let answer = look(&mut answer).await;
            match judge(&mut call, &answer, &token, |token| self.tokens.reject(token), self.pace.as_ref()) {
                Verdict::Fail(error) => return Err(error.into()),
                Verdict::Repeat { after } => tokio::time::sleep(after).await,
            }
            let Some(copy) = copy else {
                return Err(Error::configuration("a streamed body cannot be sent again", "call again").into());
            };
            request = copy;
        }
    }

    /// Waits for a token and for the turn, and puts the token on the request.
    ///
    /// The token is taken anew before each look at the queue: what was held a moment ago may have been rejected since. And
    /// nothing is waited for between the turn and the request, or all whose turn has come would go at once afterwards.
    async fn authorize(&self, call: &mut Call, headers: &mut HeaderMap) -> Result<Token, Error> {
        let mut turn = self.pace.as_ref().map(|pace| pace.turn(&call.endpoint()));
        loop {
            let token = self.tokens.token().await?;
            call.authorize(&token, headers)?;
            let Some(turn) = &mut turn else { return Ok(token) };
            let Some(wait) = turn.hold(call)? else { return Ok(token) };
            tokio::time::sleep(wait).await;
        }
    }
}

/// Says that there is no body where one is expected; servers refuse such a request otherwise (411), and reqwest leaves it out.
fn state_empty_body(request: &mut Request) {
    let expected = [Method::POST, Method::PUT, Method::PATCH].contains(request.method());
    if expected && request.body().is_none() && !request.headers().contains_key(TRANSFER_ENCODING) {
        request.headers_mut().entry(CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
    }
}

/// Reads as much of an answer as is looked at. What cannot be read is missing, and the status then has to do.
async fn look(answer: &mut Response) -> http::Response<Vec<u8>> {
    let mut body = Vec::new();
    let read = async {
        while body.len() < Call::LOOK
            && let Ok(Some(chunk)) = answer.chunk().await
        {
            body.extend_from_slice(&chunk);
        }
    };
    let _ = tokio::time::timeout(LOOK_TIME, read).await;
    body.truncate(Call::LOOK);
    let mut looked = http::Response::new(body);
    *looked.status_mut() = answer.status();
    *looked.headers_mut() = std::mem::take(answer.headers_mut());
    looked
}

/// reqwest has checked the URL more strictly than `http` does, so that this fails in theory only.
fn to_uri(url: &Url) -> Result<Uri, Error> {
    url.as_str().parse().map_err(|_| Error::configuration("the URL cannot be called", "correct its host or path"))
}
