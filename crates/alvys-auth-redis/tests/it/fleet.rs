//! Sentinels and clusters, while servers fail.

use alvys_auth_core::share::{Operation, Outcome};
use alvys_auth_redis::RedisStore;
use alvys_auth_store::BlockingStore;

use crate::servers::{
    Program, Server, check, claim, cluster, cluster_url, eventually, id, name, on_each_server, outcome, publish, run,
};

on_each_server!(
    the_primary_that_a_sentinel_names_keeps_the_promises,
    when_the_primary_is_lost_its_replica_is_used,
    a_primary_that_becomes_a_replica_is_left,
    one_sentinel_of_several_is_enough,
    a_cluster_without_one_node_serves_the_names_of_the_others,
    a_slot_that_moves_is_followed,
);

/// What the server says about itself; nothing while it cuts connections off, as when it becomes a replica.
fn replication(server: &Server) -> String {
    server.try_tell("INFO replication").unwrap_or_default()
}

fn behind(sentinels: &[u16]) -> RedisStore {
    let hosts: Vec<_> = sentinels.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    RedisStore::new(&format!("redis+sentinel://{}/alvys", hosts.join(","))).unwrap()
}

fn the_primary_that_a_sentinel_names_keeps_the_promises(program: &Program) {
    let primary = Server::start(program, &[]);
    let sentinel = Server::sentinel(program, &primary);
    check(&behind(&[sentinel.port]));
}

/// A primary with a replica in step, and a sentinel that knows both.
fn watched_pair(program: &Program) -> (Server, Server, Server) {
    let primary = Server::start(program, &[]);
    let replica = Server::start(program, &["--replicaof", "127.0.0.1", &primary.port.to_string()]);
    let sentinel = Server::sentinel(program, &primary);
    eventually("the sentinel knows the replica", || {
        replication(&replica).contains("master_link_status:up")
            && sentinel.tell::<Vec<redis::Value>>("SENTINEL REPLICAS alvys").len() == 1
    });
    (primary, replica, sentinel)
}

fn when_the_primary_is_lost_its_replica_is_used(program: &Program) {
    let (mut primary, replica, sentinel) = watched_pair(program);
    let store = behind(&[sentinel.port]);
    run(&store, publish(1, 1)).unwrap();
    eventually("the token is at the replica", || replica.tell::<u8>(&format!("EXISTS {{alvys:1:{}}}:t", name(0))) == 1);
    primary.kill();
    eventually("the replica has taken over", || run(&store, Operation::Look).is_ok());
    let seen = run(&store, Operation::Look).unwrap();
    assert_eq!(seen.token.map(|token| token.generation), Some(id(1)), "the token was not lost");
    assert!(replication(&replica).contains("role:master"));
}

/// The old primary lives on as a replica, and nothing but its own refusal tells the store of it.
fn a_primary_that_becomes_a_replica_is_left(program: &Program) {
    let (primary, replica, sentinel) = watched_pair(program);
    let store = behind(&[sentinel.port]);
    run(&store, claim(1)).unwrap();
    sentinel.tell::<()>("SENTINEL FAILOVER alvys");
    eventually("the new primary is used", || run(&store, claim(1)).is_ok() && replica.calls("evalsha") > 0);
    eventually("the old one is a replica", || {
        let works = run(&store, claim(1)).is_ok();
        replication(&primary).contains("role:slave") && works
    });
}

fn one_sentinel_of_several_is_enough(program: &Program) {
    let primary = Server::start(program, &[]);
    let mut lost = Server::sentinel(program, &primary);
    let sentinel = Server::sentinel(program, &primary);
    lost.kill();
    let store = behind(&[lost.port, sentinel.port]);
    assert_eq!(outcome(&store, claim(1)), Outcome::Claimed);
}

fn a_cluster_without_one_node_serves_the_names_of_the_others(program: &Program) {
    let mut nodes = cluster(program, &["--cluster-require-full-coverage", "no", "--cluster-node-timeout", "1000"]);
    let store = RedisStore::new(&cluster_url(&nodes)).unwrap();
    for number in 0..32 {
        assert_eq!(BlockingStore::run(&store, &name(number), claim(1)).unwrap().outcome, Outcome::Claimed);
    }
    nodes[0].kill();
    let served = || (0..32).filter(|number| BlockingStore::run(&store, &name(*number), claim(1)).is_ok()).count();
    eventually("the names of the others are served", || (8..32).contains(&served()));
    nodes[0].restart();
    eventually("all names are served", || served() == 32);
}

fn a_slot_that_moves_is_followed(program: &Program) {
    let nodes = cluster(program, &[]);
    let store = RedisStore::new(&cluster_url(&nodes)).unwrap();
    run(&store, claim(1)).unwrap();
    let slot: u16 = nodes[0].tell(&format!("CLUSTER KEYSLOT {{alvys:1:{}}}:t", name(0)));
    let from = nodes.iter().position(|node| node.tell::<u64>("DBSIZE") > 0).unwrap();
    let to = &nodes[(from + 1) % 3];
    let owner: String = to.tell("CLUSTER MYID");
    nodes[from].tell::<()>("FLUSHALL");
    to.tell::<()>(&format!("CLUSTER SETSLOT {slot} NODE {owner}"));
    to.tell::<()>("CLUSTER BUMPEPOCH");
    nodes[from].tell::<()>(&format!("CLUSTER SETSLOT {slot} NODE {owner}"));
    eventually("the new owner is used", || run(&store, claim(1)).is_ok() && to.tell::<u64>("DBSIZE") > 0);
}
