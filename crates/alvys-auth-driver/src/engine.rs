//! The lifecycle that callers share: one lock, one published snapshot, and one way to carry out an attempt.

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

/// Watches a source. A function of a change is a watch too; see [`Builder::on_change`](crate::Builder::on_change).
pub trait Watch: Send + Sync {
    /// Called after each change.
    fn changed(&self, change: &Change);

    /// Called when a renewal of this source is due. Returns true if a worker will renew the token. The token is then
    /// lent until shortly before it expires.
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
/// Readers load the published snapshot and take no lock. Everything else is short work under one lock. While the lock
/// is held, no request is sent, no answer is parsed and nobody is woken.
pub struct Engine {
    state: Mutex<State>,
    published: ArcSwap<Snapshot>,
    time: Time,
    watch: Option<Box<dyn Watch>>,
}

struct State {
    lifecycle: Lifecycle,
    /// The bell for callers that wait. The first waiting caller makes it, and it is dropped once it has rung.
    bell: Option<Bell>,
}

/// What a caller who wants a `T` does next. `W` is the work that the caller may have to carry out.
#[derive(Debug)]
#[must_use = "others may wait for what is to be done"]
pub enum Action<T, W> {
    /// Nothing more: this is the result.
    Over(Result<T, Error>),
    /// Carry this out, and ask again.
    Do(W),
    /// Wait for this event, at most for this time by the system's timers, and ask again.
    Wait(EventListener, Duration),
}

impl Engine {
    /// Shares a new lifecycle. `provider` describes the provider of the credentials, if there is one, with the
    /// arguments of [`Lifecycle::with_provider`]. `shared` says that there is a store.
    pub fn new(
        request: TokenRequest,
        policy: impl Into<Arc<Policy>>,
        provider: Option<(Option<Mark>, Option<Timestamp>, Duration)>,
        shared: bool,
        time: Time,
        watch: Option<Box<dyn Watch>>,
    ) -> Self {
        events::created(request.flow());
        // Jitter need not be secret, only different for each instance, as the random hash keys of the standard library
        // are.
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

    /// Lends the token that is usable without polling; none when `token()` must be called.
    ///
    /// It is for the hottest paths: while a token is fresh, it allocates nothing and changes no counter that threads
    /// share.
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
            // Of all callers that report the same token, only the first one changes something.
            (retry, (held && lifecycle.held().is_none()).then_some(Change::Rejected))
        })
    }

    /// Gives the held token up; the next caller fetches another one.
    pub fn invalidate(&self) {
        self.change(|lifecycle, _| (lifecycle.invalidate(), Some(Change::Invalidated)));
    }

    /// Takes in a token from elsewhere, such as a store. Its lifetime counts from now. Returns whether the token is
    /// held now; see [`Lifecycle::adopt`].
    pub fn adopt(&self, response: TokenResponse) -> bool {
        self.change(|lifecycle, now| {
            let adopted = lifecycle.adopt(response, now);
            (adopted, lifecycle.held().filter(|_| adopted).cloned().map(Change::Adopted))
        })
    }

    /// Uses other credentials from now on, as after a rotation. If the old ones were refused, the pause because of that
    /// ends.
    ///
    /// If only the secret has changed, a held token and a wait that the server asked for stay; if the client id has
    /// changed, both are dropped. Returns whether the credentials are others than before.
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

    /// Ends a pause, so that the next caller asks at once, for example after a server asked for an absurdly long wait.
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

    /// A warning for people, if Alvys is going to switch off the flow in use.
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
    /// What a caller does next who needs a token of the engine that `owner` holds. The token must stay usable for
    /// `least`, and the caller waits until `deadline` at most; see [`Lifecycle::poll_for`].
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
                // The time is read once more, because a manual clock that was moved before this listener was there does
                // not ring again for it.
                let change = bell.listen();
                let left = wait.until().min(deadline).saturating_duration_since(this.time.now());
                Action::Wait(change, bell.timer(left))
            }
        }
    }

    /// An event for the next change while a token request is in flight; none otherwise. An attempt that only reports
    /// its result to a store does not count.
    pub fn in_flight(&self) -> Option<EventListener> {
        let change = self.lock().bell.get_or_insert_with(|| self.time.bell()).listen();
        self.status().in_flight.then_some(change)
    }

    /// From when on a caller who asks for the token causes its renewal; none without a token. See
    /// [`Lifecycle::attempt_due`].
    pub fn renewal_due(&self) -> Option<Timestamp> {
        self.lock().lifecycle.attempt_due().filter(|_| self.status().is_ready())
    }

    /// Changes the lifecycle, and reports what has changed.
    fn change<R>(&self, change: impl FnOnce(&mut Lifecycle, Timestamp) -> (R, Option<Change>)) -> R {
        let mut state = self.lock();
        let (result, change) = change(&mut state.lifecycle, self.time.now());
        if let Some(change) = change {
            self.changed(state, &change);
        }
        result
    }

    /// Publishes the new snapshot, unlocks, wakes all waiting callers, and reports the change.
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

    /// By design nothing panics under the lock. If something does, the state is still consistent.
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
    // The system's random numbers are needed because forked processes have the same hash keys, but must have different
    // ids. If they fail, the hash keys must do; TLS does not work on such a system either.
    let mut random = RandomState::new().hash_one(0).to_be_bytes().repeat(2);
    let _ = getrandom::fill(&mut random);
    Id::from_bytes(random.try_into().unwrap_or_default())
}

/// The value that holds an engine.
type Owner = Arc<dyn AsRef<Engine> + Send + Sync>;

impl AsRef<Self> for Engine {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// An attempt that a driver carries out: the driver does one [`Task`] after the other and hands in each result.
///
/// When a flight is dropped, as by a cancelled future, the next caller takes over at once. If the reason is a panic, it
/// counts as a failure, so that the attempt is not repeated without a pause.
#[must_use = "dropping it abandons the attempt"]
pub struct Flight {
    owner: Owner,
    attempt: Option<Attempt>,
}

/// What to do for an attempt.
#[derive(Debug)]
pub enum Task {
    /// Ask the provider, and show it this mark. Then hand in what it [`provided`](Flight::provided).
    Ask(Option<Mark>, Question),
    /// Send this request. Then hand in how it was [`answered`](Flight::answered).
    Send(Request<Vec<u8>>),
    /// Carry out this operation at the store, on the entry of this request. Then hand in what was
    /// [`stored`](Flight::stored).
    Store(TokenRequest, Operation<TokenResponse, Error>),
    /// Wait for this event, at most for this time by the system's timers.
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
                (attempt, Task::Store(request, operation))
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
        // The attempt is put back before anybody is told of its news, so that a panic of a subscriber abandons the
        // attempt too.
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

    /// Hands in the provider's answer; none when it has not answered in time.
    pub fn provided(&mut self, given: Option<Result<Given<Credentials>, Error>>) {
        self.attempt = self.attempt.take().map(|attempt| attempt.provided(given));
    }

    /// Hands in the store's answer.
    pub fn stored(&mut self, answer: Shared) {
        self.attempt = self.attempt.take().map(|attempt| attempt.stored(answer));
    }

    /// Hands in the answer to the request, or the reason why there is none.
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
            // The remaining tasks, such as a report to the store, are skipped, because no driver is left to carry them
            // out.
            while self.next_task().is_some() {}
        }
    }
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight").field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

/// A question to a provider that has not answered yet. The provider is not asked again before this is dropped. Drop it
/// as soon as the answer is there, however late, and before the answer is handed in.
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
