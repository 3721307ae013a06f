//! The storm: both drivers against the sandbox, with tokens that live a minute, a fault every few seconds and many callers.
//!
//! It shows what no single scenario shows: what share of the time a token is at hand, and whether everybody is well again
//! after the last fault.

mod seen;
mod weather;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use alvys_auth_core::{Api, Credentials, Flow};
use alvys_auth_sandbox::Sandbox;
use tokio::runtime;

use self::seen::Seen;
use self::weather::Weather;
use crate::measure::Result;

const ASYNC_CALLERS: u64 = 16;
const BLOCKING_CALLERS: u64 = 8;
/// A call that takes longer is stuck: the time limits of both drivers end sooner.
const STUCK: Duration = Duration::from_secs(90);
/// How often somebody looks whether a token is at hand.
const LOOK: Duration = Duration::from_millis(20);

/// The settings of a storm.
#[derive(Debug, Clone, Copy)]
pub struct Storm {
    /// How long faults go on.
    pub length: Duration,
    /// How long a token lives.
    pub lifetime: Duration,
    /// The mean time from one fault to the next.
    pub gap: Duration,
    /// What decides which faults there are, and when.
    pub seed: u64,
}

/// What came of a storm; `Display` prints it.
#[derive(Debug)]
pub struct Aftermath {
    drivers: [(&'static str, Arc<Seen>); 2],
    requests: usize,
    issued: usize,
    calls: usize,
    /// From the last fault on until both drivers have a token, and until both have answered some more calls.
    token: Duration,
    recovery: Duration,
}

impl Storm {
    /// Lets it happen.
    ///
    /// # Errors
    /// When the sandbox or a source cannot start.
    ///
    /// # Panics
    /// When a caller panics.
    pub fn run(self) -> Result<Aftermath> {
        let sandbox = Sandbox::start()?;
        sandbox.set_lifetime(self.lifetime);
        let application = sandbox.application();
        let flow = || Flow::current().endpoint(sandbox.token_url());
        let credentials = Credentials::new(application.client_id(), application.client_secret())?;
        let tokens_async = alvys_auth_reqwest::TokenSource::new(flow(), credentials.clone())?;
        let tokens_blocking = alvys_auth_ureq::TokenSource::new(flow(), credentials)?;
        let api = Api::at(&sandbox.api_url())?;
        let client_async = alvys_auth_reqwest::Client::new(tokens_async.clone(), api.clone())?;
        let client_blocking = alvys_auth_ureq::Client::new(tokens_blocking.clone(), api)?;

        let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let over = Arc::new(AtomicBool::new(false));
        let seen = [(); 2].map(|()| Arc::new(Seen::default()));
        let tasks: Vec<_> = (0..ASYNC_CALLERS)
            .map(|number| {
                let caller =
                    ask(client_async.clone(), sandbox.me_url(), number, Arc::clone(&seen[0]), Arc::clone(&over));
                runtime.spawn(caller)
            })
            .collect();
        let mut threads: Vec<_> = (0..BLOCKING_CALLERS)
            .map(|number| {
                let (seen, over) = (Arc::clone(&seen[1]), Arc::clone(&over));
                let (client, url) = (client_blocking.clone(), sandbox.me_url());
                thread::spawn(move || ask_blocking(&client, &url, number, &seen, &over))
            })
            .collect();
        threads.push(look(&tokens_async, &tokens_blocking, &seen, &over));

        let mut weather = Weather::new(&sandbox, &tokens_async, &tokens_blocking, self.seed);
        let end = Instant::now() + self.length;
        while Instant::now() < end {
            weather.change()?;
            sleep(weather.pause(self.gap));
        }
        sandbox.clear_faults();
        let (calm, wanted) = (Instant::now(), [seen[0].answered() + 200, seen[1].answered() + 100]);
        let token = until(calm, || tokens_async.status().is_ready() && tokens_blocking.status().is_ready());
        let recovery = until(calm, || seen.iter().zip(wanted).all(|(seen, wanted)| seen.answered() >= wanted));

        over.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().expect("a caller that does not panic");
        }
        for task in tasks {
            runtime.block_on(task)?;
        }
        let [reqwest, ureq] = seen;
        Ok(Aftermath {
            drivers: [("alvys-auth-reqwest", reqwest), ("alvys-auth-ureq", ureq)],
            requests: sandbox.token_requests(),
            issued: sandbox.tokens_issued(),
            calls: sandbox.api_requests(),
            token,
            recovery,
        })
    }
}

async fn ask(client: alvys_auth_reqwest::Client, url: String, number: u64, seen: Arc<Seen>, over: Arc<AtomicBool>) {
    while !over.load(Ordering::Relaxed) {
        let started = Instant::now();
        let result = tokio::time::timeout(STUCK, client.get(&url).send()).await;
        seen.note(started.elapsed(), result.map_or(Err("stuck"), |sent| told(sent.map(|answer| answer.status()))));
        tokio::time::sleep(Duration::from_millis(30 + 7 * number)).await;
    }
}

fn ask_blocking(client: &alvys_auth_ureq::Client, url: &str, number: u64, seen: &Seen, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let started = Instant::now();
        let sent = client.get(url).send();
        seen.note(started.elapsed(), told(sent.map(|answer| answer.status())));
        sleep(Duration::from_millis(40 + 9 * number));
    }
}

fn told(sent: std::result::Result<http::StatusCode, alvys_auth_core::Error>) -> std::result::Result<u16, &'static str> {
    sent.map(|status| status.as_u16()).map_err(|error| error.kind().as_str())
}

/// Looks again and again whether a token is at hand, from the first ones on.
fn look(
    tokens_async: &alvys_auth_reqwest::TokenSource,
    tokens_blocking: &alvys_auth_ureq::TokenSource,
    seen: &[Arc<Seen>; 2],
    over: &Arc<AtomicBool>,
) -> JoinHandle<()> {
    let (tokens_async, tokens_blocking) = (tokens_async.clone(), tokens_blocking.clone());
    let (seen, over) = (seen.clone(), Arc::clone(over));
    thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            seen[0].look(tokens_async.status().is_ready());
            seen[1].look(tokens_blocking.status().is_ready());
            sleep(LOOK);
        }
    })
}

/// How long it takes from `start` on until something has happened.
fn until(start: Instant, happened: impl Fn() -> bool) -> Duration {
    while !happened() && start.elapsed() < STUCK {
        sleep(LOOK);
    }
    start.elapsed()
}

impl Aftermath {
    /// Whether no call was stuck and everybody is well again.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.recovery < STUCK && self.drivers.iter().all(|(_, seen)| seen.slowest() < STUCK)
    }
}

impl fmt::Display for Aftermath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (driver, seen) in &self.drivers {
            writeln!(f, "{driver}: {seen}")?;
        }
        let Self { requests, issued, calls, token, recovery, .. } = self;
        writeln!(f, "{requests} token requests, {issued} tokens, {calls} calls")?;
        write!(f, "after the last fault: a token at hand again in {token:.1?}, calls answered again in {recovery:.1?}")
    }
}
