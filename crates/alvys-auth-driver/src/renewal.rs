//! Renewal in the background: which member of many is next, and whether it is worth it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use alvys_auth_core::Timestamp;

use crate::{Agenda, Next, Time};

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
    /// Which of its entries in the plan counts.
    entry: AtomicU64,
    /// Whether that one is due because somebody has met it.
    hurried: AtomicBool,
}

impl<S> Member<S> {
    /// A source that is used now.
    pub fn new(source: S) -> Self {
        Self { source, used: AtomicBool::new(true), entry: AtomicU64::new(0), hurried: AtomicBool::new(false) }
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
pub struct RenewalPlan<S> {
    agenda: Agenda<Entry<S>>,
    /// With this many members those that are gone are swept out.
    sweep_at: AtomicUsize,
    wake: Box<dyn Fn() + Send + Sync>,
}

struct Entry<S> {
    member: Weak<Member<S>>,
    number: u64,
}

impl<S> Entry<S> {
    /// The member, unless it is gone or has another entry by now.
    fn member(&self) -> Option<Arc<Member<S>>> {
        self.member.upgrade().filter(|member| member.entry.load(Ordering::Relaxed) == self.number)
    }
}

impl<S> RenewalPlan<S> {
    /// An empty plan. `wake` wakes the sleeping workers, because something is due earlier than they know.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self { agenda: Agenda::new(), sweep_at: AtomicUsize::new(FEW), wake: Box::new(wake) }
    }

    /// Adds a member.
    pub fn add(&self, member: &Arc<Member<S>>) {
        if self.agenda.len() >= self.sweep_at.load(Ordering::Relaxed) {
            self.agenda.retain(|entry| entry.member().is_some());
            self.sweep_at.store(FEW.max(2 * self.agenda.len()), Ordering::Relaxed);
        }
        self.look_at(Time::boot().now().saturating_add(SOON), member);
    }

    /// Somebody asks for a member that is due: it goes before all that nobody has asked for, however many more ask.
    pub fn hurry(&self, member: &Arc<Member<S>>) {
        member.touch();
        if !member.hurried.swap(true, Ordering::Relaxed) {
            self.look_at(Timestamp::default(), member);
        }
    }

    /// The next member that is worth renewing now, else how long to sleep. `wake_at` tells when a source is due; see
    /// [`Engine::wake_at`](crate::Engine::wake_at). A member that was taken has to be [`put_back`](Self::put_back).
    pub fn next(&self, wake_at: impl Fn(&S) -> Option<Timestamp>) -> Next<Arc<Member<S>>> {
        loop {
            let entry = match self.agenda.next() {
                Next::Due(entry) => entry,
                Next::Idle(wait) => return Next::Idle(wait),
            };
            let Some(member) = entry.member() else { continue };
            let now = Time::boot().now();
            let due = match wake_at(&member.source) {
                Some(at) if at > now => Err(at),
                Some(_) if member.used.swap(false, Ordering::Relaxed) => Ok(()),
                _ => Err(now.saturating_add(LATER)),
            };
            if let Err(at) = due {
                self.look_at(at, &member);
            }
            // Last, so that whoever has hurried in vain meanwhile can do so again.
            member.hurried.store(false, Ordering::Relaxed);
            if due.is_ok() {
                return Next::Due(member);
            }
        }
    }

    /// Puts a member back, to be looked at when it is due again. One that was not `renewed` counts as used still, so that a
    /// failure does not end its renewals.
    pub fn put_back(&self, member: &Arc<Member<S>>, renewed: bool) {
        if !renewed {
            member.touch();
        }
        self.look_at(Time::boot().now().saturating_add(SOON), member);
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

    /// In place of any other time at which it was to be looked at.
    fn look_at(&self, at: Timestamp, member: &Arc<Member<S>>) {
        let number = member.entry.fetch_add(1, Ordering::Relaxed) + 1;
        if self.agenda.add(at, Entry { member: Arc::downgrade(member), number }) {
            (self.wake)();
        }
    }
}

impl<S> fmt::Debug for RenewalPlan<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RenewalPlan").field("len", &self.len()).finish()
    }
}
