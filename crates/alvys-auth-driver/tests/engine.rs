//! The engine without a transport: what it publishes, whom it wakes, whom it tells, what it tells `tracing`.
#![expect(clippy::unwrap_used, reason = "a set-up that fails is a test that fails")]

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use alvys_auth_core::{Change, Credentials, Error, Flow, Given, Mark, Policy, Token, TokenRequest, TokenResponse};
use alvys_auth_driver::{Action, Engine, Flight, ManualClock, Task, Time, Watch};
use tracing_subscriber::fmt::MakeWriter;

const ANSWER: &str = r#"{"access_token":"abc","expires_in":3600,"scope":"load:read"}"#;
const MINUTE: Duration = Duration::from_secs(60);

fn request(flow: Flow) -> TokenRequest {
    TokenRequest::new(flow, credentials("s3cret")).unwrap()
}

fn credentials(secret: &str) -> Credentials {
    Credentials::new("my-client", secret).unwrap()
}

/// An engine on a clock of its own, without a grace for young tokens.
fn engine(flow: Flow) -> (Arc<Engine>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let policy = Policy::new().rejection_grace(Duration::ZERO);
    (Arc::new(Engine::new(request(flow), policy, None, false, Arc::clone(&clock).into(), None)), clock)
}

fn launched(engine: &Arc<Engine>) -> Flight {
    let Action::Do(flight) = polled(engine) else { panic!("a fetch is due") };
    flight
}

/// What a caller does who waits for a minute.
fn polled(engine: &Arc<Engine>) -> Action<Token, Flight> {
    Engine::poll(engine, Duration::ZERO, engine.time().now().saturating_add(MINUTE))
}

fn sent(flight: &mut Flight) -> String {
    let Some(Task::Send(request)) = flight.next_task() else { panic!("a request is due") };
    String::from_utf8(request.into_body()).unwrap()
}

fn fetch(engine: &Arc<Engine>, answer: Result<http::Response<&str>, Error>) {
    let mut flight = launched(engine);
    let _ = sent(&mut flight);
    flight.answered(answer);
    assert!(flight.next_task().is_none(), "the attempt is over");
}

fn refusal(status: u16) -> Result<http::Response<&'static str>, Error> {
    let mut response = http::Response::new("");
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    Ok(response)
}

fn held(engine: &Engine) -> Option<Token> {
    engine.with_token(Token::clone)
}

/// Whether a change wakes a caller who waits for a token.
#[track_caller]
fn wakes<R>(engine: &Arc<Engine>, change: impl FnOnce() -> R) -> R {
    use event_listener::Listener;

    let Action::Wait(listener, _) = polled(engine) else { panic!("nobody waits") };
    let result = change();
    assert!(listener.wait_timeout(Duration::ZERO).is_some(), "nobody was woken");
    result
}

#[test]
fn a_landed_answer_is_published_and_wakes_the_waiters() {
    let (engine, _) = engine(Flow::current());
    assert!(held(&engine).is_none());
    let mut flight = launched(&engine);
    let _ = sent(&mut flight);
    wakes(&engine, || {
        flight.answered(Ok(http::Response::new(ANSWER)));
        assert!(flight.next_task().is_none(), "the attempt is over");
    });
    assert_eq!(held(&engine).unwrap().header(), "Bearer abc");
    assert!(engine.status().is_ready());
}

#[test]
fn a_dropped_flight_lets_the_next_caller_take_over() {
    let (engine, _) = engine(Flow::current());
    let flight = launched(&engine);
    wakes(&engine, || drop(flight));
    assert!(matches!(polled(&engine), Action::Do(_)));
}

