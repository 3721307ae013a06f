//! The shared lifecycle: one lock, one published snapshot, one way to carry out an attempt.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use alvys_auth_core::share::{Id, Operation};
use alvys_auth_core::{
    Attempt, Change, Credentials, Error, Flow, Given, Lifecycle, Mark, Next, Policy, Snapshot, Status, Step, Timestamp,
    Token, TokenRequest, TokenResponse,
};
use arc_swap::ArcSwap;
use event_listener::EventListener;
use http::{Request, Response};

use crate::{Bell, Shared, Time, events};

/// Watches a source; a function that is told of every change does. See [`Builder::on_change`](crate::Builder::on_change).
pub trait Watch: Send + Sync {
    /// Is told of a change.
    fn changed(&self, change: &Change);

    /// Whether somebody sees to a renewal of this source that is due, and has heard of it now. The token is then lent until
    /// shortly before it expires.
    fn renews(&self, source: &Engine) -> bool {
        let _ = source;
        false
    }
}

impl<F: Fn(&Change) + Send + Sync> Watch for F {
    fn changed(&self, change: &Change) {
        self(change);
    }
}

/// A [`Lifecycle`] that many callers share.
///
/// Readers load the published snapshot and take no lock. Everything else is short work under one lock: no request is sent, no
/// answer parsed and nobody woken while it is held.
pub struct Engine {
    state: Mutex<State>,
    published: ArcSwap<Snapshot>,
    time: Time,
    watch: Option<Box<dyn Watch>>,
}

struct State {
    lifecycle: Lifecycle,
    /// Where callers wait; made for those who come, and gone once it has rung.
    bell: Option<Bell>,
}

/// What somebody does next who wants a `T`.
#[derive(Debug)]
#[must_use = "others may wait for what is to be done"]
pub enum Action<T, W> {
    /// Nothing: this came of it.
    Over(Result<T, Error>),
    /// Does this, and asks again.
    Do(W),
    /// Waits for this event, but no longer than this on the system's timers, and asks again.
    Wait(EventListener, Duration),
}

impl Engine {
    /// Shares a new lifecycle. `provider` tells of the provider of the credentials, if there is one, as
    /// [`Lifecycle::with_provider`] takes it; `shared` says that there is a
    /// store.
    pub fn new(
        request: TokenRequest,
        policy: impl Into<Arc<Policy>>,
        provider: Option<(Option<Mark>, Option<Timestamp>, Duration)>,
        shared: bool,
        time: Time,
        watch: Option<Box<dyn Watch>>,
    ) -> Self {
        events::created(request.flow());
        // Jitter need not be secret, only different: the standard library's hash keys are random per instance.
        let mut lifecycle = Lifecycle::new(request, policy, RandomState::new().hash_one(()));
        if let Some((known, given_at, time_limit)) = provider {
            lifecycle = lifecycle.with_provider(known, given_at, time_limit);
        }
        if shared {
            lifecycle = lifecycle.with_store(id());
        }
        let published = ArcSwap::from_pointee(lifecycle.snapshot());
        let state = Mutex::new(State { lifecycle, bell: None });
        Self { state, published, time, watch }
    }

    /// Lends the token that is usable without asking; none when `token()` has something to do.
    ///
    /// For the hottest paths: allocates nothing, and touches no counter that threads share while a token is fresh.
    pub fn with_token<R>(&self, read: impl FnOnce(&Token) -> R) -> Option<R> {
        let (published, now) = (self.published.load(), self.time.now());
        let renewed = || self.watch.as_ref().is_some_and(|watch| watch.renews(self));
        let token = published.usable(now).or_else(|| published.deferrable(now).filter(|_| renewed()))?;
        Some(read(token))
    }

    /// The API answered 401 to `token`: gives it up, and says whether one retry with another token is worth it.
    ///
    /// However many callers report the same token, it is renewed once. A token that is only seconds old is kept, because
    /// then the 401 is about something else than its age; the answer is no. Never call this for a 403.
    #[must_use = "the answer says whether a retry is worth it"]
    pub fn reject(&self, token: &Token) -> bool {
        self.change(|lifecycle, now| {
            let held = lifecycle.held().is_some();
            let retry = lifecycle.reject(token, now);
            // Of any number of callers who report the same token, the first one changes something.
            (retry, (held && lifecycle.held().is_none()).then_some(Change::Rejected))
        })
    }

    /// Gives the held token up; the next caller fetches another one.
    pub fn invalidate(&self) {
        self.change(|lifecycle, _| (lifecycle.invalidate(), Some(Change::Invalidated)));
    }

