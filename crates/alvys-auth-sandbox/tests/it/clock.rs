//! Lifetimes, expiry and the server's own idea of the time.

use std::{
    thread,
    time::{Duration, SystemTime},
};

use alvys_auth_sandbox::{Application, Fault, Route, Sandbox};
use jsonwebtoken::dangerous::insecure_decode_claims;
use serde_json::Value;

use crate::support::{fields, get, legacy_token, legacy_url, post_both, post_form, token};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn whole_lifetimes_are_whole_numbers_and_others_are_not() {
    let sandbox = Sandbox::start().unwrap();
    let application = sandbox.application();
    for (lifetime, written) in [(7_000, "7"), (1_500, "1.5"), (0, "0")] {
        sandbox.set_lifetime(Duration::from_millis(lifetime));
        let answer = post_form(&sandbox.token_url(), &fields(&application));
        assert_eq!(answer.json()["expires_in"].to_string(), written);
        let claims: Value = insecure_decode_claims(answer.token()).unwrap();
        let life = claims["exp"].as_f64().unwrap() - claims["iat"].as_f64().unwrap();
        assert!((life - lifetime as f64 / 1000.0).abs() < 0.001, "{life}");
        assert_eq!(claims["exp"].is_u64(), lifetime % 1000 == 0);
    }
}

#[test]
fn a_token_is_good_for_all_of_its_lifetime_and_no_longer() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.set_lifetime(Duration::from_secs(4));
    let (token, legacy) = (token(&sandbox), legacy_token(&sandbox));
    thread::sleep(Duration::from_secs(2));
    assert_eq!(get(&sandbox.me_url(), &token).status, 200);
    assert_eq!(get(&sandbox.me_url(), &legacy).status, 200);
    thread::sleep(Duration::from_millis(2_100));
    assert_eq!(get(&sandbox.me_url(), &token).status, 401);
    assert_eq!(get(&sandbox.me_url(), &legacy).status, 401);
}

#[test]
fn an_expired_application_is_refused_by_both_flows() {
    let sandbox = Sandbox::start().unwrap();
    let application = Application::new("id", "secret", "va336").expires_at(SystemTime::now() + HOUR);
    sandbox.add(application.clone());
    let (current, legacy) = (sandbox.token_url(), legacy_url(&sandbox, "va336"));
    assert_eq!(post_both(&current, &fields(&application)).status, 200);
    assert_eq!(post_both(&legacy, &fields(&application)).status, 200);
    sandbox.set_clock_skew(3601);
    let answer = post_both(&current, &fields(&application));
    assert_eq!(answer.status, 401);
    assert_eq!(answer.json()["error_description"], "Unauthorized");
    assert_eq!(post_both(&legacy, &fields(&application)).status, 403);
}

#[test]
fn a_skewed_clock_tells_one_time_everywhere() {
    let sandbox = Sandbox::start().unwrap();
    for skew in [-86_400_i64, 86_400] {
        sandbox.set_clock_skew(skew);
        let about_now = |seconds: i64| {
            let real = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
            let off = seconds - (i64::try_from(real).unwrap() + skew);
            assert!((-5..=5).contains(&off), "off by {off} s");
        };
        let date = |text: &str| {
            let moment = httpdate::parse_http_date(text).unwrap();
            i64::try_from(moment.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()).unwrap()
        };
        let answer = post_form(&sandbox.token_url(), &fields(&sandbox.application()));
        about_now(date(answer.header("date")));
        let claims: Value = insecure_decode_claims(answer.token()).unwrap();
        about_now(claims["iat"].as_i64().unwrap());
        about_now(claims["exp"].as_i64().unwrap() - 3600);
        assert_eq!(get(&sandbox.me_url(), &answer.token()).status, 200);

        let fault = Fault::status(429).retry_after_date(HOUR).rate_limit_reset(HOUR).once();
        sandbox.inject(Route::Token, fault);
        let answer = post_form(&sandbox.token_url(), &fields(&sandbox.application()));
        about_now(date(answer.header("retry-after")) - 3600);
        about_now(answer.header("x-ratelimit-reset").parse::<i64>().unwrap() - 3600);
    }
}

#[test]
fn putting_the_clock_forward_expires_tokens() {
    let sandbox = Sandbox::start().unwrap();
    let token = token(&sandbox);
    sandbox.set_clock_skew(3590);
    assert_eq!(get(&sandbox.me_url(), &token).status, 200);
    sandbox.set_clock_skew(3601);
    assert_eq!(get(&sandbox.me_url(), &token).status, 401);
}

#[test]
fn absurd_times_do_no_harm() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.set_lifetime(Duration::MAX);
    for skew in [i64::MIN, i64::MAX] {
        sandbox.set_clock_skew(skew);
        sandbox.inject(Route::Api, Fault::status(503).retry_after_date(Duration::MAX).once());
        assert_eq!(get(&sandbox.me_url(), "").status, 503);
        let token = token(&sandbox);
        assert_eq!(get(&sandbox.me_url(), &token).status, 200);
    }
}
