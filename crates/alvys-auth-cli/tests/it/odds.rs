//! `sandbox`, `completions`, `man`, and what `-v` shows.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::support::{World, kill, ran, spawned, token_of};

#[test]
fn the_sandbox_prints_what_leads_to_it_and_ends_with_a_signal() {
    for (signal, legacy) in [("TERM", false), ("INT", true)] {
        let world = World::new();
        let mut sandbox = spawned(&mut world.bare(&["sandbox"]));
        let lines = BufReader::new(sandbox.stdout.take().unwrap()).lines().take(9).map(Result::unwrap);
        let lines: Vec<String> =
            lines.map(|line| if legacy { line.replace("# export", "export") } else { line }).collect();
        let script = lines.iter().filter(|line| line.starts_with("export")).cloned().collect::<Vec<_>>().join("\n");
        let inner = world.bare(&["token"]);
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{script}\nexec \"$0\" \"$@\"")]).arg(inner.get_program()).args(inner.get_args());
        token_of(&ran(shell.env_clear().env("HOME", world.home.path())));
        kill(&sandbox, signal);
        assert_eq!(sandbox.wait().unwrap().code(), Some(0), "{signal}");
    }
}

#[test]
fn a_port_that_is_taken_is_78() {
    let world = World::new();
    let port = world.sandbox.address().port().to_string();
    let taken = world.run(&["sandbox", "--port", &port]);
    assert!(taken.failed(78).contains(&format!("port {port}")), "{taken:?}");
}

#[test]
fn completions_are_scripts() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = world.run(&["completions", shell]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        assert!(ran.stdout.contains("min-ttl"), "{shell}");
    }
    let script = world.run(&["completions", "bash"]).stdout;
    let mut bash = Command::new("bash").args(["-n", "/dev/stdin"]).stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut bash.stdin.take().unwrap(), script.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let world = World::new();
    let directory = world.home.path().join("share/man1");
    let ran = world.run(&["man", directory.to_str().unwrap()]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", ""));
    for page in ["alvys-auth", "alvys-auth-token", "alvys-auth-exec", "alvys-auth-profile-add", "alvys-auth-sandbox"] {
        let text = std::fs::read_to_string(directory.join(format!("{page}.1"))).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
    world.run(&["man", "/proc/nothing"]).failed(78);
}

#[test]
fn verbosity_shows_decisions_then_requests_and_no_colour_in_a_file() {
    let world = World::new();
    assert_eq!(world.run(&["token"]).stderr, "");
    let once = world.run(&["token", "-v", "--force"]).stderr;
    assert!(once.contains("the secret comes from ALVYS_CLIENT_SECRET"), "{once}");
    assert!(once.contains("obtained an access token") && !once.contains("POST"), "{once}");
    let kept = world.run(&["token", "-v"]).stderr;
    assert!(kept.contains("took an access token from elsewhere") && !kept.contains("obtained"), "{kept}");
    let twice = world.run(&["-vv", "token", "--force"]).stderr;
    assert!(twice.contains("> POST") && twice.contains("content-type: application/json"), "{twice}");
    assert!(!twice.contains('\u{1b}'));
}

#[test]
#[cfg(target_os = "linux")]
fn a_terminal_gets_colours_unless_told_otherwise_and_warnings_unasked() {
    let world = World::new();
    let at_terminal = |line: &str, name: &str| {
        let inner = world.command(&[]);
        let mut script = Command::new("script");
        script.args(["-qec", &format!("{} {line} >/dev/null", inner.get_program().to_str().unwrap()), "/dev/null"]);
        script.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        ran(script.env(name, "va336")).stdout
    };
    assert!(at_terminal("token -v", "UNRELATED").contains('\u{1b}'));
    assert!(!at_terminal("token -v", "NO_COLOR").contains('\u{1b}'));
    assert_eq!(at_terminal("token", "UNRELATED"), "");
    let warned = at_terminal("token", "ALVYS_TENANT_ID");
    assert!(warned.starts_with("alvys-auth: ALVYS_TENANT_ID is set and ignored"), "{warned}");
    let typed = at_terminal("token --secret-stdin", "UNRELATED");
    assert!(typed.contains("which would show the secret"), "{typed}");
}
