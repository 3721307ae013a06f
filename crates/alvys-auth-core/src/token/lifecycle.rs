//! The one state machine: when to ask, what to hold, when to renew, how long to back off.
//!
//! ```text
//!                    poll: nothing fresh is held
//!          ┌──────┐ ───────────────────────────▶ ┌──────────┐
//!          │ Idle │ ◀─────────────────────────── │ InFlight │ ◀─┐ poll past the lease:
//!          └──────┘   token arrived, abandoned   └──────────┘ ──┘ another caller takes over
//!              ▲                                   │      ▲
//!              │ new credentials            failed │      │ poll past `until`
//!              │                                   ▼      │
//!              │                                 ┌──────────┐
//!              └──────────────────────────────── │  Paused  │
//!                                                └──────────┘
//! ```
//!
//! Paused is Idle with a failure that is not over yet. Two edges are not drawn: new credentials end an attempt too, and an
//! attempt whose lease is over and that nobody took over may still fail, which pauses.
//!
//! Beside this stands the held token, if any. It is used in every state until it expires: a refresh never blocks a reader
//! while the held token is valid, and a failed refresh never loses it.

use std::time::Duration;

use crate::jitter::Jitter;
use crate::token::attempt::{Attempt, Completion, End, Outcome, Step, Wait};
use crate::{Credentials, Error, ErrorKind, Policy, Snapshot, Timestamp, Token, TokenRequest, TokenResponse};

/// How often the rejection grace is doubled at the most.
const MOST_DOUBLINGS: u32 = 6;
/// How long after its pause a failure still explains why there is no token.
const RECENT: Duration = Duration::from_secs(60);

/// The lifecycle of one application's token: polled for what to do, told what became of it.
///
/// **The contract:** call [`poll`](Self::poll); on [`Step::Fetch`] send the request and [`complete`](Self::complete) the
/// lifecycle with the outcome; on [`Step::Wait`] poll again at its time or after any completion. `now` comes from one
/// clock that never runs backwards. Nothing here blocks, allocates per reader or knows what time it is.
///
/// ```
/// use alvys_auth_core::{Credentials, Flow, Lifecycle, Policy, Step, Timestamp, TokenRequest};
///
/// let request = TokenRequest::new(Flow::current(), Credentials::new("my-client", "s3cret")?)?;
/// let mut lifecycle = Lifecycle::new(request, Policy::new(), 7);
/// let now = Timestamp::from_millis(0);
///
/// // The first caller is told to fetch …
/// let Step::Fetch(attempt) = lifecycle.poll(now) else { unreachable!() };
/// // … the others to wait …
/// assert!(matches!(lifecycle.poll(now), Step::Wait(_)));
/// // … until the answer is there.
/// let answer = http::Response::new(r#"{"access_token":"abc","expires_in":3600}"#);
/// lifecycle.complete(attempt.answered(&answer), now);
/// assert!(matches!(lifecycle.poll(now), Step::Use(_)));
/// # Ok::<(), alvys_auth_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Lifecycle {
    request: TokenRequest,
    policy: Policy,
    held: Option<Token>,
    in_flight: Option<InFlight>,
    /// The last failure, until a token arrives.
    failure: Option<Failure>,
    /// Renewals in a row that were answered by yet another rejection.
    rejections: u32,
    /// The token given up last, so that no store can hand it back.
    discarded: Option<Token>,
    /// The newest attempt's id, and the oldest one whose outcome still counts.
    newest: u64,
    oldest: u64,
    jitter: Jitter,
}

#[derive(Debug)]
struct InFlight {
    id: u64,
    lease_ends: Timestamp,
}

#[derive(Debug)]
struct Failure {
    error: Error,
    /// When the server was last asked.
    asked: Timestamp,
    /// When asking is allowed again.
    until: Timestamp,
    /// How many there were in a row; decides the length of the next pause.
    in_a_row: u32,
}

impl Lifecycle {
    /// A lifecycle that holds nothing yet. `seed` decides the jitter: give each instance a random one.
    #[must_use]
    pub fn new(request: TokenRequest, policy: Policy, seed: u64) -> Self {
        Self {
            request,
            policy,
            held: None,
            in_flight: None,
            failure: None,
            rejections: 0,
            discarded: None,
            newest: 0,
            oldest: 0,
            jitter: Jitter(seed),
        }
    }

    /// Says what to do at `now` for one caller who wants a token.
    pub fn poll(&mut self, now: Timestamp) -> Step {
        if self.held.as_ref().is_some_and(|token| token.expires_at() <= now) {
            self.held = None;
            self.rejections = 0;
        }
        if let Some(token) = self.held.as_ref()
            && (now < token.renewal_at() || now < self.busy_until())
        {
            return Step::Use(token.clone());
        }
        if let Some(InFlight { lease_ends, .. }) = self.in_flight
            && now < lease_ends
        {
            return Step::Wait(Wait { until: lease_ends, error: self.recent_error(now), in_flight: true });
        }
        match &self.failure {
            Some(Failure { error, until, .. }) if now < *until => {
                if error.is_retryable() {
                    Step::Wait(Wait { until: *until, error: Some(error.clone()), in_flight: false })
                } else {
                    Step::Fail(error.clone())
                }
            }
            _ => Step::Fetch(self.start(now)),
        }
    }

