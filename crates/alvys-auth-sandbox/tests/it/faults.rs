//! Faults on demand.

use std::{
    io::{ErrorKind, Read as _},
    thread,
    time::{Duration, Instant},
};

use alvys_auth_sandbox::{Fault, Route, Sandbox};

use crate::support::{Answer, fields, get, legacy_token, legacy_url, post_form, raw_token_request, token};

fn ask(sandbox: &Sandbox) -> Answer {
    post_form(&sandbox.token_url(), &fields(&sandbox.application()))
}

/// What comes over a connection until it closes, and how it closes.
fn raw_answer(sandbox: &Sandbox) -> (String, Option<ErrorKind>) {
    let mut received = Vec::new();
    let end = raw_token_request(sandbox).read_to_end(&mut received);
    let text = String::from_utf8(received).unwrap();
    (text, end.err().map(|error| error.kind()))
}

#[test]
fn a_status_comes_with_the_body_of_its_route() {
    let sandbox = Sandbox::start().unwrap();
    let token = token(&sandbox);
    sandbox.inject(Route::Token, Fault::unavailable());
    sandbox.inject(Route::LegacyToken, Fault::status(500));
    sandbox.inject(Route::Api, Fault::status(401));

    let answer = ask(&sandbox);
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["error"], "temporarily_unavailable");
    let answer = post_form(&legacy_url(&sandbox, "va336"), &[]);
    assert_eq!(answer.status, 500);
    assert_eq!(answer.json()["Status"], 500);
    let answer = get(&sandbox.me_url(), &token);
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("www-authenticate"), "Bearer error=\"invalid_token\"");

    sandbox.clear_faults();
    assert_eq!(ask(&sandbox).status, 200);
    assert_eq!(get(&sandbox.me_url(), &token).status, 200);
    assert_eq!(sandbox.tokens_issued(), 2);
}

#[test]
fn faults_are_used_up_in_the_order_they_came() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.inject(Route::Token, Fault::status(503).times(0));
    sandbox.inject(Route::AnyToken, Fault::status(429).times(2));
    sandbox.inject(Route::Token, Fault::status(500).once());
    sandbox.inject(Route::Api, Fault::status(502).once());
    let statuses: Vec<u16> = (0..4).map(|_| ask(&sandbox).status).collect();
    assert_eq!(statuses, [429, 429, 500, 200]);
    assert_eq!(get(&sandbox.me_url(), "").status, 502);
    assert_eq!(get(&sandbox.me_url(), "").status, 401);

    sandbox.inject(Route::AnyToken, Fault::status(500).once());
    assert_eq!(post_form(&legacy_url(&sandbox, "va336"), &[]).status, 500);
    legacy_token(&sandbox);
}

#[test]
fn a_fault_at_a_path_leaves_all_others_alone() {
    let sandbox = Sandbox::start().unwrap();
    let token = token(&sandbox);
    let api = sandbox.api_url();
    let (loads, load, trips) = (format!("{api}/loads"), format!("{api}/loads/load-1"), format!("{api}/trips"));
    let disabled = Fault::unavailable().retry_after(Duration::from_secs(3600));
    sandbox.inject_at("/api/p/v1/loads", disabled.clone());
    let answer = get(&format!("{loads}?page=0"), &token);
    assert_eq!((answer.status, answer.header("retry-after")), (503, "3600"));
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!([&load, &trips].map(|url| get(url, &token).status), [200, 200]);
    assert_eq!(get(&format!("{loads}-and-more"), &token).status, 404);

    sandbox.clear_faults();
    sandbox.inject_at("/api/p/v1/loads/", disabled);
    assert_eq!([&loads, &load, &trips].map(|url| get(url, &token).status), [200, 503, 200]);
}

