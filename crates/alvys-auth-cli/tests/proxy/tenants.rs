//! Several tenants behind one proxy, a profile each.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use alvys_auth_sandbox::{Application, Fault, Route};

use crate::support::{Answer, Running, World, failed, get, within};

const NEXT: &str = "the-next-secret-0123456789";

fn serving(world: &World, names: &[&str]) -> std::process::Command {
    // What is in the environment belongs to somebody else.
    let mut command = world.complete(&[]);
    for name in names {
        command.args(["--serve", name]);
    }
    command
}

#[test]
fn each_tenant_is_called_with_its_own_application_by_path_and_by_header() {
    let world = World::new();
    world.profile("acme", &[]);
    world.profile("globex", &[]);
    world.profile("not-served", &[]);
    let proxy = Running::start(&world, &mut serving(&world, &["acme", "globex"]), 1);
    assert_eq!(proxy.get("/t/acme/api/p/v1/loads").status, 200);
    let loads = format!("{}/api/p/v1/loads", proxy.url());
    assert_eq!(get(&loads, &[("x-alvys-tenant", "globex")]).status, 200);
    assert_eq!(proxy.get("/t/globex/api/p/v1/loads").status, 200);

    assert_eq!(get(&loads, &[]).status, 400, "no tenant is named");
    assert_eq!(proxy.get("/t/not-served/api/p/v1/loads").status, 404);
    assert_eq!(proxy.get("/t/initech/api/p/v1/loads").status, 404);
    let both = get(&format!("{}/t/acme/api/p/v1/loads", proxy.url()), &[("x-alvys-tenant", "globex")]);
    assert_eq!(both.status, 400);

    let asked = world.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[0].0.contains("client-acme") && asked[1].0.contains("client-globex"), "{asked:?}");
    let tokens: Vec<_> = world.calls().iter().map(|call| call.header("authorization").unwrap().to_owned()).collect();
    assert!(tokens[0] != tokens[1] && tokens[1] == tokens[2], "one token for each tenant");
    assert!(world.calls().iter().all(|call| call.header("x-alvys-tenant").is_none()));
}

#[test]
fn nothing_of_the_environment_has_a_part_in_a_tenant() {
    let world = World::new();
    world.profile("acme", &[]);
    let mut command = serving(&world, &["acme"]);
    command
        .env("ALVYS_FLOW", "nonsense")
        .env("ALVYS_PROFILE", "nobody")
        .env("ALVYS_SCOPE", "parrot:feed")
        .env("ALVYS_TOKEN_URL", "http://127.0.0.1:9/token")
        .env("ALVYS_API_BASE_URL", "http://127.0.0.1:9/api/p/v1");
    let proxy = Running::start(&world, &mut command, 1);
    assert_eq!(proxy.get("/t/acme/api/p/v1/loads").status, 200);
}

#[test]
fn flags_about_one_application_do_not_go_with_serve() {
    let world = World::new();
    world.profile("acme", &[]);
    for more in [
        ["--client-id", "x"],
        ["--profile", "acme"],
        ["--secret-file", "/x"],
        ["--secret-command", "x"],
        ["--flow", "legacy"],
        ["--tenant", "acme"],
        ["--env", "qa"],
        ["--encoding", "form"],
        ["--token-url", "http://localhost/"],
        ["--audience", "x"],
        ["--scope", "x"],
        ["--api-base-url", "http://localhost/"],
    ] {
        let said = failed(serving(&world, &["acme"]).args(more), 2);
        assert!(said.contains(more[0]) && said.contains("--serve"), "{said}");
    }
}

#[test]
fn tenants_of_different_apis_are_not_served_together() {
    let world = World::new();
    world.profile("acme", &[]);
    world.profile("elsewhere", &["--api-base-url", "http://127.0.0.1:9/api/p/v1"]);
    let said = failed(&mut serving(&world, &["acme", "elsewhere"]), 78);
    assert!(said.contains("acme and elsewhere have a different API"), "{said}");
}

#[test]
fn a_profile_that_makes_no_application_is_told_of_at_the_start() {
    let world = World::new();
    world.profile("acme", &[]);
    world.profile("broken", &[]);
    fs::remove_file(world.path("broken.secret")).unwrap();
    failed(&mut serving(&world, &["acme", "broken"]), 78);
    assert_eq!(world.asked(), []);
}

/// Sends SIGHUP, and waits until so many profiles were looked at.
#[track_caller]
fn reread(proxy: &Running, profiles: usize) {
    proxy.signal("HUP");
    within(|| proxy.said().matches("reads a profile again").count() == profiles, || proxy.said());
}

#[track_caller]
fn all_are_served(proxy: &Running, tenants: &[&str]) {
    for tenant in tenants {
        assert_eq!(proxy.get(&format!("/t/{tenant}/api/p/v1/loads")).status, 200, "{tenant}");
    }
}

