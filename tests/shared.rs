//! Tokens that several sources and processes share through files, with both drivers.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use alvys_auth_core::{ErrorKind, Flow};
use alvys_auth_sandbox::{Fault, Route, Sandbox};
use alvys_auth_tests::{Async, Blocking, Settings, Source, both_drivers, call_api, credentials};

both_drivers![
    sources_that_share_a_store_make_one_request,
    a_later_source_takes_the_token_that_is_there,
    a_token_that_the_api_refuses_is_replaced_once_for_all,
    a_rate_limit_that_one_source_was_told_holds_for_the_others,
    other_credentials_share_another_token,
    a_store_that_cannot_be_used_makes_nobody_fail,
    #[ignore = "needs many processes; .ci/redis runs it"]
    processes_that_start_together_make_one_request,
    #[ignore = "needs many processes; .ci/redis runs it"]
    a_leader_that_is_killed_costs_one_request_more,
];

/// How many processes.
const PROCESSES: usize = 20;

fn start() -> (Sandbox, tempfile::TempDir) {
    (Sandbox::start().expect("a sandbox"), tempfile::tempdir().expect("a directory"))
}

fn build<S: Source>(sandbox: &Sandbox, directory: &Path) -> S {
    S::build(Settings::current(sandbox).store(&directory.join("tokens"))).expect("acceptable settings")
}

fn sources_that_share_a_store_make_one_request<S: Source>() {
    let (sandbox, directory) = start();
    sandbox.inject(Route::Token, Fault::late(Duration::from_millis(200)));
    let sources: Vec<S> = (0..8).map(|_| build(&sandbox, directory.path())).collect();
    let asking = sources.iter().map(|source| {
        let source = source.clone();
        thread::spawn(move || source.token().expect("a token").header().clone())
    });
    let asking: Vec<_> = asking.collect();
    let tokens: Vec<_> = asking.into_iter().map(|asking| asking.join().expect("no panic")).collect();
    assert_eq!(sandbox.token_requests(), 1);
    assert!(tokens.iter().all(|token| *token == tokens[0]));
}

fn a_later_source_takes_the_token_that_is_there<S: Source>() {
    let (sandbox, directory) = start();
    let first = build::<S>(&sandbox, directory.path()).token().expect("a token");
    let later = build::<S>(&sandbox, directory.path());
    let token = later.token().expect("a token");
    assert_eq!(token.header(), first.header());
    assert_eq!(token.scopes().to_string(), first.scopes().to_string());
    assert_eq!(call_api(&sandbox, &token), 200);
    let apart = first.expires_at().as_millis().abs_diff(token.expires_at().as_millis());
    assert!(apart < 2_000, "they expire {apart} ms apart");
    assert_eq!(sandbox.token_requests(), 1);
}

fn a_token_that_the_api_refuses_is_replaced_once_for_all<S: Source>() {
    let (sandbox, directory) = start();
    let policy = alvys_auth_core::Policy::new().rejection_grace(Duration::ZERO);
    let settings = || Settings::current(&sandbox).policy(policy.clone()).store(&directory.path().join("tokens"));
    let sources: Vec<S> = (0..4).map(|_| S::build(settings()).expect("acceptable settings")).collect();
    let tokens: Vec<_> = sources.iter().map(|source| source.token().expect("a token")).collect();
    sandbox.reject_tokens();
    for (source, token) in sources.iter().zip(&tokens) {
        assert!(source.reject(token));
    }
    let renewed: Vec<_> = sources.iter().map(|source| source.token().expect("another token")).collect();
    assert!(renewed.iter().all(|token| token.header() == renewed[0].header()));
    assert_ne!(renewed[0].header(), tokens[0].header());
    assert_eq!(sandbox.token_requests(), 2);
}

fn a_rate_limit_that_one_source_was_told_holds_for_the_others<S: Source>() {
    let (sandbox, directory) = start();
    sandbox.inject(Route::Token, Fault::status(429).retry_after(Duration::from_secs(3600)));
    let error = build::<S>(&sandbox, directory.path()).token().expect_err("a rate limit");
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    let error = build::<S>(&sandbox, directory.path()).token().expect_err("the same rate limit");
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    let left = error.retry_after().expect("a wait");
    assert!(left > Duration::from_secs(3500) && left <= Duration::from_secs(3600), "{left:?}");
    assert_eq!(sandbox.token_requests(), 1);
}

