//! What is kept between two runs: who may read it, and what is taken for none.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::process::Command;
use std::time::Duration;

use alvys_auth_sandbox::{Application, DEFAULT_AUDIENCE, Fault, Route};

use crate::support::{World, is_root, mode, ran, set_mode, token_of};

#[test]
fn only_this_user_can_look_in() {
    let world = World::new();
    let token = world.token(&[]);
    assert_eq!(mode(&world.tokens()), 0o700);
    for entry in fs::read_dir(world.tokens()).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    // One that was open to others is closed.
    set_mode(&world.tokens(), 0o755);
    assert_eq!(world.token(&[]), token);
    assert_eq!(mode(&world.tokens()), 0o700);
}

#[test]
fn neither_token_nor_secret_is_there_to_read() {
    let world = World::new();
    let token = world.token(&[]);
    let path = world.kept_token();
    let contents = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
    let parts = token.split('.').chain([world.sandbox.application().client_secret()].map(|_| "org_name"));
    for part in parts.chain([world.secret().as_str(), "access_token"]) {
        assert!(!contents.contains(part), "{contents}");
    }
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(!name.contains(world.sandbox.application().client_id()));
}

#[test]
fn a_changed_file_is_ignored_wherever_it_was_changed() {
    let world = World::new();
    world.token(&[]);
    let path = world.kept_token();
    let good = fs::read(&path).unwrap();
    let text = String::from_utf8(good.clone()).unwrap();
    let after = |name: &str| text.find(&format!("\"{name}\":")).unwrap() + name.len() + "\"\":\"".len();
    let sealed = after("sealed");
    for place in [0, after("format") - 1, after("generation"), sealed, sealed + 20, sealed + 500, good.len() - 1] {
        let mut bad = good.clone();
        bad[place] = if bad[place] == b'1' { b'3' } else { b'1' };
        fs::write(&path, &bad).unwrap();
        let before = world.sandbox.token_requests();
        world.token(&[]);
        assert_eq!(world.sandbox.token_requests(), before + 1, "byte {place}");
    }
    for bad in [&good[..0], &good[..sealed], &good[..sealed + 5], &good[..good.len() - 1], b"\n\n\n", &[0xff; 200_000]]
    {
        fs::write(&path, bad).unwrap();
        let before = world.sandbox.token_requests();
        world.token(&[]);
        assert_eq!(world.sandbox.token_requests(), before + 1);
    }
    fs::write(&path, &good).unwrap();
    let before = world.sandbox.token_requests();
    world.token(&[]);
    assert_eq!(world.sandbox.token_requests(), before, "the unchanged one is good");
}

#[test]
fn a_file_that_others_can_read_is_ignored_and_replaced() {
    let world = World::new();
    let first = world.token(&[]);
    for open in [0o644, 0o640, 0o604, 0o620] {
        set_mode(&world.kept_token(), open);
        assert_ne!(world.token(&[]), first, "{open:o}");
        assert_eq!(mode(&world.kept_token()), 0o600);
    }
}

#[test]
fn a_file_of_somebody_else_is_ignored() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let first = world.token(&[]);
    chown(world.kept_token(), Some(12345), Some(12345)).unwrap();
    assert_ne!(world.token(&[]), first);
    // A directory of somebody else is not used at all.
    chown(world.tokens(), Some(12345), Some(12345)).unwrap();
    for _ in 0..2 {
        let ran = world.run(&["token"]);
        assert_eq!((ran.code, ran.stderr.lines().count()), (Some(0), 1), "{ran:?}");
        assert!(ran.stderr.contains("it is not a directory of this user"), "{ran:?}");
    }
    assert_eq!(world.sandbox.token_requests(), 4);
}

#[test]
fn a_link_or_a_pipe_is_ignored() {
    let world = World::new();
    let first = world.token(&[]);
    let path = world.kept_token();
    let elsewhere = world.home.path().join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    symlink(&elsewhere, &path).unwrap();
    let second = world.token(&[]);
    assert_ne!(second, first);

    fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(&path).status().unwrap().success());
    assert_ne!(world.token(&[]), second);
}

