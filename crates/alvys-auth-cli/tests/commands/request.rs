//! One authorized call: what goes out, what comes back, and which exit code that makes.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use alvys_auth_sandbox::{Fault, Route};

use crate::support::{World, at_a_terminal, exists, ran, ran_with};

const LOADS: &str = "/api/p/v1/loads";
/// A token that is younger is not given up because of a 401.
const GRACE: Duration = Duration::from_secs(11);

#[test]
fn a_call_carries_the_kept_token_and_prints_the_body_alone() {
    let world = World::new();
    let token = world.token();
    let body = world.run(&["request", "GET", "loads"]).text().to_owned();
    assert!(body.starts_with(r#"{"Items":[{"Id":"load-1"}"#) && body.ends_with('}'), "{body}");
    let requests = world.sandbox.requests();
    let call = requests.last().unwrap();
    assert_eq!(call.header("authorization"), Some(format!("Bearer {token}").as_str()));
    assert!(call.header("user-agent").unwrap().starts_with("alvys-auth/"));
    world.run(&["request", "get", "/loads/load-2"]).text();
    assert_eq!(world.sandbox.tokens_issued(), 1);
}

#[test]
fn a_full_url_is_called_when_a_token_may_go_there() {
    let world = World::new();
    let elsewhere = world.run(&["request", "GET", "https://files.example.net/pod.pdf?signature=abc"]);
    let said = elsewhere.failed(78);
    assert!(said.contains("must not go to files.example.net") && !said.contains("signature"), "{said}");
    assert_eq!(world.sandbox.token_requests(), 0, "no token for a call that cannot be");
    assert!(world.run(&["request", "GET", &world.sandbox.me_url()]).text().contains("va336"));
}

#[test]
fn status_and_headers_come_first_when_asked_for() {
    let world = World::new();
    let ran = world.run(&["request", "-i", "GET", "loads/load-1"]);
    let (head, body) = ran.text().split_once("\n\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\n") && head.contains("\ncontent-type: application/json\n"), "{head}");
    assert_eq!(body, r#"{"Id":"load-1"}"#);
}

#[test]
fn a_body_comes_from_the_argument_a_file_or_stdin() {
    let world = World::new();
    let file = world.file("body.json", r#"{"from":"file"}"#);
    world.run(&["request", "POST", "loads", "-d", r#"{"from":"argument"}"#]).text();
    world.run(&["request", "POST", "loads", "-d", &format!("@{file}")]).text();
    ran_with(&mut world.command(&["request", "POST", "loads", "-d", "-"]), br#"{"from":"stdin"}"#).text();
    let typed = ["request", "POST", "loads", "-d", "-5", "-H", "Content-Type: text/plain", "-H", "X-Note: a: b"];
    world.run(&typed).failed(77);
    let requests = world.sandbox.requests();
    let calls: Vec<_> = requests.iter().filter(|request| request.path() == LOADS).collect();
    let bodies: Vec<&[u8]> = calls.iter().map(|call| call.body()).collect();
    assert_eq!(bodies, [&br#"{"from":"argument"}"#[..], br#"{"from":"file"}"#, br#"{"from":"stdin"}"#, b"-5"]);
    let types: Vec<_> = calls.iter().map(|call| call.header("content-type").unwrap()).collect();
    assert_eq!(types, ["application/json", "application/json", "application/json", "text/plain"]);
    assert!(calls.iter().all(|call| call.headers().get_all("content-type").iter().count() == 1));
    assert_eq!(calls[3].header("x-note"), Some("a: b"));
}

#[test]
fn large_bodies_stream_in_both_directions() {
    let world = World::new();
    let upload = vec![b'x'; 12 * 1024 * 1024];
    let sent = ran_with(&mut world.command(&["request", "POST", "documents", "-d", "@-"]), &upload);
    assert_eq!(sent.json()["Length"], upload.len());
    let length = 9 * 1024 * 1024;
    let wanted = format!("documents/document-1?bytes={length}");
    let expected: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
    assert!(world.run(&["request", "GET", &wanted]).stdout == expected);
    let file = world.file("old", "old");
    world.run(&["request", "GET", &wanted, "-o", &file]).text();
    assert!(std::fs::read(&file).unwrap() == expected);
}

#[test]
fn a_refused_token_is_replaced_once_for_all_processes() {
    let world = World::new();
    let old = world.token();
    thread::sleep(GRACE);
    world.sandbox.reject_tokens();
    world.sandbox.inject(Route::Token, Fault::late(Duration::from_millis(400)));
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| world.run(&["request", "GET", "loads"]).text().to_owned());
        }
    });
    assert_eq!(world.sandbox.tokens_issued(), 2);
    assert_ne!(world.token(), old, "the cache holds the new one");
    assert_eq!(world.sandbox.tokens_issued(), 2);
}

#[test]
fn a_refused_token_is_replaced_even_when_the_body_cannot_be_sent_again() {
    let world = World::new();
    world.token();
    thread::sleep(GRACE);
    world.sandbox.reject_tokens();
    let upload = vec![b'x'; 9 * 1024 * 1024];
    let send = || ran_with(&mut world.command(&["request", "POST", "documents", "-d", "-"]), &upload);
    assert!(send().failed(75).contains("cannot be sent again"));
    assert_eq!(send().json()["Length"], upload.len());
    assert_eq!(world.sandbox.tokens_issued(), 2);
}

#[test]
fn a_call_that_failed_is_told_even_when_there_is_no_other_token_either() {
    let world = World::new();
    world.token();
    thread::sleep(GRACE);
    world.sandbox.reject_tokens();
    world.sandbox.inject(Route::Token, Fault::status(401));
    let upload = vec![b'x'; 9 * 1024 * 1024];
    let sent = ran_with(&mut world.command(&["request", "POST", "documents", "-d", "-"]), &upload);
    assert!(sent.failed(75).contains("cannot be sent again"), "{sent:?}");
    assert_eq!(world.sandbox.token_requests(), 2);
}

#[test]
fn a_token_that_is_seconds_old_is_not_replaced() {
    let world = World::new();
    world.token();
    world.sandbox.reject_tokens();
    assert!(world.run(&["request", "GET", "loads"]).failed(77).contains("refuses the access token"));
    assert_eq!((world.sandbox.token_requests(), world.calls(LOADS)), (1, 1));
}

#[test]
fn why_there_is_no_other_token_is_told() {
    let world = World::new();
    world.token();
    thread::sleep(GRACE);
    world.sandbox.reject_tokens();
    world.sandbox.inject(Route::Token, Fault::status(429).retry_after(Duration::from_secs(99)));
    let ran = world.run(&["request", "GET", "loads"]);
    assert!(ran.failed(75).contains("Try again in 9"), "{ran:?}");
}

#[test]
fn the_exit_code_tells_what_became_of_the_call() {
    let world = World::new();
    let hour = Duration::from_secs(3600);
    let cases = [
        (Fault::status(400), 77, "400 Bad Request"),
        (Fault::status(404), 77, "404 Not Found"),
        (Fault::status(409), 77, "409"),
        (Fault::status(403), 77, "403"),
        (Fault::status(401), 77, "refuses the access token"),
        (Fault::status(501), 77, "501"),
        (Fault::status(408), 75, "408"),
        (Fault::status(500), 75, "500"),
        (Fault::status(502), 75, "502"),
        (Fault::status(503).retry_after(hour), 75, "Try again in 3600 s"),
        (Fault::status(429).retry_after(hour), 75, "Try again in 3600 s"),
        (Fault::challenge(200), 76, "HTML page"),
        (Fault::challenge(502), 75, "HTML page"),
        (Fault::truncate(), 69, "cut short"),
    ];
    // A wait that one run was told is heeded by the next, so that these are told to endpoints of their own.
    let mut others = ["trips", "drivers"].into_iter();
    for (fault, code, said) in cases {
        world.sandbox.inject(Route::Api, fault.once());
        let output = world.path("output");
        let path = if said.starts_with("Try again") { others.next() } else { None }.unwrap_or("loads");
        let ran = world.run(&["request", "GET", path, "-o", &output]);
        assert!(ran.failed(code).contains(said), "{said}: {ran:?}");
        assert!(!exists(&output), "{said}");
    }
    world.sandbox.inject(Route::Api, Fault::reply(304, "").once());
    assert_eq!(world.run(&["request", "GET", "loads"]).text(), "");
    world.sandbox.inject(Route::Api, Fault::truncate().once());
    world.run(&["request", "GET", "loads"]).failed(69);
}

#[test]
fn a_connection_that_closes_unanswered_is_tried_once_more_where_that_is_safe() {
    let world = World::new();
    world.sandbox.inject(Route::Api, Fault::reset().once());
    assert_eq!(world.run(&["request", "GET", "loads"]).code, Some(0));
    world.sandbox.inject(Route::Api, Fault::reset().times(2));
    let ran = world.run(&["request", "GET", "loads"]);
    assert!(ran.failed(69).contains("the API broke off instead of answering"), "{ran:?}");
    world.sandbox.inject(Route::Api, Fault::reset().once());
    world.run(&["request", "POST", "loads", "-d", "{}"]).failed(69);
    assert_eq!(world.sandbox.api_requests(), 5);
}

#[test]
fn an_answer_before_the_end_of_the_body_is_told_and_a_401_gives_the_token_up() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/api/p/v1", listener.local_addr().unwrap());
    // Answers the head alone and closes, which resets the connection.
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let (status, rest) = (lines.next().unwrap_or_default(), lines.take_while(|line| !line.is_empty()).count());
            let status = if status.contains("refused") { "401 Unauthorized" } else { "413 Content Too Large" };
            let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{{}}");
            assert!(rest > 0 && (&stream).write_all(answer.as_bytes()).is_ok());
        }
    });
    let file = world.file("body", vec![b'a'; 400 * 1024]);
    let data = format!("@{file}");
    let post = |path: &str| world.run(&["request", "POST", path, "-d", &data, "--api-base-url", &base]);
    for _ in 0..5 {
        assert!(post("documents").failed(77).contains("413 Payload Too Large"));
    }
    thread::sleep(GRACE);
    assert!(post("refused").failed(77).contains("refuses the access token"));
    assert_eq!(world.sandbox.tokens_issued(), 2, "the refused token is given up");
}

