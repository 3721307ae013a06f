//! Credentials from variables: their names, their layers, the files that they name, and every refusal.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use alvys_auth_config::{EnvironmentProvider, Setup, Variables};
use alvys_auth_core::CredentialsProvider;
use alvys_auth_core::{Credentials, Error, ErrorKind, Flow, Given, Mark};

use crate::support::{CANARY, Directory, SECRET, assert_gives, assert_refused, is_unchanged, mark};

mod support;

fn provider<const N: usize>(variables: [(&str, &str); N]) -> EnvironmentProvider {
    EnvironmentProvider::of(Variables::from_iter(variables))
}

fn refused<const N: usize>(variables: [(&str, &str); N], words: &[&str]) {
    assert_refused(provider(variables).current(), words);
}

#[test]
fn a_variable_of_a_programs_own_that_is_empty_is_refused_in_the_first_layer_that_has_it() {
    let lower = || Variables::from_iter([("ALVYS_CA_BUNDLE", " \n"), ("ALVYS_EXTRA_CA", "x")]);
    let names = ["ALVYS_EXTRA_CA", "ALVYS_CLIENT_KEY", "ALVYS_CA_BUNDLE"];
    let error = lower().refuse_empty(&names).unwrap_err();
    assert_eq!((error.kind(), error.what().as_str()), (ErrorKind::Configuration, "ALVYS_CA_BUNDLE is set, but empty"));
    assert!(lower().refuse_empty(&names[..2]).is_ok());
    assert!(Variables::from_iter([("ALVYS_CA_BUNDLE", "y")]).over(lower()).refuse_empty(&names).is_ok());
    assert!(Variables::from_iter([("ALVYS_EXTRA_CA", "")]).over(lower()).refuse_empty(&names[..1]).is_err());
}

#[test]
fn both_spellings_are_read() {
    assert_gives(&provider([("ALVYS_CLIENT_ID", "id"), ("ALVYS_CLIENT_SECRET", SECRET)]), "id", SECRET);
    assert_gives(&provider([("Alvys__ClientId", "id"), ("Alvys__ClientSecret", SECRET)]), "id", SECRET);
    assert_gives(
        &provider([("ALVYS_CLIENT_ID", "id"), ("Alvys__ClientId", "id"), ("ALVYS_CLIENT_SECRET", SECRET)]),
        "id",
        SECRET,
    );
}

#[test]
fn two_names_of_one_value_that_differ_are_refused() {
    refused(
        [("ALVYS_CLIENT_ID", "id"), ("Alvys__ClientId", "other"), ("ALVYS_CLIENT_SECRET", SECRET)],
        &["ALVYS_CLIENT_ID", "Alvys__ClientId", "differ"],
    );
    refused(
        [("ALVYS_CLIENT_ID", "id"), ("ALVYS_CLIENT_SECRET", SECRET), ("Alvys__ClientSecret", "C4n4ry-other")],
        &["ALVYS_CLIENT_SECRET", "Alvys__ClientSecret", "differ"],
    );
}

#[test]
fn a_missing_variable_is_named_with_both_ways_to_set_it() {
    refused([], &["ALVYS_CLIENT_ID is not set", "ALVYS_CLIENT_ID_FILE"]);
    refused([("ALVYS_CLIENT_SECRET", SECRET)], &["ALVYS_CLIENT_ID is not set"]);
    refused([("ALVYS_CLIENT_ID", "id")], &["ALVYS_CLIENT_SECRET is not set", "ALVYS_CLIENT_SECRET_FILE"]);
}

#[test]
fn an_empty_variable_is_not_taken_for_an_unset_one() {
    for name in ["ALVYS_CLIENT_SECRET", "Alvys__ClientSecret", "ALVYS_CLIENT_SECRET_FILE"] {
        for empty in ["", " ", "\n"] {
            refused([("ALVYS_CLIENT_ID", "id"), (name, empty)], &[&format!("{name} is set, but empty")]);
        }
    }
    refused(
        [("ALVYS_CLIENT_ID", "id"), ("ALVYS_CLIENT_SECRET", ""), ("Alvys__ClientSecret", SECRET)],
        &["ALVYS_CLIENT_SECRET is set, but empty"],
    );
}

#[test]
fn a_refused_value_is_told_by_the_names_of_its_variables() {
    let bad = format!("{SECRET}\n");
    refused(
        [("ALVYS_CLIENT_ID", "id"), ("Alvys__ClientSecret", &bad)],
        &["Alvys__ClientSecret", "ends in a line break"],
    );
    refused([("ALVYS_CLIENT_ID", "<id>"), ("ALVYS_CLIENT_SECRET", SECRET)], &["ALVYS_CLIENT_ID", "placeholder"]);
    let reference = format!("${{{CANARY}}}");
    refused([("ALVYS_CLIENT_ID", "id"), ("ALVYS_CLIENT_SECRET", &reference)], &["ALVYS_CLIENT_SECRET", "expanded"]);
}

#[cfg(unix)]
#[test]
fn a_value_that_is_not_utf8_is_refused_by_name() {
    use std::os::unix::ffi::OsStringExt;
    let variables = Variables::new(|name| match name {
        "ALVYS_CLIENT_ID" => Some(OsString::from("id")),
        "ALVYS_CLIENT_SECRET" => Some(OsString::from_vec(b"C4n4ry\xff".to_vec())),
        _ => None,
    });
    let provider = EnvironmentProvider::of(variables);
    assert_refused(provider.current(), &["ALVYS_CLIENT_SECRET is not UTF-8"]);
}

