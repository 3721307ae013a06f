//! A lifecycle beside a small model of it: whatever happens to both, the model says what must be true.

use std::collections::BTreeSet;
use std::time::Duration;

use alvys_auth_core::{
    Attempt, Change, Credentials, Error, ErrorKind, Flow, Given, Lifecycle, Mark, Next, Step, Timestamp, Token,
    TokenResponse,
};
use serde_json::json;

use self::attempts::{Open, Point};
use self::event::Stored;
pub(crate) use self::event::{Event, Rules, event, rules};
use crate::support::{granted, jwt, request};

mod attempts;
mod changes;
mod event;
mod recovery;

/// How long a provider may take.
const TIME_LIMIT: Duration = Duration::from_secs(4);
/// How long after a question it may be looked behind a refusal.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What the model knows of the last failure.
#[derive(Clone, Copy)]
struct Failure {
    kind: ErrorKind,
    retryable: bool,
    costly: bool,
    /// When asking is allowed again while somebody waits: not before the first and not after the second.
    soon: (Timestamp, Timestamp),
    /// Not before this is asked while a token is held.
    calm: Timestamp,
    /// When the server was asked what it answered so.
    asked: Timestamp,
}

/// The attempt that everybody waits for: until when it is the only one, and until when those wait who have no token.
#[derive(Clone, Copy)]
struct Live {
    number: u64,
    lease_ends: Timestamp,
    awaited_until: Timestamp,
    /// Whether there may be a second request beside its own.
    hedged: bool,
}

impl Failure {
    fn is_mendable(&self) -> bool {
        use ErrorKind::{Credentials, Refused, UnknownTenant, WrongOrganization};
        !self.retryable && matches!(self.kind, Credentials | Refused | UnknownTenant | WrongOrganization)
    }
}

/// A lifecycle and what must be true of it, worked out independently.
pub(crate) struct World {
    lifecycle: Lifecycle,
    rules: Rules,
    now: Timestamp,
    open: Vec<Open>,
    seen: Vec<Token>,
    /// How many attempts were started, and how many of them before the credentials last changed.
    attempts: u64,
    outdated: u64,
    /// The attempt that everybody waits for.
    live: Option<Live>,
    /// The end of the held token.
    held_until: Option<Timestamp>,
    /// Until when the server asked to be left alone.
    word: Timestamp,
    failure: Option<Failure>,
    /// When the current attempt last ended with credentials that are still in use, unless something since then asks for
    /// another.
    completed: Option<Timestamp>,
    /// What the provider reads; none without a provider.
    stored: Option<(Credentials, u64)>,
    /// The mark of what was taken in last, and the question that is open.
    known: Option<Mark>,
    question: Option<u64>,
    asked_at: Option<Timestamp>,
    /// The credentials that must be in use, and how often they were installed.
    in_use: Credentials,
    installed: u64,
    /// Makes every access token and every secret another one.
    serial: u64,
    /// Which kinds of step and completion have occurred.
    pub(crate) met: BTreeSet<&'static str>,
}

impl World {
    pub(crate) fn new(rules: Rules, seed: u64) -> Self {
        let request = request(Flow::current().expect_organization("va336"));
        let in_use = request.credentials();
        let mut lifecycle = Lifecycle::new(request, rules.policy.clone(), seed);
        let known = (!seed.is_multiple_of(5)).then(|| Mark::new(0));
        let stored = (!seed.is_multiple_of(3)).then(|| (in_use.clone(), 0));
        if stored.is_some() {
            lifecycle = lifecycle.with_provider(known, None, TIME_LIMIT);
        }
        Self {
            lifecycle,
            rules,
            now: Timestamp::from_millis(seed % 1000),
            open: Vec::new(),
            seen: Vec::new(),
            attempts: 0,
            outdated: 0,
            live: None,
            held_until: None,
            word: Timestamp::default(),
            failure: None,
            completed: None,
            stored,
            known,
            question: None,
            asked_at: None,
            in_use,
            installed: 0,
            serial: 0,
            met: BTreeSet::new(),
        }
    }

