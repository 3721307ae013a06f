//! A lifecycle beside a small model of it: whatever happens to both, the model says what must be true.

use std::collections::BTreeSet;
use std::time::Duration;

use alvys_auth_core::{
    Attempt, Change, Credentials, Error, Flow, Lifecycle, Policy, Step, Timestamp, Token, TokenResponse,
};

use self::event::{Event, Failure};
pub(crate) use self::event::{event, policy};
use crate::support::{answer, granted, request, unreachable_server, with};

mod event;

/// An attempt whose outcome is still open.
struct Open {
    attempt: Attempt,
    number: u64,
    started: Timestamp,
}

/// A lifecycle and what must be true of it, worked out independently.
pub(crate) struct World {
    lifecycle: Lifecycle,
    now: Timestamp,
    lease: Duration,
    open: Vec<Open>,
    seen: Vec<Token>,
    /// How many attempts were started, and how many of them before the credentials last changed.
    attempts: u64,
    outdated: u64,
    /// The attempt that has the right to report, and when it loses it.
    live: Option<(u64, Timestamp)>,
    /// The end of the held token.
    held_until: Option<Timestamp>,
    /// Until when the server asked to be left alone.
    word: Timestamp,
    /// Until when nothing may be asked after a failure.
    pause: Timestamp,
    /// Whether that pause is for a failure that may pass by itself.
    transient: bool,
    /// When the current attempt was last completed, unless something since then asks for another.
    completed: Option<Timestamp>,
    /// Makes every access token another one.
    serial: u64,
    /// Which kinds of step and completion have occurred.
    pub(crate) met: BTreeSet<&'static str>,
}

impl World {
    pub(crate) fn new(policy: Policy, seed: u64) -> Self {
        let lease = policy.timeout() + policy.timeout() / 2 + Duration::from_millis(1);
        Self {
            lifecycle: Lifecycle::new(request(Flow::current()), policy, seed),
            now: Timestamp::from_millis(seed % 1000),
            lease,
            open: Vec::new(),
            seen: Vec::new(),
            attempts: 0,
            outdated: 0,
            live: None,
            held_until: None,
            word: Timestamp::default(),
            pause: Timestamp::default(),
            transient: false,
            completed: None,
            serial: 0,
            met: BTreeSet::new(),
        }
    }

    fn holds_valid_token(&self) -> bool {
        self.held_until.is_some_and(|until| self.now < until)
    }

    fn has_live_attempt(&self) -> bool {
        self.live.is_some_and(|(_, until)| self.now < until)
    }

    pub(crate) fn happen(&mut self, event: &Event) {
        match event {
            Event::Poll(callers) => (0..*callers).for_each(|_| self.poll()),
            Event::Pass(millis) => self.now = self.now.saturating_add(Duration::from_millis(*millis)),
            Event::Succeed(which, lifetime) => {
                if let Some(open) = self.take(*which) {
                    self.succeed(open, *lifetime);
                }
            }
            Event::Fail(which, failure) => {
                if let Some(open) = self.take(*which) {
                    self.fail(open, *failure);
                }
            }
            Event::Abandon(which) => {
                if let Some(open) = self.take(*which) {
                    self.abandon(open);
                }
            }
            Event::Reject(which) => self.reject(*which),
            Event::Invalidate => {
                self.lifecycle.invalidate();
                self.held_until = None;
                self.completed = None;
            }
            Event::Adopt(seconds) => self.adopt(*seconds),
            Event::SetCredentials { same_client } => self.set_credentials(*same_client),
        }
        self.check();
    }

    fn take(&mut self, which: usize) -> Option<Open> {
        (!self.open.is_empty()).then(|| self.open.swap_remove(which % self.open.len()))
    }

