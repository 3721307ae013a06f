//! The state machine of a token. It decides when to ask for a token, which one to hold, when to renew it, and how long
//! to back off.
//!
//! ```text
//!                    poll: nothing fresh is held
//!          ┌──────┐ ───────────────────────────▶ ┌──────────┐
//!          │ Idle │ ◀─────────────────────────── │ InFlight │ ◀─┐ poll past the lease:
//!          └──────┘   token arrived, abandoned   └──────────┘ ──┘ another caller takes over
//!              ▲                                   │      ▲
//!              │ new credentials            failed │      │ poll past the pause, or a look
//!              │                                   ▼      │ behind a refusal
//!              │                                 ┌──────────┐
//!              └──────────────────────────────── │  Paused  │
//!                                                └──────────┘
//! ```
//!
//! Paused is Idle with a remembered failure. Two edges are not drawn. New credentials also end an attempt that is in
//! flight. And an attempt whose lease has ended may still fail before another caller takes over; that failure pauses
//! too.
//!
//! While callers wait for a token and the request is not answered soon, a second request is sent beside it: the next
//! poll starts another attempt before the lease ends. The token of either attempt is used.
//!
//! Apart from this state there is the held token, if any. It is used in every state until it expires: a renewal never
//! blocks a reader while the held token is valid, and a failed renewal never loses it.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::jitter::Jitter;
use crate::token::attempt::{Attempt, Change, Purpose, Stage, Step, Wait};
use crate::token::sharing::{AtStore, Sharing};
use crate::{Credentials, Error, ErrorKind, Mark, Policy, Snapshot, Timestamp, Token, TokenRequest, TokenResponse};

/// The rejection grace is doubled at most so many times.
const MOST_DOUBLINGS: u32 = 6;
/// A failure explains why there is no token until this long after its pause.
const RECENT: Duration = Duration::from_secs(60);
/// The shortest time between two questions to the provider while a refusal of its credentials is remembered.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The lifecycle of one application's token. A driver polls it for what to do, and tells it the result.
///
/// **The contract:** call [`poll`](Self::poll). On [`Step::Fetch`], hand the attempt to [`next`](Self::next) and do
/// what the answer says, again and again, until the attempt is over. On [`Step::Wait`], poll again at its time, or as
/// soon as any attempt is over. `now` comes from one clock that never runs backwards. Nothing here blocks, allocates
/// per reader or knows what time it is.
///
/// ```
/// use alvys_auth_core::{Credentials, Flow, Lifecycle, Next, Policy, Step, Timestamp, TokenRequest};
///
/// let request = TokenRequest::new(Flow::current(), Credentials::new("my-client", "s3cret")?)?;
/// let mut lifecycle = Lifecycle::new(request, Policy::new(), 7);
/// let now = Timestamp::from_millis(0);
///
/// // The first caller is told to fetch …
/// let Step::Fetch(mut attempt) = lifecycle.poll(now) else { unreachable!() };
/// // … the others to wait …
/// assert!(matches!(lifecycle.poll(now), Step::Wait(_)));
/// // … until the attempt is over.
/// loop {
///     attempt = match lifecycle.next(attempt, now) {
///         Next::Send(attempt) => {
///             assert_eq!(attempt.to_http().uri(), "https://auth.alvys.com/oauth/token");
///             attempt.answered(&http::Response::new(r#"{"access_token":"abc","expires_in":3600}"#))
///         }
///         Next::Over(_) => break,
///         _ => unreachable!("there is no provider to ask"),
///     };
/// }
/// assert!(matches!(lifecycle.poll(now), Step::Use(_)));
/// # Ok::<(), alvys_auth_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Lifecycle {
    pub(super) request: TokenRequest,
    pub(super) policy: Arc<Policy>,
    pub(super) provider: Option<Provider>,
    pub(super) held: Option<Token>,
    pub(super) in_flight: Option<InFlight>,
    /// The last failure, until a token arrives.
    pub(super) failure: Option<Arc<Failure>>,
    /// How many renewed tokens in a row were refused within their grace, and whether the newest one was.
    pub(super) rejections: u32,
    refused_young: bool,
    /// The token given up last, so that no store can hand it back.
    pub(super) discarded: Option<Token>,
    /// The newest attempt's id, and the oldest one whose outcome still counts.
    pub(super) newest: u64,
    pub(super) oldest: u64,
    pub(super) jitter: Jitter,
    /// The store that the token is shared through, if there is one.
    pub(super) sharing: Option<Box<Sharing>>,
}

