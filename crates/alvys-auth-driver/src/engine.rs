//! The shared lifecycle: one lock, one published snapshot, one way to complete an attempt.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use alvys_auth_core::{
    Attempt, Credentials, Error, ErrorKind, Flow, TokenResponse, Lifecycle, Outcome, Policy, Snapshot, Status, Step, Timestamp,
    Token, TokenRequest,
};
use arc_swap::ArcSwap;

use crate::{events, now};

/// A [`Lifecycle`] that many callers share.
///
/// Readers load the published snapshot and take no lock; everything else is short work under one lock, and no request is
/// sent, no answer parsed and nobody woken while it is held.
pub struct Engine {
    lifecycle: Mutex<Lifecycle>,
    published: ArcSwap<Snapshot>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Engine {
    /// Shares a new lifecycle. `wake` is called after every change that somebody may be waiting for, and must not block.
    pub fn new(request: TokenRequest, policy: Policy, wake: impl Fn() + Send + Sync + 'static) -> Self {
        events::created(request.flow());
        // Jitter need not be secret, only different: the standard library's hash keys are random per instance.
        let seed = RandomState::new().hash_one(now());
        let lifecycle = Lifecycle::new(request, policy, seed);
        let published = ArcSwap::from_pointee(lifecycle.snapshot());
        Self { lifecycle: Mutex::new(lifecycle), published, wake: Box::new(wake) }
    }

    /// Lends the token that may be used without asking; none when [`poll`](Self::poll) is due.
    ///
    /// Allocates nothing and touches no counter that threads share.
    pub fn with_token<R>(&self, read: impl FnOnce(&Token) -> R) -> Option<R> {
        self.with_token_or(|| false, read)
    }

    /// The same for those who may leave renewals to others: lends one that is due to be renewed too, until shortly before it
    /// expires, when `renewed` says that somebody is to see to that; see [`Snapshot::deferrable`].
    pub fn with_token_or<R>(&self, renewed: impl FnOnce() -> bool, read: impl FnOnce(&Token) -> R) -> Option<R> {
        let (published, now) = (self.published.load(), now());
        let token = published.usable(now).or_else(|| published.deferrable(now).filter(|_| renewed()))?;
        Some(read(token))
    }

    /// What to do next for one caller; see [`Lifecycle::poll`].
    pub fn poll(&self) -> Step {
        let mut lifecycle = self.lock();
        let step = lifecycle.poll(now());
        if matches!(step, Step::Fetch(_)) {
            self.publish(&lifecycle);
        }
        step
    }

    /// The request of an attempt, and the guard that sees to its completion.
    #[must_use = "dropping the flight abandons the attempt"]
    pub fn launch(self: &Arc<Self>, attempt: Attempt) -> (http::Request<Vec<u8>>, Flight) {
        let (request, renewal) = (attempt.to_http(), attempt.is_renewal());
        // In this order, so that a subscriber that panics abandons the attempt too.
        let flight = Flight { engine: Arc::clone(self), attempt: Some(attempt) };
        // The lock is released by then: a subscriber may use the source itself.
        let client_id = client_id(&self.lock());
        events::fetching(&client_id, renewal);
        (request, flight)
    }

    /// Gives an attempt back whose request was not sent; the next poll takes it up.
    pub fn abandon(&self, attempt: Attempt) {
        self.complete(attempt.abandoned());
    }

    /// The API answered 401 to `token`: is one retry worth it? See [`Lifecycle::reject`].
    pub fn reject(&self, token: &Token) -> bool {
        let mut lifecycle = self.lock();
        let held = lifecycle.held().is_some();
        let retry = lifecycle.reject(token, now());
        // Of any number of callers who report the same token, the first one changes something.
        if held && lifecycle.held().is_none() {
            let client_id = self.changed(lifecycle);
            events::rejected(&client_id);
        }
        retry
    }

    /// Gives the held token up; see [`Lifecycle::invalidate`].
    pub fn invalidate(&self) {
        let (client_id, ()) = self.change(Lifecycle::invalidate);
        events::invalidated(&client_id);
    }

    /// Takes a token from elsewhere; see [`Lifecycle::adopt`].
    pub fn adopt(&self, grant: TokenResponse) -> bool {
        let (client_id, adopted) = self.change(|lifecycle| lifecycle.adopt(grant, now()));
        events::adopted(&client_id, adopted);
        adopted
    }

    /// Goes on with other credentials, and says whether they are others; see [`Lifecycle::set_credentials`].
    ///
    /// # Errors
    /// As [`Lifecycle::set_credentials`].
    pub fn set_credentials(&self, credentials: Credentials) -> Result<bool, Error> {
        let (client_id, result) = self.change(|lifecycle| lifecycle.set_credentials(credentials));
        if matches!(result, Ok(true)) {
            events::credentials_changed(&client_id);
        }
        result
    }

    /// The same for the account that the held token is of; see [`Lifecycle::rotate_credentials`]. With other credentials,
    /// gives what to do next, which is decided before any of those who wait can.
    ///
    /// # Errors
    /// As [`Lifecycle::rotate_credentials`].
    pub fn rotate_credentials(&self, credentials: Credentials) -> Result<Option<Step>, Error> {
        let (client_id, result) = self.change(|lifecycle| {
            let rotated = lifecycle.rotate_credentials(credentials)?;
            Ok(rotated.then(|| lifecycle.poll(now())))
        });
        if matches!(result, Ok(Some(_))) {
            events::credentials_changed(&client_id);
        }
        result
    }

    /// From when on the token is renewed if somebody asks for it, and a pause does not forbid it; see
    /// [`Lifecycle::wake_at`].
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.lock().wake_at()
    }

