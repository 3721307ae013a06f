//! Which layer counts: flags over the environment over a profile.

use alvys_auth_sandbox::{Application, Sandbox};

use crate::support::{World, ran, ran_with, token_of};

#[test]
fn flags_beat_the_environment_and_the_environment_beats_a_profile() {
    let world = World::new();
    let others: Vec<Sandbox> = (0..3).map(|_| Sandbox::start().unwrap()).collect();
    for other in &others {
        other.add(world.sandbox.application());
    }
    let [by_flag, by_environment, by_profile] = others.each_ref_of().map(Sandbox::token_url);
    let client_id = world.sandbox.application().client_id().to_owned();
    let mut add = world.bare(&["profile", "add", "qa", "--client-id", &client_id, "--token-url", &by_profile]);
    assert_eq!(ran(&mut add).code, Some(0));

    let mut profile = world.bare(&["token", "--profile", "qa", "--no-cache"]);
    token_of(&ran(profile.env("ALVYS_CLIENT_SECRET", world.secret())));
    assert_eq!(others[2].token_requests(), 1);

    let mut environment = world.bare(&["token", "--no-cache"]);
    environment.env("ALVYS_PROFILE", "qa").env("ALVYS_CLIENT_SECRET", world.secret());
    token_of(&ran(environment.env("ALVYS_TOKEN_URL", &by_environment)));
    assert_eq!(others[1].token_requests(), 1);

    let mut flag = world.bare(&["token", "--no-cache", "--token-url", &by_flag, "--profile", "qa"]);
    flag.env("ALVYS_PROFILE", "nowhere").env("ALVYS_CLIENT_SECRET", world.secret());
    token_of(&ran(flag.env("ALVYS_TOKEN_URL", &by_environment)));
    assert_eq!(others.iter().map(Sandbox::token_requests).collect::<Vec<_>>(), [1, 1, 1]);
}

/// Three of a kind by reference.
trait EachRef {
    fn each_ref_of(&self) -> [&Sandbox; 3];
}

impl EachRef for Vec<Sandbox> {
    fn each_ref_of(&self) -> [&Sandbox; 3] {
        [&self[0], &self[1], &self[2]]
    }
}

#[test]
fn a_home_that_is_none_is_not_needed_and_nothing_is_made_there() {
    let world = World::new();
    let directory = world.home.path().join("elsewhere");
    std::fs::create_dir(&directory).unwrap();
    for home in ["/dev/null", "rel", "./rel", "/dev/null/x"] {
        let mut command = world.command(&["token"]);
        let ran = ran(command.env("HOME", home).current_dir(&directory));
        assert!(ran.code == Some(0) && ran.stdout.starts_with("eyJ"), "{ran:?}");
        assert!(ran.stderr.starts_with("alvys-auth: there is no home directory for the tokens"), "{ran:?}");
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "{home}");
    }
    let mut named = world.command(&["token", "--profile", "qa"]);
    assert!(ran(named.env("HOME", "rel").current_dir(&directory)).failed(78).contains("no home directory"));
}

#[test]
fn an_empty_variable_is_refused_unless_a_flag_stands_in_its_place() {
    let world = World::new();
    let names = [
        "ALVYS_PROFILE",
        "ALVYS_CLIENT_ID",
        "ALVYS_CLIENT_SECRET",
        "ALVYS_CLIENT_SECRET_FILE",
        "ALVYS_FLOW",
        "ALVYS_TENANT_ID",
        "ALVYS_ENV",
        "ALVYS_ENCODING",
        "ALVYS_TOKEN_URL",
        "ALVYS_AUDIENCE",
        "ALVYS_SCOPE",
        "ALVYS_API_BASE_URL",
        "ALVYS_API_VERSION",
        "ALVYS_CACHE_DIR",
        "ALVYS_NO_CACHE",
        "ALVYS_CA_BUNDLE",
        "ALVYS_EXTRA_CA",
        "ALVYS_CLIENT_CERT",
        "ALVYS_CLIENT_KEY",
    ];
    for name in names {
        for value in ["", " "] {
            let mut command = world.command(&["token"]);
            let ran = ran(command.env(name, value));
            let failed = ran.failed(78);
            assert!(failed.contains(&format!("{name} is set, but empty")), "{name}: {failed}");
        }
    }
    let directory = world.home.path().join("kept");
    for (name, flag, value) in [
        ("ALVYS_FLOW", "--flow", "current"),
        ("ALVYS_CACHE_DIR", "--cache-dir", directory.to_str().unwrap()),
        ("ALVYS_TOKEN_URL", "--token-url", &world.sandbox.token_url()),
        ("ALVYS_API_BASE_URL", "--api-base-url", &world.sandbox.api_url()),
    ] {
        token_of(&ran(world.command(&["token", flag, value]).env(name, "")));
    }
    token_of(&ran(world.command(&["token", "--no-cache"]).env("ALVYS_CACHE_DIR", "").env("ALVYS_NO_CACHE", "")));
    token_of(&ran_with(world.command(&["token", "--secret-stdin"]).env("ALVYS_CLIENT_SECRET", ""), &world.secret()));
    // Not ours: as good as none.
    token_of(&ran(world.command(&["token"]).env("SSL_CERT_FILE", "").env("SSL_CERT_DIR", "").env("HTTPS_PROXY", "")));
}

