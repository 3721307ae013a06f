//! Which proxy a request takes, whom it trusts, and what is told of both.

use std::net::TcpListener;
use std::process::Command;

use alvys_auth_tests::proxied::Proxy;
use alvys_auth_tests::tls::{Server, fixture};

use crate::doctor::finds;
use crate::support::{Ran, World, ran};

/// A command for the token endpoint and the API of `server`, which it trusts.
fn at(world: &World, server: &Server, arguments: &[&str]) -> Command {
    let mut command = world.command(arguments);
    command
        .env("ALVYS_TOKEN_URL", format!("{}/oauth/token", server.url()))
        .env("ALVYS_API_BASE_URL", format!("{}/api/p/v1", server.url()))
        .env("ALVYS_CA_BUNDLE", fixture("localhost.pem"))
        .env("ALVYS_NO_CACHE", "1");
    command
}

fn url(proxy: &Proxy, scheme: &str) -> String {
    format!("{scheme}://127.0.0.1:{}", proxy.port)
}

#[test]
fn nothing_goes_around_a_proxy_that_cannot_be_understood() {
    let (world, server) = (World::new(), Server::start(false));
    let values = ["http://exa mple:80", "http//host", "ftp://host", "socks6://u:canary@host", "socks5://canary@host"];
    for value in values {
        for variable in ["HTTPS_PROXY", "all_proxy"] {
            for arguments in [&["token"][..], &["request", "GET", "loads"], &["doctor", "--json"]] {
                let ran = ran(at(&world, &server, arguments).env(variable, value));
                assert!(ran.ended(78).contains(variable), "{value}: {ran:?}");
                assert!(!format!("{ran:?}").contains("canary"), "{ran:?}");
                if arguments == ["doctor", "--json"] {
                    finds(&ran, "proxy", "failed", variable);
                    finds(&ran, "connection", "skipped", "the step before it failed: proxy");
                }
            }
        }
    }
    let jwks = format!("{}/keys", server.url());
    let keys = ran(at(&world, &server, &["inspect", &token(), "--jwks", &jwks]).env("HTTPS_PROXY", "ftp://host"));
    assert!(keys.failed(78).contains("HTTPS_PROXY"), "{keys:?}");
    assert_eq!(server.offers().len(), 0);
}

/// A token that could be verified, were there keys.
fn token() -> String {
    // {"alg":"RS256","kid":"one"} and {"iss":"https://auth.alvys.com/"}
    "eyJhbGciOiJSUzI1NiIsImtpZCI6Im9uZSJ9.eyJpc3MiOiJodHRwczovL2F1dGguYWx2eXMuY29tLyJ9.c2lnbmF0dXJl".to_owned()
}

#[test]
fn nothing_goes_around_a_proxy_that_does_not_answer() {
    let (world, server) = (World::new(), Server::start(false));
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for scheme in ["http", "https", "socks4", "socks4a", "socks5", "socks5h"] {
        let ran = ran(at(&world, &server, &["doctor", "--json"]).env("ALL_PROXY", format!("{scheme}://{dead}")));
        ran.ended(69);
        finds(&ran, "connection", "failed", "no connection to the proxy 127.0.0.1");
    }
    ran(at(&world, &server, &["token"]).env("ALL_PROXY", format!("socks4://{dead}"))).failed(69);
    assert_eq!(server.offers().len(), 0);
}

#[test]
fn every_kind_of_proxy_carries_token_requests_and_calls() {
    let (world, server, proxy) = (World::new(), Server::start(false), Proxy::willing());
    for scheme in ["http", "socks4", "socks4a", "socks5", "socks5h"] {
        let before = (proxy.seen().len(), server.answered());
        let called = ran(at(&world, &server, &["request", "GET", "loads"]).env("ALL_PROXY", url(&proxy, scheme)));
        assert!(called.text().contains("opaque"), "{scheme}: {called:?}");
        assert_eq!(
            (proxy.seen().len(), server.answered()),
            (before.0 + 2, before.1 + 2),
            "{scheme}: both went through"
        );
    }
}

