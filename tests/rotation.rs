//! Credentials that change while a source is in use: the same scenarios against both drivers.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use alvys_auth_config::FileProvider;
use alvys_auth_core::{Credentials, CredentialsProvider, Error, ErrorKind, Flow, Given, Mark, Policy};
use alvys_auth_driver::ManualClock;
use alvys_auth_sandbox::{Application, Fault, Route, Sandbox};
use alvys_auth_tests::provided::{Async, Blocking, Held, Provided, Store, Wanted};
use alvys_auth_tests::{both_drivers, credentials, eventually};

both_drivers![
    a_changed_secret_is_used_for_the_next_request,
    a_refused_secret_is_replaced_before_anybody_hears_of_it,
    callers_who_meet_a_rotation_share_it,
    a_refusal_is_reported_when_the_provider_knows_nothing_better,
    a_second_wrong_secret_is_reported_and_not_asked_for_again,
    a_provider_that_fails_leaves_the_credentials_as_they_are,
    a_rotation_takes_no_usable_token_away,
    a_mounted_secret_is_read_again_when_it_changes,
    an_application_that_was_replaced_is_looked_for,
    what_credentials_cannot_mend_does_not_ask_the_provider,
    a_mended_secret_ends_a_remembered_refusal,
    a_provider_that_fails_is_not_asked_behind_a_refusal_by_each_call,
    secrets_that_are_all_refused_are_not_tried_by_each_call,
    another_client_takes_no_usable_token_away_before_it_has_proved_good,
    a_slow_provider_is_waited_for_once_and_for_no_longer_than_a_request,
    a_provider_that_says_how_long_it_takes_is_heard,
    nobody_waits_longer_than_his_patience_for_a_provider,
    an_answer_that_comes_after_the_patience_counts_for_the_next_caller,
    credentials_that_were_taken_away_end_the_token_when_its_renewal_is_due,
    credentials_given_beside_a_provider_are_compared_with_its_own_first,
];

/// A sandbox whose application has the secret `new`, and its flow.
fn rotated() -> (Sandbox, String, Flow) {
    let sandbox = Sandbox::start().expect("a sandbox");
    let client_id = sandbox.application().client_id().to_owned();
    sandbox.rotate_secret(&client_id, "new");
    let flow = Flow::current().endpoint(sandbox.token_url());
    (sandbox, client_id, flow)
}

fn secrets<const N: usize>(secrets: [&str; N]) -> [Result<String, Error>; N] {
    secrets.map(|secret| Ok(secret.to_owned()))
}

fn a_changed_secret_is_used_for_the_next_request<P: Provided>() {
    let (sandbox, client_id, flow) = rotated();
    let store = Store::new(&client_id, secrets(["old", "new"]));
    let source = P::from_provider(flow, Policy::new(), store.clone());
    store.change();
    source.token().expect("a token with the new secret");
    assert_eq!(sandbox.token_requests(), 1, "the old secret was not even tried");
    assert_eq!(store.asked(), 2);
    source.invalidate();
    source.token().expect("another token");
    assert_eq!(store.asked(), 2, "an unchanged revision is not asked about");
}

fn a_refused_secret_is_replaced_before_anybody_hears_of_it<P: Provided>() {
    let (sandbox, client_id, flow) = rotated();
    let store = Store::new(&client_id, secrets(["old", "new"]));
    let source = P::from_provider(flow, Policy::new(), store.clone());
    source.token().expect("a token with the new secret, although the old one was refused");
    assert_eq!(sandbox.token_requests(), 2);
    assert_eq!(store.asked(), 2);
}

fn callers_who_meet_a_rotation_share_it<P: Provided>() {
    let (sandbox, client_id, flow) = rotated();
    sandbox.inject(Route::Token, Fault::late(Duration::from_millis(100)));
    let store = Store::new(&client_id, secrets(["old", "new"]));
    let source = P::from_provider(flow, Policy::new(), store.clone());
    let start = Barrier::new(50);
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                start.wait();
                source.token().expect("a token");
            });
        }
    });
    assert_eq!(sandbox.tokens_issued(), 1);
    assert_eq!(sandbox.token_requests(), 2);
    assert_eq!(store.asked(), 2);
}

