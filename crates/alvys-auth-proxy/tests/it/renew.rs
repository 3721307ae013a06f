//! Renewing, repeating and refusing: what the core decides, seen by a client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alvys_auth_driver::ManualClock;
use alvys_auth_proxy::{Account, Api, Limit, Pace, RateLimits, Settings};
use alvys_auth_reqwest::Credentials;
use alvys_auth_sandbox::{self as sandbox, Application, Fault, Route, Sandbox};
use futures_util::future::join_all;

use crate::stage::{Running, Stage, client, problem, tokens};

const LOADS: &str = "/api/p/v1/loads";
const LOAD: &str = "/api/p/v1/loads/load-1";

#[tokio::test]
async fn any_number_of_refused_calls_cost_one_token() {
    let stage = Stage::start().await;
    assert_eq!(stage.get(LOADS).send().await.unwrap().status(), 200);
    stage.sandbox.reject_tokens();
    for answer in join_all((0..50).map(|_| stage.get(LOADS).send())).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_eq!(stage.sandbox.tokens_issued(), 2);
    let metrics = stage.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("alvys_proxy_tokens_total{reason=\"first\"} 1"), "{metrics}");
    assert!(metrics.contains("alvys_proxy_tokens_total{reason=\"rejected\"} 1"), "{metrics}");
    assert!(!metrics.contains("renewed"), "{metrics}");
    assert!(metrics.contains("alvys_proxy_replays_total{reason=\"token_rejected\"}"), "{metrics}");
}

#[tokio::test]
async fn a_token_that_runs_out_is_renewed() {
    let stage = Stage::start().await;
    stage.sandbox.set_lifetime(Duration::from_millis(300));
    stage.tokens.invalidate();
    for _ in 0..3 {
        assert_eq!(stage.get(LOADS).send().await.unwrap().status(), 200);
        tokio::time::sleep(Duration::from_millis(320)).await;
    }
    let metrics = stage.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("alvys_proxy_tokens_total{reason=\"renewed\"}"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_tokens_run_out_and_are_refused() {
    let stage = Stage::start().await;
    stage.sandbox.set_lifetime(Duration::from_millis(1500));
    stage.tokens.invalidate();
    let end = Instant::now() + Duration::from_secs(4);
    let callers = (0..16).map(|n| {
        let (client, url) = (client(), stage.url(LOADS));
        tokio::spawn(async move {
            let mut calls = 0;
            while Instant::now() < end {
                let request = if n % 2 == 0 {
                    client.get(&url)
                } else {
                    client.post(&url).json(&serde_json::json!({"Number": n}))
                };
                let answer = request.send().await.unwrap();
                assert_eq!(answer.status(), if n % 2 == 0 { 200 } else { 201 });
                answer.bytes().await.unwrap();
                calls += 1;
            }
            calls
        })
    });
    let callers: Vec<_> = callers.collect();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(1100)).await;
        stage.sandbox.reject_tokens();
    }
    let calls: usize = join_all(callers).await.into_iter().map(|calls| calls.unwrap()).sum();
    let tokens = stage.sandbox.tokens_issued();
    assert!(calls > 100 && tokens <= 14, "{calls} calls, {tokens} tokens");
}

#[tokio::test]
async fn a_short_body_is_sent_again_with_another_token() {
    let stage = Stage::start().await;
    stage.tokens.token().await.unwrap();
    stage.sandbox.reject_tokens();
    let chunked =
        || reqwest::Body::wrap_stream(futures_util::stream::iter([Ok::<_, std::io::Error>("{\"a\":"), Ok("1}")]));
    let answer = stage.post(LOADS).body(chunked()).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let received = stage.received();
    assert_eq!(received.iter().map(|request| request.body()).collect::<Vec<_>>(), [b"{\"a\":1}", b"{\"a\":1}"]);
    assert_ne!(received[0].header("authorization"), received[1].header("authorization"));
}

