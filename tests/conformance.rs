//! One list of scenarios, run against every driver.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use alvys_auth_core::{Encoding, ErrorKind, Flow, LegacyPath, Policy};
use alvys_auth_driver::ManualClock;
use alvys_auth_sandbox::{Fault, Route, Sandbox};
use alvys_auth_tests::{Async, Blocking, Settings, Source, both_drivers, call_api, credentials, eventually};

both_drivers![
    both_flows_and_encodings_yield_tokens_that_the_api_accepts,
    a_cold_start_with_1000_callers_makes_one_request,
    an_expiry_with_1000_callers_makes_one_request,
    a_slow_renewal_inside_the_margin_makes_nobody_wait,
    a_failing_renewal_inside_the_margin_is_invisible,
    a_short_run_waits_for_its_own_renewal_and_for_that_of_nobody_else,
    an_error_is_shared_and_not_repeated,
    a_transient_failure_is_retried_by_one_for_all,
    a_pause_longer_than_the_patience_is_reported_at_once,
    a_permanent_error_ends_once_the_credentials_are_fixed,
    a_permanent_error_ends_once_the_server_is_fixed,
    a_request_that_hangs_keeps_nobody_from_the_token_of_a_second_one,
    other_credentials_bring_another_token,
    a_401_costs_one_renewal_however_many_callers_saw_it,
    a_401_for_a_young_token_costs_nothing,
    retry_after_is_obeyed_in_both_forms,
    a_lifetime_shorter_than_the_margin_causes_no_storm,
    an_idle_source_renews_nothing,
    redirects_leak_nothing,
    a_broken_connection_is_tried_again,
    a_silent_server_ends_in_an_error_and_not_in_a_wait_for_ever,
    a_closed_server_takes_no_held_token_away_and_wedges_nothing,
    an_oversized_body_is_refused,
    an_oversized_error_page_is_understood,
    an_invalidated_token_is_replaced,
    a_disguised_rate_limit_is_told_as_one,
    a_foreign_organization_is_refused,
];

fn start() -> Sandbox {
    Sandbox::start().expect("a sandbox")
}

fn build<S: Source>(settings: Settings) -> S {
    S::build(settings).expect("acceptable settings")
}

fn both_flows_and_encodings_yield_tokens_that_the_api_accepts<S: Source>() {
    let sandbox = start();
    let tenant = sandbox.application().tenant().to_owned();
    let legacy_p = format!("{}/api/p/authentication/{{tenant_id}}/token", sandbox.url());
    let current = || Flow::current().endpoint(sandbox.token_url());
    let legacy = || Flow::legacy(&tenant).endpoint(sandbox.legacy_token_url());
    let flows = [
        current().encoding(Encoding::Json).scopes(["load:read"]),
        current().encoding(Encoding::Form).expect_organization(&tenant),
        legacy().encoding(Encoding::Form),
        legacy().encoding(Encoding::Json).tenant_in_body(),
        Flow::legacy(&tenant).legacy_path(LegacyPath::ApiP).endpoint(legacy_p),
    ];
    for (count, flow) in (1..).zip(flows) {
        let legacy = flow.is_legacy();
        let source = build::<S>(Settings { flow, ..Settings::current(&sandbox) });
        let token = source.token().expect("a token");
        assert_eq!(call_api(&sandbox, &token), 200);
        assert_eq!(token.scopes().is_read_only(), legacy);
        assert!(token.scopes().contains("load:read"));

        let again = source.token().expect("the same token");
        assert_eq!(again.header(), token.header());
        assert_eq!(source.with_token(|token| token.header().clone()), Some(token.header().clone()));
        assert!(source.status().is_ready());
        assert_eq!(sandbox.token_requests(), count);
    }
}

fn a_cold_start_with_1000_callers_makes_one_request<S: Source>() {
    let sandbox = start();
    sandbox.inject(Route::Token, Fault::late(Duration::from_millis(100)));
    let source = build::<S>(Settings::current(&sandbox));
    let tokens = source.tokens(1000);
    let first = tokens[0].as_ref().expect("a token").header().clone();
    assert!(tokens.iter().all(|token| token.as_ref().is_ok_and(|token| *token.header() == first)));
    assert_eq!(sandbox.token_requests(), 1);
}

