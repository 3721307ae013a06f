//! The sources of the tenants, spread over many locks, so that threads that look up different tenants rarely wait for
//! each other.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use foldhash::quality::RandomState;

/// The number of locks; a power of two.
const SHARDS: usize = 64;

/// The tenant was used since an eviction last passed it over.
const USED: u8 = 1;
/// The renewal plan knows that the token was used since its last renewal.
const PLANNED: u8 = 2;
/// The renewal plan knows that a caller found the token due for renewal.
const HURRIED: u8 = 4;

/// The source of a tenant, and the marks of its use.
pub(super) struct Member<S> {
    pub(super) tenant: Arc<str>,
    pub(super) source: S,
    marks: AtomicU8,
}

impl<S> Member<S> {
    /// A member that was not used yet. `renewed` says that tokens are renewed in the background; otherwise there is no
    /// renewal plan that must learn of its use.
    pub(super) fn new(tenant: Arc<str>, source: S, renewed: bool) -> Self {
        Self { tenant, source, marks: AtomicU8::new(if renewed { 0 } else { PLANNED }) }
    }

    /// Whether all marks of a use are set already.
    pub(super) fn is_marked(&self) -> bool {
        // The marks are only read here: writing them at each use would take the cache line away from other threads.
        self.has(USED | PLANNED)
    }

    pub(super) fn is_hurried(&self) -> bool {
        self.has(HURRIED)
    }

    pub(super) fn mark(&self) {
        self.marks.fetch_or(USED, Ordering::Relaxed);
    }

    /// Whether the tenant was used since the last call of this method.
    pub(super) fn take_use(&self) -> bool {
        self.marks.fetch_and(!USED, Ordering::Relaxed) & USED != 0
    }

    /// Notes what the plan knows of the tenant. Call this while the plan is locked.
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
        // The shard is taken from other bits of the hash than those that the map itself uses.
        let number = (self.hasher.hash_one(tenant) >> 32) as usize % SHARDS;
        &self.shards[number].0
    }
}

impl<S> Clone for Members<S> {
    fn clone(&self) -> Self {
        Self { hasher: self.hasher.clone(), shards: Arc::clone(&self.shards) }
    }
}

/// Locks, even after a panic of another thread: the state behind the lock stays consistent.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
