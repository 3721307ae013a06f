//! Which connections the async driver uses again, and which it does not.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use alvys_auth_core::{Api, Flow};
use alvys_auth_reqwest::{Client, Tenants, TokenSource};
use alvys_auth_sandbox::Sandbox;
use alvys_auth_tests::{Settings, async_tokens};
use reqwest::dns::{Name, Resolve, Resolving};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{advance, pause, resume, timeout};

/// Much less than any time limit of the driver.
const SOON: Duration = Duration::from_secs(4);

fn start() -> Sandbox {
    Sandbox::start().expect("a sandbox")
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Passes connections on to a sandbox and counts them.
struct Front {
    token_url: String,
    connections: Arc<AtomicUsize>,
}

impl Front {
    fn start(sandbox: &Sandbox) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = listener.local_addr().expect("an address").to_string();
        let behind = sandbox.url().trim_start_matches("http://").to_owned();
        let connections = Arc::new(AtomicUsize::new(0));
        let front = Self { token_url: format!("http://{address}/oauth/token"), connections: Arc::clone(&connections) };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                connections.fetch_add(1, Ordering::SeqCst);
                let server = TcpStream::connect(&behind).expect("the sandbox");
                pass(client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
                pass(server, client);
            }
        });
        front
    }

    fn source(&self, sandbox: &Sandbox) -> TokenSource {
        let settings = Settings::current(sandbox);
        TokenSource::new(Flow::current().endpoint(&self.token_url), settings.credentials).expect("acceptable settings")
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}

#[tokio::test]
async fn token_requests_that_follow_soon_share_a_connection() {
    let sandbox = start();
    let front = Front::start(&sandbox);
    let source = front.source(&sandbox);
    for _ in 0..5 {
        source.invalidate();
        source.token().await.expect("a token");
    }
    assert_eq!((sandbox.token_requests(), front.connections()), (5, 1));
}

#[tokio::test]
async fn a_wave_of_tenants_shares_a_connection() {
    let sandbox = start();
    let front = Front::start(&sandbox);
    let (url, settings) = (front.token_url.clone(), Settings::current(&sandbox));
    let provider = move |_: &str| Ok(Some((Flow::current().endpoint(&url), settings.credentials.clone())));
    let tenants = Tenants::builder(provider).without_organization_guard().build();
    for tenant in 0..20 {
        tenants.token(&tenant.to_string()).await.expect("a token");
    }
    assert_eq!((sandbox.token_requests(), front.connections()), (20, 1));
}

#[tokio::test]
async fn a_token_request_uses_no_connection_that_the_server_may_have_closed() {
    let sandbox = start();
    let front = Front::start(&sandbox);
    let source = front.source(&sandbox);
    source.token().await.expect("a token");
    pause();
    advance(Duration::from_millis(2_001)).await;
    resume();
    source.invalidate();
    source.token().await.expect("a token");
    assert_eq!((sandbox.token_requests(), front.connections()), (2, 2));
}

#[test]
fn a_runtime_that_rests_keeps_no_other_from_being_served() {
    let sandbox = start();
    let tokens = async_tokens(&sandbox);
    let client = Client::new(tokens.clone(), Api::at(&sandbox.api_url()).expect("an API")).expect("a client");
    let (used, is_used) = channel();
    let (end, ended) = channel::<()>();
    let mine = client.clone();
    let resting = thread::spawn(move || {
        current_thread().block_on(async {
            let answer = mine.get("loads").send().await.expect("an answer");
            answer.bytes().await.expect("its body");
            used.send(()).expect("a test that listens");
            // Nothing else runs in this runtime now.
            let _ = ended.recv();
        });
    });
    is_used.recv().expect("a first call");
    tokens.invalidate();
    let soon = async { timeout(SOON, client.get("loads").send()).await };
    let answer = Runtime::new().expect("a runtime").block_on(soon).expect("no wait for the other runtime");
    assert_eq!(answer.expect("an answer").status(), 200);
    assert_eq!(sandbox.token_requests(), 2);
    drop(end);
    resting.join().expect("no panic");
}

/// Looks nothing up; tells by its count how many HTTP clients there are.
#[derive(Clone)]
struct Counted(#[expect(dead_code, reason = "held for its count")] Arc<()>);

impl Resolve for Counted {
    fn resolve(&self, _: Name) -> Resolving {
        Box::pin(async { Err("the endpoints are addresses".into()) })
    }
}

#[test]
fn the_http_clients_of_a_runtime_end_with_it() {
    let sandbox = start();
    let counted = Arc::new(());
    let http = || {
        let resolver = Counted(Arc::clone(&counted));
        move || reqwest::Client::builder().dns_resolver(resolver.clone())
    };
    // Beside this one and that of the closure.
    let clients = || Arc::strong_count(&counted) - 2;
    let settings = Settings::current(&sandbox);
    let source = TokenSource::builder(settings.flow, settings.credentials).http(http()).build().expect("a source");
    let uses = |runtime: &Runtime| {
        source.invalidate();
        runtime.block_on(source.token()).expect("a token");
    };
    let (one, other) = (current_thread(), Runtime::new().expect("a runtime"));
    uses(&one);
    uses(&other);
    uses(&one);
    assert_eq!(clients(), 2, "one for each runtime");
    drop(one);
    assert_eq!(clients(), 1, "the first runtime has ended");
    for _ in 0..5 {
        uses(&current_thread());
    }
    assert_eq!(clients(), 1, "the others have ended too");
    drop(source);
    other.block_on(tokio::task::yield_now());
    drop(other);
    assert_eq!(Arc::strong_count(&counted), 1);
}

#[test]
fn a_source_that_is_dropped_leaves_no_task_behind() {
    let sandbox = start();
    let runtime = current_thread();
    let source = async_tokens(&sandbox);
    runtime.block_on(source.token()).expect("a token");
    drop(source);
    runtime.block_on(async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(runtime.metrics().num_alive_tasks(), 0);
}
