//! Events that come one by one.

use std::{
    io::{BufRead as _, BufReader},
    time::{Duration, Instant},
};

use alvys_auth_sandbox::{RateLimits, Route, Sandbox};
use serde_json::json;

use crate::support::{call, legacy_token, send, token};

#[test]
fn events_arrive_one_by_one() {
    let sandbox = Sandbox::start().unwrap();
    let interval = Duration::from_secs(1);
    let authorization = format!("Bearer {}", token(&sandbox));
    let start = Instant::now();
    let answer = ureq::post(sandbox.mcp_url())
        .header("authorization", authorization)
        .header("content-type", "application/json")
        .send(json!({"events": 3, "interval_ms": 1000}).to_string())
        .unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(answer.headers()["cache-control"], "no-cache");
    assert!(!answer.headers().contains_key("content-length"));
    let mut lines = BufReader::new(answer.into_body().into_reader()).lines();
    let mut arrivals = vec![start.elapsed()];
    for event in 1..=3 {
        assert_eq!(lines.next().unwrap().unwrap(), format!("data: {}", json!({"event": event, "of": 3})));
        assert_eq!(lines.next().unwrap().unwrap(), "");
        arrivals.push(start.elapsed());
    }
    assert!(lines.next().is_none());
    // Coming late is the machine's doing, coming early the server's.
    assert!(arrivals[2] >= interval && arrivals[3] >= 2 * interval, "{arrivals:?}");
    assert!(arrivals[1] < 2 * interval, "{arrivals:?}");
}

#[test]
fn events_need_a_good_token_of_either_flow() {
    let sandbox = Sandbox::start().unwrap();
    let url = sandbox.mcp_url();
    let none = json!({"events": 0}).to_string();
    assert_eq!(call("POST", &url, &token(&sandbox), &none).status, 200);
    assert_eq!(call("POST", &url, &legacy_token(&sandbox), &none).body, "");
    assert_eq!(call("POST", &url, "x", &none).status, 401);
    assert_eq!(send("POST", &url, &[], "").header("www-authenticate"), "Bearer");
    assert_eq!(sandbox.requests().last().unwrap().route(), Route::Api);
    assert_eq!(sandbox.api_requests(), 4);
}

#[test]
fn the_number_and_the_interval_of_events_are_optional_and_bounded() {
    let sandbox = Sandbox::start().unwrap();
    let token = token(&sandbox);
    let answer = call("POST", &sandbox.mcp_url(), &token, r#"{"jsonrpc":"2.0","method":"x","interval_ms":1}"#);
    assert_eq!(answer.body.matches("data: ").count(), 3);
    for (body, status) in [
        (json!({"events": 1001}), 400),
        (json!({"interval_ms": 60_001}), 400),
        (json!({"events": -1}), 400),
        (json!({"interval_ms": "1"}), 400),
        (json!([]), 400),
        (json!({"events": 1000, "interval_ms": 0}), 200),
        // The interval lies between events, so one event comes at once.
        (json!({"events": 1, "interval_ms": 60_000}), 200),
    ] {
        assert_eq!(call("POST", &sandbox.mcp_url(), &token, &body.to_string()).status, status, "{body}");
    }
    let answer = call("GET", &sandbox.mcp_url(), &token, "");
    assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
}

#[test]
fn events_are_limited_like_the_rest_of_the_api() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.limit_rates(RateLimits::published());
    let token = token(&sandbox);
    let none = json!({"events": 0}).to_string();
    assert_eq!(call("POST", &sandbox.mcp_url(), &token, &none).status, 200);
    assert_eq!(call("POST", &sandbox.mcp_url(), &token, &none).status, 429);
}