#[test]
fn a_file_under_the_name_of_another_is_ignored() {
    let world = World::new();
    world.token(&[]);
    let first = fs::read(world.kept_token()).unwrap();
    let other = ["--scope", "load:read"];
    world.token(&other);
    for path in world.kept("shared") {
        fs::write(path, &first).unwrap();
    }
    let before = world.sandbox.token_requests();
    world.token(&other);
    assert_eq!(world.sandbox.token_requests(), before + 1);
}

#[test]
fn what_is_asked_differently_is_kept_apart() {
    let world = World::new();
    let sandbox = &world.sandbox;
    // The same secret by chance, or by copying.
    sandbox.add(Application::new("second", world.secret(), "va336"));
    world.token(&[]);
    world.token(&["--scope", "load:read"]);
    token_of(&ran(world.command(&["token"]).env("ALVYS_TOKEN_URL", format!("{}?key=1", sandbox.token_url()))));
    let mut second = world.command(&["token"]);
    token_of(&ran(second.env("ALVYS_CLIENT_ID", "second")));
    let mut legacy = world.command(&["token", "--flow", "legacy", "--tenant", "va336"]);
    token_of(&ran(legacy.env("ALVYS_TOKEN_URL", sandbox.legacy_token_url())));
    assert_eq!(world.kept("shared").len(), 5);
    assert_eq!(sandbox.token_requests(), 5);

    // What makes no difference to the token does not.
    world.token(&["--encoding", "form"]);
    world.token(&["--audience", DEFAULT_AUDIENCE]);
    assert_eq!(sandbox.token_requests(), 5);

    let application = sandbox.application();
    assert!(sandbox.rotate_secret(application.client_id(), "rotated"));
    world.token(&[]);
    assert_eq!(world.kept("shared").len(), 6, "another secret, another file");
}

#[test]
fn where_nothing_can_be_kept_tokens_are_still_had() {
    let world = World::new();
    let file = world.home.path().join("file");
    fs::write(&file, "").unwrap();
    for unusable in [file.as_path(), "/proc/nothing".as_ref()] {
        let quiet = ran(world.command(&["token"]).env("ALVYS_CACHE_DIR", unusable));
        assert_eq!((quiet.code, quiet.stderr.lines().count()), (Some(0), 1), "{quiet:?}");
        assert!(quiet.stdout.starts_with("eyJ"), "{quiet:?}");
        assert!(quiet.stderr.starts_with("alvys-auth: tokens cannot be shared in "), "{quiet:?}");
        assert!(quiet.stderr.contains("--cache-dir"), "{quiet:?}");
        let told = ran(world.command(&["token", "-v"]).env("ALVYS_CACHE_DIR", unusable));
        let lines = told.stderr.lines().filter(|line| line.contains("tokens cannot be shared in ")).count();
        assert_eq!((told.code, lines), (Some(0), 1), "{told:?}");
    }
    // Services often have such a home.
    let homeless = ran(world.command(&["token"]).env("HOME", "/dev/null"));
    assert_eq!((homeless.code, homeless.stderr.lines().count()), (Some(0), 1), "{homeless:?}");
    assert!(homeless.stderr.contains("there is no home directory"), "{homeless:?}");
    // Who wants nothing shared is told nothing.
    for (name, value) in [("ALVYS_STORE", "none"), ("ALVYS_NO_CACHE", "1"), ("ALVYS_STORE", "memory:")] {
        token_of(&ran(world.command(&["token"]).env("HOME", "/dev/null").env(name, value)));
    }
    assert!(!world.tokens().exists());
}

