//! Renewal in the background: which member of many is next, and whether it is worth it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use alvys_auth_core::Timestamp;

use crate::{Agenda, Next, now};

/// How soon a new member, or one that has just been renewed, is looked at.
const SOON: Duration = Duration::from_secs(1);
/// How soon a member is looked at again that has no token, or that nobody has used.
const LATER: Duration = Duration::from_secs(30);
/// So many members that are gone are nothing to worry about.
const FEW: usize = 64;

/// A source among many, and whether anybody has used it since its last renewal.
#[derive(Debug)]
pub struct Member<S> {
    /// The source.
    pub source: S,
    used: AtomicBool,
}

impl<S> Member<S> {
    /// A source that is used now.
    pub fn new(source: S) -> Self {
        Self { source, used: AtomicBool::new(true) }
    }

    /// Somebody asks for the source.
    pub fn touch(&self) {
        // Read first: a store would take the cache line away from other threads each time.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }
}

/// The members to be renewed, in the order of their times; for a few workers, however many members there are.
///
/// Members that nobody has used since their last renewal are left alone: tokens are billed. Members that are gone drop out
/// when they are due, or before when they are as many as those that are left.
#[derive(Debug)]
pub struct RenewalPlan<S> {
    agenda: Agenda<Weak<Member<S>>>,
    /// With this many members those that are gone are swept out.
    sweep_at: AtomicUsize,
}

impl<S> RenewalPlan<S> {
    /// An empty plan.
    #[must_use]
    pub fn new() -> Self {
        Self { agenda: Agenda::new(), sweep_at: AtomicUsize::new(FEW) }
    }

    /// Adds a member; true when the sleeping workers should be woken.
    pub fn add(&self, member: &Arc<Member<S>>) -> bool {
        if self.agenda.len() >= self.sweep_at.load(Ordering::Relaxed) {
            self.agenda.retain(|member| member.strong_count() > 0);
            self.sweep_at.store(FEW.max(2 * self.agenda.len()), Ordering::Relaxed);
        }
        self.agenda.add(now().saturating_add(SOON), Arc::downgrade(member))
    }

    /// The next member that is worth renewing now, else how long to sleep. `wake_at` tells when a source is due; see
    /// [`Engine::wake_at`](crate::Engine::wake_at). A member that was taken has to be [`put_back`](Self::put_back).
    pub fn next(&self, wake_at: impl Fn(&S) -> Option<Timestamp>) -> Next<Arc<Member<S>>> {
        loop {
            let weak = match self.agenda.next() {
                Next::Due(weak) => weak,
                Next::Idle(wait) => return Next::Idle(wait),
            };
            let Some(member) = weak.upgrade() else { continue };
            let now = now();
            match wake_at(&member.source) {
                Some(at) if at > now => self.agenda.add(at, weak),
                Some(_) if member.used.swap(false, Ordering::Relaxed) => return Next::Due(member),
                _ => self.agenda.add(now.saturating_add(LATER), weak),
            };
        }
    }

    /// Puts a member back, to be looked at when it is due again. One that was not `renewed` counts as used still, so that a
    /// failure does not end its renewals.
    pub fn put_back(&self, member: &Arc<Member<S>>, renewed: bool) {
        if !renewed {
            member.touch();
        }
        self.agenda.add(now().saturating_add(SOON), Arc::downgrade(member));
    }

    /// How many members there are, those included that have gone since they were last looked at.
    #[must_use]
    pub fn len(&self) -> usize {
        self.agenda.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.agenda.is_empty()
    }
}

impl<S> Default for RenewalPlan<S> {
    fn default() -> Self {
        Self::new()
    }
}