    fn poll(&mut self) {
        let due = self.lifecycle.attempt_due().is_none_or(|attempt_due| attempt_due <= self.now);
        let usable = self.lifecycle.snapshot().usable(self.now).cloned();
        let step = self.lifecycle.poll(self.now);
        assert_eq!(matches!(step, Step::Fetch(_)), due, "attempt_due does not tell when {step:?} comes");
        assert!(usable.is_none() || matches!(step, Step::Use(_)), "the snapshot promised a token, not {step:?}");
        self.met.insert(match &step {
            Step::Use(_) => "use",
            Step::Fetch(attempt) if attempt.is_renewal() => "fetch to renew",
            Step::Fetch(_) => "fetch",
            Step::Wait(wait) if wait.is_in_flight() => "wait for an attempt",
            Step::Wait(_) => "wait for a pause",
            Step::Fail(_) => "fail",
        });
        match step {
            Step::Use(token) => {
                assert!(self.now < token.expires_at(), "an expired token is used");
                assert_eq!(Some(token.expires_at()), self.held_until, "not the held token");
                assert_eq!(usable.as_ref().map(Token::header), Some(token.header()), "the snapshot disagrees");
                self.seen.push(token);
            }
            Step::Fetch(attempt) => {
                assert!(!self.has_live_attempt(), "a second live attempt");
                assert!(self.word <= self.now, "the server's word is undercut");
                assert!(self.pause <= self.now, "the pause is undercut");
                assert_ne!(self.completed, Some(self.now), "a fetch at the instant of a completion");
                assert_eq!(attempt.is_renewal(), self.holds_valid_token());
                self.attempts += 1;
                self.live = Some((self.attempts, self.now.saturating_add(self.lease)));
                self.open.push(Open { attempt, number: self.attempts, started: self.now });
            }
            Step::Wait(wait) => {
                assert!(!self.holds_valid_token(), "a reader is blocked although a valid token is held");
                assert!(wait.until() > self.now, "a wait of no length");
                assert_eq!(wait.is_in_flight(), self.has_live_attempt());
                let lease = self.live.filter(|_| wait.is_in_flight());
                assert_eq!(wait.until(), lease.map_or(self.pause, |(_, until)| until));
                assert!(wait.is_in_flight() || wait.error().is_some_and(Error::is_retryable));
            }
            Step::Fail(error) => {
                assert!(!self.holds_valid_token(), "a reader fails although a valid token is held");
                assert!(!error.is_retryable() && !self.has_live_attempt() && self.now < self.pause);
            }
        }
    }

    fn succeed(&mut self, open: Open, lifetime: u64) {
        self.serial += 1;
        let outcome = open.attempt.answered(&granted(&format!("token-{}", self.serial), lifetime));
        let live = self.live.is_some_and(|(number, _)| number == open.number);
        let expires_at = open.started.saturating_add(Duration::from_secs(lifetime));
        let held = self.held_until.filter(|until| self.now < *until);

        let done = self.complete(outcome);
        if open.number <= self.outdated
            || !live && held.is_some_and(|until| expires_at <= until) && expires_at > self.now
        {
            assert!(matches!(done, Change::Superseded), "{done:?}");
            return;
        }
        match done {
            Change::Obtained(token) => {
                assert!(held.is_none());
                self.arrived(token, expires_at, live);
            }
            Change::Renewed(token) => {
                assert!(held.is_some());
                self.arrived(token, expires_at, live);
            }
            other => {
                assert!(expires_at <= self.now, "a good token became {other:?}");
                self.failed(other, live);
            }
        }
    }

    fn complete(&mut self, outcome: Attempt) -> Change {
        let done = self.complete(&mut lifecycle, outcome, self.now);
        self.met.insert(match &done {
            Change::Obtained(_) => "obtained",
            Change::Renewed(_) => "renewed",
            Change::Paused { .. } => "paused",
            Change::Abandoned => "abandoned",
            Change::Superseded => "superseded",
            _ => "unknown",
        });
        done
    }

    fn arrived(&mut self, token: Token, expires_at: Timestamp, live: bool) {
        assert_eq!(token.expires_at(), expires_at);
        assert!(token.renewal_at() > self.now && token.renewal_at() <= expires_at);
        self.seen.push(token);
        self.held_until = Some(expires_at);
        if live {
            self.live = None;
            self.completed = Some(self.now);
        }
    }

    fn fail(&mut self, open: Open, failure: Failure) {
        let live = self.live.is_some_and(|(number, _)| number == open.number);
        let with_wait = |status, seconds: u64| with(answer(status, ""), "retry-after", &seconds.to_string());
        let outcome = match failure {
            Failure::Transport => open.attempt.failed(unreachable_server()),
            Failure::Unavailable => open.attempt.answered(&answer(503, "")),
            Failure::RetryAfter(seconds) => open.attempt.answered(&with_wait(429, seconds)),
            Failure::Credentials => open.attempt.answered(&answer(401, "")),
            Failure::RefusedFor(seconds) => open.attempt.answered(&with_wait(403, seconds)),
            Failure::Garbage => open.attempt.answered(&answer(200, "garbage")),
        };
        let done = self.complete(outcome);
        if open.number <= self.outdated {
            assert!(matches!(done, Change::Superseded), "{done:?}");
        } else {
            self.failed(done, live);
        }
    }

