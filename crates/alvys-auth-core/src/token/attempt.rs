//! The answers of a lifecycle to its driver, and the attempt to get a token that the driver carries out.
//!
//! ```text
//!            ┌─────────────────────── a refusal that other credentials may mend ──┐
//!            ▼                                                                    │
//!  begun ──▶ Ask ──▶ provided ──▶ Send ──▶ answered, failed ──────────────────────┴──▶ Over
//!     └──────── no provider ───────▲
//! ```
//!
//! [`Lifecycle::next`](crate::Lifecycle::next) decides at each arrow. When another attempt has taken over, this attempt
//! is over at the next arrow. It changes nothing then, except that its token may still be used.

use http::{Request, Response};

use crate::share::{Answer, Operation};
use crate::token::policy::TICK;
use crate::token::sharing::{Asked, AtStore};
use crate::{Credentials, Error, Given, Mark, Timestamp, Token, TokenRequest, TokenResponse};

/// What to do now; the answer of [`Lifecycle::poll`](crate::Lifecycle::poll).
#[derive(Debug)]
#[must_use = "a step that nobody takes leaves its callers without a token"]
pub enum Step {
    /// Use this token.
    Use(Token),
    /// Carry out this attempt; see [`Lifecycle::next`](crate::Lifecycle::next).
    Fetch(Attempt),
    /// Poll again when an attempt is over, or at the given time.
    Wait(Wait),
    /// Give up: asking again now would fail again.
    Fail(Error),
}

/// Why there is nothing to use yet, and when to look again.
#[derive(Debug, Clone)]
pub struct Wait {
    pub(crate) until: Timestamp,
    pub(crate) error: Option<Error>,
    pub(crate) in_flight: bool,
    /// The held token, if the wait is for its renewal.
    pub(crate) held: Option<Token>,
}

impl Wait {
    /// When to poll again at the latest; always later than the poll that gave this.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// What went wrong last, if that was recent.
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// Whether an attempt is in flight. Its end may end the wait early.
    pub fn is_in_flight(&self) -> bool {
        self.in_flight
    }

    /// Whether the wait is useless for a caller who waits until `deadline` at most, so that the caller should give up
    /// now.
    ///
    /// It is also useless when two answers in a row could not be read: nobody waits for a third answer, because it may
    /// cost a token too.
    pub fn is_in_vain(&self, deadline: Timestamp, now: Timestamp) -> bool {
        let costly = self.error.as_ref().is_some_and(Error::has_cost_a_token);
        let last = if costly { deadline.min(now.saturating_add(TICK)) } else { deadline };
        now >= deadline || !self.in_flight && self.until > last
    }

    /// Ends the wait for a caller who does not wait any longer. Gives the held token, if the wait was for its renewal.
    ///
    /// # Errors
    /// What went wrong last, or else that no token arrived in time.
    pub fn give_up(self) -> Result<Token, Error> {
        let late = || Error::timed_out("no access token arrived in time");
        self.held.ok_or_else(|| self.error.unwrap_or_else(late))
    }
}

/// One attempt to get a token: the right to send a token request, and the duty to say what became of it.
///
/// A driver hands it to [`Lifecycle::next`](crate::Lifecycle::next) again and again, and does what the answer says in
/// between. If a driver drops an attempt, everybody waits until its lease ends; hand it in as
/// [`abandoned`](Self::abandoned) instead.
#[derive(Debug)]
#[must_use = "callers wait for this attempt: hand it to Lifecycle::next until it is over"]
pub struct Attempt {
    pub(crate) id: u64,
    pub(crate) started: Timestamp,
    pub(crate) renewal: bool,
    pub(crate) request: TokenRequest,
    pub(crate) purpose: Purpose,
    pub(crate) stage: Stage,
    pub(crate) news: Vec<Change>,
    pub(super) store: AtStore,
}

/// Why an attempt was begun. The reason decides when the provider is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To get a token. The provider is asked before the request whether anything has changed, and again after a refusal.
    Token,
    /// To get a token after a refusal that is remembered. The provider is asked before the request for its current
    /// credentials.
    Retry,
    /// To ask the provider for other credentials while a refusal is remembered. A request is sent only if it has some.
    Look,
    /// To get a token with credentials that the provider gave after a refusal. If they are refused too, that is
    /// reported.
    Replaced,
}

/// What happened to an attempt last.
#[derive(Debug)]
pub(crate) enum Stage {
    Begun,
    /// What the provider answered, none when it has not answered in time; and the refusal because of which it was
    /// asked.
    Provided(Option<Result<Given<Credentials>, Error>>, Option<Error>),
    /// The provider is being asked because of this refusal.
    Asking(Option<Error>),
    Sending,
    Answered(Result<TokenResponse, Error>),
    /// The three stages at the store: asked since this time, answered (with the time when it was asked), and left alone
    /// until this time.
    AtStore(Asked, Timestamp),
    Stored(Asked, Timestamp, Box<Result<Answer<TokenResponse, Error>, Error>>),
    Waiting(Asked, Timestamp),
    Abandoned,
}

