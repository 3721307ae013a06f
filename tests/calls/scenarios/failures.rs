//! Connections that break or fall silent.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use alvys_auth_core::{Api, ErrorKind};
use alvys_auth_sandbox::{Fault, Route};
use alvys_auth_tests::caller::{Call, Caller, Failure, Setup};
use alvys_auth_tests::eventually;
use alvys_auth_tests::raw::Raw;
use http::Method;

use crate::calls::start;

/// Clients of our own say what kind of failure it was; middleware leaves that to the stack.
fn assert_told<C: Caller>(failure: Failure, kind: ErrorKind) {
    match failure {
        Failure::Ours(error) => {
            assert_eq!((error.kind(), error.is_retryable()), (kind, true), "{error}");
            assert!(C::EXPLAINS);
        }
        Failure::Stacks(error) => assert!(!C::EXPLAINS, "{error}"),
    }
}

pub(crate) fn a_reset_connection_is_an_error_and_sent_again_once_where_that_is_safe<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox));
    for (calls, call) in [(2, Call::get("loads")), (3, Call::post("loads")), (5, Call::post("loads").idempotent())] {
        sandbox.inject(Route::Api, Fault::reset().times(2));
        assert_told::<C>(caller.call(call).expect_err("no answer"), ErrorKind::Transport);
        assert_eq!((sandbox.api_requests(), sandbox.token_requests()), (calls, 1));
        sandbox.clear_faults();
    }
    sandbox.inject(Route::Api, Fault::reset().once());
    assert_eq!(caller.call(Call::get("loads")).expect("an answer").status, 200);
}

/// An API that answers one request on each connection, and closes that when the next one has arrived.
fn forgetful() -> Raw {
    Raw::start(|asked| {
        if asked.before > 0 {
            return Ok(false);
        }
        asked.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").map(|()| true)
    })
}

pub(crate) fn a_call_that_a_kept_connection_swallows_is_sent_again_where_that_is_safe<C: Caller>() {
    let (sandbox, server) = (start(), forgetful());
    let api = Api::at(server.url()).expect("an acceptable API base");
    let caller = C::build(Setup { api, ..Setup::of(&sandbox) });
    for (call, safe) in [
        (Call::get("loads"), true),
        (Call::post("loads"), false),
        (Call::post("loads").idempotent(), true),
        (Call::new(Method::DELETE, "loads/1"), false),
    ] {
        // The stack may not have its connection back yet, and open another one.
        eventually("a call meets a kept connection", || {
            // A middleware's client may have kept two such connections, and sends on the second one what the first swallowed.
            let Ok(answer) = caller.call(Call::get("loads")) else { return false };
            assert_eq!(answer.status, 200);
            let before = server.requests();
            let answer = caller.call(call.clone());
            match (answer, server.requests() - before) {
                (Ok(_), 1) => false,
                (Ok(_), 2) => safe,
                (Err(_), 1) => !safe,
                other => panic!("{call:?}: {other:?}"),
            }
        });
    }
}

pub(crate) fn interim_answers_without_end_are_given_up<C: Caller>() {
    let sandbox = start();
    let server = Raw::start(|asked| {
        loop {
            asked.stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")?;
            sleep(Duration::from_millis(1));
        }
    });
    let api = Api::at(server.url()).expect("an acceptable API base");
    let caller = C::build(Setup { api, timeout: Duration::from_millis(300), ..Setup::of(&sandbox) });
    caller.call(Call::get("loads")).expect_err("no answer");
    assert_eq!(server.requests(), 1);
}

pub(crate) fn a_truncated_answer_is_an_error<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox));
    sandbox.inject(Route::Api, Fault::truncate().once());
    let failure = caller.call(Call::get("loads")).expect_err("half an answer");
    assert!(matches!(failure, Failure::Stacks(_)), "the body is read by the stack: {failure:?}");
    assert_eq!(caller.call(Call::get("loads")).expect("an answer").status, 200);
    assert_eq!((sandbox.api_requests(), sandbox.token_requests()), (2, 1));
}

pub(crate) fn a_silent_server_ends_in_an_error<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup { timeout: Duration::from_millis(300), ..Setup::of(&sandbox) });
    sandbox.inject(Route::Api, Fault::hang().once());
    assert_told::<C>(caller.call(Call::get("loads")).expect_err("no answer"), ErrorKind::TimedOut);
    assert_eq!(sandbox.api_requests(), 1);
}

pub(crate) fn a_closed_server_ends_in_an_error<C: Caller>() {
    let (sandbox, api) = (start(), start());
    let mut setup = Setup::of(&sandbox);
    setup.api = Setup::of(&api).api;
    let caller = C::build(setup);
    drop(api);
    assert_told::<C>(caller.call(Call::get("loads")).expect_err("no answer"), ErrorKind::Transport);
    assert_eq!(sandbox.token_requests(), 1);
}

/// A server that refuses a request at once, with a body of which `go_on` writes the rest. Tells whether that got to an end.
fn refuser(go_on: impl FnOnce(&mut TcpStream) -> io::Result<()> + Send + 'static) -> (Api, Arc<AtomicBool>) {
    const HEAD: &[u8] = b"HTTP/1.1 403 Forbidden\r\ncontent-type: application/problem+json\r\n\
        www-authenticate: Bearer error=\"insufficient_scope\", scope=\"load:delete\"\r\ncontent-length: 300\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let api =
        Api::at(&format!("http://{}", listener.local_addr().expect("an address"))).expect("an acceptable API base");
    let ended = Arc::new(AtomicBool::new(false));
    let talk = {
        let ended = Arc::clone(&ended);
        move |mut stream: TcpStream| {
            let _head = stream.read(&mut [0; 4096])?;
            stream.write_all(HEAD)?;
            go_on(&mut stream)?;
            ended.store(true, Ordering::SeqCst);
            Ok(())
        }
    };
    thread::spawn(move || listener.accept().and_then(|(stream, _)| talk(stream)));
    (api, ended)
}

fn assert_told_by_its_head<C: Caller>((api, ended): (Api, Arc<AtomicBool>)) {
    let sandbox = start();
    let caller = C::build(Setup { api, ..Setup::of(&sandbox) });
    let error = caller.call(Call::get("loads")).expect_err("a refusal").ours();
    assert_eq!(error.missing_scopes(), [alvys_auth_core::Scope::LOAD_DELETE]);
    assert!(!ended.load(Ordering::SeqCst), "it was listened to for 15 seconds");
}

pub(crate) fn a_refusal_without_end_is_told_by_its_head<C: Caller>() {
    assert_told_by_its_head::<C>(refuser(|stream| {
        (0..300).try_for_each(|_| {
            sleep(Duration::from_millis(50));
            stream.write_all(b" ")
        })
    }));
}

pub(crate) fn a_refusal_that_falls_silent_is_told_by_its_head<C: Caller>() {
    assert_told_by_its_head::<C>(refuser(|stream| {
        stream.write_all(b"{")?;
        sleep(Duration::from_secs(15));
        Ok(())
    }));
}
