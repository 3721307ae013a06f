//! Many connections at once. A process of its own: both ends of each one count as open files, of
//! which many systems allow 1,024.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use alvys_auth_sandbox::Sandbox;

#[test]
fn five_hundred_connections_at_once_are_answered() {
    let sandbox = Sandbox::start().unwrap();
    let mut connections: Vec<TcpStream> = (0..500).map(|_| TcpStream::connect(sandbox.address()).unwrap()).collect();
    for connection in &mut connections {
        connection.write_all(b"GET /v1/me HTTP/1.1\r\nHost: sandbox\r\nConnection: close\r\n\r\n").unwrap();
    }
    for connection in &mut connections {
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
    assert_eq!(sandbox.api_requests(), 500);
}
