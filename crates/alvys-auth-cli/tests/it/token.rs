//! What `token` prints, and when it asks.

use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alvys_auth_sandbox::{Fault, Route};

use crate::support::{Ran, World, ran, spawned, token_of};

#[test]
fn every_format_prints_the_same_token() {
    let world = World::new();
    let token = world.token(&[]);
    assert_eq!(world.token(&["--format", "raw"]), token);

    let header = world.run(&["token", "--format", "header"]);
    assert_eq!(header.stdout, format!("Authorization: Bearer {token}\n"));

    let json = world.run(&["token", "--format", "json"]).json();
    assert_eq!(json["access_token"], token);
    assert_eq!(json["token_type"], "Bearer");
    assert!(json["scope"].as_str().unwrap().contains("load:read"));
    let unix = json["expires_at_unix"].as_u64().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!((now + 3500..=now + 3600).contains(&unix), "{unix}");
    assert!((3500..=3600).contains(&json["expires_in"].as_u64().unwrap()));
    let expires_at = json["expires_at"].as_str().unwrap();
    // Each run puts the rest of the lifetime on the wall clock, whose seconds may change meanwhile.
    assert_eq!(seconds(expires_at), unix);

    for (format, prefix) in [("env", "export "), ("dotenv", "")] {
        let lines = world.run(&["token", "--format", format]).stdout;
        assert!(lines.lines().all(|line| line.starts_with(&format!("{prefix}ALVYS_ACCESS_TOKEN"))), "{lines}");
        let script = "set -a; eval \"$LINES_\"; printf %s \"$ALVYS_ACCESS_TOKEN $ALVYS_ACCESS_TOKEN_EXPIRES_AT\"";
        let shell = Command::new("sh").args(["-c", script]).env("LINES_", lines).output().unwrap();
        let printed = String::from_utf8(shell.stdout).unwrap();
        let (same, at) = printed.split_once(' ').unwrap();
        assert_eq!(same, token);
        assert!(seconds(at).abs_diff(unix) <= 1, "{at}");
    }

    let credential = world.run(&["token", "--format", "exec-credential"]).json();
    assert_eq!(credential["apiVersion"], "client.authentication.k8s.io/v1");
    assert_eq!(credential["kind"], "ExecCredential");
    assert_eq!(credential["status"]["token"], token);
    assert!(seconds(credential["status"]["expirationTimestamp"].as_str().unwrap()).abs_diff(unix) <= 1, "{credential}");

    assert_eq!(world.sandbox.token_requests(), 1);
}

/// The time in seconds since 1970.
fn seconds(time: &str) -> u64 {
    let date = Command::new("date").args(["-u", "-d", time, "+%s"]).output().unwrap();
    String::from_utf8(date.stdout).unwrap().trim().parse().unwrap()
}