#[test]
fn a_setting_without_effect_is_told_of_when_the_run_fails() {
    let world = World::new();
    let mut command = world.command(&["token"]);
    command.env("ALVYS_TOKEN_URL", world.sandbox.legacy_token_url()).env("ALVYS_TENANT_ID", "va336");
    let failed = ran(&mut command);
    assert_ne!(failed.code, Some(0), "{failed:?}");
    let first = failed.stderr.lines().next().unwrap_or_default();
    assert!(first.contains("ALVYS_TENANT_ID is set and ignored: only ALVYS_FLOW=legacy uses it"), "{failed:?}");
    assert_eq!(failed.stderr.lines().count(), 3, "{failed:?}");
    let json = ran(command.arg("--json-errors"));
    let document: serde_json::Value = serde_json::from_str(&json.stderr).unwrap();
    let warning = document["error"]["warnings"][0].as_str().unwrap();
    assert!(warning.contains("ALVYS_TENANT_ID is set and ignored"), "{json:?}");
    // A run that succeeds is silent.
    token_of(&ran(world.command(&["token"]).env("ALVYS_TENANT_ID", "va336")));
    // A setting that is missing is a failure too.
    let missing = ran(world.command(&["token"]).env("ALVYS_TENANT_ID", "va336").env_remove("ALVYS_CLIENT_SECRET"));
    assert!(missing.code == Some(78) && missing.stderr.contains("ALVYS_TENANT_ID is set and ignored"), "{missing:?}");
}

#[test]
fn every_target_flag_counts() {
    let world = World::new();
    world.sandbox.add(Application::new("flagged", "s3cret", "AB123").with_audience("https://other.example.com/"));
    let mut command = world.bare(&[
        "token",
        "--client-id",
        "flagged",
        "--secret-stdin",
        "--token-url",
        &world.sandbox.token_url(),
        "--audience",
        "https://other.example.com/",
        "--encoding",
        "form",
        "--flow",
        "current",
        "--tenant",
        "AB123",
    ]);
    let mut with_others = command.env("ALVYS_AUDIENCE", "https://wrong.example.com/").env("ALVYS_FLOW", "legacy");
    with_others = with_others.env("ALVYS_ENCODING", "json").env("ALVYS_CLIENT_ID", "other");
    token_of(&ran_with(with_others, "s3cret\n"));
    assert_eq!(world.sandbox.requests()[0].header("content-type"), Some("application/x-www-form-urlencoded"));
}

#[test]
fn a_tenant_alone_does_not_choose_the_legacy_flow() {
    let world = World::new();
    let ran = ran(world.command(&["token", "-v"]).env("ALVYS_TENANT_ID", "va336"));
    assert_eq!(ran.code, Some(0));
    assert!(ran.stderr.contains("ALVYS_TENANT_ID is set and ignored"), "{ran:?}");
    assert_eq!(world.sandbox.requests()[0].path(), "/oauth/token");
}

#[test]
fn warnings_stay_out_of_a_log_that_did_not_ask_for_them() {
    let world = World::new();
    let ran = ran(world.command(&["token"]).env("ALVYS_TENANT_ID", "va336").env("ALVYS_TOKEN", "static"));
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_proxy_never_sees_a_secret_in_plain_http() {
    let world = World::new();
    let proxy = Sandbox::start().unwrap();
    let mut command = world.command(&["token"]);
    token_of(&ran(command.env("http_proxy", proxy.url()).env("ALL_PROXY", proxy.url())));
    assert_eq!(proxy.requests().len(), 0);
}
