//! What a lifecycle says to its driver, and the attempt to get a token that the driver carries out.
//!
//! ```text
//!            ┌─────────────────────── a refusal that other credentials may mend ──┐
//!            ▼                                                                    │
//!  begun ──▶ Ask ──▶ provided ──▶ Send ──▶ answered, failed ──────────────────────┴──▶ Over
//!     └──────── no provider ───────▲
//! ```
//!
//! At each arrow [`Lifecycle::next`](crate::Lifecycle::next) decides. An attempt whose place another one has taken is over
//! at the next arrow: it changes nothing any more, except that a token it brings may still be used.

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
    /// Give up: asking again before long would only fail again.
    Fail(Error),
}

/// Why there is nothing to use yet, and when to look again.
#[derive(Debug, Clone)]
pub struct Wait {
    pub(crate) until: Timestamp,
    pub(crate) error: Option<Error>,
    pub(crate) in_flight: bool,
    /// The token that is held while its renewal is waited for.
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

    /// Whether an attempt is on its way, so that its end may end the wait early.
    pub fn is_in_flight(&self) -> bool {
        self.in_flight
    }

    /// Whether a caller who waits until `deadline` at the longest may as well give up now.
    ///
    /// That is so as well where two answers in a row could not be read: nobody waits for a third, which may cost a token too.
    pub fn is_in_vain(&self, deadline: Timestamp, now: Timestamp) -> bool {
        let costly = self.error.as_ref().is_some_and(Error::has_cost_a_token);
        let last = if costly { deadline.min(now.saturating_add(TICK)) } else { deadline };
        now >= deadline || !self.in_flight && self.until > last
    }

    /// What a caller has who will not wait that long: a held token, where its renewal was waited for.
    ///
    /// # Errors
    /// What went wrong last, or that time ran out.
    pub fn give_up(self) -> Result<Token, Error> {
        let late = || Error::timed_out("no access token arrived in time");
        self.held.ok_or_else(|| self.error.unwrap_or_else(late))
    }
}

/// One attempt to get a token: the right to send a token request, and the duty to say what became of it.
///
/// A driver hands it to [`Lifecycle::next`](crate::Lifecycle::next) again and again, and does what that says in between.
/// Whoever drops an attempt leaves everybody waiting until its lease ends; hand in an [`abandoned`](Self::abandoned) one
/// instead.
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

/// Why an attempt was begun; that decides when its provider is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To get a token. The provider is asked before the request whether anything has changed, and again after a refusal.
    Token,
    /// To get a token after a refusal that is remembered: the provider is asked before the request for what it has now.
    Retry,
    /// To look behind a refusal while it is remembered: a request is sent only if the provider has other credentials.
    Look,
    /// To get a token with credentials that the provider gave after a refusal: another refusal is reported.
    Replaced,
}

/// What happened to an attempt last.
#[derive(Debug)]
pub(crate) enum Stage {
    Begun,
    /// What the provider said, none when it has not answered in time; and the refusal because of which it was asked.
    Provided(Option<Result<Given<Credentials>, Error>>, Option<Error>),
    /// The provider is being asked because of this refusal.
    Asking(Option<Error>),
    Sending,
    Answered(Result<TokenResponse, Error>),
    /// The store is being asked since then, has answered, or is left alone until then.
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
    /// Ask the provider for its credentials, showing it this mark of those in use, and hand in what it
    /// [`provided`](Attempt::provided).
    Ask(Attempt, Option<Mark>),
    /// Send [the request](Attempt::to_http), and hand in what it was [`answered`](Attempt::answered), or how it
    /// [`failed`](Attempt::failed).
    Send(Attempt),
    /// Do this at the store, under the name of [the request](Attempt::request), and hand in what was
    /// [`stored`](Attempt::stored). Only with a [store](crate::Lifecycle::with_store).
    Store(Attempt, Box<Operation<TokenResponse, Error>>),
    /// Nothing before then; hand the attempt in again at that time. Only with a store.
    Wait(Attempt, Timestamp),
    /// Nothing: the attempt is over, and this is what it has changed. Wake everybody who waits.
    Over(Change),
}

impl Attempt {
    /// The request to send, rendered anew; see [`TokenRequest::to_http`].
    pub fn to_http(&self) -> Request<Vec<u8>> {
        self.request.to_http()
    }

    /// The request in question. It names the entry at a store.
    pub fn request(&self) -> &TokenRequest {
        &self.request
    }

    /// Whether a usable token is held meanwhile, so that nobody has to wait for this attempt.
    pub fn is_renewal(&self) -> bool {
        self.renewal
    }

    /// What changed between two steps, for logs: the credentials, or that the provider could give none.
    pub fn take_news(&mut self) -> Option<Change> {
        (!self.news.is_empty()).then(|| self.news.remove(0))
    }

    /// What the provider answered; none when it has not in time, and may do so later. Until
    /// [`Lifecycle::provider_answered`](crate::Lifecycle::provider_answered) is called it is not asked again then.
    pub fn provided(mut self, given: Option<Result<Given<Credentials>, Error>>) -> Self {
        let refusal = if let Stage::Asking(refusal) = self.stage { refusal } else { None };
        self.stage = Stage::Provided(given, refusal);
        self
    }

    /// The store answered, or could not be used.
    pub fn stored(mut self, answer: Result<Answer<TokenResponse, Error>, Error>) -> Self {
        if let Stage::AtStore(asked, asked_at) = self.stage {
            self.stage = Stage::Stored(asked, asked_at, Box::new(answer));
        }
        self
    }

    /// An answer to the request arrived, whatever its status. Reads it, which is the one costly step: do it outside of any
    /// lock.
    pub fn answered<B: AsRef<[u8]>>(mut self, response: &Response<B>) -> Self {
        self.stage = Stage::Answered(TokenResponse::from_http(&self.request, response));
        self
    }

    /// No answer arrived; see [`Error::transport`] and [`Error::timed_out`].
    pub fn failed(mut self, error: Error) -> Self {
        self.stage = Stage::Answered(Err(error));
        self
    }

    /// Nobody will ever know: the driver was cancelled. The next caller takes over at once.
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
    /// The held token was given up because somebody wanted that.
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
    /// The store that the token is shared through cannot be used now. This is told once, until the store is back.
    StoreFailed(Error),
    /// The store knows the token, or the failure, that was told before.
    Shared,
    /// Another process asks for the token that is shared; what comes of it is waited for.
    AskedByOthers,
}
