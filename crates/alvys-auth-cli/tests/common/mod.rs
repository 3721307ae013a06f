//! What all tests of the command share: a sandbox, an empty home, and what holds for every complaint.

use std::process::{Command, Stdio};

use alvys_auth_sandbox::Sandbox;
use tempfile::TempDir;

/// A sandbox, and an empty home for the command.
pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) home: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { sandbox: Sandbox::start().unwrap(), home: tempfile::tempdir().unwrap() }
    }

    /// The command in this home, with nothing in its environment that leads to an application.
    pub(crate) fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_alvys-auth"));
        command.args(arguments).env_clear().env("HOME", self.home.path()).env("PATH", std::env::var("PATH").unwrap());
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn secret(&self) -> String {
        self.sandbox.application().client_secret().to_owned()
    }
}

/// Checks that a complaint is one or two lines that no terminal obeys.
#[track_caller]
pub(crate) fn assert_plain(stderr: &str) {
    assert!(matches!(stderr.lines().count(), 1 | 2), "one or two lines: {stderr}");
    assert!(stderr.chars().all(|c| c == '\n' || !c.is_control()), "{stderr:?}");
}