#[test]
fn a_file_goes_out_with_its_length_however_long_it_is() {
    let world = World::new();
    for length in [3, 9 * 1024 * 1024] {
        let file = world.file("body", vec![b'a'; length]);
        let ran =
            world.run(&["request", "POST", "documents", "-H", "content-type: text/plain", "-d", &format!("@{file}")]);
        assert_eq!(ran.json()["Length"], length, "{ran:?}");
        let received = world.sandbox.requests().pop().unwrap();
        assert_eq!(received.header("content-length"), Some(length.to_string().as_str()));
        assert_eq!(received.header("transfer-encoding"), None);
    }
}

#[test]
fn an_error_body_that_repeats_the_token_is_not_shown() {
    let world = World::new();
    let token = world.token();
    let split: String = token.chars().map(|c| format!("{c} ")).collect();
    world.sandbox.inject(Route::Api, Fault::reply(400, format!("you sent {split}")).once());
    let ran = world.run(&["request", "GET", "loads", "--show-error-body"]);
    assert!(ran.stderr.contains("withheld, because it repeats the token"), "{ran:?}");
    assert!(!ran.stderr.contains(&split[..40]), "{ran:?}");
}

#[test]
fn what_cannot_work_is_told_before_anything_is_sent() {
    let world = World::new();
    let cases = [
        (&["request", "BREW", "loads"][..], 2, "GET, HEAD"),
        (&["request", "GET"], 2, "is missing"),
        (&["request", "GET", "loads", "-H", "Authorization: Bearer abc"], 2, "other users"),
        (&["request", "GET", "loads", "-H", "Content-Length: 5"], 2, "is set from the URL and the body"),
        (&["request", "GET", "loads", "-H", "no header"], 2, "Name: value"),
        (&["request", "HEAD", "loads", "-d", "x"], 2, "no body"),
        (&["request", "POST", "loads", "-d", "-", "--secret-stdin"], 2, "both"),
        (&["request", "GET", "../admin"], 78, "leaves the API base"),
        (&["request", "POST", "loads", "-d", "@/nowhere"], 78, "cannot read the body"),
        (&["request", "GET", "loads", "-o", "/nowhere/file"], 78, "cannot write"),
        (&["request", "GET", "loads", "--api-base-url", "http://api.example.com"], 78, "unencrypted"),
    ];
    for (arguments, code, said) in cases {
        let ran = world.run(arguments);
        assert!(ran.failed(code).contains(said), "{arguments:?}: {ran:?}");
    }
    assert_eq!(world.sandbox.requests().len(), 0);
    assert!(ran(&mut world.bare(&["request", "GET", "loads"])).failed(78).contains("ALVYS_CLIENT_ID is not set"));
    world.run(&["request", "GET", "loads", "--require", "load:read,user:delete"]).failed(77);
    assert_eq!(world.sandbox.api_requests(), 0, "a scope is missing, so nothing was sent");
    world.run(&["request", "GET", "loads", "--require", "load:read,trip:read"]).text();
}

