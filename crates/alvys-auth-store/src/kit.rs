//! Tries whether a store keeps its promises: for the tests of stores of your own.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use alvys_auth_core::Error;
use alvys_auth_core::share::{Id, Operation, Outcome};

use crate::{Name, SealedAnswer, SealedOperation};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);
/// How much longer than it should something may take to end.
const LATE: Duration = Duration::from_secs(10);
const THREADS: usize = 8;

/// Tries all operations of a store: who may do what, what ends when, and that of many threads one is served.
///
/// `run` carries out an operation at the store; for an [`AsyncStore`](crate::AsyncStore) it blocks on the future. The store is
/// used under names that no token request has. It takes a few seconds, because it waits for entries to end.
///
/// ```
/// use alvys_auth_store::{BlockingStore, MemoryStore, kit};
///
/// let store = MemoryStore::new();
/// kit::check(&|name, operation| BlockingStore::run(&store, name, operation));
/// ```
///
/// # Panics
/// When the store breaks a promise; the message says which.
pub fn check(run: &(dyn Fn(&Name, SealedOperation) -> Result<SealedAnswer, Error> + Sync)) {
    let mut tries = 0;
    let mut store = || {
        tries += 1;
        Tried { name: fresh_name(tries), run }
    };
    claims(&store());
    publishes(&store(), &store());
    late_owners(&store());
    failures(&store());
    rejections(&store());
    names_are_apart(&store(), &store());
    text_is_kept(&store());
    ends(&store());
    races(&store());
}

/// A store under one name.
struct Tried<'a> {
    name: Name,
    run: &'a (dyn Fn(&Name, SealedOperation) -> Result<SealedAnswer, Error> + Sync),
}

impl Tried<'_> {
    fn run(&self, operation: SealedOperation) -> SealedAnswer {
        (self.run)(&self.name, operation).unwrap_or_else(|error| panic!("the store cannot be used: {error}"))
    }

    fn look(&self) -> SealedAnswer {
        self.run(Operation::Look)
    }

    fn claim(&self, owner: Id, unwanted: Option<Id>, lease: Duration) -> SealedAnswer {
        self.run(Operation::Claim { owner, unwanted, lease })
    }

    fn publish(&self, owner: Id, replaced: Option<Id>, generation: Id, lifetime: Duration) -> Outcome {
        let token = format!("sealed {generation}");
        self.run(Operation::Publish { owner, replaced, generation, token, lifetime }).outcome
    }

    fn fail(&self, owner: Id, failure: &str, pause: Duration) -> Outcome {
        self.run(Operation::Fail { owner, failure: failure.to_owned(), pause }).outcome
    }

    fn reject(&self, generation: Id, grace: Duration) -> Outcome {
        self.run(Operation::Reject { generation, grace }).outcome
    }

    /// The token that is there.
    fn held(&self) -> Option<Id> {
        self.look().token.map(|token| token.generation)
    }

    /// Waits until something has ended, which it must not before `least`.
    fn wait(&self, what: &str, least: Duration, ended: impl Fn(SealedAnswer) -> bool) {
        let started = Instant::now();
        while !ended(self.look()) {
            assert!(started.elapsed() < least + LATE, "{what} has not ended after its time");
            thread::sleep(Duration::from_millis(10));
        }
        // The store began to count before the answer was here.
        assert!(started.elapsed() + LATE / 50 >= least, "{what} has ended before its time");
    }
}

