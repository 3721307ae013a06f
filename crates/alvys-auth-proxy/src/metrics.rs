//! The numbers, in the text format of Prometheus.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// What the answer is sent as.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the latency histogram, in seconds: waits for a rate limit are part of a call.
const SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0];

/// One label with a value of few: never a path, never a tenant.
pub(crate) type Labels = [(&'static str, &'static str); 1];
type Seconds = Counter<f64, AtomicU64>;

/// All counters. Cheap to count with; nothing is formatted before somebody asks.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) requests: Family<[(&'static str, String); 1], Counter>,
    pub(crate) latency: Histogram,
    pub(crate) turned_away: Family<Labels, Counter>,
    pub(crate) refusals: Family<Labels, Counter>,
    pub(crate) replays: Family<Labels, Counter>,
    pub(crate) waits: Family<Labels, Counter>,
    pub(crate) waited: Family<Labels, Seconds>,
    pub(crate) tokens: Family<Labels, Counter>,
    pub(crate) token_failures: Family<Labels, Counter>,
    in_flight: Gauge,
    expiry: Gauge<f64, AtomicU64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("alvys_proxy"),
            requests: Family::default(),
            latency: Histogram::new(SECONDS),
            turned_away: Family::default(),
            refusals: Family::default(),
            replays: Family::default(),
            waits: Family::default(),
            waited: Family::default(),
            tokens: Family::default(),
            token_failures: Family::default(),
            in_flight: Gauge::default(),
            expiry: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("requests", "Calls answered, by status", self.requests.clone());
        registry.register(
            "request_seconds",
            "Time from the head of a call to the head of its answer, waits included",
            self.latency.clone(),
        );
        registry.register("turned_away", "Requests refused at the door, by reason", self.turned_away.clone());
        registry.register("refusals", "Calls that were judged a failure, by kind", self.refusals.clone());
        registry.register("replays", "Requests sent again, by reason", self.replays.clone());
        registry.register(
            "waits",
            "Waits, for a turn within the rate limits or because the API asked",
            self.waits.clone(),
        );
        registry.register("wait_seconds", "Time spent in these waits", self.waited.clone());
        registry.register("tokens", "Access tokens that were had, by why they were fetched", self.tokens.clone());
        registry.register(
            "token_failures",
            "Calls and checks without an access token, and renewals that failed, by kind",
            self.token_failures.clone(),
        );
        registry.register(
            "calls_in_flight",
            "Calls under way, waiting and streaming ones included",
            self.in_flight.clone(),
        );
        registry.register(
            "token_expiry_seconds",
            "Time until the access token expires, of several the first one; 0 when none is held",
            self.expiry.clone(),
        );
    }

    pub(crate) fn wait(&self, why: &'static str, wait: Duration) {
        self.waits.get_or_create(&[("reason", why)]).inc();
        self.waited.get_or_create(&[("reason", why)]).inc_by(wait.as_secs_f64());
    }

    /// Everything as text, with the values that are only looked up when somebody asks.
    pub(crate) fn text(&self, in_flight: usize, expiry: Duration) -> String {
        self.in_flight.set(in_flight as i64);
        self.expiry.set(expiry.as_secs_f64());
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Counts one under a label.
pub(crate) fn count(family: &Family<Labels, Counter>, name: &'static str, value: &'static str) {
    family.get_or_create(&[(name, value)]).inc();
}
