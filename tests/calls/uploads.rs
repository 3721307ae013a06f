//! Bodies that take their time: slow ones, and servers that stop reading.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use alvys_auth_core::{Api, ErrorKind};
use alvys_auth_reqwest::Client;
use alvys_auth_tests::{async_tokens, blocking_tokens};
use ureq::Agent;

use crate::calls::start;

/// A server that reads each request to its end, whose body comes in chunks, and answers then.
fn patient_server() -> Api {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let api = Api::at(&format!("http://{}", listener.local_addr().expect("an address"))).expect("an acceptable base");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut received = Vec::new();
            while !received.ends_with(b"0\r\n\r\n") {
                let mut piece = [0; 4096];
                match stream.read(&mut piece) {
                    Ok(read @ 1..) => received.extend_from_slice(&piece[..read]),
                    _ => break,
                }
            }
            let _ = stream.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    api
}

/// A body that comes a piece at a time.
fn slow_body(pieces: u32, every: Duration) -> reqwest::Body {
    let next = move |sent| async move {
        tokio::time::sleep(every).await;
        (sent < pieces).then(|| (Ok::<_, std::io::Error>(bytes::Bytes::from_static(b"piece")), sent + 1))
    };
    reqwest::Body::wrap_stream(futures_util::stream::unfold(0, next))
}

#[tokio::test]
#[ignore = "takes 35 seconds, longer than a call that is no upload may take"]
async fn a_long_upload_is_not_taken_for_a_silent_server() {
    let sandbox = start();
    let client = Client::new(async_tokens(&sandbox), patient_server()).unwrap();
    let answer = client.post("documents").body(slow_body(34, Duration::from_secs(1))).send().await;
    assert_eq!(answer.unwrap().status(), 201);
}

#[tokio::test]
async fn a_read_timeout_of_the_callers_own_holds_for_uploads_too() {
    let (sandbox, api) = (start(), patient_server());
    let upload = |limit: u64| {
        let http = move || reqwest::Client::builder().read_timeout(Duration::from_millis(limit));
        let client = Client::builder(async_tokens(&sandbox), api.clone()).http(http).build().unwrap();
        client.post("documents").body(slow_body(5, Duration::from_millis(100))).send()
    };
    assert_eq!(upload(250).await.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(upload(10_000).await.unwrap().status(), 201);
}

#[test]
fn a_server_that_stops_reading_a_body_ends_in_an_error() {
    const LONG: usize = 64 * 1024 * 1024;
    let (sandbox, listener) = (start(), TcpListener::bind("127.0.0.1:0").unwrap());
    let api = Api::at(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    // Accepts, and holds what it has accepted.
    thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    let settings = || Agent::config_builder().timeout_per_write(Some(Duration::from_millis(300)));
    let client = alvys_auth_ureq::Client::builder(blocking_tokens(&sandbox), api.clone()).http(settings().build());
    let client = client.build().unwrap();
    let started = Instant::now();
    for call in [
        client.post("documents").body(vec![0; LONG]),
        client.post("documents").body(alvys_auth_ureq::Payload::stream(std::io::repeat(0))),
    ] {
        let error = call.send().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains("did not take the request"), "{error}");
    }
    let authorize = alvys_auth_ureq::Authorize::new(blocking_tokens(&sandbox), api.clone(), settings().build().into());
    let agent: Agent = Agent::config_builder().middleware(authorize).build().into();
    let error = agent.post(format!("{}/documents", api.base())).send(vec![0; LONG]).unwrap_err();
    assert!(matches!(error, ureq::Error::Timeout(ureq::Timeout::PerWrite)), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}
