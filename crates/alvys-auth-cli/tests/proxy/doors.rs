//! Who is let in, and where: keys, names, sockets, and the port for probes.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use crate::support::{Running, World, exists, failed, get};

const KEY: &str = "a-key-of-24-characters-x";

#[test]
fn a_key_from_a_file_or_the_environment_is_asked_of_every_request() {
    let world = World::new();
    let file = world.file("key", &format!("{KEY}\n"));
    let by_file = Running::start(&world, &mut world.complete(&["--key-file", &file]), 1);
    let by_environment = Running::start(&world, world.complete(&[]).env("ALVYS_PROXY_KEY", KEY), 1);
    for proxy in [by_file, by_environment] {
        let url = format!("{}/api/p/v1/loads", proxy.url());
        assert_eq!(get(&url, &[]).status, 403);
        assert_eq!(get(&url, &[("x-alvys-proxy-key", "another-key-of-some-length")]).status, 403);
        assert_eq!(get(&url, &[("x-alvys-proxy-key", KEY)]).status, 200);
        assert_eq!(proxy.get("/status").status, 403, "its own pages too");
        proxy.says("a request with a wrong key came");
    }
    assert!(world.calls().iter().all(|call| call.header("x-alvys-proxy-key").is_none()));
}

#[test]
fn with_a_key_it_may_listen_everywhere_and_answers_to_the_names_given() {
    let world = World::new();
    let mut command = world.bare(&["proxy", "--listen", "0.0.0.0:0", "--expose", "--name", "Proxy.Internal"]);
    command.envs([
        ("ALVYS_CLIENT_ID", world.sandbox.application().client_id().to_owned()),
        ("ALVYS_CLIENT_SECRET", world.secret()),
        ("ALVYS_TOKEN_URL", world.sandbox.token_url()),
        ("ALVYS_API_BASE_URL", world.sandbox.api_url()),
        ("ALVYS_PROXY_KEY", KEY.to_owned()),
    ]);
    let proxy = Running::start(&world, &mut command, 1);
    let port = proxy.url().rsplit(':').next().unwrap();
    let url = format!("http://127.0.0.1:{port}/api/p/v1/loads");
    let called = |host: &str| get(&url, &[("host", host), ("x-alvys-proxy-key", KEY)]).status;
    assert_eq!(called(&format!("proxy.internal:{port}")), 200);
    assert_eq!(called(&format!("evil.example:{port}")), 421);
}

#[test]
fn a_unix_socket_is_for_this_user_alone_and_goes_with_the_proxy() {
    let world = World::new();
    let socket = world.path("proxy.sock");
    let mut command = world.complete(&["--listen", &format!("unix:{socket}")]);
    let proxy = Running::start(&world, &mut command, 2);
    assert_eq!(proxy.places[1], format!("unix:{socket}"));
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);

    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(b"GET /api/p/v1/loads HTTP/1.1\r\nhost: alvys\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    proxy.signal("TERM");
    assert_eq!(proxy.code(), Some(0));
    assert!(!exists(&socket));
}

#[test]
fn the_port_for_probes_answers_probes_and_nothing_else() {
    let world = World::new();
    let mut command = world.complete(&["--health", "127.0.0.1:0"]);
    let proxy = Running::start(&world, command.env("ALVYS_PROXY_KEY", KEY), 2);
    let health = |path: &str| get(&format!("{}{path}", proxy.places[1]), &[]);
    assert_eq!(health("/healthz").status, 200);
    assert_eq!(health("/readyz").status, 200);
    assert!(health("/metrics").body.contains("alvys_proxy_token_expiry_seconds"));
    for path in ["/status", "/token", "/api/p/v1/loads", "/"] {
        assert_eq!(health(path).status, 404, "{path}");
    }
}

#[test]
fn the_command_asks_a_proxy_whether_it_is_alive_and_ready() {
    let world = World::new();
    let mut command = world.complete(&["--health", "127.0.0.1:0"]);
    let proxy = Running::start(&world, command.env("ALVYS_CLIENT_SECRET", "wrong"), 2);
    let health = |path: &str| world.bare(&["health", &format!("{}{path}", proxy.places[1])]);
    assert_eq!(health("/healthz").output().unwrap().status.code(), Some(0));
    let said = failed(&mut health("/readyz"), 75);
    assert!(said.contains("status 503"), "{said}");
    proxy.signal("TERM");
    let mut elsewhere = health("/healthz");
    assert_eq!(proxy.code(), Some(0));
    failed(&mut elsewhere, 69);
}

#[test]
fn a_notice_gives_its_advice_once() {
    let world = World::new();
    let proxy = Running::start(&world, world.complete(&[]).env("ALVYS_CLIENT_SECRET", "wrong"), 1);
    let call = proxy.get("/api/p/v1/loads").json();
    let (detail, hint) = (call["detail"].as_str().unwrap(), call["hint"].as_str().unwrap());
    proxy.says("no access token: ");
    assert_eq!(proxy.said().matches(hint).count(), 1, "{}", proxy.said());
    assert!(!detail.contains(hint), "{call}");
}

#[test]
fn it_is_up_but_not_ready_while_the_credentials_are_refused() {
    let world = World::new();
    let mut command = world.complete(&["--health", "127.0.0.1:0"]);
    let proxy = Running::start(&world, command.env("ALVYS_CLIENT_SECRET", "wrong"), 2);
    let health = |path: &str| get(&format!("{}{path}", proxy.places[1]), &[]);
    assert_eq!(health("/healthz").status, 200);
    assert_eq!(health("/readyz").status, 503);
    let call = proxy.get("/api/p/v1/loads");
    assert_eq!((call.status, &call.json()["reason"]), (502, &"credentials".into()));
    for _ in 0..10 {
        assert_eq!(health("/readyz").status, 503);
    }
    let said = proxy.said();
    assert!(said.contains("no access token: the token endpoint refused"), "{said}");
    assert_eq!(said.lines().count(), 1, "told once: {said}");
    assert!(!said.contains("wrong"), "{said}");
    assert!(health("/metrics").body.contains("alvys_proxy_token_failures_total{kind=\"credentials\"}"));
}
