//! Thousands of tenants that come and go for hours of made-up time: callers, makers that die, hang or are late, workers that
//! fail, tenants that are evicted, forgotten and removed. After each event the promises are checked against a small model.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use alvys_auth_core::{Due, Found, Maker, Registry, Renewal, RenewalPlan, Timestamp};
use proptest::prelude::*;

const TENANTS: u64 = 3_000;
const CAPACITY: usize = 1_000;
const WORKERS: usize = 4;
/// How long a maker has.
const LIMIT: Duration = Duration::from_secs(10);
const LIFETIME: Duration = Duration::from_secs(600);
/// A token is due for renewal so long before its end at the least.
const MARGIN: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// Numbers from a seed (xorshift64*): a history can be repeated by its seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }

    fn millis(&mut self, end: Duration) -> Duration {
        Duration::from_millis(self.below(end.as_millis() as u64))
    }
}

struct Source {
    /// Since it was last asked about for an eviction.
    used: Cell<bool>,
    token: Cell<Option<Held>>,
}

#[derive(Clone, Copy)]
struct Held {
    due: Timestamp,
    ends: Timestamp,
    /// When it was first used since it was obtained.
    used: Option<Timestamp>,
    /// A worker has failed to renew it.
    failed: bool,
}

enum Event {
    /// Somebody wants a token of the tenant.
    Call(Arc<str>),
    /// The maker makes the source; none when it makes none.
    Makes(Maker, bool),
    /// The maker asks the provider, which answers after so long; none when it never does.
    Asks(Maker, Option<Duration>),
    /// A worker that slept so often until now wakes up.
    Wakes(usize, u64),
    /// A worker is done, and says whether that went well.
    Done(usize, Renewal, Rc<Source>, bool),
    Expires(Arc<str>, Rc<Source>, Timestamp),
    Forget(Arc<str>),
}

/// Somebody who makes a source.
#[derive(Clone, Copy)]
struct Making {
    until: Timestamp,
    open: bool,
}

