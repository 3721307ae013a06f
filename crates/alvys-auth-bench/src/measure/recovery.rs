//! How soon there is a token again after an outage.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::runtime;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::median;
use crate::input::LIFETIME;
use crate::loopback::{Loopback, Reply};
use crate::probe::Kind;
use crate::subject::{Reqwest, Subject, Ureq};

/// How one source came through one kind of outage.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// What the server did.
    pub outage: Outage,
    /// Which source.
    pub subject: String,
    /// Of what kind.
    pub kind: Kind,
    /// From when the server is well until the first token, in milliseconds: the median of the runs.
    pub median_ms: f64,
    /// The longest of them.
    pub longest_ms: f64,
    /// How many requests the server saw in the outage: the median of the runs.
    pub requests: f64,
}

/// What the server does in an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outage {
    /// It answers 503.
    Unavailable,
    /// It answers 429 and does not say how long to wait.
    TooMany,
    /// Something in between answers 200 with an HTML page.
    Page,
    /// It resets every connection.
    Reset,
}

impl Outage {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 4] = [Self::Unavailable, Self::TooMany, Self::Page, Self::Reset];

    /// As tables name it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Unavailable => "503",
            Self::TooMany => "429 without a wait",
            Self::Page => "200 with an HTML page",
            Self::Reset => "Connections are reset",
        }
    }

    fn reply(self) -> Reply {
        match self {
            Self::Unavailable => Reply::unavailable(),
            Self::TooMany => Reply::too_many(),
            Self::Page => Reply::page(),
            Self::Reset => Reply::reset(),
        }
    }
}

/// After this time the caller gives up.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// How long the server is out of order, from the first request on.
const LENGTH: Duration = Duration::from_secs(3);
/// How long the caller waits after an error.
const PAUSE: Duration = Duration::from_millis(50);
const RUNS: usize = 7;

/// Puts all sources through all outages.
///
/// # Panics
/// When the loopback server fails.
#[must_use]
pub fn measure() -> Vec<Record> {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut records = all::<Reqwest>(Kind::Ours).await;
        records.extend(all::<Ureq>(Kind::Ours).await);
        #[cfg(feature = "peers")]
        {
            use crate::peers::{Azure, Google, Yup};
            records.extend(all::<Yup>(Kind::Peer).await);
            records.extend(all::<Azure>(Kind::Peer).await);
            records.extend(all::<Google>(Kind::Peer).await);
        }
        records
    })
}

async fn all<S: Subject>(kind: Kind) -> Vec<Record> {
    let mut records = Vec::new();
    for outage in Outage::ALL {
        let mut runs = JoinSet::new();
        for _ in 0..RUNS {
            runs.spawn(run::<S>(outage));
        }
        let (mut waits, mut requests): (Vec<f64>, Vec<f64>) = runs.join_all().await.into_iter().unzip();
        let record = Record {
            outage,
            subject: S::NAME.to_owned(),
            kind,
            median_ms: median(&mut waits).round(),
            longest_ms: waits.iter().copied().fold(0.0, f64::max).round(),
            requests: median(&mut requests),
        };
        println!("{record:?}");
        records.push(record);
    }
    records
}

/// How long the caller waits once the server is well, in milliseconds, and how many requests there were before.
async fn run<S: Subject>(outage: Outage) -> (f64, f64) {
    let failed = Arc::new(OnceLock::new());
    let end = Arc::new(OnceLock::<Instant>::new());
    let server = Loopback::scripted({
        let (failed, end) = (Arc::clone(&failed), Arc::clone(&end));
        move |number| {
            if Instant::now() < *end.get_or_init(|| Instant::now() + LENGTH) {
                return outage.reply();
            }
            failed.get_or_init(|| number);
            Reply::token(LIFETIME)
        }
    });
    let source = S::new(&server).await;
    let obtained = timeout(LENGTH + LIMIT, async {
        while source.token().await.is_err() {
            sleep(PAUSE).await;
        }
    });
    let obtained = obtained.await.is_ok();
    let well = end.get().copied().unwrap_or_else(Instant::now);
    let wait = if obtained { well.elapsed() } else { LIMIT };
    let requests = failed.get().copied().unwrap_or_else(|| server.requests());
    (wait.as_secs_f64() * 1e3, requests as f64)
}
