//! Through which proxy and with whose trust both drivers reach a token endpoint.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use alvys_auth_core::{Api, Error, ErrorKind, Flow, Policy, Token, TransportFault};
use alvys_auth_driver::{FixedTokens, ManualClock, Proxies, Time, Trust, Trusted};
use alvys_auth_tests::proxied::Proxy;
use alvys_auth_tests::raw::Raw;
use alvys_auth_tests::tls::{Server, fixture};
use alvys_auth_tests::{both_drivers, credentials};
use rustls::crypto::ring;
use tokio::runtime::Runtime;

/// A driver that asks once for a token.
trait Driver {
    fn token(endpoint: &str, proxies: Proxies, trust: &Trust) -> Result<Token, Error>;
    /// Makes calls of this API, as often as it is asked to: the status that each ends with, redirects followed.
    fn calls(base: &str, proxies: Proxies, trust: &Trust, clock: Time) -> Box<dyn Fn() -> Result<u16, Error>>;

    /// The status that one call ends with.
    fn called(base: &str, proxies: Proxies, trust: &Trust) -> u16 {
        Self::calls(base, proxies, trust, Time::boot())().expect("an answer")
    }
}

struct Async;
struct Blocking;

/// One request may take a minute, and is not tried again while a caller waits.
fn policy() -> Policy {
    let long = Duration::from_secs(3600);
    Policy::new().request_timeout(Duration::from_secs(60)).backoff(long, long).pause_while_waiting(long)
}

fn trusted(trust: &Trust) -> Result<Trusted, Error> {
    trust.read(Arc::new(ring::default_provider()))
}

impl Driver for Async {
    fn token(endpoint: &str, proxies: Proxies, trust: &Trust) -> Result<Token, Error> {
        let http = alvys_auth_reqwest::Http::with(proxies, trusted(trust)?.config);
        let url = endpoint.parse().expect("a URL");
        let flow = Flow::current().endpoint(endpoint);
        http.check(&url)?;
        let tokens = alvys_auth_reqwest::TokenSource::builder(flow, credentials("id", "secret"));
        let tokens = tokens.policy(policy()).http(http).build()?;
        Runtime::new().expect("a runtime").block_on(async { tokens.token().await })
    }

    fn calls(base: &str, proxies: Proxies, trust: &Trust, clock: Time) -> Box<dyn Fn() -> Result<u16, Error>> {
        let http = alvys_auth_reqwest::Http::with(proxies, trusted(trust).expect("certificates").config);
        let client = alvys_auth_reqwest::Client::builder(fixed(), Api::at(base).expect("a base")).http(http);
        let client = client.clock(clock).build().expect("a client");
        let runtime = Runtime::new().expect("a runtime");
        Box::new(move || {
            runtime.block_on(async { client.get("loads").send().await }).map(|answer| answer.status().as_u16())
        })
    }
}

impl Driver for Blocking {
    fn token(endpoint: &str, proxies: Proxies, trust: &Trust) -> Result<Token, Error> {
        let http = alvys_auth_ureq::Http::with(proxies, trusted(trust)?.config);
        let url = endpoint.parse().expect("a URL");
        let flow = Flow::current().endpoint(endpoint);
        http.check(&url)?;
        let agent = http.agent(alvys_auth_ureq::Http::config());
        let tokens = alvys_auth_ureq::TokenSource::builder(flow, credentials("id", "secret"));
        tokens.policy(policy()).http(agent).build()?.token()
    }

    fn calls(base: &str, proxies: Proxies, trust: &Trust, clock: Time) -> Box<dyn Fn() -> Result<u16, Error>> {
        let http = alvys_auth_ureq::Http::with(proxies, trusted(trust).expect("certificates").config);
        let client = alvys_auth_ureq::Client::builder(fixed(), Api::at(base).expect("a base")).clock(clock);
        let client = client.http(http.agent(alvys_auth_ureq::Http::config())).build().expect("a client");
        Box::new(move || client.get("loads").send().map(|answer| answer.status().as_u16()))
    }
}

fn fixed() -> FixedTokens {
    FixedTokens::holding("an.access.token", "load:read").expect("a token")
}

