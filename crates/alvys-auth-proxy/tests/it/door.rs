//! Who is let in, by name, origin and key.

use std::net::SocketAddr;

use alvys_auth_proxy::{Account, Api, ErrorKind, Listen, Proxy, Server, Settings, SharedKey};
use alvys_auth_sandbox::Sandbox;

use crate::stage::{Stage, problem, raw, status, tokens};

const LOADS: &str = "/api/p/v1/loads";
const KEY: &str = "0123456789abcdef";

async fn with_host(stage: &Stage, host: &str) -> u16 {
    let request = format!("GET {LOADS} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    status(&raw(stage.address(), request).await)
}

#[tokio::test]
async fn only_its_own_names_open_the_proxy() {
    let stage = Stage::with(Settings::new().name("Alvys-Proxy").name("10.1.2.3").name("fd00::1")).await;
    for host in [
        "localhost",
        "LOCALHOST:1",
        "127.0.0.1",
        "127.9.9.9:80",
        "[::1]:8350",
        "alvys-proxy",
        "ALVYS-PROXY:1",
        "10.1.2.3:8350",
        "[fd00::1]",
    ] {
        assert_eq!(with_host(&stage, host).await, 200, "{host}");
    }
    let before = stage.received().len();
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "10.1.2.4",
        "[fd00::2]",
        "0.0.0.0",
        "[::ffff:8.8.8.8]",
        "xlocalhost",
    ] {
        assert_eq!(with_host(&stage, host).await, 421, "{host}");
    }
    for host in ["", "localhost@evil.example", "evil@localhost", "a b", "local/host", "http://localhost"] {
        assert_eq!(with_host(&stage, host).await, 400, "{host}");
    }
    assert_eq!(stage.received().len(), before);
}

#[tokio::test]
async fn one_host_is_sent_and_no_other() {
    let stage = Stage::start().await;
    for request in [
        "GET /healthz HTTP/1.1\r\n\r\n",
        "GET /healthz HTTP/1.0\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ] {
        let request = request.replace("HTTP/1.1\r\n\r\n", "HTTP/1.1\r\nConnection: close\r\n\r\n");
        assert_eq!(status(&raw(stage.address(), &request).await), 400, "{request}");
    }
}

