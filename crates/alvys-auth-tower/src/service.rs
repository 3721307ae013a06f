//! The service: the loop around one authorized call.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use alvys_auth_core::{Call, CallOptions, Error, Token, Verdict};
use alvys_auth_driver::{AsyncTokens, LOOK_TIME, events, judge};
use http::{HeaderMap, Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use tower_service::Service;

use crate::AuthorizeLayer;
use crate::layer::Caller;

/// What a service of any kind may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A service whose requests are authorized; made by [`AuthorizeLayer`].
///
/// A request that carries an `Authorization` of its own is sent as it is. [`CallOptions`] are taken from the request's
/// extensions. Errors of this library arrive boxed and can be downcast to [`Error`].
pub struct Authorize<S, T, B> {
    pub(crate) inner: S,
    pub(crate) layer: AuthorizeLayer<T, B>,
}

impl<S, T, B, A> Service<Request<B>> for Authorize<S, T, B>
where
    S: Service<Request<B>, Response = Response<A>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    T: AsyncTokens + 'static,
    B: Send + 'static,
    A: Body + Send + Unpin + 'static,
    A::Data: Send,
{
    type Response = Response<A>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<A>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that is ready goes along; a clone takes its place and becomes ready in its own time.
        let next = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, next);
        let layer = self.layer.clone();
        Box::pin(async move { call(inner, &layer, request).await })
    }
}

async fn call<S, T, B, A>(
    mut inner: S,
    layer: &AuthorizeLayer<T, B>,
    mut request: Request<B>,
) -> Result<Response<A>, BoxError>
where
    S: Service<Request<B>, Response = Response<A>>,
    S::Error: Into<BoxError>,
    T: AsyncTokens,
    A: Body + Unpin,
{
    let caller = &*layer.caller;
    let mut options = request.extensions().get::<CallOptions>().cloned().unwrap_or_default();
    let mut copy = (layer.copy)(request.body());
    if copy.is_none() {
        options = options.single_use_body();
    }
    let uri = request.uri().clone();
    let Some(mut call) = caller.api.call(request.method(), &uri, request.headers(), options)? else {
        events::left_alone(uri.host());
        return inner.call(request).await.map_err(Into::into);
    };
    loop {
        let token = caller.authorize(&mut call, request.headers_mut()).await?;
        let (parts, body) = request.into_parts();
        let again = copy.map(|copy| Request::from_parts(parts.clone(), copy));
        let answer = inner.call(Request::from_parts(parts, body)).await.map_err(Into::into)?;
        if call.delivers(answer.status(), answer.headers(), &uri) {
            return Ok(answer);
        }
        let answer = look(answer).await;
        match judge(&mut call, &answer, &token, |token| caller.tokens.reject(token), caller.pace.as_ref()) {
            Verdict::Fail(error) => return Err(error.into()),
            Verdict::Repeat { after } => tokio::time::sleep(after).await,
        }
        let Some(again) = again else {
            return Err(Error::configuration("the body cannot be sent again", "call again").into());
        };
        copy = (layer.copy)(again.body());
        request = again;
        std::future::poll_fn(|context| inner.poll_ready(context)).await.map_err(Into::into)?;
    }
}

impl<T: AsyncTokens> Caller<T> {
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

/// Reads as much of an answer as is looked at. What cannot be read is missing, and the status then has to do.
async fn look<A: Body + Unpin>(answer: Response<A>) -> Response<Vec<u8>> {
    use bytes::Buf;

    let (parts, mut body) = answer.into_parts();
    let mut looked = Vec::new();
    let read = async {
        while looked.len() < Call::LOOK
            && let Some(Ok(frame)) = body.frame().await
        {
            if let Ok(mut data) = frame.into_data() {
                while data.has_remaining() {
                    let chunk = data.chunk();
                    looked.extend_from_slice(chunk);
                    let read = chunk.len();
                    data.advance(read);
                }
            }
        }
    };
    let _ = tokio::time::timeout(LOOK_TIME, read).await;
    looked.truncate(Call::LOOK);
    Response::from_parts(parts, looked)
}

impl<S: Clone, T, B> Clone for Authorize<S, T, B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S: fmt::Debug, T, B> fmt::Debug for Authorize<S, T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorize").field("inner", &self.inner).field("layer", &self.layer).finish()
    }
}
