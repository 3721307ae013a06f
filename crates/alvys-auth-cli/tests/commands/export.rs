//! The same by hand and in Postman: run with the real curl, a real shell and newman.

use std::fs;
use std::process::Command;

use alvys_auth_sandbox::Application;
use serde_json::Value;

use crate::support::{Ran, World, ran};

/// Runs a script with `sh` and the secret in its environment.
fn sh(world: &World, script: &str, secret: &str) -> Option<Ran> {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("skipped: curl is not installed");
        return None;
    }
    let mut command = Command::new("sh");
    command.args(["-eu", "-c", script]).env_clear().env("PATH", std::env::var("PATH").unwrap());
    Some(ran(command.env("HOME", world.home.path()).env("ALVYS_CLIENT_SECRET", secret)))
}

#[test]
fn the_curl_commands_do_what_they_say_in_both_flows_and_encodings() {
    let world = World::new();
    // Everything that a shell, a form and JSON treat in their own ways.
    let secret = r#"it's "a" \ $HOME `id` %41+&=;*~é{}"#;
    let id = r#"cli'ent $(id) "x""#;
    world.sandbox.add(Application::new(id, secret, "va336"));
    let cases = [("current", "json"), ("current", "form"), ("legacy", "json"), ("legacy", "form")];
    for (flow, encoding) in cases {
        let mut command = if flow == "legacy" { world.legacy(&["curl"]) } else { world.command(&["curl"]) };
        command.env("ALVYS_CLIENT_ID", id).env("ALVYS_CLIENT_SECRET", secret).env("ALVYS_ENCODING", encoding);
        let printed = ran(&mut command);
        assert!(!printed.text().contains("it's \"a\"") && printed.text().contains("$ALVYS_CLIENT_SECRET"));
        world.sandbox.clear_log();
        let Some(done) = sh(&world, printed.text(), secret) else { return };
        assert_eq!(done.json()["Flow"], flow, "{encoding}: {done:?} {}", printed.text());
        assert_eq!(done.json()["ClientId"], id);
        let requests = world.sandbox.requests();
        let kind = requests[0].header("content-type").unwrap();
        assert!(kind.contains(if encoding == "json" { "json" } else { "x-www-form-urlencoded" }), "{kind}");
    }
}

#[test]
fn the_curl_commands_need_no_credentials_and_ask_for_nothing() {
    let world = World::new();
    let printed = ran(&mut world.bare(&["curl", "loads?page=1"]));
    let text = printed.text();
    assert!(text.contains("REPLACE_WITH_CLIENT_ID") && text.contains("'https://auth.alvys.com/oauth/token'"), "{text}");
    assert!(text.contains("'https://integrations.alvys.com/api/p/v1/loads?page=1'"), "{text}");
    let qa = ran(world.bare(&["curl", "--client-id", "my-app"]).env("ALVYS_ENV", "QA"));
    assert!(qa.text().contains("'https://qaauth.alvys.net/oauth/token'"), "{qa:?}");
    assert!(qa.text().contains("'https://qaapi.alvys.net/v1/me'") && qa.text().contains("my-app"), "{qa:?}");
    let bundle = ran(&mut world.bare(&["curl", "--ca-bundle", "/my certs.pem"]));
    assert!(bundle.text().contains("--cacert '/my certs.pem'"), "{bundle:?}");
    let scoped = ran(&mut world.bare(&["curl", "--scope", "load:read trip:read", "--encoding", "form"]));
    assert!(scoped.text().contains("'scope=load:read trip:read'"), "{scoped:?}");
    assert!(ran(&mut world.bare(&["curl", "https://example.com/"])).failed(78).contains("must not go"));
    assert!(ran(&mut world.bare(&["curl", "--flow", "legacy"])).failed(78).contains("ALVYS_TENANT_ID"));
    assert_eq!(world.sandbox.requests().len(), 0);
}

fn read(path: &str) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn values(environment: &Value) -> Vec<(&str, &str)> {
    let values = environment["values"].as_array().unwrap().iter();
    values.map(|value| (value["key"].as_str().unwrap(), value["value"].as_str().unwrap())).collect()
}

