//! The troubleshooting list: every finding, what to do about it, and the exit code of the worst.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use alvys_auth_sandbox::{Application, Fault, Route};
use serde_json::Value;

use crate::support::{Ran, World, at_a_terminal, ran};

/// The state and the words of a step; the worst state where it was told of several times.
#[track_caller]
fn step(ran: &Ran, name: &str) -> (String, String) {
    let json = ran.json();
    let findings = json["findings"].as_array().unwrap();
    let of_step: Vec<&Value> = findings.iter().filter(|finding| finding["step"] == name).collect();
    let state = ["failed", "warning", "skipped", "ok"]
        .into_iter()
        .find(|state| of_step.iter().any(|finding| finding["state"] == *state))
        .unwrap_or_else(|| panic!("no step {name}: {json}"));
    let words = of_step.iter().filter(|finding| finding["state"] == state);
    let words = words.map(|finding| format!("{} | {}", finding["message"], finding["todo"]));
    (state.to_owned(), words.collect::<Vec<_>>().join("\n"))
}

#[track_caller]
pub(crate) fn finds(ran: &Ran, name: &str, state: &str, words: &str) {
    let (found, said) = step(ran, name);
    assert!(found == state && said.contains(words), "{name} is {found}: {said}, expected {state}: {words}");
}

