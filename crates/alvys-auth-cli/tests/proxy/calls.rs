//! Calls that know no token, and where the secret may be.

use std::time::Duration;

use alvys_auth_sandbox::{Fault, Route};

use crate::support::{Running, World, failed, get};

#[test]
fn a_call_without_a_token_is_authorized_and_one_token_serves_them_all() {
    let world = World::new();
    let proxy = Running::start(&world, &mut world.complete(&[]), 1);
    for _ in 0..5 {
        assert_eq!(proxy.get("/api/p/v1/loads?page=0").status, 200);
    }
    assert_eq!(world.asked().len(), 1);
    let calls = world.calls();
    assert!(calls.iter().all(|call| call.header("authorization").unwrap().starts_with("Bearer ")));
    assert_eq!(calls[0].query(), Some("page=0"));
    assert_eq!(proxy.said(), "", "nothing on stderr while all is well");
}

#[test]
fn the_secret_comes_from_a_file_a_command_stdin_or_a_profile() {
    let world = World::new();
    let file = world.file("secret", &world.secret());
    let command = format!("cat {file}");
    let from = |arguments: &[&str], input: Option<&str>| {
        let proxy = Running::with_input(&world, &mut world.proxy(arguments), 1, input);
        assert_eq!(proxy.get("/api/p/v1/loads").status, 200, "{arguments:?}");
    };
    from(&["--secret-file", &file], None);
    from(&["--secret-command", &command], None);
    from(&["--secret-stdin"], Some(&world.secret()));

    world.profile("acme", &[]);
    let proxy = Running::start(&world, &mut world.bare(&["proxy", "--listen", "127.0.0.1:0", "--profile", "acme"]), 1);
    assert_eq!(proxy.get("/api/p/v1/loads").status, 200);
    assert!(world.asked().last().unwrap().0.contains("client-acme"));
}

#[test]
fn a_keychain_that_is_not_there_or_holds_nothing_is_a_failure() {
    let world = World::new();
    let profiles = "[profiles.nobody-has-this]\nclient_id = \"x\"\nkeychain = true\n";
    let output = world.bare(&["profile", "add", "other", "--client-id", "x", "--secret-command", "true"]).output();
    assert!(output.unwrap().status.success());
    let directories =
        [".config/alvys-auth", "Library/Application Support/alvys-auth", "Library/Preferences/alvys-auth"];
    let file = directories.map(|one| world.home.path().join(one).join("profiles.toml"));
    std::fs::write(file.iter().find(|file| file.exists()).unwrap(), profiles).unwrap();
    let said = failed(&mut world.bare(&["proxy", "--profile", "nobody-has-this"]), 78);
    assert!(said.contains("keychain"), "{said}");
}

#[test]
fn the_token_is_handed_out_only_when_that_was_asked_for() {
    let world = World::new();
    let header = [("x-alvys-token-request", "true")];
    let proxy = Running::start(&world, &mut world.complete(&[]), 1);
    assert_eq!(get(&format!("{}/token", proxy.url()), &header).status, 404);

    let proxy = Running::start(&world, &mut world.complete(&["--hand-out-tokens"]), 1);
    assert_eq!(proxy.get("/token").status, 403);
    let answer = get(&format!("{}/token", proxy.url()), &header);
    assert_eq!(answer.status, 200);
    assert!(answer.json()["access_token"].as_str().unwrap().len() > 100);
}

#[test]
fn the_limits_are_those_of_the_flags() {
    let world = World::new();
    let limits = ["--most-at-once", "3", "--longest-body", "10", "--patience", "1s"];
    let proxy = Running::start(&world, &mut world.complete(&limits), 1);
    let long = ureq::post(format!("{}/api/p/v1/loads/search", proxy.url()))
        .config()
        .http_status_as_error(false)
        .build()
        .send("eleven byte")
        .unwrap();
    assert_eq!(long.status(), 413);
    assert!(proxy.get("/status").body.contains("of at most 3"));

    world.sandbox.inject(Route::Api, Fault::status(429).retry_after(Duration::from_secs(5)).once());
    let waited = proxy.get("/api/p/v1/loads");
    assert_eq!(waited.status, 429, "5 s are more than the patience: {waited:?}");
}

#[test]
fn calls_keep_to_the_published_rate_limits_unless_told_otherwise() {
    let world = World::new();
    let mut command = world.shaped(&["--patience", "1s"]);
    let shaped = Running::start(&world, command.env("ALVYS_CLIENT_SECRET", world.secret()), 1);
    assert_eq!(shaped.get("/api/p/v1/loads").status, 200);
    let held_back = shaped.get("/api/p/v1/loads");
    assert_eq!(held_back.status, 429, "the next turn comes after the call's patience: {held_back:?}");

    let unshaped = Running::start(&world, &mut world.complete(&["--patience", "1s"]), 1);
    for _ in 0..20 {
        assert_eq!(unshaped.get("/api/p/v1/loads").status, 200);
    }
    assert_eq!(world.calls().len(), 21);
}

#[test]
fn the_mcp_server_is_behind_mcp_once_it_is_named() {
    let world = World::new();
    let proxy = Running::start(&world, &mut world.complete(&[]), 1);
    assert_eq!(proxy.get("/mcp").json()["reason"], "not_served", "no production API, no MCP server of its own");

    let url = world.sandbox.mcp_url();
    let proxy = Running::start(&world, &mut world.complete(&["--mcp-url", &url]), 1);
    let answer =
        ureq::post(format!("{}/mcp", proxy.url())).send_json(serde_json::json!({"events": 2, "interval_ms": 1}));
    assert_eq!(answer.unwrap().status(), 200);
}

#[test]
fn what_the_environment_sets_in_vain_is_told_with_v() {
    let world = World::new();
    let proxy = Running::start(&world, world.complete(&["-v"]).env("ALVYS_TENANT_ID", "va336"), 1);
    proxy.says("ALVYS_TENANT_ID is set and ignored");
    assert_eq!(proxy.get("/api/p/v1/loads").status, 200);
    assert!(!proxy.said().contains(&world.secret()));
}
