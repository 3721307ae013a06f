//! One connection: reads requests, writes answers, and ends when it is no longer used or no longer read.

use std::pin::pin;
use std::sync::Arc;

use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::Watcher;
use tokio::sync::watch;
use tracing::debug;

use crate::activity::{Activity, Call};
use crate::answer::Answer;
use crate::door::{self, Door};
use crate::guesses::TooManyGuesses;
use crate::held::Held;
use crate::listen::Stream;
use crate::metrics::count;
use crate::problem::Problem;
use crate::proxy::Inner;
use crate::route::{Page, Route, Target};
use crate::socket::{Socket, Watched};
use crate::upload::Source;

pub(crate) struct Connection {
    pub(crate) inner: Arc<Inner>,
    pub(crate) door: Door,
    pub(crate) builder: Builder<TokioExecutor>,
    pub(crate) activity: Arc<Activity>,
    /// True when the shutdown has begun.
    pub(crate) ending: watch::Receiver<bool>,
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
                self.serve(stream, watcher).await;
            }
            #[cfg(unix)]
            Stream::Unix(stream) => self.serve(stream, watcher).await,
        }
    }

    async fn serve(self, socket: impl Socket + Send + 'static, watcher: Watcher) {
        let Self { inner, door, builder, activity, ending } = self;
        let idle = inner.settings.idle;
        let turning_away = Arc::clone(&inner);
        let service = service_fn({
            let activity = Arc::clone(&activity);
            move |request: Request<Incoming>| {
                let call = activity.call(request.version() == Version::HTTP_2);
                let inner = Arc::clone(&inner);
                let is_head = request.method() == Method::HEAD;
                let request = request.map(|body| Source::new(body, &activity));
                async move {
                    let (answer, call) = inner.answer(door, request, call).await?;
                    let answer = if is_head { Answer::of_head(answer) } else { answer };
                    Ok::<_, TooManyGuesses>(answer.map(|answer| Held::new(answer, call)))
                }
            }
        });
        let io = TokioIo::new(Watched::new(socket, Arc::clone(&activity)));
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
            () = activity.left() => debug!(target: "alvys_auth", "an idle connection made room for another one"),
            () = activity.unused(idle) => {}
            () = activity.unread(idle) => turning_away.watch.cut(),
            () = activity.ended(ending) => {}
        }
    }
}

impl Inner {
    /// Answers one request.
    async fn answer(
        &self,
        door: Door,
        request: Request<Source>,
        call: Call,
    ) -> Result<(Response<Answer>, Option<Call>), TooManyGuesses> {
        if door == Door::Health {
            let answer = match Page::at(request.uri().path()) {
                Some(page @ (Page::Health | Page::Ready | Page::Metrics)) => self.page(page, &request, None).await,
                _ => Problem::not_found().into_response(),
            };
            return Ok((answer, Some(call)));
        }
        let route =
            door::check(&self.settings, door, &request).and_then(|()| Route::of(request.uri(), request.headers()));
        match route {
            Err(problem) => {
                self.watch.turned_away(&problem);
                if problem.is_guess() {
                    // The answer to a wrong key waits. Meanwhile the connection counts as idle and can make room for
                    // others.
                    drop((request, call));
                    self.guesses.slow().await?;
                    return Ok((problem.into_response(), None));
                }
                Ok((problem.into_response(), Some(call)))
            }
            Ok(route) => {
                let answer = match route.target {
                    Target::Page(page) => self.page(page, &request, Some(&route)).await,
                    Target::Api(_) | Target::Mcp(_) => self.forward(request, route).await,
                };
                Ok((answer, Some(call)))
            }
        }
    }
}
