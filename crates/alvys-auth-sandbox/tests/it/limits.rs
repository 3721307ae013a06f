//! Rate limits of the API.

use std::{thread, time::Duration};

use alvys_auth_sandbox::{RateLimits, Sandbox};

use crate::support::{call, get, token};

#[test]
fn nothing_is_limited_until_asked_for() {
    let sandbox = Sandbox::start().unwrap();
    let token = token(&sandbox);
    for _ in 0..60 {
        assert_eq!(get(&sandbox.me_url(), &token).status, 200);
    }
}

#[test]
fn a_sixth_list_in_a_minute_blocks_that_list_for_three_minutes() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.limit_rates(RateLimits::published());
    let token = token(&sandbox);
    let loads = format!("{}/loads", sandbox.api_url());
    for _ in 0..5 {
        assert_eq!(get(&loads, &token).status, 200);
    }
    let answer = get(&loads, &token);
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("retry-after"), "180");
    assert_eq!(answer.json()["Status"], 429);
    let search = format!("{loads}/search");
    assert_eq!(call("POST", &search, &token, "{}").status, 200);
    sandbox.lift_rate_limits();
    assert_eq!(get(&loads, &token).status, 200);
}

#[test]
fn lists_are_counted_apart_from_single_items_of_the_same_resource() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.limit_rates(RateLimits::published().first_second(u32::MAX).per_endpoint(2).per_list(1));
    let token = token(&sandbox);
    let (loads, load) = (format!("{}/loads", sandbox.api_url()), format!("{}/loads/load-1", sandbox.api_url()));
    let statuses = [&load, &load, &loads, &load, &loads].map(|url| get(url, &token).status);
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
}

#[test]
fn a_second_request_in_the_first_second_blocks_the_endpoint() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.limit_rates(RateLimits::published());
    let token = token(&sandbox);
    assert_eq!(get(&sandbox.me_url(), &token).status, 200);
    let answer = get(&sandbox.me_url(), &token);
    assert_eq!((answer.status, answer.header("retry-after")), (429, "180"));
    thread::sleep(Duration::from_millis(1050));
    assert_eq!(get(&sandbox.me_url(), &token).status, 429);
    assert_eq!(get(&format!("{}/loads/load-1", sandbox.api_url()), &token).status, 200);
}

#[test]
fn ten_requests_pass_in_a_minute_when_the_first_second_holds_one() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.limit_rates(RateLimits::published().per_token(u32::MAX));
    let token = token(&sandbox);
    assert_eq!(get(&sandbox.me_url(), &token).status, 200);
    thread::sleep(Duration::from_millis(1050));
    for _ in 0..9 {
        assert_eq!(get(&sandbox.me_url(), &token).status, 200);
    }
    assert_eq!(get(&sandbox.me_url(), &token).status, 429);
}

#[test]
fn the_first_second_shrinks_with_the_window() {
    let sandbox = Sandbox::start().unwrap();
    let window = Duration::from_secs(6);
    sandbox.limit_rates(RateLimits::published().per_token(u32::MAX).window(window));
    let token = token(&sandbox);
    assert_eq!(get(&sandbox.me_url(), &token).status, 200);
    thread::sleep(Duration::from_millis(150));
    assert_eq!(get(&sandbox.me_url(), &token).status, 200);
}

#[test]
fn tokens_are_limited_apart_and_organizations_together() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.limit_rates(RateLimits::published().first_second(u32::MAX).per_token(2).per_organization(3));
    let (one, other) = (token(&sandbox), token(&sandbox));
    let statuses = [&one, &one, &one, &other, &other].map(|token| get(&sandbox.me_url(), token).status);
    assert_eq!(statuses, [200, 200, 429, 200, 429]);
}

#[test]
fn a_block_ends() {
    let sandbox = Sandbox::start().unwrap();
    let block = Duration::from_secs(2);
    sandbox.limit_rates(RateLimits::published().per_endpoint(1).block(block));
    let token = token(&sandbox);
    assert_eq!(get(&sandbox.me_url(), &token).status, 200);
    let answer = get(&sandbox.me_url(), &token);
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("retry-after"), "2");
    thread::sleep(block);
    assert_eq!(get(&sandbox.me_url(), &token).status, 200);
}

#[test]
fn a_window_ends() {
    let sandbox = Sandbox::start().unwrap();
    let window = Duration::from_millis(300);
    sandbox.limit_rates(RateLimits::published().per_endpoint(1).window(window));
    let token = token(&sandbox);
    assert_eq!(get(&sandbox.me_url(), &token).status, 200);
    thread::sleep(window);
    assert_eq!(get(&sandbox.me_url(), &token).status, 200);
}
