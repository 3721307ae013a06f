//! Nobody keeps the others out: tenants, readers that do not read, and those who guess the key.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use alvys_auth_proxy::{Api, Limit, NotServed, PerTenant, RateLimits, Settings, SharedKey};
use alvys_auth_sandbox::{Application, Fault, Route, Sandbox};
use reqwest::RequestBuilder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::stage::{Running, SOON, Stage, client, problem, tokens};

const LOADS: &str = "/api/p/v1/loads";
const DOCUMENT: &str = "/api/p/v1/documents/document-1?bytes=50000000";

/// A proxy for two tenants.
struct Two {
    sandbox: Sandbox,
    running: Running,
}

impl Two {
    async fn with(settings: Settings, limits: Option<RateLimits>) -> Self {
        let sandbox = Sandbox::start().unwrap();
        let sources: HashMap<_, _> = ["acme", "globex"]
            .map(|tenant| {
                let application = Application::new(format!("app-{tenant}"), "s3cret-of-a-tenant", tenant);
                sandbox.add(application.clone());
                (tenant.to_owned(), tokens(&sandbox, &application))
            })
            .into();
        let accounts = PerTenant::new(move |tenant| {
            let found = sources.get(&tenant).cloned().ok_or(NotServed::Unknown);
            async { found }
        });
        let api = Api::at(&sandbox.api_url()).unwrap();
        let settings = settings.mcp(sandbox.mcp_url());
        let running = Running::start(accounts.limits(limits), api, settings).await;
        Self { sandbox, running }
    }

    fn get(&self, tenant: &str) -> RequestBuilder {
        client().get(format!("http://{}/t/{tenant}{LOADS}", self.running.address()))
    }

    fn stream(&self, tenant: &str) -> RequestBuilder {
        let url = format!("http://{}/t/{tenant}/mcp", self.running.address());
        client().post(url).header("content-type", "application/json").body(r#"{"events":1000,"interval_ms":1000}"#)
    }

    async fn in_flight(&self) -> usize {
        let url = format!("http://{}/metrics", self.running.address());
        let metrics = client().get(url).send().await.unwrap().text().await.unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix("alvys_proxy_calls_in_flight "));
        line.unwrap().parse().unwrap()
    }
}

#[tokio::test]
async fn calls_that_wait_for_a_rate_limit_hold_no_place() {
    let limits = RateLimits::none().lists([Limit::new(1, Duration::from_secs(15))]);
    let two = Two::with(Settings::new().most_at_once(2), Some(limits)).await;
    assert_eq!(two.get("acme").send().await.unwrap().status(), 200);
    let waiting: Vec<_> = (0..2).map(|_| tokio::spawn(two.get("acme").send())).collect();
    let all_wait = async {
        while two.in_flight().await < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, all_wait).await.expect("they wait");
    assert_eq!(two.get("globex").send().await.unwrap().status(), 200);
    assert!(waiting.iter().any(|call| !call.is_finished()));
}

#[tokio::test]
async fn a_tenant_takes_its_share_of_streams_and_of_waits_and_no_more() {
    let two = Two::with(Settings::new().most_at_once(8), None).await;
    let mut streams = Vec::new();
    let refused = loop {
        let answer = two.stream("acme").send().await.unwrap();
        if answer.status() != 200 {
            break answer;
        }
        streams.push(answer);
    };
    assert_eq!((streams.len(), problem(refused).await.1["reason"].as_str()), (4, Some("too_many")));
    assert_eq!(two.stream("globex").send().await.unwrap().status(), 200);
    assert_eq!(two.get("globex").send().await.unwrap().status(), 200);
    drop(streams);

    // The sixteen places to wait are shared in the same way.
    two.sandbox.reject_tokens();
    two.sandbox.inject(Route::Token, Fault::delay(Duration::from_secs(3)));
    let calls: Vec<_> = (0..20).map(|_| tokio::spawn(two.get("acme").send())).collect();
    let mut put_off = 0;
    for call in calls {
        put_off += usize::from(call.await.unwrap().unwrap().status() == 503);
    }
    assert!(put_off >= 4, "{put_off} of 20");
}

