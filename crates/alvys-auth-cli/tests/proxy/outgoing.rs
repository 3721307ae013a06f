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

/// A sidecar that gets its token from the sandbox, without any proxy, and calls `server`.
fn calling(world: &World, server: &Server) -> Command {
    let mut command = at(world, server, &[]);
    command.env("ALVYS_TOKEN_URL", world.sandbox.token_url());
    command
}

#[test]
fn calls_ask_a_proxy_that_refuses_its_password_once_until_sighup_and_tell_it() {
    let (world, server) = (World::new(), Server::start(false));
    let proxy = Proxy::start("127.0.0.1:0", "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    let url = format!("http://user:canary@127.0.0.1:{}", proxy.port);
    let running = Running::start(&world, calling(&world, &server).env("HTTPS_PROXY", url), 1);
    let refused = || {
        let answer = running.get("/api/p/v1/loads");
        assert_eq!((answer.status, answer.json()["reason"].as_str()), (502, Some("proxy_credentials")), "{answer:?}");
        assert!(answer.body.contains("the proxy refuses its user name and password"), "{answer:?}");
        answer.body.contains("retry after")
    };
    assert_eq!([refused(), refused(), refused()], [false, true, true]);
    assert_eq!(proxy.seen().len(), 1);
    running.signal("HUP");
    crate::support::within(|| !refused(), || "asked again after SIGHUP".to_owned());
    assert_eq!(proxy.seen().len(), 2);
    let said = running.said();
    assert_eq!(said.matches("calls fail: the proxy refuses its user name and password").count(), 1, "{said}");
    assert!(!said.contains("canary"), "{said}");
}

#[test]
fn a_dead_proxy_and_a_stranger_in_place_of_the_api_are_told_once() {
    let (world, server) = (World::new(), Server::start(false));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dead = ("HTTPS_PROXY", format!("http://user:canary@{closed}"));
    let stranger = ("ALVYS_CA_BUNDLE", fixture("other.pem").to_str().unwrap().to_owned());
    let named = format!("no connection to the proxy http://{closed} of HTTPS_PROXY");
    for ((name, value), words) in [(dead, &named[..]), (stranger, "the certificate of the API is not trusted")] {
        let running = Running::start(&world, calling(&world, &server).env(name, value), 1);
        for _ in 0..3 {
            let answer = running.get("/api/p/v1/loads");
            assert_eq!(answer.status, 502, "{answer:?}");
            assert!(answer.json()["detail"].as_str().unwrap().starts_with(words), "{answer:?}");
        }
        let said = running.said();
        assert_eq!(said.matches(&format!("calls fail: {words}")).count(), 1, "{said}");
        assert!(!said.contains("canary"), "{said}");
    }
}

#[test]
fn the_key_of_a_client_certificate_that_others_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let (world, server) = (World::new(), Server::start(true));
    let key = world.file("key.pem", &fs::read_to_string(fixture("localhost.key")).unwrap());
    let certificate = fixture("localhost.pem").to_str().unwrap().to_owned();
    let mode = |mode| fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
    let arguments = ["-v", "--client-cert", &certificate, "--client-key", &key];
    mode(0o620);
    let said = failed(&mut at(&world, &server, &arguments[1..]), 78);
    assert!(said.contains("other users of this machine can write") && said.contains("key.pem"), "{said}");
    mode(0o644);
    let running = Running::start(&world, &mut at(&world, &server, &arguments), 1);
    running.says("all users of this machine can read");
    assert_eq!(running.get("/api/p/v1/loads").status, 200, "{}", running.said());
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