fn claims(store: &Tried<'_>) {
    let [first, second, token] = [id(1), id(2), id(3)];
    let seen = store.look();
    assert_eq!(seen.outcome, Outcome::Seen, "a look changes nothing");
    assert!(seen.token.is_none() && seen.pause.is_none() && seen.busy_for.is_zero(), "nothing is there at first");
    assert_eq!(store.claim(first, None, LONG).outcome, Outcome::Claimed, "who asks first gets the lease");
    let busy = store.claim(second, None, LONG);
    assert_eq!(busy.outcome, Outcome::Busy, "a second process does not get the lease");
    assert!(busy.busy_for <= LONG && busy.busy_for > LONG / 2, "who waits is told how long the lease lasts");
    assert_eq!(
        store.claim(first, None, LONG).outcome,
        Outcome::Claimed,
        "the owner may ask again, as after a lost answer"
    );
    assert_eq!(store.publish(first, None, token, LONG), Outcome::Published, "the owner publishes");
    let newer = store.claim(second, None, LONG);
    assert_eq!(newer.outcome, Outcome::Newer, "a token that is there is the answer");
    assert!(newer.busy_for.is_zero(), "publishing gives the lease up");
    let found = newer.token.unwrap_or_else(|| panic!("the answer `newer` brings the token"));
    assert_eq!(found.generation, token);
    assert!(found.left <= LONG && found.left > LONG / 2, "the rest of the token's lifetime is told");
    assert!(found.age < LATE, "the token's age is told");
    assert_eq!(store.claim(second, Some(id(9)), LONG).outcome, Outcome::Newer, "any other token is the answer");
    assert_eq!(store.claim(second, Some(token), LONG).outcome, Outcome::Claimed, "an unwanted token is none");
    assert_eq!(store.held(), Some(token), "the token stays while its successor is asked for");
    assert_eq!(store.claim(first, Some(token), LONG).outcome, Outcome::Busy);
}

fn publishes(empty: &Tried<'_>, store: &Tried<'_>) {
    let [owner, other, old, new] = [id(1), id(2), id(3), id(4)];
    assert_eq!(empty.publish(owner, None, old, LONG), Outcome::Published, "a token is welcome where there is none");
    assert_eq!(store.publish(owner, Some(id(9)), old, LONG), Outcome::Published, "whatever it was to replace");
    assert_eq!(store.publish(other, None, new, LONG), Outcome::Lost, "a token is not replaced by who does not know it");
    assert_eq!(store.publish(other, Some(id(9)), new, LONG), Outcome::Lost);
    assert_eq!(store.held(), Some(old));
    assert_eq!(store.publish(other, Some(old), new, LONG), Outcome::Published, "who knows the token may replace it");
    assert_eq!(store.held(), Some(new));
}

fn late_owners(store: &Tried<'_>) {
    let [late, owner, old, new] = [id(1), id(2), id(3), id(4)];
    store.claim(owner, None, LONG);
    assert_eq!(store.publish(late, None, old, LONG), Outcome::Published, "an owner whose lease has ended helps out");
    assert!(!store.look().busy_for.is_zero(), "and leaves the lease to its owner");
    assert_eq!(store.publish(late, Some(old), new, LONG), Outcome::Lost, "but only while there is no token");
    assert_eq!(store.publish(owner, None, new, LONG), Outcome::Published, "the owner of the lease may always publish");
    assert_eq!(store.held(), Some(new));
}

fn failures(store: &Tried<'_>) {
    let [owner, other, token] = [id(1), id(2), id(3)];
    assert_eq!(store.fail(other, "sealed failure", LONG), Outcome::Lost, "who has no lease tells of no failure");
    assert!(store.look().pause.is_none());
    store.claim(owner, None, LONG);
    assert_eq!(store.fail(other, "sealed failure", LONG), Outcome::Lost);
    assert_eq!(store.fail(owner, "sealed failure", LONG), Outcome::Failed, "the owner tells of a failure");
    let paused = store.claim(other, None, LONG);
    assert_eq!(paused.outcome, Outcome::Paused, "nobody asks during the pause");
    let (failure, left) = paused.pause.unwrap_or_else(|| panic!("the answer `paused` brings the failure"));
    assert_eq!(failure.as_deref(), Some("sealed failure"));
    assert!(left <= LONG && left > LONG / 2, "the rest of the pause is told");
    assert!(paused.busy_for.is_zero(), "a failure gives the lease up");
    assert_eq!(store.publish(other, None, token, LONG), Outcome::Published);
    assert!(store.look().pause.is_none(), "a token ends the pause");
    store.claim(owner, Some(token), LONG);
    assert_eq!(store.fail(owner, "", Duration::ZERO), Outcome::Failed);
    let seen = store.look();
    assert!(
        seen.busy_for.is_zero() && seen.pause.is_none(),
        "a pause of no length gives the lease up, and nothing else"
    );
}

