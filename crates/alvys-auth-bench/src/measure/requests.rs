//! Request counts and waits of every source in every scenario.

use std::time::Duration;

use tokio::runtime::{self, Runtime};

use crate::scenarios::{self, Outcome};
use crate::subject::{Reqwest, Subject, Ureq};

/// How many ask at once of an async source, and of a blocking one, where each is a thread.
const CALLERS: usize = 10_000;
const THREADS: usize = 1_000;

/// Puts all sources through all scenarios.
///
/// # Panics
/// When the machine has no threads to spare.
#[must_use]
pub fn measure() -> Vec<Outcome> {
    #[cfg_attr(not(feature = "peers"), expect(unused_mut, reason = "only peers are added"))]
    let mut outcomes = measure_ours();
    #[cfg(feature = "peers")]
    outcomes.extend(runtime().block_on(async {
        use crate::peers::{Azure, Google, Yup};
        let mut outcomes = all::<Yup>(CALLERS).await;
        outcomes.extend(all::<Azure>(CALLERS).await);
        outcomes.extend(all::<Google>(CALLERS).await);
        outcomes
    }));
    outcomes
}

/// Puts the two drivers through all scenarios.
///
/// # Panics
/// When the machine has no threads to spare.
#[must_use]
pub fn measure_ours() -> Vec<Outcome> {
    runtime().block_on(async {
        let mut outcomes = all::<Reqwest>(CALLERS).await;
        outcomes.extend(all::<Ureq>(THREADS).await);
        outcomes
    })
}

fn runtime() -> Runtime {
    runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(THREADS + 200)
        .enable_all()
        .build()
        .expect("a runtime")
}

async fn all<S: Subject>(callers: usize) -> Vec<Outcome> {
    let (near, far) = (Duration::from_millis(20), Duration::from_secs(1));
    let mut outcomes = vec![
        told(scenarios::cold::<S>(callers, near).await),
        told(scenarios::cold::<S>(callers, far).await),
        told(scenarios::expiry::<S>(callers, near).await),
        told(scenarios::expiry::<S>(callers, far).await),
        told(scenarios::refused::<S>(200).await),
        told(scenarios::slow_renewal::<S>().await),
        told(scenarios::failing_renewal::<S>().await),
        told(scenarios::short_lived::<S>().await),
        told(scenarios::refused_once::<S>().await),
    ];
    if S::CANCELLABLE {
        outcomes.push(told(scenarios::cancelled::<S>().await));
    }
    outcomes
}

/// Shows an outcome as soon as it is there.
fn told(outcome: Outcome) -> Outcome {
    let Outcome { subject, scenario, callers, requests, failures, errors, waited, longest_ms, wall_ms, .. } = &outcome;
    println!(
        "{subject}: {}: {callers} callers, {requests} requests, {failures} failed with {errors} errors, {waited} waited, longest {longest_ms} ms, all {wall_ms} ms",
        scenario.title()
    );
    outcome
}
