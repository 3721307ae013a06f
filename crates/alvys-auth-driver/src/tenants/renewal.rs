//! The workers that renew tokens in the background, by the core's [`RenewalPlan`].

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use alvys_auth_core::{Due, Renewal, RenewalPlan};
use event_listener::EventListener;

use super::members::Member;
use super::{Inner, TenantDriver, lock};
use crate::{Bell, Engine, Time};

/// What workers share.
pub(super) struct Renewals {
    plan: Mutex<Plan>,
    bell: Bell,
}

#[derive(Default)]
struct Plan {
    plan: RenewalPlan,
    /// How many workers there are.
    workers: usize,
}

impl Renewals {
    pub(super) fn new(time: &Time) -> Self {
        Self { plan: Mutex::default(), bell: time.bell() }
    }

    /// Somebody uses the token of a tenant.
    pub(super) fn used<S: Deref<Target = Engine>>(&self, member: &Member<S>) {
        // A tenant without a token is reported when it gets one.
        let Some(due) = member.source.renewal_due() else { return };
        let mut plan = lock(&self.plan);
        let wake = plan.plan.used(&member.tenant, due);
        member.set_planned(true, member.is_hurried());
        drop(plan);
        self.wake(wake);
    }

    /// Somebody has met a token that is due.
    fn hurry<S>(&self, member: &Member<S>) {
        if member.is_hurried() {
            return;
        }
        member.mark();
        let mut plan = lock(&self.plan);
        let wake = plan.plan.hurry(&member.tenant);
        member.set_planned(true, true);
        drop(plan);
        self.wake(wake);
    }

    pub(super) fn forget(&self, tenant: &Arc<str>) {
        lock(&self.plan).plan.forget(tenant);
    }

    fn done<S: Deref<Target = Engine>>(&self, member: &Member<S>, renewal: Renewal, renewed: bool) {
        let (due, now) = (member.source.renewal_due(), member.source.time().now());
        let mut plan = lock(&self.plan);
        let wake = plan.plan.done(renewal, renewed, due, now);
        member.set_planned(plan.plan.knows(&member.tenant), false);
        drop(plan);
        self.wake(wake);
    }

    fn wake(&self, wake: bool) {
        if wake {
            self.bell.ring();
        }
    }
}

impl<D: TenantDriver> Inner<D> {
    /// From now on a caller who meets a token that is due leaves its renewal to the workers.
    pub(super) fn leave_renewals_to_workers(self: &Arc<Self>, member: &Arc<Member<D::Source>>) {
        let (tenants, planned) = (Arc::downgrade(self), Arc::downgrade(member));
        // Once its tenant was forgotten or evicted, a source is on its own.
        member.source.leave_renewals_to(move || match (tenants.upgrade(), planned.upgrade()) {
            (Some(tenants), Some(member)) => {
                tenants.renewals.hurry(&member);
                true
            }
            _ => false,
        });
    }

    /// Starts the workers that are wanted and not there: all of them at first, and those whose runtime has ended.
    pub(super) fn start_workers(self: &Arc<Self>) {
        let mut plan = lock(&self.renewals.plan);
        let missing = self.settings.workers.saturating_sub(plan.workers);
        plan.workers += missing;
        drop(plan);
        for _ in 0..missing {
            D::start(Worker { tenants: Arc::downgrade(self), bell: self.renewals.bell.clone() });
        }
    }
}

impl<D: TenantDriver> Drop for Inner<D> {
    /// Lets the workers see that there is nothing left to do.
    fn drop(&mut self) {
        self.renewals.bell.ring();
    }
}

/// A worker: does what [`next`](Self::next) says, until the tenants are gone.
pub struct Worker<D: TenantDriver> {
    tenants: Weak<Inner<D>>,
    bell: Bell,
}

/// What a worker does next.
#[derive(Debug)]
pub enum Work<D: TenantDriver> {
    /// Renews the token of this source, and drops this when that is over.
    Renew(Renewing<D>),
    /// Sleeps until this event, but no longer than this on the system's timers.
    Sleep(EventListener, Duration),
}

impl<D: TenantDriver> Worker<D> {
    /// What to do next; none when the tenants are gone.
    pub fn next(&self) -> Option<Work<D>> {
        // Begun before the look, so that no change falls between the two.
        let change = self.bell.listen();
        let tenants = self.tenants.upgrade()?;
        let time = &tenants.settings.time;
        loop {
            let mut plan = lock(&tenants.renewals.plan);
            let now = time.now();
            let renewal = match plan.plan.due(now) {
                Due::Renew(renewal) => renewal,
                Due::Sleep(until) => {
                    return Some(Work::Sleep(change, self.bell.timer(until.saturating_duration_since(now))));
                }
            };
            let Some(member) = tenants.members.get(renewal.tenant()) else {
                plan.plan.done(renewal, true, None, now);
                continue;
            };
            member.set_planned(false, false);
            drop(plan);
            if member.source.renewal_due().is_some_and(|due| due <= now) {
                return Some(Work::Renew(Renewing { tenants: self.tenants.clone(), member, renewal: Some(renewal) }));
            }
            // A caller has renewed it, or there is nothing left to renew.
            tenants.renewals.done(&member, renewal, false);
        }
    }
}

impl<D: TenantDriver> Drop for Worker<D> {
    fn drop(&mut self) {
        if let Some(tenants) = self.tenants.upgrade() {
            lock(&tenants.renewals.plan).workers -= 1;
        }
    }
}

impl<D: TenantDriver> fmt::Debug for Worker<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Worker")
    }
}

/// A renewal that a worker carries out. Dropping it reports how the renewal went.
#[must_use = "the tenant is not renewed again before this is dropped"]
pub struct Renewing<D: TenantDriver> {
    tenants: Weak<Inner<D>>,
    member: Arc<Member<D::Source>>,
    renewal: Option<Renewal>,
}

impl<D: TenantDriver> Renewing<D> {
    /// The source whose token is due.
    #[must_use]
    pub fn source(&self) -> &D::Source {
        &self.member.source
    }
}

impl<D: TenantDriver> Drop for Renewing<D> {
    fn drop(&mut self) {
        if let (Some(tenants), Some(renewal)) = (self.tenants.upgrade(), self.renewal.take()) {
            let renewed = self.member.source.status().last_error.is_none();
            tenants.renewals.done(&self.member, renewal, renewed);
        }
    }
}

impl<D: TenantDriver> fmt::Debug for Renewing<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewing").field("renewal", &self.renewal).finish_non_exhaustive()
    }
}