    /// Whether the last failure is one that other credentials may mend: that is remembered until a token arrives.
    #[must_use]
    pub fn calls_for_credentials(&self) -> bool {
        self.status().last_error.as_ref().is_some_and(mendable)
    }

    /// The flow that token requests speak.
    #[must_use]
    pub fn flow(&self) -> Flow {
        self.lock().request().flow().clone()
    }

    /// The state now, for health endpoints.
    #[must_use]
    pub fn status(&self) -> Status {
        self.published.load().status(now())
    }

    fn complete(&self, outcome: Outcome) {
        let (client_id, (completion, at)) = self.change(|lifecycle| {
            let now = now();
            (lifecycle.complete(outcome, now), now)
        });
        events::completed(&client_id, &completion, at);
    }

    fn change<R>(&self, change: impl FnOnce(&mut Lifecycle) -> R) -> (String, R) {
        let mut lifecycle = self.lock();
        let result = change(&mut lifecycle);
        (self.changed(lifecycle), result)
    }

    /// Publishes what readers may know of a change, unlocks and wakes who waits; gives the client id for the events.
    fn changed(&self, lifecycle: MutexGuard<'_, Lifecycle>) -> String {
        self.publish(&lifecycle);
        let client_id = client_id(&lifecycle);
        drop(lifecycle);
        (self.wake)();
        client_id
    }

    fn publish(&self, lifecycle: &Lifecycle) {
        self.published.store(Arc::new(lifecycle.snapshot()));
    }

    /// A panic under the lock cannot happen by design; should one, the state is still whole.
    fn lock(&self) -> MutexGuard<'_, Lifecycle> {
        self.lifecycle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The credentials are wrong, of another organization's application, of one that is not allowed this, as after it was
/// replaced, or were taken away with their tenant.
fn mendable(error: &Error) -> bool {
    use ErrorKind::{Credentials, Refused, UnknownTenant, WrongOrganization};

    !error.is_retryable() && matches!(error.kind(), Credentials | Refused | UnknownTenant | WrongOrganization)
}

fn client_id(lifecycle: &Lifecycle) -> String {
    lifecycle.request().credentials().client_id().to_owned()
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("published", &self.published.load()).finish_non_exhaustive()
    }
}

/// A token request on its way. Dropping it, as a cancelled future does, lets the next caller take over at once; a panic
/// counts as a failure, so that it is not repeated without a pause.
#[must_use = "dropping it abandons the attempt"]
pub struct Flight {
    engine: Arc<Engine>,
    attempt: Option<Attempt>,
}

impl Flight {
    /// Gives the request its time anew and `more`, when anybody still waits for it; see [`Lifecycle::extend`]. One that was
    /// launched long before it is sent may have been replaced.
    #[must_use = "a request that nobody waits for need not be sent"]
    pub fn extend(&self, more: Duration) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| {
            let mut lifecycle = self.engine.lock();
            let awaited = lifecycle.extend(attempt, more, now());
            self.engine.publish(&lifecycle);
            awaited
        })
    }

    /// Whether other credentials may mend what is wrong with `response`; see [`Attempt::refusal`].
    #[must_use]
    pub fn calls_for_credentials<B: AsRef<[u8]>>(&self, response: &http::Response<B>) -> bool {
        self.attempt.as_ref().and_then(|attempt| attempt.refusal(response)).as_ref().is_some_and(mendable)
    }

    /// Whether the same credentials would only buy another token that is not used; see [`Lifecycle::is_futile`].
    #[must_use]
    pub fn is_futile(&self) -> bool {
        self.engine.lock().is_futile(now())
    }

    /// Reports the last failure again in place of sending the request; see [`Attempt::spared`].
    pub fn spare(mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.engine.complete(attempt.spared());
        }
    }

    /// There is no such tenant any more: gives the held token up and reports that in place of sending the request.
    pub fn give_up(self, unknown: Error) {
        if self.engine.status().is_ready() {
            self.engine.invalidate();
        }
        self.land(Err::<http::Response<[u8; 0]>, _>(unknown));
    }

    /// Hands in what became of the request and wakes everybody who waits for it.
    pub fn land<B: AsRef<[u8]>>(mut self, result: Result<http::Response<B>, Error>) {
        if let Some(attempt) = self.attempt.take() {
            self.engine.complete(match result {
                Ok(response) => attempt.answered(&response),
                Err(error) => attempt.failed(error),
            });
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.engine.complete(if thread::panicking() {
                attempt.failed(Error::transport("the token request panicked", "a panic in the HTTP client"))
            } else {
                attempt.abandoned()
            });
        }
    }
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight").field("attempt", &self.attempt).finish_non_exhaustive()
    }
}