#[test]
fn the_postman_files_hold_the_documented_places_and_placeholders() {
    let world = World::new();
    let directory = world.path("postman");
    let printed = world.run(&["postman", &directory]);
    let paths: Vec<&str> = printed.text().lines().collect();
    let [environment, collection] = [0, 1].map(|at| read(paths[at]));
    assert_eq!(
        values(&environment),
        [
            ("client_id", "REPLACE_WITH_CLIENT_ID"),
            ("client_secret", "REPLACE_WITH_CLIENT_SECRET"),
            ("audience", "https://api.alvys.com/public/"),
            ("token_url", "https://auth.alvys.com/oauth/token"),
            ("api_base_url", "https://integrations.alvys.com/api/p/v1"),
            ("me_url", "https://integrations.alvys.com/v1/me"),
            ("access_token", ""),
            ("tenant_id", "REPLACE_WITH_TENANT_ID"),
            ("legacy_token_url", "https://integrations.alvys.com/api/authentication/{{tenant_id}}/token"),
        ]
    );
    assert_eq!(environment["values"][1]["type"], "secret");
    assert!(collection["info"]["schema"].as_str().unwrap().contains("v2.1.0"));
    assert_eq!(collection["item"].as_array().unwrap().len(), 2);

    fs::write(paths[0], "mine").unwrap();
    assert!(world.run(&["postman", &directory]).failed(78).contains("exists already"));
    assert_eq!(fs::read(paths[0]).unwrap(), b"mine");
    world.run(&["postman", &directory, "--replace", "--env", "qa"]).text();
    let [environment, collection] = [0, 1].map(|at| read(paths[at]));
    assert!(values(&environment).contains(&("token_url", "https://qaauth.alvys.net/oauth/token")));
    assert_eq!(collection["item"].as_array().unwrap().len(), 1, "no legacy flow there");
    assert!(world.run(&["postman", "/dev/null/x"]).failed(78).contains("cannot write"));
    assert!(world.run(&["postman", "--token-url", "http://example.com/"]).failed(78).contains("unencrypted"));
}

/// `NEWMAN` names the program where it is not on the PATH; with `NEWMAN_REQUIRED` its absence is a failure.
#[test]
fn the_postman_files_run_in_newman() {
    let world = World::new();
    let program = std::env::var("NEWMAN").unwrap_or_else(|_| "newman".to_owned());
    if Command::new(&program).arg("--version").output().is_err() {
        assert!(std::env::var_os("NEWMAN_REQUIRED").is_none(), "newman is required and not installed");
        eprintln!("skipped: newman is not installed (npm install newman)");
        return;
    }
    let directory = world.path("postman");
    let (token, legacy, api) = (world.sandbox.token_url(), world.sandbox.legacy_token_url(), world.sandbox.api_url());
    let urls = ["--token-url", &token, "--legacy-token-url", &legacy, "--api-base-url", &api];
    let printed = world.run(&[&["postman", &directory][..], &urls].concat());
    let paths: Vec<&str> = printed.text().lines().collect();
    let mut environment = read(paths[0]);
    let application = world.sandbox.application();
    for value in environment["values"].as_array_mut().unwrap() {
        match value["value"].as_str().unwrap() {
            "REPLACE_WITH_CLIENT_ID" => value["value"] = application.client_id().into(),
            "REPLACE_WITH_CLIENT_SECRET" => value["value"] = application.client_secret().into(),
            "REPLACE_WITH_TENANT_ID" => value["value"] = application.tenant().into(),
            _ => {}
        }
    }
    fs::write(paths[0], environment.to_string()).unwrap();
    let output = Command::new(&program).args(["run", paths[1], "--environment", paths[0]]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let requests = world.sandbox.requests();
    assert!(requests.iter().all(|request| request.status() == Some(200)), "{requests:?}");
    assert_eq!((world.sandbox.token_requests(), world.sandbox.api_requests()), (4, 4), "{said}");
}
