//! One process of a fleet: it does what it reads from its input, a line for a command, and reports to its standard error.

use std::env;
use std::fmt::Display;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use alvys_auth_config::FileProvider;
use alvys_auth_core::share::{Operation, Outcome};
use alvys_auth_core::{Change, Credentials, Error, Flow, Policy, Token, TokenRequest};
use alvys_auth_driver::{AsyncSharing, BlockingSharing};
use alvys_auth_redis::RedisStore;
use alvys_auth_reqwest::Blocking;
use alvys_auth_store::{
    AsyncStore, BlockingStore, Fallback, FileStore, Key, Name, Sealed, SealedAnswer, SealedOperation, StoreFuture,
};
use rustix::process::{Signal, getpid, kill_process};
use tokio::runtime::{Builder, Runtime};

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);

#[test]
#[ignore = "not a test: a process of a fleet"]
fn worker() {
    if env::var_os("FLEET_DRIVER").is_some() {
        work();
    }
}

fn work() {
    let variable = |name: &str| env::var(name).unwrap();
    let flow = Flow::current().endpoint(variable("FLEET_URL"));
    let (id, secret) = (variable("FLEET_ID"), variable("FLEET_SECRET"));
    let provider = FileProvider::secret(&id, &secret);
    // A second request beside a slow one, and a refusal that is over, would make counts depend on the machine.
    let policy = Policy::new()
        .request_timeout(Duration::from_millis(variable("FLEET_TIMEOUT_MS").parse().unwrap()))
        .rejection_grace(Duration::ZERO)
        .hedge_after(LONG)
        .cool_down(LONG, LONG);
    let redis = env::var("FLEET_REDIS").ok().map(|url| Arc::new(RedisStore::new(&url).unwrap()));
    let files = env::var("FLEET_FILES").ok().map(|directory| FileStore::new(directory).unwrap());
    let stores = (redis.clone(), files);
    let source = match variable("FLEET_DRIVER").as_str() {
        "reqwest" => {
            let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let builder = runtime.block_on(alvys_auth_reqwest::TokenSource::provided_by(flow.clone(), provider));
            let builder = builder.unwrap().policy(policy).patience(LONG).on_change(tell);
            Source::Async(builder.store(with_futures(stores)).build().unwrap(), runtime)
        }
        _ => {
            let builder = alvys_auth_ureq::TokenSource::provided_by(flow.clone(), provider).unwrap();
            let builder = builder.policy(policy).patience(LONG).on_change(tell);
            Source::Blocking(builder.store(blocking(stores)).build().unwrap())
        }
    };
    report("ready");
    let mut held = None;
    for command in std::io::stdin().lines() {
        let command = command.unwrap();
        match command.as_str() {
            "look" => {
                let credentials = Credentials::new(&id, fs::read_to_string(&secret).unwrap()).unwrap();
                let key = Key::of(&TokenRequest::new(flow.clone(), credentials).unwrap()).unwrap();
                let seen = BlockingStore::run(redis.as_deref().unwrap(), key.name(), Operation::Look);
                report(if seen.is_ok() { "seen" } else { "away" });
                continue;
            }
            // As a client of the API does that was answered 401.
            "refused" => drop(held.take().map(|token| source.reject(&token))),
            _ => {}
        }
        match source.token() {
            Ok(token) => {
                report(format_args!("holds {}", token.access_token()));
                held = Some(token);
            }
            Err(error) => report(format_args!("fails {:?}", error.kind())),
        }
    }
}

/// Not to the standard output, which belongs to the test harness.
fn report(line: impl Display) {
    eprintln!("{line}");
}

fn tell(change: &Change) {
    match change {
        Change::StoreFailed(_) => report("alone"),
        Change::Shared => report("shared"),
        _ => {}
    }
}

enum Source {
    Async(alvys_auth_reqwest::TokenSource, Runtime),
    Blocking(alvys_auth_ureq::TokenSource),
}

impl Source {
    fn token(&self) -> Result<Token, Error> {
        match self {
            Self::Async(source, runtime) => runtime.block_on(source.token()),
            Self::Blocking(source) => source.token(),
        }
    }

    fn reject(&self, token: &Token) -> bool {
        match self {
            Self::Async(source, _) => source.reject(token),
            Self::Blocking(source) => source.reject(token),
        }
    }
}

type Stores = (Option<Arc<RedisStore>>, Option<FileStore>);

fn with_futures(stores: Stores) -> Arc<dyn AsyncSharing> {
    match stores {
        (Some(redis), None) => Arc::new(Sealed::new(Halting(redis))),
        (Some(redis), Some(files)) => Arc::new(Blocking::new(Sealed::new(Halting(Fallback::new(redis, files))))),
        (None, files) => Arc::new(Blocking::new(Sealed::new(Halting(files.unwrap())))),
    }
}

fn blocking(stores: Stores) -> Arc<dyn BlockingSharing> {
    match stores {
        (Some(redis), None) => Arc::new(Sealed::new(Halting(redis))),
        (Some(redis), Some(files)) => Arc::new(Sealed::new(Halting(Fallback::new(redis, files)))),
        (None, files) => Arc::new(Sealed::new(Halting(files.unwrap()))),
    }
}

/// A store that stops the whole process at the operation that the environment names.
struct Halting<S>(S);

impl<S: BlockingStore> BlockingStore for Halting<S> {
    fn run(&self, name: &Name, operation: SealedOperation) -> Result<SealedAnswer, Error> {
        let publishes = before(&operation);
        let answer = self.0.run(name, operation);
        after(publishes, &answer);
        answer
    }
}

impl<S: AsyncStore> AsyncStore for Halting<S> {
    fn run<'a>(&'a self, name: &'a Name, operation: SealedOperation) -> StoreFuture<'a> {
        Box::pin(async move {
            let publishes = before(&operation);
            let answer = self.0.run(name, operation).await;
            after(publishes, &answer);
            answer
        })
    }
}

fn before(operation: &SealedOperation) -> bool {
    let publishes = matches!(operation, Operation::Publish { .. });
    if publishes {
        halt_at("before publishing");
    }
    publishes
}

fn after(publishes: bool, answer: &Result<SealedAnswer, Error>) {
    if answer.as_ref().is_ok_and(|answer| answer.outcome == Outcome::Claimed) {
        halt_at("after the claim");
    }
    if publishes {
        halt_at("after publishing");
    }
}

fn halt_at(step: &str) {
    static HALTED: AtomicBool = AtomicBool::new(false);
    if env::var("FLEET_HALT").is_ok_and(|halt| halt == step) && !HALTED.swap(true, Ordering::Relaxed) {
        kill_process(getpid(), Signal::STOP).unwrap();
        // The signal may stop another thread first.
        thread::sleep(Duration::from_secs(1));
    }
}
