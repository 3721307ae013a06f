//! Sidecars and runs of the command that share a token, each a process of its own.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use alvys_auth_sandbox::{Fault, Route};

use crate::support::{Running, World, within};

const LOADS: &str = "/api/p/v1/loads";
const NEXT: &str = "the-next-secret-0123456789";
/// A token that is younger is not given up because of a 401.
const GRACE: Duration = Duration::from_millis(10_100);

impl World {
    /// A run of the command beside the sidecars.
    fn run(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare(arguments);
        command
            .env("ALVYS_CLIENT_ID", self.sandbox.application().client_id())
            .env("ALVYS_CLIENT_SECRET", self.secret())
            .env("ALVYS_TOKEN_URL", self.sandbox.token_url());
        command
    }
}

#[track_caller]
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// The token that a call through each of these goes out with.
#[track_caller]
fn used(world: &World, proxies: &[&Running]) -> Vec<String> {
    let before = world.calls().len();
    for proxy in proxies {
        let answer = proxy.get(LOADS);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let calls = world.calls().into_iter().skip(before).filter(|call| call.status() == Some(200));
    calls.map(|call| call.header("authorization").unwrap().trim_start_matches("Bearer ").to_owned()).collect()
}

#[test]
fn a_run_and_two_sidecars_buy_one_token() {
    let world = World::new();
    world.sandbox.inject(Route::Token, Fault::delay(Duration::from_millis(500)));
    let [one, two] = [(); 2].map(|()| Running::start(&world, &mut world.complete(&[]), 1));
    let token = printed(&mut world.run(&["token"]));
    assert_eq!(used(&world, &[&one, &two]), [token.clone(), token]);
    assert_eq!(world.asked().len(), 1);
    assert_eq!(format!("{}{}", one.said(), two.said()), "");
}

#[test]
fn a_run_with_a_profile_and_a_sidecar_that_serves_it_share_too() {
    let world = World::new();
    world.profile("acme", &[]);
    world.profile("globex", &[]);
    let mut serving = world.complete(&["--serve", "acme", "--serve", "globex"]);
    let proxy = Running::start(&world, &mut serving, 1);
    for profile in ["acme", "globex"] {
        assert_eq!(proxy.get(&format!("/t/{profile}{LOADS}")).status, 200);
        let token = printed(&mut world.bare(&["token", "--profile", profile]));
        assert_eq!(world.calls().last().unwrap().header("authorization"), Some(&*format!("Bearer {token}")));
    }
    assert_eq!(world.asked().len(), 2, "one for each application");
}

#[test]
fn a_rotation_that_one_sidecar_is_told_of_reaches_all() {
    let world = World::new();
    world.sandbox.set_lifetime(Duration::from_secs(8));
    let file = world.file("secret", &world.secret());
    let start = || Running::start(&world, &mut world.proxy(&["-v", "--secret-file", &file]), 1);
    let (one, two) = (start(), start());
    let first = used(&world, &[&one, &two]);
    assert!(first[0] == first[1] && world.asked().len() == 1);

    world.rotate(NEXT);
    world.file("secret", NEXT);
    one.signal("HUP");
    one.says("read the credentials again");
    sleep(Duration::from_millis(8100));
    let second = used(&world, &[&one, &two]);
    assert_eq!(printed(world.run(&["token"]).env("ALVYS_CLIENT_SECRET", NEXT)), second[0]);
    assert_eq!(second[0], second[1]);
    assert!(world.asked().iter().all(|(_, status)| *status == 200), "{:?}", world.asked());
    assert_eq!(world.asked().len(), 2);
}

#[test]
fn a_401_that_one_sidecar_sees_costs_all_one_token() {
    let world = World::new();
    let (one, two) =
        (Running::start(&world, &mut world.complete(&[]), 1), Running::start(&world, &mut world.complete(&[]), 1));
    let old = printed(&mut world.run(&["token"]));
    sleep(GRACE);
    world.sandbox.reject_tokens();
    let new = used(&world, &[&one, &two]);
    assert!(new[0] == new[1] && new[0] != old);
    assert_eq!(printed(&mut world.run(&["token"])), new[0]);
    assert_eq!(world.asked().len(), 2);
}

#[test]
fn what_was_cleared_is_bought_once_more_and_a_running_sidecar_goes_on() {
    let world = World::new();
    let one = Running::start(&world, &mut world.complete(&[]), 1);
    let old = used(&world, &[&one]);
    assert_eq!(printed(&mut world.run(&["cache", "clear"])), "removed 1 token");
    let new = printed(&mut world.run(&["token"]));
    let two = Running::start(&world, &mut world.complete(&[]), 1);
    assert_eq!(used(&world, &[&one, &two]), [old[0].clone(), new]);
    assert_eq!(world.asked().len(), 2);
}

#[test]
fn a_rate_limit_that_a_run_is_told_of_keeps_a_sidecar_from_asking() {
    let world = World::new();
    world.sandbox.inject(Route::Token, Fault::status(429).retry_after(Duration::from_secs(60)));
    let output = world.run(&["token"]).output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    let proxy = Running::start(&world, &mut world.complete(&[]), 1);
    assert_ne!(proxy.get(LOADS).status, 200);
    assert_eq!(world.asked().len(), 1);
}

#[test]
fn a_wait_that_the_api_asks_a_run_for_holds_for_sidecars_and_other_runs() {
    let world = World::new();
    world.sandbox.inject(Route::Api, Fault::status(429).retry_after(Duration::from_secs(120)).once());
    let call = || {
        let mut command = world.run(&["request", "GET", "loads"]);
        command.env("ALVYS_API_BASE_URL", world.sandbox.api_url()).output().unwrap()
    };
    assert_eq!(call().status.code(), Some(75));
    let proxy = Running::start(&world, world.shaped(&[]).env("ALVYS_CLIENT_SECRET", world.secret()), 1);
    assert_eq!(proxy.get(LOADS).status, 429);
    assert_eq!(call().status.code(), Some(75));
    assert_eq!(world.calls().len(), 1, "nobody runs into it again");
}

#[test]
fn a_sidecar_without_a_place_for_files_says_so_once_and_goes_on_alone() {
    let world = World::new();
    let mut homeless = world.complete(&[]);
    let proxy = Running::start(&world, homeless.env("HOME", "/dev/null"), 1);
    used(&world, &[&proxy]);
    let said = proxy.said();
    assert!(said.starts_with("alvys-auth: there is no home directory") && said.lines().count() == 1, "{said}");

    let mut alone = world.complete(&["--store", "none"]);
    let proxy = Running::start(&world, alone.env("HOME", "/dev/null"), 1);
    used(&world, &[&proxy]);
    assert_eq!(proxy.said(), "", "who wants none is told nothing");
    assert_eq!(world.asked().len(), 2);
}

#[test]
fn a_store_that_is_lost_is_told_of_once_and_costs_nobody_a_call() {
    let world = World::new();
    world.sandbox.set_lifetime(Duration::from_secs(2));
    let proxy = Running::start(&world, &mut world.complete(&[]), 1);
    used(&world, &[&proxy]);
    let tokens = world.home.path().join(".cache/alvys-auth/tokens");
    fs::remove_dir_all(&tokens).unwrap();
    fs::write(&tokens, "").unwrap();
    for _ in 0..2 {
        sleep(Duration::from_millis(2100));
        used(&world, &[&proxy]);
    }
    let said = proxy.said();
    assert!(said.starts_with("alvys-auth: the token is not shared now") && said.lines().count() == 1, "{said}");
}

#[test]
fn hosts_share_through_redis_and_each_alone_while_it_is_away() {
    let Some(redis) = Redis::start() else { return };
    let world = World::new();
    let home = |name: &str| {
        let home = world.home.path().join(name);
        fs::create_dir_all(&home).unwrap();
        home
    };
    let url = redis.url.clone();
    let on = |name: &str, command: &mut Command| {
        command.env("HOME", home(name)).env("ALVYS_STORE", &url);
    };
    let mut sidecar = world.complete(&[]);
    on("one", &mut sidecar);
    let proxy = Running::start(&world, &mut sidecar, 1);
    let token = used(&world, &[&proxy]);
    for host in ["one", "two"] {
        let mut run = world.run(&["token"]);
        on(host, &mut run);
        assert_eq!(printed(&mut run), token[0], "{host}");
    }
    assert_eq!(world.asked().len(), 1);
    let mut doctor = world.run(&["doctor", "--json"]);
    on("two", &mut doctor);
    let report = String::from_utf8(doctor.output().unwrap().stdout).unwrap();
    let shown = url.replace(":hunter2@", "");
    assert!(report.contains(&format!("tokens are shared through {shown} (ALVYS_STORE)")), "{report}");
    assert!(!report.contains("hunter2"), "{report}");

    redis.stop();
    let asked = world.asked().len();
    for host in ["two", "two", "three", "three"] {
        let mut run = world.run(&["token"]);
        on(host, &mut run);
        let output = run.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.contains("shares tokens on this host only"), "{output:?}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    assert_eq!(world.asked().len(), asked + 2, "one for each host");
    assert_eq!(used(&world, &[&proxy]), token, "a held token serves on");
}

/// A server of one test; ended when dropped.
struct Redis {
    child: Child,
    url: String,
}

impl Redis {
    fn start() -> Option<Self> {
        let server = std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(server);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--requirepass", "hunter2"]);
        command.args(["--save", "", "--appendonly", "no"]).stdin(Stdio::null()).stdout(Stdio::null());
        let Ok(child) = command.spawn() else {
            let required = std::env::var_os("ALVYS_REQUIRE_REDIS").is_some_and(|value| value == "1");
            assert!(!required, "redis-server is missing, and ALVYS_REQUIRE_REDIS asks for it");
            eprintln!("skipped: there is no redis-server on the path, and REDIS_SERVER does not name it");
            return None;
        };
        let redis = Self { child, url: format!("redis://:hunter2@127.0.0.1:{port}") };
        within(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok(), || "it listens".to_owned());
        Some(redis)
    }

    fn stop(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
