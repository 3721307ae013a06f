//! Bytes that no client library sends.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alvys_auth_proxy::{Account, Api, Settings};
use alvys_auth_sandbox::{Fault, Route, Sandbox};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::stage::{Running, SOON, Stage, client, problem, raw, status, tokens};

#[tokio::test]
async fn a_request_with_two_lengths_is_one_request_or_none() {
    let stage = Stage::start().await;
    let inner = "GET /api/p/v1/trips HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let head = "POST /api/p/v1/loads HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let cl = format!("Content-Length: {}\r\n", 5 + inner.len());
    for framing in [
        format!("{cl}Transfer-Encoding: chunked\r\n"),
        format!("Transfer-Encoding: chunked\r\n{cl}"),
        format!("{cl}transfer-encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        format!("Transfer-Encoding: identity\r\n{cl}"),
        format!("Transfer-Encoding: chunked, identity\r\n{cl}"),
        format!("Transfer-Encoding : chunked\r\n{cl}"),
        format!("Transfer-Encoding: xchunked\r\n{cl}"),
        format!("{cl}Content-Length: 5\r\n"),
        "Content-Length: 5, 6\r\n".to_owned(),
        "Content-Length: +5\r\n".to_owned(),
        "Content-Length: 0x5\r\n".to_owned(),
        "Content-Length: 99999999999999999999\r\n".to_owned(),
    ] {
        // With chunks the body ends at once, and what follows would be a request of its own.
        let answer = raw(stage.address(), format!("{head}{framing}\r\n0\r\n\r\n{inner}")).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{framing}: {answer}");
        let received = stage.received();
        assert!(received.iter().all(|received| received.path() != "/api/p/v1/trips"), "{framing}");
        for received in received {
            let framed = received.header("content-length").is_some() && received.header("transfer-encoding").is_some();
            assert!(!framed, "{framing}");
        }
        stage.sandbox.clear_log();
    }
}

#[tokio::test]
async fn chunks_that_are_none_end_the_connection() {
    let stage = Stage::start().await;
    let head = "POST /api/p/v1/loads HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in ["zz\r\n{}\r\n0\r\n\r\n", "-1\r\n{}\r\n0\r\n\r\n", "2\r\n{}xx0\r\n\r\n", "fffffffffffffffff\r\n"] {
        let answer = raw(stage.address(), format!("{head}{body}")).await;
        assert_eq!(status(&answer), 400, "{body}");
        assert!(stage.received().is_empty(), "{body}");
    }
}

#[tokio::test]
async fn requests_one_after_the_other_stay_apart() {
    let stage = Stage::start().await;
    let first = "POST /api/p/v1/loads HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 Content-Length: 2\r\n\r\n{}";
    let second = "GET /api/p/v1/trips HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = raw(stage.address(), format!("{first}{second}")).await;
    assert_eq!(answer.matches("HTTP/1.1 2").count(), 2, "{answer}");
    let paths: Vec<_> = stage.received().iter().map(|received| received.path().to_owned()).collect();
    assert_eq!(paths, ["/api/p/v1/loads", "/api/p/v1/trips"]);
}