    /// Takes in what became of an attempt and says what that changed; wake every waiter afterwards.
    pub fn complete(&mut self, outcome: Outcome, now: Timestamp) -> Completion {
        if outcome.id < self.oldest {
            return Completion::Superseded;
        }
        let current = self.is_current(outcome.id);
        if current {
            self.in_flight = None;
        }
        match (outcome.end, &self.failure) {
            (End::Spared, Some(Failure { error, asked, .. })) if current => {
                self.failed(error.clone(), *asked, true, now)
            }
            (End::Abandoned | End::Spared, _) if current => Completion::Abandoned,
            (End::Abandoned | End::Spared, _) => Completion::Superseded,
            (End::Answered(Ok(response)), _) => match self.token(response, Some(outcome.started), now) {
                Ok(token) => self.arrived(token, current, now),
                Err(error) => self.failed(error, outcome.started, current, now),
            },
            (End::Answered(Err(error)), _) => self.failed(error, outcome.started, current, now),
        }
    }

    /// The API answered 401 to `token`: gives it up, and says whether one retry with another token is worth it.
    ///
    /// Compare-and-swap: only the held token can be given up, so any number of callers that saw 401 cost one renewal. A
    /// token that was asked for only seconds ago stays, because then the 401 is about permission and not about age; the
    /// answer is no. Never call this for a 403.
    pub fn reject(&mut self, token: &Token, now: Timestamp) -> bool {
        let Some(held) = self.held.take_if(|held| held.is_same_as(token)) else {
            return true;
        };
        let grace = self.policy.rejection_grace.saturating_mul(1 << self.rejections.min(MOST_DOUBLINGS));
        if held.obtained_at().is_some_and(|obtained| now.saturating_duration_since(obtained) < grace) {
            self.held = Some(held);
            return false;
        }
        self.rejections += 1;
        self.discarded = Some(held);
        true
    }

    /// Gives the held token up without asking why. A pause that the server asked for stays.
    pub fn invalidate(&mut self) {
        if let Some(held) = self.held.take() {
            self.discarded = Some(held);
        }
    }

    /// Takes in a token from elsewhere, such as a store, whose lifetime counts from `now`; says whether it is held now.
    ///
    /// Only a token that expires later than the held one is taken, never the one that was given up last, and none that fails
    /// the flow's expectation of an organization. A pause goes on: the token is used meanwhile.
    pub fn adopt(&mut self, response: TokenResponse, now: Timestamp) -> bool {
        let Some(Ok(token)) = response.under(self.request.flow()).map(|response| self.token(response, None, now))
        else {
            return false;
        };
        let given_up = self.discarded.as_ref().is_some_and(|discarded| discarded.is_same_as(&token));
        !given_up && matches!(self.arrived(token, false, now), Completion::Obtained(_) | Completion::Renewed(_))
    }

    /// Goes on with other credentials, as after a rotation: outcomes of the old ones do not count any more.
    ///
    /// A permanent failure is forgotten. A held token, and a wait that the server asked for, stay when only the secret has
    /// changed and go when the client id has. The same credentials again change nothing, which the answer tells.
    ///
    /// # Errors
    /// As [`TokenRequest::new`]; nothing has changed then.
    pub fn set_credentials(&mut self, credentials: Credentials) -> Result<bool, Error> {
        self.replace_credentials(credentials, false)
    }

    /// As [`set_credentials`](Self::set_credentials), but for the same account: the held token stays whatever the client id
    /// is, so that nobody is without a token before the new credentials have proved good.
    ///
    /// # Errors
    /// As [`TokenRequest::new`]; nothing has changed then.
    pub fn rotate_credentials(&mut self, credentials: Credentials) -> Result<bool, Error> {
        self.replace_credentials(credentials, true)
    }

    fn replace_credentials(&mut self, credentials: Credentials, same_account: bool) -> Result<bool, Error> {
        if credentials == *self.request.credentials() {
            return Ok(false);
        }
        let request = TokenRequest::new(self.request.flow().clone(), credentials)?;
        let same_client = request.credentials().client_id() == self.request.credentials().client_id();
        self.request = request;
        self.in_flight = None;
        self.oldest = self.newest + 1;
        self.rejections = 0;
        self.failure.take_if(|failure| !(same_client && failure.error.is_retryable()));
        if !same_client && !same_account {
            self.held = None;
            self.discarded = None;
        }
        Ok(true)
    }