/// What is known of the provider of the credentials.
#[derive(Debug)]
pub(super) struct Provider {
    /// The mark of the credentials in use; none when the mark is not known.
    pub(super) known: Option<Mark>,
    /// How long it may take to answer.
    pub(super) time_limit: Duration,
    /// The attempt that has asked the provider, until the provider answers.
    pub(super) asked_by: Option<u64>,
    /// When the provider was last asked, or gave the first credentials.
    pub(super) asked_at: Option<Timestamp>,
}

#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) id: u64,
    pub(super) lease_ends: Timestamp,
    /// When a waiting caller may start a second request beside this one; none when there must be no second one.
    pub(super) hedge_at: Option<Timestamp>,
    /// Until when a caller waits for this renewal although a valid token is held; see [`Policy::wait_for_renewal`].
    pub(super) renewal_awaited_until: Timestamp,
}

impl InFlight {
    /// Until when callers wait for this attempt while no token is held.
    fn awaited_until(&self) -> Timestamp {
        self.hedge_at.map_or(self.lease_ends, |hedge_at| hedge_at.min(self.lease_ends))
    }
}

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// When the server was last asked.
    pub(super) asked: Timestamp,
    /// When asking is allowed again while a token is held (`until`), and while somebody waits for a token (`soon`).
    pub(crate) until: Timestamp,
    pub(crate) soon: Timestamp,
    /// How many transient, permanent and costly failures there were since the last token. They decide the length of the
    /// next pause.
    pub(super) rows: [u32; 3],
}

impl Lifecycle {
    /// A lifecycle that holds nothing yet. `seed` decides the jitter: give each instance a random one. Lifecycles may share
    /// a policy.
    pub fn new(request: TokenRequest, policy: impl Into<Arc<Policy>>, seed: u64) -> Self {
        Self {
            request,
            policy: policy.into(),
            provider: None,
            held: None,
            in_flight: None,
            failure: None,
            rejections: 0,
            refused_young: false,
            discarded: None,
            newest: 0,
            oldest: 0,
            jitter: Jitter(seed),
            sharing: None,
        }
    }

    /// Lets attempts ask a provider for credentials. The provider may take `time_limit` to answer. `known` is the mark
    /// of the credentials in use; without a mark, the first attempt asks for the provider's current credentials. With
    /// `given_at`, the time at which the provider gave the credentials in use, the first attempt does not ask again if
    /// that was a moment ago.
    pub fn with_provider(mut self, known: Option<Mark>, given_at: Option<Timestamp>, time_limit: Duration) -> Self {
        self.provider = Some(Provider { known, time_limit, asked_by: None, asked_at: given_at });
        self
    }

    /// Says what to do at `now` for one caller who wants a token.
    pub fn poll(&mut self, now: Timestamp) -> Step {
        self.poll_for(Duration::ZERO, now)
    }