    pub(crate) fn happen(&mut self, event: &Event) {
        match event {
            Event::Poll(callers) => (0..*callers).for_each(|_| self.poll()),
            Event::PollFor(seconds) => self.poll_for(Duration::from_secs(*seconds)),
            Event::Pass(millis) => self.now = self.now.saturating_add(Duration::from_millis(*millis)),
            Event::Suspend(days) => self.now = self.now.saturating_add(Duration::from_secs(days * 86_400)),
            Event::Step(which, reading, answer) => {
                if let Some(open) = self.take(*which) {
                    self.step(open, *reading, *answer);
                }
            }
            Event::Finish(which, lifetime) => {
                if let Some(open) = self.take(*which) {
                    self.finish(open, *lifetime);
                }
            }
            Event::Abandon(which) => {
                if let Some(open) = self.take(*which) {
                    self.abandon(open);
                }
            }
            Event::ProviderAnswers => self.provider_answers(),
            Event::Store(change) => self.store(*change),
            Event::Reject(which) => self.reject(*which),
            Event::Invalidate => {
                self.lifecycle.invalidate();
                self.held_until = None;
                self.completed = None;
            }
            Event::Adopt(seconds) => self.adopt(*seconds),
            Event::SetCredentials { same_client } => self.set_credentials(*same_client),
            Event::EndPause => {
                self.lifecycle.end_pause();
                self.failure = None;
                self.word = Timestamp::default();
                self.completed = None;
            }
        }
        self.check();
    }

    fn holds_valid_token(&self) -> bool {
        self.held_until.is_some_and(|until| self.now < until)
    }

    fn has_live_attempt(&self) -> bool {
        self.live.is_some_and(|live| self.now < live.awaited_until)
    }

    fn is_live(&self, number: u64) -> bool {
        self.live.is_some_and(|live| live.number == number)
    }

    /// The attempt of this number has its time anew, and `more`; where `hedge` is told, a second one may come that soon.
    fn awaits(&mut self, number: u64, more: Duration, hedge: Option<Duration>, hedged: bool) {
        let lease_ends = self.lease(more);
        let hedge_at = hedge.filter(|_| hedged).map(|hedge| self.now.saturating_add(hedge));
        let awaited_until = hedge_at.unwrap_or(lease_ends).min(lease_ends);
        self.live = Some(Live { number, lease_ends, awaited_until, hedged });
    }

    fn lease(&self, more: Duration) -> Timestamp {
        let timeout = self.rules.policy.timeout();
        self.now.saturating_add(timeout + timeout / 2 + Duration::from_millis(1) + more)
    }

    fn poll(&mut self) {
        let due = self.lifecycle.attempt_due().is_none_or(|attempt_due| attempt_due <= self.now);
        let usable = self.lifecycle.snapshot().usable(self.now).cloned();
        let step = self.lifecycle.poll(self.now);
        let fetches = matches!(step, Step::Fetch(_));
        assert_eq!(
            fetches,
            due || self.may_look() && !self.holds_valid_token(),
            "attempt_due does not tell when {step:?} comes"
        );
        assert!(usable.is_none() || matches!(step, Step::Use(_)), "the snapshot promised a token, not {step:?}");
        if let Step::Use(token) = &step {
            assert_eq!(Some(token.expires_at()), self.held_until, "not the held token");
            assert_eq!(usable.as_ref().map(|usable| usable.header()), Some(token.header()), "the snapshot disagrees");
        }
        let calm = self.failure.map_or(self.now, |failure| failure.calm);
        let calm = self.live.map_or(calm, |live| live.lease_ends.max(calm));
        assert!(!fetches || !self.holds_valid_token() || calm <= self.now, "somebody renews, or must not");
        let blocked = matches!(step, Step::Wait(_) | Step::Fail(_)) && self.holds_valid_token();
        assert!(!blocked, "a reader is blocked although a valid token is held: {step:?}");
        self.told(step);
    }

    fn poll_for(&mut self, least: Duration) {
        let step = self.lifecycle.poll_for(least, self.now);
        if let Step::Use(token) = &step {
            let young = token.obtained_at().is_some() && token.renewal_at() > self.now;
            assert!(token.expires_in(self.now) >= least || young, "it does not last");
        }
        self.told(step);
    }