fn other_credentials_share_another_token<S: Source>() {
    let (sandbox, directory) = start();
    let first = build::<S>(&sandbox, directory.path()).token().expect("a token");
    let settings = Settings::current(&sandbox).store(&directory.path().join("tokens"));
    let scoped =
        Settings { flow: Flow::current().endpoint(sandbox.token_url()).scopes(["load:read"]), ..settings.clone() };
    let second = S::build(scoped).expect("acceptable settings").token().expect("a token of its own");
    assert_ne!(first.header(), second.header());
    let wrong = Settings { credentials: credentials(sandbox.application().client_id(), "wrong-secret"), ..settings };
    let error = S::build(wrong).expect("acceptable settings").token().expect_err("a wrong secret");
    assert_eq!(error.kind(), ErrorKind::Credentials);
    assert_eq!(sandbox.token_requests(), 3);
}

fn a_store_that_cannot_be_used_makes_nobody_fail<S: Source>() {
    let (sandbox, directory) = start();
    let source = build::<S>(&sandbox, directory.path());
    fs::remove_dir_all(directory.path().join("tokens")).expect("removed");
    assert_eq!(call_api(&sandbox, &source.token().expect("a token of its own")), 200);
}

fn processes_that_start_together_make_one_request<S: Source>() {
    let (sandbox, directory) = start();
    sandbox.inject(Route::Token, Fault::late(Duration::from_secs(1)));
    let processes: Vec<Child> = (0..PROCESSES).map(|_| process::<S>(&sandbox, directory.path())).collect();
    let tokens: Vec<String> = processes.into_iter().map(token_of).collect();
    assert!(tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
    assert_eq!(sandbox.token_requests(), 1);
}

fn a_leader_that_is_killed_costs_one_request_more<S: Source>() {
    let (sandbox, directory) = start();
    sandbox.inject(Route::Token, Fault::hang().once());
    let mut leader = process::<S>(&sandbox, directory.path());
    let started = Instant::now();
    while sandbox.token_requests() == 0 {
        assert!(started.elapsed() < Duration::from_secs(60), "the leader has not asked");
        thread::sleep(Duration::from_millis(10));
    }
    let followers: Vec<Child> = (0..4).map(|_| process::<S>(&sandbox, directory.path())).collect();
    leader.kill().expect("killed");
    leader.wait().expect("ended");
    let tokens: Vec<String> = followers.into_iter().map(token_of).collect();
    assert!(tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
    assert_eq!(sandbox.token_requests(), 2);
}

/// A process of its own that gets a token and prints it.
fn process<S: Source>(sandbox: &Sandbox, directory: &Path) -> Child {
    let driver = if std::any::type_name::<S>().ends_with("Async") { "async" } else { "blocking" };
    let application = sandbox.application();
    Command::new(env::current_exe().expect("this program"))
        .args(["--exact", "a_process_of_its_own", "--ignored", "--nocapture"])
        .env("SHARED_DRIVER", driver)
        .env("SHARED_URL", sandbox.token_url())
        .env("SHARED_ID", application.client_id())
        .env("SHARED_SECRET", application.client_secret())
        .env("SHARED_DIRECTORY", directory.join("tokens"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process")
}

fn token_of(process: Child) -> String {
    let output = process.wait_with_output().expect("an end");
    let text = String::from_utf8(output.stdout).expect("text");
    let token = text.split_whitespace().find(|word| word.starts_with("token=")).map(str::to_owned);
    token.unwrap_or_else(|| panic!("no token: {text}"))
}

#[test]
#[ignore = "not a test: the processes that the tests start"]
fn a_process_of_its_own() {
    let variable = |name: &str| env::var(name).expect("a variable");
    let Ok(driver) = env::var("SHARED_DRIVER") else { return };
    let settings = Settings {
        flow: Flow::current().endpoint(variable("SHARED_URL")),
        credentials: credentials(&variable("SHARED_ID"), &variable("SHARED_SECRET")),
        policy: alvys_auth_core::Policy::new(),
        patience: Duration::from_secs(40),
        time: alvys_auth_driver::Time::boot(),
        store: Some(variable("SHARED_DIRECTORY").into()),
    };
    let token = match driver.as_str() {
        "async" => Async::build(settings).expect("acceptable settings").token(),
        _ => Blocking::build(settings).expect("acceptable settings").token(),
    };
    // It ends at once: what it has fetched is with the others by then.
    let token = token.expect("a token").access_token().to_owned();
    println!(" token={} ", &token[token.len() - 20..]);
}