fn an_expiry_with_1000_callers_makes_one_request<S: Source>() {
    let sandbox = start();
    let clock = Arc::new(ManualClock::new());
    let policy = Policy::new().margin(Duration::ZERO);
    let source = build::<S>(Settings::current(&sandbox).policy(policy).clock(&clock));
    let old = source.token().expect("a token");
    clock.advance(Duration::from_secs(3600));
    let tokens = source.tokens(1000);
    assert!(tokens.iter().all(|token| token.as_ref().is_ok_and(|token| token.header() != old.header())));
    assert_eq!(sandbox.token_requests(), 2);
}

/// Moves the clock into the margin of a token that lives for an hour, and asks until the source has begun to renew it.
fn begin_a_renewal<S: Source>(sandbox: &Sandbox, clock: &ManualClock, source: &S) {
    clock.advance(Duration::from_secs(3600 - 150));
    eventually("a renewal begins inside the margin", || {
        source.token().expect("the held token");
        sandbox.token_requests() == 2
    });
}

fn a_slow_renewal_inside_the_margin_makes_nobody_wait<S: Source>() {
    let (sandbox, clock) = (start(), Arc::new(ManualClock::new()));
    let source = build::<S>(Settings::current(&sandbox).clock(&clock));
    let old = source.token().expect("a token");
    sandbox.inject(Route::Token, Fault::hang());
    begin_a_renewal(&sandbox, &clock, &source);
    for token in source.tokens(50) {
        assert_eq!(token.expect("the held token").header(), old.header());
    }
    let status = source.status();
    assert!(status.in_flight && status.is_ready());
    assert_eq!(sandbox.token_requests(), 2);
}

fn a_short_run_waits_for_its_own_renewal_and_for_that_of_nobody_else<S: Source>() {
    let (sandbox, clock, directory) =
        (start(), Arc::new(ManualClock::new()), tempfile::tempdir().expect("a directory"));
    let settings = Settings::current(&sandbox)
        .policy(Policy::new().wait_for_renewal(Duration::from_secs(5)))
        .clock(&clock)
        .store(&directory.path().join("tokens"));
    let [one, other] = [(); 2].map(|()| build::<S>(settings.clone()));
    let old = one.token().expect("a token");
    assert_eq!(other.token().expect("the same token").header(), old.header());
    clock.advance(Duration::from_secs(3600 - 150));
    sandbox.inject(Route::Token, Fault::hang().once());
    thread::scope(|scope| {
        let renewing = scope.spawn(|| one.token().expect("the held token"));
        eventually("one of them asks", || sandbox.token_requests() == 2);
        assert_eq!(other.token().expect("the held token").header(), old.header());
        assert!(!renewing.is_finished(), "it waits for its renewal");
        clock.advance(Duration::from_secs(5));
        assert_eq!(renewing.join().expect("no panic").header(), old.header());
    });
    let alone = build::<S>(Settings { store: None, ..settings });
    let old = alone.token().expect("a token");
    clock.advance(Duration::from_secs(3600 - 150));
    assert_ne!(alone.token().expect("the renewed token").header(), old.header());
}

