//! What many callers cost: requests, waits and failures of one source against a loopback server.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Barrier;
use tokio::time::sleep;

use crate::input::LIFETIME;
use crate::loopback::{Loopback, Reply};
use crate::probe::Kind;
use crate::subject::Subject;

/// How one source came through one scenario.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// Which scenario.
    pub scenario: Scenario,
    /// Which source.
    pub subject: String,
    /// How many asked.
    pub callers: usize,
    /// How long the server took for one answer, in milliseconds.
    pub latency_ms: u64,
    /// How many requests the server saw.
    pub requests: usize,
    /// How many callers got an error.
    pub failures: usize,
    /// How many different errors those were, by their words.
    pub errors: usize,
    /// How many callers waited for longer than 20 ms.
    pub waited: usize,
    /// How long the caller waited who waited longest, in milliseconds.
    pub longest_ms: f64,
    /// From the first question to the last answer, in milliseconds.
    pub wall_ms: f64,
}

impl Outcome {
    /// Whether it is one of our drivers that was asked.
    #[must_use]
    pub fn kind(&self) -> Kind {
        if self.subject.starts_with("alvys-auth") { Kind::Ours } else { Kind::Peer }
    }
}

/// The scenarios, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Nobody holds a token yet.
    Cold,
    /// The token has expired, unnoticed.
    Expiry,
    /// The server refuses the credentials.
    Refused,
    /// The token is due for renewal, and the server is slow.
    SlowRenewal,
    /// The token is due for renewal, and the server is out of order.
    FailingRenewal,
    /// Tokens live 5 s, somebody asks every 100 ms for 9 s.
    ShortLived,
    /// The caller for whom the request was started leaves.
    Cancelled,
    /// The server refuses once and is well again.
    RefusedOnce,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Cold,
        Self::Expiry,
        Self::Refused,
        Self::SlowRenewal,
        Self::FailingRenewal,
        Self::ShortLived,
        Self::Cancelled,
        Self::RefusedOnce,
    ];

    /// As tables name it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Cold => "all at once, nothing held",
            Self::Expiry => "all at once, the token just expired",
            Self::Refused => "all at once, the server answers 401",
            Self::SlowRenewal => "inside the margin, the renewal takes 500 ms",
            Self::FailingRenewal => "inside the margin, the renewal gets 503",
            Self::ShortLived => "tokens live 5 s, asked every 100 ms for 9 s",
            Self::Cancelled => "the first caller leaves after 50 ms",
            Self::RefusedOnce => "401 once, then the server is well; asked every 250 ms",
        }
    }
}

/// Nobody waits for less than this, which the report names too; it is scheduling.
const NOTICEABLE: Duration = Duration::from_millis(20);

/// Many callers at once, with nothing held.
pub async fn cold<S: Subject>(callers: usize, latency: Duration) -> Outcome {
    let server = Loopback::start(Reply::token(LIFETIME).after(latency));
    let source = S::new(&server).await;
    all_at_once(Scenario::Cold, &source, &server, callers, latency).await
}

/// Many callers at once, after a token of two seconds has expired.
pub async fn expiry<S: Subject>(callers: usize, latency: Duration) -> Outcome {
    let server = Loopback::scripted(move |number| match number {
        0 => Reply::token(2),
        _ => Reply::token(LIFETIME).after(latency),
    });
    let source = S::new(&server).await;
    source.token().await.expect("a first token");
    sleep(Duration::from_millis(2_100)).await;
    let first = server.requests();
    let mut outcome = all_at_once(Scenario::Expiry, &source, &server, callers, latency).await;
    outcome.requests -= first;
    outcome
}

/// Many callers at once, all refused.
pub async fn refused<S: Subject>(callers: usize) -> Outcome {
    let latency = Duration::from_millis(20);
    let server = Loopback::start(Reply::unauthorized().after(latency));
    let source = S::new(&server).await;
    all_at_once(Scenario::Refused, &source, &server, callers, latency).await
}

/// A token that is due for renewal while the server takes 500 ms; asked 50 times within a quarter of a second.
pub async fn slow_renewal<S: Subject>() -> Outcome {
    let latency = Duration::from_millis(500);
    renewal::<S>(Scenario::SlowRenewal, Reply::token(LIFETIME).after(latency), latency).await
}

/// A token that is due for renewal while the server answers 503; asked 50 times within a quarter of a second.
pub async fn failing_renewal<S: Subject>() -> Outcome {
    renewal::<S>(Scenario::FailingRenewal, Reply::unavailable(), Duration::ZERO).await
}

