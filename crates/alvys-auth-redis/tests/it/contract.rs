//! The store does what the core says that a store does.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use alvys_auth_core::Timestamp;
use alvys_auth_core::share::{self, Id, Operation, Outcome};
use alvys_auth_redis::RedisStore;
use alvys_auth_store::{AsyncStore, BlockingStore, Name, SealedAnswer, SealedOperation};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::servers::{
    Program, Server, block_on, check, claim, cluster, cluster_url, id, name, on_each_server, outcome, publish, run,
};

on_each_server!(
    one_server_keeps_the_promises,
    a_prefix_keeps_stores_apart,
    a_cluster_keeps_the_promises,
    any_history_has_the_answers_of_the_core,
    the_keys_of_a_token_end_with_it,
    what_others_have_put_there_counts_as_absent,
    the_script_is_sent_once,
    any_runtime_may_use_the_store,
    a_caller_who_goes_away_cancels_nothing,
);

fn one_server_keeps_the_promises(program: &Program) {
    check(&Server::start(program, &[]).store());
}

fn a_prefix_keeps_stores_apart(program: &Program) {
    let server = Server::start(program, &[]);
    let store = |prefix: &str| RedisStore::new(&format!("{}?prefix={prefix}", server.url())).unwrap();
    check(&store("staging:"));
    assert_eq!(outcome(&store("one:"), claim(1)), Outcome::Claimed);
    assert_eq!(outcome(&store("other:"), claim(2)), Outcome::Claimed);
    assert_eq!(outcome(&store("one:"), claim(3)), Outcome::Busy);
    let key: u8 = server.tell(&format!("EXISTS one:{{alvys:1:{}}}:l", name(0)));
    assert_eq!(key, 1);
}

fn a_cluster_keeps_the_promises(program: &Program) {
    let nodes = cluster(program, &[]);
    let store = RedisStore::new(&cluster_url(&nodes)).unwrap();
    check(&store);
    for number in 0..64 {
        assert_eq!(BlockingStore::run(&store, &name(number), claim(1)).unwrap().outcome, Outcome::Claimed);
    }
    let sizes = nodes.iter().map(|node| node.tell::<u64>("DBSIZE"));
    assert!(sizes.clone().all(|size| size > 0), "each node has some of the names: {:?}", sizes.collect::<Vec<_>>());
}

/// One step of a history.
#[derive(Debug, Clone)]
enum Event {
    Does(SealedOperation),
    /// That many minutes pass.
    Passes(u64),
}

const MINUTE: Duration = Duration::from_secs(60);
/// By how much the server may be ahead: the time that the history takes.
const TOLERANCE: Duration = Duration::from_secs(25);

/// Half minutes, where whole ones pass: so nothing ends when somebody looks.
fn lasts() -> impl Strategy<Value = Duration> {
    prop_oneof![1 => Just(Duration::ZERO), 6 => (0_u32..6).prop_map(|minutes| MINUTE * minutes + MINUTE / 2)]
}

fn someone() -> impl Strategy<Value = Id> {
    (1_u8..4).prop_map(id)
}

fn event() -> impl Strategy<Value = Event> {
    let text = prop_oneof![3 => "[a-z]{0,8}", 1 => "(?s).{0,20}"];
    let does = prop_oneof![
        1 => Just(Operation::Look),
        6 => (someone(), proptest::option::of(someone()), lasts())
            .prop_map(|(owner, unwanted, lease)| Operation::Claim { owner, unwanted, lease }),
        4 => (someone(), proptest::option::of(someone()), someone(), text.clone(), lasts()).prop_map(
            |(owner, replaced, generation, token, lifetime)| Operation::Publish {
                owner, replaced, generation, token, lifetime
            }
        ),
        3 => (someone(), text, lasts()).prop_map(|(owner, failure, pause)| Operation::Fail { owner, failure, pause }),
        2 => (someone(), lasts()).prop_map(|(generation, grace)| Operation::Reject { generation, grace }),
    ];
    prop_oneof![5 => does.prop_map(Event::Does), 1 => (1_u64..4).prop_map(Event::Passes)]
}

