//! The registry of sources: each made once, by one maker at a time, and a bounded number of them kept.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use alvys_auth_core::{Found, Maker, Registry, Timestamp};

const START: Timestamp = Timestamp::from_millis(1_000);
const LIMIT: Duration = Duration::from_secs(10);

/// A source that is told apart by its number, and its mark of use.
type Source = Rc<(u32, Cell<bool>)>;

struct Tenants {
    registry: Registry<Source, ()>,
    now: Timestamp,
}

impl Tenants {
    fn room_for(sources: usize) -> Self {
        Self { registry: Registry::new(NonZeroUsize::new(sources).expect("room")), now: START }
    }

    fn find(&mut self, tenant: &str) -> Found<Source, ()> {
        self.registry.find(tenant, self.now, self.now.saturating_add(LIMIT), || ())
    }

    fn maker(&mut self, tenant: &str) -> Maker {
        match self.find(tenant) {
            Found::Make(maker, ()) => maker,
            other => panic!("no maker for {tenant}: {other:?}"),
        }
    }

    /// Keeps a source that nobody has used yet, and gives the tenant that was evicted.
    fn make(&mut self, tenant: &str, number: u32) -> Option<String> {
        let maker = self.maker(tenant);
        self.made(maker, number).expect("the maker's place is its own")
    }

    fn made(&mut self, maker: Maker, number: u32) -> Result<Option<String>, u32> {
        let source = Rc::new((number, Cell::new(false)));
        let made = self.registry.made(maker, source, |source| source.1.take());
        made.map(|evicted| evicted.map(|(tenant, _)| tenant.to_string())).map_err(|refused| refused.0)
    }

