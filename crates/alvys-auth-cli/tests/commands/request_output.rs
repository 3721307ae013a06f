//! Where the answer of a call goes: files, links, pipes, and what is open already.

use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use alvys_auth_sandbox::{Fault, Route};

use crate::support::{Ran, World, exists, ran};

#[test]
fn a_link_stays_one_and_a_pipe_is_written_to() {
    let world = World::new();
    let file = world.file("real", "old");
    let link = world.path("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    world.run(&["request", "GET", "loads/load-1", "-o", &link]).text();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), r#"{"Id":"load-1"}"#);
    let pipe = world.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (sender, receiver) = mpsc::channel();
    let reader = pipe.clone();
    thread::spawn(move || sender.send(std::fs::read_to_string(reader).unwrap()));
    world.run(&["request", "GET", "loads/load-2", "-o", &pipe]).text();
    assert_eq!(receiver.recv_timeout(Duration::from_secs(10)).unwrap(), r#"{"Id":"load-2"}"#);
    if exists("/dev/full") {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let ran = Ran::from(world.command(&["request", "GET", "loads"]).stdout(full).output().unwrap());
        assert!(ran.failed(78).contains("cannot write to stdout"), "{ran:?}");
    }
}

#[test]
fn an_answer_that_is_too_long_is_not_taken() {
    let world = World::new();
    let output = world.path("document");
    let document = "documents/document-1?bytes=1000000";
    for (limit, code) in [("999999", 78), ("1M", 0), ("999k", 78), ("0", 0)] {
        for to_file in [true, false] {
            let mut arguments = vec!["request", "GET", document, "--max-size", limit];
            if to_file {
                arguments.extend(["-o", &output]);
            }
            let ran = world.run(&arguments);
            assert_eq!(ran.code, Some(code), "{limit}: {}", ran.stderr);
            let written = if to_file { std::fs::read(&output).unwrap_or_default() } else { ran.stdout.clone() };
            assert_eq!(written.len(), if code == 0 { 1_000_000 } else { 0 }, "{limit}");
            assert_eq!(ran.stderr.contains("--max-size"), code == 78, "{}", ran.stderr);
            let _ = std::fs::remove_file(&output);
        }
    }
    assert_eq!(std::fs::read_dir(world.home.path()).unwrap().flatten().filter(|it| it.path().is_file()).count(), 0);
    world.run(&["request", "GET", "loads", "--max-size", "much"]).failed(2);
}

/// Where the system itself does not follow the links of other users in a directory that all can write to.
#[test]
#[cfg(target_os = "linux")]
fn a_link_of_somebody_else_is_not_followed_where_the_system_does_not() {
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};
    let protects = std::fs::read_to_string("/proc/sys/fs/protected_symlinks").is_ok_and(|value| value.trim() == "1");
    let world = World::new();
    let (shared, victim) = (world.home.path().join("shared"), world.file("victim", "old"));
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o1777)).unwrap();
    let link = shared.join("report.json");
    symlink(&victim, &link).unwrap();
    // Without root, or without the protection, the link is one of this user's own.
    let foreign = lchown(&link, Some(65_534), None).is_ok() && protects;
    let ran = world.run(&["request", "GET", "loads/load-1", "-o", link.to_str().unwrap()]);
    assert_eq!(ran.code, Some(if foreign { 78 } else { 0 }), "{}", ran.stderr);
    assert_eq!(std::fs::read_to_string(&victim).unwrap() == "old", foreign);
}

#[test]
fn stdout_by_its_name_is_written_to_where_it_stands_and_never_replaced() {
    let world = World::new();
    let (log, link) = (world.path("log"), world.path("link"));
    std::os::unix::fs::symlink("/dev/stdout", &link).unwrap();
    for place in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", &link] {
        if !place.starts_with("/proc") || exists("/proc/self/fd") {
            for redirection in [">>", ">"] {
                world.file("log", "");
                redirected(&world, place, redirection).text();
                let written = std::fs::read_to_string(&log).unwrap();
                assert_eq!(written, "before\n{\"Id\":\"load-1\"}after\n", "{place} {redirection}");
            }
        }
    }
}

#[test]
fn a_file_that_is_open_already_is_not_replaced_by_way_of_its_descriptor() {
    let world = World::new();
    let log = world.file("log", "old\n");
    for redirection in ["3>>", "3<>"] {
        let ran = redirected(&world, "/dev/fd/3", redirection);
        assert!(ran.stderr.contains("a file that is open already"), "{ran:?}");
        assert_eq!((ran.code, ran.stdout), (Some(78), b"before\n".to_vec()));
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "old\n");
    }
    assert_eq!(world.sandbox.requests().len(), 0);
}

/// A call whose answer goes to `place`, between two lines on stdout of the shell around it, which redirects to the log.
fn redirected(world: &World, place: &str, redirection: &str) -> Ran {
    let line = format!(r#"{{ echo before; "$0" "$@" && echo after; }} {redirection} "$LOG""#);
    let program = world.command(&["request", "GET", "loads/load-1", "-o", place]);
    let mut shell = Command::new("sh");
    shell.args(["-c", &line]).arg(program.get_program()).args(program.get_args()).env_clear();
    shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("LOG", world.path("log"));
    ran(&mut shell)
}

#[test]
fn what_an_interrupted_call_leaves_behind_tells_whose_it_is() {
    let world = World::new();
    world.sandbox.inject(Route::Api, Fault::hang());
    let directory = world.home.path().join("downloads");
    std::fs::create_dir(&directory).unwrap();
    let output = directory.join("loads.json");
    let mut child = world.command(&["request", "GET", "loads", "-o", output.to_str().unwrap()]).spawn().unwrap();
    let started = Instant::now();
    let left = loop {
        if let Some(entry) = std::fs::read_dir(&directory).unwrap().next() {
            break entry.unwrap().file_name().into_string().unwrap();
        }
        assert!(started.elapsed() < Duration::from_secs(20), "no file appears");
        thread::sleep(Duration::from_millis(10));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(left.starts_with(".alvys-auth-"), "{left}");
    assert!(!output.exists());
}