#[tokio::test]
async fn a_long_body_is_sent_once_and_the_next_call_has_another_token() {
    let stage = Stage::with(Settings::new().longest_replayed(1000)).await;
    stage.tokens.token().await.unwrap();
    stage.sandbox.reject_tokens();
    let answer = stage.post("/api/p/v1/documents").body(vec![b'x'; 1001]).send().await.unwrap();
    assert!(answer.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
    let (status, document) = problem(answer).await;
    assert_eq!((status, document["reason"].as_str()), (401, Some("unauthorized")));
    assert!(document["hint"].as_str().unwrap().contains("call again"), "{document}");
    assert_eq!(stage.received().len(), 1);

    let answer = stage.post("/api/p/v1/documents").body(vec![b'x'; 1000]).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    assert_eq!(stage.sandbox.tokens_issued(), 2);

    // The same without a declared length.
    for (length, expected) in [(1000, 201), (1001, 401)] {
        stage.sandbox.reject_tokens();
        let body = futures_util::stream::iter([Ok::<_, std::io::Error>(vec![b'x'; length])]);
        let request = stage.post("/api/p/v1/documents").body(reqwest::Body::wrap_stream(body));
        assert_eq!(request.send().await.unwrap().status(), expected, "{length}");
    }
}

#[tokio::test]
async fn a_missing_scope_is_named_and_costs_no_token() {
    let stage = Stage::start().await;
    let application = stage.sandbox.application();
    let (id, secret) = (application.client_id(), application.client_secret());
    stage.sandbox.add(Application::new(id, secret, "va336").with_scopes(["load:read"]));
    stage.tokens.invalidate();
    let before = stage.sandbox.tokens_issued();
    let (status, document) = problem(stage.post(LOADS).body("{}").send().await.unwrap()).await;
    assert_eq!((status, document["reason"].as_str()), (403, Some("missing_scope")));
    assert_eq!(document["missing_scopes"][0], "load:create");
    assert!(stage.sandbox.tokens_issued() <= before + 1);
    assert_eq!(stage.received().len(), 1);
}

#[tokio::test]
async fn the_api_asks_to_wait_and_gets_its_wait() {
    let stage = Stage::start().await;
    let busy = || Fault::status(429).retry_after(Duration::from_secs(1)).once();
    stage.sandbox.inject(Route::Api, busy());
    let began = Instant::now();
    assert_eq!(stage.get(LOADS).send().await.unwrap().status(), 200);
    assert!(began.elapsed() >= Duration::from_secs(1));

    stage.sandbox.inject(Route::Api, busy());
    let answer = stage.post(LOADS).body("{}").send().await.unwrap();
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(problem(answer).await.0, 429, "a POST may not be safe to repeat");

    stage.sandbox.inject(Route::Api, busy());
    let answer = stage.post(LOADS).header("x-alvys-idempotent", "true").body("{}").send().await.unwrap();
    assert_eq!(answer.status(), 201);
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_handed_on() {
    let stage = Stage::start().await;
    stage.sandbox.inject(Route::Api, Fault::status(503).retry_after(Duration::from_secs(3600)).once());
    let answer = stage.get(LOADS).send().await.unwrap();
    assert_eq!(answer.headers()["retry-after"], "3600");
    let (status, document) = problem(answer).await;
    assert_eq!((status, document["reason"].as_str()), (503, Some("unavailable")));
    assert_eq!(document["upstream_status"], 503);
}

#[tokio::test]
async fn a_page_of_somebody_else_is_a_bad_gateway() {
    let stage = Stage::start().await;
    stage.sandbox.inject(Route::Api, Fault::challenge(200).once());
    let (status, document) = problem(stage.get(LOADS).send().await.unwrap()).await;
    assert_eq!((status, document["reason"].as_str()), (502, Some("intercepted")));
    stage.sandbox.inject(Route::Api, Fault::challenge(200).once());
    let answer = stage.get(LOADS).header("accept", "text/html").send().await.unwrap();
    assert_eq!(answer.status(), 200, "who asks for a page gets it");
}

#[tokio::test]
async fn an_api_that_breaks_off_or_hangs_is_told_apart() {
    let stage = Stage::with(Settings::new().answer_within(Duration::from_secs(2))).await;
    stage.tokens.token().await.unwrap();
    stage.sandbox.inject(Route::Api, Fault::reset().times(2));
    let (status, document) = problem(stage.get(LOADS).send().await.unwrap()).await;
    assert_eq!((status, document["reason"].as_str()), (502, Some("transport")));
    stage.sandbox.inject(Route::Api, Fault::hang().once());
    let (status, document) = problem(stage.get(LOADS).send().await.unwrap()).await;
    assert_eq!((status, document["reason"].as_str()), (504, Some("timed_out")));
    stage.sandbox.inject(Route::Api, Fault::truncate().once());
    let answer = stage.get(LOADS).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.bytes().await.is_err(), "half an answer does not look whole");
    assert_eq!(stage.get(LOADS).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_api_that_is_not_there_is_a_bad_gateway() {
    let sandbox = Sandbox::start().unwrap();
    let account = Account::new(tokens(&sandbox, &sandbox.application())).unpaced();
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let api = Api::at(&format!("http://{nowhere}/api/p/v1")).unwrap();
    let running = Running::start(account, api, Settings::new()).await;
    let (status, document) =
        problem(client().get(format!("http://{}{LOADS}", running.address())).send().await.unwrap()).await;
    assert_eq!((status, document["reason"].as_str()), (502, Some("transport")));
}

#[tokio::test]
async fn without_a_token_the_answer_says_why_and_keeps_the_secret() {
    let stage = Stage::start().await;
    assert_eq!(stage.get(LOADS).send().await.unwrap().status(), 200);
    let id = stage.sandbox.application().client_id().to_owned();
    let secret = stage.sandbox.application().client_secret().to_owned();
    stage.sandbox.rotate_secret(&id, "another-secret");
    stage.tokens.invalidate();
    let answer = stage.get(LOADS).send().await.unwrap();
    let (status, document) = problem(answer).await;
    assert_eq!((status, document["reason"].as_str()), (502, Some("credentials")));
    assert!(!document.to_string().contains(&secret));

    stage.tokens.set_credentials(Credentials::new(&id, "another-secret").unwrap()).unwrap();
    assert_eq!(stage.get(LOADS).send().await.unwrap().status(), 200, "other credentials work at once");

    stage.sandbox.inject(Route::Token, Fault::status(429).retry_after(Duration::from_secs(77)));
    stage.tokens.invalidate();
    let answer = stage.get(LOADS).send().await.unwrap();
    assert!(answer.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 70);
    assert_eq!(problem(answer).await.0, 503, "it is not the caller who asks too often");
    let metrics = stage.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("alvys_proxy_token_failures_total{kind=\"credentials\"} 1"), "{metrics}");
}

#[tokio::test]
async fn calls_keep_to_the_published_rate_limits() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.limit_rates(sandbox::RateLimits::published());
    let account = Account::new(tokens(&sandbox, &sandbox.application()));
    let settings = Settings::new().mcp(sandbox.mcp_url());
    let running = Running::start(account, Api::at(&sandbox.api_url()).unwrap(), settings).await;
    let (client, url) = (client(), format!("http://{}", running.address()));
    let began = Instant::now();
    let calls = (0..3).map(|_| client.get(format!("{url}{LOAD}")).send());
    for answer in join_all(calls).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert!(began.elapsed() >= Duration::from_millis(1900), "one a second: {:?}", began.elapsed());
    let metrics = client.get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("alvys_proxy_waits_total{reason=\"rate_limits\"}"), "{metrics}");

    sandbox.lift_rate_limits();
    let began = Instant::now();
    for answer in join_all((0..6).map(|_| {
        client.post(format!("{url}/mcp")).header("content-type", "application/json").body(r#"{"events":0}"#).send()
    }))
    .await
    {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert!(began.elapsed() < Duration::from_secs(4), "the MCP server is no endpoint of the API");
}

#[tokio::test]
async fn while_the_api_wants_to_be_left_alone_nobody_calls_there() {
    let sandbox = Sandbox::start().unwrap();
    let clock = Arc::new(ManualClock::new());
    let pace = Pace::with_clock(RateLimits::none(), Arc::clone(&clock));
    let account = Account::new(tokens(&sandbox, &sandbox.application())).pace(pace);
    let running = Running::start(account, Api::at(&sandbox.api_url()).unwrap(), Settings::new()).await;
    let url = format!("http://{}{LOADS}", running.address());
    let post = || client().post(&url).json(&serde_json::json!({})).send();
    let pause = Duration::from_secs(40);
    sandbox.inject(Route::Api, Fault::status(429).retry_after(pause).once());
    assert_eq!(problem(post().await.unwrap()).await.0, 429);
    assert_eq!(client().get(&url).send().await.unwrap().status(), 200, "other endpoints are open");
    let mut held = tokio::spawn(post());
    held_back(&running, "POST loads", 1).await;
    clock.advance(pause - Duration::from_millis(1));
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut held).await.is_err(), "it is not over yet");
    clock.advance(Duration::from_millis(1));
    assert_eq!(held.await.unwrap().unwrap().status(), 201);
}

