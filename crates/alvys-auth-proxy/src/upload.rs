//! The body of a request. A short one is kept, so that it can be sent again. A long one is streamed.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use alvys_auth_core::Timestamp;
use alvys_auth_driver::Time;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep};

use crate::activity::{Activity, Sending};
use crate::places::Place;
use crate::problem::Problem;
use crate::settings::Settings;

/// How long the proxy reads on in a body that is no longer needed.
const LINGER: Duration = Duration::from_secs(2);

/// The body of a request: none, kept in memory, or streamed.
#[derive(Debug)]
pub(crate) enum Upload {
    None,
    Held(Bytes, Place),
    Streamed(Stream),
}

/// The body of a request as it comes from the client.
#[derive(Debug)]
pub(crate) struct Source {
    body: Incoming,
    /// None after the end of the body.
    sending: Option<Sending>,
}

/// The rest of a long body, in pieces as they arrive.
pub(crate) struct Stream {
    first: Bytes,
    /// None after the end of the body.
    rest: Option<Source>,
    left: u64,
    idle: Duration,
    timer: Pin<Box<Sleep>>,
    waiting: bool,
    lingers: bool,
    progress: Arc<Progress>,
}

/// The progress of a body. The time limit for the answer counts from its last byte.
#[derive(Debug)]
pub(crate) struct Progress {
    last: AtomicU64,
    failure: OnceLock<Failure>,
}

/// Why a body is not complete. The client is always the cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    TooLong,
    Stalled,
    Broken,
}

impl Upload {
    /// Reads a body: all of it when it is short and `memory` has room for it.
    ///
    /// `lingers` says that the client sends the body without waiting for a `100 Continue`.
    pub(crate) async fn take(
        body: Source,
        lingers: bool,
        settings: &Settings,
        progress: &Arc<Progress>,
        memory: Place,
    ) -> Result<Self, Failure> {
        if body.is_end_stream() {
            return Ok(Self::None);
        }
        let declared = body.size_hint().exact();
        if declared.is_some_and(|length| length > settings.longest_body) {
            if lingers {
                linger(body);
            }
            return Err(Failure::TooLong);
        }
        let long = declared.is_some_and(|length| length > settings.longest_replayed as u64);
        let stream = Stream {
            first: Bytes::new(),
            rest: Some(body),
            left: settings.longest_body,
            idle: settings.idle,
            timer: Box::pin(tokio::time::sleep(settings.idle)),
            waiting: false,
            lingers,
            progress: Arc::clone(progress),
        };
        if long {
            return Ok(Self::Streamed(stream));
        }
        // A short body must arrive within one idle time, so that a client cannot send it byte by byte for hours.
        let held = tokio::time::timeout(settings.idle, stream.hold(settings.longest_replayed, memory)).await;
        held.unwrap_or(Err(Failure::Stalled))
    }
}

impl Stream {
    /// Reads up to `most` bytes, if there is memory for them. A longer body becomes a stream.
    async fn hold(mut self, most: usize, mut memory: Place) -> Result<Upload, Failure> {
        let mut held = BytesMut::new();
        while let Some(frame) = self.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            held.extend_from_slice(&data);
            if held.len() > most || !memory.grow(data.len()) {
                self.first = held.freeze();
                return Ok(Upload::Streamed(self));
            }
        }
        Ok(Upload::Held(held.freeze(), memory))
    }

    fn fail(&self, failure: Failure) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        // Only the first failure is kept.
        let _ = self.progress.failure.set(failure);
        Poll::Ready(Some(Err(failure)))
    }
}

impl Source {
    pub(crate) fn new(body: Incoming, activity: &Arc<Activity>) -> Self {
        let sending = (!body.is_end_stream()).then(|| activity.upload());
        Self { body, sending }
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Some(sending) = &self.sending {
            sending.is_starved(polled.is_pending());
        }
        let frame = ready!(polled);
        if frame.is_none() || self.body.is_end_stream() {
            self.sending = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        self.progress.note();
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))));
        }
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(rest).poll_frame(context) else {
            // Counted from the moment when the proxy waits for the client. Before, it waited for the API.
            if !std::mem::replace(&mut self.waiting, true) {
                let until = Instant::now() + self.idle;
                self.timer.as_mut().reset(until);
            }
            ready!(self.timer.as_mut().poll(context));
            return self.fail(Failure::Stalled);
        };
        self.waiting = false;
        match frame {
            None => {
                self.rest = None;
                Poll::Ready(None)
            }
            Some(Err(_)) => self.fail(Failure::Broken),
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                match self.left.checked_sub(length) {
                    Some(left) => {
                        self.left = left;
                        Poll::Ready(Some(Ok(frame)))
                    }
                    None => self.fail(Failure::TooLong),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        // A long body with a declared length is streamed without keeping its first bytes, so the declared length is the
        // length of the rest.
        match &self.rest {
            Some(rest) if self.first.is_empty() => rest.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

impl Drop for Stream {
    /// Reads on where the answer came before the end of the body, or where there will be no answer.
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take_if(|rest| self.lingers && !rest.is_end_stream()) {
            linger(rest);
        }
    }
}

/// Reads on for a moment. If the proxy closed the connection while a body arrives, the system would reset it, and the
/// client might not see the answer.
fn linger(mut body: Source) {
    let Ok(runtime) = Handle::try_current() else { return };
    runtime.spawn(tokio::time::timeout(LINGER, async move { while let Some(Ok(_)) = body.frame().await {} }));
}

impl Progress {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { last: AtomicU64::new(Time::boot().now().as_millis()), failure: OnceLock::new() })
    }

    pub(crate) fn note(&self) {
        self.last.store(Time::boot().now().as_millis(), Ordering::Relaxed);
    }

    /// The rest of `limit`, counted from the last byte that was requested.
    pub(crate) fn left(&self, limit: Duration) -> Duration {
        let last = Timestamp::from_millis(self.last.load(Ordering::Relaxed));
        last.saturating_add(limit).saturating_duration_since(Time::boot().now())
    }

    pub(crate) fn failure(&self) -> Option<Failure> {
        self.failure.get().copied()
    }
}

impl Failure {
    pub(crate) fn problem(self) -> Problem {
        let (status, reason, hint) = match self {
            Self::TooLong => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_long",
                "send less, or raise --longest-body or Settings::longest_body",
            ),
            Self::Stalled => (StatusCode::REQUEST_TIMEOUT, "stalled", "send the body without long pauses"),
            Self::Broken => (StatusCode::BAD_REQUEST, "broken", "send the whole body, as its headers announce it"),
        };
        Problem::new(status, reason, self.to_string(), hint)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the request body is longer than this proxy accepts",
            Self::Stalled => "the client stopped sending the request body",
            Self::Broken => "the request body was broken off",
        })
    }
}

impl std::error::Error for Failure {}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("left", &self.left).finish_non_exhaustive()
    }
}
