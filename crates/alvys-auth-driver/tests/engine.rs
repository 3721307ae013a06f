//! The engine without a transport: what it publishes, whom it wakes, what it tells `tracing`.
#![expect(clippy::unwrap_used, reason = "a set-up that fails is a test that fails")]

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use alvys_auth_core::{Credentials, Error, Flow, Policy, Step, Token, TokenRequest, TokenResponse};
use alvys_auth_driver::{Engine, now};
use tracing_subscriber::fmt::MakeWriter;

const ANSWER: &str = r#"{"access_token":"abc","expires_in":3600,"scope":"load:read"}"#;

/// An engine that counts how often it wakes its waiters.
fn engine(flow: Flow) -> (Arc<Engine>, Arc<AtomicUsize>) {
    let woken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&woken);
    let request = TokenRequest::new(flow, Credentials::new("my-client", "s3cret").unwrap()).unwrap();
    let policy = Policy::new().rejection_grace(Duration::ZERO);
    let wake = move || {
        counter.fetch_add(1, Ordering::SeqCst);
    };
    (Arc::new(Engine::new(request, policy, wake)), woken)
}

fn fetch(engine: &Arc<Engine>, answer: Result<http::Response<&str>, Error>) {
    let Step::Fetch(attempt) = engine.poll() else { panic!("a fetch is due") };
    let (_, flight) = engine.launch(attempt);
    flight.land(answer);
}

fn refusal(status: u16) -> Result<http::Response<&'static str>, Error> {
    let mut response = http::Response::new("");
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    Ok(response)
}

fn held(engine: &Engine) -> Option<Token> {
    engine.with_token(Token::clone)
}

#[test]
fn a_landed_answer_is_published_and_wakes_the_waiters() {
    let (engine, woken) = engine(Flow::current());
    assert!(held(&engine).is_none());
    fetch(&engine, Ok(http::Response::new(ANSWER)));
    assert_eq!(held(&engine).unwrap().header(), "Bearer abc");
    assert_eq!(woken.load(Ordering::SeqCst), 1);
    assert!(engine.status().is_ready());
}

#[test]
fn a_dropped_flight_lets_the_next_caller_take_over() {
    let (engine, woken) = engine(Flow::current());
    let Step::Fetch(attempt) = engine.poll() else { panic!("a fetch is due") };
    assert!(matches!(engine.poll(), Step::Wait(_)));
    drop(engine.launch(attempt));
    assert_eq!(woken.load(Ordering::SeqCst), 1);
    assert!(matches!(engine.poll(), Step::Fetch(_)));
}

