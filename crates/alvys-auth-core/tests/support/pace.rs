//! What the tests of a limiter share: one that is asked at a time that moves only when told to.

#![allow(dead_code, reason = "every test binary uses its own part")]

use std::time::Duration;

use alvys_auth_core::{Endpoint, Hold, Limit, Limiter, RateLimits, Ticket, Timestamp};
use http::{Method, Uri};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn endpoint(method: Method, path: &str) -> Endpoint {
    let uri: Uri = format!("https://api.alvys.com/api/p/v1/{path}").parse().expect("a URL");
    Endpoint::of(&method, &uri)
}

pub(crate) fn get(path: &str) -> Endpoint {
    endpoint(Method::GET, path)
}

/// For how long a request counts against a limit of this length.
pub(crate) fn counts(per: Duration) -> Duration {
    per + Limit::MARGIN
}

/// A limiter and the time.
pub(crate) struct Bench {
    pub(crate) limiter: Limiter,
    pub(crate) now: Timestamp,
}

impl Bench {
    pub(crate) fn new(limits: RateLimits) -> Self {
        Self { limiter: Limiter::new(limits), now: Timestamp::from_millis(1_000_000) }
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now.saturating_add(time);
    }

    pub(crate) fn queue(&mut self, path: &str) -> Ticket {
        self.limiter.queue(0, &get(path), self.now)
    }

    pub(crate) fn ask(&mut self, ticket: Ticket) -> Option<Hold> {
        let hold = self.limiter.ask(ticket, self.now);
        assert!(hold.is_none_or(|hold| hold.ask_at > self.now && hold.ask_at <= hold.until), "{hold:?}");
        hold
    }

    /// How long a call waits until it goes, if those before it go when they may; none when it goes now.
    pub(crate) fn wait(&mut self, ticket: Ticket) -> Option<Duration> {
        let now = self.now;
        self.ask(ticket).map(|hold| hold.until.saturating_duration_since(now))
    }

    /// How long a new call with that token would have to wait; none when it has gone. One that has not gone leaves again.
    pub(crate) fn turn_of(&mut self, token: u64, endpoint: &Endpoint) -> Option<Duration> {
        let ticket = self.limiter.queue(token, endpoint, self.now);
        let wait = self.wait(ticket);
        self.limiter.leave(ticket);
        wait
    }

    pub(crate) fn turn(&mut self, path: &str) -> Option<Duration> {
        self.turn_of(0, &get(path))
    }

    /// How many new calls go at once.
    pub(crate) fn at_once(&mut self, token: u64, endpoint: &Endpoint) -> usize {
        (0..50).filter(|_| self.turn_of(token, endpoint).is_none()).count()
    }

    /// Sends one after the other as soon as it may go, and gives the times.
    pub(crate) fn send(&mut self, path: &str, requests: usize) -> Vec<Duration> {
        let began = self.now;
        let one = |_| {
            let ticket = self.queue(path);
            while let Some(hold) = self.ask(ticket) {
                self.now = hold.ask_at;
            }
            self.now.saturating_duration_since(began)
        };
        (0..requests).map(one).collect()
    }
}
