//! How much of everything the proxy takes.

use std::time::{Duration, Instant};

use alvys_auth_proxy::{Account, Api, Listen, Proxy, Server, Settings};
use alvys_auth_sandbox::{Fault, Route, Sandbox};
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stage::{Running, SOON, Stage, client, problem, raw, status, tokens};

const DOCUMENTS: &str = "/api/p/v1/documents";
const LOADS: &str = "/api/p/v1/loads";

fn chunked(length: usize) -> reqwest::Body {
    let chunks = vec![Ok::<_, std::convert::Infallible>(vec![b'x'; 1000]); length / 1000];
    reqwest::Body::wrap_stream(stream::iter(chunks))
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_declared_or_not() {
    let stage = Stage::with(Settings::new().longest_body(100_000).longest_replayed(2_000)).await;
    for length in [1_000, 100_000] {
        assert_eq!(stage.post(DOCUMENTS).body(vec![b'x'; length]).send().await.unwrap().status(), 201);
        assert_eq!(stage.post(DOCUMENTS).body(chunked(length)).send().await.unwrap().status(), 201);
    }
    let before = stage.received().len();
    let head = "POST /api/p/v1/documents HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100001\r\n\r\n";
    assert_eq!(status(&raw(stage.address(), head).await), 413);
    let (status, document) = problem(stage.post(DOCUMENTS).body(chunked(101_000)).send().await.unwrap()).await;
    assert_eq!((status, document["reason"].as_str()), (413, Some("too_long")));
    assert_eq!(stage.received().len(), before, "what was cut off did not arrive as a whole");
}

#[tokio::test]
async fn who_sends_everything_before_it_reads_still_gets_the_answer() {
    let stage = Stage::with(Settings::new().longest_body(3_000_000)).await;
    stage.tokens.token().await.unwrap();
    let mut body = vec![b'x'; 8_000_000];
    for framing in ["Content-Length: 8000000", "Transfer-Encoding: chunked"] {
        let mut bytes =
            format!("POST {DOCUMENTS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{framing}\r\n\r\n");
        if framing.ends_with("chunked") {
            bytes.push_str("7a1200\r\n");
            body.extend_from_slice(b"\r\n0\r\n\r\n");
        }
        let bytes = [bytes.as_bytes(), &body].concat();
        assert_eq!(status(&raw(stage.address(), bytes).await), 413, "{framing}");
    }
}

#[tokio::test]
async fn who_waits_for_permission_to_send_gets_it_or_a_refusal() {
    let stage = Stage::with(Settings::new().longest_body(100_000)).await;
    let head = |length: usize| {
        format!(
            "POST {DOCUMENTS} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    // The quickest of a few, for a busy machine takes its time now and then.
    let mut took = Vec::new();
    for _ in 0..4 {
        let began = Instant::now();
        assert_eq!(status(&raw(stage.address(), head(200_000)).await), 413);
        took.push(began.elapsed());
    }
    assert!(took.iter().min() < Some(&Duration::from_secs(1)), "nothing will come that has to be read: {took:?}");
    let mut stream = TcpStream::connect(stage.address()).await.unwrap();
    stream.write_all(head(90_000).as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(&vec![b'x'; 90_000]).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 201");
    assert_eq!(stage.last().header("expect"), None);
}

#[tokio::test]
async fn too_many_calls_at_once_are_put_off() {
    let stage = Stage::with(Settings::new().most_at_once(2)).await;
    stage.sandbox.inject(Route::Api, Fault::delay(Duration::from_secs(4)).times(2));
    let slow = [tokio::spawn(stage.get(LOADS).send()), tokio::spawn(stage.get(LOADS).send())];
    stage.called(LOADS, 2).await;
    let answer = stage.get(LOADS).send().await.unwrap();
    assert_eq!(answer.headers()["retry-after"], "1");
    let (status, document) = problem(answer).await;
    assert_eq!((status, document["reason"].as_str()), (503, Some("too_many")));
    assert_eq!(stage.get("/healthz").send().await.unwrap().status(), 200, "the proxy itself still answers");
    let metrics = stage.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("alvys_proxy_calls_in_flight 2"), "{metrics}");
    for call in slow {
        assert!(call.await.unwrap().unwrap().text().await.unwrap().len() > 2);
    }
    assert_eq!(stage.get(LOADS).send().await.unwrap().status(), 200);
}

/// Sends pieces with pauses between them, and says how long the connection stayed open after the last one and what came.
async fn drip(stage: &Stage, pieces: &[&str], pause: Duration) -> (Duration, String) {
    let mut stream = TcpStream::connect(stage.address()).await.unwrap();
    for (n, piece) in pieces.iter().enumerate() {
        if n > 0 {
            tokio::time::sleep(pause).await;
        }
        // The other side may have had enough.
        let _ = stream.write_all(piece.as_bytes()).await;
    }
    let began = Instant::now();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the connection stays open");
    (began.elapsed(), String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let stage = Stage::with(Settings::new().idle(Duration::from_millis(300))).await;
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for pieces in
        [&[""][..], &["P"], &["GET / HTTP/1.1\r\nHost:"], &["GET / HTTP/1.1\r\n"; 1], &["PRI * HT"], &[preface]]
    {
        let (open, _) = drip(&stage, pieces, Duration::ZERO).await;
        assert!(open < Duration::from_secs(10), "{pieces:?}: {open:?}");
    }
    let dripping = ["G", "E", "T", " ", "/", "h", "e", "a", "l", "t", "h", "z"];
    let (open, answer) = drip(&stage, &dripping, Duration::from_millis(50)).await;
    assert!(open < Duration::from_secs(10) && !answer.contains("200"), "{answer}");
}

#[tokio::test]
async fn a_connection_without_requests_is_closed() {
    let stage = Stage::with(Settings::new().idle(Duration::from_secs(1))).await;
    let (open, answer) = drip(&stage, &["GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"], Duration::ZERO).await;
    assert_eq!(status(&answer), 200);
    assert!(open < Duration::from_secs(10), "{open:?}");
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let settings = Settings::new().idle(Duration::from_millis(300)).longest_replayed(1000);
    let stage = Stage::with(settings).await;
    let head = |framing: &str| {
        format!("POST {DOCUMENTS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{framing}\r\n\r\n")
    };
    let (short, long) = (head("Content-Length: 10"), head("Content-Length: 100000"));
    let (open, chunked) = (head("Transfer-Encoding: chunked"), "5\r\nhello\r\n");
    for pieces in [vec![short.as_str(), "hello"], vec![&long, "hello"], vec![&open, chunked], vec![&open]] {
        let (waited, answer) = drip(&stage, &pieces, Duration::ZERO).await;
        assert_eq!(status(&answer), 408, "{pieces:?}: {answer}");
        assert!(answer.contains("\"reason\":\"stalled\""), "{answer}");
        assert!(waited < Duration::from_secs(10), "{pieces:?}: {waited:?}");
    }
    let dripped: Vec<&str> = [short.as_str()].into_iter().chain(["x"; 9]).collect();
    let (_, answer) = drip(&stage, &dripped, Duration::from_millis(100)).await;
    assert_eq!(status(&answer), 408, "a short body has to be there in time as a whole");
    assert!(stage.received().iter().all(|received| received.status() != Some(201)));
}

#[tokio::test]
async fn a_long_body_may_take_its_time_as_long_as_it_goes_on() {
    let settings = Settings::new().idle(Duration::from_secs(2)).answer_within(Duration::from_secs(3));
    let stage = Stage::with(settings.longest_replayed(1)).await;
    let chunks = stream::unfold(0, |n| async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        (n < 8).then(|| (Ok::<_, std::io::Error>("hello"), n + 1))
    });
    let answer = stage.post(DOCUMENTS).body(reqwest::Body::wrap_stream(chunks)).send().await.unwrap();
    assert_eq!(answer.status(), 201);
}

#[tokio::test]
async fn a_body_that_breaks_off_does_not_look_whole() {
    let stage = Stage::with(Settings::new().longest_replayed(1000)).await;
    for length in [500, 50_000] {
        let mut stream = TcpStream::connect(stage.address()).await.unwrap();
        let head = format!("POST {DOCUMENTS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\nhalf");
        stream.write_all(head.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(stream);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(stage.received().iter().all(|received| received.status() != Some(201)));
    assert_eq!(stage.get(LOADS).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn idle_connections_make_room_for_callers_and_for_health_checks() {
    let sandbox = Sandbox::start().unwrap();
    let account = Account::new(tokens(&sandbox, &sandbox.application())).unpaced();
    let proxy = Proxy::new(account, Api::at(&sandbox.api_url()).unwrap(), Settings::new()).unwrap();
    let server = Server::new(proxy).listen(&Listen::loopback(0)).await.unwrap();
    let server = server.health("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let running = Running::serve(server);
    let Listen::Tcp(health) = running.places[1] else { panic!("no port") };

    for (crowded, many, other, path) in
        [(running.address(), 1030, health, "/healthz"), (health, 80, running.address(), LOADS)]
    {
        let mut idle = Vec::new();
        for n in 0..many {
            let mut stream = TcpStream::connect(crowded).await.unwrap();
            // Some have never sent anything, some are in the middle of a request, and some were answered.
            let sent = ["", "GET /hea", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"][n % 3];
            stream.write_all(sent.as_bytes()).await.unwrap();
            idle.push(stream);
        }
        for (place, path) in [(crowded, "/healthz"), (other, path)] {
            let answer = client().get(format!("http://{place}{path}")).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{place}{path}");
        }
    }
}