    /// Gives `attempt` its time anew and `more`, when it is still the one everybody waits for; else it need not be sent any
    /// more.
    ///
    /// For attempts of several parts, such as one that asks for other credentials first, which may take `more`.
    pub fn extend(&mut self, attempt: &Attempt, more: Duration, now: Timestamp) -> bool {
        let lease_ends = now.saturating_add(self.policy.lease()).saturating_add(more);
        let current = self.in_flight.as_mut().filter(|in_flight| in_flight.id == attempt.id);
        current.map(|in_flight| in_flight.lease_ends = lease_ends).is_some()
    }

    /// Whether sending the same credentials again would only buy another token that is not used: one of another organization
    /// than the one expected. True for as long as the longest cool-down after the last of them was asked for.
    ///
    /// For drivers that can ask for other credentials first; see [`Attempt::spared`].
    #[must_use]
    pub fn is_futile(&self, now: Timestamp) -> bool {
        let (_, longest) = self.policy.cool_down;
        self.failure.as_ref().is_some_and(|Failure { error, asked, .. }| {
            error.kind() == ErrorKind::WrongOrganization && now < asked.saturating_add(longest)
        })
    }

    /// The token that is held, whether or not it is still usable.
    #[must_use]
    pub fn held(&self) -> Option<&Token> {
        self.held.as_ref()
    }

    /// What readers may use without polling, and until when. Publish it after every call that takes `&mut self`.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let usable_until = self.held.as_ref().map(|token| {
            let renewal_due = token.renewal_at().max(self.busy_until());
            renewal_due.min(token.expires_at())
        });
        Snapshot {
            token: self.held.clone(),
            usable_until: usable_until.unwrap_or_default(),
            in_flight: self.in_flight.is_some(),
            paused_until: self.failure.as_ref().map(|failure| failure.until),
            error: self.failure.as_ref().map(|failure| failure.error.clone()),
        }
    }

    /// When the next attempt may be due; none when nothing is held, on its way or paused, so that it is due when asked for.
    ///
    /// For drivers that renew in the background: poll then. Without one, nothing is renewed while nobody asks.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        let renewal_due = self.held.as_ref().map(Token::renewal_at);
        let busy_until = Some(self.busy_until()).filter(|until| *until > Timestamp::default());
        renewal_due.max(busy_until)
    }

    /// The request that attempts send.
    #[must_use]
    pub fn request(&self) -> &TokenRequest {
        &self.request
    }

    /// The policy this lifecycle was made with.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    fn is_current(&self, id: u64) -> bool {
        self.in_flight.as_ref().is_some_and(|in_flight| in_flight.id == id)
    }

    /// Until when no other attempt may start.
    fn busy_until(&self) -> Timestamp {
        let lease_ends = self.in_flight.as_ref().map(|in_flight| in_flight.lease_ends);
        let pause_ends = self.failure.as_ref().map(|failure| failure.until);
        lease_ends.max(pause_ends).unwrap_or_default()
    }

    /// The last failure, unless it is so old that it says nothing about the attempt in flight.
    fn recent_error(&self, now: Timestamp) -> Option<Error> {
        let failure = self.failure.as_ref()?;
        (now < failure.until.saturating_add(RECENT)).then(|| failure.error.clone())
    }

    fn start(&mut self, now: Timestamp) -> Attempt {
        if self.held.is_some() {
            // The held token has reached its margin without being rejected: it was a good one.
            self.rejections = 0;
        }
        self.newest += 1;
        let lease_ends = now.saturating_add(self.policy.lease());
        self.in_flight = Some(InFlight { id: self.newest, lease_ends });
        Attempt { id: self.newest, started: now, renewal: self.held.is_some(), request: self.request.clone() }
    }

    fn token(&mut self, response: TokenResponse, started: Option<Timestamp>, now: Timestamp) -> Result<Token, Error> {
        Token::new(response, started, now, &self.policy, self.jitter.draw()).ok_or_else(Error::dead_on_arrival)
    }

    /// A late answer counts only when it expires later than what is held, and ends no pause.
    fn arrived(&mut self, token: Token, current: bool, now: Timestamp) -> Completion {
        let held = self.held.as_ref().filter(|held| now < held.expires_at());
        if !current && held.is_some_and(|held| token.expires_at() <= held.expires_at()) {
            return Completion::Superseded;
        }
        if current {
            self.failure = None;
        }
        let renewal = held.is_some();
        self.held = Some(token.clone());
        if renewal { Completion::Renewed(token) } else { Completion::Obtained(token) }
    }

    /// A late failure counts only while nothing newer has been tried or has arrived.
    fn failed(&mut self, error: Error, asked: Timestamp, current: bool, now: Timestamp) -> Completion {
        let fresh = self.held.as_ref().is_some_and(|held| now < held.renewal_at());
        if !current && (fresh || self.in_flight.is_some() || now < self.busy_until()) {
            return Completion::Superseded;
        }
        let before = self.failure.as_ref().map_or(0, |failure| failure.in_a_row);
        let until = now.saturating_add(self.policy.pause(&error, before, &mut self.jitter));
        self.failure = Some(Failure { error: error.clone(), asked, until, in_a_row: before.saturating_add(1) });
        Completion::Paused { until, error }
    }
}
