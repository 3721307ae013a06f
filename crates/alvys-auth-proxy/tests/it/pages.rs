//! What the proxy answers itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use alvys_auth_driver::ManualClock;
use alvys_auth_proxy::{Account, Api, Limit, Listen, Pace, Proxy, RateLimits, Server, Settings};
use alvys_auth_sandbox::{Application, Fault, Route, Sandbox};
use aws_lc_rs::digest;
use base64::Engine as _;

use crate::stage::{Running, SOON, Stage, client, problem, token_builder, tokens};

const LOADS: &str = "/api/p/v1/loads";

async fn wait_for(stage: &Stage, path: &str, status: u16) {
    let reached = async {
        while stage.get(path).send().await.unwrap().status() != status {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(SOON, reached).await.is_ok(), "{path} never says {status}");
}

#[tokio::test]
async fn a_proxy_becomes_ready_by_itself_and_costs_no_more_than_one_token() {
    let stage = Stage::start().await;
    wait_for(&stage, "/readyz", 200).await;
    for _ in 0..20 {
        assert_eq!(stage.get("/readyz").send().await.unwrap().status(), 200);
        assert_eq!(stage.get("/healthz").send().await.unwrap().text().await.unwrap(), "ok\n");
    }
    assert_eq!(stage.sandbox.tokens_issued(), 1);
    assert!(stage.received().is_empty(), "these pages ask nobody else");
}

#[tokio::test]
async fn a_token_that_ran_out_while_nobody_called_is_not_renewed_for_a_check() {
    let stage = Stage::start().await;
    wait_for(&stage, "/readyz", 200).await;
    stage.tokens.invalidate();
    assert_eq!(stage.get("/readyz").send().await.unwrap().status(), 200, "another one can be had");
    assert_eq!(stage.sandbox.tokens_issued(), 1);
}

#[tokio::test]
async fn a_proxy_that_gets_no_token_is_not_ready_until_it_does() {
    let stage = Stage::start().await;
    wait_for(&stage, "/readyz", 200).await;
    stage.sandbox.inject(Route::Token, Fault::status(401));
    stage.tokens.invalidate();
    assert_eq!(stage.get(LOADS).send().await.unwrap().status(), 502);
    let (status, document) = problem(stage.get("/readyz").send().await.unwrap()).await;
    assert_eq!((status, document["reason"].as_str()), (503, Some("credentials")));
    assert_eq!(stage.get("/healthz").send().await.unwrap().status(), 200, "the process is up all the same");
    stage.sandbox.clear_faults();
    wait_for(&stage, "/readyz", 200).await;
}

#[tokio::test]
async fn what_keeps_the_token_away_is_told_with_its_cause_on_every_page() {
    let (sandbox, gone) = (Sandbox::start().unwrap(), Sandbox::start().unwrap());
    let tokens = tokens(&gone, &sandbox.application());
    drop(gone);
    let api = Api::at(&sandbox.api_url()).unwrap();
    let running = Running::start(Account::new(tokens).unpaced(), api, Settings::new()).await;
    let get = |path: &str| client().get(format!("http://{}{path}", running.address())).send();
    let unready = problem(get("/readyz").await.unwrap()).await;
    let without_token = problem(get(LOADS).await.unwrap()).await;
    for ((status, document), expected) in [(unready, 503), (without_token, 502)] {
        assert_eq!((status, document["reason"].as_str()), (expected, Some("transport")), "{document}");
        let detail = document["detail"].as_str().unwrap();
        assert!(detail.starts_with("no connection to the token endpoint: Connection refused"), "{detail}");
    }
    let page = get("/status").await.unwrap().text().await.unwrap();
    assert!(page.contains("last failure: no connection to the token endpoint: Connection refused"), "{page}");
}

#[tokio::test]
async fn a_problem_gives_its_advice_once() {
    let stage = Stage::start().await;
    wait_for(&stage, "/readyz", 200).await;
    stage.sandbox.inject(Route::Api, Fault::status(403).once());
    let refused = problem(stage.get(LOADS).send().await.unwrap()).await;
    stage.sandbox.inject(Route::Token, Fault::status(401));
    stage.tokens.invalidate();
    let without_token = problem(stage.get(LOADS).send().await.unwrap()).await;
    let unready = problem(stage.get("/readyz").send().await.unwrap()).await;
    for ((status, document), expected) in [(refused, 403), (without_token, 502), (unready, 503)] {
        assert_eq!(status, expected);
        let (detail, hint) = (document["detail"].as_str().unwrap(), document["hint"].as_str().unwrap());
        assert!(!detail.is_empty() && !hint.is_empty() && !detail.contains(hint), "{document}");
    }
}

#[tokio::test]
async fn the_numbers_are_there() {
    let stage = Stage::start().await;
    assert_eq!(stage.get(LOADS).send().await.unwrap().status(), 200);
    assert_eq!(stage.get("/api/p/v1/loads/none").send().await.unwrap().status(), 404);
    stage.sandbox.inject(Route::Api, Fault::status(403).once());
    assert_eq!(stage.get(LOADS).send().await.unwrap().status(), 403);
    let answer = stage.get("/metrics").send().await.unwrap();
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    let metrics = answer.text().await.unwrap();
    for line in [
        "alvys_proxy_requests_total{status=\"200\"} 1",
        "alvys_proxy_requests_total{status=\"404\"} 1",
        "alvys_proxy_requests_total{status=\"403\"} 1",
        "alvys_proxy_refusals_total{kind=\"refused\"} 1",
        "alvys_proxy_tokens_total{reason=\"first\"} 1",
        "alvys_proxy_request_seconds_count 3",
        "alvys_proxy_request_seconds_bucket{le=\"60.0\"} 3",
        "alvys_proxy_calls_in_flight 0",
        "# EOF",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let expiry = metrics.lines().find_map(|line| line.strip_prefix("alvys_proxy_token_expiry_seconds ")).unwrap();
    let expiry: f64 = expiry.parse().unwrap();
    assert!((3500.0..=3600.0).contains(&expiry), "{expiry}");
    stage.tokens.invalidate();
    let metrics = stage.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("alvys_proxy_token_expiry_seconds 0"), "{metrics}");
}

#[tokio::test]
async fn tokens_and_failures_to_get_one_count_without_a_call() {
    let stage = Stage::start().await;
    let text = async |path: &str| stage.get(path).send().await.unwrap().text().await.unwrap();
    assert_eq!(text("/readyz").await, "ready\n");
    assert!(text("/metrics").await.contains("alvys_proxy_tokens_total{reason=\"first\"} 1"));
    assert!(text("/status").await.contains("has another access token (first)"));

    let refused = Application::new(stage.sandbox.application().client_id(), "another", "va336");
    let account = Account::new(tokens(&stage.sandbox, &refused));
    let running = Running::start(account, Api::at(&stage.sandbox.api_url()).unwrap(), Settings::new()).await;
    let get = async |path: &str| client().get(format!("http://{}{path}", running.address())).send().await.unwrap();
    for _ in 0..20 {
        assert_eq!(problem(get("/readyz").await).await.0, 503);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let metrics = get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("alvys_proxy_token_failures_total{kind=\"credentials\"}"), "{metrics}");
    let page = get("/status").await.text().await.unwrap();
    assert!(page.contains("</td><td>no access token: "), "{page}");
}

#[tokio::test]
async fn a_renewal_that_fails_behind_the_calls_is_counted() {
    let (sandbox, clock) = (Sandbox::start().unwrap(), Arc::new(ManualClock::new()));
    let tokens = token_builder(&sandbox, &sandbox.application()).clock(Arc::clone(&clock)).build().unwrap();
    let api = Api::at(&sandbox.api_url()).unwrap();
    let running = Running::start(Account::new(tokens.clone()).unpaced(), api, Settings::new()).await;
    let get = async |path: &str| client().get(format!("http://{}{path}", running.address())).send().await.unwrap();
    assert_eq!(get(LOADS).await.status(), 200);
    sandbox.inject(Route::Token, Fault::status(503));
    let left = tokens.status().expires_in.unwrap();
    clock.advance(left - Duration::from_secs(10));
    assert_eq!(get(LOADS).await.status(), 200, "the token at hand still does");
    let failures = "alvys_proxy_token_failures_total{kind=\"unavailable\"}";
    let counted = async {
        while !get("/metrics").await.text().await.unwrap().contains(failures) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, counted).await.expect("the failure is counted");
    assert!(tokens.status().expires_in.is_some());
    let page = get("/status").await.text().await.unwrap();
    assert!(page.contains("renewal</td><td>no access token: "), "{page}");
}

#[tokio::test]
async fn the_icon_that_browsers_ask_for_is_none_of_the_api() {
    let stage = Stage::start().await;
    let answer = stage.get("/favicon.ico").send().await.unwrap();
    assert_eq!(answer.status(), 204);
    assert_eq!(stage.sandbox.api_requests(), 0);
    assert!(stage.sandbox.requests().iter().all(|request| request.path() != "/favicon.ico"));
}

#[tokio::test]
async fn the_status_page_is_self_contained_and_keeps_secrets() {
    let stage = Stage::start().await;
    assert_eq!(stage.get(LOADS).send().await.unwrap().status(), 200);
    let hostile = "{\"title\":\"<script>alert(1)</script> & 'more' \\\"quotes\\\"\"}";
    let refusal = Fault::reply(403, hostile).header("content-type", "application/problem+json").once();
    stage.sandbox.inject(Route::Api, refusal);
    assert_eq!(stage.get("/api/p/v1/<b>x\"").send().await.unwrap().status(), 403);

    let answer = stage.get("/status").send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    let page = answer.text().await.unwrap();
    assert!(page.contains("GET loads</th>") && page.contains("usable for 59 min"), "{page}");
    assert!(page.contains("has another access token (first)"), "{page}");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt; &amp;"), "{page}");
    assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
    let links = ["src=", "href=", "url(", "@import", "<link", "<iframe", "<img", "style="];
    assert!(links.iter().all(|link| !page.contains(link)), "{page}");

    let style = page.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    let digest = digest::digest(&digest::SHA256, style.as_bytes());
    let hash = base64::engine::general_purpose::STANDARD.encode(digest);
    assert_eq!(
        policy,
        format!(
            "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; \
                                frame-ancestors 'none'"
        )
    );

    let application = stage.sandbox.application();
    let token = stage.tokens.token().await.unwrap();
    let metrics = stage.get("/metrics").send().await.unwrap().text().await.unwrap();
    for secret in [application.client_secret(), token.access_token()] {
        assert!(!page.contains(secret) && !metrics.contains(secret));
    }
}

#[tokio::test]
async fn the_status_page_tells_who_waits_and_forgets_the_oldest_decisions() {
    let sandbox = Sandbox::start().unwrap();
    let limits = RateLimits::none().lists([Limit::new(1, Duration::from_secs(2))]);
    let account = Account::new(tokens(&sandbox, &sandbox.application())).pace(Pace::new(limits));
    let running = Running::start(account, Api::at(&sandbox.api_url()).unwrap(), Settings::new()).await;
    let url = format!("http://{}", running.address());
    let get = |path: &str| client().get(format!("{url}{path}")).send();
    get(LOADS).await.unwrap();
    let waiting = [tokio::spawn(get(LOADS)), tokio::spawn(get("/api/p/v1/trips"))];
    let page = || async { get("/status").await.unwrap().text().await.unwrap() };
    let mut shown = page().await;
    let held = "GET loads</th><td>1</td><td>1 in 2s</td><td>1</td>";
    let sent = "GET trips</th><td>1</td><td>1 in 2s</td><td>0</td>";
    while !(shown.contains(held) && shown.contains(sent)) {
        assert!(waiting.iter().any(|call| !call.is_finished()), "{shown}");
        shown = page().await;
    }
    assert!(shown.contains("held back for"), "{shown}");
    for call in waiting {
        assert_eq!(call.await.unwrap().unwrap().status(), 200);
    }
    let shown = page().await;
    assert!(shown.contains("GET loads</th><td>2</td><td>1 in 2s</td><td>0</td>"), "{shown}");

    for _ in 0..101 {
        client().get(format!("{url}/status")).header("origin", "null").send().await.unwrap();
    }
    let shown = page().await;
    assert_eq!(shown.matches("turned a request away").count(), 100);
    assert!(!shown.contains("held back for"), "{shown}");
}

#[tokio::test]
async fn the_status_page_shows_the_published_limits_beside_the_calls() {
    let sandbox = Sandbox::start().unwrap();
    let account = Account::new(tokens(&sandbox, &sandbox.application()));
    let settings = Settings::new().mcp(sandbox.mcp_url());
    let running = Running::start(account, Api::at(&sandbox.api_url()).unwrap(), settings).await;
    let url = format!("http://{}", running.address());
    for path in [LOADS, "/api/p/v1/loads/load-1", "/mcp"] {
        client().get(format!("{url}{path}")).send().await.unwrap();
    }
    let page = client().get(format!("{url}/status")).send().await.unwrap().text().await.unwrap();
    for row in [
        "GET loads</th><td>1</td><td>5 in 60s, 1 in 1s</td><td>0</td>",
        "GET loads/{id}</th><td>1</td><td>10 in 60s, 1 in 1s</td><td>0</td>",
        "GET mcp</th><td>1</td><td>none of its own</td><td>0</td>",
    ] {
        assert!(page.contains(row), "{row} is not in {page}");
    }
}

#[tokio::test]
async fn a_token_is_handed_out_only_where_that_is_set_and_asked_for() {
    let stage = Stage::start().await;
    let asked = stage.get("/token").header("x-alvys-token-request", "true").send().await.unwrap();
    assert_eq!(problem(asked).await.0, 404);
    assert!(stage.received().is_empty(), "nor does the API see this path");

    let stage = Stage::with(Settings::new().hand_out_tokens()).await;
    for request in [
        stage.get("/token"),
        stage.get("/token").header("x-alvys-token-request", "false"),
        stage.client.head(stage.url("/token")).header("x-alvys-token-request", "true"),
    ] {
        assert_eq!(request.send().await.unwrap().status(), 403);
    }
    let answer = stage.get("/token").header("x-alvys-token-request", "true").send().await.unwrap();
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(answer.headers()["content-type"], "application/json");
    let document: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(document["access_token"], stage.tokens.token().await.unwrap().access_token());
    assert_eq!(document["token_type"], "Bearer");
    assert!((3500..=3600).contains(&document["expires_in"].as_u64().unwrap()));

    stage.sandbox.inject(Route::Token, Fault::status(401));
    stage.tokens.invalidate();
    let answer = stage.get("/token").header("x-alvys-token-request", "true").send().await.unwrap();
    assert_eq!(problem(answer).await.0, 502);
}

#[tokio::test]
async fn pages_can_only_be_read() {
    let stage = Stage::with(Settings::new().hand_out_tokens()).await;
    for path in ["/healthz", "/readyz", "/metrics", "/status", "/token"] {
        let answer = stage.post(path).header("x-alvys-token-request", "true").send().await.unwrap();
        assert_eq!(answer.headers()["allow"], "GET, HEAD");
        assert_eq!(problem(answer).await.0, 405, "{path}");
    }
    let head = stage.client.head(stage.url("/status")).send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.bytes().await.unwrap().len()), (200, 0));
    assert_eq!(stage.get("/healthz/").send().await.unwrap().status(), 404, "another path");
    assert!(stage.received().is_empty());
}