    /// Takes in a token that is already there, such as one from a store, whose lifetime counts from now; says whether it is
    /// held now. See [`Lifecycle::adopt`].
    pub fn adopt(&self, response: TokenResponse) -> bool {
        self.change(|lifecycle, now| {
            let adopted = lifecycle.adopt(response, now);
            (adopted, lifecycle.held().filter(|_| adopted).cloned().map(Change::Adopted))
        })
    }

    /// Goes on with other credentials, as after a rotation. A pause because the old ones were refused ends.
    ///
    /// The held token, and a wait that the server asked for, stay when only the secret has changed and go when the client id
    /// has. Says whether these are other credentials than those in use.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](alvys_auth_core::ErrorKind::Configuration) when they cannot be sent; nothing has changed
    /// then.
    pub fn set_credentials(&self, credentials: Credentials) -> Result<bool, Error> {
        self.change(|lifecycle, _| {
            let changed = lifecycle.set_credentials(credentials);
            let change = matches!(changed, Ok(true)).then_some(Change::CredentialsChanged);
            (changed, change)
        })
    }

    /// Ends a pause, so that the next caller asks at once: after a server has asked for an absurdly long wait.
    pub fn end_pause(&self) {
        self.change(|lifecycle, _| (lifecycle.end_pause(), Some(Change::PauseEnded)));
    }

    /// The state now, for health endpoints. Asks nobody and waits for nothing.
    pub fn status(&self) -> Status {
        self.published.load().status(self.time.now())
    }

    /// The request for the next token, with the credentials in use.
    pub fn request(&self) -> TokenRequest {
        self.lock().lifecycle.request().clone()
    }

    /// What to tell people when the server's side of the flow in use is going away.
    pub fn deprecation(&self) -> Option<&'static str> {
        self.flow().deprecation()
    }

    /// The flow that token requests speak.
    pub fn flow(&self) -> Flow {
        self.lock().lifecycle.request().flow().clone()
    }

    /// The clock.
    pub fn time(&self) -> &Time {
        &self.time
    }
}

/// For writers of a driver.
impl Engine {
    /// What one caller does next who needs a token of the engine that `owner` holds, which lasts for `least`, and waits until
    /// `deadline` at the longest; see [`Lifecycle::poll_for`].
    pub fn poll<O: AsRef<Self> + Send + Sync + 'static>(
        owner: &Arc<O>,
        least: Duration,
        deadline: Timestamp,
    ) -> Action<Token, Flight> {
        let this = O::as_ref(owner);
        let (mut state, now) = (this.lock(), this.time.now());
        match state.lifecycle.poll_for(least, now) {
            Step::Use(token) => Action::Over(Ok(token)),
            Step::Fail(error) => Action::Over(Err(error)),
            Step::Fetch(attempt) => {
                this.publish(&state.lifecycle);
                Action::Do(Flight { owner: Arc::<O>::clone(owner), attempt: Some(attempt) })
            }
            Step::Wait(wait) if wait.is_in_vain(deadline, now) => Action::Over(wait.give_up()),
            Step::Wait(wait) => {
                let bell = state.bell.get_or_insert_with(|| this.time.bell());
                // The time is read once more: a clock that was moved before the bell was heard does not ring again.
                let change = bell.listen();
                let left = wait.until().min(deadline).saturating_duration_since(this.time.now());
                Action::Wait(change, bell.timer(left))
            }
        }
    }

    /// The next change, to wait for, while a token request is on its way; none otherwise. An attempt that only tells a store what
    /// came of its request is not waited for.
    pub fn in_flight(&self) -> Option<EventListener> {
        let change = self.lock().bell.get_or_insert_with(|| self.time.bell()).listen();
        self.status().in_flight.then_some(change)
    }

    /// From when on the token is renewed if somebody asks for it; none without a token. See [`Lifecycle::attempt_due`].
    pub fn renewal_due(&self) -> Option<Timestamp> {
        self.lock().lifecycle.attempt_due().filter(|_| self.status().is_ready())
    }

    /// Changes the lifecycle, and tells of what has changed.
    fn change<R>(&self, change: impl FnOnce(&mut Lifecycle, Timestamp) -> (R, Option<Change>)) -> R {
        let mut state = self.lock();
        let (result, change) = change(&mut state.lifecycle, self.time.now());
        if let Some(change) = change {
            self.changed(state, &change);
        }
        result
    }

    /// Publishes what readers may know of a change, unlocks, wakes who waits and tells of it.
    fn changed(&self, mut state: MutexGuard<'_, State>, change: &Change) {
        self.publish(&state.lifecycle);
        let client_id = state.lifecycle.request().client_id().to_owned();
        let bell = state.bell.take();
        drop(state);
        if let Some(bell) = bell {
            bell.ring();
        }
        events::changed(&client_id, change, self.time.now());
        if let Some(watch) = &self.watch {
            watch.changed(change);
        }
    }

    fn publish(&self, lifecycle: &Lifecycle) {
        self.published.store(Arc::new(lifecycle.snapshot()));
    }

    /// A panic under the lock cannot happen by design; should one, the state is still whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("flow", &self.flow()).field("status", &self.status()).finish_non_exhaustive()
    }
}

