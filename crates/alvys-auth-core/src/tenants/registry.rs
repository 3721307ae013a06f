//! The token sources of many tenants: each is made once, and a limited number of them is kept.
//!
//! ```text
//!                 find                    asks                      made
//!   ┌─────────┐ ───────▶ ┌─────────────┐ ───────▶ ┌──────────────┐ ───────▶ ┌──────┐
//!   │ Nothing │          │ In the      │          │ The provider │          │ Kept │
//!   │         │ ◀─────── │ making      │          │ is asked     │          │      │
//!   └─────────┘ gives up └─────────────┘          └──────────────┘          └──────┘
//!        ▲                 ▲         │                   │                      │
//!        │                 └─────────┘                   │ gives up             │ forget,
//!        │         find after the maker's time:          │                      │ evicted
//!        │         the caller becomes the maker          │                      │
//!        └───────────────────────────────────────────────┴──────────────────────┘
//! ```
//!
//! `made` leads to Kept from both states in the middle, and `forget` out of both.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::Timestamp;

/// The sources `S` of many tenants. Callers who want a source that somebody else is making wait at a `W`.
///
/// Sources that are being made are kept apart and take no place, so requests for tenants that do not exist evict
/// nobody. When all places are taken, the source that was kept longest is evicted, but a source that was used since its
/// last turn is passed over once. An evicted or forgotten source is handed back, so that the driver drops it after it
/// has released its lock.
///
/// ```
/// use std::num::NonZeroUsize;
///
/// use alvys_auth_core::{Found, Registry, Timestamp};
///
/// let mut registry = Registry::<&str, ()>::new(NonZeroUsize::MIN);
/// let now = Timestamp::from_millis(0);
/// let until = Timestamp::from_millis(10_000);
///
/// // The first caller makes the source, the others wait for it.
/// let Found::Make(maker, ()) = registry.find("va336", now, until, || ()) else { unreachable!() };
/// assert!(matches!(registry.find("va336", now, until, || ()), Found::Wait((), _)));
///
/// let evicted = registry.made(maker, "a source", |_| false).expect("nobody has taken over");
/// assert!(evicted.is_none());
/// assert!(matches!(registry.find("va336", now, until, || ()), Found::Ready("a source")));
/// ```
pub struct Registry<S, W> {
    capacity: NonZeroUsize,
    kept: BTreeMap<Arc<str>, Kept<S>>,
    /// The tenants in the order of eviction, each with its turn. A turn that no tenant has any more belongs to a
    /// forgotten one.
    order: VecDeque<(u64, Arc<str>)>,
    making: BTreeMap<Arc<str>, Making<W>>,
    numbers: u64,
}

struct Kept<S> {
    source: S,
    /// The turn in the order of eviction. It distinguishes this source from an earlier source of the same tenant.
    turn: u64,
}

struct Making<W> {
    number: u64,
    until: Timestamp,
    /// Whether the question to the provider blocks a thread and cannot be interrupted.
    blocks: bool,
    waiting: W,
}

/// What the registry has for a tenant.
#[derive(Debug)]
#[must_use = "a caller who does not make the source leaves the others waiting"]
pub enum Found<S, W> {
    /// Its source.
    Ready(S),
    /// Nothing yet. Make the source, call [`Registry::made`] or [`Registry::give_up`], and wake the callers that wait.
    Make(Maker, W),
    /// Another caller is making the source. Wait at this place, until this time at the latest, and look again.
    Wait(W, Timestamp),
    /// The provider was asked before, is late, and cannot be interrupted. Do not wait, and do not ask it again.
    Late,
}

/// The right to make the source of a tenant, and the duty to report the result.
#[derive(Debug)]
#[must_use = "callers wait for this maker: report what became of the source"]
pub struct Maker {
    tenant: Arc<str>,
    number: u64,
}

impl Maker {
    /// The tenant whose source must be made.
    pub fn tenant(&self) -> &Arc<str> {
        &self.tenant
    }
}

impl<S: Clone, W: Clone> Registry<S, W> {
    /// Keeps at most `capacity` sources.
    pub fn new(capacity: NonZeroUsize) -> Self {
        let (kept, order, making) = (BTreeMap::new(), VecDeque::new(), BTreeMap::new());
        Self { capacity, kept, order, making, numbers: 0 }
    }