#[tokio::test]
async fn on_http2_the_authority_counts_and_nothing_may_contradict_it() {
    let stage = Stage::start().await;
    let evil = reqwest::Client::builder().no_proxy().http2_prior_knowledge().resolve("evil.example", stage.address());
    let evil = evil.build().unwrap();
    let url = format!("http://evil.example:{}{LOADS}", stage.address().port());
    assert_eq!(evil.get(&url).send().await.unwrap().status(), 421);
    let good = evil.get(stage.url(LOADS));
    assert_eq!(good.try_clone().unwrap().header("host", "evil.example").send().await.unwrap().status(), 400);
    assert_eq!(good.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn it_is_no_forward_proxy() {
    let stage = Stage::start().await;
    for (request, expected) in [
        ("GET http://localhost/healthz HTTP/1.1", 400),
        ("GET http://evil.example/ HTTP/1.1", 400),
        ("OPTIONS * HTTP/1.1", 400),
        ("CONNECT localhost:443 HTTP/1.1", 405),
        ("TRACE /api/p/v1/loads HTTP/1.1", 405),
    ] {
        let answer = raw(stage.address(), format!("{request}\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(status(&answer), expected, "{request}");
        assert_eq!(answer.to_ascii_lowercase().contains("\r\nallow: "), expected == 405);
    }
    assert!(stage.received().is_empty());
}

#[tokio::test]
async fn pages_of_other_sites_are_turned_away() {
    let stage = Stage::start().await;
    let own = stage.url("");
    let port = stage.address().port();
    for (name, value, expected) in [
        ("sec-fetch-site", "none", 200),
        ("sec-fetch-site", "same-origin", 200),
        ("sec-fetch-site", "same-site", 403),
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "", 403),
        ("origin", own.as_str(), 200),
        ("origin", "null", 403),
        ("origin", "https://evil.example", 403),
        ("origin", &format!("https://127.0.0.1:{port}"), 403),
        ("origin", "http://127.0.0.1", 403),
        ("origin", &format!("http://localhost:{port}"), 403),
        ("origin", &format!("{own}.evil.example"), 403),
        ("referer", own.as_str(), 200),
        ("referer", &format!("{own}/status?x"), 200),
        ("referer", "https://evil.example/page", 403),
        ("referer", "http://evil.example", 403),
        ("referer", &format!("{own}.evil.example/"), 403),
        ("referer", &format!("https://127.0.0.1:{port}/"), 403),
        ("referer", "about:blank", 403),
    ] {
        for path in [LOADS, "/status", "/healthz"] {
            let answer = stage.get(path).header(name, value).send().await.unwrap();
            assert_eq!(answer.status(), expected, "{name}: {value}");
        }
    }
    // A browser that says where the request comes from says so in these, and a page may set its referrer.
    for (name, value) in [("sec-fetch-site", "same-origin"), ("origin", own.as_str())] {
        let answer = stage.get(LOADS).header(name, value).header("referer", "https://evil.example/").send().await;
        assert_eq!(answer.unwrap().status(), 200, "{name}");
    }
    let answer = stage.get(LOADS).header("origin", own).header("origin", "https://evil.example").send().await.unwrap();
    assert_eq!(problem(answer).await.1["reason"], "cross_site");
}

#[tokio::test]
async fn with_a_key_every_request_carries_it() {
    let stage = Stage::with(Settings::new().key(SharedKey::new(KEY).unwrap())).await;
    for path in [LOADS, "/healthz", "/readyz", "/metrics", "/status", "/mcp"] {
        let (status, document) = problem(stage.get(path).send().await.unwrap()).await;
        assert_eq!((status, document["reason"].as_str()), (403, Some("key")), "{path}");
    }
    for wrong in ["", "0123456789abcdeg", "0123456789abcde", "0123456789abcdef0"] {
        assert_eq!(stage.get(LOADS).header("x-alvys-proxy-key", wrong).send().await.unwrap().status(), 403, "{wrong}");
    }
    let twice = stage.get(LOADS).header("x-alvys-proxy-key", KEY).header("x-alvys-proxy-key", KEY);
    assert_eq!(twice.send().await.unwrap().status(), 403);
    let answer = stage.get(LOADS).header("x-alvys-proxy-key", KEY).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(stage.received().len(), 1);
    assert_eq!(stage.last().header("x-alvys-proxy-key"), None);
    let metrics = stage.get("/metrics").header("x-alvys-proxy-key", KEY).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("alvys_proxy_turned_away_total{reason=\"key\"} 11"), "{metrics}");
}

#[test]
fn a_key_is_long_and_never_shown() {
    for weak in ["", "short", "0123456789abcde", "0123456789 abcdef", "0123456789abcdef\n", "0123456789abcdefé"] {
        assert_eq!(SharedKey::new(weak).unwrap_err().kind(), ErrorKind::Configuration);
    }
    let settings = Settings::new().key(SharedKey::new(KEY).unwrap());
    assert!(!format!("{settings:?}").contains(KEY));
}

#[tokio::test]
async fn other_machines_are_let_in_only_when_that_is_said_and_a_key_is_asked() {
    let sandbox = Sandbox::start().unwrap();
    let key = || SharedKey::new(KEY).unwrap();
    let anywhere = || Listen::Tcp(SocketAddr::from(([0, 0, 0, 0], 0)));
    let server = |settings: Settings| {
        let account = Account::new(tokens(&sandbox, &sandbox.application()));
        Server::new(Proxy::new(account, Api::at(&sandbox.api_url()).unwrap(), settings).unwrap())
    };
    for settings in [Settings::new(), Settings::new().expose(), Settings::new().key(key())] {
        let error = server(settings).listen(&anywhere()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains("other machines can reach 0.0.0.0:0"), "{error}");
    }
    assert!(server(Settings::new().expose().key(key())).listen(&anywhere()).await.is_ok());
    let taken = server(Settings::new()).listen(&Listen::Tcp(sandbox.address())).await.unwrap_err();
    assert!(taken.to_string().contains("cannot listen at"), "{taken}");
}

#[tokio::test]
async fn a_request_that_went_round_is_not_sent_round_again() {
    let stage = Stage::start().await;
    let answer = stage.get(LOADS).header("via", "1.1 corner, 1.1 alvys-auth-proxy").send().await.unwrap();
    assert_eq!(problem(answer).await.0, 508);
    assert!(stage.received().is_empty());
}
