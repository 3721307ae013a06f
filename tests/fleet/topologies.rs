//! Servers with TLS, clusters, sentinels, and files of an earlier version.

use std::fs;

use alvys_auth_tests::{eventually, tls};

use crate::crew::{Fleet, Setup};
use crate::servers::{Program, Server, cluster, cluster_url, on_each_server};

const SIZE: usize = 6;

on_each_server!(
    a_cluster_of_three_nodes_loses_the_one_that_has_the_token,
    a_sentinel_leads_to_the_new_primary,
    a_certificate_that_is_not_trusted_makes_nobody_fail,
);

fn a_cluster_of_three_nodes_loses_the_one_that_has_the_token(program: &Program) {
    let mut nodes = cluster(program, &["--cluster-require-full-coverage", "no", "--cluster-node-timeout", "1000"]);
    let mut fleet = Fleet::start(&Setup::redis(cluster_url(&nodes)), SIZE);
    fleet.all_share("token", 1, "nobody has one");
    let with_token = nodes.iter().position(|node| node.tell::<u64>("DBSIZE") > 0).unwrap();
    nodes[with_token].kill();
    fleet.all_share("token", 0, "a node is lost, and everybody has a token");
    fleet.sandbox.reject_tokens();
    let (_, sent) = fleet.all("refused");
    assert!(sent <= SIZE, "{sent} requests");
    nodes[with_token].restart();
    recovers(&mut fleet);
}

fn a_sentinel_leads_to_the_new_primary(program: &Program) {
    let mut primary = Server::start(program, &[]);
    let replica = Server::start(program, &["--replicaof", "127.0.0.1", &primary.port.to_string()]);
    let sentinel = Server::sentinel(program, &primary);
    eventually("the sentinel knows the replica", || {
        replica.try_tell::<String>("INFO replication").is_ok_and(|info| info.contains("master_link_status:up"))
            && sentinel.tell::<Vec<redis::Value>>("SENTINEL REPLICAS alvys").len() == 1
    });
    let url = format!("redis+sentinel://127.0.0.1:{}/alvys", sentinel.port);
    let mut fleet = Fleet::start(&Setup::redis(url), SIZE);
    let token = fleet.all_share("token", 1, "nobody has one");
    eventually("the token is at the replica", || replica.tell::<u64>("DBSIZE") == 1);
    primary.kill();
    eventually("the new primary is seen", || fleet.all_see_the_server());
    assert_eq!(fleet.all_share("token", 0, "a primary is lost, and everybody has a token"), token);
    fleet.join(1);
    assert_eq!(fleet.all_share("token", 0, "who comes later has it from the new primary"), token);
    recovers(&mut fleet);

    // Now the primary is lost while all need a token.
    let mut last = replica;
    last.kill();
    fleet.sandbox.reject_tokens();
    let (_, sent) = fleet.all("refused");
    assert!(sent <= fleet.size(), "{sent} requests");
}

/// All agree on one token, without another request, and buy the next one together.
fn recovers(fleet: &mut Fleet) {
    fleet.agree();
    fleet.all_are_refused(1, "the store is whole again");
}

fn a_certificate_that_is_not_trusted_makes_nobody_fail(program: &Program) {
    if !program.has_tls {
        return eprintln!("skipped: this server is built without TLS");
    }
    let path = |name: &str| tls::fixture(name).display().to_string();
    let (pem, key, other) = (path("localhost.pem"), path("localhost.key"), path("other.pem"));
    let settings = ["--tls-cert-file", &pem, "--tls-key-file", &key, "--tls-ca-cert-file", &pem];
    let server = Server::start(program, &[&settings[..], &["--tls-auth-clients", "no"]].concat());
    let url = |ca: &str| format!("rediss://localhost:{}?ca={ca}", server.tls_port.unwrap());

    let mut fleet = Fleet::start(&Setup::redis(url(&pem)), SIZE);
    fleet.all_share("token", 1, "over TLS");

    let mut fleet = Fleet::start(&Setup::redis(url(&other)), SIZE);
    let (_, sent) = fleet.all("token");
    assert_eq!(sent, SIZE, "who does not trust the store asks for a token of its own");
    assert_eq!(fleet.all("token").1, 0, "and keeps it");

    let mut fleet = Fleet::start(&Setup::redis(url(&other)).with_files_below(), SIZE);
    fleet.all_share("token", 1, "or shares it on its host");
}

/// What the command kept before there were shared stores, in the same directory.
#[test]
fn files_of_the_first_format_are_left_alone() {
    let mut fleet = Fleet::start(&Setup::files(), SIZE);
    let files = ["token", "pause", "lock"].map(|ending| fleet.directory().join(format!("{:032x}.{ending}", 7)));
    for file in &files {
        fs::write(file, r#"{"format":1,"token":"an.old.token"}"#).unwrap();
    }
    fleet.all_share("token", 1, "old files are no token");
    fleet.all_are_refused(1, "old files are in nobody's way");
    for file in &files {
        assert_eq!(fs::read(file).unwrap(), br#"{"format":1,"token":"an.old.token"}"#);
    }
}
