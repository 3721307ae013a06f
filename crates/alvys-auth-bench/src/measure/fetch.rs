//! What a source adds to an uncached fetch: pairs of fetches, ours and a hand-written one in turn, over connections that are
//! kept where the client keeps them, so that whatever slows the machine down slows both.

use std::future::Future;
use std::hint::black_box;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::runtime;

use super::median;
use crate::floor;
use crate::input;
use crate::loopback::{Loopback, Reply};
use crate::probe::Kind;
use crate::subject::{Reqwest, Subject, Ureq};

const PAIRS: usize = 4_000;

/// A subject beside the hand-written call with the same client.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Who fetches.
    pub subject: String,
    /// Of what kind.
    pub kind: Kind,
    /// What the floor is written with.
    pub client: String,
    /// Whether the floor has the settings of our driver: its time limits, and how long connections are kept.
    pub same_settings: bool,
    /// Median of the subject, in microseconds.
    pub micros: f64,
    /// Median of the floor, in microseconds.
    pub floor_micros: f64,
    /// Median of the ratios of the pairs.
    pub ratio: f64,
    /// The same for each tenth of the pairs: the lowest and the highest.
    pub range: (f64, f64),
}

/// Fetches in pairs.
///
/// # Panics
/// When the loopback server fails.
#[must_use]
pub fn measure() -> Vec<Record> {
    // One thread, so that the caller is where its task and its connection are, as on a worker of a larger runtime.
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut records = Vec::new();
    for same_settings in [false, true] {
        records.push(blocking(same_settings));
        records.push(runtime.block_on(asynchronous(same_settings)));
    }
    #[cfg(feature = "peers")]
    records.extend(runtime.block_on(peers()));
    for record in &records {
        let Record { subject, same_settings, ratio, .. } = record;
        println!("{subject}: {ratio:.3} times the hand-written call, with the same settings: {same_settings}");
    }
    records
}

fn blocking(same_settings: bool) -> Record {
    let server = Loopback::start(Reply::token(input::LIFETIME));
    let runtime = runtime::Builder::new_current_thread().build().expect("a runtime");
    let Ureq(source) = runtime.block_on(Ureq::new(&server));
    let (agent, url) = (floor::agent(same_settings), server.url());
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        ours.push(timed(|| {
            source.invalidate();
            source.token().expect("a token")
        }));
        floors.push(timed(|| floor::with_ureq(&agent, &url)));
    }
    record(Ureq::NAME, Kind::Ours, ("ureq", same_settings), ours, floors)
}

/// What [`repeat`] knows: our drivers, and the hand-written calls with their settings.
pub const KINDS: [&str; 4] = ["ureq", "ureq-floor", "reqwest", "reqwest-floor"];

/// Lends one kind of fetch to `measured`, once warm, for a profile of the thread that fetches.
///
/// # Panics
/// When the loopback server fails, or the kind is none of [`KINDS`].
pub fn repeat(kind: &str, measured: impl FnOnce(&mut dyn FnMut())) {
    let server = Loopback::start(Reply::token(input::LIFETIME));
    let url = server.url();
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut fetch: Box<dyn FnMut()> = match kind {
        "ureq" => {
            let Ureq(source) = runtime.block_on(Ureq::new(&server));
            Box::new(move || {
                source.invalidate();
                drop(black_box(source.token().expect("a token")));
            })
        }
        "ureq-floor" => {
            let agent = floor::agent(true);
            Box::new(move || drop(black_box(floor::with_ureq(&agent, &url))))
        }
        "reqwest" => {
            let Reqwest(source) = runtime.block_on(Reqwest::new(&server));
            Box::new(move || {
                runtime.block_on(async {
                    source.invalidate();
                    drop(black_box(source.token().await.expect("a token")));
                    settle().await;
                });
            })
        }
        "reqwest-floor" => {
            let client = floor::client(true);
            Box::new(move || {
                runtime.block_on(async {
                    drop(black_box(floor::with_reqwest(&client, &url).await));
                    settle().await;
                });
            })
        }
        _ => panic!("the kinds are {}", KINDS.join(", ")),
    };
    for _ in 0..10 {
        fetch();
    }
    measured(&mut fetch);
}

async fn asynchronous(same_settings: bool) -> Record {
    let server = Loopback::start(Reply::token(input::LIFETIME));
    let Reqwest(source) = Reqwest::new(&server).await;
    let fetch = || async {
        source.invalidate();
        source.token().await.expect("a token")
    };
    beside_reqwest(Reqwest::NAME, Kind::Ours, &server, same_settings, fetch).await
}

#[cfg(feature = "peers")]
async fn peers() -> Vec<Record> {
    use crate::peers::{Azure, Oauth2, Yup};

    // Tokens so short-lived that yup-oauth2 and azure_identity want another one each time.
    let server = Loopback::start(Reply::token(1));
    let (oauth2, azure, yup) = (Oauth2::new(&server), Azure::new(&server).await, Yup::new(&server).await);
    vec![
        beside_reqwest("oauth2", Kind::Peer, &server, false, || oauth2.fetch()).await,
        beside_reqwest(Azure::NAME, Kind::Peer, &server, false, || azure.token()).await,
        beside_reqwest(Yup::NAME, Kind::Peer, &server, false, || yup.token()).await,
    ]
}

async fn beside_reqwest<F: Future>(
    subject: &str,
    kind: Kind,
    server: &Loopback,
    same_settings: bool,
    fetch: impl Fn() -> F,
) -> Record {
    let (client, url) = (floor::client(same_settings), server.url());
    let (mut theirs, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let started = Instant::now();
        black_box(fetch().await);
        settle().await;
        theirs.push(micros(started));
        let started = Instant::now();
        black_box(floor::with_reqwest(&client, &url).await);
        settle().await;
        floors.push(micros(started));
    }
    record(subject, kind, ("reqwest", same_settings), theirs, floors)
}

/// Lets the tasks of a connection finish what the answer may or may not have waited for, such as closing it: it counts too,
/// and for the fetch that caused it.
async fn settle() {
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
}

fn record(
    subject: &str,
    kind: Kind,
    (client, same_settings): (&str, bool),
    mut theirs: Vec<f64>,
    mut floors: Vec<f64>,
) -> Record {
    let mut ratios: Vec<f64> = theirs.iter().zip(&floors).map(|(theirs, floor)| theirs / floor).collect();
    let tenths = ratios.chunks_mut(PAIRS / 10).map(median);
    let range = tenths.fold((f64::MAX, f64::MIN), |(low, high), ratio| (low.min(ratio), high.max(ratio)));
    let rounded = |value: f64| (value * 1e3).round() / 1e3;
    Record {
        subject: subject.to_owned(),
        kind,
        client: client.to_owned(),
        same_settings,
        micros: rounded(median(&mut theirs)),
        floor_micros: rounded(median(&mut floors)),
        ratio: rounded(median(&mut ratios)),
        range: (rounded(range.0), rounded(range.1)),
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> f64 {
    let started = Instant::now();
    black_box(work());
    micros(started)
}

fn micros(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e6
}
