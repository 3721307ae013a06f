//! The service: the loop around one authorized call.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use alvys_auth_core::{CallOptions, CallStep};
use alvys_auth_driver::{LOOK_TIME, Passage, is_unanswered, look};
use http::{Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use crate::AuthorizeLayer;

/// The error of any service.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A service whose requests are authorized; made by [`AuthorizeLayer`].
///
/// A request that carries an `Authorization` of its own is sent as it is. [`CallOptions`] are taken from the request's
/// extensions. Errors of this library arrive boxed and can be downcast to [`Error`](crate::Error).
pub struct Authorize<S, B> {
    inner: S,
    layer: AuthorizeLayer<B>,
}

impl<S, B> Layer<S> for AuthorizeLayer<B> {
    type Service = Authorize<S, B>;

    fn layer(&self, inner: S) -> Self::Service {
        Authorize { inner, layer: self.clone() }
    }
}

impl<S, B, A> Service<Request<B>> for Authorize<S, B>
where
    S: Service<Request<B>, Response = Response<A>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
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
        // The call takes the service that is ready. A clone takes its place, and becomes ready in its own time.
        let next = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, next);
        let layer = self.layer.clone();
        Box::pin(async move { call(inner, &layer, request).await })
    }
}

async fn call<S, B, A>(
    mut inner: S,
    AuthorizeLayer { caller, copy }: &AuthorizeLayer<B>,
    request: Request<B>,
) -> Result<Response<A>, BoxError>
where
    S: Service<Request<B>, Response = Response<A>>,
    S::Error: Into<BoxError>,
    A: Body + Unpin,
{
    let options = request.extensions().get::<CallOptions>().cloned().unwrap_or_default();
    let again = copy(request.body());
    let options = if again.is_none() { options.single_use_body() } else { options };
    let uri = request.uri().clone();
    let Some(mut call) = caller.begin(request.method(), &uri, request.headers(), options)? else {
        return inner.call(request).await.map_err(Into::into);
    };
    let (parts, body) = request.into_parts();
    let (mut body, mut again, mut answer) = (Some(body), again, None);
    loop {
        match (call.step(), answer.take()) {
            (CallStep::NeedToken, _) => {
                // The service is made ready before the turn, because an answer that was looked at may have left it
                // busy.
                std::future::poll_fn(|context| inner.poll_ready(context)).await.map_err(Into::into)?;
                call.token(caller.tokens.token().await?);
            }
            (CallStep::Wait(until), _) => {
                let (bell, timer) = call.wait(until);
                let _ = tokio::time::timeout(timer, bell).await;
            }
            (CallStep::Send, _) => {
                let mut next = Request::from_parts(parts.clone(), body.take().ok_or_else(Passage::lost)?);
                call.authorize(next.headers_mut());
                body = again.take();
                again = body.as_ref().and_then(copy);
                match inner.call(next).await {
                    Ok(head) => {
                        call.answered(head.status(), head.headers(), Some(&uri));
                        answer = Some(head);
                    }
                    Err(error) => {
                        let error: BoxError = error.into();
                        if !call.failed(is_unanswered(&*error)) {
                            return Err(error);
                        }
                    }
                }
            }
            (CallStep::Look, Some(refused)) => {
                let refused = look(refused, tokio::time::sleep(LOOK_TIME)).await;
                call.looked(&refused, |token| caller.tokens.reject(token));
            }
            (CallStep::Deliver, Some(answer)) => return Ok(answer),
            (CallStep::Fail(error), _) => return Err(error.into()),
            (_, None) => return Err(Passage::lost().into()),
        }
    }
}

impl<S: Clone, B> Clone for Authorize<S, B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S: fmt::Debug, B> fmt::Debug for Authorize<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorize").field("inner", &self.inner).field("layer", &self.layer).finish()
    }
}
