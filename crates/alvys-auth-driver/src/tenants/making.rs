//! A caller's search for the source of a tenant: the caller finds the source, makes it, or waits for another caller who
//! makes it.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use alvys_auth_core::{Error, Found, Given, Maker, Tenant, Timestamp};

use super::members::lock;
use super::place::Place;
use super::sources::{Inner, TenantDriver, Tenants};
use crate::{Action, Driver};

/// How many times a caller tries to ask the provider, when the driver does not carry the question out.
const TRIES: usize = 3;

/// A caller's search for the source of a tenant; from [`Tenants::search`].
///
/// The contract: call [`step`](Self::step) and do what it says, until it is over.
pub struct Search<'a, D: TenantDriver> {
    tenants: &'a Arc<Inner<D>>,
    tenant: &'a str,
    deadline: Timestamp,
    /// Set when the caller must make the source, and waits for the gate.
    making: Option<Making<D>>,
    /// Set when the caller waits for another caller who makes the source.
    place: Option<Arc<Place<D::Source>>>,
    tries: usize,
}

/// What a caller does next to get the source of a tenant. `Do` means: begin to ask the provider, and go on without
/// waiting for its answer.
type Stage<D> = Action<<D as Driver>::Source, Making<D>>;

impl<D: TenantDriver> Tenants<D> {
    /// For writers of a driver: begins to look for the source of `tenant`.
    pub fn search<'a>(&'a self, tenant: &'a str) -> Search<'a, D> {
        Search::new(&self.0, tenant)
    }
}

impl<'a, D: TenantDriver> Search<'a, D> {
    fn new(tenants: &'a Arc<Inner<D>>, tenant: &'a str) -> Self {
        let deadline = tenants.settings.time.now().saturating_add(tenants.time_limit());
        Self { tenants, tenant, deadline, making: None, place: None, tries: 0 }
    }

    /// What to do next. Marks the tenant as used when its source is found.
    pub fn step(&mut self) -> Action<D::Source, Making<D>> {
        loop {
            let now = self.tenants.settings.time.now();
            let making = match self.making.take() {
                Some(making) => Ok(making),
                None => self.find(now),
            };
            // A caller who has waited for an answer takes it, and does not ask the same again.
            if let Some(Some(result)) = self.place.as_ref().and_then(|place| place.result.get()) {
                return Action::Over(result.clone());
            }
            let stage = match making {
                Ok(making) => self.ask(making, now),
                Err(Some(stage)) => stage,
                Err(None) => continue,
            };
            return match stage {
                Action::Do(_) | Action::Wait(..) if now >= self.deadline => {
                    Action::Over(Err(Error::timed_out("the tenant provider did not answer in time")))
                }
                stage => stage,
            };
        }
    }

    /// Gives the right to make the source, if this caller gets it. Otherwise gives what to do; none means to look once
    /// more.
    fn find(&mut self, now: Timestamp) -> Result<Making<D>, Option<Stage<D>>> {
        let Self { tenants, tenant, deadline, .. } = *self;
        let waiting = || Arc::new(Place { result: OnceLock::new(), bell: tenants.settings.time.bell() });
        let found = match tenants.members.get(tenant) {
            Some(member) => Found::Ready(member),
            None => lock(&tenants.registry).find(tenant, now, deadline, waiting),
        };
        Err(Some(match found {
            Found::Ready(member) => {
                // If the caller has waited for the source, it is new, and this is not counted as a use.
                if self.place.is_none() {
                    tenants.used(&member);
                }
                Action::Over(Ok(member.source.clone()))
            }
            Found::Make(maker, place) => {
                return Ok(Making { tenants: Arc::clone(tenants), maker: Some(maker), place, inside: false });
            }
            Found::Wait(place, until) => {
                let change = place.bell.listen();
                let timer = place.bell.timer(until.min(deadline).saturating_duration_since(now));
                let over = place.result.get().is_some();
                self.place = Some(place);
                if over {
                    return Err(None);
                }
                Action::Wait(change, timer)
            }
            Found::Late => {
                Action::Over(Err(Error::timed_out("the tenant provider has not answered yet what it was asked before")))
            }
        }))
    }