fn a_failing_renewal_inside_the_margin_is_invisible<S: Source>() {
    let (sandbox, clock) = (start(), Arc::new(ManualClock::new()));
    let source = build::<S>(Settings::current(&sandbox).clock(&clock));
    let old = source.token().expect("a token");
    sandbox.inject(Route::Token, Fault::status(500).retry_after(Duration::from_secs(60)));
    begin_a_renewal(&sandbox, &clock, &source);
    eventually("the failure is known", || source.status().last_error.is_some());
    for token in source.tokens(50) {
        assert_eq!(token.expect("the held token").header(), old.header());
    }
    assert_eq!(sandbox.token_requests(), 2);
    let error = source.status().last_error.expect("the failure");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

fn an_error_is_shared_and_not_repeated<S: Source>() {
    let sandbox = start();
    sandbox.inject(Route::Token, Fault::late(Duration::from_millis(100)));
    let wrong = credentials(sandbox.application().client_id(), "not-the-secret");
    let source = build::<S>(Settings { credentials: wrong, ..Settings::current(&sandbox) });
    for result in source.tokens(200) {
        let error = result.expect_err("a refusal");
        assert_eq!(error.kind(), ErrorKind::Credentials);
        assert_eq!(error.oauth_code(), Some("access_denied"));
        assert!(error.request_id().is_some());
    }
    source.token().expect_err("the same refusal, from memory");
    assert_eq!(sandbox.token_requests(), 1);
}

fn a_transient_failure_is_retried_by_one_for_all<S: Source>() {
    let sandbox = start();
    sandbox.inject(Route::Token, Fault::unavailable().times(3));
    let backoff = Duration::from_millis(50);
    let source = build::<S>(Settings::current(&sandbox).policy(Policy::new().backoff(backoff, backoff)));
    assert!(source.tokens(200).iter().all(Result::is_ok));
    assert_eq!(sandbox.token_requests(), 4, "three failures and one token, whoever waits");
}

fn a_pause_longer_than_the_patience_is_reported_at_once<S: Source>() {
    let sandbox = start();
    sandbox.inject(Route::Token, Fault::status(429).retry_after(Duration::from_secs(180)));
    let source = build::<S>(Settings::current(&sandbox));
    let started = Instant::now();
    for result in source.tokens(200) {
        let error = result.expect_err("a rate limit");
        assert_eq!(error.kind(), ErrorKind::RateLimited);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(180)));
    }
    assert!(started.elapsed() < Duration::from_secs(10), "nobody sat the patience of 15 s out");
    assert_eq!(sandbox.token_requests(), 1);
    assert!(source.status().paused_for.is_some_and(|pause| pause > Duration::from_secs(150)));
}

fn a_permanent_error_ends_once_the_credentials_are_fixed<S: Source>() {
    let sandbox = start();
    let right = sandbox.application();
    let wrong = credentials(right.client_id(), "not-the-secret");
    let source = build::<S>(Settings { credentials: wrong, ..Settings::current(&sandbox) });
    assert_eq!(source.token().expect_err("a refusal").kind(), ErrorKind::Credentials);
    source.set_credentials(credentials(right.client_id(), right.client_secret())).expect("acceptable credentials");
    source.token().expect("a token without a wait for the cool-down");
    assert_eq!(sandbox.token_requests(), 2);
}

fn a_permanent_error_ends_once_the_server_is_fixed<S: Source>() {
    let sandbox = start();
    let application = sandbox.application();
    let clock = Arc::new(ManualClock::new());
    let source = build::<S>(Settings::current(&sandbox).clock(&clock));
    sandbox.rotate_secret(application.client_id(), "another");
    source.token().expect_err("a refusal");
    sandbox.rotate_secret(application.client_id(), application.client_secret());
    source.token().expect_err("still the same refusal, without a request");
    assert_eq!(sandbox.token_requests(), 1);
    clock.advance(Duration::from_secs(5));
    source.token().expect("a token after the cool-down");
}

fn a_request_that_hangs_keeps_nobody_from_the_token_of_a_second_one<S: Source>() {
    let (sandbox, clock) = (start(), Arc::new(ManualClock::new()));
    let policy = Policy::new().request_timeout(Duration::from_secs(60));
    let source = build::<S>(Settings::current(&sandbox).policy(policy).clock(&clock));
    sandbox.inject(Route::Token, Fault::hang().once());
    thread::scope(|scope| {
        let caller = scope.spawn(|| source.token().expect("the token of the second request"));
        eventually("the first request hangs", || sandbox.token_requests() == 1);
        clock.advance(Duration::from_secs(3));
        eventually("the caller sends a second one", || sandbox.token_requests() == 2);
        let token = caller.join().expect("a caller that does not panic");
        assert_eq!(call_api(&sandbox, &token), 200);
    });
}

fn other_credentials_bring_another_token<S: Source>() {
    let sandbox = start();
    let source = build::<S>(Settings::current(&sandbox));
    let old = source.token().expect("a token");
    let other = alvys_auth_sandbox::Application::new("other", "other-secret", "AB123");
    sandbox.add(other);
    source.set_credentials(credentials("other", "other-secret")).expect("acceptable credentials");
    let new = source.token().expect("a token");
    assert_ne!(new.header(), old.header());
    assert_eq!(new.unverified_claims().expect("a JWT").organization_name.as_deref(), Some("AB123"));
}

