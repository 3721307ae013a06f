//! Whose credentials a tenant gets, and what becomes of it when they are wrong, mixed up, changed or gone.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alvys_auth_core::{ErrorKind, Policy};
use alvys_auth_driver::ManualClock;
use alvys_auth_sandbox::{Application, Sandbox};
use alvys_auth_tests::many::{
    Async, Blocking, CHANGES, Directory, Many, Wanted, client_id, current, knowing, owner, secret,
};
use alvys_auth_tests::{both_drivers, credentials, eventually};

both_drivers![
    an_unknown_tenant_is_an_error_and_asked_about_again,
    an_unknown_tenant_gets_nothing_from_the_environment,
    a_removed_tenant_gets_no_other_token,
    a_removed_tenants_token_ends_when_its_renewal_is_due,
    a_removed_tenant_is_told_from_one_whose_secret_is_refused,
    another_tenants_credentials_are_caught,
    a_mix_up_that_is_mended_heals_by_itself,
    a_mix_up_buys_no_token_at_each_cool_down,
    a_mix_up_that_is_mended_at_the_server_heals_too,
    without_the_guard_a_tenant_may_have_any_name,
    an_organization_that_the_flow_expects_takes_the_place_of_the_tenants_name,
    a_refused_secret_is_read_again_for_its_tenant_alone,
    a_changed_secret_is_read_again_for_its_tenant_alone,
];

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

/// Tenants, and the clock that they live by.
fn timed<M: Many>(policy: Policy, directory: &Directory) -> (Arc<ManualClock>, M) {
    let clock = Arc::new(ManualClock::new());
    let tenants = M::build(Wanted { policy, ..Wanted::on(&clock) }, directory);
    (clock, tenants)
}

/// Longer than a token lives.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn a_removed_tenant_gets_no_other_token<M: Many>() {
    let (sandbox, directory) = knowing(&[CHANGES]);
    let (clock, tenants) = timed::<M>(Policy::new(), &directory);
    tenants.token(CHANGES).expect("a token");
    directory.set(CHANGES, || Ok(None));
    directory.changed();
    clock.advance(DAY);
    for asked in 2..=3 {
        assert_eq!(tenants.token(CHANGES).expect_err("it is gone").kind(), ErrorKind::UnknownTenant);
        assert_eq!((directory.asked(CHANGES), sandbox.token_requests(), tenants.count()), (asked, 1, 0));
    }
    directory.add(&sandbox, CHANGES);
    tenants.token(CHANGES).expect("a token, now that it is back");
}

fn a_removed_tenants_token_ends_when_its_renewal_is_due<M: Many>() {
    let (sandbox, directory) = knowing(&[CHANGES]);
    // Renewal is due after 16 to 18 seconds.
    sandbox.set_lifetime(Duration::from_secs(20));
    let (clock, tenants) = timed::<M>(Policy::new(), &directory);
    tenants.token(CHANGES).expect("a token");
    directory.set(CHANGES, || Ok(None));
    directory.changed();
    clock.advance(Duration::from_secs(15));
    tenants.token(CHANGES).expect("the held token");
    assert_eq!(directory.asked(CHANGES), 1, "nobody looks before there is something to ask for");
    clock.advance(Duration::from_secs(3));
    eventually("the tenant is unknown, before its token has run out", || {
        tenants.token(CHANGES).is_err_and(|error| error.kind() == ErrorKind::UnknownTenant)
    });
    assert_eq!((sandbox.token_requests(), tenants.count()), (1, 0));
}

fn a_removed_tenant_is_told_from_one_whose_secret_is_refused<M: Many>() {
    let (sandbox, directory) = knowing(&[CHANGES]);
    directory.give(CHANGES, current(&sandbox), "wrong");
    let cool_down = Duration::from_secs(60);
    let (clock, tenants) = timed::<M>(Policy::new().cool_down(cool_down, cool_down), &directory);
    assert_eq!(tenants.token(CHANGES).expect_err("a wrong secret").kind(), ErrorKind::Credentials);
    directory.set(CHANGES, || Ok(None));
    directory.changed();
    // It is looked behind a refusal every five seconds at the most.
    clock.advance(Duration::from_secs(5));
    assert_eq!(tenants.token(CHANGES).expect_err("it is gone").kind(), ErrorKind::UnknownTenant);
    assert_eq!((sandbox.token_requests(), tenants.count()), (1, 0));
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

/// Tenants of whom aa111 has the credentials of bb222, and of whose cool-downs the first and the longest take so many seconds.
fn mixed_up<M: Many>(cool_down: [u64; 2]) -> (Sandbox, Directory, Arc<ManualClock>, M) {
    let (sandbox, directory) = knowing(&["aa111", "bb222"]);
    let given = (current(&sandbox), credentials(&client_id("bb222"), &secret("bb222")));
    directory.set("aa111", move || Ok(Some(given.clone())));
    let [first, longest] = cool_down.map(Duration::from_secs);
    let (clock, tenants) = timed::<M>(Policy::new().cool_down(first, longest), &directory);
    assert_eq!(tenants.token("aa111").expect_err("a token of bb222").kind(), ErrorKind::WrongOrganization);
    assert_eq!((directory.asked("aa111"), sandbox.tokens_issued()), (2, 1), "asked before it is reported");
    (sandbox, directory, clock, tenants)
}

fn a_mix_up_that_is_mended_heals_by_itself<M: Many>() {
    let (sandbox, directory, clock, tenants) = mixed_up::<M>([5, 300]);
    directory.give("aa111", current(&sandbox), &secret("aa111"));
    clock.advance(Duration::from_secs(6));
    let owner = owner(&sandbox, &tenants.token("aa111").expect("its own token"));
    assert!(owner.contains("aa111"), "{owner}");
    assert_eq!(
        (directory.asked("aa111"), sandbox.tokens_issued()),
        (3, 2),
        "the wrong credentials were not used again"
    );
}

fn a_mix_up_buys_no_token_at_each_cool_down<M: Many>() {
    let (sandbox, directory, clock, tenants) = mixed_up::<M>([1, 300]);
    for asked in 3..=8 {
        clock.advance(Duration::from_secs(40));
        let error = tenants.token("aa111").expect_err("still a token of bb222");
        assert_eq!((error.kind(), directory.asked("aa111")), (ErrorKind::WrongOrganization, asked));
    }
    assert_eq!(sandbox.tokens_issued(), 1);
}

fn a_mix_up_that_is_mended_at_the_server_heals_too<M: Many>() {
    let (sandbox, _, clock, tenants) = mixed_up::<M>([5, 5]);
    sandbox.remove(&client_id("bb222"));
    sandbox.add(Application::new(client_id("bb222"), secret("bb222"), "aa111"));
    clock.advance(Duration::from_secs(6));
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
    let (clock, tenants) = timed::<M>(Policy::new(), &directory);
    let both = || {
        for tenant in [CHANGES, "bb222"] {
            tenants.token(tenant).expect("a token");
        }
    };
    both();
    sandbox.rotate_secret(&client_id(CHANGES), "new");
    directory.give(CHANGES, current(&sandbox), "new");
    directory.changed();
    clock.advance(DAY);
    both();
    assert_eq!((directory.asked(CHANGES), directory.asked("bb222")), (2, 1));
    assert_eq!(sandbox.token_requests(), 4, "the old secret was not tried again");
}