    fn failed(&mut self, done: Change, live: bool) {
        match done {
            Change::Paused { until, error } => {
                assert!(until > self.now, "a pause of no length");
                let word = self.now.saturating_add(error.retry_after().unwrap_or_default());
                assert!(until >= word, "the server's word is undercut");
                self.word = self.word.max(word);
                self.pause = until;
                self.transient = error.is_retryable();
                if live {
                    self.live = None;
                    self.completed = Some(self.now);
                }
            }
            other => assert!(matches!(other, Change::Superseded) && !live, "{other:?}"),
        }
    }

    fn abandon(&mut self, open: Open) {
        let live = self.live.is_some_and(|(number, _)| number == open.number);
        match self.complete(open.attempt.abandoned()) {
            Change::Abandoned => {
                assert!(live);
                self.live = None;
            }
            other => assert!(matches!(other, Change::Superseded) && !live, "{other:?}"),
        }
    }

    fn reject(&mut self, which: usize) {
        if self.seen.is_empty() {
            return;
        }
        let token = self.seen[which % self.seen.len()].clone();
        let is_held = |lifecycle: &Lifecycle| lifecycle.snapshot().status(self.now).expires_in;
        let before = is_held(&self.lifecycle);
        let worth_a_retry = self.lifecycle.reject(&token, self.now);
        let after = is_held(&self.lifecycle);
        if before != after {
            assert!(worth_a_retry && after.is_none());
            assert_eq!(self.held_until, Some(token.expires_at()), "another token than the rejected one is gone");
        }
        if after.is_none() {
            self.held_until = None;
            self.completed = None;
        }
    }

    fn adopt(&mut self, seconds: u64) {
        self.serial += 1;
        let lifetime = Duration::from_secs(seconds);
        let grant = TokenResponse::new(&format!("token-{}", self.serial), lifetime, "").expect("a legal token");
        let expires_at = self.now.saturating_add(lifetime);
        let better = self.held_until.is_none_or(|until| until <= self.now || until < expires_at);
        assert_eq!(self.lifecycle.adopt(grant, self.now), better);
        if better {
            self.held_until = Some(expires_at);
        }
    }

    fn set_credentials(&mut self, same_client: bool) {
        self.serial += 1;
        let id = if same_client {
            self.lifecycle.request().credentials().client_id().to_owned()
        } else {
            self.held_until = None;
            format!("client-{}", self.serial)
        };
        let credentials = Credentials::new(id, format!("secret-{}", self.serial)).expect("legal credentials");
        self.lifecycle.set_credentials(credentials).expect("a legal request");
        self.outdated = self.attempts;
        self.live = None;
        self.completed = None;
        if !(same_client && self.transient) {
            self.word = Timestamp::default();
            self.pause = Timestamp::default();
        }
    }

    /// What must hold at every moment, whoever asks.
    fn check(&self) {
        let snapshot = self.lifecycle.snapshot();
        if let Some(token) = snapshot.usable(self.now) {
            assert!(self.now < token.expires_at(), "the snapshot offers an expired token");
        }
        let status = snapshot.status(self.now);
        let left = self.held_until.map(|until| until.saturating_duration_since(self.now));
        assert_eq!(status.expires_in, left.filter(|left| !left.is_zero()));
        assert_eq!(status.is_ready(), self.holds_valid_token());
        assert!(status.in_flight || !self.has_live_attempt());
    }

    /// Lets the server be well from now on: whoever keeps asking gets a token after a few steps.
    pub(crate) fn recover(&mut self) {
        self.open.clear();
        for _ in 0..4 {
            match self.lifecycle.poll(self.now) {
                Step::Use(_) => return,
                Step::Fetch(attempt) => {
                    let done = self.complete(&mut lifecycle, attempt.answered(&granted("well", 3600)), self.now);
                    assert!(matches!(done, Change::Obtained(_) | Change::Renewed(_)), "{done:?}");
                }
                Step::Wait(wait) => self.now = wait.until(),
                Step::Fail(_) => {
                    let attempt_due = self.lifecycle.attempt_due().expect("an end of the cool-down");
                    assert!(attempt_due > self.now);
                    self.now = attempt_due;
                }
            }
        }
        panic!("no token although the server is well: {:?}", self.lifecycle);
    }
}
