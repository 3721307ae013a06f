//! Credentials that change while the proxy runs: with SIGHUP, or in a file alone.

use std::time::Duration;

use alvys_auth_sandbox::{Fault, Route};

use crate::support::{Running, World, get, within};

const NEXT: &str = "the-next-secret-0123456789";

/// Waits until the token at hand is of no use any more.
fn outlive_the_token() {
    std::thread::sleep(Duration::from_millis(2100));
}

fn world() -> World {
    let world = World::new();
    world.sandbox.set_lifetime(Duration::from_secs(2));
    world
}

#[track_caller]
fn nothing_was_refused(world: &World) {
    assert!(world.asked().iter().all(|(_, status)| *status == 200), "{:?}", world.asked());
}

#[test]
fn a_changed_file_is_noticed_without_a_signal() {
    let world = world();
    let file = world.file("secret", &world.secret());
    let flag = Running::start(&world, &mut world.proxy(&["--secret-file", &file]), 1);
    let variable = Running::start(&world, world.proxy(&[]).env("ALVYS_CLIENT_SECRET_FILE", &file), 1);
    for proxy in [&flag, &variable] {
        assert_eq!(proxy.get("/api/p/v1/loads").status, 200);
    }
    world.rotate(NEXT);
    world.file("secret", NEXT);
    outlive_the_token();
    for proxy in [&flag, &variable] {
        assert_eq!(proxy.get("/api/p/v1/loads").status, 200);
    }
    nothing_was_refused(&world);
}

#[test]
fn sighup_reads_a_command_anew() {
    let world = world();
    let file = world.file("secret", &world.secret());
    let command = format!("cat {file}");
    let proxy = Running::start(&world, &mut world.proxy(&["-v", "--secret-command", &command]), 1);
    assert_eq!(proxy.get("/api/p/v1/loads").status, 200);
    world.rotate(NEXT);
    world.file("secret", NEXT);
    proxy.signal("HUP");
    proxy.says("read the credentials again");
    outlive_the_token();
    assert_eq!(proxy.get("/api/p/v1/loads").status, 200);
    nothing_was_refused(&world);
}

#[test]
fn sighup_reads_a_profile_anew_and_its_old_secret_never_comes_back() {
    let world = world();
    let application = world.profile("acme", &[]);
    let command = &mut world.bare(&["proxy", "-v", "--unshaped", "--listen", "127.0.0.1:0", "--profile", "acme"]);
    let proxy = Running::start(&world, command, 1);
    assert_eq!(proxy.get("/api/p/v1/loads").status, 200);

    // The secret moves to another file, the old one stays where it was.
    assert!(world.sandbox.rotate_secret(application.client_id(), NEXT));
    let elsewhere = world.file("elsewhere", NEXT);
    let output = world
        .bare(&["profile", "add", "acme", "--replace", "--client-id", application.client_id()])
        .args(["--secret-file", &elsewhere, "--token-url", &world.sandbox.token_url()])
        .args(["--api-base-url", &world.sandbox.api_url()])
        .output();
    assert!(output.unwrap().status.success());
    proxy.signal("HUP");
    proxy.says("read the credentials again");
    outlive_the_token();
    assert_eq!(proxy.get("/api/p/v1/loads").status, 200);
    nothing_was_refused(&world);

    // A refusal makes the source ask again where the secret is: that must be the new place.
    outlive_the_token();
    world.sandbox.inject(Route::Token, Fault::status(401).once());
    let first = proxy.get("/api/p/v1/loads");
    within(|| proxy.get("/api/p/v1/loads").status == 200, || format!("after {first:?}"));
    let old = application.client_secret();
    let since = world.asked().into_iter().skip(2);
    assert!(since.clone().all(|(body, _)| !body.contains(old)), "{:?}", since.collect::<Vec<_>>());
}

#[test]
fn sighup_ends_the_pause_that_refused_credentials_began() {
    let world = World::new();
    let file = world.file("secret", "wrong");
    let proxy = Running::start(&world, &mut world.proxy(&["-v", "--secret-file", &file]), 1);
    assert_eq!(proxy.get("/api/p/v1/loads").status, 502);
    world.file("secret", &world.secret());
    proxy.signal("HUP");
    proxy.says("read the credentials again");
    assert_eq!(proxy.get("/api/p/v1/loads").status, 200);
}

