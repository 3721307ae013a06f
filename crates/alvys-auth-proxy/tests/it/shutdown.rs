//! The end of a proxy.

use std::time::{Duration, Instant};

use alvys_auth_proxy::Settings;
use alvys_auth_sandbox::{Fault, Route};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::stage::{SOON, Stage};

const LOADS: &str = "/api/p/v1/loads";

#[tokio::test]
async fn calls_under_way_are_finished_and_no_others_begun() {
    let stage = Stage::start().await;
    stage.tokens.token().await.unwrap();
    stage.sandbox.inject(Route::Api, Fault::delay(Duration::from_millis(2500)).once());
    let idle = TcpStream::connect(stage.address()).await.unwrap();
    let slow = tokio::spawn(stage.get(LOADS).send());
    let events = stage.post("/mcp").body(r#"{"events":5,"interval_ms":150}"#).send().await.unwrap();
    stage.called(LOADS, 1).await;
    let Stage { running, sandbox, .. } = stage;
    let address = running.address();
    let stopped = tokio::spawn(running.stop());
    let closed = async { while TcpStream::connect(address).await.is_ok() {} };
    tokio::time::timeout(SOON, closed).await.expect("nobody else is let in");
    let answer = slow.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.unwrap().contains("load-1"));
    assert_eq!(events.text().await.unwrap().matches("data: ").count(), 5, "streams come to their end");
    assert_eq!(stopped.await.unwrap(), 0);
    drop((idle, sandbox));
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut() {
    let stage = Stage::with(Settings::new().drain_for(Duration::from_millis(300))).await;
    let mut events = stage.post("/mcp").body(r#"{"events":1000,"interval_ms":100}"#).send().await.unwrap();
    assert!(events.chunk().await.unwrap().is_some());
    let began = Instant::now();
    let Stage { running, sandbox, .. } = stage;
    assert_eq!(running.stop().await, 1);
    assert!((250..10_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    while let Ok(Some(_)) = events.chunk().await {}
    drop(sandbox);
}

#[tokio::test]
async fn what_ended_while_others_were_waited_for_was_not_cut() {
    let stage = Stage::with(Settings::new().drain_for(Duration::from_secs(6))).await;
    let mut events = stage.post("/mcp").body(r#"{"events":1000,"interval_ms":100}"#).send().await.unwrap();
    assert!(events.chunk().await.unwrap().is_some());
    stage.sandbox.inject(Route::Api, Fault::delay(Duration::from_secs(2)).times(3));
    let slow: Vec<_> = (0..3).map(|_| tokio::spawn(stage.get(LOADS).send())).collect();
    stage.called(LOADS, 3).await;
    let Stage { running, sandbox, .. } = stage;
    let stopped = tokio::spawn(running.stop());
    for call in slow {
        let answer = call.await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        assert!(!stopped.is_finished(), "it waits for the stream");
        answer.bytes().await.unwrap();
    }
    assert_eq!(stopped.await.unwrap(), 1, "the stream alone was cut");
    drop((events, sandbox));
}

#[tokio::test]
async fn connections_without_a_call_are_not_waited_for() {
    let stage = Stage::start().await;
    stage.tokens.token().await.unwrap();
    let mut open = Vec::new();
    for begun in [
        "GET /api/p/v1/loads HTTP/1.1\r\nHost: local",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /api/p",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0",
        "PRI * HT",
        "",
    ] {
        let mut stream = TcpStream::connect(stage.address()).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        open.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    let Stage { running, sandbox, .. } = stage;
    assert_eq!(running.stop().await, 0);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    drop((open, sandbox));
}

#[tokio::test]
async fn answers_that_clients_take_slowly_are_sent_to_their_end() {
    let stage = Stage::start().await;
    let mut answers = Vec::new();
    // Of so many lengths, so that of some the proxy holds the end, and nobody else has anything to do with it any more.
    for length in (1..=64).map(|n| n * 64 * 1024) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(stage.address()).await.unwrap();
        let path = format!("/api/p/v1/documents/document-1?bytes={length}");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut first = vec![0; 1024];
        stream.read_exact(&mut first).await.unwrap();
        answers.push((length, stream, first));
    }
    let Stage { running, sandbox, .. } = stage;
    let stopped = tokio::spawn(running.stop());
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(!stopped.is_finished(), "it waits for the clients");
    for answer in answers.into_iter().map(|(length, mut stream, mut answer)| async move {
        stream.read_to_end(&mut answer).await.unwrap();
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(answer.len() - head, length);
    }) {
        answer.await;
    }
    assert_eq!(stopped.await.unwrap(), 0);
    drop(sandbox);
}