    /// Asks the provider as soon as the gate lets this caller in.
    fn ask(&mut self, making: Making<D>, now: Timestamp) -> Stage<D> {
        if self.tries == TRIES {
            let cause = "the runtime is shutting down, or there is no thread to spare";
            return Action::Over(Err(Error::transport("the tenant provider could not be asked", cause)));
        }
        let bell = &self.tenants.gate.bell;
        let change = bell.listen();
        match making.enter() {
            Ok(making) => {
                self.tries += 1;
                self.place = Some(Arc::clone(&making.place));
                Action::Do(making)
            }
            Err(making) => {
                self.making = Some(making);
                Action::Wait(change, bell.timer(self.deadline.saturating_duration_since(now)))
            }
        }
    }
}

impl<D: TenantDriver> fmt::Debug for Search<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

/// The source of a tenant that is being made: the provider must be asked about the tenant.
///
/// Hand the answer in with [`given`](Self::given), however late it is. If this is dropped, the next caller may ask.
#[must_use = "callers wait for this source: ask the provider and hand in what it gave"]
pub struct Making<D: TenantDriver> {
    tenants: Arc<Inner<D>>,
    maker: Option<Maker>,
    place: Arc<Place<D::Source>>,
    /// Whether the question has passed the gate.
    inside: bool,
}

impl<D: TenantDriver> Making<D> {
    /// The provider to ask.
    pub fn provider(&self) -> &Arc<D::TenantProvider> {
        &self.tenants.many.provider
    }

    /// The tenant to ask about.
    pub fn tenant(&self) -> Arc<str> {
        self.maker.as_ref().map(Maker::tenant).cloned().unwrap_or_default()
    }

    /// Says that the provider is asked now. Returns how long the answer may take; none when the answer is no longer
    /// needed. A provider that `blocks` a thread cannot be interrupted, so it is not asked about this tenant again
    /// before it has answered.
    #[must_use = "a question that nobody wants answered must not be asked"]
    pub fn asks(&self, blocks: bool) -> Option<Duration> {
        let limit = self.tenants.time_limit();
        let until = self.tenants.settings.time.now().saturating_add(limit);
        let maker = self.maker.as_ref()?;
        lock(&self.tenants.registry).asks(maker, until, blocks).then_some(limit)
    }

    /// Makes the source from the provider's answer, and wakes all callers that wait for it.
    pub fn given(mut self, given: Result<Given<Option<Tenant>>, Error>) {
        match given.and_then(|given| self.tenants.make(&self.tenant(), given)) {
            Ok(source) => {
                let kept = self.maker.take().is_some_and(|maker| self.tenants.keep(maker, &source));
                let _ = self.place.result.set(kept.then_some(Ok(source)));
            }
            Err(error) => self.give_up(Some(error)),
        }
    }

    fn give_up(&mut self, error: Option<Error>) {
        if let Some(maker) = self.maker.take() {
            // Both happen under one lock, so that no caller finds the place free without seeing the result.
            let mut registry = lock(&self.tenants.registry);
            registry.give_up(&maker);
            let _ = self.place.result.set(error.map(Err));
        }
    }

    fn enter(mut self) -> Result<Self, Self> {
        self.inside = self.tenants.gate.enter();
        if self.inside { Ok(self) } else { Err(self) }
    }
}

impl<D: TenantDriver> Drop for Making<D> {
    fn drop(&mut self) {
        let panicked = || Error::configuration("the tenant provider panicked", "mend it; its panic was printed");
        self.give_up(thread::panicking().then(panicked));
        self.place.bell.ring();
        if self.inside {
            self.tenants.gate.leave();
        }
    }
}

impl<D: TenantDriver> fmt::Debug for Making<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Making").field("maker", &self.maker).finish_non_exhaustive()
    }
}
