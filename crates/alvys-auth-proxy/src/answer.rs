//! The body of an answer: one of the proxy's own, or what the API sends, as it comes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tokio::sync::OwnedSemaphorePermit;

/// A body on its way to the client.
#[derive(Debug)]
pub(crate) enum Answer {
    Full(Full<Bytes>),
    /// The slot is given back when the body has ended or nobody reads it any more.
    Streamed(reqwest::Body, #[expect(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit),
}

impl Answer {
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Full::new(bytes.into()))
    }

    /// What is left of it where the request was a HEAD: HTTP/1.1 leaves the body out by itself, HTTP/2 sends what it is given.
    pub(crate) fn of_head(mut response: Response<Self>) -> Response<Self> {
        if let Self::Full(body) = response.body()
            && let Some(length) = body.size_hint().exact()
        {
            response.headers_mut().insert(CONTENT_LENGTH, length.into());
            *response.body_mut() = Self::full(Bytes::new());
        }
        response
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = reqwest::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, reqwest::Error>>> {
        match &mut *self {
            Self::Full(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Self::Streamed(body, _) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(body) => body.is_end_stream(),
            Self::Streamed(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(body) => body.size_hint(),
            Self::Streamed(body, _) => body.size_hint(),
        }
    }
}