#[test]
fn refused_credentials_are_refused_here_too() {
    let world = World::new();
    let ran = ran(world.command(&["request", "GET", "loads"]).env("ALVYS_CLIENT_SECRET", "wrong"));
    assert!(ran.failed(77).contains("refused the credentials"));
}

#[test]
fn an_error_body_is_shown_on_stderr_without_token_and_escapes() {
    let world = World::new();
    let token = world.token();
    let said = format!("{{\"detail\":\"\u{1b}]0;owned\u{7} Bearer {token}\"}}");
    world.sandbox.inject(Route::Api, Fault::reply(400, said).header("content-type", "application/json"));
    let ran = world.run(&["request", "GET", "loads", "--show-error-body"]);
    assert_eq!((ran.code, ran.stdout.len()), (Some(77), 0));
    assert!(
        ran.stderr.starts_with("{\"detail\":\"]0;owned Bearer [token]\"}\nalvys-auth: the API answered 400"),
        "{ran:?}"
    );
    assert!(!ran.stderr.contains(['\u{1b}', '\u{7}']));
    assert!(!world.run(&["request", "GET", "loads"]).failed(77).contains("owned"));
}

#[test]
fn a_terminal_gets_no_escapes_and_a_pipe_gets_every_byte() {
    let world = World::new();
    let body = b"one\n\x1b[2Jtwo\x9b\n".to_vec();
    world.sandbox.inject(Route::Api, Fault::reply(200, body.clone()).header("content-type", "text/plain"));
    assert_eq!(world.run(&["request", "GET", "loads"]).stdout, body);
    let named = ["request", "GET", "loads", "-o", "/dev/stdout"];
    assert_eq!(world.run(&named).stdout, body);
    for arguments in [&named[..3], &named] {
        if let Some(shown) = at_a_terminal(&mut world.command(arguments)) {
            assert!(shown.contains("one") && shown.contains("[2Jtwo") && !shown.contains('\u{1b}'), "{shown:?}");
        }
    }
}

