//! What a lifecycle says to its driver, and what the driver says back.

use http::{Request, Response};

use crate::{Error, Timestamp, Token, TokenRequest, TokenResponse};

/// What to do now; the answer of [`Lifecycle::poll`](crate::Lifecycle::poll).
#[derive(Debug)]
#[must_use = "a step that nobody takes leaves its callers without a token"]
pub enum Step {
    /// Use this token.
    Use(Token),
    /// Send this attempt's request, and complete the lifecycle with what became of it.
    Fetch(Attempt),
    /// Poll again when something was completed, or at the given time.
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
}

impl Wait {
    /// When to poll again at the latest; always later than the poll that gave this.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// What went wrong last, if that was recent.
    #[must_use]
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// Whether a request is on its way, so that a completion may end the wait early.
    #[must_use]
    pub fn is_in_flight(&self) -> bool {
        self.in_flight
    }

    /// The error for a caller who will not wait that long: what went wrong last, or that time ran out.
    #[must_use]
    pub fn give_up(self) -> Error {
        self.error.unwrap_or_else(|| Error::timed_out("no access token arrived in time"))
    }
}

/// The right to send one token request, and the duty to say what became of it.
///
/// Whoever drops one without completing its [`Outcome`] leaves everybody waiting until the lease ends; complete
/// [`abandoned`](Self::abandoned) instead.
#[derive(Debug)]
#[must_use = "callers wait for this attempt: send its request and complete the outcome"]
pub struct Attempt {
    pub(crate) id: u64,
    pub(crate) started: Timestamp,
    pub(crate) renewal: bool,
    pub(crate) request: TokenRequest,
}

impl Attempt {
    /// The request to send, rendered anew; see [`TokenRequest::to_http`].
    #[must_use]
    pub fn to_http(&self) -> Request<Vec<u8>> {
        self.request.to_http()
    }

    /// Whether a usable token is held meanwhile, so that nobody has to wait for this attempt.
    #[must_use]
    pub fn is_renewal(&self) -> bool {
        self.renewal
    }

    /// An answer arrived, whatever its status. Reads it, which is the one costly step: do it outside the lock.
    pub fn answered<B: AsRef<[u8]>>(self, response: &Response<B>) -> Outcome {
        let result = TokenResponse::from_http(&self.request, response);
        self.ended(End::Answered(result))
    }

    /// No answer arrived; see [`Error::transport`] and [`Error::timed_out`].
    pub fn failed(self, error: Error) -> Outcome {
        self.ended(End::Answered(Err(error)))
    }

    /// Nobody will ever know: the caller was cancelled, or panicked. The next caller takes over at once.
    pub fn abandoned(self) -> Outcome {
        self.ended(End::Abandoned)
    }

    /// Nothing was sent, because the answer is known: the last failure is reported again, after a longer pause; see
    /// [`Lifecycle::is_futile`](crate::Lifecycle::is_futile).
    pub fn spared(self) -> Outcome {
        self.ended(End::Spared)
    }

    /// What is wrong with `response`, if anything: to see whether it is worth looking for other credentials first.
    #[must_use]
    pub fn refusal<B: AsRef<[u8]>>(&self, response: &Response<B>) -> Option<Error> {
        TokenResponse::from_http(&self.request, response).err()
    }

    fn ended(self, end: End) -> Outcome {
        Outcome { id: self.id, started: self.started, end }
    }
}

/// What became of an attempt, to be handed to [`Lifecycle::complete`](crate::Lifecycle::complete).
#[derive(Debug)]
#[must_use = "callers wait for this outcome: hand it to Lifecycle::complete"]
pub struct Outcome {
    pub(crate) id: u64,
    pub(crate) started: Timestamp,
    pub(crate) end: End,
}

#[derive(Debug)]
pub(crate) enum End {
    Answered(Result<TokenResponse, Error>),
    Spared,
    Abandoned,
}

/// What a completed outcome changed, for logs and metrics.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Completion {
    /// A first token is held.
    Obtained(Token),
    /// A token replaced a held one.
    Renewed(Token),
    /// The attempt failed; nothing is asked before `until`.
    Paused {
        /// When asking is allowed again.
        until: Timestamp,
        /// What went wrong.
        error: Error,
    },
    /// The attempt was abandoned; the next caller may ask at once.
    Abandoned,
    /// The outcome came too late to matter: something newer has taken its place.
    Superseded,
}
