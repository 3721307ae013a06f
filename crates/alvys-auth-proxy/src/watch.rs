//! What the proxy does, for its operators: the metrics, and the last decisions in words.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use alvys_auth_core::{Endpoint, Error, Timestamp, TransportFault, Verdict};
use alvys_auth_driver::Time;
use http::StatusCode;
use lru::LruCache;
use tracing::warn;

use crate::known::Known;
use crate::metrics::{Metrics, count};
use crate::problem::Problem;

/// The `tracing` target of notices: rare messages that an operator must see without turning on a log.
pub(crate) const NOTICES: &str = "alvys_auth::notice";
/// How many decisions are remembered.
const REMEMBERED: usize = 100;
/// How many endpoints, tenants and calls of one endpoint are remembered.
const MANY: NonZeroUsize = NonZeroUsize::new(256).expect("this is not zero");
/// The longest name of an endpoint that is remembered, in characters.
const LONGEST_NAME: usize = 80;
/// How long the same obstacle to calls is not logged again.
const TELL_EVERY: Duration = Duration::from_secs(300);
const MINUTE: Duration = Duration::from_secs(60);

/// Who calls what: the tenant and the endpoint that a decision is about.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) tenant: Option<Arc<str>>,
    pub(crate) endpoint: String,
    limit: Arc<str>,
    check: bool,
}

/// One decision.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    pub(crate) at: SystemTime,
    pub(crate) tenant: Option<Arc<str>>,
    pub(crate) endpoint: String,
    pub(crate) what: String,
}

/// One endpoint of one tenant. Each pair has limits of its own.
type Lane = (Option<Arc<str>>, String);

/// What is known of the calls to one endpoint.
#[derive(Debug, Default)]
struct Use {
    sent: VecDeque<Timestamp>,
    limit: Arc<str>,
    waiting: usize,
}

/// One row of the status page's table of calls within the rate limits.
#[derive(Debug)]
pub(crate) struct Used {
    pub(crate) tenant: Option<Arc<str>>,
    pub(crate) endpoint: String,
    pub(crate) sent: usize,
    pub(crate) limit: Arc<str>,
    pub(crate) waiting: usize,
}

#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) metrics: Metrics,
    pub(crate) started: SystemTime,
    pub(crate) known: Mutex<LruCache<Option<Arc<str>>, Known>>,
    uses: Mutex<LruCache<Lane, Use>>,
    recent: Mutex<VecDeque<Decision>>,
    /// The obstacles to calls that were logged, and when.
    obstacles: Mutex<Vec<(TransportFault, Timestamp)>>,
}

