//! The workers that renew tokens in the background, by the core's [`RenewalPlan`].

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, Weak};

use alvys_auth_core::{Due, Renewal, RenewalPlan};

use super::members::{Member, Members, lock};
use crate::{Action, Bell, Engine, Time};

/// The state that workers share.
pub(super) struct Renewals<S> {
    plan: Mutex<Plan>,
    members: Members<S>,
    time: Time,
    bell: Bell,
}

#[derive(Default)]
struct Plan {
    plan: RenewalPlan,
    /// How many workers there are.
    workers: usize,
}

impl<S: Deref<Target = Engine>> Renewals<S> {
    pub(super) fn new(members: Members<S>, time: &Time) -> Self {
        Self { plan: Mutex::default(), members, time: time.clone(), bell: time.bell() }
    }

    /// Notes that the token of a tenant is used.
    pub(super) fn used(&self, member: &Member<S>) {
        // A tenant without a token is added to the plan when it gets one.
        let Some(due) = member.source.renewal_due() else { return };
        let mut plan = lock(&self.plan);
        let wake = plan.plan.used(&member.tenant, due);
        member.set_planned(true, member.is_hurried());
        drop(plan);
        self.wake(wake);
    }

    /// Notes that a caller found a token due for renewal.
    pub(super) fn hurry(&self, member: &Member<S>) {
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

    fn done(&self, member: &Member<S>, renewal: Renewal, renewed: bool) {
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

    /// Makes the workers that are missing from `workers`: at first all of them, later the ones whose runtime has ended.
    pub(super) fn missing(self: &Arc<Self>, workers: usize) -> impl Iterator<Item = Worker<S>> {
        let mut plan = lock(&self.plan);
        let missing = workers.saturating_sub(plan.workers);
        plan.workers += missing;
        drop(plan);
        (0..missing).map(|_| Worker { renewals: Arc::downgrade(self), bell: self.bell.clone() })
    }
}

impl<S> Drop for Renewals<S> {
    /// Wakes the workers, so that they see that the tenants are gone and end.
    fn drop(&mut self) {
        self.bell.ring();
    }
}

/// A worker that renews tokens in the background. It does what [`next`](Self::next) says, until the tenants are gone.
pub struct Worker<S> {
    renewals: Weak<Renewals<S>>,
    bell: Bell,
}

impl<S: Deref<Target = Engine>> Worker<S> {
    /// What to do next: renew the token of a source, or wait. It is over when the tenants are gone.
    pub fn next(&self) -> Action<(), Renewing<S>> {
        // Listens before it looks at the plan, so that no change between the two is missed.
        let change = self.bell.listen();
        let Some(renewals) = self.renewals.upgrade() else { return Action::Over(Ok(())) };
        loop {
            let mut plan = lock(&renewals.plan);
            let now = renewals.time.now();
            let renewal = match plan.plan.due(now) {
                Due::Renew(renewal) => renewal,
                Due::Sleep(until) => {
                    return Action::Wait(change, self.bell.timer(until.saturating_duration_since(now)));
                }
            };
            let Some(member) = renewals.members.get(renewal.tenant()) else {
                plan.plan.done(renewal, true, None, now);
                continue;
            };
            member.set_planned(false, false);
            drop(plan);
            if member.source.renewal_due().is_some_and(|due| due <= now) {
                return Action::Do(Renewing { renewals: self.renewals.clone(), member, renewal: Some(renewal) });
            }
            // A caller has renewed it, or there is nothing left to renew.
            renewals.done(&member, renewal, false);
        }
    }
}

impl<S> Drop for Worker<S> {
    fn drop(&mut self) {
        if let Some(renewals) = self.renewals.upgrade() {
            lock(&renewals.plan).workers -= 1;
        }
    }
}

impl<S> fmt::Debug for Worker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Worker")
    }
}

/// A renewal that a worker carries out. When it is dropped, the plan learns how the renewal went.
#[must_use = "the tenant is not renewed again before this is dropped"]
pub struct Renewing<S: Deref<Target = Engine>> {
    renewals: Weak<Renewals<S>>,
    member: Arc<Member<S>>,
    renewal: Option<Renewal>,
}

impl<S: Deref<Target = Engine>> Renewing<S> {
    /// The source whose token is due.
    pub fn source(&self) -> &S {
        &self.member.source
    }
}

impl<S: Deref<Target = Engine>> Drop for Renewing<S> {
    fn drop(&mut self) {
        if let (Some(renewals), Some(renewal)) = (self.renewals.upgrade(), self.renewal.take()) {
            let renewed = self.member.source.status().last_error.is_none();
            renewals.done(&self.member, renewal, renewed);
        }
    }
}

impl<S: Deref<Target = Engine>> fmt::Debug for Renewing<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewing").field("renewal", &self.renewal).finish_non_exhaustive()
    }
}