#[tokio::test]
async fn a_header_cannot_be_smuggled_by_its_value() {
    let stage = Stage::start().await;
    for header in ["X: a\rY: b", "X: a\0b", "X\0: b", " X: folded", "X Y: b", ": b"] {
        let request =
            format!("GET /api/p/v1/loads HTTP/1.1\r\nHost: localhost\r\n{header}\r\nConnection: close\r\n\r\n");
        let answer = raw(stage.address(), request).await;
        let passed = stage.received();
        assert!(status(&answer) == 400 || passed.iter().all(|received| received.header("x").is_none()), "{header:?}");
        stage.sandbox.clear_log();
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let stage = Stage::start().await;
    for head in [
        format!("GET /api/p/v1/loads HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(70_000)),
        format!("GET /api/p/v1/{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(70_000)),
        format!("GET /api/p/v1/loads HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(200)),
    ] {
        let answer = raw(stage.address(), head).await;
        assert_eq!(status(&answer), 431, "{answer}");
    }
    assert!(stage.received().is_empty());
    let long = format!(
        "GET /api/p/v1/loads HTTP/1.1\r\nHost: localhost\r\nX: {}\r\nConnection: close\r\n\r\n",
        "x".repeat(9_000)
    );
    assert_eq!(status(&raw(stage.address(), long).await), 200);
}

#[tokio::test]
async fn a_hundred_headers_pass_and_one_more_does_not() {
    let stage = Stage::start().await;
    for (headers, expected) in [(100, 200), (101, 431)] {
        let more = "X: y\r\n".repeat(headers - 2);
        let head = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n");
        let answer = raw(stage.address(), head).await;
        assert_eq!(status(&answer), expected, "{answer}");
        assert!(!answer.contains("problem+json"), "{answer}");
    }
    let metrics = stage.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("alvys_proxy_turned_away_total{reason=\"malformed\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused_on_http2() {
    let stage = Stage::start().await;
    let http2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let call = |length: usize| http2.get(stage.url("/api/p/v1/loads")).header("x", "x".repeat(length)).send();
    assert!(call(70_000).await.map_or(true, |answer| answer.status() == 431));
    assert_eq!(call(30_000).await.unwrap().status(), 200);
    assert_eq!(stage.received().len(), 1);
}

/// What a client gets when the API answers with these bytes.
async fn answered(bytes: &'static str) -> String {
    let sandbox = Sandbox::start().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/api/p/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(bytes.as_bytes()).await;
        }
    });
    let account = Account::new(tokens(&sandbox, &sandbox.application())).unpaced();
    let running = Running::start(account, Api::at(&base).unwrap(), Settings::new()).await;
    let request = "GET /api/p/v1/loads HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    raw(running.address(), request).await
}

#[tokio::test]
async fn an_answer_with_chunks_and_a_length_keeps_the_chunks() {
    for framing in
        ["Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 30\r\n"]
    {
        let answer = format!("HTTP/1.1 200 OK\r\n{framing}\r\n5\r\nhello\r\n0\r\n\r\n");
        let answer = answered(answer.leak()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(status(head), 200, "{framing}");
        assert!(!head.contains("content-length") && head.contains("transfer-encoding: chunked"), "{head}");
        assert_eq!(body, "5\r\nhello\r\n0\r\n\r\n", "{framing}");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_told_as_one() {
    for bytes in ["nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nno header\r\n\r\n"] {
        let answer = answered(bytes).await;
        assert_eq!(status(&answer), 502, "{answer}");
        assert!(answer.contains("the answer of the API cannot be read: "), "{answer}");
        assert!(answer.contains(r#""reason":"invalid_response""#), "{answer}");
    }
}

#[tokio::test]
async fn a_folded_header_of_an_answer_becomes_one_line() {
    let answer = answered("HTTP/1.1 200 OK\r\nx-long: one\r\n two\r\nContent-Length: 0\r\n\r\n").await;
    assert!(answer.contains("\r\nx-long: one two\r\n"), "{answer}");
}

#[tokio::test]
async fn a_gateways_page_about_the_length_of_a_request_passes() {
    let answer = answered("HTTP/1.1 413 Too Large\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>").await;
    assert!(status(&answer) == 413 && answer.ends_with("<html>"), "{answer}");
}

/// A proxy for an API that answers one request on each connection, and closes when the next one has arrived. Gives how many
/// requests arrive.
async fn forgetful(sandbox: &Sandbox) -> (Running, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/api/p/v1", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                for answer in ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", ""] {
                    if stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
                        counted.fetch_add(1, Ordering::SeqCst);
                        let _ = stream.write_all(answer.as_bytes()).await;
                    }
                }
            });
        }
    });
    let account = Account::new(tokens(sandbox, &sandbox.application())).unpaced();
    (Running::start(account, Api::at(&base).unwrap(), Settings::new()).await, requests)
}

#[tokio::test]
async fn a_call_that_a_kept_connection_swallows_is_sent_again_where_that_is_safe() {
    let sandbox = Sandbox::start().unwrap();
    let (running, requests) = forgetful(&sandbox).await;
    let url = format!("http://{}/api/p/v1/loads", running.address());
    let get = client().get(&url);
    let post = client().post(&url);
    let idempotent = client().post(&url).header("x-alvys-idempotent", "true");
    for (call, safe) in [(get, true), (post, false), (idempotent, true)] {
        let met = async {
            loop {
                let warm = client().get(&url).send().await.unwrap();
                assert_eq!(warm.bytes().await.unwrap(), "{}");
                let before = requests.load(Ordering::SeqCst);
                let answer = call.try_clone().unwrap().send().await.unwrap().status();
                // A connection that is not back yet is not used again.
                match (answer.as_u16(), requests.load(Ordering::SeqCst) - before) {
                    (200, 1) => {}
                    (200, 2) if safe => return,
                    (502, 1) if !safe => return,
                    other => panic!("{other:?}"),
                }
            }
        };
        tokio::time::timeout(SOON, met).await.expect("a call meets a kept connection");
    }
}

#[tokio::test]
async fn a_post_without_a_body_states_its_length_on_the_way() {
    let stage = Stage::start().await;
    let bare = "POST /api/p/v1/loads HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    raw(stage.address(), bare).await;
    assert_eq!(stage.last().header("content-length"), Some("0"));
    let http2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for method in [http::Method::POST, http::Method::PUT, http::Method::PATCH] {
        http2.request(method, stage.url("/api/p/v1/loads/1")).send().await.unwrap();
        assert_eq!(stage.last().header("content-length"), Some("0"));
    }
    http2.get(stage.url("/api/p/v1/loads")).send().await.unwrap();
    assert_eq!(stage.last().header("content-length"), None);
}