#[test]
fn everything_is_fine_where_everything_is_fine() {
    let world = World::new();
    let doctor = world.run(&["doctor", "--json", "--require", "load:read"]);
    let json = doctor.json();
    assert_eq!((&json["ok"], &json["code"]), (&true.into(), &0.into()));
    let states: Vec<&str> =
        json["findings"].as_array().unwrap().iter().map(|it| it["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["ok", "ok", "ok", "ok", "ok", "skipped", "ok", "ok", "ok", "ok", "ok", "ok"], "{json}");
    finds(&doctor, "TLS", "skipped", "plain http");
    finds(&doctor, "organization", "ok", "va336");
    finds(&doctor, "API call", "ok", "/v1/me answers 200");
    assert_eq!((world.sandbox.token_requests(), world.sandbox.api_requests()), (1, 1));

    let text = world.run(&["doctor"]).text().to_owned();
    assert!(text.starts_with("ok      settings         client ") && !text.contains('\u{1b}'), "{text}");
    world.token();
    assert_eq!(world.sandbox.token_requests(), 2, "each asks for a new token, which is kept");
    assert_eq!(ran(world.command(&["doctor", "--no-cache"]).env("ALVYS_NO_CACHE", "1")).code, Some(0));
    assert_eq!(world.sandbox.token_requests(), 3, "and for one only");
}

#[test]
fn what_tokens_are_shared_through_is_told_and_tried() {
    let world = World::new();
    let told = |name: &str, value: &str, state: &str, words: &str| {
        let doctor = ran(world.command(&["doctor", "--json"]).env(name, value));
        finds(&doctor, "store", state, words);
        finds(&doctor, "API call", "ok", "200");
        assert!(!String::from_utf8_lossy(&doctor.stdout).contains("hunter2"));
    };
    told(
        "ALVYS_CACHE_DIR",
        "/proc/nothing",
        "warning",
        "tokens cannot be shared through the files of this host in /proc/nothing/tokens (by default)",
    );
    told("HOME", "/dev/null", "warning", "there is no home directory");
    told("UNRELATED", "", "ok", ".cache/alvys-auth/tokens (by default)");
    told("ALVYS_NO_CACHE", "1", "ok", "tokens are not shared (ALVYS_NO_CACHE)");
    told("ALVYS_STORE", "memory:", "ok", "the memory of each process (ALVYS_STORE)");
    // Nobody listens there.
    let away = "redis://:hunter2@127.0.0.1:1";
    told("ALVYS_STORE", away, "warning", "redis://127.0.0.1:1 (ALVYS_STORE): there is no connection to the store");
    let doctor = ran(world.command(&["doctor"]).env("ALVYS_STORE", away));
    let below = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(
        below.contains(
            "ok      store            while that is away, tokens are shared through the files of this host in"
        ),
        "{below}"
    );

    // The directory is there, and has no lock to take.
    let lock = world.home.path().join(".cache/alvys-auth/tokens/lock");
    std::fs::remove_file(&lock).unwrap();
    std::fs::create_dir(&lock).unwrap();
    told("UNRELATED", "", "warning", "tokens cannot be shared through the files");
}

#[test]
fn every_wrong_setting_is_named_with_what_to_do() {
    let world = World::new();
    let cases = [
        ("ALVYS_CLIENT_ID", "", "ALVYS_CLIENT_ID", "empty"),
        ("ALVYS_CLIENT_ID", "REPLACE_WITH_CLIENT_ID", "ALVYS_CLIENT_ID", "placeholder"),
        ("ALVYS_CLIENT_SECRET", "<your secret>", "ALVYS_CLIENT_SECRET", "placeholder"),
        ("ALVYS_CLIENT_SECRET", "\"s3cret-canary\"", "ALVYS_CLIENT_SECRET", "quotes"),
        ("ALVYS_CLIENT_SECRET", "s3cret-canary\n", "ALVYS_CLIENT_SECRET", "line break"),
        ("ALVYS_CLIENT_SECRET", "@Microsoft.KeyVault(SecretUri=https://s3cret-canary)", "ALVYS_CLIENT_SECRET", "Azure"),
        ("ALVYS_CLIENT_SECRET", "op://vault/s3cret-canary", "ALVYS_CLIENT_SECRET", "1Password"),
        ("ALVYS_AUDIENCE", "https://api.alvys.com/public", "ALVYS_AUDIENCE", "lacks the slash at its end"),
        ("ALVYS_TENANT_ID", "REPLACE_WITH_TENANT_ID", "ALVYS_TENANT_ID", "placeholder"),
        ("ALVYS_API_BASE_URL", "http://api.example.com", "ALVYS_API_BASE_URL", "unencrypted"),
        ("ALVYS_TOKEN_URL", "auth.alvys.com/oauth/token", "token endpoint", "full URL"),
        ("ALVYS_FLOW", "newest", "ALVYS_FLOW", "current or legacy"),
        ("ALVYS_FLOW", "legacy", "ALVYS_TENANT_ID", "company code"),
        ("ALVYS_CA_BUNDLE", "/nowhere.pem", "nowhere.pem", "PEM"),
    ];
    for (name, value, named, said) in cases {
        let doctor = ran(world.command(&["doctor", "--json"]).env(name, value));
        let code = doctor.code;
        let (step_name, expected) = if name == "ALVYS_CA_BUNDLE" { ("connection", 78) } else { ("settings", 78) };
        assert_eq!(code, Some(expected), "{name}={value}: {doctor:?}");
        finds(&doctor, step_name, "failed", named);
        finds(&doctor, step_name, "failed", said);
        assert!(!format!("{} {}", doctor.json(), doctor.stderr).contains("s3cret-canary"), "{doctor:?}");
        doctor.ended(78);
    }
    assert_eq!(world.sandbox.token_requests(), 0);
}

#[test]
fn several_wrong_settings_are_told_at_once_and_each_once() {
    let world = World::new();
    let mut command = world.command(&["doctor"]);
    command.env("ALVYS_CLIENT_ID", "YOUR_CLIENT_ID").env("ALVYS_AUDIENCE", "https://api.alvys.com/public");
    let doctor = ran(command.env("ALVYS_CLIENT_SECRET", "'s3cret'"));
    doctor.ended(78);
    let text = String::from_utf8(doctor.stdout).unwrap();
    assert_eq!(text.matches("failed  settings").count(), 3, "{text}");
    assert_eq!(text.matches("correct the settings first").count(), 10, "{text}");
    assert_eq!(text.matches("to do:").count(), 3, "{text}");
}

#[test]
fn what_is_odd_but_works_is_a_warning() {
    let world = World::new();
    let odd = ran(world.command(&["doctor", "--json"]).env("ALVYS_TENANT_ID", "va336").env("ALVYS_TOKEN", "old"));
    assert_eq!((odd.code, odd.stderr.as_str()), (Some(0), ""));
    finds(&odd, "settings", "warning", "ALVYS_TENANT_ID is set and ignored");
    finds(&odd, "settings", "warning", "ALVYS_TOKEN is set and ignored");

    let base = ran(world.command(&["doctor", "--json"]).env("ALVYS_API_BASE_URL", world.sandbox.url()));
    assert!(!base.json()["findings"].to_string().contains("warning"), "a bare host is completed: {base:?}");
    finds(&base, "API call", "ok", "200");

    let legacy = ran(&mut world.legacy(&["doctor", "--json"]));
    assert_eq!(legacy.code, Some(0));
    finds(&legacy, "settings", "warning", "2025-07-31");
    finds(&legacy, "scopes", "warning", "may only read");
    finds(&legacy, "token", "ok", "HS256");
    finds(&legacy, "organization", "ok", "va336");

    let lost = world.run(&["doctor", "--json"]);
    assert_eq!(lost.code, Some(0));
    world.sandbox.inject_at("/v1/me", Fault::status(404));
    finds(&world.run(&["doctor", "--json"]), "API call", "warning", "--call");
    let called = world.run(&["doctor", "--json", "--call", "loads?key=s3cret"]);
    finds(&called, "API call", "ok", "GET loads answers 200");
}

#[test]
fn secret_files_that_others_may_read_are_named() {
    let world = World::new();
    let file = world.file("secret", world.secret());
    let doctor = |mode: u32| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let mut command = world.command(&["doctor", "--json"]);
        ran(command.env_remove("ALVYS_CLIENT_SECRET").env("ALVYS_CLIENT_SECRET_FILE", &file))
    };
    finds(&doctor(0o644), "secret files", "warning", "chmod 600");
    finds(&doctor(0o602), "secret files", "warning", "mode 602");
    finds(&doctor(0o600), "secret files", "ok", "other users cannot read");
    finds(&world.run(&["doctor", "--json", "--secret-file", &file]), "secret files", "ok", "other users cannot read");
    assert_eq!(doctor(0o644).code, Some(0));
}

#[test]
fn the_way_to_the_endpoint_is_gone_step_by_step() {
    let world = World::new();
    let at = |url: &str| ran(world.command(&["doctor", "--json"]).env("ALVYS_TOKEN_URL", url));
    let unknown = at("https://no-such-host.invalid/oauth/token");
    unknown.ended(69);
    finds(&unknown, "settings", "ok", "client");
    finds(&unknown, "name resolution", "failed", "no-such-host.invalid is not known");
    finds(&unknown, "connection", "skipped", "the step before it failed: name resolution");
    finds(&unknown, "token request", "skipped", "the step before it failed: name resolution");

    let closed = at("http://127.0.0.1:1/oauth/token");
    closed.ended(69);
    finds(&closed, "connection", "failed", "port 1");
    finds(&closed, "clock", "skipped", "the step before it failed: connection");
    finds(&closed, "API call", "skipped", "the step before it failed: connection");

    let plain = at(&format!("https://{}/oauth/token", world.sandbox.address()));
    plain.ended(69);
    finds(&plain, "connection", "ok", "answers on port");
    finds(&plain, "TLS", "failed", "no answer");
    finds(&plain, "token", "skipped", "the step before it failed: TLS");
    assert_eq!(world.sandbox.token_requests(), 0);
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for() {
    let world = World::new();
    world.sandbox.inject(Route::Keys, Fault::hang());
    let started = std::time::Instant::now();
    finds(&world.run(&["doctor", "--json"]), "connection", "failed", "timeout");
    assert!(started.elapsed() < Duration::from_secs(20));
}

/// A TLS server with a certificate of its own, for as long as it lives.
struct Tls(Child);

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_certificate_is_trusted_or_not() {
    let world = World::new();
    let [key, certificate] = ["key.pem", "certificate.pem"].map(|name| world.path(name));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &key, "-out", &certificate])
        .output();
    if !made.is_ok_and(|made| made.status.success()) {
        eprintln!("skipped: openssl is not installed");
        return;
    }
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let mut server = Command::new("openssl");
    server.args(["s_server", "-www", "-quiet", "-cert", &certificate, "-key", &key]);
    server.args(["-accept", &format!("127.0.0.1:{port}")]).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Tls(server.spawn().unwrap());
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let url = format!("https://localhost:{port}/oauth/token");
    let stranger = ran(world.command(&["doctor", "--json"]).env("ALVYS_TOKEN_URL", &url));
    stranger.ended(69);
    finds(&stranger, "TLS", "failed", "the certificate of the server is not trusted");
    finds(&stranger, "token request", "skipped", "the step before it failed: TLS");
    let mut command = world.command(&["doctor", "--json"]);
    let trusted = ran(command.env("ALVYS_TOKEN_URL", &url).env("ALVYS_CA_BUNDLE", &certificate));
    finds(&trusted, "TLS", "ok", "trusted");
    finds(&trusted, "clock", "skipped", "has no Date");
    assert_ne!(step(&trusted, "token request").0, "skipped");
}

