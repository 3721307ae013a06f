//! Many tenants on an async runtime: callers that vanish, providers that hang, workers that end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use alvys_auth_reqwest::{ErrorKind, Policy, TenantFuture, TenantProvider, Tenants};
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

impl TenantProvider for Slow {
    fn tenant(self: Arc<Self>, _: Arc<str>) -> TenantFuture {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            self.0.open.acquire().await.expect("an open semaphore").forget();
            let Settings { flow, credentials, .. } = self.0.settings.clone();
            Ok(Some((flow.expect_organization("va336"), credentials)))
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
    eventually("another caller asks in its place", || provider.asked() == 2);
    provider.open();
    for other in others {
        assert!(runtime.block_on(other).expect("a caller that does not panic"));
    }
    assert_eq!((provider.asked(), sandbox.token_requests(), tenants.len()), (2, 1, 1));
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
    eventually("they are gone", || runtime.metrics().num_alive_tasks() == 0);
    assert!(tenants.is_empty());
    provider.open();
    assert!(runtime.block_on(call(&runtime, &tenants)).expect("no panic"), "a token for the next caller");
    assert_eq!(sandbox.token_requests(), 1);
}

#[test]
fn a_provider_that_hangs_is_not_waited_for_for_ever() {
    let (sandbox, provider, runtime) = start();
    let policy = Policy::new().request_timeout(Duration::from_millis(200));
    let tenants = Tenants::builder(provider.clone()).policy(policy).build();
    let error = runtime.block_on(tenants.token("aa111")).expect_err("no answer of the provider");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("provider"), "{error}");
    provider.open();
    runtime.block_on(tenants.token("aa111")).expect("a token, once the provider answers");
    assert_eq!((provider.asked(), sandbox.token_requests()), (2, 1));
}

#[test]
fn a_first_caller_that_rests_holds_nobody_up_for_ever() {
    let (_sandbox, provider, runtime) = start();
    let policy = Policy::new().request_timeout(Duration::from_secs(1));
    let tenants = Tenants::builder(provider.clone()).policy(policy).build();
    let mut first = Box::pin(tenants.token("aa111"));
    runtime.block_on(async {
        assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        provider.open();
        let second = tokio::time::timeout(Duration::from_secs(30), tenants.token("aa111")).await;
        second.expect("no wait for the first caller").expect("a token");
        first.await.expect("a token for it, too");
    });
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
    assert!(error.to_string().contains("the tenant provider panicked"), "{error}");
}

/// Panics when it is asked for the third time, which is about a tenant whose credentials have changed.
struct PanicsLater(Settings, AtomicUsize);

impl TenantProvider for PanicsLater {
    fn tenant(self: Arc<Self>, _: Arc<str>) -> TenantFuture {
        Box::pin(async move {
            assert!(self.1.fetch_add(1, Ordering::SeqCst) < 2, "on purpose: the provider panics");
            Ok(Some((self.0.flow.clone().expect_organization("va336"), self.0.credentials.clone())))
        })
    }

    fn revision(&self, tenant: &str) -> u64 {
        u64::from(tenant == "panics" && self.1.load(Ordering::SeqCst) == 2)
    }
}

#[test]
fn a_provider_that_panics_does_not_end_background_renewal() {
    let (sandbox, _, runtime) = start();
    // Renewal is due after 16 to 18 seconds.
    sandbox.set_lifetime(Duration::from_secs(20));
    let provider = PanicsLater(Settings::current(&sandbox), AtomicUsize::new(0));
    let tenants = Tenants::builder(provider).renew_in_background(1).build();
    runtime.block_on(tenants.token("panics")).expect("a token");
    // Falls due later than the other one, whatever the jitter makes of the two.
    thread::sleep(Duration::from_millis(2_500));
    let old = runtime.block_on(tenants.token("other")).expect("a token");
    thread::sleep(Duration::from_secs(15));
    eventually("the renewal of the other goes on", || {
        tenants.with_token("other", |token| token.header() != old.header()) == Some(true)
    });
}

#[test]
fn one_http_client_is_made_for_all_tenants() {
    let (_sandbox, provider, runtime) = start();
    provider.open();
    let made = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&made);
    let http = move || {
        counter.fetch_add(1, Ordering::SeqCst);
        reqwest::Client::builder()
    };
    let tenants = Tenants::builder(provider).http(http).build();
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
fn as_many_workers_as_asked_for_end_with_the_tenants() {
    let (_sandbox, provider, runtime) = start();
    provider.open();
    let tenants = Tenants::builder(provider).renew_in_background(3).build();
    assert_eq!(runtime.metrics().num_alive_tasks(), 0, "nobody is used yet");
    for number in 0..20 {
        runtime.block_on(tenants.token(&number.to_string())).expect("a token");
    }
    eventually("as many workers as asked for", || runtime.metrics().num_alive_tasks() == 3);
    // New members are looked at after a second; from then on the workers sleep for a minute.
    thread::sleep(Duration::from_millis(1_500));
    drop(tenants);
    eventually("no workers any more", || runtime.metrics().num_alive_tasks() == 0);
}