fn a_refusal_is_reported_when_the_provider_knows_nothing_better<P: Provided>() {
    let (sandbox, client_id, flow) = rotated();
    let store = Store::new(&client_id, secrets(["old"]));
    let clock = Arc::new(ManualClock::new());
    let source = P::from_provider(flow, &clock, store.clone());
    assert_eq!(source.token().expect_err("the old secret").kind(), ErrorKind::Credentials);
    assert_eq!((sandbox.token_requests(), store.asked()), (1, 2));
    clock.advance(Duration::from_secs(5));
    assert_eq!(source.token().expect_err("the old secret").kind(), ErrorKind::Credentials);
    assert_eq!((sandbox.token_requests(), store.asked()), (2, 3), "asked once for each report");
}

fn a_second_wrong_secret_is_reported_and_not_asked_for_again<P: Provided>() {
    let (sandbox, client_id, flow) = rotated();
    let store = Store::new(&client_id, secrets(["old", "older", "oldest", "new"]));
    let source = P::from_provider(flow, Policy::new(), store.clone());
    assert_eq!(source.token().expect_err("two wrong secrets").kind(), ErrorKind::Credentials);
    assert_eq!((sandbox.token_requests(), store.asked()), (2, 2));
}

fn a_provider_that_fails_leaves_the_credentials_as_they_are<P: Provided>() {
    let (sandbox, client_id, flow) = rotated();
    let broken = Err(Error::configuration("the vault is sealed", "unseal it"));
    let store = Store::new(&client_id, [Ok("new".to_owned()), broken]);
    let source = P::from_provider(flow, Policy::new(), store.clone());
    store.change();
    source.token().expect("a token with the secret at hand");
    assert_eq!((sandbox.token_requests(), store.asked()), (1, 2));
}

fn a_rotation_takes_no_usable_token_away<P: Provided>() {
    let (sandbox, client_id, flow) = rotated();
    let store = Store::new(&client_id, secrets(["new", "newer"]));
    let source = P::from_provider(flow, Policy::new(), store.clone());
    let held = source.token().expect("a token");
    sandbox.rotate_secret(&client_id, "newer");
    store.change();
    assert_eq!(source.token().expect("the held token").header(), held.header());
    assert_eq!((sandbox.token_requests(), store.asked()), (1, 1), "nobody looks before there is something to ask for");
}

