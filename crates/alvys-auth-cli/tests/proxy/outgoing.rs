//! Which proxy the sidecar's requests take, and whom it trusts.

use std::fs;
use std::process::Command;

use alvys_auth_tests::proxied::Proxy;
use alvys_auth_tests::tls::{Server, fixture};

use crate::support::{Running, World, failed};

/// A sidecar for the token endpoint and the API of `server`, which it trusts.
fn at(world: &World, server: &Server, arguments: &[&str]) -> Command {
    let mut command = world.complete(arguments);
    command
        .env("ALVYS_TOKEN_URL", format!("{}/oauth/token", server.url()))
        .env("ALVYS_API_BASE_URL", format!("{}/api/p/v1", server.url()))
        .env("ALVYS_CA_BUNDLE", fixture("localhost.pem"))
        // Each is to ask for a token of its own.
        .env("ALVYS_STORE", "none");
    command
}

#[test]
fn a_proxy_that_cannot_be_understood_is_a_wrong_setting() {
    let (world, server) = (World::new(), Server::start(false));
    for value in ["http://exa mple:80", "http//host", "ftp://host", "socks6://u:canary@host", "http://xn--a"] {
        let said = failed(at(&world, &server, &[]).env("ALL_PROXY", value), 78);
        assert!(said.contains("ALL_PROXY") && !said.contains("canary"), "{said}");
    }
    assert_eq!(server.offers().len(), 0);
}

#[test]
fn every_kind_of_proxy_carries_token_requests_and_calls() {
    let (world, server, proxy) = (World::new(), Server::start(false), Proxy::willing());
    for scheme in ["http", "socks4", "socks4a", "socks5", "socks5h"] {
        let before = (proxy.seen().len(), server.answered());
        let url = format!("{scheme}://127.0.0.1:{}", proxy.port);
        let running = Running::start(&world, at(&world, &server, &[]).env("HTTPS_PROXY", url), 1);
        assert_eq!(running.get("/api/p/v1/loads").status, 200, "{scheme}: {}", running.said());
        assert_eq!(
            (proxy.seen().len(), server.answered()),
            (before.0 + 2, before.1 + 2),
            "{scheme}: both went through"
        );
    }
}

#[test]
fn a_server_on_this_machine_takes_nothing_around_the_proxy() {
    let (world, server, proxy) = (World::new(), Server::start(false), Proxy::willing());
    let mcp = format!("{}/mcp", world.sandbox.url());
    let mut command = at(&world, &server, &["--mcp-url", &mcp]);
    let running = Running::start(&world, command.env("ALL_PROXY", format!("socks5h://127.0.0.1:{}", proxy.port)), 1);
    assert_eq!(running.get("/api/p/v1/loads").status, 200, "{}", running.said());
    running.get("/mcp");
    assert_eq!(world.sandbox.requests().iter().filter(|request| request.path() == "/mcp").count(), 1);
    assert_eq!(proxy.seen(), vec![format!("socks5 localhost:{}", server.port); 2], "all https and no plain http");
}

#[test]
fn a_proxy_that_refuses_its_password_is_asked_once() {
    let (world, server) = (World::new(), Server::start(false));
    let proxy = Proxy::start("127.0.0.1:0", "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    let url = format!("http://user:canary@127.0.0.1:{}", proxy.port);
    let running = Running::start(&world, at(&world, &server, &[]).env("HTTPS_PROXY", url), 1);
    for _ in 0..3 {
        let answer = running.get("/api/p/v1/loads");
        assert!(answer.body.contains("the proxy refuses its user name and password"), "{answer:?}");
        assert!(!answer.body.contains("canary"), "{answer:?}");
    }
    assert_eq!(proxy.seen().len(), 1, "a refusal is remembered");
}

#[test]
fn one_bad_certificate_of_a_bundle_does_no_harm() {
    let (world, server) = (World::new(), Server::start(false));
    let good = fs::read_to_string(fixture("localhost.pem")).unwrap();
    let bad = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let bundle = world.file("bundle.pem", &format!("{bad}{good}"));
    let running = Running::start(&world, at(&world, &server, &["-v"]).env("ALVYS_CA_BUNDLE", bundle), 1);
    running.says("1 left out");
    assert_eq!(running.get("/api/p/v1/loads").status, 200, "{}", running.said());
}

#[test]
fn a_client_certificate_is_shown_to_servers_that_ask() {
    let (world, server) = (World::new(), Server::start(true));
    let [certificate, key] = ["localhost.pem", "localhost.key"].map(|name| fixture(name).to_str().unwrap().to_owned());
    let mut command = at(&world, &server, &["--client-cert", &certificate, "--client-key", &key]);
    let running = Running::start(&world, &mut command, 1);
    assert_eq!(running.get("/api/p/v1/loads").status, 200, "{}", running.said());
    assert_eq!(server.answered(), 2);
}
