//! Credentials from commands: their output, their end, and that none of them keeps anybody waiting.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a set-up that fails is a test that fails")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use alvys_auth_config::CommandProvider;
use alvys_auth_core::CredentialsProvider;
use alvys_auth_core::ErrorKind;

use crate::support::{CANARY, Directory, SECRET, assert_error, assert_gives, assert_refused, body, mark};

mod support;

/// Far more than a busy machine needs.
const LONG: Duration = Duration::from_secs(60);

fn shell(script: &str) -> CommandProvider {
    CommandProvider::new("sh", ["-c", script]).timeout(LONG)
}

#[test]
fn the_output_is_json_or_lines_or_the_secret_alone() {
    let json = r#"{"client_id": "id", "client_secret": "C4n4ry-s3cret"}"#;
    assert_gives(&CommandProvider::new("printf", ["%s\n", json]), "id", SECRET);
    assert_gives(
        &CommandProvider::new("printf", ["ALVYS_CLIENT_ID=id\nALVYS_CLIENT_SECRET=C4n4ry-s3cret\n"]),
        "id",
        SECRET,
    );
    assert_gives(&CommandProvider::new("echo", [SECRET]).client_id("id"), "id", SECRET);
    assert_gives(&shell("printf C4n; sleep 0.1; printf 4ry-s3cret").client_id("id"), "id", SECRET);
}

#[test]
fn arguments_pass_by_every_shell() {
    let odd = "C4n4ry $(echo x) `y` \"'\\ *";
    let sent = body(CommandProvider::new("printf", ["%s", odd]).client_id("id").current().unwrap());
    assert_eq!(serde_json::from_str::<serde_json::Value>(&sent).unwrap()["client_secret"], odd);
}

#[test]
fn the_command_gets_no_input() {
    assert_gives(&shell("cat; echo C4n4ry-s3cret").client_id("id"), "id", SECRET);
}

#[test]
fn the_command_gets_no_secret_in_its_environment() {
    const SECRETS: [&str; 4] = ["ALVYS_CLIENT_SECRET", "Alvys__ClientSecret", "ALVYS_PROXY_KEY", "ALVYS_STORE"];
    const PASSED: &str = "ALVYS_COMMAND_TEST";
    // The environment of a test cannot be changed without harm to the others: this test runs itself again.
    if std::env::var_os(PASSED).is_none() {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "the_command_gets_no_secret_in_its_environment"]).env(PASSED, "passed");
        let output = SECRETS.iter().fold(&mut again, |again, name| again.env(name, CANARY)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    assert!(SECRETS.iter().all(|name| std::env::var_os(name).is_some()));
    let script = format!("env | grep -c C4n4ry; echo \"${PASSED}\"");
    assert_gives(&shell(&script).client_id("id"), "id", "0\npassed");
}

#[test]
fn a_failure_is_told_by_program_and_status_alone() {
    let failing = shell("echo C4n4ry; echo C4n4ry >&2; exit 3");
    assert_refused(failing.current(), &["\"sh\" failed with exit status: 3", "run it by hand"]);
    assert_refused(shell("echo C4n4ry; kill -9 $$").current(), &["\"sh\" failed with signal: 9"]);
    let missing = CommandProvider::new("/nowhere/op", [SECRET]);
    assert_refused(missing.current(), &["cannot run \"/nowhere/op\"", "check that the program is installed"]);
}

#[test]
fn output_that_is_no_credentials_is_refused_unseen() {
    for (script, words) in [
        ("true", "the output of \"sh\" is empty"),
        ("echo C4n4ry", "the output of \"sh\" is not a JSON object"),
        ("echo '{\"client_id\": \"C4n4ry'", "the output of \"sh\" is not valid JSON"),
        ("printf 'C4n4ry\\377'", "the output of \"sh\" is not UTF-8"),
        ("yes C4n4ry", "\"sh\" wrote more than 64 KiB"),
    ] {
        assert_refused(shell(script).current(), &[words]);
    }
    assert_refused(shell("printf ''").client_id("id").current(), &["\"sh\": the client secret is empty"]);
    assert_refused(shell("echo ' C4n4ry'").client_id("id").current(), &["\"sh\": the client secret begins"]);
}

#[test]
fn output_of_exactly_the_limit_is_read() {
    let of = |length: usize| {
        let lines = "ALVYS_CLIENT_ID=id\nALVYS_CLIENT_SECRET=C4n4ry-s3cret\n#";
        let rest = length - lines.len();
        shell(&format!("printf '{}'; head -c {rest} /dev/zero | tr '\\0' x", lines.replace('\n', "\\n")))
    };
    assert_gives(&of(64 * 1024), "id", SECRET);
    assert_refused(of(64 * 1024 + 1).current(), &["wrote more than 64 KiB"]);
}