fn localhost() -> Trust {
    Trust::system().only("the test", fixture("localhost.pem"))
}

fn named(proxy: String) -> Proxies {
    Proxies::read(move |name| (name == "HTTPS_PROXY").then(|| proxy.clone()))
}

/// Asks for a token through the proxy of this URL, in which `PORT` is replaced, and gives what the proxy has seen.
#[track_caller]
fn led<D: Driver>(server: &Server, proxy: &Proxy, url: &str) -> Vec<String> {
    let url = url.replace("PORT", &proxy.port.to_string());
    let before = proxy.seen().len();
    D::token(&format!("{}/oauth/token", server.url()), named(url.clone()), &localhost()).expect(&url);
    proxy.seen().split_off(before)
}

fn every_kind_of_proxy_leads_to_the_server<D: Driver>() {
    let (server, proxy, encrypted) = (Server::start(false), Proxy::willing(), Proxy::encrypted());
    let place = format!("localhost:{}", server.port);
    let here = format!("127.0.0.1:{}", server.port);
    let cases = [
        ("http://127.0.0.1:PORT", format!("CONNECT {place}")),
        ("127.0.0.1:PORT", format!("CONNECT {place}")),
        ("http://DOMAIN\\user:p%20w@127.0.0.1:PORT", format!("CONNECT Basic RE9NQUlOXHVzZXI6cCB3 {place}")),
        ("socks4://127.0.0.1:PORT", format!("socks4 {here}")),
        ("socks4a://127.0.0.1:PORT", format!("socks4a {place}")),
        ("socks5h://127.0.0.1:PORT", format!("socks5 {place}")),
        ("socks5h://us%3Aer:p%40w@127.0.0.1:PORT", format!("socks5 us:er:p@w {place}")),
    ];
    for (url, seen) in cases {
        assert_eq!(led::<D>(&server, &proxy, url), [seen], "{url}");
    }
    // The first address of the server is of either family.
    let seen = led::<D>(&server, &proxy, "socks5://127.0.0.1:PORT");
    assert!(
        [here, format!("[::1]:{}", server.port)].iter().any(|place| seen == [format!("socks5 {place}")]),
        "{seen:?}"
    );
    assert_eq!(led::<D>(&server, &encrypted, "https://localhost:PORT"), [format!("CONNECT {place}")]);
}

fn a_proxy_that_cannot_be_used_is_an_error_and_nothing_goes_around_it<D: Driver>() {
    let server = Server::start(false);
    let endpoint = format!("{}/oauth/token", server.url());
    for proxy in ["http://exa mple:80", "http//host", "ftp://host", "socks5://user@host"] {
        let error = D::token(&endpoint, named(proxy.to_owned()), &localhost()).expect_err(proxy);
        assert_eq!(error.kind(), ErrorKind::Configuration, "{proxy}: {error}");
        assert!(error.to_string().contains("HTTPS_PROXY"), "{proxy}: {error}");
    }
    assert_eq!(server.offers().len(), 0);
}

/// As the sidecar's address is a base, and an answer of it may lead to a document elsewhere.
fn a_redirect_away_from_this_machine_takes_the_proxy<D: Driver>() {
    for scheme in ["http", "socks5h"] {
        let (server, proxy) = (Server::start(false), Proxy::willing());
        let to = format!("{}/document", server.url());
        let here = Raw::start(move |asked| {
            let head = format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
            asked.stream.write_all(head.as_bytes()).map(|()| true)
        });
        let proxies = named(format!("{scheme}://127.0.0.1:{}", proxy.port));
        assert_eq!(D::called(here.url(), proxies, &localhost()), 200, "{scheme}");
        assert_eq!((here.requests(), proxy.seen().len(), server.answered()), (1, 1, 1), "{scheme}");
    }
}

fn an_exception_goes_directly<D: Driver>() {
    let server = Server::start(false);
    let proxies = Proxies::read(|name| match name {
        "ALL_PROXY" => Some("socks5h://unusable-proxy.invalid".to_owned()),
        "NO_PROXY" => Some("localhost".to_owned()),
        _ => None,
    });
    D::token(&format!("{}/oauth/token", server.url()), proxies, &localhost()).expect("a token");
    assert_eq!(server.answered(), 1);
}