fn a_mounted_secret_is_read_again_when_it_changes<P: Provided>() {
    let (sandbox, client_id, flow) = rotated();
    let folder = std::env::temp_dir().join(format!("alvys-auth-rotation-{}-{client_id}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("secret");
    std::fs::write(&path, "new\n").expect("a file");
    let source = P::from_provider(flow, Policy::new(), FileProvider::secret(client_id.clone(), &path));
    source.token().expect("a token");

    sandbox.rotate_secret(&client_id, "newest-secret");
    std::fs::write(&path, "newest-secret\n").expect("a file");
    source.invalidate();
    source.token().expect("a token with the new secret");
    assert_eq!(sandbox.token_requests(), 2, "the old secret was not tried again");
    std::fs::remove_dir_all(&folder).expect("an empty place");
}

fn an_application_that_was_replaced_is_looked_for<P: Provided>() {
    let (sandbox, client_id, flow) = rotated();
    sandbox.add(Application::new("replaced", "new", "va336").without_grant());
    let replaced =
        Switch { version: Arc::default(), asked: Arc::default(), clients: ["replaced".into(), client_id.into()] };
    let source = P::from_provider(flow, Policy::new(), replaced.clone());
    source.token().expect("a token of the application in its place");
    assert_eq!((sandbox.token_requests(), replaced.asked.load(Ordering::SeqCst)), (2, 2));
}

fn what_credentials_cannot_mend_does_not_ask_the_provider<P: Provided>() {
    let (sandbox, client_id, flow) = rotated();
    let store = Store::new(&client_id, secrets(["new"]));
    sandbox.inject(Route::Token, Fault::reply(200, "<html>a captive portal</html>").once());
    let source = P::from_provider(flow, Policy::new(), store.clone());
    source.token().expect("a token after somebody else's page");
    assert_eq!((sandbox.token_requests(), store.asked()), (2, 1));
}

fn a_mended_secret_ends_a_remembered_refusal<P: Provided>() {
    let (sandbox, client_id, flow) = rotated();
    let store = Store::new(&client_id, secrets(["old", "old", "new"]));
    let (clock, minutes) = (Arc::new(ManualClock::new()), Duration::from_secs(300));
    let policy = Policy::new().cool_down(minutes, minutes);
    let source = P::from_provider(flow, Wanted { policy, ..Wanted::from(&clock) }, store.clone());
    assert_eq!(source.token().expect_err("the old secret").kind(), ErrorKind::Credentials);
    assert_eq!(source.token().expect_err("from memory").kind(), ErrorKind::Credentials);
    assert_eq!((sandbox.token_requests(), store.asked()), (1, 2), "nothing has changed, so nobody is asked");
    store.change();
    assert_eq!(source.token().expect_err("from memory").kind(), ErrorKind::Credentials);
    clock.advance(Duration::from_secs(5));
    source.token().expect("a token with the new secret, five seconds after the last look");
    assert_eq!((sandbox.token_requests(), store.asked()), (2, 3));
}

fn a_provider_that_fails_is_not_asked_behind_a_refusal_by_each_call<P: Provided>() {
    let (sandbox, client_id, flow) = rotated();
    let sealed = Error::configuration("the vault is sealed", "unseal it");
    let store = Store::new(&client_id, [Ok("old".to_owned()), Ok("old".to_owned()), Err(sealed)]);
    let (clock, minutes) = (Arc::new(ManualClock::new()), Duration::from_secs(300));
    let policy = Policy::new().cool_down(minutes, minutes);
    let source = P::from_provider(flow, Wanted { policy, ..Wanted::from(&clock) }, store.clone());
    assert_eq!(source.token().expect_err("the old secret").kind(), ErrorKind::Credentials);
    store.change();
    for looks in 0..3 {
        for _ in 0..20 {
            assert_eq!(source.token().expect_err("from memory").kind(), ErrorKind::Credentials);
        }
        assert_eq!((sandbox.token_requests(), store.asked()), (1, 2 + looks), "once in five seconds");
        clock.advance(Duration::from_secs(5));
    }
}

/// Gives another secret each time, none of which is any good.
#[derive(Clone)]
struct Guesses {
    client_id: String,
    given: Arc<AtomicU64>,
}

impl CredentialsProvider for Guesses {
    fn credentials(&self, _: Option<Mark>) -> Result<Given<Credentials>, Error> {
        let number = self.given.fetch_add(1, Ordering::SeqCst);
        Credentials::new(&*self.client_id, format!("guess {number}"))
            .map(|guess| Given::These(guess, Mark::new(number)))
    }
}

fn secrets_that_are_all_refused_are_not_tried_by_each_call<P: Provided>() {
    let (sandbox, client_id, flow) = rotated();
    let minutes = Duration::from_secs(300);
    let guesses = Guesses { client_id, given: Arc::default() };
    let source = P::from_provider(flow, Policy::new().cool_down(minutes, minutes), guesses);
    for _ in 0..50 {
        assert_eq!(source.token().expect_err("a refusal").kind(), ErrorKind::Credentials);
    }
    let requests = sandbox.token_requests();
    assert!(requests <= 5, "{requests} requests, each of which may lock the application out");
}

fn another_client_takes_no_usable_token_away_before_it_has_proved_good<P: Provided>() {
    let (sandbox, client_id, flow) = rotated();
    // Renewal is due after 16 to 18 seconds.
    sandbox.set_lifetime(Duration::from_secs(20));
    let clients = [client_id.into(), "not-active-yet".into()];
    let switch = Switch { version: Arc::default(), asked: Arc::default(), clients };
    let clock = Arc::new(ManualClock::new());
    let source = P::from_provider(flow, &clock, switch.clone());
    let held = source.token().expect("a token");
    switch.version.store(1, Ordering::SeqCst);
    clock.advance(Duration::from_millis(18_100));
    let keeps = || assert_eq!(source.token().expect("the held token").header(), held.header());
    eventually("the other client is tried", || {
        keeps();
        sandbox.token_requests() == 2
    });
    keeps();
    assert_eq!(sandbox.token_requests(), 2, "the other client was tried once");
}

/// Credentials of one client the first time, then of another one.
#[derive(Clone)]
struct Switch {
    version: Arc<AtomicU64>,
    asked: Arc<AtomicUsize>,
    clients: [Arc<str>; 2],
}

impl CredentialsProvider for Switch {
    fn credentials(&self, known: Option<Mark>) -> Result<Given<Credentials>, Error> {
        Given::unless(known, Mark::new(self.version.load(Ordering::SeqCst)), || {
            let [first, then] = &self.clients;
            let client_id = if self.asked.fetch_add(1, Ordering::SeqCst) == 0 { first } else { then };
            Credentials::new(&**client_id, "new")
        })
    }
}

fn a_slow_provider_is_waited_for_once_and_for_no_longer_than_a_request<P: Provided>() {
    let (sandbox, client_id, flow) = rotated();
    let store = Store::new(&client_id, secrets(["new", "never given in time"]));
    let held = Held::new(&store, None);
    let source = P::from_provider(flow, Policy::new().request_timeout(Duration::from_secs(1)), held.clone());
    store.change();
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| source.token().expect("a token with the credentials at hand"));
        }
    });
    assert_eq!((sandbox.tokens_issued(), store.asked()), (1, 2));
    source.invalidate();
    source.token().expect("another token with them, while the provider has still not answered");
    assert_eq!((sandbox.tokens_issued(), store.asked()), (2, 2), "it is not asked again before it has answered");
    held.let_go();
}

