//! One connection: requests in, answers out, and when it is of no more use.

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
use http::{Method, Request};
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
use crate::door::Door;
use crate::listen::Stream;
use crate::metrics::count;
use crate::proxy::Inner;

/// How long a connection without a call may go on without a byte once the shutdown has begun.
const GRACE: Duration = Duration::from_secs(1);

pub(crate) struct Connection {
    pub(crate) inner: Arc<Inner>,
    pub(crate) door: Door,
    pub(crate) builder: Builder<TokioExecutor>,
    /// Says true once the shutdown has begun.
    pub(crate) ending: watch::Receiver<bool>,
}

/// What goes on at a connection.
#[derive(Debug)]
struct Activity {
    asked: AtomicBool,
    /// Calls whose answers are not yet handed over in full.
    calls: AtomicUsize,
    /// Whether there are bytes to be sent that the client does not take.
    blocked: AtomicBool,
    /// When the last byte went in or out.
    last: AtomicU64,
}

/// A call under way, for as long as it lives.
#[derive(Debug)]
struct Call(Arc<Activity>);

/// The body of a call's answer.
struct Held {
    answer: Answer,
    _call: Call,
}

/// The bytes of a connection, watched.
struct Watched<T> {
    io: T,
    activity: Arc<Activity>,
}

impl Connection {
    pub(crate) async fn accepted(self, stream: Stream, watcher: Watcher) {
        match stream {
            Stream::Tcp(stream) => {
                // Events are small and must not wait for each other.
                if let Err(error) = stream.set_nodelay(true) {
                    debug!(target: "alvys_auth", %error, "a connection is gone already");
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
            // First, so that what a call left to be sent was tried before the others look.
            biased;
            result = &mut connection => {
                if let Err(error) = result {
                    // Answered by a bare status: there is no request that could be told of.
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

    /// Ends when nothing was asked in time: the time limits of the protocols begin once it is known which one is spoken.
    async fn unused(&self, limit: Duration) {
        tokio::time::sleep(limit).await;
        if self.asked.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
    }

    /// Ends when the shutdown has begun and the connection is of no more use: no call is under way, and nothing moves.
    async fn ended(&self, mut ending: watch::Receiver<bool>) {
        // The other end being gone is an end too.
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