    /// Like [`poll`](Self::poll), for a caller who needs a token that stays usable for at least `least` from now on.
    ///
    /// A token in the first half of its lifetime is always good enough. Otherwise, each call would request another
    /// token from a server whose tokens live for less than `least`.
    pub fn poll_for(&mut self, least: Duration, now: Timestamp) -> Step {
        if self.held.as_ref().is_some_and(|token| token.expires_at() <= now) {
            self.held = None;
            self.rejections = 0;
        }
        if let Some(token) = self.held.as_ref().filter(|token| token.lasts(least, now))
            && (now < token.renewal_at() || now < self.busy_until())
        {
            let awaited = self.in_flight.as_ref().map(|one| one.renewal_awaited_until.min(token.expires_at()));
            return match awaited.filter(|until| token.renewal_at() <= now && now < *until) {
                Some(until) => Step::Wait(Wait { until, error: None, in_flight: true, held: Some(token.clone()) }),
                None => Step::Use(token.clone()),
            };
        }
        if let Some(until) = self.in_flight.as_ref().map(InFlight::awaited_until)
            && now < until
        {
            return Step::Wait(Wait { until, error: self.recent_error(now), in_flight: true, held: None });
        }
        match self.failure.as_deref() {
            Some(Failure { error, soon, .. }) if now < *soon => {
                if error.is_retryable() {
                    Step::Wait(Wait { until: *soon, error: Some(error.clone()), in_flight: false, held: None })
                } else if self.is_worth_a_look(error, now) {
                    Step::Fetch(self.start(Purpose::Look, now))
                } else {
                    Step::Fail(error.clone())
                }
            }
            Some(Failure { error, .. }) if is_mendable(error) => Step::Fetch(self.start(Purpose::Retry, now)),
            _ => Step::Fetch(self.start(Purpose::Token, now)),
        }
    }

    /// Reports that the API answered 401 to `token`. Gives the token up, and returns whether one retry with another
    /// token is worth it.
    ///
    /// This is a compare-and-swap: only the held token can be given up, so any number of callers that saw a 401 cost
    /// one renewal. A token that was requested only seconds ago stays held, because then the 401 is about permission
    /// and not about age; the method returns false. Never call this for a 403.
    pub fn reject(&mut self, token: &Token, now: Timestamp) -> bool {
        let Some(held) = self.held.take_if(|held| held.is_same_as(token)) else {
            return true;
        };
        let grace = self.policy.rejection_grace.saturating_mul(1 << self.rejections.min(MOST_DOUBLINGS));
        if held.obtained_at().is_some_and(|obtained| now.saturating_duration_since(obtained) < grace) {
            self.held = Some(held);
            self.refused_young = true;
            return false;
        }
        self.rejections = if mem::take(&mut self.refused_young) { self.rejections + 1 } else { 0 };
        self.discarded = Some(held);
        self.share_rejection();
        true
    }

    /// Gives the held token up, for whatever reason. A pause that the server asked for goes on.
    pub fn invalidate(&mut self) {
        self.discarded = self.held.take().or_else(|| self.discarded.take());
    }

    /// Takes in a token from elsewhere, such as a store. Its lifetime counts from `now`. Returns whether the token is
    /// held now.
    ///
    /// A token is taken only if it expires later than the held one, is not the token that was given up last, and
    /// belongs to the organization that the flow expects. A pause goes on, and the token is used during it.
    pub fn adopt(&mut self, response: TokenResponse, now: Timestamp) -> bool {
        let Some(Ok(token)) = response.under(self.request.flow()).map(|response| self.token(response, None, now))
        else {
            return false;
        };
        let given_up = self.discarded.as_ref().is_some_and(|discarded| discarded.is_same_as(&token));
        let adopted = !given_up && matches!(self.arrived(token, false, now), Change::Obtained(_) | Change::Renewed(_));
        if adopted {
            self.share_anew();
        }
        adopted
    }

    /// Uses other credentials from now on, as after a rotation. Results of requests with the old credentials no longer
    /// count.
    ///
    /// A permanent failure is forgotten. If only the secret has changed, a held token and a wait that the server asked
    /// for stay; if the client id has changed, both are dropped. The same credentials again change nothing. Returns
    /// whether the credentials are others than before.
    ///
    /// # Errors
    /// As [`TokenRequest::new`]. After an error nothing has changed.
    pub fn set_credentials(&mut self, credentials: Credentials) -> Result<bool, Error> {
        let same_client = credentials.client_id() == self.request.client_id();
        let changed = self.replace_credentials(credentials)?;
        if !same_client {
            self.held = None;
            self.discarded = None;
        }
        Ok(changed)
    }