fn one_bad_certificate_of_a_bundle_is_left_out_and_told<D: Driver>() {
    let server = Server::start(false);
    let good = fs::read_to_string(fixture("localhost.pem")).expect("a certificate");
    let bad = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bundle.pem");
    fs::write(&path, format!("{bad}{good}-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n{good}"))
        .expect("a file");
    let trust = Trust::system().only("ALVYS_CA_BUNDLE", &path);
    D::token(&format!("{}/oauth/token", server.url()), Proxies::default(), &trust).expect("a token");
    let ignored = trusted(&trust).expect("trust").ignored;
    assert!(
        ignored.len() == 1 && ignored[0].contains("2 left out") && ignored[0].contains("ALVYS_CA_BUNDLE"),
        "{ignored:?}"
    );

    fs::write(&path, bad).expect("a file");
    let error = trusted(&trust).expect_err("nobody to trust");
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("holds no certificate that can be used"), "{error}");
}

fn a_bundle_replaces_all_others_and_more_certificates_are_added<D: Driver>() {
    let server = Server::start(false);
    let endpoint = format!("{}/oauth/token", server.url());
    let folder = tempfile::tempdir().expect("a folder");
    fs::copy(fixture("localhost.pem"), folder.path().join("one.pem")).expect("a copy");
    for trust in [
        localhost(),
        Trust::system().only("the test", folder.path()),
        Trust::system().more("the test", fixture("localhost.pem")),
        Trust::system().only("the test", fixture("other.pem")).more("the test", fixture("localhost.pem")),
    ] {
        D::token(&endpoint, Proxies::default(), &trust).unwrap_or_else(|error| panic!("{trust:?}: {error}"));
    }
    let answered = server.answered();
    for trust in [Trust::system(), Trust::system().only("the test", fixture("other.pem"))] {
        D::token(&endpoint, Proxies::default(), &trust).expect_err("a stranger");
    }
    assert_eq!(server.answered(), answered);
}

fn a_client_certificate_is_shown_to_those_who_ask<D: Driver>() {
    let server = Server::start(true);
    let endpoint = format!("{}/oauth/token", server.url());
    let shown = localhost().identity(fixture("localhost.pem"), fixture("localhost.key"));
    D::token(&endpoint, Proxies::default(), &shown).expect("a token");
    D::token(&endpoint, Proxies::default(), &localhost()).expect_err("nothing is shown");
    assert_eq!(server.answered(), 1);
    for [certificate, key] in
        [["localhost.pem", "localhost.pem"], ["localhost.key", "localhost.key"], ["other.pem", "localhost.key"]]
    {
        let trust = localhost().identity(fixture(certificate), fixture(key));
        let error = D::token(&endpoint, Proxies::default(), &trust).expect_err("no certificate with its key");
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        assert!(error.to_string().contains("localhost") || error.to_string().contains("other"), "{error}");
    }
}

fn a_proxy_that_refuses_is_told_as_one<D: Driver>() {
    let server = Server::start(false);
    let cases = [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", ErrorKind::ProxyCredentials),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", ErrorKind::Transport),
        ("nonsense\r\n\r\n", ErrorKind::Transport),
    ];
    for (answer, kind) in cases {
        let proxy = Proxy::start("127.0.0.1:0", answer);
        let url = named(format!("http://user:canary@127.0.0.1:{}", proxy.port));
        let error = D::token(&format!("{}/oauth/token", server.url()), url, &localhost()).expect_err(answer);
        assert_eq!(error.kind(), kind, "{answer}: {error:?}");
        assert!(!format!("{error:?} {error:#}").contains("canary"), "{error:?}");
        assert_eq!(proxy.seen().len(), 1);
    }
    assert_eq!(server.offers().len(), 0);
}

/// No connection is no connection, in the same words, whatever the reason.
fn a_server_that_is_not_reached_is_told_in_the_same_words<D: Driver>() {
    for endpoint in [format!("https://{}/oauth/token", closed()), "https://no-such-host.invalid/oauth/token".to_owned()]
    {
        let error = D::token(&endpoint, Proxies::default(), &localhost()).expect_err("nobody is there");
        assert_eq!(
            (error.kind(), error.what().as_str()),
            (ErrorKind::Transport, "no connection to the token endpoint"),
            "{endpoint}"
        );
        assert!(error.cause().is_some(), "{error:?}");
    }
}

