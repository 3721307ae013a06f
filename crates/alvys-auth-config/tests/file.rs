//! Credentials from files: the formats, what counts as a change, and every refusal.

use std::fs;

use alvys_auth_config::FileProvider;
use alvys_auth_core::Credentials;
use alvys_auth_core::CredentialsProvider;

use crate::support::{CANARY, Directory, SECRET, assert_gives, assert_refused, is_unchanged, mark};

mod support;

/// What a file with these contents gives.
fn both(contents: impl AsRef<[u8]>) -> Result<Credentials, alvys_auth_core::Error> {
    FileProvider::new(Directory::new().write("alvys", contents)).current()
}

#[test]
fn json_is_read() {
    for contents in [
        r#"{"client_id":"id","client_secret":"C4n4ry-s3cret"}"#,
        "\u{feff} \n{ \"note\": [1], \"client_secret\": \"C4n4ry\\u002ds3cret\",\r\n \"client_id\": \"id\" }\n",
    ] {
        assert_eq!(both(contents).unwrap(), Credentials::new("id", SECRET).unwrap(), "{contents}");
    }
}

#[test]
fn lines_are_read_literally() {
    for (contents, secret) in [
        ("ALVYS_CLIENT_ID=id\nALVYS_CLIENT_SECRET=C4n4ry", "C4n4ry"),
        (
            "\u{feff}# both\r\n\r\nexport ALVYS_CLIENT_ID = id\r\nALVYS_CLIENT_SECRET=\"C4n4ry\"\r\nOTHER=a b\r\n",
            "C4n4ry",
        ),
        ("Alvys__ClientId=id\nAlvys__ClientSecret='C4n4ry \"\\$X #'\n", "C4n4ry \"\\$X #"),
        ("ALVYS_CLIENT_ID=id\nALVYS_CLIENT_SECRET=C4n4ry$HOME#\\n=='\"\n", "C4n4ry$HOME#\\n=='\""),
        ("ALVYS_CLIENT_ID=id\nAlvys__ClientId=id\nALVYS_CLIENT_SECRET=\"C4n4ry 'x'\"", "C4n4ry 'x'"),
    ] {
        assert_eq!(both(contents).unwrap(), Credentials::new("id", secret).unwrap(), "{contents}");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_told_without_its_contents() {
    let long = format!("# {}\n", CANARY.repeat(20_000));
    for (contents, words) in [
        ("", "is empty"),
        ("\u{feff} \n", "is empty"),
        (SECRET, "its line 1 is not NAME=value"),
        ("ALVYS_CLIENT_ID=id\n\nC4n4ry\n", "its line 3 is not NAME=value"),
        ("ALVYS_CLIENT_SECRET=C4n4ry", "has no ALVYS_CLIENT_ID"),
        ("ALVYS_CLIENT_ID=id\nALVYS_CLIENT_SECRET_FILE=C4n4ry", "has no ALVYS_CLIENT_SECRET"),
        ("ALVYS_CLIENT_ID=id\nALVYS_CLIENT_SECRET=C4n4ry # the new one", "in line 2 with white space"),
        ("ALVYS_CLIENT_ID=id\nALVYS_CLIENT_SECRET=\"C4n4ry", "in line 2 that begins with a quote but does not end"),
        ("ALVYS_CLIENT_ID=id\nALVYS_CLIENT_SECRET=\"", "in line 2 that begins with a quote but does not end"),
        ("ALVYS_CLIENT_ID=id\nALVYS_CLIENT_SECRET='C4n4ry' # x", "does not end with the same quote"),
        ("ALVYS_CLIENT_ID=id\nALVYS_CLIENT_SECRET=\"C4n4ry\\n\"", "put the value in single quotes"),
        ("ALVYS_CLIENT_ID=id\nALVYS_CLIENT_SECRET=\"C4n\"4ry\"", "put the value in single quotes"),
        (
            "ALVYS_CLIENT_SECRET=C4n4ry\nALVYS_CLIENT_ID=id\nAlvys__ClientSecret=C4n4ry2",
            "has two different values for ALVYS_CLIENT_SECRET, the second in line 3",
        ),
        ("ALVYS_CLIENT_ID=id\nALVYS_CLIENT_SECRET=", "the client secret is empty"),
        ("ALVYS_CLIENT_ID=id\nALVYS_CLIENT_SECRET=op://C4n4ry", "1Password"),
        ("{\"client_id\": \"id\",\n \"client_secret\": \"C4n4ry", "not valid JSON at line 2"),
        ("{\"client_id\": \"id\", \"client_secret\": \"C4n4ry\"} C4n4ry", "not valid JSON"),
        ("{\"client_id\": \"id\", \"client_secret\": [\"C4n4ry\"]}", "not a string"),
        ("{\"client_id\": \"id\", \"client_secret\": \"a\", \"client_secret\": \"C4n4ry\"}", "twice"),
        ("{\"client_id\": \"id\", \"clientSecret\": \"C4n4ry\"}", "has no client_secret"),
        ("{\"client_id\": null, \"client_secret\": \"C4n4ry\"}", "has no client_id"),
        ("{\"client_id\": \"id\", \"client_secret\": \" C4n4ry\"}", "begins or ends with white space"),
        (long.as_str(), "is longer than 64 KiB"),
    ] {
        let directory = Directory::new();
        let path = directory.write("alvys", contents);
        let error = assert_refused(FileProvider::new(&path).current(), &[words]);
        assert!(error.to_string().contains(&format!("{path:?}")), "{error}");
    }
}

#[test]
fn text_in_another_encoding_is_refused() {
    assert_refused(both(b"\xff\xfe{\0C4n4ry"), &["is not UTF-8 text", "UTF-16"]);
    let directory = Directory::new();
    let path = directory.write("secret", b"C4n4ry\xe4");
    assert_refused(FileProvider::secret("id", path).current(), &["is not UTF-8 text"]);
}

#[test]
fn a_file_of_exactly_the_limit_is_read() {
    let head = "ALVYS_CLIENT_ID=id\nALVYS_CLIENT_SECRET=C4n4ry\n#";
    assert!(both(format!("{head}{}", "x".repeat(64 * 1024 - head.len()))).is_ok());
    assert_refused(both(format!("{head}{}", "x".repeat(64 * 1024 - head.len() + 1))), &["64 KiB"]);
}

#[test]
fn a_secret_may_stand_alone() {
    let directory = Directory::new();
    for contents in ["C4n4ry-s3cret", "C4n4ry-s3cret\n", "C4n4ry-s3cret\r\n", "\u{feff}C4n4ry-s3cret\n\n"] {
        let path = directory.write("client_secret", contents);
        assert_gives(&FileProvider::secret("id", &path), "id", SECRET);
        let id = directory.write("client_id", "id\n");
        assert_gives(&FileProvider::pair(id, path), "id", SECRET);
    }
    let bad = directory.write("client_secret", format!(" {SECRET}"));
    assert_refused(FileProvider::secret("id", &bad).current(), &["client_secret\": the client secret begins"]);
    assert_refused(FileProvider::secret("<id>", &bad).current(), &["the client id is still a placeholder"]);
    let id = directory.write("client_id", "");
    assert_refused(FileProvider::pair(id, bad).current(), &["client_id\"", "the client id is empty"]);
}

#[test]
fn every_way_to_change_a_file_is_noticed() {
    let directory = Directory::new();
    let path = directory.write("secret", "C4n4ry-1");
    let provider = FileProvider::secret("id", &path);
    let mut seen = vec![mark(&provider)];
    let mut changed = |what: &str| {
        let now = mark(&provider);
        assert!(!seen.contains(&now), "{what}");
        assert!(now.is_none() || is_unchanged(&provider, now), "{what}, and no change since");
        seen.push(now);
    };

    fs::write(&path, "C4n4ry-22").unwrap();
    changed("written in place");
    fs::rename(directory.write("new", "C4n4ry-33"), &path).unwrap();
    changed("replaced by a file of the same length");
    fs::remove_file(&path).unwrap();
    changed("removed");
    assert_refused(provider.current(), &["cannot read", "secret\"", "check that the file exists"]);
    fs::write(&path, "C4n4ry-444").unwrap();
    changed("there again");
    assert_gives(&provider, "id", "C4n4ry-444");
}

#[test]
fn a_change_of_either_file_of_a_pair_is_noticed() {
    let directory = Directory::new();
    let (id, secret) = (directory.write("id", "id"), directory.write("secret", "C4n4ry-1"));
    let provider = FileProvider::pair(&id, &secret);
    let first = mark(&provider);
    fs::write(&id, "other").unwrap();
    let second = mark(&provider);
    assert_ne!(second, first);
    fs::write(&secret, "C4n4ry-22").unwrap();
    assert_ne!(mark(&provider), second);
    assert_gives(&provider, "other", "C4n4ry-22");
}

#[cfg(unix)]
#[test]
fn a_file_of_the_same_length_and_date_is_told_apart() {
    let directory = Directory::new();
    let path = directory.write("secret", "C4n4ry-1");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let provider = FileProvider::secret("id", &path);
    let seen = mark(&provider);
    let new = directory.write("new", "C4n4ry-2");
    fs::File::options().write(true).open(&new).unwrap().set_modified(modified).unwrap();
    fs::rename(new, &path).unwrap();
    let replaced = mark(&provider);
    assert_ne!(replaced, seen);

    // Longer than the granularity of the file system's clock.
    std::thread::sleep(std::time::Duration::from_millis(50));
    fs::write(&path, "C4n4ry-3").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    assert_ne!(mark(&provider), replaced, "written in place and dated back");
}

/// Kubernetes mounts `secret -> ..data/secret` and `..data -> ..2026_01_01`, and renames another `..data` over it.
#[cfg(unix)]
#[test]
fn a_swapped_directory_of_a_mounted_secret_is_noticed() {
    use std::os::unix::fs::symlink;
    let directory = Directory::new();
    for (version, secret) in [("..1", "C4n4ry-1"), ("..2", "C4n4ry-2")] {
        fs::create_dir(directory.path(version)).unwrap();
        directory.write(&format!("{version}/client_id"), "id");
        directory.write(&format!("{version}/client_secret"), secret);
    }
    symlink("..1", directory.path("..data")).unwrap();
    for name in ["client_id", "client_secret"] {
        symlink(format!("..data/{name}"), directory.path(name)).unwrap();
    }
    let provider = FileProvider::pair(directory.path("client_id"), directory.path("client_secret"));
    let seen = mark(&provider);
    assert_gives(&provider, "id", "C4n4ry-1");

    symlink("..2", directory.path("..data_tmp")).unwrap();
    fs::rename(directory.path("..data_tmp"), directory.path("..data")).unwrap();
    assert_ne!(mark(&provider), seen);
    assert_gives(&provider, "id", "C4n4ry-2");
}

#[test]
fn two_sources_that_share_a_provider_both_notice_a_change() {
    let directory = Directory::new();
    let path = directory.write("secret", "C4n4ry-1");
    let provider = FileProvider::secret("id", &path);
    let (first, second) = (mark(&provider), mark(&provider));
    fs::write(&path, "C4n4ry-22").unwrap();
    assert_ne!(mark(&provider), first);
    assert_gives(&provider, "id", "C4n4ry-22");
    assert_ne!(mark(&provider), second, "the first one's reading does not hide it from the second");
}

#[test]
fn only_regular_files_are_read() {
    let directory = Directory::new();
    let provider = FileProvider::new(directory.path(""));
    assert_refused(provider.current(), &["is not a regular file", "set a command instead"]);
    #[cfg(unix)]
    {
        let pipe = directory.path("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(FileProvider::secret("id", pipe).current()));
        let result = receiver.recv_timeout(std::time::Duration::from_secs(10)).expect("a pipe blocks nobody");
        assert_refused(result, &["pipe\" is not a regular file"]);
        assert_refused(FileProvider::new("/dev/zero").current(), &["\"/dev/zero\" is not a regular file"]);
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_write_is_refused_and_one_that_they_can_read_is_not() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let directory = Directory::new();
    let path = directory.write("secret", SECRET);
    let (link, provider) = (directory.path("link"), FileProvider::secret("id", directory.path("link")));
    symlink(&path, &link).unwrap();
    for (mode, is_fine) in
        [(0o600, true), (0o644, true), (0o444, true), (0o640, true), (0o620, false), (0o602, false), (0o666, false)]
    {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        if is_fine {
            assert_gives(&provider, "id", SECRET);
        } else {
            assert_refused(provider.current(), &["other users of this machine can write", "chmod go-w", "link"]);
        }
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(directory.path(""), fs::Permissions::from_mode(0o777)).unwrap();
    assert_gives(&provider, "id", SECRET);
}

#[cfg(unix)]
#[test]
fn a_path_cannot_break_the_line_of_an_error() {
    assert_refused(FileProvider::new("/nowhere/a\nb").current(), &[r#""/nowhere/a\nb""#]);
}

#[test]
fn debug_shows_the_path() {
    assert_eq!(
        format!("{:?}", FileProvider::secret("id", "alvys")),
        r#"FileProvider { layout: Secret { client_id: "id", path: "alvys" } }"#
    );
}
