//! What goes wrong at the server ends in time, with an error that says what it is.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use alvys_auth_core::share::{Operation, Outcome};
use alvys_auth_core::{Error, ErrorKind};
use alvys_auth_driver::ManualClock;
use alvys_auth_redis::RedisStore;

use crate::servers::{
    Program, Server, claim, cluster, eventually, free_port, id, name, on_each_server, outcome, publish, run,
};

/// How long an operation may take, and as much again for a busy machine.
const IN_TIME: Duration = Duration::from_secs(8);
/// What no operation reaches that waits for an answer.
const AT_ONCE: Duration = Duration::from_millis(900);
/// How long operations fail at once.
const REST: Duration = Duration::from_secs(5);

on_each_server!(
    a_server_that_is_gone_is_told_at_once_and_found_again_at_once,
    a_server_that_hangs_costs_one_wait_and_then_none,
    a_server_that_was_emptied_is_filled_again,
    a_connection_that_was_closed_is_replaced_unnoticed,
    a_claim_whose_answer_was_lost_is_made_once_more,
    a_primary_that_has_become_a_replica_is_looked_up_again,
    a_server_without_memory_says_so_and_keeps_what_it_has,
    a_replica_says_that_it_takes_no_writes,
    a_wrong_password_is_told_and_not_shown,
    the_wrong_kind_of_store_is_told,
);

/// The error of a claim that must fail, and how long it took.
fn failure(store: &RedisStore) -> (Error, Duration) {
    let started = Instant::now();
    let error = run(store, claim(1)).expect_err("the server cannot be used");
    let took = started.elapsed();
    assert!(took < IN_TIME, "{error} after {took:?}");
    (error, took)
}

fn a_server_that_is_gone_is_told_at_once_and_found_again_at_once(program: &Program) {
    let mut server = Server::start(program, &[]);
    let store = server.store();
    run(&store, claim(1)).unwrap();
    server.kill();
    for _ in 0..3 {
        let (error, _) = failure(&store);
        assert_eq!(error.kind(), ErrorKind::Transport, "{error}");
        assert!(error.to_string().contains(&format!("no connection to the store {}", server.url())), "{error}");
        assert!(error.is_retryable());
    }
    server.restart();
    assert_eq!(outcome(&store, claim(2)), Outcome::Claimed);
}

fn a_server_that_hangs_costs_one_wait_and_then_none(program: &Program) {
    let server = Server::start(program, &[]);
    let clock = Arc::new(ManualClock::new());
    let store = RedisStore::with_clock(&server.url(), Arc::clone(&clock)).unwrap();
    run(&store, claim(1)).unwrap();
    server.hang();
    let (error, _) = failure(&store);
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(error.to_string().contains("has not answered in time"), "{error}");

    clock.advance(REST - Duration::from_millis(1));
    let (again, took) = failure(&store);
    assert!(took < AT_ONCE, "who comes after that waits {took:?}");
    assert_eq!(again.to_string(), error.to_string());

    // After the rest one tries, and nobody waits for it.
    clock.advance(Duration::from_millis(1));
    let together = Barrier::new(4);
    let slow = thread::scope(|scope| {
        let ask = || {
            together.wait();
            failure(&store).1 >= AT_ONCE
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|slow| *slow).count()
    });
    assert_eq!(slow, 1, "of those that come after the rest, one tries");

    server.resume();
    let (_, took) = failure(&store);
    assert!(took < AT_ONCE);
    clock.advance(REST);
    assert_eq!(outcome(&store, claim(1)), Outcome::Claimed);
    clock.advance(Duration::from_millis(1));
    assert_eq!(outcome(&store, claim(1)), Outcome::Claimed, "nothing is left of it");
}

fn a_server_that_was_emptied_is_filled_again(program: &Program) {
    let mut server = Server::start(program, &[]);
    let store = server.store();
    run(&store, publish(1, 1)).unwrap();
    server.tell::<()>("FLUSHALL");
    server.tell::<()>("SCRIPT FLUSH");
    assert!(run(&store, Operation::Look).unwrap().token.is_none());
    run(&store, publish(1, 1)).unwrap();
    server.kill();
    server.restart();
    assert!(run(&store, Operation::Look).unwrap().token.is_none());
    assert_eq!(outcome(&store, claim(1)), Outcome::Claimed);
}

fn a_connection_that_was_closed_is_replaced_unnoticed(program: &Program) {
    let server = Server::start(program, &[]);
    let store = server.store();
    for _ in 0..3 {
        run(&store, claim(1)).unwrap();
        server.tell::<()>("CLIENT KILL TYPE normal SKIPME yes");
    }
    assert_eq!(outcome(&store, claim(1)), Outcome::Claimed);
}