fn a_401_costs_one_renewal_however_many_callers_saw_it<S: Source>() {
    let sandbox = start();
    let source = build::<S>(Settings::current(&sandbox).policy(Policy::new().rejection_grace(Duration::ZERO)));
    source.token().expect("a token");
    sandbox.reject_tokens();
    let statuses: Vec<u16> = thread::scope(|scope| {
        let call = || {
            let token = source.token().expect("a token");
            match call_api(&sandbox, &token) {
                401 if source.reject(&token) => call_api(&sandbox, &source.token().expect("another token")),
                status => status,
            }
        };
        let callers: Vec<_> = (0..50).map(|_| scope.spawn(call)).collect();
        callers.into_iter().map(|caller| caller.join().expect("a caller that does not panic")).collect()
    });
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(sandbox.token_requests(), 2);
}

fn a_401_for_a_young_token_costs_nothing<S: Source>() {
    let sandbox = start();
    let source = build::<S>(Settings::current(&sandbox));
    let token = source.token().expect("a token");
    sandbox.reject_tokens();
    assert_eq!(call_api(&sandbox, &token), 401);
    assert!(!source.reject(&token), "a token that is seconds old was not refused for its age");
    assert_eq!(source.token().expect("the same token").header(), token.header());
    assert_eq!(sandbox.token_requests(), 1);
}

fn retry_after_is_obeyed_in_both_forms<S: Source>() {
    let wait = Duration::from_secs(8);
    for fault in [Fault::status(503).retry_after(wait), Fault::status(429).retry_after_date(wait)] {
        let (sandbox, clock) = (start(), Arc::new(ManualClock::new()));
        sandbox.inject(Route::Token, fault.once());
        let source = build::<S>(Settings::current(&sandbox).clock(&clock));
        thread::scope(|scope| {
            let caller = scope.spawn(|| source.token());
            eventually("the pause begins", || source.status().paused_for.is_some());
            assert!(source.status().paused_for.is_some_and(|pause| pause > Duration::from_secs(6) && pause <= wait));
            clock.advance(Duration::from_secs(6));
            assert!(source.status().paused_for.is_some());
            assert_eq!(sandbox.token_requests(), 1, "asked before the wait is over");
            clock.advance(Duration::from_secs(2));
            caller.join().expect("a caller that does not panic").expect("a token after the wait");
        });
        assert_eq!(sandbox.token_requests(), 2);
    }
}

fn a_lifetime_shorter_than_the_margin_causes_no_storm<S: Source>() {
    let sandbox = start();
    sandbox.set_lifetime(Duration::from_secs(2));
    let clock = Arc::new(ManualClock::new());
    let policy = Policy::new().margin(Duration::from_secs(300));
    let source = build::<S>(Settings::current(&sandbox).policy(policy).clock(&clock));
    for _ in 0..70 {
        source.token().expect("a token");
        eventually("no renewal is on its way", || !source.status().in_flight);
        clock.advance(Duration::from_millis(50));
    }
    let requests = sandbox.token_requests();
    assert!((2..=3).contains(&requests), "{requests} requests in 3.5 s for tokens of 2 s");
}

fn an_idle_source_renews_nothing<S: Source>() {
    let (sandbox, clock) = (start(), Arc::new(ManualClock::new()));
    let source = build::<S>(Settings::current(&sandbox).clock(&clock));
    source.token().expect("a token");
    clock.advance(Duration::from_secs(3500));
    assert!(source.status().is_ready());
    clock.advance(Duration::from_secs(100));
    assert_eq!(sandbox.token_requests(), 1);
    assert!(!source.status().is_ready());
}

fn redirects_leak_nothing<S: Source>() {
    for status in [301, 302, 303, 307, 308] {
        let sandbox = start();
        let elsewhere = start();
        sandbox.inject(Route::Token, Fault::redirect(status, elsewhere.token_url()));
        let source = build::<S>(Settings::current(&sandbox));
        let error = source.token().expect_err("a redirect is no token");
        assert_eq!(error.kind(), ErrorKind::Intercepted);
        assert_eq!(error.status().map(|status| status.as_u16()), Some(status));
        assert!(elsewhere.requests().is_empty());
        assert_eq!(sandbox.token_requests(), 1);
    }
}

fn a_broken_connection_is_tried_again<S: Source>() {
    for fault in [Fault::reset(), Fault::truncate()] {
        let sandbox = start();
        sandbox.inject(Route::Token, fault.once());
        let source = build::<S>(Settings::current(&sandbox));
        source.token().expect("a token from the second attempt");
        assert_eq!(sandbox.token_requests(), 2);
    }
}

