//! The body of an answer: made by the proxy, or streamed from the API.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use crate::places::Place;

/// The body that is sent to the client.
#[derive(Debug)]
pub(crate) enum Answer {
    Full(Full<Bytes>),
    /// The place is free again when the body has ended, or when the client no longer reads it.
    Streamed(reqwest::Body, #[expect(dead_code, reason = "held until it is dropped")] Place),
    /// A long page of the proxy.
    Page(Full<Bytes>, #[expect(dead_code, reason = "held until it is dropped")] Place),
}

impl Answer {
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Full::new(bytes.into()))
    }

    /// The body for the answer to a HEAD request. hyper leaves the body out on HTTP/1.1, but not on HTTP/2.
    pub(crate) fn of_head(mut response: Response<Self>) -> Response<Self> {
        if let Self::Full(body) | Self::Page(body, _) = response.body()
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
            Self::Full(body) | Self::Page(body, _) => {
                Pin::new(body).poll_frame(context).map_err(|never| match never {})
            }
            Self::Streamed(body, _) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(body) | Self::Page(body, _) => body.is_end_stream(),
            Self::Streamed(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(body) | Self::Page(body, _) => body.size_hint(),
            Self::Streamed(body, _) => body.size_hint(),
        }
    }
}
