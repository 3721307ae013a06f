//! Real tokens on both flows, fetched, cached, renewed and used over HTTP.
//!
//! `cargo run --example quickstart` starts a local Alvys and talks to that. With `ALVYS_CLIENT_ID` and
//! `ALVYS_CLIENT_SECRET` set it talks to the real Alvys instead, and to its legacy flow too with `ALVYS_FLOW=legacy` and
//! `ALVYS_TENANT_ID`. Each token counts there, and `ALVYS_ENV` and `ALVYS_TOKEN_URL` do not change where the current flow goes.

use std::env;
use std::error::Error;
use std::thread::sleep;
use std::time::{Duration, Instant};

use alvys_auth_config::Setup;
use alvys_auth_core::{Credentials, Flow, Status, Token};
use alvys_auth_sandbox::Sandbox;

/// Where the tokens come from and what they open.
struct Alvys {
    current: Flow,
    legacy: Option<Flow>,
    credentials: Credentials,
    me: String,
    /// The local Alvys; none when this is the real one.
    sandbox: Option<Sandbox>,
}

impl Alvys {
    fn from_environment() -> Result<Self, Box<dyn Error>> {
        let (Ok(client_id), Ok(client_secret)) = (env::var("ALVYS_CLIENT_ID"), env::var("ALVYS_CLIENT_SECRET")) else {
            return Self::local();
        };
        println!("The real Alvys, with the application of ALVYS_CLIENT_ID");
        Ok(Self {
            current: Flow::current(),
            legacy: Some(Setup::from_environment()?.flow).filter(Flow::is_legacy),
            credentials: Credentials::new(client_id, client_secret)?,
            me: "https://integration.alvys.com/v1/me".to_owned(),
            sandbox: None,
        })
    }

    fn local() -> Result<Self, Box<dyn Error>> {
        let sandbox = Sandbox::start()?;
        sandbox.set_lifetime(Duration::from_secs(1));
        let application = sandbox.application();
        println!("A local Alvys on {} whose tokens live one second", sandbox.url());
        println!("(set ALVYS_CLIENT_ID and ALVYS_CLIENT_SECRET to talk to the real one)");
        Ok(Self {
            current: Flow::current().endpoint(sandbox.token_url()),
            legacy: Some(Flow::legacy(application.tenant()).endpoint(sandbox.legacy_token_url())),
            credentials: Credentials::new(application.client_id(), application.client_secret())?,
            me: sandbox.me_url(),
            sandbox: Some(sandbox),
        })
    }

    /// What only the server can know: how many token requests it has seen.
    fn count(&self) -> String {
        self.sandbox
            .as_ref()
            .map(|sandbox| format!("; the server has seen {} token request(s)", sandbox.token_requests()))
            .unwrap_or_default()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let alvys = Alvys::from_environment()?;
    tokio::runtime::Runtime::new()?.block_on(current_flow(&alvys))?;
    match &alvys.legacy {
        Some(flow) => legacy_flow(&alvys, flow)?,
        None => println!("\nLegacy flow: set ALVYS_FLOW=legacy and ALVYS_TENANT_ID to see it"),
    }
    Ok(())
}

async fn current_flow(alvys: &Alvys) -> Result<(), Box<dyn Error>> {
    use alvys_auth_reqwest::TokenSource;

    println!("\nCurrent flow, async");
    let tokens = TokenSource::new(alvys.current.clone(), alvys.credentials.clone())?;
    let started = Instant::now();
    let token = tokens.token().await?;
    show_token(&token, started, &tokens.status());

    let answer = reqwest::Client::new().get(&alvys.me).header("authorization", token.header()).send().await?;
    println!("  GET /v1/me  {} {}", answer.status(), shortened(&answer.text().await?));

    let started = Instant::now();
    for _ in 0..1000 {
        tokens.token().await?;
    }
    println!("  cache       1000 more calls took {:.1?}{}", started.elapsed(), alvys.count());

    if alvys.sandbox.is_some() {
        // The margin of a token that lives one second begins after 800 to 900 milliseconds.
        while tokens.with_token(|_| ()).is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let started = Instant::now();
        let meanwhile = tokens.token().await?;
        let kept = if meanwhile.header() == token.header() { "the old token" } else { "a new token" };
        println!("  renewal     near its end the caller still got {kept}, after {:.1?} …", started.elapsed());
        while tokens.token().await?.header() == meanwhile.header() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        println!("              … and the new one {:.1?} later{}", started.elapsed(), alvys.count());
    } else {
        tokens.invalidate();
        let renewed = tokens.token().await?;
        println!("  renewal     gave the token up, got another: {}", renewed.header() != token.header());
    }

    let mistaken = alvys.current.clone().audience("https://api.alvys.com/public");
    let error = TokenSource::new(mistaken, alvys.credentials.clone())?.token().await.err().ok_or("no failure")?;
    println!("  failure     {error}");
    Ok(())
}

fn legacy_flow(alvys: &Alvys, flow: &Flow) -> Result<(), Box<dyn Error>> {
    use alvys_auth_ureq::TokenSource;

    println!("\nLegacy flow, blocking");
    let tokens = TokenSource::new(flow.clone(), alvys.credentials.clone())?;
    if let Some(deprecation) = tokens.deprecation() {
        println!("  note        {deprecation}");
    }
    let started = Instant::now();
    let token = tokens.token()?;
    show_token(&token, started, &tokens.status());

    let mut answer = ureq::get(&alvys.me).header("authorization", token.header()).call()?;
    println!("  GET /v1/me  {} {}", answer.status(), answer.body_mut().read_to_string()?);

    let started = Instant::now();
    for _ in 0..1000 {
        tokens.token()?;
    }
    println!("  cache       1000 more calls took {:.1?}{}", started.elapsed(), alvys.count());

    tokens.invalidate();
    sleep(Duration::from_millis(1));
    let renewed = tokens.token()?;
    println!("  renewal     gave the token up, got another: {}{}", renewed.header() != token.header(), alvys.count());
    Ok(())
}

fn show_token(token: &Token, started: Instant, status: &Status) {
    println!(
        "  token       obtained in {:.1?}, good for {:.1?}",
        started.elapsed(),
        status.expires_in.unwrap_or_default()
    );
    println!("  scopes      {}", shortened(&token.scopes().to_string()));
    if let Some(claims) = token.unverified_claims() {
        println!("  claims      of organization {}", claims.organization_name.as_deref().unwrap_or("(not said)"));
    }
}

/// As much as fits on a line beside its label.
fn shortened(text: &str) -> String {
    let mut start: String = text.chars().take(90).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    start
}