/// Waits until the status page tells that so many calls to an endpoint wait for their turn.
async fn held_back(running: &Running, endpoint: &str, calls: usize) {
    loop {
        let page = client().get(format!("http://{}/status", running.address())).send().await.unwrap();
        let page = page.text().await.unwrap();
        let row = page.split(&format!("{endpoint}</th>")).nth(1).and_then(|row| row.split("</tr>").next());
        if row.is_some_and(|row| row.ends_with(&format!("<td>{calls}</td>"))) {
            return;
        }
    }
}

#[tokio::test]
async fn a_turn_that_is_too_far_off_is_not_waited_for() {
    let sandbox = Sandbox::start().unwrap();
    let pace = Pace::new(RateLimits::none().lists([Limit::new(1, Duration::from_secs(60))]));
    let account = Account::new(tokens(&sandbox, &sandbox.application())).pace(pace);
    let api = Api::at(&sandbox.api_url()).unwrap().patience(Duration::from_secs(20));
    let running = Running::start(account, api, Settings::new()).await;
    let url = format!("http://{}{LOADS}", running.address());
    assert_eq!(client().get(&url).send().await.unwrap().status(), 200);
    let began = Instant::now();
    let answer = client().get(&url).send().await.unwrap();
    let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((55..=61).contains(&wait), "{wait}");
    let (status, document) = problem(answer).await;
    assert_eq!((status, document["reason"].as_str()), (429, Some("rate_limited")));
    assert!(began.elapsed() < Duration::from_secs(15));
    assert_eq!(sandbox.api_requests(), 1);
}