    /// Whether it may be looked behind the refusal that is remembered.
    fn may_look(&self) -> bool {
        let remembered = self.failure.is_some_and(|failure| failure.is_mendable() && self.now < failure.soon.0);
        remembered
            && self.stored.is_some()
            && self.question.is_none()
            && !self.has_live_attempt()
            && self.asked_at.is_none_or(|asked_at| self.now.saturating_duration_since(asked_at) >= LOOK_EVERY)
    }

    fn told(&mut self, step: Step) {
        self.met.insert(match &step {
            Step::Use(_) => "use",
            Step::Fetch(attempt) if attempt.is_renewal() => "fetch to renew",
            Step::Fetch(_) if self.may_look() => "look",
            Step::Fetch(_) => "fetch",
            Step::Wait(wait) if wait.is_in_flight() => "wait for an attempt",
            Step::Wait(_) => "wait for a pause",
            Step::Fail(_) => "fail",
        });
        match step {
            Step::Use(token) => {
                assert!(self.now < token.expires_at(), "an expired token is used");
                self.seen.push(token);
            }
            Step::Fetch(attempt) => self.begun(attempt),
            Step::Wait(wait) => {
                assert!(wait.until() > self.now, "a wait of no length");
                assert_eq!(wait.is_in_flight(), self.has_live_attempt());
                if wait.is_in_flight() {
                    assert_eq!(Some(wait.until()), self.live.map(|live| live.awaited_until));
                } else {
                    let (from, to) = self.failure.expect("a failure").soon;
                    assert!((from..=to).contains(&wait.until()), "{wait:?} is not within {from:?} and {to:?}");
                    assert!(wait.error().is_some_and(Error::is_retryable));
                }
            }
            Step::Fail(error) => {
                let failure = self.failure.expect("a failure");
                assert!(!error.is_retryable() && !self.has_live_attempt() && self.now < failure.soon.1);
            }
        }
    }

    fn begun(&mut self, attempt: Attempt) {
        assert!(!self.has_live_attempt(), "a second live attempt");
        let look = self.failure.is_some_and(|failure| self.now < failure.soon.0);
        assert!(!look || self.may_look(), "the pause is undercut");
        assert!(look || self.word <= self.now, "the server's word is undercut");
        assert_eq!(attempt.is_renewal(), self.holds_valid_token());
        self.attempts += 1;
        if self.live.is_some_and(|live| self.now < live.lease_ends) {
            self.met.insert("hedge");
        }
        let after_refusal = self.failure.is_some_and(|failure| failure.is_mendable());
        let hedged = self.live.is_none() && !after_refusal;
        self.awaits(self.attempts, Duration::ZERO, None, hedged);
        self.open.push(Open {
            attempt,
            point: Point::Begun,
            number: self.attempts,
            started: self.now,
            look,
            after_refusal,
            credentials: self.in_use.clone(),
            asked: 0,
            sent: 0,
        });
    }

    /// What must hold at every moment, whoever asks.
    fn check(&self) {
        assert_eq!(self.lifecycle.request().credentials(), self.in_use, "not the newest credentials");
        let snapshot = self.lifecycle.snapshot();
        if let Some(token) = snapshot.usable(self.now) {
            assert!(self.now < token.expires_at(), "the snapshot offers an expired token");
        }
        let status = snapshot.status(self.now);
        let left = self.held_until.map(|until| until.saturating_duration_since(self.now));
        assert_eq!(status.expires_in, left.filter(|left| !left.is_zero()));
        assert_eq!(status.is_ready(), self.holds_valid_token());
        assert!(status.in_flight || !self.has_live_attempt());
        assert_eq!(status.last_error.is_some(), self.failure.is_some());
        let pause = self.failure.filter(|_| !self.holds_valid_token()).map(|failure| failure.soon.1);
        let paused_until = self.now.saturating_add(status.paused_for.unwrap_or_default());
        assert!(pause.is_none_or(|until| paused_until <= until.max(self.now)), "longer paused than a poll would wait");
    }
}