/// An address at which nobody listens.
fn closed() -> String {
    TcpListener::bind("127.0.0.1:0").expect("a socket").local_addr().expect("an address").to_string()
}

fn a_dead_proxy_is_named_without_its_credentials<D: Driver>() {
    let closed = closed();
    for scheme in ["http", "https", "socks4", "socks4a", "socks5", "socks5h"] {
        let user = if scheme.starts_with("socks4") { "" } else { "user:canary@" };
        let proxies = || named(format!("{scheme}://{user}{closed}"));
        let token = D::token("https://localhost/oauth/token", proxies(), &localhost()).expect_err("a dead proxy");
        let call =
            D::calls("https://localhost/api", proxies(), &localhost(), Time::boot())().expect_err("a dead proxy");
        for error in [token, call] {
            let told = (error.kind(), error.is_retryable(), error.fault());
            assert_eq!(told, (ErrorKind::Transport, true, Some(TransportFault::ProxyUnreached)), "{scheme}: {error:?}");
            assert_eq!(error.what(), format!("no connection to the proxy {scheme}://{closed} of HTTPS_PROXY"));
            assert!(error.cause().is_some(), "{error:#}");
            assert!(!format!("{error:?} {error:#}").contains("canary"), "{error:?}");
        }
    }
}

fn a_proxy_that_refuses_a_socks_password_is_told_as_one<D: Driver>() {
    let server = Server::start(false);
    let proxy = Proxy::start("127.0.0.1:0", "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    for user in ["user:canary@", ""] {
        for scheme in ["socks5", "socks5h"] {
            let proxies = named(format!("{scheme}://{user}127.0.0.1:{}", proxy.port));
            let before = proxy.seen().len();
            let error = D::token(&format!("{}/oauth/token", server.url()), proxies, &localhost()).expect_err("refused");
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::ProxyCredentials, false), "{user}: {error:?}");
            assert!(!format!("{error:?} {error:#}").contains("canary"), "{error:?}");
            assert!(proxy.seen().len() - before <= 1, "asked once");
        }
    }
    assert_eq!(server.offers().len(), 0);
}

fn calls_ask_a_proxy_that_refuses_its_password_once_in_five_minutes<D: Driver>() {
    let server = Server::start(false);
    let proxy = Proxy::start("127.0.0.1:0", "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    let clock = Arc::new(ManualClock::new());
    let proxies = named(format!("http://user:canary@127.0.0.1:{}", proxy.port));
    let call = D::calls(&format!("{}/api", server.url()), proxies, &localhost(), Arc::clone(&clock).into());
    let refused = |left: Option<u64>| {
        let error = call().expect_err("the proxy refuses");
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::ProxyCredentials, false), "{error:?}");
        assert_eq!(error.retry_after(), left.map(Duration::from_secs));
        assert!(!format!("{error:?} {error:#}").contains("canary"), "{error:?}");
    };
    refused(None);
    refused(Some(300));
    clock.advance(Duration::from_secs(299));
    refused(Some(1));
    assert_eq!(proxy.seen().len(), 1);
    clock.advance(Duration::from_secs(1));
    refused(None);
    assert_eq!((proxy.seen().len(), server.offers().len()), (2, 0));
}

/// The file of a block without an end would have been read as one with a longer first certificate.
fn a_certificate_without_an_end_swallows_no_other_and_is_told<D: Driver>() {
    let server = Server::start(false);
    let good = fs::read_to_string(fixture("localhost.pem")).expect("a certificate");
    let other = fs::read_to_string(fixture("other.pem")).expect("a certificate");
    let (cut, _) = other.split_once("-----END").expect("an end");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bundle.pem");
    for bundle in [format!("{cut}{good}"), format!("{good}{cut}"), format!("{other}{cut}{good}{other}")] {
        fs::write(&path, bundle).expect("a file");
        let trust = Trust::system().only("ALVYS_CA_BUNDLE", &path);
        D::token(&format!("{}/oauth/token", server.url()), Proxies::default(), &trust).expect("a token");
        let ignored = trusted(&trust).expect("trust").ignored;
        assert!(ignored.len() == 1 && ignored[0].contains("1 left out"), "{ignored:?}");
        assert!(ignored[0].ends_with("a block has no END line"), "{ignored:?}");
    }
    fs::write(&path, format!("{good}{cut}")).expect("a file");
    let shown = localhost().identity(&path, fixture("localhost.key"));
    assert!(trusted(&shown).expect_err("half a chain").to_string().contains("a block has no END line"));
}