#[tokio::test]
async fn a_head_over_http_2_gets_the_headers_of_a_get_and_no_body() {
    let sandbox = Sandbox::start().unwrap();
    let account = Account::new(tokens(&sandbox, &sandbox.application())).unpaced();
    let proxy = Proxy::new(account, Api::at(&sandbox.api_url()).unwrap(), Settings::new()).unwrap();
    let server = Server::new(proxy).listen(&Listen::loopback(0)).await.unwrap();
    let running = Running::serve(server.health(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap());
    let second = reqwest::Client::builder().no_proxy().timeout(SOON).http2_prior_knowledge().build().unwrap();
    for (place, pages) in [
        // A page, the refusal of one, what the API does not serve, and what it does.
        (&running.places[0], &[("/healthz", 200), ("/status", 200), ("/token", 404), (LOADS, 200)][..]),
        (&running.places[1], &[("/healthz", 200), ("/metrics", 200), ("/status", 404)]),
    ] {
        let Listen::Tcp(address) = place else { panic!("no port") };
        for (path, status) in pages {
            let url = format!("http://{address}{path}");
            let length = |answer: &reqwest::Response| {
                answer.headers().get("content-length").map(|length| length.to_str().unwrap().parse::<usize>().unwrap())
            };
            for client in [&second, &client()] {
                let head = client.head(&url).send().await.unwrap();
                let told = length(&head);
                assert_eq!(head.status(), *status, "{url}");
                assert_eq!(head.bytes().await.unwrap().len(), 0, "{url}");
                let get = client.get(&url).send().await.unwrap();
                assert_eq!(get.status(), *status, "{url}");
                // The numbers and what is seen of them may have changed since.
                if ["/healthz", "/token"].contains(path) {
                    assert_eq!(told, length(&get), "{url}");
                }
                assert!(*path == LOADS || told.is_some_and(|length| length > 0), "{url}: {told:?}");
            }
        }
    }
}

#[tokio::test]
async fn without_an_mcp_server_there_is_none() {
    let sandbox = Sandbox::start().unwrap();
    let account = Account::new(tokens(&sandbox, &sandbox.application()));
    let running = Running::start(account, Api::at(&sandbox.api_url()).unwrap(), Settings::new()).await;
    let answer = client().post(format!("http://{}/mcp", running.address())).body("{}").send().await.unwrap();
    assert_eq!(problem(answer).await.0, 404);
    assert_eq!(sandbox.api_requests(), 0);
}

#[tokio::test]
async fn the_health_port_answers_probes_of_other_machines_and_nothing_else() {
    let sandbox = Sandbox::start().unwrap();
    let account = Account::new(tokens(&sandbox, &sandbox.application()));
    let settings = Settings::new().hand_out_tokens();
    let proxy = Proxy::new(account, Api::at(&sandbox.api_url()).unwrap(), settings).unwrap();
    let server = Server::new(proxy).listen(&Listen::loopback(0)).await.unwrap();
    let server = server.health(SocketAddr::from(([0, 0, 0, 0], 0))).await.unwrap();
    let running = Running::serve(server);
    let Listen::Tcp(address) = running.places[1] else { panic!("no port") };
    let url = format!("http://127.0.0.1:{}", address.port());
    for path in ["/healthz", "/readyz", "/metrics"] {
        let answer = client().get(format!("{url}{path}")).header("host", "10.1.2.3:9000").send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    for path in ["/status", "/token", LOADS, "/mcp", "/", "/t/a/healthz"] {
        let answer = client().get(format!("{url}{path}")).header("x-alvys-token-request", "true").send().await.unwrap();
        assert_eq!(problem(answer).await.0, 404, "{path}");
    }
    assert_eq!(sandbox.api_requests(), 0);
}