#[test]
fn the_proxy_of_the_scheme_counts_and_a_broken_one_for_all_does_not() {
    let (world, server, proxy) = (World::new(), Server::start(false), Proxy::willing());
    let mut command = at(&world, &server, &["token"]);
    let both = ran(command.env("ALL_PROXY", "ftp://host").env("HTTPS_PROXY", url(&proxy, "http")));
    assert_eq!((both.text(), proxy.seen().len()), ("opaque\n", 1));
}

#[test]
fn doctor_tells_which_proxy_each_request_takes_and_why() {
    let (world, server, proxy) = (World::new(), Server::start(false), Proxy::willing());
    let direct = ran(&mut at(&world, &server, &["doctor", "--json"]));
    finds(&direct, "proxy", "ok", "requests go directly: neither HTTPS_PROXY nor ALL_PROXY is set");
    let mut command = at(&world, &server, &["doctor", "--json"]);
    command.env("HTTPS_PROXY", url(&proxy, "http").replace("://", "://user:canary@"));
    command.env("NO_PROXY", "api.example.com").env("ALVYS_API_BASE_URL", "https://api.example.com/api/p/v1");
    let split = ran(&mut command);
    finds(
        &split,
        "proxy",
        "ok",
        &format!("token requests go through {}, which HTTPS_PROXY names", url(&proxy, "http")),
    );
    finds(&split, "proxy", "ok", "calls go directly: NO_PROXY lists api.example.com");
    finds(&split, "connection", "ok", "the proxy 127.0.0.1 answers");
    finds(&split, "TLS", "ok", "trusted");
    assert!(!format!("{split:?}").contains("canary"), "{split:?}");
}

#[test]
fn doctor_finds_a_proxy_at_an_ipv6_address() {
    let (world, server) = (World::new(), Server::start(false));
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let proxy = Proxy::start("[::1]:0", "HTTP/1.1 200 OK\r\n\r\n");
    let mut command = at(&world, &server, &["doctor", "--json"]);
    let found = ran(command.env("HTTPS_PROXY", format!("http://[::1]:{}", proxy.port)));
    finds(&found, "name resolution", "ok", "the proxy ::1 is ::1");
    finds(&found, "connection", "ok", "over IPv6");
    finds(&found, "TLS", "ok", "trusted");
}

#[test]
fn doctor_has_words_of_its_own_for_a_proxy_that_refuses() {
    let (world, server) = (World::new(), Server::start(false));
    let cases = [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", 78, "refuses its user name and password"),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", 69, "does not lead to the server"),
    ];
    for (answer, code, said) in cases {
        let proxy = Proxy::start("127.0.0.1:0", answer);
        let ran = ran(at(&world, &server, &["doctor", "--json"])
            .env("HTTPS_PROXY", url(&proxy, "http://u:canary@").replace("@://", "@")));
        ran.ended(code);
        finds(&ran, "proxy", "failed", said);
        finds(&ran, "proxy", "failed", "HTTPS_PROXY");
        finds(&ran, "TLS", "skipped", "the step before it failed: proxy");
        assert!(!format!("{ran:?}").contains("canary"), "{ran:?}");
        assert_eq!(proxy.seen().len(), 1, "asked once");
    }
}

#[test]
fn a_stranger_is_told_of_in_words_everywhere() {
    let (world, server) = (World::new(), Server::start(false));
    let (jwks, token) = (format!("{}/keys", server.url()), token());
    for (arguments, code) in [
        (&["token", "-vv"][..], 69),
        (&["request", "GET", "loads", "-vv"], 69),
        (&["inspect", &token, "--jwks", &jwks], 69),
    ] {
        let ran = ran(at(&world, &server, arguments).env("ALVYS_CA_BUNDLE", fixture("other.pem")));
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(ran.stderr.contains("this machine does not trust its issuer"), "{ran:?}");
        assert!(!ran.stderr.contains("UnknownIssuer"), "{ran:?}");
    }
}

