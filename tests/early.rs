//! An API that answers before it has taken the whole request, and closes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use alvys_auth_core::{Api, Policy};
use alvys_auth_sandbox::Sandbox;
use alvys_auth_tests::Settings;

const TRIES: usize = 100;

/// Refuses every second request as soon as its head is there, and closes with the body unread, which resets the connection.
/// The others are read and answered.
struct Impatient {
    api: Api,
    requests: Arc<AtomicUsize>,
}

impl Impatient {
    fn start(refusal: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let counted = Arc::clone(&counted);
                thread::spawn(move || answer(stream, refusal, &counted));
            }
        });
        Self { api: Api::at(&url).expect("an acceptable API base"), requests }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn answer(stream: TcpStream, refusal: &str, requests: &AtomicUsize) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length, mut waits) = (String::new(), 0, false);
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line)?;
        let lower = line.to_ascii_lowercase();
        length = lower.strip_prefix("content-length:").map_or(length, |told| told.trim().parse().unwrap_or_default());
        waits |= lower.starts_with("expect:");
    }
    if requests.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
        return reader.get_mut().write_all(refusal.as_bytes());
    }
    if waits {
        reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
    reader.get_mut().write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer error=\"invalid_token\"\r\n\
    content-length: 2\r\nconnection: close\r\n\r\n{}";
const TOO_LONG: &str = "HTTP/1.1 413 Content Too Large\r\ncontent-type: text/html\r\n\
    content-length: 6\r\nconnection: close\r\n\r\n<html>";

fn blocking(sandbox: &Sandbox, api: Api) -> alvys_auth_ureq::Client {
    let settings = Settings::current(sandbox);
    let tokens = alvys_auth_ureq::TokenSource::builder(settings.flow, settings.credentials)
        .policy(Policy::new().rejection_grace(std::time::Duration::ZERO))
        .build()
        .expect("acceptable settings");
    alvys_auth_ureq::Client::new(tokens, api).expect("a client")
}

#[test]
fn a_401_before_the_end_of_the_body_renews_in_the_blocking_driver() {
    for length in [300 * 1024, 900 * 1024, 3 * 1024 * 1024] {
        let (sandbox, server) = (Sandbox::start().expect("a sandbox"), Impatient::start(UNAUTHORIZED));
        let client = blocking(&sandbox, server.api.clone());
        let mut renewed = 0;
        for _ in 0..TRIES {
            let even = server.requests().is_multiple_of(2);
            let answer = client.post("documents").body(vec![b'a'; length]).send();
            renewed += usize::from(even && answer.is_ok_and(|answer| answer.status() == 201));
        }
        println!("{length} bytes: {renewed} of {TRIES} renewed");
        assert!(renewed >= TRIES - 1, "{length} bytes: {renewed} of {TRIES}");
    }
}

/// As far as reqwest lets it: where it hears of the answer, the token is renewed, and never otherwise.
#[tokio::test]
async fn a_401_before_the_end_of_the_body_renews_in_the_async_driver_where_it_is_heard() {
    for length in [300 * 1024, 900 * 1024, 3 * 1024 * 1024] {
        let (sandbox, server) = (Sandbox::start().expect("a sandbox"), Impatient::start(UNAUTHORIZED));
        let Settings { flow, credentials, .. } = Settings::current(&sandbox);
        let tokens = alvys_auth_reqwest::TokenSource::builder(flow, credentials)
            .policy(Policy::new().rejection_grace(std::time::Duration::ZERO))
            .build()
            .expect("acceptable settings");
        let client = alvys_auth_reqwest::Client::new(tokens, server.api.clone()).expect("a client");
        let mut renewed = 0;
        for _ in 0..TRIES {
            if !server.requests().is_multiple_of(2) {
                let _ = client.get("documents").send().await;
            }
            let before = sandbox.token_requests();
            let answer = client.post("documents").body(vec![b'a'; length]).send().await;
            let heard = answer.is_ok_and(|answer| answer.status() == 201);
            renewed += usize::from(heard);
            assert!(!heard || before == 0 || sandbox.token_requests() == before + 1, "another token");
        }
        println!("{length} bytes: {renewed} of {TRIES} renewed");
        assert!(renewed > TRIES / 2, "{length} bytes: {renewed} of {TRIES}");
    }
}

#[test]
fn a_413_before_the_end_of_the_body_is_told_by_the_blocking_driver() {
    for length in [300 * 1024, 900 * 1024, 3 * 1024 * 1024] {
        let (sandbox, server) = (Sandbox::start().expect("a sandbox"), Impatient::start(TOO_LONG));
        let client = blocking(&sandbox, server.api.clone());
        let mut told = 0;
        for _ in 0..TRIES {
            let answer = client.post("documents").body(vec![b'a'; length]).send();
            told += usize::from(answer.is_ok_and(|answer| answer.status() == 413));
            let _ = client.get("documents").send();
        }
        println!("{length} bytes: {told} of {TRIES} told");
        assert!(told >= TRIES - 1, "{length} bytes: {told} of {TRIES}");
    }
}

/// reqwest looks for an answer when it is woken. How often that is soon enough is not for this library to decide.
#[tokio::test]
async fn an_early_answer_is_told_by_the_async_driver_as_far_as_reqwest_lets_it() {
    let sandbox = Sandbox::start().expect("a sandbox");
    for length in [300 * 1024, 900 * 1024, 3 * 1024 * 1024] {
        let server = Impatient::start(TOO_LONG);
        let client = alvys_auth_reqwest::Client::new(alvys_auth_tests::async_tokens(&sandbox), server.api.clone());
        let client = client.expect("a client");
        let mut told = 0;
        for _ in 0..TRIES {
            let answer = client.post("documents").body(vec![b'a'; length]).send().await;
            told += usize::from(answer.is_ok_and(|answer| answer.status() == 413));
            let _ = client.get("documents").send().await;
        }
        println!("{length} bytes: {told} of {TRIES} told");
        assert!(told > TRIES / 2, "{length} bytes: {told} of {TRIES}; 83 to 100 were measured");
    }
}

#[test]
fn a_long_body_waits_for_consent_and_a_short_one_does_not() {
    let sandbox = Sandbox::start().expect("a sandbox");
    let client = blocking(&sandbox, Api::at(&sandbox.api_url()).expect("an acceptable API base"));
    let mebibyte = vec![b'a'; 1024 * 1024];
    let longer = [&mebibyte[..], b"a"].concat();
    let stream = alvys_auth_ureq::Payload::stream(io::Cursor::new(mebibyte.clone()));
    for (body, consent) in
        [(mebibyte.into(), None), (longer.into(), Some("100-continue")), (stream, Some("100-continue"))]
    {
        let answer = client.post("documents").body(body).send().expect("an answer");
        assert_eq!(answer.status(), 201);
        assert_eq!(sandbox.requests().last().and_then(|request| request.header("expect")), consent);
    }
}
