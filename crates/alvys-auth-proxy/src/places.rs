//! A limited number of places that tenants share, so that no tenant takes all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::watch::lock;

/// A tenant, or the caller of a proxy that serves only one.
pub(crate) type Tenant = Option<Arc<str>>;

/// A limited number of places. A tenant may take another place while it holds fewer places than are free.
///
/// So one busy tenant gets half of the places, two get a third each, and the next tenant finds a free place. A proxy
/// that serves only one tenant shares nothing, and that tenant may take all places.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<Mutex<Taken>>);

#[derive(Debug)]
struct Taken {
    most: usize,
    free: usize,
    shared: bool,
    held: HashMap<Tenant, usize>,
}

/// Places that are taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    tenant: Tenant,
    many: usize,
}

impl Places {
    pub(crate) fn new(most: usize, shared: bool) -> Self {
        Self(Arc::new(Mutex::new(Taken { most, free: most, shared, held: HashMap::new() })))
    }

    /// Takes a place for `tenant`, if its share has one.
    pub(crate) fn take(&self, tenant: &Tenant) -> Option<Place> {
        let mut place = Place { places: self.clone(), tenant: tenant.clone(), many: 0 };
        place.grow(1).then_some(place)
    }

    /// Takes no place yet; [`Place::grow`] takes some later.
    pub(crate) fn none(&self, tenant: &Tenant) -> Place {
        Place { places: self.clone(), tenant: tenant.clone(), many: 0 }
    }

    /// Whether the share of `tenant` has a place.
    pub(crate) fn has_room(&self, tenant: &Tenant) -> bool {
        lock(&self.0).has_room(tenant, 1)
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        let taken = lock(&self.0);
        taken.most - taken.free
    }
}

impl Place {
    /// Takes `many` more places. Says whether the share had them.
    pub(crate) fn grow(&mut self, many: usize) -> bool {
        let taken = &mut *lock(&self.places.0);
        if !taken.has_room(&self.tenant, many) {
            return false;
        }
        taken.free -= many;
        *taken.held.entry(self.tenant.clone()).or_default() += many;
        self.many += many;
        true
    }
}

impl Taken {
    fn has_room(&self, tenant: &Tenant, many: usize) -> bool {
        let held = if self.shared { self.held.get(tenant).copied().unwrap_or_default() } else { 0 };
        held + many <= self.free
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let taken = &mut *lock(&self.places.0);
        taken.free += self.many;
        if let Some(held) = taken.held.get_mut(&self.tenant) {
            *held -= self.many;
            if *held == 0 {
                taken.held.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(places: &Places, tenant: &str) -> Vec<Place> {
        let tenant = Some(tenant.into());
        std::iter::from_fn(|| places.take(&tenant)).collect()
    }

    #[test]
    fn whoever_comes_next_finds_a_place() {
        let places = Places::new(256, true);
        let acme = all(&places, "acme");
        let globex = all(&places, "globex");
        let initech = all(&places, "initech");
        assert_eq!((acme.len(), globex.len(), initech.len()), (128, 64, 32));
        drop(acme);
        assert_eq!(all(&places, "globex").len(), 48, "what one gives back is shared again");
        drop((globex, initech));
        assert_eq!((places.taken(), lock(&places.0).held.len()), (0, 0));
    }

    #[test]
    fn the_only_tenant_may_take_all() {
        let places = Places::new(3, false);
        let taken: Vec<_> = std::iter::from_fn(|| places.take(&None)).collect();
        assert_eq!((taken.len(), places.has_room(&None)), (3, false));
        assert!(Places::new(1, true).take(&Some("acme".into())).is_some(), "one place is not shared");
    }
}
