//! Renewal in the background: which tenant's token is renewed next, and when.
//!
//! ```text
//!              used, hurry                     due
//!   ┌─────────┐ ────────▶ ┌─────────┐ ───────────────────▶ ┌──────────┐
//!   │ Outside │           │ Planned │                      │ Renewing │
//!   └─────────┘           └─────────┘ ◀─────────────────── └──────────┘
//!        ▲                             done: it failed, or      │
//!        │                             somebody used the token  │
//!        └──────────────────────────────────────────────────────┘
//!              done: nobody has used the token since, or there is none
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Timestamp;

/// The shortest time between two renewals of a tenant, so that a tenant that always fails does not keep a worker busy.
const SOON: Duration = Duration::from_secs(1);
/// The longest sleep of a worker. It is short because the timers of some systems stand still while the machine sleeps.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// The tenants whose tokens a few workers renew, however many tenants there are.
///
/// The plan has only the tenants whose token was used since its last renewal, because tokens are billed. All other
/// tenants, and tenants without a token, stay outside the plan until they are used, and cost nothing there.
///
/// **The contract:** report each use of a token with [`used`](Self::used), which a driver may skip for a tenant that it
/// knows to be planned; ask [`due`](Self::due) from each worker; report each renewal with [`done`](Self::done).
///
/// ```
/// use std::sync::Arc;
///
/// use alvys_auth_core::{Due, RenewalPlan, Timestamp};
///
/// let mut plan = RenewalPlan::new();
/// let [now, soon, later] = [0, 10_000, 20_000].map(Timestamp::from_millis);
/// let tenant: Arc<str> = Arc::from("va336");
/// plan.used(&tenant, soon);
/// assert!(matches!(plan.due(now), Due::Sleep(until) if until == soon));
///
/// let Due::Renew(renewal) = plan.due(soon) else { unreachable!() };
/// assert_eq!(renewal.tenant(), &tenant);
/// // Renewed, and not used since: the tenant leaves the plan.
/// plan.done(renewal, true, Some(later), soon);
/// assert!(plan.is_empty());
/// ```
#[derive(Default)]
pub struct RenewalPlan {
    tenants: BTreeMap<Arc<str>, State>,
    times: BTreeSet<(Timestamp, Arc<str>)>,
    begun: u64,
}

enum State {
    Planned(Timestamp),
    Renewing { number: u64, used: bool },
}

/// What a worker does next.
#[derive(Debug)]
pub enum Due {
    /// Renew this tenant's token.
    Renew(Renewal),
    /// Sleep until then, or until the plan says that workers must be woken.
    Sleep(Timestamp),
}

/// A tenant whose token is being renewed; to be handed to [`RenewalPlan::done`].
#[derive(Debug)]
#[must_use = "the tenant is not renewed again before this is handed to RenewalPlan::done"]
pub struct Renewal {
    tenant: Arc<str>,
    number: u64,
}

impl Renewal {
    /// The tenant whose token is renewed.
    pub fn tenant(&self) -> &Arc<str> {
        &self.tenant
    }
}

impl RenewalPlan {
    /// A plan without tenants.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that the token of `tenant` was used, and that its renewal is due at `at`. Returns whether to wake sleeping
    /// workers.
    pub fn used(&mut self, tenant: &Arc<str>, at: Timestamp) -> bool {
        match self.tenants.get_mut(tenant) {
            None => self.plan(tenant, at),
            Some(State::Planned(_)) => false,
            Some(State::Renewing { used, .. }) => {
                *used = true;
                false
            }
        }
    }

    /// Notes that a caller used the token of `tenant` although its renewal is due. The tenant is renewed before all
    /// tenants for which no caller has come. Returns whether to wake sleeping workers.
    pub fn hurry(&mut self, tenant: &Arc<str>) -> bool {
        let now_or_before = Timestamp::default();
        match self.tenants.get(tenant) {
            Some(State::Planned(at)) if *at > now_or_before => {
                self.times.remove(&(*at, Arc::clone(tenant)));
                self.plan(tenant, now_or_before)
            }
            _ => self.used(tenant, now_or_before),
        }
    }

    /// What a worker does at `now`.
    pub fn due(&mut self, now: Timestamp) -> Due {
        let longest = now.saturating_add(LONGEST_SLEEP);
        match self.times.first() {
            Some((at, _)) if *at > now => return Due::Sleep(longest.min(*at)),
            _ => {}
        }
        let Some((_, tenant)) = self.times.pop_first() else { return Due::Sleep(longest) };
        self.begun += 1;
        let renewal = Renewal { tenant: Arc::clone(&tenant), number: self.begun };
        self.tenants.insert(tenant, State::Renewing { number: renewal.number, used: false });
        Due::Renew(renewal)
    }

    /// Ends a renewal. The token is due again at `at`; none when the tenant has no token. Returns whether to wake
    /// sleeping workers.
    ///
    /// If the token was not `renewed`, the tenant still counts as used, so that a failure does not end its renewals.
    pub fn done(&mut self, renewal: Renewal, renewed: bool, at: Option<Timestamp>, now: Timestamp) -> bool {
        let used = match self.tenants.get(&renewal.tenant) {
            Some(State::Renewing { number, used }) if *number == renewal.number => *used || !renewed,
            // The tenant was forgotten meanwhile.
            _ => return false,
        };
        self.tenants.remove(&renewal.tenant);
        match at {
            Some(at) if used => self.plan(&renewal.tenant, at.max(now.saturating_add(SOON))),
            _ => false,
        }
    }

    /// Takes a tenant out of the plan, because it was forgotten or evicted.
    pub fn forget(&mut self, tenant: &Arc<str>) {
        if let Some(State::Planned(at)) = self.tenants.remove(tenant) {
            self.times.remove(&(at, Arc::clone(tenant)));
        }
    }

    /// Whether the plan knows that the token of `tenant` was used since its last renewal, so that further uses need not be
    /// reported.
    pub fn knows(&self, tenant: &str) -> bool {
        !matches!(self.tenants.get(tenant), None | Some(State::Renewing { used: false, .. }))
    }

    /// How many tenants are in the plan.
    pub fn len(&self) -> usize {
        self.tenants.len()
    }

    /// Whether no tenant is in the plan.
    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    /// Adds a tenant, and returns whether it is the first one in the plan.
    fn plan(&mut self, tenant: &Arc<str>, at: Timestamp) -> bool {
        self.tenants.insert(Arc::clone(tenant), State::Planned(at));
        let entry = (at, Arc::clone(tenant));
        let first = self.times.first().is_none_or(|first| entry < *first);
        self.times.insert(entry);
        first
    }
}

impl fmt::Debug for RenewalPlan {
    /// Shows the number of tenants and not their names, because they are the user's customers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RenewalPlan").field("tenants", &self.tenants.len()).finish_non_exhaustive()
    }
}