/// A proxy that lets one call to a list go in 500 ms, with a token that the API refuses from now on.
async fn even_with_a_refused_token() -> (Sandbox, Running) {
    let sandbox = Sandbox::start().unwrap();
    let tokens = tokens(&sandbox, &sandbox.application());
    tokens.token().await.unwrap();
    sandbox.reject_tokens();
    let pace = Pace::new(RateLimits::none().lists([Limit::new(1, Duration::from_millis(500) - Limit::MARGIN)]));
    let api = Api::at(&sandbox.api_url()).unwrap();
    let running = Running::start(Account::new(tokens).pace(pace), api, Settings::new()).await;
    (sandbox, running)
}

#[tokio::test]
async fn calls_that_wait_for_their_turn_do_not_go_out_with_a_token_refused_meanwhile() {
    let (sandbox, running) = even_with_a_refused_token().await;
    let url = format!("http://{}{LOADS}", running.address());
    for answer in join_all((0..5).map(|_| client().get(&url).send())).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_eq!(sandbox.api_requests(), 6, "one was refused, and no other one");
}

#[tokio::test]
async fn calls_that_waited_for_a_token_do_not_go_out_all_at_once() {
    let (sandbox, running) = even_with_a_refused_token().await;
    sandbox.inject(Route::Token, Fault::delay(Duration::from_secs(2)).once());
    let url = format!("http://{}{LOADS}", running.address());
    let calls = (0..6).map(|_| async {
        let answer = client().get(&url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        Instant::now()
    });
    let mut ended = join_all(calls).await;
    ended.sort();
    // Half of what their turns are apart, for a busy machine may hold the first one up.
    assert!(ended[5] - ended[0] > Duration::from_millis(1250), "{ended:?}");
    assert_eq!(sandbox.api_requests(), 7);
}

#[tokio::test]
async fn a_token_lost_while_a_call_waits_costs_no_other_turn() {
    let sandbox = Sandbox::start().unwrap();
    let tokens = tokens(&sandbox, &sandbox.application());
    let (clock, minute) = (Arc::new(ManualClock::new()), Duration::from_secs(60));
    let pace = Pace::with_clock(RateLimits::none().lists([Limit::new(1, minute)]), Arc::clone(&clock));
    let api = Api::at(&sandbox.api_url()).unwrap().patience(minute * 2);
    let running = Running::start(Account::new(tokens.clone()).pace(pace), api, Settings::new()).await;
    let url = format!("http://{}{LOADS}", running.address());
    assert_eq!(client().get(&url).send().await.unwrap().status(), 200);
    let waiting = tokio::spawn(client().get(&url).send());
    held_back(&running, "GET loads", 1).await;
    tokens.invalidate();
    clock.advance(minute + Limit::MARGIN);
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
    assert_eq!((sandbox.tokens_issued(), sandbox.api_requests()), (2, 2));
}