/// A random id.
pub(crate) fn id() -> Id {
    // Processes that were forked have the same hash keys, and must not have the same id. A system without random numbers has no
    // TLS either.
    let mut random = RandomState::new().hash_one(0).to_be_bytes().repeat(2);
    let _ = getrandom::fill(&mut random);
    Id::from_bytes(random.try_into().unwrap_or_default())
}

/// What holds an engine.
type Owner = Arc<dyn AsRef<Engine> + Send + Sync>;

impl AsRef<Self> for Engine {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// An attempt that a driver carries out: it does one [`Task`] after the other and hands in what came of it.
///
/// Dropping a flight, as a cancelled future does, lets the next caller take over at once. A panic counts as a failure, so that
/// it is not repeated without a pause.
#[must_use = "dropping it abandons the attempt"]
pub struct Flight {
    owner: Owner,
    attempt: Option<Attempt>,
}

/// What to do for an attempt.
#[derive(Debug)]
pub enum Task {
    /// Ask the provider, showing it this mark; hand in what it [`provided`](Flight::provided).
    Ask(Option<Mark>, Question),
    /// Send this request; hand in what it was [`answered`](Flight::answered).
    Send(Request<Vec<u8>>),
    /// Do this at the store, for the token of this request; hand in what was [`stored`](Flight::stored).
    Store(TokenRequest, Operation<TokenResponse, Error>),
    /// Wait for this event, but no longer than this on the system's timers.
    Wait(EventListener, Duration),
}

impl Flight {
    /// What to do next; none when the attempt is over and everybody who waits has been woken.
    pub fn next_task(&mut self) -> Option<Task> {
        let attempt = self.attempt.take()?;
        let engine = self.owner.as_ref().as_ref();
        let mut state = engine.lock();
        let (mut attempt, task) = match state.lifecycle.next(attempt, engine.time.now()) {
            Next::Ask(attempt, known) => (attempt, Task::Ask(known, Question(Arc::clone(&self.owner)))),
            Next::Send(attempt) => {
                let request = attempt.to_http();
                (attempt, Task::Send(request))
            }
            Next::Store(attempt, operation) => {
                let request = attempt.request().clone();
                (attempt, Task::Store(request, *operation))
            }
            Next::Wait(attempt, until) => {
                let bell = state.bell.get_or_insert_with(|| engine.time.bell());
                let change = bell.listen();
                let left = until.saturating_duration_since(engine.time.now());
                (attempt, Task::Wait(change, bell.timer(left)))
            }
            Next::Over(change) => {
                engine.changed(state, &change);
                return None;
            }
            _ => return None,
        };
        let (news, renewal) = (Vec::from_iter(std::iter::from_fn(|| attempt.take_news())), attempt.is_renewal());
        let client_id = state.lifecycle.request().client_id().to_owned();
        // Kept before anybody is told: a subscriber that panics abandons the attempt too.
        self.attempt = Some(attempt);
        engine.publish(&state.lifecycle);
        drop(state);
        for news in news {
            engine.changed(engine.lock(), &news);
        }
        if let Task::Send(_) = &task {
            events::fetching(&client_id, renewal);
        }
        Some(task)
    }

    /// Hands in what the provider gave; none when it has not answered in time.
    pub fn provided(&mut self, given: Option<Result<Given<Credentials>, Error>>) {
        self.attempt = self.attempt.take().map(|attempt| attempt.provided(given));
    }

    /// Hands in what the store answered.
    pub fn stored(&mut self, answer: Shared) {
        self.attempt = self.attempt.take().map(|attempt| attempt.stored(answer));
    }

    /// Hands in what the request was answered, or why it was not.
    pub fn answered<B: AsRef<[u8]>>(&mut self, result: Result<Response<B>, Error>) {
        self.attempt = self.attempt.take().map(|attempt| match result {
            Ok(response) => attempt.answered(&response),
            Err(error) => attempt.failed(error),
        });
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.attempt = Some(if thread::panicking() {
                attempt.failed(Error::transport("the token request panicked", "a panic in the HTTP client"))
            } else {
                attempt.abandoned()
            });
            // Nobody carries out what there would be to do yet, such as telling a store.
            while self.next_task().is_some() {}
        }
    }
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight").field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

/// A question to a provider that has not answered yet. Drop it where the answer is there, before that is handed in, however
/// late that is: until then the provider is not asked again.
pub struct Question(Owner);

impl Drop for Question {
    fn drop(&mut self) {
        self.0.as_ref().as_ref().lock().lifecycle.provider_answered();
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Question")
    }
}
