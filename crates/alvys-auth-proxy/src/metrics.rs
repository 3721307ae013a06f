//! The metrics, in the OpenMetrics text format of Prometheus.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The content type of the answer.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The upper bounds of the latency histogram, in seconds. They are high, because a call includes its waits.
const SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0];

/// One label. It has few different values, so it is never a path or a tenant.
pub(crate) type Labels = [(&'static str, &'static str); 1];
type Seconds = Counter<f64, AtomicU64>;

/// All counters. Counting is cheap; the text is only made when it is requested.
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
            "Time from the head of a call to the head of its answer, including waits",
            self.latency.clone(),
        );
        registry.register("turned_away", "Requests that the proxy refused, by reason", self.turned_away.clone());
        registry.register("refusals", "Calls that failed, by kind", self.refusals.clone());
        registry.register("replays", "Requests sent again, by reason", self.replays.clone());
        registry.register(
            "waits",
            "Waits for a turn within the rate limits, or because the API asked for it",
            self.waits.clone(),
        );
        registry.register("wait_seconds", "Time spent in these waits", self.waited.clone());
        registry.register("tokens", "Access tokens that were obtained, by reason", self.tokens.clone());
        registry.register(
            "token_failures",
            "Calls and readiness checks without an access token, and failed renewals, by kind",
            self.token_failures.clone(),
        );
        registry.register(
            "calls_in_flight",
            "Calls in progress, including those that wait or stream",
            self.in_flight.clone(),
        );
        registry.register(
            "token_expiry_seconds",
            "Time until the access token expires, or the first of several; 0 when none is held",
            self.expiry.clone(),
        );
    }

    pub(crate) fn wait(&self, why: &'static str, wait: Duration) {
        self.waits.get_or_create(&[("reason", why)]).inc();
        self.waited.get_or_create(&[("reason", why)]).inc_by(wait.as_secs_f64());
    }

    /// All metrics as text, with the two values that are read now.
    pub(crate) fn text(&self, in_flight: usize, expiry: Duration) -> String {
        self.in_flight.set(in_flight as i64);
        self.expiry.set(expiry.as_secs_f64());
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Adds one to the counter with this label.
pub(crate) fn count(family: &Family<Labels, Counter>, name: &'static str, value: &'static str) {
    family.get_or_create(&[(name, value)]).inc();
}
