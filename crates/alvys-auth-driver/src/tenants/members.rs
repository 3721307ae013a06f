//! The sources of the tenants, spread over many locks, so that threads that look different tenants up do not meet.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use foldhash::quality::RandomState;

/// So many locks, a power of two.
const SHARDS: usize = 64;

/// Somebody has used the tenant since the last eviction that passed it over.
const USED: u8 = 1;
/// The renewal plan knows that the token was used since its last renewal.
const PLANNED: u8 = 2;
/// The renewal plan knows that somebody has met a token that is due.
const HURRIED: u8 = 4;

/// The source of a tenant, and what was noted about its use.
pub(super) struct Member<S> {
    pub(super) tenant: Arc<str>,
    pub(super) source: S,
    marks: AtomicU8,
}

impl<S> Member<S> {
    /// A member that nobody has used so far. Where tokens are not `renewed` in the background, there is no plan to tell.
    pub(super) fn new(tenant: Arc<str>, source: S, renewed: bool) -> Self {
        Self { tenant, source, marks: AtomicU8::new(if renewed { 0 } else { PLANNED }) }
    }

    /// Whether there is nothing to note about a use.
    pub(super) fn is_marked(&self) -> bool {
        // Read first: a store would take the cache line away from other threads each time.
        self.has(USED | PLANNED)
    }

    pub(super) fn is_hurried(&self) -> bool {
        self.has(HURRIED)
    }

    pub(super) fn mark(&self) {
        self.marks.fetch_or(USED, Ordering::Relaxed);
    }

    /// Whether the tenant was used since this was last asked.
    pub(super) fn take_use(&self) -> bool {
        self.marks.fetch_and(!USED, Ordering::Relaxed) & USED != 0
    }

    /// Notes what the plan knows of the tenant; to be called while the plan is locked.
    pub(super) fn set_planned(&self, planned: bool, hurried: bool) {
        self.marks.fetch_and(!(PLANNED | HURRIED), Ordering::Relaxed);
        let known = if planned { PLANNED } else { 0 } | if hurried { HURRIED } else { 0 };
        self.marks.fetch_or(known, Ordering::Relaxed);
    }

    fn has(&self, marks: u8) -> bool {
        self.marks.load(Ordering::Relaxed) & marks == marks
    }
}

type ByTenant<S> = HashMap<Arc<str>, Arc<Member<S>>, RandomState>;

/// A lock on cache lines of its own.
#[repr(align(128))]
struct Shard<S>(RwLock<ByTenant<S>>);

/// Clones share the members.
pub(super) struct Members<S> {
    hasher: RandomState,
    shards: Arc<[Shard<S>]>,
}

impl<S> Members<S> {
    pub(super) fn new() -> Self {
        let hasher = RandomState::default();
        let shards = (0..SHARDS).map(|_| Shard(RwLock::new(HashMap::with_hasher(hasher.clone()))));
        Self { shards: shards.collect(), hasher }
    }

    pub(super) fn get(&self, tenant: &str) -> Option<Arc<Member<S>>> {
        self.shard(tenant).read().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
    }

    /// Adds a member in place of the tenant that was evicted for it, if one was.
    pub(super) fn replace(&self, evicted: Option<&str>, member: Arc<Member<S>>) {
        if let Some(evicted) = evicted {
            self.remove(evicted);
        }
        let mut shard = self.shard(&member.tenant).write().unwrap_or_else(PoisonError::into_inner);
        shard.insert(Arc::clone(&member.tenant), member);
    }

    pub(super) fn remove(&self, tenant: &str) {
        self.shard(tenant).write().unwrap_or_else(PoisonError::into_inner).remove(tenant);
    }

    fn shard(&self, tenant: &str) -> &RwLock<ByTenant<S>> {
        // Other bits than those that a map takes its places from.
        let number = (self.hasher.hash_one(tenant) >> 32) as usize % SHARDS;
        &self.shards[number].0
    }
}

impl<S> Clone for Members<S> {
    fn clone(&self) -> Self {
        Self { hasher: self.hasher.clone(), shards: Arc::clone(&self.shards) }
    }
}

/// What is behind a lock stays whole when a thread panics.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