fn rejections(store: &Tried<'_>) {
    let [owner, token] = [id(1), id(2)];
    assert_eq!(store.reject(token, Duration::ZERO), Outcome::Newer, "what is not there is not removed");
    store.publish(owner, None, token, LONG);
    assert_eq!(store.reject(id(9), Duration::ZERO), Outcome::Newer, "only the token in question is removed");
    assert_eq!(store.reject(token, LONG), Outcome::Young, "a young token stays");
    assert_eq!(store.held(), Some(token));
    assert_eq!(store.reject(token, Duration::ZERO), Outcome::Rejected);
    assert_eq!(store.held(), None);
    assert_eq!(store.reject(token, Duration::ZERO), Outcome::Newer, "it is removed once");
}

fn names_are_apart(one: &Tried<'_>, other: &Tried<'_>) {
    one.claim(id(1), None, LONG);
    assert_eq!(other.claim(id(2), None, LONG).outcome, Outcome::Claimed, "each name has a lease of its own");
    one.publish(id(1), None, id(3), LONG);
    assert_eq!(other.held(), None, "each name has a token of its own");
}

/// The longest tokens are kept whole, and so is text that is not sealed by us.
fn text_is_kept(store: &Tried<'_>) {
    let token = "a\"\\\n€ ".repeat(4000);
    let publish =
        Operation::Publish { owner: id(1), replaced: None, generation: id(2), token: token.clone(), lifetime: LONG };
    store.run(publish);
    let found = store.look().token.and_then(|found| found.token);
    assert!(found == Some(token), "a text of 32 KiB comes back as it was");
}

fn ends(store: &Tried<'_>) {
    let [owner, other, token] = [id(1), id(2), id(3)];
    store.claim(owner, None, SHORT);
    store.wait("a lease", SHORT, |seen| seen.busy_for.is_zero());
    assert_eq!(
        store.claim(other, None, LONG).outcome,
        Outcome::Claimed,
        "the next one gets the lease when it has ended"
    );
    store.fail(other, "sealed failure", SHORT);
    store.wait("a pause", SHORT, |seen| seen.pause.is_none());
    store.publish(owner, None, token, SHORT);
    store.wait("a token", SHORT, |seen| seen.token.is_none());
    assert_eq!(store.claim(owner, None, LONG).outcome, Outcome::Claimed, "a token that has ended is none");
}

/// Of any number that ask at the same time, one gets the lease, and one of its successors.
fn races(store: &Tried<'_>) {
    let mut unwanted = None;
    for round in 0..8_u8 {
        let together = Barrier::new(THREADS);
        let ask = |thread: usize| {
            together.wait();
            let owner = Id::from_bytes([round, thread as u8, 7, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            (owner, store.claim(owner, unwanted, LONG).outcome)
        };
        let asked: Vec<(Id, Outcome)> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || ask(thread))).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        let mut claimed = asked.iter().filter(|(_, outcome)| *outcome == Outcome::Claimed);
        let (Some((owner, _)), None) = (claimed.next(), claimed.next()) else {
            panic!("of {THREADS} that ask at once, exactly one gets the lease: {asked:?}");
        };
        let generation = Id::from_bytes([round + 1; 16]);
        assert_eq!(store.publish(*owner, unwanted, generation, LONG), Outcome::Published);
        unwanted = Some(generation);
    }
}

fn id(number: u8) -> Id {
    Id::from_bytes([number; 16])
}

/// A name that nobody else uses, so that what an earlier run has left does not matter.
fn fresh_name(tries: u8) -> Name {
    let mut random = [0; 15];
    getrandom::fill(&mut random).unwrap_or_else(|error| panic!("no randomness: {error}"));
    let digits: String = random.iter().chain(&[tries]).map(|byte| format!("{byte:02x}")).collect();
    Name::parse(&format!("{digits}-0000")).unwrap_or_else(|| panic!("a name"))
}
