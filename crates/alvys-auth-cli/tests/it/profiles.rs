//! Named settings.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use crate::support::{Ran, World, mode, ran, ran_with, set_mode, spawned, token_of};

fn done(world: &World, arguments: &[&str]) -> Ran {
    let ran = ran(&mut world.bare(arguments));
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    ran
}

/// Adds a profile that leads to the sandbox, its secret in a private file.
fn add(world: &World, name: &str) {
    let client_id = world.sandbox.application().client_id().to_owned();
    let url = world.sandbox.token_url();
    let mut command = world.bare(&[
        "profile",
        "add",
        name,
        "--client-id",
        &client_id,
        "--token-url",
        &url,
        "--secret-stdin",
        "--insecure-secret-file",
    ]);
    let ran = ran_with(&mut command, &world.secret());
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", ""));
}

#[test]
fn profiles_that_others_can_write_are_refused() {
    let world = World::new();
    add(&world, "production");
    let file = world.profiles_file();
    for (chosen, is_fine) in [(0o644, true), (0o664, false), (0o646, false), (0o600, true)] {
        set_mode(&file, chosen);
        let ran = ran(&mut world.bare(&["token", "--profile", "production"]));
        if is_fine {
            token_of(&ran);
        } else {
            assert!(ran.failed(78).contains("other users of this machine can write"), "{ran:?}");
            assert!(ran.stderr.contains("chmod go-w"), "{ran:?}");
        }
    }
}

#[test]
fn a_profile_is_all_that_is_needed() {
    let world = World::new();
    add(&world, "production");
    let token = token_of(&ran(&mut world.bare(&["token", "--profile", "production"])));
    ran(&mut world.bare(&["token"])).failed(78);
    done(&world, &["profile", "use", "production"]);
    assert_eq!(token_of(&ran(&mut world.bare(&["token"]))), token);

    let listed = done(&world, &["profile", "list"]).stdout;
    assert!(listed.starts_with("* production  "), "{listed}");
    let json = done(&world, &["profile", "list", "--json"]).json();
    assert_eq!((&json[0]["name"], &json[0]["default"]), (&"production".into(), &true.into()));
    assert!(!listed.contains(&world.secret()) && !json.to_string().contains(&world.secret()));
}

#[test]
fn secrets_stay_out_of_the_profiles_and_go_with_them() {
    let world = World::new();
    add(&world, "qa");
    let file = world.profiles_file();
    assert!(!fs::read_to_string(&file).unwrap().contains(&world.secret()));
    let secret = file.with_file_name("secrets").join("qa");
    assert_eq!(fs::read_to_string(&secret).unwrap(), world.secret());
    assert_eq!((mode(&secret), mode(secret.parent().unwrap()), mode(&file)), (0o600, 0o700, 0o600));

    done(&world, &["profile", "use", "qa"]);
    done(&world, &["profile", "remove", "qa"]);
    assert!(!secret.exists());
    assert_eq!(done(&world, &["profile", "list"]).stdout, "");
    assert!(!fs::read_to_string(&file).unwrap().contains("qa"), "it is the default no more");
}

#[test]
fn a_replaced_profile_leaves_no_secret_behind() {
    let world = World::new();
    add(&world, "qa");
    let secret = world.profiles_file().with_file_name("secrets").join("qa");
    assert!(secret.exists());
    let mut unkept = world.bare(&["profile", "add", "qa", "--replace", "--client-id", "other", "--secret-stdin"]);
    ran_with(&mut unkept, "another secret").failed(78);
    assert_eq!(fs::read_to_string(&secret).unwrap(), world.secret(), "what failed has changed nothing");
    done(&world, &["profile", "add", "qa", "--replace", "--secret-command", "pass show alvys"]);
    assert!(!secret.exists());

    done(&world, &["profile", "add", "qa", "--replace", "--secret-file", "/run/secrets/alvys"]);
    let mut kept = world.bare(&["profile", "add", "qa", "--replace", "--secret-stdin", "--insecure-secret-file"]);
    assert_eq!(ran_with(&mut kept, "another secret").code, Some(0));
    assert_eq!(fs::read_to_string(&secret).unwrap(), "another secret");
}

