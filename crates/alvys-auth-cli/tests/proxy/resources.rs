//! What the system gives: descriptors and threads.

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::support::{Running, World};

/// The same command under limits that a shell sets.
fn under(limits: &str, command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("{limits} && exec \"$0\" \"$@\"")]).arg(command.get_program());
    limited.args(command.get_args()).env_clear().stdin(Stdio::null());
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited
}

fn connect(proxy: &Running, connections: usize) -> Vec<TcpStream> {
    let address = proxy.url().strip_prefix("http://").unwrap();
    let connections = (0..connections).map(|_| TcpStream::connect(address).unwrap()).collect();
    // Until they are accepted, or not.
    thread::sleep(Duration::from_millis(500));
    connections
}

#[test]
fn it_takes_the_descriptors_that_it_may_have() {
    let world = World::new();
    let proxy = Running::start(&world, &mut under("ulimit -S -n 48", &world.complete(&[])), 1);
    let idle = connect(&proxy, 100);
    assert_eq!(proxy.get("/api/p/v1/loads").status, 200);
    assert_eq!(proxy.said(), "");
    drop(idle);
}

#[test]
fn connections_that_cannot_be_accepted_are_told_of_once() {
    let world = World::new();
    let proxy = Running::start(&world, &mut under("ulimit -n 48", &world.complete(&[])), 1);
    let idle = connect(&proxy, 100);
    proxy.says("cannot accept a connection");
    thread::sleep(Duration::from_secs(1));
    assert_eq!(proxy.said().lines().count(), 1, "{}", proxy.said());
    drop(idle);
    assert_eq!(proxy.get("/api/p/v1/loads").status, 200);
}

#[test]
#[cfg(target_os = "linux")]
fn it_keeps_to_few_threads_whatever_the_machine_has() {
    let world = World::new();
    let proxy = Running::start(&world, world.complete(&[]).env("TOKIO_WORKER_THREADS", "40"), 1);
    assert_eq!(proxy.get("/api/p/v1/loads").status, 200);
    let threads = proxy.threads();
    assert!(threads <= 21, "{threads} threads");
}