fn a_provider_that_says_how_long_it_takes_is_heard<P: Provided>() {
    let (sandbox, client_id, flow) = rotated();
    let store = Store::new(&client_id, secrets(["old", "new"]));
    let held = Held::new(&store, Some(Duration::from_secs(60)));
    let clock = Arc::new(ManualClock::new());
    // An attempt counts as lost after half as long again as a request may take.
    let policy = Policy::new().request_timeout(Duration::from_secs(10));
    let wanted = Wanted { policy, patience: Duration::from_secs(120), ..Wanted::from(&clock) };
    let source = P::from_provider(flow, wanted, held.clone());
    thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| source.token().expect("a token with the new secret, which replaces the refused one"));
        }
        eventually("the provider is asked", || store.asked() == 2);
        clock.advance(Duration::from_secs(50));
        held.let_go();
    });
    assert_eq!((sandbox.token_requests(), store.asked()), (2, 2));
    sandbox.rotate_secret(&client_id, "newest");
    *store.0.secrets.lock().expect("a whole list") = vec![Ok("newest".to_owned())];
    store.change();
    source.invalidate();
    source.token().expect("a token with the newest secret, which is looked for first");
    assert_eq!((sandbox.token_requests(), store.asked()), (3, 3));
}

fn nobody_waits_longer_than_his_patience_for_a_provider<P: Provided>() {
    let (_sandbox, client_id, flow) = rotated();
    let store = Store::new(&client_id, secrets(["new"]));
    let held = Held::new(&store, Some(Duration::from_secs(60)));
    let wanted = Wanted { patience: Duration::from_secs(1), ..Wanted::default() };
    let source = P::from_provider(flow, wanted, held.clone());
    store.change();
    let began = Instant::now();
    assert_eq!(source.token().expect_err("no answer of the provider").kind(), ErrorKind::TimedOut);
    assert!(began.elapsed() < Duration::from_secs(30), "took {:?}", began.elapsed());
    held.let_go();
}

fn an_answer_that_comes_after_the_patience_counts_for_the_next_caller<P: Provided>() {
    let (sandbox, client_id, flow) = rotated();
    let store = Store::new(&client_id, secrets(["old", "new"]));
    let held = Held::new(&store, Some(Duration::from_secs(60)));
    let wanted = Wanted { patience: Duration::from_secs(1), ..Wanted::default() };
    let source = P::from_provider(flow, wanted, held.clone());
    source.token().expect_err("the provider is asked because of the refusal");
    assert_eq!((sandbox.token_requests(), store.asked()), (1, 2));
    held.let_go();
    eventually("a token with the new secret", || source.token().is_ok());
    assert_eq!((sandbox.token_requests(), store.asked()), (2, 2));
}

fn credentials_that_were_taken_away_end_the_token_when_its_renewal_is_due<P: Provided>() {
    let (sandbox, client_id, flow) = rotated();
    // Renewal is due after 16 to 18 seconds.
    sandbox.set_lifetime(Duration::from_secs(20));
    let store = Store::new(&client_id, [Ok("new".to_owned()), Err(Error::unknown_tenant("va336"))]);
    let clock = Arc::new(ManualClock::new());
    let source = P::from_provider(flow, &clock, store.clone());
    source.token().expect("a token");
    store.change();
    clock.advance(Duration::from_secs(13));
    source.token().expect("the held token");
    clock.advance(Duration::from_millis(5_500));
    eventually("there is no such tenant", || {
        source.token().is_err_and(|error| error.kind() == ErrorKind::UnknownTenant)
    });
    assert_eq!((sandbox.token_requests(), store.asked()), (1, 2));
}

fn credentials_given_beside_a_provider_are_compared_with_its_own_first<P: Provided>() {
    let (sandbox, client_id, flow) = rotated();
    let store = Store::new(&client_id, secrets(["new"]));
    let source = P::beside(flow, credentials(&client_id, "stale"), store.clone());
    source.token().expect("a token with the provider's secret");
    assert_eq!((sandbox.token_requests(), store.asked()), (1, 1));
}
