//! What passes, and how it looks on the other side.

use alvys_auth_proxy::{Account, Api, ErrorKind, Listen, Proxy, Server, Settings};
use alvys_auth_sandbox::{Fault, Route, Sandbox};
use http::Version;

use crate::stage::{Running, Stage, client, raw, status, tokens};

const LOADS: &str = "/api/p/v1/loads";

#[tokio::test]
async fn a_call_reaches_the_same_path_with_a_token() {
    let stage = Stage::start().await;
    let answer = stage.get("/api/p/v1/loads?page=0&pageSize=2").header("x-kept", "yes").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert!(answer.text().await.unwrap().contains("load-2"));

    let received = stage.last();
    assert_eq!((received.method(), received.path()), ("GET", LOADS));
    assert_eq!(received.query(), Some("page=0&pageSize=2"));
    assert_eq!(received.header("x-kept"), Some("yes"));
    assert_eq!(received.header("host"), Some(stage.sandbox.address().to_string().as_str()));
    let token = stage.tokens.token().await.unwrap();
    assert_eq!(received.header("authorization").unwrap(), token.header().to_str().unwrap());
    assert_eq!(stage.sandbox.tokens_issued(), 1);
}

#[tokio::test]
async fn what_belongs_to_one_hop_ends_here() {
    let stage = Stage::start().await;
    let request = "GET /api/p/v1/loads HTTP/1.1\r\nHost: localhost\r\nConnection: X-Mine , close\r\nConnection: x-other\r\n\
                   X-Mine: 1\r\nX-Other: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nUpgrade: websocket\r\nTrailer: x\r\n\
                   Proxy-Authorization: Basic x\r\nProxy-Connection: close\r\nProxy-Thing: 1\r\n\
                   Authorization: Bearer stolen\r\nForwarded: for=10.0.0.1\r\nX-Forwarded-For: 10.0.0.1\r\n\
                   X-Real-IP: 10.0.0.1\r\nOrigin: http://localhost\r\nSec-Fetch-Site: none\r\nSec-Fetch-Mode: cors\r\n\
                   X-Alvys-Proxy-Key: k\r\nX-Alvys-Idempotent: true\r\nX-Alvys-Token-Request: true\r\n\
                   Cookie: a=b\r\nX-End: kept\r\nVia: 1.1 corner\r\n\r\n";
    assert_eq!(status(&raw(stage.address(), request).await), 200);
    let received = stage.last();
    let gone = "connection x-mine x-other keep-alive te upgrade trailer proxy-authorization proxy-connection proxy-thing \
                forwarded x-forwarded-for x-real-ip origin sec-fetch-site sec-fetch-mode x-alvys-proxy-key \
                x-alvys-idempotent x-alvys-token-request";
    for name in gone.split_ascii_whitespace() {
        assert_eq!(received.header(name), None, "{name}");
    }
    assert!(!received.header("authorization").unwrap().contains("stolen"));
    assert_eq!(received.header("cookie"), Some("a=b"));
    assert_eq!(received.header("x-end"), Some("kept"));
    let via: Vec<_> = received.headers().get_all("via").iter().collect();
    assert_eq!(via, ["1.1 corner", "1.1 alvys-auth-proxy"]);
}

#[tokio::test]
async fn what_belongs_to_one_hop_of_the_answer_ends_here() {
    let stage = Stage::start().await;
    let answer = Fault::reply(200, "{}")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("keep-alive", "timeout=5")
        .header("proxy-authenticate", "Basic")
        .header("upgrade", "h2c")
        .header("x-end", "kept")
        .header("set-cookie", "a=b");
    stage.sandbox.inject(Route::Api, answer);
    let answer = stage.get(LOADS).send().await.unwrap();
    for name in ["connection", "x-hop", "keep-alive", "proxy-authenticate", "upgrade"] {
        assert!(!answer.headers().contains_key(name), "{name}");
    }
    assert_eq!(answer.headers()["x-end"], "kept");
    assert_eq!(answer.headers()["set-cookie"], "a=b");
}

#[tokio::test]
async fn statuses_pass_that_say_nothing_about_the_token() {
    let stage = Stage::start().await;
    for status in [201, 204, 304, 400, 404, 409, 418, 422, 500, 502, 504] {
        stage.sandbox.inject(Route::Api, Fault::reply(status, "").header("x-end", "kept").once());
        let answer = stage.get(LOADS).send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["x-end"], "kept");
    }
}

