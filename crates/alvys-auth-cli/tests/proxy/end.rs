//! How it ends: what is under way may finish, and nothing new begins.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use alvys_auth_sandbox::{Fault, Route};

use crate::support::{Running, World, get, within};

#[test]
fn sigterm_lets_a_call_under_way_finish_and_takes_no_new_one() {
    let world = World::new();
    let proxy = Running::start(&world, &mut world.complete(&[]), 1);
    assert_eq!(proxy.get("/api/p/v1/loads").status, 200);
    world.sandbox.inject(Route::Api, Fault::delay(Duration::from_secs(1)).once());
    let url = format!("{}/api/p/v1/loads", proxy.url());
    let under_way = thread::spawn(move || get(&url, &[]).status);
    within(|| world.calls().len() == 2, || "the call is under way".to_owned());

    let address = proxy.url().strip_prefix("http://").unwrap().to_owned();
    proxy.signal("TERM");
    within(|| TcpStream::connect(&address).is_err(), || "it listens no more".to_owned());
    assert_eq!(under_way.join().unwrap(), 200);
    assert_eq!(proxy.code(), Some(0));
}

#[test]
fn a_second_signal_cuts_what_is_under_way() {
    let world = World::new();
    let mut proxy = Running::start(&world, &mut world.complete(&[]), 1);
    assert_eq!(proxy.get("/api/p/v1/loads").status, 200);
    world.sandbox.inject(Route::Api, Fault::hang().once());
    let address = proxy.url().strip_prefix("http://").unwrap().to_owned();
    let mut stream = TcpStream::connect(&address).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /api/p/v1/loads HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    within(|| world.calls().len() == 2, || "the call is under way".to_owned());
    proxy.signal("INT");
    within(|| TcpStream::connect(&address).is_err(), || "it listens no more".to_owned());
    thread::sleep(Duration::from_millis(200));
    assert!(!proxy.has_ended(), "it waits for the call");
    proxy.signal("INT");
    proxy.says("a second signal");
    assert_eq!(proxy.code(), Some(0));
}

#[test]
fn both_signals_end_an_idle_proxy_at_once() {
    let world = World::new();
    for signal in ["INT", "TERM"] {
        let proxy = Running::start(&world, &mut world.complete(&[]), 1);
        proxy.signal(signal);
        assert_eq!(proxy.code(), Some(0));
    }
}