#[test]
fn faults_at_a_path_and_on_a_route_queue_up_together() {
    let sandbox = Sandbox::start().unwrap();
    let token = token(&sandbox);
    sandbox.inject_at("/v1/me", Fault::status(500).once());
    sandbox.inject(Route::Api, Fault::status(502).times(2));
    sandbox.inject_at("/v1/me", Fault::status(504).once());
    let loads = format!("{}/loads", sandbox.api_url());
    let me = sandbox.me_url();
    let statuses = [&loads, &me, &me, &loads, &me, &me].map(|url| get(url, &token).status);
    assert_eq!(statuses, [502, 500, 502, 200, 504, 200]);
}

#[test]
#[should_panic(expected = "starts with a slash")]
fn a_fault_at_a_whole_url_is_refused() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.inject_at(sandbox.me_url(), Fault::reset());
}

#[test]
#[should_panic(expected = "has no query")]
fn a_fault_at_a_query_is_refused() {
    Sandbox::start().unwrap().inject_at("/v1/me?x", Fault::reset());
}

#[test]
fn a_fresh_token_can_be_refused_as_for_a_wrong_audience_or_a_missing_scope() {
    let sandbox = Sandbox::start().unwrap();
    let token = token(&sandbox);
    for url in [sandbox.me_url(), format!("{}/loads", sandbox.api_url()), sandbox.mcp_url()] {
        let path = url.strip_prefix(&sandbox.url()).unwrap();
        for (status, error) in [(401, "invalid_token"), (403, "insufficient_scope")] {
            sandbox.inject_at(path, Fault::status(status).once());
            let answer = get(&url, &token);
            assert_eq!(answer.status, status);
            assert_eq!(answer.header("content-type"), "application/problem+json");
            assert_eq!(answer.header("www-authenticate"), format!("Bearer error=\"{error}\""));
            assert_eq!(answer.json()["Status"], status);
            assert!(!answer.body.contains("scope"), "{}", answer.body);
        }
    }
    let challenge = "Bearer error=\"invalid_token\", error_description=\"The audience is invalid\"";
    sandbox.inject_at("/v1/me", Fault::status(401).header("www-authenticate", challenge).once());
    assert_eq!(get(&sandbox.me_url(), &token).header("www-authenticate"), challenge);
    assert_eq!(get(&sandbox.me_url(), &token).status, 200);
}

#[test]
fn rate_limits_come_in_every_known_shape() {
    let sandbox = Sandbox::start().unwrap();
    let minute = Duration::from_secs(60);
    for fault in [
        Fault::status(429).retry_after(Duration::from_millis(59_500)),
        Fault::rate_limited(minute),
        Fault::disguised_rate_limit(),
        Fault::quota_spent(minute),
        Fault::status(429).rate_limit_reset(minute),
    ] {
        sandbox.inject(Route::Token, fault.once());
    }
    let answer = ask(&sandbox);
    assert_eq!(answer.json()["error"], "too_many_requests");
    assert_eq!(answer.header("retry-after"), "60");

    let answer = ask(&sandbox);
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("x-ratelimit-limit"), "10");
    assert_eq!(answer.header("x-ratelimit-remaining"), "0");
    assert!(answer.header("x-ratelimit-reset").parse::<u64>().is_ok());
    assert_eq!(answer.header("retry-after"), "");

    let answer = ask(&sandbox);
    assert_eq!(answer.status, 500);
    assert_eq!(answer.json()["error"], "access_denied");
    assert_eq!(answer.json()["error_description"], "Global limit has been reached");
    assert_ne!(answer.header("x-ratelimit-remaining"), "0");

    let answer = ask(&sandbox);
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("auth0-client-quota-limit"), "b=per_hour;q=10;r=0;t=60,b=per_day;q=50;r=47;t=43200");

    let answer = ask(&sandbox);
    assert_eq!(answer.header("retry-after"), "");
    assert_eq!(answer.header("x-ratelimit-remaining"), "");
    assert!(answer.header("x-ratelimit-reset").parse::<u64>().is_ok());
}