/// What to do for an attempt; the answer of [`Lifecycle::next`](crate::Lifecycle::next).
#[derive(Debug)]
#[must_use = "callers wait for this attempt"]
#[non_exhaustive]
pub enum Next {
    /// Ask the provider for its credentials, and show it this mark of the credentials in use. Then hand in what it
    /// [`provided`](Attempt::provided).
    Ask(Attempt, Option<Mark>),
    /// Send [the request](Attempt::to_http). Then hand in how the server [`answered`](Attempt::answered), or how the
    /// request [`failed`](Attempt::failed).
    Send(Attempt),
    /// Carry out this operation at the store, on the entry of [the request](Attempt::request). Then hand in what was
    /// [`stored`](Attempt::stored). Comes only with a [store](crate::Lifecycle::with_store).
    Store(Attempt, Operation<TokenResponse, Error>),
    /// Wait until this time, then hand the attempt in again. Comes only with a store.
    Wait(Attempt, Timestamp),
    /// The attempt is over, and this is what it has changed. Wake everybody who waits.
    Over(Change),
}

impl Attempt {
    /// The request to send, rendered anew; see [`TokenRequest::to_http`].
    pub fn to_http(&self) -> Request<Vec<u8>> {
        self.request.to_http()
    }

    /// The request of this attempt. It also decides the name of the entry at a store.
    pub fn request(&self) -> &TokenRequest {
        &self.request
    }

    /// Whether a usable token was held when the attempt began, so that nobody has to wait for it.
    pub fn is_renewal(&self) -> bool {
        self.renewal
    }

    /// A change that happened between two steps, for logs. Call this until it gives none.
    pub fn take_news(&mut self) -> Option<Change> {
        (!self.news.is_empty()).then(|| self.news.remove(0))
    }

    /// Hands in the provider's answer; none when the provider has not answered in time. It may still answer later, and
    /// is not asked again until [`Lifecycle::provider_answered`](crate::Lifecycle::provider_answered) is called.
    pub fn provided(mut self, given: Option<Result<Given<Credentials>, Error>>) -> Self {
        let refusal = if let Stage::Asking(refusal) = self.stage { refusal } else { None };
        self.stage = Stage::Provided(given, refusal);
        self
    }

    /// Hands in the store's answer, or the reason why the store cannot be used.
    pub fn stored(mut self, answer: Result<Answer<TokenResponse, Error>, Error>) -> Self {
        if let Stage::AtStore(asked, asked_at) = self.stage {
            self.stage = Stage::Stored(asked, asked_at, Box::new(answer));
        }
        self
    }

    /// Hands in the server's answer to the request, whatever its status. Reading the answer is the one costly step, so
    /// call this outside of any lock.
    pub fn answered<B: AsRef<[u8]>>(mut self, response: &Response<B>) -> Self {
        self.stage = Stage::Answered(TokenResponse::from_http(&self.request, response));
        self
    }

    /// Hands in that no answer arrived; see [`Error::transport`] and [`Error::timed_out`].
    pub fn failed(mut self, error: Error) -> Self {
        self.stage = Stage::Answered(Err(error));
        self
    }

    /// Says that the driver was cancelled, so the result will never be known. The next caller takes over at once.
    pub fn abandoned(mut self) -> Self {
        self.stage = Stage::Abandoned;
        self
    }
}

/// What has changed about a token, for logs, metrics and those who watch.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Change {
    /// A first token is held.
    Obtained(Token),
    /// A token replaced a held one.
    Renewed(Token),
    /// The attempt failed; nothing is asked before `until`.
    Paused {
        /// When asking is allowed again. For a transient failure this is earlier while a caller waits.
        until: Timestamp,
        /// What went wrong.
        error: Error,
    },
    /// The attempt ended without a result; the next caller may ask at once.
    Abandoned,
    /// The attempt ended too late to matter: something newer has taken its place.
    Superseded,
    /// The provider had no other credentials behind a refusal that is remembered.
    Unchanged,
    /// The API rejected the held token, which was given up.
    Rejected,
    /// The held token was given up on request.
    Invalidated,
    /// A token from elsewhere is held now.
    Adopted(Token),
    /// Other credentials are in use.
    CredentialsChanged,
    /// The provider could give no credentials; those in use stay in use.
    ProviderFailed(Error),
    /// The first request has not been answered for a while, so a second one is sent beside it: both may be billed.
    Hedged,
    /// Somebody ended a pause.
    PauseEnded,
    /// The shared store cannot be used now. This is reported once, until the store can be used again.
    StoreFailed(Error),
    /// The store has the token, or the failure, that was reported before.
    Shared,
    /// Another process asks for the shared token, and this attempt waits for the result.
    AskedByOthers,
}
