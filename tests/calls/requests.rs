//! How a request is put together: in the same words with both clients.

use std::time::{Duration, Instant};

use alvys_auth_core::ErrorKind;
use alvys_auth_core::{Limit, RateLimits};
use alvys_auth_driver::Pace;
use alvys_auth_sandbox::{Fault, Route, Sandbox};
use alvys_auth_tests::caller::calls_to;
use http::HeaderValue;
use http::header::ACCEPT;
use serde_json::json;

use crate::calls::start;

const SECOND: Duration = Duration::from_secs(1);

fn async_client(sandbox: &Sandbox, pace: Pace) -> alvys_auth_reqwest::Client {
    use alvys_auth_reqwest::{Api, Client, TokenSource, redirects, reqwest};

    let tokens = alvys_auth_tests::Settings::current(sandbox);
    let tokens = TokenSource::new(tokens.flow, tokens.credentials).expect("a source");
    let http = reqwest::Client::builder().no_proxy().redirect(redirects()).read_timeout(10 * SECOND);
    let http = http.build().expect("a client");
    let api = Api::at(&sandbox.api_url()).expect("an API").patience(5 * SECOND);
    Client::builder(tokens, api).sharing(http).pace(pace).build().expect("a client")
}

fn blocking_client(sandbox: &Sandbox, pace: Pace) -> alvys_auth_ureq::Client {
    use alvys_auth_ureq::{Api, Client, TokenSource};

    let tokens = alvys_auth_tests::Settings::current(sandbox);
    let tokens = TokenSource::new(tokens.flow, tokens.credentials).expect("a source");
    let api = Api::at(&sandbox.api_url()).expect("an API").patience(5 * SECOND);
    Client::builder(tokens, api).pace(pace).build().expect("a client")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Builds the same call with each client, word for word, sends it, and gives the statuses or errors.
macro_rules! both {
    ($sandbox:expr, |$client:ident| $call:expr) => {
        both!($sandbox, Pace::new(RateLimits::none()), |$client| $call)
    };
    ($sandbox:expr, $pace:expr, |$client:ident| $call:expr) => {{
        let first = {
            let $client = async_client($sandbox, $pace);
            runtime().block_on(async { $call.send().await.map(|answer| answer.status().as_u16()) })
        };
        let $client = blocking_client($sandbox, $pace);
        [first, $call.send().map(|answer| answer.status().as_u16())]
    }};
}

#[test]
fn headers_are_taken_as_text_or_ready_made() {
    let sandbox = start();
    let own = HeaderValue::from_static("ready");
    let results = both!(&sandbox, |client| {
        let call = client.get("loads").header("x-own", "text").header("x-own".to_owned(), own.clone());
        call.header(ACCEPT, "application/json").header("x-number", 7)
    });
    assert!(results.iter().all(|result| matches!(result, Ok(200))), "{results:?}");
    for call in calls_to(&sandbox) {
        let own: Vec<_> = call.headers().get_all("x-own").iter().collect();
        assert_eq!(own, ["text", "ready"]);
        assert_eq!((call.header("accept"), call.header("x-number")), (Some("application/json"), Some("7")));
    }
}

#[test]
fn a_header_that_cannot_be_sent_is_told_without_its_value() {
    let sandbox = start();
    for (name, value, named) in [("x-own", "canary\r\nx: y", true), ("canary name", "x", false), ("", "canary", false)]
    {
        for result in both!(&sandbox, |client| client.get("loads").header(name, value).header("x-fine", "fine")) {
            let error = result.expect_err("no header");
            assert_eq!(error.kind(), ErrorKind::Configuration);
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("canary") && shown.contains("x-own") == named, "{shown}");
        }
    }
    assert!(sandbox.requests().is_empty());
}