    /// Ends a pause, whatever its cause, so that the next caller asks at once. It is meant for people, for example
    /// after the server asked for an absurdly long wait.
    pub fn end_pause(&mut self) {
        self.failure = None;
        self.share_end_of_pause();
    }

    /// The token that is held, whether or not it is still usable.
    pub fn held(&self) -> Option<&Token> {
        self.held.as_ref()
    }

    /// What readers may use without polling, and until when. A driver must publish it after every call that takes
    /// `&mut self`.
    pub fn snapshot(&self) -> Snapshot {
        let usable_until = self.held.as_ref().map(|token| {
            let awaited = self.in_flight.as_ref().is_some_and(|one| one.renewal_awaited_until > token.renewal_at());
            let renewal_due = if awaited { token.renewal_at() } else { token.renewal_at().max(self.busy_until()) };
            renewal_due.min(token.expires_at())
        });
        Snapshot {
            token: self.held.clone(),
            usable_until: usable_until.unwrap_or_default(),
            in_flight: self.in_flight.is_some(),
            failure: self.failure.clone(),
        }
    }

    /// When the next attempt may be due. None when no token is held, no attempt is in flight and there is no pause: the
    /// next attempt is then due as soon as somebody asks for a token.
    ///
    /// A driver that renews in the background polls at this time. Without such a driver, nothing is renewed while
    /// nobody asks.
    pub fn attempt_due(&self) -> Option<Timestamp> {
        let awaited_until = self.in_flight.as_ref().map(InFlight::awaited_until);
        let soon = awaited_until.max(self.failure.as_ref().map(|failure| failure.soon));
        let Some(held) = &self.held else { return soon };
        let calm = held.renewal_at().max(self.busy_until());
        Some(calm.min(held.expires_at().max(soon.unwrap_or_default())))
    }

    /// The request that attempts send.
    pub fn request(&self) -> &TokenRequest {
        &self.request
    }