#[test]
fn a_link_to_the_file_stays_one() {
    let world = World::new();
    let (file, elsewhere) = (world.profiles_file(), world.home.path().join("dotfiles.toml"));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&elsewhere, "").unwrap();
    symlink(&elsewhere, &file).unwrap();
    done(&world, &["profile", "add", "one"]);
    assert!(fs::symlink_metadata(&file).unwrap().is_symlink());
    assert!(fs::read_to_string(&elsewhere).unwrap().contains("one"));
}

#[test]
fn a_secret_elsewhere_is_referred_to() {
    let world = World::new();
    let file = world.home.path().join("mounted");
    fs::write(&file, world.secret()).unwrap();
    let client_id = world.sandbox.application().client_id().to_owned();
    let url = world.sandbox.token_url();
    let common = ["--client-id", &client_id, "--token-url", &url];
    let mut by_file = world.bare(&["profile", "add", "file", "--secret-file", "mounted"]);
    assert_eq!(ran(by_file.args(common).current_dir(world.home.path())).code, Some(0));
    let command = format!("cat '{}'", file.display());
    assert_eq!(
        ran(world.bare(&["profile", "add", "command", "--secret-command", &command]).args(common)).code,
        Some(0)
    );
    let token = token_of(&ran(&mut world.bare(&["token", "--profile", "file"])));
    assert_eq!(token_of(&ran(&mut world.bare(&["token", "--profile", "command"]))), token);
    done(&world, &["profile", "remove", "file"]);
    assert!(file.exists(), "a file that is only referred to stays");
}

#[test]
fn parallel_edits_all_count() {
    let world = World::new();
    let names: BTreeSet<String> = (0..30).map(|number| format!("tenant-{number}")).collect();
    let spawn = |name: &String| spawned(&mut world.bare(&["profile", "add", name, "--client-id", name]));
    let children: Vec<_> = names.iter().map(spawn).collect();
    for child in children {
        let ran = Ran::from(child.wait_with_output().unwrap());
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    }
    let json = done(&world, &["profile", "list", "--json"]).json();
    let listed: BTreeSet<String> =
        json.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().into()).collect();
    assert_eq!(listed, names);
}

#[test]
fn what_people_wrote_into_the_file_stays() {
    let world = World::new();
    let file = world.profiles_file();
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "# ours\ndefault = \"one\" # for now\n\n[profiles.one]\nclient_id = \"id-1\"   # mine\n").unwrap();
    done(&world, &["profile", "add", "two", "--client-id", "id-2", "--flow", "legacy", "--tenant", "va336"]);
    done(&world, &["profile", "use", "two"]);
    let text = fs::read_to_string(&file).unwrap();
    for kept in ["# ours", "# for now", "client_id = \"id-1\"   # mine", "[profiles.two]", "default = \"two\""] {
        assert!(text.contains(kept), "{kept}: {text}");
    }
}

#[test]
fn a_wrong_file_is_named_with_its_line_and_not_quoted() {
    let world = World::new();
    add(&world, "good");
    let file = world.profiles_file();
    let good = fs::read_to_string(&file).unwrap();
    for bad in ["client_secret = \"hunter2\"\n", "flow = hunter2\n", "client_id = 7 # hunter2\n", "\"hunter2\n"] {
        fs::write(&file, format!("[profiles.bad]\n{bad}")).unwrap();
        for arguments in [vec!["token"], vec!["profile", "list"], vec!["profile", "add", "new"]] {
            let ran = ran(&mut world.bare(&arguments));
            assert!(ran.failed(78).contains("profiles.toml is not valid in line "), "{ran:?}");
            assert!(!ran.stderr.contains("hunter2"), "{ran:?}");
        }
    }
    fs::write(&file, good).unwrap();
    done(&world, &["profile", "list"]);
}