fn any_history_has_the_answers_of_the_core(program: &Program) {
    let server = Server::start(program, &[]);
    let store = server.store();
    let administrator = RefCell::new(redis::Client::open(server.url()).unwrap().get_connection().unwrap());
    let histories = Cell::new(0);
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    let result = runner.run(&prop::collection::vec(event(), 1..40), |history| {
        histories.set(histories.get() + 1);
        let name = name(histories.get());
        let (mut cell, mut now) = (share::Cell::default(), Timestamp::from_millis(1_000_000_000));
        for (index, event) in history.into_iter().enumerate() {
            match event {
                Event::Passes(minutes) => {
                    now = now.saturating_add(MINUTE * minutes as u32);
                    let by = i64::try_from(minutes * 60_000).unwrap();
                    pass(&mut administrator.borrow_mut(), &name, by);
                }
                Event::Does(mut operation) => {
                    // A later pause of the same length is the longer one, which the time of a round trip must not decide.
                    if let Operation::Fail { pause, .. } = &mut operation
                        && !pause.is_zero()
                    {
                        *pause += Duration::from_millis(100) * index as u32;
                    }
                    let right = cell.run(operation.clone(), now);
                    let answer = BlockingStore::run(&store, &name, operation.clone()).unwrap();
                    prop_assert!(is_like(&answer, &right), "{operation:?} has {answer:?} in place of {right:?}");
                }
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// Lets time pass for a token: the server knows no other time than what is left of its keys'.
fn pass(administrator: &mut redis::Connection, name: &Name, millis: i64) {
    for part in ["t", "l", "p"] {
        let key = format!("{{alvys:1:{name}}}:{part}");
        let left: i64 = redis::cmd("PTTL").arg(&key).query(administrator).unwrap();
        if left > 0 {
            redis::cmd("PEXPIRE").arg(&key).arg(left - millis).exec(administrator).unwrap();
        }
    }
}

/// Whether answers are the same, but for the time that passed at the server.
fn is_like(answer: &SealedAnswer, right: &SealedAnswer) -> bool {
    let near = |one: Duration, other: Duration| one.abs_diff(other) <= TOLERANCE;
    let token = match (&answer.token, &right.token) {
        (Some(one), Some(other)) => {
            one.generation == other.generation
                && one.token == other.token
                && near(one.age, other.age)
                && near(one.left, other.left)
        }
        (None, None) => true,
        _ => false,
    };
    let pause = match (&answer.pause, &right.pause) {
        (Some((text, left)), Some((other_text, other_left))) => text == other_text && near(*left, *other_left),
        (None, None) => true,
        _ => false,
    };
    answer.outcome == right.outcome
        && token
        && pause
        && near(answer.busy_for, right.busy_for)
        && answer.busy_for.is_zero() == right.busy_for.is_zero()
}

fn the_keys_of_a_token_end_with_it(program: &Program) {
    let server = Server::start(program, &[]);
    let store = server.store();
    run(&store, claim(1)).unwrap();
    run(&store, Operation::Fail { owner: id(1), failure: "sealed".into(), pause: MINUTE }).unwrap();
    run(&store, publish(1, 1)).unwrap();
    run(&store, Operation::Claim { owner: id(1), unwanted: Some(id(1)), lease: MINUTE }).unwrap();
    run(&store, Operation::Fail { owner: id(1), failure: "sealed".into(), pause: MINUTE }).unwrap();
    let keys: Vec<String> = server.tell("KEYS *");
    assert_eq!(keys.len(), 2, "the token and the pause: {keys:?}");
    for key in keys {
        let left: i64 = server.tell(&format!("PTTL {key}"));
        assert!(left > 0, "{key} never ends");
    }
    // A time that no clock of a server can hold.
    let forever = Operation::Claim { owner: id(2), unwanted: None, lease: Duration::MAX };
    assert_eq!(BlockingStore::run(&store, &name(1), forever).unwrap().outcome, Outcome::Claimed);
}

fn what_others_have_put_there_counts_as_absent(program: &Program) {
    let server = Server::start(program, &[]);
    let store = server.store();
    let key = |part: &str| format!("{{alvys:1:{}}}:{part}", name(0));
    // Nothing that never ends is ours, and no token without its three parts.
    server.tell::<()>(&format!("SET {} {}", key("l"), id(9)));
    server.tell::<()>(&format!("SET {} failure", key("p")));
    for damaged in ["x", "0123", "zz"] {
        server.tell::<()>(&format!("SET {} {damaged} PX 60000", key("t")));
        let seen = run(&store, Operation::Look).unwrap();
        assert!(seen.token.is_none() && seen.pause.is_none() && seen.busy_for.is_zero(), "{seen:?}");
    }
    assert_eq!(outcome(&store, claim(1)), Outcome::Claimed);
    assert_eq!(outcome(&store, publish(1, 1)), Outcome::Published);
    // What is not text is a token that cannot be read, and is replaced as such.
    let mut administrator = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let value = [format!("{} 60000 ", id(7)).as_bytes(), &[0xff, 0, 10]].concat();
    redis::cmd("SET").arg(key("t")).arg(value).arg("PX").arg(60_000).exec(&mut administrator).unwrap();
    let token = run(&store, Operation::Look).unwrap().token.unwrap();
    assert_eq!((token.generation, token.token), (id(7), None));
}

fn the_script_is_sent_once(program: &Program) {
    let server = Server::start(program, &[]);
    let store = server.store();
    for number in 0..10 {
        BlockingStore::run(&store, &name(number), claim(1)).unwrap();
    }
    assert_eq!((server.calls("eval"), server.calls("evalsha")), (1, 10));
    server.tell::<()>("SCRIPT FLUSH");
    run(&store, Operation::Look).unwrap();
    assert_eq!((server.calls("eval"), server.calls("evalsha")), (2, 11));
    assert_eq!(server.calls("script|load"), 0, "it needs no right of its own");
}

fn any_runtime_may_use_the_store(program: &Program) {
    let server = Server::start(program, &[]);
    let store = server.store();
    for number in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let answer = runtime.block_on(AsyncStore::run(&store, &name(number), claim(1))).unwrap();
        assert_eq!(answer.outcome, Outcome::Claimed);
        // And the blocking side inside of one, where it holds up a thread and does not panic.
        runtime.block_on(async { assert_eq!(outcome(&store, Operation::Look), Outcome::Seen) });
    }
    assert_eq!(server.tell::<String>("CLIENT LIST").lines().count(), 2, "one connection, and the administrator's");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async move { drop(store) });
}

fn a_caller_who_goes_away_cancels_nothing(program: &Program) {
    let server = Server::start(program, &[]);
    let store = server.store();
    run(&store, Operation::Look).unwrap();
    let name = name(0);
    let mut future = AsyncStore::run(&store, &name, claim(1));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let _ = future.as_mut().poll(&mut context);
    drop(future);
    crate::servers::eventually("the claim has arrived", || {
        !block_on(AsyncStore::run(&store, &name, Operation::Look)).unwrap().busy_for.is_zero()
    });
}