#[test]
fn a_panic_while_sending_is_a_failure_and_not_repeated_at_once() {
    let (engine, _) = engine(Flow::current());
    let Step::Fetch(attempt) = engine.poll() else { panic!("a fetch is due") };
    let (_, flight) = engine.launch(attempt);
    let panicked = std::thread::spawn(move || {
        let _flight = flight;
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    let Step::Wait(wait) = engine.poll() else { panic!("a pause") };
    assert!(!wait.is_in_flight());
    assert!(wait.give_up().to_string().contains("panicked"));
}

#[test]
fn a_flight_that_was_replaced_is_awaited_no_more() {
    let (engine, _) = engine(Flow::current());
    let Step::Fetch(attempt) = engine.poll() else { panic!("a fetch is due") };
    let (_, flight) = engine.launch(attempt);
    assert!(flight.extend(Duration::ZERO));
    engine.set_credentials(Credentials::new("my-client", "rotated").unwrap()).unwrap();
    assert!(!flight.extend(Duration::ZERO));
}

#[test]
fn every_change_is_seen_by_readers_at_once() {
    let (engine, woken) = engine(Flow::current());
    fetch(&engine, Ok(http::Response::new(ANSWER)));
    let token = held(&engine).unwrap();

    assert!(engine.reject(&token));
    assert!(held(&engine).is_none());
    assert!(engine.reject(&token), "the second caller is told to retry as well, and changes nothing");

    assert!(engine.adopt(TokenResponse::new("from-a-store", Duration::from_secs(60), "").unwrap()));
    assert_eq!(held(&engine).unwrap().header(), "Bearer from-a-store");

    engine.invalidate();
    assert!(held(&engine).is_none());

    fetch(&engine, refusal(401));
    assert!(matches!(engine.poll(), Step::Fail(_)));
    assert!(engine.status().paused_for.is_some());
    engine.set_credentials(Credentials::new("my-client", "rotated").unwrap()).unwrap();
    assert!(engine.status().paused_for.is_none());
    fetch(&engine, Ok(http::Response::new(ANSWER)));
    assert!(held(&engine).is_some());
    assert_eq!(woken.load(Ordering::SeqCst), 7, "every change wakes");
}

#[test]
fn the_clock_never_runs_backwards() {
    let mut last = now();
    for _ in 0..10_000 {
        let next = now();
        assert!(next >= last);
        last = next;
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self::Writer {
        self.clone()
    }
}

#[test]
fn every_decision_is_one_event() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        let (engine, _) = engine(Flow::legacy("va336"));
        drop(engine.poll());
        let (engine, _) = self::engine(Flow::current());
        let Step::Fetch(attempt) = engine.poll() else { panic!("a fetch is due") };
        drop(engine.launch(attempt));
        fetch(&engine, refusal(503));
        engine.set_credentials(Credentials::new("other-client", "s3cret").unwrap()).unwrap();
        fetch(&engine, refusal(401));
        engine.set_credentials(Credentials::new("my-client", "s3cret").unwrap()).unwrap();
        fetch(&engine, Ok(http::Response::new(ANSWER)));
        assert!(engine.reject(&held(&engine).unwrap()));
        assert!(engine.adopt(TokenResponse::new("from-a-store", Duration::from_secs(1), "").unwrap()));
        while held(&engine).is_some() {
            std::thread::sleep(Duration::from_millis(5));
        }
        fetch(&engine, Ok(http::Response::new(ANSWER)));
        engine.invalidate();
    });
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let events = [
        "announced to shut down",
        "fetching an access token",
        "was abandoned",
        "paused: the token request failed",
        "took other credentials",
        "failed: the token request was refused",
        "obtained an access token",
        "the API rejected the held access token",
        "was offered an access token from elsewhere",
        "refreshed the access token",
        "gave up the held access token",
    ];
    for event in events {
        assert!(log.contains(event), "{event:?} is missing in\n{log}");
    }
    assert!(log.lines().all(|line| line.contains("alvys_auth")), "{log}");
    assert!(!log.contains("s3cret") && !log.contains("abc") && !log.contains("from-a-store"), "{log}");
}

#[test]
fn whoever_rotates_the_credentials_goes_on_before_those_who_wait() {
    let (shared, woken) = (Arc::new(OnceLock::<Arc<Engine>>::new()), Arc::new(AtomicUsize::new(0)));
    let (waiting, begun) = (Arc::clone(&shared), Arc::clone(&woken));
    let wake = move || {
        let step = waiting.get().unwrap().poll();
        assert!(matches!(step, Step::Wait(_)), "a waiter is to do it: {step:?}");
        begun.fetch_add(1, Ordering::SeqCst);
    };
    let request = TokenRequest::new(Flow::current(), Credentials::new("my-client", "old").unwrap()).unwrap();
    let engine = shared.get_or_init(|| Arc::new(Engine::new(request, Policy::new(), wake)));
    let Step::Fetch(attempt) = engine.poll() else { panic!("a fetch is due") };
    let (_, flight) = engine.launch(attempt);
    let step = engine.rotate_credentials(Credentials::new("my-client", "new").unwrap()).unwrap();
    assert!(matches!(step, Some(Step::Fetch(_))), "{step:?}");
    drop(flight);
    assert_eq!(woken.load(Ordering::SeqCst), 2);
}
