//! The rights that the README states: with exactly these everything works, and without any one of them something does not.

use std::collections::HashMap;
use std::time::Duration;

use alvys_auth_core::share::Operation;
use alvys_auth_core::{Error, ErrorKind};
use alvys_auth_redis::RedisStore;

use crate::servers::{
    Program, Server, check, claim, cluster, cluster_url, eventually, id, on_each_server, publish, run,
};

const README: &str = include_str!("../../README.md");
const KEYS: &str = "~{alvys:*";
const KEYS_WITH_PREFIX: &str = "~staging:{alvys:*";
const SERVER: &[&str] = &["+eval", "+evalsha", "+get", "+set", "+del", "+pttl"];
const DATABASE: &[&str] = &["+select"];
const CLUSTER: &[&str] = &["+cluster|slots"];
const PRIMARY: &[&str] = &["+role"];
const SENTINEL: &[&str] = &["+role", "+sentinel|masters"];

on_each_server!(
    one_server,
    one_server_without_a_password,
    with_a_prefix,
    with_a_database,
    a_cluster,
    a_primary_and_its_sentinel,
    a_missing_right_is_named,
);

/// Gives the user `alvys` these rights, and no others.
fn allow(server: &Server, keys: &str, rights: &[&str]) {
    server.tell::<()>(&format!("ACL SETUSER alvys reset on >secret {keys} {}", rights.join(" ")));
}

fn as_user(url: &str) -> String {
    url.replace("://", "://alvys:secret@")
}

/// That the README states these rights, and that `works` with them and without none of them.
///
/// `works` is tried on a store that connects anew, and whose script the server does not know yet.
fn each_right_is_needed(rights: &[&str], keys: &str, allow: impl Fn(&[&str]), works: impl Fn() -> Result<(), Error>) {
    let stated = format!("{keys} {}", rights.join(" ")).trim_start().to_owned();
    assert!(README.replace("\\|", "|").contains(&stated), "the README does not state `{stated}`");
    allow(rights);
    works().unwrap_or_else(|error| panic!("{stated} is not enough: {error}"));
    for one in rights {
        let others: Vec<_> = rights.iter().filter(|right| *right != one).copied().collect();
        allow(&others);
        let error = works().expect_err(one);
        assert!(matches!(error.kind(), ErrorKind::Configuration | ErrorKind::Transport), "without {one}: {error}");
    }
    allow(rights);
}

/// All that may happen at a store, on a connection of its own.
fn use_all(server: &Server, url: &str) -> Result<(), Error> {
    server.tell::<()>("FLUSHALL");
    server.tell::<()>("SCRIPT FLUSH");
    let store = RedisStore::new(url)?;
    let lease = Duration::from_secs(60);
    run(&store, Operation::Look)?;
    run(&store, claim(1))?;
    run(&store, Operation::Fail { owner: id(1), failure: "sealed".into(), pause: lease })?;
    run(&store, publish(1, 1))?;
    run(&store, Operation::Claim { owner: id(1), unwanted: Some(id(1)), lease })?;
    run(&store, publish(1, 2))?;
    run(&store, Operation::Reject { generation: id(2), grace: Duration::ZERO })?;
    Ok(())
}

/// Nothing but what the client does without.
fn nothing_was_refused_but(server: &Server, harmless: &[&str]) {
    let log: Vec<HashMap<String, String>> = server.tell("ACL LOG");
    let refused: Vec<_> = log.iter().map(|entry| entry["object"].as_str()).collect();
    assert!(refused.iter().all(|object| harmless.contains(object)), "the server has refused {refused:?}");
}

fn one_server(program: &Program) {
    let server = Server::start(program, &[]);
    let url = as_user(&server.url());
    each_right_is_needed(SERVER, KEYS, |rights| allow(&server, KEYS, rights), || use_all(&server, &url));
    server.tell::<()>("ACL LOG RESET");
    check(&RedisStore::new(&url).unwrap());
    nothing_was_refused_but(&server, &[]);
}

