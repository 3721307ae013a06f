//! A token endpoint on this machine that does next to nothing.
//!
//! The sandbox signs every token, which takes longer than the work that is measured here. This one sends what it was given,
//! keeps connections alive and counts.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::oneshot;

use crate::input;

/// What one request is answered with.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    content_type: &'static str,
    body: String,
    after: Duration,
    /// Resets the connection instead.
    reset: bool,
}

impl Reply {
    fn json(status: u16, body: impl Into<String>) -> Self {
        Self { status, content_type: "application/json", body: body.into(), after: Duration::ZERO, reset: false }
    }

    /// A token that lives `lifetime` seconds.
    #[must_use]
    pub fn token(lifetime: u64) -> Self {
        Self::json(200, input::answer_body(lifetime))
    }

    /// A refusal of the credentials, as the current flow words it.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::json(401, r#"{"error":"access_denied","error_description":"Unauthorized"}"#)
    }

    /// The endpoint is out of order.
    #[must_use]
    pub fn unavailable() -> Self {
        Self::json(503, r#"{"error":"temporarily_unavailable"}"#)
    }

    /// Too many requests, without a word on how long to wait.
    #[must_use]
    pub fn too_many() -> Self {
        Self::json(429, r#"{"error":"too_many_requests"}"#)
    }

    /// A page for people, as a proxy or a bot check sends it, with the status of a success.
    #[must_use]
    pub fn page() -> Self {
        let body = "<!DOCTYPE html><title>One moment</title>";
        Self { content_type: "text/html", ..Self::json(200, body) }
    }

    /// No answer: the connection is reset.
    #[must_use]
    pub fn reset() -> Self {
        Self { reset: true, ..Self::json(200, "") }
    }

    /// Sent only after this time.
    #[must_use]
    pub fn after(mut self, latency: Duration) -> Self {
        self.after = latency;
        self
    }

    fn render(&self) -> Vec<u8> {
        let Self { status, content_type, body, .. } = self;
        format!(
            "HTTP/1.1 {status} -\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\ncache-control: no-store\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

/// A running server; stops when dropped.
#[derive(Debug)]
pub struct Loopback {
    address: SocketAddr,
    traffic: Arc<Traffic>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Loopback {
    /// Answers every request alike.
    ///
    /// # Panics
    /// When the machine has no thread or no socket to spare.
    #[must_use]
    pub fn start(reply: Reply) -> Self {
        Self::scripted(move |_| reply.clone())
    }

    /// Answers the request with the given number, counted from 0, as `script` says.
    ///
    /// # Panics
    /// When the machine has no thread or no socket to spare.
    #[must_use]
    pub fn scripted(script: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket without blocking");
        let address = listener.local_addr().expect("a bound socket");
        let traffic = Arc::new(Traffic::default());
        let (stop, stopped) = oneshot::channel();
        let (counter, script) = (Arc::clone(&traffic), Arc::new(script));
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listening socket");
                tokio::select! {
                    () = accept(listener, counter, script) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, traffic, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of the token endpoint.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/oauth/token", self.address)
    }

    /// How many requests have arrived.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.traffic.received.load(Ordering::SeqCst)
    }

    /// How many requests were there at a time, from the arrival of one until its answer is sent.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.traffic.most.load(Ordering::SeqCst)
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

#[derive(Debug, Default)]
struct Traffic {
    received: AtomicUsize,
    present: AtomicUsize,
    most: AtomicUsize,
}

type Script = dyn Fn(usize) -> Reply + Send + Sync;

async fn accept(listener: TcpListener, traffic: Arc<Traffic>, script: Arc<Script>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (traffic, script) = (Arc::clone(&traffic), Arc::clone(&script));
        // A connection ends when its client leaves; nobody else needs to know.
        tokio::spawn(async move { drop(serve(stream, &traffic, &*script).await) });
    }
}

async fn serve(mut stream: TcpStream, traffic: &Traffic, script: &Script) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let length = loop {
            if let Some(length) = request_length(&buffer).filter(|length| buffer.len() >= *length) {
                break length;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        buffer.drain(..length);
        let present = traffic.present.fetch_add(1, Ordering::SeqCst) + 1;
        traffic.most.fetch_max(present, Ordering::SeqCst);
        let reply = script(traffic.received.fetch_add(1, Ordering::SeqCst));
        if !reply.after.is_zero() {
            tokio::time::sleep(reply.after).await;
        }
        traffic.present.fetch_sub(1, Ordering::SeqCst);
        if reply.reset {
            return stream.set_zero_linger();
        }
        stream.write_all(&reply.render()).await?;
    }
}

/// How long the request at the front of `bytes` is, once its head has arrived.
fn request_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    Some(head + length.unwrap_or_default())
}