#[test]
fn replies_are_sent_as_given() {
    let sandbox = Sandbox::start().unwrap();
    let location = "https://elsewhere.example/token";
    sandbox.inject(Route::Token, Fault::redirect(307, location).once());
    sandbox.inject(Route::Token, Fault::challenge(403).once());
    sandbox.inject(Route::Token, Fault::empty(200).once());
    let date = "Thu, 01 Jan 1970 00:00:00 GMT";
    let reply = Fault::reply(299, b"\x01{".to_vec()).header("x-own", "1").header("date", date);
    sandbox.inject(Route::Token, reply.once());

    let answer = ask(&sandbox);
    assert_eq!((answer.status, answer.header("location")), (307, location));
    let answer = ask(&sandbox);
    assert_eq!(answer.status, 403);
    assert!(answer.header("content-type").starts_with("text/html"));
    assert!(answer.body.starts_with("<!DOCTYPE html>"));
    let answer = ask(&sandbox);
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(answer.header("content-type"), "application/json");
    let answer = ask(&sandbox);
    assert_eq!((answer.status, answer.body.as_str()), (299, "\u{1}{"));
    assert_eq!(answer.header("x-own"), "1");
    assert_eq!(answer.header("date"), date);
    assert_eq!(answer.header("content-type"), "");
}

#[test]
fn headers_can_be_added_to_the_normal_answer() {
    let sandbox = Sandbox::start().unwrap();
    let quota = "b=per_hour;q=10;r=9;t=3540";
    let fault = Fault::delay(Duration::ZERO).header("auth0-client-quota-limit", quota);
    sandbox.inject(Route::Token, fault);
    let answer = ask(&sandbox);
    assert_eq!(answer.header("auth0-client-quota-limit"), quota);
    assert_eq!(get(&sandbox.me_url(), &answer.token()).status, 200);
}

#[test]
fn a_delay_comes_before_the_answer() {
    let sandbox = Sandbox::start().unwrap();
    let delay = Duration::from_millis(200);
    sandbox.inject(Route::Token, Fault::delay(delay).once());
    sandbox.inject(Route::Token, Fault::status(500).after(delay).once());
    for status in [200, 500] {
        let start = Instant::now();
        assert_eq!(ask(&sandbox).status, status);
        assert!(start.elapsed() >= delay);
    }
}

#[test]
fn a_late_token_has_aged_on_the_way() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.set_lifetime(Duration::from_secs(3));
    let wait = Duration::from_millis(3_100);
    sandbox.inject(Route::Token, Fault::delay(wait).once());
    sandbox.inject(Route::Token, Fault::late(wait).once());
    assert_eq!(get(&sandbox.me_url(), &token(&sandbox)).status, 200);
    assert_eq!(get(&sandbox.me_url(), &token(&sandbox)).status, 401);
}

#[test]
fn a_delayed_request_does_not_hold_up_others() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.inject(Route::Token, Fault::hang().once());
    let _held = raw_token_request(&sandbox);
    while sandbox.token_requests() == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(ask(&sandbox).status, 200);
    assert_eq!(sandbox.requests()[0].status(), None);
}

#[test]
fn a_reset_comes_before_any_byte_and_after_the_request_was_logged() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.inject(Route::Token, Fault::reset().once());
    let (received, end) = raw_answer(&sandbox);
    assert_eq!((received.as_str(), end), ("", Some(ErrorKind::ConnectionReset)));
    assert_eq!(sandbox.requests()[0].status(), None);
    assert!(!sandbox.requests()[0].body().is_empty());
    assert_eq!(sandbox.tokens_issued(), 0);
    let (received, end) = raw_answer(&sandbox);
    assert!(received.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(end, None);
}

#[test]
fn a_truncated_answer_promises_more_than_it_sends() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.inject(Route::Token, Fault::truncate().once());
    let (received, end) = raw_answer(&sandbox);
    assert_eq!(end, None);
    let (head, body) = received.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
    let promised: usize = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    assert_eq!(body.len(), promised / 2);
    assert!(body.starts_with("{\"access_token\":"), "{body}");
    assert_eq!(sandbox.tokens_issued(), 1);
    assert_eq!(sandbox.requests()[0].status(), Some(200));
}

#[test]
#[should_panic(expected = "200 or more")]
fn a_status_that_is_no_answer_is_refused() {
    let _ = Fault::status(100);
}