#[tokio::test]
async fn a_path_is_written_as_it_came() {
    let stage = Stage::start().await;
    for path in ["/api/p/v1/loads/a%20b%2Fc%3f", "/api/p/v1//loads", "/api/p/v2/~x;y=1,2", "/api/p/v1", "/v1/me"] {
        let request = format!("GET {path}?q=%26a+b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        raw(stage.address(), request).await;
        let received = stage.last();
        assert_eq!((received.path(), received.query()), (path, Some("q=%26a+b")));
        assert!(received.header("authorization").is_some());
    }
}

#[tokio::test]
async fn a_path_that_may_be_read_in_two_ways_does_not_pass() {
    let stage = Stage::start().await;
    for path in [
        "/api/p/v1/../../x",
        "/api/p/v1/./p",
        "/api/p/v1/%2e%2E/x",
        "/api/p/v1/.%2e",
        "/api/p/v1/..\\x",
        "/api/p/v1/%2e%2e%2f%2e%2e%2foauth",
        "/api/p/v1/..%5c..%5coauth",
        "/api/p/v1/..;/..;/oauth",
        "/api/p/v1/%252e%252e%252foauth",
        "/mcp/../oauth",
        "/mcp/..%2foauth",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert_eq!(status(&raw(stage.address(), request).await), 400, "{path}");
    }
    assert!(stage.received().is_empty());
    let query = "/api/p/v1/loads?next=%2e%2e%2f..;/../..%5c";
    assert_eq!(stage.get(query).send().await.unwrap().status(), 200, "a query may have anything");
}

#[tokio::test]
async fn a_token_goes_to_the_api_and_to_no_other_path_of_its_host() {
    let stage = Stage::start().await;
    for path in [
        "/oauth/token",
        "//evil.com/x",
        "/",
        "/api",
        "/api/p",
        "/api/p/admin",
        "/api/p/v/loads",
        "/api/p/v1evil/loads",
        "/v1/me/x",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = raw(stage.address(), request).await;
        assert_eq!(status(&answer), 404, "{path}");
        assert!(answer.contains("\"reason\":\"not_served\"") && answer.contains("--allow-path"), "{answer}");
    }
    assert!(stage.received().is_empty());

    let stage = Stage::with(Settings::new().allow_path("/reports/").allow_path("/v1")).await;
    for (path, served) in
        [("/reports", true), ("/reports/2026", true), ("/v1/x", true), ("/reportsx", false), ("/report", false)]
    {
        let answer = stage.get(path).send().await.unwrap();
        assert_eq!(answer.status(), 404, "the sandbox has none of them");
        assert_eq!(stage.received().iter().any(|received| received.path() == path), served, "{path}");
    }
}

#[tokio::test]
async fn below_a_base_without_a_version_there_is_no_other_one() {
    let sandbox = Sandbox::start().unwrap();
    let base = format!("http://{}/gateway/alvys", sandbox.address());
    let account = Account::new(tokens(&sandbox, &sandbox.application())).unpaced();
    let running = Running::start(account, Api::at(&base).unwrap(), Settings::new()).await;
    for (path, served) in [("/gateway/alvys/loads", true), ("/gateway/other/loads", false), ("/gateway/v1/x", false)] {
        client().get(format!("http://{}{path}", running.address())).send().await.unwrap();
        assert_eq!(sandbox.requests().iter().any(|received| received.path() == path), served, "{path}");
    }
}

#[test]
fn an_allowed_path_is_a_plain_one() {
    let sandbox = Sandbox::start().unwrap();
    for path in ["", "/", "reports", "/a/../b", "/a?b", "/a#b", "//evil.com/x/..", "/a b"] {
        let account = Account::new(tokens(&sandbox, &sandbox.application()));
        let settings = Settings::new().allow_path(path);
        let error = Proxy::new(account, Api::at(&sandbox.api_url()).unwrap(), settings).unwrap_err();
        assert!(error.to_string().contains("not a plain path"), "{path}: {error}");
    }
}

#[tokio::test]
async fn http2_comes_in_as_well() {
    let stage = Stage::start().await;
    let http2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let calls = (0..20).map(|_| {
        http2
            .post(stage.url("/api/p/v1/loads/search"))
            .header("content-type", "application/json")
            .body("{\"page\":0}")
            .send()
    });
    for answer in futures_util::future::join_all(calls).await {
        let answer = answer.unwrap();
        assert_eq!((answer.version(), answer.status().as_u16()), (Version::HTTP_2, 200));
        assert!(!answer.headers().contains_key("transfer-encoding"));
    }
    assert_eq!(stage.last().header("via"), Some("2 alvys-auth-proxy"));
    assert_eq!(stage.last().body(), b"{\"page\":0}");
    assert_eq!(stage.sandbox.tokens_issued(), 1);
}

#[tokio::test]
async fn head_keeps_the_length_of_what_is_not_sent() {
    let stage = Stage::start().await;
    let url = stage.url("/api/p/v1/documents/document-1?bytes=5000");
    let answer = stage.client.head(url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-length"], "5000");
    assert_eq!(stage.last().method(), "HEAD");
}

#[tokio::test]
async fn encoded_bodies_pass_as_they_are() {
    let stage = Stage::start().await;
    for encoding in ["gzip", "br", "zstd", "deflate"] {
        let fault = Fault::reply(200, "as it is").header("content-encoding", encoding).once();
        stage.sandbox.inject(Route::Api, fault);
        let answer = stage.get(LOADS).send().await.unwrap();
        assert_eq!(answer.headers()["content-encoding"], encoding);
        assert_eq!(answer.text().await.unwrap(), "as it is");
    }
}

#[tokio::test]
async fn redirects_are_handed_through_and_lead_back_here_within_the_api() {
    let stage = Stage::start().await;
    let api = stage.sandbox.url();
    let elsewhere = "https://files.example.net/pod.pdf?signature=abc";
    let storage = format!("{api}/storage/x?signature=1");
    let cases = [
        (elsewhere.to_owned(), elsewhere.to_owned()),
        (format!("{api}/api/p/v1/loads/7?a=b#c"), "/api/p/v1/loads/7?a=b#c".to_owned()),
        (format!("{api}/api/p/v2.0/loads"), "/api/p/v2.0/loads".to_owned()),
        ("7".to_owned(), "/api/p/v1/7".to_owned()),
        ("/storage/x?signature=1".to_owned(), storage.clone()),
        (storage.clone(), storage),
        (format!("{api}/api/private"), format!("{api}/api/private")),
        ("//evil.example/api/p/v1/x".to_owned(), "http://evil.example/api/p/v1/x".to_owned()),
    ];
    for (from, to) in cases {
        stage.sandbox.inject(Route::Api, Fault::redirect(302, &from).once());
        let answer = stage.get(LOADS).send().await.unwrap();
        assert_eq!(answer.status(), 302);
        assert_eq!(answer.headers()["location"], to, "{from}");
    }
    assert_eq!(stage.received().len(), 8, "nothing was followed");
}

#[tokio::test]
async fn a_document_link_is_not_followed_and_takes_no_token_along() {
    let stage = Stage::start().await;
    let storage = Sandbox::start().unwrap();
    stage.sandbox.set_document_host(storage.url());
    let answer = stage.get("/api/p/v1/documents/document-1/download").send().await.unwrap();
    assert_eq!(answer.status(), 302);
    let link = answer.headers()["location"].to_str().unwrap().to_owned();
    assert!(link.starts_with(&storage.url()));
    assert!(storage.requests().is_empty());
    assert_eq!(client().get(link).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_mcp_location_leads_below_mcp() {
    let stage = Stage::start().await;
    let mcp = stage.sandbox.mcp_url();
    for (from, to) in [(format!("{mcp}/session/1?a"), "/mcp/session/1?a"), ("/mcp".to_owned(), "/mcp")] {
        stage.sandbox.inject_at("/mcp", Fault::redirect(307, &from).once());
        let answer = stage.post("/mcp").body("{}").send().await.unwrap();
        assert_eq!(answer.headers()["location"], to);
    }
    let outside = format!("{}/mcpx", stage.sandbox.url());
    stage.sandbox.inject_at("/mcp", Fault::redirect(307, &outside).once());
    assert_eq!(stage.post("/mcp").body("{}").send().await.unwrap().headers()["location"], outside.as_str());
}

#[tokio::test]
async fn transport_settings_that_would_lead_astray_are_overruled() {
    let (sandbox, elsewhere) = (Sandbox::start().unwrap(), Sandbox::start().unwrap());
    let through = reqwest::Proxy::all(elsewhere.url()).unwrap();
    let client_settings =
        move || reqwest::Client::builder().proxy(through.clone()).redirect(reqwest::redirect::Policy::limited(10));
    let account = Account::new(tokens(&sandbox, &sandbox.application())).unpaced();
    let api = Api::at(&sandbox.api_url()).unwrap();
    let proxy = Proxy::with_client(account, api, Settings::new(), client_settings).unwrap();
    let running = Running::serve(Server::new(proxy).listen(&Listen::loopback(0)).await.unwrap());
    sandbox.inject(Route::Api, Fault::redirect(307, elsewhere.api_url()).once());
    let url = format!("http://{}{LOADS}", running.address());
    assert_eq!(client().get(&url).send().await.unwrap().status(), 307);
    assert_eq!(client().get(&url).send().await.unwrap().status(), 200);
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn places_that_no_token_may_go_to_are_refused_at_once() {
    let sandbox = Sandbox::start().unwrap();
    for mcp in
        ["", "mcp.alvys.com", "http://mcp.example.com/mcp", "https://a@mcp.example.com/mcp", "https://x.example/?q"]
    {
        let account = Account::new(tokens(&sandbox, &sandbox.application()));
        let error = Proxy::new(account, Api::production(), Settings::new().mcp(mcp)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{mcp}");
    }
}
