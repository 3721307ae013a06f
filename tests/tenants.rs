//! Many tenants in one process, each on its own: the same scenarios against both drivers.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use alvys_auth_core::{Error, ErrorKind, Flow, Policy, Token};
use alvys_auth_sandbox::{Application, Fault, Route, Sandbox};
use alvys_auth_tests::many::{Async, Blocking, CHANGES, Directory, Many, Wanted, client_id, current, knowing, secret};
use alvys_auth_tests::{both_drivers, credentials, eventually};

both_drivers![
    each_tenant_gets_its_own_token,
    both_flows_serve_side_by_side,
    a_hundred_first_callers_cost_one_look_and_one_request,
    a_wrong_secret_stops_nobody_else,
    a_back_off_delays_nobody_else,
    a_server_that_hangs_delays_nobody_else,
    patience_and_policy_hold_for_every_tenant,
    a_provider_that_fails_for_one_fails_for_no_other,
    a_provider_that_takes_its_time_for_one_delays_no_other,
    a_provider_that_hangs_is_not_waited_for_for_ever,
    an_unknown_tenant_is_an_error_and_asked_about_again,
    an_unknown_tenant_pushes_nobody_out,
    a_removed_tenant_gets_no_other_token,
    a_removed_tenants_token_ends_when_its_renewal_is_due,
    a_removed_tenant_is_told_from_one_whose_secret_is_refused,
    an_unknown_tenant_gets_nothing_from_the_environment,
    another_tenants_credentials_are_caught,
    a_mix_up_that_is_mended_heals_by_itself,
    a_mix_up_buys_no_token_at_each_cool_down,
    a_mix_up_that_is_mended_at_the_server_heals_too,
    without_the_guard_a_tenant_may_have_any_name,
    an_organization_that_the_flow_expects_takes_the_place_of_the_tenants_name,
    the_least_recently_used_tenant_goes_first,
    there_is_room_for_one_at_least,
    a_forgotten_tenant_is_looked_up_again,
    a_refused_secret_is_read_again_for_its_tenant_alone,
    a_changed_secret_is_read_again_for_its_tenant_alone,
];

/// The one whom the sandbox takes the bearer of a token for.
fn owner(sandbox: &Sandbox, token: &Token) -> String {
    let request = ureq::get(sandbox.me_url()).header("authorization", token.header());
    request.call().expect("an answer").body_mut().read_to_string().expect("text")
}

fn each_tenant_gets_its_own_token<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "bb222"]);
    let tenants = M::new(&directory);
    assert_eq!(tenants.count(), 0);
    for tenant in ["aa111", "bb222", "aa111"] {
        let token = tenants.token(tenant).expect("a token");
        let owner = owner(&sandbox, &token);
        assert!(owner.contains(tenant), "{owner}");
    }
    assert_eq!(tenants.count(), 2);
    assert_eq!(sandbox.tokens_issued(), 2, "the third caller shares the first token");
}

fn both_flows_serve_side_by_side<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "bb222"]);
    directory.give("bb222", Flow::legacy("bb222").endpoint(sandbox.legacy_token_url()), &secret("bb222"));
    let tenants = M::new(&directory);
    tenants.token("aa111").expect("a token by the current flow");
    tenants.token("bb222").expect("a token by the legacy flow");
    let requests = sandbox.requests();
    let paths: Vec<&str> = requests.iter().map(|request| request.path()).collect();
    assert_eq!(paths, ["/oauth/token", "/api/authentication/bb222/token"]);
}

fn a_hundred_first_callers_cost_one_look_and_one_request<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111"]);
    sandbox.inject(Route::Token, Fault::late(Duration::from_millis(100)));
    let tenants = M::new(&directory);
    let start = Barrier::new(100);
    thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                start.wait();
                tenants.token("aa111").expect("a token");
            });
        }
    });
    assert_eq!((directory.asked("aa111"), sandbox.token_requests(), tenants.count()), (1, 1, 1));
}

fn a_wrong_secret_stops_nobody_else<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "bb222"]);
    directory.give("bb222", current(&sandbox), "wrong");
    let tenants = M::new(&directory);
    for _ in 0..3 {
        assert_eq!(tenants.token("bb222").expect_err("a wrong secret").kind(), ErrorKind::Credentials);
    }
    assert_eq!(sandbox.token_requests(), 1, "its cool-down holds for it");
    tenants.token("aa111").expect("a token");
    assert_eq!(sandbox.token_requests(), 2);
}