fn a_silent_server_ends_in_an_error_and_not_in_a_wait_for_ever<S: Source>() {
    let sandbox = start();
    sandbox.inject(Route::Token, Fault::hang());
    let policy = Policy::new().request_timeout(Duration::from_millis(300));
    let source = build::<S>(Settings::current(&sandbox).policy(policy).patience(Duration::from_millis(200)));
    for result in source.tokens(20) {
        assert_eq!(result.expect_err("silence").kind(), ErrorKind::TimedOut);
    }
    sandbox.clear_faults();
    eventually("the source is well again", || source.token().is_ok());
}

fn a_closed_server_takes_no_held_token_away_and_wedges_nothing<S: Source>() {
    let sandbox = start();
    let clock = Arc::new(ManualClock::new());
    let (address, application, settings) = (sandbox.address(), sandbox.application(), Settings::current(&sandbox));
    let policy = Policy::new().pause_while_waiting(Duration::from_secs(60));
    let source = build::<S>(settings.patience(Duration::ZERO).policy(policy).clock(&clock));
    eventually("a token is there", || source.token().is_ok());
    let token = source.token().expect("a token");
    drop(sandbox);
    clock.advance(Duration::from_secs(3500));
    assert_eq!(source.token().expect("the held token").header(), token.header());
    clock.advance(Duration::from_secs(100));
    assert!(!source.status().is_ready());
    eventually("the failure is known", || source.token().is_err_and(|error| error.kind() == ErrorKind::Transport));
    let error = source.token().expect_err("no server");
    assert!(error.is_retryable());

    let sandbox = Sandbox::bind(address).expect("the same address");
    sandbox.add(application);
    eventually("the source is well again", || {
        clock.advance(Duration::from_secs(1));
        source.token().is_ok()
    });
}

fn an_oversized_body_is_refused<S: Source>() {
    let sandbox = start();
    sandbox.inject(Route::Token, Fault::reply(200, vec![b'a'; 1024 * 1024]));
    let source = build::<S>(Settings::current(&sandbox).patience(Duration::from_secs(4)));
    let error = source.token().expect_err("too much");
    assert_eq!(error.kind(), ErrorKind::InvalidResponse);
    assert!(error.to_string().contains("64 KiB"), "{error}");
    assert_eq!(sandbox.token_requests(), 2, "it may have cost a token: asked for once more, then with a pause of 5 s");
}

fn an_oversized_error_page_is_understood<S: Source>() {
    let sandbox = start();
    let page = format!("<html>{}</html>", "busy ".repeat(100_000));
    sandbox.inject(Route::Token, Fault::reply(503, page).retry_after(Duration::from_secs(600)));
    let error = build::<S>(Settings::current(&sandbox)).token().expect_err("unavailable");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(600)));
}

fn an_invalidated_token_is_replaced<S: Source>() {
    let sandbox = start();
    let source = build::<S>(Settings::current(&sandbox));
    let old = source.token().expect("a token");
    source.invalidate();
    assert!(source.with_token(|_| ()).is_none());
    assert_ne!(source.token().expect("a token").header(), old.header());
    assert_eq!(sandbox.token_requests(), 2);
}

fn a_disguised_rate_limit_is_told_as_one<S: Source>() {
    let sandbox = start();
    sandbox.inject(Route::Token, Fault::disguised_rate_limit());
    let source = build::<S>(Settings::current(&sandbox).patience(Duration::ZERO));
    // Without patience the first failure is still on its way when the caller gives up.
    assert!(source.token().expect_err("no time").is_retryable());
    eventually("the failure is known", || source.status().last_error.is_some());
    assert_eq!(source.token().expect_err("a rate limit").kind(), ErrorKind::RateLimited);
}

fn a_foreign_organization_is_refused<S: Source>() {
    let sandbox = start();
    let settings = Settings::current(&sandbox);
    let flow = settings.flow.clone().expect_organization("somebody-else");
    let source = build::<S>(Settings { flow, ..settings });
    assert_eq!(source.token().expect_err("a mix-up").kind(), ErrorKind::WrongOrganization);
    assert!(!source.status().is_ready());
}