#[test]
fn a_named_file_is_read_without_its_last_line_break_and_again_when_it_changes() {
    let directory = Directory::new();
    let secret = directory.write("secret", format!("{SECRET}\r\n"));
    let id = directory.write("id", "id\n");
    let provider = provider([
        ("ALVYS_CLIENT_ID_FILE", id.to_str().unwrap()),
        ("ALVYS_CLIENT_SECRET_FILE", secret.to_str().unwrap()),
    ]);
    let first = mark(&provider);
    assert_gives(&provider, "id", SECRET);
    assert!(is_unchanged(&provider, first));

    fs::write(&secret, "C4n4ry-rotated").unwrap();
    let rotated = mark(&provider);
    assert_ne!(rotated, first);
    assert_gives(&provider, "id", "C4n4ry-rotated");
    fs::write(&id, "other\n").unwrap();
    assert_ne!(mark(&provider), rotated);
    assert_gives(&provider, "other", "C4n4ry-rotated");
}

#[test]
fn a_value_and_a_file_for_it_contradict_each_other() {
    for name in ["ALVYS_CLIENT_SECRET", "Alvys__ClientSecret"] {
        refused(
            [("ALVYS_CLIENT_ID", "id"), (name, SECRET), ("ALVYS_CLIENT_SECRET_FILE", "/nowhere")],
            &[name, "ALVYS_CLIENT_SECRET_FILE", "both set"],
        );
    }
    refused(
        [("ALVYS_CLIENT_ID", "id"), ("ALVYS_CLIENT_ID_FILE", "/nowhere"), ("ALVYS_CLIENT_SECRET", SECRET)],
        &["ALVYS_CLIENT_ID and ALVYS_CLIENT_ID_FILE are both set"],
    );
}

#[test]
fn a_named_file_that_cannot_be_read_is_told_with_variable_and_path() {
    refused(
        [("ALVYS_CLIENT_ID", "id"), ("ALVYS_CLIENT_SECRET_FILE", "/nowhere/secret")],
        &["ALVYS_CLIENT_SECRET_FILE: cannot read \"/nowhere/secret\""],
    );
    let directory = Directory::new();
    let empty = directory.write("secret", "\n");
    refused(
        [("ALVYS_CLIENT_ID", "id"), ("ALVYS_CLIENT_SECRET_FILE", empty.to_str().unwrap())],
        &["ALVYS_CLIENT_SECRET_FILE", "the client secret is empty"],
    );
}

#[test]
fn an_upper_layer_beats_a_lower_one_under_any_name() {
    let lower =
        || Variables::from_iter([("ALVYS_CLIENT_ID", "lower"), ("ALVYS_CLIENT_SECRET_FILE", "/nowhere/secret")]);
    let flags = Variables::from_iter([("Alvys__ClientSecret", SECRET)]);
    assert_gives(&EnvironmentProvider::of(flags.over(lower())), "lower", SECRET);

    let nothing = Variables::from_iter([("ALVYS_FLOW", "current")]);
    let flags = Variables::from_iter([("ALVYS_CLIENT_ID", "upper"), ("ALVYS_CLIENT_SECRET", SECRET)]);
    assert_gives(&EnvironmentProvider::of(nothing.over(flags).over(lower())), "upper", SECRET);

    let empty = Variables::from_iter([("Alvys__ClientId", "")]);
    let provider = EnvironmentProvider::of(empty.over(lower()));
    assert_refused(provider.current(), &["Alvys__ClientId is set, but empty"]);
}

/// Runs itself with other variables, because a process must not change its own.
#[test]
fn the_environment_of_this_process_is_read() {
    const CHILD: &str = "PROVIDER_TEST_CHILD";
    if env::var_os(CHILD).is_some() {
        for provider in [EnvironmentProvider::new(), EnvironmentProvider::default()] {
            assert_gives(&provider, "id", SECRET);
        }
        let setup = Setup::from_environment().unwrap();
        assert_eq!(setup.flow, Flow::legacy("va336"));
        println!("{setup:?} {:?}", EnvironmentProvider::new());
        return;
    }
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "the_environment_of_this_process_is_read"])
        .env_clear()
        .envs([(CHILD, "1"), ("ALVYS_CLIENT_ID", "id"), ("ALVYS_CLIENT_SECRET", SECRET)])
        .envs([("ALVYS_FLOW", "legacy"), ("ALVYS_TENANT_ID", "va336"), ("ALVYS_TOKEN", "C4n4ry-t0ken")])
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && shown.contains("ALVYS_TOKEN is set and ignored"), "{shown}");
    assert!(!shown.contains(CANARY), "{shown}");
}

#[test]
fn debug_shows_no_value() {
    let shown = format!("{:#?}", provider([("ALVYS_CLIENT_ID", "id"), ("ALVYS_CLIENT_SECRET", SECRET)]));
    assert!(shown.contains("layers: 1") && !shown.contains(CANARY), "{shown}");
}

#[test]
fn credentials_boxes_and_arcs_are_providers() {
    struct Own;
    impl CredentialsProvider for Own {
        fn credentials(&self, known: Option<Mark>) -> Result<Given<Credentials>, Error> {
            Given::unless(known, Mark::new(7), || Credentials::new("own", SECRET))
        }

        fn time_limit(&self) -> Option<Duration> {
            Some(Duration::from_secs(7))
        }
    }
    let fixed = Credentials::new("id", SECRET).unwrap();
    assert_gives(&fixed, "id", SECRET);
    assert!(is_unchanged(&fixed, mark(&fixed)));
    let shared: Arc<dyn CredentialsProvider> = Arc::new(Own);
    let boxed: Box<dyn CredentialsProvider> = Box::new(Arc::clone(&shared));
    for provider in [&shared as &dyn CredentialsProvider, &boxed] {
        assert_gives(provider, "own", SECRET);
        assert!(is_unchanged(provider, Some(Mark::new(7))));
        assert_eq!(provider.time_limit(), Some(Duration::from_secs(7)));
    }
}