fn a_back_off_delays_nobody_else<M: Many>() {
    let (_sandbox, directory) = knowing(&["aa111"]);
    let busy = Sandbox::start().expect("another sandbox");
    busy.inject(Route::Token, Fault::status(429).retry_after(Duration::from_secs(60)));
    directory.add(&busy, "bb222");
    let tenants = M::new(&directory);
    for _ in 0..2 {
        let error = tenants.token("bb222").expect_err("a wait of a minute");
        assert!(error.retry_after().is_some(), "{error}");
    }
    assert_eq!(busy.token_requests(), 1);
    tenants.token("aa111").expect("a token");
}

fn a_server_that_hangs_delays_nobody_else<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "bb222"]);
    let hanging = Sandbox::start().expect("another sandbox");
    hanging.inject(Route::Token, Fault::hang());
    directory.add(&hanging, "cc333");
    let policy = Policy::new().request_timeout(Duration::from_secs(3));
    let tenants = M::build(Wanted { policy, patience: Some(Duration::from_secs(3)), ..Wanted::default() }, &directory);
    let waiting = thread::spawn({
        let tenants = tenants.clone();
        move || tenants.token("cc333")
    });
    eventually("the request is on its way", || hanging.token_requests() == 1);
    for tenant in ["aa111", "bb222"] {
        tenants.token(tenant).expect("a token");
    }
    assert!(!waiting.is_finished(), "they had to wait for the one that hangs");
    assert_eq!(waiting.join().expect("no panic").expect_err("no answer").kind(), ErrorKind::TimedOut);
    assert_eq!(sandbox.token_requests(), 2);
}

fn patience_and_policy_hold_for_every_tenant<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111"]);
    sandbox.inject(Route::Token, Fault::hang());
    let soon = Duration::from_millis(200);
    let hour = Duration::from_secs(3_600);
    let impatient = Wanted { patience: Some(soon), ..Wanted::default() };
    let quick = Wanted { policy: Policy::new().request_timeout(soon).backoff(hour, hour), ..Wanted::default() };
    for wanted in [impatient, quick] {
        let began = Instant::now();
        M::build(wanted, &directory).token("aa111").expect_err("no answer");
        assert!(began.elapsed() < Duration::from_secs(12), "took {:?}", began.elapsed());
    }
}

fn a_provider_that_fails_for_one_fails_for_no_other<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "bb222"]);
    directory.set("bb222", || Err(Error::configuration("the vault is sealed", "unseal it")));
    let tenants = M::new(&directory);
    for _ in 0..2 {
        let error = tenants.token("bb222").expect_err("no credentials");
        assert!(error.to_string().contains("the vault is sealed"), "{error}");
    }
    assert_eq!((directory.asked("bb222"), tenants.count()), (2, 0));
    tenants.token("aa111").expect("a token");
    directory.add(&sandbox, "bb222");
    tenants.token("bb222").expect("a token, now that the provider gives credentials");
}

fn a_provider_that_takes_its_time_for_one_delays_no_other<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "bb222"]);
    let (asked, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let given = (current(&sandbox), credentials(&client_id("bb222"), &secret("bb222")));
    directory.set("bb222", {
        let (asked, go_on) = (Arc::clone(&asked), Arc::clone(&go_on));
        move || {
            asked.wait();
            go_on.wait();
            Ok(Some(given.clone()))
        }
    });
    let tenants = M::new(&directory);
    let waiting = thread::spawn({
        let tenants = tenants.clone();
        move || tenants.token("bb222")
    });
    asked.wait();
    tenants.token("aa111").expect("a token");
    assert_eq!(tenants.count(), 1);
    go_on.wait();
    waiting.join().expect("no panic").expect("a token");
}

fn a_provider_that_hangs_is_not_waited_for_for_ever<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111"]);
    let go_on = Arc::new(Barrier::new(2));
    directory.set("bb222", {
        let go_on = Arc::clone(&go_on);
        move || {
            go_on.wait();
            Ok(None)
        }
    });
    let policy = Policy::new().request_timeout(Duration::from_millis(200));
    let tenants = M::build(Wanted { policy, ..Wanted::default() }, &directory);
    let error = tenants.token("bb222").expect_err("no answer of the provider");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("tenant provider"), "{error}");
    go_on.wait();
    directory.add(&sandbox, "bb222");
    tenants.token("bb222").expect("a token, once the provider answers");
}

