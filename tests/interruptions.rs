//! Callers that vanish in the middle of a request wedge nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use alvys_auth_core::Policy;
use alvys_auth_reqwest::ErrorKind;
use alvys_auth_sandbox::{Fault, Route, Sandbox};
use alvys_auth_tests::{Settings, credentials, eventually};
use tokio::runtime::Runtime;
use ureq::Agent;

const HOUR: Duration = Duration::from_secs(3600);

fn start() -> Sandbox {
    Sandbox::start().expect("a sandbox")
}

fn async_source(sandbox: &Sandbox) -> alvys_auth_reqwest::TokenSource {
    let settings = Settings::current(sandbox);
    alvys_auth_reqwest::TokenSource::new(settings.flow, settings.credentials).expect("acceptable settings")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_first_caller_takes_nobody_down() {
    let sandbox = start();
    sandbox.inject(Route::Token, Fault::late(Duration::from_secs(2)));
    let source = async_source(&sandbox);
    let first = tokio::spawn({
        let source = source.clone();
        async move { source.token().await }
    });
    while sandbox.token_requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let others: Vec<_> = (0..200)
        .map(|_| {
            let source = source.clone();
            tokio::spawn(async move { source.token().await })
        })
        .collect();
    first.abort();
    for other in others {
        other.await.expect("a caller that does not panic").expect("a token");
    }
    assert_eq!(sandbox.token_requests(), 1, "the request outlives the caller who started it");
}

#[tokio::test]
async fn a_caller_that_gives_up_leaves_the_token_for_the_next() {
    let sandbox = start();
    sandbox.inject(Route::Token, Fault::late(Duration::from_secs(2)).once());
    let source = async_source(&sandbox);
    tokio::time::timeout(Duration::from_millis(50), source.token()).await.expect_err("too impatient");
    source.token().await.expect("the token that was on its way");
    assert_eq!(sandbox.token_requests(), 1);
}

#[test]
fn a_runtime_that_shuts_down_mid_request_wedges_no_other() {
    let sandbox = start();
    sandbox.inject(Route::Token, Fault::hang().once());
    let source = async_source(&sandbox);
    let doomed = Runtime::new().expect("a runtime");
    doomed.spawn({
        let source = source.clone();
        async move { source.token().await }
    });
    eventually("the request is on its way", || sandbox.token_requests() == 1);
    let survivor = Runtime::new().expect("a runtime");
    let waiting = survivor.spawn({
        let source = source.clone();
        async move { source.token().await }
    });
    doomed.shutdown_background();
    survivor.block_on(waiting).expect("a caller that does not panic").expect("a token from its own request");
    assert_eq!(sandbox.token_requests(), 2);
}

#[test]
fn a_runtime_in_shutdown_ends_in_an_error_and_not_in_a_loop() {
    let sandbox = start();
    let source = async_source(&sandbox);
    let runtime = Runtime::new().expect("a runtime");
    let handle = runtime.handle().clone();
    runtime.shutdown_background();
    let error = handle.block_on(source.token()).expect_err("nothing runs here any more");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(sandbox.token_requests(), 0);
    // The source itself is unharmed.
    Runtime::new().expect("a runtime").block_on(source.token()).expect("a token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_change_during_a_call_are_not_taken_for_a_shutdown() {
    let sandbox = start();
    sandbox.inject(Route::Token, Fault::delay(Duration::from_secs(3)));
    let application = sandbox.application();
    let source = async_source(&sandbox);
    let call = tokio::spawn({
        let source = source.clone();
        async move { source.token().await }
    });
    for secret in ["1", "2", "3", "4", "5", "6", application.client_secret()] {
        let asked = sandbox.token_requests();
        source.set_credentials(credentials(application.client_id(), secret)).expect("acceptable credentials");
        while sandbox.token_requests() == asked {
            assert!(!call.is_finished(), "the call has ended before");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    call.await.expect("a caller that does not panic").expect("a token with the last ones");
}

#[test]
fn a_caller_outside_of_a_runtime_gets_an_error_and_no_panic() {
    let sandbox = start();
    let source = async_source(&sandbox);
    let mut token = Box::pin(source.token());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(error)) = token.as_mut().poll(&mut context) else { panic!("an error at once") };
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

#[test]
fn a_runtime_that_runs_only_now_and_then_causes_no_storm() {
    let sandbox = start();
    sandbox.set_lifetime(Duration::from_secs(2));
    let settings = Settings::current(&sandbox);
    // Leases of 76 ms, so that several end inside the margin, while nothing drives the requests.
    let source = alvys_auth_reqwest::TokenSource::builder(settings.flow, settings.credentials)
        .policy(Policy::new().request_timeout(Duration::from_millis(50)))
        .build()
        .expect("acceptable settings");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let old = runtime.block_on(source.token()).expect("a token");
    sandbox.set_lifetime(Duration::from_secs(3600));
    eventually("the token is replaced", || {
        runtime.block_on(source.token()).is_ok_and(|token| token.header() != old.header())
    });
    // What was started and not driven so far gets its chance to be sent now.
    runtime.block_on(async { tokio::time::sleep(Duration::from_millis(300)).await });
    let requests = sandbox.token_requests();
    assert!(requests <= 3, "{requests} requests for one renewal");
}

#[test]
fn a_connection_of_a_runtime_that_does_not_run_is_not_waited_for() {
    let sandbox = start();
    let source = async_source(&sandbox);
    let idle = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    idle.block_on(source.token()).expect("a token");
    source.invalidate();
    let other = Runtime::new().expect("a runtime");
    let soon = async { tokio::time::timeout(Duration::from_secs(9), source.token()).await };
    other.block_on(soon).expect("no wait for the other runtime").expect("a token");
    drop(idle);
}

#[test]
fn an_http_client_that_panics_is_paused_like_any_failure() {
    struct Panics;
    impl reqwest::dns::Resolve for Panics {
        fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
            panic!("on purpose: name resolution panics");
        }
    }
    let credentials = alvys_auth_reqwest::Credentials::new("id", "secret").expect("acceptable credentials");
    let source = alvys_auth_reqwest::TokenSource::builder(alvys_auth_reqwest::Flow::current(), credentials)
        .http(|| reqwest::Client::builder().dns_resolver(Panics))
        .policy(Policy::new().backoff(HOUR, HOUR).pause_while_waiting(HOUR))
        .build()
        .expect("acceptable settings");
    let error = Runtime::new().expect("a runtime").block_on(source.token()).expect_err("no token");
    assert!(error.to_string().contains("panicked"), "{error}");
    assert!(source.status().paused_for.is_some());
}

#[test]
fn tokens_are_shared_between_runtimes() {
    let sandbox = start();
    let source = async_source(&sandbox);
    let one = Runtime::new().expect("a runtime").block_on(source.token()).expect("a token");
    let other = Runtime::new().expect("a runtime").block_on(source.token()).expect("a token");
    assert_eq!(one.header(), other.header());
    assert_eq!(sandbox.token_requests(), 1);
}

#[test]
fn a_request_that_panics_is_a_failure_which_every_caller_outlives() {
    let sandbox = start();
    let settings = Settings::current(&sandbox);
    let (sending, panicked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let others_asked = Arc::new(AtomicUsize::new(0));
    let panics_once = {
        let (sending, panicked, asked) = (Arc::clone(&sending), Arc::clone(&panicked), Arc::clone(&others_asked));
        move |request: http::Request<ureq::SendBody<'_>>, next: ureq::middleware::MiddlewareNext<'_>| {
            sending.store(true, Ordering::SeqCst);
            if !panicked.swap(true, Ordering::SeqCst) {
                while asked.load(Ordering::SeqCst) < 20 {
                    thread::yield_now();
                }
                panic!("on purpose: the first request panics");
            }
            next.handle(request)
        }
    };
    let agent = Agent::new_with_config(Agent::config_builder().middleware(panics_once).build());
    let source = alvys_auth_ureq::TokenSource::builder(settings.flow, settings.credentials)
        .http(agent)
        .build()
        .expect("acceptable settings");
    let call = |counted: bool| {
        let (source, asked) = (source.clone(), Arc::clone(&others_asked));
        thread::spawn(move || {
            asked.fetch_add(usize::from(counted), Ordering::SeqCst);
            source.token()
        })
    };
    let first = call(false);
    eventually("the first request is on its way", || sending.load(Ordering::SeqCst));
    let others: Vec<_> = (0..20).map(|_| call(true)).collect();
    for caller in others.into_iter().chain([first]) {
        // Like any failure, the panic is followed by a pause that fits into their patience.
        caller.join().expect("a caller that does not panic").expect("a token");
    }
    assert_eq!(sandbox.token_requests(), 1);
}
