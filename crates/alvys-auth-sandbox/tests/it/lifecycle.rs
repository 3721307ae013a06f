//! Starting and stopping.

use std::{
    io::Read as _,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use alvys_auth_sandbox::{Fault, Route, Sandbox};

use crate::support::{fields, get, post_form, raw_token_request, token, try_send};

#[test]
fn urls_point_at_the_listener() {
    let sandbox = Sandbox::start().unwrap();
    let url = format!("http://127.0.0.1:{}", sandbox.address().port());
    assert_eq!(sandbox.url(), url);
    assert_eq!(sandbox.token_url(), format!("{url}/oauth/token"));
    assert_eq!(sandbox.legacy_token_url(), format!("{url}/api/authentication/{{tenant_id}}/token"));
}

#[test]
fn a_sandbox_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>(value: T) -> T {
        value
    }
    let sandbox = shared(Sandbox::start().unwrap());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| token(&sandbox));
        }
    });
    assert_eq!(sandbox.tokens_issued(), 4);
}

#[test]
fn async_code_can_start_and_drop_a_sandbox() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let sandbox = Sandbox::start().unwrap();
        assert_eq!(sandbox.token_requests(), 0);
    });
}

#[test]
fn only_loopback_addresses_are_bound() {
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let error = Sandbox::bind(everywhere).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("0.0.0.0:0 is not a loopback address"));
}

#[test]
fn a_taken_port_is_an_error() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let error = Sandbox::bind(taken.local_addr().unwrap()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn a_port_is_free_again_at_once() {
    let first = Sandbox::start().unwrap();
    let address = first.address();
    token(&first);
    drop(first);
    let second = Sandbox::bind(address).unwrap();
    assert_eq!(second.address(), address);
    token(&second);
}

#[test]
fn ipv6_loopback_works_where_there_is_one() {
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    if TcpListener::bind(address).is_err() {
        return;
    }
    let sandbox = Sandbox::bind(address).unwrap();
    assert!(sandbox.url().starts_with("http://[::1]:"));
    assert_eq!(get(&sandbox.me_url(), &token(&sandbox)).status, 200);
}

#[test]
fn dropping_ends_hangs_delays_and_idle_connections_at_once() {
    let sandbox = Sandbox::start().unwrap();
    let minute = Duration::from_secs(60);
    sandbox.inject(Route::Token, Fault::hang().once());
    sandbox.inject(Route::Token, Fault::delay(minute).once());
    sandbox.inject(Route::Token, Fault::late(minute).once());
    let mut held: Vec<TcpStream> = (0..3).map(|_| raw_token_request(&sandbox)).collect();
    held.push(TcpStream::connect(sandbox.address()).unwrap());
    while sandbox.token_requests() < 3 {
        thread::sleep(Duration::from_millis(1));
    }
    let (address, url) = (sandbox.address(), sandbox.token_url());

    let start = Instant::now();
    drop(sandbox);
    for stream in &mut held {
        let end = stream.read(&mut [0; 1]);
        assert!(matches!(end, Ok(0) | Err(_)));
    }
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(TcpStream::connect(address).is_err());
    assert!(try_send("POST", &url, &[], "").is_err());
}

#[test]
fn sandboxes_start_fast_and_know_nothing_of_each_other() {
    token(&Sandbox::start().unwrap());
    let start = Instant::now();
    let sandboxes: Vec<Sandbox> = (0..20).map(|_| Sandbox::start().unwrap()).collect();
    assert!(start.elapsed() < Duration::from_secs(20));
    let application = sandboxes[0].application();
    let answer = post_form(&sandboxes[1].token_url(), &fields(&application));
    assert_eq!(answer.status, 401);
    assert_eq!(sandboxes[0].token_requests(), 0);
}
