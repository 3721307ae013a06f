//! Many tenants on an async runtime: callers that vanish, providers that hang, workers that end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use alvys_auth_core::{Given, Mark, Tenant};
use alvys_auth_driver::ManualClock;
use alvys_auth_reqwest::{AsyncTenantProvider, ErrorKind, Policy, ProviderFuture, Tenants};
use alvys_auth_sandbox::Sandbox;
use alvys_auth_tests::{Settings, eventually};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

/// Gives everybody the same credentials, but to each of those who ask only when it is let go on.
#[derive(Clone)]
struct Slow(Arc<Gate>);

struct Gate {
    settings: Settings,
    asked: AtomicUsize,
    open: Semaphore,
}

impl Slow {
    fn new(sandbox: &Sandbox) -> Self {
        let settings = Settings::current(sandbox);
        Self(Arc::new(Gate { settings, asked: AtomicUsize::new(0), open: Semaphore::new(0) }))
    }

    fn asked(&self) -> usize {
        self.0.asked.load(Ordering::SeqCst)
    }

    fn open(&self) {
        self.0.open.add_permits(1_000);
    }
}

impl AsyncTenantProvider for Slow {
    fn tenant(self: Arc<Self>, _: Arc<str>, known: Option<Mark>) -> ProviderFuture<Option<Tenant>> {
        if known.is_some() {
            return Box::pin(async { Ok(Given::Unchanged) });
        }
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            self.0.open.acquire().await.expect("an open semaphore").forget();
            let Settings { flow, credentials, .. } = self.0.settings.clone();
            Ok(Given::These(Some((flow.expect_organization("va336"), credentials)), Mark::new(0)))
        })
    }
}

fn start() -> (Sandbox, Slow, Runtime) {
    let sandbox = Sandbox::start().expect("a sandbox");
    let provider = Slow::new(&sandbox);
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    (sandbox, provider, runtime.expect("a runtime"))
}

fn call(runtime: &Runtime, tenants: &Tenants) -> tokio::task::JoinHandle<bool> {
    let tenants = tenants.clone();
    runtime.spawn(async move { tenants.token("aa111").await.is_ok() })
}

#[test]
fn a_cancelled_first_caller_takes_nobody_down() {
    let (sandbox, provider, runtime) = start();
    let tenants = Tenants::new(provider.clone());
    let first = call(&runtime, &tenants);
    eventually("the provider is asked", || provider.asked() == 1);
    let others: Vec<_> = (0..50).map(|_| call(&runtime, &tenants)).collect();
    first.abort();
    provider.open();
    for other in others {
        assert!(runtime.block_on(other).expect("a caller that does not panic"));
    }
    assert_eq!((provider.asked(), sandbox.token_requests(), tenants.len()), (1, 1, 1));
}

#[test]
fn cancelled_callers_leave_nothing_behind() {
    let (sandbox, provider, runtime) = start();
    let tenants = Tenants::new(provider.clone());
    let callers: Vec<_> = (0..50).map(|_| call(&runtime, &tenants)).collect();
    eventually("the provider is asked", || provider.asked() == 1);
    for caller in &callers {
        caller.abort();
    }
    eventually("they are gone, but for the question", || runtime.metrics().num_alive_tasks() == 1);
    assert!(tenants.is_empty());
    provider.open();
    eventually("the answer counts", || tenants.len() == 1);
    assert!(runtime.block_on(call(&runtime, &tenants)).expect("no panic"), "a token for the next caller");
    assert_eq!((provider.asked(), sandbox.token_requests()), (1, 1));
    drop(tenants);
    eventually("nobody runs any more", || runtime.metrics().num_alive_tasks() == 0);
}

#[test]
fn a_runtime_that_ends_lets_the_callers_of_another_ask_in_its_place() {
    let (sandbox, provider, runtime) = start();
    let tenants = Tenants::new(provider.clone());
    let ends = Builder::new_current_thread().enable_all().build().expect("another runtime");
    ends.spawn({
        let tenants = tenants.clone();
        async move { tenants.token("aa111").await.is_ok() }
    });
    ends.block_on(async {
        while provider.asked() == 0 {
            tokio::task::yield_now().await;
        }
    });
    let other = call(&runtime, &tenants);
    drop(ends);
    eventually("the other asks", || provider.asked() == 2);
    provider.open();
    assert!(runtime.block_on(other).expect("no panic"));
    assert_eq!((sandbox.token_requests(), tenants.len()), (1, 1));
}

#[test]
fn a_provider_that_hangs_is_not_waited_for_for_ever() {
    let (sandbox, provider, runtime) = start();
    let policy = Policy::new().request_timeout(Duration::from_secs(1));
    let tenants = Tenants::builder(provider.clone()).policy(policy).build();
    let error = runtime.block_on(tenants.token("aa111")).expect_err("no answer of the provider");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("provider"), "{error}");
    provider.open();
    runtime.block_on(tenants.token("aa111")).expect("a token, once the provider answers");
    // The first question may have been answered just in time.
    assert!(provider.asked() <= 2);
    assert_eq!(sandbox.token_requests(), 1);
}

