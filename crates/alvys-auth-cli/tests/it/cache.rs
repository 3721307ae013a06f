//! What is kept between two runs: who may read it, and what is taken for none.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::process::Command;

use alvys_auth_sandbox::{Application, DEFAULT_AUDIENCE};

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
    let line = good.iter().position(|byte| *byte == b'\n').unwrap();
    let expires_at = String::from_utf8_lossy(&good).find("expires_at").unwrap() + "expires_at\":1".len();
    for place in [0, expires_at, line, line + 1, line + 20, good.len() - 1] {
        let mut bad = good.clone();
        bad[place] ^= 1;
        fs::write(&path, &bad).unwrap();
        let before = world.sandbox.token_requests();
        world.token(&[]);
        assert_eq!(world.sandbox.token_requests(), before + 1, "byte {place}");
    }
    for bad in [&good[..0], &good[..line], &good[..line + 5], &good[..good.len() - 1], &[b'\n'; 3], &[0xff; 100_000]] {
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
    for path in world.kept("token") {
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
    assert_eq!(world.kept("token").len(), 5);
    assert_eq!(sandbox.token_requests(), 5);

    // What makes no difference to the token does not.
    world.token(&["--encoding", "form"]);
    world.token(&["--audience", DEFAULT_AUDIENCE]);
    assert_eq!(sandbox.token_requests(), 5);

    let application = sandbox.application();
    assert!(sandbox.rotate_secret(application.client_id(), "rotated"));
    world.token(&[]);
    assert_eq!(world.kept("token").len(), 6, "another secret, another file");
}

#[test]
fn where_nothing_can_be_kept_tokens_are_still_had() {
    let world = World::new();
    let file = world.home.path().join("file");
    fs::write(&file, "").unwrap();
    for unusable in [file.as_path(), "/proc/nothing".as_ref()] {
        let quiet = ran(world.command(&["token"]).env("ALVYS_CACHE_DIR", unusable));
        assert_eq!((quiet.code, quiet.stderr.lines().count()), (Some(0), 1), "{quiet:?}");
        assert!(quiet.stdout.starts_with("eyJ") && quiet.stderr.contains("alvys-auth: keeps no tokens"), "{quiet:?}");
        assert!(quiet.stderr.contains("--cache-dir"), "{quiet:?}");
        let told = ran(world.command(&["token", "-v"]).env("ALVYS_CACHE_DIR", unusable));
        let lines = told.stderr.lines().filter(|line| line.contains("keeps no tokens")).count();
        assert_eq!((told.code, lines), (Some(0), 1), "{told:?}");
    }
    let mut homeless = world.command(&["token"]);
    token_of(&ran(homeless.env_remove("HOME").env("XDG_CACHE_HOME", "")));
}

#[test]
fn a_lock_that_cannot_be_had_is_told_of() {
    let world = World::new();
    world.token(&[]);
    let lock = world.kept("lock").pop().unwrap();
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    let ran = world.run(&["token", "--force"]);
    assert_eq!((ran.code, ran.stderr.lines().count()), (Some(0), 1), "{ran:?}");
    assert!(ran.stderr.contains("goes on without a lock"), "{ran:?}");
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
    assert!(ran.stderr.contains("cannot keep the token"), "{ran:?}");
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
fn list_shows_for_whom_and_clear_forgets() {
    let world = World::new();
    assert_eq!(world.run(&["cache", "list"]).stdout, "");
    let token = world.token(&[]);
    let mut listed = world.bare(&["cache", "list"]);
    let text = ran(&mut listed).stdout;
    assert!(text.contains(world.sandbox.application().client_id()) && text.contains("valid for 59 min"), "{text}");
    assert!(!text.contains(&token));
    let json = world.run(&["cache", "list", "--json"]).json();
    assert_eq!(json[0]["token_url"], world.sandbox.token_url());
    assert_eq!(json[0]["audience"], DEFAULT_AUDIENCE);

    let foreign = world.tokens().join("my.token");
    fs::write(&foreign, "somebody else's").unwrap();
    assert_eq!(world.run(&["cache", "clear"]).stdout, "removed 1 token\n");
    assert!(foreign.exists());
    assert_eq!(world.run(&["cache", "list"]).stdout, "");
    assert_ne!(world.token(&[]), token);
}