#[test]
fn a_credential_plugin_speaks_the_version_that_kubectl_asks_for() {
    let world = World::new();
    for (asked, spoken) in [("v1beta1", "v1beta1"), ("v1", "v1"), ("v9", "v1")] {
        let info = format!(r#"{{"apiVersion":"client.authentication.k8s.io/{asked}","kind":"ExecCredential"}}"#);
        let mut command = world.command(&["token", "--format", "exec-credential"]);
        let credential = ran(command.env("KUBERNETES_EXEC_INFO", info)).json();
        assert_eq!(credential["apiVersion"], format!("client.authentication.k8s.io/{spoken}"));
    }
}

#[test]
fn a_legacy_token_has_no_scope() {
    let world = World::new();
    let mut command = world.command(&["token", "--flow", "legacy", "--tenant", "va336", "--format", "json"]);
    let json = ran(command.env("ALVYS_TOKEN_URL", world.sandbox.legacy_token_url())).json();
    assert!(json["scope"].is_null());
    assert_eq!(world.sandbox.requests()[0].path(), "/api/authentication/va336/token");
}

#[test]
fn encoding_and_scope_reach_the_server() {
    let world = World::new();
    world.token(&["--encoding", "form", "--scope", "load:read trip:read", "--no-cache"]);
    world.token(&["--encoding", "json", "--no-cache"]);
    let requests = world.sandbox.requests();
    assert_eq!(requests[0].header("content-type"), Some("application/x-www-form-urlencoded"));
    assert!(String::from_utf8_lossy(requests[0].body()).contains("scope=load%3Aread+trip%3Aread"));
    assert_eq!(requests[1].header("content-type"), Some("application/json"));
}

#[test]
fn a_kept_token_is_used_until_it_is_not_wanted() {
    let world = World::new();
    let first = world.token(&[]);
    assert_eq!(world.token(&[]), first);
    assert_eq!(world.sandbox.token_requests(), 1);

    let second = world.token(&["--force"]);
    assert_ne!(second, first);
    assert_eq!(world.token(&[]), second, "a forced token is kept");

    let third = world.token(&["--no-cache"]);
    assert_ne!(third, second);
    assert_eq!(world.token(&[]), second, "a token without a cache is not kept");
    assert_ne!(token_of(&ran(world.command(&["token"]).env("ALVYS_NO_CACHE", "1"))), second);
    for off in ["0", "false", "No"] {
        assert_eq!(token_of(&ran(world.command(&["token"]).env("ALVYS_NO_CACHE", off))), second, "{off}");
    }
    assert_eq!(world.sandbox.token_requests(), 4);
}

#[test]
fn min_ttl_replaces_a_token_that_ends_too_soon() {
    let world = World::new();
    world.sandbox.set_lifetime(Duration::from_secs(600));
    let first = world.token(&[]);
    assert_eq!(world.token(&["--min-ttl", "9m"]), first);
    world.age(Duration::from_secs(4));
    assert_eq!(world.token(&[]), first);
    assert_ne!(world.token(&["--min-ttl", "597s"]), first);
    assert_eq!(world.sandbox.token_requests(), 2);
}

#[test]
fn a_min_ttl_beyond_the_lifetime_is_refused_and_asks_once() {
    let world = World::new();
    world.sandbox.set_lifetime(Duration::from_secs(600));
    for _ in 0..3 {
        let ran = world.run(&["token", "--min-ttl", "30m"]);
        assert!(ran.failed(78).contains("tokens live for 10 min 0 s here"), "{ran:?}");
    }
    assert_eq!(world.sandbox.token_requests(), 1);
}

/// Keeps a token whose renewal is due, and which is good for a quarter of a minute more.
fn nearly_over(world: &World) -> String {
    world.sandbox.set_lifetime(Duration::from_secs(200));
    let token = world.token(&[]);
    world.age(Duration::from_secs(185));
    token
}

#[test]
fn a_token_near_its_end_is_renewed_and_kept_on_where_that_fails() {
    let world = World::new();
    let first = nearly_over(&world);
    world.sandbox.inject(Route::Token, Fault::status(503).retry_after(Duration::from_secs(60)).once());
    let used_on = world.run(&["token", "-v"]);
    assert_eq!(used_on.stdout.trim(), first, "a failed renewal does not lose the token");
    assert!(used_on.stderr.contains("the token was not renewed and is used on: "), "{used_on:?}");
    assert_eq!(world.sandbox.token_requests(), 2);
    // Others are told of the wait and do not ask.
    assert_eq!(world.token(&[]), first);
    assert_eq!(world.sandbox.token_requests(), 2);
    world.run(&["token", "--force"]).failed(75);
    assert_eq!(world.sandbox.token_requests(), 2, "not even by force");
}

#[test]
fn a_token_near_its_end_is_replaced() {
    let world = World::new();
    let first = nearly_over(&world);
    let second = world.token(&[]);
    assert_ne!(second, first);
    assert_eq!(world.token(&[]), second);
    assert_eq!(world.sandbox.token_requests(), 2);
}

#[test]
fn nobody_waits_long_for_a_renewal_while_the_token_is_good() {
    let world = World::new();
    let first = nearly_over(&world);
    world.sandbox.inject(Route::Token, Fault::hang());
    let renewing = spawned(&mut world.command(&["token"]));
    world.asked(2);
    let started = Instant::now();
    assert_eq!(world.token(&[]), first, "another one renews it");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(token_of(&Ran::from(renewing.wait_with_output().unwrap())), first);
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
    let again = Instant::now();
    assert_eq!(world.token(&[]), first, "nobody tries again at once");
    assert!(again.elapsed() < Duration::from_secs(3), "{:?}", again.elapsed());
    assert_eq!(world.sandbox.token_requests(), 2);
}