#[test]
fn what_keeps_all_profiles_from_being_read_is_told_once_for_each_sighup() {
    let world = World::new();
    let names = ["acme", "globex", "initech"];
    for name in names {
        world.profile(name, &[]);
    }
    let key = world.file("key", "a-key-of-24-characters-x");
    let proxy = Running::start(&world, serving(&world, &names).args(["--key-file", &key]), 1);
    world.file(".config/alvys-auth/profiles.toml", "broken");
    // The key is read last: what is said of it says that all the rest was said.
    world.file("key", "too-short");
    for signals in [1, 2] {
        proxy.signal("HUP");
        let said = |words: &str| proxy.said().matches(words).count();
        within(|| said("the shared key of the proxy is too short") == signals, || proxy.said());
        assert_eq!(said("profiles.toml is not valid"), signals, "{}", proxy.said());
    }
    // What differs is told of each.
    world.file(".config/alvys-auth/profiles.toml", "");
    proxy.signal("HUP");
    for name in names {
        proxy.says(&format!("there is no profile {name}"));
    }
}

#[test]
fn sighup_reads_the_profiles_anew_and_keeps_a_tenant_whose_profile_broke() {
    let world = World::new();
    world.sandbox.set_lifetime(Duration::from_secs(12));
    let acme = world.profile("acme", &[]);
    world.profile("globex", &[]);
    let proxy = Running::start(&world, serving(&world, &["acme", "globex"]).arg("-v"), 1);
    all_are_served(&proxy, &["acme", "globex"]);
    assert!(world.sandbox.rotate_secret(acme.client_id(), NEXT));
    world.file("acme.secret", NEXT);
    fs::remove_file(world.path("globex.secret")).unwrap();
    reread(&proxy, 1);
    proxy.says("the old settings stay in use");
    all_are_served(&proxy, &["acme", "globex"]);
    assert_eq!(world.asked().len(), 2, "the tokens at hand are good: {:?}", world.asked());

    thread::sleep(Duration::from_secs(12));
    all_are_served(&proxy, &["acme", "globex"]);
    let asked = world.asked();
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert!(asked[2].0.contains(NEXT) && asked.iter().all(|(_, status)| *status == 200), "{asked:?}");
}

#[test]
fn sighup_costs_no_token_and_a_wrong_secret_takes_no_tenant_down_whose_token_is_good() {
    let world = World::new();
    world.profile("acme", &[]);
    world.profile("globex", &[]);
    let proxy = Running::start(&world, serving(&world, &["acme", "globex"]).arg("-v"), 1);
    all_are_served(&proxy, &["acme", "globex"]);
    reread(&proxy, 2);
    all_are_served(&proxy, &["acme", "globex"]);
    world.file("acme.secret", "a-wrong-secret-0123456789");
    reread(&proxy, 4);
    all_are_served(&proxy, &["acme", "globex"]);
    assert_eq!(world.asked().len(), 2, "{:?}", world.asked());
}

