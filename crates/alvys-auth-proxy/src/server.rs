//! Listens, runs one task per connection, and shuts down: no new connections, and calls in progress may finish.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use alvys_auth_core::Error;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

use crate::activity::Activity;
use crate::connection::Connection;
use crate::crowd::Crowd;
use crate::door::Door;
use crate::listen::{Listen, Listener, Stream};
use crate::proxy::{Inner, Proxy};
use crate::watch::{NOTICES, Subject};

/// The most headers of a request on HTTP/1.1.
const MOST_HEADERS: usize = 100;
/// The most calls at the same time on one HTTP/2 connection.
const MOST_STREAMS: u32 = 100;
/// How many bytes of a request, and of an answer, HTTP/2 keeps for each call.
const WINDOW: u32 = 64 * 1024;
/// The pause when the system has no socket for a new connection.
const REST: Duration = Duration::from_millis(100);
/// How long no accept may fail before the next failure is reported again.
const QUIET: Duration = Duration::from_secs(60);
/// How often the proxy looks at renewals in the background.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A server that listens for the proxy.
///
/// ```no_run
/// use alvys_auth_proxy::{Account, Api, Listen, Proxy, Server, Settings};
/// # async fn run(tokens: alvys_auth_proxy::TokenSource) -> Result<(), Box<dyn std::error::Error>> {
///
/// let proxy = Proxy::new(Account::new(tokens), Api::production(), Settings::new())?;
/// let server = Server::new(proxy).listen(&Listen::loopback(8350)).await?;
/// let cut = server.run(async { let _ = tokio::signal::ctrl_c().await; }).await;
/// println!("ended, {cut} connections were cut");
/// # Ok(())
/// # }
/// ```
#[must_use = "a server answers nothing until it runs"]
pub struct Server {
    proxy: Proxy,
    doors: Vec<(Listener, Door)>,
    places: Vec<Listen>,
}

impl Server {
    /// A server that does not listen yet.
    pub fn new(proxy: Proxy) -> Self {
        Self { proxy, doors: Vec::new(), places: Vec::new() }
    }

    /// Listens for calls at one more place. Clients can connect from now on; they get answers when the server runs.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when the place is in use or cannot be used, or when
    /// other machines can reach it and the settings do not allow that.
    ///
    /// # Panics
    /// Outside of a Tokio runtime with I/O.
    pub async fn listen(mut self, place: &Listen) -> Result<Self, Error> {
        let (listener, place) = Listener::for_calls(place, &self.proxy.0.settings).await?;
        let door = if matches!(place, Listen::Unix(_)) { Door::Unix } else { Door::Tcp };
        self.doors.push((listener, door));
        self.places.push(place);
        Ok(self)
    }

    /// Also answers `/healthz`, `/readyz` and `/metrics`, and nothing else, at this address.
    ///
    /// It is for probes and scrapers from other machines. It requires no key.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when the address is in use or cannot be used.
    pub async fn health(mut self, address: SocketAddr) -> Result<Self, Error> {
        let (listener, place) = Listener::tcp(address).await?;
        self.doors.push((listener, Door::Health));
        self.places.push(place);
        Ok(self)
    }

    /// Where the server listens, in the order of the calls. A port 0 is replaced by the real port.
    #[must_use]
    pub fn places(&self) -> &[Listen] {
        &self.places
    }

    /// Serves until `shutdown` completes. Then lets the calls in progress finish, for up to [`Settings::drain_for`](crate::Settings::drain_for).
    ///
    /// Returns how many connections did not end in time and were closed. With a single account, it requests the token at the
    /// start. Dropping the future closes all connections.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> usize {
        let Self { proxy, doors, .. } = self;
        let inner = proxy.0;
        let (builder, checking) = (builder(&inner), checks_builder(&inner));
        let graceful = GracefulShutdown::new();
        let (end, ending) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let mut calls = Crowd::new(inner.descriptors.connections);
        let mut checks = Crowd::new(inner.descriptors.checks).of_short_calls();
        let first = Arc::clone(&inner);
        tasks.spawn(async move {
            if let Some(account) = first.accounts.sole() {
                // The result needs no handling: it is counted, and the next call gets it too.
                let _ = first.token_of(account, &Subject::check(None, "start")).await;
            }
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                first.watch.look();
                first.guesses.tell();
            }
        });
        let mut failed_at: Option<Instant> = None;
        let mut shutdown = pin!(shutdown);
        loop {
            let room = Room { calls: calls.make_room(), checks: checks.make_room() };
            tokio::select! {
                () = &mut shutdown => break,
                () = calls.next_ended() => {}
                () = checks.next_ended() => {}
                () = inner.freed.notified(), if !(room.calls && room.checks) => {}
                (stream, door) = accept(&doors, room) => match stream {
                    Ok(stream) => {
                        let (builder, crowd) =
                            if door == Door::Health { (&checking, &mut checks) } else { (&builder, &mut calls) };
                        let (inner, builder, ending) = (Arc::clone(&inner), builder.clone(), ending.clone());
                        let activity = Activity::new(Arc::clone(&inner.freed));
                        let connection =
                            Connection { inner, door, builder, activity: Arc::clone(&activity), ending };
                        crowd.add(activity, connection.accepted(stream, graceful.watcher()));
                    }
                    Err(error) => {
                        if failed_at.replace(Instant::now()).is_none_or(|last| last.elapsed() > QUIET) {
                            warn!(target: NOTICES, "cannot accept a connection: {error}; more may fail");
                        }
                        calls.send_away();
                        tokio::time::sleep(REST).await;
                    }
                },
            }
        }
        drop(doors);
        end.send_replace(true);
        let drained = async {
            graceful.shutdown().await;
            calls.all_ended().await;
            checks.all_ended().await;
        };
        match tokio::time::timeout(inner.settings.drain_for, drained).await {
            Ok(()) => 0,
            Err(_) => calls.left() + checks.left(),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("proxy", &self.proxy).field("places", &self.places).finish_non_exhaustive()
    }
}

/// Which kinds of connections can still be accepted.
#[derive(Debug, Clone, Copy)]
struct Room {
    calls: bool,
    checks: bool,
}

/// The next connection of a kind that can still be accepted.
async fn accept(doors: &[(Listener, Door)], room: Room) -> (io::Result<Stream>, Door) {
    poll_fn(|context| {
        let has_room = |door| if door == Door::Health { room.checks } else { room.calls };
        // In reverse order, so that the listener for health checks, the last one, does not wait for the others.
        for (listener, door) in doors.iter().rev().filter(|(_, door)| has_room(*door)) {
            if let Poll::Ready(stream) = listener.poll_accept(context) {
                return Poll::Ready((stream, *door));
            }
        }
        Poll::Pending
    })
    .await
}

fn builder(inner: &Inner) -> Builder<TokioExecutor> {
    let settings = &inner.settings;
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.idle)
        .max_buf_size(settings.longest_head)
        .max_headers(MOST_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(settings.longest_head).unwrap_or(u32::MAX))
        .max_concurrent_streams(MOST_STREAMS)
        .initial_stream_window_size(WINDOW)
        .max_send_buf_size(WINDOW as usize)
        .keep_alive_interval(settings.idle)
        .keep_alive_timeout(settings.idle);
    builder
}

/// Connections for health checks: on HTTP/1.1, one answer each.
fn checks_builder(inner: &Inner) -> Builder<TokioExecutor> {
    let mut builder = builder(inner);
    builder.http1().keep_alive(false);
    builder
}
