//! Many sources, one per tenant: made once, bounded, the least recently used out first.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use foldhash::quality::RandomState;
use lru::LruCache;

/// So many places for sources in the making are nothing to worry about.
const FEW: usize = 64;

/// Sources by tenant.
///
/// The lock is held for a look-up and nothing else. A source in the making is kept apart from the ones in use, so that
/// tenants that do not exist push nobody out. `M` is where the callers who want the same source wait for it.
pub struct Registry<S, M> {
    tenants: Mutex<Tenants<S, M>>,
}

struct Tenants<S, M> {
    ready: LruCache<Arc<str>, S, RandomState>,
    making: HashMap<Arc<str>, Weak<M>>,
    /// With this many places those are swept out whose callers have all gone away.
    sweep_at: usize,
}

/// What is there for a tenant.
#[derive(Debug)]
pub enum Entry<S, M> {
    /// A source.
    Ready(S),
    /// The place where one is being made, or is to be made by the first who comes.
    Making(Arc<M>),
}

impl<S: Clone, M: Default> Registry<S, M> {
    /// Room for `capacity` sources.
    #[must_use]
    pub fn new(capacity: NonZeroUsize) -> Self {
        // Grows as it fills: memory is taken for the tenants that there are.
        let mut ready = LruCache::unbounded_with_hasher(RandomState::default());
        ready.resize(capacity);
        Self { tenants: Mutex::new(Tenants { ready, making: HashMap::new(), sweep_at: FEW }) }
    }

    /// The source of `tenant`, which has been used now, if there is one.
    pub fn ready(&self, tenant: &str) -> Option<S> {
        self.lock().ready.get(tenant).cloned()
    }

    /// The source of `tenant`, which has been used now, or the place where it is made.
    pub fn find(&self, tenant: &str) -> Entry<S, M> {
        let mut tenants = self.lock();
        if let Some(source) = tenants.ready.get(tenant) {
            return Entry::Ready(source.clone());
        }
        if let Some(making) = tenants.making.get(tenant).and_then(Weak::upgrade) {
            return Entry::Making(making);
        }
        if tenants.making.len() >= tenants.sweep_at {
            tenants.making.retain(|_, making| making.strong_count() > 0);
            tenants.sweep_at = FEW.max(2 * tenants.making.len());
        }
        let making = Arc::<M>::default();
        tenants.making.insert(tenant.into(), Arc::downgrade(&making));
        Entry::Making(making)
    }

    /// A source was made in `place`, or could not be made; none of the callers who share the place does this twice.
    ///
    /// Gives back whether this was the first report.
    pub fn settle(&self, tenant: &str, place: &Arc<M>, source: Option<S>) -> bool {
        let mut tenants = self.lock();
        let first = tenants.making.get(tenant).is_some_and(|making| std::ptr::eq(making.as_ptr(), Arc::as_ptr(place)));
        if first
            && let Some((tenant, _)) = tenants.making.remove_entry(tenant)
            && let Some(source) = source
        {
            let pushed_out = tenants.ready.push(tenant, source);
            drop(tenants);
            // A source may do more on its way out than should be done under the lock.
            drop(pushed_out);
        }
        first
    }

    /// Forgets a tenant's source, and says whether there was one.
    pub fn forget(&self, tenant: &str) -> bool {
        let mut tenants = self.lock();
        tenants.making.remove(tenant);
        let forgotten = tenants.ready.pop(tenant);
        drop(tenants);
        forgotten.is_some()
    }

    /// How many sources there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().ready.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Tenants<S, M>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S, M> fmt::Debug for Registry<S, M> {
    /// Tenants are the caller's business: their number has to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Registry").field("len", &tenants.ready.len()).field("cap", &tenants.ready.cap()).finish()
    }
}