fn what_is_wrong_with_a_certificate_is_told_in_words<D: Driver>() {
    let (server, proxy) = (Server::start(false), Proxy::willing());
    let through = || named(format!("http://127.0.0.1:{}", proxy.port));
    for (host, proxies, trust, words) in [
        (
            "localhost",
            Proxies::default(),
            Trust::system().only("the test", fixture("other.pem")),
            "this machine does not trust its issuer",
        ),
        ("auth.example.com", through(), localhost(), "it is not for auth.example.com but for localhost"),
    ] {
        let endpoint = format!("https://{host}:{}/oauth/token", server.port);
        let error = D::token(&endpoint, proxies, &trust).expect_err("a stranger");
        assert_eq!(error.kind(), ErrorKind::Certificate, "{error:#}");
        assert_eq!(error.what(), "the certificate of the token endpoint is not trusted");
        assert!(error.cause().is_some_and(|cause| cause.starts_with(words)), "{error:#}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let plain = format!("https://{}/oauth/token", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        let mut streams: Vec<_> = listener.incoming().map_while(Result::ok).take(1).collect();
        streams
            .iter_mut()
            .try_for_each(|stream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
            .map(|()| streams)
    });
    let error = D::token(&plain, Proxies::default(), &localhost()).expect_err("no TLS");
    assert_eq!(error.cause().as_deref(), Some("what the other side says is not TLS"), "{error:#}");
}

both_drivers!(
    a_dead_proxy_is_named_without_its_credentials,
    a_proxy_that_refuses_a_socks_password_is_told_as_one,
    calls_ask_a_proxy_that_refuses_its_password_once_in_five_minutes,
    a_certificate_without_an_end_swallows_no_other_and_is_told,
    what_is_wrong_with_a_certificate_is_told_in_words,
    a_proxy_that_refuses_is_told_as_one,
    a_server_that_is_not_reached_is_told_in_the_same_words,
    every_kind_of_proxy_leads_to_the_server,
    a_proxy_that_cannot_be_used_is_an_error_and_nothing_goes_around_it,
    an_exception_goes_directly,
    a_redirect_away_from_this_machine_takes_the_proxy,
    one_bad_certificate_of_a_bundle_is_left_out_and_told,
    a_bundle_replaces_all_others_and_more_certificates_are_added,
    a_client_certificate_is_shown_to_those_who_ask,
);

#[test]
fn a_host_that_only_reqwest_cannot_read_is_an_error_of_the_async_driver() {
    let server = Server::start(false);
    let endpoint = format!("{}/oauth/token", server.url());
    let error = Async::token(&endpoint, named("http://xn--a:80".to_owned()), &localhost()).expect_err("no host");
    assert!(error.kind() == ErrorKind::Configuration && error.to_string().contains("HTTPS_PROXY"), "{error}");
    assert_eq!(server.offers().len(), 0);
}

#[test]
fn any_success_of_a_proxy_opens_the_tunnel_of_the_blocking_driver_whatever_its_headers() {
    let server = Server::start(false);
    let many: String = (0..25).map(|number| format!("x-header-{number}: value\r\n")).collect();
    for answer in [
        "HTTP/1.1 299 Fine\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\n{many}\r\n"),
        "HTTP/1.0 200\r\n\r\n".replace("1.0", "1.1"),
    ] {
        let proxy = Proxy::start("127.0.0.1:0", &answer);
        assert_eq!(
            led::<Blocking>(&server, &proxy, "http://127.0.0.1:PORT"),
            [format!("CONNECT localhost:{}", server.port)]
        );
    }
}