struct World {
    chance: Chance,
    now: Timestamp,
    events: BTreeMap<(Timestamp, u64), Event>,
    planned: u64,
    registry: Registry<Rc<Source>, ()>,
    plan: RenewalPlan,
    makers: HashMap<Arc<str>, Making>,
    /// The workers that sleep, and how often each has slept.
    asleep: [bool; WORKERS],
    slept: [u64; WORKERS],
    looks: usize,
    uses: usize,
    renewed: usize,
    refused: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            chance: Chance(seed | 1),
            now: Timestamp::from_millis(0),
            events: BTreeMap::new(),
            planned: 0,
            registry: Registry::new(NonZeroUsize::new(CAPACITY).expect("room")),
            plan: RenewalPlan::new(),
            makers: HashMap::new(),
            asleep: [true; WORKERS],
            slept: [0; WORKERS],
            looks: 0,
            uses: 0,
            renewed: 0,
            refused: 0,
        };
        world.wake(true);
        world
    }

    fn after(&mut self, time: Duration, event: Event) {
        self.at(self.now.saturating_add(time), event);
    }

    fn at(&mut self, time: Timestamp, event: Event) {
        self.planned += 1;
        self.events.insert((time, self.planned), event);
    }

    fn run(&mut self, until: Timestamp) {
        while let Some(first) = self.events.first_entry().filter(|first| first.key().0 <= until) {
            let ((at, _), event) = first.remove_entry();
            self.now = at;
            self.happen(event);
            assert!(self.registry.len() <= CAPACITY, "never more than the bound");
        }
        self.now = until;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Call(tenant) => self.call(&tenant),
            Event::Makes(maker, makes) => self.makes(maker, makes),
            Event::Asks(maker, answers) => self.asks(maker, answers),
            Event::Wakes(worker, slept) if self.asleep[worker] && self.slept[worker] == slept => self.work(worker),
            Event::Wakes(..) => {}
            Event::Done(worker, renewal, source, well) => self.done(worker, renewal, &source, well),
            Event::Expires(tenant, source, ends) => self.expires(&tenant, &source, ends),
            Event::Forget(tenant) => {
                drop(self.registry.forget(&tenant));
                self.plan.forget(&tenant);
                // A question that was asked before goes on, but nobody knows of it any more.
                self.makers.remove(&tenant);
            }
        }
    }

    fn call(&mut self, tenant: &Arc<str>) {
        let until = self.now.saturating_add(LIMIT);
        let making = self.makers.get(tenant).copied();
        match self.registry.find(tenant, self.now, until, || ()) {
            Found::Ready(source) => {
                assert!(making.is_none(), "{tenant} is made once more");
                self.uses(tenant, &source);
            }
            Found::Make(maker, ()) => {
                assert!(
                    making.is_none_or(|making| making.until <= self.now && !making.open),
                    "{tenant} has a maker whose time is not over"
                );
                self.makers.insert(Arc::clone(tenant), Making { until, open: false });
                let soon = self.chance.millis(LIMIT / 2);
                match self.chance.below(10) {
                    // Unknown, or failed, or dropped by its caller.
                    0 => self.after(soon, Event::Makes(maker, false)),
                    // Rests for ever.
                    1 => {}
                    2 => self.after(LIMIT + 3 * soon, Event::Makes(maker, true)),
                    3 => self.after(soon, Event::Asks(maker, None)),
                    4 => self.after(soon, Event::Asks(maker, Some(LIMIT + 3 * soon))),
                    5 | 6 => self.after(soon, Event::Asks(maker, Some(soon))),
                    _ => self.after(soon, Event::Makes(maker, true)),
                }
            }
            Found::Wait((), until) => {
                let making = making.expect("somebody makes it");
                assert!(self.now < until && until == making.until);
            }
            Found::Late => {
                let making = making.expect("somebody was asked");
                assert!(making.open && making.until <= self.now);
                self.refused += 1;
                // Who operates the provider ends the question that hangs, one day.
                if self.chance.below(4) == 0 {
                    self.after(SECOND, Event::Forget(Arc::clone(tenant)));
                }
            }
        }
    }

    fn makes(&mut self, maker: Maker, makes: bool) {
        let tenant = Arc::clone(maker.tenant());
        let source = Rc::new(Source { used: Cell::new(false), token: Cell::new(None) });
        let own = if makes {
            match self.registry.made(maker, Rc::clone(&source), |source| source.used.take()) {
                Ok(evicted) => {
                    if let Some((evicted, _)) = evicted {
                        self.plan.forget(&evicted);
                    }
                    true
                }
                Err(_) => false,
            }
        } else {
            self.registry.give_up(&maker)
        };
        if own {
            self.makers.remove(&tenant).expect("it was the maker");
            if makes {
                self.uses(&tenant, &source);
            }
        }
    }

    fn asks(&mut self, maker: Maker, answers: Option<Duration>) {
        let until = self.now.saturating_add(LIMIT);
        let open = self.chance.below(4) > 0;
        if self.registry.asks(&maker, until, open) {
            self.makers.insert(Arc::clone(maker.tenant()), Making { until, open });
            if let Some(answers) = answers {
                let makes = self.chance.below(4) > 0;
                self.after(answers, Event::Makes(maker, makes));
            }
        }
    }

    /// Somebody uses the token of a source, and fetches it first when there is none.
    fn uses(&mut self, tenant: &Arc<str>, source: &Rc<Source>) {
        source.used.set(true);
        let mut held = source.token.get().unwrap_or_else(|| self.fetch(tenant, source));
        held.used = held.used.or(Some(self.now));
        source.token.set(Some(held));
        if !self.plan.knows(tenant) {
            self.uses += 1;
        }
        let wake = if held.due <= self.now { self.plan.hurry(tenant) } else { self.plan.used(tenant, held.due) };
        self.wake(wake);
    }

    fn fetch(&mut self, tenant: &Arc<str>, source: &Rc<Source>) -> Held {
        let ends = self.now.saturating_add(LIFETIME);
        let due = ends.saturating_sub(MARGIN + self.chance.millis(MARGIN));
        self.at(ends, Event::Expires(Arc::clone(tenant), Rc::clone(source), ends));
        let held = Held { due, ends, used: None, failed: false };
        source.token.set(Some(held));
        held
    }

    fn expires(&mut self, tenant: &Arc<str>, source: &Rc<Source>, ends: Timestamp) {
        if let Some(held) = source.token.get().filter(|held| held.ends == ends) {
            let kept = matches!(self.kept(tenant), Some(kept) if Rc::ptr_eq(&kept, source));
            // Who first uses it in the last quarter of the margin renews it; see `Snapshot::deferrable`.
            let in_time = held.used.is_some_and(|used| used.saturating_add(MARGIN / 4) < ends);
            assert!(!(kept && in_time) || held.failed, "the used token of {tenant} was not renewed before its end");
            source.token.set(None);
        }
    }

    /// The source of a tenant, if it is kept; looked up without becoming its maker.
    fn kept(&mut self, tenant: &Arc<str>) -> Option<Rc<Source>> {
        match self.registry.find(tenant, self.now, self.now, || ()) {
            Found::Ready(source) => Some(source),
            Found::Make(maker, ()) => {
                self.registry.give_up(&maker);
                self.makers.remove(tenant);
                None
            }
            Found::Wait(..) | Found::Late => None,
        }
    }

    /// Wakes the workers that sleep, if the plan says so.
    fn wake(&mut self, wake: bool) {
        for worker in (0..WORKERS).filter(|_| wake) {
            if self.asleep[worker] {
                self.after(Duration::ZERO, Event::Wakes(worker, self.slept[worker]));
            }
        }
    }

    fn work(&mut self, worker: usize) {
        match self.plan.due(self.now) {
            Due::Sleep(until) => {
                assert!(self.now < until, "no worker spins");
                self.asleep[worker] = true;
                self.slept[worker] += 1;
                self.at(until, Event::Wakes(worker, self.slept[worker]));
            }
            Due::Renew(renewal) => {
                self.asleep[worker] = false;
                self.looks += 1;
                let source = self.kept(renewal.tenant()).expect("a tenant that is gone is not in the plan");
                if let Some(held) = source.token.get() {
                    assert!(held.used.is_some(), "{} is renewed, although nobody has used its token", renewal.tenant());
                    assert!(held.due <= self.now || held.failed, "{} is not due", renewal.tenant());
                }
                // One hangs until its request times out.
                let (well, takes) = match self.chance.below(100) {
                    0 => (false, LIMIT),
                    1..5 => (false, SECOND),
                    _ => (true, self.chance.millis(SECOND / 2)),
                };
                self.after(takes, Event::Done(worker, renewal, source, well));
            }
        }
    }

    fn done(&mut self, worker: usize, renewal: Renewal, source: &Rc<Source>, well: bool) {
        let tenant = Arc::clone(renewal.tenant());
        let held = source.token.get().map(|held| {
            let held = if well { self.fetch(&tenant, source) } else { Held { failed: true, ..held } };
            self.renewed += usize::from(well);
            // Whoever has used the token while it was renewed has used the new one too.
            let used = held.used.or_else(|| self.plan.knows(&tenant).then_some(self.now));
            source.token.set(Some(Held { used, ..held }));
            held
        });
        let pause_ends = if well { self.now } else { self.now.saturating_add(2 * SECOND) };
        let wake = self.plan.done(renewal, well, held.map(|held| held.due.max(pause_ends)), self.now);
        self.wake(wake);
        self.work(worker);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(6) })]

    #[test]
    fn every_history_of_many_tenants_keeps_every_promise(seed in any::<u64>()) {
        let mut world = World::new(seed);
        // Two hours, in which some tenants are used all the time, some now and then, and some never again.
        for second in 0..7_200 {
            for _ in 0..8 {
                let busy = world.chance.below(100) < 70;
                let number = world.chance.below(if busy { 300 } else { TENANTS });
                let at = Timestamp::from_millis(second * 1_000 + world.chance.below(1_000));
                world.at(at, Event::Call(format!("{number:04}").into()));
            }
            // Nobody is forgotten shortly before it is counted how many there are.
            if second < 7_140 && world.chance.below(10) == 0 {
                let number = world.chance.below(TENANTS);
                world.at(Timestamp::from_millis(second * 1_000), Event::Forget(format!("{number:04}").into()));
            }
        }
        world.run(Timestamp::from_millis(7_200_000));
        prop_assert_eq!(world.registry.len(), CAPACITY, "so many are wanted that all places are taken");
        prop_assert!(world.renewed > 3_000 && world.refused > 0, "{} {}", world.renewed, world.refused);
        let reasons = world.uses + world.looks / 10;
        prop_assert!(world.looks <= reasons, "{} looks for {reasons} reasons", world.looks);

        // Nobody uses anything any more: all tokens run out, and the plan with them.
        world.run(Timestamp::from_millis(20_000_000));
        prop_assert!(world.plan.is_empty());
        let looks = world.looks;
        world.run(Timestamp::from_millis(200_000_000));
        prop_assert_eq!(world.looks, looks, "no tenant is looked at when nothing can have changed");
    }
}
