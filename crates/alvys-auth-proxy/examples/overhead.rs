//! What the proxy costs: the same requests to a sandbox directly, through a bare pass-through on hyper, and through the
//! proxy, in turns of one run.
//!
//! `cargo run --release -p alvys-auth-proxy --example overhead` prints microseconds per request, one at a time, and
//! requests per second, 32 at a time. `-- serve` prints the three addresses instead and waits, for a load generator.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use alvys_auth_proxy::{Account, Api, Listen, Proxy, Server, Settings};
use alvys_auth_reqwest::{Credentials, Flow, TokenSource};
use alvys_auth_sandbox::Sandbox;
use bytes::Bytes;
use futures_util::future::try_join_all;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Either, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;

type Failed = Box<dyn Error + Send + Sync>;

const PATH: &str = "/api/p/v1/loads";
const ROUNDS: usize = 9;
const ONE_AT_A_TIME: usize = 500;
const AT_ONCE: usize = 32;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let sandbox = Sandbox::start()?;
    let application = sandbox.application();
    let credentials = Credentials::new(application.client_id(), application.client_secret())?;
    let tokens = TokenSource::new(Flow::current().endpoint(sandbox.token_url()), credentials)?;
    let header = tokens.token().await?.header().clone();

    let bare = pass_through(sandbox.address(), header.clone()).await?;
    let settings = Settings::new().most_at_once(4096);
    let proxy = Proxy::new(Account::new(tokens).unpaced(), Api::at(&sandbox.api_url())?, settings)?;
    let server = Server::new(proxy).listen(&Listen::loopback(0)).await?;
    let proxied = server.places()[0].to_string();
    tokio::spawn(server.run(std::future::pending()));

    let ways = [("direct", sandbox.url()), ("bare hyper", format!("http://{bare}")), ("alvys-auth-proxy", proxied)];
    if std::env::args().nth(1).as_deref() == Some("serve") {
        ways.iter().for_each(|(name, url)| println!("{name}: {url}{PATH}"));
        return std::future::pending().await;
    }
    let mut results = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for ((_, url), results) in ways.iter().zip(&mut results) {
            results.push(measure(&format!("{url}{PATH}").parse()?, &header).await?);
        }
    }
    println!("median of {ROUNDS} rounds, in turns");
    for ((name, _), mut results) in ways.iter().zip(results) {
        results.sort_by_key(|(alone, _)| *alone);
        let alone = results[ROUNDS / 2].0;
        results.sort_by(|(_, one), (_, other)| one.total_cmp(other));
        println!("{name:18} {:6} us a request, {:8.0} requests/s", alone.as_micros(), results[ROUNDS / 2].1);
    }
    Ok(())
}

/// Time of one request alone, and requests per second at once.
async fn measure(uri: &Uri, header: &HeaderValue) -> Result<(Duration, f64), Failed> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let began = Instant::now();
    for _ in 0..ONE_AT_A_TIME {
        get(&client, uri, header).await?;
    }
    let alone = began.elapsed() / ONE_AT_A_TIME as u32;
    let began = Instant::now();
    try_join_all((0..AT_ONCE).map(|_| async {
        for _ in 0..ONE_AT_A_TIME / 10 {
            get(&client, uri, header).await?;
        }
        Ok::<_, Failed>(())
    }))
    .await?;
    Ok((alone, (AT_ONCE * (ONE_AT_A_TIME / 10)) as f64 / began.elapsed().as_secs_f64()))
}

async fn get(client: &Client<HttpConnector, Empty<Bytes>>, uri: &Uri, header: &HeaderValue) -> Result<(), Failed> {
    let request = Request::get(uri).header("authorization", header).body(Empty::new())?;
    let answer = client.request(request).await?;
    if answer.status() != StatusCode::OK {
        return Err(format!("{uri} answers {}", answer.status()).into());
    }
    answer.into_body().collect().await?;
    Ok(())
}

/// The least that a reverse proxy does: another authority, a header, both bodies as they come.
async fn pass_through(api: SocketAddr, header: HeaderValue) -> Result<SocketAddr, Failed> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let authority: Authority = api.to_string().parse()?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Incoming>();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let mut parts = request.uri().clone().into_parts();
        (parts.scheme, parts.authority) = (Some(Scheme::HTTP), Some(authority.clone()));
        request.headers_mut().remove("host");
        request.headers_mut().insert("authorization", header.clone());
        let client = client.clone();
        async move {
            let bad = |_| Response::builder().status(502).body(Either::Right(Empty::<Bytes>::new()));
            let Ok(uri) = Uri::from_parts(parts) else { return bad(()) };
            *request.uri_mut() = uri;
            client.request(request).await.map(|answer| answer.map(Either::Left)).or_else(|_| bad(()))
        }
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let _: Result<(), Failed> =
                    Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
        Ok::<_, Infallible>(())
    });
    Ok(address)
}
