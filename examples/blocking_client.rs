//! The blocking client: the same calls without a runtime, and a stream each way.
//!
//! `cargo run --example blocking_client` starts a local Alvys and talks to that.

use std::error::Error;
use std::io::{self, Read};

use alvys_auth_sandbox::Sandbox;
use alvys_auth_ureq::{Api, Client, Credentials, Flow, Pace, Payload, RateLimits, TokenSource};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let sandbox = Sandbox::start()?;
    let application = sandbox.application();
    let flow = Flow::current().endpoint(sandbox.token_url());
    let credentials = Credentials::new(application.client_id(), application.client_secret())?;
    let tokens = TokenSource::new(flow, credentials)?;
    // The published limits, kept by waiting a little instead of being shut out for minutes.
    let pace = Pace::new(RateLimits::published());
    let alvys = Client::builder(tokens, Api::at(&sandbox.api_url())?).pace(pace).build()?;

    let found: Value =
        alvys.post("loads/search").json(&json!({"page": 0})).idempotent().send()?.body_mut().read_json()?;
    println!("found:     {}", found["Items"]);

    // A stream is sent once and never again; the API is asked for it in one go.
    let upload = io::repeat(b'x').take(3_000_000);
    let stored: Value = alvys.post("documents").body(Payload::stream(upload)).send()?.body_mut().read_json()?;
    println!("uploaded:  {} bytes", stored["Length"]);

    let mut download = alvys.get("documents/document-1?bytes=2000000").send()?;
    let length = io::copy(&mut download.body_mut().as_reader(), &mut io::sink())?;
    println!("received:  {length} bytes");

    println!("tokens:    {} for {} calls", sandbox.tokens_issued(), sandbox.api_requests());
    Ok(())
}