#[tokio::test]
async fn a_place_is_taken_when_a_short_body_is_there() {
    let stage = Stage::with(Settings::new().most_at_once(1)).await;
    let mut slow = TcpStream::connect(stage.address()).await.unwrap();
    let head = format!("POST {LOADS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n");
    slow.write_all(format!("{head}Content-Length: 2\r\nConnection: close\r\n\r\n{{").as_bytes()).await.unwrap();
    for _ in 0..5 {
        assert_eq!(stage.get(LOADS).send().await.unwrap().status(), 200);
    }
    slow.write_all(b"}").await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

/// A client that has room for few bytes, and asks for a long answer.
async fn reader(stage: &Stage, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut stream = socket.connect(stage.address()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.readable().await.unwrap();
    stream
}

async fn is_ended_for_not_reading(stage: &Stage) {
    let free = async {
        while stage.get(LOADS).send().await.unwrap().status() != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, free).await.expect("the places are free again");
}

#[tokio::test]
async fn who_does_not_read_or_reads_a_byte_now_and_then_gives_its_place_back() {
    let stage = Stage::with(Settings::new().most_at_once(2).idle(Duration::from_secs(1))).await;
    let readers = [reader(&stage, DOCUMENT).await, reader(&stage, DOCUMENT).await];
    assert_eq!(stage.get(LOADS).send().await.unwrap().status(), 503);
    is_ended_for_not_reading(&stage).await;
    unread(&stage, 2).await;
    drop(readers);

    let mut dripping = [reader(&stage, DOCUMENT).await, reader(&stage, DOCUMENT).await];
    let drip = tokio::spawn(async move {
        loop {
            for reader in &mut dripping {
                let mut byte = [0; 1];
                let _ = reader.read(&mut byte).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    is_ended_for_not_reading(&stage).await;
    unread(&stage, 4).await;
    drip.abort();
}

/// Waits until so many connections were ended because nobody read.
async fn unread(stage: &Stage, times: usize) {
    let told = format!("alvys_proxy_turned_away_total{{reason=\"unread\"}} {times}\n");
    let counted = async {
        while !stage.get("/metrics").send().await.unwrap().text().await.unwrap().contains(&told) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, counted).await.expect("the connections are ended");
}

#[tokio::test]
async fn who_reads_slowly_gets_everything() {
    let stage = Stage::with(Settings::new().idle(Duration::from_secs(2))).await;
    let mut reader = reader(&stage, "/api/p/v1/documents/document-1?bytes=3000000").await;
    let (began, mut read) = (Instant::now(), 0);
    let mut buffer = vec![0; 64 * 1024];
    while read < 3_000_000 {
        let some = reader.read(&mut buffer).await.unwrap();
        assert!(some > 0, "cut after {read} bytes and {:?}", began.elapsed());
        read += some;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(began.elapsed() > Duration::from_secs(2), "longer than an answer may wait: {:?}", began.elapsed());
}

#[tokio::test]
async fn a_stream_of_events_may_be_silent_for_any_time() {
    let stage = Stage::with(Settings::new().idle(Duration::from_millis(500))).await;
    let http2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for client in [client(), http2] {
        let events = client.post(stage.url("/mcp")).header("content-type", "application/json");
        let answer = events.body(r#"{"events":2,"interval_ms":3000}"#).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap().matches("data: ").count(), 2);
    }
}

#[tokio::test]
async fn a_stream_of_http2_without_a_window_is_not_kept() {
    let stage = Stage::with(Settings::new().idle(Duration::from_secs(1)).most_at_once(1)).await;
    // The last one has room for some of the page, and for none of its last byte.
    let windows = [("/status", 0), (DOCUMENT, 0), (DOCUMENT, 100_000), ("/status", 1), ("/status", 1000)];
    for ((path, window), times) in windows.into_iter().zip(1..) {
        let closed = reqwest::Client::builder().no_proxy().http2_prior_knowledge();
        let closed = closed.http2_initial_stream_window_size(window).build().unwrap();
        let answer = closed.get(stage.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        is_ended_for_not_reading(&stage).await;
        unread(&stage, times).await;
        let read = tokio::time::timeout(SOON, answer.bytes()).await.expect("the stream is ended");
        assert!(read.is_err(), "{path} with a window of {window}");
    }
}

#[tokio::test]
async fn on_http2_all_lengths_arrive_whole() {
    let stage = Stage::start().await;
    let http2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for length in [0, 1, 2, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 65_535, 65_536, 1_000_000] {
        let path = format!("/api/p/v1/documents/document-1?bytes={length}");
        let answer = http2.get(stage.url(&path)).send().await.unwrap();
        assert_eq!(answer.headers()["content-length"], length.to_string().as_str());
        let bytes = answer.bytes().await.unwrap();
        assert_eq!(bytes.len(), length);
        assert!(bytes.iter().enumerate().all(|(n, byte)| *byte == (n % 251) as u8));
    }
}

#[tokio::test]
async fn one_wrong_key_too_many_ends_its_stream_and_no_other_call_of_its_connection() {
    let key = "0123456789abcdef";
    let stage = Stage::with(Settings::new().key(SharedKey::new(key).unwrap())).await;
    let wrong = |client: &reqwest::Client, n: usize| {
        client.get(stage.url("/healthz")).header("x-alvys-proxy-key", format!("a-wrong-key-{n:08}")).send()
    };
    let http2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let events = http2.post(stage.url("/mcp")).header("content-type", "application/json");
    let events = events.header("x-alvys-proxy-key", key).body(r#"{"events":1000,"interval_ms":1000}"#);
    let mut events = events.send().await.unwrap();
    assert_eq!(events.status(), 200);

    // As many as wait for their answer at the most.
    let others: Vec<_> = (0..120).map(|n| tokio::spawn(wrong(&stage.client, n))).collect();
    let full = async {
        let told = |text: String| {
            let count =
                text.lines().find_map(|line| line.strip_prefix("alvys_proxy_turned_away_total{reason=\"key\"} "));
            count.is_some_and(|count| count.parse::<usize>().unwrap() >= 100)
        };
        let metrics = || stage.get("/metrics").header("x-alvys-proxy-key", key).send();
        while !told(metrics().await.unwrap().text().await.unwrap()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, full).await.expect("they are slowed");
    let calls: Vec<_> = (0..60).map(|n| tokio::spawn(wrong(&http2, n))).collect();
    let (mut ended, mut refused) = (0, 0);
    for call in calls {
        match tokio::time::timeout(2 * SOON, call).await.expect("no stream is left open").unwrap() {
            Ok(answer) => refused += usize::from(answer.status() == 403),
            Err(_) => ended += 1,
        }
    }
    assert!(ended > 0 && ended + refused == 60, "{ended} ended, {refused} refused");
    assert!(events.chunk().await.unwrap().is_some(), "the other call goes on");
    others.into_iter().for_each(|other| other.abort());
}

#[tokio::test]
async fn wrong_keys_are_slowed_and_the_right_one_is_not() {
    let key = "0123456789abcdef";
    let stage = Stage::with(Settings::new().key(SharedKey::new(key).unwrap())).await;
    let call = |key: &str| stage.get("/healthz").header("x-alvys-proxy-key", key).send();
    assert_eq!(call(key).await.unwrap().status(), 200);
    let began = Instant::now();
    let wrong: Vec<_> = (0..20).map(|n| tokio::spawn(call(&format!("a-wrong-key-{n:08}")))).collect();
    for _ in 0..5 {
        assert_eq!(call(key).await.unwrap().status(), 200);
    }
    assert!(wrong.iter().any(|call| !call.is_finished()), "the right key waits for no wrong one");
    for call in wrong {
        assert_eq!(call.await.unwrap().unwrap().status(), 403);
    }
    assert!(began.elapsed() >= Duration::from_secs(2), "ten a second: {:?}", began.elapsed());
    let began = Instant::now();
    assert_eq!(stage.get("/healthz").send().await.unwrap().status(), 403, "no key is no guess");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