#[test]
fn a_panic_while_sending_is_a_failure_and_not_repeated_at_once() {
    let (engine, _) = engine(Flow::current());
    let mut flight = launched(&engine);
    let _ = sent(&mut flight);
    let panicked = std::thread::spawn(move || {
        let _flight = flight;
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    assert!(matches!(polled(&engine), Action::Wait(..)), "a pause");
    let given_up = Engine::poll(&engine, Duration::ZERO, engine.time().now());
    assert!(matches!(given_up, Action::Over(Err(error)) if error.to_string().contains("panicked")));
}

#[test]
fn a_flight_that_was_replaced_sends_nothing() {
    let (engine, _) = engine(Flow::current());
    let mut flight = launched(&engine);
    engine.set_credentials(credentials("rotated")).unwrap();
    assert!(flight.next_task().is_none());
}

#[test]
fn every_change_is_seen_by_readers_at_once() {
    let (engine, clock) = engine(Flow::current());
    fetch(&engine, Ok(http::Response::new(ANSWER)));
    let token = held(&engine).unwrap();

    assert!(engine.reject(&token));
    assert!(held(&engine).is_none());
    assert!(engine.reject(&token), "the second caller is told to retry as well, and changes nothing");

    let flight = launched(&engine);
    assert!(wakes(&engine, || engine.adopt(TokenResponse::new("from-a-store", MINUTE, "").unwrap())));
    drop(flight);
    assert_eq!(held(&engine).unwrap().header(), "Bearer from-a-store");
    clock.advance(MINUTE);
    assert!(held(&engine).is_none());

    fetch(&engine, refusal(401));
    assert!(matches!(polled(&engine), Action::Over(Err(_))));
    assert!(engine.status().paused_for.is_some());
    assert!(engine.set_credentials(credentials("rotated")).unwrap());
    assert!(engine.status().paused_for.is_none());
    fetch(&engine, Ok(http::Response::new(ANSWER)));
    engine.invalidate();
    assert!(held(&engine).is_none());
}

#[test]
fn a_pause_can_be_ended_by_hand() {
    let (engine, _) = engine(Flow::current());
    let mut absurd = refusal(429).unwrap();
    absurd.headers_mut().insert("retry-after", http::HeaderValue::from_static("86400"));
    fetch(&engine, Ok(absurd));
    assert!(matches!(polled(&engine), Action::Over(Err(_))), "longer than anybody waits");
    engine.end_pause();
    fetch(&engine, refusal(503));
    wakes(&engine, || engine.end_pause());
    fetch(&engine, Ok(http::Response::new(ANSWER)));
    assert!(held(&engine).is_some());
}

#[test]
fn a_provider_is_asked_once_until_it_has_answered() {
    let clock = Arc::new(ManualClock::new());
    let provider = Some((Some(Mark::new(1)), None, MINUTE));
    let engine = Arc::new(Engine::new(request(Flow::current()), Policy::new(), provider, false, clock.into(), None));
    let mut flight = launched(&engine);
    let Some(Task::Ask(Some(known), question)) = flight.next_task() else { panic!("the provider is asked first") };
    assert_eq!(known, Mark::new(1));
    flight.provided(None);
    assert!(sent(&mut flight).contains("s3cret"), "goes on with what is there");
    flight.answered(Ok(http::Response::new(ANSWER)));
    assert!(flight.next_task().is_none());

    engine.invalidate();
    let mut flight = launched(&engine);
    assert!(sent(&mut flight).contains("s3cret"), "the question is still open");
    drop(flight);
    drop(question);
    let mut flight = launched(&engine);
    let Some(Task::Ask(_, question)) = flight.next_task() else { panic!("it has answered, however late") };
    drop(question);
    flight.provided(Some(Ok(Given::These(credentials("rotated"), Mark::new(2)))));
    assert!(sent(&mut flight).contains("rotated"));
}

#[test]
fn a_hook_is_told_of_every_change() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let hook = move |change: &Change| heard.lock().unwrap().push(format!("{change:?}"));
    let policy = Policy::new().rejection_grace(Duration::ZERO);
    let engine = Engine::new(request(Flow::current()), policy, None, false, Time::boot(), Some(Box::new(hook)));
    let engine = Arc::new(engine);
    fetch(&engine, Ok(http::Response::new(ANSWER)));
    let _ = engine.reject(&held(&engine).unwrap());
    fetch(&engine, refusal(503));
    engine.set_credentials(credentials("rotated")).unwrap();
    engine.end_pause();
    let told = told.lock().unwrap();
    let names: Vec<_> = told.iter().map(|change| change.split(['(', ' ']).next().unwrap()).collect();
    assert_eq!(names, ["Obtained", "Rejected", "Paused", "CredentialsChanged", "PauseEnded"]);
    assert!(!told.concat().contains("abc") && !told.concat().contains("s3cret"), "{told:?}");
}

/// Sees to two renewals that are due.
struct Workers(Arc<AtomicUsize>);

impl Watch for Workers {
    fn changed(&self, _: &Change) {}

    fn renews(&self, _: &Engine) -> bool {
        self.0.fetch_add(1, Ordering::SeqCst) < 2
    }
}

#[test]
fn a_token_left_to_workers_is_lent_until_shortly_before_its_end() {
    let (clock, hurried) = (Arc::new(ManualClock::new()), Arc::new(AtomicUsize::new(0)));
    let watch: Box<dyn Watch> = Box::new(Workers(Arc::clone(&hurried)));
    let time = Time::from(Arc::clone(&clock));
    let engine = Arc::new(Engine::new(request(Flow::current()), Policy::new(), None, false, time, Some(watch)));
    fetch(&engine, Ok(http::Response::new(ANSWER)));
    clock.advance(Duration::from_secs(3600 - 140));
    assert!(held(&engine).is_some());
    assert_eq!(hurried.load(Ordering::SeqCst), 1, "a worker has heard of it");
    assert!(held(&engine).is_some());
    assert!(held(&engine).is_none(), "no worker sees to it any more");
    clock.advance(Duration::from_secs(130));
    assert!(held(&engine).is_none(), "too late for a worker");
}

#[test]
fn the_clock_of_the_system_never_runs_backwards() {
    let mut last = Time::boot().now();
    for _ in 0..10_000 {
        let next = Time::boot().now();
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
    // While there is only one subscriber, tracing decides about an event by the thread that meets it first, and the threads of
    // the other tests have none.
    let _another = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
    tracing::subscriber::with_default(subscriber, || {
        let (engine, _) = engine(Flow::legacy("va336"));
        drop(polled(&engine));
        let (engine, clock) = self::engine(Flow::current());
        let mut flight = launched(&engine);
        let _ = sent(&mut flight);
        drop(flight);
        fetch(&engine, refusal(503));
        engine.set_credentials(Credentials::new("other-client", "s3cret").unwrap()).unwrap();
        fetch(&engine, refusal(401));
        engine.set_credentials(credentials("s3cret")).unwrap();
        fetch(&engine, Ok(http::Response::new(ANSWER)));
        assert!(engine.reject(&held(&engine).unwrap()));
        assert!(engine.adopt(TokenResponse::new("from-a-store", MINUTE, "").unwrap()));
        clock.advance(Duration::from_secs(55));
        fetch(&engine, Ok(http::Response::new(ANSWER)));
        engine.invalidate();
        engine.end_pause();
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
        "took an access token from elsewhere",
        "renewed the access token",
        "gave up the held access token",
        "a pause was ended by hand",
    ];
    for event in events {
        assert!(log.contains(event), "{event:?} is missing in\n{log}");
    }
    assert!(log.lines().all(|line| line.contains("alvys_auth")), "{log}");
    assert!(!log.contains("s3cret") && !log.contains("abc") && !log.contains("from-a-store"), "{log}");
}

#[test]
fn a_subscriber_may_use_the_source_that_it_hears_of() {
    let shared = Arc::new(OnceLock::<Arc<Engine>>::new());
    let (asking, asked) = (Arc::clone(&shared), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&asked);
    let hook = move |_: &Change| {
        let engine = asking.get().unwrap();
        let _ = (engine.status(), polled(engine), engine.flow());
        counter.fetch_add(1, Ordering::SeqCst);
    };
    let engine = Engine::new(request(Flow::current()), Policy::new(), None, false, Time::boot(), Some(Box::new(hook)));
    let engine = shared.get_or_init(|| Arc::new(engine));
    fetch(engine, Ok(http::Response::new(ANSWER)));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}
