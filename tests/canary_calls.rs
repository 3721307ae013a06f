//! Distinctive secrets and tokens go through authorized calls that fail in every way, and show up nowhere.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use alvys_auth_core::Scope;
use alvys_auth_driver::{Limit, Pace, RateLimits};
use alvys_auth_sandbox::{Application, Fault, Route, Sandbox};
use alvys_auth_tests::caller::{Body, Call, Caller, Failure, Reply, Setup, calls_to};
use alvys_auth_tests::credentials;
use alvys_auth_tests::stacks::{ReqwestClient, ReqwestMiddleware, TowerLayer, UreqClient, UreqMiddleware};
use alvys_auth_tests::transcript::Transcript;
use http::HeaderValue;
use http::header::AUTHORIZATION;

const SECRET: &str = "canary+secret/with&reserved=\"characters%";
const OWN: &str = "Bearer canary-of-the-callers-own";
const KEY: &str = "canary-in-a-query";

fn add(transcript: &Transcript, result: Result<Reply, Failure>) {
    match result {
        Ok(_) => {}
        Err(Failure::Ours(error)) => transcript.add_error(&error),
        Err(Failure::Stacks(text)) => transcript.add_text(&text),
    }
}

/// Answers of every kind, with which the API hands our own token back to us where it can.
fn faults(token: &str) -> Vec<Fault> {
    let echo = format!(r#"{{"Detail":"you sent {token}"}}"#);
    let challenge =
        format!(r#"Bearer error="invalid_token", scope="load:create {token}", error_description="you sent {token}""#);
    let problem = |status, body: &str| Fault::reply(status, body).header("content-type", "application/problem+json");
    vec![
        Fault::status(401),
        problem(401, &echo).header("www-authenticate", &challenge).header("x-request-id", token),
        problem(403, &echo).header("www-authenticate", &challenge),
        problem(429, &echo).header("retry-after", "600"),
        problem(503, &echo).header("retry-after", "600"),
        Fault::reply(403, format!("<html>{token}</html>")).header("content-type", "text/html"),
        Fault::challenge(200),
        Fault::redirect(302, format!("https://elsewhere.invalid/?token={}", &token[..20])),
        Fault::reset(),
        Fault::truncate(),
        Fault::hang(),
    ]
}

/// Gives the tokens that were used.
fn full_run<C: Caller + std::fmt::Debug>(transcript: &Transcript) -> Vec<String> {
    let sandbox = Sandbox::start().expect("a sandbox");
    sandbox.add(Application::new("canary", SECRET, "va336").with_scopes(["load:read"]));
    let pace = Pace::new(RateLimits::none().lists([Limit::new(1, Duration::from_secs(600))]));
    let shaped = Setup::of(&sandbox).without_grace().pace(&pace);
    let mut setup = Setup { timeout: Duration::from_millis(200), pace: None, ..shaped.clone() };
    setup.tokens.credentials = credentials("canary", SECRET);
    let caller = C::build(setup.clone());
    let item = || Call::get("loads/load-1");
    add(transcript, caller.call(item()));
    let token = calls_to(&sandbox)[0].header("authorization").expect("a token").replace("Bearer ", "");
    for fault in faults(&token) {
        sandbox.inject(Route::Api, fault);
        add(transcript, caller.call(item()));
        add(transcript, caller.call(Call::post("documents").body(Body::Stream(vec![0; 2 * 1024 * 1024].into()))));
        sandbox.clear_faults();
    }
    add(transcript, caller.call(Call::get("https://elsewhere.invalid/loads")));
    add(transcript, caller.call(Call::post("loads").require(Scope::LOAD_CREATE)));
    add(transcript, caller.call(Call::post("loads")));
    add(transcript, caller.call(item().header(AUTHORIZATION, OWN)));
    sandbox.reject_tokens();
    add(transcript, caller.call(item()));
    transcript.add((&caller, &setup));

    let shaped = C::build(Setup { tokens: setup.tokens, ..shaped });
    sandbox.inject_at("/api/p/v1/trips", Fault::status(503).retry_after(Duration::from_millis(1)).once());
    for path in ["loads", "loads", "trips"] {
        add(transcript, shaped.call(Call::get(path)));
    }
    transcript.add((&shaped, sandbox.requests(), &pace));
    let used = calls_to(&sandbox);
    used.iter().filter_map(|call| call.header("authorization")?.strip_prefix("Bearer ey").map(str::to_owned)).collect()
}

/// Calls that are built and not sent yet, with secrets in every part of them.
fn add_builders(transcript: &Transcript) {
    let sandbox = Sandbox::start().expect("a sandbox");
    let Setup { api, tokens, .. } = Setup::of(&sandbox);
    let path = format!("loads/load-1?key={KEY}");
    let own = HeaderValue::from_static(OWN);

    let source = alvys_auth_reqwest::TokenSource::new(tokens.flow.clone(), tokens.credentials.clone());
    let client = alvys_auth_reqwest::Client::new(source.expect("a source"), api.clone()).expect("a client");
    let call = client.post(&path).header(AUTHORIZATION, own.clone()).query(&[("key", KEY)]).json(KEY);
    transcript.add((&call, client.get(&format!("../{KEY}"))));

    let source = alvys_auth_ureq::TokenSource::new(tokens.flow, tokens.credentials);
    let client = alvys_auth_ureq::Client::new(source.expect("a source"), api);
    let call = client.post(&path).header(AUTHORIZATION, own).query(&[("key", KEY)]).json(KEY);
    transcript.add((&call, client.get(&format!("../{KEY}"))));
    let shown = format!("{call:?}");
    assert!(shown.contains("POST") && shown.contains("loads/load-1"), "{shown}");
}

#[test]
fn no_secret_and_no_token_is_printed_or_logged_by_calls_that_fail() {
    let transcript = Transcript::record();
    let runs = [
        full_run::<ReqwestClient>,
        full_run::<ReqwestMiddleware>,
        full_run::<TowerLayer>,
        full_run::<UreqClient>,
        full_run::<UreqMiddleware>,
    ];
    let tokens: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = runs.iter().map(|run| scope.spawn(|| run(&transcript))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a full run")).collect()
    });
    add_builders(&transcript);
    let text = transcript.text();
    for expected in [
        "obtained an access token",
        "rejected the held access token",
        "left a request alone",
        "repeats a call",
        "a call failed",
        "[redacted]",
        "must not go to elsewhere.invalid",
        "nothing was sent",
        "wait too long to stay within",
        "an HTML page answered",
    ] {
        let times = text.matches(expected).count();
        assert!(times >= runs.len(), "the transcript has {expected:?} {times} times only: it shows no full runs");
    }
    let left: Vec<_> = text.lines().filter(|line| line.contains("left a request alone")).collect();
    assert_eq!(left.len(), runs.len(), "each stack says so once");
    let says = |line: &str| line.contains("DEBUG") && line.contains("alvys_auth:") && line.contains("127.0.0.1");
    assert!(left.iter().all(|line| says(line)), "{left:?}");

    let parts = tokens.iter().flat_map(|token| token.split('.').filter(|part| part.len() > 40).map(str::to_owned));
    let forms = [SECRET, "canary+secret", "canary%2Bsecret", "characters%", "canary-of-the-callers-own", KEY];
    let canaries: HashSet<String> = forms.map(str::to_owned).into_iter().chain(parts).collect();
    assert!(canaries.len() > forms.len() + 4 * runs.len());
    for canary in canaries {
        let found = text.find(&canary).map(|at| text[at.saturating_sub(300)..].chars().take(400).collect::<String>());
        assert_eq!(found, None, "{canary:?} was shown");
    }
}
