//! Bring your own HTTP client: the core driven by hand over a plain hyper connection.
//!
//! `cargo run --example own_client` runs against a local Alvys.

use std::error::Error as StdError;
use std::time::Instant;

use alvys_auth_core::{Credentials, Error, Flow, Lifecycle, Next, Policy, Step, Timestamp, Token, TokenRequest};
use alvys_auth_sandbox::Sandbox;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Sends one request over a connection of its own.
async fn send(mut request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, BoxError> {
    let authority = request.uri().authority().ok_or("a full URL")?.clone();
    let stream = tokio::net::TcpStream::connect(authority.as_str()).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    // On the wire HTTP/1.1 wants the host as a header and the path alone in the first line.
    let path = request.uri().path().parse()?;
    *request.uri_mut() = path;
    request.headers_mut().insert("host", authority.as_str().parse()?);
    let (parts, body) = sender.send_request(request.map(Full::<Bytes>::from)).await?.into_parts();
    Ok(http::Response::from_parts(parts, body.collect().await?.to_bytes().into()))
}

/// The whole driver for a program with one caller: nobody else can be fetching, so a wait is a pause.
async fn token(lifecycle: &mut Lifecycle, origin: Instant) -> Result<Token, Error> {
    let now = || Timestamp::default().saturating_add(origin.elapsed());
    loop {
        match lifecycle.poll(now()) {
            Step::Use(token) => return Ok(token),
            Step::Fail(error) => return Err(error),
            Step::Wait(wait) => tokio::time::sleep(wait.until().saturating_duration_since(now())).await,
            Step::Fetch(mut attempt) => {
                while let Next::Send(ready) = lifecycle.next(attempt, now()) {
                    attempt = match send(ready.to_http()).await {
                        Ok(response) => ready.answered(&response),
                        Err(error) => ready.failed(Error::transport("the token request failed", error)),
                    };
                }
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let sandbox = Sandbox::start()?;
    let application = sandbox.application();
    let credentials = Credentials::new(application.client_id(), application.client_secret())?;
    let request = TokenRequest::new(Flow::current().endpoint(sandbox.token_url()), credentials)?;
    let mut lifecycle = Lifecycle::new(request, Policy::new(), 1);
    let origin = Instant::now();

    let first = token(&mut lifecycle, origin).await?;
    let again = token(&mut lifecycle, origin).await?;
    println!("same token twice: {}", first.header() == again.header());

    let mut me = http::Request::get(sandbox.me_url()).body(Vec::new())?;
    me.headers_mut().insert("authorization", first.header().clone());
    let answer = send(me).await?;
    println!("GET /v1/me: {} {}", answer.status(), String::from_utf8_lossy(answer.body()));
    println!("token requests: {}", sandbox.token_requests());
    Ok(())
}