#[test]
fn a_clock_that_is_wrong_is_told() {
    let world = World::new();
    world.sandbox.set_clock_skew(-7200);
    finds(&world.run(&["doctor", "--json"]), "clock", "warning", "the clock of this machine is 2 h 0 min ahead of");
    world.sandbox.set_clock_skew(90);
    let behind = world.run(&["doctor", "--json"]);
    finds(&behind, "clock", "warning", "behind the server's");
    assert_eq!(behind.code, Some(0));
    world.sandbox.set_clock_skew(2);
    finds(&world.run(&["doctor", "--json"]), "clock", "ok", "agree");
}

#[test]
fn what_the_token_endpoint_says_decides_the_exit_code() {
    let world = World::new();
    let cases = [
        (Fault::status(401), 77, "credentials"),
        (Fault::rate_limited(Duration::from_secs(99)), 75, "fewer requests"),
        (Fault::challenge(200), 76, "HTML"),
    ];
    for (fault, code, said) in cases {
        world.sandbox.inject(Route::Token, fault);
        let doctor = world.run(&["doctor", "--json", "--no-cache"]);
        doctor.ended(code);
        finds(&doctor, "token request", "failed", said);
        finds(&doctor, "token", "skipped", "there is no token");
        finds(&doctor, "API call", "skipped", "there is no token");
        assert_eq!(doctor.json()["code"], code);
        let waits = doctor.json()["findings"].as_array().unwrap().iter().find_map(|one| one["retry_after"].as_u64());
        assert_eq!(waits.is_some(), code == 75, "{doctor:?}");
        let told = |seconds| doctor.stderr.contains(&format!("Try again in {seconds} s"));
        assert!(waits.is_none_or(told), "rounded in one way: {doctor:?}");
        world.sandbox.clear_faults();
    }
}