/// hyper looks for an answer when it is woken, and gives up when a write fails first: how often that is soon enough is not for
/// the proxy to decide.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_end_of_an_upload_passes_as_far_as_hyper_lets_it() {
    let (sandbox, listener) = (Sandbox::start().unwrap(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let base = format!("http://{}/api/p/v1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let refusal = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
            let _ = stream.write_all(refusal.as_bytes());
        }
    });
    let account = Account::new(tokens(&sandbox, &sandbox.application())).unpaced();
    let running = Running::start(account, Api::at(&base).unwrap(), Settings::new()).await;
    let url = format!("http://{}/api/p/v1/documents", running.address());
    let mut told = 0;
    for _ in 0..30 {
        let answer = client().post(&url).body(vec![b'a'; 100_000]).send().await;
        told += usize::from(answer.is_ok_and(|answer| answer.status() == 413));
    }
    println!("{told} of 30 told");
    assert!(told > 0, "of 30; 15 to 26 were measured");
}

#[tokio::test]
async fn another_protocol_that_nobody_asked_for_is_no_answer() {
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello";
    let answer = answered(switched).await;
    assert_eq!(status(&answer), 502, "{answer}");
    assert!(!answer.to_lowercase().contains("upgrade:") && answer.contains("changed the protocol"), "{answer}");
}

#[tokio::test]
async fn interim_answers_pass_by_and_too_many_of_them_are_no_answer() {
    let (sandbox, listener) = (Sandbox::start().unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let base = format!("http://{}/api/p/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let read = stream.read(&mut head).await.unwrap();
                let few = head[..read].windows(4).any(|path| path == b"/few");
                let interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
                let mut sent = 0;
                while (!few || sent < 64) && stream.write_all(interim).await.is_ok() {
                    sent += 1;
                    tokio::task::yield_now().await;
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
            });
        }
    });
    let account = Account::new(tokens(&sandbox, &sandbox.application())).unpaced();
    let settings = Settings::new().answer_within(4 * SOON);
    let running = Running::start(account, Api::at(&base).unwrap(), settings).await;
    let get = |path: &str| client().get(format!("http://{}/api/p/v1/{path}", running.address())).send();
    assert_eq!(get("few").await.unwrap().status(), 200);
    let (status, document) = problem(get("endless").await.unwrap()).await;
    let detail = document["detail"].as_str().unwrap();
    assert_eq!((status, document["reason"].as_str()), (502, Some("invalid_response")), "{detail}");
    assert!(detail.contains("more than 64 interim answers"), "{detail}");
}

#[tokio::test]
async fn a_request_body_in_another_coding_is_not_implemented_and_ends_the_connection() {
    let stage = Stage::start().await;
    for coding in ["gzip, chunked", "gzip\r\nTransfer-Encoding: chunked", "chunked, chunked"] {
        let head = "POST /api/p/v1/loads HTTP/1.1\r\nHost: localhost\r\n";
        let next = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let request = format!("{head}Transfer-Encoding: {coding}\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n{next}");
        let answer = raw(stage.address(), request).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "nobody knows where the next request begins: {answer}");
        assert_eq!(status(&answer), 501, "{coding}: {answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
    assert!(stage.received().is_empty());
    let request = "POST /api/p/v1/loads HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
                   Transfer-Encoding: Chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    assert_eq!(status(&raw(stage.address(), request).await), 201);
}

/// Sends all there is to send, closes the sending side, and gives what comes back.
async fn half_closed(stage: &Stage, bytes: &str) -> String {
    let mut stream = TcpStream::connect(stage.address()).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("the connection ends").unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_client_that_has_closed_its_sending_side_gets_its_answer() {
    let stage = Stage::start().await;
    stage.sandbox.inject(Route::Api, Fault::delay(Duration::from_millis(500)));
    let get = "GET /api/p/v1/loads HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let post = "POST /api/p/v1/loads HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let chunked = format!("{post}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n");
    let post = format!("{post}Content-Length: 2\r\n\r\n{{}}");
    for (request, answers) in
        [(get, &[200][..]), (&post, &[201]), (&chunked, &[201]), (&format!("{get}{post}"), &[200, 201])]
    {
        let answer = half_closed(&stage, request).await;
        let statuses: Vec<_> = answer.split("HTTP/1.1 ").skip(1).map(|one| one[..3].parse::<u16>().unwrap()).collect();
        assert_eq!(statuses, answers, "{request}: {answer}");
    }
    stage.sandbox.inject(Route::Api, Fault::delay(Duration::ZERO));
    let long = "GET /api/p/v1/documents/document-1?bytes=3000000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert!(half_closed(&stage, long).await.len() > 3_000_000, "a long one too");
}

#[tokio::test]
async fn a_body_that_ends_with_its_connection_is_not_waited_for() {
    let stage = Stage::start().await;
    let head = "POST /api/p/v1/loads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf";
    let began = std::time::Instant::now();
    let answer = half_closed(&stage, head).await;
    assert!(answer.is_empty() || status(&answer) == 400, "{answer}");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert!(stage.received().is_empty());
}
