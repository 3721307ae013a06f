//! Token requests that have no answer, or none that can be read: how often they are sent, and what is told.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use alvys_auth_core::{Error, ErrorKind, Flow, Policy};
use alvys_auth_driver::{Proxies, Time, Trust};
use alvys_auth_sandbox::{Fault, Route, Sandbox};
use alvys_auth_tests::raw::Raw;
use alvys_auth_tests::tls::{accepted, encryption, fixture};
use alvys_auth_tests::{Async, Blocking, Settings, Source, both_drivers, credentials};
use rustls::ServerConfig;
use rustls::crypto::ring;

const TOKEN: &str = r#"{"access_token":"abc","token_type":"Bearer","expires_in":3600}"#;

both_drivers![
    a_success_that_cannot_be_read_is_asked_for_twice_and_told_as_one,
    a_refusal_that_is_cut_short_costs_no_token,
    more_headers_than_the_client_takes_are_told_as_such,
    a_server_that_is_not_there_is_no_connection,
    a_host_without_an_address_is_no_connection,
    answers_on_the_way_without_end_are_given_up,
];

fn settings(endpoint: &str) -> Settings {
    Settings {
        flow: Flow::current().endpoint(format!("{endpoint}/oauth/token")),
        credentials: credentials("my-client", "s3cret"),
        policy: Policy::new(),
        patience: Duration::from_secs(15),
        time: Time::boot(),
        store: None,
    }
}

/// What a source is told by `server`, and how many requests it has sent for that.
fn asked<S: Source>(server: &Raw) -> (Error, usize) {
    let source = S::build(settings(server.url())).expect("acceptable settings");
    let error = source.token().expect_err("no token");
    (error, server.requests())
}

fn a_success_that_cannot_be_read_is_asked_for_twice_and_told_as_one<S: Source>() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for answer in [
        format!("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{TOKEN}"),
        format!("{chunked}nonsense\r\n{TOKEN}\r\n0\r\n\r\n"),
        format!("{chunked}3e\r\n{TOKEN}"),
        format!("HTTP/1.1 200 OK\r\nno header\r\n\r\n{TOKEN}"),
        "HTTP/1.1 2OO OK\r\n\r\n".to_owned(),
        "\0\x01\x02\x03\r\n\r\n".to_owned(),
    ] {
        let (error, requests) = asked::<S>(&Raw::saying(answer.clone()));
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::InvalidResponse, true), "{answer}: {error:#}");
        assert_eq!(error.what(), "the answer of the token endpoint cannot be read", "{answer}");
        assert!(error.cause().is_some_and(|cause| !cause.contains("abc")), "{error:#}");
        assert_eq!(requests, 2, "each may have bought a token: {answer}");
    }
}

fn a_refusal_that_is_cut_short_costs_no_token<S: Source>() {
    let server = Raw::saying("HTTP/1.1 503 Service Unavailable\r\nretry-after: 60\r\ncontent-length: 100\r\n\r\n{");
    let settings =
        Settings { policy: Policy::new().pause_while_waiting(Duration::from_millis(1)), ..settings(server.url()) };
    let source = S::build(settings.patience(Duration::from_secs(1))).expect("acceptable settings");
    let error = source.token().expect_err("no token");
    assert_eq!(error.kind(), ErrorKind::Transport, "{error:#}");
    assert!(server.requests() > 2, "a refusal may be asked for again: {}", server.requests());
}

fn more_headers_than_the_client_takes_are_told_as_such<S: Source>() {
    let headers = |many: usize| (0..many).map(|number| format!("x-{number}: 1\r\n")).collect::<String>();
    let answer = |many| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{}\r\n{TOKEN}", TOKEN.len(), headers(many));
    let source = S::build(settings(Raw::saying(answer(110)).url())).expect("acceptable settings");
    source.token().expect("a token under 111 headers");
    let (error, requests) = asked::<S>(&Raw::saying(answer(500)));
    assert_eq!((error.kind(), requests), (ErrorKind::InvalidResponse, 2), "{error:#}");
    assert!(error.hint().contains("more headers than the HTTP client takes"), "{error}");
}

fn a_server_that_is_not_there_is_no_connection<S: Source>() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a socket").local_addr().expect("an address").port();
    assert_no_connection::<S>(&format!("http://127.0.0.1:{port}"), "Connection refused");
}

fn a_host_without_an_address_is_no_connection<S: Source>() {
    assert_no_connection::<S>("https://nowhere.invalid", "failed to lookup address");
}

fn assert_no_connection<S: Source>(endpoint: &str, cause: &str) {
    let settings = Settings { patience: Duration::from_millis(1), ..settings(endpoint) };
    let source = S::build(settings).expect("acceptable settings");
    let mut told = source.token().expect_err("no token");
    alvys_auth_tests::eventually("the attempt has failed", || {
        told = source.token().expect_err("no token");
        told.kind() != ErrorKind::TimedOut
    });
    assert_eq!((told.kind(), told.is_retryable()), (ErrorKind::Transport, true), "{told:#}");
    assert_eq!(told.what(), "no connection to the token endpoint");
    assert!(told.cause().is_some_and(|told| told.contains(cause)), "{told:#}");
}