#[test]
fn the_token_is_looked_at() {
    let world = World::new();
    let opaque = r#"{"access_token":"opaque","expires_in":86400,"token_type":"Bearer"}"#;
    world.sandbox.inject(Route::Token, Fault::reply(200, opaque).header("content-type", "application/json").once());
    let doctor = world.run(&["doctor", "--json"]);
    doctor.ended(77);
    finds(&doctor, "token", "failed", "audience");
    finds(&doctor, "scopes", "warning", "no scopes");
    finds(&doctor, "organization", "warning", "no organization");
    finds(&doctor, "API call", "failed", "audience");

    let doctor = world.run(&["doctor", "--json", "--require", "load:read,user:delete"]);
    doctor.ended(77);
    finds(&doctor, "scopes", "failed", "lacks user:delete");

    let doctor = ran(world.command(&["doctor", "--json"]).env("ALVYS_COMPANY_CODE", "AB123"));
    doctor.ended(78);
    finds(&doctor, "organization", "failed", "for va336, but the tenant is set to AB123");

    world.sandbox.add(Application::new("bare", "s3cret", "va336").with_scopes(Vec::<String>::new()));
    let mut command = world.command(&["doctor", "--json"]);
    let doctor = ran(command.env("ALVYS_CLIENT_ID", "bare").env("ALVYS_CLIENT_SECRET", "s3cret"));
    finds(&doctor, "scopes", "warning", "no scopes");
}

#[test]
fn the_call_is_judged_as_any_other() {
    let world = World::new();
    for (fault, code) in
        [(Fault::status(403), 77), (Fault::status(500), 75), (Fault::challenge(200), 76), (Fault::reset(), 69)]
    {
        // A call whose connection is reset is sent again.
        world.sandbox.inject(Route::Api, fault.times(if code == 69 { 2 } else { 1 }));
        let doctor = world.run(&["doctor", "--json"]);
        doctor.ended(code);
        assert_eq!(step(&doctor, "API call").0, "failed");
    }
    finds(&world.run(&["doctor", "--json", "--call", "nothing"]), "API call", "failed", "404");
    let away = world.run(&["doctor", "--json", "--call", "https://example.com/"]);
    away.ended(78);
    finds(&away, "API call", "failed", "must not go");
}

#[test]
fn the_worst_finding_gives_the_exit_code() {
    let world = World::new();
    world.sandbox.inject(Route::Api, Fault::reset());
    let doctor = ran(world.command(&["doctor", "--require", "user:delete"]).env("ALVYS_TENANT_ID", "AB123"));
    assert!(doctor.ended(78).contains("the tenant is set to AB123"), "{doctor:?}");
    assert!(world.run(&["doctor", "--require", "user:delete"]).ended(77).contains("lacks user:delete"));
    world.sandbox.clear_faults();
    world.sandbox.inject(Route::Api, Fault::status(403));
    let first = world.run(&["doctor", "--require", "user:delete"]);
    assert!(first.ended(77).contains("lacks user:delete"), "the first of several that are as bad: {first:?}");
}

#[test]
fn people_get_ticks_and_colours_and_everybody_else_words() {
    let world = World::new();
    let Some(shown) = at_a_terminal(&mut world.command(&["doctor"])) else { return };
    assert!(shown.contains("\u{1b}[32m✓\u{1b}[0m settings"), "{shown:?}");
    let plain = at_a_terminal(world.command(&["doctor"]).env("NO_COLOR", "1")).unwrap();
    assert!(plain.contains("✓ settings") && !plain.contains('\u{1b}'), "{plain:?}");
}

#[test]
fn no_secret_and_no_token_is_in_any_report() {
    let world = World::new();
    for arguments in
        [&["doctor"][..], &["doctor", "--json"], &["doctor", "-vv"], &["migrate", "-vv", "--tenant", "va336"]]
    {
        let ran = world.run(arguments);
        let all = format!("{}{}", String::from_utf8_lossy(&ran.stdout), ran.stderr);
        assert!(!all.contains(&world.secret()) && !all.contains(&world.token()) && !all.contains("eyJ"), "{all}");
    }
}