fn one_server_without_a_password(program: &Program) {
    let server = Server::start(program, &[]);
    let administrator = format!("ACL SETUSER default reset on nopass {KEYS} {}", SERVER.join(" "));
    server.tell::<()>(&administrator);
    check(&server.store());
}

fn with_a_prefix(program: &Program) {
    let server = Server::start(program, &[]);
    let url = as_user(&server.url());
    let with_prefix = format!("{url}?prefix=staging:");
    each_right_is_needed(
        SERVER,
        KEYS_WITH_PREFIX,
        |rights| allow(&server, KEYS_WITH_PREFIX, rights),
        || use_all(&server, &with_prefix),
    );
    check(&RedisStore::new(&with_prefix).unwrap());
    for elsewhere in ["", "?prefix=production:"] {
        let error = use_all(&server, &format!("{url}{elsewhere}")).expect_err("the keys are not its own");
        assert!(error.to_string().contains("forbids an operation"), "{error}");
    }
}

fn with_a_database(program: &Program) {
    let server = Server::start(program, &[]);
    let url = format!("{}/3", as_user(&server.url()));
    let rights = [SERVER, DATABASE].concat();
    each_right_is_needed(&rights, KEYS, |rights| allow(&server, KEYS, rights), || use_all(&server, &url));
    check(&RedisStore::new(&url).unwrap());
}

fn a_cluster(program: &Program) {
    let nodes = cluster(program, &[]);
    let url = as_user(&cluster_url(&nodes));
    let rights = [SERVER, CLUSTER].concat();
    let allow_everywhere = |rights: &[&str]| nodes.iter().for_each(|node| allow(node, KEYS, rights));
    each_right_is_needed(&rights, KEYS, allow_everywhere, || {
        // The second and third node lose their scripts as well.
        nodes[1..].iter().for_each(|node| node.tell("SCRIPT FLUSH"));
        use_all(&nodes[0], &url)
    });
    nodes.iter().for_each(|node| node.tell("ACL LOG RESET"));
    check(&RedisStore::new(&url).unwrap());
    nodes.iter().for_each(|node| nothing_was_refused_but(node, &["ping", "client|setinfo"]));
}

fn a_primary_and_its_sentinel(program: &Program) {
    let primary = Server::start(program, &[]);
    let sentinel = Server::sentinel(program, &primary);
    let url = format!(
        "redis+sentinel://alvys:secret@127.0.0.1:{}/alvys?sentinel-user=alvys&sentinel-password=secret",
        sentinel.port
    );
    let rights = [SERVER, PRIMARY].concat();
    allow(&sentinel, "", SENTINEL);
    let allow_at_primary = |rights: &[&str]| allow(&primary, KEYS, rights);
    each_right_is_needed(&rights, KEYS, allow_at_primary, || use_all(&primary, &url));
    each_right_is_needed(SENTINEL, "", |rights| allow(&sentinel, "", rights), || use_all(&primary, &url));
    primary.tell::<()>("ACL LOG RESET");
    sentinel.tell::<()>("ACL LOG RESET");
    check(&RedisStore::new(&url).unwrap());
    nothing_was_refused_but(&primary, &["client|setinfo"]);
    nothing_was_refused_but(&sentinel, &["client|setinfo"]);
}

fn a_missing_right_is_named(program: &Program) {
    let server = Server::start(program, &[]);
    allow(&server, KEYS, &["+eval", "+evalsha", "+get", "+del", "+pttl"]);
    let store = RedisStore::new(&as_user(&server.url())).unwrap();
    run(&store, Operation::Look).unwrap();
    let error = run(&store, claim(1)).expect_err("it may not write");
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("forbids an operation") && error.hint().contains("rights"), "{error}");
    assert!(!error.to_string().contains("secret"));
    // The administrator mends it, and nobody has to start anything again.
    allow(&server, KEYS, SERVER);
    eventually("the claim is allowed", || run(&store, claim(1)).is_ok());
}