#[test]
fn sighup_without_anything_to_read_anew_says_so_and_changes_nothing() {
    let world = World::new();
    let secret = world.secret();
    let proxy = Running::with_input(&world, &mut world.proxy(&["--secret-stdin"]), 1, Some(&secret));
    proxy.signal("HUP");
    proxy.says("cannot be read again");
    assert_eq!(proxy.said().lines().count(), 1);
    assert_eq!(proxy.get("/api/p/v1/loads").status, 200);

    let mut proxy = Running::start(&world, &mut world.complete(&["-v"]), 1);
    proxy.signal("HUP");
    proxy.says("read the credentials again");
    assert!(!proxy.has_ended());
    assert_eq!(proxy.get("/api/p/v1/loads").status, 200);
}

#[test]
fn sighup_with_a_secret_that_cannot_be_read_goes_on_with_the_one_at_hand() {
    let world = world();
    let file = world.file("secret", &world.secret());
    let proxy = Running::start(&world, &mut world.proxy(&["--secret-file", &file]), 1);
    assert_eq!(proxy.get("/api/p/v1/loads").status, 200);
    std::fs::remove_file(&file).unwrap();
    proxy.signal("HUP");
    proxy.says("the old settings stay in use");
    outlive_the_token();
    assert_eq!(proxy.get("/api/p/v1/loads").status, 200);
    assert!(!proxy.said().contains(&world.secret()));
}

#[test]
fn sighup_takes_no_credentials_that_belong_to_another_flow_or_api() {
    let world = world();
    let other = World::new();
    let acme = world.profile("acme", &[]);
    let elsewhere = ["--token-url", &other.sandbox.token_url()];
    let same = ["--token-url", &world.sandbox.token_url()];
    for (token_url, more, differs) in [
        (elsewhere, vec![], "the flow"),
        (same, vec!["--audience", "https://another.example/"], "the flow"),
        (same, vec!["--scope", "load:read"], "the flow"),
        (same, vec!["--encoding", "form"], "the flow"),
        (same, vec!["--flow", "legacy", "--tenant", "acme"], "the flow"),
        (same, vec!["--api-base-url", "http://127.0.0.1:9/api/p/v1"], "the API"),
    ] {
        use_profile(&world, "acme");
        let command = &mut world.bare(&["proxy", "--unshaped", "--listen", "127.0.0.1:0"]);
        let proxy = Running::start(&world, command, 1);
        assert_eq!(proxy.get("/api/p/v1/loads").status, 200);

        let secret = world.file("qa.secret", NEXT);
        let api = world.sandbox.api_url();
        let mut add = world.bare(&["profile", "add", "qa", "--replace", "--client-id", acme.client_id()]);
        add.args(["--secret-file", &secret]).args(token_url).args(&more);
        if !more.contains(&"--api-base-url") {
            add.args(["--api-base-url", &api]);
        }
        let added = add.output().unwrap();
        assert!(added.status.success(), "{added:?}");
        use_profile(&world, "qa");
        proxy.signal("HUP");
        proxy.says("the old settings stay in use");
        let said = proxy.said();
        assert!(said.contains(differs) && said.contains("restart the proxy"), "{said}");
        outlive_the_token();
        assert_eq!(proxy.get("/api/p/v1/loads").status, 200, "{more:?}");
        assert!(world.asked().iter().all(|(body, _)| !body.contains(NEXT)), "{more:?}");
    }
    nothing_was_refused(&world);
    assert_eq!(other.asked(), []);
}

#[test]
fn sighup_reads_the_key_file_anew_and_keeps_the_key_when_there_is_no_other() {
    let (first, second) = ("a-key-of-24-characters-x", "b-key-of-24-characters-y");
    let world = World::new();
    let file = world.file("key", first);
    let proxy = Running::start(&world, &mut world.complete(&["--key-file", &file]), 1);
    let url = format!("{}/healthz", proxy.url());
    let status = |key: &str| get(&url, &[("x-alvys-proxy-key", key)]).status;
    assert_eq!((status(first), status(second)), (200, 403));

    world.file("key", "too-short");
    proxy.signal("HUP");
    proxy.says("the shared key of the proxy is too short");
    assert_eq!((status(first), status("too-short")), (200, 403));
    std::fs::remove_file(&file).unwrap();
    proxy.signal("HUP");
    proxy.says("cannot read");
    assert_eq!(status(first), 200);
    assert!(!proxy.said().contains("too-short"), "{}", proxy.said());

    world.file("key", &format!("{second}\n"));
    proxy.signal("HUP");
    within(|| status(second) == 200, || "the new key opens".to_owned());
    assert_eq!(status(first), 403, "and the old one no longer does");
}

fn use_profile(world: &World, name: &str) {
    assert!(world.bare(&["profile", "use", name]).output().unwrap().status.success());
}
