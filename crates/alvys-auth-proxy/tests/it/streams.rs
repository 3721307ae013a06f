//! Long bodies and slow ones, in both directions.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use alvys_auth_proxy::{Account, Api, Settings};
use alvys_auth_sandbox::Sandbox;
use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::stage::{Running, SOON, Stage, client, tokens};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn events_arrive_when_they_are_sent() {
    let stage = Stage::start().await;
    let http2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for client in [client(), http2] {
        events_are_spaced(&stage, &client).await;
    }
}

async fn events_are_spaced(stage: &Stage, client: &reqwest::Client) {
    let began = Instant::now();
    let mut answer = client
        .post(stage.url("/mcp"))
        .header("content-type", "application/json")
        .body(r#"{"events":4,"interval_ms":1000}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut arrived = Vec::new();
    let mut text = String::new();
    while let Some(chunk) = answer.chunk().await.unwrap() {
        if !chunk.is_empty() {
            arrived.push(began.elapsed());
        }
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert_eq!(text.matches("data: ").count(), 4);
    let (first, last) = (arrived[0], arrived[arrived.len() - 1]);
    assert!(last - first > Duration::from_millis(1500), "the first one waits for nobody: {arrived:?}");
    assert!(arrived.len() >= 3, "{arrived:?}");
}

#[tokio::test]
async fn sixteen_mib_go_up() {
    let stage = Stage::start().await;
    let bytes: Vec<u8> = (0..16 * MIB).map(|n| (n % 241) as u8).collect();
    let digest = digest::digest(&digest::SHA256, &bytes);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let chunks: Vec<_> =
        bytes.chunks(100_000).map(|chunk| Ok::<_, Infallible>(Bytes::copy_from_slice(chunk))).collect();
    let chunked = reqwest::Body::wrap_stream(stream::iter(chunks));
    for body in [reqwest::Body::from(bytes), chunked] {
        let answer = stage.post("/api/p/v1/documents").body(body).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        let text = answer.text().await.unwrap();
        assert!(text.contains(&hex) && text.contains(&(16 * MIB).to_string()), "{text}");
    }
    let received = stage.received();
    assert_eq!(received[0].header("content-length"), Some((16 * MIB).to_string().as_str()));
    assert_eq!(received[1].header("transfer-encoding"), Some("chunked"));
}

#[tokio::test]
async fn sixteen_mib_come_down() {
    let stage = Stage::start().await;
    let answer = stage.get(&format!("/api/p/v1/documents/document-1?bytes={}", 16 * MIB)).send().await.unwrap();
    assert_eq!(answer.headers()["content-length"], (16 * MIB).to_string().as_str());
    let bytes = answer.bytes().await.unwrap();
    assert_eq!(bytes.len(), 16 * MIB);
    assert!(bytes.iter().enumerate().all(|(n, byte)| *byte == (n % 251) as u8));
}

/// An API that shows what arrives while it arrives: each piece goes into the channel, and the answer ends with the body.
async fn watching_api() -> (String, mpsc::UnboundedReceiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/api/p/v1", listener.local_addr().unwrap());
    let (seen, arrivals) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                let mut end = Vec::new();
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    let _ = seen.send(read);
                    end.extend_from_slice(&buffer[..read]);
                    if end.ends_with(b"0\r\n\r\n") {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
                    }
                }
            });
        }
    });
    (base, arrivals)
}

#[tokio::test]
async fn a_long_body_goes_on_before_it_has_ended() {
    let sandbox = Sandbox::start().unwrap();
    let (base, mut arrivals) = watching_api().await;
    let account = Account::new(tokens(&sandbox, &sandbox.application())).unpaced();
    let running = Running::start(account, Api::at(&base).unwrap(), Settings::new()).await;

    let (pieces, body) = mpsc::unbounded_channel::<Bytes>();
    let body = stream::unfold(body, |mut body| async { Some((Ok::<_, Infallible>(body.recv().await?), body)) });
    let url = format!("http://{}/api/p/v1/documents", running.address());
    let call = tokio::spawn(client().post(url).body(reqwest::Body::wrap_stream(body)).send());
    pieces.send(Bytes::from(vec![b'x'; MIB])).unwrap();
    let mut arrived = 0;
    while arrived < MIB {
        arrived += tokio::time::timeout(SOON, arrivals.recv()).await.expect("the body goes on").unwrap();
    }
    assert!(!call.is_finished());
    pieces.send(Bytes::from_static(b"the end")).unwrap();
    drop(pieces);
    assert_eq!(call.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn an_api_that_takes_its_time_to_read_is_not_the_clients_fault() {
    let sandbox = Sandbox::start().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/api/p/v1", listener.local_addr().unwrap());
    let account = Account::new(tokens(&sandbox, &sandbox.application())).unpaced();
    let settings = Settings::new().idle(Duration::from_secs(2));
    let running = Running::start(account, Api::at(&base).unwrap(), settings).await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let mut buffer = vec![0; MIB];
        let mut end = Vec::new();
        while !end.ends_with(b"0\r\n\r\n") {
            let read = stream.read(&mut buffer).await.unwrap();
            end.extend_from_slice(&buffer[..read]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    });
    // More than all buffers on the way hold, and at the end of it the client, too, is slow for a moment.
    let pieces = stream::unfold(0, |n| async move {
        if n % 8 == 7 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        (n < 33).then(|| (Ok::<_, Infallible>(Bytes::from(vec![b'x'; MIB])), n + 1))
    });
    let url = format!("http://{}/api/p/v1/documents", running.address());
    let answer = client().post(url).body(reqwest::Body::wrap_stream(pieces)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_call() {
    let stage = Stage::with(Settings::new().most_at_once(1)).await;
    let http2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for client in [client(), http2] {
        a_place_is_given_back(&stage, &client).await;
    }
}

async fn a_place_is_given_back(stage: &Stage, client: &reqwest::Client) {
    let events = client.post(stage.url("/mcp")).header("content-type", "application/json");
    let mut answer = events.body(r#"{"events":1000,"interval_ms":50}"#).send().await.unwrap();
    assert!(answer.chunk().await.unwrap().is_some());
    assert_eq!(stage.get("/api/p/v1/loads").send().await.unwrap().status(), 503, "the stream counts as under way");
    drop(answer);
    let free = async {
        while stage.get("/api/p/v1/loads").send().await.unwrap().status() != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, free).await.expect("the place is free again");
}