#[test]
fn a_query_is_taken_from_whatever_makes_pairs() {
    let sandbox = start();
    let results = both!(&sandbox, |client| {
        let call = client.get("loads?page=0").query(&[("pageSize", 2)]).query(&json!({"a b": "c&d=\u{e4}", "e": true}));
        call.query(&[("", ""); 0]).query(&vec![("f".to_owned(), None), ("g".to_owned(), Some("+"))])
    });
    assert!(results.iter().all(|result| matches!(result, Ok(200))), "{results:?}");
    let results = both!(&sandbox, |client| client.get("loads").query(&[("", ""); 0]));
    assert!(results.iter().all(|result| matches!(result, Ok(200))), "{results:?}");
    let queries: Vec<_> = calls_to(&sandbox).iter().map(|call| call.query().map(str::to_owned)).collect();
    let full = Some("page=0&pageSize=2&a+b=c%26d%3D%C3%A4&e=true&g=%2B".to_owned());
    assert_eq!(queries, [full.clone(), full, None, None]);
}

#[test]
fn what_makes_no_query_is_told_when_the_call_is_sent() {
    let sandbox = start();
    for result in both!(&sandbox, |client| client.get("loads").query("canary").query(&[("a", 1)])) {
        let error = result.expect_err("no query");
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
    assert!(sandbox.requests().is_empty());
}

#[test]
fn a_call_has_a_time_limit_of_its_own() {
    let sandbox = start();
    sandbox.inject(Route::Api, Fault::hang().times(2));
    let started = Instant::now();
    for result in both!(&sandbox, |client| client.get("loads").timeout(SECOND / 3)) {
        assert_eq!(result.expect_err("a silent server").kind(), ErrorKind::TimedOut);
    }
    assert!(started.elapsed() < 10 * SECOND, "{:?}", started.elapsed());
    // A call with a limit of its own does not get it for all its tries together.
    for _ in 0..2 {
        sandbox.inject(Route::Api, Fault::status(503).retry_after(2 * SECOND).once());
        sandbox.inject(Route::Api, Fault::status(200).once());
    }
    let results = both!(&sandbox, |client| client.get("loads").timeout(3 * SECOND / 2));
    assert!(results.iter().all(|result| matches!(result, Ok(200))), "{results:?}");
}

#[test]
fn a_time_limit_of_a_blocking_call_stands_in_place_of_those_of_the_agent() {
    use alvys_auth_ureq::ureq::Agent;

    let sandbox = start();
    let limit = Some(SECOND / 4);
    let config = Agent::config_builder().timeout_recv_response(limit).timeout_per_read(limit).timeout_per_write(limit);
    let tokens = alvys_auth_tests::Settings::current(&sandbox);
    let tokens = alvys_auth_ureq::TokenSource::new(tokens.flow, tokens.credentials).expect("a source");
    let api = alvys_auth_ureq::Api::at(&sandbox.api_url()).expect("an API");
    let client = alvys_auth_ureq::Client::builder(tokens, api).http(config.timeout_global(limit).build());
    let client = client.build().expect("a client");
    sandbox.inject(Route::Api, Fault::late(SECOND));
    assert_eq!(client.get("loads").send().expect_err("a slow server").kind(), ErrorKind::TimedOut);
    assert_eq!(client.get("loads").timeout(20 * SECOND).send().expect("an answer").status(), 200);
}

#[test]
fn a_client_on_top_of_another_is_paced_too() {
    let sandbox = start();
    let pace = Pace::new(RateLimits::none().lists([Limit::new(1, 60 * SECOND)]));
    let results = both!(&sandbox, pace.for_another_token(), |client| client.get("loads"));
    assert!(results.iter().all(|result| matches!(result, Ok(200))), "{results:?}");
    let spent = || {
        let pace = pace.for_another_token();
        let loads = alvys_auth_core::Endpoint::of(&http::Method::GET, &"/api/p/v1/loads".parse().expect("a path"));
        assert!(pace.turn(&loads).wait().is_none());
        pace
    };
    let results = both!(&sandbox, spent(), |client| client.get("loads"));
    for result in results {
        assert_eq!(result.expect_err("held back").kind(), ErrorKind::RateLimited);
    }
    assert_eq!(sandbox.api_requests(), 2);
}