#[test]
fn a_first_caller_on_a_runtime_that_rests_holds_nobody_up_for_ever() {
    let (_sandbox, provider, runtime) = start();
    let policy = Policy::new().request_timeout(Duration::from_secs(1));
    let tenants = Tenants::builder(provider.clone()).policy(policy).build();
    let rests = Builder::new_current_thread().enable_all().build().expect("another runtime");
    let first = rests.spawn({
        let tenants = tenants.clone();
        async move { tenants.token("aa111").await }
    });
    rests.block_on(async {
        while provider.asked() == 0 {
            tokio::task::yield_now().await;
        }
    });
    provider.open();
    eventually("a token for others, once the time of the first is over", || {
        runtime.block_on(tenants.token("aa111")).is_ok()
    });
    assert_eq!(provider.asked(), 2);
    rests.block_on(first).expect("no panic").expect("a token for the first, too");
}

#[test]
fn a_first_use_outside_of_a_runtime_is_an_error_and_no_panic() {
    let sandbox = Sandbox::start().expect("a sandbox");
    let Settings { flow, credentials, .. } = Settings::current(&sandbox);
    let tenants = Tenants::new(move |_: &str| Ok(Some((flow.clone(), credentials.clone()))));
    let mut token = Box::pin(tenants.token("va336"));
    let Poll::Ready(Err(error)) = token.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("an error at once")
    };
    assert_eq!(error.kind(), ErrorKind::Configuration);
    drop(token);
    Runtime::new().expect("a runtime").block_on(tenants.token("va336")).expect("a token");
}

#[test]
fn a_provider_that_panics_is_an_error_for_its_tenant() {
    let tenants = Tenants::new(|_: &str| panic!("on purpose: the provider panics"));
    let error = Runtime::new().expect("a runtime").block_on(tenants.token("va336")).expect_err("no credentials");
    assert!(error.to_string().contains("panicked"), "{error}");
}

/// Panics when it is asked about one of its tenants, from some time on.
struct PanicsLater(Settings, Arc<AtomicBool>);

impl AsyncTenantProvider for PanicsLater {
    fn tenant(self: Arc<Self>, tenant: Arc<str>, known: Option<Mark>) -> ProviderFuture<Option<Tenant>> {
        Box::pin(async move {
            assert!(&*tenant != "panics" || !self.1.load(Ordering::SeqCst), "on purpose: the provider panics");
            let given = || Ok(Some((self.0.flow.clone().expect_organization("va336"), self.0.credentials.clone())));
            Given::unless(known, Mark::new(0), given)
        })
    }
}

#[test]
fn a_provider_that_panics_does_not_end_background_renewal() {
    let (sandbox, _, runtime) = start();
    // Renewal is due after 16 to 18 seconds.
    sandbox.set_lifetime(Duration::from_secs(20));
    let clock = Arc::new(ManualClock::new());
    let panics = Arc::new(AtomicBool::new(false));
    let provider = PanicsLater(Settings::current(&sandbox), Arc::clone(&panics));
    let tenants = Tenants::builder(provider).clock(Arc::clone(&clock)).renew_in_background(1).build();
    runtime.block_on(tenants.token("panics")).expect("a token");
    // Falls due later than the other one, whatever the jitter makes of the two.
    clock.advance(Duration::from_millis(2_500));
    let old = runtime.block_on(tenants.token("other")).expect("a token");
    panics.store(true, Ordering::SeqCst);
    clock.advance(Duration::from_millis(15_500));
    eventually("the first one has failed", || {
        let status = runtime.block_on(tenants.source("panics")).expect("its source").status();
        status.last_error.is_some()
    });
    clock.advance(Duration::from_millis(2_500));
    eventually("the renewal of the other goes on", || {
        tenants.with_token("other", |token| token.header() != old.header()) == Some(true)
    });
}

#[test]
fn workers_whose_runtime_has_ended_are_replaced_on_the_next_one() {
    let (sandbox, provider, runtime) = start();
    provider.open();
    let clock = Arc::new(ManualClock::new());
    let tenants = Tenants::builder(provider).clock(Arc::clone(&clock)).renew_in_background(1).build();
    runtime.block_on(tenants.token("first")).expect("a token");
    drop(runtime);
    let next = Runtime::new().expect("another runtime");
    next.block_on(tenants.token("second")).expect("a token");
    clock.advance(Duration::from_secs(3_590));
    eventually("both are renewed", || sandbox.tokens_issued() == 4);
}

#[test]
fn one_http_client_is_made_for_all_tenants() {
    let (_sandbox, provider, runtime) = start();
    provider.open();
    let made = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&made);
    let client = move || {
        counter.fetch_add(1, Ordering::SeqCst);
        reqwest::Client::builder()
    };
    let tenants = Tenants::builder(provider).http(client).build();
    let callers: Vec<_> = (0..50)
        .map(|number: usize| {
            let tenants = tenants.clone();
            runtime.spawn(async move { tenants.source(&number.to_string()).await.is_ok() })
        })
        .collect();
    for caller in callers {
        assert!(runtime.block_on(caller).expect("no panic"));
    }
    assert_eq!(made.load(Ordering::SeqCst), 1);
}

#[test]
fn workers_end_with_the_tenants() {
    let (_sandbox, provider, runtime) = start();
    provider.open();
    let tenants = Tenants::builder(provider).renew_in_background(3).build();
    assert_eq!(runtime.metrics().num_alive_tasks(), 0, "nobody is used yet");
    for number in 0..20 {
        runtime.block_on(tenants.token(&number.to_string())).expect("a token");
    }
    // Beside them there are the connections. How many workers there are show the requests in `tenants_renewal`.
    assert!(runtime.metrics().num_alive_tasks() >= 3);
    drop(tenants);
    eventually("no workers any more, although they would sleep for a minute", || {
        runtime.metrics().num_alive_tasks() == 0
    });
}
