//! What the system gives: descriptors and threads.

use std::fs;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::support::{Running, World, get, within};

/// The same command under limits that a shell sets.
fn under(limits: &str, command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("{limits} && exec \"$0\" \"$@\"")]).arg(command.get_program());
    limited.args(command.get_args()).env_clear().stdin(Stdio::null());
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited
}

fn connect(place: &str, connections: usize) -> Vec<TcpStream> {
    let address = place.strip_prefix("http://").unwrap();
    let connections = (0..connections).map(|_| TcpStream::connect(address).unwrap()).collect();
    // Until they are accepted, or not.
    thread::sleep(Duration::from_millis(500));
    connections
}

#[test]
fn it_takes_the_descriptors_that_it_may_have() {
    let world = World::new();
    let proxy = Running::start(&world, &mut under("ulimit -S -n 48", &world.complete(&[])), 1);
    let idle = connect(proxy.url(), 100);
    assert_eq!(proxy.get("/api/p/v1/loads").status, 200);
    assert_eq!(proxy.said(), "");
    drop(idle);
}

#[test]
fn with_few_descriptors_idle_connections_make_room_for_calls_and_for_health_checks() {
    let world = World::new();
    let command = world.complete(&["--health", "127.0.0.1:0"]);
    for limit in [64, 48] {
        let proxy = Running::start(&world, &mut under(&format!("ulimit -n {limit}"), &command), 2);
        let idle: Vec<_> = proxy.places.iter().map(|place| connect(place, 100)).collect();
        for _ in 0..3 {
            assert_eq!(proxy.get("/api/p/v1/loads").status, 200);
            assert_eq!(get(&format!("{}/healthz", proxy.places[1]), &[]).status, 200);
        }
        assert!(proxy.said().contains("the limit of open files allows"), "{}", proxy.said());
        assert_eq!(proxy.said().lines().count(), 1, "{}", proxy.said());
        drop(idle);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn its_memory_is_closed_to_other_processes_and_to_core_files() {
    use std::os::unix::fs::MetadataExt;
    let world = World::new();
    // For root, the files of all processes are its own. Another user shows the difference.
    let is_root = fs::metadata(world.home.path()).unwrap().uid() == 0;
    let mut command = world.complete(&[]);
    command.env("HOME", "/dev/null");
    let limits = if is_root {
        "ulimit -c 100; set -- setpriv --reuid=65534 --clear-groups \"$0\" \"$@\"; set -- \"$@\"; :"
    } else {
        "ulimit -S -c 100"
    };
    let mut limited = Command::new("sh");
    let run = if is_root { "exec \"$@\"" } else { "exec \"$0\" \"$@\"" };
    limited.args(["-c", &format!("{limits} && {run}")]).arg(command.get_program()).args(command.get_args());
    limited.env_clear().stdin(Stdio::null());
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let proxy = Running::start(&world, &mut limited, 1);
    let of_process = |name: &str| format!("/proc/{}/{name}", proxy.id());
    assert_eq!(fs::metadata(of_process("environ")).unwrap().uid(), 0, "not its own: it is not dumpable");
    let status = fs::read_to_string(of_process("status")).unwrap();
    assert!(!status.lines().any(|line| line.starts_with("Uid:\t0")), "{status}");
    let limits = fs::read_to_string(of_process("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}

#[test]
#[cfg(target_os = "linux")]
fn as_the_first_process_it_reaps_orphans_and_still_learns_how_its_commands_end() {
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--kill-child"]);
    if !unshare.arg("true").status().is_ok_and(|status| status.success()) {
        println!("skipped: this user may not make a namespace of processes");
        return;
    }
    let world = World::new();
    let (secret, ended) = (world.file("secret", &world.secret()), world.path("ended"));
    // It leaves a process behind, whose end the proxy hears of as its new parent.
    let script = world.file("script", &format!("(sleep 0.3; echo x >> '{ended}') & cat '{secret}'"));
    let inner = world.proxy(&["--secret-command", &format!("sh '{script}'")]);
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child"]).arg(inner.get_program()).args(inner.get_args());
    command.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let proxy = Running::start(&world, &mut command, 1);
    let first = children(proxy.id()).pop().unwrap();
    for round in 1..=3 {
        within(
            || fs::read_to_string(&ended).is_ok_and(|lines| lines.lines().count() >= round),
            || "orphans".to_owned(),
        );
        within(|| children(first).is_empty(), || format!("children of the proxy: {:?}", children(first)));
        assert_eq!(proxy.get("/api/p/v1/loads").status, 200, "{}", proxy.said());
        assert_eq!(proxy.said(), "");
        if round < 3 {
            Command::new("kill").args(["-s", "HUP", &first.to_string()]).status().unwrap();
        }
    }
}

/// The processes whose parent this one is, those included that have ended.
#[cfg(target_os = "linux")]
fn children(parent: u32) -> Vec<u32> {
    let processes =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |id: &u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default().split_whitespace().nth(1);
        after_name.is_some_and(|found| found == parent.to_string())
    };
    processes.filter(is_child).collect()
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