/// Tokens that live five seconds.
pub async fn short_lived<S: Subject>() -> Outcome {
    let latency = Duration::from_millis(50);
    let server = Loopback::start(Reply::token(5).after(latency));
    let source = S::new(&server).await;
    let mut watch = Watch::new(Scenario::ShortLived, latency);
    while watch.started.elapsed() < Duration::from_secs(9) {
        let started = Instant::now();
        watch.take(&source).await;
        sleep(Duration::from_millis(100).saturating_sub(started.elapsed())).await;
    }
    watch.end::<S>(&server)
}

/// One caller starts the request and leaves; two hundred wait for it.
pub async fn cancelled<S: Subject>() -> Outcome {
    let latency = Duration::from_millis(300);
    let server = Loopback::start(Reply::token(LIFETIME).after(latency));
    let source = S::new(&server).await;
    let first = tokio::spawn({
        let source = source.clone();
        async move { source.token().await }
    });
    sleep(Duration::from_millis(25)).await;
    let leave = tokio::spawn(async move {
        sleep(Duration::from_millis(25)).await;
        first.abort();
    });
    let outcome = all_at_once(Scenario::Cancelled, &source, &server, 200, latency).await;
    leave.await.expect("no panic");
    outcome
}

/// The first answer is 401, every later one a token. Ends with the first token, or after fifteen seconds without one.
pub async fn refused_once<S: Subject>() -> Outcome {
    let server = Loopback::scripted(|number| match number {
        0 => Reply::unauthorized(),
        _ => Reply::token(LIFETIME),
    });
    let source = S::new(&server).await;
    let mut watch = Watch::new(Scenario::RefusedOnce, Duration::ZERO);
    while !watch.take(&source).await && watch.started.elapsed() < Duration::from_secs(15) {
        sleep(Duration::from_millis(250)).await;
    }
    watch.end::<S>(&server)
}

async fn renewal<S: Subject>(scenario: Scenario, reply: Reply, latency: Duration) -> Outcome {
    let server = Loopback::scripted(move |number| match number {
        0 => Reply::token(S::INSIDE.lifetime),
        _ => reply.clone(),
    });
    let source = S::new(&server).await;
    source.token().await.expect("a first token");
    sleep(S::INSIDE.after).await;
    let mut watch = Watch::new(scenario, latency);
    // Some sources take seconds to fail.
    while watch.callers < 50 && watch.started.elapsed() < Duration::from_secs(15) {
        watch.take(&source).await;
        sleep(Duration::from_millis(5)).await;
    }
    let mut outcome = watch.end::<S>(&server);
    outcome.requests -= 1;
    outcome
}

async fn all_at_once<S: Subject>(
    scenario: Scenario,
    source: &S,
    server: &Loopback,
    callers: usize,
    latency: Duration,
) -> Outcome {
    let start = Arc::new(Barrier::new(callers + 1));
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (source, start) = (source.clone(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                let started = Instant::now();
                (source.token().await, started, started.elapsed())
            })
        })
        .collect();
    start.wait().await;
    let mut watch = Watch::new(scenario, latency);
    for task in tasks {
        let (result, started, waited) = task.await.expect("a caller that does not panic");
        // The first of them may have begun before this task went on.
        watch.started = watch.started.min(started);
        watch.note(result, waited);
    }
    watch.end::<S>(server)
}

/// Collects what callers see.
struct Watch {
    scenario: Scenario,
    latency: Duration,
    started: Instant,
    callers: usize,
    failures: usize,
    errors: BTreeSet<String>,
    waited: usize,
    longest: Duration,
}

impl Watch {
    fn new(scenario: Scenario, latency: Duration) -> Self {
        Self {
            scenario,
            latency,
            started: Instant::now(),
            callers: 0,
            failures: 0,
            errors: BTreeSet::new(),
            waited: 0,
            longest: Duration::ZERO,
        }
    }

    /// Asks once and says whether a token came.
    async fn take(&mut self, source: &impl Subject) -> bool {
        let started = Instant::now();
        let result = source.token().await;
        let obtained = result.is_ok();
        self.note(result, started.elapsed());
        obtained
    }

    fn note(&mut self, result: Result<(), String>, waited: Duration) {
        self.callers += 1;
        if let Err(error) = result {
            self.failures += 1;
            self.errors.insert(error);
        }
        self.waited += usize::from(waited > NOTICEABLE);
        self.longest = self.longest.max(waited);
    }

    fn end<S: Subject>(self, server: &Loopback) -> Outcome {
        Outcome {
            scenario: self.scenario,
            subject: S::NAME.to_owned(),
            callers: self.callers,
            latency_ms: self.latency.as_millis() as u64,
            requests: server.requests(),
            failures: self.failures,
            errors: self.errors.len(),
            waited: self.waited,
            longest_ms: millis(self.longest),
            wall_ms: millis(self.started.elapsed()),
        }
    }
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e4).round() / 10.0
}