#[test]
fn a_long_answer_needs_no_place_for_temporary_files() {
    let world = World::new();
    let body = vec![b'x'; 5 * 1024 * 1024];
    world.sandbox.inject(Route::Api, Fault::reply(200, body.clone()).header("content-type", "text/plain"));
    let ran = ran(world.command(&["request", "GET", "loads"]).env("TMPDIR", "/nonexistent"));
    assert_eq!((ran.code, ran.stdout == body), (Some(0), true), "{}", ran.stderr);
}

#[test]
fn an_errors_body_is_a_member_where_errors_are_json() {
    let world = World::new();
    world
        .sandbox
        .inject(Route::Api, Fault::reply(400, r#"{"detail":"no"}"#).header("content-type", "application/json"));
    let ran = world.run(&["request", "GET", "loads", "--show-error-body", "--json-errors"]);
    let said: serde_json::Value = serde_json::from_str(ran.failed(77)).unwrap();
    assert_eq!((&said["error"]["body"], &said["error"]["status"]), (&r#"{"detail":"no"}"#.into(), &400.into()));
    assert!(world.run(&["request", "GET", "nowhere", "--json-errors"]).failed(77).contains(r#""body":null"#));
}

#[test]
fn a_write_is_repeated_only_when_it_is_said_to_be_idempotent() {
    let world = World::new();
    let busy = || Fault::status(503).retry_after(Duration::from_secs(1)).once();
    world.sandbox.inject(Route::Api, busy());
    assert!(
        world
            .run(&["request", "POST", "loads", "-d", "{}"])
            .failed(75)
            .contains("may not be safe to send this method or body twice")
    );
    assert_eq!(world.calls(LOADS), 1);
    world.sandbox.inject(Route::Api, busy());
    world.run(&["request", "POST", "loads", "-d", "{}", "--idempotent"]).text();
    assert_eq!(world.calls(LOADS), 3);
    world.sandbox.inject(Route::Api, busy());
    assert!(world.run(&["request", "GET", "loads", "--patience", "0"]).failed(75).contains("Try again in 1 s"));
}

#[test]
fn a_call_ends_in_time() {
    let world = World::new();
    world.sandbox.inject(Route::Api, Fault::hang());
    let started = Instant::now();
    assert!(world.run(&["request", "GET", "loads", "--max-time", "1s"]).failed(69).contains("in time"));
    assert!(started.elapsed() < Duration::from_secs(8));
}

#[test]
fn events_arrive_one_by_one_without_a_buffer() {
    let world = World::new();
    let url = world.sandbox.mcp_url();
    let arguments = ["request", "POST", &url, "-N", "-d", r#"{"events":3,"interval_ms":2000}"#];
    let mut child = world.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    let first = Instant::now();
    let rest = lines.count();
    assert!(rest >= 2 && first.elapsed() > Duration::from_secs(1), "{rest} lines, {:?}", first.elapsed());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_stream() {
    let world = World::new();
    let url = world.sandbox.mcp_url();
    let arguments = ["request", "POST", &url, "-N", "-i", "-d", r#"{"events":1000,"interval_ms":100}"#];
    let mut child = world.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first, "HTTP/1.1 200 OK\n");
    let started = Instant::now();
    assert!(child.wait().unwrap().success());
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_redirect_to_another_host_is_followed_without_the_token() {
    let (world, storage) = (World::new(), World::new());
    world.sandbox.set_document_host(storage.sandbox.url().replace("127.0.0.1", "localhost"));
    let ran = world.run(&["request", "GET", "documents/document-1/download", "--show-error-body"]);
    assert_eq!(ran.stdout.len(), 1024, "{ran:?}");
    let requests = storage.sandbox.requests();
    assert_eq!((requests.len(), requests[0].header("authorization")), (1, None));
}

#[test]
fn an_answer_that_cannot_be_read_is_one_that_makes_no_sense() {
    let world = World::new();
    for answer in [
        "HTTP/1.1 200 OK\r\nX-Note: a\u{1}b\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        "SSH-2.0-OpenSSH_9.6\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nnothing like a length\r\n",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/api/p/v1", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut head = BufReader::new(&stream).lines();
            while head.next().unwrap().unwrap() != "" {}
            (&stream).write_all(answer.as_bytes()).unwrap();
        });
        let ran = world.run(&["request", "GET", "loads", "--api-base-url", &base]);
        assert!(ran.failed(76).contains("the answer of the API cannot be read"), "{answer:?}: {ran:?}");
        server.join().unwrap();
    }
}

#[test]
fn a_run_heeds_the_block_that_another_run_was_told() {
    let world = World::new();
    world.sandbox.inject_at(LOADS, Fault::status(429).retry_after(Duration::from_secs(60)));
    let loads = || world.run(&["request", "GET", "loads", "--patience", "5"]).failed(75).to_owned();
    assert!(loads().contains("Try again in 60 s"));
    let before = world.sandbox.api_requests();
    let said = loads();
    assert!(said.contains("Try again in"), "{said}");
    assert_eq!(world.sandbox.api_requests(), before, "nothing was sent");
    world.run(&["request", "GET", "trips"]).text();
    world.run(&["request", "GET", "loads", "--no-cache", "--patience", "0"]).failed(75);
    assert_eq!(world.sandbox.api_requests(), before + 2, "who shares nothing has to ask");
}