    /// The policy this lifecycle was made with.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(super) fn is_current(&self, attempt: &Attempt) -> bool {
        self.in_flight.as_ref().is_some_and(|in_flight| in_flight.id == attempt.id)
    }

    /// Until when no other attempt may start while a token is held.
    fn busy_until(&self) -> Timestamp {
        let lease_ends = self.in_flight.as_ref().map(|in_flight| in_flight.lease_ends);
        let pause_ends = self.failure.as_ref().map(|failure| failure.until);
        lease_ends.max(pause_ends).unwrap_or_default()
    }

    fn holds_usable_token(&self, now: Timestamp) -> bool {
        self.held.as_ref().is_some_and(|held| now < held.expires_at())
    }

    /// The last failure, unless it is too old to say anything about the attempt in flight.
    fn recent_error(&self, now: Timestamp) -> Option<Error> {
        let failure = self.failure.as_ref()?;
        (now < failure.until.saturating_add(RECENT)).then(|| failure.error.clone())
    }

    /// Whether the provider may be asked for other credentials although a refusal is remembered: there is a provider,
    /// no question to it is open, and it was not asked recently.
    fn is_worth_a_look(&self, error: &Error, now: Timestamp) -> bool {
        let rested = |asked_at| now.saturating_duration_since(asked_at) >= LOOK_EVERY;
        let at_hand = |provider: &Provider| provider.asked_by.is_none() && provider.asked_at.is_none_or(rested);
        is_mendable(error) && self.provider.as_ref().is_some_and(at_hand)
    }

    pub(super) fn start(&mut self, purpose: Purpose, now: Timestamp) -> Attempt {
        if self.held.is_some() {
            // The held token became due without being rejected, so it was a good one.
            self.rejections = 0;
        }
        self.newest += 1;
        let lease_ends = now.saturating_add(self.policy.lease());
        // A third request is never sent beside two. An attempt that follows a remembered refusal gets no second
        // request.
        let may_be_hedged = self.in_flight.is_none() && matches!(purpose, Purpose::Token | Purpose::Replaced);
        let hedge_at = may_be_hedged.then_some(lease_ends);
        let renewal = self.holds_usable_token(now);
        let wait = Some(self.policy.renewal_wait).filter(|wait| renewal && !wait.is_zero());
        let renewal_awaited_until = wait.map_or_else(Timestamp::default, |wait| now.saturating_add(wait));
        let first = self.in_flight.replace(InFlight { id: self.newest, lease_ends, hedge_at, renewal_awaited_until });
        let is_second = first.is_some_and(|first| now < first.lease_ends);
        Attempt {
            id: self.newest,
            started: now,
            renewal,
            request: self.request.clone(),
            purpose,
            stage: Stage::Begun,
            news: if is_second { vec![Change::Hedged] } else { Vec::new() },
            store: AtStore::default(),
        }
    }

    pub(super) fn replace_credentials(&mut self, credentials: Credentials) -> Result<bool, Error> {
        if credentials == self.request.credentials() {
            return Ok(false);
        }
        let request = TokenRequest::new(self.request.flow().clone(), credentials)?;
        let same_client = request.client_id() == self.request.client_id();
        self.request = request;
        self.in_flight = None;
        self.share_anew();
        self.oldest = self.newest + 1;
        self.rejections = 0;
        self.failure.take_if(|failure| !(same_client && failure.error.is_retryable()));
        Ok(true)
    }

    pub(super) fn token(
        &mut self,
        response: TokenResponse,
        started: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Token, Error> {
        Token::new(response, started, now, &self.policy, self.jitter.draw()).ok_or_else(Error::dead_on_arrival)
    }

    /// Takes in a token. If its attempt is no longer current, the token counts only if it expires later than the held
    /// one, and it ends no pause.
    pub(super) fn arrived(&mut self, token: Token, current: bool, now: Timestamp) -> Change {
        let held = self.held.as_ref().filter(|held| now < held.expires_at());
        if !current && held.is_some_and(|held| token.expires_at() <= held.expires_at()) {
            return Change::Superseded;
        }
        if current {
            self.failure = None;
        }
        let renewal = held.is_some();
        self.held = Some(token.clone());
        if renewal { Change::Renewed(token) } else { Change::Obtained(token) }
    }

    /// Takes in a failure. If its attempt is no longer current, the failure counts only while no newer attempt has
    /// started and no newer token has arrived.
    pub(super) fn failed(&mut self, error: Error, asked: Timestamp, current: bool, now: Timestamp) -> Change {
        let fresh = self.held.as_ref().is_some_and(|held| now < held.renewal_at());
        // A wait that the server asks for is the exception: a second request beside this one must not hide it.
        let waits = error.is_retryable() && error.retry_after().is_some();
        if !current && (fresh || !waits && (self.in_flight.is_some() || now < self.busy_until())) {
            return Change::Superseded;
        }
        let last = self.failure.as_ref();
        let mut rows = last.map_or([0; 3], |failure| failure.rows);
        let [transient, permanent, costly] = &mut rows;
        let row = match (error.has_cost_a_token(), error.is_retryable()) {
            (true, _) => costly,
            (_, true) => transient,
            (_, false) => permanent,
        };
        let [pause, short] = self.policy.pauses(&error, *row, &mut self.jitter);
        *row = row.saturating_add(1);
        // A new refusal after a look at the provider does not shorten the pause that the server asked for.
        let told = last.map_or_else(Timestamp::default, |failure| failure.soon);
        let [until, soon] = [pause, short].map(|pause| now.saturating_add(pause).max(told));
        self.failure = Some(Arc::new(Failure { error: error.clone(), asked, until, soon, rows }));
        let until = if self.holds_usable_token(now) { until } else { soon };
        Change::Paused { until, error }
    }
}

/// Whether other credentials may help against this error: the credentials in use are wrong, belong to another
/// organization's application or to an application that is not allowed to do this (as after it was replaced), or were
/// removed together with their tenant.
pub(super) fn is_mendable(error: &Error) -> bool {
    use ErrorKind::{Credentials, Refused, UnknownTenant, WrongOrganization};

    !error.is_retryable() && matches!(error.kind(), Credentials | Refused | UnknownTenant | WrongOrganization)
}