/// A way to servers: the first connection leads to `first`, which may keep its answers to itself, and all others to `port`.
fn way_to(first: u16, answers: bool, port: u16) -> u16 {
    let way = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let own = way.local_addr().unwrap().port();
    thread::spawn(move || {
        for (index, client) in way.incoming().enumerate() {
            let (port, answers) = if index == 0 { (first, answers) } else { (port, true) };
            let (client, server) = (client.unwrap(), TcpStream::connect(("127.0.0.1", port)).unwrap());
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from, &mut to));
            let (mut from, mut to) = (server, client);
            thread::spawn(move || match answers {
                true => std::io::copy(&mut from, &mut to),
                false => std::io::copy(&mut from, &mut std::io::sink()),
            });
        }
    });
    own
}

fn a_claim_whose_answer_was_lost_is_made_once_more(program: &Program) {
    let server = Server::start(program, &[]);
    // The script is there already, so that the first connection loses the answer to the claim itself.
    assert_eq!(outcome(&server.store(), Operation::Look), Outcome::Seen);
    let way = way_to(server.port, false, server.port);
    let store = RedisStore::new(&format!("redis://127.0.0.1:{way}")).unwrap();
    assert_eq!(outcome(&store, claim(1)), Outcome::Claimed);
    assert_eq!(server.calls("set"), 2, "it was made twice, and the second time it was its own");
    assert_eq!(outcome(&store, claim(2)), Outcome::Busy);
}

/// As behind a name that leads to the new primary now, while the connection leads to the old one.
fn a_primary_that_has_become_a_replica_is_looked_up_again(program: &Program) {
    let primary = Server::start(program, &[]);
    let replica = Server::start(program, &["--replicaof", "127.0.0.1", &primary.port.to_string()]);
    eventually("the replica is in step", || {
        replica.tell::<String>("INFO replication").contains("master_link_status:up")
    });
    let way = way_to(replica.port, true, primary.port);
    let store = RedisStore::new(&format!("redis://127.0.0.1:{way}")).unwrap();
    assert_eq!(outcome(&store, claim(1)), Outcome::Claimed);
}

fn a_server_without_memory_says_so_and_keeps_what_it_has(program: &Program) {
    let server = Server::start(program, &[]);
    let store = server.store();
    run(&store, claim(1)).unwrap();
    run(&store, Operation::Fail { owner: id(1), failure: "sealed".into(), pause: REST * 60 }).unwrap();
    run(&store, publish(1, 1)).unwrap();
    run(&store, Operation::Claim { owner: id(1), unwanted: Some(id(1)), lease: REST * 60 }).unwrap();
    server.tell::<()>("CONFIG SET maxmemory 1");
    for operation in [publish(1, 2), Operation::Fail { owner: id(1), failure: "sealed".into(), pause: REST * 60 }] {
        let error = run(&store, operation).expect_err("there is no memory");
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains("is out of memory") && error.hint().contains("maxmemory"), "{error}");
    }
    let seen = run(&store, Operation::Look).unwrap();
    assert_eq!(seen.token.map(|token| token.generation), Some(id(1)));
    assert!(!seen.busy_for.is_zero() && seen.pause.is_none(), "what was not carried out has changed nothing");
    server.tell::<()>("CONFIG SET maxmemory 0");
    assert_eq!(outcome(&store, publish(1, 2)), Outcome::Published);
}

fn a_replica_says_that_it_takes_no_writes(program: &Program) {
    let primary = Server::start(program, &[]);
    let replica = Server::start(program, &["--replicaof", "127.0.0.1", &primary.port.to_string()]);
    let store = replica.store();
    eventually("the replica is in step", || {
        replica.tell::<String>("INFO replication").contains("master_link_status:up")
    });
    let (error, _) = failure(&store);
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("is a replica that takes no writes"), "{error}");
    replica.tell::<()>("REPLICAOF NO ONE");
    assert_eq!(outcome(&store, claim(1)), Outcome::Claimed);
}

/// Everything that the client writes into its log, in any test.
static LOG: Mutex<String> = Mutex::new(String::new());

struct Collected;

impl log::Log for Collected {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LOG.lock().unwrap().push_str(&format!("{}\n", record.args()));
    }

    fn flush(&self) {}
}