#[test]
fn a_lock_that_cannot_be_had_is_told_of() {
    let world = World::new();
    world.token(&[]);
    let lock = world.tokens().join("lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    let ran = world.run(&["token", "--force"]);
    assert_eq!((ran.code, ran.stderr.lines().count()), (Some(0), 1), "{ran:?}");
    assert!(ran.stderr.contains("alvys-auth: the token is not shared now"), "{ran:?}");
}

#[test]
fn a_read_only_directory_serves_what_it_has() {
    let world = World::new();
    let first = world.token(&[]);
    set_mode(&world.tokens(), 0o500);
    assert_eq!(world.token(&[]), first);
    // For root no directory is read-only: there the token is replaced.
    assert_ne!(world.token(&["--force"]), first);
    set_mode(&world.tokens(), 0o700);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_keeps_the_old_file_and_gives_the_new_token() {
    let world = World::new();
    let first = world.token(&[]);
    let inner = world.command(&["token", "--force", "-v"]);
    // No file may grow beyond 0 bytes; the signal that comes with it is ignored, as on a full disk.
    let script = r#"trap "" XFSZ; ulimit -f 0; exec "$@" | cat"#;
    let mut command = Command::new("bash");
    command.args(["-c", script, "-"]).arg(inner.get_program()).args(inner.get_args()).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = ran(&mut command);
    assert!(ran.stdout.starts_with("eyJ"), "{ran:?}");
    assert_ne!(ran.stdout.trim(), first);
    assert!(ran.stderr.contains("the token is not shared now"), "{ran:?}");
    assert_eq!(world.token(&[]), first, "what was kept is whole");
    let left = fs::read_dir(world.tokens()).unwrap().count();
    assert_eq!(left, 2, "a lock and a token, and nothing half written");
}

#[test]
fn the_directory_is_chosen_by_flag_then_environment() {
    let world = World::new();
    let (flag, environment) = (world.home.path().join("flag"), world.home.path().join("environment"));
    let flag_text = flag.to_str().unwrap();
    ran(world.command(&["token", "--cache-dir", flag_text]).env("ALVYS_CACHE_DIR", &environment));
    assert!(flag.join("tokens").exists() && !environment.exists());
    ran(world.command(&["token"]).env("ALVYS_CACHE_DIR", &environment));
    assert!(environment.join("tokens").exists() && !world.tokens().exists());
}

#[test]
fn list_shows_what_is_there_and_clear_forgets() {
    let world = World::new();
    assert_eq!(world.run(&["cache", "list"]).stdout, "");
    assert!(!world.tokens().exists(), "to look makes nothing");
    let token = world.token(&[]);
    let name = world.kept_token().file_stem().unwrap().to_str().unwrap().to_owned();
    // Without the secret.
    let text = ran(&mut world.bare(&["cache", "list"])).stdout;
    assert!(text.starts_with(&format!("{name}  a token that is valid for 59 min")), "{text}");
    assert!(!text.contains(&token) && text.lines().count() == 1);
    let json = ran(&mut world.bare(&["cache", "list", "--json"])).json();
    assert_eq!((&json[0]["name"], &json[0]["asked_for"]), (&name.into(), &false.into()));
    assert!(json[0]["paused_until"].is_null() && json[0]["expires_at"].as_str().unwrap().ends_with('Z'), "{json}");

    world.sandbox.inject(Route::Token, Fault::status(503).retry_after(Duration::from_secs(60)).once());
    world.run(&["token", "--scope", "load:read"]).failed(75);
    let text = ran(&mut world.bare(&["cache", "list"])).stdout;
    assert!(text.contains("a wait of 59 s") || text.contains("a wait of 1 min 0 s"), "{text}");

    let foreign = world.tokens().join("my.token");
    fs::write(&foreign, "somebody else's").unwrap();
    let first_format = "0123456789abcdef0123456789abcdef";
    let of_first_format =
        ["token", "pause", "lock"].map(|ending| world.tokens().join(format!("{first_format}.{ending}")));
    of_first_format.iter().for_each(|path| fs::write(path, "").unwrap());
    assert_eq!(world.run(&["cache", "clear"]).stdout, "removed 2 tokens\n");
    assert!(foreign.exists());
    assert!(of_first_format.iter().all(|path| !path.exists()), "what an earlier version has left goes too");
    assert_eq!(world.run(&["cache", "list"]).stdout, "");
    assert_ne!(world.token(&[]), token);
}

#[test]
fn the_store_is_chosen_by_flag_then_environment_then_profile() {
    let world = World::new();
    let place = |name: &str| world.home.path().join(name);
    let url = |name: &str| format!("file:{}", place(name).display());
    let (id, secret) = (world.sandbox.application().client_id().to_owned(), world.secret());
    let add = ["profile", "add", "acme", "--client-id", &id, "--store", &url("profile")];
    assert_eq!(ran(&mut world.bare(&add)).code, Some(0));
    let command = |arguments: &[&str], store: Option<&str>| {
        let mut command = world.command(&["token", "--profile", "acme"]);
        command.args(arguments).env("ALVYS_CLIENT_SECRET", &secret);
        command.envs(store.map(|name| ("ALVYS_STORE", url(name))));
        token_of(&ran(&mut command))
    };
    let [flag, environment, profile] = [
        command(&["--store", &url("flag")], Some("environment")),
        command(&[], Some("environment")),
        command(&[], None),
    ];
    assert_eq!(world.sandbox.token_requests(), 3);
    for (name, token) in [("flag", flag), ("environment", environment), ("profile", profile)] {
        assert_eq!(fs::read_dir(place(name)).unwrap().count(), 2, "{name}: a lock and a token");
        assert_eq!(command(&["--store", &url(name)], None), token, "{name}");
        let listed = ran(world.bare(&["cache", "list"]).env("ALVYS_STORE", url(name)));
        assert!(listed.stdout.contains("valid for"), "{name}: {listed:?}");
    }
    assert!(!world.tokens().exists());
    // file: is the directory of this user, whatever the profile says.
    command(&["--store", "file:"], None);
    assert_eq!(world.kept("shared").len(), 1);
    assert_ne!(command(&["--no-cache"], None), command(&["--no-cache"], None));
}

#[test]
fn a_url_that_names_no_store_is_a_wrong_setting_and_is_not_repeated() {
    let world = World::new();
    for url in [
        "files",
        "file:tokens",
        "file:hunter2/tokens",
        "http://hunter2@localhost",
        "redis://:hunter2@host:port",
        "redis://user:hunter2@/0?pass=hunter2",
        "None",
    ] {
        let told = ran(world.command(&["token"]).env("ALVYS_STORE", url));
        let said = told.failed(78);
        assert!(
            said.contains("ALVYS_STORE") && said.contains("file:/path") && !said.contains("hunter2"),
            "{url}: {said}"
        );
        let told = world.run(&["doctor", "--store", url]);
        assert_eq!(told.code, Some(78), "{url}");
        assert!(!format!("{told:?}").contains("hunter2"), "{told:?}");
    }
    let both = world.run(&["token", "--store", "none", "--no-cache"]);
    assert!(both.failed(2).contains("cannot be used together"), "{both:?}");
}

#[test]
fn a_store_in_the_network_that_is_away_is_told_of_and_the_host_shares_on() {
    let world = World::new();
    // Nobody listens there.
    let url = "redis://:hunter2@127.0.0.1:1";
    let away = || ran(world.command(&["token"]).env("ALVYS_STORE", url));
    let first = away();
    assert_eq!((first.code, first.stderr.lines().count()), (Some(0), 1), "{first:?}");
    let said = "alvys-auth: shares tokens on this host only: the store cannot be used";
    assert!(first.stderr.starts_with(said) && !first.stderr.contains("hunter2"), "{first:?}");
    assert_eq!(away().stdout, first.stdout, "the files of the host have it");
    assert_eq!(world.sandbox.token_requests(), 1);
    let seen = ran(world.command(&["token", "--store", url, "-vv"]).env_remove("ALVYS_STORE"));
    assert!(seen.stderr.contains("other users of this machine can see arguments"), "{seen:?}");
    assert!(!seen.stderr.contains("hunter2"), "{seen:?}");
}