/// Counts a call as waiting for as long as it lives.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    watch: &'a Watch,
    lane: Lane,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self {
            metrics: Metrics::new(),
            started: SystemTime::now(),
            known: Mutex::new(LruCache::new(MANY)),
            uses: Mutex::new(LruCache::new(MANY)),
            recent: Mutex::default(),
            obstacles: Mutex::default(),
        }
    }

    pub(crate) fn turned_away(&self, problem: &Problem) {
        count(&self.metrics.turned_away, "reason", problem.reason);
        self.remember(None, format!("turned a request away: {}", problem.detail));
    }

    /// Notes that a connection was closed because its client did not read.
    pub(crate) fn cut(&self) {
        count(&self.metrics.turned_away, "reason", "unread");
        self.remember(None, "ended a connection whose client did not read its answer".to_owned());
    }

    pub(crate) fn answered(&self, status: StatusCode, took: Duration) {
        self.metrics.requests.get_or_create(&[("status", status.as_str().to_owned())]).inc();
        self.metrics.latency.observe(took.as_secs_f64());
    }

    /// Notes that a call is about to be sent.
    pub(crate) fn sends(&self, subject: &Subject) {
        let mut uses = lock(&self.uses);
        let used = uses.get_or_insert_mut(subject.lane(), Use::default);
        used.limit = Arc::clone(&subject.limit);
        let sent = &mut used.sent;
        sent.push_back(Time::boot().now());
        if sent.len() > MANY.get() {
            sent.pop_front();
        }
    }

    pub(crate) fn shaped(&self, subject: &Subject, wait: Duration) {
        self.metrics.wait("rate_limits", wait);
        self.remember(Some(subject), format!("held back for {:.1} s by the rate limits", wait.as_secs_f64()));
    }

    pub(crate) fn judged(&self, subject: &Subject, status: StatusCode, verdict: &Verdict) {
        let status = status.as_u16();
        match verdict {
            Verdict::Repeat { after } if after.is_zero() => {
                count(&self.metrics.replays, "reason", "token_rejected");
                self.remember(Some(subject), format!("sent again with another token after {status}"));
            }
            Verdict::Repeat { after } => {
                count(&self.metrics.replays, "reason", "asked_to_wait");
                self.metrics.wait("asked", *after);
                self.remember(Some(subject), format!("sent again {} s after {status}", after.as_secs()));
            }
            // The call fails with this error, and `failed` notes it.
            Verdict::Fail(_) => {}
        }
    }

    pub(crate) fn failed(&self, subject: &Subject, error: &Error) {
        count(&self.metrics.refusals, "kind", error.kind().as_str());
        self.remember(Some(subject), format!("failed: {error:#}"));
        if error.fault().is_some_and(|fault| self.is_news(fault, Time::boot().now())) {
            warn!(target: NOTICES, "calls fail: {error:#}");
        }
    }

    /// Whether an operator must see this fault: it lies between this machine and the API, and was not logged within
    /// [`TELL_EVERY`].
    fn is_news(&self, fault: TransportFault, now: Timestamp) -> bool {
        use TransportFault::{Certificate, ProxyCredentials, ProxyUnreached};
        if !matches!(fault, Certificate | ProxyCredentials | ProxyUnreached) {
            return false;
        }
        let mut obstacles = lock(&self.obstacles);
        obstacles.retain(|(_, told)| now.saturating_duration_since(*told) < TELL_EVERY);
        let is_news = obstacles.iter().all(|(other, _)| *other != fault);
        if is_news {
            obstacles.push((fault, now));
        }
        is_news
    }

    pub(crate) fn waiting(&self, subject: &Subject) -> Waiting<'_> {
        let lane = subject.lane();
        let mut uses = lock(&self.uses);
        let used = uses.get_or_insert_mut(lane.clone(), Use::default);
        used.limit = Arc::clone(&subject.limit);
        used.waiting += 1;
        drop(uses);
        Waiting { watch: self, lane }
    }

    /// The last decisions, the latest first.
    pub(crate) fn recent(&self) -> Vec<Decision> {
        lock(&self.recent).iter().rev().cloned().collect()
    }

    /// For each endpoint of each tenant: how many calls were sent in the last minute, and how many wait for their turn.
    pub(crate) fn uses(&self) -> Vec<Used> {
        let now = Time::boot().now();
        let within = |sent: &&Timestamp| now.saturating_duration_since(**sent) < MINUTE;
        let uses = lock(&self.uses);
        let counted = uses.iter().map(|((tenant, endpoint), used)| Used {
            tenant: tenant.clone(),
            endpoint: endpoint.clone(),
            sent: used.sent.iter().rev().take_while(within).count(),
            limit: Arc::clone(&used.limit),
            waiting: used.waiting,
        });
        let mut counted: Vec<_> = counted.filter(|used| used.sent + used.waiting > 0).collect();
        counted.sort_by(|one, other| (&one.tenant, &one.endpoint).cmp(&(&other.tenant, &other.endpoint)));
        counted
    }

    pub(crate) fn remember(&self, subject: Option<&Subject>, what: String) {
        let decision = Decision {
            at: SystemTime::now(),
            tenant: subject.and_then(|subject| subject.tenant.clone()),
            endpoint: subject.map(|subject| subject.endpoint.clone()).unwrap_or_default(),
            what,
        };
        let mut recent = lock(&self.recent);
        if recent.len() == REMEMBERED {
            recent.pop_front();
        }
        recent.push_back(decision);
    }
}

impl Subject {
    pub(crate) fn new(tenant: Option<Arc<str>>, endpoint: &Endpoint, limit: String) -> Self {
        let endpoint = endpoint.name().chars().take(LONGEST_NAME).collect();
        Self { tenant, endpoint, limit: limit.into(), check: false }
    }

    /// The subject of a token request that the proxy makes by itself, and not for a call.
    pub(crate) fn check(tenant: Option<Arc<str>>, what: &str) -> Self {
        Self { tenant, endpoint: what.to_owned(), limit: "".into(), check: true }
    }

    fn lane(&self) -> Lane {
        (self.tenant.clone(), self.endpoint.clone())
    }

    pub(crate) fn is_check(&self) -> bool {
        self.check
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(used) = lock(&self.watch.uses).peek_mut(&self.lane) {
            used.waiting = used.waiting.saturating_sub(1);
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