fn an_unknown_tenant_is_an_error_and_asked_about_again<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111"]);
    let tenants = M::new(&directory);
    tenants.token("aa111").expect("a token");
    for asked in 1..=2 {
        let error = tenants.token("zz999").expect_err("nobody knows it");
        assert_eq!(error.kind(), ErrorKind::UnknownTenant);
        assert!(error.to_string().contains("there is no tenant \"zz999\""), "{error}");
        assert_eq!(directory.asked("zz999"), asked);
    }
    assert_eq!((sandbox.token_requests(), tenants.count()), (1, 1));
    assert!(!tenants.holds("zz999"));
    directory.add(&sandbox, "zz999");
    tenants.token("zz999").expect("a token, once it is known");
}

fn a_removed_tenant_gets_no_other_token<M: Many>() {
    let (sandbox, directory) = knowing(&[CHANGES]);
    sandbox.set_lifetime(Duration::from_secs(1));
    let tenants = M::new(&directory);
    tenants.token(CHANGES).expect("a token");
    directory.set(CHANGES, || Ok(None));
    directory.changed();
    thread::sleep(Duration::from_millis(1_050));
    for asked in 2..=3 {
        assert_eq!(tenants.token(CHANGES).expect_err("it is gone").kind(), ErrorKind::UnknownTenant);
        assert_eq!((directory.asked(CHANGES), sandbox.token_requests(), tenants.count()), (asked, 1, 0));
    }
    directory.add(&sandbox, CHANGES);
    tenants.token(CHANGES).expect("a token, now that it is back");
}

fn a_removed_tenants_token_ends_when_its_renewal_is_due<M: Many>() {
    let (sandbox, directory) = knowing(&[CHANGES]);
    // Renewal is due after 6.4 to 7.2 seconds.
    let lifetime = Duration::from_secs(8);
    sandbox.set_lifetime(lifetime);
    let tenants = M::new(&directory);
    let began = Instant::now();
    tenants.token(CHANGES).expect("a token");
    directory.set(CHANGES, || Ok(None));
    directory.changed();
    thread::sleep(Duration::from_secs(6));
    tenants.token(CHANGES).expect("the held token");
    assert_eq!(directory.asked(CHANGES), 1, "nobody looks before there is something to ask for");
    eventually("the tenant is unknown", || {
        thread::sleep(Duration::from_millis(40));
        tenants.token(CHANGES).is_err_and(|error| error.kind() == ErrorKind::UnknownTenant)
    });
    assert!(began.elapsed() < lifetime, "the token has run out by itself: {:?}", began.elapsed());
    assert_eq!((sandbox.token_requests(), tenants.count()), (1, 0));
}

fn a_removed_tenant_is_told_from_one_whose_secret_is_refused<M: Many>() {
    let (sandbox, directory) = knowing(&[CHANGES]);
    directory.give(CHANGES, current(&sandbox), "wrong");
    let tenants = M::new(&directory);
    assert_eq!(tenants.token(CHANGES).expect_err("a wrong secret").kind(), ErrorKind::Credentials);
    directory.set(CHANGES, || Ok(None));
    directory.changed();
    assert_eq!(tenants.token(CHANGES).expect_err("it is gone").kind(), ErrorKind::UnknownTenant);
    assert_eq!((sandbox.token_requests(), tenants.count()), (1, 0));
}

fn an_unknown_tenant_pushes_nobody_out<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111"]);
    let tenants = M::build(Wanted { capacity: Some(1), ..Wanted::default() }, &directory);
    tenants.token("aa111").expect("a token");
    for number in 0..200 {
        tenants.token(&format!("zz{number}")).expect_err("nobody knows it");
    }
    tenants.token("aa111").expect("the same token");
    assert_eq!((directory.asked("aa111"), sandbox.token_requests(), tenants.count()), (1, 1, 1));
}