    /// The source of `tenant`, or what to do to get it. A caller who must make the source has time until `until`; after
    /// that, the next caller makes it. Callers that come in between wait at `waiting`.
    pub fn find(&mut self, tenant: &str, now: Timestamp, until: Timestamp, waiting: impl FnOnce() -> W) -> Found<S, W> {
        if let Some(kept) = self.kept.get(tenant) {
            return Found::Ready(kept.source.clone());
        }
        match self.making.get(tenant) {
            Some(making) if now < making.until => return Found::Wait(making.waiting.clone(), making.until),
            Some(making) if making.blocks => return Found::Late,
            _ => {}
        }
        let maker = Maker { tenant: tenant.into(), number: self.number() };
        let waiting = waiting();
        let making = Making { number: maker.number, until, blocks: false, waiting: waiting.clone() };
        self.making.insert(Arc::clone(&maker.tenant), making);
        Found::Make(maker, waiting)
    }

    /// Says that `maker` asks the provider now, and expects the answer by `until`. Returns false when another caller
    /// has become the maker, or the tenant was forgotten; the provider must not be asked then.
    ///
    /// A provider that `blocks` cannot be interrupted. No other caller takes over then, however late the answer is,
    /// because each further question would block another thread.
    #[must_use = "a maker whose place was taken must not ask"]
    pub fn asks(&mut self, maker: &Maker, until: Timestamp, blocks: bool) -> bool {
        let making = self.making.get_mut(&maker.tenant).filter(|making| making.number == maker.number);
        making.map(|making| (making.blocks, making.until) = (blocks, until)).is_some()
    }

    /// Keeps the source that `maker` has made, and hands back the tenant that was evicted for it, if any. `used`
    /// returns and clears a source's mark of use: whether the source was used since the last such question.
    ///
    /// # Errors
    /// The source, when another caller has become the maker or the tenant was forgotten meanwhile. The caller must look
    /// again then.
    pub fn made(&mut self, maker: Maker, source: S, used: impl Fn(&S) -> bool) -> Result<Option<(Arc<str>, S)>, S> {
        if !self.give_up(&maker) {
            return Err(source);
        }
        let evicted = if self.kept.len() < self.capacity.get() { None } else { self.evict(used) };
        let turn = self.number();
        self.order.push_back((turn, Arc::clone(&maker.tenant)));
        self.kept.insert(maker.tenant, Kept { source, turn });
        if self.order.len() > 2 * self.kept.len() {
            self.order.retain(|(turn, tenant)| self.kept.get(tenant).is_some_and(|kept| kept.turn == *turn));
        }
        Ok(evicted)
    }

    /// Says that `maker` makes no source. The next caller becomes the maker. Returns false when another caller had
    /// become the maker before.
    pub fn give_up(&mut self, maker: &Maker) -> bool {
        let own = self.making.get(&maker.tenant).is_some_and(|making| making.number == maker.number);
        if own {
            self.making.remove(&maker.tenant);
        }
        own
    }

    /// Forgets a tenant, and hands back its source, if there was one. A source that is being made will not be kept.
    pub fn forget(&mut self, tenant: &str) -> Option<S> {
        self.making.remove(tenant);
        self.kept.remove(tenant).map(|kept| kept.source)
    }

    /// How many sources are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether no source is kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Removes the first tenant in the order that was not used since its last turn. The used tenants before it go to
    /// the end.
    fn evict(&mut self, used: impl Fn(&S) -> bool) -> Option<(Arc<str>, S)> {
        // Each tenant is passed over only once, because other threads may mark sources as used at the same time.
        let mut chances = self.order.len();
        while let Some((turn, tenant)) = self.order.pop_front() {
            let Some(kept) = self.kept.get(&tenant).filter(|kept| kept.turn == turn) else { continue };
            if chances > 0 && used(&kept.source) {
                chances -= 1;
                self.order.push_back((turn, tenant));
            } else {
                return self.kept.remove_entry(&tenant).map(|(tenant, kept)| (tenant, kept.source));
            }
        }
        None
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

impl<S, W> fmt::Debug for Registry<S, W> {
    /// Shows the number of tenants and not their names, because they are the user's customers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { capacity, kept, making, .. } = self;
        let counts = [("capacity", capacity.get()), ("kept", kept.len()), ("making", making.len())];
        counts.iter().fold(&mut f.debug_struct("Registry"), |debug, (name, count)| debug.field(name, count)).finish()
    }
}
