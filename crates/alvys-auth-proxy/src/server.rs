//! Listening, one task per connection, and the end: no new ones, the ones under way may finish.

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

use crate::connection::Connection;
use crate::door::Door;
use crate::listen::{Listen, Listener, Stream};
use crate::proxy::{Inner, Proxy};
use crate::watch::{NOTICES, Subject};

/// With this many connections for calls, others wait to be accepted.
const MOST_CONNECTIONS: usize = 1024;
/// Likewise for health checks, which come through however many callers there are, and never take a caller's place.
const MOST_CHECKS: usize = 64;
/// With more headers than this, a request on HTTP/1.1 is refused, however short they are.
const MOST_HEADERS: usize = 100;
/// The rest when the system has no socket to give.
const REST: Duration = Duration::from_millis(100);
/// How long all must be well again before another failure to accept is worth a word.
const QUIET: Duration = Duration::from_secs(60);
/// How often it is looked what the tokens do by themselves.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A proxy that listens.
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
    /// A server that listens nowhere yet.
    pub fn new(proxy: Proxy) -> Self {
        Self { proxy, doors: Vec::new(), places: Vec::new() }
    }

    /// Listens for calls at one more place. Connections are accepted from now on, and answered when the server runs.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when the place is taken or not to be had, or can be
    /// reached from other machines and the settings do not allow that.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O.
    pub async fn listen(mut self, place: &Listen) -> Result<Self, Error> {
        let (listener, place) = Listener::for_calls(place, &self.proxy.0.settings).await?;
        let door = if matches!(place, Listen::Unix(_)) { Door::Unix } else { Door::Tcp };
        self.doors.push((listener, door));
        self.places.push(place);
        Ok(self)
    }

    /// Answers `/healthz`, `/readyz` and `/metrics` at one more address, to whoever asks, and nothing else there: for
    /// probes and scrapers that come from other machines.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when the address is taken or not to be had.
    pub async fn health(mut self, address: SocketAddr) -> Result<Self, Error> {
        let (listener, place) = Listener::tcp(address).await?;
        self.doors.push((listener, Door::Health));
        self.places.push(place);
        Ok(self)
    }

    /// Where it listens, in the order of the calls; ports are the real ones.
    #[must_use]
    pub fn places(&self) -> &[Listen] {
        &self.places
    }

    /// Serves until `shutdown` is done, then lets the calls under way finish, for as long as the settings say.
    ///
    /// Gives back how many connections were cut. With a single account, its token is fetched at once. Dropping the
    /// future cuts everything.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> usize {
        let Self { proxy, doors, .. } = self;
        let inner = proxy.0;
        let builder = builder(&inner);
        let graceful = GracefulShutdown::new();
        let (end, ending) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let mut calls = JoinSet::new();
        let mut checks = JoinSet::new();
        let first = Arc::clone(&inner);
        tasks.spawn(async move {
            if let Some(account) = first.accounts.sole() {
                // What comes of it is counted, and told to whoever calls next.
                let _ = first.token_of(account, &Subject::check(None, "start")).await;
            }
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                first.watch.look();
            }
        });
        let mut failed_at: Option<Instant> = None;
        let mut shutdown = pin!(shutdown);
        loop {
            let room = Room { calls: calls.len() < MOST_CONNECTIONS, checks: checks.len() < MOST_CHECKS };
            tokio::select! {
                () = &mut shutdown => break,
                Some(_) = calls.join_next() => {}
                Some(_) = checks.join_next() => {}
                (stream, door) = accept(&doors, room) => match stream {
                    Ok(stream) => {
                        let (inner, builder, ending) = (Arc::clone(&inner), builder.clone(), ending.clone());
                        let connection = Connection { inner, door, builder, ending };
                        let connections = if door == Door::Health { &mut checks } else { &mut calls };
                        connections.spawn(connection.accepted(stream, graceful.watcher()));
                    }
                    Err(error) => {
                        if failed_at.replace(Instant::now()).is_none_or(|last| last.elapsed() > QUIET) {
                            warn!(target: NOTICES, "a connection could not be accepted: {error}; more may follow");
                        }
                        tokio::time::sleep(REST).await;
                    }
                },
            }
        }
        drop(doors);
        end.send_replace(true);
        let drained = async {
            graceful.shutdown().await;
            while calls.join_next().await.is_some() {}
            while checks.join_next().await.is_some() {}
        };
        match tokio::time::timeout(inner.settings.drain_for, drained).await {
            Ok(()) => 0,
            Err(_) => {
                // Those that have ended by themselves meanwhile were not cut.
                while calls.try_join_next().is_some() {}
                while checks.try_join_next().is_some() {}
                calls.len() + checks.len()
            }
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("proxy", &self.proxy).field("places", &self.places).finish_non_exhaustive()
    }
}

/// Where more connections are taken.
#[derive(Debug, Clone, Copy)]
struct Room {
    calls: bool,
    checks: bool,
}

/// The next connection at one of the doors that have room.
async fn accept(doors: &[(Listener, Door)], room: Room) -> (io::Result<Stream>, Door) {
    poll_fn(|context| {
        let has_room = |door| if door == Door::Health { room.checks } else { room.calls };
        // The one for health checks, which comes last, is not to wait for the others.
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
        .keep_alive_interval(settings.idle)
        .keep_alive_timeout(settings.idle);
    builder
}