/// Has the variables that other ways of building a source would read; runs in a process of its own, see below.
fn an_unknown_tenant_gets_nothing_from_the_environment<M: Many>() {
    let (sandbox, directory) = knowing(&[]);
    let error = M::new(&directory).token("va336").expect_err("nobody knows it");
    assert!(error.to_string().contains("there is no tenant"), "{error}");
    assert_eq!(sandbox.token_requests(), 0);
}

#[test]
fn the_environment_lends_no_credentials() {
    let sandbox = Sandbox::start().expect("a sandbox");
    let application = sandbox.application();
    let child = Command::new(std::env::current_exe().expect("this program"))
        .arg("an_unknown_tenant_gets_nothing_from_the_environment")
        .env("ALVYS_CLIENT_ID", application.client_id())
        .env("ALVYS_CLIENT_SECRET", application.client_secret())
        .env("ALVYS_TENANT_ID", application.tenant())
        .env("ALVYS_TOKEN_URL", sandbox.token_url())
        .env("ALVYS_ACCESS_TOKEN", "a.static.token")
        .output()
        .expect("this program again");
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && text.contains("2 passed"), "{text}");
    assert_eq!(sandbox.token_requests(), 0);
}

fn another_tenants_credentials_are_caught<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111"]);
    let given = (current(&sandbox), credentials(&client_id("aa111"), &secret("aa111")));
    directory.set("bb222", move || Ok(Some(given.clone())));
    let tenants = M::new(&directory);
    let error = tenants.token("bb222").expect_err("a token of aa111");
    assert_eq!(error.kind(), ErrorKind::WrongOrganization);
    assert!(!tenants.holds("bb222"));
    tenants.token("aa111").expect("its own token");
}

/// Tenants of whom aa111 has the credentials of bb222.
fn mixed_up<M: Many>(cool_down: [Duration; 2]) -> (Sandbox, Directory, M) {
    let (sandbox, directory) = knowing(&["aa111", "bb222"]);
    let given = (current(&sandbox), credentials(&client_id("bb222"), &secret("bb222")));
    directory.set("aa111", move || Ok(Some(given.clone())));
    let policy = Policy::new().cool_down(cool_down[0], cool_down[1]);
    let tenants = M::build(Wanted { policy, ..Wanted::default() }, &directory);
    assert_eq!(tenants.token("aa111").expect_err("a token of bb222").kind(), ErrorKind::WrongOrganization);
    assert_eq!((directory.asked("aa111"), sandbox.tokens_issued()), (2, 1), "asked before it is reported");
    (sandbox, directory, tenants)
}

fn a_mix_up_that_is_mended_heals_by_itself<M: Many>() {
    let (sandbox, directory, tenants) = mixed_up::<M>([Duration::from_millis(200), Duration::from_secs(300)]);
    directory.give("aa111", current(&sandbox), &secret("aa111"));
    thread::sleep(Duration::from_millis(250));
    let owner = owner(&sandbox, &tenants.token("aa111").expect("its own token"));
    assert!(owner.contains("aa111"), "{owner}");
    assert_eq!(
        (directory.asked("aa111"), sandbox.tokens_issued()),
        (3, 2),
        "the wrong credentials were not used again"
    );
}

fn a_mix_up_buys_no_token_at_each_cool_down<M: Many>() {
    let (sandbox, directory, tenants) = mixed_up::<M>([Duration::from_millis(20), Duration::from_secs(300)]);
    eventually("the provider is asked again and again", || {
        let error = tenants.token("aa111").expect_err("still a token of bb222");
        assert_eq!(error.kind(), ErrorKind::WrongOrganization);
        directory.asked("aa111") == 6
    });
    assert_eq!(sandbox.tokens_issued(), 1);
}

fn a_mix_up_that_is_mended_at_the_server_heals_too<M: Many>() {
    let (sandbox, _, tenants) = mixed_up::<M>([Duration::from_millis(200), Duration::from_millis(200)]);
    sandbox.remove(&client_id("bb222"));
    sandbox.add(Application::new(client_id("bb222"), secret("bb222"), "aa111"));
    thread::sleep(Duration::from_millis(250));
    tenants.token("aa111").expect("a token, now that the server says whose it is");
}

fn without_the_guard_a_tenant_may_have_any_name<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111"]);
    let given = (current(&sandbox), credentials(&client_id("aa111"), &secret("aa111")));
    directory.set("customer 7", move || Ok(Some(given.clone())));
    let tenants = M::build(Wanted { unguarded: true, ..Wanted::default() }, &directory);
    tenants.token("customer 7").expect("a token");
}

