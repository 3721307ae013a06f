//! The registry of sources: made once, bounded, the least recently used out first.
#![expect(clippy::unwrap_used, reason = "a set-up that fails is a test that fails")]

use std::num::NonZeroUsize;
use std::sync::{Arc, Weak, mpsc};
use std::thread;
use std::time::Duration;

use alvys_auth_driver::{Entry, Registry};

type Sources = Registry<u32, ()>;

fn room_for(sources: usize) -> Sources {
    Registry::new(NonZeroUsize::new(sources).unwrap())
}

fn place<S: Clone>(registry: &Registry<S, ()>, tenant: &str) -> Arc<()> {
    match registry.find(tenant) {
        Entry::Making(place) => place,
        Entry::Ready(_) => panic!("{tenant} is there"),
    }
}

fn make<S: Clone>(registry: &Registry<S, ()>, tenant: &str, source: S) {
    assert!(registry.settle(tenant, &place(registry, tenant), Some(source)));
}

#[test]
fn callers_share_the_place_and_the_first_one_settles_it() {
    let registry = room_for(10);
    let (one, other) = (place(&registry, "a"), place(&registry, "a"));
    assert!(Arc::ptr_eq(&one, &other));
    assert!(!Arc::ptr_eq(&one, &place(&registry, "b")), "another tenant has another place");
    assert!(registry.is_empty() && registry.ready("a").is_none());
    assert!(registry.settle("a", &one, Some(1)));
    assert!(!registry.settle("a", &other, Some(2)), "it is settled");
    assert!(matches!(registry.find("a"), Entry::Ready(1)));
    assert_eq!((registry.ready("a"), registry.ready("b"), registry.len()), (Some(1), None, 1));
}

#[test]
fn what_could_not_be_made_is_made_anew_by_the_next() {
    let registry = room_for(10);
    let failed = place(&registry, "a");
    assert!(registry.settle("a", &failed, None));
    let next = place(&registry, "a");
    assert!(!Arc::ptr_eq(&failed, &next));
    assert!(
        !registry.settle("a", &failed, Some(1)),
        "a late report about the old place says nothing about the new one"
    );
    assert!(registry.settle("a", &next, Some(2)));
    assert_eq!(registry.ready("a"), Some(2));
}

#[test]
fn a_place_that_everybody_has_left_is_replaced() {
    let registry = room_for(10);
    let left = Arc::downgrade(&place(&registry, "a"));
    assert!(left.upgrade().is_none(), "the registry keeps no place for nobody");
    make(&registry, "a", 1);
    assert_eq!(registry.ready("a"), Some(1));
}

#[test]
fn places_that_are_waited_at_survive_any_number_of_others() {
    let registry = room_for(10);
    let waited_at: Vec<_> = (0..200).map(|number| (number, place(&registry, &format!("real {number}")))).collect();
    for number in 0..1_000 {
        drop(place(&registry, &format!("unknown {number}")));
    }
    for (number, place) in waited_at {
        assert!(registry.settle(&format!("real {number}"), &place, Some(number)), "{number}");
    }
}

#[test]
fn the_least_recently_used_source_is_pushed_out() {
    let registry = room_for(3);
    for (source, tenant) in (1..).zip(["a", "b", "c"]) {
        make(&registry, tenant, source);
    }
    assert_eq!(registry.ready("a"), Some(1));
    assert!(matches!(registry.find("b"), Entry::Ready(2)));
    make(&registry, "d", 4);
    assert_eq!(registry.ready("c"), None);
    make(&registry, "e", 5);
    assert_eq!((registry.ready("a"), registry.len()), (None, 3));
    assert_eq!((registry.ready("b"), registry.ready("d"), registry.ready("e")), (Some(2), Some(4), Some(5)));
}

#[test]
fn places_push_nobody_out() {
    let registry = room_for(1);
    make(&registry, "a", 1);
    for number in 0..100 {
        assert!(registry.settle(&number.to_string(), &place(&registry, &number.to_string()), None));
    }
    assert_eq!(registry.ready("a"), Some(1));
}

#[test]
fn a_forgotten_source_is_gone_and_one_in_the_making_never_arrives() {
    let registry = room_for(10);
    assert!(!registry.forget("a"));
    make(&registry, "a", 1);
    assert!(registry.forget("a") && !registry.forget("a"));
    let making = place(&registry, "a");
    assert!(!registry.forget("a"), "there is no source yet");
    assert!(!registry.settle("a", &making, Some(2)), "what was asked before it was forgotten does not count");
    assert!(registry.is_empty());
    assert!(!Arc::ptr_eq(&making, &place(&registry, "a")));
}

/// Asks the registry for its length when it is dropped, which waits for ever if the registry is locked then.
#[derive(Clone)]
struct Asks(Weak<Registry<Self, ()>>);

impl Drop for Asks {
    fn drop(&mut self) {
        if let Some(registry) = self.0.upgrade() {
            assert!(registry.len() <= 1);
        }
    }
}

#[test]
fn sources_are_dropped_outside_of_the_lock() {
    let (done, finished) = mpsc::channel();
    thread::spawn(move || {
        let registry = Arc::new(Registry::new(NonZeroUsize::MIN));
        for tenant in ["a", "b"] {
            make(&registry, tenant, Asks(Arc::downgrade(&registry)));
        }
        registry.forget("b");
        done.send(()).unwrap();
    });
    finished.recv_timeout(Duration::from_secs(10)).expect("no deadlock");
}

#[test]
fn debug_shows_how_many_and_not_who() {
    let registry = room_for(7);
    make(&registry, "va336", 1);
    assert_eq!(format!("{registry:?}"), "Registry { len: 1, cap: 7 }");
}