#[test]
fn a_command_that_takes_too_long_is_killed_and_reaped() {
    let directory = Directory::new();
    let pid = directory.path("pid");
    let script = format!("echo $$ > '{}'; echo C4n4ry; exec sleep 300", pid.display());
    let started = Instant::now();
    let provider = shell(&script).client_id("id").timeout(Duration::from_secs(3));
    let error = assert_error(provider.current(), ErrorKind::TimedOut, &["\"sh\"", "within 3s"]);
    assert!(error.is_retryable());
    assert!((3..30).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    assert_gone(&pid);
}

#[test]
fn a_command_that_only_closes_its_output_has_not_ended() {
    let directory = Directory::new();
    let pid = directory.path("pid");
    let script = format!("echo $$ > '{}'; echo C4n4ry; exec sleep 300 >&-", pid.display());
    let provider = shell(&script).client_id("id").timeout(Duration::from_secs(3));
    assert_error(provider.current(), ErrorKind::TimedOut, &["\"sh\"", "within 3s"]);
    assert_gone(&pid);
}

#[test]
fn a_refused_command_leaves_no_process_behind() {
    let directory = Directory::new();
    let pid = directory.path("pid");
    let script = format!("echo $$ > '{}'; exec yes C4n4ry", pid.display());
    assert_refused(shell(&script).current(), &["64 KiB"]);
    assert_gone(&pid);
}

/// A zombie would still be listed: a reaped process is not.
#[track_caller]
fn assert_gone(pid_file: &Path) {
    let pid = fs::read_to_string(pid_file).unwrap();
    let listed = Command::new("sh").args(["-c", &format!("kill -0 {}", pid.trim())]).output().unwrap().status.success();
    assert!(!listed, "process {pid} is still there");
}

#[test]
fn a_grandchild_that_holds_the_pipe_keeps_nobody_waiting() {
    let started = Instant::now();
    assert_gives(&shell("sleep 120 & echo C4n4ry-s3cret").client_id("id"), "id", SECRET);
    assert_refused(shell("sleep 120 & echo C4n4ry; exit 4").client_id("id").current(), &["exit status: 4"]);
    let endless = shell("sleep 120 & echo C4n4ry; wait").client_id("id").timeout(Duration::from_secs(1));
    assert_error(endless.current(), ErrorKind::TimedOut, &["\"sh\""]);
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn a_command_that_is_given_up_takes_what_it_started_along() {
    let directory = Directory::new();
    let pid = directory.path("pid");
    let start = format!("sleep 4321 & echo $! > '{}'", pid.display());
    for (script, kind) in [
        (format!("{start}; wait"), ErrorKind::TimedOut),
        (format!("{{ {start}; wait; }} | cat"), ErrorKind::TimedOut),
        (format!("{start}; exit 3"), ErrorKind::Configuration),
    ] {
        let given_up = shell(&script).client_id("id").timeout(Duration::from_secs(2));
        assert_error(given_up.current(), kind, &["\"sh\""]);
        assert_ends(&pid);
    }
}

/// Whoever inherits a killed process may leave it a zombie.
#[track_caller]
fn assert_ends(pid_file: &Path) {
    let pid = fs::read_to_string(pid_file).unwrap();
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        let listed = Command::new("ps").args(["-o", "stat=", "-p", pid.trim()]).output().unwrap();
        let state = String::from_utf8_lossy(&listed.stdout).trim().to_owned();
        if state.is_empty() || state.starts_with('Z') {
            return;
        }
        assert!(Instant::now() < give_up, "process {pid} is still there: {state}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_command_that_leaves_its_output_open_leaves_no_thread_behind() {
    let threads = || {
        let names = fs::read_dir("/proc/self/task")
            .unwrap()
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.starts_with("alvys-auth-comm")).count()
    };
    if cfg!(target_os = "linux") {
        assert_gives(&shell("sleep 5 & echo C4n4ry-s3cret").client_id("id"), "id", SECRET);
        assert_eq!(threads(), 0);
    }
}

#[test]
fn it_says_how_long_it_may_take() {
    let limit = shell("true").timeout(Duration::from_secs(90)).time_limit().unwrap();
    assert!((90..95).contains(&limit.as_secs()), "{limit:?}");
}

#[test]
fn a_grandchild_that_goes_on_writing_runs_into_the_time_limit() {
    let script = "(while sleep 0.2; do echo C4n4ry || exit; done) & exit 0";
    let provider = shell(script).client_id("id").timeout(Duration::from_secs(3));
    assert_error(provider.current(), ErrorKind::TimedOut, &["close its output"]);
}

#[test]
fn it_runs_again_only_when_told_to() {
    let once = CommandProvider::new("echo", [SECRET]).client_id("id");
    let hourly = once.clone().run_again_every(Duration::from_secs(3600));
    let often = once.clone().run_again_every(Duration::from_millis(20));
    let always = once.clone().run_again_every(Duration::ZERO);
    let before = [&once, &hourly, &often, &always].map(|provider| mark(provider));
    thread::sleep(Duration::from_millis(50));
    let after = [&once, &hourly, &often, &always].map(|provider| mark(provider));
    assert_eq!(before[..2], after[..2]);
    assert_ne!(before[2], after[2]);
    assert_ne!(before[3], after[3]);
}

#[test]
fn debug_shows_no_argument() {
    let shown = format!("{:#?}", CommandProvider::new("op", ["read", SECRET]).client_id("id"));
    assert!(shown.contains("\"op\"") && shown.contains("10s") && !shown.contains(CANARY), "{shown}");
}