#[test]
fn without_a_keychain_nothing_is_added_and_the_ways_out_are_named() {
    let world = World::new();
    let ran =
        ran_with(&mut world.bare(&["profile", "add", "new", "--client-id", "my-client", "--secret-stdin"]), "s3cret");
    let stderr = ran.failed(78);
    assert!(stderr.contains("keychain") && stderr.contains("--insecure-secret-file"), "{stderr}");
    assert_eq!(done(&world, &["profile", "list"]).stdout, "");
}

/// The command in a session with a keychain of its own, where there are programs for that.
fn with_a_keychain(world: &World, arguments: &[&str]) -> Command {
    let bare = world.bare(arguments);
    let mut command = Command::new("sh");
    // The bus and the keychain say things of their own, which are not the command's.
    let unlocked = "printf pw | gnome-keyring-daemon --unlock --components=secrets >&2; exec \"$@\" 2>&3";
    let alone = "exec 3>&2 2>/dev/null; exec dbus-run-session -- sh -c \"$0\" sh \"$@\"";
    command.args(["-c", alone, unlocked]).arg(bare.get_program()).args(bare.get_args());
    command.env_clear().env("HOME", world.home.path()).env("XDG_RUNTIME_DIR", world.home.path());
    command.env("PATH", std::env::var("PATH").unwrap()).stdin(Stdio::null());
    command
}

#[test]
fn a_keychain_keeps_the_secret_of_a_profile() {
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !there("dbus-run-session") || !there("gnome-keyring-daemon") {
        eprintln!("skipped: there is no keychain here");
        return;
    }
    let world = World::new();
    let (id, url) = (world.sandbox.application().client_id().to_owned(), world.sandbox.token_url());
    let add = ["profile", "add", "one", "--client-id", &id, "--token-url", &url, "--secret-stdin", "--replace"];
    let token = || ran(&mut with_a_keychain(&world, &["token", "--profile", "one", "--no-cache"]));
    assert_eq!(ran_with(&mut with_a_keychain(&world, &add), "wrong").code, Some(0));
    token().failed(77);
    assert_eq!(ran_with(&mut with_a_keychain(&world, &add), &world.secret()).code, Some(0));
    token_of(&token());
    assert_eq!(ran(&mut with_a_keychain(&world, &["profile", "remove", "one"])).code, Some(0));
    fs::write(world.profiles_file(), format!("[profiles.one]\nclient_id = \"{id}\"\nkeychain = true\n")).unwrap();
    assert!(token().failed(78).contains("the keychain has no secret for profile one"));
}

#[test]
fn names_are_checked_and_nothing_is_replaced_by_accident() {
    let world = World::new();
    for name in ["", "a b", "../up", "a/b", "é", &"x".repeat(65)] {
        ran(&mut world.bare(&["profile", "add", name])).failed(2);
    }
    done(&world, &["profile", "add", "one", "--client-id", "first"]);
    assert!(ran(&mut world.bare(&["profile", "add", "one"])).failed(78).contains("already"));
    done(&world, &["profile", "add", "one", "--client-id", "second", "--replace"]);
    assert_eq!(done(&world, &["profile", "list", "--json"]).json()[0]["client_id"], "second");
    for action in ["use", "remove"] {
        ran(&mut world.bare(&["profile", action, "nobody"])).failed(78);
    }
}

#[test]
fn a_profiles_secret_does_not_travel_with_another_client_id() {
    let world = World::new();
    add(&world, "one");
    let ran = ran(world.bare(&["token", "--profile", "one"]).env("ALVYS_CLIENT_ID", "somebody-else"));
    assert!(ran.failed(78).contains("the secret of profile one belongs to another"), "{ran:?}");
    let beaten = ran_verbose(&world);
    assert!(beaten.contains("ALVYS_CLIENT_ID is set and used instead of the client id of profile one"), "{beaten}");
    assert_eq!(world.sandbox.token_requests(), 0);
}

/// What is said when the environment has credentials of its own beside the profile.
fn ran_verbose(world: &World) -> String {
    let mut command = world.bare(&["token", "--profile", "one", "-v", "--token-url", "https://"]);
    ran(command.env("ALVYS_CLIENT_ID", "somebody-else").env("ALVYS_CLIENT_SECRET", "s3cret")).stderr
}