#[test]
fn sighup_ends_the_pause_that_refused_credentials_of_a_tenant_began() {
    let world = World::new();
    let acme = world.profile("acme", &[]);
    world.file("acme.secret", "a-wrong-secret-0123456789");
    let proxy = Running::start(&world, serving(&world, &["acme"]).arg("-v"), 1);
    assert_eq!(proxy.get("/t/acme/api/p/v1/loads").status, 502);
    world.file("acme.secret", acme.client_secret());
    reread(&proxy, 1);
    // Nobody looks behind a refusal more than once in five seconds; the pause without a signal is longer each time.
    let began = Instant::now();
    while proxy.get("/t/acme/api/p/v1/loads").status != 200 {
        assert!(began.elapsed() < Duration::from_secs(30), "the new secret is not used");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Profiles whose secrets come from a command that takes as many seconds as the file `slow` says, if there is one.
fn slow_profiles(world: &World, names: &[&str]) {
    for name in names {
        let application = Application::new(format!("client-{name}"), format!("secret-of-{name}-0123456789"), *name);
        world.sandbox.add(application.clone());
        let secret = world.file(&format!("{name}.secret"), application.client_secret());
        let slow = world.path("slow");
        let command = format!("sh -c 'test ! -e {slow} || sleep $(cat {slow}); cat {secret}'");
        let mut add = world.bare(&["profile", "add", name, "--client-id", application.client_id()]);
        add.args(["--token-url", &world.sandbox.token_url(), "--api-base-url", &world.sandbox.api_url()]);
        let added = add.args(["--secret-command", &command]).output().unwrap();
        assert!(added.status.success(), "{added:?}");
    }
}

/// A proxy with these tenants, whose secrets take their time from now on, and the answers when all are called at once.
fn all_at_once(world: &World, names: &[&str], seconds: u32) -> (Running, Vec<(Answer, Duration)>) {
    let proxy = Running::start(world, &mut serving(world, names), 1);
    world.file("slow", &seconds.to_string());
    let call = |name: &str| {
        let began = Instant::now();
        (proxy.get(&format!("/t/{name}/api/p/v1/loads")), began.elapsed())
    };
    let answers = thread::scope(|scope| {
        let calls: Vec<_> = names.iter().map(|name| scope.spawn(move || call(name))).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    fs::remove_file(world.path("slow")).unwrap();
    (proxy, answers)
}

#[test]
fn of_many_secrets_that_come_slowly_some_are_put_off_and_leave_threads_for_everybody_else() {
    let world = World::new();
    let names: Vec<_> = (0..12).map(|n| format!("tenant-{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    slow_profiles(&world, &names);
    let (_proxy, answers) = all_at_once(&world, &names, 1);
    assert!(answers.iter().all(|(answer, _)| answer.status == 200), "whoever can wait, does: {answers:?}");

    let (proxy, answers) = all_at_once(&world, &names, 8);
    let (served, put_off): (Vec<_>, Vec<_>) = answers.iter().partition(|(answer, _)| answer.status == 200);
    assert_eq!((served.len(), put_off.len()), (8, 4), "{answers:?}");
    for (answer, took) in put_off {
        assert!(answer.status == 504 && *took < Duration::from_secs(7), "{answer:?} after {took:?}");
        assert!(answer.body.contains("was not read within 5 s") && answer.body.contains("try again"), "{answer:?}");
    }
    all_are_served(&proxy, &names);
}

#[test]
fn callers_who_go_away_and_come_again_do_not_use_up_the_threads_for_all() {
    let world = World::new();
    slow_profiles(&world, &["slow"]);
    world.profile("acme", &[]);
    let proxy = Running::start(&world, &mut serving(&world, &["slow", "acme"]), 1);
    world.file("slow", "8");
    let hasty = ureq::Agent::config_builder().timeout_global(Some(Duration::from_millis(100))).build();
    let hasty = ureq::Agent::from(hasty);
    for _ in 0..18 {
        let left = hasty.get(format!("{}/t/slow/api/p/v1/loads", proxy.url())).call();
        assert!(matches!(left, Err(ureq::Error::Timeout(_))), "{left:?}");
    }
    let began = Instant::now();
    all_are_served(&proxy, &["acme"]);
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    fs::remove_file(world.path("slow")).unwrap();
    within(|| proxy.get("/t/slow/api/p/v1/loads").status == 200, || proxy.said());
}

#[test]
fn a_command_that_does_not_end_is_what_the_caller_hears_of() {
    let world = World::new();
    slow_profiles(&world, &["acme"]);
    let proxy = Running::start(&world, &mut serving(&world, &["acme"]), 1);
    world.file("slow", "15");
    let answer = proxy.get("/t/acme/api/p/v1/loads");
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(answer.body.contains("profile acme cannot be used"), "{answer:?}");
}

#[test]
fn a_rotated_secret_of_a_tenant_is_found_without_a_signal() {
    let world = World::new();
    world.sandbox.set_lifetime(Duration::from_secs(2));
    let acme = world.profile("acme", &[]);
    let proxy = Running::start(&world, &mut serving(&world, &["acme"]), 1);
    assert_eq!(proxy.get("/t/acme/api/p/v1/loads").status, 200);
    assert!(world.sandbox.rotate_secret(acme.client_id(), NEXT));
    world.file("acme.secret", NEXT);
    thread::sleep(Duration::from_millis(2100));
    assert_eq!(proxy.get("/t/acme/api/p/v1/loads").status, 200);
}

#[test]
fn a_tenant_whose_profile_asks_elsewhere_now_goes_on_with_the_credentials_at_hand() {
    let world = World::new();
    world.sandbox.set_lifetime(Duration::from_secs(2));
    let elsewhere = World::new();
    let acme = world.profile("acme", &[]);
    let proxy = Running::start(&world, &mut serving(&world, &["acme"]), 1);
    assert_eq!(proxy.get("/t/acme/api/p/v1/loads").status, 200);
    let file = world.file("next.secret", NEXT);
    let added = world
        .bare(&["profile", "add", "acme", "--replace", "--client-id", acme.client_id(), "--secret-file", &file])
        .args(["--token-url", &elsewhere.sandbox.token_url(), "--api-base-url", &world.sandbox.api_url()])
        .output();
    assert!(added.unwrap().status.success());
    proxy.signal("HUP");
    proxy.says("restart the proxy");
    // A refusal makes the source read the profile, too.
    thread::sleep(Duration::from_millis(2100));
    world.sandbox.inject(Route::Token, Fault::status(401).once());
    let first = proxy.get("/t/acme/api/p/v1/loads");
    within(|| proxy.get("/t/acme/api/p/v1/loads").status == 200, || format!("after {first:?}"));
    assert!(world.asked().iter().all(|(body, _)| !body.contains(NEXT)), "{:?}", world.asked());
    assert_eq!(elsewhere.asked(), []);
}