    /// The number of a tenant's source, which is marked as used, if it is kept.
    fn use_it(&mut self, tenant: &str) -> Option<u32> {
        match self.find(tenant) {
            Found::Ready(source) => {
                source.1.set(true);
                Some(source.0)
            }
            Found::Make(maker, ()) => {
                assert!(self.registry.give_up(&maker));
                None
            }
            Found::Wait(..) | Found::Late => None,
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.saturating_add(time);
    }
}

#[test]
fn one_caller_makes_a_source_and_the_others_wait_for_it() {
    let mut tenants = Tenants::room_for(10);
    let maker = tenants.maker("a");
    assert_eq!(&**maker.tenant(), "a");
    for _ in 0..100 {
        assert!(matches!(tenants.find("a"), Found::Wait((), until) if until == START.saturating_add(LIMIT)));
    }
    let other = tenants.maker("b");
    assert!(tenants.registry.is_empty());
    assert_eq!(tenants.made(maker, 1), Ok(None));
    assert_eq!(tenants.made(other, 2), Ok(None));
    assert_eq!((tenants.use_it("a"), tenants.use_it("b"), tenants.registry.len()), (Some(1), Some(2), 2));
}

#[test]
fn a_source_that_could_not_be_made_is_made_anew_by_the_next_caller() {
    let mut tenants = Tenants::room_for(10);
    let failed = tenants.maker("a");
    assert!(tenants.registry.give_up(&failed));
    let next = tenants.maker("a");
    assert!(!tenants.registry.give_up(&failed), "a late report about the old place says nothing about the new one");
    assert_eq!(tenants.made(failed, 1), Err(1));
    assert_eq!(tenants.made(next, 2), Ok(None));
    assert_eq!(tenants.use_it("a"), Some(2));
}

#[test]
fn a_maker_that_reports_nothing_is_replaced_by_one_caller_once_its_time_is_over() {
    let mut tenants = Tenants::room_for(10);
    let resting = tenants.maker("a");
    tenants.pass(LIMIT - Duration::from_millis(1));
    assert!(matches!(tenants.find("a"), Found::Wait(..)));
    tenants.pass(Duration::from_millis(1));
    let next = tenants.maker("a");
    assert!(matches!(tenants.find("a"), Found::Wait(..)), "of all who waited, one makes the source");
    assert!(!tenants.registry.asks(&resting, tenants.now, false), "the old maker must not ask the provider any more");
    assert_eq!(tenants.made(resting, 1), Err(1));
    assert_eq!(tenants.made(next, 2), Ok(None));
    assert_eq!(tenants.use_it("a"), Some(2));
}

#[test]
fn a_late_source_is_kept_when_nobody_has_taken_over() {
    let mut tenants = Tenants::room_for(10);
    let late = tenants.maker("a");
    tenants.pass(10 * LIMIT);
    assert_eq!(tenants.made(late, 1), Ok(None));
    assert_eq!(tenants.use_it("a"), Some(1));
}

#[test]
fn a_provider_that_cannot_be_interrupted_is_not_asked_again_before_it_has_answered() {
    let mut tenants = Tenants::room_for(10);
    let maker = tenants.maker("a");
    tenants.pass(Duration::from_secs(8));
    let answer_due = tenants.now.saturating_add(LIMIT);
    assert!(tenants.registry.asks(&maker, answer_due, true));
    tenants.pass(Duration::from_secs(5));
    assert!(
        matches!(tenants.find("a"), Found::Wait((), until) if until == answer_due),
        "its time counts from the question"
    );
    for _ in 0..10 {
        tenants.pass(LIMIT);
        assert!(matches!(tenants.find("a"), Found::Late));
    }
    let _other = tenants.maker("b");
    assert_eq!(tenants.made(maker, 1), Ok(None), "the answer counts, however late it is");
    assert_eq!(tenants.use_it("a"), Some(1));
}

#[test]
fn a_provider_that_can_be_interrupted_is_asked_again_once_its_time_is_over() {
    let mut tenants = Tenants::room_for(10);
    let maker = tenants.maker("a");
    tenants.pass(Duration::from_secs(8));
    assert!(tenants.registry.asks(&maker, tenants.now.saturating_add(LIMIT), false));
    tenants.pass(LIMIT - Duration::from_millis(1));
    assert!(matches!(tenants.find("a"), Found::Wait(..)));
    tenants.pass(Duration::from_millis(1));
    tenants.make("a", 2);
    assert_eq!(tenants.made(maker, 1), Err(1));
}

#[test]
fn a_provider_that_fails_late_is_asked_again() {
    let mut tenants = Tenants::room_for(10);
    let maker = tenants.maker("a");
    assert!(tenants.registry.asks(&maker, tenants.now.saturating_add(LIMIT), true));
    tenants.pass(2 * LIMIT);
    assert!(matches!(tenants.find("a"), Found::Late));
    assert!(tenants.registry.give_up(&maker));
    tenants.make("a", 2);
    assert_eq!(tenants.use_it("a"), Some(2));
}

#[test]
fn the_source_that_was_kept_longest_goes_but_not_one_that_was_used() {
    let mut tenants = Tenants::room_for(3);
    for (number, tenant) in (1..).zip(["a", "b", "c"]) {
        assert_eq!(tenants.make(tenant, number), None);
    }
    assert_eq!(tenants.use_it("a"), Some(1));
    assert_eq!(tenants.make("d", 4).as_deref(), Some("b"));
    assert_eq!(tenants.make("e", 5).as_deref(), Some("c"));
    assert_eq!(tenants.make("f", 6).as_deref(), Some("a"), "its use counts once");
    assert_eq!(tenants.use_it("d"), Some(4));
    assert_eq!(tenants.make("g", 7).as_deref(), Some("e"));
    assert_eq!(tenants.registry.len(), 3);
}

#[test]
fn when_all_were_used_the_one_that_was_kept_longest_goes() {
    let mut tenants = Tenants::room_for(2);
    for (number, tenant) in (1..).zip(["a", "b"]) {
        tenants.make(tenant, number);
        tenants.use_it(tenant);
    }
    assert_eq!(tenants.make("c", 3).as_deref(), Some("a"));
    assert_eq!((tenants.use_it("b"), tenants.use_it("c")), (Some(2), Some(3)));
}

#[test]
fn sources_that_are_marked_as_used_all_the_time_do_not_hold_up_an_eviction() {
    let mut registry = Registry::<u32, ()>::new(NonZeroUsize::new(100).expect("room"));
    for number in 0..101 {
        let Found::Make(maker, ()) = registry.find(&format!("{number:03}"), START, START.saturating_add(LIMIT), || ())
        else {
            panic!("{number} is there")
        };
        let evicted = registry.made(maker, number, |_| true).expect("its own place");
        assert_eq!(evicted.map(|(_, number)| number), (number == 100).then_some(0));
    }
}

#[test]
fn tenants_that_do_not_exist_evict_nobody() {
    let mut tenants = Tenants::room_for(1);
    tenants.make("a", 1);
    let makers: Vec<_> = (0..100).map(|number| tenants.maker(&number.to_string())).collect();
    for maker in makers {
        assert!(tenants.registry.give_up(&maker));
    }
    assert_eq!(tenants.use_it("a"), Some(1));
}

#[test]
fn a_forgotten_source_is_handed_back_and_one_in_the_making_is_not_kept() {
    let mut tenants = Tenants::room_for(2);
    assert!(tenants.registry.forget("a").is_none());
    tenants.make("a", 1);
    assert_eq!(tenants.registry.forget("a").expect("the source").0, 1);
    assert!(tenants.registry.forget("a").is_none());

    let before = tenants.maker("a");
    assert!(tenants.registry.forget("a").is_none(), "there is no source yet");
    assert!(
        !tenants.registry.asks(&before, tenants.now, true),
        "nobody wants to know what holds before it was forgotten"
    );
    let after = tenants.maker("a");
    assert_eq!(tenants.made(before, 2), Err(2));
    assert_eq!(tenants.made(after, 3), Ok(None));
    assert_eq!((tenants.use_it("a"), tenants.registry.len()), (Some(3), 1));
    tenants.make("b", 4);
    assert_eq!(tenants.registry.len(), 2, "the forgotten one has left its place");
}

#[test]
fn debug_shows_how_many_there_are_and_not_who() {
    let mut tenants = Tenants::room_for(7);
    tenants.make("va336", 1);
    let _maker = tenants.maker("AB123");
    assert_eq!(format!("{:?}", tenants.registry), "Registry { capacity: 7, kept: 1, making: 1 }");
}
