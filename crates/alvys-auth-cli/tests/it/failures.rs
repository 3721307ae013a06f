//! Every exit code, and what is said with it.

use std::fs::File;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use alvys_auth_sandbox::{Application, Fault, Route, Sandbox};
use serde_json::Value;

use crate::support::{Ran, World, ran, spawned};

#[test]
fn usage_is_2_and_repeats_nothing_that_may_be_a_secret() {
    let world = World::new();
    let cases: [(&[&str], &str); 12] = [
        (&[], "no command"),
        (&["tocken"], "no such command"),
        (&["token", "hunter2"], "one argument too many"),
        (&["token", "--client-secret=hunter2"], "no flag takes a secret"),
        (&["token", "--token", "hunter2"], "no flag takes a secret"),
        (&["token", "--format", "hunter2"], "raw, json, header"),
        (&["token", "--fromat", "raw"], "did you mean"),
        (&["token", "--min-ttl", "hunter2"], "such as 90s"),
        (&["token", "--secret-stdin", "--secret-file", "x"], "cannot be used together"),
        (&["token", "--client-id"], "give it a value"),
        (&["token", "--format", "--force"], "give it a value"),
        (&["exec", "ls"], "one argument too many"),
    ];
    for (arguments, said) in cases {
        let ran = world.run(arguments);
        let stderr = ran.failed(2).to_lowercase();
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
    let json = world.run(&["token", "--json-errors", "--nothing"]);
    assert_eq!(error(&json, 2)["class"], "usage");
    world.run(&["token", "--secret-command", "'"]).failed(2);
    assert_eq!(world.sandbox.token_requests(), 0);
}

#[test]
fn help_and_version_are_payloads() {
    let world = World::new();
    for arguments in [["--help"], ["--version"]] {
        let ran = world.run(&arguments);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        assert!(ran.stdout.contains("alvys-auth"));
    }
}

#[test]
fn no_answer_is_69() {
    let world = World::new();
    let nobody = Sandbox::start().unwrap().token_url();
    let closed = ran(world.command(&["token"]).env("ALVYS_TOKEN_URL", nobody));
    assert!(closed.failed(69).contains("Connection refused"), "{closed:?}");

    world.sandbox.inject(Route::Token, Fault::reset());
    let reset = world.run(&["token", "--json-errors"]);
    assert_eq!(error(&reset, 69)["class"], "unreachable");
}

#[test]
fn a_server_that_says_nothing_is_69_in_bounded_time() {
    let world = World::new();
    world.sandbox.inject(Route::Token, Fault::hang());
    let started = Instant::now();
    let ran = world.run(&["token"]);
    assert!(ran.failed(69).contains("did not answer in time"), "{ran:?}");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn try_later_is_75_with_the_wait_on_stderr_and_in_json() {
    let minute = Duration::from_secs(60);
    let faults = [
        Fault::status(429).retry_after(minute),
        Fault::status(503).retry_after(minute),
        Fault::disguised_rate_limit().retry_after(minute),
        Fault::quota_spent(minute),
    ];
    for fault in faults {
        let world = World::new();
        world.sandbox.inject(Route::Token, fault.clone());
        let ran = world.run(&["token"]);
        let stderr = ran.failed(75);
        assert!(stderr.contains("Try again in 60 s") || stderr.contains("Try again in 59 s"), "{fault:?}: {stderr}");
        // The next run is told by the first one, and nobody asks.
        let json = world.run(&["token", "--json-errors"]);
        let error = error(&json, 75);
        assert_eq!(error["class"], "try-later");
        assert!((50..=60).contains(&error["retry_after"].as_u64().unwrap()), "{error}");
        assert!(error["status"].is_u64());
        assert_eq!(world.sandbox.token_requests(), 1, "{fault:?}");
    }
}

#[test]
fn a_load_balancers_page_about_an_outage_is_75() {
    let hour = Duration::from_secs(3600);
    for fault in [Fault::challenge(502).retry_after(hour), Fault::challenge(429).retry_after(hour)] {
        let world = World::new();
        world.sandbox.inject(Route::Token, fault.clone());
        let ran = world.run(&["token"]);
        assert!(ran.failed(75).contains("Try again in 3"), "{fault:?}: {ran:?}");
    }
}

#[test]
fn a_short_wait_is_waited() {
    let world = World::new();
    world.sandbox.inject(Route::Token, Fault::status(429).retry_after(Duration::from_secs(1)).once());
    world.token(&[]);
    assert_eq!(world.sandbox.token_requests(), 2);
}

#[test]
fn an_answer_that_makes_no_sense_is_76() {
    let faults = [
        Fault::challenge(403),
        Fault::challenge(200),
        Fault::reply(200, "not json"),
        Fault::reply(200, r#"{"access_token":""}"#),
        Fault::redirect(307, "https://example.com/"),
    ];
    for fault in faults {
        let world = World::new();
        world.sandbox.inject(Route::Token, fault.clone());
        let ran = world.run(&["token", "--json-errors"]);
        assert_eq!(error(&ran, 76)["class"], "nonsense", "{fault:?}");
    }
}

#[test]
fn an_answer_that_cannot_be_read_is_asked_for_twice_and_is_76() {
    let world = World::new();
    world.sandbox.inject(Route::Token, Fault::truncate());
    let ran = world.run(&["token"]);
    assert!(ran.failed(76).contains("the answer of the token endpoint cannot be read: "), "{ran:?}");
    assert_eq!(world.sandbox.token_requests(), 2, "each may have bought a token");
}

#[test]
fn a_refusal_is_77() {
    let world = World::new();
    let secret = ran(world.command(&["token"]).env("ALVYS_CLIENT_SECRET", "another secret"));
    assert!(secret.failed(77).contains("secret"), "{secret:?}");

    let scope = world.run(&["token", "--scope", "parrot:feed"]);
    assert!(scope.failed(77).contains("parrot:feed"), "{scope:?}");

    let audience = world.run(&["token", "--audience", "https://api.alvys.com/public"]);
    assert!(audience.failed(77).contains("slash"), "{audience:?}");

    world.sandbox.add(Application::new("ungranted", "s3cret", "va336").without_grant());
    let mut command = world.command(&["token", "--json-errors"]);
    let grant = ran(command.env("ALVYS_CLIENT_ID", "ungranted").env("ALVYS_CLIENT_SECRET", "s3cret"));
    let error = error(&grant, 77);
    assert_eq!(error["status"], 403);
    assert!(error["request_id"].is_string(), "{error}");
}

#[test]
fn a_refusal_is_repeated_for_a_while_without_asking() {
    let world = World::new();
    for _ in 0..5 {
        ran(world.command(&["token"]).env("ALVYS_CLIENT_SECRET", "another secret")).failed(77);
    }
    assert_eq!(world.sandbox.token_requests(), 1);
    // Another secret is another matter.
    world.token(&[]);
}

#[test]
fn a_refusal_is_over_after_a_while() {
    let world = World::new();
    world.sandbox.inject(Route::Token, Fault::reply(404, "<html>nothing here</html>").once());
    world.run(&["token"]).failed(76);
    world.run(&["token"]).failed(76);
    assert_eq!(world.sandbox.token_requests(), 1);
    let listed = || world.run(&["cache", "list"]).stdout;
    assert!(listed().contains("a wait of"), "{}", listed());
    sleep(Duration::from_millis(5100));
    world.token(&[]);
    assert!(!listed().contains("a wait of"), "{}", listed());
}

#[test]
fn a_wrong_setting_is_78_and_nothing_is_sent() {
    let world = World::new();
    let cases = [
        ("ALVYS_CLIENT_ID", "", "ALVYS_CLIENT_ID is set, but empty"),
        ("ALVYS_CLIENT_ID", "YOUR_CLIENT_ID", "placeholder"),
        ("ALVYS_CLIENT_SECRET", "\"quoted\"", "quotes"),
        ("ALVYS_CLIENT_SECRET", "s3cret\n", "line break"),
        ("ALVYS_TOKEN_URL", "http://auth.example.com/oauth/token", "unencrypted"),
        ("ALVYS_FLOW", "newest", "ALVYS_FLOW"),
        ("ALVYS_FLOW", "legacy", "ALVYS_TENANT_ID is not set"),
        ("ALVYS_CA_BUNDLE", "/nonexistent/bundle.pem", "cannot be read"),
        ("SSL_CERT_FILE", "/dev/null", "holds no certificate"),
        ("ALVYS_PROFILE", "nowhere", "no profile nowhere"),
        ("ALVYS_CLIENT_SECRET_FILE", "/nonexistent", "both set"),
    ];
    for (name, value, said) in cases {
        let ran = ran(world.command(&["token"]).env(name, value));
        assert!(ran.failed(78).contains(said), "{name}: {ran:?}");
    }
    let nothing = ran(world.bare(&["token", "--json-errors"]).env("ALVYS_CLIENT_ID", "my-client"));
    assert!(error(&nothing, 78)["message"].as_str().unwrap().contains("ALVYS_CLIENT_SECRET is not set"));
    assert_eq!(world.sandbox.token_requests(), 0);
}

#[test]
fn what_a_server_says_cannot_command_the_terminal() {
    let world = World::new();
    let said = r#"{"error":"access_denied","error_description":"a\u001b[2Jb\u0007c\nd\u202ee"}"#;
    world.sandbox.inject(Route::Token, Fault::reply(403, said).header("x-auth0-requestid", "id\u{9b}1"));
    for arguments in [vec!["token"], vec!["token", "-vv"], vec!["token", "--json-errors"]] {
        let ran = world.run(&arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(77), ""));
        let obeyed = |c: char| c != '\n' && c.is_control() || c == '\u{202e}';
        assert!(!ran.stderr.contains(obeyed), "{arguments:?}: {ran:?}");
    }
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let world = World::new();
    world.token(&[]);
    let mut child = spawned(&mut world.command(&["token"]));
    drop(child.stdout.take());
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
}

#[test]
#[cfg(target_os = "linux")]
fn output_that_cannot_be_written_is_a_failure() {
    let world = World::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let child = world.command(&["token"]).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert!(ran.failed(78).contains("cannot write to stdout"), "{ran:?}");
}

#[track_caller]
fn error(ran: &Ran, code: i32) -> Value {
    let line: Value = serde_json::from_str(ran.failed(code)).unwrap();
    assert_eq!(line["error"]["code"], code);
    assert!(!line["error"]["hint"].as_str().unwrap().is_empty());
    line["error"].clone()
}