fn answers_on_the_way_without_end_are_given_up<S: Source>() {
    let server = Raw::start(|asked| {
        loop {
            asked.stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")?;
            // Faster than an unoptimized client can read it would measure that.
            thread::sleep(Duration::from_millis(1));
        }
    });
    let policy = Policy::new().request_timeout(Duration::from_millis(500));
    let settings = Settings { policy, patience: Duration::from_secs(1), ..settings(server.url()) };
    let source = S::build(settings).expect("acceptable settings");
    let error = source.token().expect_err("no token");
    assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::InvalidResponse), "{error:#}");
}

/// A server of HTTP/2 that sends interim answers for as long as they are taken, and says when one cannot be sent any more.
fn interim_over_http2() -> (u16, mpsc::Receiver<()>) {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // :status 103 on the first stream, which does not end with it.
    const INTERIM: [u8; 14] = [0, 0, 5, 1, 4, 0, 0, 0, 1, 8, 3, b'1', b'0', b'3'];
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let port = listener.local_addr().expect("an address").port();
    let (ended, is_over) = mpsc::channel();
    let mut config = ServerConfig::clone(&encryption(false));
    config.alpn_protocols = vec![b"h2".to_vec()];
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (config, ended) = (Arc::new(config.clone()), ended.clone());
            thread::spawn(move || {
                let mut stream = accepted(stream, config, |_| ()).ok()?;
                stream.write_all(&SETTINGS).ok()?;
                // The request is on its way once its client has said hello and acknowledged.
                let _ = stream.read(&mut [0; 4096]).ok()?;
                thread::sleep(Duration::from_millis(50));
                while stream.write_all(&INTERIM).and_then(|()| stream.flush()).is_ok() {
                    thread::sleep(Duration::from_millis(1));
                }
                ended.send(()).ok()
            });
        }
    });
    (port, is_over)
}

#[test]
fn interim_answers_without_end_over_http2_are_given_up_and_their_connection_too() {
    let (port, is_over) = interim_over_http2();
    let trust = Trust::system().only("the test", fixture("localhost.pem"));
    let tls = trust.read(Arc::new(ring::default_provider())).expect("certificates").config;
    let http = alvys_auth_reqwest::Http::with(Proxies::default(), tls);
    let policy = Policy::new().request_timeout(Duration::from_millis(500));
    let Settings { flow, credentials, .. } = settings(&format!("https://localhost:{port}"));
    let source = alvys_auth_reqwest::TokenSource::builder(flow, credentials).policy(policy).http(http);
    let source = source.patience(Duration::from_secs(1)).build().expect("a source");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let error = runtime.block_on(async { source.token().await }).expect_err("no token");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:#}");
    drop((source, runtime));
    is_over.recv_timeout(Duration::from_secs(20)).expect("nobody takes them any more");
}

/// reqwest joins the lines of a folded header as RFC 9112, section 5.2, asks; ureq has no switch for it and refuses them.
#[test]
fn a_folded_header_is_read_where_the_client_can_and_refused_in_words_elsewhere() {
    let answer = format!("HTTP/1.1 200 OK\r\nx-long: one\r\n two\r\ncontent-length: {}\r\n\r\n{TOKEN}", TOKEN.len());
    let server = Raw::saying(answer);
    let source = Async::build(settings(server.url())).expect("acceptable settings");
    assert_eq!(source.token().expect("a token").access_token(), "abc");
    let (error, requests) = asked::<Blocking>(&server);
    assert_eq!((error.kind(), requests), (ErrorKind::InvalidResponse, 3), "{error:#}");
}

#[tokio::test]
async fn longer_headers_over_http2_than_the_client_takes_are_told_as_such() {
    let sandbox = Sandbox::start().expect("a sandbox");
    let long =
        (0..20).fold(Fault::reply(200, TOKEN), |fault, number| fault.header(&format!("x-{number}"), "a".repeat(1024)));
    sandbox.inject(Route::Token, long);
    let Settings { flow, credentials, .. } = Settings::current(&sandbox);
    let source = |http: fn() -> reqwest::ClientBuilder| {
        alvys_auth_reqwest::TokenSource::builder(flow.clone(), credentials.clone())
            .http(http)
            .build()
            .expect("a source")
    };
    let small = source(|| reqwest::Client::builder().http2_prior_knowledge());
    let error = small.token().await.expect_err("more than 16 KiB");
    assert_eq!((error.kind(), sandbox.token_requests()), (ErrorKind::InvalidResponse, 2), "{error:#}");
    let large = source(|| reqwest::Client::builder().http2_prior_knowledge().http2_max_header_list_size(64 * 1024));
    large.token().await.expect("a token");
}

#[tokio::test]
async fn what_a_server_says_to_end_an_http2_connection_is_shown_nowhere() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (settings, said) = ([0, 0, 0, 4, 0, 0, 0, 0, 0], b"you sent s3cret");
            let farewell = [0, 0, 8 + said.len() as u8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
            let frames = [&settings[..], &farewell, said].concat();
            // Read first: an end of the connection is not to overtake the frames.
            let _ = stream.read(&mut [0; 4096]).and_then(|_| stream.write_all(&frames));
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let Settings { flow, credentials, .. } = settings(&url);
    let http = || reqwest::Client::builder().http2_prior_knowledge();
    let source = alvys_auth_reqwest::TokenSource::builder(flow, credentials).http(http);
    let source = source.patience(Duration::from_millis(500)).build().expect("a source");
    let error = source.token().await.expect_err("no token");
    assert_eq!(
        error.cause().as_deref(),
        Some("the server ended the connection: unexpected internal error encountered")
    );
    assert!(!format!("{error:#} {error:?}").contains("s3cret"), "{error:?}");
}