fn a_wrong_password_is_told_and_not_shown(program: &Program) {
    let _ = log::set_logger(&Collected);
    log::set_max_level(log::LevelFilter::Trace);
    let server = Server::start(program, &["--requirepass", "right-one"]);
    let host = format!("127.0.0.1:{}", server.port);
    for url in [
        format!("redis://:wrong-one@{host}"),
        format!("redis://default:wrong-one@{host}"),
        format!("redis://nobody:wrong-one@{host}"),
        format!("redis+cluster://:wrong-one@{host}"),
        format!("redis+sentinel://{host}/alvys?sentinel-password=wrong-one"),
    ] {
        let store = RedisStore::new(&url).unwrap();
        let (error, _) = failure(&store);
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        assert!(error.to_string().contains("refuses the user or the password"), "{error}");
        assert!(!format!("{error} {error:?} {store:?}").contains("wrong-one"));
    }
    let log = LOG.lock().unwrap().clone();
    assert!(log.contains("Failed to connect to node"), "the log was not collected: {log}");
    assert!(!log.contains("wrong-one"), "{log}");

    for way in ["redis", "redis+cluster"] {
        let (error, _) = failure(&RedisStore::new(&format!("{way}://{host}")).unwrap());
        assert!(error.to_string().contains("asks for a password"), "{error}");
    }
    for login in [":right-one", "default:right-one"] {
        run(&RedisStore::new(&format!("redis://{login}@{host}")).unwrap(), claim(1)).unwrap();
    }
}

fn the_wrong_kind_of_store_is_told(program: &Program) {
    let server = Server::start(program, &[]);
    let error_of = |url: String| failure(&RedisStore::new(&url).unwrap()).0.to_string();
    let error = error_of(format!("redis+cluster://127.0.0.1:{}", server.port));
    assert!(error.contains("is not a cluster"), "{error}");
    let error = error_of(format!("redis+sentinel://127.0.0.1:{}/alvys", server.port));
    assert!(error.contains("is not a sentinel"), "{error}");
    let sentinel = Server::sentinel(program, &server);
    let error = error_of(format!("redis+sentinel://127.0.0.1:{}/another", sentinel.port));
    assert!(error.contains("knows a primary that is up"), "{error}");
    let nodes = cluster(program, &[]);
    let errors = (0..64).filter_map(|number| {
        let store = nodes[0].store();
        alvys_auth_store::BlockingStore::run(&store, &name(number), claim(1)).err()
    });
    let errors: Vec<_> = errors.map(|error| error.to_string()).collect();
    assert!(!errors.is_empty() && errors.iter().all(|error| error.contains("is a node of a cluster")), "{errors:?}");
}

#[test]
fn an_address_where_nothing_is_or_something_else_is_told() {
    let error_at = |url: &str| failure(&RedisStore::new(url).unwrap()).0;
    for way in ["redis://", "redis+cluster://", "rediss://"] {
        let error = error_at(&format!("{way}127.0.0.1:{}", free_port()));
        assert!(error.to_string().contains("no connection to the store"), "{error}");
    }
    let error = error_at(&format!("redis+sentinel://127.0.0.1:{}/alvys", free_port()));
    assert_eq!(error.kind(), ErrorKind::Transport, "{error}");
    let error = error_at("redis://store.invalid");
    assert!(matches!(error.kind(), ErrorKind::Transport | ErrorKind::TimedOut), "{error}");

    let web = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = web.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in web.incoming() {
            let mut client = client.unwrap();
            let _ = client.read(&mut [0; 64]);
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let error = error_at(&format!("redis://127.0.0.1:{port}"));
    assert_eq!(error.kind(), ErrorKind::Transport, "{error}");
}

/// At whatever point it falls silent: while the password or a certificate is expected, or when sentinels are asked.
#[test]
fn what_accepts_connections_and_says_nothing_is_given_up_in_time() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let host = format!("127.0.0.1:{}", silent.local_addr().unwrap().port());
    thread::scope(|scope| {
        for url in [
            format!("redis://{host}"),
            format!("redis://:password@{host}"),
            format!("rediss://{host}"),
            format!("redis+cluster://{host},{host}"),
            format!("redis+cluster://{host},127.0.0.1:{}", free_port()),
            format!("redis+sentinel://{host},{host},{host},{host},{host}/alvys"),
        ] {
            scope.spawn(move || {
                let store = RedisStore::new(&url).unwrap();
                let (error, _) = failure(&store);
                assert_eq!(error.kind(), ErrorKind::TimedOut, "{url}: {error}");
                assert!(failure(&store).1 < AT_ONCE, "{url}");
            });
        }
    });
}

/// A crowd waits for one connection that cannot be made, and not one after the other.
#[test]
fn everybody_who_waits_for_a_connection_has_its_failure() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("redis://:password@127.0.0.1:{}", silent.local_addr().unwrap().port());
    let store = RedisStore::new(&url).unwrap();
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| failure(&store));
        }
    });
    silent.set_nonblocking(true).unwrap();
    assert_eq!(silent.incoming().map_while(Result::ok).count(), 1, "one connection was tried for all");
}
