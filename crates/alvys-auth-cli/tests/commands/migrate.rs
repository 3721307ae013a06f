//! Both flows tried, and what to change.

use alvys_auth_sandbox::{Application, Fault, Route};

use crate::support::{World, ran};

#[test]
fn a_legacy_configuration_is_told_what_to_change() {
    let world = World::new();
    let url = world.sandbox.token_url();
    let migrate = ran(&mut world.legacy(&["migrate", "--current-token-url", &url]));
    let text = migrate.text();
    assert!(text.contains("ok      current flow     works: a token that is valid for 59 min"), "{text}");
    assert!(text.contains("for va336, 15 scopes") && text.contains("for va336, may only read"), "{text}");
    assert!(text.contains("organization     the same in both flows"), "{text}");
    for change in ["ALVYS_FLOW is set", "ALVYS_TENANT_ID is set", "ALVYS_TOKEN_URL is set", &format!("set it to {url}")]
    {
        assert!(text.contains(change), "{change}: {text}");
    }
    let arguments = ["migrate", "--flow", "legacy", "--tenant", "va336", "--current-token-url", &url];
    let flags = ran(world.command(&arguments).env("ALVYS_TOKEN_URL", world.sandbox.legacy_token_url()));
    assert!(flags.text().contains("--flow is given") && flags.text().contains("--tenant is given"), "{flags:?}");
    let profile = ["profile", "add", "old", "--flow", "legacy", "--tenant", "va336"];
    world.run(&profile).text();
    let mut command = world.command(&["migrate", "--profile", "old", "--current-token-url", &url]);
    let profile = ran(command.env("ALVYS_TOKEN_URL", world.sandbox.legacy_token_url()));
    assert!(profile.text().contains("the profile has flow"), "{profile:?}");
    let json = ran(&mut world.legacy(&["migrate", "--json", "--current-token-url", &url])).json();
    assert_eq!(
        (&json["ok"], &json["current_works"], &json["legacy_works"]),
        (&true.into(), &true.into(), &true.into())
    );
}

#[test]
fn a_current_configuration_has_nothing_to_change() {
    let world = World::new();
    let legacy = world.sandbox.legacy_token_url();
    let both = world.run(&["migrate", "--tenant", "va336", "--legacy-token-url", &legacy]);
    assert!(both.text().contains("nothing: the configuration uses the current flow already"), "{both:?}");
    world.sandbox.inject(Route::LegacyToken, Fault::status(404));
    let gone = world.run(&["migrate", "--tenant", "va336", "--legacy-token-url", &legacy]);
    assert!(gone.text().contains("warning legacy flow"), "{gone:?}");
    let alone = world.run(&["migrate", "--json"]);
    assert_eq!((alone.code, &alone.json()["legacy_works"]), (Some(0), &serde_json::Value::Null));
    assert!(alone.json().to_string().contains("no tenant is known"));
}

#[test]
fn credentials_of_the_legacy_flow_alone_need_an_application() {
    let world = World::new();
    let id = world.sandbox.application().client_id().to_owned();
    world.sandbox.add(Application::new(&id, world.secret(), "va336").without_grant());
    world.sandbox.add(Application::new("new-app", "n3w-s3cret", "va336"));
    let url = world.sandbox.token_url();
    let migrate = ran(&mut world.legacy(&["migrate", "--current-token-url", &url]));
    assert!(migrate.ended(77).contains("refused the request"), "{migrate:?}");
    let text = String::from_utf8(migrate.stdout).unwrap();
    assert!(text.contains("work in the legacy flow only") && text.contains("--new-client-id"), "{text}");

    let file = world.file("new-secret", "n3w-s3cret\n");
    let arguments = ["migrate", "--current-token-url", &url, "--new-client-id", "new-app", "--new-secret-file", &file];
    let migrate = ran(&mut world.legacy(&arguments));
    assert!(migrate.text().contains("set ALVYS_CLIENT_ID to new-app"), "{migrate:?}");
    assert!(!migrate.text().contains("n3w-s3cret"));
    assert!(world.run(&["migrate", "--new-client-id", "new-app"]).failed(2).contains("is missing"));
}

#[test]
fn another_organization_is_no_migration() {
    let world = World::new();
    world.sandbox.add(Application::new("other", "s3cret", "AB123"));
    let (url, file) = (world.sandbox.token_url(), world.file("secret", "s3cret"));
    let arguments = ["migrate", "--current-token-url", &url, "--new-client-id", "other", "--new-secret-file", &file];
    let migrate = ran(&mut world.legacy(&arguments));
    assert!(migrate.ended(78).contains("for AB123, the legacy flow for va336"), "{migrate:?}");
}

#[test]
fn where_neither_flow_works_the_reason_is_told() {
    let world = World::new();
    let url = world.sandbox.token_url();
    let wrong = ran(world.legacy(&["migrate", "--current-token-url", &url]).env("ALVYS_CLIENT_SECRET", "wrong"));
    assert!(wrong.ended(77).contains("refused the credentials"), "{wrong:?}");
    assert!(!String::from_utf8_lossy(&wrong.stdout).contains("work in the legacy flow only"));
    let down = ran(&mut world.legacy(&["migrate", "--current-token-url", "http://127.0.0.1:1/oauth/token"]));
    down.ended(69);
    assert!(!String::from_utf8_lossy(&down.stdout).contains("create an application"));
    ran(&mut world.bare(&["migrate"])).failed(78);
}
