//! Where the secret may come from, and where it never shows.

use std::fs;

use alvys_auth_sandbox::{Fault, Route};

use crate::support::{Ran, World, ran, ran_with, set_mode, spawned, token_of};

/// The command with everything but the secret.
fn without_secret(world: &World, arguments: &[&str]) -> std::process::Command {
    let mut command = world.command(arguments);
    command.env_remove("ALVYS_CLIENT_SECRET");
    command
}

#[test]
fn the_secret_comes_from_stdin_a_file_a_command_or_the_environment() {
    let world = World::new();
    let secret = world.secret();
    let file = world.home.path().join("the secret");
    fs::write(&file, format!("{secret}\n")).unwrap();
    let path = file.to_str().unwrap();

    let stdin = ran_with(&mut without_secret(&world, &["token", "--secret-stdin"]), &format!("\u{feff}{secret}\r\n"));
    let token = token_of(&stdin);
    let by_file = without_secret(&world, &["token", "--secret-file", path]);
    let by_command = without_secret(&world, &["token", "--secret-command", &format!("cat '{path}'")]);
    let mut by_variable = without_secret(&world, &["token"]);
    by_variable.env("ALVYS_CLIENT_SECRET_FILE", path);
    for mut command in [by_file, by_command, by_variable] {
        assert_eq!(token_of(&ran(&mut command)), token);
    }
    assert_eq!(world.sandbox.token_requests(), 1, "they all open what the first one kept");
}

#[test]
fn a_secret_file_that_others_can_write_is_refused_and_one_that_they_can_read_is_told_of() {
    let world = World::new();
    let file = world.home.path().join("secret");
    fs::write(&file, world.secret()).unwrap();
    let arguments = ["token", "-v", "--secret-file", file.to_str().unwrap()];
    for (chosen, words) in [(0o666, "chmod go-w"), (0o644, "chmod o-r"), (0o444, "chmod o-r"), (0o640, ""), (0o600, "")]
    {
        set_mode(&file, chosen);
        let ran = ran(&mut without_secret(&world, &arguments));
        assert_eq!(ran.code, Some(if chosen == 0o666 { 78 } else { 0 }), "{ran:?}");
        assert!(ran.stderr.contains(words), "{ran:?}");
        assert_eq!(ran.stderr.contains("chmod"), !words.is_empty(), "{ran:?}");
    }
}

#[test]
fn a_command_for_the_secret_gets_no_secret() {
    let world = World::new();
    let seen = world.home.path().join("seen");
    let (script, secret) = (world.home.path().join("script"), world.home.path().join("secret"));
    fs::write(&secret, world.secret()).unwrap();
    fs::write(&script, format!("env > '{}'; cat '{}'", seen.display(), secret.display())).unwrap();
    let mut command = world.command(&["token", "--secret-command", &format!("sh '{}'", script.display())]);
    token_of(&ran(command.env("ALVYS_CLIENT_SECRET", "not-this-one").env("ALVYS_PROXY_KEY", "nor-this-key-of-one")));
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.contains("ALVYS_CLIENT_ID="), "{seen}");
    assert!(!seen.contains("not-this-one") && !seen.contains("nor-this-key"), "{seen}");
}

#[test]
fn a_flag_beats_the_secret_of_the_environment() {
    let world = World::new();
    let mut command = world.command(&["token", "--secret-stdin"]);
    token_of(&ran_with(command.env("ALVYS_CLIENT_SECRET", "another secret"), &world.secret()));
}

#[test]
fn a_secret_that_cannot_be_had_is_78() {
    let world = World::new();
    let command = |arguments: &[&str]| ran(&mut without_secret(&world, arguments));
    let cases = [
        (ran_with(&mut without_secret(&world, &["token", "--secret-stdin"]), "\n"), "no secret on stdin"),
        (ran_with(&mut without_secret(&world, &["token", "--secret-stdin"]), &"x".repeat(70_000)), "64 KiB"),
        (command(&["token", "--secret-file", "/nonexistent"]), "cannot read"),
        (command(&["token", "--secret-command", "no-such-program-here"]), "cannot run"),
        (command(&["token", "--secret-command", "sh -c 'echo hunter2; echo hunter2 >&2; exit 3'"]), "failed with"),
    ];
    for (ran, said) in cases {
        assert!(ran.failed(78).contains(said), "{ran:?}");
        assert!(!ran.stderr.contains("hunter2"), "{ran:?}");
    }
}