fn an_organization_that_the_flow_expects_takes_the_place_of_the_tenants_name<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111"]);
    let credentials = credentials(&client_id("aa111"), &secret("aa111"));
    for (tenant, expected) in [("customer 7", "aa111"), ("customer 8", "bb222")] {
        let given = (current(&sandbox).expect_organization(expected), credentials.clone());
        directory.set(tenant, move || Ok(Some(given.clone())));
    }
    let tenants = M::new(&directory);
    tenants.token("customer 7").expect("a token");
    let error = tenants.token("customer 8").expect_err("a token of another organization");
    assert_eq!(error.kind(), ErrorKind::WrongOrganization);
}

fn the_least_recently_used_tenant_goes_first<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "bb222", "cc333", "dd444"]);
    let tenants = M::build(Wanted { capacity: Some(2), ..Wanted::default() }, &directory);
    let token = |tenant| drop(tenants.token(tenant).expect("a token"));
    token("aa111");
    token("bb222");
    token("aa111");
    token("cc333");
    assert!(!tenants.holds("bb222"), "it was not used for longest");
    assert!(tenants.holds("aa111"), "lending a token is a use too");
    token("dd444");
    assert!(!tenants.holds("cc333"));
    assert!(tenants.holds("aa111"));
    assert_eq!((tenants.count(), sandbox.token_requests()), (2, 4));
    token("bb222");
    assert_eq!((directory.asked("bb222"), sandbox.token_requests()), (2, 5));
}

fn there_is_room_for_one_at_least<M: Many>() {
    let (_sandbox, directory) = knowing(&["aa111"]);
    let tenants = M::build(Wanted { capacity: Some(0), ..Wanted::default() }, &directory);
    tenants.token("aa111").expect("a token");
    assert!(tenants.holds("aa111"));
}

fn a_forgotten_tenant_is_looked_up_again<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "bb222"]);
    let tenants = M::new(&directory);
    assert!(!tenants.forget("aa111"));
    let old = tenants.token("aa111").expect("a token");
    tenants.token("bb222").expect("a token");
    assert!(tenants.forget("aa111"));
    assert!(!tenants.holds("aa111") && tenants.holds("bb222"));
    directory.give("aa111", Flow::legacy("aa111").endpoint(sandbox.legacy_token_url()), &secret("aa111"));
    let new = tenants.token("aa111").expect("a token by the changed flow");
    assert_ne!(old.header(), new.header());
    assert_eq!(directory.asked("aa111"), 2);
    assert!(sandbox.requests().last().is_some_and(|last| last.path().contains("aa111")));
}

fn a_refused_secret_is_read_again_for_its_tenant_alone<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "bb222"]);
    sandbox.rotate_secret(&client_id("aa111"), "new");
    let flow = current(&sandbox);
    let looks = AtomicU64::new(0);
    directory.set("aa111", move || {
        let secret = if looks.fetch_add(1, Ordering::SeqCst) == 0 { secret("aa111") } else { "new".to_owned() };
        Ok(Some((flow.clone(), credentials(&client_id("aa111"), &secret))))
    });
    let tenants = M::new(&directory);
    tenants.token("bb222").expect("a token");
    tenants.token("aa111").expect("a token with the new secret");
    assert_eq!((directory.asked("aa111"), directory.asked("bb222")), (2, 1));
    assert_eq!(sandbox.token_requests(), 3);
}

fn a_changed_secret_is_read_again_for_its_tenant_alone<M: Many>() {
    let (sandbox, directory) = knowing(&[CHANGES, "bb222"]);
    sandbox.set_lifetime(Duration::from_secs(1));
    let tenants = M::new(&directory);
    let both = || {
        for tenant in [CHANGES, "bb222"] {
            tenants.token(tenant).expect("a token");
        }
    };
    both();
    sandbox.rotate_secret(&client_id(CHANGES), "new");
    directory.give(CHANGES, current(&sandbox), "new");
    directory.changed();
    thread::sleep(Duration::from_millis(1_050));
    both();
    assert_eq!((directory.asked(CHANGES), directory.asked("bb222")), (2, 1));
    assert_eq!(sandbox.token_requests(), 4, "the old secret was not tried again");
}
