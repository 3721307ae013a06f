//! A program with a token.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::{Ran, World, kill, ran, ran_with, spawned};

fn exec(world: &World, script: &str) -> Ran {
    world.run(&["exec", "--", "sh", "-c", script])
}

#[test]
fn the_program_has_the_token_and_its_end_and_no_secret() {
    let world = World::new();
    let token = world.token(&[]);
    let expires_at = world.run(&["token", "--format", "json"]).json()["expires_at"].clone();
    let secret_file = world.home.path().join("secret");
    fs::write(&secret_file, world.secret()).unwrap();
    let mut by_file = world.command(&["exec", "--", "env"]);
    by_file.env_remove("ALVYS_CLIENT_SECRET").env("ALVYS_CLIENT_SECRET_FILE", &secret_file);
    let mut by_net = world.command(&["exec", "--", "env"]);
    by_net.env_remove("ALVYS_CLIENT_SECRET").env("Alvys__ClientSecret", world.secret());
    for command in [&mut world.command(&["exec", "--", "env"]), &mut by_file, &mut by_net] {
        let ran = ran(command.env("ALVYS_ACCESS_TOKEN", "an old one"));
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        let lines: Vec<&str> = ran.stdout.lines().collect();
        assert!(lines.contains(&format!("ALVYS_ACCESS_TOKEN={token}").as_str()), "{ran:?}");
        assert!(lines.contains(&format!("ALVYS_ACCESS_TOKEN_EXPIRES_AT={}", expires_at.as_str().unwrap()).as_str()));
        assert!(!ran.stdout.contains(&world.secret()) && !ran.stdout.to_lowercase().contains("secret="), "{ran:?}");
        assert!(!ran.stdout.contains("SECRET_FILE"), "{ran:?}");
    }
    assert_eq!(world.sandbox.token_requests(), 1);
}

#[test]
fn the_exit_code_and_both_streams_are_the_programs() {
    let world = World::new();
    for code in [0, 1, 7, 75, 255] {
        let ran = exec(&world, &format!("echo out; echo err >&2; exit {code}"));
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(code), "out\n", "err\n"));
    }
    let echoed = ran_with(&mut world.command(&["exec", "--", "cat"]), "in and out");
    assert_eq!(echoed.stdout, "in and out");
}

#[test]
fn arguments_pass_as_they_are() {
    let world = World::new();
    let ran = world.run(&["exec", "--", "printf", "<%s>", "--force", "-v", "", "a b", "--", "$HOME"]);
    assert_eq!(ran.stdout, "<--force><-v><><a b><--><$HOME>");
}

#[test]
fn signals_reach_the_program() {
    let world = World::new();
    world.token(&[]);
    // Not those that whoever runs the tests may have had ignored.
    for (name, number) in [("TERM", 15), ("USR1", 10), ("ALRM", 14), ("KILL", 9)] {
        let mut child = spawned(&mut world.command(&["exec", "--", "sleep", "60"]));
        wait_until_program(child.id(), "sleep");
        kill(&child, name);
        let ran = Ran::from({
            let _ = child.stdin.take();
            child.wait_with_output().unwrap()
        });
        assert_eq!((ran.code, ran.signal), (None, Some(number)), "{name}");
    }
    let script = "trap 'exit 42' TERM; echo up; while :; do sleep 0.05; done";
    let mut trapped = spawned(&mut world.command(&["exec", "--", "sh", "-c", script]));
    let mut up = [0; 3];
    trapped.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    kill(&trapped, "TERM");
    assert_eq!(Ran::from(trapped.wait_with_output().unwrap()).code, Some(42));
}

#[test]
#[cfg(target_os = "linux")]
fn the_program_begins_with_the_usual_signals() {
    let world = World::new();
    let ran = world.run(&["exec", "--", "grep", "-E", "SigIgn|SigBlk", "/proc/self/status"]);
    for line in ran.stdout.lines() {
        let mask = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
        // SIGPIPE, which this command ignores for itself.
        assert_eq!(mask & 1 << 12, 0, "{line}");
    }
    assert_eq!(ran.stdout.lines().count(), 2);
}

#[test]
fn a_program_that_cannot_be_run_is_78() {
    let world = World::new();
    let missing = world.run(&["exec", "--", "no-such-program-here"]);
    assert!(missing.failed(78).contains("cannot run no-such-program-here"), "{missing:?}");
    let plain = world.home.path().join("plain");
    fs::write(&plain, "").unwrap();
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o600)).unwrap();
    world.run(&["exec", "--", plain.to_str().unwrap()]).failed(78);
    world.run(&["exec", "--"]).failed(2);
}

#[test]
fn a_strange_name_cannot_command_the_terminal() {
    let world = World::new();
    let name = "no\u{1b}[2Jsuch\nprogram\u{202e}\u{9b}";
    let quiet = world.run(&["exec", "--", name]);
    assert!(quiet.failed(78).contains("cannot run no [2Jsuch program"), "{quiet:?}");
    assert!(!quiet.stderr.contains('\u{202e}'), "{quiet:?}");
    let verbose = world.run(&["exec", "-v", "--", name]).stderr;
    assert!(verbose.contains("runs the program"), "{verbose}");
    assert!(!verbose.contains(|c: char| c != '\n' && c.is_control() || c == '\u{202e}'), "{verbose:?}");
}

#[test]
fn the_program_gets_neither_the_secret_nor_the_key_of_the_sidecar_nor_the_url_of_the_store() {
    let world = World::new();
    let mut command = world.command(&["exec", "--", "env"]);
    command.env("ALVYS_STORE", format!("file:{}/a-key-of-24", world.home.path().display()));
    let ran = ran(command.env("ALVYS_PROXY_KEY", "a-key-of-24-characters-x"));
    assert!(ran.stdout.contains("ALVYS_ACCESS_TOKEN=eyJ"), "{ran:?}");
    assert!(!ran.stdout.contains("a-key-of-24") && !ran.stdout.contains(&world.secret()), "{ran:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn the_program_has_its_usual_limit_for_core_files() {
    let world = World::new();
    let program = world.command(&["exec", "--", "sh", "-c", "ulimit -S -c"]);
    for limit in ["0", "100"] {
        let mut limited = std::process::Command::new("sh");
        limited.args(["-c", &format!("ulimit -S -c {limit} && exec \"$0\" \"$@\"")]).arg(program.get_program());
        limited.args(program.get_args()).env_clear();
        let ran = ran(limited.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?)))));
        assert_eq!((ran.code, ran.stdout.trim()), (Some(0), limit), "{ran:?}");
    }
}

#[test]
fn without_a_token_nothing_is_run() {
    let world = World::new();
    let touched = world.home.path().join("touched");
    let mut command = world.command(&["exec", "--", "touch", touched.to_str().unwrap()]);
    ran(command.env("ALVYS_CLIENT_SECRET", "another secret")).failed(77);
    assert!(!touched.exists());
}

fn wait_until_program(id: u32, name: &str) {
    let started = Instant::now();
    while fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|comm| comm.trim() != name) {
        assert!(started.elapsed() < Duration::from_secs(10), "{name} was not run");
        sleep(Duration::from_millis(5));
    }
}