#[test]
fn a_secret_file_that_cannot_be_read_is_told_of_by_what_names_it() {
    let world = World::new();
    let file = world.home.path().join("secret");
    let path = file.to_str().unwrap();
    fs::write(&file, world.secret()).unwrap();
    let url = world.sandbox.token_url();
    let add = ["profile", "add", "acme", "--client-id", "x", "--secret-file", path, "--token-url", &url];
    assert_eq!(ran(&mut world.bare(&add)).code, Some(0));
    let by_flag = || without_secret(&world, &["token", "--secret-file", path]);
    let by_profile = || world.bare(&["token", "--profile", "acme"]);
    let by_variable = || {
        let mut command = without_secret(&world, &["token"]);
        command.env("ALVYS_CLIENT_SECRET_FILE", path);
        command
    };
    fs::write(&file, "").unwrap();
    for (mut command, source) in [
        (by_flag(), "ALVYS_CLIENT_ID, --secret-file: "),
        (by_variable(), "ALVYS_CLIENT_ID, ALVYS_CLIENT_SECRET_FILE: "),
        (by_profile(), "ALVYS_CLIENT_ID, secret_file of profile acme: "),
    ] {
        let ran = ran(&mut command);
        assert!(ran.failed(78).starts_with(&format!("alvys-auth: {source}")), "{ran:?}");
    }
    fs::remove_file(&file).unwrap();
    for (mut command, source) in [
        (by_flag(), "--secret-file"),
        (by_variable(), "ALVYS_CLIENT_SECRET_FILE"),
        (by_profile(), "secret_file of profile acme"),
    ] {
        let ran = ran(&mut command);
        assert!(ran.failed(78).starts_with(&format!("alvys-auth: {source}: cannot read \"{path}\": ")), "{ran:?}");
    }
}

#[test]
fn neither_secret_nor_token_shows_in_anything_but_the_payload() {
    let world = World::new();
    let secret = world.secret();
    let token = world.token(&[]);
    let signature = token.rsplit('.').next().unwrap();
    let runs = [
        world.run(&["-vv", "cache", "list"]),
        world.run(&["-vv", "exec", "--", "true"]),
        world.run(&["-vv", "profile", "list"]),
        world.run(&["-vv", "token", "--scope", "parrot:feed"]),
        ran(world.command(&["-vv", "token"]).env("ALVYS_CLIENT_SECRET", format!("{secret}x"))),
        ran(world.command(&["-vv", "token"]).env("ALVYS_CLIENT_SECRET", format!(" {secret}"))),
        ran(world.command(&["-vv", "token"]).env("ALVYS_ENCODING", &secret)),
        ran(world.command(&["-vv", "token"]).env("ALVYS_TOKEN_URL", format!("http://{secret}@localhost/"))),
    ];
    for ran in runs {
        for text in [&ran.stdout, &ran.stderr] {
            assert!(!text.contains(&secret) && !text.contains(signature), "{ran:?}");
        }
    }
    let forced = world.run(&["-vv", "token", "--force"]);
    let token = forced.stdout.trim();
    assert!(!forced.stderr.contains(token.rsplit('.').next().unwrap()) && !forced.stderr.contains(&secret));
    assert!(forced.stderr.contains("> POST http://127.0.0.1") && forced.stderr.contains("< 200"), "{forced:?}");
}

#[test]
fn headers_that_may_hold_a_secret_are_not_shown() {
    let world = World::new();
    let refusal = Fault::reply(403, r#"{"error":"access_denied"}"#).header("set-cookie", "session=hunter2");
    world.sandbox.inject(Route::Token, refusal.header("location", "https://example.com/?signature=hunter2"));
    let shown =
        ran(world.command(&["-vv", "token"]).env("ALVYS_TOKEN_URL", world.sandbox.token_url() + "?key=hunter2"));
    assert!(
        shown.stderr.contains("set-cookie: [redacted]") && shown.stderr.contains("/oauth/token?[redacted]"),
        "{shown:?}"
    );
    assert!(!shown.stderr.contains("hunter2"), "{shown:?}");
}

#[test]
fn headers_that_repeat_the_secret_or_the_token_are_not_shown() {
    let world = World::new();
    let secret = world.secret();
    let backwards: String = secret.chars().rev().collect();
    let echo =
        |fault: Fault, secret: &str| fault.header("x-debug", format!("auth={secret}")).header("x-plain", "shown");
    for told in [secret.as_str(), &secret[..secret.len() - 1], &backwards] {
        world.sandbox.inject(Route::Token, echo(Fault::reply(403, r#"{"error":"access_denied"}"#), told).once());
        let shown = world.run(&["-vv", "token", "--no-cache"]);
        assert!(shown.stderr.contains("x-debug: [redacted]") && shown.stderr.contains("x-plain: shown"), "{shown:?}");
    }
    let token = world.token(&["--force"]);
    world.sandbox.inject(Route::Api, echo(Fault::reply(404, "{}"), &token[20..60]).once());
    let shown = world.run(&["-vv", "request", "GET", "loads", "--api-base-url", &world.sandbox.api_url()]);
    assert!(shown.stderr.contains("x-debug: [redacted]") && shown.stderr.contains("x-plain: shown"), "{shown:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn nobody_sees_a_secret_or_a_token_in_the_list_of_processes() {
    let world = World::new();
    let token = world.token(&[]);
    let child = spawned(&mut world.command(&["exec", "--", "cat", "/proc/self/cmdline"]));
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert!(ran.stdout.starts_with("cat"), "{ran:?}");
    assert!(!ran.stdout.contains(&token) && !ran.stdout.contains(&world.secret()));
}
