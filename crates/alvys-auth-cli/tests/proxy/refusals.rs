//! Command lines and settings that make no proxy: a code, two lines, and nothing on stdout.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::support::{World, exists, failed};

#[test]
fn a_value_that_is_none_is_a_usage_error() {
    let world = World::new();
    for (flag, value) in [
        ("--listen", "nonsense"),
        ("--listen", "unix:"),
        ("--health", "8351"),
        ("--name", "http://proxy.internal"),
        ("--name", "proxy.internal:8350"),
        ("--name", ""),
        ("--most-at-once", "0"),
        ("--most-at-once", "many"),
        ("--longest-body", "1k"),
        ("--patience", "soon"),
        ("--flow", "other"),
    ] {
        let said = failed(&mut world.complete(&[flag, value]), 2);
        assert!(said.contains(flag), "{said}");
    }
    let said = failed(&mut world.complete(&["--most-at-once", "0"]), 2);
    assert!(said.contains("at least 1"), "{said}");
    let said = failed(&mut world.complete(&["--secret", "s3cret"]), 2);
    assert!(said.contains("No flag takes a secret"), "{said}");
}

#[test]
fn a_setting_that_does_not_do_is_a_configuration_error() {
    let world = World::new();
    let refused = |arguments: &[&str], words: &str| {
        let said = failed(&mut world.complete(arguments), 78);
        assert!(said.contains(words), "{words:?} in {said}");
    };
    refused(&["--key-file", "/nonexistent"], "cannot read \"/nonexistent\"");
    refused(&["--key-file", &world.file("short", "key\n")], "at least 16");
    refused(&["--key-file", &world.file("empty", "")], "at least 16");
    let open = world.file("open", "a-key-of-24-characters-x");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o666)).unwrap();
    refused(&["--key-file", &open], "chmod go-w");
    refused(&["--secret-file", &open], "chmod go-w");
    refused(&["--allow-path", "reports"], "not a plain path");
    for empty in ["", " ", "\n"] {
        let said = failed(world.complete(&[]).env("ALVYS_PROXY_KEY", empty), 78);
        assert!(said.contains("ALVYS_PROXY_KEY is set, but empty"), "{said}");
    }
    refused(&["--mcp-url", "http://mcp.example.com/mcp"], "https");
    refused(&["--mcp-url", "nonsense"], "MCP server");
    refused(&["--ca-bundle", "/nonexistent"], "CA bundle");
    refused(&["--ca-bundle", &world.file("no.pem", "hello")], "CA bundle");
    refused(&["--api-base-url", "http://api.example.com"], "unencrypted");
    refused(&["--token-url", "http://auth.example.com/token"], "https");
    refused(&["--profile", "nobody"], "there is no profile nobody");
    refused(&["--serve", "nobody"], "there is no profile nobody");
    refused(&["--listen", "unix:/nonexistent/proxy.sock"], "cannot listen at unix:/nonexistent/proxy.sock");
    refused(&["--store", "files"], "the URL of the store");
    refused(&["--store", "file:tokens"], "file:/path");
    refused(&["--secret-command", "false"], "\"false\" failed");
    failed(world.complete(&[]).env("ALVYS_PROXY_KEY", "short"), 78);
    failed(&mut world.proxy(&[]), 78);
    failed(&mut world.proxy(&["--secret-stdin"]), 78);
    assert_eq!(world.asked(), [], "nobody was asked for anything");
}

#[test]
fn advice_about_a_setting_is_given_once() {
    let world = World::new();
    let said = failed(world.complete(&[]).env("ALVYS_API_BASE_URL", "http://example.com/api"), 78);
    let (what, todo) = said.split_once('\n').unwrap();
    assert_eq!(what, "alvys-auth: ALVYS_API_BASE_URL: the API base would send secrets unencrypted");
    assert!(todo.starts_with("Use https; plain http is allowed only to"), "{said}");
}

#[test]
fn beyond_this_machine_takes_the_flag_and_a_key() {
    let world = World::new();
    let key = "0123456789abcdef";
    let everywhere = ["--listen", "0.0.0.0:0"];
    let said = failed(world.complete(&everywhere).env("ALVYS_PROXY_KEY", key), 78);
    assert!(said.contains("--expose"), "{said}");
    let said = failed(world.complete(&everywhere).arg("--expose"), 78);
    assert!(said.contains("--key-file"), "{said}");
    failed(&mut world.complete(&["--expose"]), 78);
}

#[test]
fn a_port_in_use_ends_it_and_leaves_no_socket_behind() {
    let world = World::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let socket = world.path("proxy.sock");
    let place = format!("unix:{socket}");
    let said = failed(&mut world.complete(&["--listen", &place, "--listen", &address]), 78);
    assert!(said.contains("in use"), "{said}");
    assert!(!exists(&socket));
    failed(&mut world.complete(&["--health", &address]), 78);
}

#[test]
fn a_signal_ends_a_run_that_waits_for_the_secret() {
    let world = World::new();
    let mut child = world.proxy(&["--secret-stdin"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "it waits");
    // Not INT, which a shell has its background jobs ignore, and their children.
    let killed = std::process::Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status();
    assert!(killed.unwrap().success());
    crate::support::within(|| child.try_wait().unwrap().is_some(), || "it ends".to_owned());
}

#[test]
fn the_examples_of_services_use_flags_that_there_are() {
    let world = World::new();
    let deploy = |name: &str| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/deploy/");
        fs::read_to_string(format!("{path}{name}")).unwrap()
    };
    let unit = deploy("alvys-auth-proxy.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=alvys-auth ")).unwrap();
    let mut lists = vec![line.split(' ').map(str::to_owned).collect::<Vec<_>>()];
    for manifest in ["kubernetes-sidecar.yaml", "kubernetes/deployment.yaml"].map(deploy) {
        let list = manifest.lines().find_map(|line| line.trim().strip_prefix("args: ")).unwrap();
        lists.push(serde_json::from_str(list).unwrap());
    }
    for arguments in lists {
        assert_eq!(arguments[0], "proxy");
        let output = world.bare(&[]).args(&arguments).arg("--help").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
    }
}
