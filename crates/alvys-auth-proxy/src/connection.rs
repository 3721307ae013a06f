//! One connection: reads requests, writes answers, and ends when it is no longer used.

use std::convert::Infallible;
use std::future::pending;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use alvys_auth_core::Timestamp;
use alvys_auth_driver::Time;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::Watcher;
use tokio::sync::watch;
use tracing::debug;

use crate::answer::Answer;
use crate::door::{self, Door};
use crate::listen::Stream;
use crate::metrics::count;
use crate::problem::Problem;
use crate::proxy::Inner;
use crate::route::{Page, Route, Target};

/// How long a connection without a call and without traffic stays open after the shutdown has begun.
const GRACE: Duration = Duration::from_secs(1);

pub(crate) struct Connection {
    pub(crate) inner: Arc<Inner>,
    pub(crate) door: Door,
    pub(crate) builder: Builder<TokioExecutor>,
    /// True when the shutdown has begun.
    pub(crate) ending: watch::Receiver<bool>,
}

/// The activity of a connection.
#[derive(Debug)]
struct Activity {
    asked: AtomicBool,
    /// The number of calls whose answers are not complete.
    calls: AtomicUsize,
    /// Whether there are bytes to send that the client does not read.
    blocked: AtomicBool,
    /// When the last byte was read or written.
    last: AtomicU64,
}

/// Counts a call in progress until it is dropped.
#[derive(Debug)]
struct Call(Arc<Activity>);

/// The body of the answer to a call.
struct Held {
    answer: Answer,
    _call: Call,
}

/// A stream that records the activity of its connection.
struct Watched<T> {
    io: T,
    activity: Arc<Activity>,
}

impl Connection {
    pub(crate) async fn accepted(self, stream: Stream, watcher: Watcher) {
        match stream {
            Stream::Tcp(stream) => {
                // Events are small, and each is to be sent at once.
                if let Err(error) = stream.set_nodelay(true) {
                    debug!(target: "alvys_auth", %error, "a connection has ended already");
                    return;
                }
                self.serve(TokioIo::new(stream), watcher).await;
            }
            #[cfg(unix)]
            Stream::Unix(stream) => self.serve(TokioIo::new(stream), watcher).await,
        }
    }

    async fn serve(self, io: impl Read + Write + Unpin + Send + 'static, watcher: Watcher) {
        let Self { inner, door, builder, ending } = self;
        let idle = inner.settings.idle;
        let activity = Activity::new();
        let turning_away = Arc::clone(&inner);
        let service = service_fn({
            let activity = Arc::clone(&activity);
            move |request: Request<Incoming>| {
                let call = Call::begin(&activity);
                let inner = Arc::clone(&inner);
                let is_head = request.method() == Method::HEAD;
                async move {
                    let answer = inner.answer(door, request).await;
                    let answer = if is_head { Answer::of_head(answer) } else { answer };
                    Ok::<_, Infallible>(answer.map(|answer| Held { answer, _call: call }))
                }
            }
        });
        let io = Watched { io, activity: Arc::clone(&activity) };
        let mut connection = pin!(watcher.watch(builder.serve_connection(io, service).into_owned()));
        tokio::select! {
            // Polled first, so that pending bytes are written before the timers look at the activity.
            biased;
            result = &mut connection => {
                if let Err(error) = result {
                    // hyper has answered with a status alone, because there is no valid request.
                    if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
                        count(&turning_away.watch.metrics.turned_away, "reason", "malformed");
                    }
                    debug!(target: "alvys_auth", %error, "a connection ended early");
                }
            }
            () = activity.unused(idle) => {}
            () = activity.ended(ending) => {}
        }
    }
}

impl Inner {
    /// Answers one request.
    async fn answer(&self, door: Door, request: Request<Incoming>) -> Response<Answer> {
        if door == Door::Health {
            return match Page::at(request.uri().path()) {
                Some(page @ (Page::Health | Page::Ready | Page::Metrics)) => self.page(page, &request, None).await,
                _ => Problem::not_found().into_response(),
            };
        }
        let route =
            door::check(&self.settings, door, &request).and_then(|()| Route::of(request.uri(), request.headers()));
        match route {
            Err(problem) => {
                self.watch.turned_away(&problem);
                problem.into_response()
            }
            Ok(route) => match route.target {
                Target::Page(page) => self.page(page, &request, Some(&route)).await,
                Target::Api(_) | Target::Mcp(_) => self.forward(request, route).await,
            },
        }
    }
}

impl Activity {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            asked: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            blocked: AtomicBool::new(false),
            last: AtomicU64::new(Time::boot().now().as_millis()),
        })
    }

    fn note(&self) {
        self.last.store(Time::boot().now().as_millis(), Ordering::Relaxed);
    }

    /// Completes when no request came in time. The time limits of the protocols only begin when the protocol is known.
    async fn unused(&self, limit: Duration) {
        tokio::time::sleep(limit).await;
        if self.asked.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
    }

    /// Completes when the shutdown has begun, no call is in progress, and no bytes are read or written.
    async fn ended(&self, mut ending: watch::Receiver<bool>) {
        // An error means that the sender was dropped, which is a shutdown too.
        let _ = ending.wait_for(|ending| *ending).await;
        self.note();
        loop {
            let last = Timestamp::from_millis(self.last.load(Ordering::Relaxed));
            let left = last.saturating_add(GRACE).saturating_duration_since(Time::boot().now());
            let busy = self.calls.load(Ordering::Acquire) > 0 || self.blocked.load(Ordering::Relaxed);
            match (busy, left.is_zero()) {
                (false, true) => return,
                (true, true) => tokio::time::sleep(GRACE).await,
                (_, false) => tokio::time::sleep(left).await,
            }
        }
    }
}

impl Call {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.asked.store(true, Ordering::Relaxed);
        activity.calls.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(activity))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.note();
        self.0.calls.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Body for Held {
    type Data = Bytes;
    type Error = reqwest::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, reqwest::Error>>> {
        Pin::new(&mut self.answer).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.size_hint()
    }
}

impl<T> Watched<T> {
    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        self.activity.blocked.store(written.is_pending(), Ordering::Relaxed);
        if written.is_ready() {
            self.activity.note();
        }
    }
}

impl<T: Read + Unpin> Read for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if read.is_ready() {
            self.activity.note();
        }
        read
    }
}

impl<T: Write + Unpin> Write for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, pieces);
        self.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