#[test]
fn a_dead_proxy_is_named_without_its_credentials() {
    let (world, server) = (World::new(), Server::start(false));
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for arguments in [&["token"][..], &["request", "GET", "loads"]] {
        let ran = ran(at(&world, &server, arguments).env("ALL_PROXY", format!("http://user:canary@{dead}")));
        assert!(ran.failed(69).contains(&format!("no connection to the proxy http://{dead} of ALL_PROXY")), "{ran:?}");
        assert!(!format!("{ran:?}").contains("canary"), "{ran:?}");
    }
}

#[test]
fn a_proxy_that_refuses_its_password_is_asked_once() {
    let (world, server) = (World::new(), Server::start(false));
    let proxy = Proxy::start("127.0.0.1:0", "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    let url = format!("http://user:canary@127.0.0.1:{}", proxy.port);
    for (asked, arguments) in [&["token"][..], &["request", "GET", "loads"]].into_iter().enumerate() {
        let ran = ran(at(&world, &server, arguments).env("HTTPS_PROXY", &url));
        assert!(ran.failed(78).contains("the proxy refuses its user name and password"), "{ran:?}");
        assert!(!ran.stderr.contains("canary"), "{ran:?}");
        assert_eq!(proxy.seen().len(), asked + 1);
    }
}

#[test]
fn one_bad_certificate_of_a_bundle_does_no_harm_and_is_told() {
    let (world, server) = (World::new(), Server::start(false));
    let good = std::fs::read_to_string(fixture("localhost.pem")).unwrap();
    let bundle =
        world.file("bundle.pem", format!("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n{good}"));
    let run = |arguments: &[&str]| ran(at(&world, &server, arguments).env("ALVYS_CA_BUNDLE", &bundle));
    for arguments in [&["token"][..], &["token", "-v"]] {
        let told = run(arguments);
        assert_eq!((told.code, told.stdout.as_slice()), (Some(0), &b"opaque\n"[..]), "{told:?}");
        let words = "bundle.pem of ALVYS_CA_BUNDLE holds certificates that cannot be used: 1 left out";
        assert_eq!(told.stderr.lines().filter(|line| line.contains(words)).count(), 1, "{told:?}");
    }
    finds(&run(&["doctor", "--json"]), "TLS", "warning", "1 left out");
}

#[test]
fn a_shared_token_is_had_without_certificates_and_without_a_way_out() {
    let (world, server) = (World::new(), Server::start(false));
    let run = |arguments: &[&str], variables: &[(&str, &str)]| {
        ran(at(&world, &server, arguments).env_remove("ALVYS_NO_CACHE").envs(variables.iter().copied()))
    };
    assert_eq!(run(&["token"], &[]).text(), "opaque\n");
    let broken = [("ALVYS_CA_BUNDLE", "/nonexistent/bundle.pem"), ("HTTPS_PROXY", "nonsense://host")];
    for one in broken {
        assert_eq!(run(&["token"], &[one]).text(), "opaque\n", "nothing is to be sent");
        assert!(run(&["token", "--force"], &[one]).failed(78).contains(one.0));
    }
    assert_eq!(server.answered(), 1);
}

#[test]
fn a_bundle_replaces_and_extra_certificates_add() {
    let (world, server) = (World::new(), Server::start(false));
    let [right, other] = ["localhost.pem", "other.pem"].map(|name| fixture(name).to_str().unwrap().to_owned());
    let run = |arguments: &[&str], variables: &[(&str, &str)]| -> Ran {
        let all = [&["doctor", "--json"], arguments].concat();
        ran(at(&world, &server, &all).env_remove("ALVYS_CA_BUNDLE").envs(variables.iter().copied()))
    };
    let directory = world.path("certificates");
    std::fs::create_dir(&directory).unwrap();
    std::fs::copy(&right, format!("{directory}/0123abcd.0")).unwrap();
    for (arguments, variables) in [
        (&["--ca-bundle", &right][..], &[][..]),
        (&["--extra-ca", &right], &[("ALVYS_CA_BUNDLE", other.as_str())]),
        (&[], &[("ALVYS_EXTRA_CA", right.as_str())]),
        (&[], &[("SSL_CERT_FILE", right.as_str())]),
        (&[], &[("SSL_CERT_DIR", directory.as_str())]),
        (&[], &[("SSL_CERT_FILE", other.as_str()), ("SSL_CERT_DIR", directory.as_str())]),
    ] {
        finds(&run(arguments, variables), "TLS", "ok", "trusted");
    }
    for (arguments, variables) in [
        (&[][..], &[][..]),
        (&["--ca-bundle", &other], &[("SSL_CERT_FILE", right.as_str())]),
        (&["--extra-ca", &other], &[]),
        (&[], &[("SSL_CERT_FILE", other.as_str())]),
    ] {
        finds(&run(arguments, variables), "TLS", "failed", "the certificate of the server is not trusted");
    }
}

#[test]
fn a_client_certificate_is_shown_to_servers_that_ask() {
    let (world, server) = (World::new(), Server::start(true));
    let [certificate, key] = ["localhost.pem", "localhost.key"].map(|name| fixture(name).to_str().unwrap().to_owned());
    let flags = ["request", "GET", "loads", "--client-cert", &certificate, "--client-key", &key];
    assert!(ran(&mut at(&world, &server, &flags)).text().contains("opaque"));
    let both = [&certificate, &key].map(|path| std::fs::read_to_string(path).unwrap()).concat();
    let both = world.file("both.pem", both);
    assert_eq!(ran(at(&world, &server, &["token"]).env("ALVYS_CLIENT_CERT", &both)).text(), "opaque\n");
    assert_eq!(server.answered(), 3);

    ran(&mut at(&world, &server, &["doctor"])).ended(69);
    let alone = ran(at(&world, &server, &["token"]).env("ALVYS_CLIENT_KEY", &key));
    assert!(alone.failed(78).contains("no certificate that it belongs to"), "{alone:?}");
    let wrong = ran(&mut at(&world, &server, &["token", "--client-cert", &certificate]));
    assert!(wrong.failed(78).contains("holds no private key"), "{wrong:?}");
    assert_eq!(server.answered(), 3);
}

#[test]
fn the_key_of_a_client_certificate_that_others_can_write_is_refused_and_one_that_they_can_read_is_told_of() {
    use std::os::unix::fs::PermissionsExt;
    let (world, server) = (World::new(), Server::start(true));
    let [certificate, key] =
        ["localhost.pem", "localhost.key"].map(|name| std::fs::read_to_string(fixture(name)).unwrap());
    let [alone, both] = [world.file("alone.pem", &key), world.file("both.pem", certificate.clone() + &key)];
    let certificate = world.file("certificate.pem", certificate);
    for (file, arguments) in
        [(&alone, &["--client-cert", &certificate, "--client-key", &alone][..]), (&both, &["--client-cert", &both])]
    {
        let arguments = [&["token", "-v"], arguments].concat();
        for (mode, words) in [(0o602, "can write"), (0o620, "can write"), (0o604, "can read"), (0o640, ""), (0o600, "")]
        {
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
            let ran = ran(&mut at(&world, &server, &arguments));
            assert_eq!(ran.code, Some(if words == "can write" { 78 } else { 0 }), "{mode:o}: {ran:?}");
            assert_eq!(ran.stderr.contains(&format!("users of this machine {words}")), !words.is_empty(), "{ran:?}");
        }
    }
}

#[test]
fn a_kept_token_needs_neither_certificates_nor_a_proxy() {
    let (world, server) = (World::new(), Server::start(false));
    let kept = |variables: &[(&str, &str)]| {
        let mut command = at(&world, &server, &["token"]);
        ran(command.env_remove("ALVYS_NO_CACHE").envs(variables.iter().copied()))
    };
    assert_eq!(kept(&[]).text(), "opaque\n");
    for (name, value) in
        [("ALVYS_CA_BUNDLE", "/nowhere.pem"), ("SSL_CERT_FILE", "/nowhere.pem"), ("ALL_PROXY", "ftp://host")]
    {
        assert_eq!(kept(&[(name, value)]).text(), "opaque\n", "{name}");
    }
    assert_eq!(server.answered(), 1);
}
